"""Checkpoints of a training, each whole or not there: written under another name, hashed, brought to disk, then renamed.

Knows nothing of models: a folder `checkpoint-N` after step N, what is in it is the loop's. A resume takes the newest that is whole.
"""

import re
import shutil
from collections.abc import Callable
from pathlib import Path

from rgtg.models import artifacts
from rgtg.system.faults import boundary

NAME = re.compile(r"checkpoint-(\d+)")
KEPT = 2  # should the newest turn out damaged, the one before it serves


def write(folder: Path, step: int, run: str, fill: Callable[[Path], None]) -> Path:
    """`fill` writes files into the folder it gets; `run` says which training they are of."""
    target = folder / f"checkpoint-{step}"
    part = folder / f"checkpoint-{step}.tmp"
    for old in (part, target):
        artifacts.discard(old)
    part.mkdir(parents=True)
    boundary("trainer:checkpoint-begun")
    fill(part)
    boundary("trainer:checkpoint-filled")
    artifacts.seal(part, {"step": step, "run": run})
    boundary("trainer:checkpoint-sealed")
    artifacts.publish(part, target)
    boundary("trainer:checkpoint-placed")
    for old in found(folder)[KEPT:]:
        shutil.rmtree(old, ignore_errors=True)
    return target


def found(folder: Path) -> list[Path]:
    """All that carry the final name, the newest first, whole or not."""
    paths = [path for path in folder.glob("checkpoint-*") if NAME.fullmatch(path.name)]
    return sorted(paths, key=lambda path: int(path.name.rpartition("-")[2]), reverse=True)


def newest(folder: Path, run: str) -> Path | None:
    """The newest of this training whose every file fits its hash."""
    for path in found(folder):
        manifest = artifacts.manifest_of(path)
        if manifest is not None and manifest.get("run") == run:
            return path
    return None


def discard(folder: Path) -> None:
    """Once the model is safe they are of no more use."""
    for path in folder.glob("checkpoint-*"):
        artifacts.discard(path)
