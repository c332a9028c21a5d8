"""A training's settings: side by side and back, those of earlier versions, what is refused."""

import json
from dataclasses import fields

import pytest

from rgtg.config import NEW_NAMES, LMTrainingConfig
from rgtg.errors import BadSettings
from rgtg.records import ModelCard
from rgtg.training.config import TrainingConfig, objective_to_read, shared_fields
from rgtg.training.objectives import OBJECTIVES, Autoregressive, Full, Partial, Vocabulary

# as jobs and cards of the first versions have them
OLD = {
    "objective": "full", "num_steps": 7, "pairs_per_batch": 0, "learning_rate": 0.001, "held_out": 0.15, "unequal": "hold", "weights": "uniform",
    "stride": 1, "mark_weight": 3.0, "margin": 0.5, "label_smoothing": 0.0, "centring": 0.0, "beta": 0.1, "implicit": "dpo", "compare": "complete",
    "constraint": "alternate", "constraint_weight": 1.0, "constraint_on": "chosen", "tau": 0.0, "template": "plain", "system_prompt": "",
    "max_length": 1024, "over_long": "truncate", "weight_decay": 0.0, "warmup": 0.05, "dropout": 0.3, "autocast": True, "lora": False,
    "lora_rank": 8, "checkpointing": False, "seed": 0, "report_every": 5, "checkpoint_every": 0,
}  # fmt: skip


@pytest.mark.parametrize("key", OBJECTIVES)
def test_flat_and_back_is_the_same(key):
    config = TrainingConfig.of({"objective": key, "max_steps": 7, "lora": not OBJECTIVES[key].frozen})
    assert config.objective == OBJECTIVES[key]() and config.max_steps == 7
    assert TrainingConfig.of(config.flat()) == config and next(iter(config.flat())) == "objective"


def test_the_default_objective_is_partial():
    assert TrainingConfig() == TrainingConfig.of({}) == TrainingConfig(objective=Partial())


def test_settings_of_an_earlier_version_lose_what_their_objective_lacks():
    assert TrainingConfig.stored(OLD) == TrainingConfig(objective=Full(margin=0.5), max_steps=7, learning_rate=0.001)
    for key in OBJECTIVES:
        old = OLD | {"objective": key, "margin": 1.0}
        assert TrainingConfig.stored(old) == TrainingConfig.of({"objective": key, "max_steps": 7, "learning_rate": 0.001})


@pytest.mark.parametrize(("name", "value"), [("stride", 2), ("tau", 0.5), ("implicit", "ce"), ("unequal", "pad")])
def test_what_was_asked_and_never_read_is_refused_by_name(name, value):
    with pytest.raises(
        BadSettings, match=f"`full` has no option `{NEW_NAMES.get(name, name)}`. It has: margin, label_smoothing, center_rewards_coefficient."
    ):
        TrainingConfig.stored(OLD | {name: value})


# with values of their own: what a stored job asked for in the first names
OLD_NAMES = {
    "objective": "partial", "centring": 0.5, "unequal": "drop", "num_steps": 9, "pairs_per_batch": 3, "held_out": 0.25, "warmup": 0.1,
    "autocast": False, "checkpointing": True, "lora": True, "lora_rank": 4, "report_every": 2, "checkpoint_every": 6,
}  # fmt: skip


def test_a_stored_training_in_the_old_names_is_the_same_training():
    assert TrainingConfig.stored(OLD_NAMES) == TrainingConfig(
        objective=Partial(center_rewards_coefficient=0.5, unequal_lengths="drop"), max_steps=9, batch_size=3, eval_fraction=0.25, warmup_ratio=0.1,
        bf16=False, gradient_checkpointing=True, lora=True, lora_r=4, logging_steps=2, save_steps=6,
    )  # fmt: skip


def test_a_card_in_the_old_names_is_read_under_the_new_ones(tmp_path):
    (tmp_path / "card.json").write_text(
        json.dumps({"kind": "reward_model", "name": "old", "taught": "3 pairs", "training": OLD_NAMES | {"num_epochs": 4, "last": {"step": 9}}})
    )
    card = ModelCard.read(tmp_path)
    training = card.training
    assert card.trained_on == "3 pairs"
    assert training["num_train_epochs"] == 4 and training["last"] == {"step": 9} and not training.keys() & NEW_NAMES.keys()
    assert TrainingConfig.of({name: value for name, value in training.items() if name not in ("num_train_epochs", "last")}) == TrainingConfig.stored(
        OLD_NAMES
    )


def test_the_old_names_are_those_that_no_option_has_now():
    every = [*shared_fields(), *(f for kind in OBJECTIVES.values() for f in fields(kind)), *fields(LMTrainingConfig)]
    names = {f.name for f in every}
    assert set(NEW_NAMES.values()) <= names and not names & NEW_NAMES.keys()


@pytest.mark.parametrize("name", sorted(OLD_NAMES.keys() & NEW_NAMES.keys()))
def test_an_option_asked_for_by_its_old_name_is_refused_with_the_new_one(name):
    with pytest.raises(BadSettings, match=f"`{name}` is now `{NEW_NAMES[name]}`"):
        TrainingConfig.of({name: OLD_NAMES[name]})


def test_an_objective_asked_for_an_option_by_its_old_name_says_the_new_one():
    with pytest.raises(BadSettings, match="`centring` is now `center_rewards_coefficient`"):
        Full(centring=0.5)


def test_what_is_new_is_not_passed_over_even_at_its_default():
    with pytest.raises(BadSettings, match="`full` has no option `stride`"):
        TrainingConfig.of({"objective": "full", "stride": 1})


def test_a_name_that_nothing_has_says_which_there_are():
    for read in (TrainingConfig.of, TrainingConfig.stored):
        with pytest.raises(BadSettings, match="There is no option `num_stepz`. There are: .*margin.*, max_steps, "):
            read({"num_stepz": 1})


@pytest.mark.parametrize("given", ["best", None, 3, ["full"]])
def test_an_objective_that_is_none_is_refused_with_those_there_are(given):
    with pytest.raises(BadSettings, match="`objective` has to be one of partial, full, coherent, shuffled, judged, vocabulary"):
        TrainingConfig.of({"objective": given})
    with pytest.raises(BadSettings, match="`objective` has to be an objective with its options"):
        TrainingConfig(objective=given)


def test_a_model_is_read_with_what_its_card_says_of_reading_alone():
    assert objective_to_read("autoregressive", {"beta": 0.5, "stride": 2, "num_train_epochs": 4}) == Autoregressive(beta=0.5)
    assert objective_to_read("vocabulary", {"tau": 1.0, "stride": 2}) == Vocabulary()
    assert objective_to_read("", {"center_rewards_coefficient": 0.01}) == Partial()
