"""Tests that a model has to pass before it is used, run on a few tokens instead of decided by the name of its family.

Its outputs are finite; later tokens do not change earlier positions; and cached prefixes give the outputs of a forward without a cache, also
beyond every attention window and position limit that the config names. Knows nothing of heads, rewards, methods, text or files.
"""

import re
from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from rgtg.errors import ModelRefused, NotADecoder, RgtgError, Stopped
from rgtg.models.loading import Loaded
from rgtg.models.prefixes.backbone import Backbone, close, encode_all, tolerance
from rgtg.models.prefixes.strategy import choose_strategy, grow

LIMIT = re.compile(
    r"window|chunk_size|original_max_position|local_attention|index_topk"
)  # in keys of a config: lengths at which attention or positions change
NO_LIMIT = ("max_window_layers",)
LONGEST = 4096  # tokens of the longest test
AFFORDABLE = {"cpu": 2e11}  # parameters × positions of one test; about ten seconds on two cores


@torch.inference_mode()
def check_reads(loaded: Loaded, run: Callable[..., Tensor]) -> None:
    """Raise ModelRefused unless `run` returns finite outputs for two texts, and NotADecoder unless later tokens leave earlier positions unchanged.

    `run(input_ids, use_cache)` returns hidden states, logits or rewards of every position, (rows, length, width).
    """
    name, model, vocabulary, length = loaded.ref.name, loaded.model, loaded.num_tokens, min(16, loaded.context)
    half = max(1, length // 2)
    ids = _draw(2, length, vocabulary)
    ids[1, :half] = ids[0, :half]
    ids[1, half:] = (ids[0, half:] + 1) % vocabulary  # another token at every later place
    try:
        outputs = run(input_ids=ids.to(model.device), use_cache=False).float()
    except Exception as error:  # the code of a model family can raise anything
        raise refused(name, error) from error
    if not bool(torch.isfinite(outputs).all()):
        num_wrong, do = int((~torch.isfinite(outputs)).sum()), "Its weights are damaged, or too large for this dtype: use float32, or save it again."
        raise ModelRefused(f"`{name}` returns outputs that are not finite.", f"{num_wrong} of {outputs.numel()} are NaN or infinite.", do)
    before = outputs[:, :half]
    difference = float((before[0] - before[1]).abs().max())
    if difference > tolerance(model.dtype) / 10 * float(before.abs().max()):
        raise NotADecoder(
            f"`{name}` is not a decoder: its attention sees later tokens.",
            f"Other tokens after position {half} change the outputs before it by {difference:.2g}.",
            "Choose a decoder; an encoder such as BERT needs `is_decoder` and weights trained as a decoder.",
        )


def refused(name: str, error: Exception) -> ModelRefused:
    """ModelRefused for an exception from the forward of a model, with its message."""
    message = next((line.strip() for line in str(error).splitlines() if line.strip()), "It gave no reason.")
    return ModelRefused(f"`{name}` cannot be run on prefixes.", message, "Choose a decoder of another family.")


def with_strategy(loaded: Loaded, backbone: Backbone) -> Backbone:
    """The backbone with the fastest strategy that gives correct outputs, the length up to which it does, and where its positions switch.

    Every limit that the config names is tested at a few positions on both sides. If that would take too long, a window that our masks
    implement is trusted, and beyond any other limit texts are re-encoded. Raises ModelRefused.
    """
    name, vocabulary, config = loaded.ref.name, loaded.num_tokens, loaded.model.config.get_text_config()
    try:
        limits = [n for n in named_limits(config) if n + 4 <= loaded.context]
        affordable = AFFORDABLE.get(backbone.device.type, 100 * AFFORDABLE["cpu"])
        tried = [n for n in limits if n <= LONGEST and n * loaded.model.num_parameters() <= affordable]
        switch = next((n for n in tried if _switches(name, backbone, vocabulary, n)), None)
        if switch is None and (stated := longrope_switch(config)) not in tried:
            switch = stated
        backbone = replace(backbone, switch=switch)
        backbone = replace(backbone, strategy=choose_strategy(backbone, vocabulary))
        known = {window for _, window in backbone.windows}
        reach = next((n - 1 for n in limits if (n not in tried and n not in known) or (n in tried and not _crosses(backbone, vocabulary, n))), None)
        return replace(backbone, reach=min((n for n in (reach, switch) if n is not None), default=None))
    except RgtgError:
        raise
    except Exception as error:
        raise refused(name, error) from error


def named_limits(config: Any) -> list[int]:
    """Lengths in a config at which attention or positions may change, in ascending order.

    >>> named_limits({"sliding_window": 512, "rope_parameters": {"original_max_position_embeddings": 4096}})
    [512, 4096]
    """

    def numbers(value: Any) -> Iterable[int]:
        if isinstance(value, (list, tuple)):
            return [n for item in value for n in numbers(item)]
        return [value] if isinstance(value, int) and not isinstance(value, bool) and value > 3 else []

    def walk(values: dict[str, Any]) -> Iterable[int]:
        for key, value in values.items():
            if isinstance(value, dict):
                yield from walk(value)
            elif LIMIT.search(str(key)) and key not in NO_LIMIT:
                yield from numbers(value)

    return sorted(set(walk(config if isinstance(config, dict) else config.to_dict())))


def longrope_switch(config: Any) -> int | None:
    """Length beyond which a longrope model uses its other factors; None for any other model."""
    rope = getattr(config, "rope_parameters", None) or {}
    kinds = [rope, *(value for value in rope.values() if isinstance(value, dict))]
    return next((kind.get("original_max_position_embeddings") for kind in kinds if kind.get("rope_type") == "longrope"), None)


@torch.inference_mode()
def _switches(name: str, backbone: Backbone, vocabulary: int, limit: int) -> bool:
    """Whether a text longer than `limit` has other states from its first token on. Raises ModelRefused if every further token changes them."""

    def same(a: int, b: int) -> bool:
        shorter, longer = (encode_all(backbone, [text[:n]])[0] for n in (a, b))
        return close(longer[: len(shorter)], shorter)

    text = _draw(1, limit + 4, vocabulary)[0].tolist()
    if same(limit, limit + 4):
        return False
    if not same(limit - 1, limit) or not same(limit + 1, limit + 4):
        lengths = f"Its states at {limit - 1} tokens, at {limit} and beyond all differ."
        raise ModelRefused(f"`{name}` changes the states of a text with every token that follows.", lengths, "Choose a model with fixed positions.")
    return True


@torch.inference_mode()
def _crosses(backbone: Backbone, vocabulary: int, limit: int) -> bool:
    """Whether a cached text that grows across `limit`, beside a short one, has the states of a forward without a cache, with two candidates."""
    text, other, more = _draw(3, limit + 4, vocabulary).tolist()
    short, candidates = other[:5], more[:2]
    try:
        plain = encode_all(backbone, [[*text[: limit + 3], token] for token in candidates])
        rows = grow(backbone, [text[: max(1, limit - 3)], short])
        for slot in (0, 1):
            rows.forward({slot: ()})  # one at a time, so that the short one is not padded to the long one
        for token in text[len(rows.texts[0]) : limit + 3]:
            rows.append(0, token)
            rows.append(1, token)
            if not close(rows.last([0])[0], plain[0, len(rows.texts[0]) - 1]):
                return False
        fed = rows.forward({0: candidates, 1: candidates})
        assert fed is not None
        row = fed.slots.index(0)
        of_candidates = fed.hidden[row, fed.first[row] : fed.first[row] + 2]
        return close(of_candidates, plain[:, -1])
    except Stopped:
        raise
    except Exception:  # the code of a model family can raise anything
        return False


def _draw(num_rows: int, length: int, vocabulary: int) -> Tensor:
    return torch.randint(0, vocabulary, (num_rows, length), generator=torch.Generator().manual_seed(0))
