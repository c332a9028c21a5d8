"""How the rewards of several guides become one: pure functions of tensors.

Knows nothing of models or methods.
"""

from collections.abc import Callable, Sequence

from torch import Tensor

from rgtg.errors import BadSettings


def weighted_sum(rewards: Sequence[Tensor], weights: Sequence[float]) -> Tensor:
    """sum_j w_j r_j: rewards of one shape, a tensor each guide -> a tensor of that shape."""
    total = weights[0] * rewards[0]
    for weight, reward in zip(weights[1:], rewards[1:], strict=True):
        total = total + weight * reward
    return total


COMBINE: dict[str, Callable[[Sequence[Tensor], Sequence[float]], Tensor]] = {"sum": weighted_sum}


def combine(name: str) -> Callable[[Sequence[Tensor], Sequence[float]], Tensor]:
    """The way of that name; raises BadSettings with the ways there are."""
    if name not in COMBINE:
        raise BadSettings(f"There is no way `{name}` to combine rewards.", f"The ways are: {', '.join(COMBINE)}.")
    return COMBINE[name]
