"""What the trainer's process writes, and the model that it loads back before it is public."""

import json
from pathlib import Path

import pytest
from fake_training import CONFIG, PAIRS
from job_helpers import listed, until

from rgtg.errors import ModelRefused
from rgtg.jobs.worker import described, finite


def test_news_without_numbers_is_written_as_null():
    assert finite({"loss": float("nan"), "by": [1.0, float("inf")], "n": 3}) == {"loss": None, "by": [1.0, None], "n": 3}


def test_out_of_memory_is_named():
    assert described(type("OutOfMemoryError", (RuntimeError,), {})("CUDA"))["code"] == "out_of_memory"


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
