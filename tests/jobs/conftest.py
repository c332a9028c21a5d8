"""A store and its jobs, with trainers that only play their part (`fake_training`)."""

import os
import signal
from contextlib import suppress
from pathlib import Path

import pytest
from fake_training import CONFIG, PAIRS
from job_helpers import make_jobs, until

from rgtg.config import ROOT, Settings
from rgtg.store.store import Store

TESTS = str(Path(__file__).resolve().parent)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    posix = pytest.mark.skipif(os.name != "posix", reason="kills with POSIX signals")
    for item in items:
        if "tests/jobs/" in item.path.as_posix():
            item.add_marker(posix)


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


@pytest.fixture
def model(jobs, settings):
    until(jobs, jobs.start(CONFIG, PAIRS))
    return settings.data_dir / "models" / "mine"
