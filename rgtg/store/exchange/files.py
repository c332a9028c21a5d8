"""Rows as files: JSON lines, Parquet and CSV, the same bytes for the same rows. Knows nothing of what the rows are."""

import csv
import hashlib
import json
import re
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from rgtg.system.files import replacing

Row = dict[str, Any]
LINE = json.JSONEncoder(ensure_ascii=False, allow_nan=False)
ROWS_AT_ONCE = 1024  # of a Parquet file
FORMULA = re.compile(r"'*[=+\-@\t\r]")  # a spreadsheet runs a cell that begins so


@contextmanager
def json_lines(path: Path) -> Iterator[Callable[[Row], None]]:
    with path.open("w", encoding="utf-8", newline="\n") as file:

        def write(row: Row) -> None:
            file.write(LINE.encode(row) + "\n")

        yield write


@contextmanager
def comma_separated(path: Path) -> Iterator[Callable[[Row], None]]:
    """Lists are JSON, flags true and false; a text that a spreadsheet would run begins with an apostrophe."""
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\r\n")
        names: list[str] = []

        def write(row: Row) -> None:
            if not names:
                names.extend(row)
                writer.writerow(names)
            writer.writerow([cell(row[name]) for name in names])

        yield write


@contextmanager
def parquet(path: Path) -> Iterator[Callable[[Row], None]]:
    import pyarrow
    from pyarrow.parquet import ParquetWriter

    waiting: list[Row] = []
    opened: list[ParquetWriter] = []

    def flush() -> None:
        if waiting:
            table = pyarrow.Table.from_pylist(waiting, schema=opened[0].schema if opened else None)
            if not opened:
                opened.append(ParquetWriter(path, table.schema))
            opened[0].write_table(table)
            waiting.clear()

    def write(row: Row) -> None:
        waiting.append(row)
        if len(waiting) == ROWS_AT_ONCE:
            flush()

    try:
        yield write
        flush()
        if not opened:
            ParquetWriter(path, pyarrow.schema([])).close()
    finally:
        for writer in opened:
            writer.close()


TYPES = {".jsonl": json_lines, ".parquet": parquet, ".csv": comma_separated}


def cell(value: Any) -> Any:
    """A value in a cell of a table of texts.

    >>> cell("=SUM(A1)"), cell(True), cell([1, 2]), cell(-0.5)
    ("'=SUM(A1)", 'true', '[1, 2]', -0.5)
    """
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, list):
        value = json.dumps(value, ensure_ascii=False, allow_nan=False)
    return f"'{value}" if isinstance(value, str) and FORMULA.match(value) else value


def text_of_cell(cell: str) -> str:
    """The text that `cell` made this of.

    >>> text_of_cell(cell("=SUM(A1)")), text_of_cell(cell("'-1")), text_of_cell("it's")
    ('=SUM(A1)', "'-1", "it's")
    """
    return cell[1:] if cell.startswith("'") and FORMULA.match(cell) else cell


def write_rows(rows: Iterable[Row], paths: Iterable[Path]) -> tuple[int, dict[Path, str]]:
    """Write the rows to each of the files, which appear complete or not at all; the number of rows and each file's SHA-256. The suffix of a file says
    what it is, JSON lines where it says nothing."""
    number = 0
    parts: dict[Path, Path] = {}
    with ExitStack() as replaced:
        for path in paths:
            parts[path] = replaced.enter_context(replacing(path))
        with ExitStack() as opened:
            writers = [opened.enter_context(TYPES.get(path.suffix, json_lines)(part)) for path, part in parts.items()]
            for row in rows:
                number += 1
                for write in writers:
                    write(row)
        hashes = {path: _hash(part) for path, part in parts.items()}
    return number, hashes


def _hash(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, hashlib.sha256).hexdigest()
