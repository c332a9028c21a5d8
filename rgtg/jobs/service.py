"""Background training: jobs are queued, one runs per device, and end with a published model or an error in their row.

Knows nothing of torch or of how a model is trained: the trainer is another process (`worker`), monitored by `supervisor` through the
files in the job's folder. Only this side writes to the store; no trainer opens it.
"""

import logging
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rgtg.config import Settings
from rgtg.errors import BadSettings, RgtgError, StoreError
from rgtg.jobs.folder import Pairs, check_config, freeze, read_progress, tail
from rgtg.jobs.reconcile import Sweep
from rgtg.jobs.supervisor import Patience, Watcher
from rgtg.models import artifacts
from rgtg.records import Job, RewardModelRow, new_id
from rgtg.system.faults import boundary

if TYPE_CHECKING:
    from rgtg.store.store import Store

log = logging.getLogger(__name__)
AFTER_ERROR_S = 5.0
Published = Callable[[RewardModelRow, Path], None]
Withdrawn = Callable[[Path], None]
# boundaries `app:<phase>`, after each
PHASES = ("frozen", "queued", "claimed", "spawned", "running", "verified", "placed", "published", "cancelling", "withdrawn", "deleted")


class Jobs:
    """Training jobs in the background. `watch()` starts the thread that monitors them, `close()` ends it.

    A running trainer continues when the app closes and is found again at its next start. `published` and `withdrawn` are called, from
    the monitoring thread, with the row and folder of a new model and the folder of a removed one.
    """

    def __init__(
        self,
        store: "Store",
        settings: Settings,
        published: Published | None = None,
        withdrawn: Withdrawn | None = None,
        patience: Patience = Patience(),  # noqa: B008, frozen
    ):
        self._store, self._settings, self._patience = store, settings, patience
        self._published, self._withdrawn = published, withdrawn
        self.folder, self.models_folder = (settings.data_dir / "jobs").absolute(), settings.models_dir
        self._watcher = Watcher(
            store.jobs,
            self.folder,
            self.models_folder,
            patience,
            lambda row, folder: self._tell(self._published, row, folder),
            lambda folder: self._tell(self._withdrawn, folder),
        )
        self._starting: set[str] = set()
        self._lock, self._wake, self._closed = threading.RLock(), threading.Event(), threading.Event()
        self._thread: threading.Thread | None = None

    # jobs and models

    def start(self, config: Mapping[str, Any], pairs: Pairs, snapshot: Mapping[str, Any] | None = None, max_attempts: int = 3) -> str:
        """Write the pairs to the job's folder, queue the job and return its id.

        `config`: `name` of the new reward model, `base` (folder or hub id), `base_lm`, and may have `parent`, `training`
        (fields of TrainingConfig), `seed`, `device` and other settings of the trainer. `pairs` writes a file of JSON lines,
        or is rows. `snapshot`, for pairs from votes, is the filter that selected them. Raises BadSettings, BadData
        (no pairs, with counts) or StoreError, and then leaves nothing behind.
        """
        if self._settings.public and not self._settings.admins:
            raise BadSettings("Training is off on a public server that has no administrators.", "", "Run rgtg on your own machine to train.")
        if self._store.read_only:
            raise StoreError("The training was not started.", self._store.read_only)
        config = {"device": self._settings.device, "dtype": self._settings.dtype, **check_config(config, self._taken())}
        job_id, snapshot_id = new_id(), new_id() if snapshot is not None else None
        job_settings = {"models": str(self.models_folder), "heartbeat_s": self._patience.heartbeat_s, "snapshot_id": snapshot_id}
        job_settings["snapshot"] = snapshot  # which the writer of the pairs completes
        last_vote_seq = self._store.jobs.last_vote_seq()
        self._starting.add(job_id)
        try:
            digest, report = freeze(self.folder / job_id, config | job_settings, pairs)
            boundary("app:frozen")
            snapshot_row = {"id": snapshot_id, "filter": dict(snapshot or {}), "num_votes": getattr(report, "num_votes", 0)}
            snapshot_row |= {"last_vote_seq": last_vote_seq, "sha256": digest}
            job = Job(job_id, config, device=config["device"], max_attempts=max_attempts)
            try:
                with self._lock:  # others may have acted while the pairs were frozen
                    check_config(config, self._taken())
                    self._store.jobs.add(job, snapshot_row if snapshot is not None else None)
            except BaseException:
                artifacts.discard(self.folder / job_id)
                raise
        finally:
            self._starting.discard(job_id)
        boundary("app:queued")
        self._wake.set()
        return job_id

    def jobs(self, limit: int = 200) -> tuple[Job, ...]:
        """Jobs, newest first."""
        return self._store.jobs.jobs(limit=limit)

    def job(self, job_id: str) -> Job:
        """The job. Raises UnknownRecord."""
        return self._store.jobs.job(job_id)

    def progress(self, job_id: str) -> list[dict[str, Any]]:
        """Lines of progress of the trainer; incomplete lines are left out, and steps repeated by a resumed attempt appear once."""
        return read_progress(self.folder / self.job(job_id).id)

    def log(self, job_id: str, num_lines: int = 40) -> str:
        """Last lines of the trainer's log."""
        return tail(self.folder / self.job(job_id).id, num_lines)

    def cancel(self, job_id: str) -> Job:
        """Request cancellation. The state is `cancelled` once the process has ended; an ended job stays as it is."""
        job = self._store.jobs.ask_cancel(job_id)
        boundary("app:cancelling")
        if job.state == "cancelling":
            self._watcher.flag(job)
        self._wake.set()
        return job

    def resume(self, job_id: str) -> Job:
        """Queue an interrupted or failed job again; it resumes from its last complete checkpoint. Raises StoreError where it cannot,
        BadSettings where its name was taken meanwhile."""
        with self._lock:
            job = self.job(job_id)
            check_config(job.config, self._taken(but=job_id))
            if not (self.folder / job_id).is_dir():
                raise StoreError("The job cannot be resumed.", "Its folder is gone.", "Start a new one.")
            job = self._store.jobs.queue_again(job_id)
        self._wake.set()
        return job

    def models(self, statuses: tuple[str, ...] = ("ready", "not_recommended", "quarantined")) -> tuple[RewardModelRow, ...]:
        """Reward models trained here, newest first."""
        return self._store.jobs.models(statuses)

    def delete_model(self, name: str) -> None:
        """Delete a model that was trained here; its row stays as `deleted`, because runs refer to it. Raises StoreError where a job needs it."""
        with self._lock:
            row = next((row for row in self.models() if row.name == name), None)
            if row is None:
                raise StoreError(f"There is no trained reward model `{name}`.", "", "Only models that were trained here can be deleted.")
            folder = self.models_folder / name
            for job in self._store.jobs.jobs(Job.UNFINISHED):
                if job.config.get("parent") == name or Path(job.config["base"]).absolute() == folder:
                    raise StoreError(f"`{name}` is in use.", f"`{job.config['name']}` is being trained from it.", "Cancel that job, or wait for it.")
            self._store.jobs.set_status(name, "deleted")
            boundary("app:deleted")
            if folder.is_dir():
                artifacts.withdraw(folder, self.models_folder, f"deleted-{row.id}")
        self._tell(self._withdrawn, folder)

    # monitoring

    def watch(self) -> None:
        """Reconcile and monitor the jobs in a thread. Does nothing where the store is read-only."""
        if self._store.read_only or self._thread is not None:
            return
        self._thread = threading.Thread(target=self._run, name="job-watch", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Stop monitoring; a running trainer continues. Call it before the store is closed."""
        self._closed.set()
        self._wake.set()
        if self._thread is not None:
            self._thread.join()

    def reconcile(self) -> dict[str, list[str]]:
        """Reconcile rows, folders and processes after a restart; names by the actions in `reconcile.DONE`, which are logged too."""
        if self._store.read_only:
            return {}
        with self._lock:
            self._watcher.look()
            sweep = Sweep(self._store.jobs, self.folder, self.models_folder, self._starting).run()
        for folder in sweep.gone:
            self._tell(self._withdrawn, folder)
        for row in sweep.come:
            self._tell(self._published, row, self.models_folder / row.name)
        if any(sweep.done.values()):
            log.info("reconciled: %s", {action: names for action, names in sweep.done.items() if names})
        return sweep.done

    def tick(self) -> None:
        """Check each running job, then start the trainers of jobs whose device is free."""
        with self._lock:
            self._watcher.look()
            while self._watcher.launch_next():
                pass

    def _run(self) -> None:
        todo: Callable[[], object] = self.reconcile
        while not self._closed.is_set():
            wait_s = self._patience.poll_s
            try:
                todo()
                todo = self.tick
            except RgtgError as error:  # a full disk, a busy database: again later
                log.warning("%s", error)
                wait_s = AFTER_ERROR_S
            except Exception:
                log.exception("monitoring the jobs failed")
                wait_s = AFTER_ERROR_S
            self._wake.wait(wait_s)
            self._wake.clear()

    def _taken(self, but: str = "") -> dict[str, str]:
        """Names in lower case, with what has them; the job `but` is left out."""
        names = {p.name.lower(): "a folder of models" for p in self.models_folder.iterdir()} if self.models_folder.is_dir() else {}
        names |= {row.name.lower(): "a trained model" + (", now deleted" if row.status == "deleted" else "") for row in self._store.jobs.models()}
        waiting = [job for job in self._store.jobs.jobs(Job.UNFINISHED) if job.id != but]
        return names | {job.config["name"].lower(): "an unfinished job" for job in waiting}

    @staticmethod
    def _tell(listener: Callable[..., None] | None, *values: Any) -> None:
        if listener is not None:
            try:
                listener(*values)
            except Exception:  # the model is published or removed all the same
                log.exception("a listener failed over %s", values[-1])
