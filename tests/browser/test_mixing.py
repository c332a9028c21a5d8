"""A mix edited as rows in a column's head: rewards added, weighed, removed; every part of it is seen again beside the tokens."""

import json

import pytest


def spec(person, column: str = "B") -> dict:
    return person.page.evaluate("column => rgtg.currentColumns[column]()", column)


def open_rows(person, column: str = "B") -> None:
    person.page.locator(f"#column-{column} .more summary").click()
    person.page.wait_for_selector(f"#settings-{column}-guides", state="visible")


@pytest.mark.parametrize("width", [1280, 390])
def test_rewards_are_added_weighed_and_removed_and_their_parts_are_shown(visit, width):
    person = visit(width=width)
    page, single = person.page, spec(person)["reward_model"]
    open_rows(person)
    assert page.locator("#settings-B-remove-0").is_disabled(), "a last reward stays"
    page.locator("#settings-B-add-reward").click()
    page.wait_for_selector("#settings-B-guide-1")
    other = page.locator("#settings-B-guide-1").input_value()
    assert other != single and page.locator("#settings-B-guides").is_visible()
    page.locator("#settings-B-weight-1").fill("0.5")
    page.wait_for_function("document.querySelector('#settings-B-mix').textContent.includes('·0.5')")
    assert page.locator("#settings-B-mix").inner_text() == f"{single} + {other}·0.5"
    page.locator("#settings-B-combine").select_option("standardised")
    page.wait_for_function("document.activeElement.id === 'settings-B-combine'")
    assert spec(person)["guides"] == [[single, 1], [other, 0.5]] and spec(person)["combine"] == "standardised"
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), "nothing sticks out"
    page.keyboard.press("Escape")
    page.locator("#prompt textarea").click()
    person.generate(max_new_tokens=5)
    head = page.evaluate("rgtg.views.B.head")
    assert head["guides"] == [[single, 1.0], [other, 0.5]] and head["combine"] == "standardised"
    assert page.locator("#column-B.changed").count() == 0
    page.locator("#view-B .tok").first.click()
    page.wait_for_selector("#inspector td[data-column]")
    columns = set(page.locator("#inspector th").evaluate_all("heads => heads.map((head) => head.dataset.column)"))
    assert {single, other, "β·r"} <= columns, "each part by itself, and what they came to"
    assert f"by {single}" in page.locator("#inspector-sentence").inner_text() and f"by {other}" in page.locator("#inspector-sentence").inner_text()
    assert {single, other} <= set(page.locator("#colour-measure option").evaluate_all("all => all.map((one) => one.value)"))
    page.goto(person.address + f"?comparison={person.comparison_id()}")
    person.opened()
    page.wait_for_function("rgtg.views.B?.head")
    assert spec(person)["guides"] == [[single, 1], [other, 0.5]], "the stored comparison opens with its rows"
    open_rows(person)
    page.locator("#settings-B-combine").select_option("sum")
    page.locator("#settings-B-remove-1").click()
    page.wait_for_selector("#settings-B-reward_model")
    assert not spec(person).get("guides") and spec(person)["reward_model"] == single


def test_a_missing_weight_is_refused_in_its_row(visit):
    person = visit()
    open_rows(person)
    person.page.locator("#settings-B-add-reward").click()
    person.page.wait_for_selector("#settings-B-weight-1")
    person.page.locator("#settings-B-weight-1").fill("")
    person.page.locator("#prompt textarea").fill("x")
    person.page.locator("#generate").click()
    assert "a weight is missing" in person.refused("settings-B-weight-1")
    assert json.dumps(spec(person)["guides"][1][1]) == "null"
