"""A causal model up to its last hidden state: attention masks, and encoding without a cache.

Works on token ids and hidden states. Knows nothing of growing rows, heads, rewards, methods or text.
"""

import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Any

import torch
from torch import Tensor
from transformers.cache_utils import Cache, DynamicCache, get_layer_types_and_kwargs

from rgtg.models.tuning import is_int8

STRATEGIES = ("siblings", "rows", "states", "steps", "reencode")


@dataclass(frozen=True)
class Backbone:
    """A causal model up to its last hidden state, with the strategy by which its prefixes grow.

    `run(input_ids, attention_mask, position_ids, use_cache)` returns (rows, length, width). The cache is passed as `cache_name`: `cache`, or the
    older name (dropped by transformers in 5.40) if the forward does not accept that. `windows` is the attention window of each layer type, None
    for full attention. `strategy` says how candidates are scored: `siblings` in one forward, `rows` (one row each), `states` (copies of the
    library's own state), `steps` (such a state that only single tokens can continue), or `reencode` without a cache. The cache is correct up to
    `reach` positions, None for all. A text longer than `switch` has other positions, from its first token on.
    """

    run: Callable[..., Tensor]
    num_layers: int
    windows: tuple[tuple[str, int | None], ...]
    device: torch.device
    dtype: torch.dtype
    pad_id: int
    strategy: str = "siblings"
    cache_name: str = "past_key_values"
    reach: int | None = None
    switch: int | None = None
    model: Any = None  # the module that `run` belongs to

    @classmethod
    def of(cls, model: Any, run: Callable[..., Tensor], pad_id: int, strategy: str = "siblings") -> "Backbone":
        config = model.config.get_text_config()
        types, kwargs = get_layer_types_and_kwargs(config)  # undocumented; works without `layer_types` in the config too
        windows = {t: k.get("sliding_window") for t, k in zip(types, kwargs, strict=True)}
        name = "cache" if "cache" in inspect.signature(model.base_model.forward).parameters else "past_key_values"
        return cls(run, len(types), tuple(windows.items()), model.device, model.dtype, pad_id, strategy, name, model=model)

    def forward(self, ids: Tensor, mask: Tensor | dict[str, Tensor] | None, positions: Tensor | None, cache: Cache | None) -> Tensor:
        """Hidden states (rows, length, width) of ids (rows, length), with or without a cache."""
        cached = {} if cache is None else {self.cache_name: cache}
        return self.run(input_ids=ids, attention_mask=mask, position_ids=positions, use_cache=cache is not None, **cached)

    def new_cache(self) -> Cache:
        """An empty cache of the library's own."""
        return DynamicCache(config=self.model.config.get_text_config())

    @property
    def rounds(self) -> bool:
        """Whether its states depend on what else is in a forward, as in int8: two computations then differ by more than any tolerance."""
        return is_int8(self.model)

    @cached_property
    def shortest_window(self) -> float:
        return min((window for _, window in self.windows if window), default=float("inf"))

    def even_mask(self, num_rows: int, length: int, pending: int, width: int) -> tuple[Tensor, Tensor]:
        """Additive mask for rows of equal length, (1, 1, width, length + width), and positions (rows, width)."""
        block, offsets = _block(pending, width, self.dtype, self.device)
        mask = torch.zeros(1, 1, width, length + width, dtype=self.dtype, device=self.device)
        mask[..., length:] = block
        return mask, (offsets + length).expand(num_rows, -1)

    def mask(self, lengths: Tensor, high: int, pending: Tensor, width: int) -> tuple[Tensor | dict[str, Tensor], Tensor]:
        """Additive mask (rows, 1, width, high + width), a dict of masks if there are several layer types, and positions (rows, width).

        The first `pending[r]` columns of row r continue its text causally; all columns after them are siblings: each sees the text and itself,
        at the position after the text.
        """
        column, slot = torch.arange(width, device=self.device), torch.arange(high, device=self.device)
        positions = lengths[:, None] + torch.minimum(column[None], pending[:, None])
        old = (slot < lengths[:, None])[:, None].expand(-1, width, -1)
        new = (column[None, None] <= column[None, :, None]) & (column[None] < pending[:, None])[:, None]
        new = new | torch.eye(width, dtype=torch.bool, device=self.device)  # padding sees itself: a row that sees nothing would be NaN
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
    """Additive mask between new positions, (width, width), and their offsets from the end of the text, (1, width)."""
    column = torch.arange(width, device=device)
    visible = ((column[None] <= column[:, None]) & (column[None] < pending)) | torch.eye(width, dtype=torch.bool, device=device)
    return torch.zeros(width, width, dtype=dtype, device=device).masked_fill_(~visible, torch.finfo(dtype).min), column.clamp(max=pending)[None]


def encode_all(backbone: Backbone, texts: Sequence[Sequence[int]]) -> Tensor:
    """Hidden states (rows, longest, width) of texts without a cache, right-padded and without a mask.

    Each is that of the prefix that ends there: if positions switch with the length, prefixes below the switch are encoded separately.
    """
    switch = backbone.switch
    far = [row for row, text in enumerate(texts) if switch is not None and len(text) > switch]
    if not far:
        return _read(backbone, texts)
    before, beyond = _read(backbone, [text[:switch] for text in texts]), _read(backbone, [texts[row] for row in far])
    hidden = before.new_zeros(len(texts), beyond.shape[1], before.shape[2])
    hidden[:, : before.shape[1]] = before
    hidden[far, switch:] = beyond[:, switch:]
    return hidden


def _read(backbone: Backbone, texts: Sequence[Sequence[int]]) -> Tensor:
    longest = max(map(len, texts))
    ids = torch.tensor([list(text) + [backbone.pad_id] * (longest - len(text)) for text in texts], device=backbone.device)
    return backbone.forward(ids, None, None, None)


def encode(backbone: Backbone, texts: Sequence[Sequence[int]]) -> Tensor:
    """Hidden state of the last token of each text, (rows, width), without a cache."""
    hidden = encode_all(backbone, texts)
    return hidden[torch.arange(len(texts), device=backbone.device), torch.tensor([len(text) - 1 for text in texts], device=backbone.device)]


def close(actual: Tensor, expected: Tensor) -> bool:
    """Whether two computations of the same states agree, to `tolerance` of the largest value."""
    return bool(((actual - expected).abs() <= tolerance(expected.dtype) * (1 + expected.abs().max())).all())


def tolerance(dtype: torch.dtype) -> float:
    """Relative tolerance for states of this dtype."""
    return {torch.float32: 1e-3, torch.float64: 1e-6}.get(dtype, 2e-2)
