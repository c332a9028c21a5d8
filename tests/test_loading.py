"""The one door by which a model enters: what is let in, what is refused, and in which words."""

import json
import os
import re
import shutil
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from huggingface_hub import constants
from tiny_models import FAMILIES, REAL_MODELS, byte_tokenizer, save, save_tiny, save_with_head, tiny
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification

from rgtg.errors import BadData, BadSettings, ModelNotFound, ModelRefused, TokenizerMismatch
from rgtg.models.artifacts import revision_of
from rgtg.models.catalog import labels_in
from rgtg.models.lm import BaseLM
from rgtg.models.loading import check_same_tokens, load_causal_lm, load_classifier, pick_device, resolve
from rgtg.records import ModelCard
from rgtg.rewards.scalar import ScalarRewardModel

COMMIT = "0123456789abcdef0123456789abcdef01234567"


@pytest.fixture(scope="module")
def saved(tmp_path_factory) -> Path:
    """A base LM `lm` and a reward model `rm`, saved once."""
    folder = tmp_path_factory.mktemp("saved")
    save_tiny(folder / "lm")
    save_tiny(folder / "rm", AutoModelForSequenceClassification)
    return folder


@pytest.fixture
def lm(saved, tmp_path) -> Path:
    """A copy of the base LM's folder, to be spoiled."""
    return shutil.copytree(saved / "lm", tmp_path / "lm")


@pytest.mark.parametrize("family", FAMILIES)
def test_a_saved_pair_comes_back_as_it_was(tmp_path, family):
    lm = load_causal_lm(str(save_tiny(tmp_path / "lm", AutoModelForCausalLM, family)), device="cpu")
    rm = load_classifier(str(save_tiny(tmp_path / "rm", AutoModelForSequenceClassification, family)), device="cpu")
    ids = torch.tensor([[0, 5, 17]])
    assert torch.equal(lm.model(ids).logits, tiny(family, AutoModelForCausalLM, 0)(ids).logits)
    assert torch.equal(rm.model.score.weight, tiny(family, AutoModelForSequenceClassification, 0).score.weight)
    check_same_tokens(rm, lm)
    assert (lm.context, lm.vocabulary_size, lm.eos_ids, lm.pad_id) == (128, 99, frozenset({1}), 1)
    assert not lm.model.training and not any(p.requires_grad for p in lm.model.parameters())


def test_the_name_is_the_folders_unless_one_is_given_and_the_revision_is_the_hash_of_the_weights(saved):
    found = load_causal_lm(str(saved / "lm"), device="cpu")
    assert (found.ref.name, found.ref.revision) == ("lm", revision_of(saved / "lm"))
    assert len(found.ref.revision) == 16 and found.folder == saved / "lm" and found.card is None
    assert load_causal_lm(str(saved / "lm"), "mine", "cpu").ref.name == "mine"


def test_other_weights_have_another_hash_and_other_files_change_none(saved, tmp_path):
    folder = shutil.copytree(saved / "lm", tmp_path / "lm")
    (folder / "README.md").write_text("x")
    assert revision_of(folder) == revision_of(saved / "lm") != revision_of(save_tiny(tmp_path / "other", seed=1))


def test_the_card_beside_the_weights_is_read(lm):
    card = ModelCard("base_lm", "starter", zero=0.5)
    card.write(lm)
    assert load_causal_lm(str(lm), device="cpu").card == card
    (lm / "card.json").write_text("{")
    with pytest.raises(BadData, match=r"card\.json is not a model card"):
        load_causal_lm(str(lm), device="cpu")


def test_weights_go_to_the_device_as_they_are_read(saved, monkeypatch):
    monkeypatch.setattr("rgtg.models.loading.pick_device", lambda device: torch.device("meta"))
    monkeypatch.setattr(torch.nn.Module, "to", lambda self, *args, **kw: self)  # nothing is moved afterwards
    for kind, name in ((load_causal_lm, "lm"), (load_classifier, "rm")):
        assert {weight.device.type for weight in kind(str(saved / name)).model.parameters()} == {"meta"}


def test_half_precision_weights_are_read_as_float32(tmp_path):
    tiny("llama", AutoModelForCausalLM, 0).half().save_pretrained(tmp_path)
    byte_tokenizer().save_pretrained(tmp_path)
    found = load_causal_lm(str(tmp_path), device="cpu")
    assert {p.dtype for p in found.model.parameters()} == {torch.float32}
    assert {p.dtype for p in load_causal_lm(str(tmp_path), device="cpu", dtype="bfloat16").model.parameters()} == {torch.bfloat16}


def test_an_untrained_head_is_refused(saved):
    with pytest.raises(ModelRefused, match=r"`lm` has no trained head: its rewards would be random\. The checkpoint holds no score\.weight\."):
        load_classifier(str(saved / "lm"), device="cpu")


@pytest.mark.parametrize("labels", [2, 3])
def test_a_head_with_several_labels_has_their_names_and_gives_one_of_them(tmp_path, labels):
    config = FAMILIES["llama"]()
    config.num_labels = labels
    AutoModelForSequenceClassification.from_config(config).save_pretrained(tmp_path / "many")
    byte_tokenizer().save_pretrained(tmp_path / "many")
    assert labels_in(tmp_path / "many") == tuple(f"LABEL_{i}" for i in range(labels))
    model = ScalarRewardModel.of(load_classifier(str(tmp_path / "many"), device="cpu"))
    one, prompt, response = model.of_label("LABEL_1"), [0, 5], [40, 8, 61]
    hidden = model.loaded.model.base_model(torch.tensor([prompt + response]), use_cache=False).last_hidden_state
    assert one.along(prompt, [response])[0] == pytest.approx(model.loaded.model.score(hidden)[0, 2:, 1].tolist(), abs=1e-4)
    assert one.name == "many[LABEL_1]" and model.of_label("0").name == "many[LABEL_0]"
    with pytest.raises(BadSettings, match=f"`many` has {labels} outputs"):
        model.reads(BaseLM.of(load_causal_lm(save(tmp_path / "lm", AutoModelForCausalLM, 0), device="cpu")))


def test_a_reward_model_is_no_base_lm(saved):
    with pytest.raises(ModelRefused, match=r"`rm` lacks weights\. The checkpoint holds no lm_head\.weight"):
        load_causal_lm(str(saved / "rm"), device="cpu")


@pytest.mark.parametrize("kind", [load_causal_lm, load_classifier])
def test_code_of_others_is_refused_before_anything_is_loaded(lm, kind):
    config = json.loads((lm / "config.json").read_text())
    (lm / "config.json").write_text(json.dumps(config | {"auto_map": {"AutoModelForCausalLM": "evil.Model"}}))
    (lm / "evil.py").write_text(f"open({str(lm / 'was_run')!r}, 'w')")
    with pytest.raises(ModelRefused, match="needs remote code. Its config.json has an `auto_map`."):
        kind(str(lm), device="cpu")
    assert not (lm / "was_run").exists()


def test_a_tokenizer_with_code_of_its_own_is_refused(lm):
    config = json.loads((lm / "tokenizer_config.json").read_text())
    (lm / "tokenizer_config.json").write_text(json.dumps(config | {"tokenizer_class": "Evil", "auto_map": {"AutoTokenizer": ["evil.Evil", None]}}))
    (lm / "evil.py").write_text(f"open({str(lm / 'was_run')!r}, 'w')")
    with pytest.raises(ModelRefused, match="could not be loaded"):
        load_causal_lm(str(lm), device="cpu")
    assert not (lm / "was_run").exists()


def test_pickled_weights_are_refused(lm):
    (lm / "model.safetensors").rename(lm / "pytorch_model.bin")
    with pytest.raises(ModelRefused, match=r"has no safetensors weights\. Found pytorch_model\.bin, which can hold code\."):
        load_causal_lm(str(lm), device="cpu")
    (lm / "pytorch_model.bin").unlink()
    with pytest.raises(ModelRefused, match="No weights were found"):
        load_causal_lm(str(lm), device="cpu")


def test_a_folder_without_config_is_no_model(tmp_path):
    with pytest.raises(ModelRefused, match=r"is not a model folder\. There is no config\.json in it\."):
        resolve(str(tmp_path))


@pytest.mark.parametrize(
    ("file", "text"),
    [
        ("config.json", "{"),
        ("config.json", "[]"),
        ("config.json", "{}"),
        ("config.json", '{"model_type": "nonsense"}'),
        ("tokenizer.json", "{"),
        ("tokenizer.json", None),
        ("model.safetensors", "\0" * 50),
        ("model.safetensors", "half"),
        ("model.safetensors", "other"),
    ],
)
@pytest.mark.parametrize("kind", [load_causal_lm, load_classifier])
def test_a_damaged_folder_is_refused_in_one_line(saved, tmp_path, file, text, kind):
    folder = shutil.copytree(saved / ("lm" if kind is load_causal_lm else "rm"), tmp_path / "damaged")
    path = folder / file
    if text is None:
        path.unlink()
    elif text == "half":
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    elif text == "other":
        path.write_bytes((save_tiny(tmp_path / "other", AutoModelForCausalLM, "gpt2") / file).read_bytes())
    else:
        path.write_text(text)
    with pytest.raises(ModelRefused, match="damaged") as caught:
        kind(str(folder), device="cpu")
    assert "\n" not in str(caught.value)


def test_what_is_neither_folder_nor_hub_id_is_not_found(tmp_path):
    for name in ("nothing", str(tmp_path / "nothing"), "a/b/c", "../up/x"):
        with pytest.raises(ModelNotFound, match="It is neither a folder on this machine nor a Hub id"):
            resolve(name)


def test_another_tokenizer_is_refused(saved, tmp_path):
    lm, rm = load_causal_lm(str(saved / "lm"), device="cpu"), load_classifier(str(saved / "rm"), device="cpu")
    check_same_tokens(rm, lm)
    lm.tokenizer.add_tokens(["foreign"])
    lm.model.resize_token_embeddings(100)
    message = r"Reward model `rm` and base LM `lm` do not share a tokenizer\. `rm` has 99 tokens, `lm` has 100; 1 of these differ\."
    with pytest.raises(TokenizerMismatch, match=message):
        check_same_tokens(rm, replace(lm))  # a table is read once


def test_the_same_tokens_with_other_numbers_are_refused(saved):
    lm, rm = load_causal_lm(str(saved / "lm"), device="cpu"), load_classifier(str(saved / "rm"), device="cpu")
    vocabulary = lm.tokenizer.get_vocab()
    a, b = (t for t, i in vocabulary.items() if i in (50, 51))
    lm.tokenizer.get_vocab = lambda: vocabulary | {a: vocabulary[b], b: vocabulary[a]}
    with pytest.raises(TokenizerMismatch, match="2 of these differ"):
        check_same_tokens(rm, replace(lm))


def test_tokens_and_rows_that_only_one_of_two_models_has_are_no_hindrance(saved):
    lm, rm = load_causal_lm(str(saved / "lm"), device="cpu"), load_classifier(str(saved / "rm"), device="cpu")
    lm.model.resize_token_embeddings(104)
    rm.tokenizer.add_special_tokens({"pad_token": "[PAD]"})  # as so many trainers do, with a row for it
    rm.model.set_input_embeddings(torch.nn.Embedding(100, 32))
    check_same_tokens(replace(rm), replace(lm))
    assert (replace(lm).vocabulary_size, replace(lm).num_tokens) == (104, 99)


def test_a_reward_model_has_to_read_every_token_that_the_base_lm_can_choose(saved):
    lm, rm = load_causal_lm(str(saved / "lm"), device="cpu"), load_classifier(str(saved / "rm"), device="cpu")
    rm.model.set_input_embeddings(torch.nn.Embedding(97, 32))
    with pytest.raises(TokenizerMismatch, match=r"cannot read every token of base LM `lm`\. 2 have no row, the first is `.` \(97\); it reads 97 ids"):
        check_same_tokens(replace(rm), lm)


def test_a_pad_token_without_a_row_is_not_padded_with_and_other_tokens_without_one_are_refused_by_name(saved):
    found = load_causal_lm(str(saved / "lm"), device="cpu")
    found.tokenizer.add_special_tokens({"pad_token": "[PAD]"})
    found.tokenizer.add_tokens(["~~"])
    assert (replace(found).pad_id, replace(found).num_tokens) == (0, 99)
    with pytest.raises(BadSettings, match=r"a token that the model cannot read\. `~~` has id 100; the model has 99 rows"):
        found.encode_prompt("a~~")
    with pytest.raises(BadSettings, match="id 100"):
        found.encode_response("a", (0, 5), "~~")


def test_a_pad_id_of_the_config_beyond_the_rows_is_refused(lm):
    _edit(lm, pad_token_id=99)
    with pytest.raises(ModelRefused, match="its config.json has pad_token_id 99, and the model has 99 rows"):
        load_causal_lm(str(lm), device="cpu")


def test_sizes_that_do_not_fit_are_named_with_the_weight(lm):
    _edit(lm, vocab_size=120)
    with pytest.raises(ModelRefused, match=r"weight` is \(99, 32\) in the file, and the config asks for \(120, 32\)"):
        load_causal_lm(str(lm), device="cpu")


@pytest.mark.parametrize("key", ["num_hidden_layers", "hidden_size", "vocab_size", "intermediate_size"])
def test_a_config_of_absurd_size_is_refused_before_anything_is_built(lm, key):
    _edit(lm, **{key: 10**9})
    started = time.monotonic()
    with pytest.raises(ModelRefused, match=rf"`{key}` is 1,000,000,000, but the weights"):
        load_causal_lm(str(lm), device="cpu")
    assert time.monotonic() - started < 1


def _edit(folder: Path, **changes: int) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def test_every_end_token_that_any_source_names_ends_a_response(saved):
    lm = load_causal_lm(str(saved / "lm"), device="cpu")
    lm.model.generation_config.eos_token_id = [7, 8]
    assert lm.eos_ids == {1, 7, 8}


def test_a_device_can_be_named():
    assert pick_device("cpu") == torch.device("cpu")
    assert pick_device().type in ("cpu", "cuda", "mps")


@pytest.mark.parametrize("device", ["nonsense", "cuda:99", "meta"])
def test_a_device_that_is_not_here_is_refused_in_words(device):
    with pytest.raises(BadSettings, match=f"The device `{device}` cannot be used"):
        pick_device(device)


# --- the hub, from what was fetched before ------------------------------------------------------------------------


@pytest.fixture
def hub(saved, tmp_path, monkeypatch) -> Path:
    """A hub that cannot be reached, and one model `owner/tiny` as a download left it; gives the model's folder."""
    repo = tmp_path / "hub" / "models--owner--tiny"
    (repo / "refs").mkdir(parents=True)
    (repo / "refs" / "main").write_text(COMMIT)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    return shutil.copytree(saved / "lm", repo / "snapshots" / COMMIT)


@pytest.fixture(params=["offline", "no network"])
def unreachable(request, monkeypatch) -> None:
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", request.param == "offline")
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")  # nothing listens there


def test_a_model_fetched_before_is_loaded_without_the_hub_and_its_commit_recorded(hub, unreachable):
    found = load_causal_lm("owner/tiny", device="cpu")
    assert (found.ref.name, found.ref.revision, found.folder) == ("owner/tiny", COMMIT, hub)


def test_a_commit_can_be_named(hub, unreachable):
    assert resolve(f"owner/tiny@{COMMIT}") == (hub, COMMIT)
    started = time.monotonic()
    with pytest.raises(ModelNotFound, match="`owner/tiny` could not be downloaded from the Hub"):
        resolve(f"owner/tiny@{'f' * 40}")
    assert time.monotonic() - started < 10, "a hub that was not reached is not asked again and again"


def test_an_unknown_model_is_not_found_at_once(hub, unreachable):
    started = time.monotonic()
    with pytest.raises(ModelNotFound, match=r"(?s)`owner/unknown` could not be downloaded from the Hub\. .* Check the id and the network"):
        load_causal_lm("owner/unknown", device="cpu")
    assert time.monotonic() - started < 10


def test_what_the_hub_gave_is_checked_like_any_folder(hub, unreachable):
    config = json.loads((hub / "config.json").read_text())
    (hub / "config.json").write_text(json.dumps(config | {"auto_map": {"AutoModel": "evil.Model"}}))
    with pytest.raises(ModelRefused, match="auto_map"):
        load_causal_lm("owner/tiny", device="cpu")


# --- real models --------------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("name", REAL_MODELS)
def test_a_real_base_lm_is_refused_as_reward_model_until_it_has_a_head(shared, tmp_path, name):
    source = shared / "models" / name
    with pytest.raises(ModelRefused, match="no trained head"):
        load_classifier(str(source), device="cpu")
    rm = load_classifier(str(save_with_head(source, tmp_path / "rm")), device="cpu")
    check_same_tokens(rm, load_causal_lm(str(source), device="cpu"))


@pytest.mark.slow
def test_real_models_with_different_tokenizers_are_refused_together(shared, tmp_path):
    first, second = REAL_MODELS
    rm = load_classifier(str(save_with_head(shared / "models" / first, tmp_path / "rm")), device="cpu")
    with pytest.raises(TokenizerMismatch, match="`rm` has 512 tokens, `tinystories-656k` has 2048"):
        check_same_tokens(rm, load_causal_lm(str(shared / "models" / second), device="cpu"))


# --- words ------------------------------------------------------------------------------------------------------------


def spoil(name: str, content: str) -> Callable[[Path], object]:
    return lambda folder: (folder / name).write_text(content)


def change(**more: object) -> Callable[[Path], object]:
    def edit(folder: Path) -> None:
        path = folder / "config.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | more))

    return edit


DOORS = {
    "no tokenizer": (lambda folder: [path.unlink() for path in folder.glob("tokenizer*")], "there is no tokenizer in "),
    "empty tokenizer": (spoil("tokenizer.json", ""), "its tokenizer cannot be read"),
    "deep tokenizer": (spoil("tokenizer.json", "[" * 3000), "its tokenizer cannot be read"),
    "foreign tokenizer": (spoil("tokenizer.json", '{"version": "1.0", "model": 5}'), "its tokenizer cannot be read"),
    "a list for the tokenizer's settings": (spoil("tokenizer_config.json", "[]"), "its tokenizer cannot be read"),
    "text for a size": (change(hidden_size="x"), "its config cannot be read"),
    "no heads": (change(num_attention_heads=0), "its config cannot be read"),
    "unknown activation": (change(hidden_act="nonsense"), "it cannot be built from its config and weights"),
    "another task": (change(model_type="t5"), "it cannot be built from its config and weights"),
    "deep generation config": (spoil("generation_config.json", "[" * 3000), "it cannot be built from its config and weights"),
    "weights cut short": (lambda folder: os.truncate(folder / "model.safetensors", 5000), "it cannot be built from its config and weights"),
    "weights elsewhere": (lambda folder: (folder / "model.safetensors").rename(folder / "a.safetensors"), "it cannot be built"),
}


@pytest.mark.parametrize("door", DOORS)
def test_what_fails_is_named_with_the_words_found_and_no_exception(lm, door):
    spoiled, words = DOORS[door]
    spoiled(lm)
    with pytest.raises(ModelRefused, match=rf"`lm` could not be loaded: {words}") as raised:
        load_causal_lm(str(lm), device="cpu")
    assert raised.value.found and not re.search(r"\b[A-Z]\w+(Error|Exception)\b|above report", str(raised.value))


def test_an_adapter_is_no_model_and_how_to_make_one_is_said(lm):
    (lm / "config.json").rename(lm / "adapter_config.json")
    with pytest.raises(ModelRefused, match=r"holds an adapter, not a model\. .* Merge it into its base model"):
        load_causal_lm(str(lm), device="cpu")
