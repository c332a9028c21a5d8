"""Combination of the rewards of several reward models: pure functions of tensors.

Knows nothing of models or methods.
"""

from collections.abc import Callable, Sequence

from torch import Tensor

from rgtg.errors import BadSettings


def weighted_sum(rewards: Sequence[Tensor], weights: Sequence[float]) -> Tensor:
    """Σ_j w_j·r_j over reward models: a tensor of the shape that each tensor in `rewards` has."""
    total = weights[0] * rewards[0]
    for weight, reward in zip(weights[1:], rewards[1:], strict=True):
        total = total + weight * reward
    return total


COMBINE: dict[str, Callable[[Sequence[Tensor], Sequence[float]], Tensor]] = {"sum": weighted_sum}


def combine(name: str) -> Callable[[Sequence[Tensor], Sequence[float]], Tensor]:
    """The combination with this name. Raises BadSettings that lists the known names."""
    if name not in COMBINE:
        raise BadSettings(f"There is no combination of rewards `{name}`.", f"Known: {', '.join(COMBINE)}.")
    return COMBINE[name]
