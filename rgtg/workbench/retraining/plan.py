"""What rounds of retraining are: their settings, as they stand in the folder of the rounds.

    rounds.json             the plan
    round-0/sweep/          the base LM on the prompts of the evaluation
    round-1/samples.jsonl   answers of the policy of the round before, with the judge's scores
    round-1/data.jsonl      the samples of all rounds so far
    round-1/model/          the reward model trained on them
    round-1/sweep/          what it guides to
    table.md, table.json    a row for each round and setting

Each of these appears complete or not at all, so that rounds that were interrupted go on. Knows nothing of models.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

from rgtg.config import GenerationConfig, check, setting
from rgtg.errors import BadSettings
from rgtg.guidance.methods import method, parse_run
from rgtg.records import ColumnSpec
from rgtg.system.files import write_json
from rgtg.system.serialization import read_json
from rgtg.training.config import TrainingConfig

PLAN, SAMPLES, DATA, MODEL, SWEEP = "rounds.json", "samples.jsonl", "data.jsonl", "model", "sweep"
HELD_OUT = 5  # every fifth prompt is for the evaluation where no others are given


@dataclass(frozen=True)
class RoundsConfig:
    """Numbers of the rounds."""

    rounds: int = setting(3, "Rounds of sampling, training and measuring", 1, 100)
    samples: int = setting(4, "Answers to each prompt in a round", 1, 256)
    eval_seeds: int = setting(1, "Random seeds for each prompt of the evaluation; more narrow the intervals", 1, 1000)
    seed: int = setting(0, "First random seed", 0, 2**30)

    def __post_init__(self) -> None:
        check(self)


@dataclass(frozen=True)
class RoundsPlan:
    """Everything that rounds depend on. `runs` are the settings to measure, as for `--run` and without a reward model; the first of them writes
    the samples of later rounds. `training` are flat settings of a training, `start` the model that each training starts from."""

    prompts: tuple[str, ...]
    eval_prompts: tuple[str, ...]
    judge: str
    base_lm: str
    start: str
    runs: tuple[str, ...]
    training: dict[str, Any]
    numbers: RoundsConfig
    generation: GenerationConfig

    @classmethod
    def of(
        cls, prompts: tuple[str, ...], eval_prompts: tuple[str, ...], judge: str, base_lm: str, start: str, runs: tuple[str, ...],
        training: TrainingConfig, numbers: RoundsConfig, generation: GenerationConfig,
    ) -> "RoundsPlan":  # fmt: skip
        """A checked plan; without prompts for the evaluation every fifth of the others is one, and writes no samples. Raises BadSettings."""
        if not eval_prompts:
            eval_prompts = prompts[HELD_OUT - 1 :: HELD_OUT]
            prompts = tuple(prompt for i, prompt in enumerate(prompts) if i % HELD_OUT != HELD_OUT - 1)
        if not prompts or not eval_prompts:
            raise BadSettings(
                "Rounds need prompts to train on and others to measure with.", f"Found {len(prompts)}.", "Give at least five.", "prompts"
            )
        if numbers.samples < 2 and not training.objective.takes_texts:
            raise BadSettings("Pairs need two answers to a prompt.", f"`samples` is {numbers.samples}.", "Give 2 or more.", "samples")
        if training.objective.needs_prefix_labels:
            do = "Choose an objective that trains on complete answers' labels."
            raise BadSettings(f"`{training.objective.key}` cannot be trained in rounds.", "Samples have no labels of prefixes.", do)
        for text in runs:
            column = parse_run(text, generation)
            if column.mix or not method(column.method).uses_reward:
                found = "It names a reward model." if column.mix else "It reads no reward."
                raise BadSettings(f"The run `{text}` cannot be used in rounds.", found, "Give a method that the round's reward model guides.", "run")
        return cls(prompts, eval_prompts, judge, base_lm, start, runs, training.flat(), numbers, generation)

    @property
    def config(self) -> TrainingConfig:
        return TrainingConfig.of(self.training)

    def columns(self, reward_model: str) -> list[ColumnSpec]:
        """The settings to measure, guided by this reward model."""
        return [replace(parse_run(text, self.generation), reward_model=reward_model) for text in self.runs]

    def begin(self, folder: Path) -> None:
        """Write the plan to the folder. Raises BadSettings where the folder holds another one; only the number of rounds may grow."""
        mine = asdict(self)
        if (path := folder / PLAN).is_file():
            stored = read_json(path)
            differences = sorted(_differences(stored, mine))
            if differences:
                do = "Choose another folder for `--out`, or repeat what the rounds began with."
                raise BadSettings(f"`{folder}` holds other rounds.", f"Different: {', '.join(differences)}.", do)
        write_json(path, mine)


def _differences(stored: Mapping[str, Any], mine: Mapping[str, Any]) -> list[str]:
    of_plan = [f.name for f in fields(RoundsPlan) if f.name != "numbers" and _plain(stored.get(f.name)) != _plain(mine[f.name])]
    numbers = stored.get("numbers") or {}
    return of_plan + [name for name, value in mine["numbers"].items() if name != "rounds" and numbers.get(name) != value]


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value
