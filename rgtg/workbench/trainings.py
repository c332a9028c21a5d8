"""The verbs of training: look at data, train a reward model in the background, list, add and delete models.

The workbench owns it. Knows nothing of Gradio, and of torch only once it is asked to look at data.
"""

import json
import logging
import threading
from collections.abc import Mapping, Sequence
from dataclasses import Field, fields, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from rgtg.config import STARTER_DIR
from rgtg.errors import BadSettings, ModelNotFound, StoreError
from rgtg.guidance.methods import METHODS, Parameter
from rgtg.models.catalog import ModelInfo
from rgtg.records import ColumnSpec, Job, RewardModelRow
from rgtg.training.config import TrainingConfig, objective_help, shared_fields
from rgtg.training.objectives import DEFAULT, OBJECTIVES

if TYPE_CHECKING:
    from rgtg.jobs.service import Jobs
    from rgtg.preferences.dataset import DataReport
    from rgtg.workbench.workbench import Workbench

logger = logging.getLogger(__name__)
VOTES = "votes"  # the source that stands for this installation's own votes
DEFAULT_OBJECTIVE = DEFAULT.key
UNGUIDED = next(m.key for m in METHODS.values() if not m.uses_reward)


class Workshop:
    """Where reward models are made. One an installation, reached as `workbench.workshop`."""

    def __init__(self, workbench: "Workbench"):
        self._workbench = workbench
        self._lock = threading.Lock()
        self._jobs: Jobs | None = None
        self._closed = False

    # --- what a person can choose ---------------------------------------------------------------------------------

    def fields(self) -> tuple[Parameter, ...]:
        """What every training is asked, as sliders, choices and flags need it; the objective comes first."""
        return (Parameter("objective", objective_help(), DEFAULT_OBJECTIVE, choices=tuple(OBJECTIVES)), *map(_parameter, shared_fields()))

    def options(self) -> dict[str, tuple[Parameter, ...]]:
        """The options of each objective."""
        return {key: tuple(map(_parameter, fields(kind))) for key, kind in OBJECTIVES.items()}

    def config(self, options: Mapping[str, Any]) -> TrainingConfig:
        """The training that these options ask for, of those in `fields` and of the objective's own. Raises BadSettings."""
        return TrainingConfig.of(options)

    def starts(self) -> list[ModelInfo]:
        """Models that a training can begin from: base LMs, then reward models; never a judge."""
        return self._workbench.catalog.of_kind("base_lm") + self._workbench.catalog.of_kind("reward_model")

    def data(self, source: str, start: str, config: TrainingConfig) -> "DataReport":
        """What the data is, before anything is trained: counts, lengths, what is left out and why. Raises BadData, BadSettings.

        `source` is `votes`, a file or a hub data set; `start` the model to begin from, whose tokenizer reads the data. What gave no
        pair among the votes stands in `dropped` too; `why_dropped` has the words.
        """
        from rgtg.preferences.dataset import prepare
        from rgtg.preferences.formats import Example, read_examples
        from rgtg.training.criterion import check_data
        from rgtg.training.votes import freeze_votes

        info = self._workbench.catalog.get(start, ("base_lm", "reward_model"))
        loaded = self._workbench.loaded(info)
        no_pair: tuple[tuple[str, int], ...] = ()
        with TemporaryDirectory() as folder:
            if source == VOTES:
                path = Path(folder) / "votes.jsonl"
                report = freeze_votes(self._workbench.store, path)
                if report.num_pairs == 0:
                    causes = ", ".join(f"{number} {cause.replace('_', ' ')}" for cause, number in report.skipped.items())
                    raise BadSettings(
                        "There is nothing to train on yet.", f"{report.num_votes} votes gave no pair ({causes or 'none stored'}).", "Vote on Compare."
                    )
                source, no_pair = str(path), tuple(report.skipped.items())
            examples = read_examples(source)
            check_data(config.objective, isinstance(examples[0], Example))
            weights = config.objective.vote_weights
            found = prepare(examples, loaded.tokenizer, loaded.context, loaded.vocabulary_size, config, loaded.card, **weights).report
            return replace(found, dropped=(*no_pair, *found.dropped))

    def why_dropped(self, cause: str) -> str:
        """A cause of `DataReport.dropped` in words."""
        from rgtg.preferences.dataset import CAUSES as OF_PAIRS
        from rgtg.preferences.pairs import CAUSES as OF_VOTES

        return (OF_VOTES | OF_PAIRS).get(cause, cause.replace("_", " "))

    def free_name(self, stem: str) -> str:
        """`stem`, or with the first number that makes it the name of nothing here."""
        taken, number, name = self._names_taken(), 2, stem
        while name.lower() in taken:
            name, number = f"{stem}-{number}", number + 1
        return name

    def _names_taken(self) -> set[str]:
        """In lower case, of what is installed, was trained here or is being trained."""
        return self._names_of_trainings() | {m.name.lower() for m in self.models()}

    def _names_of_trainings(self) -> set[str]:
        jobs = {job.config["name"] for job in self.jobs.jobs() if job.state in ("queued", "running", "cancelling")}
        rows = {row.name for row in self._workbench.store.jobs.models()}  # deleted ones keep theirs
        return {name.lower() for name in jobs | rows}

    # --- training -------------------------------------------------------------------------------------------------

    @property
    def jobs(self) -> "Jobs":
        """The background trainings; looked after from the first use on."""
        from rgtg.jobs.service import Jobs

        with self._lock:
            if self._closed:
                raise StoreError("The app is closing.", "", "Start it again.")
            if self._jobs is None:
                self._jobs = Jobs(self._workbench.store, self._workbench.settings, self._appeared, self._gone)
                self._jobs.watch()
            return self._jobs

    def train(self, source: str, start: str, name: str, training: Mapping[str, Any] | None = None) -> str:
        """Begin a training in the background and return its job id. Raises BadSettings, BadData (with counts), ModelRefused or StoreError."""
        from rgtg.training.starts import check_start
        from rgtg.training.votes import freeze_votes

        info = self._workbench.catalog.get(start, ("base_lm", "reward_model"))
        config = TrainingConfig.of(training or {})
        check_start(info.folder_or_id, config.objective)
        if name.lower() in {m.name.lower() for m in self.models()}:
            raise BadSettings(f"The name `{name}` is taken.", "It belongs to a model that is installed.", "Choose another name.")
        given: dict[str, Any] = {"name": name, "base": info.folder_or_id, "base_lm": info.name if info.kind == "base_lm" else self._base_of(info)}
        given |= {"parent": None if info.kind == "base_lm" else info.name, "training": dict(training or {}), "seed": config.seed}
        given |= {"guide": self._guide(given["base_lm"])}
        if source == VOTES:
            return self.jobs.start(given, lambda path: freeze_votes(self._workbench.store, path), snapshot={"source": VOTES})
        path = Path(source).expanduser()
        return self.jobs.start(given, lambda out: _write_rows(str(path) if path.is_file() else source, out, config))

    def _guide(self, base_lm: str) -> str | None:
        """Folder or hub id of what guides this base LM until something better is trained."""
        name = self._workbench.guide_for(_method_of(DEFAULT_OBJECTIVE), base_lm)
        return name and self._workbench.catalog.get(name).folder_or_id

    def _base_of(self, info: ModelInfo) -> str:
        return (info.card.base_lm if info.card else "") or self._workbench.base_lms()[0].name

    def _appeared(self, row: RewardModelRow, folder: Path) -> None:
        self._workbench.catalog.add(str(folder))

    def _gone(self, folder: Path) -> None:
        if info := self._workbench.catalog.at(folder):
            self._workbench.forget(info.name)

    def made_by(self, job: Job) -> ModelInfo | None:
        """The model of a training as it is listed; None while there is none, and when it was deleted.

        Its row is there a moment before it is listed, and a process that only reads is not told of it: then it is listed now.
        """
        if not job.reward_model:
            return None
        folder, catalog = self._workbench.settings.models_dir / job.reward_model, self._workbench.catalog
        found = catalog.at(folder)
        if found is None and job.reward_model in {row.name for row in self.jobs.models(("ready", "not_recommended"))} and folder.is_dir():
            found = catalog.add(folder)
        return found

    def line_up(self, job: Job) -> list[ColumnSpec]:
        """Old and new side by side: the base LM, the parent or else what has guided until now, and the model that the job made."""
        if not job.reward_model:
            raise BadSettings("That training has made no model.", f"It is {job.state}.", "Wait for it, or start another.")
        new = self.made_by(job)
        if new is None:
            raise BadSettings(f"`{job.reward_model}` is no longer installed.", "It was deleted.", "Train it again, or choose another.")
        old = job.config.get("parent") or self._workbench.guide_for(_method_of(DEFAULT_OBJECTIVE), job.config["base_lm"])
        before = [m for m in self.models() if m.name == old and m != new]
        return [ColumnSpec(UNGUIDED), *map(_guided, (*before, new))]

    # --- models ---------------------------------------------------------------------------------------------------

    def models(self) -> list[ModelInfo]:
        """Every base LM, reward model and judge that is installed."""
        return self._workbench.catalog.of_kind("base_lm", "reward_model", "judge")

    def trained(self) -> dict[str, RewardModelRow]:
        """Those that were trained here, by the name under which they are listed; these can be deleted."""
        folder, catalog = self._workbench.settings.models_dir, self._workbench.catalog
        return {info.name: row for row in self.jobs.models() if (info := catalog.at(folder / row.name))}

    def add_model(self, folder_or_id: str, kind: str) -> ModelInfo:
        """Lists a folder or hub id, from now on at every start, and loads it once, so that what cannot be used is refused now.

        Raises RgtgError; not in public mode.
        """
        if self._workbench.settings.public:
            raise BadSettings("Models cannot be added on a public server.", "", "Run rgtg on your own machine.")
        if kind not in ("base_lm", "reward_model"):
            raise BadSettings("A model is a base LM or a reward model.", f"Found `{kind}`.")
        try:
            Path(folder_or_id).expanduser().is_dir()
        except (OSError, RuntimeError) as error:  # a name that is too long, a ~ of nobody
            raise ModelNotFound(f"There is no model `{folder_or_id:.80}`.", f"{error}.", "Give a folder, or owner/name.") from error
        before, trained = {m.name for m in self.models()}, self._names_of_trainings()
        info = self._workbench.catalog.add(folder_or_id, kind)
        try:
            if info.name not in before and info.name.lower() in trained:
                raise BadSettings(
                    f"The name `{info.name}` is taken.", "A model is being trained or was trained under it.", "Give it another name in its card."
                )
            self._workbench.load(info)
        except Exception:
            if info.name not in before:
                self._workbench.forget(info.name)
            raise
        if info.name not in before:
            self._workbench.catalog.remember(info)
        return info

    def added(self) -> list[str]:
        """Names of those that were added by hand; these can be taken off the list."""
        return self._workbench.catalog.remembered()

    def take_off(self, name: str) -> None:
        """Off the list and out of memory; its folder stays as it is. Raises BadSettings."""
        if name not in self.added():
            raise BadSettings(f"`{name}` was not added by hand.", "", "Models that ship stay; one that was trained here can be deleted.")
        self._workbench.forget(name)

    def delete_model(self, name: str) -> None:
        """Deletes a model that was trained here; what ships and what a person added stays."""
        row = self.trained().get(name)
        self.jobs.delete_model(row.name if row else name)

    def close(self) -> None:
        """Before the store is closed; a trainer at work goes on."""
        with self._lock:
            self._closed = True
            if self._jobs is not None:
                self._jobs.close()
                self._jobs = None


def ships(info: ModelInfo) -> bool:
    """One of the starter models."""
    return STARTER_DIR in Path(info.folder_or_id).resolve().parents


def children(info: ModelInfo, models: Sequence[ModelInfo]) -> list[str]:
    """Names of the models that were trained from this one."""
    return [m.name for m in models if m.card and info.name in (m.card.base_lm, getattr(m.card, "parent", None)) and m.name != info.name]


def size(info: ModelInfo) -> int | None:
    """Bytes on this disk; None where nothing of it is here."""
    folder = Path(info.folder_or_id).expanduser()
    if not folder.is_dir():
        from huggingface_hub import try_to_load_from_cache

        repository, _, commit = info.folder_or_id.partition("@")
        found = try_to_load_from_cache(repository, "config.json", revision=commit or None)
        if not isinstance(found, str):
            return None
        folder = Path(found).parent
    return sum(p.stat().st_size for p in folder.iterdir() if p.is_file())


def _guided(info: ModelInfo) -> ColumnSpec:
    """A column that this model guides, by the method for its objective."""
    return ColumnSpec(_method_of(info.card.objective if info.card else ""), (("beta", 2.0),), info.name)


def _method_of(objective: str) -> str:
    """The first method whose reward models are trained for this objective; that of the default objective where there is none."""
    known = {m.objective: m.key for m in reversed(METHODS.values()) if m.objective}
    return known.get(objective, known[DEFAULT_OBJECTIVE])


def _parameter(f: Field[Any]) -> Parameter:
    default: Any = f.default
    return Parameter(f.name, f.metadata["help"], default, f.metadata.get("min"), f.metadata.get("max"), tuple(f.metadata.get("choices", ())))


def _write_rows(source: str, out: Path, config: TrainingConfig) -> None:
    """The rows of a file or hub data set as JSON lines, whatever they came as; what cannot be read, or taught, is refused now."""
    from rgtg.preferences.formats import Example, read_examples, rows
    from rgtg.training.criterion import check_data

    check_data(config.objective, isinstance(read_examples(source)[0], Example))
    with out.open("w", encoding="utf-8") as file:
        for _, row in rows(source):
            file.write(json.dumps(row, ensure_ascii=False, default=_plain) + "\n")


def _plain(value: Any) -> Any:
    return value.tolist() if hasattr(value, "tolist") else str(value)
