"""The workbench: compare, branch, vote, undo, export. Pages and commands use only this class.

Knows nothing of Gradio or of what a page looks like. Loads no model and no torch until it is asked to.
"""

import logging
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from rgtg.config import COLUMN_NAMES, MAX_COLUMNS, PROMPTS_DIR, GenerationConfig, Settings
from rgtg.errors import BadSettings, RgtgError, StoreError, UnknownRecord, in_words
from rgtg.guidance.methods import LINE_UP, METHODS, Method, mix_of
from rgtg.models.catalog import ModelInfo
from rgtg.prompts import check_text
from rgtg.records import ColumnSpec, Comparison, Run, Trace, Vote, new_id, now
from rgtg.system import zero_gpu
from rgtg.system.stopping import stoppable
from rgtg.workbench.budget import Budget
from rgtg.workbench.columns.line_ups import LineUps
from rgtg.workbench.examining.examination import Examinations
from rgtg.workbench.exchange import Exchange
from rgtg.workbench.further import branch_of, continuations, on_screen
from rgtg.workbench.library import Library
from rgtg.workbench.past import Past
from rgtg.workbench.running import RunningComparison
from rgtg.workbench.serving.generating import estimator
from rgtg.workbench.sweeps import Sweeps
from rgtg.workbench.trainings import Trainings
from rgtg.workbench.visitors import LOCAL, Raters, Visitor, unknown
from rgtg.workbench.voting.door import VoteDoor

if TYPE_CHECKING:
    from rgtg.engine import Models
    from rgtg.store.export import ExportReport
    from rgtg.store.store import Store
    from rgtg.workbench.annotation.annotation import Annotation

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class ModelStatus:
    """Loading status: `state` is loading, ready or failed; `text` is one line for the screen."""

    state: str
    text: str
    error: str = ""


class Workbench:
    """One installation: its models, its database, its running comparisons."""

    def __init__(self, settings: Settings, base_lms: Sequence[str] = (), reward_models: Sequence[str] = ()):
        self.settings = settings
        self.library = Library(settings, base_lms, reward_models)
        self.budget = Budget(settings)
        self.line_ups = LineUps(settings.presets_dir)
        self.trainings = Trainings(self.library, lambda: self.store, settings)
        self.examinations = Examinations(self.library, self.trainings)
        self.sweeps = Sweeps(self.library, self.budget, lambda column, lm: self._own_names(self._mix(column, lm)))
        self.raters = Raters(lambda: self.store, settings.public)
        self.vote_door = VoteDoor(lambda: self.store, self.raters, settings.public)
        self.past = Past(lambda: self.store, self.raters)
        self.exchange = Exchange(lambda: self.store)
        self._store_lock, self._running_lock = threading.Lock(), threading.Lock()
        self._store: Store | None = None
        self._closed = False
        self._running: dict[str, RunningComparison] = {}
        self._status = ModelStatus("loading", "models are loading …")
        self._ready = threading.Event()
        self._not_stored = ""  # why, where the database could not be opened for writing

    @cached_property
    def annotation(self) -> "Annotation":
        """Annotation tasks; loads numpy."""
        from rgtg.workbench.annotation.annotation import Annotation

        return Annotation(self.settings, lambda: self.store, self.raters, self.compare, self.branch, self.vote_door)

    # --- models ---------------------------------------------------------------------------------------------------

    def status(self) -> ModelStatus:
        """Loading status of the models, with the reason why nothing is stored, if any."""
        status, open_again = self._status, self._store is not None and not self._store.read_only
        return replace(status, text=f"{status.text} · nothing is stored: {self._not_stored}") if self._not_stored and not open_again else status

    def start_loading(self) -> None:
        """Load the models of the default columns in the background, see `status`. Other models are loaded when they are chosen; on ZeroGPU, where
        only this thread may do that, all of them now."""
        if zero_gpu.ACTIVE:
            return self._load_default()
        threading.Thread(target=self._load_default, name="model-loader", daemon=True).start()

    def wait_until_ready(self, timeout: float | None = None) -> None:
        """Wait until the models are loaded. Raises RgtgError where that failed or takes longer than `timeout` seconds."""
        if not self._ready.wait(timeout):
            raise RgtgError("The models are still loading.", "", "Try again in a moment.")
        if self._status.state == "failed":
            raise RgtgError("The models could not be loaded.", self._status.error)

    def _load_default(self) -> None:
        try:
            lm = self.library.base_lm()
            self._status = ModelStatus("loading", "loading reward models …")
            try:
                self._warm_up(lm.name)
            except Exception as error:  # a bad reward model does not keep the others from working
                logger.warning("%s", in_words(error, "The first tokens could not be generated."), exc_info=not isinstance(error, RgtgError))
            self._load_others()
            self._open_store()
            words = ["models ready", lm.loaded.model.device.type, *self._unusable()]
            logger.info("models ready: %s", ", ".join(self.library.in_memory()))  # a click may load another meanwhile
            self._status = ModelStatus("ready", " · ".join(words))
        except Exception as error:
            logger.warning("loading failed", exc_info=not isinstance(error, RgtgError))
            self._status = ModelStatus("failed", "no models", str(in_words(error, "The models could not be loaded.", "The traceback is in the log.")))
        finally:
            self._ready.set()
        self.library.load_allowed()
        if self._status.state == "ready":
            self._status = ModelStatus("ready", " · ".join(["models ready", lm.loaded.model.device.type, *self._unusable()]))

    def _load_others(self) -> None:
        """On ZeroGPU: load and measure what could be chosen later, as a GPU's process has the models that this one had when it began."""
        estimator.estimate = lambda runs, models: self.budget.estimate(runs, models).seconds
        for info in self.library.models() if zero_gpu.ACTIVE else ():
            try:
                self.library.load(info)
            except RgtgError as error:
                logger.warning("%s", error)

    def _open_store(self) -> None:
        """Open the database before the first comparison and list the models trained since the last start. A failure is shown in the status;
        everything that needs no database still works."""
        try:
            _ = self.store, self.trainings.jobs
            self._not_stored = self.store.read_only
        except Exception as error:
            self._not_stored = str(in_words(error, kind=StoreError))
            logger.warning("%s", self._not_stored, exc_info=not isinstance(error, RgtgError))

    def _unusable(self) -> list[str]:
        """Number of installed models that cannot be used, as text for the status; the page Models gives the reasons."""
        num = len(self.library.unusable())
        return [f"{num} model{'s' if num > 1 else ''} cannot be used, see Models"] if num else []

    def _warm_up(self, base_lm: str) -> None:
        """Generate a few tokens with the default columns, so that the first comparison does not wait for models or for torch's set-up."""
        from rgtg.engine import generate

        runs, models = self._runs("a", self.default_columns(), GenerationConfig(max_new_tokens=2), 0, base_lm)
        for _ in () if zero_gpu.ACTIVE else generate(runs, models):
            pass
        self.budget.estimate(runs, models)  # measures them

    def add_model(self, folder_or_id: str, kind: str) -> ModelInfo:
        """Add a folder or Hub id to the installed models, permanently; its name must not be that of a training. Raises RgtgError."""
        return self.library.add(folder_or_id, kind, reserved=self.trainings.names())

    # --- what a person can choose ---------------------------------------------------------------------------------

    def methods(self) -> dict[str, Method]:
        return METHODS

    def default_columns(self) -> list[ColumnSpec]:
        """Base LM, full-sequence and partial-sequence guidance, as far as such reward models are installed."""
        guides = {key: self.library.guide_for(key) for key in LINE_UP}
        return [ColumnSpec(key, METHODS[key].line_up, guide) for key, guide in guides.items() if guide or not METHODS[key].uses_reward]

    def score(self, reward_model: str, prompt: str, response: str, complete: bool = False, base_lm: str | None = None) -> dict[str, list]:
        """Rewards of every prefix of a response, see `scoring.rewards_along`; `base_lm` gives the tokens to a reward model that reads text."""
        from rgtg.workbench.scoring import rewards_along

        check_text(prompt, "prompt")
        check_text(response, "response")
        return rewards_along(self.library.reward_model(reward_model), lambda: self.library.base_lm(base_lm), prompt, response, complete)

    def openings(self) -> list[str]:
        """Example prompts that ship with rgtg."""
        path = PROMPTS_DIR / "openings.txt"
        return [line.strip() for line in path.read_text(encoding="utf-8").splitlines() if line.strip()] if path.is_file() else []

    # --- compare and branch ---------------------------------------------------------------------------------------

    def compare(
        self,
        prompt: str,
        columns: Sequence[ColumnSpec],
        generation: GenerationConfig = GenerationConfig(),
        seed: int = 0,
        base_lm: str | None = None,
        visitor: Visitor = LOCAL,
        observers: Sequence[str] | None = None,
        save: bool = True,
        confirmed: bool = False,
        stopped: Callable[[], bool] = lambda: False,
    ) -> RunningComparison:
        """Prepare one prompt with several methods, generated together; everything is checked before the first token.

        All reward models of the columns and all judges observe, unless `observers` names others. Raises OverBudget where the estimate
        exceeds the limits, unless the user has `confirmed` it; a public server ignores `confirmed`. Raises Stopped once `stopped()` is
        true, also while models load.
        """
        if not 1 <= len(columns) <= MAX_COLUMNS:
            raise BadSettings(f"A comparison has 1 to {MAX_COLUMNS} columns.", f"Found {len(columns)}.")
        if not isinstance(seed, int) or not 0 <= seed < 2**53:
            raise BadSettings("The seed has to be a whole number from 0 to 9007199254740991.", f"Found {seed!r}.")
        if not isinstance(prompt, str) or len(prompt) > 100_000:
            raise BadSettings("The prompt is too long.", f"Found {len(prompt):,} characters; 100,000 are read at most.", "Shorten it.", "prompt")
        check_text(prompt, "prompt")
        with stoppable(stopped):
            runs, models = self._runs(prompt, columns, generation, seed, base_lm, observers)
        self.budget.check(runs, models, confirmed)
        traces = [Trace(new_id(), COLUMN_NAMES[i], run, place=i, created_at=now()) for i, run in enumerate(runs)]
        comparison = Comparison(new_id(), prompt, tuple(traces), rater_id=self.raters.maker(visitor) if save else None, created_at=now())
        return self._begin(RunningComparison(comparison, traces, models, (lambda: self.store) if save else None, self._ended, self.budget.deadline_s))

    def _runs(
        self,
        prompt: str,
        columns: Sequence[ColumnSpec],
        generation: GenerationConfig,
        seed: int,
        base_lm: str | None,
        observers: Sequence[str] | None = None,
    ) -> tuple[list[Run], "Models"]:
        from rgtg.engine import make_run

        lm = self.library.catalog.get(base_lm, ("base_lm",)).name if base_lm else self.library.default_base_lm()
        mixes = [self._mix(c, lm) for c in columns]
        guides = [name for mix in mixes for name, _ in mix]
        observer_names = [m.name for m in self.library.judges(lm)] if observers is None else list(observers)
        if observers is None:
            observer_names = [*(name for name in dict.fromkeys(guides) if self.library.scorer(name).kind != "base_lm"), *observer_names]
        models = self.library.load_models(lm, [*guides, *observer_names])
        observer_names = [self.library.reward_model(name).name for name in observer_names]
        runs = [
            make_run(prompt, c.method, models, c.params, self._own_names(mix), observer_names, c.generation or generation, seed, (), c.combine)
            for c, mix in zip(columns, mixes, strict=True)
        ]
        return runs, models

    def _mix(self, column: ColumnSpec, base_lm: str) -> tuple[tuple[str, float], ...]:
        """Reward models that guide a column, with their weights: those it names, else the default one of its method."""
        return mix_of(column, self.library.guide_for(column.method, base_lm), base_lm, self.library.roles_for(column.method, base_lm))

    def _own_names(self, mix: Sequence[tuple[str, float]]) -> tuple[tuple[str, float], ...]:
        """Replace folders, as given on the command line, by the models' names."""
        return tuple((self.library.reward_model(name).name, weight) for name, weight in mix)

    def branch(self, comparison_id: str, trace_id: str, position: int, token_id: int | None, visitor: Visitor = LOCAL) -> RunningComparison:
        """Branch from one token: the trace is repeated up to `position`, takes `token_id` there and continues."""
        comparison = self._at_rest(comparison_id, visitor)
        return self._further(comparison, [branch_of(comparison, trace_id, position, token_id)])

    def go_on(self, comparison_id: str, visitor: Visitor = LOCAL) -> RunningComparison:
        """Continue the stopped answers of a comparison, see `further.continuations`."""
        comparison = self._at_rest(comparison_id, visitor)
        return self._further(comparison, continuations(comparison))

    def _at_rest(self, comparison_id: str, visitor: Visitor) -> Comparison:
        self.comparison(comparison_id, visitor)
        running = self.running(comparison_id)
        if running is not None:
            running.stop()
            running.keep()
        return self.comparison(comparison_id, visitor)

    def _further(self, comparison: Comparison, traces: Sequence[Trace]) -> RunningComparison:
        runs = [trace.run for trace in traces]
        models = self.library.load_models(runs[0].base_lm.name, [*dict.fromkeys(ref.name for run in runs for ref in run.models)])
        for run in runs:
            self._check_same_weights(run, models)
        self.budget.check(runs, models, confirmed=True)  # whoever made its column was asked
        return self._begin(RunningComparison(comparison, traces, models, lambda: self.store, self._ended, self.budget.deadline_s))

    @staticmethod
    def _check_same_weights(run: Run, models: "Models") -> None:
        refs = (run.base_lm, *run.models)
        current = {models.base_lm.name: models.base_lm.loaded.ref} | {name: m.ref for name, m in models.reward_models.items()}
        for ref in refs:
            if current[ref.name].revision != ref.revision:
                change = f"`{ref.name}` was {ref.revision} and is {current[ref.name].revision} now."
                raise BadSettings("This comparison was made with other weights.", change, "Run it again with the current weights to branch.")

    def _begin(self, running: RunningComparison) -> RunningComparison:
        with self._running_lock:
            self._running[running.id] = running
        return running

    def running(self, comparison_id: str) -> RunningComparison | None:
        """The running comparison of that id; None where it has ended or is unknown."""
        with self._running_lock:
            return self._running.get(comparison_id)

    def _ended(self, running: RunningComparison) -> None:
        with self._running_lock:
            if self._running.get(running.id) is running:
                del self._running[running.id]

    # --- what is stored -------------------------------------------------------------------------------------------

    @property
    def store(self) -> "Store":
        """The database, opened on first use. Raises StoreError, also after `close`."""
        with self._store_lock:
            if self._closed:
                raise StoreError("The app is closing.", "", "Start it again.")
            if self._store is None:
                from rgtg.store.store import Store

                self._store = Store(self.settings.database, self.settings.secret, backups=True, votes_dataset=self.settings.votes_dataset)
            return self._store

    @property
    def opened_store(self) -> "Store | None":
        """The database, if it is open."""
        return self._store

    def close(self) -> None:
        """Close the trainings and the database."""
        self.trainings.close()
        with self._store_lock:
            self._closed = True
            if self._store is not None:
                self._store.close()
                self._store = None

    def comparison(self, comparison_id: str, visitor: Visitor = LOCAL) -> Comparison:
        """The comparison in its current state, running or stored. Raises UnknownRecord, also for one that the visitor may not read."""
        running = self.running(comparison_id)
        try:
            found = running.comparison if running is not None else self.store.comparison(comparison_id)
        except UnknownRecord:
            raise unknown(comparison_id) from None
        if self.annotation.hides(found, visitor):
            raise BadSettings("What made these answers is shown after your vote.", "", "Vote on them on the Annotate page.")
        return self.raters.check_reads(found, visitor)

    def vote(
        self,
        comparison_id: str,
        verdict: str,
        best_trace_id: str | None = None,
        seen_trace_ids: Sequence[str] = (),
        visitor: Visitor = LOCAL,
        vote_id: str | None = None,
        strength: int | None = None,
        dwell_ms: int | None = None,
        token: str = "",
    ) -> Vote:
        """Store a vote. A running comparison stops, and its traces are stored in the same transaction.

        Raises StoreError where the vote is not valid (`store.queries.check_vote`), or on a public server its `token` (`voting.door`); the
        comparison then continues.
        """
        from rgtg.store.queries import check_vote

        running = self.running(comparison_id)
        comparison = self.comparison(comparison_id, visitor)
        seen = tuple(seen_trace_ids) or tuple(t.id for t in on_screen(comparison))
        vote = Vote(vote_id or new_id(), comparison_id, verdict, best_trace_id, seen, self.raters.rater(visitor), strength, dwell_ms=dwell_ms)
        check_vote(vote, comparison.state, {t.id for t in comparison.traces})
        vote, done = self.vote_door.admit(vote, token, visitor)
        if done:
            return done
        if running is None:
            return self.store.add_vote(vote)
        running.stop()
        stored = running.keep(vote)
        if stored is None:
            raise StoreError("The vote was not stored.", "This comparison is not saved.", "Generate it again to save it.")
        return stored

    def undo(self, comparison_id: str, visitor: Visitor = LOCAL, vote_id: str | None = None) -> Vote | None:
        """Undo the visitor's last vote; the vote before it or None. Nothing is erased. A repeated `vote_id` changes nothing."""
        self.comparison(comparison_id, visitor)
        return self.store.undo(comparison_id, self.raters.rater(visitor), vote_id)

    def current_vote(self, comparison_id: str, visitor: Visitor = LOCAL) -> Vote | None:
        """The visitor's vote that stands; None where there is none."""
        rater = self.raters.find(visitor)
        return self.store.vote_of(comparison_id, rater) if rater else None

    def num_votes(self) -> int:
        """Number of current votes, without skips."""
        return self.store.num_votes()

    def export(self, out: Path, format: str = "preference", listen: Callable[[int, int], None] = lambda done, total: None) -> "ExportReport":
        """Write the votes as training data; the report counts what gave no pair, by cause. `listen` is given comparisons done and in all."""
        from rgtg.store.export import export_preferences

        return export_preferences(self.store, out, format, listen)
