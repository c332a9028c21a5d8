"""Stopping of long work, which checks between its steps whether its result is still wanted. Knows nothing of what the work is."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

from rgtg.errors import Stopped

LOOK_S = 0.05  # between two looks while something is waited for
_stopped: ContextVar[Callable[[], bool]] = ContextVar("stopped", default=lambda: False)


@contextmanager
def stoppable(stopped: Callable[[], bool]) -> Iterator[None]:
    """Context in which `check_stopped` and waiting raise Stopped once `stopped()` is true. Never put it around a `yield`."""
    token = _stopped.set(stopped)
    try:
        yield
    finally:
        _stopped.reset(token)


def check_stopped() -> None:
    """Raise Stopped if the work was stopped; to be called between the steps of long work."""
    if _stopped.get()():
        raise Stopped("It was stopped.")


@contextmanager
def waiting_for(lock: Any) -> Iterator[None]:
    """Hold a lock; waiting for it can be stopped. Raises Stopped."""
    while not lock.acquire(timeout=LOOK_S):
        check_stopped()
    try:
        yield
    finally:
        lock.release()
