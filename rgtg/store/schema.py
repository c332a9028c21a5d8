"""The tables, grown by numbered migrations; one that has shipped stays as it is, a change is the next number.

Knows nothing of records, threads or who may open the file. All tables are STRICT; `seq` gives the order, `id` is what
others refer to, times are UTC and for people. Nothing is updated but states and counts, which triggers keep; others refuse a
change to what is a fact.
A later column is nullable: what is NULL is left out of the row hash, so the hashes of older rows stay true.
"""

import json
import sqlite3
import uuid
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from sqlite_utils import Database, Migrations

from rgtg.store import rows
from rgtg.store.statements import first, history

APPLICATION_ID = 0x52475447  # "RGTG" in the file's header: whose database it is
TABLES = ("meta", "raters", "comparisons", "traces", "votes", "marks", "vote_flags", "snapshots", "jobs", "reward_models", "events")
INDEXES = history.TABLES  # derived from the tables, without facts of their own
FACTS = ("traces", "votes", "marks")  # a change of mind is a new row

migrations = Migrations("rgtg")


@migrations()
def m001_first_schema(db: Database) -> None:
    for statement in first.STATEMENTS.split(";;"):
        db.execute(statement)
    for table in FACTS:
        _refuse_changes(db, table)
    born_at = datetime.now(UTC).isoformat(timespec="milliseconds")
    for key, value in (("genesis", {"app": "rgtg", "schema": 1}), ("rater_key", uuid.uuid4().hex)):
        row = (uuid.uuid4().hex, born_at, key, json.dumps(value))
        db.execute("INSERT INTO meta (id, created_at, key, value) VALUES (?, ?, ?, ?)", row)


@migrations()
def m002_counts(db: Database) -> None:
    """How many comparisons there are, and how many votes stand, as numbers in `meta` that triggers keep: none is counted again."""
    at = datetime.now(UTC).isoformat(timespec="milliseconds")
    for key, table in (("num_comparisons", "comparisons"), ("num_votes", "current_votes")):
        sql = f"INSERT INTO meta (id, created_at, key, value) SELECT ?, ?, ?, count(*) FROM {table}"
        db.execute(sql, (uuid.uuid4().hex, at, key))
    for statement in _M002.split(";;"):
        db.execute(statement)


@migrations()
def m003_notes(db: Database) -> None:
    """Where a model's kept cache was found wrong in an answer, and what looking for that took; NULL where there is nothing to say."""
    db.execute("ALTER TABLE traces ADD COLUMN note TEXT")
    db.execute("ALTER TABLE traces ADD COLUMN check_forwards INTEGER CHECK (check_forwards >= 0)")


@migrations()
def m004_continuations(db: Database) -> None:
    """A column may have a trace that goes on where another was stopped; a skip is no vote in the count."""
    for statement in _M004.split(";;"):
        db.execute(statement)
    _refuse_changes(db, "traces")


@migrations()
def m005_twelve_columns_and_positions(db: Database) -> None:
    """Branches have letters up to L; what observing took and the positions that were fed to the models, NULL where not counted."""
    for statement in _M005.split(";;"):
        db.execute(statement)
    _refuse_changes(db, "traces")


@migrations()
def m006_history(db: Database) -> None:
    """Lists, searches and exports read no steps of an answer: these stand last in its row, and an index is kept by triggers."""
    db.execute(history.REBUILD)
    stored = db.conn.execute("SELECT * FROM traces ORDER BY seq")  # one at a time: they are as large as their steps
    columns = [*(column[0] for column in stored.description), "num_tokens", "text_sha256"]
    names = ", ".join(f'"{name}"' for name in columns)
    db.conn.executemany(f"INSERT INTO new_traces ({names}) VALUES ({', '.join('?' * len(columns))})", (_indexed(columns, row) for row in stored))
    for statement in history.REPLACE.split(";;"):
        db.execute(statement)
    _refuse_changes(db, "traces")
    for statement in history.STATEMENTS.split(";;"):
        db.execute(statement)


@migrations()
def m007_rankings_and_turns(db: Database) -> None:
    """A vote on more than two answers may rank them: levels of answers, the best first; NULL where the verdict says it all. A prompt that came
    as a conversation has its messages; NULL where it is a text."""
    db.execute("ALTER TABLE comparisons ADD COLUMN turns TEXT CHECK (turns IS NULL OR json_valid(turns))")
    db.execute("ALTER TABLE votes ADD COLUMN ranking TEXT CHECK (ranking IS NULL OR json_valid(ranking))")


def _indexed(columns: Sequence[str], values: Sequence[Any]) -> tuple[Any, ...]:
    """A row of an answer with the number of its tokens and the hash of its text."""
    row = dict(zip(columns, values, strict=False))
    is_sound = rows.row_hash(row) == row["row_sha256"]  # else an export reads the complete row, and names it
    text_sha256 = rows.text_hash([row[name] for name in rows.TEXT_COLUMNS]) if is_sound else None
    return (*row.values(), len(rows.StoredSteps(row["steps"])), text_sha256)


def _refuse_changes(db: Database, table: str) -> None:
    for event in ("UPDATE", "DELETE"):
        db.execute(
            f"CREATE TRIGGER {table}_refuse_{event.lower()} BEFORE {event} ON {table} "
            f"BEGIN SELECT RAISE(ABORT, '{table} are facts: a change of mind is a new row'); END"
        )


# a vote that is the rater's newest takes the place of the one before it, where that stood
_M002 = """
CREATE TRIGGER comparisons_count_insert AFTER INSERT ON comparisons BEGIN
    UPDATE meta SET value = value + 1 WHERE key = 'num_comparisons';
END;;
CREATE TRIGGER comparisons_count_delete AFTER DELETE ON comparisons BEGIN
    UPDATE meta SET value = value - 1 WHERE key = 'num_comparisons';
END;;
CREATE TRIGGER votes_count_insert AFTER INSERT ON votes
WHEN NOT EXISTS (
    SELECT 1 FROM votes WHERE comparison_id = NEW.comparison_id AND rater_id = NEW.rater_id AND revision > NEW.revision
) BEGIN
    UPDATE meta SET value = value + (NEW.verdict <> 'withdrawn') - coalesce((
        SELECT verdict <> 'withdrawn' FROM votes
        WHERE comparison_id = NEW.comparison_id AND rater_id = NEW.rater_id AND revision < NEW.revision
        ORDER BY revision DESC LIMIT 1
    ), 0) WHERE key = 'num_votes';
END
"""


# a trace that goes on where another of its column was stopped has that one as its parent; before, a column was one trace
_M004 = """
CREATE TABLE new_traces (
    seq INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE, created_at TEXT NOT NULL,
    comparison_id TEXT NOT NULL REFERENCES comparisons (id),
    "column" TEXT NOT NULL CHECK ("column" IN ('A', 'B', 'C', 'D', 'E', 'F', 'G', 'H')),
    place INTEGER NOT NULL CHECK (place >= 0),
    run TEXT NOT NULL CHECK (json_valid(run)),
    response TEXT NOT NULL,
    steps TEXT NOT NULL CHECK (json_valid(steps)),
    stop_reason TEXT NOT NULL CHECK (stop_reason IN ('eos', 'max_new_tokens', 'stopped', 'error')),
    error TEXT NOT NULL DEFAULT '',
    parent_trace_id TEXT,
    branch_position INTEGER CHECK (branch_position >= 0),
    seconds REAL NOT NULL CHECK (abs(seconds) < 1e300),
    lm_forwards INTEGER NOT NULL CHECK (lm_forwards >= 0),
    reward_forwards INTEGER NOT NULL CHECK (reward_forwards >= 0),
    row_sha256 TEXT NOT NULL,
    note TEXT,
    check_forwards INTEGER CHECK (check_forwards >= 0),
    CHECK ((parent_trace_id IS NULL) = (branch_position IS NULL)),
    UNIQUE (id, comparison_id),
    FOREIGN KEY (parent_trace_id, comparison_id) REFERENCES traces (id, comparison_id) DEFERRABLE INITIALLY DEFERRED
) STRICT;;
INSERT INTO new_traces SELECT * FROM traces;;
DROP TABLE traces;;
ALTER TABLE new_traces RENAME TO traces;;
CREATE UNIQUE INDEX traces_column ON traces (comparison_id, "column", ifnull(parent_trace_id, ''));;
DROP TRIGGER votes_count_insert;;
CREATE TRIGGER votes_count_insert AFTER INSERT ON votes
WHEN NOT EXISTS (
    SELECT 1 FROM votes WHERE comparison_id = NEW.comparison_id AND rater_id = NEW.rater_id AND revision > NEW.revision
) BEGIN
    UPDATE meta SET value = value + (NEW.verdict NOT IN ('withdrawn', 'skip')) - coalesce((
        SELECT verdict NOT IN ('withdrawn', 'skip') FROM votes
        WHERE comparison_id = NEW.comparison_id AND rater_id = NEW.rater_id AND revision < NEW.revision
        ORDER BY revision DESC LIMIT 1
    ), 0) WHERE key = 'num_votes';
END;;
UPDATE meta SET value = (SELECT count(*) FROM current_votes WHERE verdict <> 'skip') WHERE key = 'num_votes'
"""

# letters to L instead of H, and four columns more
_M005 = """
CREATE TABLE new_traces (
    seq INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE, created_at TEXT NOT NULL,
    comparison_id TEXT NOT NULL REFERENCES comparisons (id),
    "column" TEXT NOT NULL CHECK ("column" GLOB '[A-L]'),
    place INTEGER NOT NULL CHECK (place >= 0),
    run TEXT NOT NULL CHECK (json_valid(run)),
    response TEXT NOT NULL,
    steps TEXT NOT NULL CHECK (json_valid(steps)),
    stop_reason TEXT NOT NULL CHECK (stop_reason IN ('eos', 'max_new_tokens', 'stopped', 'error')),
    error TEXT NOT NULL DEFAULT '',
    parent_trace_id TEXT,
    branch_position INTEGER CHECK (branch_position >= 0),
    seconds REAL NOT NULL CHECK (abs(seconds) < 1e300),
    lm_forwards INTEGER NOT NULL CHECK (lm_forwards >= 0),
    reward_forwards INTEGER NOT NULL CHECK (reward_forwards >= 0),
    row_sha256 TEXT NOT NULL,
    note TEXT,
    check_forwards INTEGER CHECK (check_forwards >= 0),
    observer_forwards INTEGER CHECK (observer_forwards >= 0),
    lm_positions INTEGER CHECK (lm_positions >= 0),
    reward_positions INTEGER CHECK (reward_positions >= 0),
    observer_positions INTEGER CHECK (observer_positions >= 0),
    CHECK ((parent_trace_id IS NULL) = (branch_position IS NULL)),
    UNIQUE (id, comparison_id),
    FOREIGN KEY (parent_trace_id, comparison_id) REFERENCES traces (id, comparison_id) DEFERRABLE INITIALLY DEFERRED
) STRICT;;
INSERT INTO new_traces SELECT *, NULL, NULL, NULL, NULL FROM traces;;
DROP TABLE traces;;
ALTER TABLE new_traces RENAME TO traces;;
CREATE UNIQUE INDEX traces_column ON traces (comparison_id, "column", ifnull(parent_trace_id, ''))
"""


def newest(known: Migrations = migrations) -> int:
    """The schema number that this rgtg writes: its number of migrations."""
    return len(known._migrations)


def migrate(conn: sqlite3.Connection, known: Migrations = migrations) -> None:
    """Apply what is pending in one transaction: all of it or nothing. The caller holds the lock on the file.

    `atomic()` alone begins deferred, and two processes on one file then fail; foreign keys are off meanwhile, since
    rebuilding a table under them raises inside a transaction.
    """
    conn.execute("PRAGMA foreign_keys=OFF")
    conn.execute("BEGIN IMMEDIATE")
    try:
        known.apply(Database(conn, execute_plugins=False))
        broken = conn.execute("PRAGMA foreign_key_check").fetchone()
        assert broken is None, f"a migration broke the foreign key of {tuple(broken)}"
        conn.execute(f"PRAGMA application_id={APPLICATION_ID}")
        conn.execute(f"PRAGMA user_version={newest(known)}")
        conn.commit()
    except BaseException:
        conn.rollback()
        raise
    finally:
        conn.execute("PRAGMA foreign_keys=ON")
