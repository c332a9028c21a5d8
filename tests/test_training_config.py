"""A training's settings: side by side and back, those of earlier versions, what is refused."""

import pytest

from rgtg.errors import BadSettings
from rgtg.training.config import TrainingConfig, objective_to_read
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
    config = TrainingConfig.of({"objective": key, "num_steps": 7, "lora": True})
    assert config.objective == OBJECTIVES[key]() and config.num_steps == 7
    assert TrainingConfig.of(config.flat()) == config and next(iter(config.flat())) == "objective"


def test_the_default_objective_is_partial():
    assert TrainingConfig() == TrainingConfig.of({}) == TrainingConfig(objective=Partial())


def test_settings_of_an_earlier_version_lose_what_their_objective_lacks():
    assert TrainingConfig.stored(OLD) == TrainingConfig(objective=Full(margin=0.5), num_steps=7, learning_rate=0.001)
    for key in OBJECTIVES:
        old = OLD | {"objective": key, "margin": 1.0}
        assert TrainingConfig.stored(old) == TrainingConfig.of({"objective": key, "num_steps": 7, "learning_rate": 0.001})


@pytest.mark.parametrize(("name", "value"), [("stride", 2), ("tau", 0.5), ("implicit", "ce"), ("unequal", "pad")])
def test_what_was_asked_and_never_read_is_refused_by_name(name, value):
    with pytest.raises(BadSettings, match=f"`full` has no option `{name}`. It has: margin, label_smoothing, centring."):
        TrainingConfig.stored(OLD | {name: value})


def test_what_is_new_is_not_passed_over_even_at_its_default():
    with pytest.raises(BadSettings, match="`full` has no option `stride`"):
        TrainingConfig.of({"objective": "full", "stride": 1})


def test_a_name_that_nothing_has_says_which_there_are():
    for read in (TrainingConfig.of, TrainingConfig.stored):
        with pytest.raises(BadSettings, match="There is no option `num_stepz`. There are: .*margin.*, num_steps, "):
            read({"num_stepz": 1})


@pytest.mark.parametrize("given", ["best", None, 3, ["full"]])
def test_an_objective_that_is_none_is_refused_with_those_there_are(given):
    with pytest.raises(BadSettings, match="`objective` has to be one of partial, full, vocabulary"):
        TrainingConfig.of({"objective": given})
    with pytest.raises(BadSettings, match="`objective` has to be an objective with its options"):
        TrainingConfig(objective=given)


def test_a_model_is_read_with_what_its_card_says_of_reading_alone():
    assert objective_to_read("autoregressive", {"beta": 0.5, "stride": 2, "num_epochs": 4}) == Autoregressive(beta=0.5)
    assert objective_to_read("vocabulary", {"tau": 1.0, "stride": 2}) == Vocabulary()
    assert objective_to_read("", {"centring": 0.01}) == Partial()
