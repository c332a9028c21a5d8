"""A file that is replaced is the old one or the new one, never half of either."""

import json

import pytest

from rgtg.errors import BadSettings
from rgtg.system.files import make_folder, replacing, write_json


def test_a_file_appears_at_the_end_and_nothing_else_stays(tmp_path):
    path = tmp_path / "new" / "folder" / "file.txt"
    with replacing(path) as part:
        part.write_text("complete")
        assert not path.exists() and part.parent == path.parent
    assert path.read_text() == "complete" and list(path.parent.iterdir()) == [path]


def test_after_an_error_the_old_file_is_as_it_was(tmp_path):
    path = tmp_path / "file.txt"
    path.write_text("old")
    with pytest.raises(OSError, match="disk is full"), replacing(path) as part:
        part.write_text("half of")
        raise OSError("the disk is full")
    assert path.read_text() == "old" and list(tmp_path.iterdir()) == [path]


def test_two_may_write_at_once_and_the_last_one_stays(tmp_path):
    path = tmp_path / "file.txt"
    with replacing(path) as first, replacing(path) as second:
        first.write_text("first")
        second.write_text("second")
    assert path.read_text() == "first" and list(tmp_path.iterdir()) == [path]


def test_json_refuses_what_it_cannot_say(tmp_path):
    write_json(tmp_path / "file.json", {"é": [1, None]})
    assert json.loads((tmp_path / "file.json").read_text(encoding="utf-8")) == {"é": [1, None]}
    with pytest.raises(ValueError, match="JSON"):
        write_json(tmp_path / "file.json", {"loss": float("nan")})
    assert "é" in (tmp_path / "file.json").read_text(encoding="utf-8")


def test_the_folder_of_an_output_is_made_or_what_was_asked_for_is_named(tmp_path):
    make_folder(tmp_path / "a" / "b")
    make_folder(tmp_path / "a" / "b")
    (tmp_path / "file").write_text("x")
    for place in (tmp_path / "file", tmp_path / "file" / "below", tmp_path / ("x" * 300)):
        with pytest.raises(BadSettings, match=r"`out` cannot be written\. `.*`: "):
            make_folder(place, "out")
    assert (tmp_path / "a" / "b").is_dir()
