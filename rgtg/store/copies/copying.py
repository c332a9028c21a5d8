"""Copying out: journals and sound copies pushed to the dataset while the app runs, and what is known of how far that has come.

Journals are pushed every few minutes; a copy when the app has started, for every 8 MB of journal, and once a day. The three newest copies stay,
and of the journals what the second newest of them does not have. After an erasure one copy without what was erased takes the place of all else.
"""

import hashlib
import logging
import sqlite3
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import closing, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rgtg.errors import RgtgError, StoreError, in_words
from rgtg.store import queries
from rgtg.store.backups import FOLDER as LOCAL_COPIES
from rgtg.store.backups import backups
from rgtg.store.connection import back_up, reading
from rgtg.store.copies.dataset import VotesDataset
from rgtg.store.copies.journal import FOLDER, SEGMENT_BYTES, Journal, positions, set_value
from rgtg.store.copies.restoring import COPIES, STAMP, Restored, copies_in

if TYPE_CHECKING:
    from rgtg.store.copies.scheduler import Scheduler, Upload

log = logging.getLogger(__name__)

OUT = "copied-out"  # the folder that is pushed, beside the database
EVERY_MIN = 5.0  # minutes between two pushes: the least that the Hub asks for
LATE_S = 3 * 60 * EVERY_MIN  # from when on copying counts as failing
DAY_S, FINAL_S = 24 * 3600.0, 20.0  # between two copies; how long the last push may take
KEPT = 3
ERASURES = "SELECT coalesce(max(seq), 0) FROM events WHERE kind = 'votes_erased'"
COMPACTED = "compacted"  # key in `meta`: the last erasure that the dataset has forgotten
CARD = """---
tags: [preference, rgtg]
---
Votes of an rgtg server, so that they outlive it: `journal/` has every change as one JSON line, `copies/` sound copies of the SQLite database.
Keep it private: prompts, answers and comments are in it as they were written.
"""


@dataclass(frozen=True)
class CopyState:
    """How far copying out has come: when the last push succeeded, how many changes wait and since when, and why the last attempt failed.
    `problem` says what could not be fetched at the start; `erasing` is true while something that was erased is still in the dataset. Times are by
    the clock."""

    dataset: str
    copied_at: float | None
    num_waiting: int
    waiting_since: float | None
    error: str = ""
    problem: str = ""
    erasing: bool = False

    def is_late(self, at: float) -> bool:
        return self.waiting_since is not None and at - self.waiting_since > LATE_S


class Copying:
    """Copies a database out until it is closed."""

    def __init__(
        self, database: Path, journal: Journal, dataset: VotesDataset, write: Callable[[Callable[[sqlite3.Connection], Any]], Any],
        restored: Restored, every_min: float = EVERY_MIN,
    ):  # fmt: skip
        self._database, self._journal, self._dataset, self._write, self._restored = database, journal, dataset, write, restored
        self._every_min, self._folder = every_min, database.parent / OUT
        self._copied_at: float | None = None
        self._waiting_since: float | None = None
        self._num_copied, self._error = 0, ""
        self._known = {restored.copy: restored.positions} if restored.copy else {}  # copy -> bytes of each journal that it has
        with reading(database) as conn:
            self._erasures = queries.value(conn, ERASURES) if self._erased_since(conn) else 0  # what the dataset has to forget
            has_rows = any(queries.one(conn, f"SELECT 1 FROM {table} LIMIT 1") for table in ("comparisons", "raters", "events"))
        self._copy_due, self._last_copy_at, self._bytes_at_copy = has_rows, time.time(), 0
        self._tidy_after, self._closing, self._closed = "", False, threading.Event()
        self._scheduler: Scheduler | None = None
        (self._folder / COPIES).mkdir(parents=True, exist_ok=True)
        for left in (self._folder / COPIES).iterdir():  # of a start before
            left.unlink()
        (self._folder / "README.md").write_text(CARD, encoding="utf-8")
        journal.on_erased = self.soon  # what a person took back does not wait
        self._thread = threading.Thread(target=self._start, name="copying-out", daemon=True)
        self._thread.start()

    @property
    def state(self) -> CopyState:
        since = self._waiting_since or self._journal.unmarked_since
        waiting = self._journal.num_lines - self._num_copied
        return CopyState(
            self._dataset.name, self._copied_at, waiting, since if waiting else None, self._error, self._restored.problem,
            bool(self._erasures) or self._journal.has_erased,
        )  # fmt: skip

    def soon(self) -> Future | None:
        """Push now instead of in some minutes; None where the Hub has not answered yet."""
        return self._scheduler.trigger() if self._scheduler is not None and not self._closing else None

    def close(self) -> None:
        """Push what is left, for some seconds at most. To be called when nothing is written any more."""
        self._closing = True
        self._closed.set()
        self._thread.join(FINAL_S)
        if self._scheduler is not None:
            with suppress(Exception):  # `state` has it
                self._scheduler.trigger().result(FINAL_S)
            self._scheduler.stop()
        if self.state.num_waiting:
            log.warning("%d changes were not copied out: %s", self.state.num_waiting, self._error or "there was no time")

    # --- in the background

    def _start(self) -> None:
        """Make the dataset and the scheduler, again and again until the Hub answers."""
        while True:
            try:
                from rgtg.store.copies.scheduler import Scheduler

                self._dataset.make()
                self._scheduler = Scheduler(self._dataset, self._folder, self._every_min, self._journal.lock, self._push)
                return
            except Exception as error:
                self._failed(error)
            if self._closed.wait(60 * self._every_min):
                return

    def _push(self, upload: "Upload") -> Any:
        try:
            self._prepare()
            with self._journal.lock:
                waiting, mark = self._waiting_since or self._journal.unmarked_since, self._journal.mark()
                self._waiting_since = waiting if mark > self._num_copied else None
            pushed = upload()
        except Exception as error:
            self._failed(error)
            raise
        self._num_copied, self._waiting_since, self._error = mark, None, ""
        self._copied_at = time.time() if pushed is not None else self._copied_at
        if self._tidy_after and not self._closing:
            try:
                self._tidy(self._tidy_after)
                self._tidy_after = ""
            except Exception as error:  # what is there too long costs space, no vote
                log.warning("%s", in_words(error, "The dataset of votes could not be tidied."))
        return pushed

    def _failed(self, error: Exception) -> None:
        words = str(in_words(error, f"Votes could not be copied to `{self._dataset.name}`.", kind=StoreError))
        if words != self._error:
            log.warning("%s", words, exc_info=not isinstance(error, (RgtgError, OSError)))
        self._error = words

    # --- copies

    def _prepare(self) -> None:
        """Write a copy into the folder where one is due. After a start that could not read the dataset there is none: it would lack what is there."""
        if self._journal.has_erased:
            with reading(self._database) as conn:
                self._erasures = queries.value(conn, ERASURES)
            self._journal.has_erased = False
            for copy in self._local(COPIES):
                copy.unlink()
        if not self._restored.is_complete or self._closing or any(self._local(COPIES)):
            return
        grown = self._journal.num_bytes - self._bytes_at_copy
        if self._copy_due or self._erasures or grown >= SEGMENT_BYTES or (grown and time.time() - self._last_copy_at >= DAY_S):
            if self._erasures:
                with self._journal.lock:
                    self._journal.begin_file()
            self._tidy_after = self._make_copy()

    def _make_copy(self) -> str:
        """A sound copy in the folder, named by its time and hash; its path in the dataset."""
        size, folder = self._journal.num_bytes, self._folder / COPIES
        part = back_up(self._database, folder / ".copy.part")
        with closing(sqlite3.connect(part.as_uri() + "?mode=ro", uri=True)) as conn:
            conn.row_factory = sqlite3.Row
            has = positions(conn)
        with part.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        copy = part.rename(folder / f"rgtg.{datetime.now(UTC):{STAMP}}.{digest[:12]}.db")
        path = f"{COPIES}/{copy.name}"
        self._known[path] = has
        self._copy_due, self._last_copy_at, self._bytes_at_copy = False, time.time(), size
        return path

    def _tidy(self, newest: str) -> None:
        """Remove copies and journals that newer copies have, here and in the dataset; after an erasure all of them, also from its history."""
        files, erasures = self._dataset.files(), self._erasures
        copies = copies_in(files)
        kept = [newest] if erasures else copies[:KEPT]
        safe = newest if erasures else (kept[1] if len(kept) > 1 else "")
        has = self._known.get(safe, {})
        superfluous = [path for path in copies if path not in kept]
        if erasures or not self._restored.problem:  # else a journal has lines that could not be read
            current = f"{FOLDER}/{self._journal.path.name}"
            superfluous += [path for path, size in files.items() if path != current and size <= has.get(path.removeprefix(f"{FOLDER}/"), -1)]
        self._dataset.remove(superfluous)
        for path in (*superfluous, newest):
            (self._folder / path).unlink(missing_ok=True)
        if erasures:
            self._dataset.forget()
            for backup in backups(self._database.parent / LOCAL_COPIES, self._database.stem):
                backup.path.unlink(missing_ok=True)
            self._write(lambda conn: set_value(conn, COMPACTED, erasures))
            self._erasures = 0 if self._erasures == erasures else self._erasures

    def _local(self, folder: str) -> list[Path]:
        return [path for path in (self._folder / folder).iterdir() if not path.name.startswith(".")]

    @staticmethod
    def _erased_since(conn: sqlite3.Connection) -> bool:
        row = queries.one(conn, "SELECT value FROM meta WHERE key = ?", COMPACTED)
        return queries.value(conn, ERASURES) > (int(row["value"]) if row else 0)
