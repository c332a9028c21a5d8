"""The folder of a sweep: what it is, and its cells in shards that are written whole or not at all.

    sweep.json          the settings, prompts and models of the sweep: its `Plan`
    shards/<name>.jsonl a head with the version of the code, then one cell per line; written under another name and renamed
    results.jsonl       all cells in the order of the plan, merged from the shards

Equal cells may stand in several shards: any is as good as another. Knows nothing of models or tables.
"""

import hashlib
import json
import logging
import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from rgtg.config import GenerationConfig
from rgtg.errors import BadData, BadSettings, door
from rgtg.evaluation.cells import Cell
from rgtg.records import MINUS_INFINITY, ColumnSpec, ModelRef, plain_params
from rgtg.system.files import replacing
from rgtg.system.serialization import check_types, from_dict, from_json, read_json, to_json

logger = logging.getLogger(__name__)
PLAN, SHARDS, RESULTS = "sweep.json", "shards", "results.jsonl"
EARLIER = "cells.jsonl"  # all that versions before shards wrote


def plain_columns(columns: Iterable[ColumnSpec]) -> list[dict[str, Any]]:
    """Columns as JSON can hold them: see `plain_params`."""
    return [asdict(column) | {"params": list(plain_params(column.params).items())} for column in columns]


def given_columns(stored: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """The fields of columns from the output of `plain_columns`."""
    return [
        column | {"params": [[name, -math.inf if value == MINUS_INFINITY else value] for name, value in column.get("params", ())]}
        for column in stored
    ]


@dataclass(frozen=True)
class Plan:
    """What a sweep makes: every column on every prompt with every seed. `models` are all that take part, with the hashes of their weights."""

    base_lm: str
    judge: str
    models: tuple[ModelRef, ...]
    columns: tuple[ColumnSpec, ...]
    prompts: tuple[str, ...]
    seeds: tuple[int, ...]
    generation: GenerationConfig
    first_seed: int = 0

    def plain(self) -> dict[str, Any]:
        """Fields as JSON can hold them: see `plain_params`."""
        return asdict(self) | {"columns": plain_columns(self.columns)}

    @classmethod
    def upgraded(cls, stored: dict) -> dict:
        """Fields from the output of `plain`."""
        return stored | {"columns": given_columns(stored["columns"])}

    def extended(self, other: "Plan") -> "Plan":
        """This plan with the columns, prompts and seeds of another that goes on with it. Raises BadSettings where it is another sweep."""
        differences = list(self._differences(other))
        if differences:
            do = "Choose another folder for `--out`, or repeat what the sweep began with."
            raise BadSettings("The folder holds another sweep.", f"{'; '.join(differences)}.", do)
        known = {ref.name for ref in self.models}
        columns = (*self.columns, *(column for column in other.columns if column not in self.columns))
        models = (*self.models, *(ref for ref in other.models if ref.name not in known))
        return replace(self, models=models, columns=columns, prompts=other.prompts, seeds=other.seeds)

    def _differences(self, other: "Plan") -> Iterator[str]:
        for name in ("base_lm", "judge"):
            if (mine := getattr(self, name)) != (theirs := getattr(other, name)):
                yield f"its {'base LM' if name == 'base_lm' else name} is `{mine}`, not `{theirs}`"
        revisions = {ref.name: ref.revision for ref in other.models}
        for ref in self.models:
            if revisions.get(ref.name, ref.revision) != ref.revision:
                yield f"`{ref.name}` had other weights: {ref.revision}, now {revisions[ref.name]}"
        for name, value in asdict(self.generation).items():
            if value != (theirs := getattr(other.generation, name)):
                yield f"`{name}` is {value:g}, not {theirs:g}"
        if self.first_seed != other.first_seed:
            yield f"its first random seed is {self.first_seed}, not {other.first_seed}"
        for name in ("prompts", "seeds"):
            mine, theirs = getattr(self, name), getattr(other, name)
            if theirs[: len(mine)] != mine:
                shorter = mine[: len(theirs)] == theirs
                yield f"it has {len(mine):,} {name}, not {len(theirs):,}" if shorter else f"its {name} are other ones"


@dataclass(frozen=True)
class Head:
    """First line of a shard: the version of the code that made its cells, their number, and what they took together: seconds, and seconds of
    the processor, which leave out what else the machine did."""

    code: str
    num_cells: int
    seconds: float
    cpu_seconds: float = 0.0


class SweepFolder:
    """The files of a sweep in `path`, read and written. Several processes may write shards of the same sweep."""

    def __init__(self, path: Path):
        self.path = path

    @property
    def plan(self) -> Plan | None:
        """The plan of the sweep that the folder holds; None if it holds none. Raises BadData."""
        path = self.path / PLAN
        if not path.is_file():
            return None
        with door(f"{path} is not the plan of a sweep.", "Choose another folder, or delete it.", BadData):
            fields = read_json(path)
            check_types(Plan, fields)
            return from_dict(Plan, fields)

    def extended(self, plan: Plan) -> Plan:
        """The plan, added to that of the sweep that the folder holds. Raises BadSettings where it holds another, or other results."""
        if (old := self.plan) is not None:
            return old.extended(plan)
        if taken := next((name for name in (EARLIER, RESULTS) if (self.path / name).exists()), None):
            wrong, do = f"`{self.path}` holds results of something else.", "Choose another folder for `--out`."
            raise BadSettings(wrong, f"Found {taken} without {PLAN}.", do)
        return plan

    def begin(self, plan: Plan) -> None:
        """Make the folder one of this sweep."""
        if plan != self.plan:
            with replacing(self.path / PLAN) as part:
                part.write_text(json.dumps(json.loads(to_json(plan)), ensure_ascii=False, indent=1) + "\n", encoding="utf-8")

    def shards(self) -> list[Path]:
        """The files of the shards, by name."""
        return sorted((self.path / SHARDS).glob("*.jsonl"))

    def cells(self) -> dict[str, tuple[Cell, str]]:
        """Cells of all shards by key, each with the version of the code that made it; of equal ones that of the first shard by name."""
        found: dict[str, tuple[Cell, str]] = {}
        for path in self.shards():
            head, cells = read_shard(path)
            for cell in cells:
                found.setdefault(cell.key, (cell, head.code))
        return found

    def write(self, cells: Sequence[Cell], code: str, seconds: float, cpu_seconds: float) -> None:
        """Write cells as one shard, whole or not at all. The same cells have the same name."""
        name = hashlib.sha256("".join(cell.key for cell in cells).encode()).hexdigest()[:16]
        head = to_json(Head(code, len(cells), round(seconds, 3), round(cpu_seconds, 3)))
        with replacing(self.path / SHARDS / f"{name}.jsonl") as part:
            part.write_text("\n".join([head, *map(to_json, cells)]) + "\n", encoding="utf-8")

    def merge(self, cells: Iterable[Cell]) -> None:
        """Write all cells, in order, as `results.jsonl`."""
        with replacing(self.path / RESULTS) as part:
            part.write_text("".join(to_json(cell) + "\n" for cell in cells), encoding="utf-8")

    def results(self) -> list[Cell]:
        """The merged cells, in order. Raises BadData where there are none."""
        path = self.path / RESULTS
        if not path.is_file():
            raise BadData(f"`{self.path}` holds no results of a sweep.", f"There is no {RESULTS}.", "Run the sweep, or give its folder.")
        with door(f"{path} cannot be read.", "Delete it and run the sweep again: it is merged from the shards.", BadData):
            return [from_json(Cell, line.decode()) for line in _lines(path)]

    def speed(self) -> dict[str, tuple[float, float]]:
        """Tokens of answers per second, and per second of the processor, by setting: of many answers at once. NaN where it is not known."""
        totals: dict[str, list[float]] = {}
        for path in self.shards():
            head, cells = read_shard(path)
            total = totals.setdefault(cells[0].setting if cells else "", [0.0, 0.0, 0.0])
            for i, value in enumerate((sum(len(cell.token_ids) for cell in cells), head.seconds, head.cpu_seconds)):
                total[i] += value
        return {
            setting: (tokens / seconds if seconds else math.nan, tokens / cpu if cpu else math.nan)
            for setting, (tokens, seconds, cpu) in totals.items()
        }


def _lines(path: Path) -> list[bytes]:
    return path.read_bytes().split(b"\n")[:-1]  # not splitlines: a text may hold U+2028


def read_shard(path: Path) -> tuple[Head, list[Cell]]:
    """Head and cells of a shard. Raises BadData where it is damaged, which a crash cannot have done."""
    with door(f"{path} is damaged.", "Delete it; its answers are made again.", BadData):
        first, *lines = _lines(path) or [b""]
        head = from_json(Head, first.decode())
        cells = [from_json(Cell, line.decode()) for line in lines]
        if head.num_cells != len(cells):
            raise ValueError(f"{len(cells)} cells were read")
        return head, cells
