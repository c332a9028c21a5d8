"""Storing what a plan holds: all of it or nothing, and only what is not stored already."""

import sqlite3
from collections import Counter
from dataclasses import replace
from typing import TYPE_CHECKING

from rgtg.errors import BadData, StoreError
from rgtg.records import Comparison, Span, Vote, new_id, now
from rgtg.store import queries, rows
from rgtg.store.exchange.records import ImportReport, Plan
from rgtg.store.statements.exclusions import flag

if TYPE_CHECKING:
    from rgtg.store.store import Store


def import_plan(store: "Store", plan: Plan) -> ImportReport:
    """Store a plan in one transaction; the report with the numbers of what is new. StoreError, and nothing stored, where a record with one of its
    ids says something else."""
    return store._write(lambda conn: _Import(conn, store, plan).keep())


class _Import:
    def __init__(self, conn: sqlite3.Connection, store: "Store", plan: Plan):
        self._conn, self._store, self._plan, self._at = conn, store, plan, now()
        self._raters: dict[str, str] = {}
        self._new = Counter(comparisons=0, votes=0, marks=0)
        self._were_there: set[str] = set()  # answers: their marks are there too

    def keep(self) -> ImportReport:
        self._conn.execute("PRAGMA defer_foreign_keys=ON")  # answers are stored before their comparison: see `Store.add_comparison`
        for comparison in self._plan.comparisons:
            self._comparison(comparison)
        for vote in self._plan.votes:
            self._vote(vote)
        for mark in self._plan.marks:
            self._mark(mark)
        detail = {"source": self._plan.report.source.replace("\\", "/").rpartition("/")[2], **self._new}
        if any(self._new.values()):
            queries.insert(
                self._conn, "events", {"id": new_id(), "created_at": self._at, "kind": "import", "actor": "", "detail": rows.json_text(detail, "")}
            )
        return replace(self._plan.report, new=dict(self._new))

    def _comparison(self, comparison: Comparison) -> None:
        row = rows.comparison_row(comparison, self._at)
        stored = queries.one(self._conn, "SELECT prompt FROM comparisons WHERE id = ?", comparison.id)
        if stored is not None and stored["prompt"] != comparison.prompt:
            raise self._differs("comparison", comparison.id, "prompt")
        for trace in comparison.traces:
            there = queries.one(self._conn, "SELECT comparison_id, response FROM traces WHERE id = ?", trace.id)
            if there is None:
                queries.insert(self._conn, "traces", rows.trace_row(trace, comparison.id, row["created_at"]))
            elif (there["comparison_id"], there["response"]) != (comparison.id, trace.response):
                raise self._differs("answer", trace.id, "text")
            else:
                self._were_there.add(trace.id)
        if stored is None:
            queries.insert(self._conn, "comparisons", row)
            self._new["comparisons"] += 1

    def _vote(self, vote: Vote) -> None:
        stored = queries.one(self._conn, "SELECT * FROM votes WHERE id = ?", vote.id)
        if stored is not None:
            if (stored["comparison_id"], stored["verdict"], stored["best_trace_id"]) != (vote.comparison_id, vote.verdict, vote.best_trace_id):
                raise self._differs("vote", vote.id, "verdict")
            return
        rater_id = self._rater(vote.rater_id or "")
        sql = "SELECT coalesce(max(revision), 0) FROM votes WHERE comparison_id = ? AND rater_id = ?"
        revision = queries.value(self._conn, sql, vote.comparison_id, rater_id) + 1
        queries.insert(self._conn, "votes", rows.vote_row(replace(vote, rater_id=rater_id, revision=max(revision, vote.revision)), self._at))
        self._new["votes"] += 1
        for rejected, reason in self._plan.excluded.get(vote.id, {}).items():
            flag(self._conn, vote.id, reason, rejected)

    def _mark(self, mark: Span) -> None:
        if queries.one(self._conn, "SELECT 1 FROM marks WHERE id = ?", mark.id) or (self._plan.known_raters and mark.trace_id in self._were_there):
            return
        queries.insert(self._conn, "marks", rows.mark_row(replace(mark, rater_id=self._rater(mark.rater_id or "")), self._at))
        self._new["marks"] += 1

    def _rater(self, name: str) -> str:
        """The id of a rater; of our own exports the id itself."""
        if name not in self._raters:
            if self._plan.known_raters and name:
                if queries.one(self._conn, "SELECT 1 FROM raters WHERE id = ?", name) is None:
                    hashed = self._store._hmac("anonymous", f"import\n{name}")
                    row = {"id": rows.text(name, "The rater"), "created_at": self._at, "kind": "anonymous", "subject_hmac": hashed}
                    queries.insert(self._conn, "raters", row)
                self._raters[name] = name
            else:
                self._raters[name] = self._store._keep_rater(self._conn, "anonymous", f"import\n{name}")
        return self._raters[name]

    def _differs(self, kind: str, record_id: str, part: str) -> BadData | StoreError:
        found = f"The {kind} `{record_id}` is stored with another {part}."
        return BadData(f"`{self._plan.report.source}` was not imported.", found, "Nothing of it was stored.")
