import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Set
from contextlib import closing, suppress
from itertools import combinations_with_replacement, count
from pathlib import Path

import psutil
import pytest
from fake_training import CONFIG, FAST, NUM_STEPS, PAIRS
from filelock import FileLock
from store_records import make_comparison, make_vote

from rgtg.config import ROOT, Settings
from rgtg.errors import BadData, BadSettings, ModelRefused, StoreError, UnknownRecord
from rgtg.jobs import supervisor
from rgtg.jobs.folder import OTHER_TRAINER, read_mark, read_progress
from rgtg.jobs.process import environment
from rgtg.jobs.reconcile import Sweep
from rgtg.jobs.service import PHASES as APP_PHASES
from rgtg.jobs.service import Jobs
from rgtg.jobs.supervisor import Patience
from rgtg.jobs.worker import PHASES as TRAINER_PHASES
from rgtg.jobs.worker import finite, told
from rgtg.models import artifacts
from rgtg.models.catalog import Catalog
from rgtg.records import Job
from rgtg.store.connection import _connect
from rgtg.store.export import export_preferences
from rgtg.store.jobs import CLAIM
from rgtg.store.store import Store
from rgtg.training import checkpoints

pytestmark = pytest.mark.skipif(os.name != "posix", reason="kills with POSIX signals")
TESTS = str(Path(__file__).resolve().parent)
ENDED = ("succeeded", "failed", "cancelled", "interrupted")


@pytest.fixture(autouse=True)
def fakes(monkeypatch):
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join((str(ROOT), TESTS)))
    monkeypatch.setenv("RGTG_TEST_RUN_JOB", "fake_training:quick")
    monkeypatch.setenv("RGTG_TEST_CHECK_MODEL", "fake_training:check")


@pytest.fixture
def settings(tmp_path):
    return Settings(data_dir=tmp_path)


@pytest.fixture
def store(settings):
    with Store(settings.database) as store:
        yield store
        for job in store.jobs.jobs(("running", "cancelling")):
            with suppress(OSError):
                os.killpg(job.pid or 10**9, signal.SIGKILL)


@pytest.fixture
def jobs(store, settings):
    return make_jobs(store, settings)


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


# the way of a job


def test_job_trains_and_its_model_is_listed(jobs, settings):
    told_of = []
    jobs._published = lambda row, folder: told_of.append((row.name, folder))
    job_id = jobs.start(CONFIG, PAIRS)
    assert jobs.job(job_id).state == "queued"
    job = until(jobs, job_id)
    assert_published(jobs, settings, job_id)
    assert told_of == [("mine", settings.data_dir / "models" / "mine")]
    assert [line["step"] for line in jobs.progress(job_id)] == [1, 2, 3, 4]
    assert checkpoints.found(jobs.folder / job_id) == []
    assert jobs.progress(job_id)[0]["loss"] is None  # not a number
    assert (job.progress["step"], job.heartbeat_at is not None) == (NUM_STEPS, True)
    assert (job.attempt, job.config["seed"], job.config["training"]) == (1, 0, {"num_steps": NUM_STEPS})
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


def test_trainer_sees_no_token_and_is_apart(jobs, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "secret")
    monkeypatch.setenv("RGTG_SECRET", "secret")
    monkeypatch.setenv("RGTG_TEST_RUN_JOB", "fake_training:telling")
    job_id = jobs.start(CONFIG, PAIRS)
    until(jobs, job_id)
    seen = jobs.progress(job_id)[0]
    assert "secret" not in seen["environment"].values()
    assert seen["environment"]["HF_HUB_OFFLINE"] == "1"
    assert int(seen["environment"]["OMP_NUM_THREADS"]) >= 1
    assert seen["session"] == jobs.job(job_id).pid != os.getsid(0)
    assert (seen["nice"], seen["stdin"]) == (min(19, os.nice(0) + 10), "")


def test_only_a_hub_id_goes_online():
    assert "HF_HUB_OFFLINE" not in environment({"HF_TOKEN": "secret", "PATH": "/bin"}, online=True)
    assert environment({"HF_TOKEN": "secret", "PATH": "/bin"}, online=True)["HF_HUB_DISABLE_IMPLICIT_TOKEN"] == "1"
    assert "HF_TOKEN" not in environment({"HF_TOKEN": "secret", "PATH": "/bin"}, online=True)


def test_importing_jobs_leaves_torch_out():
    code = "import sys, rgtg.jobs.service, rgtg.jobs.worker; sys.exit('torch' in sys.modules or 'transformers' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, timeout=60).returncode == 0


def test_trainers_process_never_loads_the_store():
    code = "import sys, rgtg.jobs.worker; sys.exit(any(name.startswith(('rgtg.store', 'sqlite')) for name in sys.modules))"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, timeout=60).returncode == 0


# fault 23: the trainer


@pytest.mark.parametrize("phase", [*TRAINER_PHASES, "step1", "step3", "saving"])
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


@pytest.mark.parametrize("phase", ["trained", "staged", "checked"])
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
        ("crashing", "crashed", "ZeroDivisionError: by zero"),
        ("leaving", "crashed", "exit status 7. Its last words: what a library said last"),
    ],
)
def test_trainer_that_fails_says_why(jobs, monkeypatch, trainer, code, text):
    monkeypatch.setenv("RGTG_TEST_RUN_JOB", f"fake_training:{trainer}")
    job = until(jobs, jobs.start(CONFIG, PAIRS))
    assert (job.state, job.error_code) == ("failed", code)
    assert text in job.error_text


def test_hung_trainer_is_ended(store, settings, monkeypatch):
    monkeypatch.setenv("RGTG_TEST_RUN_JOB", "fake_training:hung")
    jobs = make_jobs(store, settings, hung_s=3.0)
    job = until(jobs, jobs.start(CONFIG, PAIRS))
    assert (job.state, job.error_code) == ("failed", "hung")
    assert not psutil.pid_exists(job.pid)


def test_a_heartbeat_that_is_being_written_is_no_move(store, settings, monkeypatch):
    monkeypatch.setenv("RGTG_TEST_RUN_JOB", "fake_training:hung")
    looks = count()

    def torn(path, attempt):
        return None if path.name == "heartbeat" and next(looks) % 2 else read_mark(path, attempt)

    monkeypatch.setattr(supervisor, "read_mark", torn)
    jobs = make_jobs(store, settings, hung_s=1.0)
    assert until(jobs, jobs.start(CONFIG, PAIRS), seconds=20).error_code == "hung"


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
    job_id, place = jobs.start(CONFIG, PAIRS), artifacts.place

    def cancelled_meanwhile(staging, target):
        if when == "before":
            jobs.cancel(job_id)
        place(staging, target)
        if jobs.job(job_id).state == "running":
            jobs.cancel(job_id)

    monkeypatch.setattr(artifacts, "place", cancelled_meanwhile)
    assert until(jobs, job_id).state == "cancelled"
    assert (jobs.models(), listed(settings), staged(settings)) == ((), [], [])


def test_cancel_comes_too_late(jobs, settings):
    job_id = jobs.start(CONFIG, PAIRS)
    until(jobs, job_id)
    assert jobs.cancel(job_id).state == "succeeded"
    assert_published(jobs, settings, job_id)


# fault 24: the app


def run_app(settings: Settings, mode: str = "", **changes) -> str:
    """A server in another process until it is dead; the id of the job that a person saw, "" if none."""
    command = [sys.executable, str(Path(TESTS) / "fake_training.py"), str(settings.data_dir), mode]
    done = subprocess.run(command, env=os.environ | changes, capture_output=True, text=True, timeout=60)
    assert done.returncode == (-signal.SIGKILL if "RGTG_TEST_KILL_AT" in changes else 0), done.stderr
    return done.stdout.strip()


@pytest.mark.parametrize("phase", APP_PHASES)
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
        assert checkpoints.found(jobs.folder / job.id) == []
        if mode:
            assert (jobs.models(), listed(settings), staged(settings)) == ((), [], [])


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


def test_jobs_of_a_device_wait_for_each_other(jobs):
    first, second = jobs.start(CONFIG, PAIRS), jobs.start(CONFIG | {"name": "second"}, PAIRS)
    jobs.tick()
    assert [jobs.job(i).state for i in (first, second)] == ["running", "queued"]
    until(jobs, second, "succeeded")
    assert jobs.job(first).ended_at <= jobs.job(second).started_at


# what a restart finds of models


@pytest.fixture
def model(jobs, settings):
    until(jobs, jobs.start(CONFIG, PAIRS))
    return settings.data_dir / "models" / "mine"


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


def test_model_of_a_person_is_left_alone(jobs, settings):
    folder = settings.data_dir / "models" / "theirs"
    folder.mkdir(parents=True)
    (folder / "config.json").write_text("{}")
    (folder / "manifest.json").write_text('{"made": "elsewhere"}')
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


def test_checkpoints_stay_until_the_model_is_public(jobs, monkeypatch):
    monkeypatch.setenv("RGTG_TEST_KILL_AT", "trainer:staged")
    job_id = jobs.start(CONFIG, PAIRS)
    assert until(jobs, job_id).state == "interrupted"
    assert checkpoints.found(jobs.folder / job_id)
    monkeypatch.delenv("RGTG_TEST_KILL_AT")
    jobs.resume(job_id)
    assert until(jobs, job_id).state == "succeeded"
    assert [(line["attempt"], line["step"]) for line in jobs.progress(job_id)] == [(1, 1), (1, 2), (1, 3), (1, 4)], "nothing was done again"
    assert checkpoints.found(jobs.folder / job_id) == []


def test_a_cancelled_job_leaves_no_checkpoints(jobs, monkeypatch):
    monkeypatch.setenv("RGTG_TEST_RUN_JOB", "fake_training:stopped_with_a_checkpoint")
    job_id = jobs.start(CONFIG, PAIRS)
    at_work(jobs, job_id)
    jobs.cancel(job_id)
    assert until(jobs, job_id).state == "cancelled"
    assert list((jobs.folder / job_id).glob("checkpoint*")) == []


@pytest.mark.parametrize("way", ["resume", "restart", "still taken"])
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


def at_work_without_news(jobs: Jobs, job_id: str) -> None:
    deadline = time.monotonic() + 30
    while not (jobs.folder / job_id / "process.json").exists():
        assert time.monotonic() < deadline, jobs.log(job_id)
        jobs.tick()
        time.sleep(0.01)


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

    with pytest.raises(BadSettings, match="The model to start from is gone"):
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


# fault 25: bad data, bad settings


def nothing_left(jobs: Jobs, store: Store) -> bool:
    return jobs.jobs() == () and (not jobs.folder.is_dir() or list(jobs.folder.iterdir()) == [])


def test_votes_without_a_pair_are_refused_with_counts(jobs, store):
    store.add_comparison(make_comparison(), make_vote(best=None))
    with pytest.raises(BadData, match=r"nothing to train on\. Found no pairs: tie 1"):
        jobs.start(CONFIG, lambda path: export_preferences(store, path), snapshot={})
    assert nothing_left(jobs, store)


def test_snapshot_says_what_the_job_saw(jobs, store, settings):
    store.add_comparison(make_comparison(), make_vote())
    job_id = jobs.start(CONFIG, lambda path: export_preferences(store, path), snapshot={"verdict": "best"})
    with closing(_connect(settings.database, "ro")) as conn:
        (seen,) = conn.execute("SELECT * FROM snapshots").fetchall()
    assert (seen["filter"], seen["num_votes"], seen["last_vote_seq"]) == ('{"verdict":"best"}', 1, 1)
    asked = json.loads((jobs.folder / job_id / "job.json").read_text())
    assert (asked["snapshot_id"], asked["pairs_sha256"]) == (seen["id"], seen["sha256"])
    assert jobs.job(job_id).snapshot_id == seen["id"]


def test_refusal_of_the_trainer_reaches_the_row(jobs, monkeypatch):
    monkeypatch.setenv("RGTG_TEST_RUN_JOB", "fake_training:refusing")
    job = until(jobs, jobs.start(CONFIG, PAIRS))
    assert (job.state, job.error_code) == ("failed", "refused")
    assert job.error_text == "No pair is left to train on. Found 3: too long 2, contradictions 1. Raise the length, or vote more."


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"name": "../x"}, "another name"),
        ({"name": ".hidden"}, "another name"),
        ({"name": ""}, "Missing: name"),
        ({"training": {"objective": "best"}}, "`objective` has to be"),
        ({"training": {"num_stepz": 1}}, "num_stepz"),
        ({"base": None}, "Missing: base"),
    ],
)
def test_bad_settings_are_refused_before_anything_is_written(jobs, store, changes, message):
    with pytest.raises(BadSettings, match=message):
        jobs.start(CONFIG | changes, PAIRS)
    assert nothing_left(jobs, store)


def test_name_that_is_taken_is_refused(jobs, settings):
    jobs.start(CONFIG, PAIRS)
    with pytest.raises(BadSettings, match=r"`MINE` is taken\. It belongs to a job"):
        jobs.start(CONFIG | {"name": "MINE"}, PAIRS)


def test_relative_base_is_made_absolute(jobs, monkeypatch):
    monkeypatch.chdir(TESTS)
    assert jobs.job(jobs.start(CONFIG | {"base": "browser"}, PAIRS)).config["base"] == str(Path(TESTS) / "browser")
    assert jobs.job(jobs.start(CONFIG | {"base": "owner/name", "name": "b"}, PAIRS)).config["base"] == "owner/name"


def test_public_server_does_not_train(store, settings):
    with pytest.raises(BadSettings, match="public"):
        Jobs(store, Settings(data_dir=settings.data_dir, public=True)).start(CONFIG, PAIRS)


def test_unknown_job_is_said_to_be_unknown(jobs):
    for verb in (jobs.job, jobs.progress, jobs.cancel, jobs.resume):
        with pytest.raises(UnknownRecord):
            verb("nobody")


# parts


def test_torn_and_foreign_lines_of_progress_are_left_out(tmp_path):
    assert read_progress(tmp_path) == []
    (tmp_path / "progress.jsonl").write_bytes(
        b'{"attempt": 1, "step": 10}\n{"attempt": 1, "st\n7\n{"attempt": 2, "step": 20}\n{"attempt": 2, "step": 3\xc3'
    )
    assert read_progress(tmp_path) == [{"attempt": 1, "step": 10}, {"attempt": 2, "step": 20}]


def test_steps_done_again_stand_once(tmp_path):
    lines = [{"attempt": 1, "step": 10}, {"attempt": 1, "step": 20}, {"attempt": 2, "phase": "resumed"}, {"attempt": 2, "step": 20}]
    (tmp_path / "progress.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    assert [(line["attempt"], line.get("step")) for line in read_progress(tmp_path)] == [(1, 10), (2, None), (2, 20)]


def test_news_without_numbers_is_written_as_null():
    assert finite({"loss": float("nan"), "by": [1.0, float("inf")], "n": 3}) == {"loss": None, "by": [1.0, None], "n": 3}


def test_out_of_memory_is_named():
    assert told(type("OutOfMemoryError", (RuntimeError,), {})("CUDA"))["code"] == "out_of_memory"


def test_saved_model_is_loaded_back_and_scored(folders):
    from rgtg.training.starts import check_model

    assert len(set(check_model(Path(folders["partial"])))) == 2
    with pytest.raises(ModelRefused, match="no trained head"):  # a folder that no card calls a reward model
        check_model(Path(folders["lm"]))


@pytest.mark.slow
@pytest.mark.parametrize(("base", "state"), [("partial", "succeeded"), ("headless", "failed")])
def test_model_is_loaded_back_in_the_trainers_process(jobs, settings, monkeypatch, folders, base, state):
    monkeypatch.delenv("RGTG_TEST_CHECK_MODEL")
    monkeypatch.setenv("RGTG_TEST_RUN_JOB", "fake_training:copying")
    if base == "headless":  # calls itself a classifier and has no head
        path = Path(folders[base]) / "config.json"
        before = path.read_text()
        path.write_text(before.replace("LlamaForCausalLM", "LlamaForSequenceClassification"))
    try:
        job = until(jobs, jobs.start(CONFIG | {"base": folders[base]}, PAIRS), seconds=120)
    finally:
        if base == "headless":
            path.write_text(before)
    assert job.state == state, job.error_text
    assert listed(settings) == (["mine"] if state == "succeeded" else [])
    assert state == "succeeded" or (job.error_code, "no trained head" in job.error_text) == ("refused", True)


def test_folder_that_cannot_be_loaded_is_refused(tmp_path, folders):
    from rgtg.training.starts import check_model

    config = json.loads((Path(folders["lm"]) / "config.json").read_text()) | {"architectures": ["LlamaForSequenceClassification"]}
    for path in Path(folders["lm"]).iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(ModelRefused):
        check_model(tmp_path)
