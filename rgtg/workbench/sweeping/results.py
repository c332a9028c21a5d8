"""The results of a sweep so far, read from its shards: a row for each setting, lines of judge against KL, maps of two parameters, answers.

A shard is read once. Knows nothing of processes or the screen; loads no model.
"""

import json
import threading
import time
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rgtg.errors import BadSettings
from rgtg.guidance.methods import METHODS, method
from rgtg.records import ColumnSpec, ModelRef, Run
from rgtg.workbench.sweeping.grid import TOP_K

if TYPE_CHECKING:
    import plotly.graph_objects as go

    from rgtg.evaluation.cells import Cell
    from rgtg.evaluation.frontier import Point
    from rgtg.evaluation.shards import Plan

MAX_OPEN = 4  # sweeps whose cells are kept in memory
PATIENCE = 4  # times what it took to summarise, until that is done again
TABLE = ("positive", "positive_minus_first", "judge", "kl", "perplexity", "num_tokens", "distinct_2", "lm_forwards", "reward_forwards")  # on screen
ORDERS = {"prompt": "by prompt", "best": "highest judge first", "worst": "lowest judge first", "far": "highest KL first"}
KLS = (0.5, 1.0, 2.0, 3.0, 4.0, 6.0, 8.0, 12.0, 16.0, 24.0)  # nats: of these one is suggested
Rows = list[dict[str, Any]]


@dataclass(frozen=True)
class Setting:
    """A setting of the sweep: its name in tables, its column, and the numbers of its parameters and of k."""

    name: str
    column: ColumnSpec
    numbers: tuple[tuple[str, float], ...]
    kind: tuple[Any, ...]  # what it is besides these numbers


def settings_of(plan: "Plan") -> list[Setting]:
    """The settings of a sweep in their order; those of methods that no longer exist are left out."""
    from rgtg.evaluation.cells import label

    refs, found = {ref.name: ref for ref in plan.models}, []
    for column in plan.columns:
        if column.method not in METHODS:
            continue
        rule, generation = method(column.method).make(column.params), column.generation or plan.generation
        values = tuple((p.name, getattr(rule, p.name)) for p in method(column.method).parameters)
        guides = tuple((refs.get(name, ModelRef(name, "")), weight) for name, weight in column.mix) if rule.uses_reward else ()
        run = Run("", column.method, ModelRef(plan.base_lm, ""), values, guides, column.combine, generation=generation)
        numbers = [(name, float(value)) for name, value in values if isinstance(value, (int, float)) and not isinstance(value, bool)]
        kind = (column.method, guides, column.combine, tuple(pair for pair in values if not isinstance(pair[1], (int, float))))
        found.append(Setting(label(run), column, (*numbers, (TOP_K, float(generation.top_k))), kind))
    return found


@dataclass(frozen=True)
class Map:
    """Settings by two of their parameters: `names[i][j]` has the ith value of `y` and the jth of `x`, None where there is none."""

    title: str
    x: str
    y: str
    xs: tuple[float, ...]
    ys: tuple[float, ...]
    names: tuple[tuple[str | None, ...], ...]


def maps_of(settings: Sequence[Setting]) -> list[Map]:
    """A map for every group of settings that differ in two numbers; where they differ in more, one for each value of the others.

    The first parameter that varies is across, k down if it varies, else the second.
    """
    maps = []
    for group in _groups(settings):
        varied = _varied(group)
        if len(varied) < 2:
            continue
        x, y = varied[0], varied[-1] if varied[-1] == TOP_K else varied[1]
        others = [name for name in varied if name not in (x, y)]
        for title, here in _apart(group, others).items():
            place = {(dict(one.numbers)[y], dict(one.numbers)[x]): one.name for one in here}
            xs, ys = (tuple(sorted({pair[side] for pair in place})) for side in (1, 0))
            maps.append(Map(title, x, y, xs, ys, tuple(tuple(place.get((row, column)) for column in xs) for row in ys)))
    return maps


def lines_of(settings: Sequence[Setting]) -> dict[str, str]:
    """{setting: name of its line in the plot}: settings that differ in one number alone, the first one that varies, are a line."""
    return {one.name: line for group in _groups(settings) for line, here in _apart(group, _varied(group)[1:]).items() for one in here}


def _groups(settings: Sequence[Setting]) -> list[list[Setting]]:
    """The settings that differ in numbers alone."""
    groups: dict[tuple, list[Setting]] = {}
    for setting in settings:
        groups.setdefault(setting.kind, []).append(setting)
    return list(groups.values())


def _varied(group: Sequence[Setting]) -> list[str]:
    """The numbers in which the settings of a group differ."""
    return [name for name, _ in group[0].numbers if len({dict(one.numbers)[name] for one in group}) > 1]


def _apart(group: Sequence[Setting], names: Sequence[str]) -> dict[str, list[Setting]]:
    """A group by the values of these numbers: {"args · full · top_k 5": …}."""
    from rgtg.evaluation.frontier import family

    found: dict[str, list[Setting]] = {}
    for one in group:
        parts = [family(one.name), *(f"{name} {dict(one.numbers)[name]:g}" for name in names)]
        found.setdefault(" · ".join(parts), []).append(one)
    return found


class SweepResults:
    """What one sweep has given so far. Safe to use from several threads."""

    def __init__(self, path: Path):
        from rgtg.evaluation.shards import SweepFolder

        self.path, self._folder = path, SweepFolder(path)
        self._lock = threading.RLock()
        self._read: dict[tuple[str, int], list[Cell]] = {}  # by the shard's name and time
        self._cells: dict[str, dict[str, Cell]] = {}  # by setting, then key
        self._rows: dict[tuple[str, int, int], dict[str, Any]] = {}
        self._next, self._plan_at = 0.0, -1
        self.plan: Plan | None = None
        self.settings: list[Setting] = []

    def refresh(self) -> str:
        """Read what is new, and return what identifies the results now: it changes with them."""
        with self._lock:
            self._read_plan()
            shards = [(path, (path.name, path.stat().st_mtime_ns)) for path in self._folder.shards()]
            if new := [(path, key) for path, key in shards if key not in self._read]:
                self._take(new)
            return f"{len(shards)} {len(self.settings)} {max((key[1] for _, key in shards), default=0)}"

    def _read_plan(self) -> None:
        try:
            at = (self.path / "sweep.json").stat().st_mtime_ns
        except OSError:
            at = 0
        if at != self._plan_at:
            self.plan, self._plan_at = self._folder.plan, at
            self.settings = settings_of(self.plan) if self.plan else []

    def _take(self, shards: Iterable[tuple[Path, tuple[str, int]]]) -> None:
        from rgtg.evaluation.shards import read_shard

        for path, key in shards:
            _, cells = read_shard(path)
            self._read[key] = cells
            for cell in cells:
                self._cells.setdefault(cell.setting, {})[cell.key] = cell

    def is_due(self, running: bool) -> bool:
        """Whether the rows may be summarised again: while a sweep is `running` not more often than that takes little of the time."""
        with self._lock:
            return not running or time.monotonic() >= self._next

    def cells(self, name: str) -> "list[Cell]":
        """Answers of a setting, in the order of prompts and seeds."""
        with self._lock:
            place = {prompt: number for number, prompt in enumerate(self.plan.prompts if self.plan else ())}
            return sorted(self._cells.get(name, {}).values(), key=lambda cell: (place.get(cell.prompt, 0), cell.seed))

    def all_cells(self) -> "list[Cell]":
        """Answers of every setting, in the order of the plan."""
        with self._lock:
            names = self._names()
        return [cell for name in names for cell in self.cells(name)]

    def num_cells(self) -> int:
        with self._lock:
            return sum(map(len, self._cells.values()))

    def rows(self) -> Rows:
        """One row for each setting that has answers, as `evaluation.table.summary` makes them, in the order of the plan."""
        with self._lock:
            began = time.monotonic()
            self.refresh()
            rows = self._stored() or self._summarised()
            self._next = time.monotonic() + PATIENCE * (time.monotonic() - began)
            return rows

    def _stored(self) -> Rows:
        """The rows of `table.json`, if it is of these cells and has all figures of today."""
        with suppress(OSError, ValueError, TypeError, KeyError):
            found = json.loads((self.path / "table.json").read_text(encoding="utf-8"))
            counts = {name: len(cells) for name, cells in self._cells.items()}
            complete = all("kl_bound" in row for row in found)  # which earlier versions did not write
            if complete and {row["setting"]: row["n"] for row in found} == counts and [row["setting"] for row in found] == self._names():
                return [{key: tuple(value) if isinstance(value, list) else value for key, value in row.items()} for row in found]
        return []

    def _names(self) -> list[str]:
        return [name for name in dict.fromkeys(setting.name for setting in self.settings) if self._cells.get(name)]

    def _summarised(self) -> Rows:
        from rgtg.evaluation.table import summary

        names, rows = self._names(), []
        first = list(self._cells[names[0]].values()) if names else []
        for name in names:
            cells = self.cells(name)
            key = (name, len(cells), len(first))
            if key not in self._rows:
                self._rows[key] = summary([*first, *cells])[-1] if name != names[0] else summary(cells)[0]
            rows.append(self._rows[key])
        return rows


# --- drawn and written ------------------------------------------------------------------------------------------------


def points_of(rows: Rows, settings: Sequence[Setting]) -> "dict[str, list[Point]]":
    """Points of judge against KL by line, see `lines_of`, in the order of their KL; settings without a KL are left out."""
    from rgtg.evaluation.frontier import Point, family

    found: dict[str, list[Point]] = {}
    lines = lines_of(settings)
    for row in rows:
        kl, bound = row["kl"], row["kl_bound"]
        if kl is not None or bound is not None:
            line = lines.get(row["setting"]) or family(row["setting"])
            found.setdefault(line, []).append(Point(row["setting"], kl or (bound, bound, bound), row["judge"], row["positive"], kl is None))
    return {name: sorted(points, key=lambda point: point.kl[0]) for name, points in found.items()}


def without_kl(rows: Rows) -> list[str]:
    """Settings that no plot of KL can show."""
    return [row["setting"] for row in rows if row["kl"] is None and row["kl_bound"] is None]


def comparable(rows: Rows, settings: Sequence[Setting]) -> tuple[list[str], float]:
    """Lines with two known KLs or more, which can be compared at equal KL, and a KL that most of them reach, 0 without any."""
    reached = {name: [point.kl[0] for point in points] for name, points in points_of(rows, settings).items()}
    found = {name: kls for name, kls in reached.items() if len(kls) > 1}
    reaching = {kl: sum(min(kls) <= kl <= max(kls) for kls in found.values()) for kl in KLS}
    return list(found), max(reaching, key=lambda kl: reaching[kl]) if found else 0.0


def at_equal_kl(cells: "Sequence[Cell]", settings: Sequence[Setting], kl: float, minus: str = "") -> tuple[list[str], list[list[str]]]:
    """Head and rows in words: the judge of each line, see `lines_of`, at this KL, the highest first; with `minus`, a line, also the paired
    difference to it. Raises BadSettings for a line that is not there."""
    from rgtg.evaluation.frontier import AT_MOST, at_kl, family, minus_at_kl
    from rgtg.evaluation.table import words

    lines = lines_of(settings)
    name_of = lambda setting: lines.get(setting) or family(setting)  # noqa: E731
    found = at_kl(cells, kl, name_of=name_of)
    less = minus_at_kl(cells, kl, minus, name_of=name_of) if minus else {}
    bounded = {name_of(cell.setting) for cell in cells if cell.kl is None and cell.kl_bound is not None}
    head = ["method", f"judge at {kl:g} nat{'s' * (kl != 1)}", *([f"minus {minus}"] if minus else [])]
    rows = [
        [name + (AT_MOST if name in bounded else ""), words(found[name], 1, 2), *([words(less.get(name), 1, 2)] if minus else [])]
        for name in sorted(found, key=lambda name: -found[name][0])
    ]
    return head, rows


def figure(rows: Rows, settings: Sequence[Setting]) -> "go.Figure":
    """The plot of judge against KL for a page: on its paper, as wide as there is room."""
    from rgtg.evaluation.frontier import frontier_of

    drawn = frontier_of(points_of(rows, settings))
    below = {"orientation": "h", "x": 0, "xanchor": "left", "y": -0.13, "yanchor": "top", "font": {"size": 11}}
    drawn.update_layout(width=None, height=420, paper_bgcolor="rgba(0,0,0,0)", legend=below, margin={"l": 48, "r": 12, "t": 6, "b": 8})
    drawn.update_layout(xaxis={"title": {"text": "KL to the base LM, nats an answer", "standoff": 4, "font": {"size": 11}}})
    drawn.update_layout(yaxis={"title": {"standoff": 6, "font": {"size": 11}}})
    return drawn


def table_words(rows: Rows, keys: Sequence[str] = TABLE) -> tuple[list[str], list[list[str]]]:
    """Head and rows of the table in words, with 95 % intervals."""
    from rgtg.evaluation.table import COLUMNS, words_in

    shown = [column for key in keys for column in COLUMNS if column[0] == key]
    head = ["setting", "answers", *(title for _, title, _, _ in shown)]
    return head, [[row["setting"], f"{row['n']:,}", *(words_in(row, *column) for column in shown)] for row in rows]


def map_value(drawn: Map, rows: Rows) -> dict[str, Any]:
    """A map with the figures of its settings, as JSON."""
    by_name = {row["setting"]: {"n": row["n"]} | {key: row[key][0] if row[key] else None for key in ("judge", "kl", "positive")} for row in rows}
    cells = [[{"setting": name} | by_name.get(name or "", {}) if name else None for name in line] for line in drawn.names]
    return asdict(drawn) | {"cells": cells}


FORMS = {"csv": "table, CSV", "latex": "table, LaTeX", "jsonl": "answers, JSON lines", "html": "plot, HTML"}


def as_file(results: SweepResults, form: str) -> str:
    """The table as `csv` or `latex`, the answers as `jsonl`, the plot as `html`, which opens without the app. Raises BadSettings."""
    from rgtg.evaluation.frontier import frontier_of
    from rgtg.evaluation.table import as_csv
    from rgtg.system.serialization import to_json
    from rgtg.workbench.report.tables import latex

    rows = results.rows()
    if not rows:
        raise BadSettings("There is nothing to download yet.", "No group of answers is complete.", "Wait for the first ones.")
    if form == "jsonl":
        return "".join(to_json(cell) + "\n" for row in rows for cell in results.cells(row["setting"]))
    if form == "html":
        return frontier_of(points_of(rows, results.settings)).to_html(include_plotlyjs=True)
    return as_csv(rows) if form == "csv" else latex(*table_words(rows))


def in_order(cells: "Sequence[Cell]", order: str) -> "list[Cell]":
    """The answers in one of ORDERS; those without a KL stand last."""
    keys: dict[str, Any] = {"best": lambda c: -c.judge, "worst": lambda c: c.judge, "far": lambda c: -c.kl if c.kl is not None else float("inf")}
    return sorted(cells, key=keys[order]) if order in keys else list(cells)
