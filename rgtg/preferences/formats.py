"""Preferences and labelled texts from files and hub data sets: rows in any of the usual shapes become one shape.

Knows nothing of tokenizers, models or the store. A row that cannot be read is refused by its number; nothing is guessed.
"""

import csv
import json
import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rgtg.errors import BadData
from rgtg.prompts import Message, transcript

Row = Mapping[str, Any]
Prompt = str | tuple[Message, ...]
Mark = tuple[int, int, str]  # first token or character, behind the last, one of MARKS
MARKS = ("good", "bad", "goes_wrong")
SHAPES = (
    "`prompt`, `chosen`, `rejected`; conversations with `chosen` and `rejected`; `chosen_ids`, `rejected_ids`; "
    "whole dialogues as `chosen`, `rejected`; or a text with a `label`"
)
ROLE_NAMES = {"human": "user", "gpt": "assistant", "user": "user", "assistant": "assistant", "system": "system"}
TURN = "\n\nAssistant:"


@dataclass(frozen=True)
class Example:
    """A preference as it stands in a row (counted from 1). `…_ids` are () where the row has texts only; `…_ended` says
    whether the answer came to its end, so that an end token belongs to it. `num_common` and `…_marks` count tokens of the
    row's own ids, `…_spans` are marks in characters of the text. Where `prompt_given` is False, `prompt_ids` are what both
    sides begin with: they may end behind the prompt."""

    row: int
    prompt: Prompt = ""
    chosen: str = ""
    rejected: str = ""
    prompt_ids: tuple[int, ...] = ()
    chosen_ids: tuple[int, ...] = ()
    rejected_ids: tuple[int, ...] = ()
    chosen_ended: bool = True
    rejected_ended: bool = True
    num_common: int = 0
    margin: float = 0.0
    weight: float = 1.0
    rater: str = ""
    chosen_marks: tuple[Mark, ...] = ()
    rejected_marks: tuple[Mark, ...] = ()
    chosen_spans: tuple[Mark, ...] = ()
    rejected_spans: tuple[Mark, ...] = ()
    prompt_given: bool = True


@dataclass(frozen=True)
class Labelled:
    """One answer with a label in [0, 1]."""

    row: int
    prompt: Prompt = ""
    response: str = ""
    label: float = 0.0
    weight: float = 1.0
    rater: str = ""


class NotThis(ValueError):
    """The row is of this shape but cannot be read: what was found, what to do."""

    def __init__(self, found: str, do: str = ""):
        self.found, self.do = found, do
        super().__init__(found)


def read_examples(source: str | Path, split: str = "train") -> list[Example] | list[Labelled]:
    """All rows of a file (.jsonl, .json, .csv, .parquet) or a hub data set. Raises BadData naming the row."""
    name, kind = str(source), None
    found: list[Any] = []
    for number, row in rows(source, split):
        shape = shape_of(row)
        if shape is None:
            keys = ", ".join(f"`{key}`" for key in row) if isinstance(row, Mapping) else type(row).__name__
            raise BadData(f"Row {number} of `{name}` is no preference.", f"It has {keys}.", f"A row has {SHAPES}.")
        try:
            example = SHAPE_READERS[shape](number, row)
        except NotThis as error:
            raise BadData(f"Row {number} of `{name}` cannot be used.", error.found, error.do) from error
        except (KeyError, TypeError, ValueError, AttributeError, IndexError) as error:
            raise BadData(
                f"Row {number} of `{name}` cannot be read as {shape}.", f"{type(error).__name__}: {error}.", "Mend or remove it."
            ) from error
        if kind not in (None, type(example)):
            raise BadData(f"`{name}` mixes pairs and labelled texts.", f"Row {number} is the first of the other kind.", "Give two files.")
        kind = type(example)
        found.append(example)
    if not found:
        raise BadData(f"`{name}` holds no preferences.", "It has no rows.", f"A row has {SHAPES}.")
    return found


# --- rows -------------------------------------------------------------------------------------------------------------


def rows(source: str | Path, split: str = "train") -> Iterator[tuple[int, Row]]:
    """Numbered rows of a file or of a hub data set: owner/name, owner/name/subset or owner/name/subset/split. Raises BadData."""
    path = Path(source)
    if not path.is_file():
        yield from _hub_rows(str(source), split)
        return
    try:
        if path.suffix == ".parquet":
            yield from enumerate(_parquet_rows(path), 1)
        elif path.suffix == ".csv":
            csv.field_size_limit(2**31 - 1)  # an answer may be longer than the 131,072 characters it begins with
            with path.open(encoding="utf-8-sig", newline="") as file:  # Excel writes a mark before the first name
                yield from enumerate(csv.DictReader(file), 1)
        else:
            yield from _json_rows(path)
    except UnicodeDecodeError as error:
        raise BadData(f"`{path.name}` cannot be read as text.", f"{error}.", "Save it again in UTF-8.") from error


def _parquet_rows(path: Path) -> Iterator[Row]:
    """What is missing is None, as in JSON (pandas would say NaN)."""
    import pyarrow
    from pyarrow import parquet

    try:
        for batch in parquet.ParquetFile(path).iter_batches():
            yield from batch.to_pylist()
    except (pyarrow.ArrowException, OSError) as error:
        found = str(error).rstrip(".")
        raise BadData(f"`{path.name}` cannot be read as parquet.", f"{found}.", "Write it again, or give .jsonl, .json or .csv.") from error


def _json_rows(path: Path) -> Iterator[tuple[int, Row]]:
    """One JSON value a line, or one list of all rows."""
    text = path.read_text(encoding="utf-8-sig")
    if text.lstrip().startswith("["):
        try:
            yield from enumerate(json.loads(text), 1)
        except ValueError as error:
            raise BadData(f"`{path.name}` is not JSON.", f"{error}.") from error
        return
    for number, line in enumerate(text.split("\n"), 1):
        if line.strip():
            try:
                yield number, json.loads(line)
            except ValueError as error:
                raise BadData(f"Row {number} of `{path.name}` is not JSON.", f"{error}.", "A row is one line of JSON.") from error


def _hub_rows(name: str, split: str) -> Iterator[tuple[int, Row]]:
    owner, *rest = name.split("/")
    if not 1 <= len(rest) <= 3 or name.startswith((".", "/", "~")) or not all((owner, *rest)):
        do = "Give a file, or owner/name, owner/name/subset or owner/name/subset/split."
        raise BadData(f"There are no preferences at `{name}`.", "It is neither a file here nor a data set of the hub.", do)
    from datasets import load_dataset

    subset, split = (*rest[1:], None, None)[0], rest[2] if len(rest) == 3 else split
    try:
        found = load_dataset(f"{owner}/{rest[0]}", subset, split=split)
    except Exception as error:  # it raises whatever its network and its parsers raise
        first = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise BadData(f"The hub did not give the data set `{name}`.", first, "Check the name, the split and the network.") from error
    yield from enumerate(found, 1)


# --- shapes -----------------------------------------------------------------------------------------------------------


def shape_of(row: Any) -> str | None:
    """Which of SHAPE_READERS reads the row; None where none does."""
    if not isinstance(row, Mapping):
        return None
    has = {key for key, value in row.items() if value is not None}
    if {"chosen_ids", "rejected_ids"} <= has and any(row.get(f"{key}_ids") not in (None, [], "[]") for key in ("prompt", "chosen", "rejected")):
        return "token ids"
    if {"chosen", "rejected"} <= has:
        if not isinstance(row["chosen"], str):
            return "conversations"
        return "texts" if "prompt" in has else "dialogues"
    return "labelled text" if has & {"label", "kto_tag"} and has & {"text", "response", "completion", "messages", "conversations"} else None


def _ids(number: int, row: Row) -> Example:
    chosen, rejected = (_token_ids(row, key) for key in ("chosen_ids", "rejected_ids"))
    facts = _facts(row)
    if row.get("prompt_ids") is not None:
        prompt = _token_ids(row, "prompt_ids")
    else:
        shared = next((i for i, (a, b) in enumerate(zip(chosen, rejected, strict=False)) if a != b), min(len(chosen), len(rejected)))
        given = row.get("num_prompt_ids") is not None
        num_prompt = int(row["num_prompt_ids"]) if given else shared
        facts |= {} if given else {"prompt_given": False, "num_common": 0}
        if chosen[:num_prompt] != rejected[:num_prompt]:
            raise NotThis(f"The first {num_prompt} ids of its sides differ.", "Both answers have to follow the same prompt.")
        prompt, chosen, rejected = chosen[:num_prompt], chosen[num_prompt:], rejected[num_prompt:]
    if not prompt:
        raise NotThis("Its sides have no first token in common.", "Give `prompt_ids`, or the start token in both.")
    texts: dict[str, Any] = {side: _answer(row.get(side)) for side in ("chosen", "rejected")}
    return Example(
        number, _prompt(row.get("prompt") or ""), **texts, prompt_ids=tuple(prompt), chosen_ids=tuple(chosen), rejected_ids=tuple(rejected), **facts
    )


def _token_ids(row: Row, key: str) -> list[int]:
    found = [int(i) for i in _listed(row[key])]
    if min(found, default=0) < 0:
        raise NotThis(f"`{key}` has {min(found)}.", "Ids count from 0.")
    return found


def _listed(value: Any) -> Any:
    """A list, which our own exports write as JSON so that its column has one type in every file; () where there is none."""
    return json.loads(value) if isinstance(value, str) else () if value is None else value


def _answer(value: Any) -> str:
    """The text beside the ids of an answer: as it is, or the last turn of a conversation."""
    if value is None or isinstance(value, str):
        return _text(value or "")
    turns = _messages([value] if isinstance(value, Mapping) else value)
    return turns[-1][1] if turns else ""


def _texts(number: int, row: Row) -> Example:
    return Example(number, _prompt(row["prompt"]), _text(row["chosen"]), _text(row["rejected"]), **_ended(row), **_facts(row))


def _dialogues(number: int, row: Row) -> Example:
    """HH's own shape: the same dialogue twice, another last turn."""
    sides = []
    for side in ("chosen", "rejected"):
        before, turn, answer = _text(row[side]).rpartition(TURN)
        if not turn:
            raise NotThis(f"`{side}` has no turn that begins with `Assistant:`, and there is no `prompt`.", "Add a column `prompt`.")
        sides.append((before + turn, answer))
    return _same_prompt(number, sides[0], sides[1], row)


def _conversations(number: int, row: Row) -> Example:
    """Messages in the style of chat templates or of ShareGPT, with or without the prompt apart."""
    before = row.get("prompt") if row.get("prompt") is not None else row.get("conversations", row.get("messages"))
    shared = _messages(before) if before is not None and not isinstance(before, str) else (("user", before),) if before else ()
    shared = (*_system(row), *shared)
    sides = []
    for side in ("chosen", "rejected"):
        turns = _messages([row[side]] if isinstance(row[side], Mapping) else row[side])
        if not turns or turns[-1][0] != "assistant":
            raise NotThis(f"`{side}` does not end with the assistant's answer.", "Remove what follows it.")
        sides.append((_behind(shared, turns[:-1]), turns[-1][1]))
    return _same_prompt(number, sides[0], sides[1], row)


def _system(row: Row) -> tuple[Message, ...]:
    return (("system", _text(row["system"])),) if row.get("system") else ()


def _behind(shared: tuple[Message, ...], turns: tuple[Message, ...]) -> tuple[Message, ...]:
    """The turns before an answer, behind the prompt; a prompt that they hold already is not put before them again.

    >>> _behind((("user", "Hi"),), (("user", "Hi"), ("assistant", "Hello."), ("user", "Why?")))
    (('user', 'Hi'), ('assistant', 'Hello.'), ('user', 'Why?'))
    """
    asked, there = ([(role, content.strip()) for role, content in side if role != "system"] for side in (shared, turns))
    if asked not in (there[: len(asked)], there[len(there) - len(asked) :]):
        return *shared, *turns
    return *(turn for turn in shared if turn[0] == "system" and turn not in turns), *turns


def _same_prompt(number: int, chosen: tuple, rejected: tuple, row: Row) -> Example:
    if chosen[0] != rejected[0]:
        a, b = (p if isinstance(p, str) else transcript(p) for p in (chosen[0], rejected[0]))
        at = next((i for i, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), min(len(a), len(b)))
        found = f"Its sides answer different prompts: from character {at + 1} on, {a[at : at + 30]!r} against {b[at : at + 30]!r}."
        raise NotThis(found, "Both answers have to follow the same prompt; remove the row.")
    return Example(number, chosen[0] or "", chosen[1], rejected[1], **_ended(row), **_facts(row))


def _labelled(number: int, row: Row) -> Labelled:
    label = row["label"] if row.get("label") is not None else row["kto_tag"]
    value = float(label)
    if not 0 <= value <= 1:
        raise NotThis(f"Its label is {value:g}.", "Labels lie between 0 and 1.")
    facts: dict[str, Any] = {"label": value, "weight": _number(row, "weight", 1.0), "rater": str(row.get("rater_id") or "")}
    turns = row.get("messages") if row.get("messages") is not None else row.get("conversations")
    if turns is not None:
        *before, (role, answer) = _messages(turns)
        if role != "assistant":
            raise NotThis("Its conversation does not end with the assistant's answer.")
        return Labelled(number, _behind(_system(row), tuple(before)) or "", answer, **facts)
    response = next(row[key] for key in ("response", "completion", "text") if row.get(key) is not None)
    return Labelled(number, _prompt(row.get("prompt") or ""), _text(response), **facts)


def _prompt(value: Any) -> Prompt:
    return _text(value) if isinstance(value, str) else _messages(value)


def _messages(value: Any) -> tuple[Message, ...]:
    """[{"role": "user", "content": "Hi"}] or [{"from": "human", "value": "Hi"}] -> (("user", "Hi"),)"""
    found = []
    for turn in value:
        role = turn["role"] if "role" in turn else turn["from"]
        if role not in ROLE_NAMES:
            raise NotThis(f"A message is from `{role}`.", f"The roles are {', '.join(ROLE_NAMES)}.")
        found.append((ROLE_NAMES[role], _text(turn["content"] if "content" in turn else turn["value"])))
    return tuple(found)


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise NotThis(f"{value!r} is no text.")
    try:
        value.encode()
    except UnicodeEncodeError as error:
        found = f"Character {error.start + 1} of a text is half of one ({value[error.start]!r})."
        raise NotThis(found, "Write the file again from whole characters, or remove the row.") from error
    return value


def _number(row: Row, key: str, default: float) -> float:
    if row.get(key) in (None, ""):
        return default
    number = float(row[key])
    if not (math.isfinite(number) and number >= 0):
        raise NotThis(f"Its `{key}` is {number:g}.", "It has to be a number from 0 on.")
    return number


def _ended(row: Row) -> dict[str, Any]:
    """An exported answer says why it stopped; any other is taken for complete."""
    return {f"{side}_ended": row.get(f"{side}_stop_reason") in (None, "", "eos") for side in ("chosen", "rejected")}


def _facts(row: Row) -> dict[str, Any]:
    found: dict[str, Any] = {"num_common": int(_number(row, "num_common", 0)), "margin": _number(row, "margin", 0.0)}
    found |= {"weight": _number(row, "weight", 1.0), "rater": str(row.get("rater_id") or "")}
    for side in ("chosen", "rejected"):
        found |= {key: _marks(key, row.get(key)) for key in (f"{side}_marks", f"{side}_spans")}
    return found


def _marks(key: str, value: Any) -> tuple[Mark, ...]:
    found = tuple((int(start), int(end), str(label)) for start, end, label in _listed(value))
    for start, end, label in found:
        if not 0 <= start <= end or label not in MARKS:
            raise NotThis(f"`{key}` has {[start, end, label]}.", f"A mark is [first, behind the last, label]; the labels are {', '.join(MARKS)}.")
    return found


SHAPE_READERS: dict[str, Callable[[int, Row], Example | Labelled]] = {
    "token ids": _ids,
    "texts": _texts,
    "dialogues": _dialogues,
    "conversations": _conversations,
    "labelled text": _labelled,
}
