"""Child processes with limits on time and memory, for work that may never end; exceeding a limit ends the child, not the app.

`ask("module:function", …)` calls a function in a child: `python -m rgtg.system.child` reads requests as lines of JSON and answers in JSON.
One idle child is kept between requests. Knows nothing of models; what a function needs is loaded in the child.
"""

import atexit
import importlib
import json
import os
import queue
import select
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from contextlib import suppress
from typing import Any, BinaryIO

import psutil

from rgtg import errors
from rgtg.config import ROOT
from rgtg.errors import LimitPassed, RgtgError, in_words, is_out_of_memory
from rgtg.system.stopping import LOOK_S, check_stopped, waiting_for

MAY_SEE = (
    "PATH", "HOME", "USER", "LANG", "LANGUAGE", "TZ", "TMPDIR", "TEMP", "TMP", "SYSTEMROOT", "USERPROFILE", "APPDATA", "LOCALAPPDATA",
    "VIRTUAL_ENV", "LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH", "PYTHONPATH", "PYTHONHASHSEED", "PYTHONDONTWRITEBYTECODE",
    "HF_HOME", "HF_HUB_CACHE", "XDG_CACHE_HOME",
)  # fmt: skip
MAY_SEE_FAMILIES = ("LC_", "CUDA_", "NVIDIA_", "HIP_", "ROCR_", "PYTORCH_", "TORCH", "NCCL_", "RGTG_TEST_")
AT_ONCE = 4  # children at work; who comes then waits
START_S = 120.0  # until a child has loaded what a function needs
IDLE_S = 600.0  # a child that nobody asks ends
WALL = 3  # times the processor time that a child may take, by the clock: it may wait for a disk
MAX_ANSWER = 32_000_000  # bytes


def environment(own: Mapping[str, str], online: bool) -> dict[str, str]:
    """Environment variables for a child process: no tokens, offline unless `online`, one core left to the app."""
    seen = {name: value for name, value in own.items() if name in MAY_SEE or name.startswith(MAY_SEE_FAMILIES)}
    threads = str(num_threads())
    seen |= {"OMP_NUM_THREADS": threads, "MKL_NUM_THREADS": threads, "TOKENIZERS_PARALLELISM": "false", "PYTHONUNBUFFERED": "1"}
    seen |= {"HF_HUB_DISABLE_IMPLICIT_TOKEN": "1", "HF_HUB_DISABLE_TELEMETRY": "1"}  # a token may lie in HF_HOME, too
    return seen if online else seen | {"HF_HUB_OFFLINE": "1"}


def num_threads() -> int:
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, cores - 1)


def limit_memory(num_bytes: int) -> None:
    """Limit the memory of this process: beyond `num_bytes` allocations raise MemoryError, where the system supports that."""
    with suppress(ImportError, ValueError, OSError):
        import resource

        resource.setrlimit(resource.RLIMIT_DATA, (num_bytes, resource.getrlimit(resource.RLIMIT_DATA)[1]))


# --- asking a child ---------------------------------------------------------------------------------------------------

_idle: list["_Child"] = []
_alive: set["_Child"] = set()
_room, _lock = threading.BoundedSemaphore(AT_ONCE), threading.Lock()


def ask(function: str, *args: Any, seconds: float, memory_gb: float, needs: str = "") -> Any:
    """Call `module:function` in a child and return its result, passed as JSON. `seconds` is processor time, counted once the function's
    module and the module it `needs` are loaded.

    Raises LimitPassed where a limit is exceeded or the process dies, Stopped, and errors of the function as an RgtgError.
    """
    check_stopped()
    with waiting_for(_room):
        child, keep = _take(), False
        try:
            answer = child.ask({"function": function, "needs": needs, "given": args, "seconds": seconds, "memory": int(memory_gb * 1e9)})
            keep = "limit" not in answer
        finally:
            _put_back(child, keep)
    if "limit" in answer:
        raise LimitPassed(answer["at"], "needs too much memory", f"More than {memory_gb:g} GB were asked for.")
    if "error" in answer:
        raise getattr(errors, answer["kind"], RgtgError)(*answer["error"])
    return answer["value"]


def _take() -> "_Child":
    with _lock:
        while _idle:
            child = _idle.pop()
            if child.process.poll() is None:
                return child
            _alive.discard(child)
    child = _Child()
    with _lock:
        _alive.add(child)
    return child


def _put_back(child: "_Child", keep: bool) -> None:
    with _lock:
        if keep and not _idle:
            _idle.append(child)
            return
        _alive.discard(child)
    child.end()


@atexit.register
def end_all() -> None:
    """End all children."""
    with _lock:
        ending = list(_alive)
        _idle.clear()
        _alive.clear()
    for child in ending:
        child.end()


class _Child:
    """A process that answers one request after the other."""

    def __init__(self) -> None:
        env = environment(os.environ, online=False) | {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
        self.process = subprocess.Popen(
            [sys.executable, "-m", "rgtg.system.child"], cwd=ROOT, env=env, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL, start_new_session=True,
        )  # fmt: skip
        self._lines: queue.SimpleQueue[bytes] = queue.SimpleQueue()
        threading.Thread(target=self._read, name="child-reader", daemon=True).start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        with suppress(OSError, ValueError):  # closed meanwhile
            while line := self.process.stdout.readline(MAX_ANSWER + 1000):
                self._lines.put(line)
        self._lines.put(b"")

    def ask(self, request: Mapping[str, Any]) -> dict[str, Any]:
        """The child's answer: {"value"}, {"error", "kind"} or {"limit", "at"}. Raises LimitPassed, Stopped."""
        assert self.process.stdin is not None
        with suppress(OSError):  # it has died: there will be no line
            self.process.stdin.write(json.dumps(request).encode() + b"\n")
            self.process.stdin.flush()
        at, began = "", (time.monotonic(), 0.0, 0)
        limits = (START_S, START_S, float("inf"))  # by the clock, of the processor, bytes
        while True:
            try:
                line = self._lines.get(timeout=LOOK_S)
            except queue.Empty:
                self._look(at, began, limits)
                continue
            if not line:
                raise LimitPassed(at, "ended its process", f"The exit status is {self.process.wait()}; memory may have run out.")
            message: dict[str, Any] = json.loads(line)
            if "begun" in message:
                began = (time.monotonic(), *message["begun"])
                limits = (WALL * request["seconds"], request["seconds"], request["memory"])
            elif "stage" in message:
                at = message["stage"]
            else:
                return message | {"at": at}

    def _look(self, at: str, began: tuple[float, float, int], limits: tuple[float, float, float]) -> None:
        """Raise LimitPassed or Stopped if the work has to end."""
        check_stopped()
        try:
            process = psutil.Process(self.process.pid)
            used, memory = sum(process.cpu_times()[:2]), process.memory_info().rss
        except psutil.Error:  # it has ended, which the next line says
            return
        if time.monotonic() - began[0] > limits[0] or used - began[1] > limits[1]:
            raise LimitPassed(at, "takes too long", f"It was ended after {limits[1]:g} seconds.")
        if memory - began[2] > limits[2]:
            raise LimitPassed(at, "needs too much memory", f"More than {limits[2] / 1e9:g} GB were asked for.")

    def end(self) -> None:
        self.process.kill()
        self.process.wait()
        for pipe in (self.process.stdin, self.process.stdout):
            with suppress(OSError):
                assert pipe is not None
                pipe.close()


# --- in the child -----------------------------------------------------------------------------------------------------

_answers: BinaryIO | None = None


def stage(name: str) -> None:
    """Name the step that a function in a child begins, for the error should it exceed a limit."""
    if _answers is not None:
        _say({"stage": name})


def _say(line: Mapping[str, Any]) -> None:
    assert _answers is not None
    content = json.dumps(line).encode()
    if len(content) > MAX_ANSWER:
        content = json.dumps({"limit": "memory"}).encode()
    _answers.write(content + b"\n")
    _answers.flush()


def main() -> None:
    """Answer requests until there are none."""
    global _answers
    _answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what a library prints is not an answer
    while os.name != "posix" or select.select([0], [], [], IDLE_S)[0]:
        if not (line := sys.stdin.buffer.readline()):
            return
        _say(_answer(json.loads(line)))


def _answer(request: Mapping[str, Any]) -> dict[str, Any]:
    try:
        module, _, name = request["function"].partition(":")
        if request["needs"]:
            importlib.import_module(request["needs"])
        function = getattr(importlib.import_module(module), name)
        _limit(request["seconds"], request["memory"])
        return {"value": function(*request["given"])}
    except Exception as error:
        if is_out_of_memory(error):
            return {"limit": "memory"}
        words = in_words(error)
        return {"error": [words.wrong, words.found, words.do], "kind": type(words).__name__}


def _limit(seconds: float, memory: int) -> None:
    """Set limits of the operating system too, which hold if the app has died, and report what was used before."""
    process = psutil.Process()
    used, info = sum(process.cpu_times()[:2]), process.memory_info()
    _say({"begun": [used, info.rss]})
    if hasattr(info, "data"):
        limit_memory(info.data + memory)
    with suppress(ImportError, ValueError, OSError):
        import resource

        resource.setrlimit(resource.RLIMIT_CPU, (int(used + seconds) + 10, resource.getrlimit(resource.RLIMIT_CPU)[1]))


if __name__ == "__main__":
    from rgtg.system import child  # functions say their stage through the module as they import it

    child.main()
