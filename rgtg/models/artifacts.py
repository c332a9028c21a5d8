"""Atomic publication of model folders: staged, sealed with a manifest of hashes, and moved by one rename.

Knows nothing of torch, processes or the database. `<models>/.staging/<job>` holds a folder before publication, on the same file system as
`<models>/<name>`; folders whose names begin with a dot are not listed as models.
"""

import hashlib
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rgtg.system.files import sync, write_json
from rgtg.system.serialization import read_json

MANIFEST = "manifest.json"
STAGING, QUARANTINE = ".staging", ".quarantine"


def staging_folder(models: Path, job_id: str) -> Path:
    return models / STAGING / job_id


def stage(model: Path, staging: Path) -> None:
    """Move a finished model folder to its staging folder, by copy across file systems."""
    discard(staging)
    staging.parent.mkdir(parents=True, exist_ok=True)
    shutil.move(model, staging)


def seal(folder: Path, metadata: Mapping[str, Any]) -> None:
    """Write the manifest, `metadata` with {"files": {name: {"sha256", "size"}}} and "weights_sha256", and sync all files to disk."""
    files = {str(path.relative_to(folder).as_posix()): path for path in sorted(folder.rglob("*")) if path.is_file() and path.name != MANIFEST}
    hashes = {name: {"sha256": _sha256(path), "size": path.stat().st_size} for name, path in files.items()}
    write_json(folder / MANIFEST, {**metadata, "weights_sha256": weights_sha256(folder), "files": hashes})
    for path in (*files.values(), *(p for p in folder.rglob("*") if p.is_dir()), folder):
        sync(path)


def manifest_of(folder: Path, hashes: bool = True) -> dict[str, Any] | None:
    """Manifest of a folder if every file it lists has its hash (without `hashes`: its size), else None."""
    try:
        manifest = read_json(folder / MANIFEST)
        for name, entry in manifest["files"].items():
            path = folder / name
            if path.stat().st_size != entry["size"] or (hashes and _sha256(path) != entry["sha256"]):
                return None
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None
    return manifest


def publish(staging: Path, target: Path) -> None:
    """Publish a staged folder by one rename. Raises FileExistsError if the target exists."""
    if target.exists():
        raise FileExistsError(str(target))
    target.parent.mkdir(parents=True, exist_ok=True)
    staging.rename(target)
    sync(target.parent)
    sync(staging.parent)


def set_aside(folder: Path, models: Path) -> Path:
    """Move a model folder into `.quarantine`, where no list shows it; returns its new path."""
    target, number = models / QUARANTINE / folder.name, 2
    while target.exists():
        target, number = models / QUARANTINE / f"{folder.name} {number}", number + 1
    publish(folder, target)
    return target


def withdraw(folder: Path, models: Path, job_id: str) -> None:
    """Delete a published folder: first one rename out of every list, then its files."""
    staging = staging_folder(models, job_id)
    discard(staging)
    publish(folder, staging)
    discard(staging)


def discard(folder: Path) -> None:
    shutil.rmtree(folder, ignore_errors=True)


def weights_sha256(folder: Path) -> str:
    """SHA-256 over the safetensors files, in the order of their names."""
    digest = hashlib.sha256()
    for path in sorted(folder.glob("*.safetensors")):
        _feed(digest, path)
    return digest.hexdigest()


def revision_of(folder: Path) -> str:
    """`ModelRef.revision` of a folder: the first 16 digits of `weights_sha256`."""
    return weights_sha256(folder)[:16]


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    _feed(digest, path)
    return digest.hexdigest()


def _feed(digest: Any, path: Path) -> None:
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
