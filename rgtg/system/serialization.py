"""Frozen records become JSON and come back equal; and JSON that others wrote is read here, with all that may be wrong in it.

Works on any dataclass with tuples inside. Knows nothing of what a record means.
"""

import json
import math
import sys
import types
import typing
from collections.abc import Iterable
from dataclasses import asdict, fields, is_dataclass
from functools import cache
from pathlib import Path
from typing import Any, TypeVar

from rgtg.errors import unsound

Record = TypeVar("Record")
MAX_DEPTH = 64  # lists and objects inside one another
MAX_BYTES = 64_000_000  # of a file
MAX_NUMBER = sys.float_info.max
WORDS = {str: "text", int: "a whole number", float: "a number", bool: "true or false", dict: "an object", tuple: "a list"}


def read_json(path: Path) -> Any:
    """What a JSON file from outside holds, see `parse_json`. Raises ValueError with the words, OSError."""
    if path.exists() and not path.is_file():  # a pipe would be waited for
        raise ValueError("it is no file")
    with path.open("rb") as file:
        content = file.read(MAX_BYTES + 1)
    if len(content) > MAX_BYTES:
        raise ValueError(f"it is larger than {MAX_BYTES // 1_000_000} MB")
    return parse_json(content)


def parse_json(text: str | bytes) -> Any:
    """JSON from outside: nested 64 deep at most, its numbers finite, its texts whole characters. Raises ValueError with the words."""
    try:
        found = json.loads(text.decode("utf-8-sig") if isinstance(text, bytes) else text, parse_constant=_no_number)
        nested = [found]
        for _ in range(MAX_DEPTH):
            nested = [part for value in nested for part in _parts(value)]
            if not nested:
                return found
    except RecursionError:
        pass
    except UnicodeDecodeError as error:
        raise ValueError(f"byte {error.start + 1:,} is not UTF-8") from error
    except json.JSONDecodeError as error:
        raise ValueError(f"it is not JSON: {error}") from error
    raise ValueError(f"it is nested more than {MAX_DEPTH} deep")


def _no_number(name: str) -> None:
    raise ValueError(f"{name} is no number of JSON")


def _parts(value: Any) -> Iterable[Any]:
    """What lies in a list or object; of anything else nothing, once it is one that can be kept."""
    if isinstance(value, dict):
        return [*value, *value.values()]
    if isinstance(value, list):
        return value
    if isinstance(value, str):
        if found := unsound(value, takes_nul=True):
            raise ValueError(f"a text holds {found[0]}: {value[:40]!a}")
    elif isinstance(value, (int, float)) and not (math.isfinite(value) if isinstance(value, float) else abs(value) <= MAX_NUMBER):
        raise ValueError("a number is too large")
    return ()


def check_types(kind: type, found: Any) -> None:
    """`found` must be an object whose keys, as far as a record of `kind` has them, hold what the record holds; else ValueError naming the field."""
    if not isinstance(found, dict):
        raise ValueError("it is no JSON object")
    for name, hint in _hints(kind).items():
        if name in found and (wanted := typing.get_origin(hint) or hint) in WORDS:
            value = found[name]
            accepted = {float: (int, float), tuple: (list, tuple)}.get(wanted, (wanted,))
            if not isinstance(value, accepted) or (isinstance(value, bool) and wanted is not bool):
                raise ValueError(f"`{name}` has to be {WORDS[wanted]}, but is {json.dumps(value, ensure_ascii=True)[:60]}")


def to_json(record: Any) -> str:
    """Compact JSON of a record; NaN and infinity are refused."""
    return json.dumps(record.plain() if hasattr(record, "plain") else asdict(record), ensure_ascii=False, allow_nan=False, separators=(",", ":"))


def from_json(kind: type[Record], text: str) -> Record:
    """The record back from `to_json`: equal to the one that was written."""
    return from_dict(kind, json.loads(text))


def from_dict(kind: type[Record], found: dict) -> Record:
    """A record of `kind` from plain dicts and lists; unknown keys are passed over, missing ones take their default."""
    record: Any = kind  # a dataclass, for which there is no type
    found = record.upgraded(found) if hasattr(record, "upgraded") else found
    return record(**{name: _build(hint, found[name]) for name, hint in _hints(record).items() if name in found})


@cache
def _hints(kind: Any) -> dict[str, Any]:
    hints = typing.get_type_hints(kind)
    return {f.name: hints[f.name] for f in fields(kind) if f.init}


def _build(hint: Any, value: Any) -> Any:
    origin, args = typing.get_origin(hint), typing.get_args(hint)
    if value is None:
        return None
    if origin in (typing.Union, types.UnionType):
        kinds = [a for a in args if is_dataclass(a)]
        return _build(kinds[0], value) if kinds and isinstance(value, dict) else value
    if origin is tuple:
        if len(args) == 2 and args[1] is Ellipsis:
            return tuple(_build(args[0], v) for v in value)
        return tuple(_build(a, v) for a, v in zip(args, value, strict=True))
    if isinstance(hint, type) and is_dataclass(hint):
        return from_dict(hint, value)
    return float(value) if hint is float and isinstance(value, int) else value
