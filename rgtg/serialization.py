"""Frozen records become JSON and come back equal.

Works on any dataclass with tuples inside. Knows nothing of what a record means.
"""

import json
import types
import typing
from dataclasses import asdict, fields, is_dataclass
from functools import cache
from typing import Any, TypeVar

Record = TypeVar("Record")


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
