"""Models on disk and in memory: what is listed, what may guide, and that each is loaded once."""

import threading

import pytest

from rgtg.config import Settings
from rgtg.errors import BadSettings, ModelNotFound, ModelRefused, RgtgError
from rgtg.workbench.library import Library


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
