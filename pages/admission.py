"""Admission of work on a public server: who asks, whether anybody listens to the answer, and how much runs at once.

What generates takes a place in the waiting line; what only computes takes one of a few slots. Both are checked by the handler that does the
work, since anyone can call it. On a laptop nothing is limited. Knows nothing of models or of what a page shows.
"""

import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any
from weakref import WeakKeyDictionary

from gradio.context import LocalContext

from pages.browsers import browser_of
from pages.crowd import crowd_of
from pages.signing_in import account_of
from pages.waiting_line import Line, Ticket
from rgtg.errors import TooMany
from rgtg.workbench.workbench import Workbench

HEAVY = frozenset({  # handlers that compute for a second or more where a comparison or a database is large
    "compare.measure", "compare.open_another", "copying.copy", "data.look", "data.save_html", "examine.following", "examine.read",
    "exchanging.look_in", "exchanging.take_in", "exchanging.write_out", "history.find", "making.try_it", "results.choose", "results.load",
    "results.save", "results.save_one", "theory.drag", "voting.export",
})  # fmt: skip
AT_ONCE, MAX_WAITING, PATIENCE_S = 2, 12, 15.0
UNREAD_S = 10.0  # an answer that nobody fetched for so long has no listener
LOOK_S = 0.02


class Slots:
    """Places for handlers that compute: `at_once` in all and one for a person; a few wait for a while, in order of arrival."""

    def __init__(self, at_once: int = AT_ONCE, max_waiting: int = MAX_WAITING, patience_s: float = PATIENCE_S):
        self.at_once, self.max_waiting, self.patience_s = at_once, max_waiting, patience_s
        self._running: Counter[str] = Counter()
        self._waiting: list[tuple[object, str]] = []
        self._lock = threading.Lock()

    @contextmanager
    def slot(self, person: str) -> Iterator[None]:
        """Held while a handler computes. Raises TooMany where this person, or too many others, wait already, or it takes too long."""
        me, until = object(), time.monotonic() + self.patience_s
        with self._lock:
            if any(other == person for _, other in self._waiting):
                raise TooMany("One of your requests is running and one is waiting.", "", "Wait for them, then try again.")
            if len(self._waiting) >= self.max_waiting:
                raise TooMany("The server is busy: too many requests are waiting.", "", "Try again in a moment.")
            self._waiting.append((me, person))
        try:
            while not self._begins(me, person):
                if time.monotonic() > until:
                    raise TooMany("The server is busy.", f"Your request waited for {self.patience_s:.0f} s.", "Try again in a moment.")
                time.sleep(LOOK_S)
        finally:
            with self._lock:
                self._waiting = [one for one in self._waiting if one[0] is not me]
        try:
            yield
        finally:
            with self._lock:
                self._running[person] -= 1
                self._running += Counter()  # forget who has none

    def _begins(self, me: object, person: str) -> bool:
        with self._lock:
            if self._running.total() >= self.at_once or self._running[person]:
                return False
            first = next(one for one, other in self._waiting if not self._running[other])
            if first is me:
                self._running[person] += 1
            return first is me


_SLOTS: WeakKeyDictionary[object, Slots] = WeakKeyDictionary()


@contextmanager
def computing(name: str, workbench: Workbench | None) -> Iterator[None]:
    """Around a handler, or a part of one: a slot, if it is one of HEAVY and the server is public. Raises TooMany."""
    if workbench is None or not workbench.settings.public or name not in HEAVY:
        yield
        return
    with _SLOTS.setdefault(workbench, Slots()).slot(_person(LocalContext.request.get(None))):
        yield


def enter(line: Line, workbench: Workbench, request: Any) -> Ticket:
    """A place in the line for what a request asks. Raises LineFull."""
    session = getattr(request, "session_hash", None)
    crowd = crowd_of(workbench)
    if crowd is None:
        return line.enter(session, listens=listener(session))
    scope = getattr(getattr(request, "request", None), "scope", {})
    return line.enter(session, _person(request), crowd.address(scope), listener(session))


def _person(request: Any) -> str:
    """Who asks, whatever his nicknames are: an account, else a browser, without cookies a session."""
    account = account_of(request)
    return f"account {account.subject}" if account else browser_of(request)


def listener(session: str | None) -> Callable[[], bool]:
    """Whether somebody still fetches the answers of a session: a closed tab ends its stream, and what is never fetched piles up.

    To be made inside a handler. Reads Gradio's queue of messages; where that is not as expected, somebody listens.
    """
    blocks = LocalContext.blocks.get(None)
    sessions = getattr(getattr(blocks, "_queue", None), "pending_messages_per_session", None)
    if sessions is None or not session or session not in sessions:
        return lambda: True
    head: list[Any] = [None, time.monotonic()]

    def listens() -> bool:
        messages = sessions.get(session)
        if messages is None:
            return False
        waiting = getattr(messages, "_queue", None)
        try:
            first = waiting[0] if waiting else None
        except IndexError:  # just fetched
            first = None
        now = time.monotonic()
        if first is None or first is not head[0]:
            head[:] = [first, now]
        return now - head[1] < UNREAD_S

    return listens
