"""The law at the door: who is refused, and what is kept beyond a window and beyond the length at which positions switch."""

from pathlib import Path

import pytest
import torch
from tiny_models import COMMON, SMALL, byte_tokenizer, save_tiny, tiny_lm
from transformers import (
    AutoModelForCausalLM,
    AutoModelForSequenceClassification,
    BertConfig,
    GPTNeoConfig,
    MistralConfig,
    Phi3Config,
    RobertaConfig,
)

from rgtg.errors import ModelRefused
from rgtg.models.lm import BaseLM
from rgtg.models.loading import Loaded, load_causal_lm
from rgtg.models.probe import named_limits
from rgtg.records import ModelRef
from rgtg.rewards.scalar import ScalarRewardModel
from rgtg.training.objectives import OBJECTIVES
from rgtg.training.starts import load_start

MIDDLE = {"intermediate_size": 64, "num_key_value_heads": 2}
LONGROPE = {"rope_type": "longrope", "short_factor": [1.0] * 4, "long_factor": [4.0] * 4, "rope_theta": 10000.0}


def phi3() -> Phi3Config:
    return Phi3Config(original_max_position_embeddings=12, rope_parameters=LONGROPE, **MIDDLE, **SMALL, **COMMON)


def gpt_neo() -> GPTNeoConfig:
    shape = {"hidden_size": 32, "num_layers": 2, "num_heads": 4, "max_position_embeddings": 128}
    return GPTNeoConfig(attention_types=[[["global", "local"], 1]], window_size=20, **shape, **COMMON)


def loaded(config, kind: type = AutoModelForCausalLM) -> Loaded:
    torch.manual_seed(0)
    config.num_labels = 1
    model = kind.from_config(config).eval().requires_grad_(False)
    for weight in model.parameters():
        if weight.ndim == 2:
            weight.mul_(6.0)
    return Loaded(ModelRef("m", "test"), Path(), model, byte_tokenizer(), None)


def plain(model, text: list[int]) -> torch.Tensor:
    return model(torch.tensor([text]), use_cache=False).logits[0, -1].float()


@pytest.mark.parametrize("config", [BertConfig, RobertaConfig])
def test_an_encoder_is_no_base_lm(config):
    with pytest.raises(ModelRefused, match=r"`m` is not a decoder: its attention sees later tokens\. Other tokens after position 8 change"):
        BaseLM.of(loaded(config(intermediate_size=64, **SMALL, **COMMON)))


def test_an_encoder_is_nothing_to_train_from(tmp_path):
    found = loaded(BertConfig(intermediate_size=64, **SMALL, **COMMON))
    found.model.save_pretrained(tmp_path / "bert")
    byte_tokenizer().save_pretrained(tmp_path / "bert")
    with pytest.raises(ModelRefused, match="`bert` is not a decoder"):
        load_start(str(tmp_path / "bert"), OBJECTIVES["autoregressive"](), "cpu")


def test_a_bert_that_is_a_decoder_is_let_in():
    assert BaseLM.of(loaded(BertConfig(is_decoder=True, intermediate_size=64, **SMALL, **COMMON))).backbone.strategy


@pytest.mark.parametrize("kind", [AutoModelForCausalLM, AutoModelForSequenceClassification])
def test_weights_that_are_not_finite_are_refused_at_the_door(kind):
    found = loaded(MistralConfig(**MIDDLE, **SMALL, **COMMON), kind)
    found.model.model.norm.weight[3] = float("nan")
    with pytest.raises(ModelRefused, match=r"`m` returns outputs that are not finite\. \d+ of \d+ are NaN or infinite"):
        (BaseLM if kind is AutoModelForCausalLM else ScalarRewardModel).of(found)


def test_what_a_family_raises_is_a_refusal_with_its_words(monkeypatch):
    found = loaded(MistralConfig(**MIDDLE, **SMALL, **COMMON))

    def fails(*args: object, **kwargs: object) -> None:
        raise KeyError("\nno such kernel")

    monkeypatch.setattr(found.model, "forward", fails)
    with pytest.raises(ModelRefused, match=r"`m` cannot be run on prefixes\. .*no such kernel"):
        BaseLM.of(found)


@pytest.mark.parametrize(("config", "switch", "reach"), [(phi3, 12, 11), (gpt_neo, None, 19)])
def test_log_probs_are_the_models_own_on_both_sides_of_a_limit_and_beside_other_rows(config, switch, reach):
    lm = BaseLM.of(loaded(config()))
    assert (lm.backbone.switch, lm.backbone.reach, lm.backbone.strategy) == (switch, reach, "siblings")
    texts = torch.randint(2, 99, (3, 30), generator=torch.Generator().manual_seed(1)).tolist()
    starts = [4, 9, 26]  # below the limit for long, crossing it, and beyond it from the first token on
    rows = lm.start([text[:n] for text, n in zip(texts, starts, strict=True)])
    for step in range(14):
        found = rows.forward([0, 1, 2])
        for slot, n in enumerate(starts):
            assert torch.allclose(found[slot], plain(lm.loaded.model, rows.rows.texts[slot]), atol=2e-4), (step, slot)
            rows.append(slot, texts[slot][min(n + step, 29)])


@pytest.mark.parametrize("config", [phi3, gpt_neo])
def test_rewards_are_those_of_the_prefix_alone_on_both_sides_of_a_limit(config):
    reward_model = ScalarRewardModel.of(loaded(config(), AutoModelForSequenceClassification))
    text = torch.randint(2, 99, (30,), generator=torch.Generator().manual_seed(2)).tolist()
    model = reward_model.loaded.model

    def alone(n: int, *more: int) -> float:
        return float(model.score(model.base_model(torch.tensor([[*text[:n], *more]]), use_cache=False).last_hidden_state)[0, -1, 0])

    wanted = [alone(n) for n in range(4, 31)]
    assert reward_model.along(text[:3], [text[3:]])[0] == pytest.approx(wanted, abs=1e-3)
    rows = reward_model.start([text[:3], text[:20]])
    for n in range(3, 29):
        answers = rows.forward({0: [7, text[n]], 1: ()})
        assert answers[0].candidates == pytest.approx([alone(n, 7), wanted[n - 3]], abs=1e-3), n
        rows.append(0, text[n])


def test_a_window_that_the_masks_know_is_kept_beyond():
    lm = BaseLM.of(loaded(MistralConfig(sliding_window=40, **MIDDLE, **SMALL, **COMMON)))
    assert (lm.backbone.strategy, lm.backbone.reach, lm.backbone.switch) == ("siblings", None, None)


def test_limits_are_found_by_what_their_names_say_wherever_they_stand():
    rope = {"full_attention": {"rope_type": "longrope", "original_max_position_embeddings": 4096}, "sliding_attention": {"rope_type": "default"}}
    config = {"sliding_window": 512, "window_size": [256, 512], "attention_chunk_size": 8192, "rope_parameters": rope, "max_window_layers": 28}
    assert named_limits(config | {"use_sliding_window": True, "attention_window": None, "id2label": {0: "LABEL_0"}}) == [256, 512, 4096, 8192]


def test_a_model_without_limits_is_tried_on_few_tokens(tmp_path):
    found = load_causal_lm(str(save_tiny(tmp_path / "lm")), device="cpu")
    read = []
    found.model.base_model.register_forward_pre_hook(lambda _, args, inputs: read.append(inputs["input_ids"].numel()), with_kwargs=True)
    assert BaseLM.of(found).backbone.strategy == tiny_lm().backbone.strategy
    assert sum(read) < 600
