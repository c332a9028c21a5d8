"""The handlers of Models without a browser: the table, the cards, what may be added and what may be deleted."""

import json
import shutil
from pathlib import Path
from types import SimpleNamespace

import gradio as gr
import pytest
from pages_alone import on_a_page

import app
from pages import models
from pages.models import STATUSES, card_words, size_words
from rgtg.config import Settings
from rgtg.errors import BadSettings
from rgtg.jobs.service import Jobs
from rgtg.records import Job, ModelCard, RewardModelRow
from rgtg.workbench.library import ModelInfo, size
from rgtg.workbench.workbench import Workbench


@pytest.fixture
def workbench(folders, tmp_path, monkeypatch):
    monkeypatch.setattr(Jobs, "watch", lambda self: None)
    monkeypatch.setattr("rgtg.workbench.library.STARTER_DIR", tmp_path / "none")
    found = Workbench(Settings(data_dir=tmp_path, device="cpu"), base_lms=[folders["lm"]], reward_models=[folders["partial"], folders["judge"]])
    yield found
    found.close()


BUILT: list[models._Page] = []


@pytest.fixture
def page(workbench):
    """One for all tests, since Gradio takes a while to make it: its handlers ask the workbench that it has."""
    if not BUILT:
        with on_a_page():
            BUILT.append(models._Page(workbench, app.LINKS))
    BUILT[0].workbench, BUILT[0].trainings = workbench, workbench.trainings
    return BUILT[0]


def train(workbench, folders, name: str = "mine") -> None:
    """A model as a training leaves it: its folder, its row."""
    folder = workbench.settings.data_dir / "models" / name
    shutil.copytree(folders["partial"], folder)
    card = ModelCard("reward_model", name, objective="partial", base_lm="tiny", parent="p", accuracy={"end": {"accuracy": 0.75, "n": 8}})
    card.write(folder)
    workbench.store.jobs.add(Job("job-1", {"name": name, "base": folders["partial"], "base_lm": "tiny"}, state="running"))
    workbench.store.jobs.publish(RewardModelRow("row-1", name, "tiny", "0" * 64, parent="p", job_id="job-1"))
    workbench.library.catalog.add(str(folder))


def event(**payload) -> SimpleNamespace:
    return SimpleNamespace(_data=payload)


def visit(**query) -> SimpleNamespace:
    return SimpleNamespace(query_params=query)


def test_every_model_is_in_the_table_by_kind(page, workbench):
    found = page._load()(visit())
    table = json.loads(found[page.list])
    assert [[m["name"] for m in group["models"]] for group in table["groups"]] == [["tiny"], ["p"], ["j"]]
    assert table["open"] == "tiny" and json.loads(found[page.card])["name"] == "tiny"
    assert len(table["head"]) == 1 + len(table["groups"][0]["models"][0]["cells"])


def test_a_card_tells_its_family_and_what_it_was_taught(page, workbench, folders):
    train(workbench, folders)
    assert json.loads(page._load()(visit(model="mine"))[page.card])["parents"] == ["p"]
    parent = json.loads(page._open()(event(model="p"))[page.card])
    assert parent["children"] == ["mine"] and parent["parents"] == ["tiny"] and parent["deletable"] is False
    facts = {label: words for label, words, *_ in json.loads(page._open()(event(model="mine"))[page.card])["facts"]}
    assert facts["location"] == "trained here" and facts["objective"] == "partial" and facts["base LM"] == "tiny"
    cells = json.loads(page._load()(visit())[page.list])["groups"][1]["models"][1]["cells"]
    assert cells[:5] == ["partial", "tiny", "p", "75.0 % (41–93)", "8"]


def test_a_card_says_that_a_model_is_not_recommended_wherever_it_comes_from():
    info = ModelInfo("mine", "reward_model", "nowhere", ModelCard("reward_model", "mine", metrics={"recommended": False}))
    assert card_words(info, [info], None, False)["facts"][0] == ["status", STATUSES["not_recommended"]]


def test_a_model_without_a_card_says_so(workbench, folders):
    info = workbench.library.catalog.add(folders["headless"])
    found = card_words(info, workbench.library.models(), None, False)
    assert ["model card", "none: not trained with rgtg"] in found["facts"] and "deletable" not in found


def test_a_card_leads_to_examine_where_the_model_can_be_examined(page):
    found = {name: json.loads(page._open()(event(model=name))[page.card])["examinable"] for name in ("tiny", "p", "j")}
    assert found == {"tiny": False, "p": True, "j": True}


def test_an_unknown_address_says_so_and_shows_the_first(page):
    with pytest.warns(UserWarning, match="No model `&lt;img&gt;`"):
        found = page._load()(visit(model="<img>"))
    assert json.loads(found[page.card])["name"] == "tiny"
    with pytest.raises(gr.Error, match="not installed"):
        page._open()(event(model="<img>"))


def test_a_folder_is_added_and_one_that_cannot_score_is_not(page, workbench, folders):
    found = page._add()(event(place=folders["full"], kind="reward_model"))
    assert json.loads(found[page.add])["done"] and "f" in [m.name for m in workbench.library.models()]
    with pytest.raises(gr.Error) as refused:
        page._add()(event(place=folders["headless"], kind="reward_model"))
    assert refused.value.title == "place" and "headless" not in [m.name for m in workbench.library.models()]


def test_an_added_model_is_there_after_a_restart_until_it_is_taken_off(page, workbench, folders):
    page._add()(event(place=folders["full"], kind="reward_model"))
    found = page._open()(event(model="f"))
    assert json.loads(found[page.card])["added"] is True and json.loads(page._open()(event(model="p"))[page.card])["added"] is False
    again = Workbench(workbench.settings, [folders["lm"]], [folders["partial"]])
    assert "f" in [m.name for m in again.library.guides()]
    again.close()
    found = page._delete()(event(model="f"))
    assert "removed from the list" in json.loads(found[page.card])["words"] and Path(folders["full"]).is_dir()
    assert "f" not in [m.name for m in workbench.library.models()] + [m.name for m in Workbench(workbench.settings).library.guides()]
    with pytest.raises(BadSettings, match="not added by hand"):
        workbench.library.take_off("p")


WRONG_PLACES = ({}, {"place": 3}, {"place": "  "}, {"place": "x" * 5000}, *({"place": name, "kind": "base_lm"} for name in ("a\0b", "n" * 500)))


@pytest.mark.parametrize("wrong", WRONG_PLACES)
def test_nothing_is_added_without_a_place(page, workbench, wrong):
    before = workbench.library.models()
    with pytest.raises(gr.Error) as refused:
        page._add()(event(**wrong))
    assert refused.value.title == "place" and "reference" not in refused.value.message
    assert workbench.library.models() == before


def test_an_unknown_kind_is_refused(page, folders):
    with pytest.raises(gr.Error, match="base LM or a reward model"):
        page._add()(event(place=folders["full"], kind="judge"))


def test_only_a_trained_model_is_deleted_and_only_confirmed(page, workbench, folders):
    train(workbench, folders)
    folder = workbench.settings.data_dir / "models" / "mine"
    for wrong in (
        {"model": "p", "sure": True},
        {"model": "mine"},
        {"model": "mine", "sure": "yes"},
        {"model": "../p", "sure": True},
        {"model": None},
    ):
        with pytest.raises(gr.Error):
            page._delete()(event(**wrong))
    assert folder.is_dir()
    found = page._delete()(event(model="mine", sure=True))
    assert not folder.exists() and "mine" not in [m.name for m in workbench.library.models()]
    assert "was deleted" in json.loads(found[page.card])["words"]


def test_a_model_added_by_hand_does_not_stand_for_one_that_was_trained(page, workbench, folders, tmp_path):
    train(workbench, folders)
    foreign = Path(shutil.copytree(folders["partial"], tmp_path / "foreign"))
    ModelCard("reward_model", "mine", objective="partial", base_lm="tiny").write(foreign)
    workbench.close()
    again = Workbench(workbench.settings, [folders["lm"]], [str(foreign)])  # named at a start it comes first
    assert [m.name for m in again.library.guides()] == ["mine", "mine 2"] and list(again.trainings.trained()) == ["mine 2"]
    done = Job("job-1", {"name": "mine", "base_lm": "tiny", "parent": None}, state="succeeded", reward_model="mine")
    assert again.trainings.made_by(done).name == "mine 2" and again.trainings.line_up(done)[-1].reward_model == "mine 2"
    again.trainings.delete_model("mine 2")
    assert [m.name for m in again.library.guides()] == ["mine"] and foreign.is_dir()
    again.close()


def test_the_name_of_a_training_is_not_added(page, workbench, folders, tmp_path):
    workbench.store.jobs.add(Job("job-9", {"name": "Soon", "base": "x", "base_lm": "tiny"}))
    foreign = Path(shutil.copytree(folders["partial"], tmp_path / "foreign"))
    ModelCard("reward_model", "soon", objective="partial", base_lm="tiny").write(foreign)
    with pytest.raises(gr.Error, match="`soon` is taken"):
        page._add()(event(place=str(foreign), kind="reward_model"))
    assert "soon" not in [m.name for m in workbench.library.models()] and workbench.library.added() == []


def test_a_public_server_shows_models_and_changes_none(folders, tmp_path, monkeypatch):
    monkeypatch.setattr("rgtg.workbench.library.STARTER_DIR", tmp_path / "none")
    bench = Workbench(Settings(data_dir=tmp_path, public=True, device="cpu"), base_lms=[folders["lm"]])
    with on_a_page() as demo:
        page = models._Page(bench, app.LINKS)
        page.wire(demo)
    assert page.add is None
    names = {fn.fn.__qualname__ for fn in demo.fns.values() if fn.fn}
    assert not any("_delete" in name or "_add" in name for name in names)
    found = json.loads(page._load()(visit())[page.card])
    assert found["deletable"] is False and str(folders["lm"]) not in json.dumps(found)
    with pytest.raises(gr.Error, match="public"):
        page._delete()(event(model="tiny", sure=True))
    bench.close()


def test_sizes_are_words(workbench, folders):
    assert [size_words(n) for n in (None, 0, 812, 8_812_345, 15_400_000_000)] == ["–", "0 B", "812 B", "8.8 MB", "15 GB"]
    assert size(workbench.library.models()[0]) > 1000


def test_a_model_that_cannot_be_used_is_listed_with_what_is_wrong(folders, tmp_path, monkeypatch):
    monkeypatch.setattr("rgtg.workbench.library.STARTER_DIR", tmp_path / "none")
    bad = tmp_path / "bad"
    bad.mkdir()
    (bad / "config.json").write_text("null")
    for public in (False, True):
        bench = Workbench(Settings(data_dir=tmp_path, device="cpu", public=public), base_lms=[folders["lm"]], reward_models=[str(bad)])
        with on_a_page():
            page = models._Page(bench, app.LINKS)
        group = json.loads(page._load()(visit())[page.list])["groups"][-1]
        card = json.loads(page._open()(event(model="bad"))[page.card])
        assert group["title"] == "Cannot be used" and [m["name"] for m in group["models"]] == ["bad"]
        assert group["models"][0]["cells"][0] == card["facts"][0][1]
        assert ("config.json" in card["facts"][0][1]) is (str(tmp_path) in json.dumps(card)) is not public
        bench.close()


REPORTS = (
    {"by_length": {"end": 3}},
    {"by_length": {"x": {"accuracy": 0.5}}},
    {"guide": 5},
    {"calibration": 5},
    {"accuracy_along": []},
    {"parent": 1},
)


@pytest.mark.parametrize("report", REPORTS, ids=str)
def test_a_report_that_training_would_not_write_breaks_no_page(page, workbench, folders, tmp_path, report):
    foreign = Path(shutil.copytree(folders["partial"], tmp_path / "foreign"))
    ModelCard("reward_model", "odd", report=report).write(foreign)
    workbench.library.catalog.add(foreign)
    found = page._load()(visit(model="odd"))
    assert json.loads(found[page.card])["name"] == "odd" and "odd" in found[page.list]


def test_the_page_opens_without_a_database(folders, tmp_path, monkeypatch):
    monkeypatch.setattr("rgtg.workbench.library.STARTER_DIR", tmp_path / "none")
    (tmp_path / "file").write_text("x")
    bench = Workbench(Settings(data_dir=tmp_path / "file" / "data", device="cpu"), base_lms=[folders["lm"]])
    with on_a_page():
        page = models._Page(bench, app.LINKS)
    with pytest.warns(UserWarning, match="cannot be created"):
        assert json.loads(page._load()(visit())[page.card])["name"] == "tiny"
    bench.close()


def test_the_app_starts_whatever_lies_among_the_models(folders, tmp_path, monkeypatch):
    monkeypatch.setattr("rgtg.workbench.library.STARTER_DIR", tmp_path / "none")
    hostile = {
        "config.json": ("[]", "null", '{"architectures": [5]}', "[" * 3000),
        "card.json": ("[]", "[" * 3000, '{"kind": "judge", "name": 5}', '{"kind": "judge", "name": "\\ud83d"}', '{"kind": "x", "name": "y"}'),
        "manifest.json": ("[]", '{"files": 5, "job_id": [], "name": "manifest.json-1"}', "[" * 3000),
    }
    for name, contents in hostile.items():
        for number, content in enumerate(contents):
            folder = Path(shutil.copytree(folders["partial"], tmp_path / "models" / f"{name}-{number}"))
            (folder / name).write_text(content)
    bench = Workbench(Settings(data_dir=tmp_path, device="cpu"), base_lms=[folders["lm"]])
    assert app.build_app(bench).get_config_file()["pages"]
    assert [m.name for m in bench.library.models()] == ["tiny", "p", "p 2", "p 3"], "those with a manifest that nobody reads are models"
    assert len(bench.library.unusable()) == 9
    assert [row.name for row in bench.trainings.jobs.models()] == []
    bench.close()
