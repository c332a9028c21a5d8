"""Help, and how a method is found: groups of methods with a sentence each, the page that describes them all, links to it."""

import pytest

from rgtg.guidance.methods import METHODS, by_group


@pytest.mark.parametrize("width", [1280, 390])
def test_help_opens_from_the_foot_and_describes_every_method_and_keeps_to_the_width(visit, width):
    person = visit(width=width)
    person.page.locator("#foot a", has_text="Help").click()
    person.page.wait_for_selector("#methods")
    for key, method in METHODS.items():
        assert method.about in person.page.locator(f"#methods-{key}").inner_text()
    assert person.page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    assert person.page.locator("#methods-rad a", has_text="arXiv 2310.09520").get_attribute("href") == "https://arxiv.org/abs/2310.09520"
    person.page.locator("#foot a[aria-current=page]").wait_for()


def test_a_link_to_a_method_shows_it_and_so_do_the_contents(visit):
    page = visit(query="help#methods-cards").page
    in_sight = "id => { const { top } = document.getElementById(id).getBoundingClientRect(); return top >= -4 && top < innerHeight / 2; }"
    page.wait_for_selector("#methods-cards")
    page.wait_for_function(in_sight, arg="methods-cards")
    page.locator(".contents a", has_text="GenARM").first.click()
    page.wait_for_function(in_sight, arg="methods-genarm")


def test_the_picker_of_methods_is_grouped_and_says_what_the_chosen_one_does(visit):
    page = visit().page
    picker = page.locator("#settings-B-method")
    groups = picker.evaluate("node => [...node.children].map((group) => [group.label, [...group.children].map((option) => option.value)])")
    assert groups == [[title, [m.key for m in members]] for title, members in by_group(METHODS.values()).items()]
    picker.select_option("fudge")
    assert page.locator("#settings-B .unit").inner_text() == "× log σ(r)"
    picker = page.locator("#settings-B-method")
    picker.hover()
    assert METHODS["fudge"].about in page.locator("#token-tip").inner_text()
    page.locator("#generate").hover()
    assert page.locator("#token-tip").is_hidden()
    page.keyboard.press("Tab")
    picker.press("ArrowDown")
    assert METHODS["cd"].about in page.locator("#token-tip").inner_text()
    assert picker.get_attribute("aria-description") == METHODS["cd"].about
    page.locator("#settings-B .more summary").click()
    assert page.locator("#settings-B .popover a").get_attribute("href") == "./help#methods-cd"
