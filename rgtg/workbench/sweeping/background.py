"""Sweeps in processes of their own, each in a folder below `sweeps/` of the data directory: started, found again, stopped, resumed.

The folders are the only record, so that a sweep outlives the tab and the app. Knows nothing of the screen, and loads no model.
"""

import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from rgtg.config import Settings
from rgtg.errors import BadSettings, RgtgError
from rgtg.jobs.folder import tail
from rgtg.jobs.process import Trainer, start_apart
from rgtg.models.catalog import is_folder
from rgtg.records import now
from rgtg.system import zero_gpu
from rgtg.workbench.sweeping.folder import (
    DONE,
    FAILED,
    KEEP,
    NO_DRAFT,
    OUTCOME,
    PROCESS,
    PROGRESS,
    REQUEST,
    STOPPED,
    Request,
    check_name,
    read_object,
    write_outcome,
)
from rgtg.workbench.sweeping.grid import Grid

RUNNING, INTERRUPTED = "running", "interrupted"
TERM_AFTER_S = 3.0  # from asking the process to end until it is ended
PLAN, RESULTS = "sweep.json", "results.jsonl"  # of `evaluation.shards`


@dataclass(frozen=True)
class State:
    """How far a sweep is. `done` counts answers, with the share of those in work; None where it is not known yet."""

    name: str
    state: str
    created_at: str = ""
    done: float | None = None
    total: int | None = None
    seconds_left: float | None = None
    error: tuple[str, ...] = ()  # what is wrong, what was found, what to do

    @property
    def can_resume(self) -> bool:
        return self.state in (FAILED, STOPPED, INTERRUPTED)


class BackgroundSweeps:
    """The sweeps of one data directory; one runs at a time. `base_lms` and `reward_models` are those that the app was started with."""

    def __init__(self, settings: Settings, base_lms: Sequence[str] = (), reward_models: Sequence[str] = ()):
        self.settings, self.folder = settings, (settings.data_dir / "sweeps").absolute()
        self._places = tuple(map(_absolute, base_lms)), tuple(map(_absolute, reward_models))
        self._own: dict[str, Trainer] = {}
        self._requests: dict[tuple[Path, int], Request | None] = {}  # by folder and time, as a request may hold thousands of prompts
        self._lock = threading.RLock()

    # --- what there is --------------------------------------------------------------------------------------------

    def all(self) -> list[State]:
        """All sweeps, the newest first; those of the command line in the same folder too."""
        folders = [path for path in self.folder.iterdir() if self._is_sweep(path)] if self.folder.is_dir() else []
        return sorted((self._state(path) for path in folders), key=lambda state: state.created_at, reverse=True)

    def state(self, name: str) -> State:
        """The sweep of that name. Raises BadSettings."""
        return self._state(self.path(name))

    def path(self, name: str) -> Path:
        """Folder of the sweep of that name. Raises BadSettings where there is none."""
        path = self.folder / check_name(name)
        if not self._is_sweep(path):
            raise BadSettings(f"There is no sweep `{name}`.", "", "Reload the page.")
        return path

    def request(self, name: str) -> Request | None:
        """What the sweep was asked to make; None for one of the command line."""
        return self._request(self.path(name))

    def _request(self, path: Path) -> Request | None:
        try:
            key = path, (path / REQUEST).stat().st_mtime_ns
        except OSError:
            return None
        if key not in self._requests:
            self._requests[key] = Request.read(path)
        return self._requests[key]

    def log(self, name: str, num_lines: int = 30) -> str:
        """Last lines that its process printed."""
        return tail(self.path(name), num_lines)

    def free_name(self, stem: str) -> str:
        """An unused name: `stem`, or `stem` with the first free number."""
        taken = {path.name.lower() for path in self.folder.iterdir()} if self.folder.is_dir() else set()
        number, name = 2, stem
        while name.lower() in taken:
            name, number = f"{stem}-{number}", number + 1
        return name

    @staticmethod
    def _is_sweep(path: Path) -> bool:
        return any((path / name).is_file() for name in (REQUEST, PLAN))

    def _state(self, path: Path) -> State:
        request, progress = self._request(path), read_object(path / PROGRESS)
        created_at = request.created_at if request else _time_of(path)
        found: dict[str, Any] = {"done": progress.get("done"), "total": progress.get("total") or (request.grid.num_answers if request else None)}
        process = self._process(path)
        if process is not None and process.alive():
            return State(path.name, RUNNING, created_at, **found, seconds_left=progress.get("seconds_left"))
        outcome = read_object(path / OUTCOME)
        if outcome.get("state") in (DONE, FAILED, STOPPED):
            return State(path.name, outcome["state"], created_at, **found, error=tuple(outcome.get("error") or ()))
        if request is None:
            return State(path.name, DONE if (path / RESULTS).is_file() else INTERRUPTED, created_at, **found)
        why = process.died_of() if process is not None else ""
        gone = ("The process of the sweep is gone.", why and f"It ended with {why}.", "Resume makes what is missing.")
        return State(path.name, INTERRUPTED, created_at, **found, error=gone)

    def _process(self, path: Path) -> Trainer | None:
        if path.name in self._own:
            return self._own[path.name]
        process = read_object(path / PROCESS)
        pid, created_at = process.get("pid"), process.get("created_at")
        return Trainer(pid, created_at) if isinstance(pid, int) and pid > 0 and isinstance(created_at, float) else None

    # --- what can be done -----------------------------------------------------------------------------------------

    def start(self, name: str, grid: Grid, draft: str = NO_DRAFT) -> None:
        """Start a new sweep; its folder and request are written first. Raises BadSettings where the name is taken or another sweep runs."""
        self._check_allowed()
        with self._lock:
            path = self.folder / check_name(name)
            if path.name.lower() in ({p.name.lower() for p in self.folder.iterdir()} if self.folder.is_dir() else ()):
                raise BadSettings(f"The name `{name}` is taken.", "It is that of another sweep.", "Choose another name.", "name")
            self._check_alone()
            path.mkdir(parents=True)
            settings = self.settings
            Request(grid, now(), settings.device, settings.dtype, settings.reward_dtype, *self._places, draft).write(path)
            self._launch(path)

    def resume(self, name: str, keep: bool = False) -> None:
        """Go on with a sweep that has ended early; `keep` the answers that another version of the code made. Raises BadSettings."""
        self._check_allowed()
        with self._lock:
            path, state = self.path(name), self.state(name)
            if state.state == RUNNING:
                return
            if self._request(path) is None:
                do = f"Go on in a terminal: rgtg sweep --out {path}"
                raise BadSettings(f"`{name}` was not started on this page.", "It has no request.json.", do)
            self._check_alone()
            self._launch(path, keep)

    def stop(self, name: str) -> None:
        """End the process of a sweep within seconds; complete shards are kept. One that has ended stays as it is."""
        with self._lock:
            path = self.path(name)
            process = self._process(path)
            if process is None or not process.alive():
                return
            process.end()
            until = time.monotonic() + TERM_AFTER_S
            while process.alive() and time.monotonic() < until:
                time.sleep(0.02)
            process.end(hard=True)
            while process.alive() and time.monotonic() < until + TERM_AFTER_S:
                time.sleep(0.02)
            if read_object(path / OUTCOME).get("state") not in (DONE, FAILED):  # it may have been faster
                write_outcome(path, STOPPED)

    def _check_allowed(self) -> None:
        zero_gpu.refuse("A sweep")
        if self.settings.public and not self.settings.admins:
            raise BadSettings("Sweeps are off on a public server that has no administrators.", "", "Run rgtg on your own machine for that.")

    def _check_alone(self) -> None:
        if running := next((state.name for state in self.all() if state.state == RUNNING), None):
            raise BadSettings(f"The sweep `{running}` is running.", "One runs at a time.", "Wait until it ends, or stop it.")

    def _launch(self, path: Path, keep: bool = False) -> None:
        for leftover in (*(path / name for name in (OUTCOME, PROCESS, PROGRESS)), *path.glob(f".{PROGRESS}.*")):
            leftover.unlink(missing_ok=True)
        online = not all(is_folder(place) for places in self._places for place in places)
        try:
            self._own[path.name] = start_apart(["rgtg.workbench.sweeping", str(path), *([KEEP] if keep else [])], path, online)
        except OSError as error:
            write_outcome(path, FAILED, RgtgError("The process of the sweep could not be started.", str(error), "Resume tries it again."))


def _absolute(folder_or_id: str) -> str:
    return str(Path(folder_or_id).absolute()) if is_folder(folder_or_id) else folder_or_id


def _time_of(path: Path) -> str:
    """When a sweep of the command line began, as records write times."""
    with suppress(OSError):
        return datetime.fromtimestamp((path / PLAN).stat().st_mtime, UTC).isoformat(timespec="milliseconds")
    return ""
