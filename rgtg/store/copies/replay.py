"""Replay of journal files into a database: what it has already is left as it is, so that replaying twice is replaying once.

Rows are found by their ids. Two servers may have written at once, the old one while the new one had started already: then one person may have two
raters, of which the later becomes the earlier. Knows nothing of where the files come from.
"""

import json
import logging
import sqlite3
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rgtg.errors import StoreError
from rgtg.store import queries, rows
from rgtg.store.annotation.erasing import count_again, deleting
from rgtg.store.copies.journal import VERSION, columns, journaled, positions, set_positions
from rgtg.store.schema import newest

log = logging.getLogger(__name__)

DAMAGED, UNFINISHED, NOT_STORED = "damaged", "unfinished", "refused"


@dataclass
class Replayed:
    """Counts of a replay: files and lines that were new, rows that were new or changed, and lines left out by cause."""

    num_files: int = 0
    num_lines: int = 0
    num_rows: int = 0
    left_out: Counter[str] = field(default_factory=Counter)


def replay(conn: sqlite3.Connection, files: Sequence[Path], is_new: bool = False) -> Replayed:
    """Replay these files, each from where the database stops. `is_new`: the database has nothing yet, and takes the raters' key of the first file.

    StoreError where a file is from a newer rgtg. A line that is damaged or refused is left out and counted; the others are stored.
    """
    report = Replayed()
    replaying = _Replaying(conn, report)
    for head, path in sorted(_heads(files), key=lambda found: (found[0]["at"], found[0]["number"], found[1].name)):
        if is_new and report.num_files == 0 and "rater_key" in head:
            conn.execute("UPDATE meta SET value = ? WHERE key = 'rater_key'", (head["rater_key"],))
            conn.commit()
        report.num_files += replaying.file(path)
    for cause, number in report.left_out.items():
        log.warning("journal: %d %s lines left out", number, cause)
    return report


def _heads(files: Sequence[Path]) -> Iterator[tuple[dict[str, Any], Path]]:
    """The first line of each file that has one."""
    for path in files:
        with path.open("rb") as file:
            line = file.readline()
        head: Any = {}
        with suppress(ValueError):
            head = json.loads(line) if line.endswith(b"\n") else {}
        if not isinstance(head, dict) or not isinstance(head.get("journal"), int):
            log.warning("journal: %s has no head and is left out", path.name)
        elif head["journal"] > VERSION or head["schema"] > newest():
            found = f"`{path.name}` has schema {head['schema']}, this rgtg knows {newest()}."
            raise StoreError("The journal of votes was written by a newer rgtg.", found, "Update rgtg.")
        else:
            yield head, path


class _Replaying:
    def __init__(self, conn: sqlite3.Connection, report: Replayed):
        self._conn, self._report = conn, report
        self._columns = {table: columns(conn, table) for table in journaled(conn)}
        self._same: dict[str, str] = {}  # rater in the journal -> the one that the database has for the same person

    def file(self, path: Path) -> bool:
        """Replay a file; whether it had something new."""
        at = start = positions(self._conn).get(path.name, 0)
        with path.open("rb") as file:
            if start == 0:
                at += len(file.readline())
            file.seek(at)
            for line in file:
                if not line.endswith(b"\n"):  # the process died while it wrote
                    self._report.left_out[UNFINISHED] += 1
                    break
                at += len(line)
                self._line(line)
        if at > start:
            set_positions(self._conn, positions(self._conn) | {path.name: at})
            self._conn.commit()
        return at > start

    def _line(self, line: bytes) -> None:
        """One transaction again: all of it or nothing."""
        try:
            changes = [(kind, table, dict(row)) for kind, table, row in json.loads(line)["changes"]]
        except (ValueError, KeyError, TypeError):
            self._report.left_out[DAMAGED] += 1
            return
        self._conn.execute("BEGIN IMMEDIATE")
        self._conn.execute("PRAGMA defer_foreign_keys=ON")  # answers come before their comparison
        try:
            num_rows = sum(self._change(kind, table, row) for kind, table, row in changes)
            self._conn.commit()
        except (sqlite3.Error, StoreError, KeyError, TypeError) as error:
            self._conn.rollback()
            self._report.left_out[DAMAGED if isinstance(error, StoreError) else NOT_STORED] += 1
            log.warning("journal: a line was left out: %s", error)
        else:
            self._report.num_lines, self._report.num_rows = self._report.num_lines + 1, self._report.num_rows + num_rows

    def _change(self, kind: str, table: str, row: rows.Row) -> int:
        """Make one change, if it is not made; the number of rows that it changed."""
        if table not in self._columns:
            raise StoreError("The journal names a table that is not there.", f"Found `{table}`.")
        if kind == "delete":
            return self._delete(table, row["id"])
        if "row_sha256" in row and rows.row_hash(row) != row["row_sha256"]:
            raise StoreError("A row of the journal does not fit its hash.", f"Found `{row['id']}` of `{table}`.")
        row = self._by_known_rater(table, {name: row[name] for name in self._columns[table] if name in row})
        stored = queries.one(self._conn, f'SELECT * FROM "{table}" WHERE id = ?', row["id"])
        if stored is None and not (table == "raters" and self._is_known(row)):
            queries.insert(self._conn, table, row)
            return 1
        if kind == "insert" or stored is None or all(stored[name] == value for name, value in row.items()):
            return 0
        names = ", ".join(f'"{name}" = ?' for name in row)
        return self._conn.execute(f'UPDATE "{table}" SET {names} WHERE id = ?', (*row.values(), row["id"])).rowcount

    def _is_known(self, row: rows.Row) -> bool:
        """Whether the database has this person under another id, which then stands for this one."""
        known = queries.one(self._conn, "SELECT id FROM raters WHERE subject_hmac = ?", row["subject_hmac"])
        if known is not None:
            self._same[row["id"]] = known["id"]
        return known is not None

    def _by_known_rater(self, table: str, row: rows.Row) -> rows.Row:
        rater = self._same.get(row.get("rater_id") or "")
        if rater is None:
            return row
        row = row | {"rater_id": rater}
        if table == "votes":
            sql = "SELECT coalesce(max(revision), 0) FROM votes WHERE comparison_id = ? AND rater_id = ? AND id <> ?"
            row["revision"] = max(row["revision"], 1 + queries.value(self._conn, sql, row["comparison_id"], rater, row["id"]))
        return row | {"row_sha256": rows.row_hash(row)} if "row_sha256" in row else row

    def _delete(self, table: str, row_id: str) -> int:
        stored = queries.one(self._conn, f'SELECT * FROM "{table}" WHERE id = ?', row_id)
        if stored is None:
            return 0
        with deleting(self._conn, (table,)):
            self._conn.execute(f'DELETE FROM "{table}" WHERE id = ?', (row_id,))
        if table == "votes":
            count_again(self._conn, stored["rater_id"])
        return 1
