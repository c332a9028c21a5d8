"""Pairs are prepared while raters read: one worker for all of them, who takes a place in the waiting line like everybody else.

Knows nothing of what a pair shows.
"""

import logging
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from pages.waiting_line import Line, LineFull, Ticket
from rgtg.errors import RgtgError, Stopped
from rgtg.workbench.visitors import Visitor
from rgtg.workbench.workbench import Workbench

log = logging.getLogger(__name__)
AHEAD = 4  # pairs that wait for a rater, the one that he reads included
POLL = 0.02  # seconds
Key = tuple[str, Visitor]  # task and rater


class Prefetcher:
    """Keeps `AHEAD` pairs ready for each rater who asked; whoever has the fewest comes first."""

    def __init__(self, workbench: Workbench, line: Line):
        self.workbench, self.line = workbench, line
        self._wanted: dict[Key, None] = {}  # in the order in which they asked
        self._failed: dict[Key, str] = {}
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None

    def want(self, task_id: str, visitor: Visitor) -> None:
        """Prepare pairs of the task for this visitor, in the background."""
        with self._lock:
            self._wanted[task_id, visitor] = None
            if self._thread is None:
                self._thread = threading.Thread(target=self._work, name="pairs", daemon=True)
                self._thread.start()

    def failed(self, task_id: str, visitor: Visitor) -> str:
        """Why the last pair could not be prepared, told once; "" where it could."""
        with self._lock:
            return self._failed.pop((task_id, visitor), "")

    def _work(self) -> None:
        while (key := self._next()) is not None:
            task_id, visitor = key
            try:
                ended = self.workbench.annotation.prepare(task_id, visitor, self.turn) is None
            except Exception as error:
                known = isinstance(error, RgtgError)
                log.warning("a pair could not be prepared: %s", error, exc_info=not known)
                with self._lock:
                    self._failed[key] = str(error) if known else "The next pair could not be generated; the reason is in the log."
                ended = True
            if ended:
                with self._lock:
                    self._wanted.pop(key, None)

    def _next(self) -> Key | None:
        """Who has the fewest pairs; None, and the end of the worker, where nobody needs one."""
        while True:
            with self._lock:
                keys = tuple(self._wanted)
                if not keys:
                    self._thread = None
                    return None
            counts = {key: self._count(key) for key in keys}
            with self._lock:
                for key in keys:
                    if counts[key] >= AHEAD:
                        self._wanted.pop(key, None)
            due = [key for key in keys if counts[key] < AHEAD]
            if due:
                return min(due, key=lambda key: counts[key])

    def _count(self, key: Key) -> int:
        try:
            return len(self.workbench.annotation.waiting(*key))
        except Exception:  # `prepare` has the words for it
            return 0

    @contextmanager
    def turn(self, enter: Callable[[], Ticket] | None = None) -> Iterator[Callable[[], bool]]:
        """A place in the line, entered when its turn has come; `enter` takes the place, else it is waited for. Raises LineFull, Stopped."""
        ticket = enter() if enter else None
        while ticket is None:
            try:
                ticket = self.line.enter("annotate")
            except LineFull:
                time.sleep(10 * POLL)
        try:
            while self.line.place(ticket) or self.workbench.status().state == "loading":
                if ticket.stop_unheard():
                    raise Stopped("It was stopped.")
                time.sleep(POLL)
            self.workbench.wait_until_ready(0)
            yield ticket.stop_unheard
        finally:
            self.line.leave(ticket)
