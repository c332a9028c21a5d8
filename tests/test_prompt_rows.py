"""Prompts are read from any container, as the text that a row asks with, and never as an object written out."""

import json
import re

import pytest

from rgtg.errors import BadData
from rgtg.preferences.prompt_rows import read_prompts


def write(tmp_path, content, name="prompts.jsonl"):
    path = tmp_path / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.txt", "one\n\n two \n"),
        ("a.txt", "\ufeffone\r\ntwo\r\n"),
        ("a.txt", "one\rtwo"),
        ("a.txt", "one\ntwo".encode("utf-16")),
        ("a", "one\ntwo\n"),
        ("a.txt", '{"prompt": "one"}\n{"prompt": "two"}\n'),
        ("a.jsonl", '\ufeff{"prompt": "one"}\n{"prompt": "two", "x": 1}\n'),
        ("a.jsonl", '"one"\n"two"\n'),
        ("a.json", '["one", "two"]'),
        ("a.json", '{"data": [{"prompt": "one"}, {"prompt": "two"}]}'),
        ("a.json", '{"prompt": {"0": "one", "1": "two"}}'),
        ("a.csv", "prompt\none\ntwo\n"),
        ("a.csv", 'id;text\n1;one\n2;"two"\n'),
        ("a.tsv", "id\tprompt\n1\tone\n2\ttwo\n"),
    ],
)
def test_prompts_of_every_container(tmp_path, name, content):
    assert read_prompts(write(tmp_path, content, name)) == ["one", "two"]


@pytest.mark.parametrize(
    "row",
    [
        {"prompt": "one"},
        {"prompt": {"text": "one", "toxicity": 0.1}, "continuation": {"text": "two"}},
        {"prompt": [{"role": "user", "content": "one"}]},
        {"prompt": json.dumps([{"role": "user", "content": "one"}])},
        {"messages": [{"role": "user", "content": [{"type": "text", "text": "one"}]}]},
        {"conversations": [{"from": "human", "value": "one"}]},
        {"question_id": 1, "turns": ["one", "and then?"]},
        {"instruction": "one", "input": ""},
        {"question": "one", "answer": "two"},
        "one",
    ],
)
def test_the_text_that_a_row_asks_with(tmp_path, row):
    assert read_prompts(write(tmp_path, json.dumps(row))) == ["one"]


def test_an_instruction_is_read_with_its_input(tmp_path):
    assert read_prompts(write(tmp_path, '{"instruction": "Shorten it.", "input": "A long text."}')) == ["Shorten it.\nA long text."]


@pytest.mark.parametrize(
    ("row", "words"),
    [
        ({"prompt": None}, "Line 2 of .* has no prompt. `prompt` is null."),
        ({"prompt": " "}, "Line 2 .*`prompt` is empty."),
        ({"prompt": 5}, re.escape("`prompt` is a number (5), not a text.")),
        ({"prompt": {"a": 1}}, "`prompt` is an object, not a text."),
        ({"prompt": ["one", "two"]}, "`prompt` is a list of 2 texts"),
        ({"answer": "one"}, "It has `answer`."),
        ({"prompt": "x\ud83d"}, "`prompt` holds half of a character: its character 2."),
        ({"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]}, "is a conversation of 2 messages"),
        ({"prompt": "one", "system": "Be kind."}, "It has a system prompt"),
        (["one"], "It is a list, not a text"),
        (7, re.escape("It is a number (7), not a text")),
    ],
)
def test_a_row_without_a_prompt_is_named_by_its_line(tmp_path, row, words):
    with pytest.raises(BadData, match=words):
        read_prompts(write(tmp_path, '{"prompt": "one"}\n' + json.dumps(row)))


def test_a_broken_line_is_named(tmp_path):
    with pytest.raises(BadData, match="Line 2 of .* has no prompt. It breaks off before its end."):
        read_prompts(write(tmp_path, '{"prompt": "one"}\n{"prompt"'))
    with pytest.raises(BadData, match="Row 2 of .*.csv` has no prompt. It has 2 fields under 1 names"):
        read_prompts(write(tmp_path, "prompt\na\nb, c\n", "a.csv"))


def test_only_the_first_prompts_are_read(tmp_path):
    assert read_prompts(write(tmp_path, '{"prompt": "one"}\n{"prompt": "two"}\n{"prompt"'), limit=2) == ["one", "two"]


def test_a_file_without_prompts_is_refused(tmp_path):
    with pytest.raises(BadData, match="holds no prompt. It has no rows."):
        read_prompts(write(tmp_path, "\n\n", "a.txt"))
    with pytest.raises(BadData, match="cannot be read as prompts. There is no such file."):
        read_prompts(tmp_path / "missing.txt")


def test_of_several_turns_the_first_is_asked_and_that_is_said(tmp_path, caplog):
    rows = [{"turns": ["one", "and then?"]}, {"turns": ["two"]}, {"turns": ["three", "four"]}, {"turns": ["a", "b", "c"]}]
    assert read_prompts(write(tmp_path, "\n".join(map(json.dumps, rows)))) == ["one", "two", "three", "a"]
    said = [record.getMessage().partition("`, ")[2] for record in caplog.records]
    assert said == [
        "read as: the first of 2 turns of the user, in 2 rows; the others are ignored.",
        "read as: the first of 3 turns of the user, in 1 row; the others are ignored.",
    ]


def test_an_answer_in_a_file_of_messages_is_no_prompt(tmp_path):
    rows = [{"text": "one", "role": "prompter"}, {"text": "Yes.", "role": "assistant"}]
    with pytest.raises(BadData, match="Line 2 of .* has no prompt. Its `text` is a message of the assistant."):
        read_prompts(write(tmp_path, "\n".join(map(json.dumps, rows))))
