"""The spot check: now and then what a model's kept cache says is compared with plain reading, in a run's own text and length.

The check at load is short; a family whose cache goes wrong later is found here. A check reads one text of n tokens plainly, in one forward
of each network. It is due, as looked at after every 16th forward and at the end of a run,

- where the model has made 50 forwards and fed 50 n positions since its last check: checks take at most 2 % of both on average, and a text is
  checked the more rarely the longer it is;
- where the text is twice as long as any that was checked since the model was loaded (at the end of a run 1.25 times), whatever that costs:
  a new model is checked in its first run, and a cache that goes wrong with the length is found by the first text of about that length.

All of it is counted by the loaded model and nothing by the clock, so that the same runs are checked at the same places. A model whose cache
was wrong once is read plainly for as long as it is loaded. Knows growing prefixes by their slots alone; nothing of methods, tokens or the
screen.
"""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeVar
from weakref import WeakKeyDictionary

EVERY = 16  # forwards between two looks at whether a check is due
SPARED = 50  # forwards, and positions for each position of a check, that lie between two checks
GROWTH, GROWTH_AT_END = 2.0, 1.25  # a text so many times as long as any that was checked is due

Answer = TypeVar("Answer")


class Kept(Protocol):
    """What one network keeps of growing texts."""

    texts: list[list[int]]
    num_forwards: int
    num_positions: int
    num_check_forwards: int

    def holds(self, slot: int) -> bool: ...


class Prefixes(Protocol):
    """What can be checked: a base LM's or a reward model's growing prefixes, with what each of its networks keeps of them."""

    @property
    def kept(self) -> Sequence[Kept]: ...
    def distrust(self) -> None: ...


@dataclass
class Record:
    """What is known of one loaded model's cache: the longest text that was checked, what was read since, whether it was ever wrong."""

    num_checks: int = 0
    longest: int = 0
    num_forwards: int = 0
    num_positions: int = 0
    failed: bool = False


_RECORDS: WeakKeyDictionary[object, Record] = WeakKeyDictionary()


def record_of(model: object) -> Record:
    """The record of a loaded model, kept as long as the model is."""
    return _RECORDS.setdefault(model, Record())


class SpotCheck:
    """The checks of one batch. Their forwards are counted by slot in `num_forwards` and nowhere else."""

    def __init__(self, name: str, batch: Prefixes, record: Record, tell: Callable[[str], None]):
        """`tell` hears, in words for a person, that the cache of the model `name` was wrong, now or in an earlier run."""
        self.name, self.batch, self.record, self.tell = name, batch, record, tell
        self.num_forwards: Counter[int] = Counter()
        self._num_asked = 0
        if record.failed:
            batch.distrust()

    def begin(self) -> None:
        """Say what is known from earlier runs."""
        if self.record.failed:
            self.tell(f"`{self.name}`: what it kept of a text differed from plain reading in an earlier run; it reads plainly.")

    def served(self, ask: Callable[[], Answer], slots: Sequence[int]) -> Answer:
        """What the batch answers; where a check is due and finds the cache wrong, what it answers without it. `slots`: those asked."""
        before = self._read()
        answer = ask()
        self.record.num_forwards, self.record.num_positions = (
            known + now - then for known, now, then in zip((self.record.num_forwards, self.record.num_positions), self._read(), before, strict=True)
        )
        self._num_asked += 1
        if self._num_asked % EVERY == 0 and not self.holds(slots[self.record.num_checks % len(slots)], GROWTH):
            return ask()
        return answer

    def _read(self) -> tuple[int, int]:
        """Forwards and positions until now."""
        kept = self.batch.kept
        return sum(part.num_forwards for part in kept), sum(part.num_positions for part in kept)

    def _is_due(self, slot: int, growth: float) -> bool:
        kept, record = self.batch.kept, self.record
        if not kept or record.failed:
            return False
        length, spared = len(kept[0].texts[slot]), SPARED * len(kept)
        return length >= growth * max(1, record.longest) or (record.num_forwards >= spared and record.num_positions >= spared * length)

    def holds(self, slot: int, growth: float = GROWTH_AT_END) -> bool:
        """Reads a slot again plainly where that is due; where it differs the cache is given up."""
        if not self._is_due(slot, growth):
            return True
        kept, record = self.batch.kept, self.record
        before = sum(part.num_check_forwards for part in kept)
        record.failed = not all(part.holds(slot) for part in kept)
        self.num_forwards[slot] += sum(part.num_check_forwards for part in kept) - before
        record.num_checks, record.longest = record.num_checks + 1, max(record.longest, len(kept[0].texts[slot]))
        record.num_forwards = record.num_positions = 0
        if record.failed:
            self.batch.distrust()
            self.tell(
                f"`{self.name}`: what it keeps of a text differed from plain reading; earlier numbers may be off, it reads plainly from here on."
            )
        return not record.failed
