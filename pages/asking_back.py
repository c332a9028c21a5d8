"""Requests over the limits: refused once, and run when the same visitor presses again.

Knows nothing of what is asked for, of models or the screen.
"""

from collections.abc import Callable

from rgtg.errors import OverBudget

MAX_ASKED = 1_000  # visitors who are remembered


class AskedBack:
    """The last request over the limits of each visitor; where `public()` holds they are only refused."""

    def __init__(self, public: Callable[[], bool], button: str):
        self._public, self._button = public, button
        self._requests: dict[str | None, object] = {}

    def confirmed(self, visitor: str | None, request: object) -> bool:
        """Whether this visitor was asked back for the same request just before; it counts once."""
        return self._requests.pop(visitor, None) == request

    def error(self, error: OverBudget, visitor: str | None, request: object) -> OverBudget:
        """The error to raise, which says what to press to run the request unchanged."""
        if self._public():
            return error
        if len(self._requests) >= MAX_ASKED:
            self.clear()
        self._requests[visitor] = request
        return OverBudget(error.wrong, error.found, f"{error.do} Or press {self._button} again to run it unchanged.")

    def clear(self) -> None:
        """Forget all requests."""
        self._requests.clear()
