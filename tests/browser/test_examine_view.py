"""Examine in a browser: a typed pair is examined, its tokens are coloured by the chosen view, and the figures can be saved."""

import json


def test_a_typed_pair_is_examined_and_read_token_by_token(visit):
    person = visit(query="examine")
    page = person.page
    page.wait_for_selector("#examine-models input")
    for box in page.locator("#examine-models input").all():
        box.set_checked(box.get_attribute("value") in ("tiny-partial", "tiny-full"))
    page.locator("#examine-source").select_option("typed")
    page.locator("#examine-prompt").fill("the food was")
    page.locator("#examine-chosen").fill("<b>great</b> food")
    page.locator("#examine-start").click()
    page.wait_for_selector(".error-note")
    page.locator("#examine-rejected").fill("cold food and more")
    page.locator("#examine-start").click()
    page.wait_for_selector("#examine-figures")
    page.wait_for_selector("#examine-plot .js-plotly-plot")
    assert [th.inner_text() for th in page.locator("#examine-figures thead th").all()] == ["tiny-partial", "tiny-full"]
    page.wait_for_selector("#pair-rejected .tok")
    assert page.locator("#pair-chosen .tokens").inner_text().startswith("<b>great</b> food"), "a text is never markup"
    assert page.locator("#pair-chosen .tok.pos, #pair-chosen .tok.neg").count() > 0
    page.locator("#pair-channel").select_option("attention")
    assert page.locator("#pair-chosen .tok.high").count() > 0
    assert "attention" in page.locator("#pair-chosen .tok").nth(1).get_attribute("aria-label")
    page.locator("#pair-chosen .tok").nth(1).click()
    assert page.locator('#pair-chosen .tok[aria-pressed="true"]').count() == 1
    page.locator("#pair-model").select_option("tiny-full")
    page.wait_for_function("document.querySelector('#pair-model').value === 'tiny-full'")
    with page.expect_download() as download:
        page.locator("#examine-save").click()
    report = json.loads(download.value.path().read_text())
    assert download.value.suggested_filename == "examination.json" and report["num_pairs"] == 1


def test_the_card_of_a_model_leads_to_its_examination(visit):
    page = visit(query="models?model=tiny-full").page
    page.locator("#model-examine").click()
    page.wait_for_selector("#examine-models input")
    assert [box.get_attribute("value") for box in page.locator("#examine-models input:checked").all()] == ["tiny-full"]
