"""What a person can put right, each with a message for the screen: what is wrong, what was found, what to do.

What Python, the system, SQLite and other libraries raise is translated here, and only here. Knows nothing of the rest of the library.
"""

import errno
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager

FULL = re.compile(r"no space left on device|os error 28\b|not enough space on the disk|os error 112\b|disk quota exceeded|disk is full", re.I)
CLASS = re.compile(r"\b(?:\w+\.)*[A-Z]\w*(?:Error|Exception)\b(?:\(\))?:?\s*")  # "ValueError: ", which says nothing to a reader
REPORT = re.compile(r"\s*[^.!\n]*\babove report\b[.!]?", re.I)  # "For details look at the above report!", which nobody is shown
MAX_WORDS = 400  # characters of what a library said
FREE = "Free some space and do it again."
ELSEWHERE = "Choose another path."
REASONS = {  # errno -> what is so, what to do
    errno.ENOENT: ("it is not there", "Check the path."),
    errno.EACCES: ("it may not be read or written by this user", "Change its rights, or choose another path."),
    errno.EPERM: ("it may not be read or written by this user", "Change its rights, or choose another path."),
    errno.EROFS: ("its disk can only be read", ELSEWHERE),
    errno.ENOTDIR: ("a part of this path is a file, where a folder is needed", ELSEWHERE),
    errno.EISDIR: ("it is a folder", "Give a file."),
    errno.EEXIST: ("a file or folder of that name is there already", ELSEWHERE),
    errno.ENOTEMPTY: ("a file or folder of that name is there already", ELSEWHERE),
    errno.ENAMETOOLONG: ("the path is too long", "Choose a shorter one."),
    errno.EINVAL: ("the system does not take this name", "Choose another name."),
    errno.ELOOP: ("its links go in a circle", ELSEWHERE),
    errno.EMFILE: ("too many files are open", "Close other programs and do it again."),
    errno.EFBIG: ("the file would be larger than is allowed here", ELSEWHERE),
    errno.EIO: ("the disk gave an error", "Check the disk."),
}
WINDOWS = {206: errno.ENAMETOOLONG, 123: errno.EINVAL, 267: errno.ENOTDIR, 112: errno.ENOSPC, 39: errno.ENOSPC}  # where Python says EINVAL


class RgtgError(Exception):
    """Something the person at the screen can put right; the message is shown to them.

    `found` and `do` are the second and third part of the message; the command line prints the three apart. `field` is the name of the
    option or input that is wrong, where it is one: a page says it there.
    """

    def __init__(self, wrong: str, found: str = "", do: str = "", field: str = ""):
        self.wrong, self.found, self.do, self.field = wrong, found, do, field
        super().__init__(" ".join(part for part in (wrong, found, do) if part))


class ModelNotFound(RgtgError):
    """No model by that name, folder or hub id."""


class ModelRefused(RgtgError):
    """The folder is there but must not or cannot be used: no head, remote code, pickled weights, a wrong kind."""


class TokenizerMismatch(RgtgError):
    """Reward model and base LM do not number their tokens alike."""


class PromptTooLong(RgtgError):
    """Prompt plus answer do not fit the context of a model."""


class BadReward(RgtgError):
    """A reward model returned NaN or infinity."""


class BadSettings(RgtgError):
    """A value outside its range, an unknown method or parameter."""


class OverBudget(RgtgError):
    """A request that would take more time or memory than the settings allow."""


class Stopped(RgtgError):
    """A person stopped it before there was anything to show."""


class LimitPassed(RgtgError):
    """Work in a process of its own passed a limit, or ended that process. `at` names the step, `how` what became of it."""

    def __init__(self, at: str, how: str, found: str = ""):
        self.at, self.how = at or "it", how
        super().__init__(f"{self.at.capitalize()} {how}.", found)


class BadData(RgtgError):
    """A file or folder of data that cannot be read as what it should be; the row is named."""


class StoreError(RgtgError):
    """The database cannot be opened, read or written."""


class StoreBusy(StoreError):
    """Another process or too many waiting writes hold the database."""


class UnknownRecord(StoreError):
    """An id that is not in the database."""


# --- what others raise ------------------------------------------------------------------------------------------------


@contextmanager
def door(wrong: str, do: str = "", kind: type[RgtgError] = RgtgError) -> Iterator[None]:
    """Whatever fails inside becomes a `kind` that says `wrong` and the words found; what is in words already passes."""
    try:
        yield
    except (RgtgError, KeyboardInterrupt, SystemExit, GeneratorExit):
        raise
    except BaseException as error:  # a library in Rust may panic with what is no Exception
        raise in_words(error, wrong, do, kind) from error


def in_words(error: BaseException, wrong: str = "", do: str = "", kind: type[RgtgError] = RgtgError) -> RgtgError:
    """An exception of Python or of a library as an error for a person, without the name of its class.

    Where the cause is known (a full disk, a path, a busy or damaged database, memory) that decides on what was found and what to do.
    """
    if isinstance(error, RgtgError):
        return error
    sqlite = sys.modules.get("sqlite3")  # not loaded here for its errors' sake: a trainer does without
    if sqlite is not None and isinstance(error, sqlite.Error):
        return _of_sqlite(error, wrong, do)
    if is_disk_full(error):
        return kind(wrong or "A file could not be written.", f"The disk is full{_place(error)}.", FREE)
    if is_out_of_memory(error):
        return kind(wrong or "There is not enough memory.", "There is not enough memory.", do or "Take a smaller model, or fewer at a time.")
    if isinstance(error, OSError) and (reason := REASONS.get(_number(error))):
        found = f"{_place(error).removeprefix(': ')}: {reason[0]}." if error.filename else f"{reason[0].capitalize()}."
        return kind(wrong or "A file or folder could not be read or written.", printable(found), do or reason[1])
    return kind(wrong or "Something failed that was not foreseen.", words_of(error), do)


def is_disk_full(error: BaseException | None) -> bool:
    """Whether it is a full disk, or came from one, whoever says so: the system, SQLite, safetensors, pyarrow, torch."""
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        if isinstance(error, OSError) and _number(error) in (errno.ENOSPC, errno.EDQUOT):
            return True
        if FULL.search(str(error)) or getattr(error, "sqlite_errorname", "") == "SQLITE_IOERR_SHMSIZE":  # no room for what goes with a WAL
            return True
        error = error.__cause__ or error.__context__
    return False


def is_out_of_memory(error: BaseException) -> bool:
    """Whether memory was too small, on a CPU or a GPU."""
    named = type(error).__name__ == "OutOfMemoryError"  # torch's, which is not imported here
    return named or isinstance(error, MemoryError) or "out of memory" in str(error).lower() or "can't allocate memory" in str(error)


def words_of(error: BaseException) -> str:
    """What an exception says, as one sentence without the name of its class: `KeyError("a")` -> "`a` is missing or not known."."""
    if isinstance(error, RecursionError):
        return "It is nested too deeply."
    if isinstance(error, UnicodeDecodeError):
        return f"Byte {error.object[error.start]:#04x} at position {error.start:,} is not {error.encoding.upper()}."
    if isinstance(error, UnicodeEncodeError):
        return f"Character {error.start + 1:,} cannot be written as {error.encoding.upper()}: {error.object[error.start]!a}."
    if isinstance(error, ModuleNotFoundError) and error.name:
        return f"The library `{error.name}` is not installed."
    if isinstance(error, KeyError) and len(error.args) == 1:
        return printable(f"`{str(error.args[0]).strip():.{MAX_WORDS}}` is missing or not known.")
    if isinstance(error, OSError) and error.strerror:
        return printable(f"{error.strerror}{_place(error)}.")
    lines = [line.strip() for line in REPORT.sub("", CLASS.sub("", re.sub(r"\x1b\[[0-9;]*m", "", str(error)))).splitlines() if line.strip(" -=*")]
    said = " ".join(lines[: 2 if lines and lines[0].endswith(":") else 1])
    said = said if len(said) <= MAX_WORDS else said[: MAX_WORDS - 1] + "…"
    return printable(f"{said.rstrip('.,:;')}." if said else "No reason was given.")


HALF = re.compile("[\ud800-\udfff]")  # of a character that takes two codes: no file and no tokenizer takes it
NUL = "\0"  # a tokenizer takes it, no database and no screen does
UNSOUND = re.compile("[\0\ud800-\udfff]")


def unsound(text: str, takes_nul: bool = False) -> tuple[str, int] | None:
    """What a text holds that can be neither stored nor sent, and at which place from 0; None where it is sound.

    >>> unsound("ab\\0")
    ('NUL', 2)
    """
    found = (HALF if takes_nul else UNSOUND).search(text)
    return None if found is None else ("NUL" if found[0] == NUL else "half of a character", found.start())


def printable(text: str) -> str:
    """The text with what is no whole character replaced: it can be printed, stored and sent."""
    return text.encode("utf-8", "replace").decode("utf-8")


def _number(error: OSError) -> int:
    return WINDOWS.get(getattr(error, "winerror", None) or 0, error.errno or 0)


def _place(error: BaseException) -> str:
    name = getattr(error, "filename", None)
    return f": `{name!s:.{MAX_WORDS}}`" if name else ""


def _of_sqlite(error: Exception, wrong: str, do: str) -> StoreError:
    found = f"SQLite says: {error}."
    if is_disk_full(error):
        return StoreError(wrong or "Nothing was stored: the disk is full.", f"The disk is full. {found}" if wrong else found, FREE)
    if "locked" in str(error) or "busy" in str(error):
        return StoreBusy(wrong or "The database is held by another program.", found, "Close that program and do it again.")
    if "malformed" in str(error) or "not a database" in str(error):
        return StoreError(wrong or "The database is damaged.", found, "Restore the newest backup that passes.")
    if "disk I/O" in str(error) or "unable to open" in str(error):
        return StoreError(wrong or "The database cannot be reached.", found, "Check that its folder is there, may be written and has space.")
    if "readonly" in str(error):
        return StoreError(wrong or "Nothing was stored: the database can only be read.", found, "Change its rights, or choose another folder.")
    return StoreError(wrong or "The database refused this.", found, do or "What was stored before is whole.")
