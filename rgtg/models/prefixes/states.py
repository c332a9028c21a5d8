"""Growing prefixes over the library's own cache: for recurrent and hybrid models, whose state has no positions to mask or to cut.

A state is never written again: what goes on from it is a copy. Works on token ids and hidden states, and knows no layer type by
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

MAX_MARKS = 4  # states of a slot that are kept for truncation, the first and the latest


class State(NamedTuple):
    """What a model holds of a text of `length` tokens: a row of a cache, and where the hidden state of the last token is."""

    cache: Cache
    row: int
    length: int
    last: tuple[Tensor, int, int]


class GrowingStates(GrowingRows):
    """A batch of growing prefixes, each with a state of its own. Slots that are equally long go through the model together, candidates as
    rows of one token over copies of the state. Truncation goes back to a state that was kept behind a block of tokens, and reads on."""

    def __init__(self, backbone: Backbone, texts: Sequence[Sequence[int]], reserve: int = 64):
        self._states: list[State | None] = [None] * len(texts)
        self._marks: list[list[State]] = [[] for _ in texts]  # the shortest first
        self._wide: dict[int, Cache] = {}  # of the candidates of a slot's last forward
        super().__init__(backbone, texts, reserve)

    def truncate(self, slot: int, length: int) -> None:
        super().truncate(slot, length)
        self._marks[slot] = [mark for mark in self._marks[slot] if mark.length <= length]
        state = self._states[slot]
        if state is not None and state.length > length:
            self._states[slot] = state = self._marks[slot][-1] if self._marks[slot] else None
            if state is not None and state.length == length:  # nothing is to be read again
                self._cached[slot], self._last[slot] = length, state.last

    def distrust(self) -> None:
        super().distrust()
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
        found: dict[int, Tensor] = {}
        for group in self._alike(slot for slot in slots if self._start(slot) < len(self.texts[slot])):
            new |= self._feed_alike(group)
        for group in self._alike(slot for slot in slots if asks[slot]):
            found |= self._expand_alike(group, asks)
        return self._table(slots, new, found)

    def _start(self, slot: int) -> int:
        """The tokens of a slot that need not be read again."""
        state = self._states[slot]
        start = state.length if state is not None else 0
        return 0 if self.backbone.strategy == "steps" and len(self.texts[slot]) - start > 1 else start

    def _alike(self, slots: Iterable[int]) -> list[list[int]]:
        """Slots that go on from one length to another together."""

        def lengths(slot: int) -> tuple[int, int]:
            return self._start(slot), len(self.texts[slot])

        return [list(group) for _, group in groupby(sorted(slots, key=lengths), lengths)]

    def _feed_alike(self, slots: list[int]) -> dict[int, Tensor]:
        """What is pending of slots that are alike; the hidden states of what was pending. One forward, or several where a text is long
        and the model reads on in blocks."""
        backbone, start, length = self.backbone, self._start(slots[0]), len(self.texts[slots[0]])
        cache = _copied(state for slot in slots if (state := self._states[slot])) if start else backbone.new_cache()
        ids = torch.tensor([self.texts[slot][start:] for slot in slots], device=backbone.device)
        read: list[Tensor] = []
        for block in ids.split(length if backbone.strategy == "steps" else self._part // 2, 1):
            if read:
                check_stopped()
            read.append(backbone.forward(block, None, None, cache))
            self.num_forwards += 1
        hidden = torch.cat(read, 1) if len(read) > 1 else read[0]
        new = {}
        for row, slot in enumerate(slots):
            new[slot] = hidden[row, self._cached[slot] - start :]
            last = (hidden, row, 0) if length - start == 1 else (hidden[row : row + 1, -1:].clone(), 0, 0)
            self._states[slot] = state = State(cache, row, length, last)
            self._last[slot], self._cached[slot] = last, length
            if length - start > 1:
                self._marks[slot].append(state)
                del self._marks[slot][1 : 1 - MAX_MARKS]
        return new

    def _expand_alike(self, slots: list[int], asks: Mapping[int, Sequence[int]]) -> dict[int, Tensor]:
        """The hidden states of the candidates of slots that are equally long, each as a row of one token."""
        cache = _copied(state for slot in slots if (state := self._states[slot]) for _ in asks[slot])
        ids = torch.tensor([[token] for slot in slots for token in asks[slot]], device=self.backbone.device)
        hidden = self.backbone.forward(ids, None, None, cache).transpose(0, 1)  # (1, candidates of all, width)
        self.num_forwards += 1
        found, first = {}, 0
        for slot in slots:
            self._siblings[slot], self._wide[slot] = Siblings(asks[slot], first, hidden, 0, first), cache
            found[slot] = hidden[0, first : first + len(asks[slot])]
            first += len(asks[slot])
        return found


def _copied(states: Iterable[State]) -> Cache:
    """A cache of its own: row i is that of the i-th state. All of them are of one length."""
    runs = [list(run) for _, run in groupby(states, lambda state: id(state.cache))]  # neighbours that are rows of the same cache
    caches = [run[0].cache for run in runs]
    some = [next(tensor for layer in cache.layers for tensor in _tensors(vars(layer))) for cache in caches]
    rows = [torch.tensor([state.row for state in run], device=some[0].device) for run in runs]

    def joined(parts: list[Any]) -> Any:
        first = parts[0]
        if isinstance(first, dict):
            return {key: joined([part[key] for part in parts]) for key in first}
        if isinstance(first, list | tuple):
            return type(first)(joined(list(some)) for some in zip(*parts, strict=True))
        if not isinstance(first, Tensor) or not first.ndim or first.shape[0] != some[0].shape[0]:
            return first
        picked = [part.index_select(0, index) for part, index in zip(parts, rows, strict=True)]
        return torch.cat(picked) if len(picked) > 1 else picked[0]

    made = copy.copy(caches[0])
    made.layers = []
    for layers in zip(*(cache.layers for cache in caches), strict=True):
        layer = copy.copy(layers[0])
        vars(layer).update(joined([vars(one) for one in layers]))
        made.layers.append(layer)
    return made


def _tensors(value: Any) -> Iterable[Tensor]:
    """Every tensor of a layer that has rows: its first axis."""
    if isinstance(value, Tensor):
        if value.ndim and value.shape[0]:
            yield value
    elif isinstance(value, dict | list | tuple):
        for some in value.values() if isinstance(value, dict) else value:
            yield from _tensors(some)
