"""The judge's reward against KL: methods with several weights as lines, and what they reach at equal KL.

Weights of different reward models are in different units, so that "at one weight" compares nothing; at one KL to the base LM, on the same
prompts and seeds, it does. Knows nothing of files or the screen.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import plotly.graph_objects as go
import torch
from torch import Tensor

from rgtg.errors import BadSettings
from rgtg.evaluation.cells import Cell
from rgtg.evaluation.metrics import times_drawn
from rgtg.evaluation.table import Interval, by_setting, mean_of, words
from rgtg.evaluation.training_seeds import training_seed
from rgtg.plots import COLOURS, SYMBOLS, frontier_layout, with_message

NEAR = 1.15  # a point within this factor of the KL counts as one at that KL, where no other lies beyond it
DRAWS = 400
AT_MOST = " (at most this KL)"
Totals = Mapping[str, tuple[float, float, int]]  # by prompt: sum of KL, sum of the judge's rewards, number
Curves = Mapping[str, Sequence[Totals]]  # of a family: by training seed, the settings of that reward model


@dataclass(frozen=True)
class Point:
    """Mean KL and judge's reward of one setting, with intervals over prompts."""

    setting: str
    kl: Interval
    judge: Interval
    positive: Interval
    at_most: bool = False  # whether the KL is a bound


def family(setting: str) -> str:
    """The part of a setting's name that is no number: `pargs · partial · beta 2` -> `pargs · partial`."""
    return " · ".join(part for part in setting.split(" · ") if not _is_number(part.rpartition(" ")[2]))


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


NameOf = Callable[[str], str]  # the family of a setting, from its name


def families(cells: Sequence[Cell], together: bool = False, name_of: NameOf = family) -> dict[str, list[Point]]:
    """Points by method and models, in the order of their KL: settings that differ in numbers alone, such as the weight, are one family.

    Settings of whose KL nothing is known are left out. `together`: those that differ in the training seed are one point, see `table.by_setting`.
    """
    found: dict[str, list[Point]] = {}
    for setting, of_setting in by_setting(cells, together).items():
        kl = mean_of(of_setting, kl_of)
        judge, positive = mean_of(of_setting, lambda c: c.judge), mean_of(of_setting, lambda c: float(c.judge > 0))
        if kl is not None and judge is not None and positive is not None:
            found.setdefault(name_of(setting), []).append(Point(setting, kl, judge, positive, of_setting[0].kl is None))
    return {name: sorted(points, key=lambda point: point.kl[0]) for name, points in found.items()}


def kl_of(cell: Cell) -> float | None:
    """The KL of an answer, or what that of its setting is at most; None where neither is known."""
    return cell.kl_bound if cell.kl is None else cell.kl


def at_kl(cells: Sequence[Cell], kl: float, seed: int = 0, together: bool = False, name_of: NameOf = family) -> dict[str, Interval]:
    """The judge's reward of each family at this KL, interpolated between its neighbouring settings, with an interval over prompts.

    Prompts are drawn, and both means taken anew, so that the interval knows of the KL's spread too. Families that do not reach it are left out.
    `together`: each training is interpolated on its own, and trainings are drawn as in `metrics.crossed_interval`.
    """
    found = {name: _interval(*_values(curves, kl, _prompts(curves), seed)) for name, curves in _curves(cells, together, name_of).items()}
    return {name: interval for name, interval in found.items() if interval is not None}


def minus_at_kl(cells: Sequence[Cell], kl: float, other: str, seed: int = 0, together: bool = False, name_of: NameOf = family) -> dict[str, Interval]:
    """The judge's reward of each family at this KL minus that of the family `other`, paired: both on the prompts that are drawn.

    Raises BadSettings where there is no such family. Families of which either does not reach the KL are left out.
    """
    by_family = _curves(cells, together, name_of)
    if other not in by_family:
        raise BadSettings(f"There is no `{other}` with a KL.", f"There are: {', '.join(f'`{name}`' for name in by_family)}.", "Choose one of them.")
    found = {}
    for name, curves in by_family.items():
        prompts = sorted(set(_prompts(curves)) & set(_prompts(by_family[other])))
        (value, drawn), (its, its_drawn) = _values(curves, kl, prompts, seed), _values(by_family[other], kl, prompts, seed, 1)
        if name != other and (interval := _interval(value - its, drawn - its_drawn)) is not None:
            found[name] = interval
    return found


def matched_table(cells: Sequence[Cell], kls: Sequence[float], together: bool = False, minus: str = "") -> str:
    """The judge's reward of each family at these KLs as a Markdown table, the highest at the first one on top; "–" where it does not reach.

    With `minus`, the name of a family, the paired differences to it.
    """
    found = [minus_at_kl(cells, kl, minus, 0, together) if minus else at_kl(cells, kl, 0, together) for kl in kls]
    names = list(dict.fromkeys(name for at_one in found for name in at_one))
    names.sort(key=lambda name: [-at_one[name][0] if name in at_one else math.inf for at_one in found])
    title = f"judge at equal KL, minus {minus}" if minus else "judge at equal KL"
    lines = [f"| {title} | " + " | ".join(f"{kl:g} nat{'s' * (kl != 1)}" for kl in kls) + " |", "|---|" + "---|" * len(kls)]
    at_most = {name for name, points in families(cells, together).items() if any(point.at_most for point in points)}
    lines += [
        f"| {name}{AT_MOST if name in at_most else ''} | " + " | ".join(words(at_one.get(name), 1, 2) for at_one in found) + " |" for name in names
    ]
    return "\n".join(lines) + "\n"


def _curves(cells: Sequence[Cell], together: bool, name_of: NameOf) -> dict[str, dict[str, list[Totals]]]:
    """By family and training seed ("" where trainings are not together), the totals of each setting. Settings without a KL are left out."""
    found: dict[str, dict[str, list[Totals]]] = {}
    for setting, of_setting in by_setting(cells, together).items():
        if all(kl_of(c) is not None for c in of_setting):
            by_training = by_setting(of_setting)
            for name, of_training in by_training.items():
                number = training_seed(name) if len(by_training) > 1 else ""
                found.setdefault(name_of(setting), {}).setdefault(number, []).append(_by_prompt(of_training))
    return found


def _by_prompt(cells: Sequence[Cell]) -> Totals:
    totals: dict[str, tuple[float, float, int]] = {}
    for c in cells:
        kl, judge, number = totals.get(c.prompt, (0.0, 0.0, 0))
        totals[c.prompt] = (kl + (kl_of(c) or 0.0), judge + c.judge, number + 1)
    return totals


def _prompts(curves: Curves) -> list[str]:
    """The prompts that all settings of a family have."""
    return sorted(set.intersection(*(set(totals) for settings in curves.values() for totals in settings)))


def _values(curves: Curves, kl: float, prompts: Sequence[str], seed: int, salt: int = 0) -> tuple[float, Tensor]:
    """The judge at this KL, and in each draw (draws,); NaN where a training does not reach it. The same seed draws the same prompts; the
    trainings drawn differ with `salt`."""
    if not prompts:
        return math.nan, torch.full((DRAWS,), math.nan)
    dice = torch.Generator().manual_seed(seed)
    counts = torch.cat([torch.ones(1, len(prompts), dtype=torch.float64), times_drawn(len(prompts), len(prompts), DRAWS, dice)])
    by_training = []
    for settings in curves.values():
        sums = torch.stack([counts @ torch.tensor([totals[p] for p in prompts], dtype=torch.float64) for totals in settings], 1)
        points = (sums[..., :2] / sums[..., 2:]).tolist()  # (1 + draws, settings, 2)
        by_training.append([_interpolated([(x, y) for x, y in of_draw], kl) for of_draw in points])
    values = torch.tensor(by_training, dtype=torch.float64)  # (trainings, 1 + draws)
    value, number = float(values[:, 0].mean()), len(values)
    if number == 1:
        return value, values[0, 1:]
    trainings = times_drawn(number, number - 1, DRAWS, torch.Generator().manual_seed(2 * seed + 1 + salt))  # (draws, trainings)
    drawn = torch.where(trainings > 0, values[:, 1:].T * trainings, 0.0)
    return value, drawn.sum(1) / (number - 1)


def _interval(value: float, drawn: Tensor) -> Interval | None:
    """None where the KL is not reached, or lies at the very end of what is reached."""
    values = drawn[~drawn.isnan()].sort().values.tolist()
    if math.isnan(value) or len(values) < 0.9 * DRAWS:
        return None
    return value, values[int(0.025 * len(values))], values[int(0.975 * len(values)) - 1]


def _interpolated(points: Sequence[tuple[float, float]], kl: float) -> float:
    """The judge at this KL between points (KL, judge); NaN where they do not reach it."""
    points = sorted(points)
    below, above = ([p for p in points if p[0] <= kl], [p for p in points if p[0] > kl])
    if not below or not above:
        nearest = min(points, key=lambda p: abs(p[0] - kl))
        return nearest[1] if nearest[0] > 0 and max(nearest[0] / kl, kl / nearest[0]) <= NEAR else math.nan
    (x0, y0), (x1, y1) = below[-1], above[0]
    return y0 + (y1 - y0) * (kl - x0) / (x1 - x0)


def frontier_figure(cells: Sequence[Cell], together: bool = False) -> go.Figure:
    """Judge's reward against KL, a line for each family; bars are 95 % intervals over prompts, and over trainings where these are `together`."""
    return frontier_of(families(cells, together))


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
                error_y=bars([p.judge for p in points], colour),
                error_x=bars([p.kl for p in points], colour),
                text=[p.setting for p in points],
                name=name + (AT_MOST if any(p.at_most for p in points) else ""),
                mode="lines+markers",
                line={"color": colour, "width": 1.4, "dash": ("solid", "dash", "dot")[number // len(COLOURS) % 3]},
                marker={"size": 7, "symbol": SYMBOLS[number // 2 % len(SYMBOLS)]},
                hovertemplate="%{text}<br>KL %{x:.2f} nats<br>judge %{y:.2f}<extra></extra>",
            )
        )
    return figure


def bars(intervals: Sequence[Interval], colour: str) -> dict:
    """Error bars of these values."""
    up, down = [high - value for value, _, high in intervals], [value - low for value, low, _ in intervals]
    return {"type": "data", "array": up, "arrayminus": down, "thickness": 0.8, "width": 2, "color": colour}
