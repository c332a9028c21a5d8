"""A database of many comparisons, and how long its pages take: `python -m tests.many_comparisons FILE [--number 100000]`.

Answers have steps with candidates, as generated ones; prompts are the openings that ship, answers are words of them, drawn by rank. A file that
is there already is filled up.
"""

import argparse
import json
import random
import sqlite3
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from functools import partial
from itertools import islice
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

from store_records import make_step, make_trace  # noqa: E402

from rgtg.records import Comparison, Vote  # noqa: E402
from rgtg.store import queries, rows  # noqa: E402
from rgtg.store.export import export_preferences  # noqa: E402
from rgtg.store.history import HistoryFilter  # noqa: E402
from rgtg.store.store import Store  # noqa: E402

METHODS = ("base", "pargs", "args", "best-of-n", "cards")
AT_ONCE = 500
SHARE_VOTED = 0.1


def comparisons(number: int, num_tokens: int, raters: list[str]) -> Iterator[tuple[Comparison, Vote | None]]:
    """`number` comparisons of two answers; a tenth has a vote, of raters in turn."""
    draw = random.Random(17)
    openings = (ROOT / "data" / "prompts" / "openings.txt").read_text(encoding="utf-8").splitlines()
    words = sorted({word for opening in openings for word in opening.split()})
    words += [f"{a}{b}" for a in words[:120] for b in words[:40]]  # rare ones
    weights = [1 / (rank + 1) for rank in range(len(words))]
    steps = rows.StoredSteps(rows.steps_json([make_step(i, 10 + i) for i in range(num_tokens)]))
    run = make_trace("x", "A").run
    for i in range(number):
        prompt = f"{draw.choice(openings)} {draw.choices(words, weights)[0]}"
        traces = []
        for column in "AB":
            response = " ".join(draw.choices(words, weights, k=num_tokens))
            changed = make_trace(
                f"c{i}-{column}", column, response, run=type(run)(**vars(run) | {"prompt": prompt, "method": draw.choice(METHODS), "seed": i})
            )
            traces.append(type(changed)(**vars(changed) | {"steps": steps}))
        rater = raters[i % len(raters)]
        at = f"2026-{1 + i * 11 // number:02}-{1 + i % 28:02}T10:00:00.000+00:00"
        comparison = Comparison(f"c{i}", prompt, tuple(traces), rater_id=rater, created_at=at)
        best = draw.choice("AB")
        vote = Vote(f"v{i}", f"c{i}", "best", f"c{i}-{best}", (f"c{i}-A", f"c{i}-B"), rater, revision=1, created_at=at)
        yield comparison, vote if draw.random() < SHARE_VOTED else None


def make(path: Path, number: int, num_tokens: int = 20) -> None:
    """Write the database; a few hundred comparisons in each transaction."""
    with Store(path) as store:
        raters = [store.rater("anonymous", f"rater {i}") for i in range(5)]
        waiting: list[tuple[Comparison, Vote | None]] = []
        for item in islice(comparisons(number, num_tokens, raters), store.num_comparisons(), None):  # goes on after a stop
            waiting.append(item)
            if len(waiting) == AT_ONCE:
                store._write(lambda conn: _insert(conn, waiting))
                waiting.clear()
        store._write(lambda conn: _insert(conn, waiting))


def _insert(conn: sqlite3.Connection, items: list[tuple[Comparison, Vote | None]]) -> None:
    conn.execute("PRAGMA defer_foreign_keys=ON")
    for comparison, vote in items:
        row = rows.comparison_row(comparison, comparison.created_at)
        for trace in comparison.traces:
            queries.insert(conn, "traces", rows.trace_row(trace, comparison.id, row["created_at"]))
        queries.insert(conn, "comparisons", row)
        if vote:
            queries.insert(conn, "votes", rows.vote_row(vote, row["created_at"]))


def timings(work: Callable[[], object], times: int = 30) -> tuple[float, float]:
    """Median and 95th percentile in milliseconds."""
    taken = []
    for _ in range(times):
        start = time.perf_counter()
        work()
        taken.append(1000 * (time.perf_counter() - start))
    return statistics.median(taken), sorted(taken)[int(0.95 * times) - 1]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("file", type=Path)
    parser.add_argument("--number", type=int, default=100_000)
    options = parser.parse_args()
    start = time.perf_counter()
    make(options.file, options.number)
    if time.perf_counter() - start > 5:
        print(json.dumps({"made": options.number, "seconds": round(time.perf_counter() - start, 1), "MB": options.file.stat().st_size // 2**20}))
    with Store(options.file) as store:
        number, rater = store.num_comparisons(), store.rater("anonymous", "rater 1")
        pages = {
            "the newest": (HistoryFilter(), None),
            "a page in the middle": (HistoryFilter(), f"c{number // 2}"),
            "the last page": (HistoryFilter(), "c40"),
            "a frequent word": (HistoryFilter(search="the"), None),
            "two frequent words": (HistoryFilter(search="the was"), None),
            "the beginning of a word": (HistoryFilter(search="s"), None),
            "a phrase": (HistoryFilter(search='"food was"'), None),
            "a word that is nowhere": (HistoryFilter(search="nowhere"), None),
            "a rare word": (HistoryFilter(search="thewas"), None),
            "a method": (HistoryFilter(method="cards"), None),
            "a model nobody used": (HistoryFilter(model="other"), None),
            "voted on": (HistoryFilter(voted=True), None),
            "voted on by a rater": (HistoryFilter(voted=True, rater=rater), None),
            "not voted on": (HistoryFilter(voted=False), f"c{number // 2}"),
            "made by a rater": (HistoryFilter(made_by=rater), None),
            "an old month": (HistoryFilter(since="2026-01", until="2026-01"), None),
            "a method, a word, a rater's votes": (HistoryFilter(search="the", method="cards", voted=True, rater=rater), None),
        }
        for name, (wanted, before) in pages.items():
            count = len(store.history(wanted, 50, before))
            median, p95 = timings(partial(store.history, wanted, 50, before))
            print(json.dumps({"page": name, "entries": count, "median_ms": round(median, 1), "p95_ms": round(p95, 1)}), flush=True)
        print(json.dumps({"page": "names to filter by", "median_ms": round(timings(store.facet_names)[0], 1)}))
        start, cpu = time.perf_counter(), time.process_time()
        report = export_preferences(store, options.file.with_suffix(".jsonl"))
        taken = {"seconds": round(time.perf_counter() - start, 2), "cpu_seconds": round(time.process_time() - cpu, 2)}
        print(json.dumps({"export_pairs": report.num_pairs} | taken))


if __name__ == "__main__":
    main()
