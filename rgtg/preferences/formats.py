"""Preferences and labelled texts of a file, a folder or a hub data set: rows in any common layout become `Example` or `Labelled`.

Knows nothing of tokenizers, models or the store. A row that cannot be read is refused with its number, or dropped and counted up to
a limit that the user sets; one without a preference (a tie, different prompts) is left out and counted. Nothing is guessed.
"""

import json
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from rgtg.errors import BadData
from rgtg.preferences.columns import KNOWN, Columns, Layout, Row, chosen_layout, layout_of, number_of, scores_of
from rgtg.preferences.items.examples import MARKS, Example, Labelled, Mark, Marked
from rgtg.preferences.parts import RowParts
from rgtg.preferences.rows import CELLS, NumberedRow, Rows
from rgtg.preferences.text_rows import BadRow, excerpt
from rgtg.preferences.turns import LeftOut, Prompt, kind_of, messages, text_of
from rgtg.prompts import Message

__all__ = [
    "MARKS",
    "Example",
    "Labelled",
    "Mark",
    "Marked",
    "Prompt",
    "Reading",
    "read",
    "read_back",
    "read_examples",
    "read_judgements",
    "write_back",
]

SHAPES = (
    "`prompt`, `chosen`, `rejected`; conversations with `chosen` and `rejected`; `chosen_ids`, `rejected_ids`; complete dialogues as `chosen`, "
    "`rejected`; a text with a `label`; two answers with a winner; several with scores or ranks; "
    "messages of a tree with `message_id`, `parent_id`, `role`, `text`, `rank`"
)
LEFT_OUT = {
    "even": "a tie, or equal scores",
    "no_preference": "spans are marked in it, and it is no preference",
    "other_prompts": "its sides answer different prompts",
    "no_answer": "it does not end with the assistant's answer",
    "alone": "the only answer to its prompt, with nothing to compare it with",
    "no_parent": "the message it answers is missing",
    "unreadable": "it cannot be read",
}
MAX_CHARACTERS = 1_000_000_000  # of all rows together
OURS = frozenset(
    ["comparison_id", "vote_id", "base_lm", "judge_name", "judge_gap", "judge_spread", "judge_agreement", "flipped", "sampled_by"]
)  # our own: where a pair is from


IN_TREE, OF_A_TREE = frozenset(["message_id", "text", "role"]), "ranked answers of a message tree, each behind the messages that lead to it"


Item = Example | Labelled
Judgement = Item | Marked


@dataclass(frozen=True)
class Reading:
    """The result of reading a source: examples, number of rows, the number left out for each cause (LEFT_OUT; ties count per pair), the
    layout in words, the columns that were not read, and what was wrong with the first unreadable rows."""

    examples: tuple[Item, ...]
    num_rows: int
    read_as: str = ""
    left_out: tuple[tuple[str, int], ...] = ()
    not_read: tuple[str, ...] = ()
    faults: tuple[str, ...] = ()
    ask: tuple[str, ...] = ()


def read_examples(source: str | Path, split: str = "train", columns: str = "", max_bad_rows: int = 0) -> list[Example] | list[Labelled]:
    """The examples of `read`."""
    examples: list[Any] = list(read(source, split, columns, max_bad_rows).examples)
    return examples


def read(source: str | Path, split: str = "train", columns: str = "", max_bad_rows: int = 0, scored: bool = False) -> Reading:
    """Read a file, a folder of shards or a hub data set. Raises BadData naming the row where more than `max_bad_rows` cannot be read,
    BadSettings where `columns` (see `Columns.of`) is no column mapping. With `scored`, an answer in a row of its own keeps its score; else those to
    one prompt are compared."""
    reader = _Reader(str(source), columns, max_bad_rows, scored=scored)
    rows = Rows(source, split, reader.known)
    for row in rows:
        reader.add(row)
    return reader.end(rows.left)


def read_judgements(source: str | Path, split: str = "train", columns: str = "") -> Reading:
    """All that a source says, as votes: ties too, and marked answers, which are no preference. `ask` of the reading names scores of which any
    may decide. Raises as `read`; no row may be unreadable."""
    reader = _Reader(str(source), columns, 0, judgements=True)
    rows = Rows(source, split, reader.known)
    for row in rows:
        reader.add(row)
    return reader.end(rows.left)


def write_back(reading: Reading, path: Path) -> dict[str, Any]:
    """Write the examples as JSON lines, and return the other fields of the reading, which `read_back` needs."""
    with path.open("w", encoding="utf-8") as file:
        for example in reading.examples:
            row = {f.name: getattr(example, f.name) for f in fields(example) if getattr(example, f.name) != f.default}
            file.write(json.dumps(row, ensure_ascii=False, allow_nan=False) + "\n")
    kind = "pairs" if isinstance(reading.examples[0], Example) else "texts"
    return {"kind": kind} | {f.name: getattr(reading, f.name) for f in fields(reading) if f.name != "examples"}


def read_back(path: Path, description: Mapping[str, Any]) -> Reading:
    """The reading that `write_back` wrote."""
    kind: Any = Example if description["kind"] == "pairs" else Labelled
    with path.open(encoding="utf-8", newline="\n") as file:
        examples = tuple(kind(**{name: _frozen(value) for name, value in json.loads(line).items()}) for line in file)
    return Reading(examples, **{name: _frozen(value) for name, value in description.items() if name != "kind"})


def _frozen(value: Any) -> Any:
    return tuple(map(_frozen, value)) if isinstance(value, (list, tuple)) else value


class _Tree:
    """Messages that name the message they answer, in any order, as in OASST."""

    def __init__(self) -> None:
        self._messages: dict[str, tuple[Message, str, RowParts]] = {}
        self._ranked: list[tuple[float, str]] = []

    def add(self, part: RowParts) -> None:
        row = {"role": part.get("role"), "content": text_of(part.get("text"), "text")}
        name, parent = (str(part.get(key)) if part.row.get(key) is not None else "" for key in ("message_id", "parent_id"))
        if name in self._messages:
            raise BadRow(f"The message `{excerpt(name)}` stands in the file twice.", "Keep one of them.")
        (message,) = messages([row], "role")
        if part.row.get("rank") is not None and message[0] == "assistant":
            self._ranked.append((number_of(part.get("rank"), "rank", least=None), name))
        self._messages[name] = message, parent, part

    def answers(self) -> Iterator[tuple[Prompt | None, float, str, RowParts]]:
        """For each ranked answer: the messages before it (None where one is missing), its score, its text, and its row."""
        for rank, name in self._ranked:
            (_, text), parent, part = self._messages[name]
            yield self._before(parent), -rank, text, part

    def _before(self, name: str) -> Prompt | None:
        turns: list[Message] = []
        while name and name in self._messages and len(turns) < len(self._messages):
            message, name, _ = self._messages[name]
            turns.insert(0, message)
        return None if name or not turns else tuple(turns)


class _Reader:
    """Reads row after row, and counts what is kept and left out."""

    def __init__(self, name: str, columns: str, max_bad_rows: int, judgements: bool = False, scored: bool = False):
        self._scored, self._judgements, self._scores, self._flags = scored, judgements, set[str](), 0
        self._name, self._max_bad_rows, self._chosen = name, max_bad_rows, chosen_layout(Columns.of(columns)) if columns.strip() else None
        named = {path.split(".")[0] for path in self._chosen.columns.paths} | set(self._chosen.columns.paths) if self._chosen else set()
        self.known = KNOWN | named
        self._examples: list[Any] = []
        self._left_out, self._layouts, self._seen, self._used = Counter[str](), Counter[str](), set[str](), set[str]()
        self._numbers: dict[str, set[int]] = {}
        self._faults: list[str] = []
        self._graded: dict[Prompt, list[tuple[float, str, RowParts]]] = {}
        self._tree = _Tree()
        self._first_out = ""
        self._num_rows = self._num_bad = self._num_characters = 0

    def add(self, row: NumberedRow) -> None:
        self._num_rows += 1
        try:
            if isinstance(row.row, BadRow):
                raise row.row
            self._add(row)
        except LeftOut as error:
            self._left_out[error.cause] += 1
            self._first_out = self._first_out or f"Row {row.number}: {error.found}"
        except BadRow as error:
            self._refuse(row, error.found, error.do)
        except (KeyError, TypeError, ValueError, AttributeError, IndexError, RecursionError) as error:
            self._refuse(row, "Its values have unexpected types.", f"A row has {SHAPES}.", error)

    def _refuse(self, row: NumberedRow, found: str, do: str, error: Exception | None = None) -> None:
        self._num_bad += 1
        self._left_out["unreadable"] += 1
        self._faults += [f"row {row.number}: {found}"] if len(self._faults) < 3 else []
        if self._num_bad > self._max_bad_rows:
            name = self._name if row.file in (self._name, Path(self._name).name) else f"{self._name}: {row.file}"
            if self._max_bad_rows:
                found = f"More than {self._max_bad_rows:,} rows cannot be read; {'; '.join(self._faults)}"
            raise BadData(f"Row {row.number} of `{name}` cannot be used.", found, do) from error

    def _add(self, numbered: NumberedRow) -> None:
        row = numbered.row
        if not isinstance(row, Mapping):
            raise BadRow(f"It is {kind_of(row)}, not an object with names; it is no preference.", f"A row has {SHAPES}.")
        if numbered.kind == CELLS:
            row = {name: value for name, value in row.items() if value != ""} | {name: None for name, value in row.items() if value == ""}
        names = [name for name, value in row.items() if value is not None]
        self._seen |= {name for name in names if row[name] not in ("", [], {})}
        before = len(self._examples)
        part = RowParts(numbered.number, row, numbered.kind == CELLS, self._chosen.columns if self._chosen else Columns())
        if part.has_ids and not self._chosen:
            self._keep(part.ids(), "token ids")
        elif not self._chosen and IN_TREE.issubset(names) and "parent_id" in row:
            self._tree.add(part)
        else:
            layout = self._chosen or layout_of(row, names)
            if layout is None:
                raise _no_layout(row)
            self._of(layout, part)
        self._used |= part.used
        for example in self._examples[before:]:
            self._count(example)

    def _of(self, layout: Layout, part: RowParts) -> None:
        form = layout.columns.form or ()
        columns = layout.columns
        if form == ("chosen", "rejected"):
            example, how = part.pair(columns)
            self._keep(example, how if not self._chosen else layout.words)
        elif form[0] == "a":
            for example in (examples := part.battles(columns)):
                self._judge(example, layout.words)
            self._flags += part.num_flags // max(1, len(examples))
        elif form == ("answers", "labels"):
            for step in [part.stepped(columns)] if self._judgements else part.steps(columns):
                self._keep(step, layout.words)
        elif form[0] == "answers":
            pairs, num_answers = part.compared(columns) if columns.pairs else part.scored(columns)
            self._numbers.setdefault(layout.words, set()).add(num_answers)
            for pair in pairs:
                self._judge(pair, layout.words)
            self._layouts[layout.words] += 0
        elif form == ("response", "label"):
            self._keep(part.labelled(columns), layout.words)
        elif form == ("response", "spans"):
            if not self._judgements:
                raise LeftOut("no_preference", "It has marked spans and no preference.")
            self._keep(part.marked(columns), layout.words)
        else:
            prompt, answer, score = part.graded(columns)
            if self._scored:
                self._keep(Labelled(part.number, prompt, answer, score, **part.of_vote(), **part.sampled()), "answers with a score")
                return
            self._layouts[layout.words] += 1
            self._graded.setdefault(prompt, []).append((score, answer, part))
        if self._judgements and not self._chosen and (columns.score or columns.scores):
            self._scores |= scores_of(part.row, columns)

    def _judge(self, example: Example, words: str) -> None:
        """Keep a preference; a tie is kept where all that was said is read, and else left out."""
        if example.tie and not self._judgements:
            self._left_out["even"] += 1
            self._first_out = self._first_out or f"Row {example.row}: It is a tie."
        else:
            self._keep(example, words)

    def _keep(self, example: Judgement, words: str) -> None:
        if self._examples and type(self._examples[0]) is not type(example):
            found = f"Row {example.row} is the first of the other kind."
            raise BadData(f"`{self._name}` mixes pairs and labelled texts.", found, "Give two files.")
        self._layouts[words] += 1
        self._examples.append(example)

    def _count(self, example: Judgement) -> None:
        prompt = example.prompt if isinstance(example.prompt, str) else "".join(content for _, content in example.prompt)
        answers = (example.chosen, example.rejected) if isinstance(example, Example) else (example.response,)
        self._num_characters += len(prompt) + sum(map(len, answers))
        if self._num_characters > MAX_CHARACTERS:
            found = f"Its texts have more than {MAX_CHARACTERS:,} characters up to row {example.row}."
            raise BadData(f"`{self._name}` is larger than what is read at once.", found, "Give a part of it.")

    def end(self, not_loaded: set[str]) -> Reading:
        self._compare_graded()
        if not self._num_rows:
            raise BadData(f"`{self._name}` holds no preferences.", "It has no rows.", f"A row has {SHAPES}.")
        left_out = tuple(sorted((cause, number) for cause, number in self._left_out.items() if number))
        if not self._examples:
            causes = ", ".join(f"{number} left out ({LEFT_OUT[cause]})" for cause, number in left_out)
            first = self._first_out or "; ".join(self._faults)
            raise BadData(f"`{self._name}` holds no preferences.", f"Of {self._num_rows} rows {causes}. {first}".strip(), f"A row has {SHAPES}.")
        not_read = sorted(filter(None, (self._seen | not_loaded) - self._used - OURS))
        read_as = "" if {"comparison_id", "vote_id"} <= self._seen else self._read_as()  # our own exports need no words
        ask = tuple(sorted(self._scores)) if len(self._scores) > 1 else ()
        return Reading(tuple(self._examples), self._num_rows, read_as, left_out, tuple(not_read), tuple(self._faults), ask)

    def _compare_graded(self) -> None:
        """Add the pairs of answers that came in rows of their own."""
        for before, score, answer, row in self._tree.answers():
            if before is None:
                self._left_out["no_parent"] += 1
                continue
            self._layouts[OF_A_TREE] += 1
            self._graded.setdefault(before, []).append((score, answer, row))
        for prompt, answers in self._graded.items():
            self._left_out["alone"] += len(answers) == 1
            for i, one in enumerate(answers):
                for other in answers[i + 1 :]:
                    (_, chosen, part), (_, rejected, other_part) = (one, other) if one[0] >= other[0] else (other, one)
                    tie = "equal" if one[0] == other[0] else ""
                    before_count = len(self._examples)
                    ids = _ids_of(part.sampled(), other_part.sampled())
                    self._judge(Example(part.number, prompt, chosen, rejected, **ids, **part.pair_fields(), tie=tie), "")
                    for example in self._examples[before_count:]:
                        self._count(example)

    def _read_as(self) -> str:
        words = []
        for layout, number in self._layouts.items():
            if layout:
                counts = sorted(self._numbers.get(layout, {0}))
                many = f"{counts[0]} to {counts[-1]}" if len(counts) > 1 else str(counts[0])
                words.append((layout.replace("{n}", many), number))
        words = [(layout.replace(", ties left out", ""), number) for layout, number in words] if self._judgements else words
        layouts = [f"{layout} ({number:,})" if len(words) > 1 else layout for layout, number in words]
        return "; ".join(layouts + ([f"true or false as the text of an answer ({self._flags:,})"] if self._flags else []))


def _ids_of(chosen: Mapping[str, Any], rejected: Mapping[str, Any]) -> dict[str, Any]:
    """What two answers' rows say of their tokens, for a pair of them; {} where one has none, or they follow other ids."""
    if not chosen or not rejected or chosen["prompt_ids"] != rejected["prompt_ids"]:
        return {}
    sides = {"chosen": chosen, "rejected": rejected}.items()
    of_sides = {f"{side}_{name}": row[key] for side, row in sides for name, key in (("ids", "response_ids"), ("ended", "ended"))}
    return of_sides | {"prompt_ids": chosen["prompt_ids"]}


def _no_layout(row: Row) -> BadRow:
    """The error of a row without a known layout: names the null columns where only those are missing, else the columns it has."""
    layout = layout_of(row, row.keys()) if any(value is None for value in row.values()) else None
    if layout is not None:
        null = sorted({path.split(".")[0] for path in layout.columns.paths} & {name for name, value in row.items() if value is None})
        if null:
            are = "is null: there is nothing in it" if len(null) == 1 else "are null: there is nothing in them"
            return BadRow(f"{', '.join(f'`{name}`' for name in null)} {are}.", "Fill it, or remove the row.")
    names = [name for name, value in row.items() if value is not None]
    found = f"It has {', '.join(f'`{excerpt(name, 40)}`' for name in names[:20])}" if names else "All its values are null"
    return BadRow(f"It is no preference. {found}.", f"A row has {SHAPES}. Map other names with `columns`.")
