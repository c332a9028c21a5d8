"""The handlers of Examine without a browser: the form is checked, an examination is run, stopped, read token by token and saved."""

import json
import threading
from types import SimpleNamespace

import gradio as gr
import pytest
from pages_alone import on_a_page

import app
from pages import examine
from pages.examine_form import read_form
from rgtg.config import Settings
from rgtg.errors import BadSettings
from rgtg.workbench.examining.examination import MAX_PAIRS, MAX_TEXT, Examination
from rgtg.workbench.examining.words import as_file, groups, pair_labels
from rgtg.workbench.workbench import Workbench

TYPED = {"models": ["p"], "source": "typed", "prompt": "ab", "chosen": "a b c", "rejected": "c d", "limit": 10, "judge": "", "beta": 1.0}


@pytest.fixture(scope="module")
def workbench(folders, tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("rgtg.workbench.library.STARTER_DIR", tmp_path_factory.mktemp("none"))
        found = Workbench(
            Settings(data_dir=tmp_path_factory.mktemp("data"), device="cpu"),
            base_lms=[folders["lm"]],
            reward_models=[folders["partial"], folders["judge"]],
        )
        yield found
        found.close()


@pytest.fixture(scope="module")
def page(workbench):
    with on_a_page():
        return examine._Page(workbench, app.LINKS)


@pytest.fixture(scope="module")
def examined(page):
    """The last updates of an examination of a typed pair, and its id."""
    *_, last = page._start()(json.dumps(TYPED | {"judge": "j"}))
    return last, json.loads(last[page.table])["id"]


def event(**payload) -> SimpleNamespace:
    return SimpleNamespace(_data=payload)


def visit(**query) -> SimpleNamespace:
    return SimpleNamespace(query_params=query)


def test_the_page_opens_with_the_models_there_are(page):
    found = page._load()(visit())
    form = found[page.form]
    assert form["models"] == ["p", "j"] and json.loads(form["value"])["models"] == ["p"] and json.loads(form["value"])["judge"] == "j"
    assert json.loads(form["value"])["source"] == "typed", "there are no votes"


def test_the_link_of_a_model_chooses_it(page):
    assert json.loads(page._load()(visit(model="j"))[page.form]["value"])["models"] == ["j"]
    with pytest.warns(UserWarning, match="No reward model `&lt;b&gt;`"):
        found = page._load()(visit(model="<b>"))
    assert json.loads(found[page.form]["value"])["models"] == ["p"], "as without a link"


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"models": []}, "models"),
        ({"models": ["unknown"] * 9}, "models"),
        ({"models": "p"}, "models"),
        ({"limit": MAX_PAIRS + 1}, "limit"),
        ({"limit": None}, "limit"),
        ({"beta": 0}, "beta"),
        ({"chosen": " "}, "chosen"),
        ({"rejected": "x" * (MAX_TEXT + 1)}, "rejected"),
        ({"source": "file", "path": ""}, "path"),
        ({"source": "choices", "path": ""}, "path"),
        ({"source": "elsewhere"}, "source"),
    ],
)
def test_every_field_is_checked(workbench, changes, field):
    with pytest.raises(BadSettings) as error:
        read_form(json.dumps(TYPED | changes), workbench)
    assert error.value.field == field


def test_fields_that_a_source_does_not_show_refuse_nothing(workbench):
    found = read_form(json.dumps(TYPED | {"source": "choices", "path": "a.jsonl", "beta": 0, "judge": "j"}), workbench)
    assert (found.path, found.beta, found.judge) == ("a.jsonl", 1.0, "")


def test_an_unknown_model_is_refused_before_anything_is_read(workbench):
    with pytest.raises(BadSettings, match="not installed"):
        workbench.examinations.start(read_form(json.dumps(TYPED | {"models": ["nobody"]}), workbench))


def test_a_typed_pair_is_examined(page, examined):
    last, _ = examined
    table = json.loads(last[page.table])
    assert table["models"] == ["p", "j"] and [len(row) for group in table["groups"] for row in group["rows"]].count(3) > 5
    assert last[page.status] == "1 pair" and isinstance(last[page.plot].to_dict(), dict)
    assert len(last[page.plot].data) == 2 * 2, "two models on two axes, and no band of one pair"
    bar = json.loads(last[page.bar])
    assert list(bar["views"])[:2] == ["reward", "prefix difference"] and bar["pairs"] == ["1 · ab: a b c / c d"]
    lines = [json.loads(line) for line in last[page.texts["chosen"]].splitlines()]
    assert "".join(line.get("t", "") for line in lines).strip() == "a b c" and lines[0]["views"] is True


def test_a_pair_is_read_by_another_model_and_the_figures_are_saved(page, examined):
    _, name = examined
    found = page._read()(event(examination=name, model="j", pair=0))
    assert json.loads(found[page.bar])["model"] == "j"
    report = json.loads(json.loads(page._save()(event(examination=name, form="json")))["text"])
    rows = json.loads(page._save()(event(examination=name, form="csv")))["text"].splitlines()
    assert (
        report["num_pairs"] == 1 and rows[0] == "model,figure,at,value,low,high,n" and any(row.startswith("j,accuracy by length,end") for row in rows)
    )


@pytest.mark.parametrize(
    "sent",
    [{}, {"examination": "x"}, {"examination": 5}, {"model": "nobody"}, {"pair": 7}, {"pair": -1}, {"pair": "0"}, {"model": None}],
)
def test_what_is_not_there_is_not_read(page, examined, sent):
    with pytest.raises(gr.Error):
        page._read()(event(**({"examination": examined[1], "model": "p", "pair": 0} | sent if sent else {})))
    with pytest.raises(gr.Error):
        page._save()(event(examination=examined[1], form="exe"))
    with pytest.raises(gr.Error):
        page._next()(event(examination=examined[1], model="p", pair=0, side="chosen", position=0))


def test_choices_among_several_answers_are_a_table_alone(page, tmp_path):
    rows = [
        {"prompt": "ab", "chosen": "a b c", "rejected": ["c d", "d e", "e f"], "subset": "Math"},
        {"prompt": "ab", "chosen": ["a b c"], "rejected": ["a b c"], "subset": "Focus"},
        {"prompt": "ab", "chosen": ["a", "b"], "rejected": ["c"], "subset": "Ties", "id": "tied:1"},
        {"prompt": "ab", "chosen": ["a"], "rejected": ["b", "c"], "subset": "Ties", "id": "ref:1"},
    ]
    file = tmp_path / "choices.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    *_, last = page._start()(json.dumps(TYPED | {"models": ["p", "j"], "source": "choices", "path": str(file)}))
    table = json.loads(last[page.table])
    group, ties = table["groups"]
    assert (last[page.status], table["models"]) == ("4 prompts", ["p", "j"]) and page.plot not in last
    assert last[page.accuracy] == gr.update(visible=False) and last[page.pair] == gr.update(visible=False)
    labels = [row[0] for row in group["rows"]]
    assert labels == ["Math: 1 prompt, chance 25 %", "Focus: 1 prompt, chance 50 %", "average of the subsets"]
    assert group["rows"][1][1:] == ["50.0 % (5–95), 1 tied"] * 2, "two equal answers tie"
    assert ties["rows"][0][0] == "score" and all(-0.01 <= float(cell.replace("−", "-")) <= 1.01 for cell in ties["rows"][0][1:])
    saved = json.loads(page._save()(event(examination=table["id"], form="csv")))["text"].splitlines()
    assert "p,best of n,Focus,0.5,0.0546,0.9454,1" in saved and "p,prompts with a tie,Focus,1,,,1" in saved
    with pytest.raises(gr.Error, match="no such pair"):
        page._read()(event(examination=table["id"], model="p", pair=0))
    file.write_text(json.dumps({"prompt": "ab", "chosen": "a"}) + "\n")
    *_, last = page._start()(json.dumps(TYPED | {"source": "choices", "path": str(file)}))
    assert "Row 1 of" in last[page.status] and "is no choice among answers" in last[page.status]


def test_one_examination_runs_at_a_time_and_stops(workbench, page):
    may_read, request = threading.Event(), read_form(json.dumps(TYPED), workbench)
    running = Examination(request, lambda: may_read.wait(5) and workbench.examinations._pairs(request), workbench.library)
    workbench.examinations._kept[running.id] = running
    with pytest.raises(BadSettings, match="is running"):
        workbench.examinations.start(request)
    page._stop()()
    may_read.set()
    with pytest.raises(Exception, match="stopped"):
        running.ended(5)
    assert not running.is_running and not running.report


def test_votes_without_pairs_say_so_beside_the_source(page):
    with pytest.raises(gr.Error, match="no pairs yet") as error:
        list(page._start()(json.dumps(TYPED | {"source": "votes"})))
    assert error.value.title == "source"


def test_strangers_are_told_that_administrators_examine(tmp_path):
    public = Workbench(Settings(data_dir=tmp_path, public=True), base_lms=[], reward_models=[])
    with on_a_page() as blocks:
        examine.build(public, app.LINKS)
    assert any(examine.PUBLIC in str(getattr(block, "value", "")) for block in blocks.blocks.values()) and not blocks.fns
    public.close()


def figures() -> dict:
    at = {"accuracy": 0.5, "low": 0.2, "high": 0.8, "n": 4}
    found = {"by_length": {"1": at | {"calibration_error": 0.1}, "end": at}, "by_fraction": {"0.5": at}}
    found |= {"rank_correlation": {"1": {"correlation": -0.5, "n": 8}}, "length": {"n": 0, "longer_preferred": None, "correlation": None}}
    return found | {"position": {"n": 0}, "fooled": {}, "consistency": {"spread": None, "n": 0}}


REPORT = {"num_pairs": 4, "num_left_out": 0, "judge": "", "beta": 2.0, "models": {name: figures() for name in ("m", "n")}}
REPORT["distances"] = [{"a": "m", "b": "n", "distance": 0.25, "correlation": 0.9, "n": 8}]


def test_the_table_leaves_out_what_was_not_measured():
    found = {group["title"]: group["rows"] for group in groups(REPORT)}
    assert list(found) == ["Accuracy", "Calibration error", "Rank correlation with the complete answer", "Distance"]
    assert found["Calibration error"] == [["1 token", "0.100", "0.100"]] and found["Distance"] == [["to m", "–", "0.25"], ["to n", "0.25", "–"]]
    assert found["Rank correlation with the complete answer"] == [["1 token", "−0.50", "−0.50"]]
    assert "m,accuracy by fraction,0.5,0.5,0.2,0.8,4" in as_file(REPORT, "csv") and json.loads(as_file(REPORT, "json")) == REPORT


def test_a_pair_has_a_short_name():
    assert pair_labels([("", "x" * 60, "y\nz")]) == [f"1 · {'x' * 27}… / y z"]
