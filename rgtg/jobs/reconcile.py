"""Reconciliation of model and job folders with the database after a restart: adopted, removed or quarantined.

Knows nothing of processes: running jobs were checked before. A complete model is removed only if its job was cancelled or the
model was deleted.
"""

from collections.abc import Iterator, Mapping, Set
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rgtg.jobs.folder import PROCESS
from rgtg.models import artifacts
from rgtg.records import Job, RewardModelRow, new_id
from rgtg.system.serialization import check_types, read_json
from rgtg.training import checkpoints

if TYPE_CHECKING:
    from rgtg.store.jobs import JobRows

IN_ROW = ("name", "base_lm", "parent", "template", "snapshot_id", "job_id", "metrics", "status")  # of a manifest, besides its hash
DONE = ("adopted", "cleared", "quarantined", "returned")
UNLUCKY = (*Job.RESUMABLE, "succeeded")  # a complete model means that such a job succeeded


class Sweep:
    """One reconciliation; `done` lists names by the actions in DONE, `come` and `gone` the rows and folders of added and removed models.

    `starting` holds the ids of jobs that are not queued yet. It may change meanwhile: an id is added before its folder is made
    and removed after its row is stored.
    """

    def __init__(self, rows: "JobRows", jobs_folder: Path, models_folder: Path, starting: Set[str] = frozenset()):
        self.rows, self.jobs_folder, self.models_folder, self.starting = rows, jobs_folder, models_folder, starting
        self.done: dict[str, list[str]] = {action: [] for action in DONE}
        self.come: list[RewardModelRow] = []
        self.gone: list[Path] = []

    def run(self) -> "Sweep":
        folders = list(_folders(self.jobs_folder))  # read first: each is then known to one of the next two
        starting = frozenset(self.starting)
        jobs = {job.id: job for job in self.rows.jobs(limit=-1)}
        for folder in folders:
            if folder.name not in jobs and folder.name not in starting and not (folder / PROCESS).exists():
                self._clear(folder)  # the app died before the job was queued
            elif folder.name in jobs and jobs[folder.name].state in ("succeeded", "cancelled"):
                checkpoints.discard(folder)  # the app died before it removed them
        for folder in _folders(self.models_folder / artifacts.STAGING):
            self._staged(folder, jobs.get(folder.name))
        models = {row.name: row for row in self.rows.models()}
        for folder in _folders(self.models_folder):
            manifest = peek(folder)
            if manifest is None or manifest["name"] != folder.name:
                continue  # not made by a job
            if folder.name in models:
                self._known(folder, models[folder.name])
            else:
                self._unknown(folder, jobs.get(manifest["job_id"]))
        for row in self.rows.models(("ready", "not_recommended")):
            if not (self.models_folder / row.name).is_dir():
                self._quarantine(row)
        return self

    def _staged(self, folder: Path, job: Job | None) -> None:
        if job is not None and job.active:
            return
        manifest = artifacts.manifest_of(folder)
        target = self.models_folder / manifest["name"] if manifest else folder
        wanted = job is None or job.state in Job.RESUMABLE
        if manifest is None or manifest["job_id"] != folder.name or not wanted:
            self._clear(folder)
        elif not target.exists() and manifest["name"] not in {row.name for row in self.rows.models()}:
            artifacts.publish(folder, target)
            self._adopt(manifest)

    def _unknown(self, folder: Path, job: Job | None) -> None:
        """Handle a model folder that has no row."""
        manifest = artifacts.manifest_of(folder)
        if job is not None and job.state == "cancelled":
            artifacts.withdraw(folder, self.models_folder, job.id)
            self.gone.append(folder)
            self.done["cleared"].append(folder.name)
        elif manifest is None:
            artifacts.set_aside(folder, self.models_folder)
            self.gone.append(folder)
            self.done["quarantined"].append(folder.name)
        elif job is None or job.state in UNLUCKY:
            self._adopt(manifest)

    def _known(self, folder: Path, row: RewardModelRow) -> None:
        manifest = artifacts.manifest_of(folder, hashes=False)
        if row.status == "deleted":
            artifacts.withdraw(folder, self.models_folder, f"deleted-{row.id}")
            self.gone.append(folder)
            self.done["cleared"].append(folder.name)
        elif manifest is None:
            artifacts.set_aside(folder, self.models_folder)
            if row.status == "quarantined":
                self.gone.append(folder)
            else:
                self._quarantine(row)
        elif row.status == "quarantined":
            self.rows.set_status(row.name, manifest["status"])
            self.done["returned"].append(row.name)
            self.come.append(row)

    def _adopt(self, manifest: Mapping[str, Any]) -> None:
        row = row_of(manifest)
        if self.rows.publish(row, UNLUCKY):
            self.done["adopted"].append(row.name)
            self.come.append(row)

    def _quarantine(self, row: RewardModelRow) -> None:
        self.rows.set_status(row.name, "quarantined")
        self.done["quarantined"].append(row.name)
        self.gone.append(self.models_folder / row.name)

    def _clear(self, folder: Path) -> None:
        artifacts.discard(folder)
        self.done["cleared"].append(folder.name)


def peek(folder: Path) -> dict[str, Any] | None:
    """The manifest without verification; None where the folder has none."""
    try:
        manifest = read_json(folder / artifacts.MANIFEST)
        check_types(RewardModelRow, manifest)
        if not {"files", "weights_sha256", *IN_ROW} <= manifest.keys() or not isinstance(manifest["job_id"], str):
            return None
    except (OSError, ValueError):
        return None
    return manifest


def row_of(manifest: Mapping[str, Any]) -> RewardModelRow:
    return RewardModelRow(new_id(), sha256=manifest["weights_sha256"], **{name: manifest[name] for name in IN_ROW})


def _folders(parent: Path) -> Iterator[Path]:
    """Subfolders, sorted, without hidden ones."""
    yield from sorted(p for p in parent.iterdir() if p.is_dir() and not p.name.startswith(".")) if parent.is_dir() else ()
