"""The handlers of Results without a browser: what the page shows of votes, what it saves, what it keeps back on a public server."""

import json
from dataclasses import replace
from types import SimpleNamespace

import gradio as gr
import pytest
from pages_alone import on_a_page

import app
from pages import results
from pages.visitors import visitor_of
from rgtg.config import Settings
from rgtg.store.store import Store
from rgtg.workbench.report.results import VoteResults
from rgtg.workbench.workbench import Workbench
from tests.store_records import make_vote
from tests.test_results import compared

REQUEST = SimpleNamespace(cookies={}, session_hash="someone")


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    """25 votes, C before B before A; the judge's reward is the same everywhere but in one comparison."""
    workbench = Workbench(Settings(data_dir=tmp_path_factory.mktemp("results")))
    visitor = visitor_of(workbench, REQUEST)
    rater = workbench.store.rater(visitor.kind, visitor.subject)
    for i in range(25):
        made = compared(f"c{i}", prompt=f"prompt {i}")
        if i == 7:  # the judge is for A
            high = tuple(replace(step, rewards=(("judge", 9.0),)) for step in made.traces[0].steps)
            made = replace(made, traces=(replace(made.traces[0], steps=high), *made.traces[1:]))
        workbench.store.add_comparison(made, make_vote(f"v{i}", f"c{i}", "C" if i < 20 else "B", "ABC", rater_id=rater))
    with on_a_page():
        page = results._Page(workbench, app.LINKS)
    page.votes = VoteResults(lambda: page.workbench.store, resamples=20)
    yield page
    workbench.close()


def saved(page, **sent) -> dict:
    return json.loads(page.save()(SimpleNamespace(_data=sent)))


def saved_comparison(page, comparison: str, request=REQUEST) -> dict:
    return json.loads(page.save_comparison()(request, SimpleNamespace(_data={"comparison": comparison})))


def test_the_page_shows_the_board_first_and_then_the_reward_models(page):
    updates = list(page.load()())
    views = [json.loads(update[page.view]) for update in updates if page.view in update]
    assert [len(view.get("against", ())) for view in views] == [0, 1]
    assert {row[1] for row in views[1]["board"][1]} == {"pargs · partial*2", "args · full", "base"}
    assert views[1]["forest"][0] == "svg" and views[1]["models"][1][0][:2] == ["judge", "49.0 % (36–62) of 50"]
    assert updates[-1][page.status] == "" and updates[-1][page.models] == page.workbench.status().text


def test_what_is_chosen_comes_back(page):
    sent = SimpleNamespace(_data={"by": "setting", "control_length": True})
    view = json.loads(list(page.choose()(sent))[-1][page.view])
    assert (view["by"], view["control_length"]) == ("setting", True)
    with pytest.raises(gr.Error, match="cannot be|not what"):
        list(page.choose()(SimpleNamespace(_data={"by": ["setting"]})))


@pytest.mark.parametrize(("form", "name", "part"), [("csv", "wins.csv", "wins"), ("latex", "board.tex", "board"), ("json", "results.json", "board")])
def test_results_are_saved_in_each_form(page, form, name, part):
    file = saved(page, by="method", format=form, table=part)
    assert file["name"] == name and "pargs" in file["text"]
    for wrong in ({"format": "xml"}, {"format": ["csv"]}, {"format": {}}, {"table": ["board"]}, {"table": None}):
        with pytest.raises(gr.Error, match="in that form"):
            saved(page, **{"by": "method", "format": form, "table": part} | wrong)


def test_a_comparison_is_saved_as_html(page):
    file = saved_comparison(page, "c3")
    assert file["name"] == "comparison-c3.html" and "prompt 3" in file["text"] and "Vote: C is best." in file["text"]
    with pytest.raises(gr.Error, match="no comparison"):
        saved_comparison(page, "none")


def test_a_public_server_shows_no_prompt_and_no_answer(page, monkeypatch):
    assert "prompt 7" in saved(page, by="method", format="json", table="board")["text"], "on one's own machine it does"
    monkeypatch.setattr(page.workbench, "settings", Settings(public=True))
    everything = [json.dumps(view) for update in page.load()() for view in update.values()]
    for form in ("json", "html", "csv", "latex"):
        everything.append(saved(page, by="method", format=form, table="reward-models")["text"])
    assert not any("prompt 7" in text or " answer c7" in text for text in everything)


def test_without_votes_the_page_says_what_to_do(page, monkeypatch, tmp_path):
    with Store(tmp_path / "empty.db") as empty:
        monkeypatch.setattr(page, "votes", VoteResults(lambda: empty))
        view = json.loads(list(page.load()())[-1][page.view])
    assert view["nobody"].startswith("Nobody has voted yet. On Compare, generate answers") and "board" not in view
