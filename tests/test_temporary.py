"""The folder of uploads and downloads: what goes when, and that it does not grow without end."""

import os
import time
from types import SimpleNamespace

import gradio as gr
import pytest
from pages_alone import on_a_page

from pages import temporary
from pages.voting import Voting
from rgtg.config import Settings
from rgtg.errors import BadData, StoreError


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv("GRADIO_TEMP_DIR", str(tmp_path / "gradio"))
    return tmp_path / "gradio"


def test_what_is_older_than_an_hour_goes_with_its_folder(folder):
    temporary.folder()
    for name, age in (("old/a", 3700), ("new/a", 3500), ("both/old", 3700), ("both/new", 10)):
        path = folder / name
        path.parent.mkdir(exist_ok=True)
        path.write_text("x")
        os.utime(path, (time.time() - age,) * 2)
    (folder / "empty").mkdir()
    os.utime(folder / "empty", (time.time() - 3700,) * 2)
    (folder / "half of an upload").write_text("x")
    temporary.sweep()
    left = sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))
    assert left == ["both", "both/new", "half of an upload", "new", "new/a"]


def test_a_link_is_removed_and_not_followed(folder, tmp_path):
    outside = tmp_path / "mine.txt"
    outside.write_text("mine")
    temporary.folder()
    (folder / "link").symlink_to(outside)
    (folder / "links").symlink_to(tmp_path)
    temporary.sweep(max_age=-10)
    assert outside.read_text() == "mine" and not (folder / "link").is_symlink()


def test_only_a_download_goes_when_it_was_fetched(folder, tmp_path):
    download = temporary.download_folder() / "preference.jsonl"
    for path in (download, folder / "upload" / "a", tmp_path / "download-elsewhere" / "a"):
        path.parent.mkdir(exist_ok=True)
        path.write_text("x")
        temporary.fetched(str(path))
    temporary.fetched(f"{folder}/download-x/../../download-elsewhere/a")
    assert not download.parent.exists() and (folder / "upload" / "a").exists() and (tmp_path / "download-elsewhere" / "a").exists()


def test_there_is_room_for_so_much(folder, monkeypatch):
    monkeypatch.setattr(temporary, "MAX_BYTES", 10)
    (temporary.download_folder() / "a").write_text("12345")
    temporary.check_room(5)
    with pytest.raises(BadData, match="1 files, 5 bytes; the limits are 200 and 10"):
        temporary.check_room(6)
    monkeypatch.setattr(temporary, "MAX_FILES", 1)
    with pytest.raises(BadData, match="after an hour"):
        temporary.download_folder()


def test_an_export_that_fails_leaves_nothing(folder):
    def export(file, format):
        file.write_text("half of it")
        raise StoreError("The disk is full.")

    with on_a_page():
        handler = Voting(SimpleNamespace(export=export, settings=Settings())).export()  # type: ignore[arg-type]
    with pytest.raises(gr.Error, match="disk is full"):
        handler("{}")
    assert list(folder.iterdir()) == []
