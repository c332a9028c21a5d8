"""What a restart finds of models and folders, put in accord with the rows: adopted, cleared away or set aside.

Knows nothing of processes: jobs at work have been looked at before. Nothing here deletes a whole model, but of a job that
was cancelled and of a model that was deleted.
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
UNLUCKY = (*Job.RESUMABLE, "succeeded")  # a whole model of such a job is its success after all


class Sweep:
    """One pass; `done` says what, by DONE, `come` and `gone` what a list of models has to learn of: rows, and folders.

    `starting` holds the ids of jobs that are not in line yet. It may change meanwhile: an id enters it before its folder is
    made, and leaves it after its row is there.
    """

    def __init__(self, rows: "JobRows", jobs_folder: Path, models_folder: Path, starting: Set[str] = frozenset()):
        self.rows, self.jobs_folder, self.models_folder, self.starting = rows, jobs_folder, models_folder, starting
        self.done: dict[str, list[str]] = {what: [] for what in DONE}
        self.come: list[RewardModelRow] = []
        self.gone: list[Path] = []

    def run(self) -> "Sweep":
        folders = list(_folders(self.jobs_folder))  # first: of each that is seen here, one of the next two knows
        starting = frozenset(self.starting)
        jobs = {job.id: job for job in self.rows.jobs(limit=-1)}
        for folder in folders:
            if folder.name not in jobs and folder.name not in starting and not (folder / PROCESS).exists():
                self._clear(folder)  # the app died before the job was in line: nobody was told of it
            elif folder.name in jobs and jobs[folder.name].state in ("succeeded", "cancelled"):
                checkpoints.discard(folder)  # the app died before it came to that
        for folder in _folders(self.models_folder / artifacts.STAGING):
            self._staged(folder, jobs.get(folder.name))
        models = {row.name: row for row in self.rows.models()}
        for folder in _folders(self.models_folder):
            found = peek(folder)
            if found is None or found["name"] != folder.name:
                continue  # a person's own
            if folder.name in models:
                self._known(folder, models[folder.name])
            else:
                self._unknown(folder, jobs.get(found["job_id"]))
        for row in self.rows.models(("ready", "not_recommended")):
            if not (self.models_folder / row.name).is_dir():
                self._quarantine(row)
        return self

    def _staged(self, folder: Path, job: Job | None) -> None:
        if job is not None and job.active:
            return
        found = artifacts.manifest_of(folder)
        target = self.models_folder / found["name"] if found else folder
        wanted = job is None or job.state in Job.RESUMABLE
        if found is None or found["job_id"] != folder.name or not wanted:
            self._clear(folder)
        elif not target.exists() and found["name"] not in {row.name for row in self.rows.models()}:
            artifacts.publish(folder, target)
            self._adopt(found)

    def _unknown(self, folder: Path, job: Job | None) -> None:
        """It lies in public and has no row."""
        found = artifacts.manifest_of(folder)
        if job is not None and job.state == "cancelled":
            artifacts.withdraw(folder, self.models_folder, job.id)
            self.gone.append(folder)
            self.done["cleared"].append(folder.name)
        elif found is None:
            artifacts.set_aside(folder, self.models_folder)
            self.gone.append(folder)
            self.done["quarantined"].append(folder.name)
        elif job is None or job.state in UNLUCKY:
            self._adopt(found)

    def _known(self, folder: Path, row: RewardModelRow) -> None:
        found = artifacts.manifest_of(folder, hashes=False)
        if row.status == "deleted":
            artifacts.withdraw(folder, self.models_folder, f"deleted-{row.id}")
            self.gone.append(folder)
            self.done["cleared"].append(folder.name)
        elif found is None:
            artifacts.set_aside(folder, self.models_folder)
            if row.status == "quarantined":
                self.gone.append(folder)
            else:
                self._quarantine(row)
        elif row.status == "quarantined":
            self.rows.set_status(row.name, found["status"])
            self.done["returned"].append(row.name)
            self.come.append(row)

    def _adopt(self, found: Mapping[str, Any]) -> None:
        row = row_of(found)
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
    """The manifest as it stands, nothing verified; None where the folder has none of ours."""
    try:
        found = read_json(folder / artifacts.MANIFEST)
        check_types(RewardModelRow, found)
        if not {"files", "weights_sha256", *IN_ROW} <= found.keys() or not isinstance(found["job_id"], str):
            return None
    except (OSError, ValueError):
        return None
    return found


def row_of(manifest: Mapping[str, Any]) -> RewardModelRow:
    return RewardModelRow(new_id(), sha256=manifest["weights_sha256"], **{name: manifest[name] for name in IN_ROW})


def _folders(parent: Path) -> Iterator[Path]:
    """Those whose name begins with a dot left out."""
    yield from sorted(p for p in parent.iterdir() if p.is_dir() and not p.name.startswith(".")) if parent.is_dir() else ()
