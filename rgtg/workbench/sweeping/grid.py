"""The grid of a sweep: rows of methods, each with one or several values of its parameters, and every combination of them as a column.

Knows nothing of models, files or the screen.
"""

import math
import re
import shlex
from collections.abc import Collection, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import product
from typing import Any

from rgtg.config import GenerationConfig
from rgtg.errors import BadSettings, ModelNotFound, RgtgError
from rgtg.guidance.methods import Parameter, method
from rgtg.guidance.mixes.expressions import parse_mix
from rgtg.records import ColumnSpec
from rgtg.workbench.columns.copying import Address, number_text, run_text

MAX_VALUES, MAX_SETTINGS, MAX_PROMPTS, MAX_SEEDS, MAX_ANSWERS = 32, 240, 5_000, 100, 200_000
TOP_K = "top_k"  # the generation setting that a row may vary: candidates at each step
Value = float | int | str | bool


@dataclass(frozen=True)
class Row:
    """A method with its models, and the values of each parameter; `top_k` are values of the generation setting, () for the sweep's own."""

    method: str
    params: tuple[tuple[str, tuple[Value, ...]], ...] = ()
    top_k: tuple[int, ...] = ()
    reward_model: str | None = None
    guides: tuple[tuple[str, float], ...] = ()
    combine: str = ColumnSpec("").combine

    def columns(self, generation: GenerationConfig) -> Iterator[ColumnSpec]:
        """Every combination of the values, the last parameter varying fastest. Raises BadSettings for one that the method refuses."""
        names = [name for name, _ in self.params]
        for values, top_k in product(product(*(values for _, values in self.params)), self.top_k or (generation.top_k,)):
            params = tuple(zip(names, values, strict=True))
            method(self.method).make(params)
            own = None if top_k == generation.top_k else replace(generation, top_k=top_k)
            yield ColumnSpec(self.method, params, self.reward_model, own, self.guides, self.combine)


@dataclass(frozen=True)
class Grid:
    """All that a sweep is to make: every column on every prompt with every seed."""

    base_lm: str
    judge: str
    columns: tuple[ColumnSpec, ...]
    prompts: tuple[str, ...]
    generation: GenerationConfig = GenerationConfig()
    num_seeds: int = 1
    first_seed: int = 0

    @property
    def num_answers(self) -> int:
        return len(self.columns) * len(self.prompts) * self.num_seeds

    def plain(self) -> dict[str, Any]:
        """Fields as JSON can hold them: see `evaluation.shards.plain_columns`."""
        from rgtg.evaluation.shards import plain_columns

        return asdict(self) | {"columns": plain_columns(self.columns)}

    @classmethod
    def upgraded(cls, stored: dict) -> dict:
        """Fields from the output of `plain`."""
        from rgtg.evaluation.shards import given_columns

        return stored | {"columns": given_columns(stored["columns"])}

    def command(self, out: str, address: Address = str, prompts: Sequence[str] = ()) -> str:
        """The command that makes the same answers; `prompts` are the options that name them, () names each."""
        words = ["rgtg", "sweep", "--base-lm", address(self.base_lm), "--observe", address(self.judge)]
        words += prompts or [word for text in self.prompts for word in ("--prompt", text)]
        words += ["--seeds", str(self.num_seeds), "--seed", str(self.first_seed)]
        for name, value in asdict(self.generation).items():
            words += ["--" + name.replace("_", "-"), number_text(value)]
        return shlex.join([*words, *(word for column in self.columns for word in ("--run", self._run_text(column, address))), "--out", out])

    def _run_text(self, column: ColumnSpec, address: Address) -> str:
        """The text of a column, with those generation settings alone that differ from the sweep's."""
        text = run_text(replace(column, generation=None), address)
        own = asdict(column.generation) if column.generation else {}
        settings = [f"{name}={number_text(value)}" for name, value in own.items() if value != getattr(self.generation, name)]
        return text + "".join(f"{',' if ':' in text or number else ':'}{setting}" for number, setting in enumerate(settings))


def grid_of(
    base_lm: str, judge: str, rows: Sequence[Row], prompts: Sequence[str], generation: GenerationConfig, num_seeds: int, first_seed: int = 0
) -> Grid:
    """The grid of these rows; equal columns and equal prompts are made once. Raises BadSettings where it is empty or too large."""
    if not rows:
        raise BadSettings("A sweep needs at least one method.", "", "Add a row.", "add-row")
    prompts = tuple(dict.fromkeys(prompts))
    if len(prompts) > MAX_PROMPTS:
        raise BadSettings(f"A sweep has at most {MAX_PROMPTS:,} prompts.", f"Found {len(prompts):,}.", "Use the first ones only.", "limit")
    columns = tuple(dict.fromkeys(column for row in rows for column in row.columns(generation)))
    if len(columns) > MAX_SETTINGS:
        raise BadSettings(f"A sweep has at most {MAX_SETTINGS} settings.", f"Found {len(columns):,}.", "Take fewer values.", "add-row")
    grid = Grid(base_lm, judge, columns, prompts, generation, num_seeds, first_seed)
    if grid.num_answers > MAX_ANSWERS:
        found = f"{len(columns)} settings × {len(prompts):,} prompts × {num_seeds} seeds are {grid.num_answers:,}."
        raise BadSettings(f"A sweep has at most {MAX_ANSWERS:,} answers.", found, "Take fewer values, prompts or seeds.", "seeds")
    return grid


def read_values(text: str, parameter: Parameter, field: str = "") -> tuple[Value, ...]:
    """Values from text such as "0.5, 1, 2" or "0.5 1 2", in their order, each once; () for a blank text. A parameter that is a text has one.

    Raises BadSettings naming `field` for a value that is no number, outside the parameter's range or none of its choices.

    >>> read_values("0.5, 1 1", Parameter("beta", "", 1.0, 0.0, 10.0))
    (0.5, 1.0)
    """
    if parameter.is_text:
        return (text,) if text else ()
    parts = list(filter(None, re.split(r"[,;\s]+", text.strip())))
    if len(parts) > MAX_VALUES:
        raise BadSettings(f"`{parameter.name}` takes at most {MAX_VALUES} values.", f"Found {len(parts)}.", "Take fewer.", field)
    return tuple(dict.fromkeys(_read_value(part, parameter, field) for part in parts))


def _read_value(part: str, parameter: Parameter, field: str) -> Value:
    name, found = parameter.name, f"Found “{part[:40]}”."
    if parameter.choices:
        if part not in parameter.choices:
            raise BadSettings(f"`{name}` has to be one of: {', '.join(parameter.choices)}.", found, "", field)
        return part
    kind = type(parameter.default)
    try:
        number: Any = kind(part.replace("−", "-").replace("∞", "inf"))
    except ValueError:
        what, do = "a whole number" if kind is int else "a number", "Separate several by commas or spaces: 0.5, 1, 2."
        raise BadSettings(f"`{name}` has to be {what}.", found, do, field) from None
    if number in parameter.also:
        return number
    low, high = parameter.min, parameter.max
    if low is None or high is None or not math.isfinite(number) or not low <= number <= high:
        raise BadSettings(f"`{name}` has to be between {low:g} and {high:g}.", found, "", field)
    return number


def generation_parameter(name: str) -> Parameter:
    """A generation setting as a parameter, for `read_values`."""
    return Parameter.of(GenerationConfig.__dataclass_fields__[name])


def read_models(text: str, names: Collection[str], field: str = "") -> tuple[str | None, tuple[tuple[str, float], ...]]:
    """(reward model, guides) from the name of one, or a mix such as `partial*2+length*0.5`. Raises RgtgError naming `field`."""
    if text in names:
        return text, ()

    def check(name: str) -> None:
        if name not in names:
            do = "Choose another, or write a mix: partial*2+length*0.5."
            raise ModelNotFound(f"`{name:.80}` is no reward model for this base LM.", f"Available: {', '.join(names) or 'none'}.", do)

    try:
        return None, parse_mix(text, check)
    except RgtgError as error:
        error.field = field
        raise
