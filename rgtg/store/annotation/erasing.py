"""Erasure of what a rater said, at his request: the one change to facts. It is logged as an event, without what was erased.

Knows nothing of exports, backups and models: what was made of the votes before is out of its reach.
"""

import json
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from rgtg.records import new_id, now
from rgtg.store import queries

ERASED = ("vote_flags", "votes", "marks")  # flags first, which refer to votes
OF_RATER = {"vote_flags": "vote_id IN (SELECT id FROM votes WHERE rater_id = ?)", "votes": "rater_id = ?", "marks": "rater_id = ?"}


def erase(conn: sqlite3.Connection, rater_id: str) -> dict[str, int]:
    """Delete the rater's votes, marks and flags, and forget his consent; the number of rows of each table. Freed pages are overwritten."""
    conn.execute("PRAGMA secure_delete = ON")
    with deleting(conn, ERASED):
        erased = {table: conn.execute(f"DELETE FROM {table} WHERE {OF_RATER[table]}", (rater_id,)).rowcount for table in ERASED}
    conn.execute("UPDATE raters SET consent_at = NULL WHERE id = ?", (rater_id,))
    count_again(conn, rater_id)
    detail = json.dumps({"votes": erased["votes"], "marks": erased["marks"]})
    queries.insert(conn, "events", {"id": new_id(), "created_at": now(), "kind": "votes_erased", "actor": rater_id, "detail": detail})
    return erased


@contextmanager
def deleting(conn: sqlite3.Connection, tables: Sequence[str]) -> Iterator[None]:
    """Suspend the triggers that refuse to delete facts of these tables."""
    triggers = conn.execute("SELECT name, sql FROM sqlite_master WHERE type = 'trigger' AND name LIKE '%\\_refuse\\_delete' ESCAPE '\\'").fetchall()
    suspended = [trigger for trigger in triggers if trigger["name"].removesuffix("_refuse_delete") in tables]
    for trigger in suspended:
        conn.execute(f"DROP TRIGGER {trigger['name']}")
    yield
    for trigger in suspended:
        conn.execute(trigger["sql"])


def count_again(conn: sqlite3.Connection, rater_id: str) -> None:
    """Bring up to date what triggers keep of votes that are added."""
    conn.execute("UPDATE meta SET value = (SELECT count(*) FROM current_votes WHERE verdict <> 'skip') WHERE key = 'num_votes'")
    conn.execute("DELETE FROM comparison_facets WHERE kind = 'voted' AND name = ?", (rater_id,))
    conn.execute(
        "DELETE FROM comparison_facets WHERE kind = 'voted' AND name = '' AND comparison_seq NOT IN"
        " (SELECT comparison_seq FROM comparison_facets WHERE kind = 'voted' AND name <> '')"
    )
