"""Background training: the verbs. Jobs stand in line, one is at work a device, until a model is public or the row says why not.

Knows nothing of torch or of how a model is trained: the trainer is another process (`worker`), looked after by `supervisor`,
known by what it leaves in the job's folder. The store is given; only this side writes to it, and no trainer opens it.
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
    """The verbs of training in the background. `watch()` starts the thread that looks after them, `close()` ends it.

    A trainer at work lives on when the app closes, and is found again at its next start. `published` and `withdrawn` are
    called, from the watching thread, with the row and folder of a model that has just appeared, or gone.
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

    # verbs

    def start(self, config: Mapping[str, Any], pairs: Pairs, snapshot: Mapping[str, Any] | None = None, max_attempts: int = 3) -> str:
        """Freeze the pairs, put the job in line and return its id.

        `config`: `name` of the new reward model, `base` (folder or hub id), `base_lm`, and may have `parent`, `training`
        (fields of TrainingConfig), `seed`, `device`, and what else the trainer knows. `pairs` writes a file of JSON lines,
        or is rows. `snapshot`, where the pairs come from votes, is the filter by which they were taken. BadSettings, BadData
        (no pairs, with counts) or StoreError, and then nothing is left of it.
        """
        if self._settings.public:
            raise BadSettings("Training is off on a public server.", "", "Run rgtg on your own machine to train.")
        if self._store.read_only:
            raise StoreError("The training was not started.", self._store.read_only)
        config = {"device": self._settings.device, "dtype": self._settings.dtype, **check_config(config, self._taken())}
        job_id, snapshot_id = new_id(), new_id() if snapshot is not None else None
        ours = {"models": str(self.models_folder), "heartbeat_s": self._patience.heartbeat_s, "snapshot_id": snapshot_id}
        last = self._store.jobs.last_vote_seq()
        self._starting.add(job_id)
        try:
            digest, report = freeze(self.folder / job_id, config | ours, pairs)
            boundary("app:frozen")
            seen = {"id": snapshot_id, "filter": dict(snapshot or {}), "num_votes": getattr(report, "num_votes", 0)}
            seen |= {"last_vote_seq": last, "sha256": digest}
            job = Job(job_id, config, device=config["device"], max_attempts=max_attempts)
            try:
                with self._lock:  # others may have acted while the pairs were frozen
                    check_config(config, self._taken())
                    self._store.jobs.add(job, seen if snapshot is not None else None)
            except BaseException:
                artifacts.discard(self.folder / job_id)
                raise
        finally:
            self._starting.discard(job_id)
        boundary("app:queued")
        self._wake.set()
        return job_id

    def jobs(self, limit: int = 200) -> tuple[Job, ...]:
        """The newest first."""
        return self._store.jobs.jobs(limit=limit)

    def job(self, job_id: str) -> Job:
        """Raises UnknownRecord."""
        return self._store.jobs.job(job_id)

    def progress(self, job_id: str) -> list[dict[str, Any]]:
        """What the trainer has said, a dict a line; a line torn by a kill is left out, and what a resumed attempt does again
        stands once."""
        return read_progress(self.folder / self.job(job_id).id)

    def log(self, job_id: str, num_lines: int = 40) -> str:
        """The end of what the trainer printed."""
        return tail(self.folder / self.job(job_id).id, num_lines)

    def cancel(self, job_id: str) -> Job:
        """Ask for the end. The row says `cancelled` when the process is dead, not before; an ended job stays as it is."""
        job = self._store.jobs.ask_cancel(job_id)
        boundary("app:cancelling")
        if job.state == "cancelling":
            self._watcher.flag(job)
        self._wake.set()
        return job

    def resume(self, job_id: str) -> Job:
        """Put an interrupted or failed job in line again; it goes on from its last whole checkpoint. StoreError where it
        cannot, BadSettings where its name was taken meanwhile."""
        with self._lock:
            job = self.job(job_id)
            check_config(job.config, self._taken(but=job_id))
            if not (self.folder / job_id).is_dir():
                raise StoreError("This job cannot go on.", "Its folder is gone.", "Start a new one.")
            job = self._store.jobs.queue_again(job_id)
        self._wake.set()
        return job

    def models(self, statuses: tuple[str, ...] = ("ready", "not_recommended", "quarantined")) -> tuple[RewardModelRow, ...]:
        """The reward models trained here, the newest first."""
        return self._store.jobs.models(statuses)

    def delete_model(self, name: str) -> None:
        """Delete a model that was trained here; its row stays as `deleted`, for runs refer to it. StoreError where a job needs it."""
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

    # looking after them

    def watch(self) -> None:
        """Reconcile, then look after the jobs in a thread of its own. In a process that may only read, nothing."""
        if self._store.read_only or self._thread is not None:
            return
        self._thread = threading.Thread(target=self._run, name="job-watch", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Stop looking; a trainer at work goes on. Before the store is closed."""
        self._closed.set()
        self._wake.set()
        if self._thread is not None:
            self._thread.join()

    def reconcile(self) -> dict[str, list[str]]:
        """Put rows, folders and processes in accord after a restart; what was done, by `reconcile.DONE`, is returned and logged."""
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
            log.info("reconciled: %s", {what: names for what, names in sweep.done.items() if names})
        return sweep.done

    def tick(self) -> None:
        """One look at each job at work, then a trainer for each whose turn it is."""
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
                log.exception("looking after the jobs failed")
                wait_s = AFTER_ERROR_S
            self._wake.wait(wait_s)
            self._wake.clear()

    def _taken(self, but: str = "") -> dict[str, str]:
        """Names in lower case -> who has them."""
        found = {p.name.lower(): "a folder of models" for p in self.models_folder.iterdir()} if self.models_folder.is_dir() else {}
        found |= {row.name.lower(): "a trained model" + (", now deleted" if row.status == "deleted" else "") for row in self._store.jobs.models()}
        waiting = [job for job in self._store.jobs.jobs(Job.UNFINISHED) if job.id != but]
        return found | {job.config["name"].lower(): "a job that is not done" for job in waiting}

    @staticmethod
    def _tell(listener: Callable[..., None] | None, *found: Any) -> None:
        if listener is not None:
            try:
                listener(*found)
            except Exception:  # the model is public, or gone, whatever a listener makes of it
                log.exception("a listener failed over %s", found[-1])
