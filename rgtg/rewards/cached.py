"""What the spot check sees of the caches behind growing responses. Loads no torch."""

from collections.abc import Iterable, Sequence
from typing import Protocol


class CachedTexts(Protocol):
    """The cache of one network: growing texts and what was computed of them."""

    @property
    def texts(self) -> Sequence[Sequence[int]]: ...
    @property
    def num_forwards(self) -> int: ...
    @property
    def num_positions(self) -> int: ...
    @property
    def num_check_forwards(self) -> int: ...
    def holds(self, slot: int) -> bool:
        """Whether the cached state of the slot's last token equals that of a forward without a cache."""

    def is_fed(self, slot: int) -> bool:
        """Whether a slot has no pending token."""

    def positions_of(self, slots: Iterable[int]) -> int:
        """Positions fed for these slots, as if they were alone; 0 where slots share rows."""
