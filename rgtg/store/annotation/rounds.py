"""Pairs of annotation tasks, consent of raters, flags on votes; one transaction per method.

A pair is a blind comparison whose `pair_rule` is JSON with the `task` it belongs to. Knows nothing of which pair comes next.
"""

import json
import sqlite3
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

from rgtg.ratings.careless import Conduct
from rgtg.records import Vote, new_id, now
from rgtg.store import queries, rows
from rgtg.store.annotation import erasing, sifting

OF_TASK = "blind = 1 AND CASE WHEN json_valid(pair_rule) THEN json_extract(pair_rule, '$.task') END = ?"
TRACES = f"SELECT comparison_id, id, parent_trace_id FROM traces WHERE comparison_id IN (SELECT id FROM comparisons WHERE {OF_TASK}) ORDER BY place"
VOTES = f"""
    SELECT comparison_id, rater_id, verdict, best_trace_id FROM current_votes
    WHERE comparison_id IN (SELECT id FROM comparisons WHERE {OF_TASK}) ORDER BY seq"""


@dataclass(frozen=True)
class StoredPair:
    """A pair of a task: who it was made for, the rule that chose it, its answers in the order on screen, and the current votes as
    (rater, verdict, best answer). `branches`: whether the answers are branches of one, which is not on screen."""

    id: str
    rater_id: str | None
    state: str
    rule: dict[str, Any]
    traces: tuple[str, ...]
    votes: tuple[tuple[str, str, str | None], ...]
    created_at: str


class AnnotationRows:
    """Methods of `store.annotation`."""

    def __init__(
        self, write: Callable[[Callable[[sqlite3.Connection], Any]], Any], reading: Callable[[], AbstractContextManager[sqlite3.Connection]]
    ):
        self._write, self._reading = write, reading

    def pairs(self, task_id: str) -> list[StoredPair]:
        """All pairs of a task, oldest first."""
        traces: dict[str, list[tuple[str, bool]]] = {}
        votes: dict[str, list[tuple[str, str, str | None]]] = {}
        with self._reading() as conn:
            for row in conn.execute(TRACES, (task_id,)):
                traces.setdefault(row["comparison_id"], []).append((row["id"], row["parent_trace_id"] is not None))
            for row in conn.execute(VOTES, (task_id,)):
                votes.setdefault(row["comparison_id"], []).append((row["rater_id"], row["verdict"], row["best_trace_id"]))
            gold = sifting.gold(conn)
            found = conn.execute(f"SELECT id, rater_id, state, pair_rule, created_at FROM comparisons WHERE {OF_TASK} ORDER BY seq", (task_id,))
            return [
                StoredPair(
                    row["id"], row["rater_id"], row["state"], _rule(row, gold), _on_screen(traces.get(row["id"], [])),
                    tuple(votes.get(row["id"], ())), row["created_at"],
                )
                for row in found
            ]  # fmt: skip

    def vote(self, vote_id: str) -> Vote | None:
        """A stored vote by its id, current or not; None where there is none."""
        with self._reading() as conn:
            row = queries.one(conn, "SELECT * FROM votes WHERE id = ?", vote_id)
        return rows.vote_of(row) if row else None

    def num_votes_since(self, rater_id: str, at: str) -> int:
        """Number of a rater's votes since then, changed ones included; withdrawals are not counted."""
        sql = "SELECT count(*) FROM votes WHERE rater_id = ? AND created_at >= ? AND verdict <> 'withdrawn'"
        with self._reading() as conn:
            return int(queries.value(conn, sql, rater_id, at))

    def conduct(self) -> dict[str, Conduct]:
        """How each rater votes, with the marks of careless ones."""
        with self._reading() as conn:
            return sifting.conduct_of(conn)

    def sieve(self, name: str = "") -> sifting.Sieve:
        """The filter of a snapshot, see `sifting.sieve`."""
        with self._reading() as conn:
            return sifting.sieve(conn, name)

    def consent(self, rater_id: str) -> str:
        """Store that the rater agrees that his votes are stored; the time of the first consent."""

        def task(conn: sqlite3.Connection) -> str:
            queries.need(conn, "raters", rater_id, "rater")
            conn.execute("UPDATE raters SET consent_at = coalesce(consent_at, ?) WHERE id = ?", (now(), rater_id))
            return queries.value(conn, "SELECT consent_at FROM raters WHERE id = ?", rater_id)

        return self._write(task)

    def consent_of(self, rater_id: str) -> str:
        """Time of the rater's consent; "" without one."""
        with self._reading() as conn:
            row = queries.one(conn, "SELECT consent_at FROM raters WHERE id = ?", rater_id)
        return (row["consent_at"] if row else None) or ""

    def set_gold(self, comparison_id: str, trace_id: str, actor: str) -> None:
        """Note that the better answer of a pair is known."""
        row: rows.Row = {"id": new_id(), "created_at": now(), "kind": sifting.GOLD, "actor": actor}
        row["detail"] = rows.json_text({"comparison": comparison_id, "trace": trace_id}, "The gold pair")
        self._write(lambda conn: queries.insert(conn, "events", row))

    def flag(self, vote_id: str, flag: str, detail: str = "") -> None:
        """Flag a vote, e.g. as one on a `broken` pair; once."""
        row: rows.Row = {"id": new_id(), "created_at": now(), "vote_id": vote_id, "flag": rows.text(flag, "The flag")}
        row["detail"] = rows.text(detail, "The detail")

        def task(conn: sqlite3.Connection) -> None:
            queries.need(conn, "votes", vote_id, "vote")
            if not queries.one(conn, "SELECT 1 FROM vote_flags WHERE vote_id = ? AND flag = ?", vote_id, flag):
                queries.insert(conn, "vote_flags", row)

        self._write(task)

    def erase(self, rater_id: str) -> dict[str, int]:
        """Erase the rater's votes, marks, flags and consent, see `erasing`; the number of each."""
        return self._write(lambda conn: erasing.erase(conn, rater_id))


def _rule(row: sqlite3.Row, gold: Mapping[str, str]) -> dict[str, Any]:
    rule: dict[str, Any] = json.loads(row["pair_rule"])
    return rule | ({"gold": gold[row["id"]]} if row["id"] in gold else {})


def _on_screen(traces: list[tuple[str, bool]]) -> tuple[str, ...]:
    """Ids of the answers to vote on: of a pair of branches, not the answer that they branch off from."""
    branches = tuple(trace_id for trace_id, is_branch in traces if is_branch)
    return branches or tuple(trace_id for trace_id, _ in traces)
