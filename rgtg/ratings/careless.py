"""Marks of careless raters: gold pairs that they failed, always the same side, votes faster than one can read, disagreement with themselves.

Pure functions of votes; knows nothing of the database or the screen. A mark is a reason to look, and to leave votes out of a training; nobody
is told, and nothing is deleted.
"""

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from math import comb

FASTEST, LEAST_MS, MOST_MS = 5.0, 300, 3_000  # ms a character (200 characters a second), and bounds
LEAST_GOLD, MAX_GOLD_FAILED = 3, 1 / 3
LEAST_QUICK, MAX_QUICK = 5, 0.5
LEAST_REPEATS, MAX_OPPOSITE = 6, 0.5
SAME_SIDE_P = 0.001  # of a fair coin
MARKS = {
    "gold": "failed gold pairs",
    "same_side": "nearly always the same side",
    "too_quick": "mostly faster than one can read",
    "inconsistent": "the opposite on repeated pairs",
}


@dataclass(frozen=True)
class Cast:
    """A vote that stands: `best` is the place of the best of `num_answers`, None for another verdict; `num_chars` were there to be read.

    `better` is the place that a gold pair has for better, `repeats` the comparison that this one repeats with its sides swapped; `blind`:
    whether the order on screen was drawn, so that sides say something.
    """

    vote_id: str
    rater: str
    comparison_id: str
    verdict: str
    best: int | None = None
    num_answers: int = 2
    num_chars: int = 0
    dwell_ms: int | None = None
    blind: bool = False
    better: int | None = None
    repeats: str = ""


@dataclass
class Conduct:
    """How a rater votes: counts, and the marks that follow from them as {key of MARKS: figures in words}."""

    rater: str
    num_votes: int = 0
    num_gold: int = 0
    gold_failed: int = 0
    sides: dict[int, int] = field(default_factory=lambda: defaultdict(int))
    num_timed: int = 0
    num_quick: int = 0
    num_repeats: int = 0
    num_opposite: int = 0

    @property
    def marks(self) -> dict[str, str]:
        marks = {}
        if self.num_gold >= LEAST_GOLD and self.gold_failed > MAX_GOLD_FAILED * self.num_gold:
            marks["gold"] = f"{self.gold_failed} of {self.num_gold}"
        num_sides, most = sum(self.sides.values()), max(self.sides.values(), default=0)
        if num_sides and same_side_p(most, num_sides) < SAME_SIDE_P:
            marks["same_side"] = f"{most} of {num_sides}"
        if self.num_timed >= LEAST_QUICK and self.num_quick > MAX_QUICK * self.num_timed:
            marks["too_quick"] = f"{self.num_quick} of {self.num_timed}"
        if self.num_repeats >= LEAST_REPEATS and self.num_opposite >= MAX_OPPOSITE * self.num_repeats:
            marks["inconsistent"] = f"{self.num_opposite} of {self.num_repeats}"
        return marks


def least_reading_ms(num_chars: int) -> float:
    """Milliseconds below which nobody has read so many characters.

    >>> least_reading_ms(0), least_reading_ms(200), least_reading_ms(10_000)
    (300, 1300.0, 3000)
    """
    return max(LEAST_MS, min(MOST_MS, LEAST_MS + FASTEST * num_chars)) if num_chars else LEAST_MS


def is_too_quick(cast: Cast) -> bool:
    """Whether a vote came before its answers can have been read; a skip never is."""
    return cast.verdict != "skip" and cast.dwell_ms is not None and cast.dwell_ms < least_reading_ms(cast.num_chars)


def same_side_p(most: int, number: int) -> float:
    """Probability that a fair coin shows one side at least `most` times of `number`.

    >>> same_side_p(10, 10)
    0.001953125
    """
    tail = sum(comb(number, k) for k in range(most, number + 1)) / 2**number
    return min(1.0, 2 * tail)


def conduct(casts: Iterable[Cast]) -> dict[str, Conduct]:
    """How each rater votes, in order of their first vote."""
    by_rater, casts = dict[str, Conduct](), list(casts)
    own = {(cast.rater, cast.comparison_id): cast for cast in casts}
    for cast in casts:
        of = by_rater.setdefault(cast.rater, Conduct(cast.rater))
        of.num_votes += 1
        if cast.better is not None and cast.verdict != "skip":
            of.num_gold += 1
            of.gold_failed += cast.best != cast.better
        elif cast.blind and cast.num_answers == 2 and cast.best is not None:
            of.sides[cast.best] += 1
        if cast.dwell_ms is not None and cast.verdict != "skip":
            of.num_timed += 1
            of.num_quick += is_too_quick(cast)
        before = own.get((cast.rater, cast.repeats)) if cast.repeats else None
        if before is not None and before.best is not None and cast.best is not None:
            of.num_repeats += 1
            of.num_opposite += cast.best != cast.num_answers - 1 - before.best
    return by_rater


def left_out(casts: Iterable[Cast]) -> dict[str, str]:
    """Votes that a careful snapshot leaves out, each with its cause: `gold`, `careless_rater`, `too_quick`."""
    casts, causes = list(casts), {}
    marked = {rater for rater, one in conduct(casts).items() if one.marks}
    for cast in casts:
        if cast.better is not None:
            causes[cast.vote_id] = "gold"
        elif cast.rater in marked:
            causes[cast.vote_id] = "careless_rater"
        elif is_too_quick(cast):
            causes[cast.vote_id] = "too_quick"
    return causes
