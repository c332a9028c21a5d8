"""Checks of the weights and the config of a model folder beyond those of transformers: sizes and shapes that do not match, heads with other
names, quantised weights, unavailable attention implementations.

Knows nothing of tokenizers, prefixes or rewards.
"""

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open

from rgtg.errors import ModelRefused, door
from rgtg.models.catalog import OTHER_HEADS, has_scalar_head, read_config
from rgtg.records import ModelCard

HEADS = ("score", "v_head", "value_head", "regression_head", "reward_head", "classifier")  # a head may have layers of its own
HEAD, BIAS = "score.weight", "score.bias"  # of a scalar head
MAX_HEAD = 64  # outputs of a weight that may be a head
ATTENTION = ("eager", "sdpa")  # implementations that accept the masks of growing prefixes
LAYERS = ("num_hidden_layers", "n_layer", "n_layers", "num_layers", "num_decoder_layers")
WIDTHS = ("hidden_size", "n_embd", "d_model", "dim")
OTHERS = ("vocab_size", "intermediate_size", "ffn_dim", "n_inner", "num_local_experts", "num_experts", "n_routed_experts")
HEADS_OF = ("num_attention_heads", "n_head", "n_heads", "num_heads", "num_key_value_heads", "head_dim")
POSITIONS = ("max_position_embeddings", "n_positions", "n_ctx", "seq_length", "max_seq_len")
MOST_POSITIONS = 100_000_000
SPREAD = 16  # allowed ratio of a size in config.json to the saved numbers: weights may be packed, matrices in two parts


def shapes(folder: Path) -> Iterator[tuple[Path, str, tuple[int, ...]]]:
    """(file, name, shape) of every weight of a folder, read from headers alone. Raises OSError, SafetensorError."""
    for path in sorted(folder.glob("*.safetensors")):
        with safe_open(path, "pt") as weights:
            yield from [(path, key, tuple(weights.get_slice(key).get_shape())) for key in weights.keys()]  # noqa: SIM118


def is_language_model(folder: Path) -> bool:
    """Whether a model folder holds a causal LM: by its card, or else by the architecture in its config and the absence of a scalar head."""
    if (card := ModelCard.read(folder)) is not None:
        return card.kind == "base_lm"
    try:
        return not has_scalar_head(read_config(folder)) and not any(key.split(".")[0] in HEADS for _, key, _ in shapes(folder))
    except (OSError, SafetensorError):
        return False


def check_counts(title: str, config: Mapping[str, Any]) -> None:
    """Raise ModelRefused if a size in config.json, `config`, is not a positive integer."""
    for part in (config, *(value for value in config.values() if isinstance(value, dict))):
        for key in (*LAYERS, *WIDTHS, *HEADS_OF, *POSITIONS, "vocab_size"):
            value = part.get(key)
            for number in value if isinstance(value, list) else () if value is None else (value,):  # some families have one per layer
                if type(number) is not int or number < 1:
                    problem = f"`{key}` is {_in_digits(number)}; it has to be a whole number of at least 1."
                elif key in POSITIONS and number > MOST_POSITIONS:
                    problem = f"`{key}` is {_in_digits(number)}; no model reads more than {MOST_POSITIONS:,} tokens."
                else:
                    continue
                wrong = f"`{title}` could not be loaded: its config cannot be read."
                raise ModelRefused(wrong, problem, "Replace its config.json with the one that belongs to its weights.")


def check_sizes(title: str, folder: Path, config: Mapping[str, Any]) -> None:
    """Raise ModelRefused if config.json, `config`, names far more layers or larger matrices than the headers of the weights do.

    Nothing is built for that. Weights that cannot be read are left to loading, which reports them.
    """
    try:
        saved_shapes = [shape for _, _, shape in shapes(folder)]
    except (OSError, SafetensorError):
        return
    if not saved_shapes:
        return
    num_numbers, num_tensors = sum(map(math.prod, saved_shapes)), len(saved_shapes)
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


def _refuse(title: str, key: str, value: int, saved: str) -> None:
    wrong = f"The config.json of `{title}` belongs to another model than its weights."
    raise ModelRefused(wrong, f"`{key}` is {_in_digits(value)}, but {saved}.", "Save it again.")


def _in_digits(value: Any) -> str:
    """Value as text: 1000 -> "1,000", "x" -> "'x'"."""
    if type(value) is not int:
        return f"{value!r:.40}"
    return f"{value:,}" if abs(value) < 10**18 else "a number of more than 18 digits"


def check_shapes(title: str, mismatched: Iterable[tuple[str, Sequence[int], Sequence[int]]]) -> None:
    """Raise ModelRefused if there are mismatched weights, (name, shape in the file, shape by the config)."""
    if differing := sorted((key, tuple(saved), tuple(wanted)) for key, saved, wanted in mismatched):
        shapes_of_first = "; ".join(f"`{key}` is {saved} in the file, and the config asks for {wanted}" for key, saved, wanted in differing[:3])
        more = f"; {len(differing) - 3} more differ" if len(differing) > 3 else ""
        do = "Replace its config.json with the one saved with these weights, or save the model again with `save_pretrained`."
        raise ModelRefused(f"The weights of `{title}` do not match its config.", f"{shapes_of_first}{more}.", do)


# --- a scalar head under another name ---------------------------------------------------------------------------------


def other_heads(model: Any, folder: Path) -> dict[str, tuple[Path, tuple[int, ...]]]:
    """Weights that the model does not use and that may be its head: {name: (file, shape)}."""
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
    """Load a head that the checkpoint has under a name in OTHER_HEADS into `score`, if it has as many outputs.

    Returns a remark that names it, or "" if there is none or more than one. Raises ModelRefused if it cannot be read.
    """
    named = {
        key: path for key, (path, shape) in other_heads(model, folder).items() if OTHER_HEADS.fullmatch(key) and shape[0] == model.score.out_features
    }
    if len(named) != 1:
        return ""
    key, path = next(iter(named.items()))
    with door(f"The head of `{title}` cannot be read.", kind=ModelRefused), safe_open(path, "pt") as weights, torch.no_grad():
        model.score.weight.copy_(weights.get_tensor(key))
    read_bias(model, folder, title, key.removesuffix("weight") + "bias")
    return f"its head is `{key}` of the checkpoint"


def read_bias(model: Any, folder: Path, title: str, key: str = BIAS) -> None:
    """Give `score`, which transformers builds without a bias, that of the checkpoint, if it has one. Raises ModelRefused."""
    with door(f"The head of `{title}` cannot be read.", kind=ModelRefused):
        for path in [path for path, name, _ in shapes(folder) if name == key]:
            with safe_open(path, "pt") as weights:
                model.score.bias = torch.nn.Parameter(weights.get_tensor(key).to(model.score.weight).reshape(-1))


# --- attention and quantisation in a config -----------------------------------------------------------------------------


def choose_attention(config: Any, config_json: Mapping[str, Any]) -> None:
    """Let transformers choose the attention implementation if `config_json` names one that is not available or is code on the Hub."""
    parts = [config_json, *(part for part in config_json.values() if isinstance(part, dict))]
    named = {str(part[key]) for part in parts for key in ("attn_implementation", "_attn_implementation") if part.get(key)}
    if named - set(ATTENTION):
        config._attn_implementation = None  # also in its nested configs


def loading_problem(config: Mapping[str, Any]) -> tuple[str, str]:
    """(problem, advice) for the error that is raised if the weights with this config.json cannot be loaded."""
    settings = config.get("quantization_config")
    if not settings:
        for part in (config, config.get("text_config")):
            pad, rows = (part.get(key) if isinstance(part, Mapping) else None for key in ("pad_token_id", "vocab_size"))
            if isinstance(pad, int) and isinstance(rows, int) and pad >= rows:
                return f"its config.json has pad_token_id {pad}, and the model has {rows:,} rows.", "Use an id below that, or null."
        return "it cannot be built from its config and weights.", ""
    return f"its weights are quantised ({settings.get('quant_method', 'unknown')!s:.40}) and cannot be loaded.", "Use the model in full precision."
