"""What is tried of a model folder, in a child process: its config, its tokenizer, its chat template, and building it without memory.

What merely fails is left to loading, which fails the same way at once and says it; here it is seen whether it ends, and how much it needs.
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
MORE_NUMBERS = 10_000_000  # that a model may have beside those of its checkpoint: a head, rows to fill a matrix up
MAX_TABLES = 512_000_000  # bytes of what a model computes when it is built: masks, positions


def try_folder(folder: str, title: str) -> None:
    """Ends in time and memory where loading does. Raises ModelRefused where the model would be far larger than its weights."""
    place, config, tokenizer = Path(folder), None, None
    stage("its config")
    with _left_to_loading():
        found = read_config(place)
        config = AutoConfig.from_pretrained(place, trust_remote_code=False)
        choose_attention(config, found)
    stage("its tokenizer")
    with _left_to_loading():
        tokenizer = AutoTokenizer.from_pretrained(place, trust_remote_code=False)
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
            kind: Any = AutoModelForSequenceClassification if has_scalar_head(found) else AutoModelForCausalLM
            with torch.device("meta"):
                model = kind.from_config(config)
            check_numbers(title, model, place, bool(found.get("quantization_config")))


@contextmanager
def _left_to_loading() -> Iterator[None]:
    try:
        yield
    except RgtgError:
        raise
    except BaseException as error:  # a library in Rust may panic with what is no Exception
        if is_out_of_memory(error):
            raise MemoryError from error


def conversations() -> Iterator[tuple[list[dict[str, str]], bool]]:
    """Turns of a few conversations, short and long, and whether an answer is to begin."""
    asked, again, answered = ({"role": role, "content": text} for role, text in (("user", ASKED), ("user", ASKED_AGAIN), ("assistant", ANSWERED)))
    system = {"role": "system", "content": "Count."}
    for before in ([], [system]):
        yield [*before, asked], True
        yield [*before, asked, answered], False
        yield [*before, asked, answered, again], True
    yield [asked, answered] * 50 + [asked], True
    yield [{"role": "user", "content": f"{ASKED} " * 2000}], True


def check_numbers(title: str, model: Any, folder: Path, quantised: bool) -> None:
    """Raises ModelRefused where a model that was built without memory would hold far more than its checkpoint does."""
    there = sum(math.prod(shape) for _, _, shape in shapes(folder))
    weights = dict(model.named_parameters())
    num = sum(weight.numel() for weight in weights.values())
    if num > (SPREAD if quantised else 2) * there + MORE_NUMBERS:
        name, largest = max(weights.items(), key=lambda item: item[1].numel())
        found = f"It asks for {num:,} numbers, `{name}` {tuple(largest.shape)} among them; the weights hold {there:,}."
        raise ModelRefused(f"The config.json of `{title}` is of another model than its weights.", found, "Save it again.")
    tables = dict(model.named_buffers())
    if (size := sum(table.numel() * table.element_size() for table in tables.values())) > MAX_TABLES:
        name, largest = max(tables.items(), key=lambda item: item[1].numel())
        found = f"`{name}` would be {tuple(largest.shape)}, and all of them {size / 1e9:,.1f} GB."
        raise ModelRefused(f"The config.json of `{title}` asks for tables of absurd size.", found, "Correct the lengths in its config.json.")
