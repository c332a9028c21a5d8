"""Export of votes as data sets: one state of the database, every row that is read checked, the same bytes for the same data.

Knows nothing of SQL or of how pairs are trained on. What a row holds is in `exchange.formats`, how a file is written in `exchange.files`.
"""

import sqlite3
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rgtg import __version__
from rgtg.errors import BadData, BadSettings
from rgtg.preferences.pairs import CAUSES
from rgtg.store import queries
from rgtg.store.annotation.sifting import NOTHING, Sieve
from rgtg.store.exchange.files import TYPES, write_rows
from rgtg.store.exchange.formats import EXCLUDED, FORMATS, NO_TOKEN_IDS, WORDS, Row
from rgtg.store.exchange.voted import Voted, voted
from rgtg.store.history import EVERYTHING, HistoryFilter
from rgtg.system.files import write_json

if TYPE_CHECKING:
    from rgtg.store.store import Store

__all__ = [
    "EXCLUDED",
    "FORMATS",
    "NO_TOKEN_IDS",
    "ExportReport",
    "FolderReport",
    "export_folder",
    "export_preferences",
    "skipped_words",
]
MANIFEST = "manifest.json"
Listen = Callable[[int, int], None]


@dataclass(frozen=True)
class ExportReport:
    """Counts of an export: `num_pairs` rows of votes on `num_comparisons` comparisons; `skipped` counts what gave no row, by cause
    (`rgtg.preferences.pairs.CAUSES` and `exchange.formats.WORDS`)."""

    path: Path
    num_pairs: int
    num_comparisons: int
    num_votes: int
    sha256: str
    skipped: dict[str, int] = field(default_factory=dict, hash=False)

    @property
    def left_out(self) -> str:
        """What gave no row: "votes for a tie: 2, pairs of equal texts: 1". Comparisons without a vote are not counted."""
        return skipped_words(self.skipped)


@dataclass(frozen=True)
class FolderReport:
    """An export as a folder: the manifest, and the report of each format."""

    manifest: Path
    reports: dict[str, ExportReport] = field(default_factory=dict, hash=False)


class _Counted:
    """Voted comparisons on their way into a format, counted."""

    def __init__(self, found: Iterable[Voted], listen: Listen, total: int):
        self._found, self._listen, self._total = found, listen, total
        self.num_comparisons = self.num_votes = 0

    def __iter__(self) -> Iterator[Voted]:
        self._listen(0, self._total)
        for each in self._found:
            self.num_comparisons += bool(each.votes)
            self.num_votes += len(each.votes)
            yield each
            self._listen(self.num_comparisons, max(self._total, self.num_comparisons))


def export_preferences(
    store: "Store",
    out: Path,
    format: str = "preference",
    listen: Listen = lambda done, total: None,
    wanted: HistoryFilter = EVERYTHING,
    sieve: Sieve = NOTHING,
) -> ExportReport:
    """Write the rows of a format to `out` (JSON lines, or by its suffix Parquet or CSV), which appears complete or not at all, and report what
    was left out and why, also by a `sieve` of votes. `listen` is given the number of comparisons read and of all that somebody voted on.

    A format has the same columns with the same types whatever the votes say. StoreError where a row does not fit its hash.
    """
    _check(store, out, format)
    with store._reading() as conn:
        report, _ = _export(conn, [out], format, listen, wanted, sieve)
    return report


def export_folder(
    store: "Store", folder: Path, formats: Sequence[str] = tuple(FORMATS), types: Sequence[str] = tuple(TYPES),
    listen: Listen = lambda done, total: None, wanted: HistoryFilter = EVERYTHING,
) -> FolderReport:  # fmt: skip
    """Write each format as a file of each type into a folder, and `manifest.json` with the columns, the filter, counts, hashes and versions.

    All are of one state of the database; the same state and filter give the same bytes.
    """
    from rgtg.store.schema import newest

    for format in formats:
        _check(store, folder / "a", format)
    if unknown := [kind for kind in types if kind not in TYPES]:
        raise BadSettings(f"No file type `{unknown[0]}`.", f"There are: {', '.join(TYPES)}.", "", "type")
    reports, entries = dict[str, ExportReport](), dict[str, Any]()
    with store._reading() as conn:
        moment = {"schema": newest(), "last_vote_seq": queries.value(conn, "SELECT coalesce(max(seq), 0) FROM votes")}
        for format in formats:
            paths = [folder / f"{format}{kind}" for kind in types]
            reports[format], (columns, hashes) = _export(conn, paths, format, listen, wanted)
            counts = {"rows": reports[format].num_pairs, "comparisons": reports[format].num_comparisons, "votes": reports[format].num_votes}
            files = {path.name: {"sha256": digest} for path, digest in hashes.items()}
            entries[format] = {"about": FORMATS[format].about, "columns": columns, **counts, "left_out": reports[format].skipped, "files": files}
    chosen = {name: value for name, value in asdict(wanted).items() if value not in ("", None)}
    write_json(folder / MANIFEST, {"database": moment, "filter": chosen, "formats": entries, "versions": _versions(types)})
    return FolderReport(folder / MANIFEST, reports)


def _check(store: "Store", out: Path, format: str) -> None:
    if format not in FORMATS:
        raise BadSettings(f"No export format `{format}`.", f"There are: {', '.join(FORMATS)}.")
    if out.resolve().name.startswith(store.path.name) and out.resolve().parent == store.path.resolve().parent:
        raise BadData(f"`{out.name}` is the database.", "", "Choose another name for the export.")


def _export(
    conn: sqlite3.Connection, paths: Sequence[Path], format: str, listen: Listen, wanted: HistoryFilter, sieve: Sieve = NOTHING
) -> tuple[ExportReport, tuple[dict[str, str], dict[Path, str]]]:
    """The report, and the columns with the hash of each file."""
    chosen, skipped, columns = FORMATS[format], Counter[str](), dict[str, str]()
    total = queries.value(conn, "SELECT count(DISTINCT comparison_id) FROM votes")
    found = _Counted(voted(conn, wanted, chosen.steps, sieve.causes), listen, total)

    def noted() -> Iterator[Row]:
        for row in chosen.rows(found, skipped):
            if not columns:
                columns.update({name: KINDS[type(value)] for name, value in row.items()})
            yield row

    number, hashes = write_rows(noted(), paths)
    causes = {cause: count for cause, count in sorted(skipped.items()) if count}
    return ExportReport(paths[0], number, found.num_comparisons, found.num_votes, hashes[paths[0]], causes), (columns, hashes)


KINDS = {str: "text", bool: "flag", int: "whole number", float: "number", list: "list"}


def _versions(types: Sequence[str]) -> dict[str, str]:
    return {"rgtg": __version__} | ({"pyarrow": version("pyarrow")} if ".parquet" in types else {})


def skipped_words(skipped: Mapping[str, int]) -> str:
    """Counts by cause in words: "votes for a tie: 2, comparisons skipped: 4"."""
    words = CAUSES | WORDS
    return ", ".join(f"{words.get(cause, cause)}: {number:,}" for cause, number in skipped.items() if number)
