"""The engine that runs shards in several processes of this machine.

Each worker loads the models once, computes with one thread and writes its shards itself. A worker that dies is replaced and its shard
made again. Workers end with this process, however it ends.
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
from collections.abc import Sequence
from contextlib import suppress
from multiprocessing.connection import Connection, wait
from typing import Any

from rgtg.errors import RgtgError
from rgtg.evaluation.cells import label
from rgtg.evaluation.engines.base import Listen, Load, Shard, ShardMaker, Work, longest_first

MAX_TRIES = 3  # of a shard whose workers die, and of starting a worker
NEWS_S = 0.1  # between two reports of a shard's progress
PATIENCE_S = 5.0  # for a worker to end, before it is killed


def num_processors() -> int:
    """Number of processors that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


class Pool:
    """Workers of this machine, one per processor where no number is given; `load` has to be importable by a new process."""

    def __init__(self, load: Load, workers: int = 0):
        self.load, self.workers = load, workers or num_processors()

    def run(self, shards: Sequence[Shard], maker: ShardMaker, listen: Listen) -> None:
        if shards:
            _Running(shards, Work.of(maker, self.load), listen).run(min(self.workers, len(shards)))


class _Worker:
    """A process and this side of its pipe."""

    def __init__(self, work: Work):
        context = multiprocessing.get_context("spawn")
        self.connection, theirs = context.Pipe()
        self.process = context.Process(target=_serve, args=(work, theirs), daemon=True)
        self.process.start()
        theirs.close()  # so that its end is seen here
        self.shard: int | None = None
        self.share = 0.0

    def end(self) -> None:
        """End the process, which leaves complete shards only."""
        self.connection.close()
        self.process.terminate()
        self.process.join(PATIENCE_S)
        if self.process.is_alive():
            self.process.kill()
            self.process.join()


class _Running:
    """Shards in work: which wait, which worker makes which, and how often its workers died."""

    def __init__(self, shards: Sequence[Shard], work: Work, listen: Listen):
        self.shards, self.work, self.listen = shards, work, listen
        self.waiting, self.left = deque(longest_first(shards)), len(shards)
        self.workers: dict[Connection, _Worker] = {}
        self.deaths: Counter[int | None] = Counter()  # by shard; None is that of a worker that was loading the models
        self.num_done = 0

    def run(self, num_workers: int) -> None:
        try:
            for _ in range(num_workers):
                self._hire()
            while self.left:
                for connection in wait(list(self.workers)):
                    self._hear(self.workers[connection])  # type: ignore[index]
                self.listen(self.num_done + sum(worker.share for worker in self.workers.values()))
        finally:
            for worker in self.workers.values():
                worker.end()

    def _hire(self) -> None:
        worker = _Worker(self.work)
        self.workers[worker.connection] = worker

    def _hear(self, worker: _Worker) -> None:
        try:
            news, value = worker.connection.recv()
        except (EOFError, OSError):
            return self._replace(worker)
        if news == "failed":
            raise value
        if news == "share":
            worker.share = value
            return
        if worker.shard is not None:
            self.left, self.num_done = self.left - 1, self.num_done + len(self.shards[worker.shard])
        worker.shard, worker.share = (self.waiting.popleft() if self.waiting else None), 0.0
        if worker.shard is not None:
            with suppress(OSError):  # it has just died, which is the next news of it
                worker.connection.send(self.shards[worker.shard])

    def _replace(self, worker: _Worker) -> None:
        """Put another worker in the place of one that died; its shard is the next to be made."""
        del self.workers[worker.connection]
        worker.end()
        self.deaths[worker.shard] += 1
        if self.deaths[worker.shard] == MAX_TRIES:
            at = "loading the models" if worker.shard is None else f"answers of `{label(self.shards[worker.shard][0][1])}`"
            code, do = worker.process.exitcode, "Fewer `--workers` need less memory. The shards that are complete are kept."
            raise RgtgError(f"{MAX_TRIES} workers ended at {at}.", f"Found exit status {code}{' (killed)' if code == -9 else ''}.", do)
        if worker.shard is not None:
            self.waiting.appendleft(worker.shard)
        if self.waiting or worker.shard is not None or len(self.workers) == 0:
            self._hire()


def _serve(work: Work, connection: Connection) -> None:
    """The work of a process of the pool: the models once, then one shard after another until the pipe is closed."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl+C is for the process that waits for us, which ends us
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # half a file is removed on the way out
    threading.Thread(target=_end_with_parent, daemon=True).start()
    try:
        maker, told = work.begin(), 0.0

        def listen(share: float) -> None:
            nonlocal told
            if time.monotonic() - told > NEWS_S:
                told = time.monotonic()
                connection.send(("share", share))

        connection.send(("ready", None))
        while True:
            maker.make(connection.recv(), listen)
            connection.send(("ready", None))
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
    """The error as another process can read it; where that is none for a person, with its traceback."""
    if not isinstance(error, RgtgError):
        error.add_note(traceback.format_exc())
    try:
        copy: Any = pickle.loads(pickle.dumps(error))
        return copy
    except Exception:
        return RuntimeError(traceback.format_exc())
