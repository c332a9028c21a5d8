"""Annotation as a rater does it: by keys alone, blind until the vote, beside another rater, and with his votes deleted at the end."""

import json
import re
import threading

import pytest

from rgtg.config import GenerationConfig
from rgtg.records import ColumnSpec
from rgtg.workbench.annotation.tasks import Task

NAMES = re.compile(r"\b(?:tiny-\w+|p?args|P?ARGS|Base LM)\b")
HEAR = """window.heard = [];
document.addEventListener("rgtg:message", (event) => window.heard.push(JSON.stringify(event.detail)));"""
SENT = """() => {
  const page = document.documentElement.cloneNode(true);
  for (const script of page.querySelectorAll("script, style")) script.remove();
  return page.outerHTML + JSON.stringify([{ ...window.gradio_config, head: "" }, window.heard, sessionStorage, localStorage]);
}"""
SHOWN = "document.querySelector('.ann-pair:not([hidden])')?.dataset.pair"
SAVED = "document.querySelector('#said')?.textContent.endsWith('saved')"


@pytest.fixture(scope="module")
def columns(workbench) -> list[ColumnSpec]:
    return [ColumnSpec("base"), ColumnSpec("args", reward_model="tiny-full"), ColumnSpec("pargs", reward_model="tiny-partial")]


def a_task(workbench, columns, **changes) -> Task:
    known = {"title": "Reviews", "prompts": ("the food was", "my wife and i"), "columns": (), "generation": GenerationConfig(max_new_tokens=6)}
    return workbench.annotation.add_task(Task(**known | changes), columns)


class Rater:
    """Someone at the page of a task, who counts his keys."""

    def __init__(self, visit, task: Task):
        self.person = visit(query=f"annotate?task={task.id}", script=HEAR)
        self.page, self.num_keys = self.person.page, 0
        self.shown()

    def shown(self) -> str:
        self.page.wait_for_function(SHOWN, timeout=60_000)
        return self.page.evaluate(SHOWN)

    def press(self, *keys: str) -> None:
        for key in keys:
            self.page.keyboard.press(key)
            self.num_keys += 1

    def vote(self, *keys: str) -> str:
        """Vote on the pair that is shown; its id."""
        pair = self.shown()
        self.press(*keys)
        self.page.wait_for_function(f"before => ({SHOWN}) !== before", arg=pair)
        return pair

    def saved(self) -> None:
        self.page.wait_for_function(SAVED, timeout=60_000)

    def names(self) -> list[str]:
        """Names of methods and models in what the page shows and was sent, its scripts left out."""
        return sorted(set(NAMES.findall(self.page.evaluate(SENT))))


def test_twenty_votes_with_reasons_a_span_a_branch_vote_and_an_undo_by_keys_alone_and_blind(visit, workbench, columns):
    task, store = a_task(workbench, columns, num_pairs=30, overlap=0.3), workbench.store
    rater = Rater(visit, task)
    rater.press("Enter")
    voted = []
    for number in range(20):
        rater.shown()
        assert rater.names() == []
        voted.append(rater.vote("12t"[number % 3]))
        rater.press("6")
    pair = rater.shown()
    rater.press("ArrowRight", "Shift+ArrowRight", "g", "ArrowRight", "b")
    rater.page.wait_for_function(f"before => ({SHOWN}) && ({SHOWN}) !== before", arg=pair, timeout=60_000)
    assert rater.names() == []
    branch = rater.vote("2")
    assert rater.shown() == pair
    last = rater.vote("1")
    rater.press("u")
    rater.page.wait_for_function(f"pair => ({SHOWN}) === pair", arg=last)
    rater.vote("2")
    rater.saved()
    assert rater.names() == [] and rater.num_keys <= 120
    for name in voted:
        vote = store.vote_of(name, workbench.annotation._round(task.id).pairs[name].raters[0])
        assert vote.revision == 2 and vote.reasons == ("more accurate",)
    assert [vote.verdict for vote in store.votes(last)] == ["best", "withdrawn", "best"]
    spans = [span for trace in store.comparison(pair).traces for span in store.marks(trace.id)]
    assert [(span.label, span.start, span.end) for span in spans] == [("good", 0, 2)]
    (vote,), traces = store.votes(branch), store.comparison(branch).traces
    seen = [trace for trace in traces if trace.id in vote.seen_trace_ids]
    (at,) = {trace.branch_position for trace in seen}
    assert vote.best_trace_id == seen[1].id and len(seen) == 2 and {trace.parent_trace_id for trace in seen} == {traces[0].id}
    assert (
        at == 2 and {trace.token_ids[:at] for trace in traces} == {traces[0].token_ids[:at]} and len({trace.token_ids[at] for trace in traces}) == 3
    )
    rule = json.loads(store.comparison(voted[0]).pair_rule)
    assert rule["rule"] == "uniform" and 0 < rule["probability"] < 1


def test_an_answer_that_comes_late_takes_no_vote_back(visit, workbench, columns, monkeypatch):
    progress, agreed, may_answer = workbench.annotation.progress, threading.Event(), threading.Event()

    def slow(task_id, visitor):
        found = progress(task_id, visitor)
        if found.consent_at and not agreed.is_set():
            agreed.set()
            may_answer.wait(60)
        return found

    rater = Rater(visit, a_task(workbench, columns, num_pairs=6))
    monkeypatch.setattr(workbench.annotation, "progress", slow)
    rater.press("Enter")
    assert agreed.wait(60)
    for _ in range(2):
        rater.vote("1")
        rater.saved()
    heard = rater.page.evaluate("window.heard.length")
    may_answer.set()
    rater.page.wait_for_function(
        "before => window.heard.slice(before).some((one) => one.includes('process_completed') && one.includes('voted'))", arg=heard
    )
    assert rater.page.locator("#ann-progress").inner_text() == "2 of 6"


def test_two_browsers_vote_on_one_link_without_touching_each_other(visit, workbench, columns):
    task = a_task(workbench, columns, num_pairs=6, overlap=1.0, repeats=0.0, reveal=True)
    raters = [Rater(visit, task), Rater(visit, task)]
    seen = []
    for key, rater in zip("12", raters, strict=True):
        rater.press("Enter")
        seen.append([rater.vote(key) for _ in range(3)])
        rater.saved()
        assert rater.page.locator("#ann-progress").inner_text() == "3 of 6"
        rater.page.wait_for_function("document.querySelectorAll('.ann-made b').length === 2")
        titles = set(rater.page.locator(".ann-made b").all_inner_texts())
        assert all(re.fullmatch(r"[12] (Base LM|ARGS|PARGS)", title) for title in titles)
    assert set(seen[0]) == set(seen[1])
    for pair in seen[0]:
        votes, traces = workbench.store.votes(pair), workbench.store.comparison(pair).traces
        assert {vote.best_trace_id for vote in votes} == {trace.id for trace in traces} and len({vote.rater_id for vote in votes}) == 2
    raters[0].press("u")
    raters[0].page.wait_for_function("document.querySelector('#ann-progress').textContent.startsWith('2')")
    raters[0].page.reload()  # what was voted and undone is known when he comes back
    raters[0].page.wait_for_function("document.querySelector('#ann-progress')?.textContent === '2 of 6'")
    assert raters[0].shown() == seen[0][2]
    raters[0].page.locator("#ann-you summary").click()
    raters[0].page.locator("#erase").click()
    raters[0].page.locator("#erase-sure").click()
    raters[0].page.wait_for_function("document.querySelector('#said').textContent.includes('Deleted: 4 votes')")
    assert raters[0].page.locator("#consent").is_visible()
    assert [len(workbench.store.votes(pair)) for pair in seen[1]] == [1, 1, 1]


def test_a_task_is_made_on_the_page_refused_beside_its_field_and_its_answers_are_ranked_by_key_and_mouse(visit, workbench):
    person = visit(query="annotate")
    page = person.page
    page.wait_for_selector("#task-start")
    page.locator("#task-start").click()
    assert "There is no prompt" in person.refused("task-prompts")
    page.locator("#task-prompts").fill("the food was\n\nmy wife and i\n")
    page.locator("#task-num_answers").fill("3")
    page.locator("#task-temperature").fill("99")
    page.locator("#task-start").click()
    assert "`temperature` has to be" in person.refused("task-temperature")
    page.locator("#task-temperature").fill("1")
    page.locator("#task-ranking").check()
    page.locator("#task-start").click()
    page.wait_for_url("**/annotate?task=*", timeout=60_000)
    page.wait_for_selector(".ann-pair:not([hidden])", timeout=60_000)
    assert page.locator(".ann-pair:not([hidden]) .ann-answer").count() == 3 and page.locator("#task-start").count() == 0
    assert page.locator(".ann-pair:not([hidden]) .ann-prompt").inner_text() in ("the food was", "my wife and i")
    pair = page.evaluate(SHOWN)
    for key in ("Enter", "1", "3", "1", "=", "2"):  # agree; 1 then 3; not 1; 2 as good as 3
        page.keyboard.press(key)
    assert "ranked: 3 = 2 > rest" in page.locator("#said").inner_text()
    assert page.locator(".ann-pair:not([hidden]) h2").all_inner_texts() == ["1", "2 rank 1", "3 rank 1"]
    page.keyboard.press("Enter")
    page.wait_for_function(SAVED, timeout=60_000)
    (vote,) = workbench.store.votes(pair)
    shown = vote.seen_trace_ids
    assert (vote.verdict, vote.ranking) == ("tie", ((shown[2], shown[1]),)) and "before: 3 = 2 > rest" in page.locator("#said").inner_text()
    page.keyboard.press("u")
    page.wait_for_function(f"({SHOWN}) === {json.dumps(pair)}")
    page.locator("#say-2").click()
    page.locator("#say-1").click()
    page.keyboard.press("Enter")  # not the button that was clicked
    page.wait_for_function(f"({SHOWN}) !== {json.dumps(pair)} && {SAVED}", timeout=60_000)
    assert workbench.store.votes(pair)[-1].ranking == ((shown[1],), (shown[0],))
