"""What a vote says of each two answers: of its verdict, or of the ranking that it gives.

Pure functions of ids; knows nothing of the store or the screen.
"""

from collections.abc import Collection, Iterator, Mapping
from itertools import combinations

from rgtg.records import Vote

Ranking = tuple[tuple[str, ...], ...]  # levels of answers, the best first; those of a level are equally good
VERDICTS = {"tie": "tie", "all_bad": "all bad", "skip": "skipped", "withdrawn": "withdrawn"}


def levels_of(verdict: str, best: str | None, seen: Collection[str], ranking: Ranking = ()) -> tuple[Ranking, tuple[str, ...]]:
    """The levels of answers, and those seen that have none: they are worse than all that have one.

    >>> levels_of("best", "b", ("a", "b", "c"))
    ((('b',),), ('a', 'c'))
    >>> levels_of("best", "b", ("a", "b", "c", "d"), (("b",), ("a",)))
    ((('b',), ('a',)), ('c', 'd'))
    """
    levels = ranking or (((best,),) if verdict == "best" and best else (tuple(seen),) if verdict == "tie" else ())
    ranked = {name for level in levels for name in level}
    return levels, tuple(name for name in seen if name not in ranked) if levels else ()


def judged(verdict: str, best: str | None, seen: Collection[str], ranking: Ranking = ()) -> Iterator[tuple[str, str, bool]]:
    """(better, worse, False) for each two answers of which one is better, (one, other, True) where they are equally good. Answers without a
    level are not compared with each other.

    >>> list(judged("tie", None, ("a", "b", "c"), (("a", "b"),)))
    [('a', 'b', True), ('a', 'c', False), ('b', 'c', False)]
    """
    levels, unranked = levels_of(verdict, best, seen, ranking)
    for i, level in enumerate(levels):
        yield from ((one, other, True) for one, other in combinations(level, 2))
        worse = [name for lower in (*levels[i + 1 :], unranked) for name in lower]
        yield from ((better, name, False) for better in level for name in worse)


def good(vote: Vote) -> frozenset[str]:
    """The answers that a vote calls good: those with a level where some have none, else those of the first level."""
    levels, unranked = levels_of(vote.verdict, vote.best_trace_id, vote.seen_trace_ids, vote.ranking)
    return frozenset(name for level in (levels if unranked else levels[:1]) for name in level)


def verdict_of(ranking: Ranking, num_seen: int) -> tuple[str, str | None, Ranking]:
    """Verdict, best answer and ranking as they are stored: one answer at the top is `best`, several are a `tie`, and what a verdict says by
    itself has no ranking.

    >>> verdict_of((("b",), ("a",)), 4), verdict_of((("b",),), 4), verdict_of((("a", "b"),), 2)
    (('best', 'b', (('b',), ('a',))), ('best', 'b', ()), ('tie', None, ()))
    """
    (top, *more), by_itself = ranking, len(ranking) == 1 and len(ranking[0]) in (1, num_seen)
    return ("best" if len(top) == 1 else "tie"), (top[0] if len(top) == 1 else None), () if by_itself and not more else ranking


def problem(vote: Vote) -> str:
    """What is wrong with a vote's ranking; "" where nothing is, or there is none."""
    if not vote.ranking:
        return ""
    names = [name for level in vote.ranking for name in level]
    if not all(vote.ranking) or len(set(names)) < len(names):
        return "A level has no answer, or an answer stands twice."
    if not set(names) <= set(vote.seen_trace_ids):
        return "It ranks an answer that was not there to be seen."
    if (vote.verdict, vote.best_trace_id, vote.ranking) != verdict_of(vote.ranking, len(vote.seen_trace_ids)):
        return f"The verdict is `{vote.verdict}`, and the ranking says otherwise."
    return ""


def vote_words(vote: Vote, letters: Mapping[str, str]) -> str:
    """ "A is best", "A > C = D > rest", "tie", …; `letters` are those of the answers.

    >>> letters = {"1": "A", "2": "B", "3": "C", "4": "D"}
    >>> vote_words(Vote("v", "c", "best", "1", tuple("1234"), ranking=(("1",), ("3", "4"))), letters)
    'A > C = D > rest'
    """
    if vote.ranking:
        words = [" = ".join(letters.get(name, "?") for name in level) for level in vote.ranking]
        return " > ".join(words + (["rest"] if sum(map(len, vote.ranking)) < len(vote.seen_trace_ids) else []))
    return f"{letters.get(vote.best_trace_id or '', '?')} is best" if vote.verdict == "best" else VERDICTS.get(vote.verdict, vote.verdict)
