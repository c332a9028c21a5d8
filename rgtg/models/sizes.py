"""Whether the weights of a folder and its config are of one size, from JSON and the headers of the weights alone, before anything is built.

Knows nothing of torch models, tokenizers or families.
"""

import json
import math
import struct
from pathlib import Path
from typing import Any

from rgtg.errors import ModelRefused

LAYERS = ("num_hidden_layers", "n_layer", "n_layers", "num_layers", "num_decoder_layers")
WIDTHS = ("hidden_size", "n_embd", "d_model", "dim")
OTHERS = ("vocab_size", "intermediate_size", "ffn_dim", "n_inner", "num_local_experts", "num_experts", "n_routed_experts")
SPREAD = 16  # a number of config.json may stand for so many times what is saved: packed weights, matrices in two parts
LONGEST_HEADER = 100_000_000  # bytes, as the format has it


def check_sizes(title: str, folder: Path) -> None:
    """Raises ModelRefused where config.json speaks of far more layers or larger matrices than the weights hold."""
    shapes = [shape for path in sorted(folder.glob("*.safetensors")) for shape in _shapes(path)]
    if not shapes:
        return
    num_numbers, num_tensors = sum(map(math.prod, shapes)), len(shapes)
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    for part in (config, *(value for value in config.values() if isinstance(value, dict))):
        width = max((value for _, value in _numbers(part, WIDTHS)), default=1)
        for key, value in _numbers(part, LAYERS):
            if value > num_tensors:
                _refuse(title, key, value, f"the weights are {num_tensors:,} tensors")
        for key, value in (*_numbers(part, WIDTHS), *_numbers(part, OTHERS)):
            if value * width > SPREAD * num_numbers:
                _refuse(title, key, value, f"the weights hold {num_numbers:,} numbers in all")


def _numbers(config: dict[str, Any], keys: tuple[str, ...]) -> list[tuple[str, int]]:
    return [(key, config[key]) for key in keys if isinstance(config.get(key), int)]


def _refuse(title: str, key: str, value: int, found: str) -> None:
    said = f"{value:,}" if value < 10**18 else "a number of more than 18 digits"
    raise ModelRefused(f"The config.json of `{title}` is of another model than its weights.", f"`{key}` is {said}, but {found}.", "Save it again.")


def _shapes(path: Path) -> list[list[int]]:
    """The shapes of all tensors of a file; none where it cannot be read, which loading will say."""
    with path.open("rb") as file:
        start = file.read(8)
        length = struct.unpack("<Q", start)[0] if len(start) == 8 else 0
        if not 0 < length <= LONGEST_HEADER:
            return []
        try:
            header = json.loads(file.read(length))
            return [entry["shape"] for key, entry in header.items() if key != "__metadata__"]
        except (ValueError, AttributeError, KeyError, TypeError, RecursionError):
            return []
