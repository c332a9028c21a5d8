"""The handlers of Annotate without a browser: what they send before and after a vote, and what they refuse."""

import json
import re
from pathlib import Path
from types import SimpleNamespace

import gradio as gr
import pytest
from pages_alone import on_a_page
from test_annotation import Answers, a_task

from pages import annotate
from pages.annotating.prefetch import AHEAD
from pages.visitors import KEY
from rgtg.config import Settings
from rgtg.errors import OverBudget
from rgtg.records import ColumnSpec, new_id
from rgtg.workbench.workbench import ModelStatus, Workbench

NAMES = re.compile(r"\b(?:base|p?args|partial|judge|def456|abc123|beta|P?ARGS)\b", re.IGNORECASE)
pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")  # gr.Warning outside of an app


def request(key: str = "a", task: str = "") -> SimpleNamespace:
    return SimpleNamespace(session_hash="s", cookies={KEY: key * 32}, query_params={"task": task} if task else {})


def event(**data) -> SimpleNamespace:
    return SimpleNamespace(_data=data)


@pytest.fixture
def page(tmp_path: Path, monkeypatch):
    bench = Workbench(Settings(data_dir=tmp_path))
    bench._status = ModelStatus("ready", "models ready")
    bench._ready.set()

    def compare(prompt, specs, *args, **kwargs):
        answers = Answers(prompt, specs)
        answers.traces = answers.comparison.traces
        return answers

    bench.annotation._compare = compare
    with on_a_page():
        yield annotate._Page(bench, ())
    bench.close()


@pytest.fixture
def task(page):
    return page.annotation.tasks.add(a_task(overlap=0, reveal=True))


def fed(page, task, have=(), key="a") -> list[dict]:
    return json.loads(page._more()(request(key), event(task=task.id, have=list(have))))["pairs"]


def said(page, task, pair, kind="vote", **more) -> dict:
    data = {"task": task.id, "comparison": pair["id"], "verdict": "best", "best": pair["answers"][0]["id"], "vote_id": new_id()} | more
    return json.loads(getattr(page, f"_{kind}")()(request(), event(**data)))


def test_nothing_that_is_sent_before_the_vote_says_what_made_an_answer_and_then_only_of_that_pair(page, task):
    opened = page._load()(request(task=task.id))
    first, *_ = pairs = fed(page, task)
    sent = json.dumps([pairs, json.loads(opened[page.view])])
    texts = [token["t"] for pair in pairs for answer in pair["answers"] for token in answer["tokens"]]
    assert texts and NAMES.findall(sent) == [] and page.form not in opened
    page._consent()(request(), event(task=task.id))
    answer = said(page, task, first)
    assert len(answer["reveal"]) == 2 and {title for title, _, _ in answer["reveal"]} <= {"PARGS"} and answer["vote"]["verdict"] == "best"
    assert NAMES.findall(json.dumps(fed(page, task, [pair["id"] for pair in pairs]))) == []
    assert "reveal" not in said(page, task, first, "undo")


def test_pairs_are_prepared_ahead_and_each_is_sent_once(page, task):
    have: list[str] = []
    while len(have) < AHEAD:
        have += [pair["id"] for pair in fed(page, task, have)]
    assert len(set(have)) == len(have) == AHEAD
    again = json.loads(page._load()(request(task=task.id))[page.feed])["pairs"]
    assert [pair["id"] for pair in again] == have


def test_a_vote_that_is_refused_is_answered_and_one_sent_twice_is_stored_once(page, task):
    pair = fed(page, task)[0]
    refused = said(page, task, pair, vote_id="v1")
    assert refused["answers"] == "v1" and "not agreed" in refused["refused"]
    page._consent()(request(), event(task=task.id))
    for _ in range(2):
        assert said(page, task, pair, vote_id="v2", strength=2, reasons=["safer"], comment="ok")["progress"]["voted"] == 1
    (vote,) = page.workbench.store.votes(pair["id"])
    assert (vote.strength, vote.reasons, vote.comment) == (2, ("safer",), "ok")
    for wrong in ({"strength": 4}, {"reasons": "safer"}, {"comment": 7}, {"verdict": "x"}, {"comparison": "../c"}, {"vote_id": 7}):
        assert "refused" in said(page, task, pair, **wrong)
    assert said(page, task, pair, "mark", trace=pair["answers"][0]["id"], start=0, end=1, label="good").keys() >= {"progress"}
    assert "within its answer" in said(page, task, pair, "mark", trace=pair["answers"][0]["id"], start=0, end=9, label="good")["refused"]


def test_a_public_server_makes_no_tasks_and_offers_no_form(tmp_path):
    bench = Workbench(Settings(data_dir=tmp_path, public=True))
    with on_a_page():
        page = annotate._Page(bench, ())
    assert json.loads(page._load()(request())[page.form]) == {"shut": True}
    for handler, sent in ((page._start(), {"title": "x"}), (page._guidelines(), {"text": "x"})):
        with pytest.raises(gr.Error, match="Visitors of a public server cannot"):
            handler(event(**sent))
    bench.close()


def test_a_task_whose_answers_are_over_the_limits_is_asked_back_about_and_made_on_the_second_press(page, monkeypatch):
    """The longest prompt counts, and each two columns that may be asked together."""
    asked = []

    def compare(prompt, specs, generation, *args, confirmed=False, **kwargs):
        asked.append((prompt, [spec.method for spec in specs]))
        if not confirmed and "args" in asked[-1][1]:
            raise OverBudget("This would take up to 9 hours.", "Asked for: much.", "Lower `n`.")
        return Answers(prompt, specs)

    columns = [ColumnSpec("base"), ColumnSpec("args", reward_model="full"), ColumnSpec("pargs", reward_model="partial")]
    monkeypatch.setattr(page.workbench, "default_columns", lambda: columns)
    page.annotation._compare = compare
    form = event(
        title="T", prompts="short\nthe longest prompt\nx", line_up="", rule="uniform", num_pairs=5, num_answers=2, max_new_tokens=9, temperature=1,
        overlap=0, repeats=0, gold_share=0,
    )  # fmt: skip
    with pytest.raises(gr.Error, match=r"9 hours.* Or press Start annotating again to run it unchanged\."):
        page._start()(request(), form)
    assert asked == [("the longest prompt", ["base", "args"])] and page.annotation.tasks.all() == []
    made = json.loads(page._start()(request(), form))["made"]
    assert [methods for _, methods in asked[1:]] == [["base", "args"], ["base", "pargs"], ["args", "pargs"]]
    assert [task.id for task in page.annotation.tasks.all()] == [made]
