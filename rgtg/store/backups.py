"""Backups of the database: made while it is in use, rotated, and put back.

Knows nothing of what is in the tables. A copy is written by SQLite, checked, synced and renamed (`connection.back_up`).
"""

import logging
import re
import shutil
import sqlite3
import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from filelock import FileLock, Timeout

from rgtg.errors import RgtgError, StoreError, door
from rgtg.store.connection import back_up, identify, verify
from rgtg.store.schema import newest
from rgtg.system.files import replacing, sync

log = logging.getLogger(__name__)

FOLDER = "backups"
KEPT = ((timedelta(minutes=5), 12), (timedelta(hours=1), 24), (timedelta(days=1), 14))  # so many of each
EVERY_S, EVERY_VOTES = 300.0, 100  # a backup, where something changed
POLL_S = 10.0
REST = 20  # times as long as the last backup took, until the next one begins
STAMP = "%Y-%m-%dT%H-%M-%S"
NAME = re.compile(r"\.(\d{4}-\d{2}-\d{2}T\d{2}-\d{2}-\d{2})\.db$")


@dataclass(frozen=True)
class Backup:
    """A copy of the database, and when it was made."""

    path: Path
    made_at: datetime


def make_backup(database: Path, folder: Path | None = None, at: datetime | None = None) -> Backup:
    """Write a checked copy into the folder (`backups` beside the database) and remove those that the rotation no longer keeps."""
    if not database.exists():
        raise StoreError(f"There is no database `{database}`.", "", "Nothing has been stored yet.")
    folder, at = folder or database.parent / FOLDER, at or datetime.now(UTC)
    with door(f"The backup cannot be written to `{folder}`.", kind=StoreError):
        folder.mkdir(parents=True, exist_ok=True)
        needed, free = database.stat().st_size, shutil.disk_usage(folder).free
        if needed > free:
            found = f"It needs {needed / 1e6:,.0f} MB, and {free / 1e6:,.0f} MB are free."
            raise StoreError(f"The backup cannot be written to `{folder}`.", found, "Free some space, or name another folder.")
        copy = back_up(database, folder / f"{database.stem}.{at:{STAMP}}.db")
    _rotate(folder, database.stem)
    return Backup(copy, at.replace(microsecond=0))


def backups(folder: Path, stem: str = "rgtg") -> list[Backup]:
    """The backups in a folder, newest first."""
    found = [(path, NAME.search(path.name)) for path in folder.glob(f"{stem}.*.db")]
    dated = [Backup(path, datetime.strptime(match[1], STAMP).replace(tzinfo=UTC)) for path, match in found if match]
    return sorted(dated, key=lambda backup: backup.made_at, reverse=True)


def offered(error: StoreError, database: Path) -> StoreError:
    """The error of a database that cannot be opened, with the newest sound backup of it to go on with, if there is one."""
    for backup in backups(database.parent / FOLDER, database.stem):
        try:
            verify(backup.path)
        except StoreError:
            continue
        command = f"`rgtg restore {backup.path}` keeps what is there and puts it back."
        do = f"{error.do} The newest sound backup is of {backup.made_at:%Y-%m-%d %H:%M} UTC: {command}"
        return StoreError(error.wrong, error.found, do.strip())
    return error


def superfluous(made: Iterable[Backup]) -> list[Backup]:
    """Those that the rotation does not keep: it keeps the newest in each of the last 12 times of five minutes, 24 hours and 14 days that have
    one."""
    in_order = sorted(made, key=lambda backup: backup.made_at, reverse=True)
    kept: set[Path] = set()
    for length, number in KEPT:
        newest_in: dict[float, Backup] = {}
        for backup in in_order:
            newest_in.setdefault(backup.made_at.timestamp() // length.total_seconds(), backup)
        kept |= {backup.path for backup in list(newest_in.values())[:number]}
    return [backup for backup in in_order if backup.path not in kept]


def _rotate(folder: Path, stem: str) -> None:
    for backup in superfluous(backups(folder, stem)):
        backup.path.unlink(missing_ok=True)


def restore(database: Path, copy: Path) -> Path | None:
    """Put a backup in the place of the database; the folder where the files that were there are kept, None where there were none.

    StoreError where a process has the database open for writing, or the copy is damaged, another program's or from a newer rgtg: then nothing
    has changed.
    """
    if not copy.is_file():
        raise StoreError(f"There is no file `{copy}`.", "", "Name a backup.")
    if copy.resolve() == database.resolve():
        raise StoreError(f"`{copy}` is the database itself.", "", "Name a backup.")
    version = identify(copy)
    if version > newest():
        raise StoreError(
            f"`{copy.name}` was written by a newer rgtg.", f"Its schema is number {version}, this rgtg knows {newest()}.", "Update rgtg."
        )
    verify(copy, copy.name)
    lock = FileLock(f"{database}.lock", thread_local=False)
    with door(f"`{copy.name}` cannot be restored to `{database}`.", kind=StoreError):
        database.parent.mkdir(parents=True, exist_ok=True)
        try:
            lock.acquire(timeout=0)
        except Timeout:
            raise StoreError(f"`{database.name}` is in use.", "Another process has it open for writing.", "Stop the app and try again.") from None
        try:
            with replacing(database) as part:
                back_up(copy, part)
                return _move_aside(database)
        finally:
            lock.release()


def _move_aside(database: Path) -> Path | None:
    """Move the database with its -wal and -shm, which belong together: an old copy beside another one's -wal would be a mixture of both."""
    files = [file for suffix in ("", "-wal", "-shm") if (file := database.with_name(database.name + suffix)).exists()]
    if not files:
        return None
    aside = database.parent / f"before-restore.{datetime.now(UTC):{STAMP}}-{time.monotonic_ns() % 10**6:06}"
    aside.mkdir()
    for file in files:  # the database first: without it a -wal that is left is refused, without its -wal it would open with votes missing
        file.rename(aside / file.name)
    sync(aside)
    return aside


class Backups:
    """Makes a backup every 5 minutes if something changed, and after every 100 votes, until it is closed.

    `state` gives numbers that change with whatever is stored, that of votes last. `last` is the newest backup made by it, `error` why the last
    attempt failed ("" where it did not).
    """

    def __init__(self, database: Path, state: Callable[[], tuple[int, ...]], folder: Path | None = None, poll_s: float | None = None):
        self.last: Backup | None = None
        self.error = ""
        self._database, self._state, self._folder, self._poll_s = database, state, folder, poll_s or POLL_S
        self._closed = threading.Event()
        self._saved, self._saved_at, self._resting_until = self._state(), time.monotonic(), 0.0
        self._thread = threading.Thread(target=self._run, name="backups", daemon=True)
        self._thread.start()

    def close(self) -> None:
        self._closed.set()
        self._thread.join()

    def is_due(self, now: float) -> bool:
        """Whether a backup is to be made: `now` is on the clock of `time.monotonic`."""
        state = self._state()
        if state == self._saved or now < self._resting_until:
            return False
        return now - self._saved_at >= EVERY_S or state[-1] - self._saved[-1] >= EVERY_VOTES

    def _run(self) -> None:
        while not self._closed.wait(self._poll_s):
            try:
                if self.is_due(time.monotonic()):
                    self._back_up()
            except (RgtgError, OSError, sqlite3.Error) as error:
                if str(error) != self.error:
                    log.warning("No backup was made: %s", error)
                self.error = str(error)
                self._resting_until = time.monotonic() + EVERY_S

    def _back_up(self) -> None:
        state, start = self._state(), time.monotonic()
        self.last, self.error = make_backup(self._database, self._folder), ""
        self._saved, self._saved_at = state, time.monotonic()
        self._resting_until = self._saved_at + REST * (self._saved_at - start)  # a large database is not copied all the time
