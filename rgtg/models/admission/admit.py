"""Admission of model folders: an unknown folder is tried in a child process under limits of time and memory.

Folders with known content are admitted at once: those in `data/starter/known.json`, and those that passed before in this process. Knows nothing of
torch or transformers, which read the folder in the child alone.
"""

import hashlib
import os
import stat
from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path

from rgtg.config import STARTER_DIR, Limits
from rgtg.errors import LimitPassed, ModelRefused, door
from rgtg.system.child import ask
from rgtg.system.files import write_json
from rgtg.system.serialization import read_json

KNOWN = "known.json"
READ = (".json", ".jinja", ".txt", ".model", ".tiktoken")  # files that transformers may read, besides weights
OURS = ("card.json", "manifest.json", "README.md")
TEMPLATES = "additional_chat_templates"
MAX_BYTES = 256_000_000  # per file
MAX_HEADER = 100_000_000  # the limit of the safetensors format
_passed: set[str] = set()


def admit(title: str, folder: Path) -> None:
    """Raise ModelRefused if reading a folder takes too long or too much memory, or is impossible. Raises Stopped."""
    with door(f"`{title}` cannot be read.", kind=ModelRefused):
        content = digest(folder)
    if content in _passed or content in known():
        return
    limits = Limits.from_environment()
    try:
        ask("rgtg.models.admission.trial:try_folder", str(folder.absolute()), title, seconds=limits.door_seconds, memory_gb=limits.door_memory_gb)
    except LimitPassed as error:
        wrong, do = (
            f"`{title}` could not be loaded: {error.at} {error.how}.",
            "Choose another model, or raise RGTG_DOOR_SECONDS or RGTG_DOOR_MEMORY_GB.",
        )
        raise ModelRefused(wrong, error.found, do) from error
    _passed.add(content)


def admitted() -> frozenset[str]:
    """Digests of the folders that passed in this process."""
    return frozenset(_passed)


def trust(digests: Iterable[str]) -> None:
    """Admit folders with this content, which passed in the process that began this one."""
    _passed.update(digests)


def digest(folder: Path) -> str:
    """SHA-256 over config and tokenizer files and the headers of the weights: everything that decides how long loading takes.

    Raises ValueError if one is not a regular file or too large, and OSError.
    """
    sha256 = hashlib.sha256()
    for path in _files(folder):
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):
            raise ValueError(f"`{path.name}` is not a regular file")
        with path.open("rb") as file:
            if path.suffix == ".safetensors":
                length = file.read(8)
                content = length + file.read(min(MAX_HEADER, int.from_bytes(length, "little"))) + str(status.st_size).encode()
            elif status.st_size > MAX_BYTES:
                raise ValueError(f"`{path.name}` has {status.st_size // 1_000_000:,} MB; the maximum is {MAX_BYTES // 1_000_000} MB")
            else:
                content = file.read()
        sha256.update(f"{path.relative_to(folder).as_posix()!a} {len(content)}\n".encode())
        sha256.update(content)
    return sha256.hexdigest()


def _files(folder: Path) -> Iterator[Path]:
    for parent in (folder, folder / TEMPLATES):
        names = sorted(os.listdir(parent)) if parent == folder or parent.is_dir() else []
        yield from (parent / name for name in names if name.endswith((*READ, ".safetensors")) and name not in OURS and not (parent / name).is_dir())


@cache
def known() -> frozenset[str]:
    """Digests of the folders that are shipped with rgtg."""
    path = STARTER_DIR / KNOWN
    return frozenset(read_json(path).values()) if path.is_file() else frozenset()


def write_known(starter: Path) -> None:
    """Write the digests of a folder of starter models to its `known.json`: {name: digest}."""
    folders = [path for path in sorted(starter.iterdir()) if (path / "config.json").is_file()]
    write_json(starter / KNOWN, {folder.name: digest(folder) for folder in folders})
