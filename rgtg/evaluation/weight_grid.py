"""Weights on one prompt: every weight of a grid with several random seeds, made together, and the weight where the judge peaks.

A line is a column whose weight varies. Knows nothing of the store or the screen.
"""

import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from rgtg.config import GenerationConfig
from rgtg.engine import Ended, Models, generate, make_run
from rgtg.evaluation.cells import guided, judged, label, run_seed, total
from rgtg.evaluation.frontier import family
from rgtg.evaluation.metrics import grouped_interval
from rgtg.evaluation.sweep import AT_ONCE
from rgtg.guidance.methods import method
from rgtg.guidance.steps import AnswerProgress
from rgtg.records import ColumnSpec, ModelRef, Run, Step
from rgtg.rewards.base import RewardModel

Interval = tuple[float, float, float]  # mean, low, high
LEAST_SEEDS = 5  # with fewer no weight is recommended
DRAWS = 1000


@dataclass(frozen=True)
class Line:
    """A column of which the weight varies: `name` is the setting without its weight, `parameter` what is varied, `columns` who has it."""

    spec: ColumnSpec
    parameter: str
    columns: tuple[str, ...] = ()

    def at(self, weight: float) -> ColumnSpec:
        """The column with this weight."""
        return replace(self.spec, params=(*((n, v) for n, v in self.spec.params if n != self.parameter), (self.parameter, weight)))


@dataclass(frozen=True)
class Answer:
    """One answer: its place in the grid, its tokens, and its figures as in `cells.Cell`; None where there is no judge, guide or KL."""

    line: int
    weight: int
    seed: int
    run: Run
    steps: tuple[Step, ...]
    stop_reason: str
    judge: float | None
    guide: float | None
    kl: float | None
    error: str = ""


@dataclass(frozen=True)
class Peak:
    """The weight with the highest mean of the judge: between `low` and `high` in 95 % of resamples of the seeds, by `gain` above the lowest weight.

    `is_clear` is False where there are too few seeds to tell it from the lowest weight, or from all the others.
    """

    weight: float
    low: float
    high: float
    gain: Interval
    num_seeds: int
    is_clear: bool
    least: int = LEAST_SEEDS  # that are needed


def lines_of(columns: Mapping[str, ColumnSpec]) -> list[Line]:
    """The lines of these columns, by letter; columns that differ in the weight alone are one, and those without a weight are none."""
    lines: dict[ColumnSpec, Line] = {}
    for letter, spec in columns.items():
        if (weight := method(spec.method).weight) is not None:
            line = Line(replace(spec, params=tuple(sorted((n, v) for n, v in spec.params if n != weight.name))), weight.name)
            lines[line.spec] = replace(line, columns=(*lines.get(line.spec, line).columns, letter))
    return list(lines.values())


def grid_runs(
    prompt: str,
    lines: Sequence[Line],
    weights: Sequence[float],
    num_seeds: int,
    models: Models,
    generation: GenerationConfig,
    first_seed: int,
    observers: Sequence[str],
) -> list[Run]:
    """Runs by line, weight and seed, in this order. Raises RgtgError for a weight outside its range."""
    specs = [line.at(weight) for line in lines for weight in weights]
    return [
        make_run(
            prompt, spec.method, models, spec.params, spec.mix, observers, spec.generation or generation, run_seed(first_seed, seed),
            combining=spec.combine,
        )
        for spec in specs
        for seed in range(num_seeds)
    ]  # fmt: skip


def grid_answers(
    runs: Sequence[Run], num_weights: int, num_seeds: int, models: Models, judge: RewardModel | None, stop: Callable[[], bool]
) -> Iterator[Answer | float]:
    """The answers of `grid_runs` as they end, those of the first seed of every weight first, and between them how many are done, with shares."""
    order = sorted(range(len(runs)), key=lambda number: number % num_seeds)  # every weight has an answer soon
    ordered = [runs[number] for number in order]
    steps: list[list[Step]] = [[] for _ in runs]
    progress = AnswerProgress(ordered)
    for index, event in generate(ordered, models, stop, at_once=AT_ONCE):
        done = progress.after(index, event)
        if isinstance(event, Step):
            steps[index].append(event)
        elif isinstance(event, Ended):
            place, seed = divmod(order[index], num_seeds)
            line, weight = divmod(place, num_weights)
            yield _answer(line, weight, seed, ordered[index], tuple(steps[index]), event, models, judge)
        yield done


def _answer(line: int, weight: int, seed: int, run: Run, steps: tuple[Step, ...], end: Ended, models: Models, judge: RewardModel | None) -> Answer:
    finished = bool(steps) and end.stop_reason not in ("error", "stopped")
    judge_reward = judged(run, [s.token_id for s in steps], models, judge) if judge is not None and finished else None
    guide, kl = (guided(run, steps), total([s.kl for s in steps])) if finished else (None, None)
    return Answer(line, weight, seed, run, steps, end.stop_reason, judge_reward, guide, kl, end.error)


def line_name(run: Run) -> str:
    """Name of a line from one of its runs: `pargs · partial`."""
    return family(label(run))


def guide_name(guides: Sequence[tuple[ModelRef, float]]) -> str:
    """Name of a line's guide, in whose units its reward is: one axis for each."""
    return " + ".join(f"{weight:g}·{ref.name}" if weight != 1 else ref.name for ref, weight in guides)


def over_seeds(values: Sequence[float]) -> Interval | None:
    """Mean over seeds with its 95 % bootstrap interval; None for no values."""
    return grouped_interval([(str(seed), value, 1.0) for seed, value in enumerate(values)]) if values else None


def peak(judge: Mapping[float, Sequence[float]], seed: int = 0) -> Peak | None:
    """The weight where the judge's mean over seeds is highest, from {weight: rewards by seed}, the same seeds for each; None without any.

    Of equal means the lowest weight is taken. A resample draws the same seeds of every weight.
    """
    num_seeds = min(map(len, judge.values()), default=0)
    if not num_seeds:
        return None
    complete = dict(sorted(judge.items()))

    def highest(seeds: Sequence[int]) -> float:
        return max(complete, key=lambda weight: (sum(complete[weight][i] for i in seeds), -weight))

    dice, lowest, best = random.Random(seed), min(complete), highest(range(num_seeds))
    drawn = sorted(highest(dice.choices(range(num_seeds), k=num_seeds)) for _ in range(DRAWS))
    low, high = drawn[int(0.025 * DRAWS)], drawn[int(0.975 * DRAWS) - 1]
    gain = over_seeds([a - b for a, b in zip(complete[best], complete[lowest], strict=True)])
    assert gain is not None
    open_question = low <= lowest or (len(complete) > 3 and (low, high) == (sorted(complete)[1], max(complete)))
    return Peak(best, low, high, gain, num_seeds, num_seeds >= LEAST_SEEDS and gain[1] > 0 and not open_question)
