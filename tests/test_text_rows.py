"""Rows of a text: strict columns, the layouts of JSON, lines; a row that cannot be read stands in its place."""

import io
import json

import pytest

from rgtg.preferences.text_rows import BadRow, BadText, delimited_rows, delimiter_of, expand, json_rows, line_rows, parse_json

A, B = {"prompt": "a", "chosen": "b"}, {"prompt": "c", "chosen": "d"}


def table(text, delimiter=","):
    return [row if isinstance(row, dict) else row.found for _, row in delimited_rows(io.StringIO(text, newline=""), delimiter)]


def of_json(text, suffix=".json"):
    return [row if not isinstance(row, BadRow) else row.found for _, row in json_rows(io.StringIO(text, newline=""), suffix)]


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("x,y\n1,2,3\n4,5\n", ["It has 3 fields under 2 names.", {"x": "4", "y": "5"}]),
        ("x,y\n1\n4,5\n", ["It has 1 field under 2 names.", {"x": "4", "y": "5"}]),
        ('x,y\n1,"2"3\n4,5\n', ['A quote in it is not closed, or text follows a closing one: `1,"2"3`.', {"x": "4", "y": "5"}]),
        (
            'x,y\n1,"2\n3,4\n5,"6"\n',
            [
                'A quote in it is not closed, or text follows a closing one and runs on over 3 lines: `1,"2`.',
                {"x": "3", "y": "4"},
                {"x": "5", "y": "6"},
            ],
        ),
        (
            'x,y\n1,"2\n3,4\n',
            ['A quote in it is not closed, or text follows a closing one and runs on over 2 lines: `1,"2`.', {"x": "3", "y": "4"}],
        ),
        ('x,y\n"1, 2","3\n""4"""\n\n5,\n', [{"x": "1, 2", "y": '3\n"4"'}, {"x": "5", "y": ""}]),
        (",x\n0,1\n", [{"x": "1"}]),
        ("x\nhello\n", [{"x": "hello"}]),
        ("", []),
    ],
    ids=["extra", "missing", "behind a quote", "lost quote before another", "lost quote", "well made", "an index without a name", "one", "nothing"],
)
def test_columns_are_read_strictly_and_a_bad_row_takes_no_other_with_it(text, found):
    assert table(text) == found


@pytest.mark.parametrize(
    ("head", "delimiter"),
    [
        ("prompt,chosen\n", ","), ("prompt;chosen\na, b, c;d\n", ";"), ("prompt|chosen", "|"), ("prompt\tchosen", "\t"),
        ("prompt\n", ""), ('"prompt";"why, though"', ";"), ("sep=|\nprompt|chosen", "|"),
    ],
)  # fmt: skip
def test_what_parts_the_columns_is_seen_in_the_first_row(head, delimiter):
    assert delimiter_of(head, frozenset({"prompt", "chosen"}), ".csv") == delimiter


@pytest.mark.parametrize(
    "value",
    [
        [A, B],
        {"data": [A, B]},
        {"rows": [{"row_idx": 0, "row": A}, {"row_idx": 1, "row": B}]},
        {"schema": {"fields": []}, "data": [A, B]},
        {"0": A, "1": B},
        {"prompt": {"0": "a", "1": "c"}, "chosen": {"0": "b", "1": "d"}},
        {"prompt": ["a", "c"], "chosen": ["b", "d"]},
        {"columns": ["prompt", "chosen"], "index": [0, 1], "data": [["a", "b"], ["c", "d"]]},
    ],
    ids=["list", "data", "rows of an API", "table", "index", "columns", "lists", "split"],
)
def test_the_layouts_of_pandas_and_of_apis_give_rows(value):
    assert expand(value) == [A, B] == of_json(json.dumps(value)) == of_json(json.dumps(value, indent=1))


TURNS = {"chosen": [{"role": "user", "content": "a"}], "rejected": [{"role": "user", "content": "a"}]}
IDS = {"chosen_ids": [0, 1], "rejected_ids": [0, 2]}


@pytest.mark.parametrize("row", [A, TURNS, IDS, {"turns": ["a", "b"]}, {"prompt": "a", "completions": ["b"], "labels": [True]}])
def test_one_row_is_not_taken_for_columns(row):
    assert of_json(json.dumps(row, indent=1)) == of_json(json.dumps(row)) == of_json(json.dumps(row) + "\n", ".jsonl") == [row]


def test_a_line_of_lists_is_one_row():
    assert of_json('{"chosen": ["a"], "rejected": ["b"]}\n', ".jsonl") == [{"chosen": ["a"], "rejected": ["b"]}]


def test_lines_are_counted_as_lines_and_a_torn_one_stands_in_its_place():
    text = '\n{"a": 1}\r\n{"a": \n\n{"a": "x\u2028y"}\n'
    found = list(json_rows(io.StringIO(text, newline=""), ".jsonl"))
    assert [(number, row if isinstance(row, dict) else row.found) for number, row in found] == [
        (2, {"a": 1}), (3, "It breaks off before its end."), (5, {"a": "x\u2028y"}),
    ]  # fmt: skip
    assert of_json('{"a": \n{"a": 2}\n', ".jsonl") == ["It breaks off before its end.", {"a": 2}]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('{"a": 1, "a": 2}', "The key `a` stands in it twice."),
        ('{"b": {"a": 1, "a": 1}}', "The key `a` stands in it twice."),
        ("[" * 100_000, "nested too deeply"),
        ("9" * 5000, "thousands of digits"),
        ("{'a': 1}", "from character 2 on: `'a': 1}`"),
        ('{"a": 1', "It cannot be read|breaks off"),
    ],
)
def test_json_that_is_none_is_refused_in_words(text, words):
    with pytest.raises(BadRow, match=words):
        parse_json(text)


def test_a_value_over_many_lines_that_breaks_off_is_refused_with_its_place():
    with pytest.raises(BadText, match=r"It cannot be read from line 3, character 1 on"):
        of_json('{\n"a": 1,\n}\n')


def test_lines_are_texts_and_an_object_among_them_is_read():
    found = list(line_rows(io.StringIO('one\n\n two \n{"prompt": "three"}\n{x} four\n{"prompt"\n')))
    assert [row for _, row in found[:4]] == ["one", "two", {"prompt": "three"}, "{x} four"]
    assert found[4][0] == 6 and isinstance(found[4][1], BadRow)
