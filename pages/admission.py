"""Admission of work on a public server: who asks, whether anybody listens to the answer, and how much runs at once.

What generates takes a place in the waiting line; what only computes takes one of a few slots. Both are checked by the handler that does the
work, since anyone can call it. On a laptop nothing is limited. Knows nothing of models or of what a page shows.
"""

import ipaddress
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any
from weakref import WeakKeyDictionary

import gradio as gr
from gradio.context import LocalContext

from pages.browsers import browser_of
from pages.waiting_line import Line, Ticket
from rgtg.errors import TooMany
from rgtg.workbench.visitors import address_name
from rgtg.workbench.workbench import Workbench

HEAVY = frozenset({  # handlers that compute for a second or more where a comparison or a database is large
    "compare.measure", "compare.open_another", "copying.copy", "data.look", "data.save_html", "exchanging.look_in", "exchanging.take_in",
    "exchanging.write_out", "history.find", "making.try_it", "results.choose", "results.save", "results.save_one", "theory.drag", "voting.export",
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
def computing(name: str, workbench: Workbench | None, args: tuple[Any, ...]) -> Iterator[None]:
    """Around a handler that is no generator: a slot, if it is one of HEAVY and the server is public. Raises TooMany."""
    if workbench is None or not workbench.settings.public or name not in HEAVY:
        yield
        return
    request = next((value for value in args if isinstance(value, gr.Request)), LocalContext.request.get(None))
    with _SLOTS.setdefault(workbench, Slots()).slot(browser_of(request)):
        yield


def enter(line: Line, workbench: Workbench, request: Any) -> Ticket:
    """A place in the line for what a request asks. Raises LineFull."""
    session = getattr(request, "session_hash", None)
    if not workbench.settings.public:
        return line.enter(session, listens=listener(session))
    return line.enter(session, browser_of(request), address_of(request), listener(session))


def address_of(request: Any) -> str:
    """A name for the address that a request came from, which says nothing of it; "" for one of a private network, which may be that of a proxy
    before everybody."""
    host = getattr(getattr(request, "client", None), "host", "") or ""
    try:
        ip = ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return ""
    return "" if ip.is_private and not ip.is_loopback else address_name(host)


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
