"""The definition of a reward that a person makes: a name and a few fields, read from JSON and checked.

Loads no torch. Knows nothing of what a kind computes.
"""

import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, Any, ClassVar

from rgtg.config import check_choices, check_ranges
from rgtg.errors import BadSettings, unsound

if TYPE_CHECKING:
    from rgtg.models.lm import BaseLM
    from rgtg.rewards.text import TextScorer

MAX_NAME, MAX_TEXT, MAX_ENTRIES = 60, 2_000, 500
ASKED_MODEL = "model"  # the field that names a language model
FORBIDDEN = '"\\/[]'  # in a name: it is quoted in expressions, and neither a path nor one output of several


def text(help: str, default: str = "", needed: bool = True, long: bool = False) -> Any:
    """A field that holds a text; one that is `needed` must not be blank."""
    return field(default=default, metadata={"help": help, "needed": needed, "input": "area" if long else "text"})


def texts(help: str) -> Any:
    """A field that holds one or more texts: a JSON list, or one text with one per line."""
    return field(default=(), metadata={"help": help, "needed": True, "input": "lines"})


def weights(help: str) -> Any:
    """A field that holds texts with their weights: a JSON object, or lines such as `great 1`."""
    return field(default=(), metadata={"help": help, "needed": True, "input": "weights"})


@dataclass(frozen=True)
class Definition:
    """Base class of the kinds of rewards that a person makes.

    The first line of a kind's docstring says what it is; the lines after it name formula, paper, cost and pitfall. Its fields are the inputs
    of its form and the keys of its JSON file.
    """

    title: ClassVar[str]
    cost: ClassVar[str] = "no forward"

    def __post_init__(self) -> None:
        for f in fields(self):
            if f.metadata.get("needed") and not _is_there(getattr(self, f.name)):
                raise BadSettings(f"`{f.name}` is empty.", "", f"{f.metadata['help']}.", f.name)
        check_choices(self)
        check_ranges(self)
        self.check()

    def check(self) -> None:
        """Raise BadSettings for fields that do not go together."""

    @property
    def asks(self) -> str:
        """Name of the language model that it asks, "" for the base LM of the run or none."""
        return str(getattr(self, ASKED_MODEL, "")).strip()

    @property
    def num_readings(self) -> int:
        """How often a language model reads each text."""
        return 0

    def scorer(self, lm: "BaseLM") -> "TextScorer":
        """What scores the texts; `lm` is the language model that it names, else the base LM."""
        raise NotImplementedError

    @property
    def about(self) -> str:
        """Its fields that are not at their default, in one line."""
        parts = [f"{f.name} {_shown(getattr(self, f.name))}" for f in fields(self) if getattr(self, f.name) != f.default]
        return f"{self.title}: {', '.join(parts)}" if parts else self.title

    def plain(self) -> dict[str, Any]:
        """Fields as JSON holds them."""
        return {f.name: _plain(f.metadata.get("input", ""), getattr(self, f.name)) for f in fields(self)}

    @classmethod
    def of(cls, values: Mapping[str, Any]) -> "Definition":
        """The definition with these fields, from JSON or a form. Raises BadSettings that names the field."""
        known = {f.name: f for f in fields(cls)}
        if unknown := [name for name in values if name not in known]:
            raise BadSettings(f"A reward of the kind {cls.title} has no field `{unknown[0]:.60}`.", f"It has: {', '.join(known)}.", field=unknown[0])
        return cls(**{name: _read(value, known[name]) for name, value in values.items()})


def check_name(name: object) -> str:
    """The name of a made reward, without spaces around it. Raises BadSettings."""
    if not isinstance(name, str) or not name.strip():
        raise BadSettings("`name` is empty.", "", "Give the reward a name.", "name")
    name = name.strip()
    if len(name) > MAX_NAME or not name.isprintable() or any(letter in FORBIDDEN for letter in name):
        do = f"Use at most {MAX_NAME} characters, without quotation marks, slashes and brackets."
        raise BadSettings("The name cannot be used.", f"Found `{name[:80]!a}`.", do, "name")
    return name


def content_hash(kind: str, definition: Definition, more: str = "") -> str:
    """What identifies its rewards: equal definitions give equal rewards. `more` is the revision of its language model."""
    content = json.dumps({"kind": kind} | definition.plain(), sort_keys=True, ensure_ascii=False) + more
    return hashlib.sha256(content.encode()).hexdigest()[:16]


def _is_there(value: object) -> bool:
    return bool(value.strip() if isinstance(value, str) else value)


def _read(value: Any, f: Any) -> Any:
    """A field's value from JSON or from a form."""
    kind = f.metadata.get("input", "")
    if kind == "lines":
        return tuple(
            _text(one, f.name) for one in (value.splitlines() if isinstance(value, str) else _list(value, f.name)) if _text(one, f.name).strip()
        )
    if kind == "weights":
        return _weights(value, f.name)
    if kind in ("text", "area"):
        return _text(value, f.name)
    if isinstance(f.default, float) and type(value) is int:
        return float(value)
    return value  # numbers, flags and choices are checked when the definition is made


def _list(value: Any, name: str) -> list:
    if not isinstance(value, list) or len(value) > MAX_ENTRIES:
        raise BadSettings(f"`{name}` has to be a text or a list of at most {MAX_ENTRIES} texts.", f"Found {value!r:.60}.", field=name)
    return value


def _text(value: Any, name: str) -> str:
    if not isinstance(value, str):
        raise BadSettings(f"`{name}` has to be text.", f"Found {value!r:.60}.", field=name)
    if len(value) > MAX_TEXT:
        raise BadSettings(f"`{name}` has {len(value):,} characters.", f"The limit is {MAX_TEXT:,}.", "Shorten it.", name)
    if problem := unsound(value):
        raise BadSettings(f"`{name}` contains {problem[0]}.", f"It is character {problem[1] + 1:,}.", "Write it again.", name)
    return value


def _weights(value: Any, name: str) -> tuple[tuple[str, float], ...]:
    if isinstance(value, str):
        lines = [line.rsplit(None, 1) for line in value.splitlines() if line.strip()]
        pairs = [(line[0].strip(), line[1]) if len(line) == 2 else (line[0].strip(), 1.0) for line in lines]
    elif isinstance(value, dict):
        pairs = list(value.items())
    else:
        raise BadSettings(
            f"`{name}` has to be an object of texts with their weights.", f"Found {value!r:.60}.", 'Write {"great": 1, "bad": -1}.', name
        )
    if len(pairs) > MAX_ENTRIES:
        raise BadSettings(f"`{name}` has {len(pairs):,} entries.", f"The limit is {MAX_ENTRIES}.", "Shorten it.", name)
    found = {}
    for key, weight in pairs:
        try:
            number = float(weight) if not isinstance(weight, bool) else math.nan
        except (TypeError, ValueError):
            number = math.nan
        if not math.isfinite(number):
            do = "Write a number behind it: `great 1`."
            raise BadSettings(f"The weight of `{key:.60}` is not a number.", f"Found {weight!r:.60}.", do, name)
        if not _text(key, name).strip():
            raise BadSettings(f"`{name}` has an empty entry.", "", "Leave it out.", name)
        found[key.strip()] = number
    return tuple(found.items())


def _plain(kind: str, value: Any) -> Any:
    return dict(value) if kind == "weights" else list(value) if kind == "lines" else value


def _shown(value: Any) -> str:
    if isinstance(value, tuple):
        return ", ".join(f"{one[0]} {one[1]:g}" if isinstance(one, tuple) else f"“{one}”" for one in value)[:200]
    return f"{value:g}" if isinstance(value, float) else f"“{value:.120}”" if isinstance(value, str) else str(value)
