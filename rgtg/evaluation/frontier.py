"""The judge's reward against KL: methods with several weights as lines, and what they reach at equal KL.

Weights of different reward models are in different units, so that "at one weight" compares nothing; at one KL to the base LM, on the same
prompts and seeds, it does. Knows nothing of files or the screen.
"""

import math
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import plotly.graph_objects as go

from rgtg.evaluation.cells import Cell
from rgtg.evaluation.table import Interval, by_setting, mean_of, words
from rgtg.plots import COLOURS, SYMBOLS, frontier_layout, with_message

NEAR = 1.15  # a point within this factor of the KL counts as one at that KL, where no other lies beyond it
DRAWS = 400


@dataclass(frozen=True)
class Point:
    """Mean KL and judge's reward of one setting, with intervals over prompts."""

    setting: str
    kl: Interval
    judge: Interval
    positive: Interval


def families(cells: Sequence[Cell]) -> dict[str, list[Point]]:
    """Points by method and models, in the order of their KL: settings that differ in numbers alone, such as the weight, are one family.

    Settings without a KL are left out.
    """
    found: dict[str, list[Point]] = {}
    for setting, of_setting in by_setting(cells).items():
        kl = mean_of(of_setting, lambda c: c.kl)
        judge, positive = mean_of(of_setting, lambda c: c.judge), mean_of(of_setting, lambda c: float(c.judge > 0))
        if kl is not None and judge is not None and positive is not None:
            found.setdefault(family(setting), []).append(Point(setting, kl, judge, positive))
    return {name: sorted(points, key=lambda point: point.kl[0]) for name, points in found.items()}


def family(setting: str) -> str:
    """The part of a setting's name that is no number: `pargs · partial · beta 2` -> `pargs · partial`."""
    return " · ".join(part for part in setting.split(" · ") if not _is_number(part.rpartition(" ")[2]))


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def at_kl(cells: Sequence[Cell], kl: float, seed: int = 0) -> dict[str, Interval]:
    """The judge's reward of each family at this KL, interpolated between its neighbouring settings, with an interval over prompts.

    Prompts are drawn, and both means taken anew, so that the interval knows of the KL's spread too. Families that do not reach it are left out.
    """
    dice, found = random.Random(seed), {}
    by_family: dict[str, list[list[Cell]]] = {}
    for setting, of_setting in by_setting(cells).items():
        if all(c.kl is not None for c in of_setting):
            by_family.setdefault(family(setting), []).append(of_setting)
    for name, settings in by_family.items():
        totals = [_by_prompt(of_setting) for of_setting in settings]
        prompts = sorted(set.intersection(*(set(of_prompt) for of_prompt in totals)))
        if not prompts or (value := _interpolated(totals, prompts, kl)) is None:
            continue
        drawn = [_interpolated(totals, dice.choices(prompts, k=len(prompts)), kl) for _ in range(DRAWS)]
        values = sorted(v for v in drawn if v is not None)
        if len(values) >= 0.9 * DRAWS:  # else this KL is at the very end of what it reaches
            found[name] = (value, values[int(0.025 * len(values))], values[int(0.975 * len(values)) - 1])
    return found


def matched_table(cells: Sequence[Cell], kls: Sequence[float]) -> str:
    """The judge's reward of each family at these KLs as a Markdown table, the highest at the first one on top; "–" where it does not reach."""
    found = [at_kl(cells, kl) for kl in kls]
    names = list(dict.fromkeys(name for at_one in found for name in at_one))
    names.sort(key=lambda name: [-at_one[name][0] if name in at_one else math.inf for at_one in found])
    lines = ["| judge at equal KL | " + " | ".join(f"{kl:g} nats" for kl in kls) + " |", "|---|" + "---|" * len(kls)]
    lines += [f"| {name} | " + " | ".join(words(at_one.get(name), 1, 2) for at_one in found) + " |" for name in names]
    return "\n".join(lines) + "\n"


def _by_prompt(cells: Sequence[Cell]) -> dict[str, tuple[float, float, int]]:
    """prompt -> (sum of KL, sum of the judge's rewards, number)."""
    totals: dict[str, tuple[float, float, int]] = {}
    for c in cells:
        kl, judge, number = totals.get(c.prompt, (0.0, 0.0, 0))
        totals[c.prompt] = (kl + (c.kl or 0.0), judge + c.judge, number + 1)
    return totals


def _interpolated(settings: Sequence[dict[str, tuple[float, float, int]]], prompts: Sequence[str], kl: float) -> float | None:
    points = []
    for of_prompt in settings:
        sums = [sum(column) for column in zip(*(of_prompt[prompt] for prompt in prompts), strict=True)]
        points.append((sums[0] / sums[2], sums[1] / sums[2]))
    points.sort()
    below, above = ([p for p in points if p[0] <= kl], [p for p in points if p[0] > kl])
    if not below or not above:
        nearest = min(points, key=lambda p: abs(p[0] - kl))
        return nearest[1] if nearest[0] and max(nearest[0] / kl, kl / nearest[0]) <= NEAR else None
    (x0, y0), (x1, y1) = below[-1], above[0]
    return y0 + (y1 - y0) * (kl - x0) / (x1 - x0)


def frontier_figure(cells: Sequence[Cell]) -> go.Figure:
    """Judge's reward against KL, a line for each family; bars are 95 % intervals over prompts."""
    return frontier_of(families(cells))


def frontier_of(lines: Mapping[str, Sequence[Point]]) -> go.Figure:
    """The figure of these families; the text of a point is the name of its setting."""
    figure = go.Figure(layout=frontier_layout("KL to the base LM with the same candidates, nats an answer", "reward (judge), above its zero"))
    if not lines:
        return with_message(figure, "No setting has a KL.")
    for number, (name, points) in enumerate(lines.items()):
        colour = COLOURS[number % len(COLOURS)]
        figure.add_trace(
            go.Scatter(
                x=[p.kl[0] for p in points],
                y=[p.judge[0] for p in points],
                error_y=_bars([p.judge for p in points], colour),
                error_x=_bars([p.kl for p in points], colour),
                text=[p.setting for p in points],
                name=name,
                mode="lines+markers",
                line={"color": colour, "width": 1.4, "dash": ("solid", "dash", "dot")[number // len(COLOURS) % 3]},
                marker={"size": 7, "symbol": SYMBOLS[number // 2 % len(SYMBOLS)]},
                hovertemplate="%{text}<br>KL %{x:.2f} nats<br>judge %{y:.2f}<extra></extra>",
            )
        )
    return figure


def _bars(intervals: Sequence[Interval], colour: str) -> dict:
    up, down = [high - value for value, _, high in intervals], [value - low for value, low, _ in intervals]
    return {"type": "data", "array": up, "arrayminus": down, "thickness": 0.8, "width": 2, "color": colour}
