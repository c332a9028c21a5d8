"""The folder of a sweep in the background: what was asked for, and the files that its process and the app exchange.

    request.json    the grid and the models' places, written before the process starts
    process.json    pid and time of creation of the process, written by itself
    progress.json   answers done and in all, and since when; replaced twice a second
    outcome.json    how it ended: done, failed with an error in words, or stopped
    log.txt         what the process printed
    sweep.json, shards/, results.jsonl    see `evaluation.shards`: the truth about what is done

Knows nothing of processes or models.
"""

import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rgtg.errors import BadSettings, RgtgError
from rgtg.jobs.folder import NAME, RESERVED
from rgtg.system.files import replacing, write_json
from rgtg.system.serialization import from_json, read_json, to_json
from rgtg.workbench.sweeping.grid import Grid

REQUEST, PROCESS, PROGRESS, OUTCOME, LOG = "request.json", "process.json", "progress.json", "outcome.json", "log.txt"
DONE, FAILED, STOPPED = "done", "failed", "stopped"
PROGRESS_EVERY = 0.5  # seconds
NO_DRAFT = "{}"
KEEP = "keep"  # second argument of the process: answers of another version of the code are kept


@dataclass(frozen=True)
class Request:
    """What a sweep in the background was asked to make, and where; `draft` is the page's own, to fill its form again."""

    grid: Grid
    created_at: str
    device: str = "auto"
    dtype: str = "float32"
    reward_dtype: str = ""
    base_lms: tuple[str, ...] = ()  # as the app was started with
    reward_models: tuple[str, ...] = ()
    draft: str = NO_DRAFT

    def write(self, folder: Path) -> None:
        with replacing(folder / REQUEST) as part:
            part.write_text(to_json(self), encoding="utf-8")

    def plain(self) -> dict[str, Any]:
        """Fields as JSON can hold them."""
        return {name: value for name, value in vars(self).items() if name != "grid"} | {"grid": self.grid.plain()}

    @classmethod
    def read(cls, folder: Path) -> "Request | None":
        """The request of this folder; None where it has none that can be read, as one of the command line."""
        with suppress(OSError, ValueError, TypeError, KeyError, RgtgError):
            return from_json(cls, (folder / REQUEST).read_text(encoding="utf-8"))
        return None


def check_name(name: str, field: str = "name") -> str:
    """The name, if a folder can have it on every system. Raises BadSettings."""
    if not NAME.fullmatch(name) or RESERVED.fullmatch(name):
        do = "Use up to 64 letters, digits, spaces and `._+-`, beginning with a letter or digit, and no name that Windows reserves."
        raise BadSettings("The name of the sweep is not allowed.", f"Found {name!r}.", do, field)
    return name


def read_object(path: Path) -> dict[str, Any]:
    """The JSON object in a file; {} where there is none or it is damaged."""
    with suppress(OSError, ValueError):
        found = read_json(path)
        return found if isinstance(found, dict) else {}
    return {}


def write_outcome(folder: Path, state: str, error: RgtgError | None = None) -> None:
    """Say how a sweep ended; `error` is why it failed."""
    words = [error.wrong, error.found, error.do] if error else []
    write_json(folder / OUTCOME, {"state": state, "error": words})


class Progress:
    """Writes `progress.json` while a sweep runs, at most every PROGRESS_EVERY seconds; it is what `run_sweep` calls `listen`."""

    def __init__(self, folder: Path):
        self._path, self._written, self._began, self._first = folder / PROGRESS, float("-inf"), 0.0, 0.0

    def __call__(self, done: float, total: int) -> None:
        now = time.time()
        if not self._began:
            self._began, self._first = now, done
        if now - self._written >= PROGRESS_EVERY or done >= total:
            self._written = now
            left = (now - self._began) * (total - done) / (done - self._first) if done > self._first else None
            write_json(self._path, {"done": round(done, 2), "total": total, "seconds": round(now - self._began, 1), "seconds_left": left})
