"""Sweeps of the workbench: many prompts in a folder, and weights on the prompt in hand.

Finds the models and checks the limits; the answers are made in `rgtg.evaluation`. Knows nothing of the screen.
"""

import shlex
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING

from rgtg.config import GenerationConfig, Settings
from rgtg.errors import BadSettings
from rgtg.models.admission import admit as admission
from rgtg.prompts import check_text
from rgtg.records import ColumnSpec, Run
from rgtg.system import zero_gpu
from rgtg.system.stopping import stoppable
from rgtg.workbench.budget import Budget
from rgtg.workbench.columns.copying import number_text, run_text
from rgtg.workbench.library import Library
from rgtg.workbench.sweeping.background import BackgroundSweeps
from rgtg.workbench.sweeping.estimate import Estimator
from rgtg.workbench.sweeping.results import MAX_OPEN, SweepResults

if TYPE_CHECKING:
    from rgtg.engine import Models
    from rgtg.evaluation.cells import Cell
    from rgtg.evaluation.engines.base import Engine, Load
    from rgtg.evaluation.weight_grid import Answer, Interval, Line, Peak
    from rgtg.models.catalog import ModelInfo
    from rgtg.rewards.base import RewardModel

ENGINES = {  # key -> what it is
    "process": "one shard after another in this process",
    "pool": "a pool of processes of this machine",
    "ray": "Ray Data, on one machine or a cluster",
}
Mix = tuple[tuple[str, float], ...]
MAX_WEIGHTS, MAX_SEEDS, MAX_ANSWERS = 16, 32, 600  # of a grid of weights


@dataclass(frozen=True)
class DescribedLine:
    """A line of a grid as a page needs it: the columns that have it, its method, what is varied, its name and its guide's."""

    columns: tuple[str, ...]
    method: str
    parameter: str
    name: str
    guide: str


@dataclass(eq=False)
class WeightSweep:
    """A grid of weights on one prompt. Iterating makes the answers: each as it ends, and between them how many are done, with shares."""

    prompt: str
    lines: "Sequence[Line]"
    weights: Sequence[float]
    num_seeds: int
    runs: Sequence[Run]  # by line, weight and seed
    models: "Models"
    judge: "RewardModel | None"
    deadline_s: float | None = None  # it stops by itself at the first token after that

    def __post_init__(self) -> None:
        self._stop, self._started, self.is_late = threading.Event(), 0.0, False
        self._kept: dict[tuple[int, int], dict[int, Answer]] = {}  # by line and weight, then seed

    def stop(self) -> None:
        """Stop at the next round."""
        self._stop.set()

    def __iter__(self) -> "Iterator[Answer | float]":
        from rgtg.evaluation.weight_grid import grid_answers

        self._started = time.perf_counter()
        return grid_answers(self.runs, len(self.weights), self.num_seeds, self.models, self.judge, self._is_over)

    def _is_over(self) -> bool:
        self.is_late = self.is_late or (self.deadline_s is not None and time.perf_counter() - self._started > self.deadline_s)
        return self.is_late or self._stop.is_set()

    def keep(self, answer: "Answer") -> None:
        """Count an answer for `curve` and `peak`."""
        self._kept.setdefault((answer.line, answer.weight), {})[answer.seed] = answer

    def described(self) -> list[DescribedLine]:
        """The lines, for a page."""
        from rgtg.evaluation.weight_grid import guide_name, line_name

        first = [self.runs[number * len(self.weights) * self.num_seeds] for number in range(len(self.lines))]
        return [
            DescribedLine(line.columns, line.spec.method, line.parameter, line_name(run), guide_name(run.guides))
            for line, run in zip(self.lines, first, strict=True)
        ]

    def curve(self, line: int, figure: str) -> "list[Interval | None]":
        """Mean of `judge`, `guide` or `kl` over the seeds so far, for each weight, with its interval; None where there is none."""
        from rgtg.evaluation.weight_grid import over_seeds

        return [over_seeds(list(self._values(line, weight, figure).values())) for weight in range(len(self.weights))]

    def peak(self, line: int) -> "Peak | None":
        """The weight at which the judge's mean is highest, see `evaluation.weight_grid.peak`; None without a judge or answers."""
        from rgtg.evaluation.weight_grid import peak

        values = {weight: self._values(line, number, "judge") for number, weight in enumerate(self.weights)}
        shared = set.intersection(*(set(of_weight) for of_weight in values.values()))  # of a stopped grid the seeds that every weight has
        return peak({weight: [of_weight[seed] for seed in sorted(shared)] for weight, of_weight in values.items()})

    def _values(self, line: int, weight: int, figure: str) -> dict[int, float]:
        answers = self._kept.get((line, weight), {})
        return {seed: value for seed, answer in answers.items() if (value := getattr(answer, figure)) is not None}

    @property
    def command(self) -> str:
        """The command that makes the same answers, with a table of them."""
        run = self.runs[0]
        words = ["rgtg", "sweep", "--prompt", self.prompt, "--base-lm", run.base_lm.name, *(["--observe", self.judge.name] if self.judge else [])]
        words += ["--seeds", str(self.num_seeds), "--seed", str(run.seed)]
        for name, value in asdict(run.generation).items():
            words += ["--" + name.replace("_", "-"), number_text(value)]
        runs = [run_text(line.at(weight)) for line in self.lines for weight in self.weights]
        return shlex.join([*words, *(word for text in runs for word in ("--run", text)), "--out", "weights"])


def engine_of(key: str, workers: int = 0) -> "Callable[[Load], Engine]":
    """What makes the engine of that key from the function by which its workers load their models. Raises BadSettings."""
    if key not in ENGINES:
        raise BadSettings(f"There is no engine `{key}`.", f"There are: {', '.join(ENGINES)}.", "Choose one of them.", "engine")
    if workers < 0:
        raise BadSettings("`--workers` has to be at least 1.", f"Found {workers}.", "Leave it out for one per processor.", "workers")
    if key == "process":
        from rgtg.evaluation.engines.base import InProcess

        if workers > 1:
            raise BadSettings(
                "The engine `process` has one worker.", f"Found {workers}.", "Add `--engine pool`, or leave `--workers` out.", "workers"
            )
        return lambda load: InProcess()
    if key == "pool":
        from rgtg.evaluation.engines.pool import ProcessPool

        return lambda load: ProcessPool(load, workers)
    from rgtg.evaluation.engines import ray_data

    ray_data.check_installed()
    return lambda load: ray_data.RayData(load, workers)


def load_anew(
    settings: Settings, installed: "Sequence[ModelInfo]", admitted: Iterable[str], base_lm: str, reward_models: Sequence[str], judge: str
) -> "tuple[Models, RewardModel]":
    """The models of a sweep, loaded in a process of its own under the names that they are `installed` by; what was `admitted` is not tried anew."""
    admission.trust(admitted)
    library = Library(replace(settings, tuned=False))
    library.catalog.hold(installed)
    return library.load_models(base_lm, reward_models), library.reward_model(judge)


class Sweeps:
    """The sweeps of one installation. `mix` gives the reward models of a column with a base LM, with their weights, by the models' names."""

    def __init__(self, library: Library, budget: Budget, mix: Callable[[ColumnSpec, str], Mix]):
        self.library, self.budget, self.mix = library, budget, mix
        self.estimator = Estimator(library, budget, mix)
        self._open: OrderedDict[Path, SweepResults] = OrderedDict()
        self._open_lock = threading.Lock()

    @cached_property
    def background(self) -> BackgroundSweeps:
        """The sweeps in processes of their own, below `sweeps/` of the data directory."""
        return BackgroundSweeps(self.library.settings, *self.library.given)

    def results(self, name: str) -> SweepResults:
        """The results so far of a sweep in the background; those of the last few are kept in memory. Raises BadSettings."""
        path = self.background.path(name)
        with self._open_lock:
            found = self._open.pop(path, None) or SweepResults(path)
            self._open[path] = found
            while len(self._open) > MAX_OPEN:
                self._open.popitem(last=False)
            return found

    def run(
        self,
        columns: Sequence[ColumnSpec],
        prompts: Sequence[str],
        generation: GenerationConfig,
        seeds: Sequence[int],
        observe: str,
        out: Path,
        base_lm: str | None = None,
        confirmed: bool = False,
        listen: Callable[[float, int], None] = lambda done, total: None,
        keep: bool = False,
        first_seed: int = 0,
        engine: str = "process",
        workers: int = 0,
    ) -> "list[Cell]":
        """Generate every column for every prompt and seed and score it with a judge; the cells are kept in the folder `out`, so that a sweep
        that was interrupted goes on, see `evaluation.sweep.run_sweep`. Raises OverBudget as `compare` does, for the missing cells."""
        from rgtg.evaluation.sweep import AT_ONCE, run_sweep

        zero_gpu.refuse("A sweep")
        for number, prompt in enumerate(prompts, 1):
            check_text(prompt, f"prompt number {number}")
        lm = self.library.base_lm(base_lm).name
        full = [replace(column, reward_model=None, guides=self.mix(column, lm)) for column in columns]
        names = tuple(dict.fromkeys([*(name for column in full for name, _ in column.guides), observe]))
        make_engine = engine_of(engine, workers)
        models, judge = self.library.load_models(lm, names), self.library.reward_model(observe)
        load = partial(load_anew, self.library.settings, tuple(self.library.models()), admission.admitted(), lm, names, observe)

        def check(batches: Sequence[Sequence[Run]]) -> None:
            read = [[replace(run, observers=(judge.ref,)) for run in batch] for batch in batches]  # the judge reads each answer
            self.budget.check_batches(read, models, confirmed, AT_ONCE)

        return run_sweep(models, full, prompts, generation, seeds, judge, out, check, listen, keep, first_seed, make_engine(load))

    def weights(
        self,
        prompt: str,
        columns: Mapping[str, ColumnSpec],
        weights: Sequence[float],
        num_seeds: int,
        generation: GenerationConfig = GenerationConfig(),
        first_seed: int = 0,
        base_lm: str | None = None,
        confirmed: bool = False,
        stopped: Callable[[], bool] = lambda: False,
    ) -> WeightSweep:
        """Prepare every weight for every column that has one, by its letter, on one prompt; everything is checked before the first token.

        The first judge that fits the base LM reads the answers. Raises BadSettings where no column has a weight, OverBudget and Stopped as
        `Workbench.compare` does.
        """
        from rgtg.evaluation.sweep import AT_ONCE
        from rgtg.evaluation.weight_grid import grid_runs, lines_of

        zero_gpu.refuse("A sweep")
        check_text(prompt, "prompt")
        if not 2 <= len(set(weights)) == len(weights) <= MAX_WEIGHTS:
            raise BadSettings(f"A grid has 2 to {MAX_WEIGHTS} different weights.", f"Found {len(weights)}.", "Change the list.", "weights")
        if not 1 <= num_seeds <= MAX_SEEDS:
            raise BadSettings(f"The number of seeds has to be between 1 and {MAX_SEEDS}.", f"Found {num_seeds}.", "", "seeds")
        lm = self.library.catalog.get(base_lm, ("base_lm",)).name if base_lm else self.library.default_base_lm()
        lines = lines_of(columns)
        if not lines:
            raise BadSettings("No column has a weight to vary.", f"Found {_methods_of(columns)}.", "Choose a method with a weight in one of them.")
        if (number := len(lines) * len(weights) * num_seeds) > MAX_ANSWERS:
            found = f"{len(lines)} columns × {len(weights)} weights × {num_seeds} seeds are {number:,}."
            raise BadSettings(f"A grid has at most {MAX_ANSWERS} answers.", found, "Take fewer weights or seeds.", "seeds")
        with stoppable(stopped):
            lines = [replace(line, spec=replace(line.spec, reward_model=None, guides=self.mix(line.spec, lm))) for line in lines]
            judges = [info.name for info in self.library.judges(lm)][:1]
            models = self.library.load_models(lm, [*(name for line in lines for name, _ in line.spec.guides), *judges])
            runs = grid_runs(prompt, lines, sorted(weights), num_seeds, models, generation, first_seed, judges)
        self.budget.check_batches([runs], models, confirmed, AT_ONCE)
        judge = self.library.reward_model(judges[0]) if judges else None
        return WeightSweep(prompt, lines, sorted(weights), num_seeds, runs, models, judge, self.budget.deadline_s)


def _methods_of(columns: Mapping[str, ColumnSpec]) -> str:
    return ", ".join(f"{letter} {spec.method}" for letter, spec in columns.items()) or "no columns"
