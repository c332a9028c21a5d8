"""Import of preferences from files, and export of votes as data sets, as pages ask for them.

Knows nothing of what a format is; nothing is written before a person has seen what a file was read as.
"""

import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from rgtg.errors import BadData, BadSettings

if TYPE_CHECKING:
    from rgtg.store.exchange.records import ImportReport
    from rgtg.store.export import FolderReport
    from rgtg.store.store import Store

DATED = 1980, 1, 1, 0, 0, 0  # in an archive, so that equal exports are equal bytes


class Exchange:
    """Import into and export from one database."""

    def __init__(self, store: "Callable[[], Store]"):
        self._store = store

    def formats(self) -> dict[str, str]:
        """Export formats with a sentence on each."""
        from rgtg.store.export import FORMATS

        return {key: format.about for key, format in FORMATS.items()}

    def types(self) -> tuple[str, ...]:
        """File types of an export: ".jsonl", …"""
        from rgtg.store.exchange.files import TYPES

        return tuple(TYPES)

    def export(self, archive: Path, formats: Sequence[str], types: Sequence[str]) -> "FolderReport":
        """Write the votes in these formats and types, with a manifest, into one ZIP archive. The same database gives the same bytes."""
        from rgtg.store.export import export_folder

        if not formats or not types:
            raise BadSettings("An export needs a format and a file type.", "", "Choose at least one of each.", "export-formats")
        folder = archive.with_suffix("")
        folder.mkdir(parents=True)
        report = export_folder(self._store(), folder, formats, types)
        with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as packed:
            for file in sorted(folder.iterdir()):
                packed.writestr(zipfile.ZipInfo(file.name, DATED), file.read_bytes(), zipfile.ZIP_DEFLATED)
                file.unlink()
        folder.rmdir()
        return report

    def read(self, file: Path, columns: str = "", ties: str = "", store: bool = False) -> "ImportReport":
        """What a file of preferences holds, read in a process of its own; with `store` it is imported, all or nothing.

        Raises BadData naming row and field, and BadSettings with the field `columns` or `ties` where the file leaves open what decides."""
        from rgtg.store.exchange.apart import plan_apart
        from rgtg.store.exchange.into import import_plan

        if not file.is_file():
            raise BadData(f"There is no file `{file.name}`.", "", "Choose it again.", "import-file")
        planned = plan_apart(file, columns, ties)
        return import_plan(self._store(), planned) if store else planned.report
