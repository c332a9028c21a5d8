"""What lies in the weights and the config of a model folder, beside what transformers makes of it: sizes and shapes that do not fit,
heads of other names, quantised weights, attention that cannot be had here.

Knows nothing of tokenizers, prefixes or rewards.
"""

import math
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open

from rgtg.errors import ModelRefused, door

HEADS = ("score", "v_head", "value_head", "regression_head", "reward_head", "classifier")  # a head may have layers of its own
HEAD, BIAS = "score.weight", "score.bias"  # of a scalar head
OTHER_HEADS = re.compile(  # how others call it: TRL, OpenRLHF, InternLM, Eurus, PKU
    r"(?:value_head|v_head|v_head\.summary|regression_head|regression_layer|reward_head|rm_head|score_head|scalar_head|classifier)\.weight"
)
MAX_HEAD = 64  # outputs of what may be a head
ATTENTION = ("eager", "sdpa")  # what takes the masks of growing prefixes
LAYERS = ("num_hidden_layers", "n_layer", "n_layers", "num_layers", "num_decoder_layers")
WIDTHS = ("hidden_size", "n_embd", "d_model", "dim")
OTHERS = ("vocab_size", "intermediate_size", "ffn_dim", "n_inner", "num_local_experts", "num_experts", "n_routed_experts")
HEADS_OF = ("num_attention_heads", "n_head", "n_heads", "num_heads", "num_key_value_heads", "head_dim")
POSITIONS = ("max_position_embeddings", "n_positions", "n_ctx", "seq_length", "max_seq_len")
MOST_POSITIONS = 100_000_000
SPREAD = 16  # a number of config.json may stand for so many times what is saved: packed weights, matrices in two parts


def shapes(folder: Path) -> Iterator[tuple[Path, str, tuple[int, ...]]]:
    """(file, name, shape) of every weight of a folder, without reading one. Raises OSError, SafetensorError."""
    for path in sorted(folder.glob("*.safetensors")):
        with safe_open(path, "pt") as weights:
            yield from [(path, key, tuple(weights.get_slice(key).get_shape())) for key in weights.keys()]  # noqa: SIM118


def head_rows(folder: Path) -> int | None:
    """Outputs of the head among the weights; None where there is no head, or where the weights cannot be read."""
    try:
        return next((shape[0] for _, key, shape in shapes(folder) if key in (HEAD, "classifier.weight") and shape), None)
    except (OSError, SafetensorError):
        return None


def check_counts(title: str, config: Mapping[str, Any]) -> None:
    """Raises ModelRefused where config.json, `config`, has something else than a whole number of at least 1 for one of its sizes."""
    for part in (config, *(value for value in config.values() if isinstance(value, dict))):
        for key in (*LAYERS, *WIDTHS, *HEADS_OF, *POSITIONS, "vocab_size"):
            value = part.get(key)
            for number in value if isinstance(value, list) else () if value is None else (value,):  # some families have one for each layer
                if type(number) is not int or number < 1:
                    found = f"`{key}` is {_in_digits(number)}; it has to be a whole number of at least 1."
                elif key in POSITIONS and number > MOST_POSITIONS:
                    found = f"`{key}` is {_in_digits(number)}; no model reads more than {MOST_POSITIONS:,} tokens."
                else:
                    continue
                wrong = f"`{title}` could not be loaded: its config cannot be read."
                raise ModelRefused(wrong, found, "Put the config.json there that belongs to its weights.")


def check_sizes(title: str, folder: Path, config: Mapping[str, Any]) -> None:
    """Raises ModelRefused where config.json, `config`, speaks of far more layers or larger matrices than the weights hold: from their
    headers, before anything is built. What cannot be read is left to loading, which says so."""
    try:
        found = [shape for _, _, shape in shapes(folder)]
    except (OSError, SafetensorError):
        return
    if not found:
        return
    num_numbers, num_tensors = sum(map(math.prod, found)), len(found)
    for part in (config, *(value for value in config.values() if isinstance(value, dict))):
        width = max((value for _, value in _numbers(part, WIDTHS)), default=1)
        for key, value in _numbers(part, LAYERS):
            if value > num_tensors:
                _refuse(title, key, value, f"the weights are {num_tensors:,} tensors")
        for key, value in (*_numbers(part, WIDTHS), *_numbers(part, OTHERS)):
            if value * width > SPREAD * num_numbers:
                _refuse(title, key, value, f"the weights hold {num_numbers:,} numbers in all")


def _numbers(config: Mapping[str, Any], keys: Sequence[str]) -> list[tuple[str, int]]:
    return [(key, config[key]) for key in keys if isinstance(config.get(key), int)]


def _refuse(title: str, key: str, value: int, found: str) -> None:
    said = _in_digits(value)
    raise ModelRefused(f"The config.json of `{title}` is of another model than its weights.", f"`{key}` is {said}, but {found}.", "Save it again.")


def _in_digits(value: Any) -> str:
    """1000 -> "1,000", "x" -> "'x'"."""
    if type(value) is not int:
        return f"{value!r:.40}"
    return f"{value:,}" if abs(value) < 10**18 else "a number of more than 18 digits"


def check_shapes(title: str, mismatched: Iterable[tuple[str, Sequence[int], Sequence[int]]]) -> None:
    """Raises ModelRefused where weights, (name, shape in the file, shape by the config), are not as the config gives them."""
    if found := sorted((key, tuple(there), tuple(wanted)) for key, there, wanted in mismatched):
        said = "; ".join(f"`{key}` is {there} in the file, and the config asks for {wanted}" for key, there, wanted in found[:3])
        more = f"; {len(found) - 3} more differ" if len(found) > 3 else ""
        do = "Put the config.json there that was saved with these weights, or save the model again with `save_pretrained`."
        raise ModelRefused(f"The weights of `{title}` do not fit its config.", f"{said}{more}.", do)


# --- a scalar head under another name ---------------------------------------------------------------------------------


def other_heads(model: Any, folder: Path) -> dict[str, tuple[Path, tuple[int, ...]]]:
    """Name -> (file, shape) of the weights that the model has no use for and that may be its head."""
    head, own = getattr(model, "score", None), set(model.state_dict())
    if not isinstance(head, torch.nn.Linear):
        return {}
    with door("The weights of the head cannot be read.", kind=ModelRefused):
        return {
            key: (path, shape)
            for path, key, shape in shapes(folder)
            if key.endswith(".weight") and key not in own and len(shape) == 2 and shape[1] == head.in_features and shape[0] <= MAX_HEAD
            and (key.split(".")[0] in HEADS or not any(part.isdigit() for part in key.split(".")))
        }  # fmt: skip


def read_other_head(model: Any, folder: Path, title: str) -> str:
    """Reads the scalar head that the checkpoint has under a name in OTHER_HEADS into `score`, and says which; "" where there is none, or
    several. Raises ModelRefused where it cannot be read."""
    named = {key: path for key, (path, shape) in other_heads(model, folder).items() if OTHER_HEADS.fullmatch(key) and shape[0] == 1}
    if len(named) != 1:
        return ""
    key, path = next(iter(named.items()))
    with door(f"The head of `{title}` cannot be read.", kind=ModelRefused), safe_open(path, "pt") as weights, torch.no_grad():
        model.score.weight.copy_(weights.get_tensor(key))
    read_bias(model, folder, title, key.removesuffix("weight") + "bias")
    return f"its head is `{key}` of the checkpoint"


def read_bias(model: Any, folder: Path, title: str, key: str = BIAS) -> None:
    """Gives `score`, which transformers makes without one, the bias that the checkpoint has for it. Raises ModelRefused."""
    with door(f"The head of `{title}` cannot be read.", kind=ModelRefused):
        for path in [path for path, name, _ in shapes(folder) if name == key]:
            with safe_open(path, "pt") as weights:
                model.score.bias = torch.nn.Parameter(weights.get_tensor(key).to(model.score.weight).reshape(1))


# --- what a config asks for -------------------------------------------------------------------------------------------


def choose_attention(config: Any, found: Mapping[str, Any]) -> None:
    """Where config.json, `found`, names an attention that is not here, or comes as code from the hub, transformers shall choose itself."""
    parts = [found, *(part for part in found.values() if isinstance(part, dict))]
    named = {str(part[key]) for part in parts for key in ("attn_implementation", "_attn_implementation") if part.get(key)}
    if named - set(ATTENTION):
        config._attn_implementation = None  # of the configs inside it too


def words_of_weights(found: Mapping[str, Any]) -> tuple[str, str]:
    """What could not be read of weights with this config.json, should that be so, and what to do: (words, do)."""
    settings = found.get("quantization_config")
    if not settings:
        for part in (found, found.get("text_config")):
            pad, rows = (part.get(key) if isinstance(part, Mapping) else None for key in ("pad_token_id", "vocab_size"))
            if isinstance(pad, int) and isinstance(rows, int) and pad >= rows:
                return f"its config.json has pad_token_id {pad}, and the model has {rows:,} rows.", "Give an id below that, or null."
        return "it cannot be built from its config and weights.", ""
    return f"its weights are quantised ({settings.get('quant_method', 'unknown')!s:.40}) and cannot be read here.", "Give it in full precision."
