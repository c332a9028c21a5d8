"""What a restart finds, of jobs and of models: the app killed at any boundary, folders without rows, rows without folders."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Set
from contextlib import suppress
from itertools import combinations_with_replacement
from pathlib import Path

import psutil
import pytest
from fake_training import CONFIG, PAIRS
from job_helpers import assert_published, listed, make_jobs, staged, until

from rgtg.config import Settings
from rgtg.jobs.reconcile import Sweep
from rgtg.jobs.service import PHASES as APP_PHASES
from rgtg.store.store import Store
from rgtg.training import checkpoints

TESTS = str(Path(__file__).resolve().parent)


def run_app(settings: Settings, mode: str = "", **changes) -> str:
    """A server in another process until it is dead; the id of the job that a person saw, "" if none."""
    command = [sys.executable, str(Path(TESTS) / "fake_training.py"), str(settings.data_dir), mode]
    done = subprocess.run(command, env=os.environ | changes, capture_output=True, text=True, timeout=60)
    assert done.returncode == (-signal.SIGKILL if "RGTG_TEST_KILL_AT" in changes else 0), done.stderr
    return done.stdout.strip()


EVERYDAY = ("claimed", "placed")  # the others are as slow


@pytest.mark.parametrize("phase", [phase if phase in EVERYDAY else pytest.param(phase, marks=pytest.mark.slow) for phase in APP_PHASES])
def test_app_killed_at_any_boundary(settings, phase):
    mode = {"cancelling": "cancel", "withdrawn": "cancel", "deleted": "delete"}.get(phase, "")
    trainer = {"RGTG_TEST_RUN_JOB": "fake_training:slow"} if mode == "cancel" else {}
    shown = run_app(settings, mode, RGTG_TEST_KILL_AT=f"app:{phase}", **trainer)
    listed(settings)  # whole, even before anybody has tidied up
    with Store(settings.database) as store:
        jobs = make_jobs(store, settings, silent_s=0.1 if phase == "claimed" else 60.0)
        jobs.reconcile()
        found = [job.id for job in jobs.jobs()]
        if phase == "frozen":
            assert (shown, found, list(jobs.folder.iterdir())) == ("", [], [])
            return
        assert len(found) == 1
        assert shown in ("", *found)
        job = until(jobs, found[0])
        if mode == "cancel":
            assert job.state == "cancelled"
        elif mode == "delete":
            assert job.state == "succeeded"
            assert [row.status for row in store.jobs.models()] == ["deleted"]
        else:
            if job.state == "interrupted":
                assert (phase, job.error_code) == ("claimed", "gone")
                jobs.resume(job.id)
                until(jobs, job.id)
            assert_published(jobs, settings, job.id)
        assert checkpoints.in_folder(jobs.folder / job.id) == []
        if mode:
            assert (jobs.models(), listed(settings), staged(settings)) == ((), [], [])


@pytest.mark.slow
def test_trainer_that_outlived_the_app_is_found_again(settings):
    shown = run_app(settings, RGTG_TEST_KILL_AT="app:running", RGTG_TEST_RUN_JOB="fake_training:until_told")
    with Store(settings.database) as store:
        jobs = make_jobs(store, settings)
        jobs.reconcile()
        (job,) = jobs.jobs()
        assert shown in ("", job.id)
        assert job.state == "running"
        assert psutil.pid_exists(job.pid)
        (jobs.folder / job.id / "go").touch()
        assert until(jobs, job.id).attempt == 1
        assert_published(jobs, settings, job.id)


def test_app_and_trainer_both_killed(settings, monkeypatch):
    run_app(settings, RGTG_TEST_KILL_AT="app:running", RGTG_TEST_RUN_JOB="fake_training:slow")
    with Store(settings.database) as store:
        jobs = make_jobs(store, settings)
        (job,) = jobs.jobs()
        os.killpg(job.pid, signal.SIGKILL)
        with suppress(psutil.NoSuchProcess):
            deadline = time.monotonic() + 30
            while (process := psutil.Process(job.pid)).status() != psutil.STATUS_ZOMBIE:
                assert time.monotonic() < deadline, process
                time.sleep(0.01)
        jobs.reconcile()
        assert (jobs.job(job.id).state, jobs.job(job.id).error_code) == ("interrupted", "gone")
        jobs.resume(job.id)
        until(jobs, job.id)
        assert_published(jobs, settings, job.id)


# models


def test_row_without_folder_is_quarantined_and_comes_back(jobs, settings, model):
    gone, come = [], []
    jobs._withdrawn, jobs._published = (lambda folder: gone.append(folder.name)), (lambda row, _: come.append(row.name))
    aside = model.rename(settings.data_dir / "aside")
    assert jobs.reconcile()["quarantined"] == ["mine"]
    assert jobs.models()[0].status == "quarantined"
    aside.rename(model)
    assert jobs.reconcile()["returned"] == ["mine"]
    assert jobs.models()[0].status == "ready"
    assert (gone, come) == (["mine"], ["mine"])


def test_folder_that_lost_a_part_is_set_aside(jobs, settings, model):
    (model / "model.safetensors").write_bytes(b"cut")
    assert jobs.reconcile()["quarantined"] == ["mine"]
    assert (listed(settings), jobs.models()[0].status) == ([], "quarantined")
    assert (settings.data_dir / "models" / ".quarantine" / "mine" / "card.json").is_file()
    assert not any(jobs.reconcile().values())  # once is enough


def test_whole_folder_without_row_is_adopted(jobs, settings, model, tmp_path):
    with Store(tmp_path / "restored.db") as store:  # a database from before the model
        restored = make_jobs(store, settings)
        assert restored.reconcile()["adopted"] == ["mine"]
        assert [(row.name, row.job_id, row.status) for row in restored.models()] == [("mine", None, "ready")]
        assert len(list(restored.folder.iterdir())) == 1  # a job that was at work is left, whoever forgot it


FOREIGN = {"made": "elsewhere"}
WRONG = {"files": {}, "weights_sha256": "", "name": "theirs", "base_lm": "x", "parent": None, "template": "plain", "snapshot_id": None, "metrics": {}}


@pytest.mark.parametrize("manifest", [FOREIGN, [], WRONG | {"job_id": [], "status": "ready"}, WRONG | {"job_id": "j", "status": 5}, None], ids=str)
def test_model_of_a_person_is_left_alone(jobs, settings, manifest):
    folder = settings.data_dir / "models" / "theirs"
    folder.mkdir(parents=True)
    (folder / "config.json").write_text("{}")
    (folder / "manifest.json").write_text(json.dumps(manifest) if manifest is not None else "[" * 3000)
    assert not any(jobs.reconcile().values())
    assert folder.is_dir()


def test_staging_without_manifest_is_cleared(jobs, settings):
    folder = settings.data_dir / "models" / ".staging" / "left"
    folder.mkdir(parents=True)
    (folder / "model.safetensors").write_bytes(b"half")
    assert jobs.reconcile()["cleared"] == ["left"]
    assert staged(settings) == []


MOMENTS = ("before", "folders", "starting", "rows", "after")  # of a sweep; what it reads, in its order


@pytest.mark.parametrize(("begins", "ends"), combinations_with_replacement(MOMENTS, 2))
def test_job_that_begins_while_a_restart_is_put_in_order_keeps_its_folder(jobs, begins, ends):
    frozen, go, ids = threading.Event(), threading.Event(), []

    def pairs(path):
        frozen.set()
        assert go.wait(20)
        path.write_text("".join(json.dumps(pair) + "\n" for pair in PAIRS))

    starter = threading.Thread(target=lambda: ids.append(jobs.start(CONFIG, pairs)))

    def reached(now: str) -> None:
        if now == begins:
            starter.start()
            assert frozen.wait(20)
        if now == ends:
            go.set()
            starter.join()

    class Rows:
        def __getattr__(self, name):
            return getattr(jobs._store.jobs, name)

        def jobs(self, **asked):
            found = jobs._store.jobs.jobs(**asked)
            reached("rows")
            return found

    class Starting(Set):
        def __contains__(self, job_id):
            return job_id in jobs._starting

        def __len__(self):
            return len(jobs._starting)

        def __iter__(self):
            found = tuple(jobs._starting)
            reached("starting")
            return iter(found)

    class Folder(type(jobs.folder)):
        def iterdir(self):
            found = list(super().iterdir())
            reached("folders")
            return iter(found)

    reached("before")
    jobs.folder.mkdir(exist_ok=True)
    sweep = Sweep(Rows(), Folder(jobs.folder), jobs.models_folder, Starting()).run()
    reached("after")
    assert not any(sweep.done.values())
    assert (jobs.folder / jobs.job(ids[0]).id / "pairs.jsonl").is_file()
