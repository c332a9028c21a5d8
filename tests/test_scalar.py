"""Reward models with a scalar head: which are let in, and the reward of every prefix."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from tiny_models import FAMILIES, OTHERS, byte_tokenizer, tiny, tiny_lm, tiny_reward
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification

from rgtg.errors import ModelRefused
from rgtg.models.loading import Loaded
from rgtg.records import ModelCard, ModelRef
from rgtg.rewards.scalar import ScalarRewardModel

PROMPT = (0, 5, 17)
RESPONSES = [[40, 8, 61, 23], [9], [33, 71, 1]]  # 1 is the end token, and pad


def one_by_one(reward_model, prompt, response) -> list[float]:
    """Each prefix alone, through the model's own head, without padding."""
    model = reward_model.loaded.model
    out = []
    for end in range(1, len(response) + 1):
        ids = torch.tensor([[*prompt, *response[:end]]])
        hidden = model.base_model(ids, attention_mask=torch.ones_like(ids)).last_hidden_state
        out.append(float(model.score(hidden)[0, -1, 0].detach()))
    return out


@pytest.mark.parametrize("family", [*FAMILIES, *OTHERS])
def test_along_gives_the_reward_of_every_prefix_of_answers_of_different_length(family):
    reward_model = tiny_reward(family)
    found = reward_model.along(PROMPT, RESPONSES)
    assert [len(f) for f in found] == [4, 1, 3]
    for rewards, response in zip(found, RESPONSES, strict=True):
        assert rewards == pytest.approx(one_by_one(reward_model, PROMPT, response), abs=1e-4)


@pytest.mark.parametrize("family", FAMILIES)
def test_the_reward_of_a_whole_text_is_what_transformers_gives(family):
    reward_model = tiny_reward(family)
    ids = torch.tensor([[*PROMPT, *RESPONSES[0]]])  # no pad in it, so the pooled output is that of the last token
    assert reward_model.along(PROMPT, RESPONSES[:1])[0][-1] == pytest.approx(float(reward_model.loaded.model(ids).logits[0, 0]), abs=1e-4)


def test_growing_prefixes_agree_with_along():
    reward_model, response = tiny_reward(), RESPONSES[0]
    of_prefixes = reward_model.along(PROMPT, [response])[0]
    prefixes = reward_model.start([PROMPT])
    for token, wanted in zip(response, of_prefixes, strict=True):
        assert prefixes.forward({0: [token, 3]})[0].candidates[0] == pytest.approx(wanted, abs=1e-4)
        prefixes.append(0, token)
        assert prefixes.forward({0: ()})[0].reward == pytest.approx(wanted, abs=1e-4)


def test_what_is_new_is_rewarded_prefix_by_prefix_and_the_prompt_is_not():
    reward_model, response = tiny_reward(), RESPONSES[0]
    of_prefixes = reward_model.along(PROMPT, [response])[0]
    prefixes = reward_model.start([PROMPT], [response[:2]])
    assert list(prefixes.forward({0: ()})[0].new) == pytest.approx(of_prefixes[:2], abs=1e-4)
    for token in response[2:]:
        prefixes.append(0, token)
    answers = prefixes.forward({0: ()})[0]
    assert list(answers.new) == pytest.approx(of_prefixes[2:], abs=1e-4) and answers.reward == answers.new[-1]
    assert list(prefixes.forward({0: ()})[0].new) == []


def test_an_answer_without_tokens_has_no_rewards():
    assert tiny_reward().along(PROMPT, [[], [9]])[0] == []


def test_a_copy_scores_as_its_source_and_then_goes_its_own_way():
    prefixes = tiny_reward().start([PROMPT, (0, 9), (0, 9)])
    for slot, token in enumerate((4, 5, 6)):
        prefixes.append(slot, token)
    a = prefixes.forward(dict.fromkeys((0, 1, 2), (7, 8)))
    prefixes.copy([1, 1], [0, 2])
    b = prefixes.forward(dict.fromkeys((0, 1, 2), (7, 8)))
    for slot in range(3):
        assert list(b[slot].candidates) == pytest.approx(list(a[1].candidates), abs=1e-4)
    for slot, token in enumerate((7, 8, 7)):
        prefixes.append(slot, token)
    found = prefixes.forward(dict.fromkeys((0, 1, 2), ()))
    assert [found[slot].reward for slot in range(3)] == pytest.approx([a[1].candidates[i] for i in (0, 1, 0)], abs=1e-4)


def test_rewards_are_float32_whatever_the_weights():
    model = tiny("llama", AutoModelForSequenceClassification, 1).to(torch.bfloat16)
    half = ScalarRewardModel.of(Loaded(ModelRef("half"), Path(), model, byte_tokenizer(), None))
    answers = half.start([PROMPT]).forward({0: [3, 4]})[0]
    assert answers.candidates == torch.tensor(answers.candidates, dtype=torch.float32).tolist()
    # bfloat16 has 8 bits: one percent of a reward that comes from tens of additions
    assert half.along(PROMPT, RESPONSES[:1])[0] == pytest.approx(tiny_reward().along(PROMPT, RESPONSES[:1])[0], rel=0.1, abs=0.3)


def test_a_model_without_a_head_at_every_token_is_refused():
    lm = tiny("llama", AutoModelForCausalLM, 0)
    with pytest.raises(ModelRefused, match=r"`x` cannot score prefixes\. `LlamaForCausalLM` has no `score` layer"):
        ScalarRewardModel.of(Loaded(ModelRef("x"), Path(), lm, byte_tokenizer(), None))


def test_a_judge_never_guides():
    reward_model = tiny_reward()
    cards = {None: True, "reward_model": True, "judge": False}
    for kind, guides in cards.items():
        loaded = replace(reward_model.loaded, card=ModelCard(kind, "x") if kind else None)
        assert replace(reward_model, loaded=loaded).guides is guides


def test_the_cost_is_said_for_every_way_of_growing():
    assert tiny_reward("llama").cost == "one forward per token for all candidates"
    assert tiny_reward("bloom").cost == "one forward per token, one row per candidate"
    assert tiny_reward().name == "llama-rm" and tiny_reward().context == tiny_lm().context == 128
