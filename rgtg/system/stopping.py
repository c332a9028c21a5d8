"""Stop: long work asks between its parts whether anybody still waits for it. Knows nothing of what the work is."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

from rgtg.errors import Stopped

LOOK_S = 0.05  # between two looks while something is waited for
_stopped: ContextVar[Callable[[], bool]] = ContextVar("stopped", default=lambda: False)


@contextmanager
def stoppable(stopped: Callable[[], bool]) -> Iterator[None]:
    """Within it whatever calls `check_stopped` or waits ends with Stopped once `stopped()` holds. Never around a `yield`."""
    token = _stopped.set(stopped)
    try:
        yield
    finally:
        _stopped.reset(token)


def check_stopped() -> None:
    """Between two parts of long work. Raises Stopped where nobody waits for it any longer."""
    if _stopped.get()():
        raise Stopped("It was stopped.")


@contextmanager
def waiting_for(lock: Any) -> Iterator[None]:
    """Holds a lock; whoever waits for it can be stopped. Raises Stopped."""
    while not lock.acquire(timeout=LOOK_S):
        check_stopped()
    try:
        yield
    finally:
        lock.release()
