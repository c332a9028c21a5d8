"""Two tables of docs/results.md that no command prints: pairs that turn over trainings, and accuracy and steering against the number of votes.

Read what `rgtg examine --out` and `rgtg sweep --over-seeds` wrote. Knows nothing of models.
"""

import json
import math
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import plotly.graph_objects as go

from rgtg.evaluation.frontier import bars
from rgtg.evaluation.table import OVER_SEEDS, TABLES, Interval, words
from rgtg.evaluation.trainings import half_width
from rgtg.plots import COLOURS, frontier_layout

Figure = Mapping[str, Any]  # {"accuracy": 0.93, "low": 0.90, "high": 0.95, "n": 400} of an examination


def over_pairs_and_trainings(figures: Sequence[Figure]) -> Interval:
    """Mean share of several trainings on the same pairs with its 95 % interval over pairs, which each figure has, and over trainings (Student's t):
    both are independent, so the squares of the half-widths add up. Cut to [0, 1]."""
    shares = [figure["accuracy"] for figure in figures]
    halves = statistics.fmean((figure["high"] - figure["low"]) / 2 for figure in figures), half_width(shares) if len(shares) > 1 else 0.0
    mean, half = statistics.fmean(shares), math.hypot(*halves)
    return mean, max(0.0, mean - half), min(1.0, mean + half)


def turn_table(examined: Path, objectives: Mapping[str, Sequence[str]]) -> str:
    """Accuracy on the pairs that turn, before the turn, after it and at the end of all pairs, by objective, whose models `objectives` names."""
    report = json.loads(examined.read_text(encoding="utf-8"))
    models, judge = report["models"], report["judge"]
    n = models[judge]["turning"]["n"]
    lines = [
        f"| accuracy, % | trainings | before the turn, n = {n:,} | after it, n = {n:,} | at the end, n = {report['num_pairs']:,} |",
        "|---|---|---|---|---|",
    ]
    for objective, names in {**objectives, judge: [judge]}.items():
        of_names = [models[name] for name in names]
        shares = [[f["turning"]["before"] for f in of_names], [f["turning"]["after"] for f in of_names], [f["by_length"]["end"] for f in of_names]]
        cells = (words(over_pairs_and_trainings(figures), 100, 1) for figures in shares)
        lines.append(f"| {objective} | {len(names)} | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def votes_table(kinds: Mapping[str, Mapping[int, tuple[Path, Path]]], plot: Path | None = None) -> str:
    """By kind of vote and number of votes, from an examination and a sweep over training seeds: accuracy on held-out pairs, and what guidance gains
    over the base LM. `plot`: both against the number, as HTML."""
    lines = [
        "| votes | on | trainings | accuracy at 4 tokens, % | at the end, % | judge, guided | judged positive, minus base |",
        "|---|---|---|---|---|---|---|",
    ]
    rows = [(number, kind, *_of_votes(*files)) for kind, of_kind in kinds.items() for number, files in of_kind.items()]
    for number, kind, trainings, at_four, at_end, judge, gain in sorted(rows):
        figures = words(at_four, 100, 1), words(at_end, 100, 1), words(judge, 1, 2), words(gain, 100, 0)
        lines.append(f"| {number:,} | {kind} | {trainings} | " + " | ".join(figures) + " |")
    if plot is not None:
        _figure([(number, kind, at_end, gain) for number, kind, _, _, at_end, _, gain in rows]).write_html(plot, include_plotlyjs=True)
    return "\n".join(lines) + "\n"


def _of_votes(examined: Path, sweep: Path) -> tuple[int, Interval, Interval, Interval, Interval]:
    models = list(json.loads(examined.read_text(encoding="utf-8"))["models"].values())
    file = sweep / TABLES[2]
    guided = json.loads(file.with_stem(file.stem + OVER_SEEDS).read_text(encoding="utf-8"))[-1]  # behind the base LM
    at_four, at_end = (over_pairs_and_trainings([model["by_length"][length] for model in models]) for length in ("4", "end"))
    return len(models), at_four, at_end, tuple(guided["judge"]), tuple(guided["positive_minus_first"])


def _figure(rows: Sequence[tuple[int, str, Interval, Interval]]) -> go.Figure:
    figure = go.Figure(layout=frontier_layout("votes", "%: solid held-out accuracy at the end, dotted judged positive minus base LM"))
    for colour, kind in zip(COLOURS, dict.fromkeys(row[1] for row in rows), strict=False):
        of_kind = sorted(row for row in rows if row[1] == kind)
        for dash, which in (("solid", 2), ("dot", 3)):
            shares: list[Interval] = [row[which] for row in of_kind]  # type: ignore[misc]
            values = [(100 * value, 100 * low, 100 * high) for value, low, high in shares]
            line = {"color": colour, "dash": dash, "width": 1.6}
            x, y = [row[0] for row in of_kind], [value for value, _, _ in values]
            name = f"on {kind} answers" if kind == "complete" else f"on a {kind}"
            figure.add_trace(
                go.Scatter(
                    x=x, y=y, error_y=bars(values, colour), name=name, legendgroup=kind, showlegend=which == 2, mode="lines+markers", line=line
                )
            )
    figure.update_xaxes(type="log", tickvals=sorted({row[0] for row in rows}))
    return figure
