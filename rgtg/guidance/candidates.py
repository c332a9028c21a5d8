"""From the base LM's log probabilities to what a method may choose from.

Pure functions of tensors and a run's settings. Knows nothing of models, rows or the engine.
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from rgtg.config import GenerationConfig
from rgtg.guidance.requests import Proposal


def entropy_of(log_probs: Tensor) -> list[float]:
    """In nats, of each row: (rows, vocabulary) log probabilities."""
    return torch.special.entr(log_probs.exp()).sum(-1).tolist()


def candidates_of(top: Tensor, values: Sequence[float], ids: Sequence[int], entropy: float | None, config: GenerationConfig) -> Proposal:
    """The run's own top-k and top-p of a row's most probable tokens: `top` (k,) log probabilities, as numbers in `values`."""
    k = min(config.top_k, len(values))
    while values[k - 1] == -math.inf:  # what the model itself rules out is no candidate
        k -= 1
    if config.top_p < 1:
        mass = (top[:k] / (config.temperature or 1.0)).softmax(0).cumsum(0)
        k = min(k, int((mass < config.top_p).sum()) + 1)  # the token that crosses belongs to it
    return Proposal(list(ids[:k]), top[:k], entropy=entropy)
