"""Rows of a text: JSON in its common layouts, delimited columns, plain lines.

Knows nothing of files, the meaning of rows, or binary tables. A row that cannot be read is yielded as a `BadRow` in its place, so
that the caller decides whether to continue.
"""

import csv
import json
import re
from collections.abc import Iterable, Iterator, Mapping
from itertools import chain
from typing import Any, TextIO

MAX_LINE = 64_000_000  # characters of a line or of one JSON value over many lines
SIDES_OF_JSON = ("data", "rows", "examples", "instances", "train", "items")  # keys under which an object may hold its list of rows
JSON_SUFFIXES, LINE_SUFFIXES, TABLE_SUFFIXES = (".json", ".jsonl", ".ndjson"), (".jsonl", ".ndjson"), (".csv", ".tsv", ".tab", ".psv")
BEGINS_JSON = re.compile(r"""\s*(\[\s*[\[{"'\]]|\{\s*["'}])""")
DELIMITERS = ",\t;|"
ROW_OF_JSON = "A row is one line of JSON, or an item of a list."


class BadRow(ValueError):
    """An unreadable or unusable row: what was found, what to do."""

    def __init__(self, found: str, do: str = "Mend or remove the row."):
        self.found, self.do = found, do
        super().__init__(f"{found} {do}")


class BadText(ValueError):
    """A text without rows in any layout: what was found, what to do."""

    def __init__(self, found: str, do: str = ""):
        self.found, self.do = found, do
        super().__init__(f"{found} {do}")


def excerpt(value: Any, most: int = 60) -> str:
    """A value for an error message: one line, at most `most` characters."""
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=lambda other: type(other).__name__)
    text = " ".join(text.split()).encode(errors="backslashreplace").decode()
    return text if len(text) <= most else text[: most - 1] + "…"


# --- JSON -------------------------------------------------------------------------------------------------------------


def parse_json(text: str) -> Any:
    """The value of a JSON text. Raises BadRow where it is no JSON, has a duplicate key, is nested too deeply or holds a huge number."""
    try:
        return json.loads(text, object_pairs_hook=_object)
    except BadRow:
        raise
    except json.JSONDecodeError as error:
        raise BadRow(_where(error), ROW_OF_JSON) from error
    except RecursionError as error:
        raise BadRow("It is nested too deeply to be read.") from error
    except ValueError as error:  # Python reads no integer of more than 4,300 digits
        raise BadRow("It holds a number with thousands of digits.") from error


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    row = dict(pairs)
    if len(row) != len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise BadRow(f"The key `{excerpt(twice)}` stands in it twice.", "Keep one of them.")
    return row


def _where(error: json.JSONDecodeError) -> str:
    if not error.doc[error.pos :].strip():
        return "It breaks off before its end."
    line = f"line {error.lineno}, " if "\n" in error.doc.strip() else ""
    return f"It cannot be read from {line}character {error.colno} on: `{excerpt(error.doc[error.pos : error.pos + 40], 30)}`."


def json_rows(stream: TextIO, suffix: str) -> Iterator[tuple[int, Any]]:
    """Numbered rows of JSON lines, of a list, of concatenated values, or of columns; lines are numbered as lines, items from 1."""
    lines = _lines(stream)
    first = next(lines, None)
    if first is None:
        return
    whole_line = first[1].strip()
    try:
        value = parse_json(whole_line)
    except BadRow as error:
        second = next(lines, None)
        torn = suffix in LINE_SUFFIXES and len(whole_line) > 1 and whole_line[0] != "["
        if second is None and whole_line[0] == "[":
            raise BadText(error.found, "Copy or write it again.") from error
        if torn or second is None:
            yield first[0], error
            yield from _each_line(lines if second is None else chain([second], lines))
            return
        yield from enumerate(_values(first[1] + second[1] + _rest(stream, len(first[1]) + len(second[1]))), 1)
        return
    second = next(lines, None)
    if second is None:
        yield from enumerate(expand(value, suffix in LINE_SUFFIXES), 1)
    else:
        yield first[0], value
        yield from _each_line(chain([second], lines))


def _lines(stream: TextIO) -> Iterator[tuple[int, str]]:
    """Numbered lines that are not blank. Only line breaks separate lines: a text may contain U+2028."""
    number = 0
    while line := stream.readline(MAX_LINE):
        number += 1
        if len(line) >= MAX_LINE:
            raise BadText(f"Line {number} has more than {MAX_LINE:,} characters.", "Write one row a line.")
        if line.strip():
            yield number, line


def _rest(stream: TextIO, num_read: int) -> str:
    text = stream.read(MAX_LINE - num_read + 1)
    if len(text) + num_read > MAX_LINE:
        raise BadText(f"It is one JSON value of more than {MAX_LINE:,} characters.", "Write JSON lines: one row a line.")
    return text


def _each_line(lines: Iterable[tuple[int, str]]) -> Iterator[tuple[int, Any]]:
    for number, line in lines:
        try:
            yield number, parse_json(line)
        except BadRow as error:
            yield number, error


def _values(text: str) -> list[Any]:
    """The rows of one value over many lines, or of several concatenated values."""
    decoder, at, values = json.JSONDecoder(object_pairs_hook=_object), 0, []
    try:
        while at < len(text):
            if text[at].isspace():
                at += 1
                continue
            value, at = decoder.raw_decode(text, at)
            values.append(value)
    except json.JSONDecodeError as error:
        lines = [line for line in text.split("\n") if line.strip()]
        if any(_is_object(line) for line in lines[1:3]):  # lines of which the first is torn
            return [row for _, row in _each_line(enumerate(lines, 1))]
        raise BadText(_where(error), "Write it again as JSON lines: one row a line.") from error
    except RecursionError as error:
        raise BadText("It is nested too deeply to be read.") from error
    except BadRow as error:
        raise BadText(error.found, error.do) from error
    return expand(values[0]) if len(values) == 1 else values


def _is_object(line: str) -> bool:
    try:
        return isinstance(parse_json(line), dict)
    except BadRow:
        return False


def expand(value: Any, is_line: bool = False) -> list[Any]:
    """The rows of one JSON value: the items of a list; of an object those under `data`, those of pandas' layouts, else itself. An object
    of lists is one row where it is a line of JSON lines.

    >>> expand({"prompt": {"0": "a", "1": "b"}, "chosen": {"0": "c", "1": "d"}})
    [{'prompt': 'a', 'chosen': 'c'}, {'prompt': 'b', 'chosen': 'd'}]
    """
    if isinstance(value, list):
        return value
    if not isinstance(value, Mapping) or not value:
        return [value]
    parts = list(value.values())
    if isinstance(value.get("columns"), list) and isinstance(value.get("data"), list):  # pandas, orient="split"
        return [dict(zip(value["columns"], row, strict=False)) if isinstance(row, list) else row for row in value["data"]]
    for name in SIDES_OF_JSON:
        rows = value.get(name)
        if isinstance(rows, list) and rows and all(isinstance(row, Mapping) for row in rows):
            return [row["row"] if isinstance(row.get("row"), Mapping) and "row_idx" in row else row for row in rows]
    if all(isinstance(part, Mapping) and part for part in parts):
        if all(name.isdigit() for name in value):  # orient="index"
            return parts
        if all(list(part) == list(parts[0]) and all(key.isdigit() for key in part) for part in parts):  # orient="columns"
            return [{name: column[key] for name, column in value.items()} for key in parts[0]]
    are_lists = len(parts) > 1 and all(isinstance(part, list) for part in parts) and len({len(part) for part in parts}) == 1
    if are_lists and not is_line and any(part and all(isinstance(item, str) for item in part) for part in parts):
        return [dict(zip(value, row, strict=True)) for row in zip(*parts, strict=True)]
    return [value]


# --- columns ----------------------------------------------------------------------------------------------------------


def delimiter_of(head: str, known: frozenset[str], suffix: str) -> str:
    """The delimiter that gives the most known names in the first row, else the most names; "" where there is one column."""
    line = next((line for line in re.split(r"[\r\n]+", head) if line.strip()), "")
    if line.lower().startswith("sep=") and len(line.strip()) == 5:  # Excel says it
        return line.strip()[4]
    if suffix in (".tsv", ".tab"):
        return "\t"

    def fit(delimiter: str) -> tuple[int, int]:
        names = header_names(line, delimiter)
        return sum(name in known for name in names), len(names)

    best = max(DELIMITERS, key=fit)
    return best if fit(best)[1] > 1 else ""


def header_names(line: str, delimiter: str) -> list[str]:
    try:
        return [name.strip() for name in next(csv.reader([line], delimiter=delimiter, strict=True), [])]
    except csv.Error:
        return [line]


def delimited_rows(stream: TextIO, delimiter: str) -> Iterator[tuple[int, Any]]:
    """Numbered rows under a header, read strictly: as many fields as names, nothing after a closing quote.

    A row that breaks these rules ends at the end of its line, so that a missing quote affects no other row.
    """
    csv.field_size_limit(2**31 - 1)  # an answer may be longer than the 131,072 characters it begins with
    lines = _Lines(stream)
    names = next((fields for fields in _fields(lines, delimiter) if not isinstance(fields, BadRow) and any(fields)), None)
    if names is not None and len(names) <= 2 and names[0].lower().startswith("sep"):
        names = next((fields for fields in _fields(lines, delimiter) if not isinstance(fields, BadRow)), None)
    if names is None:
        return
    names = [name.strip() for name in names]
    twice = sorted({name for name in names if name and names.count(name) > 1})
    if twice:
        raise BadText(f"Two of its columns are called `{twice[0]}`.", "Give each column a name of its own.")
    for number, fields in enumerate((fields for fields in _fields(lines, delimiter) if isinstance(fields, BadRow) or fields), 1):
        if not isinstance(fields, BadRow) and len(fields) != len(names):
            do = "Put a field that holds a comma or a line break in quotes, and double the quotes inside it."
            yield number, BadRow(f"It has {len(fields)} field{'s' * (len(fields) != 1)} under {len(names)} names.", do)
        else:
            yield number, fields if isinstance(fields, BadRow) else {name: cell for name, cell in zip(names, fields, strict=True) if name}


class _Lines:
    """Lines of a text that can be put back and read again."""

    def __init__(self, stream: TextIO):
        self._stream, self._again, self.taken = stream, [], []  # type: ignore[var-annotated]

    def __iter__(self) -> "_Lines":
        return self

    def __next__(self) -> str:
        line = self._again.pop() if self._again else self._stream.readline(MAX_LINE)
        if not line:
            raise StopIteration
        self.taken.append(line)
        if sum(map(len, self.taken)) > MAX_LINE if len(self.taken) % 1000 == 0 else len(line) >= MAX_LINE:
            raise BadText(f"A row has more than {MAX_LINE:,} characters; a quote may be missing.", "Close each quote that is opened.")
        return line

    def back(self) -> None:
        """Put back all lines taken but the first."""
        self._again += reversed(self.taken[1:])


def _fields(lines: _Lines, delimiter: str) -> Iterator[Any]:
    """The fields of each row, or BadRow."""
    while True:
        lines.taken = []
        try:
            yield next(csv.reader(lines, delimiter=delimiter or ",", strict=True))
        except StopIteration:
            return
        except csv.Error:
            over = f" and runs on over {len(lines.taken)} lines" if len(lines.taken) > 1 else ""
            lines.back()
            do = "Put a field with quotes in quotes, and double those inside it."
            yield BadRow(f"A quote in it is not closed, or text follows a closing one{over}: `{excerpt(lines.taken[0])}`.", do)


# --- lines ------------------------------------------------------------------------------------------------------------


def line_rows(stream: TextIO) -> Iterator[tuple[int, Any]]:
    """Each line as a text; a line that begins with a JSON object is parsed."""
    for number, line in _lines(stream):
        text = line.strip()
        try:
            yield number, parse_json(text) if re.match(r'\{\s*"', text) else text
        except BadRow as error:
            yield number, error
