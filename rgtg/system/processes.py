"""Tasks in several processes of this machine, each given to one of them as it becomes free.

A process that dies is replaced and its task given again. All end with this process, however it ends. Knows nothing of what the tasks are.
"""

import multiprocessing
import os
import pickle
import signal
import sys
import threading
import time
import traceback
from collections import Counter, deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from multiprocessing.connection import Connection, wait
from typing import Any

from rgtg.errors import RgtgError

MAX_TRIES = 3  # of a task whose processes die, and of beginning
NEWS_S = 0.1  # between two reports of a task's progress
PATIENCE_S = 5.0  # for a process to end, before it is killed
Do = Callable[[Any, Callable[[Any], None]], Any]


def num_processors() -> int:
    """Number of processors that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


class Pool:
    """Processes that call `begin` once, and what it returns for each task, with a function that reports progress.

    `begin` and the tasks are pickled: `begin` is a function of a module or a `functools.partial` of one. It and the tasks run in the main
    thread of a new process.
    """

    def __init__(self, begin: Callable[[], Do], num_processes: int, describe: Callable[[Any], str] = str):
        self.begin, self.num_processes, self.describe = begin, num_processes, describe

    def run(
        self,
        tasks: Sequence[Any],
        listen: Callable[[int, Any], None] = lambda number, news: None,
        ended: Callable[[int, Any], None] = lambda number, result: None,
    ) -> None:
        """Do every task, the first ones first. `listen` is given the number of a task and what it reports, `ended` its result.

        The first error ends all of it. Raises RgtgError where processes die again and again at one task.
        """
        if tasks:
            _Running(self, tasks, listen, ended).run()


class _Worker:
    """A process and this side of its pipe."""

    def __init__(self, begin: Callable[[], Do]):
        context = multiprocessing.get_context("spawn")
        self.connection, theirs = context.Pipe()
        self.process = context.Process(target=_serve, args=(begin, theirs), daemon=True)
        self.process.start()
        theirs.close()  # so that its end is seen here
        self.task: int | None = None

    def end(self) -> None:
        """End the process, which tidies up what it was writing."""
        self.connection.close()
        self.process.terminate()
        self.process.join(PATIENCE_S)
        if self.process.is_alive():
            self.process.kill()
            self.process.join()


class _Running:
    """Tasks in work: which wait, which process does which, and how often its processes died."""

    def __init__(self, pool: Pool, tasks: Sequence[Any], listen: Callable[[int, Any], None], ended: Callable[[int, Any], None]):
        self.pool, self.tasks, self.listen, self.ended = pool, tasks, listen, ended
        self.waiting, self.left = deque(range(len(tasks))), len(tasks)
        self.workers: dict[Connection, _Worker] = {}
        self.deaths: Counter[int | None] = Counter()  # by task; None is that of a process that was beginning

    def run(self) -> None:
        try:
            for _ in range(min(self.pool.num_processes, len(self.tasks))):
                self._start()
            while self.left:
                for connection in wait(list(self.workers)):
                    self._hear(self.workers[connection])  # type: ignore[index]
        finally:
            for worker in self.workers.values():
                worker.end()

    def _start(self) -> None:
        worker = _Worker(self.pool.begin)
        self.workers[worker.connection] = worker

    def _hear(self, worker: _Worker) -> None:
        try:
            kind, value = worker.connection.recv()
        except (EOFError, OSError):
            return self._replace(worker)
        if kind == "failed":
            raise value
        if kind == "news":
            assert worker.task is not None
            return self.listen(worker.task, value)
        if worker.task is not None:
            self.left -= 1
            self.ended(worker.task, value)
        worker.task = self.waiting.popleft() if self.waiting else None
        if worker.task is not None:
            with suppress(OSError):  # it has just died, which is the next news of it
                worker.connection.send(self.tasks[worker.task])

    def _replace(self, worker: _Worker) -> None:
        """Put another process in the place of one that died; its task is the next to be done."""
        del self.workers[worker.connection]
        worker.end()
        self.deaths[worker.task] += 1
        if self.deaths[worker.task] == MAX_TRIES:
            at = "loading" if worker.task is None else f"`{self.pool.describe(self.tasks[worker.task])}`"
            code = worker.process.exitcode
            do = "Fewer `--workers` need less memory. What is complete is kept."
            raise RgtgError(f"{MAX_TRIES} processes ended at {at}.", f"Found exit status {code}{' (killed)' if code == -9 else ''}.", do)
        if worker.task is not None:
            self.waiting.appendleft(worker.task)
        if self.waiting or not self.workers:
            self._start()


def _serve(begin: Callable[[], Do], connection: Connection) -> None:
    """The work of a process of a pool: `begin`, then one task after another until the pipe is closed."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl+C is for the process that waits for us, which ends us
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # half a file is removed on the way out
    threading.Thread(target=_end_with_parent, daemon=True).start()
    told = 0.0

    def listen(news: Any) -> None:
        nonlocal told
        if time.monotonic() - told > NEWS_S:
            told = time.monotonic()
            connection.send(("news", news))

    try:
        do, result = begin(), None
        while True:
            connection.send(("ready", result))
            result = do(connection.recv(), listen)
    except (EOFError, BrokenPipeError, ConnectionResetError):
        return  # nobody waits for us
    except Exception as error:
        with suppress(OSError):
            connection.send(("failed", _portable(error)))


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _portable(error: Exception) -> Exception:
    """The error as another process can read it; where it is none for a person, with its traceback."""
    if not isinstance(error, RgtgError):
        error.add_note(traceback.format_exc())
    try:
        copy: Any = pickle.loads(pickle.dumps(error))
        return copy
    except Exception:
        return RuntimeError(traceback.format_exc())
