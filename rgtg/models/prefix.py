"""Growing prefixes: rows of token ids and what a causal model has computed of them.

The text is the truth and the cache trails it: what is not yet in the cache is *pending* and goes in with the next forward.
Works on token ids and hidden states. Knows nothing of heads, rewards, methods or text.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache

import torch
from torch import Tensor
from transformers.cache_utils import get_layer_types_and_kwargs

from rgtg.models.cache import RowCache

STRATEGIES = ("siblings", "rows", "reencode")


@dataclass(frozen=True)
class Backbone:
    """A causal model up to its last hidden state, and how its prefixes can be grown.

    `forward(input_ids, attention_mask, position_ids, past_key_values, use_cache)` gives (rows, length, width).
    `windows` is the attention window of each layer type, None for full attention. `strategy` says how candidates
    are valued: as `siblings` in one forward, as expanded `rows`, or by `reencode` without a cache.
    """

    forward: Callable[..., Tensor]
    num_layers: int
    windows: tuple[tuple[str, int | None], ...]
    device: torch.device
    dtype: torch.dtype
    pad_id: int
    strategy: str = "siblings"

    @classmethod
    def of(cls, model: torch.nn.Module, forward: Callable[..., Tensor], pad_id: int, strategy: str = "siblings") -> "Backbone":
        config = model.config.get_text_config()
        types, kwargs = get_layer_types_and_kwargs(config)  # undocumented; works without `layer_types` in the config too
        windows = {t: k.get("sliding_window") for t, k in zip(types, kwargs, strict=True)}
        return cls(forward, len(types), tuple(windows.items()), model.device, model.dtype, pad_id, strategy)

    @cached_property
    def shortest_window(self) -> float:
        return min((window for _, window in self.windows if window), default=float("inf"))

    def even_mask(self, num_rows: int, length: int, pending: int, width: int) -> tuple[Tensor, Tensor]:
        """The mask where all rows are alike, one for all of them (1, 1, width, length + width); and positions (rows, width)."""
        block, offsets = _block(pending, width, self.dtype, self.device)
        mask = torch.zeros(1, 1, width, length + width, dtype=self.dtype, device=self.device)
        mask[..., length:] = block
        return mask, (offsets + length).expand(num_rows, -1)

    def mask(self, lengths: Tensor, high: int, pending: Tensor, width: int) -> tuple[Tensor | dict[str, Tensor], Tensor]:
        """What each new position sees, additive (rows, 1, width, high + width), one a layer type if there are several; and positions.

        The first `pending[r]` columns of row r continue its text causally; all columns after are siblings: they see the
        text and themselves, at the position that follows the text.
        """
        column, slot = torch.arange(width, device=self.device), torch.arange(high, device=self.device)
        positions = lengths[:, None] + torch.minimum(column[None], pending[:, None])
        old = (slot < lengths[:, None])[:, None].expand(-1, width, -1)
        new = (column[None, None] <= column[None, :, None]) & (column[None] < pending[:, None])[:, None]
        new = new | torch.eye(width, dtype=torch.bool, device=self.device)  # padding sees itself: a row that sees nothing gives NaN
        masks = {}
        for name, window in self.windows:
            a, b = old, new
            if window:  # a query at p sees p - window + 1 … p
                a = a & (positions[..., None] - slot < window)
                b = b & (positions[:, :, None] - positions[:, None] < window)
            visible = torch.cat([a, b], -1)[:, None]
            # additive and float: a boolean mask is silently wrong under eager attention
            masks[name] = torch.zeros(visible.shape, dtype=self.dtype, device=self.device).masked_fill_(~visible, torch.finfo(self.dtype).min)
        return (masks if len(masks) > 1 else next(iter(masks.values()))), positions


@lru_cache(maxsize=256)
def _block(pending: int, width: int, dtype: torch.dtype, device: torch.device) -> tuple[Tensor, Tensor]:
    """What new positions see of one another, additive (width, width), and how far each lies behind the text (1, width)."""
    column = torch.arange(width, device=device)
    visible = ((column[None] <= column[:, None]) & (column[None] < pending)) | torch.eye(width, dtype=torch.bool, device=device)
    return torch.zeros(width, width, dtype=dtype, device=device).masked_fill_(~visible, torch.finfo(dtype).min), column.clamp(max=pending)[None]


class GrowingRows:
    """Rows of text over one backbone. Every call takes and returns all rows; a row that is not active costs nothing.

    `last()` is the hidden state of each row's last token, `value(candidate_ids)` that of each candidate put after it.
    """

    def __init__(self, backbone: Backbone, texts: Sequence[Sequence[int]], reserve: int = 64):
        """One row a text; equal texts are computed once."""
        self.backbone = backbone
        self.texts = [list(text) for text in texts]
        if not self.texts or not all(self.texts):
            raise ValueError("every row needs at least one token to start from")
        self.num_forwards = 0
        self.active = torch.ones(len(self.texts), dtype=torch.bool)
        self._reserve = reserve
        self._reset(len(self.texts), max(map(len, self.texts)) + reserve)
        self._prefill()

    def _reset(self, num_rows: int, capacity: int) -> None:
        self._cached = [0] * num_rows  # tokens of each row's text that are in the cache
        self._place = list(range(num_rows))  # where a row lies in the cache; active rows come first
        self._cache = RowCache(self.backbone.num_layers, num_rows, capacity)
        self._last: Tensor | None = None  # (rows, width), valid where nothing is pending
        self._siblings: tuple[list[list[int]], Tensor, int] | None = None  # ids, hidden, slot of the first

    @torch.inference_mode()
    def _prefill(self) -> None:
        if self.backbone.strategy == "reencode":
            return
        unique = sorted({tuple(text) for text in self.texts})
        if len(unique) == len(self.texts):
            return
        first = GrowingRows(self.backbone, unique, self._reserve)
        first._feed()
        index = [unique.index(tuple(text)) for text in self.texts]
        rows = torch.tensor(index, device=self.backbone.device)
        self._cache = first._cache.select(torch.tensor([first._place[i] for i in index], device=self.backbone.device))
        self._last, self._cached = first._last[rows], [first._cached[i] for i in index]
        self.num_forwards += first.num_forwards

    @property
    def num_rows(self) -> int:
        return len(self.texts)

    # --- the text -------------------------------------------------------------------------------------------------

    @torch.inference_mode()
    def append(self, token_ids: Sequence[int]) -> None:
        """One token to each active row. A candidate that was just valued is taken over: it costs no forward."""
        if self._siblings is not None and self.backbone.strategy != "reencode":
            self._keep(token_ids)
        for row, token in enumerate(token_ids):
            if self.active[row]:
                self.texts[row].append(int(token))
        self._siblings = None

    def truncate(self, lengths: Sequence[int]) -> None:
        """Each row forgets what lies beyond its length; at least one token stays."""
        for row, length in enumerate(lengths):
            if not 1 <= length <= len(self.texts[row]):
                raise ValueError(f"row {row} has {len(self.texts[row])} tokens and cannot be cut to {length}")
            if length < len(self.texts[row]):
                del self.texts[row][length:]
                self._cached[row] = min(self._cached[row], length - 1)  # the last token goes in again, for its hidden state
        self._siblings = None

    @torch.inference_mode()
    def fork(self, rows: Sequence[int]) -> "GrowingRows":
        """New prefixes whose row i is a copy of our row `rows[i]`."""
        copy = object.__new__(GrowingRows)
        copy.backbone, copy._reserve, copy.num_forwards = self.backbone, self._reserve, 0
        copy.texts = [list(self.texts[row]) for row in rows]
        copy.active = torch.ones(len(copy.texts), dtype=torch.bool)
        copy._reset(len(copy.texts), self._cache.capacity)
        copy._cached = [self._cached[row] for row in rows]
        copy._cache = self._cache.select(torch.tensor([self._place[row] for row in rows], device=self.backbone.device))
        copy._last = None if self._last is None else self._last[list(rows)]
        return copy

    @torch.inference_mode()
    def finish(self, rows: Sequence[int]) -> None:
        """These rows take no part in later forwards; their text stays."""
        for row in rows:
            if not self.active[row]:
                continue
            end = int(self.active.sum()) - 1  # the last place of the active rows
            here, other = self._place[row], self._place.index(end)
            if here != end:
                self._cache.swap(here, end, max(self._cached))
                self._place[row], self._place[other] = end, here
            self.active[row] = False
        self._siblings = None

    # --- what the model says of it --------------------------------------------------------------------------------

    @torch.inference_mode()
    def last(self) -> Tensor:
        """(rows, width): hidden state of each row's last token; what a row was when it became inactive stays."""
        if self.backbone.strategy == "reencode":
            return self._reencode(None)[:, 0]
        self._feed()
        return self._last

    @torch.inference_mode()
    def value(self, candidate_ids: Sequence[Sequence[int]]) -> Tensor:
        """(rows, k) ids -> (rows, k, width): hidden state of each candidate behind its row's text."""
        if self.backbone.strategy == "siblings":
            return self._forward(candidate_ids)
        if self.backbone.strategy == "rows":
            self._feed()
            return self._expand(candidate_ids)
        return self._reencode(candidate_ids)

    # --- forwards -------------------------------------------------------------------------------------------------

    def _active_rows(self) -> list[int]:
        """Active rows in the order of their places."""
        return sorted((row for row in range(self.num_rows) if self.active[row]), key=self._place.__getitem__)

    def _feed(self) -> None:
        if any(self._cached[row] < len(self.texts[row]) for row in range(self.num_rows) if self.active[row]):
            self._forward(None)

    def _forward(self, candidate_ids: Sequence[Sequence[int]] | None) -> Tensor:
        """One forward of what is pending and, behind it, the candidates as siblings: hidden (rows, k, width)."""
        backbone, cache, rows = self.backbone, self._cache, self._active_rows()
        blocks = [self.texts[row][self._cached[row] :] for row in rows]
        num_siblings = len(candidate_ids[0]) if candidate_ids is not None else 0
        longest = max(map(len, blocks))
        inputs = [
            block + (list(candidate_ids[row]) if num_siblings else []) + [backbone.pad_id] * (longest - len(block))
            for row, block in zip(rows, blocks, strict=True)
        ]
        lengths = [self._cached[row] for row in rows]
        high, width = max(lengths), longest + num_siblings
        cache.high = high
        cache.reserve(high + width)
        ids = torch.tensor(inputs, device=backbone.device)
        pending = [len(block) for block in blocks]
        even = min(lengths) == high and min(pending) == longest
        hidden = self._run(ids, lengths, high, pending, width, num_siblings, even)
        self.num_forwards += 1
        if even and rows == list(range(self.num_rows)):  # nothing to gather, nothing to move
            if longest:
                self._last = hidden[:, longest - 1].clone()
            found = hidden[:, longest:]
        else:
            found = self._gather(hidden, rows, lengths, pending, high, num_siblings)
        for row in rows:
            self._cached[row] = len(self.texts[row])
        if num_siblings:
            slots = [0] * self.num_rows
            for row, block in zip(rows, blocks, strict=True):
                slots[row] = high + len(block)
            self._siblings = [list(map(int, ids)) for ids in candidate_ids], found, slots
        return found

    def _gather(self, hidden: Tensor, rows: list[int], lengths: list[int], pending: list[int], high: int, num_siblings: int) -> Tensor:
        """Takes each row's last pending state and its siblings, which stand right behind its own pending block."""
        device = self.backbone.device
        if self._last is None:
            self._last = hidden.new_zeros(self.num_rows, hidden.shape[-1])
        pend = torch.tensor(pending, device=device)
        fed = [i for i, n in enumerate(pending) if n]
        if fed:
            at = torch.tensor(fed, device=device)
            self._last[torch.tensor([rows[i] for i in fed], device=device)] = hidden[at, pend[at] - 1]
            self._compact(rows, lengths, pending, high)
        column = pend[:, None] + torch.arange(num_siblings, device=device)
        found = hidden.new_zeros(self.num_rows, num_siblings, hidden.shape[-1])
        found[torch.tensor(rows, device=device)] = hidden[torch.arange(len(rows), device=device)[:, None], column]
        return found

    def _run(self, ids: Tensor, lengths: list[int], high: int, pending: list[int], width: int, num_siblings: int, even: bool) -> Tensor:
        backbone, device = self.backbone, self.backbone.device
        even = even and high + width <= backbone.shortest_window
        if backbone.strategy == "rows":  # alibi takes positions from a 2-D mask, holes and all
            slot, column = torch.arange(high, device=device), torch.arange(width, device=device)
            old = slot < torch.tensor(lengths, device=device)[:, None]
            new = column < torch.tensor(pending, device=device)[:, None].clamp(min=1)
            mask = torch.cat([old, new], 1).long()
            positions = (mask.cumsum(1) - 1).clamp(min=0)[:, high:]
        elif even and not num_siblings and (high == 0 or width == 1):
            mask = None  # every new position sees all before it: the fast kernel needs no mask
            positions = torch.arange(high, high + width, device=device)[None].expand(len(lengths), -1)
        elif even and len(backbone.windows) == 1:
            mask, positions = backbone.even_mask(len(lengths), high, pending[0], width)
        else:
            mask, positions = backbone.mask(torch.tensor(lengths, device=device), high, torch.tensor(pending, device=device), width)
        return backbone.forward(input_ids=ids, attention_mask=mask, position_ids=positions, past_key_values=self._cache, use_cache=True)

    def _compact(self, rows: list[int], lengths: list[int], pending: list[int], high: int) -> None:
        """Entries of a short row were written at `high`; they move down to follow its text."""
        moves = [(place, high + j, lengths[place] + j) for place in range(len(rows)) if lengths[place] < high for j in range(pending[place])]
        if moves:
            self._cache.move(*torch.tensor(moves, device=self.backbone.device).T)

    def _keep(self, token_ids: Sequence[int]) -> None:
        """Where the appended token is a sibling of the last forward, its entry moves to the end of the row's text."""
        ids, hidden, slots = self._siblings
        moves, kept, which = [], [], []
        for row in range(self.num_rows):
            token = int(token_ids[row])
            if self.active[row] and token in ids[row]:
                index = ids[row].index(token)
                source = slots[row] + index if slots is not None else self._place[row] * len(ids[row]) + index
                moves.append((self._place[row], source, self._cached[row]))
                kept.append(row)
                which.append(index)
        if not moves:
            return
        rows, source, target = torch.tensor(moves, device=self.backbone.device).T
        if slots is None:
            self._cache.reserve(int(target.max()) + 1)
            self._cache.adopt(rows, source, target)
        elif not torch.equal(source, target):
            self._cache.move(rows, source, target)
        at = torch.tensor(kept, device=self.backbone.device)
        self._last[at] = hidden[at, torch.tensor(which, device=self.backbone.device)]
        for row in kept:
            self._cached[row] += 1

    def _expand(self, candidate_ids: Sequence[Sequence[int]]) -> Tensor:
        """Candidates as rows * k queries of one token; the cache of a row is repeated for one layer at a time."""
        backbone, cache, rows = self.backbone, self._cache, self._active_rows()
        k, device = len(candidate_ids[0]), self.backbone.device
        lengths = torch.tensor([self._cached[row] for row in rows], device=device)
        cache.high, cache.expand = int(lengths.max()), k
        old = torch.arange(cache.high, device=device) < lengths[:, None]
        mask = torch.cat([old, old.new_ones(len(rows), 1)], 1).long().repeat_interleave(k, 0)
        ids = torch.tensor([[token] for row in rows for token in candidate_ids[row]], device=device)
        try:
            hidden = backbone.forward(
                input_ids=ids, attention_mask=mask, position_ids=lengths.repeat_interleave(k)[:, None], past_key_values=cache, use_cache=True
            )
        finally:
            cache.expand = 0
        self.num_forwards += 1
        found = hidden.new_zeros(self.num_rows, k, hidden.shape[-1])
        found[torch.tensor(rows, device=device)] = hidden.view(len(rows), k, -1)
        self._siblings = [list(map(int, ids)) for ids in candidate_ids], found, None
        return found

    def _reencode(self, candidate_ids: Sequence[Sequence[int]] | None) -> Tensor:
        """Every text, with each candidate, from its first token, without a cache: hidden (rows, k or 1, width)."""
        backbone = self.backbone
        if (
            candidate_ids is None
            and self._last is not None
            and not any(c < len(t) for c, t, a in zip(self._cached, self.texts, self.active, strict=True) if a)
        ):
            return self._last[:, None]
        rows = self._active_rows()
        texts = (
            [self.texts[row] + [int(token)] for row in rows for token in candidate_ids[row]]
            if candidate_ids is not None
            else [self.texts[row] for row in rows]
        )
        hidden = encode(backbone, texts)
        self.num_forwards += 1
        k = len(candidate_ids[0]) if candidate_ids is not None else 1
        found = hidden.new_zeros(self.num_rows, k, hidden.shape[-1])
        found[torch.tensor(rows, device=backbone.device)] = hidden.view(len(rows), k, -1)
        if candidate_ids is None:
            self._last = found[:, 0] if self._last is None else torch.where(self.active[:, None].to(found.device), found[:, 0], self._last)
            self._cached = [len(text) for text in self.texts]
        return found


def encode_all(backbone: Backbone, texts: Sequence[Sequence[int]]) -> Tensor:
    """(rows, longest, width): hidden states of whole texts, plainly: right-padded, no cache, no mask."""
    longest = max(map(len, texts))
    ids = torch.tensor([list(text) + [backbone.pad_id] * (longest - len(text)) for text in texts], device=backbone.device)
    return backbone.forward(input_ids=ids, attention_mask=None, position_ids=None, past_key_values=None, use_cache=False)


def encode(backbone: Backbone, texts: Sequence[Sequence[int]]) -> Tensor:
    """(rows, width): hidden state of each text's last token, plainly."""
    hidden = encode_all(backbone, texts)
    return hidden[torch.arange(len(texts), device=backbone.device), torch.tensor([len(text) - 1 for text in texts], device=backbone.device)]


@torch.inference_mode()
def choose_strategy(backbone: Backbone, vocabulary: int) -> str:
    """The fastest way of growing prefixes that gives this model's own plain values: tried, not looked up.

    Two rows of different length: value three candidates, keep one, value again, forget one, fork; against plain encoding,
    to 1e-3 relative in float32 (2 % in half precision).
    """
    windows = [w for _, w in backbone.windows if w and w < 64]
    length = max(9, *(w + 3 for w in windows)) if windows else 9
    draw = torch.Generator().manual_seed(0)
    ids = torch.randint(0, vocabulary, (2, length + 8), generator=draw).tolist()
    texts = [ids[0][:length], ids[1][: length - 4]]
    candidates = [torch.randint(0, vocabulary, (3,), generator=draw).tolist() for _ in texts]
    tolerance = 1e-3 if backbone.dtype == torch.float32 else 2e-2 if backbone.dtype != torch.float64 else 1e-6
    for strategy in STRATEGIES[:-1]:
        try:
            if _agrees(replace(backbone, strategy=strategy), texts, candidates, tolerance):
                return strategy
        except (ValueError, RuntimeError, TypeError, IndexError, AttributeError, NotImplementedError):
            continue  # the model refuses this kind of mask or cache
    return STRATEGIES[-1]


def _agrees(backbone: Backbone, texts: list[list[int]], candidates: list[list[int]], tolerance: float) -> bool:
    def close(found: Tensor, wanted: Tensor) -> bool:
        return bool(((found - wanted).abs() <= tolerance * (1 + wanted.abs().max())).all())

    def valued() -> bool:
        wanted = encode(backbone, [text + [c] for text, row in zip(grown.texts, candidates, strict=True) for c in row])
        return close(grown.value(candidates).flatten(0, 1), wanted)

    grown = GrowingRows(backbone, [texts[1], texts[1][::-1]])  # rows of one length have a mask of their own
    if not valued():
        return False
    grown = GrowingRows(backbone, texts)
    if not valued():
        return False
    grown.append([row[1] for row in candidates])
    if not close(grown.last(), encode(backbone, grown.texts)) or not valued():
        return False
    grown.truncate([len(text) - 2 for text in grown.texts])
    grown = grown.fork([1, 0])
    return valued() and close(grown.last(), encode(backbone, grown.texts))


class ModelPrefixes:
    """The face that base LM and reward models share: rows that grow, fork, are cut back, and finish."""

    def __init__(self, rows: GrowingRows):
        self.rows = rows

    @property
    def active(self) -> Tensor:
        return self.rows.active

    @property
    def num_forwards(self) -> int:
        return self.rows.num_forwards

    def append(self, token_ids: Sequence[int]) -> None:
        self.rows.append(token_ids)

    def truncate(self, lengths: Sequence[int]) -> None:
        self.rows.truncate(lengths)

    def finish(self, rows: Sequence[int]) -> None:
        self.rows.finish(rows)
