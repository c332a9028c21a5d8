"""Hooks for tests: crash or fail with a full disk at a named boundary, or replace a function of the trainer.

Knows nothing of jobs. Without RGTG_TEST_… in the environment nothing here does anything.
"""

import errno
import importlib
import os
import signal
from collections.abc import Callable


def boundary(phase: str) -> None:
    """Between two phases: RGTG_TEST_KILL_AT=phase kills this process here, RGTG_TEST_FULL_AT=phase raises ENOSPC."""
    if os.environ.get("RGTG_TEST_KILL_AT") == phase:
        os.kill(os.getpid(), getattr(signal, "SIGKILL", signal.SIGTERM))
    if os.environ.get("RGTG_TEST_FULL_AT") == phase:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def named(variable: str, default: str) -> Callable:
    """The function `module:name` named by the environment variable, else the default; imported here."""
    module, _, name = os.environ.get(variable, default).partition(":")
    return getattr(importlib.import_module(module), name)
