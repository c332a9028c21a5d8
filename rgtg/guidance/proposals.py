"""Candidates of a step: top-k and top-p on the log probabilities of the base LM, or on the scores of a method.

Functions of tensors. Knows nothing of models, rows, methods or the engine.
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from rgtg.config import GenerationConfig
from rgtg.guidance.requests import Proposal, Propose


def entropy(log_probs: Tensor) -> list[float]:
    """Entropy of each row in nats, from (rows, vocabulary) log probabilities."""
    return torch.special.entr(log_probs.exp()).sum(-1).tolist()


def propose(log_probs: Tensor, asking: Sequence[tuple[Propose, GenerationConfig, int]], num_tokens: int) -> list[list[Proposal] | None]:
    """Proposals for each column that asks, (request, settings, number of its rows), from the (rows, vocabulary) log probabilities of all of them.

    None for a column whose log probabilities are not finite. Rows of the output head beyond `num_tokens` are no tokens.
    """
    allowed = log_probs[:, :num_tokens]
    k = min(max(config.top_k for _, config, _ in asking), allowed.shape[-1])
    top, ids = (tensor.cpu() for tensor in allowed.topk(k))
    values, tokens, start = top.tolist(), ids.tolist(), 0
    answers: list[list[Proposal] | None] = []
    for request, config, num_rows in asking:
        own = slice(start, start + num_rows)
        start += num_rows
        entropies = entropy(log_probs[own]) if request.entropy else [None] * num_rows
        if not all(math.isfinite(row[0]) for row in values[own]):
            answers.append(None)
        elif request.whole:
            every = range(allowed.shape[-1])
            answers.append([Proposal(every, row, entropy=h) for row, h in zip(allowed[own].cpu(), entropies, strict=True)])
        else:
            answers.append([candidates(*row, config) for row in zip(top[own], values[own], tokens[own], entropies, strict=True)])
    return answers


def candidates(top: Tensor, values: Sequence[float], ids: Sequence[int], entropy: float | None, config: GenerationConfig) -> Proposal:
    """Proposal of one row after the run's top-k and top-p. `top` are the log probabilities (k,) of its most probable tokens `ids`, in descending
    order, and `values` the same as numbers."""
    k = num_kept(top, values, config)
    return Proposal(list(ids[:k]), top[:k], entropy=entropy)


def best_of(proposal: Proposal, scores: Tensor, config: GenerationConfig) -> Proposal:
    """The candidates (k,) with the highest `scores`, cut at top-k and top-p of these; the most probable under the base LM comes first."""
    top, indexes = scores.topk(min(config.top_k, len(scores)))
    kept = indexes[: num_kept(top, top.tolist(), config)]
    log_probs = proposal.log_probs[kept]
    return proposal.subset(kept[log_probs.sort(descending=True, stable=True).indices].tolist())


def possible(proposal: Proposal) -> Proposal:
    """The candidates that have a probability above 0."""
    impossible = proposal.log_probs == -math.inf
    return proposal.subset((~impossible).nonzero()[:, 0].tolist()) if impossible.any() else proposal


def plausible(proposal: Proposal, log_probs: Tensor, share: float) -> Proposal:
    """The candidates whose probability is at least `share` of the highest; `log_probs` (k,) may lack a constant. A share of 0 keeps all."""
    if share <= 0:
        return proposal
    return proposal.subset((log_probs >= log_probs.max() + math.log(share)).nonzero()[:, 0].tolist())


def num_kept(top: Tensor, values: Sequence[float], config: GenerationConfig) -> int:
    """How many of these scores, in descending order, top-k and top-p keep."""
    k = min(config.top_k, len(values))
    while values[k - 1] == -math.inf:  # a token of probability 0 is not a candidate
        k -= 1
    if config.top_p < 1:
        mass = (top[:k] / (config.temperature or 1.0)).softmax(0).cumsum(0)
        k = min(k, int((mass < config.top_p).sum()) + 1)  # the token that crosses top_p is included
    return k
