"""What Compare shows when it is opened, come back to or gone back on, and what of it the browser may ask; without a browser."""

import json
from types import SimpleNamespace

import pytest
from test_compare_page import VISITOR, StubWorkbench, a_shown_comparison, columns_of, event, settings_of

from pages import compare
from rgtg.records import Comparison

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")  # gr.Warning outside of an app


@pytest.fixture(scope="module")
def shown() -> tuple[compare._Page, StubWorkbench, Comparison]:
    """One for all: what they ask changes nothing."""
    page, workbench, stored = a_shown_comparison()
    workbench.go_on = workbench.comparison
    return page, workbench, stored


def opened(page: compare._Page, kept: object, **query: str) -> dict:
    return page._load()(json.dumps(kept) if isinstance(kept, dict) else kept, SimpleNamespace(query_params=query))


def left(workbench: StubWorkbench, **changes) -> dict:
    columns = dict(zip("ABCDEF", columns_of(workbench), strict=True)) | changes.pop("columns", {})
    return {"comparison": changes.pop("comparison", ""), "settings": settings_of(workbench, **changes), "columns": columns}


def test_what_was_on_the_page_comes_over_the_comparison_it_was_left_at(shown):
    page, workbench, stored = shown
    beta = json.dumps({"method": "pargs", "reward_model": "partial", "params": {"beta": 7}})
    kept = left(workbench, comparison=stored.id, temperature=0.5, columns={"C": beta})
    assert opened(page, kept)[page.prompt] == stored.prompt
    found = opened(page, kept | {"prompt": True})
    assert page.prompt not in found, "the browser has put back its own"
    settings, column = (json.loads(found[part]["value"]) for part in (page.settings, page.columns.settings["C"]))
    assert settings["temperature"] == 0.5 and settings["restored"] and column["params"] == {"beta": 7.0} and column["restored"]
    assert json.loads(found[page.voting.bar])["comparison"] == stored.id and found[page.columns.views["A"]].startswith('{"comparison"')


@pytest.mark.parametrize(
    "kept",
    [
        "", "[]", "{", None, 7, {"settings": "{}"}, {"settings": None, "columns": 3}, {"columns": {"A": "{}"}}, {"settings": '{"base_lm": "gone"}'},
        {"comparison": ["x"]}, {"comparison": "../x"},
    ],
)  # fmt: skip
def test_what_was_kept_and_cannot_be_read_is_left_out(shown, kept):
    page, _, _ = shown
    found = opened(page, kept)
    assert found[page.models] == "models ready · cpu" and page.prompt not in found and page.voting.bar not in found


def test_a_column_that_is_not_known_any_more_leaves_the_others(shown):
    page, workbench, _ = shown
    found = opened(page, left(workbench, columns={"B": '{"method": "gone"}', "A": '{"method": "base"}'}))
    assert "value" in found[page.columns.settings["A"]] and "value" not in found[page.columns.settings["B"]]


def test_back_shows_another_comparison_or_none(shown):
    page, _, stored = shown
    ticket = page.line.enter(VISITOR.session_hash)
    found = page._open()(VISITOR, event(comparison=stored.id))
    assert ticket.stopped, "what this visitor ran"
    page.line.leave(ticket)
    assert found[page.prompt] == stored.prompt and json.loads(found[page.voting.bar])["comparison"] == stored.id
    assert all(found[settings]["branch"] == "" for settings in page.columns.inputs)
    nothing = page._open()(VISITOR, event(comparison=""))
    assert nothing[page.voting.bar] == "{}" and nothing[page.columns.views["A"]] == ""


@pytest.mark.parametrize("asked", ["unknown", "../x", 7, ["x"]])
def test_going_to_or_on_with_what_is_not_there_is_refused(shown, asked):
    page, _, _ = shown
    with pytest.raises(compare.gr.Error):
        page._open()(VISITOR, event(comparison=asked))
    with pytest.raises(compare.gr.Error):
        list(page._go_on()("", VISITOR, event(comparison=asked)))
