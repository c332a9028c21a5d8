"""The verbs of training: look at data, teach a reward model in the background, list, add and delete models.

The workbench owns it. Knows nothing of Gradio, and of torch only once it is asked to look at data.
"""

import logging
import threading
from collections.abc import Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from rgtg.config import STARTER_DIR, TrainingConfig
from rgtg.errors import BadSettings
from rgtg.guidance.methods import Parameter
from rgtg.models.catalog import ModelInfo
from rgtg.records import ColumnSpec, Job, RewardModelRow

if TYPE_CHECKING:
    from rgtg.training.jobs import Jobs
    from rgtg.training.prepare import DataReport
    from rgtg.workbench import Workbench

logger = logging.getLogger(__name__)
VOTES = "votes"  # the source that stands for this installation's own votes


class Workshop:
    """Where reward models are made. One an installation, reached as `workbench.workshop`."""

    def __init__(self, workbench: "Workbench"):
        self._workbench = workbench
        self._lock = threading.Lock()
        self._jobs: Jobs | None = None

    # --- what a person can choose ---------------------------------------------------------------------------------

    def fields(self) -> tuple[Parameter, ...]:
        """The options of a training, as sliders, choices and flags need them."""
        return tuple(
            Parameter(f.name, f.metadata["help"], f.default, f.metadata.get("min"), f.metadata.get("max"), tuple(f.metadata.get("choices", ())))
            for f in fields(TrainingConfig)
        )

    def starts(self) -> list[ModelInfo]:
        """Models that a training can begin from: base LMs, then reward models; never a judge."""
        return self._workbench.catalog.of_kind("base_lm") + self._workbench.catalog.of_kind("reward_model")

    def data(self, source: str, start: str, config: TrainingConfig) -> "DataReport":
        """What the data is, before anything is trained: counts, lengths, what is left out and why. Raises BadData, BadSettings.

        `source` is `votes`, a file or a hub data set; `start` the model to begin from, whose tokenizer reads the data.
        """
        from rgtg.training.files import read_examples
        from rgtg.training.prepare import prepare
        from rgtg.training.votes import freeze_votes

        info = self._workbench.catalog.get(start, ("base_lm", "reward_model"))
        loaded = self._workbench.loaded(info)
        with TemporaryDirectory() as folder:
            if source == VOTES:
                path = Path(folder) / "votes.jsonl"
                report = freeze_votes(self._workbench.store, path)
                if report.num_pairs == 0:
                    causes = ", ".join(f"{number} {cause.replace('_', ' ')}" for cause, number in report.skipped.items())
                    raise BadSettings(
                        "There is nothing to train on yet.", f"{report.num_votes} votes gave no pair ({causes or 'none stored'}).", "Vote on Compare."
                    )
                source = str(path)
            return prepare(read_examples(source), loaded.tokenizer, loaded.context, loaded.vocabulary_size, config).report

    # --- training -------------------------------------------------------------------------------------------------

    @property
    def jobs(self) -> "Jobs":
        """The background trainings; looked after from the first use on."""
        from rgtg.training.jobs import Jobs

        with self._lock:
            if self._jobs is None:
                self._jobs = Jobs(self._workbench.store, self._workbench.settings, self._appeared, self._gone)
                self._jobs.watch()
            return self._jobs

    def train(self, source: str, start: str, name: str, training: Mapping[str, Any] | None = None) -> str:
        """Begin a training in the background and return its job id. Raises BadSettings, BadData (with counts) or StoreError."""
        from rgtg.training.votes import freeze_votes

        info = self._workbench.catalog.get(start, ("base_lm", "reward_model"))
        config = TrainingConfig(**dict(training or {}))
        given = {"name": name, "base": info.folder_or_id, "base_lm": info.name if info.kind == "base_lm" else self._base_of(info)}
        given |= {"parent": None if info.kind == "base_lm" else info.name, "training": dict(training or {}), "seed": config.seed}
        if source == VOTES:
            return self.jobs.start(given, lambda path: freeze_votes(self._workbench.store, path), snapshot={"source": VOTES})
        path = Path(source).expanduser()
        if not path.is_file():
            raise BadSettings("There is no such file.", f"Found nothing at `{source}`.", "Give a file of JSON lines, or choose your votes.")
        return self.jobs.start(given, lambda out: _copy(path, out))

    def _base_of(self, info: ModelInfo) -> str:
        return (info.card.base_lm if info.card else "") or self._workbench.base_lms()[0].name

    def _appeared(self, row: RewardModelRow, folder: Path) -> None:
        self._workbench.catalog.add(str(folder))

    def _gone(self, row: RewardModelRow, folder: Path) -> None:
        self._workbench.forget(row.name)

    def line_up(self, job: Job) -> list[ColumnSpec]:
        """Old and new side by side: the base LM, the parent where there is one, and the model that the job made."""
        if not job.reward_model:
            raise BadSettings("That training has made no model.", f"It is {job.state}.", "Wait for it, or start another.")
        weight = (("beta", 2.0),)
        old = [ColumnSpec("pargs", weight, job.config["parent"])] if job.config.get("parent") else []
        return [ColumnSpec("base"), *old, ColumnSpec("pargs", weight, job.reward_model)]

    # --- models ---------------------------------------------------------------------------------------------------

    def models(self) -> list[ModelInfo]:
        """Every base LM, reward model and judge that is installed."""
        return self._workbench.catalog.of_kind("base_lm", "reward_model", "judge")

    def trained(self) -> dict[str, RewardModelRow]:
        """Those that were trained here, by name; these can be deleted."""
        return {row.name: row for row in self.jobs.models()}

    def add_model(self, folder_or_id: str, kind: str) -> ModelInfo:
        """Lists a folder or hub id and loads it once, so that what cannot be used is refused now. Raises RgtgError; not in public mode."""
        if self._workbench.settings.public:
            raise BadSettings("Models cannot be added on a public server.", "", "Run rgtg on your own machine.")
        if kind not in ("base_lm", "reward_model"):
            raise BadSettings("A model is a base LM or a reward model.", f"Found `{kind}`.")
        before = {m.name for m in self.models()}
        info = self._workbench.catalog.add(folder_or_id, kind)
        try:
            self._workbench.load(info)
        except Exception:
            if info.name not in before:
                self._workbench.forget(info.name)
            raise
        return info

    def delete_model(self, name: str) -> None:
        """Deletes a model that was trained here; what ships and what a person added stays."""
        self.jobs.delete_model(name)

    def close(self) -> None:
        """Before the store is closed; a trainer at work goes on."""
        with self._lock:
            if self._jobs is not None:
                self._jobs.close()
                self._jobs = None


def ships(info: ModelInfo) -> bool:
    """One of the starter models."""
    return STARTER_DIR in Path(info.folder_or_id).resolve().parents


def children(info: ModelInfo, models: Sequence[ModelInfo]) -> list[str]:
    """Names of the models that were trained from this one."""
    return [m.name for m in models if m.card and info.name in (m.card.base_lm, getattr(m.card, "parent", None)) and m.name != info.name]


def _copy(source: Path, out: Path) -> None:
    out.write_bytes(source.read_bytes())
