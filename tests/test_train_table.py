"""A table of trainings: objectives × random seeds in one folder, as one command that skips what is finished."""

import json
import math
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from test_train_cli import QUICK, ROOT, here  # noqa: F401
from tiny_models import save_tiny

from rgtg.cli.main import main
from rgtg.cli.train_table import PLAN, _content, named_training
from rgtg.errors import BadSettings
from rgtg.evaluation.trainings import over_trainings, training_markdown, training_rows
from rgtg.records import ModelCard
from rgtg.system.serialization import read_json
from rgtg.training.config import TrainingConfig, parse_training
from rgtg.training.objectives import Full, Partial

TABLE = ["--train", "partial:stride=2", "--train", "full"]


def command(here, *more, pairs="pairs.jsonl") -> list[str]:  # noqa: F811
    return ["train", "--pairs", str(here / pairs), "--base", str(here / "tiny"), "--out", str(here / "table"), *QUICK, "--seeds", "2", *more]


def weights(folder: Path) -> dict[str, bytes]:
    return {path.parent.name: path.read_bytes() for path in sorted(folder.glob("*/model.safetensors"))}


def test_a_training_is_written_like_a_run():
    assert parse_training("partial") == parse_training("") == TrainingConfig(objective=Partial())
    config = parse_training("partial:stride=2,lora=true,max_steps=7", {"batch_size": 4, "max_steps": 9})
    assert config == TrainingConfig(objective=Partial(stride=2), lora=True, max_steps=7, batch_size=4)
    assert parse_training("soft-value:temperature=0.5,bf16=false").objective.options["temperature"] == 0.5
    for text, words in (
        ("full:stride=2", "`stride=2` is not a setting of `full`"),
        ("full:stride", "`stride` is not a setting of `full`"),
        ("full:max_steps", "cannot be read"),
        ("full:max_steps=many", "`max_steps` of the training .* whole number. Found `many`"),
        ("full:lora=perhaps", "has to be true or false. Found `perhaps`"),
        ("full:num_steps=9", "`num_steps` is now `max_steps`"),
        ("nonsense", "nonsense"),
    ):
        with pytest.raises(BadSettings, match=words):
            parse_training(text)


def test_a_training_of_a_table_is_named_by_its_text():
    assert named_training("partial", {})[0] == "partial"
    name, config = named_training("partial:stride=2,lora=true,max_steps=7", {"batch_size": 4})
    assert name == "partial-stride-2-lora-true-max_steps-7" and config.batch_size == 4
    with pytest.raises(BadSettings, match="has a random seed of its own"):
        named_training("full:margin=0,seed=2", {})


def test_the_interval_is_that_of_students_t():
    assert over_trainings([0.84, 0.86]) == pytest.approx((0.85, 0.85 - 12.706 * 0.01, 0.85 + 12.706 * 0.01))
    assert over_trainings([0.1, 0.2, 0.3, 0.4, 0.5]) == pytest.approx((0.3, 0.3 - 0.2776 * math.sqrt(2.5 / 5), 0.3 + 0.2776 * math.sqrt(2.5 / 5)))
    assert over_trainings([0.5])[0] == 0.5 and math.isnan(over_trainings([0.5])[1])


def test_the_interval_of_a_share_ends_at_none_and_all():
    assert over_trainings([0.98, 1.0])[1:] == (pytest.approx(0.863, abs=1e-3), 1.0)


def test_a_row_is_the_mean_over_trainings_at_each_length():
    cards = [
        ModelCard("reward_model", "p", accuracy={"1": {"accuracy": a, "n": 9}, "end": {"accuracy": a, "n": 9}}, metrics={"num_held_out_pairs": 1234})
        for a in (0.6, 0.7)
    ]
    rows = training_rows({"partial": cards, "full": cards[:1]})
    assert [(row["training"], row["n"]) for row in rows] == [("partial", 2), ("full", 1)]
    assert training_markdown(rows).splitlines() == [
        "| held-out accuracy, % | trainings | held-out pairs | 1 token | at the end |",
        "|---|---|---|---|---|",
        "| partial | 2 | 1,234 | 65.0 [1.5, 100.0] | 65.0 [1.5, 100.0] |",
        "| full | 1 | 1,234 | 60.0 | 60.0 |",
    ]


def test_objectives_and_seeds_become_folders_and_a_table_and_what_is_finished_is_skipped(here, capsys, monkeypatch):  # noqa: F811
    assert main(command(here, *TABLE[:2])) == 0
    first = weights(here / "table")
    assert list(first) == ["partial-stride-2-0", "partial-stride-2-1"] and len(set(first.values())) == 2
    capsys.readouterr()
    assert main(command(here, *TABLE)) == 0
    printed = capsys.readouterr().out
    assert "| partial-stride-2 | 2 |" in printed and "| full | 2 |" in printed and "partial-stride-2-0: " not in printed
    assert {path.name for path in (here / "table").iterdir()} == {*first, "full-0", "full-1", PLAN, "table.md", "table.csv", "table.json"}
    assert weights(here / "table") | first == weights(here / "table"), "the first two are as they were"
    card = ModelCard.read(here / "table" / "full-1")
    assert (card.name, card.objective, card.training["seed"]) == ("full-1", Full.key, 1)
    monkeypatch.setattr("rgtg.training.pipeline.train_file", None)
    assert main(command(here, *TABLE)) == 0, "nothing is trained"


def test_other_pairs_or_settings_in_the_same_folder_are_refused(here, capsys):  # noqa: F811
    assert main(command(here, "--train", "full", "--seeds", "1")) == 0
    (here / "other.jsonl").write_text((here / "pairs.jsonl").read_text().replace("a1b", "a1c"))
    for arguments, words in (
        (command(here, "--train", "full", pairs="other.jsonl"), 'holds other trainings.", "found": "Its pairs is '),
        (command(here, "--train", "full", "--max-steps", "5"), 'was trained with other settings.", "found": "Found max_steps 4, not 5'),
        (command(here, "--train", "full", "--ensemble", "2"), "`--seeds N` says how many"),
        (command(here, "--train", "full", "--objective", "vocabulary"), "Add `--train vocabulary`."),
        (command(here, "--train", "partial", "--stride", "2"), "Write, for example, `--train partial:stride=2`."),
        (command(here), "`--seeds` is of a table of trainings."),
        (["train", "--from-votes", "--base", "b", "--out", str(here / "table"), "--train", "full"], "made from a file"),
    ):
        capsys.readouterr()
        assert main(arguments) == 2 and words in capsys.readouterr().err
    assert list(read_json(here / "table" / PLAN)["members"]) == ["full-0"]
    assert main(command(here, "--train", "full", "--seeds", "1", "--logging-steps", "1", "--save-steps", "3")) == 0, (
        "how often it reports is no matter"
    )
    shutil.copytree(here / "tiny", here / "moved")
    moved = [str(here / "moved") if word == str(here / "tiny") else word for word in command(here, "--train", "full", "--seeds", "1")]
    assert main(moved) == 0, "the same weights in another folder"
    save_tiny(here / "tiny", seed=1)
    assert main(command(here, "--train", "full", "--seeds", "2")) == 2 and "Its base_revision is " in capsys.readouterr().err


def test_pairs_in_a_folder_are_known_by_their_content_and_several_processes_are_refused(here, capsys, monkeypatch):  # noqa: F811
    (here / "folder").mkdir()
    shutil.copy(here / "pairs.jsonl", here / "folder" / "train.jsonl")
    before = _content(here / "folder")
    assert len(before) == 64 and _content(here / "nowhere") == "" and _content(here / "pairs.jsonl") == _content(here / "folder" / "train.jsonl")
    (here / "folder" / "train.jsonl").write_text("{}")
    assert _content(here / "folder") != before
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert main(command(here, *TABLE)) == 2 and "Leave `torchrun` out" in capsys.readouterr().err
    assert not (here / "table").exists()


@pytest.mark.slow
def test_a_table_in_two_processes_that_was_killed_equals_one_that_was_not(here):  # noqa: F811
    run = [sys.executable, "-m", "rgtg", *command(here, *TABLE, "--max-steps", "40", "--save-steps", "5")]
    env = os.environ | {"OMP_NUM_THREADS": "1"}
    whole = [word.replace(str(here / "table"), str(here / "whole")) for word in run]
    subprocess.run(whole, env=env, cwd=ROOT, check=True, stdout=subprocess.DEVNULL)
    killed = subprocess.Popen([*run, "--engine", "pool", "--workers", "2"], env=env, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    while not list((here / "table").glob(".*.training/checkpoint-*")):
        assert killed.poll() is None
        time.sleep(0.01)
    killed.send_signal(signal.SIGKILL)
    killed.wait()
    assert len(weights(here / "table")) < 4
    subprocess.run([*run, "--engine", "pool", "--workers", "2"], env=env, cwd=ROOT, check=True, stdout=subprocess.DEVNULL)
    assert weights(here / "table") == weights(here / "whole")
    assert json.loads((here / "table" / "table.json").read_text()) == json.loads((here / "whole" / "table.json").read_text())
    assert not list((here / "table").glob(".*"))
