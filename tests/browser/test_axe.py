"""axe-core finds nothing on any page, in either theme, empty and in use."""

from pathlib import Path

import pytest

RUN = """() => axe.run(document, { resultTypes: ["violations"] }).then(({ violations }) =>
  violations.flatMap(({ id, nodes }) => nodes.map((node) => `${id}: ${node.target} ${node.html.slice(0, 120)}`)))"""


@pytest.fixture(scope="module")
def axe() -> str:
    import axe_playwright_python

    return (Path(axe_playwright_python.__path__[0]) / "axe.min.js").read_text(encoding="utf-8")


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("page_name", ["", "train", "models", "help"])
def test_axe_finds_nothing(visit, axe, page_name: str, theme: str):
    person = visit(query=f"{page_name}?__theme={theme}")
    page = person.page
    page.evaluate(axe)
    if page_name == "":
        page.wait_for_selector("#reward-curve .js-plotly-plot")  # until its script is there Gradio shows a box of its own
    elif page_name == "help":
        page.wait_for_selector("#methods")
    assert page.evaluate(RUN) == []
    if page_name == "":
        person.generate(max_new_tokens=12)
        page.locator("#view-B .tok").nth(2).click()
        page.locator("#vote-B").click()
        person.wait_note("saved")
        page.locator("#settings-C .more summary").click()
        person.set("temperature", 99)
        page.locator("#generate").click()
    elif page_name == "train":
        page.locator("#train-more summary").click()
        page.locator("#train-learning_rate").fill("7")
        page.locator("#train-start").click()
    elif page_name == "help":
        return  # nothing there can go wrong
    else:
        page.locator("#made-form summary").click()
        page.locator("#add-place").fill("nothing/at-all/here")
        page.locator("#add-model").click()
    page.wait_for_selector(".error-note")
    assert page.evaluate(RUN) == []
