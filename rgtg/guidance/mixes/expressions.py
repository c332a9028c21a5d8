"""A mix of rewards as text, `partial*2 + full*0.5`: read, with the position of what is wrong, and written.

Pure functions of text. Knows nothing of models: whether a name is that of one, the caller says.
"""

import math
import re
from collections.abc import Callable, Iterator, Sequence

from rgtg.errors import BadSettings, RgtgError

Mix = tuple[tuple[str, float], ...]
Check = Callable[[str], object]  # raises RgtgError for a name that no model has
NAME = re.compile(r'"(?P<quoted>[^"]*)"|(?P<plain>[^+*"]*)')
NUMBER = re.compile(r"[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?")
SPECIAL = re.compile(r'[+*,"]|^\s|\s$|^$')  # in a name that has to be quoted
DO = "Write reward models with their weights: `partial*2+full*0.5`."


def parse_mix(text: str, check: Check | None = None) -> Mix:
    """Reward models with their weights: `partial*2+full*-0.5` -> (("partial", 2.0), ("full", -0.5)); the default weight is 1, and a name
    that holds `+`, `*` or a comma is quoted: `"a+b"*2`.

    Raises BadSettings, or what `check` raises for a name, with the position of what is wrong.
    """
    guides: dict[str, float] = {}
    at, more = 0, True
    while more:
        name, at, name_at = _name(text, at)
        try:
            if name in guides:
                raise BadSettings("A mix names each reward model once.", f"`{name}` is there twice.")
            if check is not None:
                check(name)
        except RgtgError as error:
            raise located(error, text, name_at) from error
        guides[name], at, more = _weight(text, at)
    return tuple(guides.items())


def write_mix(guides: Sequence[tuple[str, object]]) -> str:
    """The text that `parse_mix` reads: `partial*2 + full*0.5`. What is no number is written as it is, for the error to name it."""
    return " + ".join(quoted_name(name) + ("" if weight == 1 else f"*{_digits(weight)}") for name, weight in guides)


def quoted_name(name: str) -> str:
    """A model's name as an expression has it: in quotes where it would be read as something else."""
    return f'"{name}"' if SPECIAL.search(name) and '"' not in name else name


def located(error: RgtgError, text: str, at: int) -> RgtgError:
    """The error, with the position in `text` (from 0) at which it was made."""
    return type(error)(error.wrong, f"{where(text, at)} {error.found}".strip(), error.do, error.field)


def where(text: str, at: int) -> str:
    """ "At character 11 of `partial*2+*0.5`:"; of a long text the part around it."""
    start = max(0, at - 60)
    part = text[start : at + 60]
    shown = ("…" if start else "") + part + ("…" if at + 60 < len(text) else "")
    return f"At character {at + 1} of `{shown}`:"


def settings_in(text: str) -> Iterator[tuple[str, int]]:
    """The settings of a run, `a=1,b="x,y"`, and where each begins; a comma in quotes is part of its setting."""
    for match in re.finditer(r'(?:"[^"]*"|[^,])+', text):
        yield match[0], match.start()


def _name(text: str, at: int) -> tuple[str, int, int]:
    """(name, position behind it, its own position)."""
    at += len(text[at:]) - len(text[at:].lstrip())
    match = NAME.match(text, at)
    assert match is not None  # it may be empty
    name = match["quoted"] if match["quoted"] is not None else match["plain"].rstrip()
    if not name:
        found = (
            "the name is empty"
            if match["quoted"] == ""
            else f"a reward model is missing {f'before `{text[at]}`' if at < len(text) else 'at the end'}"
        )
        raise _wrong(text, at, f"{found}.")
    end = match.end() + len(text[match.end() :]) - len(text[match.end() :].lstrip())
    if end < len(text) and text[end] not in "+*":
        raise _wrong(text, end, f"`+` or `*` is missing before `{text[end]}`.")
    return name, end, at


def _weight(text: str, at: int) -> tuple[float, int, bool]:
    """(weight, position of the next reward model, whether there is one)."""
    if at >= len(text) or text[at] == "+":
        return 1.0, at + 1, at < len(text)
    at += 1 + len(text[at + 1 :]) - len(text[at + 1 :].lstrip())
    match = NUMBER.match(text, at)
    end = match.end() if match else at
    end += len(text[end:]) - len(text[end:].lstrip())
    if match is None or (end < len(text) and text[end] != "+"):
        word = text[at:].partition("+")[0].strip()
        raise _wrong(text, at, f"the weight `{word}` is not a number." if word else "a weight is missing.")
    if not math.isfinite(weight := float(match[0])):
        raise _wrong(text, at, f"the weight `{match[0]}` is too large.")
    return weight, end + 1, end < len(text)


def _wrong(text: str, at: int, reason: str) -> BadSettings:
    return BadSettings("The mix of reward models cannot be read.", f"{where(text, at)} {reason}", DO, "guides")


def _digits(weight: object) -> str:
    if isinstance(weight, float) and math.isfinite(weight):
        return f"{weight:g}" if float(f"{weight:g}") == weight else repr(weight)
    return "" if weight is None else str(weight)
