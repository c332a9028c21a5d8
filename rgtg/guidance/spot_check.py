"""Spot check of caches: during generation a model's cached states are compared now and then with those of a forward without a cache.

The check at load uses short texts; a model family whose cache goes wrong at a greater length is found here. A check encodes one text of n
tokens without a cache, in one forward of each network. It is due, as tested after every 16th forward and at the end of a run,

- when the model has made 50 forwards over 50 n positions since its last check: checks take at most 2 % of both on average;
- when the text is twice as long as any checked since the model was loaded (1.25 times at the end of a run), whatever that costs: a new
  model is checked in its first run, and a cache that goes wrong with the length by the first text of about that length.

All counts belong to the loaded model and none to the clock, so that equal runs are checked at equal places. A model whose cache was wrong
once is used without a cache as long as it is loaded. Works on slots of growing prefixes; knows nothing of methods, tokens or the screen.
"""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeVar
from weakref import WeakKeyDictionary

from rgtg.rewards.cached import CachedTexts

EVERY = 16  # forwards between two tests of whether a check is due
SPARED = 50  # forwards, and positions per position of a check, between two checks
GROWTH, GROWTH_AT_END = 2.0, 1.25  # a text this many times as long as any checked before is due

Answer = TypeVar("Answer")


class Prefixes(Protocol):
    """Growing prefixes of a base LM or a reward model, with the cache of each of its networks."""

    @property
    def caches(self) -> Sequence[CachedTexts]: ...
    def disable_cache(self) -> None: ...


@dataclass
class Record:
    """State of the checks of one loaded model: the longest text checked, the work since the last check, whether a check has failed."""

    num_checks: int = 0
    longest: int = 0
    num_forwards: int = 0
    num_positions: int = 0
    failed: bool = False


_RECORDS: WeakKeyDictionary[object, Record] = WeakKeyDictionary()


def record_of(model: object) -> Record:
    """Check record of a loaded model; it lives as long as the model."""
    return _RECORDS.setdefault(model, Record())


class SpotCheck:
    """Checks of one batch of growing prefixes; their forwards are counted by slot in `num_forwards` alone."""

    def __init__(self, name: str, batch: Prefixes, record: Record, tell: Callable[[str], None]):
        """`tell` is called with a sentence when the cache of the model `name` was found wrong, now or in an earlier run."""
        self.name, self.batch, self.record, self.tell = name, batch, record, tell
        self.num_forwards: Counter[int] = Counter()
        self._num_asked = 0
        if record.failed:
            batch.disable_cache()

    def begin(self) -> None:
        """Report a failure from an earlier run."""
        if self.record.failed:
            self.tell(f"`{self.name}`: its cache gave wrong results in an earlier run; it runs without a cache.")

    def served(self, ask: Callable[[], Answer], slots: Sequence[int]) -> Answer:
        """Answer of the batch to `ask`; without the cache if a check is due and fails. `slots`: those asked for."""
        before = self._counts()
        answer = ask()
        self.record.num_forwards, self.record.num_positions = (
            total + after - earlier
            for total, after, earlier in zip((self.record.num_forwards, self.record.num_positions), self._counts(), before, strict=True)
        )
        self._num_asked += 1
        if self._num_asked % EVERY == 0 and not self.holds(slots[self.record.num_checks % len(slots)], GROWTH):
            return ask()
        return answer

    def _counts(self) -> tuple[int, int]:
        """Forwards and positions so far."""
        caches = self.batch.caches
        return sum(part.num_forwards for part in caches), sum(part.num_positions for part in caches)

    def _is_due(self, slot: int, growth: float) -> bool:
        caches, record = self.batch.caches, self.record
        if not caches or record.failed:
            return False
        length, spared = len(caches[0].texts[slot]), SPARED * len(caches)
        return length >= growth * max(1, record.longest) or (record.num_forwards >= spared and record.num_positions >= spared * length)

    def holds(self, slot: int, growth: float = GROWTH_AT_END) -> bool:
        """Check a slot without its cache if that is due, and give the cache up if it differs; returns whether the cache can be trusted."""
        if not self._is_due(slot, growth):
            return True
        caches, record = self.batch.caches, self.record
        before = sum(part.num_check_forwards for part in caches)
        record.failed = not all(part.holds(slot) for part in caches)
        self.num_forwards[slot] += sum(part.num_check_forwards for part in caches) - before
        record.num_checks, record.longest = record.num_checks + 1, max(record.longest, len(caches[0].texts[slot]))
        record.num_forwards = record.num_positions = 0
        if record.failed:
            self.batch.disable_cache()
            self.tell(f"`{self.name}`: its cache gave wrong results. Earlier numbers may be wrong; from here on it runs without a cache.")
        return not record.failed
