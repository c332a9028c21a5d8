"""Which models are installed, read from folders and cards."""

import json
import logging
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from rgtg.errors import ModelNotFound, ModelRefused
from rgtg.models.catalog import Catalog, is_folder
from rgtg.records import ModelCard


def put(parent: Path, name: str, card: ModelCard | None = None, architecture: str = "LlamaForCausalLM") -> Path:
    folder = parent / name
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps({"architectures": [architecture]}))
    if card:
        card.write(folder)
    return folder


@pytest.fixture
def folder(tmp_path) -> Path:
    put(tmp_path, "base-lm", ModelCard("base_lm", "starter"))
    put(tmp_path, "full", ModelCard("reward_model", "full", base_lm="starter", objective="full"))
    put(tmp_path, "judge", ModelCard("judge", "judge", base_lm="starter"))
    return tmp_path


def names(catalog: Catalog, *kinds: str) -> list[str]:
    return [m.name for m in catalog.of_kind(*kinds)]


def test_folders_are_listed_by_the_kind_and_name_of_their_card(folder):
    catalog = Catalog([folder])
    assert (names(catalog, "base_lm"), names(catalog, "reward_model"), names(catalog, "judge")) == (["starter"], ["full"], ["judge"])
    assert catalog.get("full").card.objective == "full" and catalog.get("full").folder_or_id == str(folder / "full")


def test_without_a_card_the_config_says_the_kind(tmp_path):
    put(tmp_path, "a", architecture="GPT2LMHeadModel")
    put(tmp_path, "b", architecture="GPT2ForSequenceClassification")
    catalog = Catalog([tmp_path])
    assert (names(catalog, "base_lm"), names(catalog, "reward_model")) == (["a"], ["b"])


def test_hidden_unfinished_and_missing_folders_are_passed_over(folder):
    put(folder, ".partial.staging", ModelCard("reward_model", "partial"))
    (folder / "empty").mkdir()
    (folder / "README.md").write_text("x")
    assert names(Catalog([folder, folder / "nothing"]), "base_lm", "reward_model", "judge") == ["starter", "full", "judge"]


def test_a_folder_with_a_broken_card_hides_no_other(folder, caplog):
    (put(folder, "broken") / "card.json").write_text("{")
    with caplog.at_level(logging.WARNING):
        assert names(Catalog([folder]), "base_lm", "reward_model", "judge") == ["starter", "full", "judge"]
    assert "card.json is not a model card" in caplog.text


def test_what_a_person_names_comes_first(folder, tmp_path):
    mine = put(tmp_path / "elsewhere", "mine")
    catalog = Catalog([folder], base_lms=[str(mine), "owner/model"], reward_models=["owner/rm"])
    assert names(catalog, "base_lm") == ["mine", "owner/model", "starter"]
    assert names(catalog, "reward_model") == ["owner/rm", "full"]


def test_a_name_that_is_taken_gets_a_number(folder, tmp_path):
    catalog = Catalog([folder])
    found = [catalog.add(str(put(tmp_path / place, "full", ModelCard("reward_model", "full")))).name for place in ("x", "y")]
    assert found == ["full 2", "full 3"]
    assert catalog.get("full 3").folder_or_id == str(tmp_path / "y" / "full")


@pytest.mark.parametrize("kind", [None, "reward_model", "judge"])
def test_a_model_listed_before_stays_whatever_it_is_asked_for_as(folder, kind):
    catalog = Catalog([folder])
    assert catalog.add(str(folder / "judge"), kind) is catalog.get("judge")
    assert catalog.add(str(folder / "full" / ".." / "judge"), kind).name == "judge"
    assert names(catalog, "judge") == ["judge"]


def test_a_judge_stays_a_judge_when_it_is_given_as_a_guide(folder):
    assert Catalog([], reward_models=[str(folder / "judge")]).get("judge").kind == "judge"


def test_a_base_lm_may_be_given_as_a_reward_model_and_is_listed_twice(folder):
    catalog = Catalog([folder])
    assert catalog.add(str(folder / "base-lm"), "reward_model").name == "starter 2"
    assert catalog.get("starter").kind == "base_lm" and catalog.get("starter 2").kind == "reward_model"


def test_a_model_is_found_by_name_folder_or_hub_id(folder):
    catalog = Catalog([folder], reward_models=["owner/rm"])
    assert catalog.get(str(folder / "full")) is catalog.get(f"{folder}/./full/") is catalog.get("full")
    assert catalog.get("owner/rm").kind == "reward_model"


def test_an_unknown_name_is_refused_with_those_there_are(folder):
    catalog = Catalog([folder])
    with pytest.raises(ModelNotFound, match=r"no base LM `x` on this machine\. Installed: starter\."):
        catalog.get("x", ("base_lm",))
    with pytest.raises(ModelNotFound, match=r"no reward model `starter` on this machine\. Installed: full, judge\."):
        catalog.get("starter", ("reward_model", "judge"))
    with pytest.raises(ModelNotFound, match=r"no model `x` on this machine\. Installed: none\."):
        Catalog([]).get("x")


def test_a_model_fits_the_base_it_was_taught_for_or_any_if_its_card_does_not_say(folder):
    catalog = Catalog([folder], reward_models=["owner/rm"])
    assert catalog.get("full").fits("starter") and not catalog.get("full").fits("other")
    assert catalog.get("owner/rm").fits("other") and catalog.get("starter").fits("other")


def test_models_are_listed_without_loading_torch():
    code = "import sys, rgtg.models.catalog as c; c.Catalog([]); print({'torch', 'transformers'} & set(sys.modules))"
    root = Path(__file__).resolve().parent.parent
    assert subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=True).stdout == "set()\n"


def test_what_was_remembered_is_listed_last_at_every_start_until_it_is_removed(folder, tmp_path, monkeypatch):
    file = tmp_path / "data" / "added.json"
    put(tmp_path / "elsewhere", "mine")
    monkeypatch.chdir(tmp_path)
    catalog = Catalog([folder], remembered=file)
    for place, kind in (("elsewhere/mine", "base_lm"), ("elsewhere/mine", "reward_model"), ("owner/rm", "reward_model")):
        catalog.remember(catalog.add(place, kind))
    catalog.remember(catalog.get("owner/rm"))  # twice is once
    assert catalog.remembered() == ["mine", "mine 2", "owner/rm"]
    monkeypatch.chdir("/")  # the next start is elsewhere
    again = Catalog([folder], remembered=file)
    assert names(again, "base_lm", "reward_model", "judge") == ["starter", "full", "judge", "mine", "mine 2", "owner/rm"]
    again.remove("mine 2")
    again.remove("full")  # was not added by hand
    assert names(Catalog([folder], remembered=file), "base_lm", "reward_model") == ["starter", "full", "mine", "owner/rm"]
    (tmp_path / "elsewhere").rename(tmp_path / "away")
    assert names(Catalog([], remembered=file), "base_lm", "reward_model") == ["owner/rm"]
    (tmp_path / "away").rename(tmp_path / "elsewhere")
    assert names(Catalog([], remembered=file), "base_lm", "reward_model") == ["mine", "owner/rm"], "a folder that was away comes back"


@pytest.mark.parametrize("content", ["", "{", "[1]", '[{"kind": "base_lm"}]', "3", '[{"folder_or_id": 3, "kind": "x"}]'])
def test_a_list_that_cannot_be_read_hides_no_other_model(folder, tmp_path, content):
    file = tmp_path / "added.json"
    file.write_text(content)
    assert names(Catalog([folder], remembered=file), "base_lm") == ["starter"]


def test_two_threads_may_add_at_once(tmp_path):
    folders = [put(tmp_path, f"m{i}") for i in range(60)]
    catalog, wrong = Catalog([]), []

    def add(part):
        try:
            for folder in part:
                catalog.add(str(folder))
                catalog.get(folder.name)
        except RuntimeError as error:
            wrong.append(error)

    threads = [threading.Thread(target=add, args=(folders[i::4],)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong and len(names(catalog, "base_lm")) == 60


def test_what_is_listed_of_a_folder_is_known_when_the_folder_is_gone(folder):
    catalog = Catalog([folder])
    (folder / "full").rename(folder / ".gone")
    assert catalog.at(folder / "full").name == "full" and catalog.at(folder / "nothing") is None


# --- what cannot be used ----------------------------------------------------------------------------------------------

BAD_CONFIGS = ("[]", "null", "5", "{", "", '{"architectures": [5]}', '{"architectures": "X"}', "[" * 3000, '{"a": NaN}', '{"id2label": 5}', "\udcff")


@pytest.mark.parametrize("config", BAD_CONFIGS, ids=lambda text: text[:20])
def test_a_config_that_cannot_be_read_is_listed_with_what_is_wrong_and_hides_no_other(folder, config):
    path = put(folder, "broken") / "config.json"
    path.write_text(config, encoding="utf-8", errors="surrogateescape")
    catalog = Catalog([folder], base_lms=[str(folder / "broken")])
    assert names(catalog, "base_lm", "reward_model", "judge") == ["starter", "full", "judge"]
    first = catalog.unusable()[0]
    assert first.name == "broken" and "config.json" in first.wrong
    with pytest.raises(ModelRefused, match="`broken` cannot be used"):
        catalog.get("broken")


BAD_CARDS = (
    "[]", "[" * 3000, '{"kind": "nonsense", "name": "x"}', '{"kind": "judge", "name": 5}', '{"kind": "judge", "name": "\\ud83d"}',
    '{"kind": "judge", "name": "x", "zero": "a"}', '{"kind": "judge", "name": "x", "report": []}', '{"kind": "judge", "name": "a\\nb"}',
    '{"kind": "judge", "name": "x", "zero": 1e999}', '{"name": "x"}', '{"kind": "judge", "name": "%s"}' % ("x" * 300),
)  # fmt: skip


@pytest.mark.parametrize("card", BAD_CARDS, ids=lambda text: text[:40])
def test_a_card_that_cannot_be_read_is_listed_with_what_is_wrong_and_hides_no_other(folder, card):
    (put(folder, "broken") / "card.json").write_text(card)
    catalog = Catalog([folder])
    assert names(catalog, "base_lm", "reward_model", "judge") == ["starter", "full", "judge"]
    assert [(m.name, "is not a model card" in m.wrong) for m in catalog.unusable()] == [("broken", True)]


def test_a_model_that_was_mended_is_listed_again(folder):
    path = put(folder, "broken") / "config.json"
    good = path.read_text()
    path.write_text("[]")
    catalog = Catalog([folder])
    path.write_text(good)
    assert catalog.add(folder / "broken").name == "broken" and catalog.unusable() == []


def test_a_folder_that_was_added_and_broke_can_be_taken_off(folder, tmp_path):
    file, mine = tmp_path / "added.json", put(tmp_path / "elsewhere", "mine")
    catalog = Catalog([], remembered=file)
    catalog.remember(catalog.add(mine, "base_lm"))
    (mine / "config.json").write_text("[]")
    again = Catalog([], remembered=file)
    assert again.remembered() == ["mine"] and again.unusable()[0].wrong
    again.remove("mine")
    assert Catalog([], remembered=file).unusable() == []


def test_a_name_is_never_empty_and_never_half_a_character(folder, tmp_path):
    assert Catalog([]).add("/", "base_lm").name == "/"
    put(tmp_path / "x", "base", ModelCard("base_lm", "  "))
    assert names(Catalog([tmp_path / "x"]), "base_lm") == ["base"]
    put(tmp_path / "y", "caf\udce9")
    assert [(m.name, "not UTF-8" in m.wrong) for m in Catalog([tmp_path / "y"]).unusable()] == [("caf?", True)]


@pytest.mark.parametrize("place", ["x" * 5000, "~nobody-of-this-name", "a\0b", ""])
def test_whatever_the_text_is_it_is_no_folder(place):
    assert not is_folder(place) and Catalog([]).add(place, "base_lm").folder_or_id == place
