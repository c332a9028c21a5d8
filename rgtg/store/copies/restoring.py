"""A database made again where there is none: the newest sound copy of the dataset, and what the journals say since.

It is made beside its place and put there complete. Where the dataset cannot be read, the app starts with an empty database: ids are unique, so that
both are joined at the next start.
"""

import logging
import re
import tempfile
from contextlib import closing, suppress
from dataclasses import dataclass, field
from pathlib import Path

from rgtg.errors import RgtgError, StoreError, in_words
from rgtg.store.backups import restore
from rgtg.store.connection import open_store, verify
from rgtg.store.copies import journal
from rgtg.store.copies.dataset import VotesDataset
from rgtg.store.copies.replay import UNFINISHED, Replayed, replay
from rgtg.store.schema import newest

log = logging.getLogger(__name__)

COPIES = "copies"
STAMP = "%Y-%m-%dT%H-%M-%S-%f"  # in the name of a copy, before the beginning of its SHA-256
COPY = re.compile(rf"{COPIES}/rgtg\.(\d{{4}}-\d{{2}}-\d{{2}}T\d{{2}}-\d{{2}}-\d{{2}}-\d{{6}})\.[0-9a-f]{{12}}\.db")


@dataclass
class Restored:
    """What a start found in the dataset: the copy taken with the bytes of each journal that it has, what was replayed, and the `problem`, a sentence,
    where not everything could be had. Where it is not complete, because the dataset or its copies could not be read, nothing there may be removed."""

    copy: str = ""
    positions: dict[str, int] = field(default_factory=dict)
    replayed: Replayed = field(default_factory=Replayed)
    problem: str = ""
    is_complete: bool = True


def copies_in(files: dict[str, int]) -> list[str]:
    """Paths of the copies among the files of a dataset, newest first."""
    return sorted(filter(COPY.fullmatch, files), key=lambda path: (COPY.fullmatch(path) or "")[1], reverse=True)


def restore_missing(database: Path, dataset: VotesDataset) -> Restored:
    """Make the database again from the dataset; nothing where there is one, or where the dataset is empty."""
    if database.exists():
        return Restored()
    try:
        files = dataset.files()
        journals = [path for path in files if path.startswith(f"{journal.FOLDER}/") and path.endswith(".jsonl")]
        if not journals and not copies_in(files):
            return Restored()
        database.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=database.parent, prefix=".restoring.") as folder:
            return _restore(database, dataset, Path(folder), copies_in(files), journals)
    except (RgtgError, OSError) as error:
        log.warning("votes could not be restored: %s", error)
        return Restored(problem=f"Earlier votes could not be fetched: {in_words(error, kind=StoreError)}", is_complete=False)


def _restore(database: Path, dataset: VotesDataset, folder: Path, copies: list[str], journals: list[str]) -> Restored:
    made, found = folder / database.name, Restored()
    for path in copies:
        try:
            verify(fetched := dataset.fetch(path, folder), path)
            fetched.rename(made)
            found.copy = path
            break
        except StoreError as error:
            log.warning("%s", error)
    if copies and not found.copy:
        found.problem, found.is_complete = f"Earlier votes may be missing: none of {len(copies)} copies is sound.", False
    opened = open_store(made)
    if opened.conn is None or opened.lock is None:
        raise StoreError("The copy of the votes cannot be opened.", opened.reason)
    try:
        with closing(opened.conn) as conn:
            found.positions = journal.positions(conn)
            found.replayed = replay(conn, [dataset.fetch(path, folder) for path in journals], is_new=not found.copy)
    finally:
        opened.lock.release()
    if left_out := ", ".join(f"{number} {cause}" for cause, number in found.replayed.left_out.items() if cause != UNFINISHED):
        found.problem = found.problem or f"Some lines of the journal could not be read: {left_out}. They are kept in `{dataset.name}`."
    restore(database, made)
    log.info(
        "votes restored from %s: %s, %d lines of %d journals (schema %d)",
        dataset.name, found.copy or "no copy", found.replayed.num_lines, len(journals), newest(),
    )  # fmt: skip
    with suppress(OSError):
        made.with_name(f"{made.name}.lock").unlink()
    return found
