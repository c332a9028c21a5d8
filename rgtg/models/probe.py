"""The law a model has to obey before it is used, tried on a few tokens and not looked up by its name.

What it says is finite; what follows changes nothing before; and prefixes that are kept say what plain encoding says, also beyond
every window and position limit that the config names. Knows nothing of heads, rewards, methods, text or files.
"""

import re
from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from rgtg.errors import ModelRefused, RgtgError, Stopped
from rgtg.models.loading import Loaded
from rgtg.models.prefixes.backbone import Backbone, close, encode_all, tolerance
from rgtg.models.prefixes.strategy import choose_strategy, grow

LIMIT = re.compile(r"window|chunk_size|original_max_position|local_attention|index_topk")  # in names of a config: lengths at which something changes
NO_LIMIT = ("max_window_layers",)
LONGEST = 4096  # beyond this nothing is tried here
AFFORDABLE = {"cpu": 2e11}  # parameters x positions of one trial; about ten seconds on two cores


@torch.inference_mode()
def check_reads(loaded: Loaded, run: Callable[..., Tensor]) -> None:
    """Raises ModelRefused unless `run` reads two texts, what it says of them is finite, and what follows changes nothing before.

    `run(input_ids, use_cache)` gives (rows, length, width): hidden states, logits or rewards of every position.
    """
    name, model, vocabulary, length = loaded.ref.name, loaded.model, loaded.num_tokens, min(16, loaded.context)
    half = max(1, length // 2)
    ids = _draw(2, length, vocabulary)
    ids[1, :half] = ids[0, :half]
    ids[1, half:] = (ids[0, half:] + 1) % vocabulary  # another token at every later place
    try:
        found = run(input_ids=ids.to(model.device), use_cache=False).float()
    except Exception as error:  # whatever a family raises: it cannot be asked
        raise refused(name, error) from error
    if not bool(torch.isfinite(found).all()):
        wrong, do = (
            "gives numbers that are not finite.",
            "Its weights are damaged, or too large for this dtype: take float32, or save it again.",
        )
        raise ModelRefused(f"`{name}` {wrong}", f"{int((~torch.isfinite(found)).sum())} of {found.numel()} are NaN or infinite.", do)
    before = found[:, :half]
    off = float((before[0] - before[1]).abs().max())
    if off > tolerance(model.dtype) / 10 * float(before.abs().max()):
        raise ModelRefused(
            f"`{name}` is no decoder: its attention sees what follows.",
            f"Other tokens behind a text of {half} change what it says of the text by {off:.2g}.",
            "Choose a decoder; an encoder such as BERT needs `is_decoder` and weights trained that way.",
        )


def refused(name: str, error: Exception) -> ModelRefused:
    """What a family raised when it was asked, as a refusal with the words found."""
    found = next((line.strip() for line in str(error).splitlines() if line.strip()), "It gave no reason.")
    return ModelRefused(f"`{name}` cannot be asked for its prefixes.", found, "Choose a decoder of another family.")


def grown(loaded: Loaded, backbone: Backbone) -> Backbone:
    """The backbone with the fastest way of growing prefixes that obeys the law, how far it does, and where its positions switch.

    Every limit that the config names is tried at a few positions on both sides. Where that would take long, a window that our masks
    know is trusted, and beyond any other limit texts are re-encoded. Raises ModelRefused.
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
    """Lengths that a config names at which attention or positions may change, the shortest first.

    >>> named_limits({"sliding_window": 512, "rope_parameters": {"original_max_position_embeddings": 4096}})
    [512, 4096]
    """

    def numbers(value: Any) -> Iterable[int]:
        if isinstance(value, (list, tuple)):
            return [n for some in value for n in numbers(some)]
        return [value] if isinstance(value, int) and not isinstance(value, bool) and value > 3 else []

    def walk(values: dict[str, Any]) -> Iterable[int]:
        for key, value in values.items():
            if isinstance(value, dict):
                yield from walk(value)
            elif LIMIT.search(str(key)) and key not in NO_LIMIT:
                yield from numbers(value)

    return sorted(set(walk(config if isinstance(config, dict) else config.to_dict())))


def longrope_switch(config: Any) -> int | None:
    """The length beyond which a longrope model takes its other factors; None for all others."""
    rope = getattr(config, "rope_parameters", None) or {}
    kinds = [rope, *(value for value in rope.values() if isinstance(value, dict))]
    return next((kind.get("original_max_position_embeddings") for kind in kinds if kind.get("rope_type") == "longrope"), None)


@torch.inference_mode()
def _switches(name: str, backbone: Backbone, vocabulary: int, limit: int) -> bool:
    """Whether a text that passes `limit` is read otherwise from its first token on. Raises ModelRefused where every token does that."""

    def same(a: int, b: int) -> bool:
        shorter, longer = (encode_all(backbone, [text[:n]])[0] for n in (a, b))
        return close(longer[: len(shorter)], shorter)

    text = _draw(1, limit + 4, vocabulary)[0].tolist()
    if same(limit, limit + 4):
        return False
    if not same(limit - 1, limit) or not same(limit + 1, limit + 4):
        found = f"Its states at {limit - 1} tokens, at {limit} and behind it all differ."
        raise ModelRefused(f"`{name}` reads every text otherwise with each token that comes.", found, "Choose a model with fixed positions.")
    return True


@torch.inference_mode()
def _crosses(backbone: Backbone, vocabulary: int, limit: int) -> bool:
    """Whether a text that is kept, beside a short one, grows across `limit` as plain encoding has it, with two candidates."""
    text, other, more = _draw(3, limit + 4, vocabulary).tolist()
    short, candidates = other[:5], more[:2]
    try:
        plain = encode_all(backbone, [[*text[: limit + 3], token] for token in candidates])
        rows = grow(backbone, [text[: max(1, limit - 3)], short])
        for slot in (0, 1):
            rows.forward({slot: ()})  # each alone: the short one costs nothing
        for token in text[len(rows.texts[0]) : limit + 3]:
            rows.append(0, token)
            rows.append(1, token)
            if not close(rows.last([0])[0], plain[0, len(rows.texts[0]) - 1]):
                return False
        fed = rows.forward({0: candidates, 1: candidates})
        assert fed is not None
        at = fed.slots.index(0)
        found = fed.hidden[at, fed.first[at] : fed.first[at] + 2]
        return close(found, plain[:, -1])
    except Stopped:
        raise
    except Exception:  # whatever a family raises
        return False


def _draw(num_rows: int, length: int, vocabulary: int) -> Tensor:
    return torch.randint(0, vocabulary, (num_rows, length), generator=torch.Generator().manual_seed(0))
