"""What the spot check sees of the caches behind growing responses. Loads no torch."""

from collections.abc import Sequence
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
