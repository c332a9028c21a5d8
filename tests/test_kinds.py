"""The door for reward models: the card says the kind, and what cannot be used is refused in words."""

from dataclasses import replace

import pytest
from tiny_models import save
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification

from rgtg.errors import ModelRefused
from rgtg.models.lm import BaseLM
from rgtg.models.loading import load_causal_lm
from rgtg.records import ModelCard
from rgtg.rewards.kinds import KINDS, kind_of, load_reward_model
from rgtg.rewards.next_token import AutoregressiveRewardModel, VocabularyRewardModel
from rgtg.rewards.scalar import ScalarRewardModel

CARD = ModelCard("reward_model", "mine", base_lm="tiny")


@pytest.mark.parametrize(
    ("objective", "kind"),
    [("vocabulary", VocabularyRewardModel), ("autoregressive", AutoregressiveRewardModel), ("partial", ScalarRewardModel), ("", ScalarRewardModel)],
)
def test_the_card_says_the_kind(tmp_path, objective, kind):
    head = AutoModelForSequenceClassification if kind is ScalarRewardModel else AutoModelForCausalLM
    folder = save(tmp_path / "m", head, 1, replace(CARD, objective=objective) if objective else None)
    found = load_reward_model(folder, "mine", "cpu")
    assert type(found) is kind and found.name == "mine" and found.guides


@pytest.mark.parametrize(("reward_kind", "kind"), [("autoregressive", AutoregressiveRewardModel), ("scalar", ScalarRewardModel)])
def test_the_kind_on_the_card_goes_before_its_objective_which_may_be_a_new_one(tmp_path, reward_kind, kind):
    head = AutoModelForSequenceClassification if kind is ScalarRewardModel else AutoModelForCausalLM
    card = replace(CARD, objective="something new", reward_kind=reward_kind)
    assert type(load_reward_model(save(tmp_path / "m", head, 1, card), device="cpu")) is kind


@pytest.mark.parametrize("kind", KINDS)
def test_a_card_without_a_kind_is_read_by_its_objective(kind):
    assert kind_of(replace(CARD, reward_kind=kind, objective="partial")) == kind
    assert kind_of(replace(CARD, objective=kind)) == kind
    assert kind_of(None) == kind_of(replace(CARD, objective="full")) == "scalar"


def test_a_kind_that_is_misspelt_is_refused_with_those_there_are():
    with pytest.raises(ModelRefused, match="`mine` is of a kind .* Its card names `scaler`; known: scalar, encoder, vocabulary"):
        kind_of(replace(CARD, reward_kind="scaler"))


def test_a_base_lm_without_a_card_is_no_reward_model(tmp_path):
    with pytest.raises(ModelRefused, match="no trained head"):
        load_reward_model(save(tmp_path / "m", AutoModelForCausalLM, 1), device="cpu")


def test_an_implicit_one_finds_its_reference_and_takes_no_other(tmp_path):
    reference = BaseLM.of(load_causal_lm(save(tmp_path / "ref", AutoModelForCausalLM, 2), "ref", "cpu"))
    card = replace(CARD, objective="implicit", training={"beta": 0.25}, reference=f"ref@{reference.loaded.ref.revision}")
    folder = save(tmp_path / "m", AutoModelForCausalLM, 1, card)
    asked = []
    found = load_reward_model(folder, "mine", "cpu", find_reference=lambda ref: asked.append(ref.name) or reference)
    assert asked == ["ref"] and found.reference is reference and found.beta == 0.25
    other = BaseLM.of(load_causal_lm(save(tmp_path / "other", AutoModelForCausalLM, 3), "ref", "cpu"))
    with pytest.raises(ModelRefused, match="needs other weights of its reference `ref`"):
        load_reward_model(folder, "mine", "cpu", find_reference=lambda ref: other)
    with pytest.raises(ModelRefused, match="needs its reference model"):
        load_reward_model(folder, "mine", "cpu")
