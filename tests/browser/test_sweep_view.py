"""The page Sweep as a person meets it, on the starter models: a sweep that is started, stopped, resumed, found again and read."""

import time
from pathlib import Path

import pytest
from browser_app import Trainee, serving

STATE = "words => document.querySelector('#sweep-state')?.textContent.startsWith(words)"
POINT = "#sweep-frontier .scatterlayer .point"


@pytest.fixture(scope="module")
def bench(starter, tmp_path_factory):
    from rgtg.config import Settings
    from rgtg.workbench.workbench import Workbench

    if not (starter / "base-lm" / "config.json").is_file():
        pytest.skip("needs data/starter: python -m rgtg starter")
    bench = Workbench(Settings(data_dir=tmp_path_factory.mktemp("sweeps"), device="cpu"))
    bench.start_loading()
    bench.wait_until_ready(300)
    yield bench
    for state in bench.sweeps.background.all():
        bench.sweeps.background.stop(state.name)  # no process of a test that failed goes on
    bench.close()


@pytest.fixture(scope="module")
def place(bench):
    with serving(bench) as found:
        yield found


@pytest.fixture
def go(browser, place):
    people: list[Trainee] = []

    def go(width: int = 1280, query: str = "sweep") -> Trainee:
        people.append(Trainee(browser, place, width, query=query))
        people[-1].page.wait_for_selector("#grid-A-method", state="attached", timeout=30_000)
        return people[-1]

    yield go
    wrong = [line for person in people for line in person.wrong]
    for person in people:
        person.context.close()
    assert not wrong, wrong


def plan(person: Trainee, words: str) -> str:
    person.page.wait_for_function("words => document.querySelector('#grid-plan').textContent.includes(words)", arg=words, timeout=30_000)
    return person.page.locator("#grid-plan .drawn").inner_text()


def test_a_bad_value_is_refused_beside_its_field_and_nothing_is_lost_by_a_reload(go, bench):
    person = go()
    page = person.page
    page.locator("#grid-source").select_option("typed")
    page.locator("#grid-prompts textarea").fill("the food was\nmy wife and i")
    page.locator("#grid-B-beta").fill("1, x")
    page.locator("#grid-B-top_k").fill("5 10")
    page.locator("#grid-start").click()
    assert "Found “x”" in person.refused("grid-B-beta") and not bench.sweeps.background.all()
    page.reload()
    page.wait_for_selector("#grid-A-method")
    page.wait_for_function("document.querySelector('#grid-prompts textarea').value.startsWith('the food')")
    assert (page.locator("#grid-B-beta").input_value(), page.locator("#grid-B-top_k").input_value()) == ("1, x", "5 10")
    page.locator("#grid-B-beta").fill("1, 2")
    assert plan(person, "9 settings × 2 prompts × 1 seed = 18 answers, up to").endswith("s on this machine")
    assert page.locator(".grid-count").all_inner_texts() == ["1 setting", "4 settings", "4 settings"]


def test_a_sweep_is_started_stopped_resumed_and_read(go, bench):
    person = go()
    page = person.page
    page.locator("[aria-label='Remove row C']").click()
    page.locator("#grid-B-beta").fill("1, 4")
    page.locator("#grid-B-top_k").fill("5, 10")
    page.locator("#grid-seeds").fill("2")
    page.locator("#grid-name").fill("mine")
    plan(person, "5 settings × 32 prompts × 2 seeds = 320 answers")
    page.locator("#grid-start").click()
    page.wait_for_selector(POINT, timeout=90_000)
    began = time.monotonic()
    page.locator("#stop-sweep").click()
    page.wait_for_function(STATE, arg="stopped", timeout=20_000)
    assert time.monotonic() - began < 10
    results = bench.sweeps.results("mine")
    results.refresh()
    kept = results.num_cells()
    assert 0 < kept < 320 and f"{kept} of 320 answers kept" in page.locator("#sweep-state").inner_text()
    page.locator("#resume-sweep").click()
    page.close()  # it goes on
    again = go()
    page = again.page
    page.wait_for_function(STATE, arg="done", timeout=120_000)
    assert page.locator("#grid-editor").is_hidden() and page.locator("#sweep-table tbody tr").count() == 5
    assert page.locator(".heat").count() == 4
    read(again, bench)
    page.locator("#matched-minus").select_option(index=1)
    page.locator("#matched-kl").fill("0.02")
    page.locator("#matched-start").click()
    page.wait_for_selector("#matched-table, #sweep-matched .help", timeout=30_000)
    assert page.locator("#matched-kl").input_value() == "0.02" and page.locator("#matched-minus").input_value().startswith("args · full · top_k")
    with page.expect_download() as download:
        page.locator("#save-sweep").click()
    folder = bench.sweeps.background.path("mine")
    assert Path(download.value.path()).read_bytes() == (folder / "table.csv").read_bytes() and download.value.suggested_filename == "mine.csv"


def read(person: Trainee, bench) -> None:
    """The answers behind a point, a cell of the map and a setting of the table."""
    page = person.page
    page.wait_for_selector(POINT, timeout=30_000)
    page.locator("#sweep-frontier .scatterlayer .trace").nth(1).locator(".point").first.click(force=True)
    page.wait_for_selector(".sweep-answer")
    setting = page.locator("#sweep-answers h2").inner_text()
    cells = bench.sweeps.results("mine").cells(setting)
    assert page.locator("#sweep-answers h2").inner_text().startswith("args · full · beta") and page.locator(".sweep-answer").count() == 64
    assert page.locator(".sweep-answer .text").first.evaluate("node => node.textContent") == cells[0].prompt + cells[0].text
    page.locator("#answers-order").select_option("best")
    best = f"judge +{max(cell.judge for cell in cells):.2f}"
    page.wait_for_function("words => document.querySelector('.sweep-answer .facts').textContent.startsWith(words)", arg=best)
    page.locator(".heat").first.focus()
    page.keyboard.press("Enter")
    page.wait_for_function("document.querySelector('#sweep-answers h2').textContent.includes('beta 1 · top_k 5')")
    page.locator("#sweep-table [data-setting='base']").press("Enter")
    page.wait_for_function("document.querySelector('#sweep-answers h2').textContent === 'base'")
