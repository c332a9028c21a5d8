"""Keys and values of growing rows: one preallocated buffer a layer, ragged rows, rows that leave and come back.

Works on slots and lengths. Knows nothing of token ids, heads or rewards.
"""

import torch
from torch import Tensor
from transformers.cache_utils import Cache, CacheLayerMixin


class RowLayer(CacheLayerMixin):
    """One layer's keys and values, (rows, heads, capacity, dim), written in place at one slot range for all rows."""

    is_sliding = is_compileable = is_croppable = False

    def __init__(self, owner: "RowCache"):
        super().__init__()
        self.owner = owner

    def lazy_initialization(self, key_states: Tensor, value_states: Tensor) -> None:
        shape = (self.owner.num_rows, key_states.shape[1], self.owner.capacity)
        # zeros, not empty: a masked NaN still leaks through attention, 0 * NaN is NaN
        self.keys = key_states.new_zeros(*shape, key_states.shape[3])
        self.values = value_states.new_zeros(*shape, value_states.shape[3])
        self.is_initialized = True

    def update(self, key_states: Tensor, value_states: Tensor, *args, **kwargs) -> tuple[Tensor, Tensor]:
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
        owner, high = self.owner, self.owner.high
        if owner.expand:  # rows * k queries of one token over the cache of their row; the keeper writes the winner later
            self.spare = key_states, value_states
            return self._expanded(self.keys, key_states), self._expanded(self.values, value_states)
        rows, stop = key_states.shape[0], high + key_states.shape[2]
        self.keys[:rows, :, high:stop] = key_states
        self.values[:rows, :, high:stop] = value_states
        return self.keys[:rows, :, :stop], self.values[:rows, :, :stop]

    def _expanded(self, old: Tensor, new: Tensor) -> Tensor:
        rows = new.shape[0] // self.owner.expand
        return torch.cat([old[:rows, :, : self.owner.high].repeat_interleave(self.owner.expand, 0), new], 2)

    def get_seq_length(self) -> int:
        return self.owner.high

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
        return self.owner.high + query_length, 0

    def get_max_length(self) -> int:
        return -1


class RowCache(Cache):
    """All layers of one model. `high` is the first slot that the next forward writes, the same for every row."""

    def __init__(self, num_layers: int, num_rows: int, capacity: int):
        super().__init__(layers=[RowLayer(self) for _ in range(num_layers)])
        self.num_rows, self.capacity = num_rows, capacity
        self.high = 0
        self.expand = 0

    @property
    def filled(self) -> list[RowLayer]:
        return [layer for layer in self.layers if layer.is_initialized]

    def reserve(self, num_slots: int) -> None:
        """Makes room for so many slots, at least doubling what there is."""
        if num_slots <= self.capacity:
            return
        more = max(num_slots, 2 * self.capacity) - self.capacity
        self.capacity += more
        for layer in self.filled:
            layer.keys, layer.values = (torch.cat([t, t.new_zeros(*t.shape[:2], more, t.shape[3])], 2) for t in (layer.keys, layer.values))

    def move(self, rows: Tensor, source: Tensor, target: Tensor) -> None:
        """Copies entry `source[i]` of row `rows[i]` to slot `target[i]`; all are (n,)."""
        if len(rows) == 1:
            row, old, new = int(rows), int(source), int(target)
            for layer in self.filled:
                layer.keys[row, :, new] = layer.keys[row, :, old]
                layer.values[row, :, new] = layer.values[row, :, old]
            return
        for layer in self.filled:
            layer.keys[rows, :, target] = layer.keys[rows, :, source]
            layer.values[rows, :, target] = layer.values[rows, :, source]

    def adopt(self, rows: Tensor, spare: Tensor, target: Tensor) -> None:
        """Writes entry `spare[i]` of the last expanded forward to slot `target[i]` of row `rows[i]`."""
        for layer in self.filled:
            keys, values = layer.spare
            layer.keys[rows, :, target] = keys[spare, :, 0]
            layer.values[rows, :, target] = values[spare, :, 0]

    def swap(self, a: int, b: int, num_slots: int) -> None:
        """Rows `a` and `b` change places, as far as `num_slots` are in use."""
        for layer in self.filled:
            for t in (layer.keys, layer.values):
                t[[a, b], :, :num_slots] = t[[b, a], :, :num_slots]

    def select(self, rows: Tensor) -> "RowCache":
        """A copy whose row i is our row `rows[i]`."""
        copy = RowCache(len(self.layers), len(rows), self.capacity)
        copy.high = self.high
        for old, new in zip(self.layers, copy.layers, strict=True):
            if old.is_initialized:
                new.keys, new.values, new.is_initialized = old.keys[rows], old.values[rows], True
        return copy
