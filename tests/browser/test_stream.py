"""What a comparison sends: each line of a column's text once."""

KEPT = "() => { window.kept = []; document.addEventListener('rgtg:message', ({ detail }) => kept.push(JSON.stringify(detail))); }"


def test_no_text_is_sent_twice(visit, slow_engine):
    person = visit()
    person.page.evaluate(KEPT)
    person.generate(max_new_tokens=20)
    person.page.wait_for_function("kept.some((message) => JSON.parse(message).msg === 'process_completed')")
    messages = person.page.evaluate("kept")
    for column in "ABC":
        trace = person.page.evaluate(f"rgtg.views.{column}.head.trace")
        headers = sum(message.count(f'\\"trace\\":\\"{trace}\\"') for message in messages)
        assert headers == 1, "a header comes again with a text that is sent anew"
    assert len(messages) > 6, "it came in pieces"
