"""The address, Back, other pages: nothing of what a person had on the page is lost, and leaving it is no error."""


def leave_and_come_back(person, by: str) -> None:
    person.page.get_by_role("link", name="Models").click()
    person.page.wait_for_selector("#model-list button")
    person.page.go_back() if by == "back" else person.page.get_by_role("link", name="Compare").click()
    person.opened()


def test_coming_back_from_another_page_finds_everything_as_it_was(visit, workbench):
    person = visit()
    page = person.page
    for by in ("link", "back"):
        person.generate("my wife and i", max_new_tokens=5, seed=77)
        shown = person.comparison_id()
        text = person.text("C")
        page.locator("#settings-C-beta").fill("3.5")
        page.locator("#settings-A-method").select_option("best-of-n")
        page.locator("#settings-columns").select_option("4")
        page.locator("#settings-temperature").fill("0.4")
        page.locator("#prompt textarea").fill("the service was")
        leave_and_come_back(person, by)
        page.wait_for_function("document.querySelector('#prompt textarea').value === 'the service was'")
        page.wait_for_function("document.querySelectorAll('#view-C .tok').length === 5")
        assert person.text("C") == text and person.comparison_id() == shown
        assert page.locator("#settings-A-method").input_value() == "best-of-n" and page.locator("#settings-C-beta").input_value() == "3.5"
        values = [page.locator(f"#settings-{name}").input_value() for name in ("seed", "max_new_tokens", "temperature", "columns")]
        assert values == ["77", "5", "0.4", "4"]
        assert page.locator("#column-D").is_visible()
        page.locator("#settings-A-method").select_option("base")
        page.locator("#settings-columns").select_option("3")


def test_a_prompt_that_was_never_run_is_there_after_another_page(visit):
    person = visit()
    person.page.locator("#prompt textarea").fill("half a prom")
    leave_and_come_back(person, "link")
    person.page.wait_for_function("document.querySelector('#prompt textarea').value === 'half a prom'")


def test_back_and_forward_walk_the_comparisons_and_the_title_names_the_prompt(visit, workbench):
    person = visit()
    page, seen = person.page, []
    for prompt in ("the food was", "my wife and i", "the service was"):
        person.generate(prompt, max_new_tokens=4)
        page.wait_for_function("id => new URL(location.href).searchParams.get('comparison') !== id", arg=seen[-1][1] if seen else "")
        page.wait_for_function("prompt => document.title === `${prompt} – rgtg`", arg=prompt)
        seen.append((prompt, person.comparison_id(), person.text("B")))
    page.keyboard.press("2")
    person.wait_note("saved: B is best")

    def at(prompt: str, comparison: str, text: str) -> None:
        page.wait_for_function("prompt => document.title === `${prompt} – rgtg`", arg=prompt)
        assert person.comparison_id() == comparison and person.text("B") == text
        assert page.locator("#prompt textarea").input_value() == prompt

    for earlier in (1, 0):
        page.go_back()
        at(*seen[earlier])
        assert page.locator("#vote [aria-pressed=true]").count() == 0
    page.go_back()
    page.wait_for_function("document.title === 'rgtg' && document.querySelectorAll('.tokens .tok').length === 0")
    assert page.locator("#vote-A").is_disabled()
    for later in (0, 1, 2):
        page.go_forward()
        at(*seen[later])
    page.wait_for_function("document.querySelector('#vote-B').getAttribute('aria-pressed') === 'true'")
    page.keyboard.press("1")
    person.wait_note("saved: A is best")
    assert workbench.current_vote(seen[2][1], person.rater).best_trace_id == workbench.comparison(seen[2][1]).traces[0].id


def test_back_while_text_is_written_stops_it_and_shows_the_one_before(visit, slow_engine, workbench):
    person = visit()
    person.generate(max_new_tokens=4)
    first, text = person.comparison_id(), person.text("B")
    person.generate("my wife and i", end="", max_new_tokens=900)
    person.page.wait_for_function("rgtg.views.B.steps.length > 5")
    second = person.comparison_id()
    person.page.go_back()
    person.page.wait_for_function("document.querySelectorAll('#view-B .tok').length === 4")
    person.page.wait_for_timeout(500)
    assert (person.comparison_id(), person.text("B")) == (first, text)
    assert {t.stop_reason for t in workbench.comparison(second).traces} == {"stopped"}
    assert person.page.locator("#prompt textarea").input_value() == "the food was"


def test_leaving_and_reloading_while_text_is_written_is_no_error(visit, slow_engine):
    """What went wrong on the console fails the test: `visit` looks at it."""
    person = visit()
    for leave in (person.page.reload, lambda: person.page.get_by_role("link", name="Train").click(), lambda: person.page.goto("about:blank")):
        person.generate(end="", max_new_tokens=900)
        person.page.wait_for_function("rgtg.views.B.steps.length > 5")
        leave()
        person.page.wait_for_timeout(400)
        person.page.goto(person.address)
        person.opened()


def test_an_earlier_comparison_is_found_in_the_drawer_and_on_the_data_page(visit):
    person = visit()
    page = person.page
    for prompt in ("the soup was", "their waiter said"):
        person.generate(prompt, max_new_tokens=32)  # of a few, all answers may be the same, and no pair
        page.keyboard.press("2")
        person.wait_note("saved: B is best")
    text = person.text("B")
    page.keyboard.press("h")
    page.wait_for_selector("#history a.prompt[aria-current]")
    assert page.evaluate("document.activeElement.id") == "history-search"
    page.keyboard.type("soup")
    found = "[...document.querySelectorAll('#history a.prompt')].map((a) => a.text)"
    found = f"((all) => all.length && all.every((prompt) => prompt === 'the soup was'))({found})"
    page.wait_for_function(found)
    page.locator("#history a.prompt").first.click()
    page.wait_for_function("rgtg.views.B?.head?.prompt === 'the soup was' && document.title.startsWith('the soup was')")
    assert page.locator("#vote-B").get_attribute("aria-pressed") == "true" and page.locator("#prompt textarea").input_value() == "the soup was"
    page.go_back()
    page.wait_for_function("rgtg.views.B?.head?.prompt === 'their waiter said'")
    assert person.text("B") == text
    page.locator("#history-search").focus()
    page.keyboard.press("Escape")
    page.wait_for_selector("#history-search", state="hidden")
    assert page.evaluate("document.activeElement.id") != "history-search"

    page.locator("#history-open").click()
    page.locator("#history").get_by_role("link", name="all data").click()
    page.wait_for_selector("#comparisons a.prompt")
    page.locator("#comparisons a.prompt", has_text="their waiter said").first.click()
    page.wait_for_selector("#inspected .pairs")
    page.locator("#inspected .pairs .exclude").first.click()
    page.keyboard.type("both are <b>wrong</b>")
    page.keyboard.press("Enter")
    page.wait_for_selector("#inspected .include")
    assert "excluded: both are <b>wrong</b>" in page.locator("#inspected .pairs").inner_text()
    page.locator("#inspected .include").click()
    page.wait_for_selector("#inspected .include", state="detached")
    page.locator("#inspected-open").click()
    person.opened()
    page.wait_for_function("rgtg.views.B?.head?.prompt === 'their waiter said'")
