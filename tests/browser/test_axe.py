"""axe-core finds nothing on any page, in either theme and at the width of a telephone, empty and in use."""

from collections.abc import Callable
from pathlib import Path

import pytest
from browser_app import Visitor
from store_records import make_comparison, make_vote
from sweep_records import finished

import app
from rgtg.guidance.methods import METHODS

RUN = """(rules) => axe.run(document, { rules, resultTypes: ["violations"] }).then(({ violations }) =>
  violations.flatMap(({ id, nodes }) => nodes.map((node) => `${id}: ${node.target} ${node.html.slice(0, 120)}`)))"""
THEMES = {"light": "?__theme=light", "dark": "?__theme=dark"}


@pytest.fixture(scope="module")
def axe() -> str:
    import axe_playwright_python

    return (Path(axe_playwright_python.__path__[0]) / "axe.min.js").read_text(encoding="utf-8")


@pytest.fixture(scope="module", autouse=True)
def voted_on(workbench) -> None:
    """For the pages that show what was stored."""
    workbench.store.add_comparison(make_comparison("axe", "AB"), make_vote("axe-vote", "axe", "B", "AB"))
    finished(workbench.sweeps.background.folder / "axe")


def compare(person: Visitor) -> Callable[[], None]:
    page = person.page
    page.wait_for_selector("#reward-curve .js-plotly-plot")  # until its script is there Gradio shows a box of its own

    def use() -> None:
        page.locator("#settings-columns").select_option("4")
        page.locator("#settings-D-method").select_option(next(key for key, m in METHODS.items() if len(m.roles) == 1))
        page.locator("#settings-D .roles select").select_option("tiny-lm")
        person.generate(max_new_tokens=12)
        page.locator("#view-B .tok").nth(2).click()
        page.locator("#vote-B").click()
        person.wait_note("saved")
        page.locator("#settings-C .more summary").click()
        person.set("temperature", 99)
        page.locator("#generate").click()
        page.wait_for_selector(".error-note")
        page.locator("#history-open").click()
        page.wait_for_selector("#history a.prompt")
        page.evaluate("document.querySelectorAll('#line-up-bar details, #settings-C details').forEach((node) => { node.open = true; })")

    return use


def annotate(person: Visitor) -> Callable[[], None]:
    page = person.page
    page.wait_for_selector("#task-start")

    def use() -> None:
        page.locator("#task-prompts").fill("the food was")
        page.locator("#task-start").click()
        page.wait_for_selector(".ann-pair:not([hidden])")
        page.locator("#agree").click()
        page.keyboard.press("1")
        page.wait_for_function("document.querySelector('#said').textContent.includes('saved')")
        page.wait_for_selector(".ann-pair:not([hidden])")
        for key in ("ArrowRight", "g", "h"):
            page.keyboard.press(key)
        page.wait_for_selector(".ann-pair:not([hidden]) .mark-good")

    return use


def train(person: Visitor) -> Callable[[], None]:
    page = person.page

    def use() -> None:
        page.locator("#train-more summary").click()
        page.locator("#train-learning_rate").fill("7")
        page.locator("#train-start").click()
        page.wait_for_selector(".error-note")

    return use


def sweep(person: Visitor) -> Callable[[], None]:
    page = person.page
    page.wait_for_selector("#grid-A-method", state="attached")
    page.wait_for_selector("#sweep-frontier .js-plotly-plot")  # until its script is there Gradio shows a box of its own
    if page.locator("#grid-editor.shut").count():
        page.locator("#new-sweep").click()

    def use() -> None:
        page.locator("#grid-source").select_option("typed")
        page.locator("#grid-prompts textarea").fill("the food was")
        page.locator("#grid-more-B summary").click()
        page.locator("#grid-B-beta").fill("1, x")
        page.locator("#grid-start").click()
        page.wait_for_selector(".error-note")
        page.locator("#sweep-list .job").first.click()
        page.wait_for_selector("#sweep-table")
        page.locator(".heat").first.click()
        page.wait_for_selector(".sweep-answer")

    return use


def models(person: Visitor) -> Callable[[], None]:
    page = person.page
    page.wait_for_selector("#model-list .model")

    def use() -> None:
        page.locator("#model-list .model").first.click()
        page.wait_for_selector("#card-facts")
        page.locator("#made-form summary").click()
        page.locator("#add-place").fill("nothing/at-all/here")
        page.locator("#add-model").click()
        page.wait_for_selector(".error-note")

    return use


def data(person: Visitor) -> Callable[[], None]:
    page = person.page
    page.wait_for_selector("#comparisons .find")

    def use() -> None:
        page.locator("#comparisons a.prompt").first.click()
        page.wait_for_selector("#inspected-open")

    return use


def help(person: Visitor) -> None:
    person.page.wait_for_selector("#methods")


def results(person: Visitor) -> None:
    """Of an app that no one voted in, or that the votes of tests before were cast in."""
    person.page.wait_for_selector("#results .nobody, #against-people .disagreement, #against-people .quiet")


def examine(person: Visitor) -> Callable[[], None]:
    page = person.page
    page.wait_for_selector("#examine-source")

    def use() -> None:
        page.locator("#examine-source").select_option("typed")
        page.locator("#examine-chosen").fill("great food")
        page.locator("#examine-rejected").fill("cold food")
        page.locator("#examine-start").click()
        page.wait_for_selector("#examine-figures")
        page.wait_for_selector("#pair-curves .js-plotly-plot")
        page.wait_for_selector("#pair-rejected .tok")

    return use


PREPARED = {page.__name__: page for page in (compare, annotate, sweep, train, models, examine, results, data, help)}


def test_every_page_is_here():
    assert set(PREPARED) == {page.TITLE.lower() for page in app.PAGES}


DRAWN = "() => new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))"  # what scrolls is known once it is drawn


@pytest.mark.parametrize("theme", THEMES)
@pytest.mark.parametrize("page_name", PREPARED)
def test_axe_finds_nothing(visit, axe, page_name: str, theme: str):
    person = visit(query=("" if page_name == "compare" else page_name) + THEMES[theme])
    use = PREPARED[page_name](person)
    person.page.evaluate(axe)
    assert person.page.evaluate(RUN, {}) == []
    if use:
        use()
        person.page.evaluate(axe)  # a new document has none
        assert person.page.evaluate(RUN, {}) == []
    person.page.set_viewport_size({"width": 390, "height": 844})
    person.page.evaluate(DRAWN)
    assert person.page.evaluate(RUN, {"color-contrast": {"enabled": False}}) == [], "at 390 px, where colours are the same"
