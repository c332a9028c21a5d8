"""Checkpoints of a training, written atomically: under a temporary name, hashed, flushed to disk, then renamed.

Knows nothing of models: there is a folder `checkpoint-N` after step N, and the trainer decides what is in it. A resumed training
starts from the newest complete one.
"""

import re
import shutil
from collections.abc import Callable
from pathlib import Path

from rgtg.models import artifacts
from rgtg.system.faults import boundary

NAME = re.compile(r"checkpoint-(\d+)")
KEPT = 2  # the older one serves where the newest is damaged


def write(folder: Path, step: int, run: str, fill: Callable[[Path], None]) -> Path:
    """Write a checkpoint: `fill` writes its files into the folder it gets, `run` identifies the training."""
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
    for old in in_folder(folder)[KEPT:]:
        shutil.rmtree(old, ignore_errors=True)
    return target


def in_folder(folder: Path) -> list[Path]:
    """All checkpoints, the newest first; their hashes are not checked."""
    paths = [path for path in folder.glob("checkpoint-*") if NAME.fullmatch(path.name)]
    return sorted(paths, key=lambda path: int(path.name.rpartition("-")[2]), reverse=True)


def newest(folder: Path, run: str) -> Path | None:
    """The newest checkpoint of the training `run` whose files all match their hashes."""
    for path in in_folder(folder):
        manifest = artifacts.manifest_of(path)
        if manifest is not None and manifest.get("run") == run:
            return path
    return None


def discard(folder: Path) -> None:
    """Delete all checkpoints, once the trained model is saved."""
    for path in folder.glob("checkpoint-*"):
        artifacts.discard(path)
