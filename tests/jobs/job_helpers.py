"""What the tests of background training share: jobs that are watched by hand, and what there is to see of them."""

import time
from pathlib import Path

from fake_training import FAST

from rgtg.config import Settings
from rgtg.jobs.service import Jobs
from rgtg.jobs.supervisor import Patience
from rgtg.models import artifacts
from rgtg.models.catalog import Catalog
from rgtg.records import Job
from rgtg.store.store import Store

ENDED = ("succeeded", "failed", "cancelled", "interrupted")


def make_jobs(store: Store, settings: Settings, **changes) -> Jobs:
    patience = {name: changes.pop(name) for name in tuple(changes) if name in FAST}
    return Jobs(store, settings, patience=Patience(**FAST | patience), **changes)


def until(jobs: Jobs, job_id: str, *states: str, seconds: float = 60.0) -> Job:
    """Tick until the job is in one of the states (any end, if none is named)."""
    deadline = time.monotonic() + seconds
    while (job := jobs.job(job_id)).state not in (states or ENDED):
        assert time.monotonic() < deadline, (job, jobs.log(job_id))
        jobs.tick()
        time.sleep(0.01)
    return job


def at_work(jobs: Jobs, job_id: str) -> Job:
    """Tick until the trainer has said something."""
    deadline = time.monotonic() + 30
    while not jobs.progress(job_id):
        assert time.monotonic() < deadline, (jobs.job(job_id), jobs.log(job_id))
        jobs.tick()
        time.sleep(0.01)
    return jobs.job(job_id)


def listed(settings: Settings) -> list[str]:
    """What a page would list; each of them is whole."""
    models = settings.data_dir / "models"
    assert all(artifacts.manifest_of(Path(info.folder_or_id)) for info in Catalog([models]).of_kind("reward_model"))
    return [info.name for info in Catalog([models]).of_kind("reward_model")]


def staged(settings: Settings) -> list[str]:
    folder = settings.data_dir / "models" / ".staging"
    return [p.name for p in folder.iterdir()] if folder.is_dir() else []


def assert_published(jobs: Jobs, settings: Settings, job_id: str) -> None:
    job = jobs.job(job_id)
    assert (job.state, job.reward_model, job.error_code) == ("succeeded", "mine", None)
    (row,) = jobs.models()
    assert (row.name, row.parent, row.base_lm, row.job_id, row.status) == ("mine", "partial", "tiny", job_id, "ready")
    assert row.snapshot_id == job.snapshot_id
    assert listed(settings) == ["mine"]
    assert staged(settings) == []
