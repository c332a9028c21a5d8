"""The folder of temporary files: uploads and downloads.

A download is deleted once it was fetched, every file after an hour. Knows nothing of what is in the files.
"""

import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from gradio.utils import get_upload_folder

from rgtg.errors import BadData, BadSettings

MAX_AGE = 3600.0  # seconds
MAX_BYTES, MAX_FILES = 200_000_000, 200  # at any time
DOWNLOAD = "download-"


def folder() -> Path:
    """Where Gradio puts uploads and serves files from; made for this user alone."""
    upload_folder = Path(get_upload_folder())
    upload_folder.mkdir(parents=True, exist_ok=True)
    with suppress(OSError):  # another user's
        upload_folder.chmod(0o700)
    return upload_folder


def download_folder() -> Path:
    """A new folder for one download, deleted by `fetched` or `sweep`. Raises BadData if the quota is used up."""
    check_room()
    return Path(tempfile.mkdtemp(prefix=DOWNLOAD, dir=folder()))


def fetched(path: str) -> None:
    """Delete the folder of a download after its file was sent."""
    parent = Path(os.path.abspath(path)).parent
    if parent.parent == Path(os.path.abspath(folder())) and parent.name.startswith(DOWNLOAD):
        shutil.rmtree(parent, ignore_errors=True)


def check_uploaded(path: Path, field: str) -> None:
    """Raise BadSettings unless it is an uploaded file: on a public server nobody names another file of the machine."""
    real = Path(os.path.realpath(path))
    if Path(os.path.realpath(folder())) not in real.parents or not real.is_file():
        raise BadSettings("On a public server only an uploaded file can be read.", "", "Upload it.", field)


def check_room(num_bytes: int = 0) -> None:
    """Raise BadData if another `num_bytes` would exceed the quota."""
    used, num_files = size()
    if used + num_bytes > MAX_BYTES or num_files >= MAX_FILES:
        found = f"There are {num_files:,} files, {used:,} bytes; the limits are {MAX_FILES:,} and {MAX_BYTES:,}."
        raise BadData("There is no room for another upload or download.", found, "Files are deleted after an hour; try again then.")


def size() -> tuple[int, int]:
    """Total bytes and number of files."""
    sizes = [stat.st_size for _, stat in _files(folder())]
    return sum(sizes), len(sizes)


def sweep(max_age: float = MAX_AGE) -> None:
    """Delete files older than `max_age` seconds, and empty folders."""
    limit = time.time() - max_age
    for path, stat in list(_files(folder())):
        if stat.st_mtime < limit:
            with suppress(OSError):  # somebody else was faster
                path.unlink()
                path.parent.rmdir()  # or others are left in it
    for directory in folder().iterdir():
        with suppress(OSError):  # a file, or not empty
            if directory.stat(follow_symlinks=False).st_mtime < limit:
                directory.rmdir()


def _files(directory: Path) -> Iterator[tuple[Path, os.stat_result]]:
    for root, _, names in os.walk(directory):  # into no link
        for name in names:
            with suppress(OSError):  # gone meanwhile
                yield Path(root, name), os.stat(Path(root, name), follow_symlinks=False)
