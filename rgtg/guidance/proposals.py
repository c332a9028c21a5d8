"""Candidates of a step: top-k and top-p on the log probabilities of the base LM.

Functions of tensors. Knows nothing of models, rows, methods or the engine.
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from rgtg.config import GenerationConfig
from rgtg.guidance.requests import Proposal


def entropy(log_probs: Tensor) -> list[float]:
    """Entropy of each row in nats, from (rows, vocabulary) log probabilities."""
    return torch.special.entr(log_probs.exp()).sum(-1).tolist()


def candidates(top: Tensor, values: Sequence[float], ids: Sequence[int], entropy: float | None, config: GenerationConfig) -> Proposal:
    """Proposal of one row after the run's top-k and top-p. `top` are the log probabilities (k,) of its most probable tokens `ids`, in descending
    order, and `values` the same as numbers."""
    k = min(config.top_k, len(values))
    while values[k - 1] == -math.inf:  # a token of probability 0 is not a candidate
        k -= 1
    if config.top_p < 1:
        mass = (top[:k] / (config.temperature or 1.0)).softmax(0).cumsum(0)
        k = min(k, int((mass < config.top_p).sum()) + 1)  # the token that crosses top_p is included
    return Proposal(list(ids[:k]), top[:k], entropy=entropy)
