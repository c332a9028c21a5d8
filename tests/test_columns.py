"""Common layouts are recognised by their names and said; others are read as a person names their columns."""

import json
import re

import pytest

from rgtg.errors import BadData, BadSettings
from rgtg.preferences.columns import Columns, fetch
from rgtg.preferences.formats import read

GOOD, BAD = "A warm drink.", "No idea."


def reading(tmp_path, *rows, columns=""):
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return read(path, columns=columns)


def turns(answer):
    return [{"role": "user", "content": "Tea?"}, {"role": "assistant", "content": answer}]


PAIRS = {
    "alpaca": {"instruction": "Answer.", "input": "Tea?", "chosen": GOOD, "rejected": BAD},
    "intel": {"system": "", "question": "Tea?", "chosen": GOOD, "rejected": BAD},
    "arena": {"model_a": "m", "model_b": "n", "winner": "model_b", "conversation_a": turns(BAD), "conversation_b": turns(GOOD), "turn": 1},
    "lmarena": {
        "prompt": '["Tea?"]', "response_a": json.dumps([BAD]), "response_b": json.dumps([GOOD]),
        "winner_model_a": 0, "winner_model_b": 1, "winner_tie": 0,
    },
    "texts and a winner": {"prompt": "Tea?", "response_a": GOOD, "response_b": BAD, "winner": "A"},
    "SHP": {"history": "Tea?", "human_ref_A": GOOD, "human_ref_B": BAD, "labels": 1, "score_A": 9, "score_B": 2},
    "WebGPT": {"question": {"full_text": "Tea?"}, "answer_0": BAD, "answer_1": GOOD, "score_0": -0.5, "score_1": 0.5},
    "PKU-SafeRLHF": {"prompt": "Tea?", "response_0": BAD, "response_1": GOOD, "better_response_id": 1, "safer_response_id": 0},
    "HelpSteer3": {"context": [{"role": "user", "content": "Tea?"}], "response1": GOOD, "response2": BAD, "overall_preference": -2},
    "AlpacaFarm": {"instruction": "Tea?", "input": "", "output_1": BAD, "output_2": GOOD, "preference": 2},
    "summaries": {"info": {"post": "Tea?"}, "summaries": [{"text": BAD}, {"text": GOOD}], "choice": 1},
    "FastChat": {"type": "leftvote", "states": [{"messages": [["Human", "Tea?"], ["Assistant", answer]]} for answer in (GOOD, BAD)]},
    "Label Studio": {"data": {"prompt": "Tea?", "answer1": BAD, "answer2": GOOD}, "annotations": [{"result": [{"value": {"selected": "right"}}]}]},
    "Argilla": {
        "fields": {"prompt": "Tea?", "response-1": GOOD, "response-2": BAD}, "responses": {"preference": [{"value": "response-1", "user_id": "u"}]},
    },
    "a tree": {"prompt": {"text": "Tea?", "replies": [{"text": BAD, "rank": 1}, {"text": GOOD, "rank": 0}]}},
    "Nectar": {"prompt": "Tea?", "answers": [{"answer": BAD, "rank": 2.0}, {"answer": GOOD, "rank": 1.0}]},
    "UltraFeedback": {"instruction": "Tea?", "completions": [{"response": BAD, "overall_score": 3.0}, {"response": GOOD, "overall_score": 8.5}]},
    "distilabel": {"input": "Tea?", "generations": [BAD, GOOD], "rating": [1, 4]},
    "candidates": {"prompt": "Tea?", "candidates": [{"text": BAD, "score": 0.1}, {"text": GOOD, "score": 0.9}]},
}  # fmt: skip


@pytest.mark.parametrize("layout", PAIRS)
def test_a_common_layout_gives_the_better_answer_over_the_worse(tmp_path, layout):
    found = reading(tmp_path, PAIRS[layout])
    (example,) = found.examples
    assert (example.chosen, example.rejected) == (GOOD, BAD)
    assert "Tea?" in (example.prompt if isinstance(example.prompt, str) else example.prompt[-1][1])
    assert found.read_as


def test_several_scored_answers_give_every_pair_that_differs_and_ties_are_counted(tmp_path):
    row = {"instruction": "q", "completions": [{"response": text, "overall_score": score} for text, score in zip("abcd", (1, 3, 3, 2), strict=True)]}
    found = reading(tmp_path, row)
    assert sorted((e.chosen, e.rejected) for e in found.examples) == [("b", "a"), ("b", "d"), ("c", "a"), ("c", "d"), ("d", "a")]
    assert dict(found.left_out) == {"even": 1}
    assert found.read_as == "4 scored answers a row, ties left out (UltraFeedback)"


def test_answers_in_rows_of_their_own_are_compared_by_their_prompt(tmp_path):
    rows = [
        {"prompt": p, "response": r, "helpfulness": h, "verbosity": 1} for p, r, h in (("q", "a", 4), ("q", "b", 1), ("q", "c", 4), ("s", "d", 2))
    ]
    found = reading(tmp_path, *rows)
    assert [(e.row, e.prompt, e.chosen, e.rejected) for e in found.examples] == [(1, "q", "a", "b"), (3, "q", "c", "b")]
    assert dict(found.left_out) == {"even": 1, "alone": 1} and found.num_rows == 4 and found.not_read == ("verbosity",)


def test_steps_are_labelled_texts_that_grow(tmp_path):
    found = reading(tmp_path, {"prompt": "q", "completions": ["one", "two"], "labels": [True, False]})
    assert [(e.response, e.label) for e in found.examples] == [("one", 1.0), ("one\ntwo", 0.0)]


@pytest.mark.parametrize("winner", ["tie", "tie (bothbad)", "both_bad", "Tie", "neither"])
def test_a_tie_is_left_out(tmp_path, winner):
    row = {"prompt": "q", "response_a": "x", "response_b": "y", "winner": "b"}
    found = reading(tmp_path, row, row | {"winner": winner})
    assert [(e.chosen, e.rejected) for e in found.examples] == [("y", "x")] and dict(found.left_out) == {"even": 1}


@pytest.mark.parametrize("value", [1, "model_c", None, True, 0.5])
def test_a_winner_that_names_no_answer_is_refused(tmp_path, value):
    with pytest.raises(BadData, match="Row 1 .*`winner` is .*"):
        reading(tmp_path, {"prompt": "q", "response_a": "x", "response_b": "y", "winner": value})


@pytest.mark.parametrize(
    ("row", "columns"),
    [
        ({"q": "Tea?", "one": BAD, "two": GOOD, "better": 2}, "prompt=q,a=one,b=two,winner=better:1|2"),
        ({"q": "Tea?", "one": BAD, "two": GOOD, "better": "two"}, "prompt=q, a=one, b=two, winner=better"),
        ({"q": "Tea?", "one": BAD, "two": GOOD, "s": 1, "t": 2.5}, "prompt=q,a=one,b=two,score_a=s,score_b=t"),
        ({"q": {"text": "Tea?"}, "all": [{"t": BAD, "s": 1}, {"t": GOOD, "s": 2}]}, "prompt=q.text,answers=all.t,scores=all.s"),
        ({"q": "Tea?", "all": [BAD, GOOD], "place": [2, 1]}, "prompt=q,answers=all,ranks=place"),
        ({"head": "Tea", "body": "please.", "good one": GOOD, "bad.one": BAD}, "prompt=head+body,chosen=good one,rejected=bad.one"),
    ],
)
def test_columns_are_read_as_a_person_names_them(tmp_path, row, columns):
    (example,) = reading(tmp_path, row, columns=columns).examples
    assert (example.chosen, example.rejected) == (GOOD, BAD)
    assert example.prompt in ("Tea?", "Tea\nplease.")


def test_named_columns_go_before_what_is_recognised(tmp_path):
    row = {"prompt": "q", "chosen": "a", "rejected": "b"}
    (example,) = reading(tmp_path, row, columns="prompt=prompt,chosen=rejected,rejected=chosen").examples
    assert (example.chosen, example.rejected) == ("b", "a")


@pytest.mark.parametrize(
    ("columns", "words"),
    [
        ("best=a", "`best=a` of the columns cannot be read. The parts of a row are prompt, system, chosen"),
        ("prompt", "`prompt` of the columns cannot be read"),
        ("prompt=a,prompt=b", "`prompt=b` of the columns cannot be read"),
        ("prompt=q,a=x,b=y", "The columns name no preference. Found prompt, a, b. Give chosen and rejected; a, b and winner"),
    ],
)
def test_columns_that_name_no_preference_are_refused(columns, words):
    with pytest.raises(BadSettings, match=re.escape(words)):
        Columns.of(columns)


def test_a_column_that_is_not_there_is_named_with_the_row(tmp_path):
    with pytest.raises(BadData, match=r"Row 1 .*There is no `q.c` in it. `q` has `b`"):
        reading(tmp_path, {"q": {"b": "x"}, "one": "a", "two": "b"}, columns="prompt=q.c,chosen=one,rejected=two")


def test_a_place_goes_into_objects_and_lists():
    row = {"a": [{"b": 1}, {"b": 2}], "c.d": 3, "e": {"f": [4, 5]}}
    assert (fetch(row, "a.b"), fetch(row, "c.d"), fetch(row, "e.f.1"), fetch(row, "a.1.b")) == ([1, 2], 3, 5, 2)
