"""Trial of a model folder in a child process: its config, its tokenizer, its chat template, and building the model without memory.

Mere failures are left to loading, which fails in the same way and reports it; the trial finds out whether each stage ends, within limits.
"""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForSequenceClassification, AutoTokenizer

from rgtg.errors import ModelRefused, RgtgError, is_out_of_memory
from rgtg.models.catalog import has_scalar_head, read_config
from rgtg.models.weights import SPREAD, choose_attention, shapes
from rgtg.prompts import ANSWERED, ASKED, ASKED_AGAIN, rendered, template_of
from rgtg.system.child import stage

TEXTS = ("", "a" * 5000, " " * 5000, "The food was good, 12.5 % better! " * 200, "ähé漢字🙂\n" * 500, "!?-" * 1000)
MORE_NUMBERS = 10_000_000  # parameters allowed beyond those of the checkpoint: a head, padding rows
MAX_TABLES = 512_000_000  # bytes of buffers that a model computes when it is built: masks, positions


def try_folder(folder: str, title: str) -> None:
    """Run every stage of loading a folder without its weights. Raises ModelRefused if the model would be far larger than its weights."""
    path, config, tokenizer = Path(folder), None, None
    stage("its config")
    with _left_to_loading():
        config_json = read_config(path)
        config = AutoConfig.from_pretrained(path, trust_remote_code=False)
        choose_attention(config, config_json)
    stage("its tokenizer")
    with _left_to_loading():
        tokenizer = AutoTokenizer.from_pretrained(path, trust_remote_code=False)
        for text in TEXTS:
            tokenizer(text)
    stage("its chat template")
    if tokenizer is not None and (template := template_of(tokenizer)):
        for turns, generation in conversations():
            with _left_to_loading():
                tokenizer(rendered(template, turns, dict(tokenizer.special_tokens_map), generation)[1], add_special_tokens=False)
    stage("building it from its config")
    if config is not None:
        with _left_to_loading():
            kind: Any = AutoModelForSequenceClassification if has_scalar_head(config_json) else AutoModelForCausalLM
            with torch.device("meta"):
                model = kind.from_config(config)
            check_numbers(title, model, path, bool(config_json.get("quantization_config")))


@contextmanager
def _left_to_loading() -> Iterator[None]:
    try:
        yield
    except RgtgError:
        raise
    except BaseException as error:  # a panic in a Rust library is not an Exception
        if is_out_of_memory(error):
            raise MemoryError from error


def conversations() -> Iterator[tuple[list[dict[str, str]], bool]]:
    """A few conversations, short and long, each with whether the assistant's turn is to begin."""
    asked, again, answered = ({"role": role, "content": text} for role, text in (("user", ASKED), ("user", ASKED_AGAIN), ("assistant", ANSWERED)))
    system = {"role": "system", "content": "Count."}
    for before in ([], [system]):
        yield [*before, asked], True
        yield [*before, asked, answered], False
        yield [*before, asked, answered, again], True
    yield [asked, answered] * 50 + [asked], True
    yield [{"role": "user", "content": f"{ASKED} " * 2000}], True


def check_numbers(title: str, model: Any, folder: Path, quantised: bool) -> None:
    """Raise ModelRefused if a model built on the meta device has far more parameters or buffers than its checkpoint."""
    num_saved = sum(math.prod(shape) for _, _, shape in shapes(folder))
    weights = dict(model.named_parameters())
    num = sum(weight.numel() for weight in weights.values())
    if num > (SPREAD if quantised else 2) * num_saved + MORE_NUMBERS:
        name, largest = max(weights.items(), key=lambda item: item[1].numel())
        counts = f"It asks for {num:,} numbers, `{name}` {tuple(largest.shape)} among them; the weights hold {num_saved:,}."
        raise ModelRefused(f"The config.json of `{title}` belongs to another model than its weights.", counts, "Save it again.")
    tables = dict(model.named_buffers())
    if (size := sum(table.numel() * table.element_size() for table in tables.values())) > MAX_TABLES:
        name, largest = max(tables.items(), key=lambda item: item[1].numel())
        sizes = f"`{name}` would be {tuple(largest.shape)}, and all buffers together {size / 1e9:,.1f} GB."
        raise ModelRefused(f"The config.json of `{title}` asks for buffers that are far too large.", sizes, "Correct the lengths in its config.json.")
