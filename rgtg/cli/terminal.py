"""Terminal output of the commands: UTF-8 text, a progress bar, and one JSON line on stderr for an error.

What libraries write to stderr is held back, and goes to a log after an unexpected error. Knows nothing of what the commands do.
"""

import argparse
import json
import logging
import os
import sys
import tempfile
import time
import traceback
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn, TextIO

from rgtg.config import Settings
from rgtg.errors import BadSettings, RgtgError, in_words, printable

if TYPE_CHECKING:
    from tqdm import tqdm

LOG = "rgtg.log"  # in the data folder
MAX_LOG = 1_000_000  # bytes; beyond it a log begins anew
BAR = "{desc}{percentage:3.0f}%|{bar}| {n:.DIGITSf}/{total:.0f} [{elapsed}<{remaining}, {rate_noinv_fmt}]"


class Parser(argparse.ArgumentParser):
    """An argument parser that raises BadSettings instead of printing its usage."""

    def error(self, message: str) -> NoReturn:
        raise BadSettings(
            "The command line is not valid.", f"{message[0].upper()}{message[1:]}.", f"`{self.prog} --help` lists commands and options."
        )


class NothingMade(Exception):
    """Raised where a command ran and every answer failed; `lines` holds one error each."""

    def __init__(self, lines: list[dict[str, str]]):
        super().__init__("nothing was made")
        self.lines = lines


def write_utf8() -> None:
    """Set stdout and stderr to UTF-8 whatever the locale; what is no character is replaced."""
    for stream in (sys.stdout, sys.stderr):
        with suppress(AttributeError, ValueError, OSError):  # another object in its place
            stream.reconfigure(encoding="utf-8", errors="replace")  # type: ignore[union-attr]


class Quiet:
    """Redirects stderr to a temporary file while a command runs, for code in C++ and Rust too; after success our own warnings are
    printed. With `verbose` nothing is redirected."""

    def __init__(self, verbose: bool = False):
        self._verbose, self.held_back = verbose, ""
        self._warnings = _Warnings(level=logging.WARNING)
        self._stderr: int | None = None
        self.terminal: TextIO | None = None  # the stderr that a person reads

    def __enter__(self) -> "Quiet":
        logging.basicConfig(level="INFO" if self._verbose else "WARNING", format="%(asctime)s %(levelname)s %(message)s", stream=sys.stderr)
        if not self._verbose:
            logging.getLogger("rgtg").addHandler(self._warnings)
            with suppress(OSError):  # no stderr, or no room for a file
                self._file = tempfile.TemporaryFile()
                self._stderr = os.dup(2)
                _flush(sys.stderr)
                os.dup2(self._file.fileno(), 2)
        self.terminal = sys.stderr
        if self._stderr is not None:
            self.terminal = open(self._stderr, "w", encoding="utf-8", errors="replace", closefd=False)
        return self

    def __exit__(self, kind: type[BaseException] | None, *rest: object) -> None:
        logging.getLogger("rgtg").removeHandler(self._warnings)
        if self._stderr is not None:
            _flush(sys.stderr)
            os.dup2(self._stderr, 2)
            os.close(self._stderr)
            with self._file:
                self._file.seek(max(0, self._file.seek(0, os.SEEK_END) - MAX_LOG // 10))
                self.held_back = self._file.read().decode("utf-8", "replace")
        if kind is None:
            for message in dict.fromkeys(self._warnings.messages):
                print(message, file=sys.stderr)


class ProgressBar:
    """A progress bar with rate and time left on stderr; nothing with `--json` or where stderr is no terminal.

    Called with what is done and the total, as library code reports progress. The first call draws the bar, and the clock starts with the
    last call before something is done; what was done at that time does not count for the rate.
    """

    def __init__(self, options: argparse.Namespace, unit: str, digits: int = 0):
        self._file: TextIO | None = getattr(options, "terminal", None)
        self._shown = self._file is not None and self._file.isatty() and not getattr(options, "json", False)
        self._unit, self._format = unit, BAR.replace("DIGITS", str(digits))
        self._bar: tqdm | None = None
        self._open = ExitStack()

    def __enter__(self) -> "ProgressBar":
        if self._shown:
            from tqdm.contrib.logging import logging_redirect_tqdm

            self._open.enter_context(logging_redirect_tqdm())  # with --verbose log lines stand above the bar
        return self

    def __exit__(self, kind: type[BaseException] | None, *rest: object) -> None:
        if self._bar is not None:
            self._bar.leave = kind is None
            self._bar.close()
        self._open.close()

    def __call__(self, done: float, total: float, label: str = "") -> None:
        if not self._shown:
            return
        if self._bar is None:
            self._begin(done, total, label)
        elif done == self._bar.initial == self._bar.n:
            self._bar.total = total
            self._bar.unpause()
            self._bar.start_t = self._bar.last_print_t
            self._bar.set_description_str(label and f"{label}: ")
        else:
            self._bar.total = total
            self._bar.update(done - self._bar.n)

    def _begin(self, done: float, total: float, label: str) -> None:
        from tqdm import tqdm

        assert self._file is not None
        width = os.get_terminal_size(self._file.fileno()).columns  # 0 where a terminal does not say
        self._bar = tqdm(
            initial=done, total=total, desc=label and f"{label}: ", unit=f" {self._unit}", file=self._file, bar_format=self._format,
            ncols=None if width else 80, dynamic_ncols=width > 0, smoothing=0, miniters=0,
        )  # fmt: skip

    def finish(self) -> None:
        """Leaves the bar as it stands; the next call begins another one below it."""
        if self._bar is not None:
            self._bar.close()
            self._bar = None

    def print(self, text: str) -> None:
        """A line on stdout, above the bar."""
        if self._bar is not None:
            self._bar.clear()
        print(text, flush=True)
        if self._bar is not None:
            self._bar.refresh()


class _Warnings(logging.Handler):
    def __init__(self, level: int):
        super().__init__(level)
        self.messages: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.messages.append(record.getMessage())


def refuse(error: BaseException, held_back: str = "") -> int:
    """Print {"error", "found", "do"} as one line and return the exit status 2. An unexpected error leaves its traceback in the log."""
    described = in_words(error)
    cause = described.__cause__ if described is error else error
    log = _write_log(error, held_back) if cause is not None and not isinstance(cause, (RgtgError, OSError)) else None
    do = described.do or (f"The traceback is in {log}." if log else "")
    leave_stdout()
    print_error(described.wrong, described.found, do)
    return 2


def print_error(error: str, found: str, do: str = "") -> None:
    """One JSON line on stderr."""
    line = json.dumps({"error": error, "found": found, "do": do}, ensure_ascii=False)
    if sys.stderr is not None:
        with suppress(OSError, ValueError):
            print(printable(line), file=sys.stderr, flush=True)


def leave_stdout() -> None:
    """Redirect stdout to /dev/null if its reader is gone or its disk is full, so that the interpreter does not complain at exit."""
    try:
        _flush(sys.stdout)
    except (OSError, ValueError):
        with suppress(OSError, ValueError, AttributeError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _write_log(error: BaseException, held_back: str) -> Path | None:
    """Append the traceback to the log; its path, None where it cannot be written."""
    text = f"--- {time.strftime('%Y-%m-%d %H:%M:%S')} {' '.join(sys.argv[1:])[:500]}\n{held_back}{''.join(traceback.format_exception(error))}"
    for folder in (Settings.from_environment().data_dir, Path(tempfile.gettempdir())):
        with suppress(OSError):
            folder.mkdir(parents=True, exist_ok=True)
            path = folder / LOG
            with path.open("w" if path.exists() and path.stat().st_size > MAX_LOG else "a", encoding="utf-8", errors="replace") as file:
                file.write(text)
            return path.absolute()
    return None


def _flush(stream: Any) -> None:
    if stream is not None:
        stream.flush()
