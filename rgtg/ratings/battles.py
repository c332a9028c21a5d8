"""Battles between the settings of answers, from votes; votes without a battle are counted by cause.

Pure functions; knows nothing of the store or the screen.
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from math import log

from rgtg.preferences.items.rankings import Ranking, judged

SAME_SETTING, ONE_ANSWER, FAILED = "same_setting", "one_answer", "failed"
CAUSES = {
    "skip": "comparisons skipped",
    "all_bad": "votes that all are bad",
    SAME_SETTING: "pairs of answers of one setting",
    ONE_ANSWER: "votes that saw one answer only",
    FAILED: "pairs with an answer that failed or has no token",
}
LEFT, RIGHT, TIE = 0, 1, 2
BY_ANSWERS = frozenset({"disagreement"})  # rules of `next_pair` that look at what was answered, not only at the votes so far


@dataclass(frozen=True)
class Answer:
    """An answer as the board reads it: whose it is (`setting`), its length in characters, and its position on screen, from 0. A branch
    left the answer `parent_trace_id` behind `branch_position` tokens."""

    trace_id: str
    setting: str
    length: int
    place: int
    failed: bool = False
    text: str = ""
    parent_trace_id: str | None = None
    branch_position: int | None = None

    @property
    def id(self) -> str:
        return self.trace_id


@dataclass(frozen=True)
class Ballot:
    """A vote that stands: the rater, the verdict, and the answers that were seen. `weight` is 1 / the probability with which its pair was drawn,
    1 on average over a task, and `by_answers` says that the rule looked at the answers before it drew (BY_ANSWERS); `around`
    are all answers of the comparison, among them those that a branch left; `ranking` are levels of answers, best first (`items.rankings`)."""

    comparison_id: str
    rater_id: str
    verdict: str
    best_trace_id: str | None
    answers: tuple[Answer, ...]
    weight: float = 1.0
    by_answers: bool = False
    around: tuple[Answer, ...] = ()
    ranking: Ranking = ()


@dataclass(frozen=True)
class Battle:
    """Two settings and who won: `outcome` is LEFT, RIGHT or TIE. `left` stood before `right` on screen; `length_gap` is the log of the
    ratio of their lengths, left over right. `weight` and `by_answers` are those of its Ballot."""

    comparison_id: str
    rater_id: str
    left: str
    right: str
    outcome: int
    length_gap: float = 0.0
    weight: float = 1.0
    by_answers: bool = False

    @property
    def pair_weight(self) -> float:
        """Weight where the two settings are given: a rule that knew no answer drew no special ones of them."""
        return self.weight if self.by_answers else 1.0


def battles_of(ballots: Iterable[Ballot]) -> tuple[list[Battle], Counter[str]]:
    """The battles of these votes, and the number of votes or pairs left out for each of CAUSES.

    The best of n answers gives n - 1 battles, a tie one for each two answers, a ranking one for each two of which at least one is ranked.
    "All are bad" is a judgement of the answers, not of which is better, and gives none.

    >>> a, b = Answer("1", "base", 5, 0), Answer("2", "pargs", 5, 1)
    >>> battles, _ = battles_of([Ballot("c", "r", "best", "2", (a, b))])
    >>> [(battle.left, battle.right, battle.outcome) for battle in battles]
    [('base', 'pargs', 1)]
    """
    battles: list[Battle] = []
    left_out: Counter[str] = Counter()
    for ballot in ballots:
        if ballot.verdict in ("skip", "all_bad"):
            left_out[ballot.verdict] += 1
            continue
        pairs = _pairs(ballot)
        if not pairs:
            left_out[ONE_ANSWER] += 1
        for left, right, outcome in pairs:
            if left.failed or right.failed:
                left_out[FAILED] += 1
            elif left.setting == right.setting:
                left_out[SAME_SETTING] += 1
            else:
                gap = log(max(left.length, 1) / max(right.length, 1))
                names = (ballot.comparison_id, ballot.rater_id, left.setting, right.setting)
                battles.append(Battle(*names, outcome, gap, ballot.weight, ballot.by_answers))
    return battles, left_out


def settings_of(battles: Sequence[Battle]) -> tuple[str, ...]:
    """The settings in these battles, in alphabetical order."""
    return tuple(sorted({name for battle in battles for name in (battle.left, battle.right)}))


def _pairs(ballot: Ballot) -> list[tuple[Answer, Answer, int]]:
    """Each two answers of which the vote says something, the one further left first, and how it came out."""
    ordered = sorted(ballot.answers, key=lambda answer: answer.place)
    number = {answer.trace_id: i for i, answer in enumerate(ordered)}
    pairs = []
    for better, worse, equal in judged(ballot.verdict, ballot.best_trace_id, tuple(number), ballot.ranking):
        if better in number and worse in number:
            left, right = sorted((number[better], number[worse]))
            pairs.append((left, right, TIE if equal else LEFT if left == number[better] else RIGHT))
    return [(ordered[left], ordered[right], outcome) for left, right, outcome in sorted(pairs)]
