"""Where the judge's reward is highest as a weight, or a number of answers, grows, and what is lost by other choices: true against proxy reward.

A guide's reward grows with its weight, the judge's may not (over-optimization, arXiv 2210.10760). Knows nothing of models, files or the screen.
"""

import math
import random
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import plotly.graph_objects as go

from rgtg.evaluation.cells import Cell
from rgtg.evaluation.frontier import family, kl_of
from rgtg.evaluation.metrics import crossed_interval
from rgtg.evaluation.table import Interval, by_setting, mean_of, words
from rgtg.evaluation.training_seeds import training_seed
from rgtg.evaluation.weight_grid import Peak, peak
from rgtg.guidance.methods import method
from rgtg.plots import COLOURS, frontier_layout, with_message

HALVINGS = 400


@dataclass(frozen=True)
class Optimum:
    """The weights of a family of settings, and which of them is best.

    `peak` is the weight where the judge's mean is highest, with its interval over prompts, `judge` its reward there; `by_guide` is the weight
    where the guide's mean is highest, `drop` the judge there minus the judge at the peak, paired. `loss` is what the judge has at the best weight
    of one half of the prompts minus what it has, on that half, at the best weight of the other half: its mean over random halves, and the range of
    95 % of them. It is never below zero, as the best weight of a half is chosen on that half.
    """

    name: str
    parameter: str
    peak: Peak
    judge: Interval
    by_guide: float
    drop: Interval
    loss: Interval


def weights(cells: Sequence[Cell], together: bool = False) -> dict[str, tuple[str, dict[float, list[Cell]]]]:
    """By family of settings, see `frontier.family`, the parameter that varies and the cells of each of its values, in order. Families with one
    setting, and those in which several parameters vary, are left out."""
    by_family: dict[str, dict[str, list[Cell]]] = {}
    for setting, of_setting in by_setting(cells, together).items():
        by_family.setdefault(family(setting), {})[setting] = of_setting
    found = {}
    for name, settings in by_family.items():
        numbers = {setting: _numbers(setting, name) for setting in settings}
        parameters = dict.fromkeys(parameter for own in numbers.values() for parameter in own)
        for parameter in parameters:  # a name is silent on defaults
            for own in numbers.values():
                own.setdefault(parameter, _default(name, parameter))
        varied = [parameter for parameter in parameters if len({own[parameter] for own in numbers.values()}) > 1]
        if len(varied) == 1:
            ordered = sorted(settings, key=lambda setting: numbers[setting][varied[0]])
            found[name] = varied[0], {numbers[setting][varied[0]]: settings[setting] for setting in ordered}
    return found


def _numbers(setting: str, of_family: str) -> dict[str, float]:
    """The parts of a setting's name that its family has not: {"beta": 2.0}."""
    parts = (part.rpartition(" ") for part in setting.split(" · ") if part not in of_family.split(" · "))
    return {parameter: float(value) for parameter, _, value in parts}


def _default(of_family: str, parameter: str) -> float:
    """What a method's parameter is where a setting does not name it; NaN for other settings, such as those of sampling."""
    defaults = {p.name: p.default for p in method(of_family.split(" · ")[0]).parameters}
    return float(defaults.get(parameter, math.nan))


def optima(cells: Sequence[Cell], together: bool = False, seed: int = 0) -> list[Optimum]:
    """Of each family with several weights and a guide; `together`: settings that differ in the training seed are one, see `table.by_setting`."""
    found = []
    for name, (parameter, settings) in weights(cells, together).items():
        by_prompt = {weight: _by_prompt(of_weight) for weight, of_weight in settings.items()}
        prompts = sorted(set.intersection(*(set(values) for values in by_prompt.values())))
        guides = {weight: [c.guide for c in of_weight if c.guide is not None] for weight, of_weight in settings.items()}
        if not prompts or not all(guides.values()):
            continue
        judge = {weight: [values[prompt] for prompt in prompts] for weight, values in by_prompt.items()}
        highest = peak(judge)
        assert highest is not None
        by_guide = max(guides, key=lambda weight: statistics.fmean(guides[weight]))
        best = mean_of(settings[highest.weight], lambda c: c.judge)
        assert best is not None
        drop = crossed_interval(_differences(settings[by_guide], settings[highest.weight]))
        found.append(Optimum(name, parameter, highest, best, by_guide, drop, lost_by_halves(judge, seed)))
    return found


def _by_prompt(cells: Sequence[Cell]) -> dict[str, float]:
    rewards: dict[str, list[float]] = {}
    for c in cells:
        rewards.setdefault(c.prompt, []).append(c.judge)
    return {prompt: statistics.fmean(of_prompt) for prompt, of_prompt in rewards.items()}


def _differences(cells: Sequence[Cell], others: Sequence[Cell]) -> list[tuple[str, str, float, float]]:
    """(training, prompt, difference of the judge, 1) of the answers that both have."""
    known = {(training_seed(c.setting), c.prompt, c.seed): c.judge for c in others}
    keys = ((c, (training_seed(c.setting), c.prompt, c.seed)) for c in cells)
    return [(key[0], c.prompt, c.judge - known[key], 1.0) for c, key in keys if key in known]


def lost_by_halves(judge: Mapping[float, Sequence[float]], seed: int = 0) -> Interval:
    """`Optimum.loss` from {weight: the judge's reward by prompt}, the same prompts for each. With one prompt nothing is lost."""
    dice, number = random.Random(seed), len(next(iter(judge.values())))
    losses = []
    for _ in range(HALVINGS if number > 1 else 1):
        order = dice.sample(range(number), number)
        chosen_on, tried_on = order[: (number + 1) // 2], order[(number + 1) // 2 :] or order
        means = {weight: statistics.fmean(values[i] for i in tried_on) for weight, values in judge.items()}
        chosen = max(judge, key=lambda weight: (sum(judge[weight][i] for i in chosen_on), -weight))
        losses.append(max(means.values()) - means[chosen])
    losses.sort()
    return statistics.fmean(losses), losses[int(0.025 * len(losses))], losses[max(0, int(0.975 * len(losses)) - 1)]


def peaks_table(cells: Sequence[Cell], together: bool = False) -> str:
    """The optima as a Markdown table."""
    titles = (
        "growing weight",
        "judge is highest at",
        "judge there",
        "guide is highest at",
        "judge there, minus the highest",
        "lost by a choice on half",
    )
    lines = ["| " + " | ".join(titles) + " |", "|" + "---|" * len(titles)]
    for one in optima(cells, together):
        at = f"{one.parameter} {one.peak.weight:g} [{one.peak.low:g}, {one.peak.high:g}]"
        figures = words(one.judge, 1, 2), f"{one.parameter} {one.by_guide:g}", words(one.drop, 1, 2), words(one.loss, 1, 2)
        lines.append("| " + " | ".join((one.name, at, *figures)) + " |")
    return "\n".join(lines) + "\n"


def peaks_figure(cells: Sequence[Cell], together: bool = False) -> go.Figure:
    """Judge's and guide's rewards against the square root of the KL, a colour for each family: solid the judge, dotted its guide."""
    figure = go.Figure(layout=frontier_layout("√KL to the base LM with the same candidates, nats an answer", "reward: solid judge, dotted guide"))
    lines = {}
    for name, (parameter, settings) in weights(cells, together).items():
        points = []
        for weight, of_weight in settings.items():
            kl, judge, guide = (mean_of(of_weight, value) for value in (kl_of, lambda c: c.judge, lambda c: c.guide))
            if kl is not None and judge is not None and guide is not None:
                points.append((kl[0] ** 0.5, judge, guide, f"{parameter} {weight:g}"))
        if points:
            lines[name] = sorted(points)
    for number, (name, of_line) in enumerate(lines.items()):
        for dash, which, size in (("solid", 1, 7), ("dot", 2, 5)):
            values: list[Interval] = [point[which] for point in of_line]  # type: ignore[misc]
            up, down = [high - value for value, _, high in values], [value - low for value, low, _ in values]
            figure.add_trace(
                go.Scatter(
                    x=[point[0] for point in of_line], y=[value for value, _, _ in values], text=[point[3] for point in of_line],
                    error_y={"type": "data", "array": up, "arrayminus": down, "thickness": 0.8, "width": 2} if which == 1 else None,
                    name=name, legendgroup=name, showlegend=which == 1, mode="lines+markers", marker={"size": size},
                    line={"color": COLOURS[number % len(COLOURS)], "dash": dash, "width": 1.4},
                    hovertemplate=f"%{{text}}<br>√KL %{{x:.2f}}<br>{('judge', 'guide')[which - 1]} %{{y:.2f}}<extra></extra>",
                )
            )  # fmt: skip
    return figure if lines else with_message(figure, "No setting with several weights has a KL and a guide.")
