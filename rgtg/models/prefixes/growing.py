"""Growing prefixes: slots of token ids with the cache of a causal model.

The token ids are authoritative and the cache follows them: tokens not yet in the cache are *pending* and go in with the next forward.
Works on token ids and hidden states. Knows nothing of heads, rewards, methods or text.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple, Protocol

import torch
from torch import Tensor

from rgtg.models.prefixes.backbone import Backbone, close, encode, encode_all
from rgtg.models.prefixes.cache import RowCache
from rgtg.system.stopping import check_stopped

NONE: tuple[int, ...] = ()
PART, PART_ON_CPU = 16_384, 1_024  # maximum positions of a forward over several slots; half as many for one slot
KEPT_LENGTH = 64  # of a longer forward only the last state is kept


@dataclass(frozen=True)
class Fed:
    """Output of a forward: `hidden` (rows, length, width). Row i is slot `slots[i]`: its `num_new[i]` pending tokens first, its candidates from
    column `first[i]` on."""

    hidden: Tensor
    slots: list[int]
    num_new: list[int]
    first: list[int]


class Siblings(NamedTuple):
    """Candidates of a slot's last forward and their cache entries, so that appending one of them costs no forward."""

    ids: Sequence[int]
    source: int  # cache entry of the first one, or its index among the expanded rows
    hidden: Tensor
    row: int
    first: int


class Watcher(Protocol):
    """What follows the rows: it learns of every change of a text, before the change, and of every forward, with what was asked."""

    def appending(self, slot: int, token_id: int) -> None: ...
    def copying(self, sources: Sequence[int], targets: Sequence[int]) -> None: ...
    def truncating(self, slot: int, length: int) -> None: ...
    def fed(self, asks: Mapping[int, Sequence[int]], fed: Fed) -> None: ...
    def cache_disabled(self) -> None: ...


class GrowingRows:
    """Batch of growing prefixes over one backbone, one slot per row. A slot that is not asked for costs nothing."""

    def __init__(self, backbone: Backbone, texts: Sequence[Sequence[int]], reserve: int = 64):
        """One slot per text; equal texts are encoded once, here. `reserve`: number of tokens expected to come."""
        self.backbone = backbone
        self.texts = [list(text) for text in texts]
        if not self.texts or not all(self.texts):
            raise ValueError("every row needs at least one token to start from")
        self.num_forwards = self.num_positions = self.num_check_forwards = 0
        self._fed = [0] * len(self.texts)  # positions that were fed for each slot, without padding
        self._read_as = list(zip(range(len(self.texts)), map(len, self.texts), strict=True))  # slot that encoded its first text, and its length
        self._cached = [0] * len(self.texts)  # tokens of each text that are in the cache
        self._place = list(range(len(self.texts)))  # row of each slot in the cache
        self._cache = RowCache(backbone.num_layers, len(self.texts), max(map(len, self.texts)) + reserve)
        self.watchers: list[Watcher] = []
        self._siblings: dict[int, Siblings] = {}
        self._moves: list[tuple[int, int, int]] = []  # (slot, source, target): entries of candidates that were appended
        self._last: dict[int, tuple[Tensor, int, int]] = {}  # slot -> hidden, row, column of its last token
        if backbone.strategy != "reencode":
            self._read_equal_texts_once()

    @torch.inference_mode()
    def _read_equal_texts_once(self) -> None:
        first: dict[tuple[int, ...], int] = {}
        source = [first.setdefault(tuple(text), slot) for slot, text in enumerate(self.texts)]
        others = [slot for slot, of in enumerate(source) if of != slot]
        if others:
            self._read_as = [(of, length) for of, (_, length) in zip(source, self._read_as, strict=True)]
            self.forward(dict.fromkeys((source[slot] for slot in others), NONE))
            self.copy([source[slot] for slot in others], others)

    # --- the text -------------------------------------------------------------------------------------------------

    def append(self, slot: int, token_id: int) -> None:
        """Append one token to a slot. A candidate of the last forward costs no further one."""
        for watcher in self.watchers:
            watcher.appending(slot, token_id)
        siblings, text = self._siblings.pop(slot, None), self.texts[slot]
        self._last.pop(slot, None)
        if siblings is not None and token_id in siblings.ids:
            index = list(siblings.ids).index(token_id)
            self._last[slot] = siblings.hidden, siblings.row, siblings.first + index
            self._take(slot, siblings.source + index)
            self._cached[slot] += 1
        text.append(token_id)

    def truncate(self, slot: int, length: int) -> None:
        """Cut a slot to `length` tokens, at least one. Raises ValueError for a length outside of the text."""
        text = self.texts[slot]
        if not 1 <= length <= len(text):
            raise ValueError(f"slot {slot} has {len(text)} tokens and cannot be cut to {length}")
        for watcher in self.watchers:
            watcher.truncating(slot, length)
        if length < len(text):
            del text[length:]
            self._cached[slot] = min(self._cached[slot], length - 1)  # the last token is fed again for its hidden state
            self._siblings.pop(slot, None)
            self._last.pop(slot, None)

    @torch.inference_mode()
    def copy(self, sources: Sequence[int], targets: Sequence[int]) -> None:
        """Replace each slot `targets[i]` by a copy of slot `sources[i]` as before the call; entries that both share are not copied."""
        pairs = [(a, b) for a, b in zip(sources, targets, strict=True) if a != b]
        if not pairs:
            return
        for watcher in self.watchers:
            watcher.copying(sources, targets)
        self._move_taken()
        texts, cached = {a: list(self.texts[a]) for a, _ in pairs}, {a: self._cached[a] for a, _ in pairs}
        last = {a: self._last.get(a) for a, _ in pairs}
        if self.backbone.strategy != "reencode":
            self._copy_kept(pairs)
        for a, b in pairs:
            self.texts[b], self._cached[b] = list(texts[a]), cached[a]
            self._siblings.pop(b, None)
            self._last.pop(b, None)
            if (state := last[a]) is not None:
                self._last[b] = state

    def _copy_kept(self, pairs: Sequence[tuple[int, int]]) -> None:
        start, stop = min(self._num_shared(a, b) for a, b in pairs), max(self._cached[a] for a, _ in pairs)
        if start < stop:
            self._cache.copy([self._place[a] for a, _ in pairs], [self._place[b] for _, b in pairs], start, stop)

    def _num_shared(self, a: int, b: int) -> int:
        """Number of leading cache entries that two slots have in common."""
        shorter = min(self._cached[a], self._cached[b])
        if self.texts[a][:shorter] == self.texts[b][:shorter]:
            return shorter
        return next(i for i, (x, y) in enumerate(zip(self.texts[a], self.texts[b], strict=False)) if x != y)

    def is_fed(self, slot: int) -> bool:
        """Whether a slot has no pending token."""
        return self._cached[slot] == len(self.texts[slot])

    def positions_of(self, slots: Iterable[int]) -> int:
        """Positions fed for these slots, candidates included, as if they were alone here: a text shared with others counts."""
        slots = set(slots)
        return sum([self._fed[slot] for slot in slots]) + sum([length for of, length in {self._read_as[slot] for slot in slots} if of not in slots])

    # --- states of the text ---------------------------------------------------------------------------------------

    @property
    def _part(self) -> int:
        return PART_ON_CPU if self.backbone.device.type == "cpu" else PART

    def in_parts(self, asks: Mapping[int, Sequence[int]]) -> list[Mapping[int, Sequence[int]]]:
        """`asks` split by slots into forwards of moderate size; neighbouring rows of the cache stay together."""
        parts: list[dict[int, Sequence[int]]] = [{}]
        num_positions = 0
        for slot in sorted(asks, key=self._place.__getitem__):
            length, k = len(self.texts[slot]), len(asks[slot])
            positions = length * max(1, k) if self.backbone.strategy == "reencode" else length - self._cached[slot] + k
            if parts[-1] and num_positions + positions > self._part:
                parts.append({})
                num_positions = 0
            parts[-1][slot] = asks[slot]
            num_positions += positions
        return list(parts)

    @torch.inference_mode()
    def forward(self, asks: Mapping[int, Sequence[int]]) -> Fed | None:
        """Feed the pending tokens of each slot in `asks` and, behind them, its candidates; None if there is nothing to feed.

        Candidates are at the position after the text and see neither one another nor other slots.
        """
        slots = [slot for slot, ids in asks.items() if ids or not self.is_fed(slot)]
        if not slots:
            return None
        self._stay_in_reach(slots, asks)
        fed = self._reencode(slots, asks) if self.backbone.strategy == "reencode" else self._ask(slots, asks)
        for watcher in self.watchers:
            watcher.fed(asks, fed)
        return fed

    @torch.inference_mode()
    def last(self, slots: Sequence[int]) -> Tensor:
        """Hidden state of each slot's last token, (slots, width); pending tokens are fed."""
        self.forward(dict.fromkeys([slot for slot in slots if slot not in self._last or not self.is_fed(slot)], NONE))
        states = [self._last[slot] for slot in slots]
        hidden, _, column = states[0]
        if [(id(h), row, c) for h, row, c in states] == [(id(hidden), row, column) for row in range(hidden.shape[0])]:
            return hidden[:, column]
        return torch.stack([h[row, c] for h, row, c in states])

    @torch.inference_mode()
    def holds(self, slot: int) -> bool:
        """Whether the cached state of the slot's last token equals that of a forward without a cache, which is counted separately. Nothing is
        compared in int8, whose cache was checked before it was quantised."""
        if self.backbone.strategy == "reencode" or self.backbone.rounds or (self.is_fed(slot) and slot not in self._last):
            return True
        counts, fed = (self.num_forwards, self.num_positions), list(self._fed)
        cached = self.last([slot])[0]
        self.num_check_forwards += self.num_forwards - counts[0] + 1
        (self.num_forwards, self.num_positions), self._fed = counts, fed
        return close(cached, encode(self.backbone, [self.texts[slot]])[0])

    def disable_cache(self) -> None:
        """Disable the cache from here on: every text is encoded from its first token again."""
        self.backbone = replace(self.backbone, strategy="reencode")
        self._cached = [0] * len(self.texts)
        for state in (self._siblings, self._moves, self._last):
            state.clear()
        for watcher in self.watchers:
            watcher.cache_disabled()

    # --- forwards -------------------------------------------------------------------------------------------------

    def _stay_in_reach(self, slots: Sequence[int], asks: Mapping[int, Sequence[int]]) -> None:
        """Switch to re-encoding once a slot grows beyond `reach`; everything computed before stays correct."""
        width = max(len(self.texts[slot]) - self._cached[slot] + len(asks[slot]) for slot in slots)
        if self.backbone.reach is not None and max(self._cached) + width > self.backbone.reach:
            self.backbone = replace(self.backbone, strategy="reencode", reach=None)
            self._siblings.clear()
            self._moves.clear()

    def _ask(self, slots: list[int], asks: Mapping[int, Sequence[int]]) -> Fed:
        slots = self._side_by_side(slots)
        return self._feed(slots, asks) if self.backbone.strategy == "siblings" else self._feed_and_expand(slots, asks)

    def _side_by_side(self, slots: list[int]) -> list[int]:
        """Move the slots to neighbouring rows of the cache; returns them in the order of these rows."""
        self._move_taken()
        self._siblings.clear()  # their entries are overwritten from here on
        slots = sorted(slots, key=self._place.__getitem__)
        places = [self._place[slot] for slot in slots]
        if places[-1] - places[0] == len(places) - 1:
            return slots
        slot_of_row = {row: slot for slot, row in enumerate(self._place)}
        free = [row for row in range(len(slots)) if slot_of_row[row] not in set(slots)]
        for slot in slots:
            if (old := self._place[slot]) >= len(slots):
                new = free.pop()
                self._cache.swap(old, new, max(self._cached))
                self._place[slot], self._place[slot_of_row[new]] = new, old
        return sorted(slots, key=self._place.__getitem__)

    def _take(self, slot: int, source: int) -> None:
        """Note that the candidate at `source` is the next token of a slot."""
        self._moves.append((slot, source, len(self.texts[slot])))

    def _move_taken(self) -> None:
        if self._moves:
            moves, self._moves = [(self._place[slot], source, target) for slot, source, target in self._moves], []
            self._cache.keep(moves)

    def _feed(self, slots: list[int], asks: Mapping[int, Sequence[int]], expand: bool = False) -> Fed:
        """Feed pending tokens and, unless `expand` leaves them to `_expand`, candidates as siblings: in one forward, or for a long text in
        several, between which generation can stop."""
        limit, fed = self._part // 2, []
        while max(len(self.texts[slot]) - self._cached[slot] for slot in slots) > limit:
            fed.append(self._feed_block(slots, [NONE] * len(slots), limit))
            check_stopped()
        fed.append(self._feed_block(slots, [NONE if expand else asks[slot] for slot in slots], limit))
        return _joined(fed) if len(fed) > 1 else fed[0]

    def _feed_block(self, slots: list[int], candidates: list[Sequence[int]], limit: int) -> Fed:
        """Feed the next pending tokens of each slot, at most `limit`, and its candidates, in one forward."""
        backbone, cache = self.backbone, self._cache
        blocks = [self.texts[slot][self._cached[slot] :][:limit] for slot in slots]
        lengths, pending = [self._cached[slot] for slot in slots], list(map(len, blocks))
        high, width = max(lengths), max(len(block) + len(ids) for block, ids in zip(blocks, candidates, strict=True))
        cache.begin(self._place[slots[0]], high, high + width)
        pad = [backbone.pad_id] * width
        ids = [(block + [*siblings] + pad)[:width] for block, siblings in zip(blocks, candidates, strict=True)]
        mask, positions = self._mask(lengths, high, pending, width)
        hidden = backbone.forward(torch.tensor(ids, device=backbone.device), mask, positions, cache)
        self.num_forwards, self.num_positions = self.num_forwards + 1, self.num_positions + len(slots) * width
        moves = [
            (self._place[slot], high + j, length + j)
            for slot, length, num in zip(slots, lengths, pending, strict=True)
            if length < high
            for j in range(num)
        ]  # entries of a shorter text were written at `high`; they move down to its end
        if moves:
            cache.keep(moves)
        for row, (slot, num, siblings) in enumerate(zip(slots, pending, candidates, strict=True)):
            self._cached[slot] += num
            self._fed[slot] += num + len(siblings)
            if num and self.is_fed(slot):
                self._last[slot] = (hidden, row, num - 1) if num <= KEPT_LENGTH else (hidden[row : row + 1, num - 1 : num].clone(), 0, 0)
            if siblings:
                self._siblings[slot] = Siblings(siblings, high + num, hidden, row, num)
        return Fed(hidden, slots, pending, pending)

    def _mask(self, lengths: list[int], high: int, pending: list[int], width: int) -> tuple[Tensor | dict[str, Tensor] | None, Tensor]:
        """Mask and positions of the new tokens."""
        backbone, device = self.backbone, self.backbone.device
        if backbone.strategy == "rows":  # alibi takes positions from a 2-D mask, holes and all
            slot, column = torch.arange(high, device=device), torch.arange(width, device=device)
            old = slot < torch.tensor(lengths, device=device)[:, None]
            new = column < torch.tensor(pending, device=device)[:, None].clamp(min=1)
            mask = torch.cat([old, new], 1).long()
            return mask, (mask.cumsum(1) - 1).clamp(min=0)[:, high:]
        alike = min(lengths) == high and min(pending) == max(pending) and high + width <= backbone.shortest_window
        if alike and pending[0] == width and (high == 0 or width == 1):  # every new position sees all before it: the fast kernel needs no mask
            return None, torch.arange(high, high + width, device=device)[None].expand(len(lengths), -1)
        if alike and len(backbone.windows) == 1:
            return backbone.even_mask(len(lengths), high, pending[0], width)
        return backbone.mask(torch.tensor(lengths, device=device), high, torch.tensor(pending, device=device), width)

    def _feed_and_expand(self, slots: list[int], asks: Mapping[int, Sequence[int]]) -> Fed:
        """Feed pending tokens, then candidates as rows of one token over the cache of their slot, which is expanded one layer at a time."""
        behind = [slot for slot in slots if not self.is_fed(slot)]
        fed = self._feed(self._side_by_side(behind), asks, expand=True) if behind else None
        asked = [slot for slot in slots if asks[slot]]
        if not asked:
            assert fed is not None
            return fed
        asked = self._side_by_side(asked)
        hidden = self._expand(asked, asks)  # (asked, k, width)
        if fed is None:
            return Fed(hidden, asked, [0] * len(asked), [0] * len(asked))
        new = {slot: fed.hidden[row, :num] for row, (slot, num) in enumerate(zip(fed.slots, fed.num_new, strict=True))}
        order = [*fed.slots, *(slot for slot in asked if slot not in new)]
        return self._table(order, new, {slot: hidden[row, : len(asks[slot])] for row, slot in enumerate(asked)})

    def _table(self, slots: list[int], new: Mapping[int, Tensor], candidates: Mapping[int, Tensor]) -> Fed:
        """One `Fed` from the states (number, width) of each slot's new tokens and of its candidates."""
        num_new = [len(new[slot]) if slot in new else 0 for slot in slots]
        longest, k = max(num_new), max(map(len, candidates.values()), default=0)
        first = next(iter((new or candidates).values()))
        hidden = first.new_zeros(len(slots), longest + k, first.shape[1])
        for row, slot in enumerate(slots):
            if slot in new:
                hidden[row, : num_new[row]] = new[slot]
            if slot in candidates:
                hidden[row, longest : longest + len(candidates[slot])] = candidates[slot]
        return Fed(hidden, slots, num_new, [longest] * len(slots))

    def _expand(self, slots: list[int], asks: Mapping[int, Sequence[int]]) -> Tensor:
        backbone, cache = self.backbone, self._cache
        k, device = max(len(asks[slot]) for slot in slots), backbone.device
        lengths = torch.tensor([self._cached[slot] for slot in slots], device=device)
        high = int(lengths.max())
        cache.begin(self._place[slots[0]], high, high + 1, expand=k)
        old = torch.arange(high, device=device) < lengths[:, None]
        mask = torch.cat([old, old.new_ones(len(slots), 1)], 1).long().repeat_interleave(k, 0)
        ids = [[token] for slot in slots for token in (*asks[slot], *[backbone.pad_id] * k)[:k]]
        try:
            hidden = backbone.forward(torch.tensor(ids, device=device), mask, lengths.repeat_interleave(k)[:, None], cache)
        finally:
            cache.expand = 0
        self.num_forwards, self.num_positions = self.num_forwards + 1, self.num_positions + len(slots) * k
        hidden = hidden.view(len(slots), k, -1)
        for row, slot in enumerate(slots):
            self._siblings[slot] = Siblings(asks[slot], row * k, hidden, row, 0)
            self._fed[slot] += len(asks[slot])
        return hidden

    def _reencode(self, slots: list[int], asks: Mapping[int, Sequence[int]]) -> Fed:
        """Encode every text, with each candidate, from its first token, without a cache."""
        texts = [self.texts[slot] + [*more] for slot in slots for more in ([[token] for token in asks[slot]] or [[]])]
        states, row = encode_all(self.backbone, texts), 0
        self.num_forwards += 1
        new, candidates = {}, {}
        for slot in slots:
            length, k = len(self.texts[slot]), len(asks[slot])
            new[slot] = states[row, self._cached[slot] : length]
            if k:
                candidates[slot] = states[row : row + k, length]
            self._last[slot] = states[row : row + 1, length - 1 : length].clone(), 0, 0
            self._cached[slot] = length
            self._fed[slot] += (length + 1) * k or length
            row += max(1, k)
        return self._table(slots, new, candidates)


def _joined(fed: Sequence[Fed]) -> Fed:
    """One `Fed` from several consecutive forwards of the same slots."""
    *before, last = fed
    rows = [torch.cat([*(part.hidden[row, : part.num_new[row]] for part in before), last.hidden[row]]) for row in range(len(last.slots))]
    num_new = [sum(numbers) for numbers in zip(*(part.num_new for part in fed), strict=True)]
    return Fed(torch.nn.utils.rnn.pad_sequence(rows, batch_first=True), last.slots, num_new, num_new)
