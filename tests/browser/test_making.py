"""A reward is made on the page Models: its form, a trial, what is refused beside which field, and the picker of Compare."""

import pytest


@pytest.fixture
def maker(visit, workbench):
    person = visit(query="models")
    person.page.locator("#made-form summary").click()
    person.page.wait_for_selector("#made-kind", state="visible")
    yield person
    for name in workbench.library.made.names():
        workbench.library.delete_made(name)


def test_a_rule_is_tried_made_compared_with_and_deleted(maker, visit):
    page = maker.page
    page.locator("#made-kind").select_option("words")
    page.locator("#made-words").fill("great 1\nrude -2.5")
    page.locator("#made-try-response").fill("great, great and rude")
    page.locator("#try-reward").click()
    page.wait_for_selector("#made-tried .made-token")
    assert "Reward of the text: −0.50" in page.locator("#made-tried").inner_text()
    page.locator("#made-name").fill("nice <b>words")
    page.locator("#make-reward").click()
    page.wait_for_function("document.querySelector('#made-note').textContent.includes('was made')", timeout=30_000)
    page.wait_for_function("document.querySelector('#model-card h2')?.textContent === 'nice <b>words'")
    compare = visit()
    listed = "[...document.querySelectorAll('#settings-B-reward_model option')].some((option) => option.text === 'nice <b>words')"
    compare.page.wait_for_function(listed, timeout=30_000)  # the pickers are filled once the page has loaded
    compare.page.locator("#settings-B-reward_model").select_option("nice <b>words")
    compare.generate(max_new_tokens=4)
    assert compare.page.evaluate("rgtg.views.B.head.guide") == "nice <b>words"
    page.locator("#delete-model").click()
    page.locator("#delete-sure").click()
    page.wait_for_function("document.querySelector('#model-card').textContent.includes('was deleted')")


@pytest.mark.parametrize(
    ("kind", "fields", "wrong", "words"),
    [
        ("length", {"name": ""}, "made-name", "`name` is empty"),
        ("pattern", {"name": "x", "pattern": "(a"}, "made-pattern", "no regular expression"),
        ("follow-up", {"name": "x", "good": "ok"}, "made-bad", "`bad` is empty"),
        ("words", {"name": "x", "words": "great one"}, "made-words", "is not a number"),
    ],
)
def test_what_is_wrong_is_said_beside_its_field(maker, kind, fields, wrong, words):
    maker.page.locator("#made-kind").select_option(kind)
    for name, text in fields.items():
        maker.page.locator(f"#made-{name}").fill(text)
    maker.page.locator("#make-reward").click()
    assert words in maker.refused(wrong)
