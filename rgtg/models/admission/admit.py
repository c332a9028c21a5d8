"""Whether a model folder may be loaded here: it was tried in a child process under limits of time and memory.

Folders whose content is known are not tried: those of `data/starter/known.json`, and what passed before in this process. Knows nothing of
torch or transformers, which read the folder in the child alone.
"""

import hashlib
import os
import stat
from collections.abc import Iterator
from functools import cache
from pathlib import Path

from rgtg.config import STARTER_DIR, Limits
from rgtg.errors import LimitPassed, ModelRefused, door
from rgtg.system.child import ask
from rgtg.system.files import write_json
from rgtg.system.serialization import read_json

KNOWN = "known.json"
READ = (".json", ".jinja", ".txt", ".model", ".tiktoken")  # what transformers may read, besides weights
OURS = ("card.json", "manifest.json", "README.md")
TEMPLATES = "additional_chat_templates"
MAX_BYTES = 256_000_000  # of one of these files
MAX_HEADER = 100_000_000  # of a safetensors file, as its format has it
_passed: set[str] = set()


def admit(title: str, folder: Path) -> None:
    """Raises ModelRefused where what is in the folder takes too long or too much memory, or cannot be looked at; Stopped."""
    with door(f"`{title}` cannot be looked at.", kind=ModelRefused):
        found = digest(folder)
    if found in _passed or found in known():
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
    _passed.add(found)


def digest(folder: Path) -> str:
    """SHA-256 over all that decides how long a folder takes: the files of config and tokenizer, and the headers of its weights.
    Raises ValueError where one is no file or too large, OSError."""
    whole = hashlib.sha256()
    for path in _files(folder):
        found = path.stat()
        if not stat.S_ISREG(found.st_mode):
            raise ValueError(f"`{path.name}` is no regular file")
        with path.open("rb") as file:
            if path.suffix == ".safetensors":
                length = file.read(8)
                content = length + file.read(min(MAX_HEADER, int.from_bytes(length, "little"))) + str(found.st_size).encode()
            elif found.st_size > MAX_BYTES:
                raise ValueError(f"`{path.name}` has {found.st_size // 1_000_000:,} MB; {MAX_BYTES // 1_000_000} MB are read at most")
            else:
                content = file.read()
        whole.update(f"{path.relative_to(folder).as_posix()!a} {len(content)}\n".encode())
        whole.update(content)
    return whole.hexdigest()


def _files(folder: Path) -> Iterator[Path]:
    for place in (folder, folder / TEMPLATES):
        names = sorted(os.listdir(place)) if place == folder or place.is_dir() else []
        yield from (place / name for name in names if name.endswith((*READ, ".safetensors")) and name not in OURS and not (place / name).is_dir())


@cache
def known() -> frozenset[str]:
    """The folders that ship."""
    path = STARTER_DIR / KNOWN
    return frozenset(read_json(path).values()) if path.is_file() else frozenset()


def write_known(starter: Path) -> None:
    """Writes the list of the folders in a folder of starter models: {name: digest}."""
    folders = [path for path in sorted(starter.iterdir()) if (path / "config.json").is_file()]
    write_json(starter / KNOWN, {folder.name: digest(folder) for folder in folders})
