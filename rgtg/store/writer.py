"""The single writer thread: each task runs in a transaction of its own, in order of arrival.

Knows nothing of tables, records or how the file was opened.
"""

import atexit
import os
import queue
import sqlite3
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import AbstractContextManager, nullcontext, suppress
from typing import Any, TypeVar

from rgtg.errors import StoreBusy, StoreError, in_words

T = TypeVar("T")
MAX_WAITING = 1000
PATIENCE_S = 5.0  # seconds that a caller waits for a place in the queue


class Writer:
    """Runs each task in its own transaction, one after another, on the one connection that may write.

    A call returns when its task is committed; an exception of the task is raised in the caller, and nothing of it is stored. `check` is
    called before each task and again before the call returns; `tidy` is then given the connection. Each commit runs inside `noting`, which still sees
    what the task changed. `close` waits for accepted tasks.
    """

    def __init__(
        self,
        conn: sqlite3.Connection,
        check: Callable[[], None] = lambda: None,
        tidy: Callable[[sqlite3.Connection], None] = lambda conn: None,
        noting: Callable[[sqlite3.Connection], AbstractContextManager[Any]] = nullcontext,
        max_waiting: int = MAX_WAITING,
    ):
        self._conn, self._check, self._tidy, self._noting, self._pid = conn, check, tidy, noting, os.getpid()
        self._begun_at: float | None = None  # the task that is being run was accepted
        self._tasks: queue.Queue = queue.Queue(maxsize=max_waiting)
        self._door, self._open = threading.Lock(), True
        self._thread = threading.Thread(target=self._run, name="store-writer", daemon=True)
        self._thread.start()
        atexit.register(self.close)

    def __call__(self, task: Callable[[sqlite3.Connection], T]) -> T:
        if os.getpid() != self._pid or threading.current_thread() is self._thread:
            raise RuntimeError("the store cannot be written from a fork or from inside a task")
        future: Future = Future()
        with self._door:
            if not self._open:
                raise StoreError("The store is closed.", "", "Open it again to write.")
            try:
                self._tasks.put((task, future, time.monotonic()), timeout=PATIENCE_S)
            except queue.Full:
                waiting = f"{self._tasks.maxsize} are queued."
                raise StoreBusy("Nothing was stored: too many writes are waiting.", waiting, "Try again in a moment.") from None
        return future.result()

    @property
    def lag(self) -> tuple[int, float]:
        """How many tasks wait, and the seconds since the one that is being run was accepted."""
        begun_at = self._begun_at
        return self._tasks.qsize(), time.monotonic() - begun_at if begun_at is not None else 0.0

    def close(self) -> None:
        if os.getpid() != self._pid:
            return  # a fork must not touch the connection it inherited
        with self._door:
            if self._open:
                self._open = False
                self._tasks.put(None)  # behind everything that was accepted
        self._thread.join()
        atexit.unregister(self.close)

    def _run(self) -> None:
        while (item := self._tasks.get()) is not None:
            task, future, self._begun_at = item
            try:
                self._check()
                self._conn.execute("BEGIN IMMEDIATE")  # a deferred BEGIN is refused at once where another has committed meanwhile
                result = task(self._conn)
                with self._noting(self._conn):
                    self._conn.commit()
                self._check()
            except BaseException as error:
                with suppress(sqlite3.Error):
                    self._conn.rollback()
                self._begun_at = None
                future.set_exception(_as_store_error(error))
            else:
                self._begun_at = None
                future.set_result(result)
                self._tidy(self._conn)
        self._conn.close()


def _as_store_error(error: BaseException) -> BaseException:
    if not isinstance(error, (sqlite3.Error, OSError)):
        return error
    store_error = in_words(error, kind=StoreError)
    store_error.__cause__ = error
    return store_error
