"""Votes as a person gives them: by key right after a start, before the end, undone, and while the app is away."""

import json

import pytest

TYPING = "['TEXTAREA', 'INPUT', 'SELECT'].includes(document.activeElement.tagName)"
BEGUN = "before => (rgtg.views.A.head?.trace ?? '') !== before && rgtg.views.A.steps.length > 0"


def begun(person, start) -> None:
    before = person.page.evaluate("rgtg.views.A.head?.trace ?? ''")
    start()
    person.page.wait_for_function(BEGUN, arg=before)
    person.wait_status("done")


def test_after_every_start_a_key_votes(visit, workbench):
    person = visit()
    keys, page = person.page.keyboard, person.page
    person.set("max_new_tokens", 4)
    example = page.locator("#openings-more option").nth(2).inner_text()
    begun(person, lambda: page.locator("#openings-more").select_option(example))
    keys.press("2")
    person.wait_note("saved: B is best")
    id_before = person.comparison_id()
    keys.press("t")
    person.wait_note("saved: tie")
    assert person.comparison_id() == id_before and page.locator("#view-A .prompt").inner_text() == example
    field = page.locator("#prompt textarea")
    field.fill("the soup was")
    begun(person, lambda: field.press("Control+Enter"))
    keys.press("2")
    person.wait_note("saved: B is best")
    assert field.input_value() == "the soup was"
    assert workbench.comparison(person.comparison_id()).prompt == "the soup was"
    for button in ("#generate", ".opening >> nth=0"):
        begun(person, page.locator(button).click)
        keys.press("1")
        person.wait_note("saved: A is best")


def test_a_key_before_the_answers_votes_on_nothing_and_a_refused_start_gives_the_field_back(visit, workbench):
    person = visit()
    person.generate(max_new_tokens=4)
    before, votes = person.comparison_id(), workbench.num_votes()
    field = person.page.locator("#prompt textarea")
    field.fill("the soup was")

    def at_once() -> None:
        field.press("Control+Enter")
        person.page.keyboard.press("2")  # of the new comparison nothing is there, and the one before is not meant

    begun(person, at_once)
    assert workbench.current_vote(before, person.rater) is None and field.input_value() == "the soup was" and workbench.num_votes() <= votes + 1
    field.fill("   ")
    field.press("Control+Enter")
    person.page.wait_for_selector("#prompt textarea[aria-invalid]")
    person.page.wait_for_function(TYPING)
    person.page.keyboard.type("x")
    assert field.input_value().strip() == "x"


def test_a_vote_before_the_end_says_where_it_stopped_and_one_press_goes_on(visit, slow_engine, workbench, tmp_path):
    person = visit()
    page = person.page
    person.generate(end="", max_new_tokens=40, seed=5)
    page.wait_for_function("document.querySelectorAll('#view-B .tok').length > 5")
    page.keyboard.press("1")
    person.wait_status("stopped at")
    person.wait_note("saved: A is best")
    stopped = workbench.comparison(person.comparison_id())
    longest = max(len(t.steps) for t in stopped.traces)
    assert longest < 40
    assert page.locator("#vote-note").inner_text().endswith(f"stopped at {longest} of 40")
    page.locator("#vote-go-on").click()
    person.wait_status("done")
    person.page.wait_for_function("[...'ABC'].every((letter) => rgtg.views[letter].steps.length === 40)")
    assert page.locator("#vote-A").get_attribute("aria-pressed") == "true" and page.locator("#vote-go-on").is_hidden()
    assert f"A is best, of the first {longest} tokens" in page.locator("#vote-note").inner_text()
    assert page.locator("#view-D .tok").count() == 0 and page.locator("#column-D").is_hidden()
    for trace in stopped.traces:
        assert person.text(trace.column).startswith(trace.response)
    stored = workbench.comparison(stopped.id)
    assert stored.traces[:3] == stopped.traces and workbench.current_vote(stopped.id, person.rater).best_trace_id == stopped.traces[0].id
    rows = [json.loads(line) for line in workbench.export(tmp_path / "pairs.jsonl").path.read_text().splitlines()]
    assert {row["chosen"] for row in rows if row["comparison_id"] == stopped.id} <= {stopped.traces[0].response}
    page.locator("#view-C .tok").nth(2).click()
    page.wait_for_selector("#inspector table")
    page.keyboard.press("2")  # now of all of it
    person.wait_note("saved: B is best · ")
    page.keyboard.press("u")
    person.wait_note("undone: A is best")
    page.reload()
    person.opened()
    page.wait_for_function("rgtg.views.A.steps.length === 40 && document.querySelector('#vote-A').getAttribute('aria-pressed') === 'true'")
    texts = [person.text(letter) for letter in "ABC"]
    person.generate(max_new_tokens=40, seed=5)  # as it would have been without a stop
    assert [person.text(letter) for letter in "ABC"] == texts


def test_what_was_stopped_by_hand_goes_on_too(visit, slow_engine, workbench):
    person = visit()
    person.generate(end="", max_new_tokens=30)
    person.page.wait_for_function("rgtg.views.A.steps.length > 3")
    person.page.locator("#stop").click()
    person.wait_note("stopped at")
    assert "saved" not in person.page.locator("#vote-note").inner_text()
    person.page.locator("#vote-go-on").click()
    person.wait_status("done, 30 tokens")


def test_undo_goes_back_to_the_vote_before_and_a_skip_is_not_counted(visit, workbench):
    person = visit()
    person.generate(max_new_tokens=4)
    keys, votes = person.page.keyboard, workbench.num_votes()
    for key, letter in (("1", "A"), ("2", "B")):
        keys.press(key)
        person.wait_note(f"saved: {letter} is best · {votes + 1} vote")
    keys.press("u")
    person.wait_note(f"undone: A is best again · {votes + 1} vote")
    assert person.page.locator("#vote-A").get_attribute("aria-pressed") == "true"
    keys.press("u")
    person.wait_note(f"undone · {votes} vote")
    assert person.page.locator("#vote [aria-pressed=true]").count() == 0
    keys.press("s")
    person.wait_note(f"saved: skipped · {votes} vote")


@pytest.mark.parametrize("reloaded", [False, True])
def test_a_vote_while_the_app_is_away_is_kept_and_stored_once(visit, workbench, reloaded: bool):
    person = visit()
    page = person.page
    person.generate(max_new_tokens=4)
    page.wait_for_timeout(300)
    comparison, rows = person.comparison_id(), len(workbench.store.votes(person.comparison_id()))
    away = lambda route: route.abort()  # noqa: E731
    for path in ("**/queue/join*", "**/app_id"):
        page.route(path, away)
    page.keyboard.press("2")
    person.wait_note("not saved yet")
    page.keyboard.press("3")
    page.keyboard.press("u")
    page.wait_for_timeout(200)
    assert page.locator("#vote-note").inner_text().startswith("not saved yet") and len(workbench.store.votes(comparison)) == rows
    page.unroute_all()
    if reloaded:  # by Gradio, when the app is there again, or by hand
        page.reload()
    person.wait_note("undone: B is best again")
    page.wait_for_timeout(500)
    verdicts = [(v.verdict, v.best_trace_id) for v in workbench.store.votes(comparison)[rows:]]
    second, third = (t.id for t in workbench.comparison(comparison).traces[1:3])
    assert verdicts == [("best", second), ("best", third), ("withdrawn", None), ("best", second)], "each once, in order"
    assert page.locator("#vote-B").get_attribute("aria-pressed") == "true"
    person.wrong.clear()  # a request that fails is said on the console by the browser


def test_a_vote_whose_answer_is_lost_is_stored_once(visit, workbench):
    person = visit()
    page = person.page
    person.generate(max_new_tokens=4)
    page.wait_for_timeout(300)
    comparison = person.comparison_id()
    page.route("**/queue/data*", lambda route: route.abort())  # the vote arrives, its answer does not
    page.keyboard.press("2")
    for _ in range(50):
        page.wait_for_timeout(100)
        if workbench.store.votes(comparison):
            break
    page.unroute_all()
    person.wait_note("saved: B is best")
    assert [v.verdict for v in workbench.store.votes(comparison)] == ["best"]
    person.wrong.clear()
