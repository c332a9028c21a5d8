"""What was compared before: the list that a visitor sees, and the names by which he can filter it.

Knows nothing of how the list is stored or drawn.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

from rgtg.preferences.items.rankings import vote_words
from rgtg.preferences.pairs import derive_pairs, last_votes
from rgtg.records import Comparison, Pair, Vote
from rgtg.workbench.visitors import LOCAL, Raters, Visitor
from rgtg.workbench.voting.marks import RaterMarks

if TYPE_CHECKING:
    from rgtg.store.history import HistoryEntry
    from rgtg.store.store import Store

ME = "me"  # in a filter, in place of the id of the visitor's rater


class FilterNames(NamedTuple):
    """The names to filter by: methods, models (base LMs and guides), and raters as (id, number of comparisons they voted on)."""

    methods: tuple[str, ...]
    models: tuple[str, ...]
    raters: tuple[tuple[str, int], ...]
    me: str | None


class Looked(NamedTuple):
    """A comparison with the votes that stand, the pairs they give, what of both is excluded (vote -> rejected answer or "" -> reason), and why a
    careful snapshot leaves out votes (vote -> words)."""

    comparison: Comparison
    votes: tuple[Vote, ...]
    pairs: tuple[Pair, ...]
    exclusions: dict[str, dict[str, str]]
    left_out: dict[str, str]

    def words(self, vote: Vote) -> str:
        """What the vote says: "A is best", "A > C > rest"."""
        return vote_words(vote, {trace.id: trace.column for trace in self.comparison.traces})


class Past:
    """The comparisons of one installation, newest first. On a public server a visitor's list has his own alone."""

    def __init__(self, store: "Callable[[], Store]", raters: Raters):
        self._store, self._raters, self.marks = store, raters, RaterMarks(store)

    def page(self, visitor: Visitor = LOCAL, limit: int = 50, before: str | None = None, **wanted: Any) -> "tuple[HistoryEntry, ...]":
        """A page of the list; `before` is the id of the last entry on the page before, `wanted` the fields of `store.history.HistoryFilter`,
        where the rater may be ME. Raises BadSettings, UnknownRecord, StoreError."""
        from rgtg.store.history import HistoryFilter

        me = self._raters.find(visitor)
        if wanted.get("rater") == ME:
            wanted["rater"] = me or "nobody"
        if not visitor.reads_all:
            wanted["made_by"] = me or "nobody"
        return self._store().history(HistoryFilter(**wanted), limit, before)

    def filters(self, visitor: Visitor = LOCAL) -> FilterNames:
        """The names to filter by; on a public server no other raters."""
        store, me = self._store(), self._raters.find(visitor)
        names = store.facet_names()
        return FilterNames(names["method"], names["model"], store.voters() if visitor.reads_all else (), me)

    def num(self) -> int:
        """Number of comparisons in the database."""
        return self._store().num_comparisons()

    def look(self, comparison: Comparison, visitor: Visitor = LOCAL) -> Looked:
        """What a comparison, which its visitor may read, gives for training; of votes on a public server his own alone."""
        votes = tuple(vote for vote in last_votes(self._store().votes(comparison.id)) if vote.verdict != "withdrawn")
        if not visitor.reads_all:
            me = self._raters.find(visitor)
            votes = tuple(vote for vote in votes if vote.rater_id == me)
        pairs, _ = derive_pairs(comparison, votes)
        ids = [vote.id for vote in votes]
        left_out = {} if self._raters.public else self.marks.of_votes(ids)  # a stranger is not told how to do better
        return Looked(comparison, votes, pairs, self._store().exclusions(ids), left_out)

    def exclude(self, vote_id: str, reason: str | None, rejected: str = "") -> None:
        """Take a vote, or its pair with one rejected answer, out of exports and results for a reason; None takes it in again."""
        self._store().exclude(vote_id, reason, rejected)
