"""A trainer as a process: what it may see of our environment, and what it is apart from."""

import os

from fake_training import CONFIG, PAIRS
from job_helpers import until

from rgtg.system.child import environment


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
