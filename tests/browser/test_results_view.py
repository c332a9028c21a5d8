"""The Results page in a browser: the board of votes, a reward model against people, files, and files that open from disk."""

from dataclasses import replace

import pytest
from browser_app import Visitor, serving
from test_axe import RUN, THEMES, axe  # noqa: F401

from rgtg.config import Settings
from rgtg.workbench.workbench import Workbench
from tests.store_records import make_vote
from tests.test_results import compared

HOSTILE = "</script><img src=x onerror=alert(1)> ${alert(1)} `"


@pytest.fixture(scope="module")
def voted(tmp_path_factory):
    """The address of an app with 30 votes, in one of them the judge is for another answer than the rater; its text is hostile."""
    workbench = Workbench(Settings(data_dir=tmp_path_factory.mktemp("voted")))
    for i in range(30):
        made = compared(f"c{i}", prompt=f"prompt {i}")
        if i == 7:
            steps = tuple(replace(step, text=HOSTILE, rewards=(("judge", 9.0),)) for step in made.traces[0].steps)
            made = replace(made, traces=(replace(made.traces[0], steps=steps, response=HOSTILE), *made.traces[1:]))
        workbench.store.add_comparison(made, make_vote(f"v{i}", f"c{i}", "CB"[i % 3 == 0], "ABC"))
    with serving(workbench) as address:
        yield address
    workbench.close()


class Reader(Visitor):
    def opened(self) -> None:
        self.page.wait_for_selector("#against-people .disagreement, #results .nobody", timeout=60_000)


@pytest.fixture
def read(browser, voted):
    people = []

    def read(theme: str = "") -> Reader:
        people.append(Reader(browser, voted, query="results" + theme))
        return people[-1]

    yield read
    for person in people:
        person.context.close()
    assert not [line for person in people for line in person.wrong]


def test_the_board_and_the_reward_models_are_there_and_fit_a_telephone(read):
    page = read().page
    assert page.locator("#leaderboard tbody tr").count() == 3
    assert page.locator("#results figure svg").count() == 4
    row = page.locator(".disagreement")
    assert row.count() == 1 and HOSTILE in row.inner_text() and "people · " in row.inner_text()
    assert row.locator("a").get_attribute("href") == "./?comparison=c7"
    page.locator("#results-length").check()
    page.wait_for_function("document.querySelector('#results-facts').textContent.includes('strengths are at equal length')")
    page.locator("#results-by").select_option("setting")
    page.wait_for_function(
        "document.querySelector('#results-by').value === 'setting' && !document.querySelector('#results-status .drawn').textContent"
    )
    page.set_viewport_size({"width": 390, "height": 844})
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")


def test_files_are_saved_and_a_comparison_opens_from_disk_without_the_app(read, browser, axe, tmp_path):  # noqa: F811
    page = read().page
    with page.expect_download() as csv:
        page.locator("#results-save").click()
    assert "pargs · partial*2" in csv.value.path().read_text(encoding="utf-8")
    with page.expect_download() as png:
        page.locator("#results figure button").first.click()
    assert png.value.path().read_bytes().startswith(b"\x89PNG")
    with page.expect_download() as saved:
        page.locator(".disagreement button").click()
    saved.value.save_as(tmp_path / "one.html")
    context = browser.new_context(offline=True)
    wrong: list[str] = []
    alone = context.new_page()
    alone.on("pageerror", lambda error: wrong.append(str(error)))
    alone.on("console", lambda message: message.type == "error" and wrong.append(message.text))
    alone.on("dialog", lambda dialog: (wrong.append(dialog.message), dialog.dismiss()))
    alone.goto((tmp_path / "one.html").as_uri())
    token = alone.locator(".column").first.locator(".tok").first
    assert token.text_content() == HOSTILE and "pos" in token.get_attribute("class")
    token.click()
    assert alone.locator("#why tbody tr").count() == 2 and "reward 9.00 by judge" in alone.locator("#why").inner_text()
    token.press("ArrowRight")
    assert "token 2 of 2" in alone.locator("#why").inner_text() and alone.locator("svg polyline").count() == 3 + 2, (
        "a line for each answer that the judge and the guide scored"
    )
    alone.evaluate(axe)
    assert alone.evaluate(RUN, {}) == []
    context.close()
    assert wrong == []


@pytest.mark.parametrize("theme", THEMES)
def test_axe_finds_nothing_on_a_page_with_results(read, voted, axe, theme):  # noqa: F811
    page = read(theme=THEMES[theme]).page
    page.evaluate(axe)
    assert page.evaluate(RUN, {}) == []
