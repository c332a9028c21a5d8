"""The journal: what each transaction changed, as one JSON line, appended to a file of this start before the transaction commits.

A file begins with {"journal": 1, "schema": 6, "start": uuid, "number": 1, "at": time, "rater_key": …}, the key only where it is the database's own.
Each further line is {"at": time, "changes": [["insert", "votes", {column: value, …}], ["update", …], ["delete", "votes", {"id": …}]]} with rows as
`store.rows` made them, so that nothing is serialised in a second way. The database knows how many bytes of each file it has (`meta`, key `journals`):
a copy of it says where to go on reading. Knows nothing of the Hub, nor of what a row means.

What a caller was told is stored is in the journal. A line whose transaction did not commit is cut off again; a process that dies between the two
leaves a line of which nobody was told.
"""

import json
import os
import sqlite3
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rgtg.records import new_id, now
from rgtg.store import queries
from rgtg.store.schema import FACTS, newest

VERSION, FOLDER, KEY = 1, "journal", "journals"
SEGMENT_BYTES = 8_000_000  # of a file: the next one begins, for a file is pushed again as long as it grows
NOT_JOURNALED = {  # tables that stay on this disk, and why
    "meta": "counts that triggers keep, and the key of this database",
    "jobs": "processes of this machine",
    "reward_models": "folders of this disk",
    "_sqlite_migrations": "the schema",
}


def journaled(conn: sqlite3.Connection) -> list[str]:
    """Tables whose rows have an id and an order, without those that stay on this disk."""
    names = [row[0] for row in conn.execute("SELECT name FROM main.sqlite_master WHERE type = 'table' AND sql NOT LIKE 'CREATE VIRTUAL%'")]
    return [name for name in names if name not in NOT_JOURNALED and {"seq", "id"} <= set(columns(conn, name))]


def columns(conn: sqlite3.Connection, table: str) -> list[str]:
    return [row["name"] for row in conn.execute(f'PRAGMA main.table_info("{table}")')]


def positions(conn: sqlite3.Connection) -> dict[str, int]:
    """How many bytes of each journal file the database has."""
    row = queries.one(conn, "SELECT value FROM meta WHERE key = ?", KEY)
    return json.loads(row["value"]) if row else {}


def set_positions(conn: sqlite3.Connection, found: dict[str, int]) -> None:
    set_value(conn, KEY, found)


def set_value(conn: sqlite3.Connection, key: str, value: Any) -> None:
    sql = "INSERT INTO meta (id, created_at, key, value) VALUES (?, ?, ?, ?) ON CONFLICT (key) DO UPDATE SET value = excluded.value"
    conn.execute(sql, (new_id(), now(), key, json.dumps(value)))


class Journal:
    """The journal of one start. `lock` is held while a line is written and its transaction commits, so that whoever holds it reads no line that may
    be cut off; `num_lines` counts them, `has_erased` is true from the erasure of facts until it is set back."""

    def __init__(self, folder: Path, conn: sqlite3.Connection, own_key: bool):
        """`own_key`: raters are hashed by the database's own key, which a new database needs to know them again."""
        self.folder, self.start, self.lock = folder / FOLDER, uuid.uuid4().hex, threading.Lock()
        self.num_lines, self.num_bytes, self.has_erased = 0, 0, False
        self.on_erased: Callable[[], object] = lambda: None
        self.unmarked_since: float | None = None  # by the clock, the first line after the last `mark`
        self._own_key, self._number, self._size = own_key, 0, 0
        self.path = self.folder / f"{self.start}.jsonl"
        self.folder.mkdir(parents=True, exist_ok=True)
        _note_changes(conn)

    @contextmanager
    def noting(self, conn: sqlite3.Connection) -> Iterator[None]:
        """Write what the transaction changed; its commit stands inside."""
        changes = _changes(conn)
        if not changes:
            yield
            return
        with self.lock:
            before = self.path, self._number, self._size
            try:
                size = self._write(conn, changes)
                yield
            except BaseException:
                self._cut(*before)
                raise
            self.num_lines, self.num_bytes = self.num_lines + 1, self.num_bytes + size
            self.unmarked_since = self.unmarked_since or time.time()
            if any(kind == "delete" and table in FACTS for kind, table, _ in changes):
                self.has_erased = True
                self.on_erased()

    def mark(self) -> int:
        """The number of lines so far; to be called with the lock held."""
        self.unmarked_since = None
        return self.num_lines

    def begin_file(self) -> None:
        """The next line begins a new file; to be called with the lock held."""
        if self._size:
            self._number, self._size = self._number + 1, 0
            self.path = self.folder / f"{self.start}-{self._number + 1}.jsonl"

    def _write(self, conn: sqlite3.Connection, changes: list[list[Any]]) -> int:
        line = _line({"at": now(), "changes": changes})
        if self._size and self._size + len(line) > SEGMENT_BYTES:
            self.begin_file()
        if not self._size:
            head: dict[str, Any] = {"journal": VERSION, "schema": newest(), "start": self.start, "number": self._number + 1, "at": now()}
            if self._own_key:
                head["rater_key"] = queries.value(conn, "SELECT value FROM meta WHERE key = 'rater_key'")
            line = _line(head) + line
        set_positions(conn, positions(conn) | {self.path.name: self._size + len(line)})
        with self.path.open("ab") as file:
            file.write(line)
            file.flush()
            os.fsync(file.fileno())
        self._size += len(line)
        return len(line)

    def _cut(self, path: Path, number: int, size: int) -> None:
        """Back to where the last committed transaction ended."""
        if self.path != path or size == 0:
            self.path.unlink(missing_ok=True)
        self.path, self._number, self._size = path, number, size
        if size:
            os.truncate(path, size)


def _line(content: dict[str, Any]) -> bytes:
    return json.dumps(content, ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode() + b"\n"


def _note_changes(conn: sqlite3.Connection) -> None:
    """Triggers of this connection alone that note which rows change. SQLite runs them inside the transaction, whatever the statement was."""
    conn.execute("PRAGMA temp_store = MEMORY")
    conn.execute("CREATE TEMP TABLE changed_rows (number INTEGER PRIMARY KEY, kind TEXT, name TEXT, id TEXT)")
    for table in journaled(conn):
        for kind, row in (("insert", "NEW"), ("update", "NEW"), ("delete", "OLD")):
            conn.execute(
                f'CREATE TEMP TRIGGER "note_{table}_{kind}" AFTER {kind} ON main."{table}" BEGIN'
                f" INSERT INTO changed_rows (kind, name, id) VALUES ('{kind}', '{table}', {row}.id); END"
            )
    conn.commit()


def _changes(conn: sqlite3.Connection) -> list[list[Any]]:
    """[kind, table, row as it is at the end] in the order in which the rows were first changed."""
    found: dict[tuple[str, str], str] = {}
    for row in conn.execute("SELECT kind, name, id FROM changed_rows ORDER BY number"):
        key = row["name"], row["id"]
        if row["kind"] == "delete" or key not in found:
            found.pop(key, None)
            found[key] = row["kind"]
    conn.execute("DELETE FROM changed_rows")
    changes = []
    for (table, row_id), kind in found.items():
        stored = queries.one(conn, f'SELECT * FROM "{table}" WHERE id = ?', row_id)
        content = {name: stored[name] for name in stored.keys() if name != "seq"} if stored else {"id": row_id}  # noqa: SIM118, a row iterates over values
        changes.append([kind if stored else "delete", table, content])
    return changes
