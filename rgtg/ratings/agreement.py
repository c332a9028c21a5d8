"""Agreement between raters, and of raters with themselves."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from rgtg.figures import wilson_interval
from rgtg.ratings.battles import Ballot

JUDGED = ("best", "tie", "all_bad")


@dataclass(frozen=True)
class Agreement:
    """Krippendorff's alpha of the verdicts (1: perfect, 0: chance; None where no comparison has two raters), the number of comparisons with
    two or more raters and of their votes, and how often a rater who met the same answers again said the same, with its interval."""

    alpha: float | None
    num_comparisons: int
    num_votes: int
    num_repeats: int
    self_agreement: float | None
    low: float
    high: float


def agreement_of(ballots: Iterable[Ballot], same_answers: dict[str, str] | None = None) -> Agreement:
    """Agreement of these votes; a skip is no verdict. `same_answers` maps a comparison to a key that it shares with the ones that show the
    same answers (repeats); a verdict for an answer is compared by the answer's setting there."""
    judged = [ballot for ballot in ballots if ballot.verdict in JUDGED]
    by_comparison: dict[str, dict[str, str]] = defaultdict(dict)
    for ballot in judged:
        by_comparison[ballot.comparison_id][ballot.rater_id] = _top(ballot)
    shared = {comparison: verdicts for comparison, verdicts in by_comparison.items() if len(verdicts) > 1}
    same, num = _repeats(judged, same_answers or {})
    low, high = wilson_interval(same, num)
    num_votes = sum(map(len, shared.values()))
    return Agreement(krippendorff(shared), len(shared), num_votes, num, same / num if num else None, low, high)


def krippendorff(units: dict[str, dict[str, str]]) -> float | None:
    """Krippendorff's alpha for names: {unit: {rater: value}}. None where nothing can be compared; 1.0 where all say one and the same."""
    units = {unit: verdicts for unit, verdicts in units.items() if len(verdicts) > 1}
    total = Counter(value for verdicts in units.values() for value in verdicts.values())
    if not units:
        return None
    if len(total) < 2:
        return 1.0
    num = total.total()
    observed = sum(_unequal(Counter(verdicts.values())) / (len(verdicts) - 1) for verdicts in units.values()) / num
    return 1 - observed / (_unequal(total) / (num * (num - 1)))


def _top(ballot: Ballot, names: Mapping[str, str] | None = None) -> str:
    """What is compared of a verdict: the best answer, those at the top of a ranking, or the verdict itself; answers by `names`."""
    top = ballot.ranking[0] if ballot.ranking else (ballot.best_trace_id,) if ballot.best_trace_id else ()
    return " ".join(sorted((names or {}).get(name, name) for name in top)) or ballot.verdict


def _unequal(times: Counter[str]) -> int:
    """How many ordered pairs of these values are unequal."""
    return times.total() ** 2 - sum(number**2 for number in times.values())


def _repeats(judged: list[Ballot], same_answers: dict[str, str]) -> tuple[int, int]:
    """How many later verdicts of a rater on the same answers equal his first one, and how many there are."""
    first: dict[tuple[str, str], str] = {}
    same = num = 0
    for ballot in judged:
        key = same_answers.get(ballot.comparison_id)
        if key is None:
            continue
        settings = {answer.trace_id: answer.setting for answer in ballot.answers}
        said = _top(ballot, settings)
        if (ballot.rater_id, key) in first:
            num += 1
            same += first[ballot.rater_id, key] == said
        else:
            first[ballot.rater_id, key] = said
    return same, num
