"""Speed of sweeps: the same answers one by one, in batches that wait for their longest answer, and in one batch that is refilled:
`python -m rgtg bench sweep`.

All ways take turns on the same answers to prompts of different lengths, on the starter models; a ratio is the median over turns. Knows
nothing of shards or tables.
"""

import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING

from rgtg.config import PROMPTS_DIR, GenerationConfig
from rgtg.engine import Models, generate, make_run
from rgtg.evaluation.sweep import AT_ONCE, SHARD
from rgtg.guidance.methods import BASE, LINE_UP, METHODS
from rgtg.tools.bench_engine import load

if TYPE_CHECKING:
    from rgtg.records import Run

TURNS, TOKENS = 5, 40
WAYS = ("one by one", f"batches of {AT_ONCE}", f"refilled, {AT_ONCE} at once")
LENGTHS = (3, 12, 40)  # words of the prompts, in turn


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
    """Answers to the openings that ship, cut or repeated to the lengths in turn, each with a random seed of its own."""
    openings = [line.split() for line in (PROMPTS_DIR / "openings.txt").read_text(encoding="utf-8").splitlines() if line.strip()]
    prompts = [" ".join((openings[i % len(openings)] * LENGTHS[-1])[: LENGTHS[i % len(LENGTHS)]]) for i in range(number)]
    guide = "guide" if METHODS[key].uses_reward else None
    config = GenerationConfig(max_new_tokens=TOKENS)
    return [make_run(prompt, key, models, METHODS[key].line_up, guide, (), config, seed) for seed, prompt in enumerate(prompts)]


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
