"""Examinations of installed reward models on pairs: one at a time, in a thread, which can be stopped.

Finds models and pairs, and checks the limits; the figures are computed in `rgtg.evaluation.examine`. Knows nothing of the screen.
"""

import tempfile
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rgtg.errors import BadData, BadSettings, Stopped
from rgtg.records import new_id
from rgtg.system import zero_gpu
from rgtg.system.stopping import stoppable
from rgtg.workbench.library import Library

if TYPE_CHECKING:
    from rgtg.engine import Models
    from rgtg.evaluation.examine.credit import Credit
    from rgtg.evaluation.examine.reading import Pairs
    from rgtg.preferences.formats import Reading
    from rgtg.workbench.trainings import Trainings

VOTES, FILE, TYPED, CHOICES = "votes", "file", "typed", "choices"
MAX_PAIRS, MAX_MODELS, MAX_TEXT, MAX_BETA = 5_000, 8, 4_000, 100.0  # texts in characters
KEPT = 4  # examinations whose pairs can be looked at
SIDES = ("chosen", "rejected")
PAUSE_S = 0.2  # between two looks at how far it is


@dataclass(frozen=True)
class Request:
    """What is examined: reward models by name and pairs from a `source`: VOTES, a FILE at `path`, or the `typed` (prompt, chosen, rejected); of
    CHOICES, also at `path`, how often a correct answer has the highest reward of several is measured instead.

    `judge` is the reward model by whose rewards pairs turn, "" for none. Raises BadSettings naming the field.
    """

    models: tuple[str, ...]
    source: str = VOTES
    path: str = ""
    typed: tuple[str, str, str] = ("", "", "")
    limit: int = 200
    judge: str = ""
    beta: float = 1.0

    def __post_init__(self) -> None:
        if not 1 <= len(self.models) <= MAX_MODELS:
            do = f"Choose 1 to {MAX_MODELS}."
            raise BadSettings("Choose which reward models to examine.", f"Found {len(self.models)}.", do, "models")
        if self.source not in (VOTES, FILE, TYPED, CHOICES):
            raise BadSettings("Pairs come from votes, a file, or are typed.", f"Found `{self.source:.40}`.", "Reload the page.", "source")
        if not 1 <= self.limit <= MAX_PAIRS:
            raise BadSettings(f"The number of pairs has to be between 1 and {MAX_PAIRS:,}.", f"Found {self.limit:,}.", "Change it.", "limit")
        if not 0 < self.beta <= MAX_BETA:
            raise BadSettings(f"β has to be above 0 and at most {MAX_BETA:g}.", f"Found {self.beta:g}.", "Change it.", "beta")
        if self.source in (FILE, CHOICES) and not self.path:
            raise BadSettings("There is no file.", "", "Upload one, or give its path or the id of a hub data set.", "path")
        if self.source == TYPED and not (self.typed[1].strip() and self.typed[2].strip()):
            raise BadSettings("A pair has two answers.", "One of them is empty.", "Type both.", "chosen" if not self.typed[1].strip() else "rejected")


class Examination:
    """One examination at work. `report` is that of `evaluation.examine.report.examine`, of CHOICES {"best_of_n": …, "num_left_out": …}; {} until it
    ends."""

    def __init__(self, request: Request, read: "Callable[[], Reading]", library: Library):
        self.id, self.request, self.report = new_id(), request, dict[str, Any]()
        self.words = "loading the models …"
        self.pairs: Pairs | None = None
        self.models: Models | None = None
        self._read, self._library = read, library
        self._stop, self._ended = threading.Event(), threading.Event()
        self._error: Exception | None = None
        self._thread = threading.Thread(target=self._run, name="examination", daemon=True)
        self._thread.start()

    @property
    def is_running(self) -> bool:
        return not self._ended.is_set()

    def stop(self) -> None:
        """Stop before the next batch."""
        self._stop.set()

    def ended(self, within_s: float = PAUSE_S) -> bool:
        """Whether it ends within this time. Raises what ended it: Stopped, or any error."""
        if not self._ended.wait(within_s):
            return False
        if self._error is not None:
            raise self._error
        return True

    def _run(self) -> None:
        from rgtg.evaluation.examine import report
        from rgtg.evaluation.examine.reading import Pairs

        try:
            with stoppable(self._stop.is_set):
                if self.request.source == CHOICES:
                    self.report = self._of_choices()
                    return
                names = [*dict.fromkeys(filter(None, (*self.request.models, self.request.judge)))]
                self.models = self._library.load_models(None, names)
                self.words = "reading the pairs …"
                self.pairs = Pairs(self._read(), self.models.base_lm, self.request.limit)
                judge = self._library.scorer(self.request.judge).name if self.request.judge else ""
                self.report = report.examine(self.models, self.pairs, judge, self.request.beta, self._listen)
        except Exception as error:  # raised again where somebody waits for the result
            self._error = error
        finally:
            self._ended.set()

    def _of_choices(self) -> dict[str, Any]:
        from rgtg.evaluation.examine import report
        from rgtg.evaluation.examine.best_of_n import encoded, read_items

        items = read_items(file_or_id(self.request.path), self.request.limit)
        models = self._library.load_models(None, self.request.models)
        read = encoded(items, models.base_lm)
        return {"best_of_n": report.best_of_n(models, read, self._listen), "num_left_out": len(items) - len(read[0])}

    def _listen(self, done: int, total: int) -> None:
        num = len(self.pairs.read) if self.pairs else 0
        self.words = f"{num:,} pair{'s' * (num != 1)}: {done} of {total} passes" if num else f"{done} of {total} reward models"
        if self._stop.is_set():
            raise Stopped("It was stopped.")

    # --- one pair -------------------------------------------------------------------------------------------------

    def check(self, model: str, pair: int) -> None:
        """Raise BadSettings unless the examination has ended and has this model and this pair, by its number from 0."""
        self._at(model, pair)

    def credit(self, model: str, pair: int) -> "dict[str, Credit]":
        """Both answers of a pair, by its number from 0, token by token: {"chosen": …, "rejected": …}. Raises BadSettings, BadData."""
        from rgtg.evaluation.examine.credit import credit

        models, one = self._at(model, pair)
        return {
            side: credit(models.reward_model(model), models.base_lm, one.opening, ids) for side, ids in zip(SIDES, one.tokens.answers, strict=True)
        }

    def scores_vocabulary(self, model: str) -> bool:
        """Whether one forward of this model gives the rewards of all next tokens."""
        return self.models is not None and self.models.reward_model(model).scores_vocabulary

    def next_tokens(self, model: str, pair: int, side: str, position: int) -> dict[str, Any]:
        """The tokens that a one-call reward rewards most and least in place of the token at `position`, see `reading.best_and_worst`."""
        from rgtg.evaluation.examine.reading import best_and_worst

        models, one = self._at(model, pair)
        ids = dict(zip(SIDES, one.tokens.answers, strict=True)).get(side, ())
        if not 0 <= position < len(ids):
            raise BadSettings("There is no such token.", f"Found position {position} of {len(ids)}.", "Reload the page.")
        return best_and_worst(models.reward_model(model), models.base_lm, [(one.opening, ids[:position])])

    def _at(self, model: str, pair: int) -> Any:
        if self.is_running:
            raise BadSettings("The examination has not ended.", "", "Wait for it.")
        if self.pairs is None or self.models is None or model not in self.models.reward_models or not 0 <= pair < len(self.pairs.read):
            raise BadSettings("There is no such pair or model in this examination.", "", "Reload the page.")
        return self.models, self.pairs.read[pair]


class Examinations:
    """The examinations of one installation: one runs at a time, and the last ones are kept."""

    def __init__(self, library: Library, trainings: "Trainings"):
        self._library, self._trainings = library, trainings
        self._kept: dict[str, Examination] = {}
        self._lock = threading.Lock()

    def names(self) -> list[str]:
        """Names of the reward models and judges that can read the default base LM, those that guide first."""
        lm = self._library.base_lms()[0].name if self._library.base_lms() else None
        return [m.name for m in (*self._library.guides(lm), *self._library.judges(lm))] if lm else []

    def judges(self) -> list[str]:
        """Names of the reward models that only observe."""
        lms = self._library.base_lms()
        return [m.name for m in self._library.judges(lms[0].name)] if lms else []

    def start(self, request: Request) -> Examination:
        """Start an examination. Raises BadSettings where a model is unknown or another examination runs."""
        zero_gpu.refuse("An examination")
        known = self.names()
        if missing := [name for name in (*request.models, request.judge) if name and name not in known]:
            found = f"There are: {', '.join(known) or 'none'}."
            raise BadSettings(f"Reward model `{missing[0]:.80}` is not installed.", found, "Reload the page.", "models")
        with self._lock:
            if any(one.is_running for one in self._kept.values()):
                raise BadSettings("Another examination is running.", "", "Wait for it, or stop it.")
            started = Examination(request, lambda: self._pairs(request), self._library)
            self._kept[started.id] = started
            while len(self._kept) > KEPT:
                self._kept.pop(next(iter(self._kept)))
        return started

    def stop(self) -> None:
        """Stop the examination that runs, if any does."""
        with self._lock:
            for one in self._kept.values():
                one.stop()

    def get(self, examination_id: str) -> Examination:
        """A kept examination. Raises BadSettings."""
        with self._lock:
            found = self._kept.get(examination_id)
        if found is None:
            raise BadSettings("These figures are no longer in memory.", "", "Examine again.")
        return found

    def _pairs(self, request: Request) -> "Reading":
        from rgtg.preferences.formats import Example, Reading, read

        if request.source == TYPED:
            return Reading((Example(1, *request.typed),), 1)
        if request.source == FILE:
            return read(file_or_id(request.path))
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / "votes.jsonl"
            self._trainings.snapshot(file)
            if not file.exists() or not file.stat().st_size:
                raise BadData("The votes give no pairs yet.", "", "Vote on Compare, type a pair, or choose a file.", field="source")
            return read(file)


def file_or_id(text: str) -> Path | str:
    """A file on this machine, or else the id of a hub data set."""
    return Path(text) if Path(text).exists() else text
