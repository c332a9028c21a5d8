"""Combination of the rewards of several reward models: pure functions of tensors, and their registry COMBINE.

A new combination needs its function and one line in COMBINE. Knows nothing of models or methods. Loads torch only to combine.
"""

import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from rgtg.docstrings import summary
from rgtg.errors import BadSettings
from rgtg.records import Run

if TYPE_CHECKING:
    from torch import Tensor

Combine = Callable[[Sequence["Tensor"], Sequence[float]], "Tensor"]


def weighted_sum(rewards: Sequence["Tensor"], weights: Sequence[float]) -> "Tensor":
    """Σ_j w_j·r_j: rewards traded against each other by their weights."""
    total = weights[0] * rewards[0]
    for weight, reward in zip(weights[1:], rewards[1:], strict=True):
        total = total + weight * reward
    return total


def standardised_sum(rewards: Sequence["Tensor"], weights: Sequence[float]) -> "Tensor":
    """Σ_j w_j·(r_j − m_j)/s_j, with the mean m_j and the standard deviation s_j of reward j over base LM samples of the prompt at the same
    length: a weight counts in standard deviations, whatever the scale of a reward.

    `mixed` standardises, this adds.
    """
    return weighted_sum(rewards, weights)


def log_sigmoid_sum(rewards: Sequence["Tensor"], weights: Sequence[float]) -> "Tensor":
    """Σ_j w_j·log σ(r_j): the log probability that all properties hold, so that one bad reward outweighs many good ones
    (arXiv 2402.00742)."""
    from torch.nn.functional import logsigmoid

    return weighted_sum([logsigmoid(reward) for reward in rewards], weights)


def minimum(rewards: Sequence["Tensor"], weights: Sequence[float]) -> "Tensor":
    """min_j w_j·r_j: the worst case of an ensemble (arXiv 2310.02743)."""
    return _weighted(rewards, weights).amin(0)


def mean_minus_variance(rewards: Sequence["Tensor"], weights: Sequence[float], penalty: float = 0.5) -> "Tensor":
    """mean_j w_j·r_j − λ·var_j w_j·r_j, the variance over the guides themselves, not an estimate: an ensemble's reward, less where its
    members disagree (arXiv 2310.02743)."""
    values = _weighted(rewards, weights)
    return values.mean(0) - penalty * values.var(0, correction=0)


def centred_sum(rewards: Sequence["Tensor"], weights: Sequence[float]) -> "Tensor":
    """Σ_j w_j·(σ(r_j) − ½): each reward counts between −½ and ½, steeply near 0 and hardly beyond it (arXiv 2502.18770)."""
    return weighted_sum([reward.sigmoid() - 0.5 for reward in rewards], weights)


def clamped_sum(rewards: Sequence["Tensor"], weights: Sequence[float], limit: float = 5.0) -> "Tensor":
    """Σ_j w_j·min(max(r_j, −c), c): no single reward decides alone."""
    return weighted_sum([reward.clamp(-limit, limit) for reward in rewards], weights)


def _weighted(rewards: Sequence["Tensor"], weights: Sequence[float]) -> "Tensor":
    import torch

    return torch.stack([weight * reward for weight, reward in zip(weights, rewards, strict=True)])  # (guides, …)


@dataclass(frozen=True)
class Combination:
    """A way to combine rewards, with what its number in parentheses is, if it has one: `mean-var(0.1)`."""

    key: str
    title: str
    function: Callable[..., Any]
    number: str = ""  # name of the function's argument
    symbol: str = ""
    default: float = 0.0
    per_length: bool = False  # whether rewards are standardised per length first, which takes base samples

    @property
    def about(self) -> str:
        """Its formula and what it is for, in one sentence."""
        return summary(self.function)


SUM = Combination("sum", "Weighted sum", weighted_sum)  # the default of every run
COMBINE: dict[str, Combination] = {
    c.key: c
    for c in (
        SUM,
        Combination("standardised", "Standardised sum", standardised_sum, per_length=True),
        Combination("logsigmoid", "All good at once", log_sigmoid_sum),
        Combination("min", "Minimum", minimum),
        Combination("mean-var", "Mean less variance", mean_minus_variance, "penalty", "λ", 0.5),
        Combination("centred", "Sigmoid-centred sum", centred_sum),
        Combination("clamped", "Clamped sum", clamped_sum, "limit", "c", 5.0),
    )
}


def combination(name: str) -> Combination:
    """The combination with this name, with or without its number. Raises BadSettings that lists the known names."""
    match = re.fullmatch(r"([a-z-]+)(?:\(([^()]*)\))?", name)
    if match is None or match[1] not in COMBINE or (match[2] is not None and not COMBINE[match[1]].number):
        known = ", ".join(f"{c.key}(NUMBER)" if c.number else c.key for c in COMBINE.values())
        raise BadSettings(f"There is no combination of rewards `{name:.80}`.", f"Known: {known}.", field="combine")
    return COMBINE[match[1]]


def combine(name: str) -> Combine:
    """The function of the combination with this name, with its number in parentheses where it has one. Raises BadSettings."""
    chosen = combination(name)
    key, _, rest = name.partition("(")
    if not rest:
        return chosen.function
    try:
        number = float(rest.rstrip(")"))
    except ValueError:
        number = math.nan
    if not (math.isfinite(number) and number >= 0):
        do = f"Write {key}({chosen.default:g})."
        raise BadSettings(f"The number of `{key}` has to be at least 0.", f"Found `{rest.rstrip(')'):.80}`.", do, "combine")
    return partial(chosen.function, **{chosen.number: number})


# --- for a run -----------------------------------------------------------------------------------------------------


def needs_standards(run: Run) -> bool:
    """Whether the run's rewards are standardised and the statistics are not known yet."""
    return bool(run.guides) and combination(run.combine).per_length and not run.standards


def mixed(run: Run, rewards: Sequence["Tensor"], num_tokens: Sequence[int] | int) -> "Tensor":
    """The run's combination of its guides' rewards: tensors of one shape, (prefixes,), a guide each. `num_tokens` is the length of each of
    these responses, or that of all of them."""
    return combine(run.combine)(_standardised(run, rewards, num_tokens), [weight for _, weight in run.guides])


def _standardised(run: Run, rewards: Sequence["Tensor"], num_tokens: Sequence[int] | int) -> Sequence["Tensor"]:
    if not combination(run.combine).per_length:
        return rewards
    import torch

    found, lengths = {name: (means, sds) for name, means, sds in run.standards}, torch.as_tensor(num_tokens)
    values = []
    for (ref, _), reward in zip(run.guides, rewards, strict=True):
        means, sds = (torch.tensor(numbers, dtype=torch.float64) for numbers in found[ref.name])
        at = (lengths - 1).clamp(0, len(means) - 1)  # an empty response counts as one of length 1
        values.append(((reward - means[at]) / sds[at]).to(reward.dtype))
    return values


def combined(run: Run, rewards: Mapping[str, float], num_tokens: int) -> float:
    """One number for one response of `num_tokens` tokens: the guides' rewards, by name, combined as the run says."""
    import torch

    return float(mixed(run, [torch.tensor(rewards[ref.name], dtype=torch.float64) for ref, _ in run.guides], num_tokens))
