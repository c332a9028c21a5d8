"""What every handler shares: whatever a browser sends, and whatever a handler answers, ends in words."""

import json

import gradio as gr
import pytest

from pages import access
from pages.columns import read_settings, read_spec
from pages.handlers import guarded, quoted, read_json, read_number, read_text, screen_error, sendable
from pages.training_form import read_options
from pages.voting import read_vote
from rgtg.errors import BadSettings, RgtgError

HALF = "\ud83d"  # of an emoji


@pytest.fixture(autouse=True)
def access_for_everyone(monkeypatch):
    for name in ("stream", "call", "fails", "count", "handler"):
        monkeypatch.setitem(access.ACCESS, f"test_handlers.{name}", access.Row("be tested", access.EVERYONE, access.EVERYONE))


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (None, "There is no prompt. Enter one."),
        (" \n", "There is no prompt. Enter one."),
        (["x"], "There is no prompt. Found ['x']. Enter one."),
        ("x" * 11, "The prompt has 11 characters; the limit is 10. Shorten it."),
        ("ab\0c", "The prompt contains NUL. It is character 3. Remove it, or type the text again."),
        ("a" + HALF, "The prompt contains half of a character. It is character 2. Remove it, or type the text again."),
        ("\ude00" + HALF, "The prompt contains half of a character. It is character 1. Remove it, or type the text again."),
    ],
)
def test_a_text_that_is_none_is_refused_in_words(value: object, words: str):
    with pytest.raises(BadSettings) as refused:
        read_text(value, "prompt", 10)
    assert str(refused.value) == words


def test_a_text_stays_as_it_is():
    for text in (" two\n\ttabs ", "😀 é \u202e", "\x1b[31m"):
        assert read_text(text, "prompt", 20) == text


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (None, "has to be a JSON object"),
        ({"seed": 1}, "has to be a JSON object"),
        ("[]", "has to be a JSON object"),
        ("{", "has to be a JSON object"),
        ('{"a":' * 3000, "has to be a JSON object"),
        ('{"a": ' + "[" * 9000, "has to be a JSON object"),
        ('{"a": ' + "1" * 5000 + "}", "has to be a JSON object"),
        ('{"a": "' + "x" * 20_000 + '"}', "up to 20,000 characters"),
        ('{"a": ' + "[" * 30 + "]" * 30 + "}", "nested too deep"),
        ('{"a": ["\\ud83d"]}', "half of a character"),
        ('{"\\u0000": 1}', "NUL"),
    ],
)
def test_json_that_cannot_be_read_is_refused_in_words(text: object, words: str):
    with pytest.raises(BadSettings, match=rf"The form of this page could not be read\. .*{words}.*Reload the page\."):
        read_json(text, "form")


@pytest.mark.parametrize("value", [10**400, -(10**400), float("inf"), float("nan"), "1", True, None, [1], {"a": 1}, 1.5], ids=quoted)
def test_a_number_that_is_none_is_refused_in_words(value: object):
    with pytest.raises(BadSettings, match=r"`seed` has to be a whole number between 0 and 1,000,000\. Found .{1,45}\. Correct it"):
        read_number(value, "seed", 0, 1_000_000, whole=True)


def test_what_was_found_is_quoted_shortly():
    assert (
        quoted([1]) == "[1]"
        and quoted(10**5000) == "something of the type int"
        and quoted("x" * 100) == "'" + "x" * 39 + " …"
        and quoted(HALF) == r"'\ud83d'"
    )


def test_an_answer_with_half_a_character_is_sent_with_a_sign_in_its_place():
    """It would end the stream of answers without a word."""

    @guarded("Saying", None)
    def stream():
        yield {"words": f"a{HALF}", "list": [f"{HALF}", {"label": f"b{HALF}"}], "number": 5}

    @guarded("Saying", None)
    def call():
        return f"a{HALF}😀"

    assert list(stream()) == [{"words": "a\ufffd", "list": ["\ufffd", {"label": "b\ufffd"}], "number": 5}] and call() == "a\ufffd😀"
    assert sendable(update := gr.Button("x")) is update


def test_messages_can_be_sent_however_odd_and_long_the_words_are():
    @guarded("Reading", None)
    def fails():
        raise RgtgError(f"There is no `{HALF}<b>`.", "Found " + "x" * 5000)

    with pytest.raises(gr.Error) as error:
        fails()
    message = error.value.message
    assert message.startswith("There is no `\ufffd&lt;b&gt;`. Found xxx") and message.endswith("x …") and len(message) < 1100
    assert screen_error(HALF).message == "\ufffd"


def test_known_errors_keep_their_words_and_others_get_a_reference(caplog):
    def fails(error):
        @guarded("Saving", None)
        def handler():
            raise error

        with pytest.raises(gr.Error) as raised:
            handler()
        return raised.value.message

    assert fails(RgtgError("The disk is full.", "", "Free some space.")) == "The disk is full. Free some space."
    assert "<img" not in fails(RgtgError("The branch cannot begin with `<img src=//elsewhere>`."))  # messages are shown as HTML
    words = fails(KeyError("/home/someone/secret"))
    assert "secret" not in words and "reference" in words
    assert words.split("reference ")[1][:4] in caplog.text


def test_a_closed_stream_closes_its_handler():
    ended = []

    @guarded("Counting", None)
    def count():
        try:
            yield 1
            yield 2
        finally:
            ended.append(True)

    stream = count()
    assert next(stream) == 1
    stream.close()
    assert ended == [True]


def test_settings_and_columns_refuse_wrong_types_in_words():
    from test_compare_page import StubWorkbench

    workbench = StubWorkbench()
    good = {"base_lm": "starter", "columns": 1, "seed": 1, "max_new_tokens": 4, "temperature": 1.0, "top_k": 10, "top_p": 1.0}
    assert read_settings(json.dumps(good | {"other": float("inf")}), workbench)["seed"] == 1
    for name in good:
        for value in (10**400, float("inf"), [], {}, None, "x", True):
            with pytest.raises(BadSettings):
                read_settings(json.dumps(good | {name: value}), workbench)
    for column in ({"method": ["base"]}, {"method": {}}, {"method": "pargs", "reward_model": ["partial"]}, {"method": "pargs", "params": [1]}):
        with pytest.raises(BadSettings, match=r"[Cc]olumn A"):
            read_spec(json.dumps(column), "A", workbench, "starter")
    for value in (10**400, float("inf"), [], {"a": 1}, None, "inf"):
        with pytest.raises(BadSettings, match="beta in column A"):
            read_spec(json.dumps({"method": "pargs", "reward_model": "partial", "params": {"beta": value}}), "A", workbench, "starter")


@pytest.mark.parametrize(
    "wrong", [{"verdict": None}, {"verdict": ["best"]}, {"verdict": "x" * 5000}, {"best": 5}, {"best": HALF}, {"seen": "ab"}, {"seen": ["a"] * 65}]
)
def test_a_vote_of_wrong_types_is_refused_in_words(wrong: dict):
    good = {"verdict": "best", "best": "a1", "seen": ["a1", "b2"], "vote_id": "v1", "dwell_ms": 10**400}
    assert read_vote(good) == {"verdict": "best", "best_trace_id": "a1", "seen_trace_ids": ("a1", "b2"), "vote_id": "v1", "dwell_ms": None}
    with pytest.raises(BadSettings, match="vote cannot be read"):
        read_vote(good | wrong)


def test_options_that_are_no_object_do_not_begin_a_training_with_defaults():
    with pytest.raises(BadSettings, match=r"options of the training could not be read. Found \['max_steps'\]"):
        read_options(["max_steps"], None)  # type: ignore[arg-type]


def test_what_a_page_keeps_between_events_is_the_same_object_afterwards():
    kept = {"open": "right", "jobs": [{"name": "left"}, "é"], "n": 1}
    assert sendable({"shown": kept})["shown"] is kept
    assert sendable({"shown": kept, "half": "\ud83d"})["shown"] is kept
    assert sendable([kept, "\ud83d"]) == [kept, "\ufffd"]
