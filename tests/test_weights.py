"""What lies in the weights and the config of a folder: heads of other names, shapes that do not fit, quantised weights, attention."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from tiny_models import save_tiny
from transformers import AutoModelForSequenceClassification

from rgtg.errors import ModelRefused
from rgtg.models.loading import load_causal_lm, load_classifier, load_to_train
from rgtg.rewards.kinds import load_reward_model


@pytest.fixture(scope="module")
def saved(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("weights")
    save_tiny(folder / "lm")
    save_tiny(folder / "rm", AutoModelForSequenceClassification, seed=1)
    return folder


@pytest.fixture
def rm(saved, tmp_path) -> Path:
    return shutil.copytree(saved / "rm", tmp_path / "rm")


@pytest.fixture
def lm(saved, tmp_path) -> Path:
    return shutil.copytree(saved / "lm", tmp_path / "lm")


def edit(folder: Path, **changes: object) -> str:
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))
    return str(folder)


def rename_head(folder: Path, *names: str, rows: int = 1, bias: float | None = None) -> str:
    """The folder, with the head under other names."""
    weights = load_file(folder / "model.safetensors")
    head = weights.pop("score.weight")
    for name in names:
        weights[f"{name}.weight"] = head.repeat(rows, 1)
        if bias is not None:
            weights[f"{name}.bias"] = torch.tensor([bias])
    save_file(weights, folder / "model.safetensors", {"format": "pt"})
    return str(folder)


IDS = [40, 8, 61, 23]


def rewards(folder: str | Path) -> list[float]:
    return load_reward_model(str(folder), device="cpu").along((0, 5, 17), [IDS])[0]


@pytest.mark.parametrize("name", ["value_head", "v_head", "v_head.summary", "regression_head"])
def test_a_scalar_head_of_another_name_is_read_and_said(rm, saved, name):
    folder = rename_head(rm, name)
    assert rewards(folder) == rewards(saved / "rm")
    assert load_classifier(folder, device="cpu").remark == f"its head is `{name}.weight` of the checkpoint"


def test_its_bias_is_read_too_and_stays_when_the_model_is_saved_again(rm, saved, tmp_path):
    folder = rename_head(rm, "v_head.summary", bias=2.5)
    wanted = [pytest.approx(reward + 2.5, abs=1e-5) for reward in rewards(saved / "rm")]
    assert rewards(folder) == wanted
    loaded, complete = load_to_train(folder, scalar=True, device="cpu")
    assert complete, "a trained reward model to go on from"
    loaded.model.save_pretrained(tmp_path / "again")
    loaded.tokenizer.save_pretrained(tmp_path / "again")
    assert rewards(tmp_path / "again") == wanted


@pytest.mark.parametrize(
    ("names", "rows", "said"),
    [
        (("v_head", "value_head"), 1, r"but `v_head\.weight` \(1, 32\), `value_head\.weight` \(1, 32\)"),
        (("regression_layer",), 19, r"but `regression_layer\.weight` \(19, 32\)"),
        (("foo",), 1, r"but `foo\.weight` \(1, 32\)"),
        (("score.2",), 1, r"but `score\.2\.weight` \(1, 32\)"),
    ],
)
def test_candidates_that_are_not_plainly_the_head_are_shown(rm, names, rows, said):
    with pytest.raises(ModelRefused, match=rf"no trained head.* holds no score\.weight, {said}\. If one of them is its head"):
        load_classifier(rename_head(rm, *names, rows=rows), device="cpu")


def test_a_training_may_begin_from_it_all_the_same_with_a_new_head(rm):
    loaded, complete = load_to_train(rename_head(rm, "regression_layer", rows=19), scalar=True, device="cpu")
    assert not complete and loaded.model.score.weight.abs().max() == 0


def test_weights_that_do_not_fit_the_config_are_named_with_both_shapes(lm):
    with pytest.raises(ModelRefused) as raised:
        load_causal_lm(edit(lm, vocab_size=120), device="cpu")
    assert raised.value.wrong == "The weights of `lm` do not match its config."
    assert "`model.embed_tokens.weight` is (99, 32) in the file, and the config asks for (120, 32)" in raised.value.found
    assert "report" not in str(raised.value)


def test_of_many_weights_that_do_not_fit_three_are_named(lm):
    with pytest.raises(ModelRefused, match=r"; \d+ more differ\.") as raised:
        load_causal_lm(edit(lm, hidden_size=64), device="cpu")
    assert raised.value.found.count("the config asks for") == 3


@pytest.mark.parametrize("method", ["gptq", "awq", "bitsandbytes", "compressed-tensors"])
def test_quantised_weights_without_their_library_are_refused_with_its_name(lm, method):
    folder = edit(lm, quantization_config={"quant_method": method, "bits": 4, "group_size": 128, "load_in_4bit": method == "bitsandbytes"})
    with pytest.raises(ModelRefused, match=rf"its weights are quantised \({method}\)") as raised:
        load_causal_lm(folder, device="cpu")
    assert raised.value.found.strip("."), "the library's own words"


@pytest.mark.parametrize("key", ["_attn_implementation", "attn_implementation"])
@pytest.mark.parametrize("name", ["flash_attention_2", "kernels-community/flash-attn2", "nonsense"])
def test_an_attention_that_is_not_here_is_replaced_and_none_is_fetched(lm, saved, key, name):
    found = load_causal_lm(edit(lm, **{key: name}), device="cpu")
    ids = torch.tensor([[0, 5, 17, 40]])
    assert found.model.config._attn_implementation == "sdpa"
    assert torch.equal(found.model(ids).logits, load_causal_lm(str(saved / "lm"), device="cpu").model(ids).logits)


def test_an_attention_that_is_here_stays(lm):
    assert load_causal_lm(edit(lm, attn_implementation="eager"), device="cpu").model.config._attn_implementation == "eager"
