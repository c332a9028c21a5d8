"""The trainer's process: started apart from the app, recognised by pid and creation time, ended in stages.

Knows nothing of jobs, the database or torch. Its environment is that of `child.environment`, so that no token reaches it.
"""

import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from rgtg.config import ROOT
from rgtg.system.child import environment

SAME_BIRTH_S = 2.0  # the system's own figure moves a little when its clock is set


@dataclass(frozen=True)
class Trainer:
    """A process that is or was a trainer; `own` while it is this process's child, None after a restart of the app."""

    pid: int
    created_at: float
    own: subprocess.Popen | None = None

    def alive(self) -> bool:
        """Whether it still runs; False for a zombie and for another process that got its pid."""
        if self.own is not None:
            return self.own.poll() is None
        try:
            process = psutil.Process(self.pid)
            return abs(process.create_time() - self.created_at) < SAME_BIRTH_S and process.status() != psutil.STATUS_ZOMBIE
        except psutil.Error:
            return False

    def died_of(self) -> str:
        """How it ended: "signal SIGKILL" or "exit status 1", "" where that is unknown."""
        code = self.own.returncode if self.own is not None else None
        if code is None:
            return ""
        return f"signal {signal.Signals(-code).name}" if code < 0 else f"exit status {code}"

    def end(self, hard: bool = False) -> None:
        """Send SIGTERM, or SIGKILL if `hard`, to the process and its children."""
        if not self.alive():
            return
        if os.name == "posix":
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(self.pid, signal.SIGKILL if hard else signal.SIGTERM)
            return
        with suppress(psutil.Error):  # Windows has no groups of this kind
            process = psutil.Process(self.pid)
            for member in (*process.children(recursive=True), process):
                with suppress(psutil.Error):
                    member.kill() if hard else member.terminate()


def launch(folder: Path, attempt: int, online: bool = False) -> Trainer:
    """Start `python -m rgtg.jobs FOLDER ATTEMPT`, see `start_apart`."""
    return start_apart(["rgtg.jobs", str(folder), str(attempt)], folder, online)


def start_apart(module: Sequence[str], folder: Path, online: bool = False) -> Trainer:
    """Start `python -m` with this module and its arguments in a session of its own: Ctrl+C in the terminal of the app does not reach it.

    It lives on when the app dies. What it prints goes to `log.txt` in the folder. OSError where it cannot be started.
    """
    command = [sys.executable, "-m", *module]
    apart: dict[str, Any] = {"start_new_session": True}
    if sys.platform == "win32":
        apart = {"creationflags": subprocess.CREATE_NEW_PROCESS_GROUP}
    with (folder / "log.txt").open("ab") as log:
        own = subprocess.Popen(
            command, cwd=ROOT, env=environment(os.environ, online), stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT, **apart
        )
    try:
        created_at = psutil.Process(own.pid).create_time()
    except psutil.Error:  # it is over already
        created_at = 0.0
    return Trainer(own.pid, created_at, own)
