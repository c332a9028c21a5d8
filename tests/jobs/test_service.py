"""The verbs of background training: a job is asked for, trains, is cancelled, resumed; names and settings are checked first."""

import subprocess
import sys
import threading
import time

import psutil
import pytest
from fake_training import CONFIG, NUM_STEPS, PAIRS
from job_helpers import assert_published, at_work, listed, make_jobs, staged, until

from rgtg.config import ROOT, Settings
from rgtg.errors import BadSettings, StoreError, UnknownRecord
from rgtg.jobs.service import Jobs
from rgtg.models import artifacts
from rgtg.training import checkpoints


def test_job_trains_and_its_model_is_listed(jobs, settings):
    told_of = []
    jobs._published = lambda row, folder: told_of.append((row.name, folder))
    job_id = jobs.start(CONFIG, PAIRS)
    assert jobs.job(job_id).state == "queued"
    job = until(jobs, job_id)
    assert_published(jobs, settings, job_id)
    assert told_of == [("mine", settings.data_dir / "models" / "mine")]
    assert [line["step"] for line in jobs.progress(job_id)] == [1, 2, 3, 4]
    assert checkpoints.in_folder(jobs.folder / job_id) == []
    assert jobs.progress(job_id)[0]["loss"] is None  # not a number
    assert (job.progress["step"], job.heartbeat_at is not None) == (NUM_STEPS, True)
    assert (job.attempt, job.config["seed"], job.config["training"]) == (1, 0, {"max_steps": NUM_STEPS})
    manifest = artifacts.manifest_of(settings.data_dir / "models" / "mine")
    assert manifest["probe_scores"] == [1.0, -1.0]
    assert sorted(manifest["files"]) == ["card.json", "config.json", "model.safetensors"]
    assert jobs.models()[0].sha256 == artifacts.weights_sha256(settings.data_dir / "models" / "mine")


def test_watching_thread_does_it_alone(jobs, settings):
    come = threading.Event()
    jobs._published = lambda row, folder: come.set()
    jobs.watch()
    job_id = jobs.start(CONFIG, PAIRS)
    assert come.wait(30)
    jobs.close()
    assert_published(jobs, settings, job_id)


def test_listener_that_fails_harms_nothing(store, settings):
    jobs = make_jobs(store, settings, published=lambda row, folder: 1 / 0)
    job_id = jobs.start(CONFIG, PAIRS)
    until(jobs, job_id)
    assert_published(jobs, settings, job_id)


def test_model_that_is_not_better_is_kept_as_not_recommended(jobs):
    until(jobs, jobs.start(CONFIG | {"seed": 1}, PAIRS))
    assert [row.status for row in jobs.models()] == ["not_recommended"]


def test_importing_jobs_leaves_torch_out():
    code = "import sys, rgtg.jobs.service, rgtg.jobs.worker; sys.exit('torch' in sys.modules or 'transformers' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, timeout=60).returncode == 0


def test_trainers_process_never_loads_the_store():
    code = "import sys, rgtg.jobs.worker; sys.exit(any(name.startswith(('rgtg.store', 'sqlite')) for name in sys.modules))"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, timeout=60).returncode == 0


# cancel


def test_cancel_in_line(jobs, settings):
    job_id = jobs.start(CONFIG, PAIRS)
    assert jobs.cancel(job_id).state == "cancelled"
    jobs.tick()
    assert jobs.job(job_id).attempt == 0


def test_cancel_as_it_starts(jobs, settings, monkeypatch):
    monkeypatch.setenv("RGTG_TEST_RUN_JOB", "fake_training:slow")
    job_id = jobs.start(CONFIG, PAIRS)
    jobs.tick()
    assert jobs.cancel(job_id).state == "cancelling"  # its process is still alive
    job = until(jobs, job_id)
    assert (job.state, job.reward_model) == ("cancelled", None)
    assert (jobs.models(), listed(settings), staged(settings)) == ((), [], [])


@pytest.mark.parametrize("trainer", ["slow", "stubborn"])
def test_cancel_at_work_ends_the_process(jobs, monkeypatch, trainer):
    monkeypatch.setenv("RGTG_TEST_RUN_JOB", f"fake_training:{trainer}")
    job = at_work(jobs, jobs.start(CONFIG, PAIRS))
    began = time.monotonic()
    jobs.cancel(job.id)
    assert until(jobs, job.id).state == "cancelled"
    assert not psutil.pid_exists(job.pid)
    if trainer == "stubborn":  # flag, SIGTERM after 0.3 s, SIGKILL after 0.3 more
        assert time.monotonic() - began > 0.6


@pytest.mark.parametrize("when", ["before", "after"])
def test_cancel_while_it_is_made_public(jobs, settings, monkeypatch, when):
    job_id, place = jobs.start(CONFIG, PAIRS), artifacts.publish

    def cancelled_meanwhile(staging, target):
        if when == "before":
            jobs.cancel(job_id)
        place(staging, target)
        if jobs.job(job_id).state == "running":
            jobs.cancel(job_id)

    monkeypatch.setattr(artifacts, "publish", cancelled_meanwhile)
    assert until(jobs, job_id).state == "cancelled"
    assert (jobs.models(), listed(settings), staged(settings)) == ((), [], [])


def test_cancel_comes_too_late(jobs, settings):
    job_id = jobs.start(CONFIG, PAIRS)
    until(jobs, job_id)
    assert jobs.cancel(job_id).state == "succeeded"
    assert_published(jobs, settings, job_id)


def test_a_cancelled_job_leaves_no_checkpoints(jobs, monkeypatch):
    monkeypatch.setenv("RGTG_TEST_RUN_JOB", "fake_training:stopped_with_a_checkpoint")
    job_id = jobs.start(CONFIG, PAIRS)
    at_work(jobs, job_id)
    jobs.cancel(job_id)
    assert until(jobs, job_id).state == "cancelled"
    assert list((jobs.folder / job_id).glob("checkpoint*")) == []


# names and models


def test_a_name_taken_while_the_pairs_are_frozen_is_refused(jobs, settings):
    def pairs(path):
        path.write_text("{}\n")
        (settings.data_dir / "models" / "Mine").mkdir(parents=True)

    with pytest.raises(BadSettings, match="taken"):
        jobs.start(CONFIG, pairs)
    assert jobs.jobs() == () and list(jobs.folder.iterdir()) == []


def test_a_start_deleted_while_the_pairs_are_frozen_is_refused(jobs, model):
    def pairs(path):
        path.write_text("{}\n")
        jobs.delete_model("mine")

    with pytest.raises(BadSettings, match="The model to train from was not found"):
        jobs.start(CONFIG | {"name": "child", "base": str(model), "parent": "mine"}, pairs)
    assert len(jobs.jobs()) == 1


def test_every_folder_that_leaves_the_public_place_is_told(jobs, settings, store, model):
    gone = []
    jobs._withdrawn = gone.append
    store.jobs.set_status("mine", "deleted")  # and the app died
    jobs.reconcile()
    assert gone == [model] and not model.exists()


def test_deleted_model_is_gone_and_its_name_stays_taken(jobs, settings, model):
    jobs.delete_model("mine")
    assert (jobs.models(), listed(settings), staged(settings)) == ((), [], [])
    with pytest.raises(BadSettings, match="now deleted"):
        jobs.start(CONFIG, PAIRS)
    with pytest.raises(StoreError, match="no trained reward model"):
        jobs.delete_model("mine")


def test_parent_in_use_is_not_deleted(jobs, model):
    jobs.start(CONFIG | {"name": "child", "parent": "mine"}, PAIRS)
    with pytest.raises(StoreError, match="`child` is being trained from it"):
        jobs.delete_model("mine")


def test_public_server_does_not_train(store, settings):
    with pytest.raises(BadSettings, match="public"):
        Jobs(store, Settings(data_dir=settings.data_dir, public=True)).start(CONFIG, PAIRS)


def test_unknown_job_is_said_to_be_unknown(jobs):
    for verb in (jobs.job, jobs.progress, jobs.cancel, jobs.resume):
        with pytest.raises(UnknownRecord):
            verb("nobody")
