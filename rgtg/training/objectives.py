"""Losses that teach a reward model from preferences: pure functions of reward tensors.

Knows nothing of models, tokenizers, optimizers or files. Rewards come as (pairs, positions): entry t is the
reward of the response's first t + 1 tokens; a response's own number of tokens stands beside it.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

UNEQUAL = ("hold", "drop")


def last(rewards: Tensor, lengths: Tensor) -> Tensor:
    """Reward of each complete response: (pairs, positions), (pairs,) -> (pairs,)."""
    return rewards.gather(1, (lengths - 1)[:, None])[:, 0]


def hold(rewards: Tensor, lengths: Tensor, num_positions: int) -> Tensor:
    """Past its end a response keeps its final reward: (pairs, positions) -> (pairs, num_positions)."""
    at = torch.minimum(torch.arange(num_positions, device=rewards.device)[None], (lengths - 1)[:, None])
    return rewards.gather(1, at)


def full_bradley_terry(chosen: Tensor, rejected: Tensor, chosen_lengths: Tensor, rejected_lengths: Tensor, margin: Tensor | float = 0.0) -> Tensor:
    """-log sigma(r(y_w) - r(y_l) - margin) on complete responses, mean over pairs; a scalar.

    Ziegler et al. 2019 (arXiv 1909.08593), eq. 1; the usual reward-model loss.
    """
    gap = last(chosen, chosen_lengths) - last(rejected, rejected_lengths)
    return -F.logsigmoid(gap - margin).mean()


def partial_bradley_terry(
    chosen: Tensor,
    rejected: Tensor,
    chosen_lengths: Tensor,
    rejected_lengths: Tensor,
    num_common: Tensor | None = None,
    margin: Tensor | float = 0.0,
    unequal: str = "hold",
) -> Tensor:
    """-log sigma(r(y_w[:i]) - r(y_l[:i]) - margin) at every prefix length i; mean within a pair, then over pairs.

    PARGS (arXiv 2406.07780), the loss over partial sequences, from one forward of each side. `num_common` (pairs,)
    is the number of leading tokens that both sides share: there both prefixes are one sequence, so the term has no
    gradient and is left out. Unequal lengths: `hold` lets the finished response keep its final reward; `drop` takes
    the lengths that both sides have, and one term for the two complete responses.
    """
    if unequal not in UNEQUAL:
        raise ValueError(f"`unequal` has to be one of {UNEQUAL}, but is {unequal!r}")
    longest = torch.maximum(chosen_lengths, rejected_lengths)  # (pairs,)
    num_positions = int(longest.max())
    position = torch.arange(num_positions, device=chosen.device)[None]  # (1, positions)
    gap = hold(chosen, chosen_lengths, num_positions) - hold(rejected, rejected_lengths, num_positions)
    counted = position < longest[:, None]  # (pairs, positions)
    if unequal == "drop":
        shortest = torch.minimum(chosen_lengths, rejected_lengths)
        counted &= (position < shortest[:, None]) | (position == (longest - 1)[:, None])
    if num_common is not None:
        counted &= position >= num_common[:, None]
    margin = margin[:, None] if isinstance(margin, Tensor) else margin
    terms = -F.logsigmoid(gap - margin) * counted
    num_terms = counted.sum(1)
    return (terms.sum(1) / num_terms.clamp(min=1)).sum() / (num_terms > 0).sum().clamp(min=1)


def centring(chosen: Tensor, rejected: Tensor, chosen_lengths: Tensor, rejected_lengths: Tensor) -> Tensor:
    """(r(y_w[:i]) + r(y_l[:i]))^2, mean over the prefixes that both sides have: keeps the free offset of each length near 0.

    Eisenstein et al. 2023 (arXiv 2312.09244), eq. 2, here at every prefix.
    """
    shortest = torch.minimum(chosen_lengths, rejected_lengths)
    num_positions = int(shortest.max())
    both = torch.arange(num_positions, device=chosen.device)[None] < shortest[:, None]
    return ((chosen[:, :num_positions] + rejected[:, :num_positions]) ** 2 * both).sum() / both.sum()
