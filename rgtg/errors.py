"""Errors that a user can fix, each with a message: what is wrong, what was found, what to do.

Exceptions of Python, the system, SQLite and other libraries are translated here, and only here. Knows nothing of the rest of the library.
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
FREE = "Free some space and try again."
ELSEWHERE = "Choose another path."
REASONS = {  # errno -> what is so, what to do
    errno.ENOENT: ("it does not exist", "Check the path."),
    errno.EACCES: ("permission denied", "Change its permissions, or choose another path."),
    errno.EPERM: ("permission denied", "Change its permissions, or choose another path."),
    errno.EROFS: ("its disk is read-only", ELSEWHERE),
    errno.ENOTDIR: ("a part of this path is a file, where a folder is needed", ELSEWHERE),
    errno.EISDIR: ("it is a folder", "Give a file."),
    errno.EEXIST: ("a file or folder of that name already exists", ELSEWHERE),
    errno.ENOTEMPTY: ("a file or folder of that name already exists", ELSEWHERE),
    errno.ENAMETOOLONG: ("the path is too long", "Choose a shorter one."),
    errno.EINVAL: ("the system does not allow this name", "Choose another name."),
    errno.ELOOP: ("its symbolic links form a loop", ELSEWHERE),
    errno.EMFILE: ("too many files are open", "Close other programs and try again."),
    errno.EFBIG: ("the file would be larger than is allowed here", ELSEWHERE),
    errno.EIO: ("the disk reported an error", "Check the disk."),
}
WINDOWS = {206: errno.ENAMETOOLONG, 123: errno.EINVAL, 267: errno.ENOTDIR, 112: errno.ENOSPC, 39: errno.ENOSPC}  # where Python says EINVAL


class RgtgError(Exception):
    """An error that the user can fix; its message is shown on screen.

    `wrong`, `found` and `do` are the parts of the message; the command line prints them separately. `field` names the option or input
    that is wrong, if any: a page shows the message there.
    """

    def __init__(self, wrong: str, found: str = "", do: str = "", field: str = ""):
        self.wrong, self.found, self.do, self.field = wrong, found, do, field
        super().__init__(" ".join(part for part in (wrong, found, do) if part))


class ModelNotFound(RgtgError):
    """No model has that name, folder or Hub id."""


class ModelRefused(RgtgError):
    """The model exists but cannot be used: no head, remote code, pickled weights, a wrong kind."""


class NotADecoder(ModelRefused):
    """The model sees later tokens, or has no head that reads every position."""


class TokenizerMismatch(RgtgError):
    """Reward model and base LM have different token ids."""


class PromptTooLong(RgtgError):
    """Prompt and answer together exceed the context length of a model."""


class BadReward(RgtgError):
    """A reward model returned NaN or infinity."""


class BadSettings(RgtgError):
    """A value is outside its range, or a method or parameter is unknown."""


class OverBudget(RgtgError):
    """A request would take more time or memory than the settings allow."""


class TooMany(RgtgError):
    """Somebody asks more often, or for more at once, than a server allows."""


class Stopped(RgtgError):
    """The user stopped the work before it had a result."""


class LimitPassed(RgtgError):
    """Work in a child process exceeded a limit or ended the process. `at` names the step, `how` what happened."""

    def __init__(self, at: str, how: str, found: str = ""):
        self.at, self.how = at or "it", how
        super().__init__(f"{self.at.capitalize()} {how}.", found)


class BadData(RgtgError):
    """A data file or folder cannot be read; the row is named."""


class StoreError(RgtgError):
    """The database cannot be opened, read or written."""


class StoreBusy(StoreError):
    """The database is locked by another process, or too many writes are waiting."""


class UnknownRecord(StoreError):
    """An id is not in the database."""


# --- exceptions of others ------------------------------------------------------------------------------------------------


@contextmanager
def door(wrong: str, do: str = "", kind: type[RgtgError] = RgtgError) -> Iterator[None]:
    """Context that turns exceptions into errors of `kind` with the message `wrong`; an RgtgError passes unchanged."""
    try:
        yield
    except (RgtgError, KeyboardInterrupt, SystemExit, GeneratorExit):
        raise
    except BaseException as error:  # a library in Rust may panic with what is no Exception
        raise in_words(error, wrong, do, kind) from error


def in_words(error: BaseException, wrong: str = "", do: str = "", kind: type[RgtgError] = RgtgError) -> RgtgError:
    """An exception of Python or of a library as an RgtgError, without the name of its class.

    A known cause (full disk, path, locked or damaged database, memory) decides what was found and what to do.
    """
    if isinstance(error, RgtgError):
        return error
    sqlite = sys.modules.get("sqlite3")  # not loaded here for its errors' sake: a trainer does without
    if sqlite is not None and isinstance(error, sqlite.Error):
        return _of_sqlite(error, wrong, do)
    if is_disk_full(error):
        return kind(wrong or "A file could not be written.", f"The disk is full{_place(error)}.", FREE)
    if is_out_of_memory(error):
        return kind(wrong or "There is not enough memory.", "There is not enough memory.", do or "Use a smaller model, or fewer at a time.")
    if isinstance(error, OSError) and (reason := REASONS.get(_number(error))):
        found = f"{_place(error).removeprefix(': ')}: {reason[0]}." if error.filename else f"{reason[0].capitalize()}."
        return kind(wrong or "A file or folder could not be read or written.", printable(found), do or reason[1])
    return kind(wrong or "An unexpected error occurred.", words_of(error), do)


def is_disk_full(error: BaseException | None) -> bool:
    """Whether the cause is a full disk, as reported by the system, SQLite, safetensors, pyarrow or torch."""
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
    """Whether memory ran out, on a CPU or a GPU."""
    named = type(error).__name__ == "OutOfMemoryError"  # torch's, which is not imported here
    return named or isinstance(error, MemoryError) or "out of memory" in str(error).lower() or "can't allocate memory" in str(error)


def words_of(error: BaseException) -> str:
    """Message of an exception as one sentence, without the name of its class: `KeyError("a")` -> "`a` is missing or not known."."""
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
    message = " ".join(lines[: 2 if lines and lines[0].endswith(":") else 1])
    message = message if len(message) <= MAX_WORDS else message[: MAX_WORDS - 1] + "…"
    return printable(f"{message.rstrip('.,:;')}." if message else "No reason was given.")


HALF = re.compile("[\ud800-\udfff]")  # of a character that takes two codes: no file and no tokenizer takes it
NUL = "\0"  # a tokenizer takes it, no database and no screen does
UNSOUND = re.compile("[\0\ud800-\udfff]")


def unsound(text: str, takes_nul: bool = False) -> tuple[str, int] | None:
    """What a text holds that cannot be stored or sent, and its position from 0; None where there is nothing of the kind.

    >>> unsound("ab\\0")
    ('NUL', 2)
    """
    match = (HALF if takes_nul else UNSOUND).search(text)
    return None if match is None else ("NUL" if match[0] == NUL else "half of a character", match.start())


def printable(text: str) -> str:
    """The text with lone surrogates replaced, so that it can be printed, stored and sent."""
    return text.encode("utf-8", "replace").decode("utf-8")


def _number(error: OSError) -> int:
    return WINDOWS.get(getattr(error, "winerror", None) or 0, error.errno or 0)


def _place(error: BaseException) -> str:
    name = getattr(error, "filename", None)
    return f": `{name!s:.{MAX_WORDS}}`" if name else ""


def _of_sqlite(error: Exception, wrong: str, do: str) -> StoreError:
    message = f"SQLite says: {error}."
    if is_disk_full(error):
        return StoreError(wrong or "Nothing was stored: the disk is full.", f"The disk is full. {message}" if wrong else message, FREE)
    if "locked" in str(error) or "busy" in str(error):
        return StoreBusy(wrong or "The database is locked by another program.", message, "Close that program and try again.")
    if "malformed" in str(error) or "not a database" in str(error):
        return StoreError(wrong or "The database is damaged.", message, "Restore the newest backup that passes.")
    if "disk I/O" in str(error) or "unable to open" in str(error):
        return StoreError(wrong or "The database cannot be reached.", message, "Check that its folder exists, is writable and has free space.")
    if "readonly" in str(error):
        return StoreError(wrong or "Nothing was stored: the database is read-only.", message, "Change its permissions, or choose another folder.")
    return StoreError(wrong or "The database rejected this.", message, do or "Everything stored before is intact.")
