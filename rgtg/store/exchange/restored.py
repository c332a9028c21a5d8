"""Our own exports as records again: with their ids, so that what is stored already is recognised, and exported again they are the same rows.

Answers have no steps; they keep the number of their tokens. Knows nothing of SQL.
"""

import json
import re
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from rgtg.config import COLUMN_NAMES, GenerationConfig
from rgtg.errors import BadData
from rgtg.preferences.items.rankings import Ranking, verdict_of
from rgtg.preferences.pairs import num_tokens
from rgtg.preferences.rows import CELLS, NumberedRow, Rows
from rgtg.preferences.text_rows import BadRow
from rgtg.records import Comparison, Run, Span, Trace, Vote
from rgtg.store.exchange.files import text_of_cell
from rgtg.store.exchange.records import ImportReport, Plan, content_id
from rgtg.store.rows import StoredSteps
from rgtg.system.serialization import from_dict

Row = Mapping[str, Any]
NAMES = (  # of all columns that are read, for tables
    "prompt", "comparison_id", "vote_id", "rater_id", "voted_at", "strength", "guideline_version", "num_seen", "blind", "pair_rule", "num_common",
    "chosen", "rejected", "verdict", "best_trace_id", "revision", "is_current", "excluded", "excluded_pairs", "reasons", "comment", "dwell_ms",
    "seen_trace_ids", "compared_at", "answers", "marks", "completion", "label", "completions", "labels", "marked_at", "margin", "mark_id", "source",
    "chosen_ids", "ranking", "prompt_turns",
)  # fmt: skip
OF_ANSWER = (
    "trace_id", "column", "place", "stop_reason", "num_tokens", "method", "params", "seed", "generation", "base_lm", "reward_model", "combine",
    "versions",
)  # fmt: skip
KNOWN = frozenset([*NAMES, *(f"{side}{name}" for side in ("", "chosen_", "rejected_") for name in OF_ANSWER)])
GUIDE = re.compile(r"(?P<name>.+?)(?:@(?P<revision>[^@*]*))?(?:\*(?P<weight>-?[\d.]+(?:e[+-]?\d+)?))?$")


def plan_own(source: str | Path, split: str = "train") -> Plan | None:
    """The plan of an export of ours; None where it is none. Raises BadData naming the row and the field."""
    if not Path(source).exists():
        return None  # a data set of the hub
    reader, name, restored = Rows(source, split, KNOWN), Path(source).name, None
    for numbered in reader:
        row = numbered.row
        if restored is None:
            restore = _format_of(row, name) if isinstance(row, Mapping) else None
            if restore is None:
                return None
            restored = _Restored(str(source), restore)
        try:
            restored.add(_checked(numbered))
        except (KeyError, ValueError, TypeError, BadRow) as error:
            found = error.found if isinstance(error, BadRow) else f"`{error.args[0]}`" if isinstance(error, KeyError) else str(error)
            wrong = f"Row {numbered.number} of `{name}` cannot be imported."
            raise BadData(wrong, f"It is not as it was exported: {found}.", "Export it again, or remove the row.") from error
    return restored.plan() if restored else None


def _format_of(row: Row, name: str) -> "Callable[[_Restored, _Fields], None] | None":
    has = row.keys()
    if not {"comparison_id", "rater_id"} <= has and not {"comparison_id", "vote_id"} <= has:
        return None
    if {"verdict", "answers"} <= has:
        return _Restored.vote
    if {"chosen_trace_id", "rejected_trace_id", "num_seen", "prompt"} <= has:
        return _Restored.pair
    if {"completion", "label", "verdict"} <= has:
        return _Restored.single
    if {"completions", "labels", "marked_at"} <= has:
        return _Restored.steps
    if has & {"chosen_ids", "mark_id"}:
        do = "Import an export as preference, votes, unpaired or stepwise instead."
        raise BadData(f"`{name}` is an export for training, which does not have what a vote was.", f"Found {', '.join(sorted(has)[:8])}.", do)
    return None


def _checked(numbered: NumberedRow) -> "_Fields":
    if isinstance(numbered.row, BadRow):
        raise numbered.row
    if not isinstance(numbered.row, Mapping):
        raise BadRow("it is no object with names")
    return _Fields(numbered.row, numbered.kind == CELLS)


class _Fields:
    """The values of a row by their types, of a table of texts too."""

    def __init__(self, row: Row, cells: bool):
        self._row, self._cells = row, cells

    def text(self, name: str) -> str:
        value = self._row[name]
        value = "" if value is None else value
        if not isinstance(value, str):
            raise BadRow(f"`{name}` is no text")
        return text_of_cell(value) if self._cells else value

    def number(self, name: str) -> int:
        value = self._row[name]
        with suppress(ValueError):
            value = int(value) if isinstance(value, str) else value
        if type(value) is not int:
            raise BadRow(f"`{name}` is no whole number")
        return value

    def flag(self, name: str) -> bool:
        value = {"true": True, "false": False}.get(self._row[name], self._row[name]) if isinstance(self._row[name], str) else self._row[name]
        if type(value) is not bool:
            raise BadRow(f"`{name}` is neither true nor false")
        return value

    def json(self, name: str) -> Any:
        value = self._row[name]
        try:
            return json.loads(self.text(name)) if isinstance(value, str) else value
        except ValueError:
            raise BadRow(f"`{name}` is no JSON") from None

    def ranking(self) -> Ranking:
        """The ranking of a vote; exports of the first versions have none."""
        levels = self.json("ranking") if self._row.get("ranking") else []
        if not isinstance(levels, list) or not all(isinstance(level, list) and all(isinstance(name, str) for name in level) for level in levels):
            raise BadRow("`ranking` is no list of levels")
        return tuple(map(tuple, levels))

    def answer(self, prompt: str, response: str, side: str = "") -> Trace:
        """An answer of its provenance."""
        guides = [_guide(part) for part in self.text(f"{side}reward_model").split(" + ") if part]
        run = from_dict(Run, {
            "prompt": prompt, "method": self.text(f"{side}method"), "params": [*self.json(f"{side}params").items()],
            "seed": self.number(f"{side}seed"), "base_lm": _ref(self.text(f"{side}base_lm")), "guides": guides,
            "combine": self.text(f"{side}combine") or "sum", "generation": GenerationConfig(**self.json(f"{side}generation")).__dict__,
            "versions": [*self.json(f"{side}versions").items()],
        })  # fmt: skip
        column = self.text(f"{side}column")
        if column not in COLUMN_NAMES:
            raise BadRow(f"`{side}column` is no letter of a column")
        steps: Any = StoredSteps.missing(self.number(f"{side}num_tokens"))
        ends = {"stop_reason": self.text(f"{side}stop_reason"), "place": self.number(f"{side}place")}
        return Trace(self.text(f"{side}trace_id"), column, run, steps, response, **ends)  # type: ignore[arg-type]


def _ref(text: str) -> dict[str, str]:
    name, _, revision = text.rpartition("@") if "@" in text else (text, "", "")
    return {"name": name, "revision": revision}


def _guide(text: str) -> list[Any]:
    match = GUIDE.fullmatch(text)
    assert match is not None
    return [{"name": match["name"], "revision": match["revision"] or ""}, float(match["weight"] or 1)]


class _Restored:
    """Collects the comparisons and votes of rows."""

    def __init__(self, source: str, restore: "Callable[[_Restored, _Fields], None]"):
        self._source, self._restore, self._num_rows = source, restore, 0
        self._comparisons: dict[str, Comparison] = {}
        self._traces: dict[str, dict[str, Trace]] = {}
        self._votes: dict[str, Vote] = {}
        self._num_seen: dict[str, int] = {}
        self._marks: dict[str, Span] = {}
        self._excluded: dict[str, dict[str, str]] = {}

    def add(self, row: _Fields) -> None:
        self._num_rows += 1
        self._restore(self, row)

    # --- formats

    def pair(self, row: _Fields) -> None:
        prompt = self._comparison(row)
        chosen, rejected = (row.answer(prompt, row.text(side), f"{side}_") for side in ("chosen", "rejected"))
        comparison_id = row.text("comparison_id")
        chosen, rejected = self._answer(comparison_id, chosen), self._answer(comparison_id, rejected)
        self._share(comparison_id, chosen, rejected, row.number("num_common"))
        self._vote(row, "best", chosen.id, (chosen.id, rejected.id))

    def single(self, row: _Fields) -> None:
        trace = self._answer(row.text("comparison_id"), row.answer(self._comparison(row), row.text("completion")))
        self._vote(row, row.text("verdict"), trace.id if row.flag("label") else None, (trace.id,))

    def steps(self, row: _Fields) -> None:
        texts, labels = row.json("completions"), row.json("labels")
        trace = self._answer(row.text("comparison_id"), row.answer(self._comparison(row), "".join(texts)))
        at = 0
        for number, (text, label) in enumerate(zip(texts, labels, strict=True)):
            mark_id = content_id("mark", trace.id, number, row.text("rater_id"))
            label_name = "good" if label else "bad"
            mark = Span(mark_id, trace.id, at, at + len(text), label_name, row.text("rater_id"), created_at=row.text("marked_at"))
            self._marks[mark_id], at = mark, at + len(text)

    def vote(self, row: _Fields) -> None:
        self._comparison(row, row.text("compared_at"))
        comparison_id = row.text("comparison_id")
        for answer in row.json("answers"):
            run, number = from_dict(Run, json.loads(answer["run"])), answer["num_tokens"] or 0
            plain = {name: value for name, value in answer.items() if name not in ("run", "num_tokens") and value is not None}
            self._traces[comparison_id].setdefault(answer["id"], Trace(run=run, steps=StoredSteps.missing(number), **plain))  # type: ignore[arg-type]
        for mark in row.json("marks"):
            self._marks[mark["id"]] = Span(**mark)
        vote_id = row.text("vote_id")
        self._votes[vote_id] = Vote(
            vote_id, comparison_id, row.text("verdict"), row.text("best_trace_id") or None, tuple(row.json("seen_trace_ids")), row.text("rater_id"),
            row.number("strength") or None, tuple(row.json("reasons")), row.text("comment"), row.text("guideline_version"),
            row.number("dwell_ms") or None, row.number("revision"), row.text("voted_at"), row.ranking(),
        )  # fmt: skip
        self._excluded[vote_id] = ({"": row.text("excluded")} if row.text("excluded") else {}) | dict(row.json("excluded_pairs"))

    # --- parts

    def _comparison(self, row: _Fields, created_at: str = "") -> str:
        comparison_id, prompt = row.text("comparison_id"), row.text("prompt")
        if comparison_id not in self._comparisons:
            extra = {"pair_rule": row.text("pair_rule"), "blind": row.flag("blind")} if "pair_rule" in row._row else {}
            turns = tuple((turn["role"], turn["content"]) for turn in row.json("prompt_turns")) if row._row.get("prompt_turns") else ()
            self._comparisons[comparison_id] = Comparison(comparison_id, prompt, created_at=created_at, turns=turns, **extra)  # type: ignore[arg-type]
            self._traces[comparison_id] = {}
        if self._comparisons[comparison_id].prompt != prompt:
            raise BadRow("its comparison has another prompt in a row before")
        return prompt

    def _answer(self, comparison_id: str, trace: Trace) -> Trace:
        """The answer as it is stored: one with the letter of another goes on where that one was stopped."""
        known = self._traces[comparison_id]
        if trace.id in known:
            if known[trace.id].response != trace.response:
                raise BadRow(f"the answer `{trace.id}` has another text in a row before")
            return known[trace.id]
        if before := [other for other in known.values() if other.column == trace.column]:
            trace = replace(trace, parent_trace_id=before[-1].id, branch_position=num_tokens(before[-1]))
        known[trace.id] = trace
        return trace

    def _share(self, comparison_id: str, chosen: Trace, rejected: Trace, number: int) -> None:
        """Keep how many tokens two answers share: one of them branches off the other."""
        known = self._traces[comparison_id]
        for branch, trunk in ((rejected, chosen), (chosen, rejected)):
            if number and branch.parent_trace_id is None and branch.id not in self._line(known, trunk):
                known[branch.id] = replace(branch, parent_trace_id=trunk.id, branch_position=number)
                return

    @staticmethod
    def _line(known: Mapping[str, Trace], trace: Trace) -> set[str]:
        ids = {trace.id}
        while trace.parent_trace_id and trace.parent_trace_id not in ids:
            ids.add(trace.parent_trace_id)
            trace = known[trace.parent_trace_id]
        return ids

    def _vote(self, row: _Fields, verdict: str, best: str | None, seen: tuple[str, ...]) -> None:
        vote_id = row.text("vote_id")
        before = self._votes.get(vote_id)
        self._num_seen[vote_id] = row.number("num_seen")
        if before:
            seen = tuple(dict.fromkeys((*before.seen_trace_ids, *seen)))
            self._votes[vote_id] = replace(before, seen_trace_ids=seen, best_trace_id=before.best_trace_id or best)
            return
        self._votes[vote_id] = Vote(
            vote_id, row.text("comparison_id"), verdict, best, seen, row.text("rater_id"), row.number("strength") or None,
            guideline_version=row.text("guideline_version"), created_at=row.text("voted_at"), ranking=row.ranking(),
        )  # fmt: skip

    def _ranked(self, vote: Vote) -> Vote:
        """The vote with a ranking of those answers that gave a row."""
        known = self._traces[vote.comparison_id]
        ranking = tuple(level for levels in vote.ranking if (level := tuple(name for name in levels if name in known)))
        if not vote.ranking or not ranking:
            return replace(vote, ranking=())
        verdict, best, kept = verdict_of(ranking, max(self._num_seen.get(vote.id, 0), len(vote.seen_trace_ids)))
        return replace(vote, verdict=verdict, best_trace_id=best, ranking=kept)

    def plan(self) -> Plan:
        # an answer that was seen and gave no row keeps its place in the number of answers seen
        votes = [
            replace(vote, seen_trace_ids=(*vote.seen_trace_ids, *(content_id(vote.id, i) for i in range(len(vote.seen_trace_ids), number))))
            if (number := self._num_seen.get(vote.id, 0)) else vote
            for vote in map(self._ranked, self._votes.values())
        ]  # fmt: skip
        comparisons = [
            replace(comparison, traces=tuple(sorted(self._traces[comparison.id].values(), key=lambda t: (t.column, t.created_at))))
            for comparison in self._comparisons.values()
        ]
        raters = {vote.rater_id for vote in votes} | {mark.rater_id for mark in self._marks.values()}
        ties = sum(vote.verdict in ("tie", "all_bad") for vote in votes)
        report = ImportReport(self._source, "an export of rgtg", self._num_rows, len(comparisons), len(votes), len(raters), ties, len(self._marks))
        return Plan(report, comparisons, votes, [*self._marks.values()], known_raters=True, excluded=self._excluded)
