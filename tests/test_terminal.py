"""What a command leaves on stdout and stderr, whoever else writes there."""

import fcntl
import json
import logging
import os
import pty
import re
import struct
import subprocess
import sys
import termios
import threading
from pathlib import Path

import pytest
from store_records import make_comparison, make_vote

from rgtg.cli import main as commands
from rgtg.cli.main import main
from rgtg.errors import BadSettings
from rgtg.store.store import Store

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.setenv("RGTG_DATA_DIR", str(tmp_path / "data"))
    monkeypatch.setattr("rgtg.workbench.library.STARTER_DIR", tmp_path / "none")
    return tmp_path


def run(monkeypatch, work) -> int:
    """`rgtg models`, doing `work` instead."""
    with open(2, "w", closefd=False) as stderr, monkeypatch.context() as during:
        during.setattr(sys, "stderr", stderr)  # as in a process of its own; pytest's writes to another descriptor
        during.setattr(commands, "_models", lambda options: work())
        return main(["models"])


def noise() -> None:
    """What libraries write: to the descriptor, as code in C++ does, to stderr, to a log."""
    os.write(2, b"[W] from C++\n")
    print("FutureWarning: deprecated", file=sys.stderr)
    logging.getLogger("transformers").warning("a report")


def test_with_a_refusal_stderr_holds_one_line_whatever_libraries_wrote(here, monkeypatch, capfd):
    def work():
        noise()
        raise BadSettings("It is wrong.", "Found 5.", "Give 4.")

    assert run(monkeypatch, work) == 2
    assert json.loads(capfd.readouterr().err) == {"error": "It is wrong.", "found": "Found 5.", "do": "Give 4."}
    assert not (here / "data").exists(), "nothing to look into"


def test_what_nobody_foresaw_is_one_line_too_and_a_log_has_the_traceback(here, monkeypatch, capfd):
    def work():
        noise()
        raise TypeError("string indices must be integers, not 'str'")

    assert run(monkeypatch, work) == 2
    error = json.loads(capfd.readouterr().err)
    assert error["found"] == "string indices must be integers, not 'str'." and "TypeError" not in json.dumps(error)
    assert error["do"] == f"The traceback is in {here / 'data' / 'rgtg.log'}."
    log = (here / "data" / "rgtg.log").read_text()
    assert "Traceback" in log and "TypeError" in log and "[W] from C++" in log


def test_where_no_log_can_be_written_the_line_comes_all_the_same(here, monkeypatch, capfd):
    (here / "data").write_text("a file")
    with monkeypatch.context() as during:
        during.setattr("tempfile.gettempdir", lambda: str(here / "data"))
        assert run(monkeypatch, lambda: {}["missing"]) == 2
    assert json.loads(capfd.readouterr().err)["found"] == "`missing` is missing or not known."


def test_after_a_command_that_went_well_our_own_warnings_are_shown_once(here, monkeypatch, capfd):
    def work():
        noise()
        for _ in range(2):
            logging.getLogger("rgtg.models").warning("one folder cannot be read")

    assert run(monkeypatch, work) == 0
    assert capfd.readouterr().err == "one folder cannot be read\n"


def test_stderr_is_given_back(here, monkeypatch, capfd):
    run(monkeypatch, noise)
    os.write(2, b"after\n")
    assert capfd.readouterr().err == "after\n"


@pytest.mark.parametrize("arguments", [["generate"], ["nonsense"], ["generate", "--prompt", "x", "--seed", "abc"], []])
def test_a_command_that_cannot_be_read_is_refused_in_one_line(here, capfd, arguments):
    assert main(arguments) == 2
    error = json.loads(capfd.readouterr().err)
    assert error["error"] == "The command line is not valid." and error["found"] and "--help" in error["do"]


def test_an_interrupt_ends_without_a_word(here, monkeypatch, capfd):
    def work():
        raise KeyboardInterrupt

    assert run(monkeypatch, work) == 130 and capfd.readouterr().err == ""


PRINT = """
import sys
from rgtg.cli import main as commands
commands._models = lambda options: print("caf\\u00e9 \\u5317 \\udce9")
sys.exit(commands.main(["models"]))
"""


def python(code: str, **more) -> subprocess.CompletedProcess:
    environment = os.environ | {"PYTHONIOENCODING": "cp1252"}
    return subprocess.run([sys.executable, "-c", code], cwd=ROOT, env=environment, stderr=subprocess.PIPE, timeout=60, **more)


def test_a_terminal_that_is_not_utf_8_is_written_utf_8(here):
    done = python(PRINT, stdout=subprocess.PIPE)
    assert (done.returncode, done.stdout.decode(), done.stderr) == (0, "café 北 ?\n", b"")


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="a device of Linux")
def test_a_disk_that_is_full_for_stdout_is_said_in_one_line(here):
    with open("/dev/full", "wb") as full:
        done = python(PRINT, stdout=full)
    assert done.returncode == 2 and json.loads(done.stderr)["found"] == "The disk is full."


# --- progress bars -----------------------------------------------------------------------------------------------------


def on_a_terminal(arguments: list[str]) -> tuple[int, str]:
    """The status of a command, and what it writes to stderr, which is a terminal of 100 columns."""
    leader, follower = pty.openpty()
    fcntl.ioctl(follower, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 100, 0, 0))
    stderr, parts = os.dup(2), list[bytes]()

    def read() -> None:
        try:
            while part := os.read(leader, 4096):
                parts.append(part)
        except OSError:  # the other end is closed
            pass

    reader = threading.Thread(target=read)
    reader.start()
    os.dup2(follower, 2)
    try:
        status = main(arguments)
    finally:
        os.dup2(stderr, 2)
        os.close(stderr)
        os.close(follower)
        reader.join(10)
        os.close(leader)
    return status, b"".join(parts).decode()


def bars(arguments: list[str], unit: str, label: str = "") -> list[tuple[float, float]]:
    """(done, total) of every bar with a rate and the time left that a command draws."""
    status, text = on_a_terminal(arguments)
    assert status == 0
    pattern = rf"{label} *\d+%\|[^|]*\| ([\d.]+)/(\d+) \[[\d:]+<[\d:]+, +[\d.]+ {unit}/s\]"
    return [(float(done), float(total)) for done, total in re.findall(pattern, text)]


@pytest.fixture
def prompts(here, folders) -> list[str]:
    """Options of a command that makes six short answers."""
    (here / "prompts.txt").write_text("the food\nthe staff\nwe went\n")
    return ["--base-lm", folders["lm"], "--max-new-tokens", "3", "--run", "base", "--run", f"pargs:reward_model={folders['partial']}"]


def test_generate_draws_a_bar_on_a_terminal_alone_and_not_with_json(here, prompts, capfd):
    arguments = ["generate", "--prompt-file", str(here / "prompts.txt"), *prompts]
    drawn = bars(arguments, "answers")
    assert drawn == sorted(drawn) and drawn[-1] == (6, 6)
    capfd.readouterr()
    assert on_a_terminal([*arguments, "--json"]) == (0, "")
    assert len(capfd.readouterr().out.splitlines()) == 6
    assert main(arguments) == 0 and capfd.readouterr().err == "", "stderr is a file"


def test_an_error_clears_the_bar(here, prompts, capfd):
    status, text = on_a_terminal(["generate", "--prompt-file", str(here / "prompts.txt"), *prompts, "--max-new-tokens", "1024"])
    _, *drawn, last = text.rstrip("\r").split("\r")
    assert status == 2 and "0.0/6" in drawn[0] and not last.strip()
    assert "tokens" in json.loads(capfd.readouterr().err)["error"]


def test_export_draws_a_bar(here):
    with Store(here / "data" / "rgtg.db") as store:
        for number in range(3):
            store.add_comparison(make_comparison(f"c{number}"), make_vote(f"v{number}", f"c{number}"))
    assert bars(["export", "--out", str(here / "out.jsonl")], "comparisons")[-1] == (3, 3)


@pytest.mark.slow
def test_sweep_draws_a_bar_that_goes_on_where_it_was(here, prompts, folders):
    arguments = ["sweep", "--prompts", str(here / "prompts.txt"), *prompts, "--observe", folders["judge"], "--out", str(here / "out")]
    assert bars([*arguments, "--limit", "1"], "answers")[-1] == (2, 2)
    drawn = bars(arguments, "answers")
    assert drawn[0][0] > 2 and drawn[-1] == (6, 6)


@pytest.mark.slow
def test_train_draws_a_bar(here, folders):
    rows = [{"prompt": f"p{i}", "chosen": f"a{i % 7}b", "rejected": f"c{i % 5}"} for i in range(60)]
    (here / "pairs.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    few = ["--max-steps", "4", "--logging-steps", "1", "--batch-size", "4", "--device", "cpu"]
    arguments = ["train", "--pairs", str(here / "pairs.jsonl"), "--base", folders["lm"], "--out", str(here / "new"), *few]
    assert bars(arguments, "steps", "new:")[-1] == (4, 4)


@pytest.mark.slow
@pytest.mark.parametrize("what", ["store", "decode"])
def test_bench_draws_a_bar(here, what):
    arguments = ["bench", what, "--seconds", "1"] + (["--models", "starter", "--only", "generate"] if what == "decode" else [])
    done, total = bars(arguments, "measurements")[-1]
    assert 0 < done <= total
