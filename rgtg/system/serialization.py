"""Records to JSON and back, and reading of JSON files from outside, which may hold anything.

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
    """Content of a JSON file from outside, as `parse_json`. Raises ValueError with the reason, OSError."""
    if path.exists() and not path.is_file():  # a pipe would be waited for
        raise ValueError("it is not a file")
    with path.open("rb") as file:
        content = file.read(MAX_BYTES + 1)
    if len(content) > MAX_BYTES:
        raise ValueError(f"it is larger than {MAX_BYTES // 1_000_000} MB")
    return parse_json(content)


def parse_json(text: str | bytes) -> Any:
    """Parse JSON from outside: nested 64 deep at most, finite numbers, texts without lone surrogates. Raises ValueError with the reason."""
    try:
        value = json.loads(text.decode("utf-8-sig") if isinstance(text, bytes) else text, parse_constant=_no_number)
        layer = [value]
        for _ in range(MAX_DEPTH):
            layer = [part for container in layer for part in _parts(container)]
            if not layer:
                return value
    except RecursionError:
        pass
    except UnicodeDecodeError as error:
        raise ValueError(f"byte {error.start + 1:,} is not UTF-8") from error
    except json.JSONDecodeError as error:
        raise ValueError(f"it is not JSON: {error}") from error
    raise ValueError(f"it is nested more than {MAX_DEPTH} deep")


def _no_number(name: str) -> None:
    raise ValueError(f"{name} is not a JSON number")


def _parts(value: Any) -> Iterable[Any]:
    """Items of a list or object, nothing for another value. Raises ValueError for a value that cannot be stored."""
    if isinstance(value, dict):
        return [*value, *value.values()]
    if isinstance(value, list):
        return value
    if isinstance(value, str):
        if problem := unsound(value, takes_nul=True):
            raise ValueError(f"a text holds {problem[0]}: {value[:40]!a}")
    elif isinstance(value, (int, float)) and not (math.isfinite(value) if isinstance(value, float) else abs(value) <= MAX_NUMBER):
        raise ValueError("a number is too large")
    return ()


def check_types(kind: type, values: Any) -> None:
    """Check that `values` is an object whose known keys have the types of the record `kind`. Raises ValueError naming the field."""
    if not isinstance(values, dict):
        raise ValueError("it is not a JSON object")
    for name, hint in _hints(kind).items():
        if name in values and (wanted := typing.get_origin(hint) or hint) in WORDS:
            value = values[name]
            accepted = {float: (int, float), tuple: (list, tuple)}.get(wanted, (wanted,))
            if not isinstance(value, accepted) or (isinstance(value, bool) and wanted is not bool):
                raise ValueError(f"`{name}` has to be {WORDS[wanted]}, but is {json.dumps(value, ensure_ascii=True)[:60]}")


def to_json(record: Any) -> str:
    """Compact JSON of a record; NaN and infinity are refused."""
    return json.dumps(record.plain() if hasattr(record, "plain") else asdict(record), ensure_ascii=False, allow_nan=False, separators=(",", ":"))


def from_json(kind: type[Record], text: str) -> Record:
    """The record from the JSON of `to_json`, equal to the one that was written."""
    return from_dict(kind, json.loads(text))


def from_dict(kind: type[Record], values: dict) -> Record:
    """A record of `kind` from plain dicts and lists; unknown keys are ignored, missing ones take their default."""
    factory: Any = kind  # a dataclass, for which there is no type
    values = factory.upgraded(values) if hasattr(factory, "upgraded") else values
    return factory(**{name: _build(hint, values[name]) for name, hint in _hints(factory).items() if name in values})


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
