"""Where the judge's reward is highest as a weight, or a number of answers, grows, and what is lost by other choices: true against proxy reward.

A guide's reward grows with its weight, the judge's may not (over-optimization, arXiv 2210.10760). Knows nothing of models, files or the screen.
"""

import math
import statistics
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass

import plotly.graph_objects as go
import torch
from torch import Tensor

from rgtg.config import GenerationConfig
from rgtg.errors import BadSettings
from rgtg.evaluation.cells import Cell
from rgtg.evaluation.frontier import AT_MOST, bars, family, kl_of
from rgtg.evaluation.metrics import crossed_interval, times_drawn
from rgtg.evaluation.table import Interval, by_setting, mean_of, words
from rgtg.evaluation.training_seeds import training_seed
from rgtg.guidance.methods import method
from rgtg.plots import COLOURS, frontier_layout, with_message

DRAWS = 1000
NONE = "No method with several weights has a guide."


@dataclass(frozen=True)
class Optimum:
    """The weights of a family of settings, and which of them is best.

    `best` is the weight where the judge's mean is highest, with its 95 % interval over prompts and trainings, `judge` its reward there;
    `by_guide` is the weight where the guide's mean is highest, `drop` the judge there minus the judge at the best weight, paired. `loss` is what the
    judge has at the best weight minus what it has at the weight that is best on a random half of the prompts, both on the other half and over all
    trainings: its mean over halves, and the range of 95 % of them. Noise alone makes it positive, as the best weight is chosen on all prompts.
    """

    name: str
    parameter: str
    best: Interval
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
        if len(varied) == 1 and not any(math.isnan(own[varied[0]]) for own in numbers.values()):
            ordered = sorted(settings, key=lambda setting: numbers[setting][varied[0]])
            found[name] = varied[0], {numbers[setting][varied[0]]: settings[setting] for setting in ordered}
    return found


def _numbers(setting: str, of_family: str) -> dict[str, float]:
    """The parts of a setting's name that its family has not: {"beta": 2.0}."""
    parts = (part.rpartition(" ") for part in setting.split(" · ") if part not in of_family.split(" · "))
    return {parameter: float(value) for parameter, _, value in parts}


def _default(of_family: str, parameter: str) -> float:
    """What a parameter of the method, or of sampling, is where a setting does not name it; NaN where it is unknown."""
    defaults = asdict(GenerationConfig())
    with suppress(BadSettings):  # a method of another version
        defaults |= {p.name: p.default for p in method(of_family.split(" · ")[0]).parameters}
    return float(defaults.get(parameter, math.nan))


def optima(cells: Sequence[Cell], together: bool = False, seed: int = 0) -> list[Optimum]:
    """Of each family with several weights and a guide; `together`: settings that differ in the training seed are one, see `table.by_setting`."""
    found = []
    for name, (parameter, settings) in weights(cells, together).items():
        guides = {weight: [c.guide for c in of_weight if c.guide is not None] for weight, of_weight in settings.items()}
        values, numbers = _values(list(settings.values())), list(settings)
        if not values.numel() or not all(guides.values()):
            continue
        best, lost = drawn_peaks(values, seed)
        at = numbers[int(values.mean((1, 2)).argmax())]
        ordered = sorted(numbers[i] for i in best.tolist())
        by_guide = max(guides, key=lambda weight: statistics.fmean(guides[weight]))
        judge = mean_of(settings[at], lambda c: c.judge)
        assert judge is not None
        drop = crossed_interval(_differences(settings[by_guide], settings[at]))
        losses = lost.sort().values.tolist()
        found.append(Optimum(name, parameter, (at, *_middle(ordered)), judge, by_guide, drop, (statistics.fmean(losses), *_middle(losses))))
    return found


def _middle(ordered: Sequence[float]) -> tuple[float, float]:
    return ordered[int(0.025 * len(ordered))], ordered[max(0, int(0.975 * len(ordered)) - 1)]


def _values(settings: Sequence[Sequence[Cell]]) -> Tensor:
    """The judge's mean reward, (weights, trainings, prompts), of the prompts that all settings and trainings have."""
    sums: list[dict[str, dict[str, list[float]]]] = []
    for cells in settings:
        of_weight: dict[str, dict[str, list[float]]] = {}
        for c in cells:
            of_weight.setdefault(training_seed(c.setting), {}).setdefault(c.prompt, []).append(c.judge)
        sums.append(of_weight)
    trainings = [number for number in sums[0] if all(number in of_weight for of_weight in sums)]
    prompts = sorted(set.intersection(*(set(of_weight[number]) for of_weight in sums for number in trainings))) if trainings else []
    means = [[[statistics.fmean(of_weight[number][prompt]) for prompt in prompts] for number in trainings] for of_weight in sums]
    return torch.tensor(means, dtype=torch.float64)


def drawn_peaks(values: Tensor, seed: int = 0) -> tuple[Tensor, Tensor]:
    """From the judge's rewards (weights, trainings, prompts), for each of DRAWS draws: the number of the best weight, prompts and trainings drawn as
    in `metrics.crossed_interval`, and `Optimum.loss` on a random half. Of equal weights the first is best."""
    dice, (_, num_trainings, num_prompts) = torch.Generator().manual_seed(seed), values.shape
    if num_trainings > 1:
        trainings = times_drawn(num_trainings, num_trainings - 1, DRAWS, dice) / (num_trainings - 1)
    else:
        trainings = torch.ones(DRAWS, 1, dtype=torch.float64)
    prompts = times_drawn(num_prompts, num_prompts, DRAWS, dice) / num_prompts
    best = torch.einsum("dt,wtp,dp->dw", trainings, values, prompts).argmax(1)
    order = torch.stack([torch.randperm(num_prompts, generator=dice) for _ in range(DRAWS)])
    chosen_on = (order < (num_prompts + 1) // 2).double()
    tried_on = 1 - chosen_on if num_prompts > 1 else chosen_on
    means = values.mean(1)  # (weights, prompts)
    chosen = (chosen_on @ means.T).argmax(1, keepdim=True)
    on_other_half = tried_on @ means.T / tried_on.sum(1, keepdim=True)  # (draws, weights)
    at = int(means.mean(1).argmax())
    return best, on_other_half[:, at] - on_other_half.gather(1, chosen)[:, 0]


def _differences(cells: Sequence[Cell], others: Sequence[Cell]) -> list[tuple[str, str, float, float]]:
    """(training, prompt, difference of the judge, 1) of the answers that both have."""
    known = {(training_seed(c.setting), c.prompt, c.seed): c.judge for c in others}
    keys = ((c, (training_seed(c.setting), c.prompt, c.seed)) for c in cells)
    return [(key[0], c.prompt, c.judge - known[key], 1.0) for c, key in keys if key in known]


def peaks_table(cells: Sequence[Cell], together: bool = False) -> str:
    """The optima as a Markdown table."""
    found = optima(cells, together)
    if not found:
        return f"{NONE}\n"
    titles = (
        "growing weight",
        "judge is highest at",
        "judge there",
        "guide is highest at",
        "judge there, minus highest",
        "lost by a choice on half",
    )
    lines = ["| " + " | ".join(titles) + " |", "|" + "---|" * len(titles)]
    for one in found:
        at = "{} {:g} [{:g}, {:g}]".format(one.parameter, *one.best)
        figures = words(one.judge, 1, 2), f"{one.parameter} {one.by_guide:g}", words(one.drop, 1, 2), words(one.loss, 1, 2)
        lines.append("| " + " | ".join((one.name, at, *figures)) + " |")
    return "\n".join(lines) + "\n"


def peaks_figure(cells: Sequence[Cell], together: bool = False) -> go.Figure:
    """Judge's and guide's rewards against the square root of the KL, a colour for each family: solid the judge, dotted its guide."""
    figure = go.Figure(
        layout=frontier_layout(
            "√KL to the base LM with the same candidates, nats an answer", "reward, each in its own units: solid judge, dotted guide"
        )
    )
    lines = {}
    for name, (parameter, settings) in weights(cells, together).items():
        points = []
        for weight, of_weight in settings.items():
            kl, judge, guide = (mean_of(of_weight, value) for value in (kl_of, lambda c: c.judge, lambda c: c.guide))
            if kl is not None and judge is not None and guide is not None:
                points.append((kl[0] ** 0.5, judge, guide, f"{parameter} {weight:g}"))
        if points:
            at_most = any(c.kl is None for of_weight in settings.values() for c in of_weight)
            lines[name + AT_MOST if at_most else name] = sorted(points)
    for number, (name, of_line) in enumerate(lines.items()):
        for dash, which, size in (("solid", 1, 7), ("dot", 2, 5)):
            values: list[Interval] = [point[which] for point in of_line]  # type: ignore[misc]
            figure.add_trace(
                go.Scatter(
                    x=[point[0] for point in of_line], y=[value for value, _, _ in values], text=[point[3] for point in of_line],
                    error_y=bars(values, COLOURS[number % len(COLOURS)]) if which == 1 else None,
                    name=name, legendgroup=name, showlegend=which == 1, mode="lines+markers", marker={"size": size},
                    line={"color": COLOURS[number % len(COLOURS)], "dash": dash, "width": 1.4},
                    hovertemplate=f"%{{text}}<br>√KL %{{x:.2f}}<br>{('judge', 'guide')[which - 1]} %{{y:.2f}}<extra></extra>",
                )
            )  # fmt: skip
    return figure if lines else with_message(figure, NONE)
