"""`python -m rgtg train`: a flag for every field, a file or the votes, what is printed, what is refused, going on."""

import json
import os
import subprocess
import sys
from dataclasses import fields
from pathlib import Path

import pytest
from store_records import make_comparison, make_trace, make_vote
from tiny_models import byte_tokenizer, save_tiny

from rgtg.cli.main import _parser, main
from rgtg.cli.train import config_of
from rgtg.config import NEW_NAMES, Settings
from rgtg.models.loading import load_classifier
from rgtg.preferences.formats import read_examples
from rgtg.prompts import encode_prompt
from rgtg.records import ModelCard, Span
from rgtg.store.export import export_preferences
from rgtg.store.store import Store
from rgtg.training import pipeline
from rgtg.training.config import TrainingConfig, shared_fields
from rgtg.training.objectives import OBJECTIVES, Autoregressive

ROOT = Path(__file__).resolve().parent.parent
QUICK = ["--max-steps", "4", "--batch-size", "8", "--learning-rate", "1e-3", "--eval-fraction", "0.4", "--device", "cpu"]


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.setenv("RGTG_DATA_DIR", str(tmp_path / "data"))
    monkeypatch.setattr("rgtg.workbench.library.STARTER_DIR", tmp_path / "none")
    save_tiny(tmp_path / "tiny")
    rows = [{"prompt": f"p{i}", "chosen": f"a{i % 7}b", "rejected": f"c{i % 5}"} for i in range(60)]
    (tmp_path / "pairs.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return tmp_path


def train(here, *more, source=None, out="mine") -> int:
    source = source or ["--pairs", str(here / "pairs.jsonl")]
    return main(["train", *source, "--base", str(here / "tiny"), "--out", str(here / out), *QUICK, *more])


def test_every_option_is_a_flag_and_what_is_not_given_stands_at_its_default():
    begin = ["train", "--from-votes", "--base", "b", "--out", "o"]
    assert config_of(_parser().parse_args(begin)) == TrainingConfig()
    for f in [*shared_fields(), *(f for kind in OBJECTIVES.values() for f in fields(kind))]:
        other = not f.default if isinstance(f.default, bool) else (f.metadata.get("choices") or ["k", f.metadata.get("max")])[-1] or "k"
        flag = f.name.replace("_", "-")
        given = [f"--{flag}" if other else f"--no-{flag}"] if isinstance(f.default, bool) else [f"--{flag}", str(other)]
        assert getattr(_parser().parse_args([*begin, *given]), f.name) == other != f.default
    words = "--objective autoregressive --lora --no-bf16 --beta 0.5"
    assert config_of(_parser().parse_args([*begin, *words.split()])) == TrainingConfig(objective=Autoregressive(beta=0.5), lora=True, bf16=False)


@pytest.mark.parametrize(
    ("given", "old", "new"),
    [
        (["--centring", "0.5"], "--centring", "--center-rewards-coefficient"),
        (["--num-steps=9"], "--num-steps", "--max-steps"),
        (["--warmup", "0.1"], "--warmup", "--warmup-ratio"),  # and not taken for the beginning of it
        (["--no-autocast"], "--no-autocast", "--no-bf16"),
    ],
)
def test_a_flag_of_an_earlier_version_is_refused_with_its_new_name(given, old, new, capsys):
    assert main(["train", "--from-votes", "--base", "b", "--out", "o", *given]) == 2
    assert json.loads(capsys.readouterr().err)["error"] == f"`{old}` is now `{new}`."


def test_every_renamed_option_of_a_training_has_its_old_flag_refused():
    flags = {option for action in _parser()._subparsers._group_actions[0].choices["train"]._actions for option in action.option_strings}
    for old in NEW_NAMES.keys() - {"num_epochs"}:  # that of the base LM, which has no command
        assert {"--" + old.replace("_", "-"), "--no-" + old.replace("_", "-")} <= flags


def test_a_file_becomes_a_model_and_every_line_is_json(here, capsys):
    assert train(here, "--json", "--logging-steps", "2", "--seed", "5") == 0
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert lines[0]["phase"] == "data" and lines[0]["data"]["num_rows"] == 60
    assert [line["step"] for line in lines if line.get("phase") == "training"] == [2, 4]
    assert lines[-1]["path"] == str(here / "mine") and lines[-1]["verdict"] == ModelCard.read(here / "mine").verdict
    card = ModelCard.read(here / "mine")
    assert card.training["seed"] == 5 and card.base_lm == "tiny" and card.name == "mine"
    load_classifier(str(here / "mine"))
    assert not (here / ".mine.training").exists()


def test_for_people_it_says_what_the_data_is_and_how_far_it_is(here, capsys):
    assert train(here) == 0
    said = capsys.readouterr().out
    assert "60 pairs on 60 prompts" in said and "step 4 of 4  loss" in said and f"{here / 'mine'}: " in said


def test_an_option_that_the_objective_lacks_is_one_json_line_with_those_it_has(here, capsys):
    assert train(here, "--objective", "full", "--unequal-lengths", "hold") == 2
    found = json.loads(capsys.readouterr().err)
    assert (
        found["error"] == "`full` has no option `unequal_lengths`."
        and found["found"] == "It has: margin, label_smoothing, center_rewards_coefficient."
    )
    assert sorted(path.name for path in here.iterdir()) == ["pairs.jsonl", "tiny"]
    assert train(here, "--objective", "best") == 2 and "`objective` has to be one of partial" in json.loads(capsys.readouterr().err)["error"]


def test_what_is_there_is_not_written_over(here, capsys):
    (here / "mine").mkdir()
    assert train(here) == 2
    assert "already exists" in json.loads(capsys.readouterr().err)["error"]
    assert list((here / "mine").iterdir()) == [] and not (here / ".mine.training").exists()


def stops_in(monkeypatch, number: int) -> list[int]:
    """The training of that number stops after two steps; says which seeds were trained."""
    whole, seeds = pipeline.train_reward_model, []

    def stopping(*a):
        seeds.append(a[3].seed)
        asked = iter(range(1, 99))
        return whole(*a[:5], lambda: len(seeds) == number and next(asked) >= 2, *a[6:])

    monkeypatch.setattr(pipeline, "train_reward_model", stopping)
    return seeds


@pytest.mark.slow
def test_it_goes_on_where_it_was_interrupted(here, capsys, monkeypatch):
    stops_in(monkeypatch, 1)
    assert train(here) == 2 and not (here / "mine").exists()
    assert json.loads(capsys.readouterr().err)["do"] == "Add --resume to continue."
    assert train(here) == 2, "what was begun is not begun again by itself"
    assert "--resume" in json.loads(capsys.readouterr().err)["do"]
    assert train(here, "--resume", "--json", "--logging-steps", "1") == 0
    steps = [json.loads(line).get("step") for line in capsys.readouterr().out.splitlines()]
    assert [step for step in steps if step] == [3, 4]
    assert not (here / ".mine.training").exists()


@pytest.mark.slow
def test_an_ensemble_has_one_seed_and_one_name_each(here):
    assert train(here, "--ensemble", "2", "--seed", "7", "--name", "taste") == 0
    cards = [ModelCard.read(here / f"mine-{n}") for n in (1, 2)]
    assert [(card.training["seed"], card.name) for card in cards] == [(7, "taste-1"), (8, "taste-2")]
    assert sorted(path.name for path in here.iterdir()) == ["mine-1", "mine-2", "pairs.jsonl", "tiny"]


@pytest.mark.slow
def test_an_ensemble_ends_where_a_member_stops_and_goes_on_from_there(here, capsys, monkeypatch):
    voted().close()
    more = ("--ensemble", "3", "--seed", "7", "--logging-steps", "1", "--json")
    seeds = stops_in(monkeypatch, 2)
    assert train(here, *more, source=["--from-votes"]) == 2
    assert seeds == [7, 8], "the third is not begun"
    assert "The training was stopped." in capsys.readouterr().err
    first, frozen = (here / "mine-1" / "model.safetensors").read_bytes(), (here / ".mine.training" / "pairs.jsonl").read_bytes()
    assert train(here, *more, source=["--from-votes"]) == 2
    assert "or add --resume" in json.loads(capsys.readouterr().err)["do"]
    assert train(here, *more, "--resume", source=["--from-votes"]) == 0
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [line["step"] for line in lines if "step" in line] == [3, 4, 1, 2, 3, 4]
    assert seeds == [7, 8, 8, 9] and (here / "mine-1" / "model.safetensors").read_bytes() == first
    assert (here / "mine.pairs.jsonl").read_bytes() == frozen and not (here / ".mine.training").exists()
    assert train(here, *more, "--resume", "--ensemble", "4", source=["--from-votes"]) == 0 and seeds[4:] == [10]
    assert (here / "mine.pairs.jsonl").read_bytes() == frozen and not (here / ".mine.training").exists()


def test_an_error_leaves_nothing_in_the_way_of_the_command_put_right(here, capsys):
    assert train(here, source=["--pairs", str(here / "nowhere.jsonl")]) == 2
    assert sorted(path.name for path in here.iterdir()) == ["pairs.jsonl", "tiny"]
    voted().close()
    assert train(here, "--template", "chat", source=["--from-votes"]) == 2, "the tokenizer has no chat template"
    assert not (here / ".mine.training").exists()
    (here / ".mine.training").mkdir()  # of an interrupted command, before its first checkpoint
    capsys.readouterr()
    assert train(here) == 0 and not (here / ".mine.training").exists()


@pytest.mark.parametrize("device", ["nonsense", "cuda:99", "meta"])
def test_a_device_that_is_not_there_is_named(here, capsys, device):
    assert train(here, "--device", device) == 2
    said = json.loads(capsys.readouterr().err)
    assert said["error"] == f"The device `{device}` cannot be used." and said["found"] and said["do"].startswith("Choose auto")


def test_errors_are_one_json_line(here, capsys):
    assert train(here, source=["--pairs", str(here / "nowhere.jsonl")]) == 2
    assert json.loads(capsys.readouterr().err)["error"].startswith("There are no preferences at")
    assert train(here, "--label-smoothing", "0.9", out="other") == 2
    assert "`label_smoothing` has to be between 0 and 0.49" in json.loads(capsys.readouterr().err)["error"]


# --- votes ------------------------------------------------------------------------------------------------------------


def voted(num: int = 30) -> Store:
    """Votes on answers of the tiny model, a branch and marks among them."""
    store = Store(Settings.from_environment().database)
    tokenizer = byte_tokenizer()
    for i in range(num):
        run = make_trace("x", "A").run
        prompt = f"p{i}"
        changes = {"run": type(run)(prompt, "base", run.base_lm, prompt_ids=encode_prompt(tokenizer, prompt))}
        traces = (
            make_trace(f"c{i}-A", "A", "()*", 3, **changes),
            make_trace(f"c{i}-B", "B", "()*+", 4, **changes),
            make_trace(f"c{i}-C", "C", "()*+,", 5, parent_trace_id=f"c{i}-B", branch_position=2, **changes),
        )
        vote = make_vote(f"v{i}", f"c{i}", "B", "ABC", strength=2)
        store.add_comparison(make_comparison(f"c{i}", prompt=prompt, traces=traces), vote)
    store.add_mark(Span("m", "c0-A", 0, 1, "bad"))
    store.add_mark(Span("n", "c1-B", 1, 3, "good", rater_id=None))
    return store


def test_votes_are_frozen_with_all_that_training_can_use(here):
    store = voted(2)
    report = export_preferences(store, here / "frozen.jsonl", "training")
    assert (report.num_pairs, report.num_votes) == (4, 2)
    first, branch, *_ = examples = read_examples(here / "frozen.jsonl")
    assert first.prompt == "p0" and first.chosen_ids == (10, 11, 12, 13) and first.margin == 0.5 and first.rater
    assert (first.num_common, branch.num_common) == (0, 2), "a branch trains prefixes behind the branch only"
    assert first.rejected_marks == ((0, 1, "bad"),) and first.chosen_marks == ()
    assert examples[2].chosen_marks == ((1, 3, "good"),)
    before = (here / "frozen.jsonl").read_bytes()
    export_preferences(store, here / "again.jsonl", "training")
    assert (here / "again.jsonl").read_bytes() == before
    store.close()


def test_the_votes_become_a_model_and_their_frozen_file_stays_beside_it(here):
    voted().close()
    assert train(here, source=["--from-votes"]) == 0
    card = ModelCard.read(here / "mine")
    assert card.data["num_rows"] == 60 and card.data["num_prompts"] == 30 and card.data["num_raters"] == 1
    assert card.data["num_marked"] == 3 and (here / "mine.pairs.jsonl").is_file()
    snapshot = json.loads((here / "mine.pairs.snapshot.json").read_text())
    assert card.snapshot == snapshot and snapshot["name"].startswith("all-30-votes-") and snapshot["sha256"].startswith(snapshot["name"][-8:])


def test_without_votes_it_says_so(here, capsys):
    Store(Settings.from_environment().database).close()
    assert train(here, source=["--from-votes"]) == 2
    assert json.loads(capsys.readouterr().err)["found"] == "Found no pairs: there are no votes."
    assert not (here / ".mine.training").exists()


@pytest.mark.slow
def test_two_processes_train_an_ensemble_from_votes(here):
    voted().close()
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2", "-m", "rgtg", "train", "--from-votes"]
    command += ["--base", str(here / "tiny"), "--out", str(here / "mine"), "--ensemble", "2", *QUICK]
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    done = subprocess.run(command, cwd=here, env=environment, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr[-3000:]
    assert [line.split(":")[0] for line in done.stdout.splitlines() if line.startswith(str(here))] == [str(here / "mine-1"), str(here / "mine-2")]
    cards = [ModelCard.read(here / f"mine-{n}") for n in (1, 2)]
    assert [card.training["seed"] for card in cards] == [0, 1] and [card.data["num_rows"] for card in cards] == [60, 60]
    assert (here / "mine.pairs.jsonl").is_file() and not (here / ".mine.training").exists()
