"""From a file to a card: what the objective's options have to do with the data, and what the card says of them."""

import hashlib
import json
from dataclasses import replace
from types import SimpleNamespace

import pytest
from tiny_models import save_tiny
from transformers import AutoTokenizer, pipeline

from rgtg.rewards.kinds import load_reward_model
from rgtg.training.config import TrainingConfig
from rgtg.training.objectives import OBJECTIVES, Full, Partial
from rgtg.training.pipeline import _run_key, train_file

FROZEN = TrainingConfig(max_steps=4, batch_size=8, learning_rate=3e-3, eval_fraction=0.5, logging_steps=1, bf16=False)
CONFIG = TrainingConfig(max_steps=4, batch_size=8, learning_rate=3e-3, eval_fraction=0.5, logging_steps=1, dropout=0.0, bf16=False)


@pytest.fixture
def pairs(tmp_path):
    """Strong votes with marks."""
    rows = [{"prompt": f"p{i}", "chosen": f"a{i % 7}b", "rejected": f"c{i % 5}", "margin": 0.5, "chosen_spans": [[0, 1, "good"]]} for i in range(30)]
    (tmp_path / "pairs.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    save_tiny(tmp_path / "tiny")
    return tmp_path / "pairs.jsonl"


def labelled(pairs, key: str):
    """The pairs; for an objective that needs it with the tokens of the base LM and a label for every prefix."""
    if OBJECTIVES[key]().needs_prefix_labels:
        tokenizer, rows = AutoTokenizer.from_pretrained(pairs.parent / "tiny"), [json.loads(line) for line in pairs.read_text().splitlines()]
        for row in rows:
            row |= {"prompt_ids": tokenizer(row["prompt"]).input_ids, "prefix_labels": [0.5, 1.0, 1.0, 1.0]}
            row |= {f"{side}_ids": tokenizer(row[side], add_special_tokens=False).input_ids for side in ("chosen", "rejected")}
        pairs.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return pairs


def losses(pairs, name: str, objective) -> list[float]:
    news: list[dict] = []
    train_file(pairs, str(pairs.parent / "tiny"), pairs.parent / name, replace(CONFIG, objective=objective), emit=news.append, device="cpu")
    return [line["loss"] for line in news if "loss" in line]


@pytest.mark.slow
def test_the_margin_and_the_marks_of_a_vote_weigh_as_the_objective_says(pairs):
    usual, without, marked = (
        losses(pairs, name, objective) for name, objective in (("a", Partial()), ("b", Partial(margin=0.0)), ("c", Partial(mark_weight=50.0)))
    )
    assert usual[0] > without[0] and marked != usual


@pytest.mark.parametrize("key", [key if number % 3 == 0 else pytest.param(key, marks=pytest.mark.slow) for number, key in enumerate(OBJECTIVES)])
def test_a_card_says_the_objective_its_own_options_and_how_the_model_is_loaded(pairs, key):
    kind = OBJECTIVES[key]
    config = replace(FROZEN if kind.frozen else CONFIG, objective=kind())
    card = train_file(labelled(pairs, key), str(pairs.parent / "tiny"), pairs.parent / "out", config, device="cpu")
    assert (card.objective, card.reward_kind) == (key, kind.kind) and card.trained_on.endswith(f", {kind().where}")
    assert kind().options.items() <= card.training.items() and bool(card.reference) == (kind.is_ratio or kind.frozen)
    others = {f for other in OBJECTIVES.values() for f in other().options} - kind().options.keys()
    assert not others & card.training.keys()
    assert TrainingConfig.stored({name: value for name, value in card.training.items() if name != "last"}).objective == kind()


def test_checkpoints_of_a_training_that_an_earlier_version_began_are_still_its_own():
    start = SimpleNamespace(loaded=SimpleNamespace(ref=SimpleNamespace(revision="r")))
    prepared = SimpleNamespace(report=SimpleNamespace(sha256="s"), train=(1, 2))
    settings = {  # as version 1 wrote them down
        "objective": "full", "margin": 1.0, "label_smoothing": 0.0, "centring": 0.5, "held_out": 0.15, "template": "plain", "system_prompt": "",
        "max_length": 1024, "over_long": "truncate", "columns": "", "max_bad_rows": 0, "num_steps": 7, "pairs_per_batch": 4, "learning_rate": 0.001,
        "weight_decay": 0.0, "warmup": 0.05, "dropout": 0.3, "autocast": True, "lora": False, "lora_rank": 8, "checkpointing": False, "seed": 0,
        "report_every": 1, "checkpoint_every": 0,
    }  # fmt: skip
    wanted = hashlib.sha256(json.dumps(["r", "s", 2, settings], sort_keys=True).encode()).hexdigest()
    config = TrainingConfig(objective=Full(center_rewards_coefficient=0.5), max_steps=7, batch_size=4, learning_rate=1e-3)
    assert _run_key(start, prepared, config) == wanted


SCALAR = [key for key, kind in OBJECTIVES.items() if kind.scalar and not kind.frozen]  # a head alone is no model of a pipeline


@pytest.mark.parametrize("key", [SCALAR[0], *(pytest.param(key, marks=pytest.mark.slow) for key in SCALAR[1:])])
def test_a_pipeline_of_transformers_gives_the_reward_of_a_trained_folder_as_it_is(pairs, key):
    train_file(labelled(pairs, key), str(pairs.parent / "tiny"), pairs.parent / "out", replace(CONFIG, objective=OBJECTIVES[key]()), device="cpu")
    config = json.loads((pairs.parent / "out" / "config.json").read_text())
    assert (config["problem_type"], config["dtype"]) == ("regression", "float32")
    model = load_reward_model(str(pairs.parent / "out"), device="cpu")
    ids = model.loaded.encode_prompt("p1a2b")
    (found,) = pipeline("text-classification", str(pairs.parent / "out"), device="cpu")("p1a2b")
    assert found["score"] == pytest.approx(model.along(ids[:1], [ids[1:]])[0][-1], abs=1e-4)


def test_a_folder_with_the_logits_of_a_vocabulary_is_no_regression(pairs):
    key = next(key for key, kind in OBJECTIVES.items() if not kind.scalar)
    train_file(pairs, str(pairs.parent / "tiny"), pairs.parent / "out", replace(CONFIG, objective=OBJECTIVES[key]()), device="cpu")
    assert "problem_type" not in json.loads((pairs.parent / "out" / "config.json").read_text())


def test_a_card_of_complete_responses_says_so(pairs):
    card = train_file(pairs, str(pairs.parent / "tiny"), pairs.parent / "out", replace(CONFIG, objective=Full()), device="cpu")
    assert card.trained_on == f"{card.num_pairs} pairs, at the end only"
