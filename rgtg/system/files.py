"""Atomic writing of files: written beside their path, synced to disk, renamed.

Knows nothing of what is in them; JSON is read by `serialization`.
"""

import json
import os
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rgtg.errors import BadSettings, door


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A temporary path beside `path` to write to. At the end the file is synced and replaces `path`; after an error it is removed."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}.part")  # two may write at once
    try:
        yield part
        sync(part)
        part.replace(path)
        sync(path.parent)
    finally:
        part.unlink(missing_ok=True)


def write_json(path: Path, content: Mapping[str, Any] | list) -> None:
    """Write indented JSON; NaN and infinity raise ValueError."""
    with replacing(path) as part:
        part.write_text(json.dumps(content, ensure_ascii=False, allow_nan=False, indent=1), encoding="utf-8")


def make_folder(folder: Path, wanted: Path | None = None) -> None:
    """Create the folder of an output. Raises BadSettings naming `wanted`, the path that was given."""
    with door(f"`{wanted or folder}` cannot be written.", kind=BadSettings):
        folder.mkdir(parents=True, exist_ok=True)


def sync(path: Path) -> None:
    """Sync a file or the entries of a folder to disk."""
    if path.is_dir() and os.name != "posix":  # Windows cannot fsync a folder
        return
    descriptor = os.open(path, os.O_RDONLY if os.name == "posix" else os.O_RDWR)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
