"""SQL of comparisons, traces, votes and marks, on a given connection.

Knows nothing of threads, files or transactions: a caller that writes is inside a task of the writer.
"""

import sqlite3
from collections.abc import Iterator, Sequence, Set
from typing import Any

from rgtg.errors import StoreError, UnknownRecord
from rgtg.preferences.items.rankings import problem
from rgtg.records import ANSWERS, STATES, Comparison, Span, Vote
from rgtg.store import rows

UNDECIDABLE = ("expired", "abandoned")
DAMAGED, RESTORE = "The database is damaged.", "Restore the newest backup that passes."


def check_vote(vote: Vote, state: str, trace_ids: Set[str]) -> None:
    """Raise StoreError where a vote is not valid for a comparison of this state with these answers."""
    if vote.verdict not in ANSWERS:
        raise StoreError(f"A verdict is one of {', '.join(ANSWERS)}.", f"Found `{vote.verdict}`.")
    if state in UNDECIDABLE:
        raise StoreError("The vote was not stored.", f"This comparison is {state}.", "Generate a new one.")
    foreign = {*vote.seen_trace_ids, *([vote.best_trace_id] if vote.best_trace_id else ())} - trace_ids
    if foreign:
        raise StoreError("The vote was not stored: it names an answer of another comparison.", f"Found {', '.join(sorted(foreign))}.")
    if (vote.verdict == "best") != (vote.best_trace_id is not None):
        raise StoreError("The verdict `best` names the best answer; the others name none.", f"Found `{vote.verdict}` with {vote.best_trace_id!r}.")
    if vote.best_trace_id and vote.best_trace_id not in vote.seen_trace_ids:
        raise StoreError("The best answer has to be among those that were there to be seen.", "It had no token yet.", "Wait for it.")
    if vote.verdict in ("tie", "all_bad") and not vote.seen_trace_ids:
        raise StoreError("A vote says which answers were there to be seen.", "It names none.")
    if wrong := problem(vote):
        raise StoreError("The vote was not stored: its ranking is not one of the answers.", wrong)


def is_new(conn: sqlite3.Connection, table: str, row: rows.Row) -> bool:
    """Whether no row has this id. Raises StoreError where the stored row differs."""
    stored = one(conn, f"SELECT * FROM {table} WHERE id = ?", row["id"])
    changed = rows.differing(row, stored) if stored else []
    if changed:
        difference = f"`{row['id']}` in `{table}` differs in {', '.join(changed)}."
        raise StoreError("A stored record cannot be changed.", difference, "Store it under a new id.")
    return stored is None


def insert(conn: sqlite3.Connection, table: str, row: rows.Row) -> None:
    names = ", ".join(f'"{name}"' for name in row)
    conn.execute(f"INSERT INTO {table} ({names}) VALUES ({', '.join('?' * len(row))})", tuple(row.values()))


def keep(conn: sqlite3.Connection, table: str, row: rows.Row) -> bool:
    """Insert the row unless it is stored; whether it was new."""
    new = is_new(conn, table, row)
    if new:
        insert(conn, table, row)
    return new


def keep_traces(conn: sqlite3.Connection, traces: list[rows.Row]) -> None:
    for row in traces:
        if is_new(conn, "traces", row):
            sql = 'SELECT id FROM traces WHERE comparison_id = ? AND "column" = ? ORDER BY seq DESC'
            last = one(conn, sql, row["comparison_id"], row["column"])
            if last and last["id"] != row["parent_trace_id"]:  # else it goes on where that one was stopped
                raise StoreError(f"Column {row['column']} of this comparison is taken by another answer.", "", "Use the next free letter.")
            insert(conn, "traces", row)
    for row in traces:
        parent = row["parent_trace_id"]
        if parent and not one(conn, "SELECT 1 FROM traces WHERE id = ? AND comparison_id = ?", parent, row["comparison_id"]):
            raise StoreError("A branch needs its parent in the same comparison.", f"Found parent `{parent}`.")


def move(conn: sqlite3.Connection, comparison_id: str, state: str) -> None:
    stored_state = need(conn, "comparisons", comparison_id, "comparison")["state"]
    if state not in STATES:
        raise StoreError(f"A state is one of {', '.join(STATES)}.", f"Found `{state}`.")
    if stored_state == "open":
        conn.execute("UPDATE comparisons SET state = ? WHERE id = ?", (state, comparison_id))
    elif state not in (stored_state, "open"):
        raise StoreError(f"A comparison that is {stored_state} stays so.", f"Asked for: {state}.")


def one(conn: sqlite3.Connection, sql: str, *values: object) -> sqlite3.Row | None:
    return conn.execute(sql, values).fetchone()


def value(conn: sqlite3.Connection, sql: str, *values: object) -> Any:
    """The first column of a query that always has a row."""
    return conn.execute(sql, values).fetchone()[0]


def count(conn: sqlite3.Connection, key: str, table: str) -> int:
    """The count that the database keeps under this key; counted anew in a read-only database of an older schema without it."""
    return int(value(conn, f"SELECT coalesce((SELECT value FROM meta WHERE key = ?), (SELECT count(*) FROM {table}))", key))


def need(conn: sqlite3.Connection, table: str, row_id: str, kind: str) -> sqlite3.Row:
    row = one(conn, f"SELECT * FROM {table} WHERE id = ?", row_id)
    if row is None:
        raise UnknownRecord(f"There is no {kind} `{row_id}` in this database.")
    return row


def current(conn: sqlite3.Connection, comparison_id: str, rater_id: str) -> Vote | None:
    row = one(conn, "SELECT * FROM current_votes WHERE comparison_id = ? AND rater_id = ?", comparison_id, rater_id)
    return rows.vote_of(row) if row else None


def votes(conn: sqlite3.Connection, comparison_id: str, checked_too: bool = False) -> tuple[Vote, ...]:
    vote_rows = conn.execute("SELECT * FROM votes WHERE comparison_id = ? ORDER BY seq", (comparison_id,)).fetchall()
    return tuple(rows.vote_of(checked("votes", row) if checked_too else row) for row in vote_rows)


def comparison(conn: sqlite3.Connection, row: sqlite3.Row, checked_too: bool = False) -> Comparison:
    trace_rows = conn.execute("SELECT * FROM traces WHERE comparison_id = ? ORDER BY seq", (row["id"],)).fetchall()
    return rows.comparison_of(row, [rows.trace_of(checked("traces", trace) if checked_too else trace) for trace in trace_rows])


def checked_facts(conn: sqlite3.Connection) -> Iterator[tuple[Comparison, tuple[Vote, ...]]]:
    """Every comparison with its votes, oldest first; StoreError naming the first row that does not fit its hash."""
    conn.text_factory = lambda content: content.decode("utf-8", "surrogateescape")  # damaged text is named, it does not stop the query
    check_indexes(conn)
    for row in conn.execute("SELECT * FROM comparisons ORDER BY seq"):
        if rows.sha256(row["prompt"]) != row["prompt_sha256"]:
            raise damaged("comparisons", row)
        yield comparison(conn, row, checked_too=True), votes(conn, row["id"], checked_too=True)
    report = value(conn, "PRAGMA integrity_check(1)")  # which reads the steps of every answer
    if report != "ok":
        raise StoreError(DAMAGED, f"SQLite says: {report}.", RESTORE)


def check_indexes(conn: sqlite3.Connection) -> None:
    """Raise StoreError where an index by comparison has lost a vote or an answer: a hash does not see what is not found.

    Answers are counted in the index of their ids: their table is as large as their steps.
    """
    for table, other in (("votes", "NOT INDEXED"), ("traces", "INDEXED BY sqlite_autoindex_traces_1 WHERE id >= ''")):
        by_index = value(conn, f"SELECT count(*) FROM {table} WHERE comparison_id >= ''")
        in_table = value(conn, f"SELECT count(*) FROM {table} {other}")
        if by_index != in_table:
            raise StoreError(DAMAGED, f"`{table}` has {in_table} rows, and its index {by_index}.", RESTORE)


def checked(table: str, row: sqlite3.Row) -> sqlite3.Row:
    if rows.row_hash(row) != row["row_sha256"]:
        raise damaged(table, row)
    return row


def damaged(table: str, row: sqlite3.Row) -> StoreError:
    return StoreError(DAMAGED, f"Row {row['seq']} of `{table}` (id {row['id']}) does not fit its hash.", RESTORE)


def standing(spans: Sequence[Span]) -> tuple[Span, ...]:
    """Current marks of one answer, in order: each rater's last mark on each span, unless withdrawn."""
    last = {(span.rater_id, span.start, span.end): span for span in spans}
    return tuple(span for span in spans if last[span.rater_id, span.start, span.end] is span and span.label != "withdrawn")
