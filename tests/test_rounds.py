"""Rounds of retraining over tiny models: who writes the samples, what is trained on, and how interrupted ones go on."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from rgtg.cli.main import main
from rgtg.config import GenerationConfig
from rgtg.errors import BadSettings
from rgtg.evaluation.cells import Cell
from rgtg.training.config import TrainingConfig
from rgtg.training.objectives import OBJECTIVES
from rgtg.workbench.retraining.plan import RoundsConfig, RoundsPlan
from rgtg.workbench.retraining.rounds import kls_to_match, own_accuracy

PROMPTS = tuple(f"prompt {i}" for i in range(10))
QUICK = "max_steps=2,batch_size=8,learning_rate=1e-3,eval_fraction=0.4"


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.setenv("RGTG_DATA_DIR", str(tmp_path / "data"))
    monkeypatch.setattr("rgtg.workbench.library.STARTER_DIR", tmp_path / "none")
    (tmp_path / "prompts.txt").write_text("\n".join(PROMPTS) + "\n")
    return tmp_path


def rounds(here: Path, folders: dict[str, str], *more: str, objective: str = "partial") -> int:
    shared = ["--prompts", str(here / "prompts.txt"), "--base-lm", folders["lm"], "--judge", folders["judge"], "--device", "cpu"]
    shared += ["--train", f"{objective}:{QUICK}", "--run", "pargs:beta=2", "--samples", "2", "--eval-seeds", "2", "--max-new-tokens", "5"]
    return main(["rounds", *shared, "--out", str(here / "out"), *more])


def rows(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text().splitlines()]


@pytest.mark.slow
@pytest.mark.parametrize("objective", ["partial", "soft-value"])
def test_each_round_is_trained_on_the_samples_so_far_which_the_policy_before_wrote(here, folders, capsys, monkeypatch, objective):
    assert rounds(here, folders, "--rounds", "2", objective=objective) == 0
    printed = capsys.readouterr().out
    assert "| 0 | base | – |" in printed and "| 2 | pargs · out-2 · beta 2 | " in printed and "| judge at equal KL |" in printed
    first, second = (rows(here / "out" / f"round-{i}" / "samples.jsonl") for i in (1, 2))
    assert {row["sampled_by"] for row in first} == {"base"} and {row["sampled_by"] for row in second} == {"pargs · out-1 · beta 2"}
    assert rows(here / "out" / "round-2" / "data.jsonl") == first + second
    guided = [row["num_guided"] == len(row["response_ids"]) for row in second]
    assert not any(guided) if objective == "soft-value" else all(guided), "a soft value is that of the base LM's completions"
    assert len(first) == 16 and {row["prompt"] for row in first} == set(PROMPTS) - {PROMPTS[4], PROMPTS[9]}
    card = json.loads((here / "out" / "round-2" / "model" / "card.json").read_text())
    assert (card["name"], card["objective"]) == ("out-2", objective)
    table = json.loads((here / "out" / "table.json").read_text())

    def never(*given, **more):
        raise AssertionError("it was there")

    for name in ("rgtg.evaluation.labelling.samples.sampled", "rgtg.training.pipeline.train_file", "rgtg.evaluation.engines.base.generate"):
        monkeypatch.setattr(name, never)
    assert rounds(here, folders, "--rounds", "2", objective=objective) == 0
    assert json.loads((here / "out" / "table.json").read_text()) == table
    monkeypatch.setenv("RGTG_TIME_BUDGET_S", "0.001")
    assert rounds(here, folders, "--rounds", "2", objective=objective) == 0, "a limit of time would end them between two rounds"
    monkeypatch.setenv("RGTG_MEMORY_BUDGET_GB", "0.000001")
    assert rounds(here, folders, "--rounds", "3", objective=objective) == 2
    assert "may not fit into memory" in capsys.readouterr().err
    assert rounds(here, folders, "--rounds", "2", "--samples", "3", objective=objective) == 2
    assert "Different: samples" in capsys.readouterr().err


def plan(**changes) -> RoundsPlan:
    given = {
        "prompts": PROMPTS, "eval_prompts": (), "judge": "judge", "base_lm": "lm", "start": "lm", "runs": ("pargs:beta=2",),
        "training": TrainingConfig(), "numbers": RoundsConfig(), "generation": GenerationConfig(),
    } | changes  # fmt: skip
    return RoundsPlan.of(**given)


def test_a_plan_keeps_the_prompts_of_the_evaluation_apart_and_grows_by_rounds_only(tmp_path):
    found = plan()
    assert found.eval_prompts == (PROMPTS[4], PROMPTS[9]) and not set(found.prompts) & set(found.eval_prompts)
    assert plan(eval_prompts=("x",)).prompts == PROMPTS
    assert [column.mix for column in found.columns("mine")] == [(("mine", 1.0),)] and found.config == TrainingConfig()
    found.begin(tmp_path)
    replace(found, numbers=RoundsConfig(rounds=9)).begin(tmp_path)
    for other in (plan(runs=("pargs:beta=3",)), plan(training=TrainingConfig(max_steps=3)), plan(numbers=RoundsConfig(seed=1))):
        with pytest.raises(BadSettings, match="holds other rounds"):
            other.begin(tmp_path)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"prompts": PROMPTS[:3]}, "others to measure with"),
        ({"numbers": RoundsConfig(samples=1)}, "Pairs need two answers"),
        ({"runs": ("pargs:beta=2,reward_model=partial",)}, "It names a reward model"),
        ({"runs": ("base",)}, "It reads no reward"),
        ({"training": TrainingConfig(objective=OBJECTIVES["judged"]())}, "no labels of prefixes"),
    ],
)
def test_a_plan_that_cannot_be_carried_out_is_refused(changes, words):
    with pytest.raises(BadSettings, match=words):
        plan(**changes)
    assert plan(numbers=RoundsConfig(samples=1), training=TrainingConfig(objective=OBJECTIVES["soft-value"]())).numbers.samples == 1


def cell(prompt: str, judge: float, guide: float | None) -> Cell:
    return Cell("k", "s", prompt, 0, "", (), "eos", judge, guide, 0.0, None)


def test_the_own_accuracy_compares_answers_to_one_prompt():
    cells = [cell("a", 1.0, 5.0), cell("a", 0.0, 4.0), cell("a", 0.5, 3.0), cell("b", 9.0, 1.0), cell("c", 1.0, 1.0), cell("c", 1.0, 2.0)]
    assert own_accuracy(cells) == {"own_accuracy": round(2 / 3, 4), "num_own": 3}, "of three pairs the guide has one the other way round"
    assert own_accuracy(cells[3:4]) == {"own_accuracy": None, "num_own": 0}
    assert own_accuracy([cell("a", 1.0, 2.0), cell("a", 0.0, 2.0)])["own_accuracy"] == 0.5


def test_rounds_are_compared_at_the_kls_of_the_first():
    found = [{"round": 1, "kl": (0.0512, 0, 1)}, {"round": 1, "kl": None}, {"round": 2, "kl": (3.0, 0, 4)}, {"round": 1, "kl": (1.234, 0, 2)}]
    assert kls_to_match(found) == [0.051, 1.2]
