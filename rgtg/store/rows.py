"""Conversion of records to rows and back: values are checked before they are stored, and every row carries its hash.

Knows nothing of connections, SQL or the order of writes. STRICT tables let infinity and NUL pass and turn NaN into
NULL, so numbers and texts go through `text`, `whole`, `real` or `json_text`, which convert or refuse with a StoreError.
"""

import hashlib
import json
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import fields
from functools import cached_property
from typing import Any, Protocol

from rgtg.errors import HALF, NUL, StoreError, unsound
from rgtg.preferences.items.rankings import Ranking
from rgtg.preferences.pairs import num_tokens
from rgtg.records import Candidate, Comparison, Rewards, Run, Span, Step, Trace, Tried, Vote
from rgtg.system.serialization import from_dict

Row = dict[str, Any]  # of text, whole and real numbers, and None


TEXT_COLUMNS = (  # of an answer, in order: all but its steps and what is derived
    "id", "created_at", "comparison_id", "column", "place", "run", "response", "stop_reason", "error", "parent_trace_id", "branch_position",
    "seconds", "lm_forwards", "reward_forwards", "note", "check_forwards", "observer_forwards", "lm_positions", "reward_positions",
    "observer_positions",
)  # fmt: skip
CANONICAL = json.JSONEncoder(ensure_ascii=False, sort_keys=True, separators=(",", ":"))
DERIVED = ("num_tokens", "text_sha256")  # of an answer, from the other columns
UNHASHED = frozenset({"seq", "row_sha256", *DERIVED})
IDS_FIRST, NO_STEPS = '{"token_ids":[', '"steps":[]}'  # how the steps begin; how they end where there are none
NOT_CONTENT = ("created_at", "revision", "dwell_ms", "row_sha256", "state", *DERIVED)  # a retry of the same fact may differ in these


class Stored(Protocol):
    """A row as it is read: a dict, or a row of SQLite."""

    def __getitem__(self, name: str, /) -> Any: ...

    def keys(self) -> Iterable[str]: ...

    def __iter__(self) -> Iterator[Any]: ...


def text(value: object, label: str) -> str:
    """The text as typed; NUL and lone surrogates are refused."""
    if not isinstance(value, str):
        raise StoreError(f"{label} has to be text.", f"Found {value!r}.")
    if problem := unsound(value):
        _, position = problem
        raise StoreError(f"{label} has a character that cannot be stored.", f"Found U+{ord(value[position]):04X}.", "Remove it and try again.")
    return str(value)


def mended(value: object, label: str) -> str:
    """Text that a model or an exception made; characters that cannot be stored become U+FFFD, so that no vote is lost over them."""
    if not isinstance(value, str):
        return text(value, label)
    return HALF.sub("\ufffd", value.replace(NUL, "\ufffd"))


def whole(value: object, label: str) -> int:
    """A Python int of 64 bits; numpy and torch scalars are converted."""
    number = _scalar(value)
    if type(number) is not int or not -(2**63) <= number < 2**63:
        raise StoreError(f"{label} has to be a whole number of 64 bits.", f"Found {value!r}.")
    return int(number)


def real(value: object, label: str) -> float:
    """A finite Python float; numpy and torch scalars are converted. Minus zero becomes zero, as SQLite would make it."""
    number = _scalar(value)
    if type(number) not in (int, float) or not -1e300 < number < 1e300:  # NaN is not between
        raise StoreError(f"{label} has to be a finite number.", f"Found {value!r}.")
    return float(number) + 0.0


def json_text(value: object, label: str) -> str:
    """Compact JSON; NaN, infinity, whole numbers beyond 64 bits and lone surrogates are refused. NUL is escaped by JSON."""
    return json.dumps(_plain(value, label), ensure_ascii=False, allow_nan=False, separators=(",", ":"))


def row_hash(row: Stored) -> str:
    """SHA-256 of the row's canonical JSON. NULL is left out, so that a column added later does not change older hashes."""
    content = row.values() if isinstance(row, dict) else row  # a sqlite3.Row iterates over its values, and looks for a name in all of them
    values = {name: value for name, value in zip(row.keys(), content, strict=True) if value is not None and name not in UNHASHED}
    return sha256(CANONICAL.encode(values))


def text_hash(values: Sequence[Any]) -> str:
    """The hash of an answer's row without its steps, which is checked without reading them; `values` are those of TEXT_COLUMNS."""
    return sha256("\0".join(map(str, values)))  # no text has a NUL


def sha256(content: str) -> str:
    return hashlib.sha256(content.encode("utf-8", "surrogatepass")).hexdigest()


def differing(row: Row, stored: Stored) -> list[str]:
    """Columns in which a record that is stored again differs from the stored row."""
    return [name for name, value in row.items() if name not in NOT_CONTENT and not _same(name, value, stored[name])]


def _same(name: str, value: object, stored: object) -> bool:
    """Whether two values are equal, or equal as records: an earlier version of rgtg wrote other fields."""
    readers: dict[str, Callable[[Any], object]] = {"run": lambda text: from_dict(Run, json.loads(text)), "steps": steps_of}
    read = readers.get(name)
    return value == stored or (read is not None and read(value) == read(stored))


def comparison_row(comparison: Comparison, created_at: str) -> Row:
    prompt = text(comparison.prompt, "The prompt")
    return {
        "id": text(comparison.id, "The comparison's id"),
        "created_at": text(comparison.created_at or created_at, "The time"),
        "prompt": prompt,
        "prompt_sha256": sha256(prompt),
        "rater_id": _optional(text, comparison.rater_id, "The rater"),
        "state": text(comparison.state, "The state"),
        "pair_rule": text(comparison.pair_rule, "The pair rule"),
        "blind": int(bool(comparison.blind)),
        "guideline_version": text(comparison.guideline_version, "The guideline version"),
        "turns": json_text(comparison.turns, "The turns") if comparison.turns else None,
    }


def comparison_of(row: Stored, traces: Sequence[Trace]) -> Comparison:
    names = ("id", "prompt", "state", "rater_id", "pair_rule", "created_at", "guideline_version")
    return Comparison(traces=tuple(traces), blind=bool(row["blind"]), turns=_later(row, "turns"), **{name: row[name] for name in names})


def trace_row(trace: Trace, comparison_id: str, created_at: str) -> Row:
    row = {
        "id": text(trace.id, "The trace's id"),
        "created_at": text(trace.created_at or created_at, "The time"),
        "comparison_id": text(comparison_id, "The comparison's id"),
        "column": text(trace.column, "The column"),
        "place": whole(trace.place, "The place"),
        "run": json_text(trace.run.plain(), "The run"),
        "response": mended(trace.response, "The response"),
        "steps": steps_json(trace.steps),
        "stop_reason": text(trace.stop_reason, "The stop reason"),
        "error": mended(trace.error, "The error"),
        "parent_trace_id": _optional(text, trace.parent_trace_id, "The parent's id"),
        "branch_position": _optional(whole, trace.branch_position, "The branch position"),
        "seconds": real(trace.seconds, "The seconds"),
        "lm_forwards": whole(trace.lm_forwards, "The number of LM forwards"),
        "reward_forwards": whole(trace.reward_forwards, "The number of reward forwards"),
        # "" and 0 are NULL, so that an answer of an earlier schema is the same fact
        "note": mended(trace.note, "The note") or None,
        "check_forwards": whole(trace.check_forwards, "The number of check forwards") or None,
        "observer_forwards": whole(trace.observer_forwards, "The number of observer forwards") or None,
        "lm_positions": whole(trace.lm_positions, "The number of LM positions") or None,
        "reward_positions": whole(trace.reward_positions, "The number of reward positions") or None,
        "observer_positions": whole(trace.observer_positions, "The number of observer positions") or None,
    }
    return row | {
        "row_sha256": row_hash(row),
        "text_sha256": text_hash([row[name] for name in TEXT_COLUMNS]),
        "num_tokens": whole(num_tokens(trace), "The number of tokens"),
    }


def trace_of(row: Stored) -> Trace:
    columns = {*row.keys()} - {"run", "steps"}  # a database of an earlier schema that is only read lacks the later columns
    plain = {f.name: row[f.name] for f in fields(Trace) if f.name in columns and (row[f.name] is not None or f.default is None)}
    stored_number = row["num_tokens"] if "num_tokens" in columns else None
    return Trace(run=from_dict(Run, json.loads(row["run"])), steps=StoredSteps(row["steps"], stored_number), **plain)  # type: ignore[arg-type]


def vote_row(vote: Vote, created_at: str) -> Row:
    """`vote` with its rater and revision."""
    row = {
        "id": text(vote.id, "The vote's id"),
        "created_at": text(vote.created_at or created_at, "The time"),
        "comparison_id": text(vote.comparison_id, "The comparison's id"),
        "rater_id": text(vote.rater_id, "The rater"),
        "revision": whole(vote.revision, "The revision"),
        "verdict": text(vote.verdict, "The verdict"),
        "best_trace_id": _optional(text, vote.best_trace_id, "The best answer"),
        "seen_trace_ids": json_text([text(seen, "An answer's id") for seen in vote.seen_trace_ids], "The answers seen"),
        "strength": _optional(whole, vote.strength, "The strength"),
        "reasons": json_text([text(reason, "A reason") for reason in vote.reasons], "The reasons"),
        "comment": text(vote.comment, "The comment"),
        "guideline_version": text(vote.guideline_version, "The guideline version"),
        "dwell_ms": _optional(whole, vote.dwell_ms, "The dwell time"),
        "ranking": json_text(vote.ranking, "The ranking") if vote.ranking else None,  # NULL is left out of the hash
    }
    return row | {"row_sha256": row_hash(row)}


def vote_of(row: Stored) -> Vote:
    plain = {name: row[name] for name in PLAIN_OF_VOTE}
    seen, reasons = json.loads(row["seen_trace_ids"]), json.loads(row["reasons"])
    return Vote(seen_trace_ids=tuple(seen), reasons=tuple(reasons), ranking=ranking_of(row), **plain)


def ranking_of(row: Stored) -> Ranking:
    """The ranking of a vote's row."""
    return _later(row, "ranking")


def _later(row: Stored, name: str) -> tuple[Any, ...]:
    """Lists in a column that came later, as tuples; a database of an earlier schema that is only read has none."""
    try:
        stored = row[name]
    except (IndexError, KeyError):
        return ()
    return tuple(map(tuple, json.loads(stored))) if stored else ()


PLAIN_OF_VOTE = tuple(f.name for f in fields(Vote) if f.name not in ("seen_trace_ids", "reasons", "ranking"))


def mark_row(span: Span, created_at: str) -> Row:
    """`span` with its rater."""
    row = {
        "id": text(span.id, "The mark's id"),
        "created_at": text(span.created_at or created_at, "The time"),
        "trace_id": text(span.trace_id, "The answer"),
        "rater_id": text(span.rater_id, "The rater"),
        "start": whole(span.start, "The mark's start"),
        "end": whole(span.end, "The mark's end"),
        "label": text(span.label, "The label"),
        "comment": text(span.comment, "The comment"),
    }
    return row | {"row_sha256": row_hash(row)}


def span_of(row: Stored) -> Span:
    return Span(**{f.name: row[f.name] for f in fields(Span)})


class StoredSteps(Sequence[Step]):
    """Steps of an answer as stored JSON, equal to the tuple of them; parsed on first access. Their number and token ids are read
    without parsing them.

    An answer from elsewhere has no steps; `num_tokens`, and `token_ids` where they are known, say what it had where it was generated.
    """

    def __init__(self, content: str, num_tokens: int | None = None):
        self.content, self._num_tokens = content, num_tokens

    @classmethod
    def missing(cls, num_tokens: int = 0, token_ids: Sequence[int] = ()) -> "StoredSteps":
        """Of an answer whose steps are not known."""
        ids = json_text(list(token_ids), "The token ids")
        return cls(steps_json(()).replace(f"{IDS_FIRST}]", f"{IDS_FIRST}{ids[1:]}", 1), max(num_tokens, len(token_ids)))

    @cached_property
    def token_ids(self) -> tuple[int, ...]:
        if self.content.startswith(IDS_FIRST):
            return tuple(json.loads(self.content[len(IDS_FIRST) - 1 : self.content.index("]") + 1]))
        packed = json.loads(self.content)
        at = packed["step"].index("token_id")
        return tuple(step[at] for step in packed["steps"])

    @property
    def num_tokens(self) -> int:
        return len(self.token_ids) if self._num_tokens is None else self._num_tokens

    @cached_property
    def _steps(self) -> tuple[Step, ...]:
        return steps_of(self.content)

    def __len__(self) -> int:
        return 0 if self.content.endswith(NO_STEPS) else len(self.token_ids)

    def __getitem__(self, index: Any) -> Any:
        return self._steps[index]

    def __iter__(self) -> Iterator[Step]:
        return iter(self._steps)

    def __eq__(self, other: object) -> bool:
        if isinstance(other, StoredSteps):
            return self.content == other.content or self._steps == other._steps
        return self._steps == other

    def __hash__(self) -> int:
        return hash(self._steps)

    def __repr__(self) -> str:
        return repr(self._steps)


class Unread(Sequence[Step]):
    """Steps that were not read: only their number is known."""

    token_ids: tuple[int, ...] = ()

    def __init__(self, num_tokens: int):
        self.num_tokens = num_tokens

    def __len__(self) -> int:
        return self.num_tokens

    def __getitem__(self, index: Any) -> Any:
        raise AssertionError("these steps were not read")


def steps_json(steps: Sequence[Step]) -> str:
    """The steps as arrays under one list of names: {"token_ids": [id, …], "step": [names], "candidate": [names], "tried": [names],
    "rewards": [names], "steps": [[…], …]}.

    A candidate's rewards are a flat [index, value, index, value]; floats are written whole. Names travel with the
    data, so a field added later finds its default in older rows. The token ids stand first, where they are read alone; rows of the
    first versions have none there.
    """
    if isinstance(steps, StoredSteps):
        return steps.content
    names: dict[str, int] = {}
    packed = [_packed(step, names) for step in steps]
    head: dict[str, list] = {"token_ids": [step.token_id for step in steps]}
    head |= {kind.__name__.lower(): [f.name for f in fields(kind)] for kind in (Step, Candidate, Tried)}
    return json_text(head | {"rewards": list(names), "steps": packed}, "The steps")


def steps_of(content: str) -> tuple[Step, ...]:
    packed = json.loads(content)
    names = packed["rewards"]

    def unpacked(kind: type, values: list) -> Any:
        known = {f.name for f in fields(kind)}
        record = {name: value for name, value in zip(packed[kind.__name__.lower()], values, strict=True) if name in known}
        if "rewards" in record:
            record["rewards"] = _rewards(record["rewards"], names)
        if "token_ids" in record:
            record["token_ids"] = tuple(record["token_ids"])
        for name, part in (("candidates", Candidate), ("tried", Tried)):
            if name in record:
                record[name] = tuple(unpacked(part, values) for values in record[name])
        return kind(**record)

    return tuple(unpacked(Step, step) for step in packed["steps"])


def _packed(record: Step | Candidate | Tried, names: dict[str, int]) -> list:
    values = dict(vars(record))  # in the order of the fields
    if "rewards" in values:
        values["rewards"] = [part for name, reward in values["rewards"] for part in (names.setdefault(name, len(names)), reward)]
    for name in values.keys() & {"candidates", "tried"}:
        values[name] = [_packed(part, names) for part in values[name]]
    return list(values.values())


def _rewards(flat: list, names: list[str]) -> Rewards:
    return tuple((names[flat[i]], flat[i + 1]) for i in range(0, len(flat), 2))


def _plain(value: Any, label: str) -> Any:
    """The value as JSON can hold it without loss. Raises StoreError."""
    kind = type(value)
    if kind is float:
        if not math.isfinite(value):
            raise StoreError(f"{label} may hold finite numbers only.", f"Found {value}.")
        return value
    if kind is int:
        return value if -(2**63) <= value < 2**63 else whole(value, f"{label}: a number")
    if value is None or kind is bool:
        return value
    if isinstance(value, str):
        text(value.replace("\0", ""), label)
        return str(value)
    if isinstance(value, Mapping):
        return {_plain(key, label): _plain(item, label) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item, label) for item in value]
    scalar = _scalar(value)
    if type(scalar) not in (int, float, bool):
        raise StoreError(f"{label} holds something that cannot be stored.", f"Found {kind.__name__}: {value!r}.")
    return _plain(scalar, label)


def _scalar(value: Any) -> Any:
    """The Python value of a numpy or torch scalar."""
    return value.item() if hasattr(value, "item") and not getattr(value, "shape", ()) else value


def _optional(clean: Any, value: Any, label: str) -> Any:
    return None if value is None else clean(value, label)
