"""Keys and values of growing rows: one preallocated buffer per layer, rows of different lengths, rows that pause and resume.

Works on slots and lengths. Knows nothing of token ids, heads or rewards.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from transformers.cache_utils import Cache, CacheLayerMixin


class RowLayer(CacheLayerMixin):
    """Keys and values of one layer, (rows, heads, capacity, dim), written in place at the same range of entries for all rows."""

    is_sliding = is_compileable = is_croppable = False

    def __init__(self, owner: "RowCache"):
        super().__init__()
        self.owner = owner
        self.keys: Any
        self.values: Any
        self.spare: tuple[Tensor, Tensor]

    def lazy_initialization(self, key_states: Tensor, value_states: Tensor) -> None:
        shape = (self.owner.num_rows, key_states.shape[1], self.owner.capacity)
        # zeros, not empty: a masked NaN still leaks through attention, 0 * NaN is NaN
        self.keys = key_states.new_zeros(*shape, key_states.shape[3])
        self.values = value_states.new_zeros(*shape, value_states.shape[3])
        self.is_initialized = True

    def update(self, key_states: Tensor, value_states: Tensor, *args: Any, **kwargs: Any) -> tuple[Tensor, Tensor]:
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
        owner, high = self.owner, self.owner.high
        if owner.expand:  # rows * k queries of one token, each over the cache of its row; `keep` stores the selected one later
            self.spare = key_states, value_states
            return self._expanded(self.keys, key_states), self._expanded(self.values, value_states)
        first, stop = owner.first, high + key_states.shape[2]
        rows = slice(first, first + key_states.shape[0])
        self.keys[rows, :, high:stop] = key_states
        self.values[rows, :, high:stop] = value_states
        return self.keys[rows, :, :stop], self.values[rows, :, :stop]

    def _expanded(self, old: Tensor, new: Tensor) -> Tensor:
        first, rows = self.owner.first, new.shape[0] // self.owner.expand
        return torch.cat([old[first : first + rows, :, : self.owner.high].repeat_interleave(self.owner.expand, 0), new], 2)

    def get_seq_length(self) -> int:
        return self.owner.high

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
        return self.owner.high + query_length, 0

    def get_max_length(self) -> int:
        return -1


class RowCache(Cache):
    """Cache of all layers of a model. A forward reads and writes rows from `first` on and writes entries from `high` on, in every row.

    With `expand` = k the forward has k queries of one token per cached row, and nothing is written.
    """

    def __init__(self, num_layers: int, num_rows: int, capacity: int):
        super().__init__(layers=[RowLayer(self) for _ in range(num_layers)])
        self.num_rows, self.capacity = num_rows, capacity
        self.first = self.high = self.expand = 0
        self._was_expanded = False

    @property
    def filled(self) -> list[RowLayer]:
        return [layer for layer in self.layers if isinstance(layer, RowLayer) and layer.is_initialized]

    def begin(self, first: int, high: int, num_slots: int, expand: int = 0) -> None:
        """Prepare a forward: its first row, the entry it writes from, and capacity for `num_slots` entries, at least doubled if it has to grow."""
        self.first, self.high, self.expand, self._was_expanded = first, high, expand, expand > 0
        if num_slots <= self.capacity:
            return
        more = max(num_slots, 2 * self.capacity) - self.capacity
        self.capacity += more
        for layer in self.filled:
            layer.keys, layer.values = (torch.cat([t, t.new_zeros(*t.shape[:2], more, t.shape[3])], 2) for t in (layer.keys, layer.values))

    def keep(self, moves: Sequence[tuple[int, int, int]]) -> None:
        """Move entries: for each (row, source, target) what the last forward computed at `source` becomes entry `target` of the row. After an
        expanded forward `source` is a row of that forward."""
        if self._was_expanded:
            rows, source, target = torch.tensor(moves, device=self._device).T
            for layer in self.filled:
                keys, values = layer.spare
                layer.keys[rows, :, target] = keys[source, :, 0]
                layer.values[rows, :, target] = values[source, :, 0]
            return
        moves = [move for move in moves if move[1] != move[2]]
        if len(moves) == 1:  # the usual case: plain indexing is the fastest
            ((row, old, new),) = moves
            for layer in self.filled:
                layer.keys[row, :, new] = layer.keys[row, :, old]
                layer.values[row, :, new] = layer.values[row, :, old]
        elif moves:
            rows, source, target = torch.tensor(moves, device=self._device).T
            for layer in self.filled:
                layer.keys[rows, :, target] = layer.keys[rows, :, source]
                layer.values[rows, :, target] = layer.values[rows, :, source]

    def swap(self, a: int, b: int, num_slots: int) -> None:
        """Swap rows `a` and `b`, of which the first `num_slots` entries are in use."""
        for layer in self.filled:
            for t in (layer.keys, layer.values):
                t[[a, b], :, :num_slots] = t[[b, a], :, :num_slots]

    def copy(self, sources: Sequence[int], targets: Sequence[int], start: int, stop: int) -> None:
        """Copy entries `start` to `stop` of each row `sources[i]`, as before the call, to row `targets[i]`."""
        old, new = (torch.tensor(rows, device=self._device) for rows in (sources, targets))
        for layer in self.filled:
            for t in (layer.keys, layer.values):
                t[new, :, start:stop] = t[old, :, start:stop]

    @property
    def _device(self) -> torch.device:
        return self.filled[0].keys.device
