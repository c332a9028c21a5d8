"""Growing prefixes over the library's own cache: for recurrent and hybrid models, whose state has no positions to mask or truncate.

A state is immutable: continuations use a copy. Works on token ids and hidden states, and knows no layer type by
its name. Knows nothing of heads, rewards, methods or text.
"""

import copy
from collections.abc import Iterable, Mapping, Sequence
from itertools import groupby
from typing import Any, NamedTuple

import torch
from torch import Tensor
from transformers.cache_utils import Cache

from rgtg.models.prefixes.backbone import Backbone
from rgtg.models.prefixes.growing import Fed, GrowingRows, Siblings
from rgtg.system.stopping import check_stopped

MAX_MARKS = 4  # states per slot that are kept for truncation: the first and the latest


class State(NamedTuple):
    """State of a model after `length` tokens: a row of a cache, and `last` = (hidden, row, column) of the last token."""

    cache: Cache
    row: int
    length: int
    last: tuple[Tensor, int, int]


class GrowingStates(GrowingRows):
    """Batch of growing prefixes, each with its own state.

    Slots of equal length share a forward; candidates are rows of one token over copies of the state. Truncation returns to a stored state and
    feeds the tokens after it again.
    """

    def __init__(self, backbone: Backbone, texts: Sequence[Sequence[int]], reserve: int = 64):
        self._states: list[State | None] = [None] * len(texts)
        self._marks: list[list[State]] = [[] for _ in texts]  # in ascending order of length
        self._wide: dict[int, Cache] = {}  # cache of the candidates of a slot's last forward
        super().__init__(backbone, texts, reserve)

    def truncate(self, slot: int, length: int) -> None:
        super().truncate(slot, length)
        self._marks[slot] = [mark for mark in self._marks[slot] if mark.length <= length]
        state = self._states[slot]
        if state is not None and state.length > length:
            self._states[slot] = state = self._marks[slot][-1] if self._marks[slot] else None
        if state is not None and state.length == length:  # no token has to be fed again
            self._cached[slot], self._last[slot] = length, state.last

    def disable_cache(self) -> None:
        super().disable_cache()
        self._states, self._marks = [None] * len(self.texts), [[] for _ in self.texts]
        self._wide.clear()

    def _take(self, slot: int, source: int) -> None:
        self._states[slot] = State(self._wide[slot], source, len(self.texts[slot]) + 1, self._last[slot])

    def _copy_kept(self, pairs: Sequence[tuple[int, int]]) -> None:
        before = {a: (self._states[a], list(self._marks[a])) for a, _ in pairs}
        for a, b in pairs:
            self._states[b], self._marks[b] = before[a][0], list(before[a][1])

    # --- forwards -------------------------------------------------------------------------------------------------

    def _ask(self, slots: list[int], asks: Mapping[int, Sequence[int]]) -> Fed:
        self._siblings.clear()
        self._wide.clear()
        new: dict[int, Tensor] = {}
        of_candidates: dict[int, Tensor] = {}
        for group in self._alike(slot for slot in slots if self._start(slot) < len(self.texts[slot])):
            new |= self._feed_alike(group)
        for group in self._alike(slot for slot in slots if asks[slot]):
            of_candidates |= self._expand_alike(group, asks)
        return self._table(slots, new, of_candidates)

    def _start(self, slot: int) -> int:
        """Number of tokens of a slot that need not be fed again."""
        state = self._states[slot]
        start = state.length if state is not None else 0
        return 0 if self.backbone.strategy == "steps" and len(self.texts[slot]) - start > 1 else start

    def _alike(self, slots: Iterable[int]) -> list[list[int]]:
        """Slots grouped by equal start and equal length."""

        def lengths(slot: int) -> tuple[int, int]:
            return self._start(slot), len(self.texts[slot])

        return [list(group) for _, group in groupby(sorted(slots, key=lengths), lengths)]

    def _feed_alike(self, slots: list[int]) -> dict[int, Tensor]:
        """Feed the pending tokens of slots of equal start and length; returns their hidden states. One forward, or several for a long text if
        the model can continue in blocks."""
        backbone, start, length = self.backbone, self._start(slots[0]), len(self.texts[slots[0]])
        cache = _copied(state for slot in slots if (state := self._states[slot])) if start else backbone.new_cache()
        ids = torch.tensor([self.texts[slot][start:] for slot in slots], device=backbone.device)
        blocks: list[Tensor] = []
        for block in ids.split(length if backbone.strategy == "steps" else self._part // 2, 1):
            if blocks:
                check_stopped()
            blocks.append(backbone.forward(block, None, None, cache))
            self.num_forwards += 1
        hidden = torch.cat(blocks, 1) if len(blocks) > 1 else blocks[0]
        new = {}
        for row, slot in enumerate(slots):
            new[slot] = hidden[row, self._cached[slot] - start :]
            last = (hidden, row, 0) if length - start == 1 else (hidden[row : row + 1, -1:].clone(), 0, 0)
            self._states[slot] = state = State(cache, row, length, last)
            self._last[slot], self._cached[slot] = last, length
            self._fed[slot] += length - start
            if length - start > 1:
                self._marks[slot].append(state)
                del self._marks[slot][1 : 1 - MAX_MARKS]
        return new

    def _expand_alike(self, slots: list[int], asks: Mapping[int, Sequence[int]]) -> dict[int, Tensor]:
        """Hidden states of the candidates of slots of equal length, each fed as a row of one token."""
        cache = _copied(state for slot in slots if (state := self._states[slot]) for _ in asks[slot])
        ids = torch.tensor([[token] for slot in slots for token in asks[slot]], device=self.backbone.device)
        hidden = self.backbone.forward(ids, None, None, cache).transpose(0, 1)  # (1, candidates of all, width)
        self.num_forwards += 1
        of_slots, first = {}, 0
        for slot in slots:
            self._siblings[slot], self._wide[slot] = Siblings(asks[slot], first, hidden, 0, first), cache
            of_slots[slot] = hidden[0, first : first + len(asks[slot])]
            first += len(asks[slot])
            self._fed[slot] += len(asks[slot])
        return of_slots


def _copied(states: Iterable[State]) -> Cache:
    """New cache whose row i is the row of the i-th state. All states have the same length."""
    runs = [list(run) for _, run in groupby(states, lambda state: id(state.cache))]  # neighbours that are rows of the same cache
    caches = [run[0].cache for run in runs]
    samples = [next(tensor for layer in cache.layers for tensor in _tensors(vars(layer))) for cache in caches]
    rows = [torch.tensor([state.row for state in run], device=samples[0].device) for run in runs]

    def joined(parts: list[Any]) -> Any:
        first = parts[0]
        if isinstance(first, dict):
            return {key: joined([part[key] for part in parts]) for key in first}
        if isinstance(first, list | tuple):
            return type(first)(joined(list(items)) for items in zip(*parts, strict=True))
        if not isinstance(first, Tensor) or not first.ndim or first.shape[0] != samples[0].shape[0]:
            return first
        picked = [part.index_select(0, index) for part, index in zip(parts, rows, strict=True)]
        return torch.cat(picked) if len(picked) > 1 else picked[0]

    cache = copy.copy(caches[0])
    cache.layers = []
    for layers in zip(*(cache.layers for cache in caches), strict=True):
        layer = copy.copy(layers[0])
        vars(layer).update(joined([vars(one) for one in layers]))
        cache.layers.append(layer)
    return cache


def _tensors(value: Any) -> Iterable[Tensor]:
    """Tensors with rows in a value of a layer; rows are the first axis."""
    if isinstance(value, Tensor):
        if value.ndim and value.shape[0]:
            yield value
    elif isinstance(value, dict | list | tuple):
        for item in value.values() if isinstance(value, dict) else value:
            yield from _tensors(item)
