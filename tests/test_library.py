"""Models on disk and in memory: what is listed, what may guide, and that each is loaded once."""

import json
import shutil
import threading
from pathlib import Path

import pytest
import torch
from text_models import encoder, saved

from rgtg.config import Settings
from rgtg.errors import BadSettings, ModelNotFound, ModelRefused, RgtgError, TokenizerMismatch
from rgtg.models.artifacts import revision_of
from rgtg.records import ModelCard
from rgtg.workbench.library import Library, size


@pytest.fixture
def library(folders, tmp_path, monkeypatch) -> Library:
    monkeypatch.setattr("rgtg.workbench.library.STARTER_DIR", tmp_path / "none")
    return Library(Settings(data_dir=tmp_path / "data"), [folders["lm"]], [folders["partial"], folders["full"], folders["judge"]])


def test_models_are_listed_with_their_kind_and_a_judge_is_no_guide(library):
    assert [m.name for m in library.base_lms()] == ["tiny"]
    assert [m.name for m in library.guides()] == ["p", "f"]
    assert [m.name for m in library.judges()] == ["j"]
    assert [m.name for m in library.models()] == ["tiny", "p", "f", "j"]
    assert library.guides("another") == []


def test_a_method_takes_the_guide_that_was_trained_for_it(library):
    assert [library.guide_for(name) for name in ("base", "args", "pargs")] == [None, "f", "p"]
    library.forget("p")
    assert library.guide_for("pargs") == "f"


def test_a_model_with_other_tokens_can_be_chosen_and_is_no_methods_default(library, folders, tmp_path):
    stray, foreign = tmp_path / "stray", tmp_path / "foreign"
    for place in (stray, foreign):
        shutil.copytree(folders["partial"], place)
        (place / "card.json").unlink()
    tokens = json.loads((foreign / "tokenizer.json").read_text())
    tokens["model"]["vocab"] = {token: number + 1 for token, number in tokens["model"]["vocab"].items()}
    (foreign / "tokenizer.json").write_text(json.dumps(tokens))
    found = Library(library.settings, [folders["lm"]], [str(stray), str(foreign)])
    assert [m.name for m in found.guides()] == ["stray", "foreign"] and found.guide_for("pargs") == "stray"
    assert Library(library.settings, [folders["lm"]], [str(foreign)]).guide_for("pargs") is None


def test_the_stand_in_for_a_model_that_is_not_installed_judges_every_prefix_whichever_is_listed_first(library, folders):
    other_order = Library(library.settings, [folders["lm"]], [folders["full"], folders["partial"]])
    assert [found.guide_for("rad") for found in (library, other_order)] == ["p", "p"]
    assert other_order.guide_for("experts") is None, "a scalar head has no log probabilities"


def test_a_base_lm_gives_rewards_with_the_weights_that_are_in_memory(library, folders):
    models = library.load_models(None, ["tiny", folders["lm"], "p"])
    assert models.reward_model("tiny").lm is models.base_lm and library.in_memory() == ["tiny", "p"]
    assert list(models.reward_models) == ["tiny", "p"]
    prompt, response = [0, 5, 17], [40, 8]
    logits = models.base_lm.head(models.base_lm.backbone.forward(torch.tensor([[*prompt, *response]]), None, None, None)).log_softmax(-1)
    wanted = float(logits[0, 2, 40]), float(logits[0, 2, 40] + logits[0, 3, 8])
    assert models.reward_model("tiny").along(prompt, [response])[0] == pytest.approx(wanted, abs=1e-4)


def test_a_folder_named_as_a_guide_is_listed_by_what_it_holds(library, folders):
    assert [library.list_scorer(folders[name]) for name in ("lm", "partial")] == ["tiny", "p"], "listed before"
    name = library.list_scorer(folders["headless"], language_model=True)
    assert library.catalog.get(name).kind == "base_lm" and library.reward_model(name).has_log_probs
    library.forget("f")
    assert library.catalog.get(library.list_scorer(folders["full"], language_model=True)).kind == "reward_model"


def test_a_model_is_loaded_once(library):
    models = library.load_models(None, ["p", "p"])
    assert library.in_memory() == ["tiny", "p"]
    assert library.base_lm("tiny") is models.base_lm and library.reward_model("p") is models.reward_model("p")
    assert library.loaded(library.catalog.get("p")).ref.name == "p"


def test_a_model_in_memory_is_found_while_another_is_loading(library):
    lm, slow, go = library.base_lm(), threading.Event(), threading.Event()

    def load():
        slow.set()
        assert go.wait(20)
        return "loaded"

    loader = threading.Thread(target=lambda: library._load(library.catalog.get("p"), load))
    loader.start()
    assert slow.wait(20)
    found = []
    asker = threading.Thread(target=lambda: (found.append(library.base_lm("tiny")), library.forget("p")))
    asker.start()
    asker.join(10)
    assert found == [lm]
    go.set()
    loader.join(20)
    assert "p" not in library.in_memory(), "it was taken off the list meanwhile"


def test_what_is_added_is_listed_again_at_the_next_start_until_it_is_taken_off(library, folders, tmp_path):
    library.forget("f")
    assert library.add(folders["full"], "reward_model").name == "f" and library.added() == ["f"]
    again = Library(library.settings, [folders["lm"]])
    assert [m.name for m in again.guides()] == ["f"]
    again.take_off("f")
    assert again.added() == [] == Library(library.settings, [folders["lm"]]).guides()
    with pytest.raises(BadSettings, match="not added by hand"):
        again.take_off("tiny")


def test_a_model_that_is_refused_is_not_listed(library, folders):
    library.forget("f")
    with pytest.raises(BadSettings, match="is taken"):
        library.add(folders["full"], "reward_model", reserved={"f"})
    with pytest.raises(ModelRefused):
        library.add(folders["headless"], "reward_model")
    with pytest.raises(ModelNotFound):
        library.add("~nobody-of-this-name", "reward_model")
    assert [m.name for m in library.models()] == ["tiny", "p", "j"] and library.added() == []


def test_without_a_base_lm_nothing_can_guide(tmp_path, folders, monkeypatch):
    monkeypatch.setattr("rgtg.workbench.library.STARTER_DIR", tmp_path / "none")
    empty = Library(Settings(data_dir=tmp_path / "data"), [], [folders["partial"]])
    assert empty.guides() == [] and empty.guide_for("pargs") is None
    with pytest.raises(RgtgError, match="No base LM"):
        empty.base_lm()


def test_int8_is_for_reward_models_and_says_its_error(folders, tmp_path, monkeypatch):
    monkeypatch.setattr("rgtg.workbench.library.STARTER_DIR", tmp_path / "none")
    library = Library(Settings(data_dir=tmp_path / "data", device="cpu", reward_dtype="int8"), [folders["lm"]], [folders["partial"]])
    exact = Library(Settings(data_dir=tmp_path / "data", device="cpu"), [folders["lm"]], [folders["partial"]])
    models = library.load_models(None, ["p"])
    assert list(library.notes) == ["p"] and library.notes["p"].startswith("int8: rewards differ by 0.")
    assert exact.load_models(None, ["p"]) and exact.notes == {}
    prompt, texts = (0, 5, 17), [[40, 8, 61, 23]]
    rough, wanted = (found.reward_model("p").along(prompt, texts)[0] for found in (library, exact))
    assert rough != wanted and max(abs(a - b) for a, b in zip(rough, wanted, strict=True)) < 1.0
    assert models.reward_model("p").backbone.strategy == "siblings", "chosen before"


def test_the_number_of_threads_is_measured_once_and_goes_with_the_models(library, monkeypatch):
    asked = []
    monkeypatch.setattr("rgtg.models.tuning.choose_threads", lambda step, weights: (asked.append(weights), step(), 1)[-1])
    assert library.load_models().num_threads == library.load_models().num_threads == 1
    assert len(asked) == 1 and asked[0] > 0


def test_a_folder_that_is_gone_is_named_when_it_is_asked_for(folders, tmp_path):
    here = Path(shutil.copytree(folders["partial"], tmp_path / "here"))
    library = Library(Settings(data_dir=tmp_path / "data"), [folders["lm"]], [str(here)])
    shutil.rmtree(here)
    with pytest.raises(ModelNotFound, match=r"`p` is gone\. Its folder .*here no longer exists\. Put it back, or remove the model from the list"):
        library.reward_model("p")
    assert size(library.catalog.get("p")) is None


def test_a_folder_that_disappears_while_it_is_loaded_is_named(folders, tmp_path, monkeypatch):
    here = Path(shutil.copytree(folders["partial"], tmp_path / "here"))
    library = Library(Settings(data_dir=tmp_path / "data"), [folders["lm"]], [str(here)])
    monkeypatch.setattr("rgtg.models.loading.revision_of", lambda folder: shutil.rmtree(folder) or revision_of(folder / "gone"))
    monkeypatch.setattr("rgtg.models.loading.ModelCard.read", lambda folder: (folder / "x").read_bytes())
    with pytest.raises(RgtgError, match="it does not exist"):
        library.reward_model("p")


def test_a_next_token_reward_of_another_family_is_refused_before_any_weight_is_read(folders, tmp_path, monkeypatch):
    other = Path(shutil.copytree(folders["lm"], tmp_path / "other"))
    table = json.loads((other / "tokenizer.json").read_text())
    table["model"]["vocab"] = {token: len(table["model"]["vocab"]) - 1 - number for token, number in table["model"]["vocab"].items()}
    (other / "tokenizer.json").write_text(json.dumps(table))
    ModelCard("reward_model", "other", reward_kind="vocabulary").write(other)
    library = Library(Settings(data_dir=tmp_path / "data"), [folders["lm"]], [str(other)])
    monkeypatch.setattr(library, "_load", lambda *_: pytest.fail("weights were read"))
    with pytest.raises(TokenizerMismatch, match="Reward model `other` and base LM `tiny` do not share a tokenizer"):
        library.load_models("tiny", ["other"])


def test_one_output_of_a_classifier_is_chosen_by_name_beside_the_others_with_the_same_weights(folders, tmp_path):
    folder = saved(encoder("bert", ("anger", "joy")), tmp_path / "emotions")
    library = Library(Settings(data_dir=tmp_path / "data"), [folders["lm"]], [str(folder)])
    assert [m.name for m in library.guides() if m.labels] == ["emotions[anger]", "emotions[joy]"] and library.guide_for("pargs") is None
    models = library.load_models(None, ["emotions[joy]", "emotions[0]"])
    joy, anger = models.reward_models.values()
    assert list(models.reward_models) == ["emotions[joy]", "emotions[anger]"] and joy.loaded.model is anger.loaded.model
    assert library.reward_model("emotions[joy]") is joy and library.reward_model("emotions[1]") is joy
    assert library.in_memory() == ["tiny", "emotions"]
    assert library.list_scorer(f"{folder}[joy]") == "emotions[joy]"
    with pytest.raises(BadSettings, match=r"`emotions` has 2 outputs, .* Choose one: `emotions\[anger\]`"):
        library.reward_model("emotions")
    assert library.load(library.catalog.get("emotions")).loaded.labels == ("anger", "joy"), "it can be added"
    library.forget("emotions")
    with pytest.raises(ModelNotFound):
        library.reward_model("emotions[joy]")


def test_what_a_library_raises_while_a_model_is_made_is_a_refusal(library, monkeypatch):
    monkeypatch.setattr("rgtg.models.lm.with_strategy", lambda *_: [][0])
    with pytest.raises(ModelRefused, match=r"`tiny` cannot be used\. list index out of range\. Choose another model\."):
        library.base_lm()


def test_what_was_read_otherwise_than_it_was_saved_is_noted(library):
    library.base_lm().loaded  # noqa: B018
    from dataclasses import replace

    model = library.reward_model("p")
    noted = replace(model, loaded=replace(model.loaded, remark="its head is `v_head.weight` of the checkpoint"))
    assert library._tuned(noted) is noted and library.notes["p"].startswith("its head is `v_head.weight`")
