"""How soon the app answers, how many votes a second the store takes, and what it costs once it is large: `rgtg bench start | store`.

Knows nothing of the screen.
"""

import os
import socket
import sqlite3
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

from rgtg.config import ROOT
from rgtg.guidance.methods import BASE
from rgtg.records import Candidate, Comparison, ModelRef, Run, Step, Trace, Vote, new_id, now
from rgtg.store import queries, rows
from rgtg.store.connection import reading
from rgtg.store.export import export_preferences
from rgtg.store.store import Store

COUNTED, EXPORTED = 100_000, 1_000  # comparisons whose votes are counted, and whose answers are exported


Listen = Callable[[int, int], None]  # measurements made, and of all


def start(seconds: float, listen: Listen = lambda done, total: None) -> Iterator[dict]:
    """Seconds from `python app.py` to the page answering, and to models ready for a first comparison."""
    with socket.socket() as free, tempfile.TemporaryDirectory() as folder:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
        free.close()
        begun = time.perf_counter()
        listen(0, 2)
        env = os.environ | {"RGTG_DATA_DIR": folder}
        app = subprocess.Popen(
            [sys.executable, "app.py", "--port", str(port)], cwd=ROOT, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        try:
            answering = None
            while answering is None and time.perf_counter() - begun < seconds:
                try:
                    urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=5).read()
                    answering = time.perf_counter() - begun
                except OSError:
                    time.sleep(0.05)
            listen(1, 2)
            ready = None
            for line in app.stdout or ():
                if "models ready" in line:
                    ready = time.perf_counter() - begun
                    break
            listen(2, 2)
            yield {"bench": "start", "page_answers_after_s": answering and round(answering, 2), "models_ready_after_s": ready and round(ready, 2)}
        finally:
            app.terminate()
            app.wait()


def store(seconds: float, counted: int = COUNTED, exported: int = EXPORTED, listen: Listen = lambda done, total: None) -> Iterator[dict]:
    """Votes a second, then counts and an export of a large database beside the way that counts and parses everything."""
    measurements: list[Callable[[], dict]] = [_votes, partial(_counts, counted), partial(_export, exported)]
    listen(0, len(measurements))
    for done, measure in enumerate(measurements, 1):
        line = measure()
        listen(done, len(measurements))
        yield line


def _votes() -> dict:
    """From 16 threads, each vote with its comparison in one transaction of its own."""

    def comparison() -> tuple[Comparison, Vote]:
        steps = tuple(Step(i, i, "word ", -1.0, -1.0, 1, 1, 0.4, 0.4) for i in range(24))
        traces = tuple(Trace(new_id(), c, Run("a prompt", BASE, ModelRef("lm")), steps, "word " * 24, "eos") for c in "AB")
        comparison = Comparison(new_id(), "a prompt", traces)
        return comparison, Vote(new_id(), comparison.id, "best", traces[0].id, tuple(t.id for t in traces))

    with tempfile.TemporaryDirectory() as folder, Store(Path(folder) / "rgtg.db") as database:
        waits: list[float] = []

        def vote() -> None:
            for _ in range(50):
                record = comparison()
                begun = time.perf_counter()
                database.add_comparison(*record)
                waits.append(time.perf_counter() - begun)

        threads = [threading.Thread(target=vote) for _ in range(16)]
        begun = time.perf_counter()
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        took = time.perf_counter() - begun
        waits.sort()
        return {
            "bench": "store", "votes": len(waits), "votes_per_second": round(len(waits) / took),
            "p95_ms": round(1000 * waits[int(0.95 * len(waits))], 1), "worst_ms": round(1000 * waits[-1], 1), "stored": database.num_votes(),
        }  # fmt: skip


def _fill(database: Store, number: int, steps: tuple[Step, ...]) -> None:
    """So many comparisons of two answers and a vote, in one transaction. Answers differ in nothing but their ids and texts."""
    run, at, rater = Run("a prompt", BASE, ModelRef("lm")), now(), database.rater()

    def task(conn: sqlite3.Connection) -> None:
        for i in range(number):
            traces = [rows.trace_row(Trace(f"{i}-{c}", c, run, steps, f"word {i} {c}", "eos"), str(i), at) for c in "AB"]
            queries.insert(conn, "comparisons", rows.comparison_row(Comparison(str(i), "a prompt"), at))
            for row in traces:
                queries.insert(conn, "traces", row)
            vote = Vote(f"v{i}", str(i), "best", f"{i}-A", (f"{i}-A", f"{i}-B"), rater, revision=1)
            queries.insert(conn, "votes", rows.vote_row(vote, at))

    database._write(task)


def _tie(conn: sqlite3.Connection, number: int, rater: str) -> None:
    """So many comparisons whose vote is a tie, written by SQLite itself."""
    numbers = "WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < ?)"
    conn.execute(
        f"{numbers} INSERT INTO comparisons (id, created_at, prompt, prompt_sha256, state, pair_rule, blind) "
        "SELECT 'c' || i, '', 'a prompt', i, 'closed', 'manual', 0 FROM n", (number,),
    )  # fmt: skip
    conn.execute(
        f"{numbers} INSERT INTO votes (id, created_at, comparison_id, rater_id, revision, verdict, seen_trace_ids, reasons, row_sha256) "
        "SELECT 'v' || i, '', 'c' || i, ?, 1, 'tie', '[]', '[]', '' FROM n", (number, rater),
    )  # fmt: skip


def _timed(do: Callable[[], Any], times: int = 1) -> tuple[Any, float]:
    """What it gives, and the seconds of the fastest of so many times."""
    took = []
    for _ in range(times):
        begun = time.perf_counter()
        result = do()
        took.append(time.perf_counter() - begun)
    return result, min(took)


def _counts(number: int) -> dict:
    """How many votes stand in a database of so many comparisons, as it is asked after every vote: kept, and counted."""
    with tempfile.TemporaryDirectory() as folder, Store(Path(folder) / "rgtg.db") as database:
        rater = database.rater()
        database._write(lambda conn: _tie(conn, number, rater))
        kept, quick = _timed(database.num_votes, 5)

        def count() -> int:
            with reading(database.path) as conn:
                return queries.value(conn, "SELECT count(*) FROM current_votes")

        counted, slow = _timed(count, 3)
        return {
            "bench": "counts", "comparisons": number, "votes": kept, "counted": counted, "num_votes_ms": round(1000 * quick, 2),
            "counting_ms": round(1000 * slow, 1), "times_faster": round(slow / quick),
        }  # fmt: skip


def _export(number: int) -> dict:
    """An export of texts, which unpacks no step, beside the same export with every step of the database unpacked."""
    candidates = tuple(Candidate(i, "word ", -1 / 3, 2 / 3, i, i, 1 / 7, (("reward", 1 / 9),)) for i in range(10))
    steps = rows.StoredSteps(rows.steps_json(tuple(Step(i, i, "word ", -1.0, -1.0, 1, 1, 0.4, 0.4, candidates=candidates) for i in range(24))))
    with tempfile.TemporaryDirectory() as folder, Store(Path(folder) / "rgtg.db") as database:
        _fill(database, number, steps)  # type: ignore[arg-type]
        report, quick = _timed(lambda: export_preferences(database, Path(folder) / "pairs.jsonl"))
        answers, _ = _timed(lambda: [trace for comparison, _ in islice(database.facts(), number // 10) for trace in comparison.traces])
        slow = quick + 10 * _timed(lambda: [tuple(trace.steps) for trace in answers])[1]
        return {
            "bench": "export", "comparisons": number, "pairs": report.num_pairs, "export_s": round(quick, 2),
            "ms_a_comparison": round(1000 * quick / number, 2), "with_steps_s": round(slow, 2), "times_faster": round(slow / quick, 1),
        }  # fmt: skip
