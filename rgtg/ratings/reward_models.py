"""Reward models against people: how often a reward model gives the higher reward to the answer that a person preferred.

Knows nothing of the store or the screen; rewards are those that were recorded when the answers were written.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from rgtg.figures import wilson_interval
from rgtg.preferences.items.rankings import judged
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

    def of(self, model: ModelRef) -> dict[int, float]:
        """The rewards of this model by prefix length, as far as there are any."""
        values = self.rewards.get(model, ())
        return {length: value for length, value in zip(self.lengths, values, strict=False) if value is not None}

    @property
    def num_tokens(self) -> int:
        return self.lengths[-1] if self.lengths else 0


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
    branches: Share | None
    at_branch: Share | None
    calibration: tuple[Bin, ...]
    slope: tuple[float, float, float] | None
    disagreements: tuple[Disagreement, ...]
    num_unscored: int


def preferences_of(ballots: Iterable[Ballot], same_answers: Mapping[str, str] | None = None) -> list[Preferred]:
    """The preferences that these votes are: the best of n answers is preferred to n - 1, a ranked one to those below it. Failed answers and
    equal texts give none."""
    found = []
    for ballot in ballots:
        by_id = {answer.trace_id: answer for answer in (*ballot.around, *ballot.answers)}
        group = (same_answers or {}).get(ballot.comparison_id, ballot.comparison_id)
        seen = tuple(answer.trace_id for answer in ballot.answers)
        for better, worse, equal in judged(ballot.verdict, ballot.best_trace_id, seen, ballot.ranking):
            if equal or better not in by_id or worse not in by_id:
                continue
            chosen, rejected = by_id[better], by_id[worse]
            if not (chosen.failed or rejected.failed) and chosen.text != rejected.text:
                found.append(Preferred(ballot.comparison_id, group, chosen, rejected, num_common(chosen, rejected, by_id.get)))
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


def share_of(right: Sequence[float] | Floats, groups: Sequence[int]) -> Share:
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


def calibration_of(gaps: Floats, groups: Sequence[int]) -> tuple[Bin, ...]:
    """Bins of equal size by the difference in reward, from small to large, of PAIRS_A_BIN pairs at least if there are as many."""
    size, right = np.abs(gaps), _right(gaps)
    parts = np.array_split(np.argsort(size, kind="stable"), max(1, min(MOST_BINS, len(gaps) // PAIRS_A_BIN)))
    return tuple(Bin(float(size[part].mean()), share_of(right[part], [groups[i] for i in part])) for part in parts if len(part))


def slope_of(gaps: Floats, groups: Sequence[int]) -> tuple[float, float, float] | None:
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


Gaps = list[tuple[float, int]]  # differences in reward, chosen less rejected, each with the number of its group


def _against(model: ModelRef, pairs: Sequence[Preferred], scored: Mapping[str, Scored]) -> Against | None:
    """Prefixes are compared where they differ and one of the answers is that long; the shorter one keeps its final reward."""
    groups: dict[str, int] = {}
    kept: list[tuple[Preferred, float, float]] = []
    of_all, apart, branches, at_branch = Gaps(), Gaps(), Gaps(), Gaps()
    by_length: dict[int, Gaps] = {}
    of_branches: dict[int, Gaps] = {}
    for one in pairs:
        sides = scored[one.chosen.trace_id], scored[one.rejected.trace_id]
        (chosen, rejected), (last, other_last) = [side.of(model) for side in sides], [side.num_tokens for side in sides]
        if last not in chosen or other_last not in rejected:
            continue
        group = groups.setdefault(one.group, len(groups))
        kept.append((one, chosen[last], rejected[other_last]))
        of_all.append((chosen[last] - rejected[other_last], group))
        if not any(model in side.guides for side in sides):
            apart.append(of_all[-1])
        if one.num_common:
            branches.append(of_all[-1])
        for length in {*LENGTHS, one.num_common + 1}:
            of_chosen, of_rejected = chosen.get(min(length, last)), rejected.get(min(length, other_last))
            if not one.num_common < length <= max(last, other_last) or of_chosen is None or of_rejected is None:
                continue
            gap = (of_chosen - of_rejected, group)
            if length in LENGTHS:
                by_length.setdefault(length, []).append(gap)
            if length in LENGTHS and one.num_common:
                of_branches.setdefault(length, []).append(gap)
            if length == one.num_common + 1 and one.num_common:
                at_branch.append(gap)
    if not kept:
        return None
    gaps, numbers = np.array([gap for gap, _ in of_all]), [group for _, group in of_all]
    return Against(
        model, _share(of_all), _share(apart) if apart else None,
        {length: _share(known) for length, known in sorted(by_length.items())},
        {length: _share(known) for length, known in sorted(of_branches.items())},
        _share(branches) if branches else None,
        _share(at_branch) if at_branch else None,
        calibration_of(gaps, numbers), slope_of(gaps, numbers), _disagreements(kept), len(pairs) - len(kept),
    )  # fmt: skip


def _share(gaps: Gaps) -> Share:
    return share_of(_right(np.array([gap for gap, _ in gaps])), [group for _, group in gaps])


def _disagreements(pairs: Sequence[tuple[Preferred, float, float]]) -> tuple[Disagreement, ...]:
    """The largest first, equal votes counted together."""
    times = Counter((one.comparison_id, one.chosen.trace_id, one.rejected.trace_id) for one, _, _ in pairs)
    found = {
        (one.comparison_id, one.chosen.trace_id, one.rejected.trace_id): Disagreement(
            one.comparison_id, one.chosen, one.rejected, chosen, rejected, 0
        )
        for one, chosen, rejected in pairs
        if rejected > chosen
    }
    largest = sorted(found.items(), key=lambda item: -item[1].gap)[:MOST_DISAGREEMENTS]
    return tuple(replace(one, num_votes=times[key]) for key, one in largest)
