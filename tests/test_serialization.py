"""JSON from outside: what is read, and what is refused in words instead of breaking something later."""

from dataclasses import dataclass, field

import pytest

from rgtg.system.serialization import check_types, parse_json, read_json


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[" * 5000 + "]" * 5000, "nested more than 64 deep"),
        ("[" * 500_000, "nested more than 64 deep"),
        ('{"a":' * 65 + "1" + "}" * 65, "nested more than 64 deep"),
        ('{"a": NaN}', "NaN is not a JSON number"),
        ("[-Infinity]", "-Infinity is not a JSON number"),
        ("[1e400]", "a number is too large"),
        ("[1" + "0" * 400 + "]", "a number is too large"),
        ("[1" + "0" * 5000 + "]", "limit"),
        ('["\\ud83d"]', r"half of a character: '\\ud83d'"),
        ('{"\\udc00": 1}', "half of a character"),
        (b'{"a": "caf\xe9"}', "byte 11 is not UTF-8"),
        ("{", "it is not JSON: Expecting"),
        ("", "it is not JSON"),
    ],
    ids=lambda value: str(value)[:20],
)
def test_what_would_break_later_is_refused_now(text, words):
    with pytest.raises(ValueError, match=words):
        parse_json(text)


def test_everything_else_is_read_as_it_is(tmp_path):
    assert parse_json('{"a": [1, 2.5, null, true, "\\ud83d\\ude00"]}') == {"a": [1, 2.5, None, True, "\U0001f600"]}
    assert parse_json("[" * 64 + "]" * 64) and parse_json("1e308") == 1e308
    (tmp_path / "a.json").write_bytes(b"\xef\xbb\xbf[1]")
    assert read_json(tmp_path / "a.json") == [1], "a mark that some editors write"


def test_a_file_without_end_is_not_read_to_its_end(tmp_path, monkeypatch):
    monkeypatch.setattr("rgtg.system.serialization.MAX_BYTES", 1_000_000)
    (tmp_path / "a.json").write_bytes(b" " * 1_000_001)
    with pytest.raises(ValueError, match="larger than 1 MB"):
        read_json(tmp_path / "a.json")


@dataclass(frozen=True)
class Sample:
    name: str
    zero: float = 0.0
    count: int = 0
    flag: bool = False
    more: dict = field(default_factory=dict)
    parent: str | None = None


@pytest.mark.parametrize(
    ("found", "words"),
    [
        ({"name": 5}, "`name` has to be text, but is 5"),
        ({"name": None}, "`name` has to be text, but is null"),
        ({"name": "x", "zero": "1"}, '`zero` has to be a number, but is "1"'),
        ({"name": "x", "count": 1.5}, "`count` has to be a whole number, but is 1.5"),
        ({"name": "x", "count": True}, "`count` has to be a whole number, but is true"),
        ({"name": "x", "flag": 1}, "`flag` has to be true or false, but is 1"),
        ({"name": "x", "more": []}, r"`more` has to be an object, but is \[\]"),
        ([], "not a JSON object"),
        (None, "not a JSON object"),
    ],
)
def test_a_value_of_another_type_is_named_with_its_field(found, words):
    with pytest.raises(ValueError, match=words):
        check_types(Sample, found)


def test_what_fits_or_is_not_known_passes():
    check_types(Sample, {"name": "x", "zero": 1, "count": 3, "flag": True, "more": {"a": []}, "parent": None, "unknown": 5})
