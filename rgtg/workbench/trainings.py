"""Trainings of an installation: inspect data, train a reward model in the background, list and delete trained models.

Owned by the workbench. Knows nothing of Gradio, and imports torch only to inspect data.
"""

import logging
import shutil
import threading
from collections.abc import Callable, Mapping
from dataclasses import fields, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from rgtg.config import Settings
from rgtg.errors import BadSettings, StoreError
from rgtg.guidance.methods import BASE, METHODS, Parameter
from rgtg.models.catalog import ModelInfo
from rgtg.records import ColumnSpec, Job, RewardModelRow
from rgtg.system import zero_gpu
from rgtg.training.config import TrainingConfig, objective_help, shared_fields
from rgtg.training.objectives import DEFAULT, OBJECTIVES
from rgtg.workbench.library import Library

if TYPE_CHECKING:
    from rgtg.jobs.service import Jobs
    from rgtg.preferences.dataset import DataReport
    from rgtg.store.export import ExportReport
    from rgtg.store.store import Store
    from rgtg.training.pipeline import Estimate

logger = logging.getLogger(__name__)
VOTES = "votes"  # the source name of this installation's own votes
DEFAULT_OBJECTIVE = DEFAULT.key


class Trainings:
    """The trainings and trained reward models of one installation; `workbench.trainings`."""

    def __init__(self, library: Library, store: "Callable[[], Store]", settings: Settings):
        """Trainings of a library; `store` opens the database when it is needed."""
        self._library, self._store, self._settings = library, store, settings
        self._lock = threading.Lock()
        self._jobs: Jobs | None = None
        self._closed = False

    # --- options ----------------------------------------------------------------------------------------------------

    def fields(self) -> tuple[Parameter, ...]:
        """The options that all trainings share, for forms and flags; the objective comes first."""
        return (Parameter("objective", objective_help(), DEFAULT_OBJECTIVE, choices=tuple(OBJECTIVES)), *map(Parameter.of, shared_fields()))

    def options(self) -> dict[str, tuple[Parameter, ...]]:
        """The options of each objective."""
        return {key: tuple(map(Parameter.of, fields(kind))) for key, kind in OBJECTIVES.items()}

    def config(self, options: Mapping[str, Any]) -> TrainingConfig:
        """The settings of these options, which are those of `fields` and of the objective. Raises BadSettings."""
        return TrainingConfig.of(options)

    def starts(self) -> list[ModelInfo]:
        """Models that a training can start from: base LMs, then reward models; never a judge."""
        return self._library.catalog.of_kind("base_lm") + self._library.catalog.of_kind("reward_model")

    def data(self, source: str, start: str, config: TrainingConfig) -> "DataReport":
        """A report of the data before training: counts, lengths, what is left out and why. Raises BadData, BadSettings.

        `source` is `votes`, a file or a hub data set; `start` the model to start from, whose tokenizer is used. Votes without a pair
        are in `dropped` too; `why_dropped` describes the causes.
        """
        from rgtg.jobs.reading import TOKENIZER, report_apart
        from rgtg.preferences.dataset import prepare
        from rgtg.preferences.formats import read
        from rgtg.store.export import skipped_words

        _check_columns(source, config)
        info = self._library.catalog.get(start, ("base_lm", "reward_model"))
        loaded = self._library.loaded(info)
        with TemporaryDirectory() as folder:
            if source != VOTES:
                loaded.tokenizer.save_pretrained(Path(folder) / TOKENIZER)
                return report_apart(source, loaded.context, loaded.vocabulary_size, config, loaded.card, Path(folder))
            path = Path(folder) / "votes.jsonl"
            report, _ = self.snapshot(path)
            if report.num_pairs == 0:
                causes = skipped_words(report.skipped) or "there are no votes"
                raise BadSettings("There is nothing to train on yet.", f"Found no pairs: {causes}.", "Vote on Compare.")
            weights = config.objective.vote_weights
            data_report = prepare(read(path), loaded.tokenizer, loaded.context, loaded.vocabulary_size, config, loaded.card, **weights).report
            return replace(data_report, dropped=(*report.skipped.items(), *data_report.dropped))

    def estimate(self, report: "DataReport", start: str, config: TrainingConfig) -> "Estimate":
        """Estimate the time of a training on this machine; `report` is the result of `data`."""
        from rgtg.training.pipeline import estimate

        info = self._library.catalog.get(start, ("base_lm", "reward_model"))
        return estimate(self._library.loaded(info).model, config, report)

    def why_dropped(self, cause: str) -> str:
        """A cause of `DataReport.dropped` in words."""
        from rgtg.preferences.dataset import CAUSES as OF_PAIRS
        from rgtg.preferences.pairs import CAUSES as OF_VOTES
        from rgtg.store.annotation.sifting import WORDS as SIFTED

        return (OF_VOTES | SIFTED | OF_PAIRS).get(cause, cause.replace("_", " "))

    def free_name(self, stem: str) -> str:
        """An unused model name: `stem`, or `stem` with the first free number."""
        taken, number, name = self._names_taken(), 2, stem
        while name.lower() in taken:
            name, number = f"{stem}-{number}", number + 1
        return name

    def _names_taken(self) -> set[str]:
        """Names, in lower case, of models that are installed, were trained here or are being trained."""
        return self.names() | {m.name.lower() for m in self._library.models() + self._library.unusable()}

    def names(self) -> set[str]:
        """Names, in lower case, of models that were trained here or are being trained."""
        jobs = {job.config["name"] for job in self.jobs.jobs() if job.state in Job.UNFINISHED}
        rows = {row.name for row in self._store().jobs.models()}  # deleted ones keep theirs
        return {name.lower() for name in jobs | rows}

    def snapshot(self, path: Path, filter: str = "") -> "tuple[ExportReport, dict[str, Any]]":
        """Write the votes as training data, without those that a filter leaves out (`store.annotation.sifting`): the report, and the
        snapshot with its name. By default the careful filter where several raters have voted."""
        from rgtg.store.annotation.sifting import snapshot_of
        from rgtg.store.export import export_preferences

        sieve = self._store().annotation.sieve(filter)
        report = export_preferences(self._store(), path, "training", sieve=sieve)
        return report, snapshot_of(report, sieve)

    # --- training -------------------------------------------------------------------------------------------------

    @property
    def jobs(self) -> "Jobs":
        """The background jobs, which are supervised from the first use on."""
        from rgtg.jobs.service import Jobs

        with self._lock:
            if self._closed:
                raise StoreError("The app is closing.", "", "Start it again.")
            if self._jobs is None:
                self._jobs = Jobs(self._store(), self._settings, self._appeared, self._gone)
                self._jobs.watch()
            return self._jobs

    def train(self, source: str, start: str, name: str, training: Mapping[str, Any] | None = None) -> str:
        """Start a training in the background and return its job id. Raises BadSettings, BadData (with counts), ModelRefused or StoreError."""
        from rgtg.jobs.reading import ROWS, rows_apart
        from rgtg.training.criterion import check_data
        from rgtg.training.starts import check_start

        zero_gpu.refuse("Training")
        info = self._library.catalog.get(start, ("base_lm", "reward_model"))
        config = TrainingConfig.of(training or {})
        _check_columns(source, config)
        check_start(info.folder_or_id, config.objective)
        if name.lower() in {m.name.lower() for m in self._library.models() + self._library.unusable()}:
            raise BadSettings(f"The name `{name}` is taken.", "It belongs to a model that is installed.", "Choose another name.", "name")
        given: dict[str, Any] = {"name": name, "base": info.folder_or_id, "base_lm": info.name if info.kind == "base_lm" else self._base_of(info)}
        given |= {"parent": None if info.kind == "base_lm" else info.name, "training": dict(training or {}), "seed": config.seed}
        given |= {"guide": self._guide(given["base_lm"])}
        if source == VOTES:
            snapshot: dict[str, Any] = {"source": VOTES}

            def freeze(path: Path) -> "ExportReport":
                report, found = self.snapshot(path)
                snapshot.update(found)
                return report

            return self.jobs.start(given, freeze, snapshot)
        with TemporaryDirectory() as folder:
            given["reading"] = rows_apart(source, config, Path(folder))
            check_data(config.objective, given["reading"]["kind"] == "pairs")
            return self.jobs.start(given, lambda out: shutil.move(Path(folder) / ROWS, out))

    def _guide(self, base_lm: str) -> str | None:
        """Folder or hub id of the reward model that guides this base LM by default."""
        name = self._library.guide_for(_method_of(DEFAULT_OBJECTIVE), base_lm)
        return name and self._library.catalog.get(name).folder_or_id

    def _base_of(self, info: ModelInfo) -> str:
        return (info.card.base_lm if info.card else "") or self._library.default_base_lm()

    def _appeared(self, row: RewardModelRow, folder: Path) -> None:
        self._library.catalog.add(str(folder))

    def _gone(self, folder: Path) -> None:
        if info := self._library.catalog.at(folder):
            self._library.forget(info.name)

    def made_by(self, job: Job) -> ModelInfo | None:
        """The model that a training made, from the catalog; None while there is none, and after it was deleted.

        Its row exists a moment before it is listed, and a process that only reads is not notified: then it is listed now.
        """
        if not job.reward_model:
            return None
        folder, catalog = self._settings.models_dir / job.reward_model, self._library.catalog
        model = catalog.at(folder)
        if model is None and job.reward_model in {row.name for row in self.jobs.models(("ready", "not_recommended"))} and folder.is_dir():
            model = catalog.add(folder)
        return model

    def line_up(self, job: Job) -> list[ColumnSpec]:
        """Columns to compare old and new: the base LM, the parent or else the previous guide, and the model that the job made."""
        if not job.reward_model:
            raise BadSettings("That training has made no model.", f"It is {job.state}.", "Wait for it, or start another.")
        new = self.made_by(job)
        if new is None:
            raise BadSettings(f"`{job.reward_model}` is no longer installed.", "It was deleted.", "Train it again, or choose another.")
        old = job.config.get("parent") or self._library.guide_for(_method_of(DEFAULT_OBJECTIVE), job.config["base_lm"])
        before = [m for m in self._library.models() if m.name == old and m != new]
        return [ColumnSpec(BASE), *map(_guided, (*before, new))]

    # --- models ---------------------------------------------------------------------------------------------------

    def trained(self) -> dict[str, RewardModelRow]:
        """Models that were trained here, by their listed name; these can be deleted."""
        folder, catalog = self._settings.models_dir, self._library.catalog
        return {info.name: row for row in self.jobs.models() if (info := catalog.at(folder / row.name))}

    def delete_model(self, name: str) -> None:
        """Delete a model that was trained here; models that ship with rgtg or were added are not deleted."""
        row = self.trained().get(name)
        self.jobs.delete_model(row.name if row else name)

    def close(self) -> None:
        """Stop supervising, before the store is closed; a running trainer continues."""
        with self._lock:
            self._closed = True
            if self._jobs is not None:
                self._jobs.close()
                self._jobs = None


def _guided(info: ModelInfo) -> ColumnSpec:
    """A column guided by this model, with the method for its objective."""
    return ColumnSpec(key := _method_of(info.card.objective if info.card else ""), METHODS[key].line_up, info.name)


def _method_of(objective: str) -> str:
    """The first method whose reward models are trained for this objective; that of the default objective where there is none."""
    known = {m.objective: m.key for m in reversed(METHODS.values()) if m.objective}
    return known.get(objective, known[DEFAULT_OBJECTIVE])


def _check_columns(source: str, config: TrainingConfig) -> None:
    """Raise BadSettings where columns are given for votes, which have none."""
    if source == VOTES and config.columns:
        raise BadSettings("`columns` has no effect on votes.", f"Found `{config.columns:.80}`.", "Leave it out, or give a file.", "columns")
