"""Files of every usual kind give the same rows; a kind that is none is named; of tables only what is needed is read."""

import bz2
import datetime
import gzip
import io
import json
import lzma
import re

import pyarrow
import pytest
from pyarrow import feather, parquet

from rgtg.errors import BadData
from rgtg.preferences.rows import Rows

WANTED = [{"prompt": "a", "chosen": "b, c", "rejected": "d"}, {"prompt": "é", "chosen": "f", "rejected": "g"}]
NAMES = frozenset(WANTED[0])
LINES = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in WANTED)
CSV = 'prompt,chosen,rejected\na,"b, c",d\né,f,g\n'
TABLE = pyarrow.table({name: [row[name] for row in WANTED] for name in WANTED[0]})


def rows(path, split="train"):
    return [numbered.row for numbered in Rows(path, split, NAMES)]


def as_parquet(table=TABLE) -> bytes:
    parquet.write_table(table, written := io.BytesIO())
    return written.getvalue()


def as_arrow(new) -> bytes:
    with new(written := io.BytesIO(), TABLE.schema) as writer:
        writer.write_table(TABLE)
    return written.getvalue()


def zstd(content: bytes) -> bytes:
    with pyarrow.CompressedOutputStream(written := pyarrow.BufferOutputStream(), "zstd") as stream:
        stream.write(content)
    return written.getvalue().to_pybytes()


def as_feather(version: int) -> bytes:
    feather.write_feather(TABLE, written := io.BytesIO(), version=version)
    return written.getvalue()


KINDS = {
    "rows.jsonl": LINES.encode(),
    "rows.JSONL": LINES.encode("utf-8-sig"),
    "rows.ndjson": LINES.replace("\n", "\r\n").encode(),
    "utf16.jsonl": LINES.encode("utf-16"),
    "rows.json": json.dumps(WANTED).encode(),
    "pretty.json": json.dumps(WANTED, indent=2).encode(),
    "pretty.jsonl": "\n".join(json.dumps(row, indent=2) for row in WANTED).encode(),
    "rows.CSV": CSV.encode(),
    "rows.tsv": CSV.replace('"b, c"', "b; c").replace(",", "\t").replace("b; c", "b, c").encode(),
    "semicolons.csv": CSV.replace('"b, c"', "b| c").replace(",", ";").replace("b| c", "b, c").encode(),
    "excel.csv": ("sep=;\r\n" + CSV.replace('"b, c"', "b| c").replace(",", ";").replace("b| c", "b, c")).encode("utf-16"),
    "cr.csv": CSV.replace("\n", "\r").encode(),
    "no_suffix": LINES.encode(),
    "table.txt": CSV.encode(),
    "rows.jsonl.gz": gzip.compress(LINES.encode()),
    "gz_by_content.jsonl": gzip.compress(LINES.encode()),
    "rows.csv.bz2": bz2.compress(CSV.encode()),
    "rows.jsonl.xz": lzma.compress(LINES.encode()),
    "rows.jsonl.zst": zstd(LINES.encode()),
    "rows.parquet": as_parquet(),
    "called_otherwise.jsonl": as_parquet(),
    "rows.parquet.gz": gzip.compress(as_parquet()),
    "rows.feather": as_feather(2),
    "file.arrow": as_arrow(pyarrow.ipc.new_file),
    "stream.arrow": as_arrow(pyarrow.ipc.new_stream),
}


@pytest.mark.parametrize("name", KINDS)
def test_every_kind_of_file_gives_the_same_rows(tmp_path, name):
    (tmp_path / name).write_bytes(KINDS[name])
    assert rows(tmp_path / name) == WANTED


NO_ROWS = {
    "book.xlsx": (b"PK\x03\x04...", "a zip archive or an Excel workbook. Unpack it, or save the sheet as CSV"),
    "rows.pkl": (b"\x80\x04\x95...", "a pickle, which can run code and is not read"),
    "rows.db": (b"SQLite format 3\0", "an SQLite database"),
    "rows.jsonl": (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "a pointer of Git LFS. Fetch the file itself"),
    "page.jsonl": (b"<!DOCTYPE html>\n<html></html>", "a page of the web"),
    "binary.jsonl": (b'{"a": "\0\0"}', "NUL bytes"),
    "latin.csv": (CSV.encode("latin-1"), "byte 0xe9, which is no UTF-8. Save it again in UTF-8"),
    "cut.jsonl.gz": (gzip.compress(LINES.encode() * 40)[:50], "cannot be unpacked. Its archive is broken or breaks off"),
    "cut.parquet": (as_parquet()[:200], "As parquet it is broken"),
    "none.parquet": (b"nonsense", "called .parquet and is none"),
    "cut.json": (json.dumps(WANTED).encode()[:-9], "cannot be read. It cannot be read from character"),
    "twice.csv": (b"prompt,chosen,chosen\na,b,c\n", "Two of its columns are called `chosen`"),
}


@pytest.mark.parametrize("name", NO_ROWS)
def test_what_holds_no_rows_is_refused_by_its_kind(tmp_path, name):
    content, words = NO_ROWS[name]
    (tmp_path / name).write_bytes(content)
    with pytest.raises(BadData, match=f"`{name}` .*{re.escape(words)}") as refused:
        rows(tmp_path / name)
    assert not any(word in str(refused.value) for word in ("Error", "codec", "Expecting", "Exception"))


def test_of_a_table_only_the_needed_columns_are_read_and_the_others_named(tmp_path):
    table = TABLE.append_column("at", [[datetime.datetime(2020, 1, 1)] * 2]).append_column("image", [[b"\xff"] * 2])
    (tmp_path / "rows.parquet").write_bytes(as_parquet(table))
    read = Rows(tmp_path / "rows.parquet", known=NAMES)
    assert [numbered.row for numbered in read] == WANTED
    assert read.left == {"at", "image"}


def test_a_folder_gives_the_shards_of_its_split_in_order(tmp_path):
    (tmp_path / "data").mkdir()
    for i in (1, 0):
        (tmp_path / "data" / f"train-0000{i}-of-00002.parquet").write_bytes(as_parquet(TABLE.slice(i, 1)))
    (tmp_path / "data" / "test-00000-of-00001.parquet").write_bytes(as_parquet(TABLE.slice(0, 1)))
    (tmp_path / "README.md").write_text("# Pairs\n")
    assert rows(tmp_path) == WANTED
    assert rows(tmp_path, "test") == WANTED[:1]
    with pytest.raises(BadData, match="no files of the split `validation`. It has test, train."):
        rows(tmp_path, "validation")


def test_a_folder_of_several_kinds_is_not_guessed_at(tmp_path):
    (tmp_path / "a.jsonl").write_text(LINES)
    (tmp_path / "b.csv").write_text(CSV)
    with pytest.raises(BadData, match="files of several kinds. Found .csv, .jsonl."):
        rows(tmp_path)
    for file in tmp_path.iterdir():
        file.unlink()
    with pytest.raises(BadData, match="holds no file of rows"):
        rows(tmp_path)


def test_a_folder_of_everything_is_not_searched(tmp_path, monkeypatch):
    monkeypatch.setattr("rgtg.preferences.rows.MAX_ENTRIES", 2)
    for name in "abc":
        (tmp_path / f"{name}.jsonl").write_text(LINES)
    with pytest.raises(BadData, match="holds more than 2 files"):
        rows(tmp_path)


@pytest.mark.parametrize("source", ["nowhere.jsonl", "a\0b", "x" * 5000])
def test_a_source_that_is_not_there_is_refused(source):
    with pytest.raises(BadData, match="There are no preferences at"):
        rows(source)
