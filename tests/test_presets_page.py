"""Line-ups on the page, roles and mixes in a column's value, and copying, without a browser."""

import json
from dataclasses import replace
from types import SimpleNamespace

import gradio as gr
import pytest
from pages_alone import on_a_page
from test_compare_page import StubWorkbench, a_page, columns_of, event, run, settings_of

from pages.columns import describe_models, read_spec, write_spec
from pages.copying import Copying
from pages.roles import guides_of
from rgtg.errors import RgtgError
from rgtg.guidance.methods import METHODS
from rgtg.models.catalog import ModelInfo
from rgtg.records import ColumnSpec, ModelCard
from rgtg.workbench.columns.copying import FORMS
from rgtg.workbench.columns.line_ups import LineUps

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")


class Bench(StubWorkbench):
    """A workbench with a folder for line-ups, and a tuned language model."""

    def __init__(self, folder):
        super().__init__()
        self.line_ups = LineUps(folder)

    def guides(self, base_lm=None):
        tuned = ModelInfo("tuned", "reward_model", "tuned", ModelCard("reward_model", "tuned", objective=METHODS["experts"].objective))
        return [*super().guides(base_lm), tuned]

    trained_for = guides

    def added(self):
        return []


@pytest.fixture
def bench(tmp_path) -> Bench:
    return Bench(tmp_path)


def specs_in(page, updates) -> list[dict]:
    return [json.loads(updates[column]["value"]) for column in page.columns.inputs if column in updates]


def bar_of(page, updates) -> dict:
    return json.loads(updates[page.line_ups.bar])


def test_a_line_up_fills_the_columns_and_names_what_is_missing(bench):
    page = a_page(bench)
    updates = page.line_ups.choose()(settings_of(bench, seed=5), event(key="pargs-and-its-rivals"))
    assert [spec["method"] for spec in specs_in(page, updates)] == ["base", "args", "pargs", "pargs-greedy", "best-of-n", "cards"]
    settings = json.loads(updates[page.settings]["value"])
    assert (settings["columns"], settings["seed"], settings["lock"]) == (6, 5, True)
    assert updates[page.status] == "line-up “PARGS and its rivals”: 6 columns" and bar_of(page, updates)["chosen"] == "pargs-and-its-rivals"
    one_call = page.line_ups.choose()(settings_of(bench), event(key="one-call-rewards"))
    assert one_call[page.status] == "line-up “One-call rewards”: missing for starter: “vocabulary” (column B), “autoregressive” (column C)"
    assert specs_in(page, one_call)[1]["reward_model"] == "vocabulary", "its head shows it, marked"
    with pytest.raises(gr.Error, match="no longer exists"):
        page.line_ups.choose()(settings_of(bench), event(key="nothing"))


def test_columns_are_saved_exported_opened_and_deleted(bench, tmp_path):
    page = a_page(bench)
    columns = columns_of(bench)
    saved = page.line_ups.save()(settings_of(bench), *columns, event(title="Mine"))
    assert saved[page.status] == "line-up “Mine” saved: 3 columns" and bar_of(page, saved)["chosen"] == "mine"
    file = json.loads(page.line_ups.write_out()(settings_of(bench), *columns, event(key="mine")))["file"]
    assert file["name"] == "mine.json" and json.loads(file["text"])["columns"][2] == "pargs:beta=2,reward_model=partial"
    page.line_ups.delete()(event(key="mine"))
    assert "mine" not in bench.line_ups.all()
    opened = page.line_ups.take_in()(settings_of(bench), event(**file))
    assert opened[page.status] == "line-up “Mine”: opened and saved" and len(specs_in(page, opened)) == 3 and "mine" in bench.line_ups.all()


@pytest.mark.parametrize("text", ["", "{", '{"title": "A", "columns": ["nothing"]}', "x" * 20_001, None, 7])
def test_a_file_that_is_none_is_refused_beside_the_picker(bench, text):
    page = a_page(bench)
    with pytest.raises(gr.Error) as raised:
        page.line_ups.take_in()(settings_of(bench), event(name="some.json", text=text))
    assert raised.value.title in ("line-up", "file") and list(bench.line_ups.all()) == list(LineUps(bench.line_ups._folder / "none").all())


def test_a_public_server_keeps_no_line_up_and_still_opens_one(bench):
    bench.settings = replace(bench.settings, public=True)
    page = a_page(bench)
    with pytest.raises(gr.Error, match="public server"):
        page.line_ups.save()(settings_of(bench), *columns_of(bench), event(title="Mine"))
    with pytest.raises(gr.Error, match="public server"):
        page.line_ups.delete()(event(key="weights"))
    opened = page.line_ups.take_in()(settings_of(bench), event(name="a.json", text='{"title": "A", "columns": ["base"]}'))
    assert opened[page.status] == "line-up “A”: 1 columns" and "a" not in bench.line_ups.all()


def test_roles_and_mixes_come_back_as_they_were_written(bench):
    for spec in (
        ColumnSpec("experts", (), guides=(("tuned", 1.0), ("starter", -1.0))),
        ColumnSpec("experts", (), guides=(("", 1.0), ("tuned", -1.0))),
        ColumnSpec("pargs", (), guides=(("partial", 0.75), ("full", 0.25)), combine="min"),
    ):
        assert read_spec(write_spec(spec), "B", bench, "starter") == spec
    assert read_spec(write_spec(ColumnSpec("experts")), "B", bench, "starter") == ColumnSpec("experts"), "what stands in is chosen with the run"
    assert guides_of(ColumnSpec("mod", (), "tuned"), METHODS["mod"]) == (("tuned", 0.5), ("", 0.5))


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"guides": [["partial", 1], ["", -1]]}, "B-expert"), ({"guides": [["", 1], ["gone", -1]]}, "B-anti_expert"),
        ({"guides": [["tuned", 1]]}, ""),
        ({"guides": "tuned"}, ""), ({"guides": [["tuned", "1"], ["", 1]]}, "weight in column B"), ({"guides": [[7, 1], ["", 1]]}, "B-expert"),
        ({"method": "pargs", "guides": [["starter", 1]]}, "B-guide-0"), ({"method": "pargs", "guides": [["full", 1]] * 17}, "B-guide-0"),
        ({"guides": [["tuned", 1], ["", -1]], "combine": 7}, "combination of rewards in column B"),
    ],
)  # fmt: skip
def test_a_model_that_cannot_have_its_role_is_refused_where_it_stands(bench, changes, field):
    with pytest.raises(RgtgError) as raised:
        read_spec(json.dumps({"method": "experts", "params": {}} | changes), "B", bench, "starter")
    assert raised.value.field == field


def test_a_base_lm_is_offered_for_a_role_alone(bench):
    assert {m["name"]: m["only_role"] for m in describe_models(bench)} == {"full": False, "partial": False, "tuned": False, "starter": True}


VISIT = SimpleNamespace(session_hash="visitor")


def test_a_comparison_is_copied_in_every_form_and_in_no_other(bench):
    run(a_page(bench))
    (comparison,) = bench.comparisons
    with on_a_page():
        copy = Copying(bench).copy()
    texts = {form: copy(VISIT, event(comparison=comparison, form=form)) for form in FORMS}
    assert texts["command"].startswith("rgtg generate ") and "import rgtg" in texts["Python"] and json.loads(texts["JSON"])["seed"] == 17
    for sent in ({"form": "pickle"}, {"form": None}, {}):
        with pytest.raises(gr.Error, match="cannot be copied"):
            copy(VISIT, event(comparison=comparison, **sent))
    with pytest.raises(gr.Error):
        copy(VISIT, SimpleNamespace(_data={"comparison": "../x", "form": "JSON"}))
