"""Opening of the database file: identification, lock of the one writer, migrations, backups and connections.

Knows nothing of comparisons or votes. A file that was deleted or replaced while open is recognised by device and inode, one that was
overwritten in place by size and time: only a checkpoint of the writer itself changes the main file. Only SQLite opens the live file:
closing another descriptor of it would drop all locks of the process, and with them committed rows.
"""

import logging
import os
import sqlite3
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from filelock import FileLock, Timeout
from sqlite_utils import Migrations

from rgtg.errors import StoreError, door, in_words
from rgtg.store.schema import APPLICATION_ID, migrate, migrations, newest
from rgtg.system.files import replacing

log = logging.getLogger(__name__)

BUSY_TIMEOUT_MS = 10_000
COUNTED = ("meta", "raters", "comparisons", "traces", "votes", "marks")
CHECKPOINT_BYTES, MAX_WAL_BYTES = 4 * 1024**2, 64 * 1024**2  # of the -wal: from where it is brought into the main file; and cut where it was longer
WRITER_PRAGMAS = {  # not trusted_schema=OFF: SQLite 3.40 then takes the json_valid of our CHECKs for unsafe
    "journal_mode": "WAL",  # readers do not wait for votes
    "synchronous": "FULL",  # WAL with NORMAL may forget the last commits when the power goes
    "fullfsync": "ON",  # macOS: there fsync stops at the drive's cache
    "foreign_keys": "ON",
    "cell_size_check": "ON",
    "wal_autocheckpoint": "0",  # see `InPlace.checkpoint`
    "journal_size_limit": str(MAX_WAL_BYTES),
}


@dataclass
class Opened:
    """The writing connection with its lock; None for both where the database is read-only, for the `reason` given."""

    conn: sqlite3.Connection | None
    lock: FileLock | None
    reason: str = ""


class InPlace:
    """Checks that the database and the writer's `-wal` are still the files that were opened. SQLite itself would go on writing to a
    deleted file."""

    def __init__(self, path: Path, writes: bool):
        self.path, self.wal = path, path.with_name(path.name + "-wal")
        self._files = [(file, _identity(_stat(file))) for file in ((path, self.wal) if writes else (path,))]
        self._lock = threading.Lock()  # between a look at the file and a checkpoint
        self._content = _content(_stat(path)) if writes else None  # another process may write where this one does not
        self._num_wal_bytes = 0  # the -wal does not shrink but in a checkpoint

    def check(self) -> None:
        """Raise StoreError where it was deleted, moved, replaced or overwritten."""
        with self._lock:
            self._check()

    def _check(self) -> None:
        for file, opened in self._files:
            stat = _stat(file)
            if _identity(stat) != opened:
                raise self._lost(file, "was deleted or moved" if stat is None else "was replaced by another file")
            assert stat is not None
            if stat.st_size < self._num_wal_bytes if file == self.wal else self._content not in (None, _content(stat)):
                raise self._lost(file, "was overwritten by another program")
            if file == self.wal:
                self._num_wal_bytes = min(stat.st_size, MAX_WAL_BYTES)

    @staticmethod
    def _lost(file: Path, event: str) -> StoreError:
        return StoreError(
            f"The database is no longer in its place: `{file.name}` {event} while rgtg had it open.",
            "Nothing has been stored since then.",
            "Stop rgtg, put the file back or move the other one away, and start it again.",
        )

    def checkpoint(self, conn: sqlite3.Connection) -> None:
        """Copy committed pages to the main file once the `-wal` is large. SQLite's own checkpoints are off, so that any other change of the
        main file is another program's. Does nothing while readers block it, or where the file was replaced."""
        if (wal := _stat(self.wal)) is None or wal.st_size < CHECKPOINT_BYTES:
            return
        with self._lock, suppress(StoreError, sqlite3.Error):
            self._check()
            conn.execute("PRAGMA busy_timeout=0")
            try:
                conn.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
            finally:
                conn.execute(f"PRAGMA busy_timeout={BUSY_TIMEOUT_MS}")
                self._content, self._num_wal_bytes = _content(_stat(self.path)), 0


def _stat(file: Path) -> os.stat_result | None:
    try:
        return file.stat()
    except OSError:
        return None


def _identity(stat: os.stat_result | None) -> tuple[int, int] | None:
    return None if stat is None else (stat.st_dev, stat.st_ino)


def _content(stat: os.stat_result | None) -> tuple[int, int] | None:
    """Size and modification time, which change with the content."""
    return None if stat is None else (stat.st_size, stat.st_mtime_ns)


def open_store(path: Path, known: Migrations = migrations) -> Opened:
    """Open for writing: a missing file is created, an older one backed up and migrated.

    Read-only, with the reason, where another process writes or the file is from a newer rgtg. StoreError where the
    file is empty, damaged or another program's; it is left as it is.
    """
    with door(_not_created(path), kind=StoreError):
        path.parent.mkdir(parents=True, exist_ok=True)
    # one process writes: SQLite before 3.51.3 can lose pages where two connections checkpoint at once
    log.info("SQLite %s, database %s", sqlite3.sqlite_version, path)
    lock = FileLock(f"{path}.lock", thread_local=False)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        _wait_for(path)
        identify(path, known)
        return Opened(None, None, f"`{path.name}` is read-only here: another process has it open for writing. Close that process and open it again.")
    except OSError as error:
        if not path.exists():
            raise in_words(error, _not_created(path), kind=StoreError) from error
        identify(path, known)
        return Opened(None, None, f"`{path.name}` is read-only here: its folder cannot be written ({error.strerror}).")
    try:
        with door(f"The database `{path.name}` cannot be opened.", kind=StoreError):
            return _open_locked(path, lock, known)
    except BaseException:
        lock.release()
        raise


def _open_locked(path: Path, lock: FileLock, known: Migrations) -> Opened:
    if not path.exists():
        _create(path, known)
    version = identify(path, known)
    if version > newest(known):
        lock.release()
        versions = f"its schema is number {version}, this rgtg knows {newest(known)}"
        return Opened(None, None, f"`{path.name}` is read-only here: it was written by a newer rgtg ({versions}). Update rgtg to write.")
    if version < newest(known):
        backup = back_up(path, path.with_name(f"{path.stem}.v{version}.{datetime.now(UTC):%Y%m%dT%H%M%S%f}.db"))
        try:
            with closing(_connect(path, "rw")) as conn:
                migrate(conn, known)
        except Exception as error:
            wrong = f"`{path.name}` could not be brought to schema {newest(known)}."
            raise StoreError(wrong, f"Found: {error}.", f"It is as before; a copy is `{backup.name}`.") from error
    conn = _connect(path, "rw")
    for pragma, value in WRITER_PRAGMAS.items():
        conn.execute(f"PRAGMA {pragma}={value}")
    conn.execute("SELECT 1 FROM meta").fetchone()  # from here on the -wal file is there
    return Opened(conn, lock)


def _create(path: Path, known: Migrations) -> None:
    """Create the database beside its path and rename it, so that a crash leaves no empty file."""
    wal = path.with_name(path.name + "-wal")
    if wal.exists():
        raise StoreError(f"`{path.name}` is missing but `{wal.name}` is there.", "", "Put the database back beside it, or move the `-wal` file away.")
    with door(_not_created(path), kind=StoreError), replacing(path) as part, closing(sqlite3.connect(part)) as conn:
        migrate(conn, known)


def _not_created(path: Path) -> str:
    return f"The database `{path.name}` cannot be created in {path.parent}."


def identify(path: Path, known: Migrations = migrations) -> int:
    """The schema number of the database at `path`; StoreError where it is not a database of rgtg."""
    do = "Move the file aside or choose another path; it was left as it is."
    if path.exists() and path.stat().st_size == 0:
        raise StoreError(f"`{path.name}` is not a database.", "It is an empty file (0 bytes).", do)
    try:
        with closing(_connect(path, "ro")) as conn:
            application_id, version = (conn.execute(f"PRAGMA {name}").fetchone()[0] for name in ("application_id", "user_version"))
            is_rgtg = application_id == APPLICATION_ID and version >= 1
            is_complete = is_rgtg and conn.execute("SELECT 1 FROM meta WHERE key = 'genesis'").fetchone()
    except sqlite3.OperationalError as error:  # the disk, a lock: nothing is wrong with the file
        raise in_words(error) from error
    except sqlite3.DatabaseError as error:
        raise StoreError(f"`{path.name}` cannot be read as a database.", f"SQLite says: {error}.", do) from error
    if not is_complete:
        raise StoreError(
            f"`{path.name}` is not a database of rgtg.", f"Its application id is {application_id:#x}, that of rgtg is {APPLICATION_ID:#x}.", do
        )
    return version


def back_up(path: Path, copy: Path) -> Path:
    """Write a checked copy of the live database to `copy`, by `VACUUM INTO`; it appears by rename."""
    with replacing(copy) as part:
        with closing(_connect(path, "ro")) as conn:  # without query_only, which refuses VACUUM INTO
            before = _counts(conn)
            conn.execute("VACUUM INTO ?", (str(part),))
        found = verify(part, path.name)
        lost = next((table for table, number in before.items() if found.get(table, 0) < number), None)
        if lost:  # a refused VACUUM INTO leaves an empty file, and of that an integrity check says "ok"
            raise StoreError(f"The backup of `{path.name}` is not complete.", f"`{lost}` has {found.get(lost, 0)} of {before[lost]} rows.")
    return copy


def verify(path: Path, name: str = "") -> dict[str, int]:
    """The number of rows of each table in a sound database of rgtg. StoreError where it is another program's, empty or damaged."""
    identify(path)
    with closing(_connect(path, "ro")) as conn:
        report = conn.execute("PRAGMA integrity_check").fetchone()[0]
        broken = conn.execute("PRAGMA foreign_key_check").fetchone()
        if report != "ok" or broken is not None:
            found = f"SQLite says: {report}." if report != "ok" else f"A row of `{broken[0]}` refers to one that is not there."
            raise StoreError(f"The backup of `{name or path.name}` is damaged.", found, "The database was left as it is.")
        return _counts(conn)


def _counts(conn: sqlite3.Connection) -> dict[str, int]:
    """The number of rows of the tables that hold what people made."""
    present = {row[0] for row in conn.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
    return {table: conn.execute(f"SELECT count(*) FROM {table}").fetchone()[0] for table in COUNTED if table in present}


@contextmanager
def reading(path: Path) -> Iterator[sqlite3.Connection]:
    """A read-only connection in one read transaction: all its queries see the same state."""
    try:
        with closing(_connect(path, "ro")) as conn:
            conn.execute("PRAGMA query_only=ON")
            conn.execute("BEGIN")
            yield conn
    except sqlite3.Error as error:
        raise in_words(error) from error


def _connect(path: Path, mode: str) -> sqlite3.Connection:
    uri = f"{path.absolute().as_uri()}?mode={mode}"
    try:
        conn = sqlite3.connect(uri, uri=True, check_same_thread=False, timeout=BUSY_TIMEOUT_MS / 1000)
    except sqlite3.Error as error:
        raise StoreError(f"`{path}` cannot be opened.", f"SQLite says: {error}.", "Check that the file exists and may be read.") from error
    conn.row_factory = sqlite3.Row
    return conn


def _wait_for(path: Path) -> None:
    """Wait until another process, which has the lock, has created the file."""
    deadline = time.monotonic() + BUSY_TIMEOUT_MS / 1000
    while not path.exists() and time.monotonic() < deadline:
        time.sleep(0.02)
