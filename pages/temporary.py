"""The folder of files that are here for a while: what a page takes as an upload, what it gives as a download.

A download goes once it was fetched, and everything an hour after it came. Knows nothing of what is in the files.
"""

import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from gradio.utils import get_upload_folder

from rgtg.errors import BadData

MAX_AGE = 3600.0  # seconds
MAX_BYTES, MAX_FILES = 200_000_000, 200  # that lie here at a time
DOWNLOAD = "download-"


def folder() -> Path:
    """Where Gradio puts uploads and serves files from; made for this user alone."""
    found = Path(get_upload_folder())
    found.mkdir(parents=True, exist_ok=True)
    with suppress(OSError):  # another user's
        found.chmod(0o700)
    return found


def download_folder() -> Path:
    """A new folder for one download; `fetched` or `sweep` takes it away. Raises BadData where there is no room."""
    check_room()
    return Path(tempfile.mkdtemp(prefix=DOWNLOAD, dir=folder()))


def fetched(path: str) -> None:
    """A file was sent to its end: where it is a download, its folder goes."""
    found = Path(os.path.abspath(path)).parent
    if found.parent == Path(os.path.abspath(folder())) and found.name.startswith(DOWNLOAD):
        shutil.rmtree(found, ignore_errors=True)


def check_room(num_bytes: int = 0) -> None:
    """Raises BadData where as many bytes more are too many."""
    there, files = size()
    if there + num_bytes > MAX_BYTES or files >= MAX_FILES:
        found = f"There are {files:,} files, {there:,} bytes; {MAX_FILES:,} and {MAX_BYTES:,} are kept."
        raise BadData("There is no room for another upload or download.", found, "Each goes an hour after it came; try again then.")


def size() -> tuple[int, int]:
    """How many bytes there are, and in how many files."""
    sizes = [found.st_size for _, found in _files(folder())]
    return sum(sizes), len(sizes)


def sweep(max_age: float = MAX_AGE) -> None:
    """Removes files that are older, and folders that stand empty."""
    before = time.time() - max_age
    for path, found in list(_files(folder())):
        if found.st_mtime < before:
            with suppress(OSError):  # somebody else was faster
                path.unlink()
                path.parent.rmdir()  # or others are left in it
    for place in folder().iterdir():
        with suppress(OSError):  # a file, or not empty
            if place.stat(follow_symlinks=False).st_mtime < before:
                place.rmdir()


def _files(place: Path) -> Iterator[tuple[Path, os.stat_result]]:
    for root, _, names in os.walk(place):  # into no link
        for name in names:
            with suppress(OSError):  # gone meanwhile
                yield Path(root, name), os.stat(Path(root, name), follow_symlinks=False)
