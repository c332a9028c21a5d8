"""Pairs of a chosen and a rejected response from votes; votes without a pair are counted by cause.

Pure functions; knows nothing of the store, models or training.
"""

from collections import Counter
from collections.abc import Callable, Iterable
from sys import maxsize
from typing import Protocol

from rgtg.preferences.items.rankings import judged
from rgtg.records import Comparison, Pair, Trace, Vote

MARGINS = {None: 0.0, 1: 0.0, 2: 0.5, 3: 1.0}  # by the strength of a vote; a vote without one has no margin
NO_VOTE = "no_vote"
CAUSES = {
    "tie": "votes for a tie",
    "all_bad": "votes that all are bad",
    "skip": "comparisons skipped",
    "withdrawn": "votes taken back",
    NO_VOTE: "comparisons without a vote",
    "one_answer": "votes that saw one answer only",
    "ranked_equal": "pairs ranked as equally good",
    "equal_texts": "pairs of equal texts",
    "error": "pairs with an answer that failed",
    "no_tokens": "pairs with an answer that has no token",
    "repeat": "pairs that repeat an earlier vote of the same rater on the same answers",
}


def derive_pairs(comparison: Comparison, votes: Iterable[Vote]) -> tuple[tuple[Pair, ...], Counter[str]]:
    """The pairs of one comparison, and the number of votes or pairs left out for each of `CAUSES`.

    Only the last vote of each rater counts. The best of n answers seen gives n - 1 pairs, a ranking one for each two answers of which one is
    better (`items.rankings`); an answer that was not seen gives none. Verdicts are counted by vote, the other causes by pair.

    >>> from rgtg.records import ModelRef, Run, Step
    >>> run = Run("hi", "base", ModelRef("toy"))
    >>> step = Step(0, 5, "x", -1.0, -1.0, 1, 1, 0.4, 0.4)
    >>> a, b = Trace("a", "A", run, (step,), "yes"), Trace("b", "B", run, (step,), "no")
    >>> pairs, _ = derive_pairs(Comparison("c", "hi", (a, b)), [Vote("v", "c", "best", "b", ("a", "b"))])
    >>> [(pair.chosen, pair.rejected) for pair in pairs]
    [('no', 'yes')]
    """
    pairs: list[Pair] = []
    skipped: Counter[str] = Counter()
    last = last_votes(votes)
    if not last:
        skipped[NO_VOTE] += 1
    for vote in last:
        if vote.verdict != "best" and not vote.ranking:
            skipped[vote.verdict] += 1
            continue
        said = _judged(comparison, vote)
        if not said:
            skipped["one_answer"] += 1
        for better, worse, equal in said:
            if cause := "ranked_equal" if equal else _cause(better, worse):
                skipped[cause] += 1
            else:
                pairs.append(_pair(comparison, vote, better, worse))
    return tuple(pairs), skipped


def is_repeat(pair: Pair, known: set[int]) -> bool:
    """Whether the rater has preferred the same answer to the same other one before, e.g. in a comparison that was generated again with
    its seed. `known` holds the hashes of the pairs so far, and is updated."""
    key = hash((pair.rater_id, pair.prompt, pair.chosen, pair.rejected, pair.chosen_ids, pair.rejected_ids))
    if key in known:
        return True
    known.add(key)
    return False


def last_votes(votes: Iterable[Vote]) -> tuple[Vote, ...]:
    """The vote with the highest revision of each rater, including `withdrawn` ones, in the order in which raters first voted."""
    last: dict[str | None, Vote] = {}
    for vote in votes:
        if vote.rater_id not in last or vote.revision >= last[vote.rater_id].revision:
            last[vote.rater_id] = vote
    return tuple(last.values())


def stack_of(votes: Iterable[Vote]) -> list[Vote]:
    """The undo stack of one rater's votes on a comparison, the current vote last; [] where there is none.

    A repeated vote is not pushed again: after a `withdrawn` one it is the previous vote, to which undo returned.
    """
    stack: list[Vote] = []
    for vote in votes:
        if vote.verdict == "withdrawn":
            del stack[-1:]
        elif stack and _says(stack[-1]) == _says(vote):
            stack[-1] = vote
        else:
            stack.append(vote)
    return stack


def _says(vote: Vote) -> tuple:
    return vote.verdict, vote.best_trace_id, frozenset(vote.seen_trace_ids), vote.strength, vote.reasons, vote.comment, vote.ranking


def num_tokens(trace: Trace) -> int:
    """Number of tokens of an answer, also of one whose steps are not here."""
    return int(getattr(trace.steps, "num_tokens", len(trace.steps)))


class Branched(Protocol):
    """What tells how answers branched off one another: a `Trace`, or what is read of one."""

    @property
    def id(self) -> str: ...
    @property
    def parent_trace_id(self) -> str | None: ...
    @property
    def branch_position(self) -> int | None: ...


def num_common(a: Branched, b: Branched, find: Callable[[str], Branched | None]) -> int:
    """Number of leading tokens that two traces share by construction: up to where one branched off the other, or the smaller of
    the positions at which they left a common ancestor; 0 for independent answers. `find` gives a trace by its id."""
    of_a, of_b = _kept(a, find), _kept(b, find)
    return max((min(of_a[trace_id], of_b[trace_id]) for trace_id in of_a.keys() & of_b.keys()), default=0)


def _kept(trace: Branched, find: Callable[[str], Branched | None]) -> dict[str, int]:
    """{id of the trace or an ancestor: number of its leading tokens that the trace has}; all of its own."""
    num_kept = maxsize
    shared = {trace.id: num_kept}
    while trace.parent_trace_id is not None and trace.parent_trace_id not in shared:
        num_kept = min(num_kept, trace.branch_position or 0)
        shared[trace.parent_trace_id] = num_kept
        parent = find(trace.parent_trace_id)
        if parent is None:
            break
        trace = parent
    return shared


def _judged(comparison: Comparison, vote: Vote) -> list[tuple[Trace, Trace, bool]]:
    """What the vote says of each two answers, as `items.rankings.judged` does of their ids."""
    traces = {trace.id: trace for trace in comparison.traces}
    named = {vote.best_trace_id, *(name for level in vote.ranking for name in level)} - {None}
    if vote.comparison_id != comparison.id or not named <= traces.keys():
        raise ValueError(f"vote `{vote.id}` names no answer of comparison `{comparison.id}`")
    seen = [name for name in traces if name in vote.seen_trace_ids]
    return [(traces[one], traces[other], equal) for one, other, equal in judged(vote.verdict, vote.best_trace_id, seen, vote.ranking)]


def _cause(best: Trace, other: Trace) -> str | None:
    """Why two answers give no pair; None where they give one."""
    if "error" in (best.stop_reason, other.stop_reason):
        return "error"
    if any(num_tokens(trace) == 0 and not trace.response for trace in (best, other)):  # one from elsewhere has a text and no tokens
        return "no_tokens"
    return "equal_texts" if best.response == other.response else None


def _pair(comparison: Comparison, vote: Vote, best: Trace, other: Trace) -> Pair:
    same_ids = best.run.prompt_ids == other.run.prompt_ids  # ids of two tokenizers differ: then texts only
    return Pair(
        prompt=comparison.prompt,
        chosen=best.response,
        rejected=other.response,
        comparison_id=comparison.id,
        vote_id=vote.id,
        chosen_trace_id=best.id,
        rejected_trace_id=other.id,
        prompt_ids=best.run.prompt_ids if same_ids else (),
        chosen_ids=best.token_ids if same_ids else (),
        rejected_ids=other.token_ids if same_ids else (),
        num_common=num_common(best, other, comparison.trace) if same_ids else 0,
        margin=MARGINS[vote.strength],
        rater_id=vote.rater_id,
    )
