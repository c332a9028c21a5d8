"""Monitoring of running jobs: the trainer is started, watched and ended in stages, and its model is published.

Knows nothing of how jobs are requested or reconciled. A check changes rows only by the state of processes and files, so it may
be repeated at any time, also by another run of the app.
"""

import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rgtg.errors import in_words
from rgtg.jobs import reconcile
from rgtg.jobs.folder import CANCEL, DISK_FULL, HEARTBEAT, OTHER_TRAINER, OUTCOME, PROCESS, PROGRESS, read_mark, read_progress, tail
from rgtg.jobs.process import Trainer, launch
from rgtg.models import artifacts
from rgtg.records import Job, RewardModelRow
from rgtg.system.faults import boundary
from rgtg.training import checkpoints

if TYPE_CHECKING:
    from rgtg.store.jobs import JobRows

log = logging.getLogger(__name__)
RESUME = "Resume continues from the last complete checkpoint."


@dataclass(frozen=True)
class Patience:
    """Waiting times in seconds: between two checks, for a new trainer's process (`silent_s`), for progress (`hung_s`), and between
    the stages of a cancel. Progress is written to the database at most every `row_s`."""

    poll_s: float = 0.5
    heartbeat_s: float = 10.0
    row_s: float = 1.0
    silent_s: float = 90.0
    hung_s: float = 600.0
    term_after_s: float = 20.0
    kill_after_s: float = 10.0


@dataclass
class Watched:
    """State of a running job as seen by this process; monotonic times."""

    trainer: Trainer | None = None
    since: float = 0.0  # first seen
    beat: Mapping[str, Any] = field(default_factory=dict)
    moves: tuple = ()
    moved_at: float = 0.0
    signs: tuple = ()
    row_at: float = float("-inf")
    cancelling_at: float | None = None
    hung: bool = False


class Watcher:
    """Monitors the running jobs; not thread-safe. `published` is called with the row and folder of a new model, `withdrawn` with the
    folder of a model that was published and then cancelled."""

    def __init__(
        self,
        rows: "JobRows",
        jobs_folder: Path,
        models_folder: Path,
        patience: Patience,
        published: Callable[[RewardModelRow, Path], None],
        withdrawn: Callable[[Path], None],
    ):
        self._rows, self._folder, self._models_folder = rows, jobs_folder, models_folder
        self._patience, self._published, self._withdrawn = patience, published, withdrawn
        self._watched: dict[str, Watched] = {}

    def look(self) -> None:
        """Check each running job."""
        for job in self._rows.jobs(Job.ACTIVE):
            at = time.monotonic()
            self._look_at(job, self._watched.setdefault(job.id, Watched(since=at, moved_at=at)))

    def launch_next(self) -> bool:
        """A trainer for the job whose turn it is; False where there is none."""
        job = self._rows.claim()
        if job is not None:
            boundary("app:claimed")
            self._launch(job)
        return job is not None

    def _launch(self, job: Job) -> None:
        folder = self._folder / job.id
        for leftover in (CANCEL, OUTCOME, PROCESS, HEARTBEAT):
            (folder / leftover).unlink(missing_ok=True)
        staging = artifacts.staging_folder(self._models_folder, job.id)
        if manifest := artifacts.manifest_of(staging):  # trained before, when its name was taken
            self._make_public(job, manifest, staging, self._models_folder / job.config["name"])
            return
        artifacts.discard(staging)
        try:
            trainer = launch(folder, job.attempt, online=not Path(job.config["base"]).is_dir())
        except OSError as error:
            self._rows.end(job.id, "failed", "not_started", str(in_words(error, "The trainer could not be started.", RESUME)))
            return
        boundary("app:spawned")
        self._rows.started(job.id, trainer.pid, trainer.created_at)
        boundary("app:running")
        self._watched[job.id] = Watched(trainer, since=time.monotonic(), moved_at=time.monotonic())

    def _look_at(self, job: Job, seen: Watched) -> None:
        if seen.trainer is None:
            seen.trainer = self._find(job)
            if seen.trainer is None and time.monotonic() - seen.since < self._patience.silent_s:
                return  # claimed, and the app died before it could note the process: it may still be coming up
        trainer = seen.trainer if seen.trainer is not None and seen.trainer.alive() else None
        if trainer is not None and job.state == "cancelling":
            self._press(job, seen, trainer)
        elif trainer is not None:
            self._listen(job, seen, trainer)
        else:
            self._finish(job, seen)
            self._watched.pop(job.id, None)

    def _find(self, job: Job) -> Trainer | None:
        """Process of a job that another run of the app started, from its row or from the file that the process wrote."""
        if job.pid is not None:
            return Trainer(job.pid, job.pid_created_at or 0.0)
        process = read_mark(self._folder / job.id / PROCESS, job.attempt)
        if process is None:
            return None
        self._rows.started(job.id, process["pid"], process["created_at"])
        return Trainer(process["pid"], process["created_at"])

    def _listen(self, job: Job, seen: Watched, trainer: Trainer) -> None:
        folder, at = self._folder / job.id, time.monotonic()
        beat = seen.beat = read_mark(folder / HEARTBEAT, job.attempt) or seen.beat  # none where it is just being written
        size = (folder / PROGRESS).stat().st_size if (folder / PROGRESS).exists() else 0
        if (moves := (beat.get("moves", 0), size)) != seen.moves:
            seen.moves, seen.moved_at = moves, at
        if (signs := (beat.get("beats"), *moves)) != seen.signs and at - seen.row_at >= self._patience.row_s:
            seen.signs, seen.row_at = signs, at
            self._note(job)
        if at - seen.moved_at > self._patience.hung_s:
            seen.hung = True
            trainer.end(hard=True)

    def _note(self, job: Job) -> None:
        lines = read_progress(self._folder / job.id)
        self._rows.beat(job.id, lines[-1] if lines else None)

    def _press(self, job: Job, seen: Watched, trainer: Trainer) -> None:
        """End a trainer by a flag, then SIGTERM, then SIGKILL; a restart of the app begins anew."""
        self.flag(job)
        seen.cancelling_at = seen.cancelling_at or time.monotonic()
        waited = time.monotonic() - seen.cancelling_at
        if waited > self._patience.term_after_s:
            trainer.end(hard=waited > self._patience.term_after_s + self._patience.kill_after_s)

    def flag(self, job: Job) -> None:
        folder = self._folder / job.id
        if folder.is_dir():
            (folder / CANCEL).touch()

    # the end of a job

    def _finish(self, job: Job, seen: Watched) -> None:
        self._note(job)
        staging, target = artifacts.staging_folder(self._models_folder, job.id), self._models_folder / job.config["name"]
        placed = (reconcile.peek(target) or {}).get("job_id") == job.id and artifacts.manifest_of(target)
        if job.state == "cancelling":
            self._drop(job, target if placed else None)
            return
        manifest = placed or artifacts.manifest_of(staging)
        if manifest:
            self._make_public(job, manifest, staging, target)
            return
        artifacts.discard(staging)
        self._rows.end(job.id, *self._why(job, seen))

    def _make_public(self, job: Job, manifest: Mapping[str, Any], staging: Path, target: Path) -> None:
        boundary("app:verified")
        if staging.is_dir():
            try:
                if any(row.name == target.name for row in self._rows.models()):
                    raise FileExistsError(target)
                artifacts.publish(staging, target)
            except FileExistsError:
                text = f"`{target.name}` already exists and was not made by this job. Move that folder away and resume."
                self._rows.end(job.id, "failed", "name_taken", text)
                return
        boundary("app:placed")
        row = reconcile.row_of(manifest)
        if not self._rows.publish(row):  # a cancel came first
            self._drop(job, target)
            return
        boundary("app:published")
        self._published(row, target)
        checkpoints.discard(self._folder / job.id)

    def _drop(self, job: Job, placed: Path | None) -> None:
        if placed is not None:
            artifacts.withdraw(placed, self._models_folder, job.id)
            self._withdrawn(placed)
        artifacts.discard(artifacts.staging_folder(self._models_folder, job.id))
        checkpoints.discard(self._folder / job.id)
        boundary("app:withdrawn")
        self._rows.end(job.id, "cancelled", "cancelled", "Cancelled by request.")

    def _why(self, job: Job, seen: Watched) -> tuple[str, str, str]:
        """State, error code and text of a job whose trainer ended without a model."""
        outcome, died_of = read_mark(self._folder / job.id / OUTCOME, job.attempt), seen.trainer.died_of() if seen.trainer else ""
        if outcome and outcome["state"] == "failed":
            return "failed", outcome["code"], outcome["text"]
        if outcome and outcome["state"] == "trained":
            return "failed", "damaged", f"The trained model does not match its manifest. Check the disk. {RESUME}"
        if seen.hung:
            return "failed", "hung", f"The trainer made no progress for {self._patience.hung_s:g} s and was ended. {RESUME}"
        if died_of == f"exit status {DISK_FULL}":
            return "failed", "disk_full", f"The disk is full. Free some space and resume. {RESUME}"
        if died_of == f"exit status {OTHER_TRAINER}":
            return "interrupted", "busy", "An earlier trainer of this job is still running. Wait until it has ended, then resume."
        if died_of.startswith("exit status") and not outcome:
            return (
                "failed",
                "crashed",
                f"The trainer ended with {died_of}. Its last line of output: {tail(self._folder / job.id, 1).strip() or 'none'}.",
            )
        ending = f"ended by {died_of} (often because memory ran out)" if died_of.startswith("signal") else "no longer running"
        return "interrupted", "killed" if died_of else "gone", f"The trainer was {ending}. {RESUME}"
