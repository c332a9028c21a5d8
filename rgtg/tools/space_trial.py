"""An assembled Space started as on Hugging Face: with the variables of a Space alone, code that it does not write to, and one writable folder."""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from rgtg.tools.space import Check

HOST = "someone-rgtg.hf.space"
PATIENCE_S, END_S = 300.0, 60.0


@dataclass(frozen=True)
class Trial:
    """A Space that answers: where, and its process."""

    address: str
    process: subprocess.Popen
    seconds: float


def variables(home: Path, port: int) -> dict[str, str]:
    """The environment of a Space: nothing of this machine's but where programs are."""
    return {
        "PATH": os.environ.get("PATH", os.defpath), "HOME": str(home), "TMPDIR": str(home / "tmp"), "LANG": "C.UTF-8", "PYTHONUNBUFFERED": "1",
        "SPACE_ID": "someone/rgtg", "SPACE_HOST": HOST, "SPACE_AUTHOR_NAME": "someone", "SPACE_REPO_NAME": "rgtg", "SYSTEM": "spaces",
        "GRADIO_SERVER_NAME": "0.0.0.0", "GRADIO_SERVER_PORT": str(port), "CPU_CORES": "2", "MEMORY": "16Gi", "ACCELERATOR": "none",
    }  # fmt: skip


@contextmanager
def started(folder: Path, place: Path, extra: Mapping[str, str] | None = None, patience_s: float = PATIENCE_S) -> Iterator[Trial]:
    """The Space in this folder, running until the end of the block: a copy of it in `place`/app, which it may not write to, its home `place`/home,
    its log `place`/log. Raises RuntimeError where it does not answer."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    code, home = place / "app", place / "home"
    shutil.copytree(folder, code)
    (home / "tmp").mkdir(parents=True)
    for path in (code, *code.rglob("*")):
        path.chmod(path.stat().st_mode & ~0o222 | 0o444)
    begun, address = time.monotonic(), f"http://127.0.0.1:{port}"
    with (place / "log").open("wb") as log:
        command, environment = [*_bound(), sys.executable, "app.py"], variables(home, port) | dict(extra or {})
        process = subprocess.Popen(command, cwd=code, env=environment, stdout=log, stderr=log, start_new_session=True)
        try:
            while not is_ready(address):
                if process.poll() is not None or time.monotonic() - begun > patience_s:
                    ended = f"it ended with status {process.returncode}" if process.returncode is not None else f"no answer after {patience_s:.0f} s"
                    raise RuntimeError(f"{ended}; the last lines of its log: {tail(place / 'log')}")
                time.sleep(0.2)
            yield Trial(address, process, time.monotonic() - begun)
        finally:
            _end(process)
            for path in (code, *code.rglob("*")):
                path.chmod(path.stat().st_mode | 0o200)


def _bound() -> list[str]:
    """Nothing is read-only to root: this takes that from it, where the system can. What was written is looked for in any case."""
    is_root, setpriv = hasattr(os, "geteuid") and os.geteuid() == 0, shutil.which("setpriv")
    without = "-dac_override,-dac_read_search"
    return [setpriv, f"--bounding-set={without}", f"--inh-caps={without}"] if is_root and setpriv else []


def is_ready(address: str) -> bool:
    """Whether the Space answers and its models are loaded. Raises RuntimeError where they could not be."""
    try:
        status = json.loads(get(f"{address}/health"))["status"]
    except (OSError, ValueError, KeyError):
        return False
    if status == "failed":
        raise RuntimeError("its models could not be loaded")
    return status == "ready"


def get(url: str) -> bytes:
    """As the Hub's proxy asks."""
    with urllib.request.urlopen(urllib.request.Request(url, headers={"Host": HOST}), timeout=30) as answer:
        return answer.read()


def tail(log: Path) -> str:
    return " / ".join(log.read_text(encoding="utf-8", errors="replace").strip().splitlines()[-6:])[-1500:]


def try_out(folder: Path) -> Iterator[Check]:
    """Start the Space and stop it, as one check each."""
    with tempfile.TemporaryDirectory(prefix="rgtg-space-") as name:
        place, problem, seconds, process, page = Path(name), "", 0.0, None, b""
        try:
            with started(folder, place) as trial:
                seconds, process, page = trial.seconds, trial.process, get(f"{trial.address}/")
        except (RuntimeError, OSError) as error:
            problem = f"{str(error)[:1].upper()}{str(error)[1:]}"
        yield Check(f"it starts in an empty environment and answers{f' ({seconds:.0f} s)' if not problem else ''}", problem)
        if problem or process is None:
            return
        yield Check("its page is served under the name of a Space", "" if b"gradio" in page else "The answer is not the page.")
        yield Check("it ends when it is told to", "" if process.returncode == 0 else f"It ended with status {process.returncode}.")
        yield Check("its data lies in its home, outside the code", "" if (place / "home/.rgtg/rgtg.db").is_file() else "There is no `.rgtg/rgtg.db`.")
        written = _files(place / "app") - _files(folder)
        yield Check("it writes nothing beside its code", f"Written: {', '.join(sorted(written)[:5])}." if written else "")


def _end(process: subprocess.Popen) -> None:
    """As a Space is put to sleep; by force where that takes too long."""
    if process.poll() is None:
        process.terminate()
        try:
            process.wait(END_S)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def _files(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
