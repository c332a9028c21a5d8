"""Combination of the rewards of several reward models: pure functions of tensors.

Knows nothing of models or methods.
"""

import math
import re
from collections.abc import Callable, Sequence
from functools import partial

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

from rgtg.errors import BadSettings

Combine = Callable[[Sequence[Tensor], Sequence[float]], Tensor]


def weighted_sum(rewards: Sequence[Tensor], weights: Sequence[float]) -> Tensor:
    """Σ_j w_j·r_j over reward models: a tensor of the shape that each tensor in `rewards` has."""
    total = weights[0] * rewards[0]
    for weight, reward in zip(weights[1:], rewards[1:], strict=True):
        total = total + weight * reward
    return total


def log_sigmoid_sum(rewards: Sequence[Tensor], weights: Sequence[float]) -> Tensor:
    """sum_j w_j log sigmoid(r_j): the log probability that all properties hold, so that one bad reward outweighs many good ones
    (arXiv 2402.00742)."""
    return weighted_sum([logsigmoid(reward) for reward in rewards], weights)


def minimum(rewards: Sequence[Tensor], weights: Sequence[float]) -> Tensor:
    """min_j w_j r_j: the worst case of an ensemble (arXiv 2310.02743)."""
    return _weighted(rewards, weights).amin(0)


def mean_minus_variance(rewards: Sequence[Tensor], weights: Sequence[float], penalty: float = 0.5) -> Tensor:
    """mean_j w_j r_j - penalty * var_j(w_j r_j), the variance over the guides themselves, not an estimate: an ensemble's reward, less where
    its members disagree (arXiv 2310.02743)."""
    values = _weighted(rewards, weights)
    return values.mean(0) - penalty * values.var(0, correction=0)


def clamped_sum(rewards: Sequence[Tensor], weights: Sequence[float], limit: float = 5.0) -> Tensor:
    """sum_j w_j min(max(r_j, -limit), limit): no single reward decides alone."""
    return weighted_sum([reward.clamp(-limit, limit) for reward in rewards], weights)


def _weighted(rewards: Sequence[Tensor], weights: Sequence[float]) -> Tensor:
    return torch.stack([weight * reward for weight, reward in zip(weights, rewards, strict=True)])  # (guides, …)


def combined(name: str, rewards: Sequence[float], weights: Sequence[float]) -> float:
    """One number for one prefix: the guides' rewards combined in the way of that name."""
    return float(combine(name)([torch.tensor(reward, dtype=torch.float64) for reward in rewards], weights))


COMBINE: dict[str, Combine] = {
    "sum": weighted_sum,
    "logsigmoid": log_sigmoid_sum,
    "min": minimum,
    "mean-var": mean_minus_variance,
    "clamped": clamped_sum,
}
NUMBERS = {"mean-var": "penalty", "clamped": "limit"}  # what the number in `mean-var(0.1)` and `clamped(3)` is


def combine(name: str) -> Combine:
    """The combination with this name, with its number in parentheses where it has one. Raises BadSettings that lists the known names."""
    match = re.fullmatch(r"([a-z-]+)(?:\(([^()]*)\))?", name)
    if match is None or match[1] not in COMBINE or (match[2] is not None and match[1] not in NUMBERS):
        known = ", ".join(f"{key}(NUMBER)" if key in NUMBERS else key for key in COMBINE)
        raise BadSettings(f"There is no combination of rewards `{name}`.", f"Known: {known}.")
    if match[2] is None:
        return COMBINE[match[1]]
    try:
        number = float(match[2])
    except ValueError:
        number = math.nan
    if not (math.isfinite(number) and number >= 0):
        raise BadSettings(f"The number of `{match[1]}` has to be at least 0.", f"Found `{match[2]}`.", f"Write {match[1]}(0.5).")
    return partial(COMBINE[match[1]], **{NUMBERS[match[1]]: number})
