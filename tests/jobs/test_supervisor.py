"""A trainer at work, looked at from the app: killed, hung, out of disk, or beside another one; two apps at once."""

import os
import signal
import subprocess
import sys
import threading
import time
from contextlib import closing
from itertools import count

import psutil
import pytest
from fake_training import CONFIG, PAIRS
from filelock import FileLock
from job_helpers import assert_published, at_work, listed, make_jobs, staged, until

from rgtg.config import ROOT
from rgtg.errors import BadSettings, StoreError
from rgtg.jobs import supervisor
from rgtg.jobs.folder import OTHER_TRAINER, read_mark
from rgtg.jobs.service import Jobs
from rgtg.jobs.worker import PHASES as TRAINER_PHASES
from rgtg.records import Job
from rgtg.store.connection import _connect
from rgtg.store.jobs import CLAIM
from rgtg.store.store import Store
from rgtg.training import checkpoints

EVERYDAY = ("checked", "step1")


@pytest.mark.parametrize(
    "phase", [p if p in EVERYDAY else pytest.param(p, marks=pytest.mark.slow) for p in (*TRAINER_PHASES, "step1", "step3", "saving")]
)
def test_trainer_killed_at_any_boundary(jobs, settings, monkeypatch, phase):
    monkeypatch.setenv("RGTG_TEST_KILL_AT", f"trainer:{phase}")
    job_id = jobs.start(CONFIG, PAIRS)
    job = until(jobs, job_id)
    if phase in ("sealed", "ended"):  # all that was left to do is the app's
        assert_published(jobs, settings, job_id)
        return
    assert (job.state, job.error_code) == ("interrupted", "killed")
    assert "SIGKILL" in job.error_text
    assert (jobs.models(), listed(settings), staged(settings)) == ((), [], [])
    monkeypatch.delenv("RGTG_TEST_KILL_AT")
    jobs.resume(job_id)
    assert until(jobs, job_id).attempt == 2
    assert_published(jobs, settings, job_id)
    assert [line["step"] for line in jobs.progress(job_id)] == [1, 2, 3, 4]  # what is done again stands once


@pytest.mark.parametrize("phase", ["trained", *(pytest.param(p, marks=pytest.mark.slow) for p in ("staged", "checked"))])
def test_full_disk_says_so_and_resumes(jobs, settings, monkeypatch, phase):
    monkeypatch.setenv("RGTG_TEST_FULL_AT", f"trainer:{phase}")
    job_id = jobs.start(CONFIG, PAIRS)
    job = until(jobs, job_id)
    assert (job.state, job.error_code) == ("failed", "disk_full")
    assert (jobs.models(), listed(settings), staged(settings)) == ((), [], [])
    monkeypatch.delenv("RGTG_TEST_FULL_AT")
    jobs.resume(job_id)
    until(jobs, job_id)
    assert_published(jobs, settings, job_id)


@pytest.mark.parametrize(
    ("trainer", "code", "text"),
    [
        ("disk_full", "disk_full", "The disk is full. Free some space"),
        ("crashing", "crashed", "The trainer failed: by zero. The log has the traceback."),
        ("leaving", "crashed", "exit status 7. Its last line of output: what a library said last"),
    ],
)
def test_trainer_that_fails_says_why(jobs, monkeypatch, trainer, code, text):
    monkeypatch.setenv("RGTG_TEST_RUN_JOB", f"fake_training:{trainer}")
    job = until(jobs, jobs.start(CONFIG, PAIRS))
    assert (job.state, job.error_code) == ("failed", code)
    assert text in job.error_text


@pytest.mark.slow
def test_hung_trainer_is_ended(store, settings, monkeypatch):
    monkeypatch.setenv("RGTG_TEST_RUN_JOB", "fake_training:hung")
    jobs = make_jobs(store, settings, hung_s=1.5)
    job = until(jobs, jobs.start(CONFIG, PAIRS))
    assert (job.state, job.error_code) == ("failed", "hung")
    assert not psutil.pid_exists(job.pid)


@pytest.mark.slow
def test_a_heartbeat_that_is_being_written_is_no_move(store, settings, monkeypatch):
    monkeypatch.setenv("RGTG_TEST_RUN_JOB", "fake_training:hung")
    looks = count()

    def torn(path, attempt):
        return None if path.name == "heartbeat" and next(looks) % 2 else read_mark(path, attempt)

    monkeypatch.setattr(supervisor, "read_mark", torn)
    jobs = make_jobs(store, settings, hung_s=1.0)
    assert until(jobs, jobs.start(CONFIG, PAIRS), seconds=20).error_code == "hung"


@pytest.mark.slow
def test_stopped_process_is_hung_too(store, settings, monkeypatch):
    monkeypatch.setenv("RGTG_TEST_RUN_JOB", "fake_training:slow")
    jobs = make_jobs(store, settings, hung_s=3.0)
    job = at_work(jobs, jobs.start(CONFIG, PAIRS))
    os.kill(job.pid, signal.SIGSTOP)
    assert until(jobs, job.id).error_code == "hung"


def test_attempts_come_to_an_end(jobs, monkeypatch):
    monkeypatch.setenv("RGTG_TEST_KILL_AT", "trainer:started")
    job_id = jobs.start(CONFIG, PAIRS, max_attempts=1)
    until(jobs, job_id)
    with pytest.raises(StoreError, match="Found 1 attempts of 1"):
        jobs.resume(job_id)


def test_model_damaged_before_it_was_public_is_not_published(jobs, settings, monkeypatch):
    job_id = jobs.start(CONFIG, PAIRS)
    monkeypatch.setattr(supervisor.artifacts, "manifest_of", lambda folder, hashes=True: None)
    job = until(jobs, job_id)
    assert (job.state, job.error_code) == ("failed", "damaged")
    assert (jobs.models(), listed(settings), staged(settings)) == ((), [], [])


def test_disk_full_for_the_database_publishes_later(jobs, settings, store, monkeypatch):
    job_id, calls, store_it = jobs.start(CONFIG, PAIRS), [], store.jobs.publish

    def full_once(row):
        calls.append(row)
        if len(calls) == 1:
            raise StoreError("Nothing was stored: the disk is full.")
        return store_it(row)

    monkeypatch.setattr(store.jobs, "publish", full_once)
    with pytest.raises(StoreError):
        until(jobs, job_id)
    assert jobs.job(job_id).state == "running"
    until(jobs, job_id)
    assert_published(jobs, settings, job_id)


def test_second_trainer_in_one_folder_leaves(jobs, tmp_path):
    (tmp_path / "job").mkdir()
    with FileLock(tmp_path / "job" / "trainer.lock"):
        command = [sys.executable, "-m", "rgtg.jobs", str(tmp_path / "job"), "1"]
        assert subprocess.run(command, cwd=ROOT, timeout=60, capture_output=True).returncode == OTHER_TRAINER


def test_pid_of_another_process_is_not_the_trainer(jobs, store):
    job_id = jobs.start(CONFIG, PAIRS)
    store.jobs.claim()
    store.jobs.started(job_id, os.getpid(), 123.0)  # alive, but born at another time
    jobs.tick()
    assert (jobs.job(job_id).state, jobs.job(job_id).error_code) == ("interrupted", "gone")


def test_two_servers_claim_at_once(settings, store):
    for number in range(6):
        store.jobs.add(Job(f"j{number}", {"name": f"m{number}"}, device=("cpu", "cuda")[number % 2]))
    start, got = threading.Barrier(8), []

    def claim():
        with closing(_connect(settings.database, "rw")) as conn:
            start.wait()
            conn.execute("BEGIN IMMEDIATE")
            got.extend(row["id"] for row in conn.execute(CLAIM, ("now",)).fetchall())
            conn.commit()

    threads = [threading.Thread(target=claim) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(got) == ["j0", "j1"]  # the oldest of each device, once


def test_second_server_starts_nothing(jobs, settings):
    job_id = jobs.start(CONFIG, PAIRS)
    with Store(settings.database) as second:
        other = make_jobs(second, settings)
        with pytest.raises(StoreError, match="another process"):
            other.start(CONFIG | {"name": "other"}, PAIRS)
        other.watch()
        assert other.reconcile() == {}
        assert other.job(job_id).state == "queued"
        other.close()


@pytest.mark.slow
def test_jobs_of_a_device_wait_for_each_other(jobs):
    first, second = jobs.start(CONFIG, PAIRS), jobs.start(CONFIG | {"name": "second"}, PAIRS)
    jobs.tick()
    assert [jobs.job(i).state for i in (first, second)] == ["running", "queued"]
    until(jobs, second, "succeeded")
    assert jobs.job(first).ended_at <= jobs.job(second).started_at


def test_checkpoints_stay_until_the_model_is_public(jobs, monkeypatch):
    monkeypatch.setenv("RGTG_TEST_KILL_AT", "trainer:staged")
    job_id = jobs.start(CONFIG, PAIRS)
    assert until(jobs, job_id).state == "interrupted"
    assert checkpoints.in_folder(jobs.folder / job_id)
    monkeypatch.delenv("RGTG_TEST_KILL_AT")
    jobs.resume(job_id)
    assert until(jobs, job_id).state == "succeeded"
    assert [(line["attempt"], line["step"]) for line in jobs.progress(job_id)] == [(1, 1), (1, 2), (1, 3), (1, 4)], "nothing was done again"
    assert checkpoints.in_folder(jobs.folder / job_id) == []


def at_work_without_news(jobs: Jobs, job_id: str) -> None:
    deadline = time.monotonic() + 30
    while not (jobs.folder / job_id / "process.json").exists():
        assert time.monotonic() < deadline, jobs.log(job_id)
        jobs.tick()
        time.sleep(0.01)


@pytest.mark.parametrize("way", ["resume", *(pytest.param(way, marks=pytest.mark.slow) for way in ("restart", "still taken"))])
def test_a_name_that_is_taken_costs_no_trained_model(jobs, settings, monkeypatch, way):
    monkeypatch.setenv("RGTG_TEST_RUN_JOB", "fake_training:until_told")
    job_id = jobs.start(CONFIG, PAIRS)
    at_work_without_news(jobs, job_id)
    other = settings.data_dir / "models" / "mine"
    other.mkdir(parents=True)
    (jobs.folder / job_id / "go").touch()
    assert until(jobs, job_id).error_code == "name_taken"
    monkeypatch.setenv("RGTG_TEST_RUN_JOB", "fake_training:crashing")  # it must not be trained again
    if way == "still taken":
        assert not any(jobs.reconcile().values())
        with pytest.raises(BadSettings, match="taken"):
            jobs.resume(job_id)
    other.rmdir()
    if way == "restart":
        assert jobs.reconcile()["adopted"] == ["mine"]
        assert_published(jobs, settings, job_id)
        return
    jobs.resume(job_id)
    until(jobs, job_id)
    assert_published(jobs, settings, job_id)


def test_refusal_of_the_trainer_reaches_the_row(jobs, monkeypatch):
    monkeypatch.setenv("RGTG_TEST_RUN_JOB", "fake_training:refusing")
    job = until(jobs, jobs.start(CONFIG, PAIRS))
    assert (job.state, job.error_code) == ("failed", "refused")
    assert job.error_text == "No pair is left to train on. Found 3: too long 2, contradictions 1. Raise the length, or vote more."
