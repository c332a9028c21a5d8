"""Reward models against people: how often a reward model gives the higher reward to the answer that a person preferred.

Knows nothing of the store or the screen; rewards are those that were recorded when the answers were written.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from rgtg.figures import wilson_interval
from rgtg.preferences.pairs import num_common
from rgtg.ratings.battles import Answer, Ballot
from rgtg.ratings.davidson import Floats
from rgtg.records import ModelRef

LENGTHS = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024)  # of prefixes at which accuracy is reported
MOST_BINS, PAIRS_A_BIN = 8, 20  # of the calibration curve
MOST_DISAGREEMENTS = 50
ITERATIONS, SETTLED = 50, 1e-9  # of the fit of the slope


@dataclass(frozen=True)
class Scored:
    """What reward models said of an answer: `rewards` has a value for each of `lengths`, the prefix lengths that were read, the last of them the
    complete answer; None where the model did not score that prefix. `guides` are the models that guided it."""

    lengths: tuple[int, ...]
    rewards: dict[ModelRef, tuple[float | None, ...]]
    guides: frozenset[ModelRef] = frozenset()

    def at(self, model: ModelRef, length: int | None = None) -> float | None:
        """The reward of the first `length` tokens, of the complete answer where that is shorter, or without a length."""
        values = self.rewards.get(model)
        if values is None or not self.lengths:
            return None
        return values[-1] if length is None or length >= self.lengths[-1] else values[self.lengths.index(length)]


@dataclass(frozen=True)
class Preferred:
    """An answer that a rater preferred to another one; they share `num_common` leading tokens. `group` is that of the votes on the same
    answers, which are not independent of each other."""

    comparison_id: str
    group: str
    chosen: Answer
    rejected: Answer
    num_common: int = 0


@dataclass(frozen=True)
class Share:
    """A share of `n` pairs with its 95 % interval: Wilson's, for as many pairs as the groups are worth."""

    value: float
    low: float
    high: float
    n: int


@dataclass(frozen=True)
class Bin:
    """Pairs of similar difference in reward, `gap` on average: the share in which the answer with the higher reward was preferred."""

    gap: float
    preferred: Share


@dataclass(frozen=True)
class Disagreement:
    """A vote, or `num_votes` equal ones, against the reward: the rejected answer's reward is higher by `gap`."""

    comparison_id: str
    chosen: Answer
    rejected: Answer
    chosen_reward: float
    rejected_reward: float
    num_votes: int

    @property
    def gap(self) -> float:
        return self.rejected_reward - self.chosen_reward


@dataclass(frozen=True)
class Against:
    """A reward model against people. `accuracy` is on complete answers, `apart` on those of them that it did not guide; `by_length` and
    `of_branches` on prefixes, the latter where the two answers branch off one another; `at_branch` at the token where they do. `slope` is the
    log-odds of a preference per unit of reward, with its interval: 1 where σ(difference) is the share preferred, None where it has no
    finite value. `num_unscored` counts pairs of which an answer has no reward at its end."""

    model: ModelRef
    accuracy: Share
    apart: Share | None
    by_length: dict[int, Share]
    of_branches: dict[int, Share]
    at_branch: Share | None
    calibration: tuple[Bin, ...]
    slope: tuple[float, float, float] | None
    disagreements: tuple[Disagreement, ...]
    num_unscored: int


def preferences_of(ballots: Iterable[Ballot], same_answers: Mapping[str, str] | None = None) -> list[Preferred]:
    """The preferences that these votes are: the best of n answers is preferred to n - 1. Failed answers and equal texts give none."""
    found = []
    for ballot in ballots:
        by_id = {answer.trace_id: answer for answer in (*ballot.around, *ballot.answers)}
        best = by_id.get(ballot.best_trace_id or "")
        if ballot.verdict != "best" or best is None or best.failed:
            continue
        group = (same_answers or {}).get(ballot.comparison_id, ballot.comparison_id)
        for other in ballot.answers:
            if other is not best and not other.failed and other.text != best.text:
                found.append(Preferred(ballot.comparison_id, group, best, other, num_common(best, other, by_id.get)))
    return found


def lengths_to_read(preferred: Iterable[Preferred]) -> dict[str, set[int]]:
    """{trace id: prefix lengths} to be read for `against_people`: LENGTHS and the tokens at which answers branch off."""
    wanted: dict[str, set[int]] = {}
    for one in preferred:
        for answer in (one.chosen, one.rejected):
            wanted.setdefault(answer.trace_id, set(LENGTHS)).update([one.num_common + 1] if one.num_common else [])
    return wanted


def against_people(preferred: Sequence[Preferred], scored: Mapping[str, Scored]) -> list[Against]:
    """Each reward model that scored these answers, the one with most pairs first."""
    models: dict[ModelRef, list[Preferred]] = {}
    for one in preferred:
        sides = [scored[answer.trace_id] for answer in (one.chosen, one.rejected) if answer.trace_id in scored]
        for model in dict.fromkeys(model for side in sides for model in side.rewards):
            models.setdefault(model, []).append(one)
    found = [_against(model, pairs, scored) for model, pairs in models.items()]
    return sorted((one for one in found if one is not None), key=lambda one: (-one.accuracy.n, one.model.name, one.model.revision))


def share_of(right: Sequence[float] | Floats, groups: Sequence[str]) -> Share:
    """The mean of `right` (1, 0, or ½ where rewards are equal) with its interval. Groups of dependent values count as fewer ones:
    the number is divided by the design effect, the variance of the mean over groups by that of independent values."""
    values, n = np.asarray(right, dtype=float), len(right)
    _, group = np.unique(np.asarray(groups), return_inverse=True)
    value, sizes = float(values.mean()), np.bincount(group)
    spread = float((values * (1 - value) ** 2 + (1 - values) * value**2).sum())  # n * value * (1 - value)
    over_groups = float((np.bincount(group, values - value) ** 2).sum())
    effect = over_groups / spread if spread > 0 else float((sizes**2).sum() / n)
    num_worth = n / max(1.0, effect)
    return Share(value, *wilson_interval(value * num_worth, num_worth), n)


def calibration_of(gaps: Floats, groups: Sequence[str]) -> tuple[Bin, ...]:
    """Bins of equal size by the difference in reward, from small to large, of PAIRS_A_BIN pairs at least if there are as many."""
    size, right = np.abs(gaps), _right(gaps)
    parts = np.array_split(np.argsort(size, kind="stable"), max(1, min(MOST_BINS, len(gaps) // PAIRS_A_BIN)))
    return tuple(Bin(float(size[part].mean()), share_of(right[part], [groups[i] for i in part])) for part in parts if len(part))


def slope_of(gaps: Floats, groups: Sequence[str]) -> tuple[float, float, float] | None:
    """Slope of a logistic regression of the preference on the difference in reward, with a 95 % interval that is robust to groups; None
    where all differences have one sign, or none has any."""
    if not ((gaps > 0).any() and (gaps < 0).any()):
        return None
    unit = float(np.abs(gaps).mean())
    scaled, slope = gaps / unit, 0.0
    for _ in range(ITERATIONS):
        chance = 1 / (1 + np.exp(np.clip(slope * scaled, -500, 500)))  # of the other answer
        step = float((scaled * chance).sum() / (scaled**2 * chance * (1 - chance)).sum())
        slope += max(-1.0, min(1.0, step))
        if abs(step) < SETTLED:
            break
    chance = 1 / (1 + np.exp(np.clip(slope * scaled, -500, 500)))
    _, group = np.unique(np.asarray(groups), return_inverse=True)
    scores = np.bincount(group, scaled * chance)
    error = float(np.sqrt((scores**2).sum()) / (scaled**2 * chance * (1 - chance)).sum())
    return slope / unit, (slope - 1.96 * error) / unit, (slope + 1.96 * error) / unit


def _right(gaps: Floats) -> Floats:
    return (gaps > 0) + 0.5 * (gaps == 0)


def _against(model: ModelRef, pairs: Sequence[Preferred], scored: Mapping[str, Scored]) -> Against | None:
    sides = [(scored[one.chosen.trace_id], scored[one.rejected.trace_id]) for one in pairs]
    ends = [(chosen.at(model), rejected.at(model)) for chosen, rejected in sides]
    kept = [i for i, (chosen, rejected) in enumerate(ends) if chosen is not None and rejected is not None]
    if not kept:
        return None
    gaps, groups = np.array([ends[i][0] - ends[i][1] for i in kept]), [pairs[i].group for i in kept]  # type: ignore[operator]  # both were read
    apart = [place for place, i in enumerate(kept) if not any(model in side.guides for side in sides[i])]
    branches = [i for i in kept if pairs[i].num_common]

    def at(i: int, length: int) -> float | None:
        """Difference in reward of the prefixes; None where they do not differ or were not scored."""
        if length <= pairs[i].num_common or length > max(side.lengths[-1] for side in sides[i]):
            return None
        chosen, rejected = (side.at(model, length) for side in sides[i])
        return None if chosen is None or rejected is None else chosen - rejected

    def at_lengths(numbers: Sequence[int]) -> dict[int, Share]:
        found = {}
        for length in LENGTHS:
            known = [(gap, pairs[i].group) for i in numbers if (gap := at(i, length)) is not None]
            if known:
                found[length] = share_of(_right(np.array([gap for gap, _ in known])), [group for _, group in known])
        return found

    first = [(gap, pairs[i].group) for i in branches if (gap := at(i, pairs[i].num_common + 1)) is not None]
    return Against(
        model,
        share_of(_right(gaps), groups),
        share_of(_right(gaps[apart]), [groups[place] for place in apart]) if apart else None,
        at_lengths(kept),
        at_lengths(branches),
        share_of(_right(np.array([gap for gap, _ in first])), [group for _, group in first]) if first else None,
        calibration_of(gaps, groups),
        slope_of(gaps, groups),
        _disagreements([pairs[i] for i in kept], [ends[i] for i in kept]),
        len(pairs) - len(kept),
    )


def _disagreements(pairs: Sequence[Preferred], ends: Sequence[tuple[float | None, float | None]]) -> tuple[Disagreement, ...]:
    """The largest first, equal votes counted together."""
    times = Counter((one.comparison_id, one.chosen.trace_id, one.rejected.trace_id) for one in pairs)
    found = {}
    for one, (chosen, rejected) in zip(pairs, ends, strict=True):
        assert chosen is not None and rejected is not None
        key = (one.comparison_id, one.chosen.trace_id, one.rejected.trace_id)
        if rejected > chosen:
            found[key] = Disagreement(one.comparison_id, one.chosen, one.rejected, chosen, rejected, times[key])
    return tuple(sorted(found.values(), key=lambda one: -one.gap)[:MOST_DISAGREEMENTS])
