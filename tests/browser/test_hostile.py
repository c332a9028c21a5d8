"""Markup in whatever a person or a model says or is called: text on every page, and nothing of it is run or fetched."""

import shutil
from pathlib import Path

import pytest
from browser_app import serving

from rgtg.config import GenerationConfig, Settings
from rgtg.records import ColumnSpec, ModelCard
from rgtg.workbench.annotation.tasks import Task
from rgtg.workbench.workbench import Workbench

IMAGE = '<img src="http://elsewhere.example/a.png" onerror="alert(1)">'
PAYLOADS = (IMAGE, "![x](http://elsewhere.example/b.png)", "<svg onload=alert(2)>", "</script><script>alert(3)</script>", "${alert(4)}", "{{x}}")
PROMPT = " ".join(PAYLOADS)
NAME = f"guide {IMAGE}"
BROUGHT = "document.querySelectorAll('img[src*=elsewhere], svg[onload], [onerror]').length"


@pytest.fixture(scope="module")
def workbench(tiny_models, tmp_path_factory):
    """One of its own: other tests have no hostile model and no hostile guidelines."""
    found = Workbench(Settings(data_dir=tmp_path_factory.mktemp("hostile")), base_lms=[tiny_models[0]], reward_models=tiny_models[1])
    found.start_loading()
    found.wait_until_ready(120)
    yield found
    found.close()


@pytest.fixture(scope="module")
def address(workbench):
    with serving(workbench) as found:
        yield found


def test_markup_in_prompts_names_and_comments_is_text_on_every_page_and_fetches_nothing(visit, workbench, tiny_models, tmp_path: Path):
    """`visit` fails on a dialog, an error in the console or a request to elsewhere."""
    folder = shutil.copytree(tiny_models[1][0], tmp_path / "hostile")
    ModelCard("reward_model", NAME, objective="partial", trained_on=IMAGE).write(folder)
    workbench.library.catalog.add(str(folder), "reward_model")
    columns = [ColumnSpec("base"), ColumnSpec("pargs", reward_model=NAME)]
    task = Task(f"Title {IMAGE}"[:80], (PROMPT,), (), generation=GenerationConfig(max_new_tokens=4), num_pairs=3, repeats=0.0, reveal=True)
    workbench.annotation.guidelines.change(PROMPT)
    task = workbench.annotation.add_task(task, columns)

    def brought(page) -> int:
        return page.evaluate(BROUGHT)

    person = visit(query=f"annotate?task={task.id}")
    page = person.page
    page.context.add_cookies([{"name": "rgtg_nickname", "value": "%3Cimg%20src%3Dhttp%3A%2F%2Felsewhere.example%2Fc.png%3E", "url": page.url}])
    page.reload()
    page.wait_for_selector(".ann-pair:not([hidden])", timeout=60_000)
    assert page.locator(".ann-pair:not([hidden]) .ann-prompt").inner_text() == PROMPT
    assert page.locator("#ann-you summary").inner_text() == "You: <img src=http://elsewhere.example/c.png>"
    for key in ("Enter", "1", "c"):
        page.keyboard.press(key)
    page.locator("#said-comment").fill(PROMPT)
    page.keyboard.press("Enter")
    page.wait_for_function("document.querySelector('.ann-reveal').textContent.includes('<img src=')", timeout=60_000)
    page.wait_for_function("document.querySelector('#said')?.textContent.endsWith('saved')", timeout=60_000)
    page.keyboard.press("h")
    assert "<svg onload" in page.locator("#guidelines").inner_text() or page.locator("#guidelines-text").input_value() == PROMPT
    assert brought(page) == 0
    for query, shown in (("models", NAME), ("results", NAME), ("data", IMAGE), (f"?comparison={workbench.store.history()[0].id}", IMAGE)):
        page = visit(query=query).page
        page.wait_for_function("text => document.body.textContent.includes(text)", arg=shown, timeout=60_000)
        assert brought(page) == 0, query
