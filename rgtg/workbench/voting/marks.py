"""Careless raters and hasty votes, computed once for each state of the votes. Knows nothing of the screen."""

import threading
from collections import Counter
from collections.abc import Callable, Collection
from typing import TYPE_CHECKING

from rgtg.ratings.careless import MARKS, Conduct
from rgtg.store.annotation.sifting import CAREFUL, WORDS, Sieve

if TYPE_CHECKING:
    from rgtg.store.store import Store


class RaterMarks:
    """The marks of a database. For several threads."""

    def __init__(self, store: "Callable[[], Store]"):
        self._store, self._lock = store, threading.Lock()
        self._known: tuple[tuple[int, ...], Sieve, dict[str, Conduct]] | None = None

    def conduct(self) -> dict[str, Conduct]:
        """How each rater votes, by the id of the rater."""
        return self._current()[2]

    def of_votes(self, vote_ids: Collection[str]) -> dict[str, str]:
        """Why a careful snapshot leaves out votes, in words, for those of these that it does."""
        causes = self._current()[1].causes
        return {vote_id: WORDS[causes[vote_id]] for vote_id in vote_ids if vote_id in causes}

    def _current(self) -> tuple[tuple[int, ...], Sieve, dict[str, Conduct]]:
        store = self._store()
        with self._lock:
            stamp = store.votes_stamp()
            if self._known is None or self._known[0] != stamp:
                self._known = stamp, store.annotation.sieve(CAREFUL), store.annotation.conduct()
            return self._known


def marks_words(conduct: Collection[Conduct]) -> str:
    """ "2 of 9 raters are marked as careless: failed gold pairs (1), nearly always the same side (2)"; "" where none is."""
    marked = [one.marks for one in conduct if one.marks]
    if not marked:
        return ""
    counts = Counter(key for marks in marked for key in marks)
    listed = ", ".join(f"{MARKS[key]} ({counts[key]:,})" for key in MARKS if counts[key])
    return f"{len(marked):,} of {len(conduct):,} raters {'is' if len(marked) == 1 else 'are'} marked as careless: {listed}"
