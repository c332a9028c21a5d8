"""Rows of a file in any common format, a folder of shards, or a data set of the hub.

The format is detected from the content of a file, not from its name. Knows nothing of the meaning of rows, of tokenizers or models.
Tables are read in batches, and only the known columns of them.
"""

import bz2
import gzip
import io
import lzma
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, BinaryIO

from rgtg.errors import BadData
from rgtg.preferences.text_rows import (
    BEGINS_JSON,
    JSON_SUFFIXES,
    TABLE_SUFFIXES,
    BadRow,
    BadText,
    delimited_rows,
    delimiter_of,
    header_names,
    json_rows,
    line_rows,
)  # fmt: skip

LINES, CELLS = "lines", "cells"
ROWS_AT_ONCE = 64  # of a table
MAX_BYTES = 1_000_000_000  # of a table inside an archive
HEAD = 65_536
MAX_ENTRIES = 10_000  # of a folder
TABLES = {b"PAR1": "parquet", b"ARROW1": "arrow", b"FEA1": "feather", b"\xff\xff\xff\xff": "arrow stream"}
ARCHIVES = {b"\x1f\x8b": "gzip", b"\x28\xb5\x2f\xfd": "zstd", b"BZh": "bzip2", b"\xfd7zXZ": "xz"}
OTHERS = {  # formats that are recognised and refused, with what to do
    b"PK\x03\x04": ("a zip archive or an Excel workbook", "Unpack it, or save the sheet as CSV."),
    b"\xd0\xcf\x11\xe0": ("an old Excel workbook", "Save the sheet as CSV."),
    b"SQLite format 3": ("an SQLite database", "Export the table as CSV or JSON lines."),
    b"%PDF": ("a PDF", "Give a file of rows."),
    b"7z\xbc\xaf": ("a 7z archive", "Unpack it."),
    b"Obj\x01": ("an Avro file", "Write it again as Parquet or JSON lines."),
    b"ORC": ("an ORC file", "Write it again as Parquet or JSON lines."),
    b"\x89HDF": ("an HDF5 file", "Write it again as Parquet or JSON lines."),
    b"\x80\x02": ("a pickle, which can run code and is not read", "Write it again as Parquet or JSON lines."),
    b"\x80\x03": ("a pickle, which can run code and is not read", "Write it again as Parquet or JSON lines."),
    b"\x80\x04": ("a pickle, which can run code and is not read", "Write it again as Parquet or JSON lines."),
    b"\x80\x05": ("a pickle, which can run code and is not read", "Write it again as Parquet or JSON lines."),
    b"version https://git-lfs": ("a pointer of Git LFS", "Fetch the file itself: git lfs pull."),
}
KINDS = "JSON lines, JSON, CSV, TSV, Parquet, Arrow, or one of them in gzip or zstd"
SPLITS = {"train": "train", "training": "train", "test": "test", "validation": "validation", "valid": "validation", "val": "validation",
          "dev": "validation", "eval": "validation"}  # fmt: skip
ENCODINGS = ((b"\xff\xfe\0\0", "utf-32"), (b"\0\0\xfe\xff", "utf-32"), (b"\xff\xfe", "utf-16"), (b"\xfe\xff", "utf-16"), (b"", "utf-8-sig"))
SKIPPED = ("dataset_info.json", "state.json", "dataset_dict.json", "dataset_infos.json", "config.json")


@dataclass(frozen=True)
class NumberedRow:
    """A row of a file, counted from 1; `row` is a BadRow where it cannot be read. `kind` is LINES where a row is a line, CELLS where all
    values are texts of a table, else \"\"."""

    number: int
    row: Any
    file: str
    kind: str = ""


class Rows:
    """The rows of a source, read once. `left` are the names of table columns that are not known and were not loaded."""

    def __init__(self, source: str | Path, split: str = "train", known: frozenset[str] = frozenset()):
        """`known` are the column names that are read from tables, and by which the delimiter of a text is detected."""
        self.source, self.name, self.left = source, str(source), set[str]()
        self._split, self._known = split, known

    def __iter__(self) -> Iterator[NumberedRow]:
        """Iterate over the rows. Raises BadData where there is no such source."""
        path = Path(self.source)
        is_folder = is_here(path) and path.is_dir()
        if is_here(path) and path.is_file():
            yield from self._file(path)
        elif is_folder and not _says_its_files(path):
            for shard in _shards(path, self._split):
                yield from self._file(shard)
        else:
            for number, row in enumerate(self._hub(str(self.source), is_folder), 1):
                yield NumberedRow(number, row, str(self.source))

    def _file(self, path: Path) -> Iterator[NumberedRow]:
        name, number = path.name, 0
        try:
            kind, rows = self._rows(path)
            for number, row in rows:
                yield NumberedRow(number, row, name, kind)
        except BadText as error:
            raise BadData(f"`{name}` cannot be read.", error.found, error.do) from error
        except UnicodeDecodeError as error:
            byte = error.object[error.start]
            found = (
                f"Behind row {number} there is byte 0x{byte:02x}, which is no UTF-8." if number else f"It has byte 0x{byte:02x}, which is no UTF-8."
            )
            raise BadData(f"`{name}` cannot be read as text.", found, "Save it again in UTF-8.") from error
        except (gzip.BadGzipFile, zlib.error, EOFError, lzma.LZMAError) as error:
            raise BadData(f"`{name}` cannot be unpacked.", "Its archive is broken or breaks off.", "Copy it again.") from error
        except MemoryError as error:
            raise BadData(f"`{name}` cannot be read.", "It needs more memory than there is.", "Give a part of it.") from error
        except OSError as error:
            raise BadData(f"`{name}` cannot be read.", f"{(error.strerror or str(error)).rstrip('.')}.", "Copy or write it again.") from error

    def _rows(self, path: Path) -> tuple[str, Iterator[tuple[int, Any]]]:
        """The kind of the rows (see `NumberedRow`), and the rows."""
        suffixes = [suffix.lower() for suffix in path.suffixes]
        with path.open("rb") as file:
            start = file.read(32)
        archive = next((kind for magic, kind in ARCHIVES.items() if start.startswith(magic)), "")
        suffix = next((suffix for suffix in reversed(suffixes) if suffix not in (".gz", ".zst", ".zstd", ".bz2", ".xz")), "")
        opened = _unpacked(path, archive)
        head = opened.read(HEAD)
        opened.close()
        table = next((kind for magic, kind in TABLES.items() if head.startswith(magic)), "")
        if table:
            return "", enumerate(self._table(path, archive, table), 1)
        for magic, (what, do) in OTHERS.items():
            if head.startswith(magic):
                raise BadText(f"It is {what}.", do)
        if suffix in (".parquet", ".arrow", ".feather"):
            raise BadText(f"It is called {suffix} and is none, or it breaks off.", f"Write it again, or give {KINDS}.")
        return self._text(path, archive, suffix, head)

    def _text(self, path: Path, archive: str, suffix: str, start: bytes) -> tuple[str, Iterator[tuple[int, Any]]]:
        encoding = next(name for mark, name in ENCODINGS if start.startswith(mark))
        head = start.decode(encoding, errors="ignore")
        if head.lstrip()[:9].lower() in ("<!doctype", "<html>") or head.lstrip()[:5].lower() == "<html":
            raise BadText("It is a page of the web, not a file of rows.", "Download the file itself.")
        if "\0" in head:
            raise BadText("It holds NUL bytes: a binary file, or UTF-16 without its mark.", f"Give {KINDS}, texts in UTF-8.")
        stream = io.TextIOWrapper(_unpacked(path, archive), encoding=encoding, newline="")
        first = next((line for line in head.splitlines() if line.strip()), "")
        if suffix in JSON_SUFFIXES or (suffix not in TABLE_SUFFIXES and BEGINS_JSON.match(head)) or (suffix in TABLE_SUFFIXES and _is_json(head)):
            return LINES, json_rows(stream, suffix)
        delimiter = delimiter_of(head, self._known, suffix)
        names = header_names(first, delimiter or ",")
        if suffix in TABLE_SUFFIXES or sum(name in self._known for name in names) > 1:
            return CELLS, delimited_rows(stream, delimiter)
        return LINES, line_rows(stream)

    def _table(self, path: Path, archive: str, kind: str) -> Iterator[Mapping[str, Any]]:
        """Rows of a binary table; missing values are None, as in JSON."""
        import pyarrow
        from pyarrow import feather, ipc, parquet

        source: Any = str(path)
        if archive:
            content = _unpacked(path, archive).read(MAX_BYTES + 1)
            if len(content) > MAX_BYTES:
                raise BadText(f"Unpacked it has more than {MAX_BYTES:,} bytes.", "Give the table without an archive around it.")
            source = pyarrow.BufferReader(content)
        try:
            if kind == "parquet":
                file = parquet.ParquetFile(source)
                columns = self._wanted(file.schema_arrow.names)
                batches = file.iter_batches(ROWS_AT_ONCE, columns=columns)
            elif kind == "feather":
                table = feather.read_table(source)
                batches, columns = iter(table.to_batches()), self._wanted(table.schema.names)
            else:
                opened = pyarrow.memory_map(source) if isinstance(source, str) else source
                reader = ipc.open_file(opened) if kind == "arrow" else ipc.open_stream(opened)
                columns = self._wanted(reader.schema.names)
                batches = (reader.get_batch(i) for i in range(reader.num_record_batches)) if kind == "arrow" else iter(reader)
            for batch in batches:
                chosen = batch.select(columns)
                for start in range(0, chosen.num_rows, ROWS_AT_ONCE):
                    yield from chosen.slice(start, ROWS_AT_ONCE).to_pylist()
        except (pyarrow.ArrowException, OSError, ValueError) as error:
            if isinstance(error, (BadText, BadRow)):
                raise
            fault = (str(error).strip().splitlines() or ["It breaks off."])[0].rstrip(".")
            raise BadText(f"As {kind} it is broken: {fault}.", f"Write it again, or give {KINDS}.") from error

    def _wanted(self, names: list[str]) -> list[str]:
        """The columns to read: those that are known, or all where none is, so that a message can name them."""
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise BadText(f"Two of its columns are called `{twice[0]}`.", "Give each column a name of its own.")
        wanted = [name for name in names if name in self._known]
        if not wanted:
            return names
        self.left |= set(names) - set(wanted)
        return wanted

    def _hub(self, name: str, is_folder: bool) -> Iterator[Mapping[str, Any]]:
        """Rows of owner/name, owner/name/subset or owner/name/subset/split, or of a local copy of such a data set."""
        owner, *rest = name.split("/")
        if not is_folder and (not 1 <= len(rest) <= 3 or name.startswith((".", "/", "~")) or not all((owner, *rest))):
            do = "Give a file, a folder, or owner/name, owner/name/subset or owner/name/subset/split."
            raise BadData(f"There are no preferences at `{name}`.", "It is neither a file here nor a data set of the hub.", do)
        from datasets import load_dataset

        subset, split = (None, self._split) if is_folder else ((*rest[1:], None)[0], rest[2] if len(rest) == 3 else self._split)
        try:
            dataset = load_dataset(name if is_folder else f"{owner}/{rest[0]}", subset, split=split)
        except Exception as error:  # it raises whatever its network and its parsers raise
            first = (str(error).strip().splitlines() or ["It gave no reason."])[0]
            raise BadData(f"The hub did not give the data set `{name}`.", first, "Check the name, the split and the network.") from error
        yield from dataset.select_columns(self._wanted(dataset.column_names))


def is_here(path: Path) -> bool:
    """Whether there is such a file or folder; False for a name that no file can have."""
    try:
        return path.exists()
    except (OSError, ValueError):
        return False


def _is_json(head: str) -> bool:
    """Whether a file with a table's suffix holds JSON."""
    return BEGINS_JSON.match(head) is not None


def _unpacked(path: Path, archive: str) -> BinaryIO:
    """The bytes of a file, decompressed where it is compressed."""
    if archive == "zstd":
        import pyarrow

        return io.BufferedReader(pyarrow.input_stream(str(path), compression="zstd"))
    opener: Any = {"": open, "gzip": gzip.open, "bzip2": bz2.open, "xz": lzma.open}[archive]
    return opener(path, "rb")


def _says_its_files(folder: Path) -> bool:
    """Whether a folder is a copy of a data set of the hub whose card says which files belong to which split."""
    card = folder / "README.md"
    if not card.is_file():
        return False
    with card.open(encoding="utf-8", errors="replace") as file:
        head = file.read(HEAD)
    return head.startswith("---") and "\nconfigs:" in head.partition("\n---\n")[0]


def _shards(folder: Path, split: str) -> list[Path]:
    """The data files in a folder, sorted by name; only those of the split where names contain a split."""
    kinds = (*JSON_SUFFIXES, *TABLE_SUFFIXES, ".parquet", ".arrow", ".feather")
    suffix_of: dict[Path, str] = {}
    entries = list(islice(folder.rglob("*"), MAX_ENTRIES + 1))
    if len(entries) > MAX_ENTRIES:
        raise BadData(f"The folder `{folder}` holds more than {MAX_ENTRIES:,} files.", "", "Give the folder of the data set alone.")
    for path in sorted(entries):
        parts = path.relative_to(folder).parts
        suffixes = [s.lower() for s in path.suffixes]
        if path.is_file() and not any(part.startswith((".", "_")) for part in parts) and path.name not in SKIPPED and set(suffixes) & set(kinds):
            suffix_of[path] = next((s for s in reversed(suffixes) if s in kinds), "")
    if not suffix_of:
        raise BadData(f"The folder `{folder}` holds no file of rows.", "", f"Give a folder with files of one kind: {KINDS}.")
    by_split: dict[str, list[Path]] = {}
    for path in suffix_of:
        by_split.setdefault(_split_of(path.relative_to(folder)), []).append(path)
    wanted = SPLITS.get(split, split)
    named = [path for path in suffix_of if any(part == split or part.startswith(f"{split}-") for part in path.relative_to(folder).parts)]
    by_split |= {wanted: named} if named else {}
    chosen = by_split.get(wanted) or (by_split.get("") if set(by_split) == {""} else None)
    if chosen is None:
        splits = ", ".join(sorted(filter(None, by_split)))
        raise BadData(f"The folder `{folder}` has no files of the split `{split}`.", f"It has {splits}.", "Name one of them with --split, or a file.")
    several = sorted({suffix_of[path] for path in chosen})
    if len(several) > 1:
        do = "Give one of the files, or a folder with one kind."
        raise BadData(f"The folder `{folder}` holds files of several kinds.", f"Found {', '.join(several)}.", do)
    return chosen


def _split_of(path: Path) -> str:
    """data/train-00000-of-00002.parquet -> train; "" where no part of the path is the name of a split."""
    for part in reversed(path.parts):
        word = part.lower().replace("_", "-").replace(".", "-").split("-")[0]
        if word in SPLITS:
            return SPLITS[word]
    return ""
