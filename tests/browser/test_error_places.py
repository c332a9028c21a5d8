"""An error stands beside what it speaks of, covers nothing, and goes when it is mended or after a success."""

COVERED = """note => [...document.querySelectorAll("button, input, select, textarea")].filter((e) => {
  if (!e.checkVisibility() || note.contains(e)) return false; // nor what a closed popover holds
  const a = e.getBoundingClientRect(), b = note.getBoundingClientRect();
  return a.left < b.right && b.left < a.right && a.top < b.bottom - 1 && b.top < a.bottom - 1;
}).map((e) => e.id)"""


def covered(person) -> list[str]:
    return person.page.locator(".error-note").evaluate(COVERED)


def test_a_number_out_of_range_is_said_beside_it_until_it_is_mended(visit):
    for width in (1280, 390):
        person = visit(width=width)
        person.page.locator("#prompt textarea").fill("the food was")
        for name, wrong, right in (("temperature", "99", "1"), ("B-beta", "77", "2")):
            person.set(name, wrong)
            person.page.locator("#generate").click()
            assert f"Found {wrong}" in person.refused(f"settings-{name}")
            assert covered(person) == [] and person.page.locator(".toast-body").count() == 0
            note, field = (person.page.locator(where).bounding_box() for where in (".error-note", f"#settings-{name}"))
            assert 0 <= note["y"] - field["y"] - field["height"] < 60, "right below"
            person.set("seed", 5)
            assert person.page.locator(".error-note").count() == 1, "another input mends nothing"
            person.set(name, right)
            assert person.page.locator(".error-note").count() == 0
            assert person.page.locator(f"#settings-{name}").get_attribute("aria-describedby") is None


def test_an_error_goes_after_a_success(visit):
    person = visit(query="?comparison=nothing-by-that-id")
    person.page.wait_for_selector(".topline + .error-note")
    person.page.locator("#generate").click()
    person.page.wait_for_selector("#prompt + .error-note")
    assert person.page.locator(".error-note").count() == 2
    person.page.locator("#openings button").first.click()  # it fills the prompt in
    person.wait_status("done")
    assert person.page.locator(".error-note").count() == 0


def test_the_words_of_an_error_are_text_and_can_be_closed(visit, workbench, monkeypatch):
    from rgtg.errors import BadSettings

    person = visit()
    hostile = "<img src=x onerror=alert(1)> & `<b>`"
    monkeypatch.setattr(workbench, "compare", lambda *_, **__: (_ for _ in ()).throw(BadSettings(hostile)))
    person.page.locator("#prompt textarea").fill("the food was")
    for _ in range(2):
        person.page.locator("#generate").click()
        person.page.wait_for_selector(".go-row + .error-note")
        assert person.page.locator(".error-note span").inner_text() == hostile and covered(person) == []
        person.page.wait_for_timeout(500)  # a double click is passed over
    person.page.locator(".error-note button").click()
    assert person.page.locator(".error-note").count() == 0


def test_a_form_that_is_drawn_anew_keeps_the_words(visit):
    person = visit(query="train")
    person.page.locator("#train-more summary").click()
    person.page.locator("#train-eval_fraction").fill("0.95")
    person.page.locator("#train-more summary").click()
    person.page.locator("#train-start").click()
    assert "`eval_fraction` has to be between 0 and 0.9" in person.refused("train-eval_fraction")
    assert person.page.locator(".error-note").is_visible(), "its part of the form was opened"
    person.page.locator("#train-objective").select_option("full")
    assert "`eval_fraction` has to be" in person.refused("train-eval_fraction")
    person.page.locator("#train-eval_fraction").fill("0.2")
    assert person.page.locator(".error-note").count() == 0
    person.page.locator("#train-name").fill("tiny-full")
    person.page.locator("#train-start").click()
    assert "is taken" in person.refused("train-name") and covered(person) == []
