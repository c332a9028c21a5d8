"""Decoding by hand on the page: the starter models, in chromium."""

from collections.abc import Iterator

import pytest
from browser_app import Visitor, serving


@pytest.fixture(scope="module")
def person(browser, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Visitor]:
    """A visitor who has generated with a column by hand."""
    from rgtg.config import STARTER_DIR, Settings
    from rgtg.workbench.workbench import Workbench

    if not (STARTER_DIR / "base-lm" / "config.json").is_file():
        pytest.skip("needs data/starter: python -m rgtg starter")
    bench = Workbench(Settings(data_dir=tmp_path_factory.mktemp("data")))
    bench.start_loading()
    bench.wait_until_ready(120)
    with serving(bench) as address:
        visitor = Visitor(browser, address)
        visitor.page.locator("#settings-columns").select_option("2")
        visitor.page.locator("#settings-B-method").select_option("by-hand")
        visitor.generate(end="", max_new_tokens=6, seed=17)
        visitor.bench = bench
        shows(visitor, 1)
        yield visitor
        visitor.context.close()
        assert not visitor.wrong
    bench.close()


def shows(person: Visitor, num_tokens: int) -> list[str]:
    """Waits for so many tokens in the column and for its table of the last one; returns the tokens."""
    person.page.wait_for_function(
        "n => rgtg.views.B.done && rgtg.views.B.steps.length === n && rgtg.opened()?.column === 'B' && rgtg.opened().index === n - 1"
        " && document.querySelectorAll('#view-B .tok').length === n",
        arg=num_tokens,
    )
    return person.page.evaluate("rgtg.views.B.steps.map((step) => step.t)")


def candidates(person: Visitor) -> list[str]:
    return person.page.evaluate("rgtg.views.B.steps[rgtg.opened().index].c.map((row) => row[1])")


def test_a_click_chooses_a_digit_chooses_and_backspace_takes_back(person: Visitor):
    page = person.page
    (suggested,) = shows(person, 1)
    assert "is a suggestion" in page.locator("#inspector-sentence").inner_text()
    at = next(i for i in (2, 3) if candidates(person)[i] != suggested)
    third = candidates(person)[at]
    page.locator("#inspector .candidates tbody tr").nth(at).locator("button.choose").click()
    assert shows(person, 2)[0] == third != suggested
    second = candidates(person)[1]
    page.keyboard.press("2")  # the table has the focus
    assert shows(person, 3)[:2] == [third, second]
    assert page.locator("#vote-B").get_attribute("aria-pressed") == "false", "a digit is no vote here"
    page.keyboard.press("Backspace")
    assert shows(person, 2)[0] == third and second in candidates(person)
    page.keyboard.press("Backspace")
    assert shows(person, 1) == [suggested]


def test_the_choices_are_stored_as_branches_of_one_another_and_come_back(person: Visitor):
    page = person.page
    fourth = candidates(person)[3]
    page.locator("#inspector .candidates button").first.focus()
    page.keyboard.press("4")
    tokens = shows(person, 2)
    stored = person.bench.comparison(person.comparison_id())
    by_hand = [t for t in stored.traces if t.column == "B"]
    assert by_hand[-1].steps[0].text == fourth == tokens[0] and len(by_hand[-1].run.forced_ids) == 1
    assert by_hand[-1].parent_trace_id == by_hand[-2].id and by_hand[-1].branch_position == 0
    assert page.locator("#column-B .branch-label").count() == 0, "it stays in its column"
    page.reload()
    person.opened()
    page.wait_for_function("rgtg.views.B.steps.length === 2 && rgtg.views.B.done")
    assert page.evaluate("rgtg.views.B.steps.map((step) => step.t)") == tokens
    page.locator("#view-B .tok").first.click()
    page.wait_for_function("document.querySelector('#inspector-sentence').textContent.includes('was chosen by you')")
