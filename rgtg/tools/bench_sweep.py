"""Speed of sweeps: the same answers one by one, in batches that wait for their longest answer, and in one batch that is refilled; and a
sweep of 900 cells one by one, in one process and in a pool of them: `python -m rgtg bench sweep`.

The batches take turns on the same answers to prompts of different lengths, on the starter models; a ratio is the median over turns. Of the
engines each runs once, with the judge's reward of every answer and all files, a pool with the start of its processes.
"""

import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from rgtg.config import PROMPTS_DIR, STARTER_DIR, GenerationConfig
from rgtg.engine import Models, generate, make_run
from rgtg.evaluation.cells import Cell, planned
from rgtg.evaluation.engines.base import IN_PROCESS, Engine, ShardMaker
from rgtg.evaluation.engines.pool import ProcessPool
from rgtg.evaluation.sweep import AT_ONCE, SHARD, run_sweep
from rgtg.guidance.methods import BASE, LINE_UP, METHODS
from rgtg.records import ColumnSpec
from rgtg.tools.bench_engine import load

if TYPE_CHECKING:
    from rgtg.records import Run
    from rgtg.rewards.base import RewardModel

TURNS, TOKENS = 5, 40
WAYS = ("one by one", f"batches of {AT_ONCE}", f"refilled, {AT_ONCE} at once")
LENGTHS = (3, 12, 40)  # words of the prompts, in turn
CELLS = 900  # of the sweep that the engines run
PARTS, JUDGE = ("ways", "engines"), "judge"


def bench(
    seconds: float = 300.0,
    only: Sequence[str] = (),
    cpu_time: bool = False,
    workers: int = 2,
    listen: Callable[[int, int], None] = lambda done, total: None,
) -> Iterator[dict]:
    """The parts of PARTS, or those named in `only`; processor time is for `ways` alone, as the engines are to use several processors."""
    if not only or "ways" in only:
        yield from sweep(seconds, cpu_time, listen)
    if not only or "engines" in only:
        yield from engines({"process": IN_PROCESS, f"pool of {workers}": ProcessPool(starter, workers)}, listen=listen)


def starter() -> "tuple[Models, RewardModel]":
    """The starter models, computing with one thread, and the judge."""
    from rgtg.rewards.kinds import load_reward_model

    return replace(load("starter", ends=True), num_threads=1), load_reward_model(str(STARTER_DIR / JUDGE), JUDGE, "cpu")


def engines(
    others: Mapping[str, Engine],
    load: "Callable[[], tuple[Models, RewardModel]]" = starter,
    num_cells: int = CELLS,
    listen: Callable[[int, int], None] = lambda done, total: None,
) -> Iterator[dict]:
    """A line for one by one and one for each engine: seconds for the sweep, how many times as fast as one by one, and whether the tokens are
    the same; `same_bytes` compares the results with those of the first engine."""
    if load is starter and not (STARTER_DIR / JUDGE).is_dir():
        yield {"bench": "sweep engines", "skipped": "data/starter is not there"}
        return
    models, judge = load()
    columns = [ColumnSpec(key, METHODS[key].line_up, "guide" if METHODS[key].uses_reward else None) for key in (BASE, LINE_UP[-1])]
    prompts, config = _prompts(num_cells // len(columns)), GenerationConfig(max_new_tokens=TOKENS)
    runs = [pair for column in columns for pair in planned(models, column, prompts, config, [0], judge)]
    with tempfile.TemporaryDirectory() as folder:
        began = time.perf_counter()
        maker = ShardMaker(models, judge, Path(folder) / "alone", "")
        alone = list[Cell]()
        for done, pair in enumerate(runs):
            alone += maker.cells([pair])
            listen(done + 1, len(runs))
        line = {"bench": "sweep engines", "cells": len(runs), "prompts": len(prompts)}
        first_took, first_bytes = time.perf_counter() - began, b""
        yield line | {"way": WAYS[0], "seconds": round(first_took, 1), "over_one_by_one": 1.0}
        for name, engine in others.items():
            out, began = Path(folder) / name, time.perf_counter()
            cells = run_sweep(models, columns, prompts, config, [0], judge, out, engine=engine, listen=partial(_round, listen))
            took = time.perf_counter() - began
            results = (out / "results.jsonl").read_bytes()
            first_bytes = first_bytes or results
            same = [cell.token_ids for cell in cells] == [cell.token_ids for cell in alone]
            line |= {"way": name, "seconds": round(took, 1), "over_one_by_one": round(first_took / took, 2)}
            yield line | {"same_tokens": same, "same_bytes": results == first_bytes}


def _round(listen: Callable[[int, int], None], done: float, total: int) -> None:
    listen(int(done), total)


def sweep(
    seconds: float = 300.0,
    cpu_time: bool = False,
    listen: Callable[[int, int], None] = lambda done, total: None,
    models: Models | None = None,
    num_answers: int = SHARD,
) -> Iterator[dict]:
    """A line for each method and way, with answers and tokens a second and how many times as fast as one by one; `same_tokens` whether all
    ways gave the same. `models` are those of the starter by default."""
    models = models or load("starter", ends=True)
    if models is None:
        yield {"bench": "sweep", "skipped": "data/starter is not there"}
        return
    begun, clock = time.perf_counter(), time.process_time if cpu_time else time.perf_counter
    methods = (BASE, LINE_UP[-1])
    total, taken = len(methods) * TURNS * len(WAYS), 0
    listen(0, total)
    for key in methods:
        runs = _runs(models, key, num_answers)
        times: dict[str, list[float]] = {way: [] for way in WAYS}
        tokens: dict[str, list[list[int]]] = {}
        for turn in range(TURNS):
            for way in WAYS:
                started = clock()
                tokens[way] = _answers(runs, models, way)
                times[way].append(clock() - started)
                taken += 1
                listen(taken, total)
            if turn and time.perf_counter() - begun > seconds:
                break
        num_tokens = sum(map(len, tokens[WAYS[0]]))
        for way in WAYS:
            took = statistics.median(times[way])
            line = {"bench": "sweep", "method": key, "way": way, "answers": len(runs), "prompt_tokens": _range(runs), "cpu_time": cpu_time}
            line |= {"answers_per_second": round(len(runs) / took, 1), "tokens_per_second": round(num_tokens / took)}
            ratio = statistics.median(alone / own for alone, own in zip(times[WAYS[0]], times[way], strict=True))
            yield line | {"over_one_by_one": round(ratio, 2), "same_tokens": tokens[way] == tokens[WAYS[0]]}


def _runs(models: Models, key: str, number: int) -> "list[Run]":
    """Answers to the prompts, each with a random seed of its own."""
    prompts = _prompts(number)
    guide = "guide" if METHODS[key].uses_reward else None
    config = GenerationConfig(max_new_tokens=TOKENS)
    return [make_run(prompt, key, models, METHODS[key].line_up, guide, (), config, seed) for seed, prompt in enumerate(prompts)]


def _prompts(number: int) -> list[str]:
    """The openings that ship, cut or repeated to the lengths in turn."""
    openings = [line.split() for line in (PROMPTS_DIR / "openings.txt").read_text(encoding="utf-8").splitlines() if line.strip()]
    return [" ".join((openings[i % len(openings)] * LENGTHS[-1])[: LENGTHS[i % len(LENGTHS)]]) for i in range(number)]


def _answers(runs: "Sequence[Run]", models: Models, way: str) -> list[list[int]]:
    """Token ids of every answer."""
    one_by_one, batches, refilled = WAYS
    size = {one_by_one: 1, batches: AT_ONCE, refilled: len(runs)}[way]
    tokens: list[list[int]] = []
    for start in range(0, len(runs), size):
        group = runs[start : start + size]
        of_group: list[list[int]] = [[] for _ in group]
        for column, event in generate(group, models, at_once=AT_ONCE if way == refilled else None):
            if hasattr(event, "token_id"):
                of_group[column].append(event.token_id)
        tokens += of_group
    return tokens


def _range(runs: "Sequence[Run]") -> str:
    lengths = [len(run.prompt_ids) for run in runs]
    return f"{min(lengths)}–{max(lengths)}"
