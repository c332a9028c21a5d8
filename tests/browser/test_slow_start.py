"""What a person does before the page has heard from the server."""

import pytest

# every question to the server waits until letGo(), and after holdNext() the next one; heard() is whether all that were asked are answered
HELD = """(() => {
  const real = window.fetch.bind(window);
  let open, next = null;
  const first = new Promise((resolve) => { open = resolve; });
  window.letGo = () => open();
  window.holdNext = () => { next = new Promise((resolve) => { open = resolve; }); };
  const asked = new Set(), answered = new Set();
  document.addEventListener("rgtg:asked", ({ detail }) => asked.add(detail.id));
  document.addEventListener("rgtg:message", ({ detail }) => detail.msg === "process_completed" && answered.add(detail.event_id));
  window.heard = () => asked.size > 0 && [...asked].every((id) => answered.has(id));
  window.fetch = async (input, options) => {
    if (new URL(input.url ?? input, location.href).pathname.endsWith("/queue/join")) {
      const wait = next ?? first;
      next = null;
      await wait;
    }
    return real(input, options);
  };
})();"""
PROMPT, LENGTH, TOP_K, WEIGHT = "#prompt textarea", "#settings-max_new_tokens", "#settings-top_k", "#settings-B-beta"


def heard(person) -> None:
    person.page.evaluate("letGo()")
    person.page.wait_for_function("heard()")
    person.page.evaluate("() => new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))")


def shown(person) -> list[str]:
    return [person.page.locator(name).input_value() for name in (PROMPT, LENGTH, TOP_K, WEIGHT)]


def test_what_was_set_before_the_server_answered_stays(visit):
    person = visit(script=HELD)
    person.page.locator(LENGTH).fill("6")
    person.page.locator(WEIGHT).fill("3.5")
    person.page.locator(PROMPT).fill("the food was")
    heard(person)
    assert shown(person)[:2] + shown(person)[3:] == ["the food was", "6", "3.5"]
    assert person.page.evaluate("document.activeElement.matches('#prompt textarea')")
    person.generate("the food was")
    assert [person.tokens(column) for column in "ABC"] == [6, 6, 6]


def test_who_comes_back_finds_the_page_as_it_was_left_but_for_what_was_changed_meanwhile(visit):
    person, kept = visit(script=HELD), {PROMPT: "my wife and i", LENGTH: "6", TOP_K: "5", WEIGHT: "3.5"}
    heard(person)
    for name, value in kept.items():
        person.page.locator(name).fill(value)
    for name, value in (("", ""), (LENGTH, "7"), (TOP_K, "4"), (WEIGHT, "2.5"), (PROMPT, "the food was")):
        person.page.reload()
        person.opened()
        if name:
            person.page.locator(name).fill(value)
            kept[name] = value
        heard(person)
        assert shown(person) == list(kept.values())
        assert not name or person.page.evaluate("name => document.activeElement.matches(name)", name), name
    person.generate("the food was")
    assert person.tokens("A") == 7


@pytest.mark.parametrize("key", ["", "Escape"])
def test_stop_that_overtakes_generate_stops_it(visit, slow_engine, workbench, key):
    person = visit(script=HELD)
    heard(person)
    person.set("max_new_tokens", 900)
    person.page.locator(PROMPT).fill("the food was")
    person.page.evaluate("holdNext()")
    person.page.locator("#generate").click()
    person.page.keyboard.press(key) if key else person.page.locator("#stop").click()
    person.wait_status("nothing is running")
    person.page.evaluate("letGo()")
    person.wait_status("stopped at")
    assert all(t.stop_reason == "stopped" and len(t.steps) < 300 for t in workbench.comparison(person.comparison_id()).traces)


def test_stop_also_stops_what_was_on_its_way_while_another_ran(visit, slow_engine, workbench):
    person = visit(script=HELD)
    heard(person)
    person.generate(end="", max_new_tokens=900)
    person.page.wait_for_function("document.querySelectorAll('#view-A .tok').length > 5")
    first = person.comparison_id()
    person.page.evaluate("holdNext()")
    person.page.locator("#generate").click()
    person.page.locator("#stop").click()
    person.wait_status("stopped at")
    person.page.evaluate("letGo()")
    person.page.wait_for_function("first => new URL(location.href).searchParams.get('comparison') !== first", arg=first)
    person.wait_status("stopped at")
    both = [workbench.comparison(name) for name in (first, person.comparison_id())]
    assert all(t.stop_reason == "stopped" and len(t.steps) < 300 for comparison in both for t in comparison.traces)


def test_a_page_that_is_left_before_it_was_restored_is_restored_the_next_time(visit):
    person = visit(script=HELD)
    heard(person)
    person.page.locator(LENGTH).fill("6")
    person.page.locator(WEIGHT).fill("3.5")
    for _ in range(2):
        person.page.reload()
        person.opened()
    heard(person)
    assert [shown(person)[i] for i in (1, 3)] == ["6", "3.5"]


def test_a_column_that_was_changed_before_it_was_restored_stays_as_it_is_shown(visit):
    person = visit(script=HELD)
    heard(person)
    page = person.page
    page.locator("#settings-B-method").select_option("cards")
    page.locator("#settings-C-beta").fill("3.5")
    page.reload()
    person.opened()
    page.locator("#settings-B-beta").fill("2.5")  # of the method that the page opens with
    heard(person)
    assert page.locator("#settings-B-method").input_value() == "args" and page.locator("#settings-B-beta").input_value() == "2.5"
    assert page.locator("#settings-C-beta").input_value() == "3.5"
    assert page.evaluate("document.activeElement.id") == "settings-B-beta"
