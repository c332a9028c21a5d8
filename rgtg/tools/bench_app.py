"""How soon the app answers, and how many votes a second the store takes: `python -m rgtg bench start | store`.

Knows nothing of the screen.
"""

import os
import socket
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

from rgtg.config import ROOT
from rgtg.guidance.methods import BASE
from rgtg.records import Comparison, ModelRef, Run, Step, Trace, Vote, new_id
from rgtg.store.store import Store


def start(seconds: float) -> Iterator[dict]:
    """Seconds from `python app.py` to the page answering, and to models ready for a first comparison."""
    with socket.socket() as free, tempfile.TemporaryDirectory() as folder:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
        free.close()
        begun = time.perf_counter()
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
            ready = None
            for line in app.stdout or ():
                if "models ready" in line:
                    ready = time.perf_counter() - begun
                    break
            yield {"bench": "start", "page_answers_after_s": answering and round(answering, 2), "models_ready_after_s": ready and round(ready, 2)}
        finally:
            app.terminate()
            app.wait()


def store(seconds: float) -> Iterator[dict]:
    """Votes a second from 16 threads, each vote with its comparison in one transaction of its own."""

    def comparison() -> tuple[Comparison, Vote]:
        steps = tuple(Step(i, i, "word ", -1.0, -1.0, 1, 1, 0.4, 0.4) for i in range(24))
        traces = tuple(Trace(new_id(), c, Run("a prompt", BASE, ModelRef("lm")), steps, "word " * 24, "eos") for c in "AB")
        found = Comparison(new_id(), "a prompt", traces)
        return found, Vote(new_id(), found.id, "best", traces[0].id, tuple(t.id for t in traces))

    with tempfile.TemporaryDirectory() as folder, Store(Path(folder) / "rgtg.db") as found:
        waits: list[float] = []

        def vote() -> None:
            for _ in range(50):
                record = comparison()
                begun = time.perf_counter()
                found.add_comparison(*record)
                waits.append(time.perf_counter() - begun)

        threads = [threading.Thread(target=vote) for _ in range(16)]
        begun = time.perf_counter()
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        took = time.perf_counter() - begun
        waits.sort()
        yield {
            "bench": "store", "votes": len(waits), "votes_per_second": round(len(waits) / took),
            "p95_ms": round(1000 * waits[int(0.95 * len(waits))], 1), "worst_ms": round(1000 * waits[-1], 1), "stored": found.num_votes(),
        }  # fmt: skip
