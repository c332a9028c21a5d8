"""What others raise, in words: what is wrong, what was found, what to do, and never the name of an exception."""

import errno
import os
import re
import sqlite3

import pytest
from safetensors import SafetensorError

from rgtg.errors import (
    BadData,
    ModelRefused,
    RgtgError,
    StoreBusy,
    StoreError,
    door,
    in_words,
    is_disk_full,
    is_out_of_memory,
    printable,
    unsound,
    words_of,
)

NAME = re.compile(r"\b[A-Z]\w*(Error|Exception)\b")


def caused(error: Exception, cause: Exception) -> Exception:
    error.__cause__ = cause
    return error


FULL_DISKS = (
    OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "/data/model.safetensors"),
    OSError(errno.EDQUOT, os.strerror(errno.EDQUOT)),
    SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)"),
    sqlite3.OperationalError("database or disk is full"),
    OSError("[Errno 28] Error writing bytes to file. Detail: [errno 28] No space left on device"),
    caused(RuntimeError("[enforce fail at inline_container.cc:664] . unexpected pos 64 vs 0"), OSError(errno.ENOSPC, "No space left on device")),
)


@pytest.mark.parametrize("error", FULL_DISKS, ids=lambda error: type(error).__name__)
def test_a_full_disk_is_one_thing_whoever_says_it(error):
    told = in_words(error, "`m` could not be saved.")
    assert is_disk_full(error) and told.wrong == "`m` could not be saved."
    assert told.found.startswith("The disk is full") and told.do == "Free some space and try again."
    assert isinstance(told, StoreError) is isinstance(error, sqlite3.Error)


@pytest.mark.parametrize("error", [OSError(errno.EACCES, "x"), ValueError("full"), sqlite3.OperationalError("database is locked"), KeyError("disk")])
def test_what_is_no_full_disk_is_not_called_one(error):
    assert not is_disk_full(error)


def test_a_path_below_a_file_too_long_or_read_only_is_named_with_the_reason(tmp_path):
    (tmp_path / "file").write_text("x")
    for path, reason in ((tmp_path / "file" / "x", "a part of this path is a file"), (tmp_path / ("x" * 300), "the path is too long")):
        with pytest.raises(OSError) as raised:
            path.mkdir()
        told = in_words(raised.value, "It cannot be written.")
        assert reason in told.found and str(path)[:100] in told.found and told.do
    assert in_words(OSError(errno.EROFS, "Read-only file system", "/m")).found == "`/m`: its disk is read-only."
    assert in_words(OSError(errno.EACCES, "Permission denied", "/m")).do == "Change its permissions, or choose another path."


def test_what_windows_says_of_a_name_a_path_and_a_disk_is_understood():
    def windows(number: int) -> OSError:
        error = OSError(errno.EINVAL, "[WinError]", "a:b")
        error.winerror = number
        return error

    assert in_words(windows(123)).found == "`a:b`: the system does not allow this name."
    assert in_words(windows(206)).found == "`a:b`: the path is too long."
    assert is_disk_full(windows(112)) and not is_disk_full(windows(123))


@pytest.mark.parametrize(
    ("error", "kind", "words"),
    [
        (sqlite3.OperationalError("database is locked"), StoreBusy, "locked by another program"),
        (sqlite3.DatabaseError("database disk image is malformed"), StoreError, "The database is damaged"),
        (sqlite3.OperationalError("disk I/O error"), StoreError, "cannot be reached"),
        (sqlite3.OperationalError("attempt to write a readonly database"), StoreError, "is read-only"),
        (sqlite3.IntegrityError("UNIQUE constraint failed"), StoreError, "The database rejected this"),
    ],
)
def test_what_sqlite_says_becomes_an_error_of_the_store(error, kind, words):
    told = in_words(error)
    assert type(told) is kind and words in told.wrong and str(error) in told.found and told.do


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (KeyError("added_tokens"), "`added_tokens` is missing or not known."),
        (ModuleNotFoundError("No module named 'gptqmodel'", name="gptqmodel"), "The library `gptqmodel` is not installed."),
        (AssertionError(), "No reason was given."),
        (ValueError("\n\nfirst line.\nsecond"), "first line."),
        (ValueError("Errors were found:\n  the head has two rows\nmore"), "Errors were found: the head has two rows."),
        (RuntimeError("transformers.X: ValueError: it is 5"), "transformers.X: it is 5."),
        (ValueError("\x1b[31mred\x1b[0m"), "red."),
        (RuntimeError("There were issues. For details look at the `CONVERSION` entries of the above report!"), "There were issues."),
        (RecursionError("maximum recursion depth exceeded"), "It is nested too deeply."),
        (ValueError("half \ud83d"), "half ?."),
        (UnicodeDecodeError("utf-8", b"caf\xe9", 3, 4, "x"), "Byte 0xe9 at position 3 is not UTF-8."),
        (UnicodeEncodeError("utf-8", "a\ud83d", 1, 2, "x"), "Character 2 cannot be written as UTF-8: '\\ud83d'."),
        (ValueError("x" * 1000), "x" * 399 + "…."),
    ],
)
def test_an_exception_is_told_by_what_it_says(error, words):
    assert words_of(error) == words and not NAME.search(str(in_words(error)))


def test_memory_that_is_too_small_is_named():
    for error in (MemoryError(), RuntimeError("CUDA out of memory. Tried to allocate 2 GiB"), type("OutOfMemoryError", (RuntimeError,), {})("")):
        assert is_out_of_memory(error) and "not enough memory" in in_words(error).found


def test_a_door_names_what_failed_and_lets_pass_what_is_in_words_already():
    class Panic(BaseException):
        """As libraries in Rust raise it."""

    for error in (TypeError("string indices must be integers"), Panic("called `unwrap` on nothing")):
        with (
            pytest.raises(ModelRefused, match=r"The tokenizer cannot be read\. .*\. Save it again\.") as raised,
            door("The tokenizer cannot be read.", "Save it again.", ModelRefused),
        ):
            raise error
        assert raised.value.__cause__ is error
    with pytest.raises(BadData, match="row 3"), door("The file cannot be read."):
        raise BadData("row 3")
    with pytest.raises(KeyboardInterrupt), door("Nothing."):
        raise KeyboardInterrupt
    assert in_words(told := RgtgError("a")) is told


def test_half_a_character_becomes_a_mark_that_can_be_printed():
    assert printable("caf\udce9 \U0001f600") == "caf? \U0001f600"


@pytest.mark.parametrize(("text", "wanted"), [("", None), ("😀 é\t", None), ("a\0", ("NUL", 1)), ("ab\ude00\0", ("half of a character", 2))])
def test_what_can_be_neither_stored_nor_sent_is_found_with_its_place(text, wanted):
    assert unsound(text) == wanted
    assert unsound("\0" + text, takes_nul=True) == (None if wanted is None or wanted[0] == "NUL" else (wanted[0], wanted[1] + 1))
