"""The spot check: now and then what a model's kept cache says is compared with plain reading, in a run's own text and length.

The check at load is short; a family whose cache goes wrong later is found here. Knows growing prefixes by their slots alone; nothing of
methods, tokens or the screen.
"""

import time
from collections.abc import Callable
from typing import Protocol, TypeVar

EVERY = 16  # forwards between two looks at whether a check can be afforded
SHARE = 0.02  # of the time since the start that checks may take on the way; the one at the end is always made

Answer = TypeVar("Answer")


class Prefixes(Protocol):
    """What can be checked: a base LM's or a reward model's growing prefixes."""

    def holds(self, slot: int) -> bool: ...
    def distrust(self) -> None: ...


class SpotCheck:
    """The checks of one batch. `seconds` and `num_checks` are what they took: forwards of theirs are counted nowhere else. `failed` once
    the cache was wrong; the batch reads every text from its first token from then on."""

    def __init__(self, name: str, batch: Prefixes, tell: Callable[[str], None]):
        """`tell` hears, in words for a person, that the cache of the model `name` was wrong."""
        self.name, self.batch, self.tell = name, batch, tell
        self.seconds, self.num_checks, self.failed = 0.0, 0, False
        self._started, self._num_asked, self._price = time.perf_counter(), 0, 0.0

    def served(self, ask: Callable[[], Answer], slot: int) -> Answer:
        """What the batch answers; where a check is due and finds the cache wrong, what it answers without it. `slot`: one of those asked."""
        began = time.perf_counter()
        answer = ask()
        self._price = max(self._price, time.perf_counter() - began)  # reading the prompts costs about what a check does
        self._num_asked += 1
        if self._num_asked % EVERY == 0 and self.seconds + self._price <= SHARE * (time.perf_counter() - self._started) and not self.holds(slot):
            return ask()
        return answer

    def holds(self, slot: int) -> bool:
        """Reads one slot again plainly; where it differs the cache is given up."""
        if self.failed:
            return True
        began = time.perf_counter()
        self.failed = not self.batch.holds(slot)
        if self.failed:
            self.batch.distrust()
            self.tell(
                f"`{self.name}`: what it keeps of a text differed from plain reading; earlier numbers may be off, it reads plainly from here on."
            )
        took = time.perf_counter() - began
        self.seconds, self.num_checks, self._price = self.seconds + took, self.num_checks + 1, took
        return not self.failed
