"""The waiting line: generations run one at a time, in order of arrival.

Knows nothing of models or the screen. A ticket is left in `finally`, so a closed tab frees its place.
"""

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from weakref import WeakKeyDictionary

from rgtg.errors import RgtgError

MAX_WAITING = 16


class LineFull(RgtgError):
    """Too many people are waiting; the prompt is kept."""


@dataclass(eq=False)
class Ticket:
    """One place in the line. `stopped` is set by the Stop button; `on_stop` is called once if the run has begun."""

    owner: str | None
    started_at: float = field(default_factory=time.monotonic)
    stopped: bool = False
    on_stop: Callable[[], None] | None = None


class Line:
    """First come, first served: one ticket runs and at most `max_waiting` wait."""

    def __init__(self, max_waiting: int = MAX_WAITING):
        self.max_waiting = max_waiting
        self._tickets: list[Ticket] = []
        self._lock = threading.Lock()

    def enter(self, owner: str | None) -> Ticket:
        """A ticket at the end of the line; raises LineFull."""
        with self._lock:
            if len(self._tickets) > self.max_waiting:
                raise LineFull(f"{len(self._tickets) - 1} people are waiting.", "", "Your prompt is kept; try again in about a minute.")
            ticket = Ticket(owner)
            self._tickets.append(ticket)
            return ticket

    def place(self, ticket: Ticket) -> int:
        """The number of tickets ahead of this one; 0 when its turn has come."""
        with self._lock:
            return self._tickets.index(ticket)

    def started_within(self, owner: str | None, seconds: float) -> bool:
        """Whether this visitor entered less than `seconds` ago and was not stopped: a double click."""
        with self._lock:
            return any(t.owner == owner and not t.stopped and time.monotonic() - t.started_at < seconds for t in self._tickets)

    def leave(self, ticket: Ticket) -> None:
        with self._lock:
            if ticket in self._tickets:
                self._tickets.remove(ticket)

    def stop(self, owner: str | None) -> int:
        """Stop what this visitor runs or waits for; returns the number of tickets."""
        with self._lock:
            mine = [t for t in self._tickets if t.owner == owner and not t.stopped]
            for ticket in mine:
                ticket.stopped = True
        for ticket in mine:
            if ticket.on_stop:
                ticket.on_stop()
        return len(mine)

    def __len__(self) -> int:
        with self._lock:
            return len(self._tickets)


_LINES: WeakKeyDictionary[object, Line] = WeakKeyDictionary()


def line_of(workbench: object) -> Line:
    """The line of an installation, which all pages share."""
    return _LINES.setdefault(workbench, Line())
