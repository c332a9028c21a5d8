"""Decoding speed, ours beside yardsticks and beside the bare forwards that this machine allows: `python -m rgtg bench decode`.

All of a case take turns, a few tokens each; a ratio is the median over turns, so that what else the machine does hits both sides.
Yardsticks give the same greedy tokens as ours, or the benchmark says so. Knows nothing of the screen.
"""

import itertools
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Protocol

import torch

from rgtg.engine import Models
from rgtg.errors import BadSettings
from rgtg.models.loading import pick_device
from rgtg.models.tuning import LM_TOKENS, quantise, tune_matrices
from rgtg.tools import bench_engine
from rgtg.tools.bench_engine import ONE_CALL, EngineRounds, load, prompt_ids, sparse_method
from rgtg.tools.bench_yardsticks import BareForwards, KFold, TransformersGenerate, Uncached

TURNS = 8  # the first reads the prompts and is not counted
MIN_TURNS = 3  # that are counted, where the time is up
CASES = {  # prompt tokens and columns
    "starter": ((64, 1), (64, 4), (256, 1), (256, 4)),
    "gpt2": ((64, 1), (64, 4), (256, 1), (256, 4)),
    "llama": ((64, 1), (64, 4)),
}
CPU_PARTS = ("tuned", "int8")
SPARSE = sparse_method()
PARTS = ("unguided", "guided", ONE_CALL, SPARSE, "generate", "k-fold", "uncached", *CPU_PARTS)
ENTROPIES = (0.0, 1.0, 2.0, 3.0, 4.0)  # nats, from which the sparse rule guides: all tokens, …, few
SPARSE_ROUNDS = 8  # a turn: its tokens come in bursts, each with the next one that is guided
REST = 16  # tokens that room is kept for, beyond those that are timed


def decode(
    seconds: float = 300.0,
    models: Sequence[str] = (),
    only: Sequence[str] = (),
    against: str | None = None,
    cpu_time: bool = False,
    device: str = "cpu",
    listen: Callable[[int, int], None] = lambda done, total: None,
) -> Iterator[dict]:
    """A line for each model, prompt length, number of columns, k and contestant; `models` and `only` choose from CASES and PARTS.

    With `against`, the folder of another checkout of rgtg, both engines take turns in processes of their own instead, on the CPU. With
    `cpu_time` seconds are those of the processor, which leave out what else the machine does; they say something where torch uses one
    thread. On a GPU a measurement ends when its work is done there. `listen` is given the number of turns taken and of all.
    """
    for name, known in [*((name, CASES) for name in models), *((name, PARTS) for name in only)]:
        if name not in known:
            raise BadSettings(f"`bench decode` has no `{name}`.", f"There are: {', '.join(known)}.")
    parts = [part for part in PARTS if not only or part in only]
    where = pick_device(device)
    if where.type != "cpu":
        parts = [part for part in parts if part not in CPU_PARTS]
    names = models or tuple(CASES)
    line = {"bench": "decode", "cpu_threads": torch.get_num_threads(), "torch": torch.__version__, "turns": TURNS - 1, "cpu_time": cpu_time}
    yield line | {"device": torch.cuda.get_device_name(where) if where.type == "cuda" else str(where)}
    bench_engine.clock = _clock(where, cpu_time)
    begun = time.perf_counter()
    taken, total = itertools.count(1), sum(num_turns(name, bool(against)) for name in names)
    listen(0, total)

    def turn() -> None:
        listen(next(taken), total)

    until = begun + seconds
    lines = _compare_checkouts(Path(against), names, turn) if against else _decode_models(names, parts, until, str(where), turn)
    for line in lines:
        yield line
        if time.perf_counter() - begun > seconds:
            yield {"bench": "decode", "stopped": "the time is up; name fewer --models, or parts with --only"}
            break
    yield {"bench": "decode", "seconds": round(time.perf_counter() - begun, 1)}


def _clock(device: torch.device, cpu_time: bool) -> Callable[[], float]:
    if device.type != "cuda":
        return time.process_time if cpu_time else time.perf_counter

    def after_the_device() -> float:
        torch.cuda.synchronize(device)
        return time.perf_counter()

    return after_the_device


def num_turns(name: str, checkouts: bool = False) -> int:
    """Turns that all cases of a model take."""
    if checkouts:
        return len(CASES[name]) * len(COMPARED) * (5 * TURNS if name == "starter" else TURNS)
    return len(CASES[name]) * (2 * TURNS if name == "starter" else TURNS)  # its rounds are short, and the machine's whims are not


def _decode_models(names: Sequence[str], parts: Sequence[str], until: float, device: str, turn: Callable[[], None]) -> Iterator[dict]:
    for name in names:
        models = load(name, device, ONE_CALL in parts)
        if models is None:
            yield {"model": name, "skipped": "data/starter is not there"}
            continue
        variants = _variants(name, models, [part for part in parts if part in CPU_PARTS])
        for prompt, columns in CASES[name]:
            yield from DecodeCase(name, models, prompt, columns, variants if prompt == 64 else {}).lines(parts, until, turn)


def _variants(name: str, models: Models, parts: Sequence[str]) -> dict[str, tuple[Models, dict]]:
    """The same weights, tuned and in int8, and what a line says of it; for a model that has enough of them."""
    if name == "starter":
        return {}
    made: dict[str, tuple[Models, dict]] = {}
    for part in parts:
        other = load(name)
        guide = other.reward_models["guide"]
        if part == "tuned":
            lm, reward = tune_matrices(other.base_lm.loaded.model, LM_TOKENS), tune_matrices(guide.loaded.model)
            made[part] = other, {"tuned_lm": str(lm), "tuned_reward_model": str(reward)}
            continue
        texts = [ids[1:] for ids in prompt_ids(models, 24, 4)]
        int8 = quantise(guide.loaded.model, guide.loaded.model.base_model, "guide", lambda: torch.tensor(guide.along([0], texts)))  # noqa: B023
        made[part] = Models(models.base_lm, {"guide": guide}), {"reward_error": round(int8.error, 4), "reward_spread": round(int8.spread, 4)}
    return made


class Rounds(Protocol):
    """Decodes some rounds: seconds a round; the tokens of every column so far."""

    @property
    def tokens(self) -> list[list[int]]: ...

    def advance(self, num_rounds: int) -> float: ...


class DecodeCase:
    """One model, prompt length and number of columns: all contestants, and what they took."""

    def __init__(self, name: str, models: Models, prompt: int, columns: int, variants: dict[str, tuple[Models, dict]]):
        self.name, self.models, self.prompt, self.columns, self.variants = name, models, prompt, columns, variants
        self.prompts = prompt_ids(models, prompt, columns)
        self.small = name == "starter"
        self.turns = num_turns(name) // len(CASES[name])
        self.times: dict[tuple[str, int], list[float]] = {}
        self.limits: dict[tuple[str, int], list[float]] = {}
        self.tokens: dict[tuple[str, int], list[list[int]]] = {}
        self.guided: dict[tuple[str, int], int] = {}  # tokens

    def lines(self, parts: Sequence[str], until: float = float("inf"), taken: Callable[[], None] = lambda: None) -> Iterator[dict]:
        """A line for each contestant. Once `until` is past, by `time.perf_counter`, the turns that were taken are enough, from three on;
        `taken` is called after each."""
        contestants = {key: (rounds, make()) for key, (rounds, make) in self._contestants(parts).items()}
        bare = {
            key: BareForwards(contestant.models, contestant.guide, 2 * self.prompt + self.turns * rounds + 2 * key[1] + REST)
            for key, (rounds, contestant) in contestants.items()
            if isinstance(contestant, _Engine)
        }
        for turn in range(self.turns):
            if turn > MIN_TURNS and time.perf_counter() > until:
                break
            for key, (rounds, contestant) in contestants.items():
                if key not in bare:
                    took = contestant.advance(rounds)
                else:
                    with bare[key] as recording:
                        took = contestant.advance(rounds)
                    if turn:
                        self.limits.setdefault(key, []).append(recording.again(rounds))
                if turn:
                    self.times.setdefault(key, []).append(took)
            taken()
        self.tokens = {key: contestant.tokens for key, (_, contestant) in contestants.items()}
        self.guided = {key: contestant.num_guided for key, (_, contestant) in contestants.items() if isinstance(contestant, _Engine)}
        if "uncached" in parts and self.columns == 1 and time.perf_counter() < until:
            self._run_uncached()
        for key in self.times:
            yield self._line(*key)

    def _contestants(self, parts: Sequence[str]) -> dict[tuple[str, int], tuple[int, Callable[[], Rounds]]]:
        """Rounds a turn, and how to make it, by name and k. Ours comes first wherever another is measured against it."""
        models, prompts = self.models, self.prompts
        few = 2
        contestants: dict[tuple[str, int], tuple[int, Callable[[], Rounds]]] = {}
        contestants["unguided", 10] = 4, lambda: _Engine(models, prompts, 10, False, self.turns * 4)
        if "generate" in parts:
            contestants["model.generate", 10] = 4, lambda: TransformersGenerate(models, prompts)
        for k in (10, 40):
            if set(parts) - {"unguided", "generate", ONE_CALL} and (k == 10 or {"guided", "k-fold", "uncached"} & set(parts)):
                contestants["guided", k] = few, lambda k=k: _Engine(models, prompts, k, True, self.turns * few)  # type: ignore[misc]
            if "k-fold" in parts and (self.small or (self.columns == 1 and (self.prompt == 256 or k == 10))):
                contestants["k-fold cached ARGS", k] = 2 if self.small else 1, lambda k=k: KFold(models, prompts, k)  # type: ignore[misc]
        n = self.turns * few
        if ONE_CALL in parts and self.prompt == 64 and ONE_CALL in models.reward_models:
            contestants[ONE_CALL, 10] = few, lambda: _Engine(models, prompts, 10, True, n, ONE_CALL)
        for entropy in ENTROPIES if SPARSE in parts and self.small and self.prompt == 64 and self.columns == 1 else ():
            contestants[f"{SPARSE}, entropy {entropy:g}", 10] = (
                SPARSE_ROUNDS,
                lambda h=entropy: _Engine(models, prompts, 10, True, self.turns * SPARSE_ROUNDS, "guide", h),  # type: ignore[misc]
            )
        for part, (other, _) in self.variants.items():
            contestants[f"guided, {part}", 10] = few, lambda other=other: _Engine(other, prompts, 10, True, self.turns * few)  # type: ignore[misc]
        return contestants

    def _run_uncached(self) -> None:
        """Every prefix from its first token: once is as much as one wants to wait for."""
        for k in (10,) if self.prompt == 256 or self.small else (10, 40):
            contestant = Uncached(self.models, self.prompts, k)
            self.times["uncached", k] = [contestant.advance(2 if self.small or (k == 10 and self.prompt == 64) else 1)]
            self.tokens["uncached", k] = contestant.tokens

    def _line(self, what: str, k: int) -> dict:
        times, ours = self.times[what, k], ("unguided" if what == "model.generate" else "guided", k)
        # of bursts a turn says little, and all turns what they cost
        average, ratio = (statistics.fmean, _ratio_of_sums) if what.startswith(SPARSE) else (statistics.median, _ratio)
        seconds = average(times)
        line: dict = {"model": self.name, "prompt": self.prompt, "k": k, "columns": self.columns, "what": what}
        line |= {"tokens_per_second": round(self.columns / seconds, 1), "ms_per_round": round(1000 * seconds, 2)}
        if 1 < len(times) < self.turns - 1:
            line["turns"] = len(times)
        if limits := self.limits.get((what, k)):
            of_limit = ratio(limits, times)
            line |= {"limit_ms": round(1000 * average(limits), 2), "of_limit": round(of_limit, 3), "overhead": round(1 - of_limit, 3)}
        if what == "guided":
            line["guided_over_unguided"] = round(_ratio(self.times["unguided", 10], times), 3)
            line["limit_guided_over_unguided"] = round(_ratio(self.limits["unguided", 10], self.limits[what, k]), 3)
        elif what == ONE_CALL:
            line["guided_over_unguided"] = round(_ratio(self.times["unguided", 10], times), 3)
        elif what.startswith(SPARSE):
            share = self.guided[what, k] / sum(map(len, self.tokens[what, k]))
            line |= {"share_guided": round(share, 3), "over_guided": round(ratio(self.times[ours], times), 3)}
        elif what == "model.generate":
            line |= {"ours_over_this": round(_ratio(times, self.times[ours]), 3), "same_tokens": self._share(what, k, ours) == 1}
        elif what.startswith("guided, "):
            line |= {"over_plain": round(_ratio(self.times[ours], times), 3), "share_of_same_tokens": round(self._share(what, k, ours), 3)}
            line |= self.variants[what.removeprefix("guided, ")][1]
        elif what != "unguided":
            line |= {"ours_over_this": round(_ratio(times, self.times[ours]), 2), "same_tokens": self._share(what, k, ours) == 1}
        return line

    def _share(self, what: str, k: int, ours: tuple[str, int]) -> float:
        """Of the tokens that both have."""
        pairs = [pair for mine, other in zip(self.tokens[ours], self.tokens[what, k], strict=True) for pair in zip(mine, other, strict=False)]
        return sum(a == b for a, b in pairs) / len(pairs)


class _Engine(EngineRounds):
    """Ours; knows its models and its guide, whose forwards are recorded."""

    def __init__(
        self,
        models: Models,
        prompts: Sequence[Sequence[int]],
        k: int,
        guided: bool,
        num_tokens: int,
        guide: str = "guide",
        entropy: float | None = None,
    ):
        super().__init__(models, prompts, k, guided, num_tokens + REST, guide, entropy)
        self.models, self.guide = models, guide if guided else None


def _ratio(over: Sequence[float], under: Sequence[float]) -> float:
    """Median over turns of one time over another; of the medians where one was measured once."""
    if len(over) != len(under):
        return statistics.median(over) / statistics.median(under)
    return statistics.median(a / b for a, b in zip(over, under, strict=True))


def _ratio_of_sums(over: Sequence[float], under: Sequence[float]) -> float:
    return sum(over) / sum(under)


# --- two checkouts ------------------------------------------------------------------------------------------------------


class Worker:
    """A process that decodes with the code of one checkout; at rest while the other works."""

    def __init__(self, checkout: Path):
        command = [sys.executable, "-P", bench_engine.__file__]  # -P: rgtg comes from the checkout, not from beside the script
        env = os.environ | {"PYTHONPATH": str(checkout), "PYTHONWARNINGS": "ignore"}
        self.process = subprocess.Popen(command, cwd=checkout, env=env, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def ask(self, request: dict) -> dict:
        assert self.process.stdin is not None and self.process.stdout is not None
        self.process.stdin.write(json.dumps(request) + "\n")
        self.process.stdin.flush()
        answer = self.process.stdout.readline()
        if not answer:
            raise BadSettings("The other checkout could not decode.", f"Its process ended with {self.process.wait()}.", "See above for why.")
        return json.loads(answer)

    def close(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.process.wait()


COMPARED = (("unguided", 10), ("guided", 10), ("guided", 40))  # with k


def _compare_checkouts(other: Path, names: Sequence[str], taken: Callable[[], None]) -> Iterator[dict]:
    from rgtg.config import ROOT

    if not (other / "rgtg" / "engine.py").is_file():
        raise BadSettings(f"`{other}` is no checkout of rgtg.", "There is no rgtg/engine.py in it.")
    ours, theirs = Worker(ROOT), Worker(other.absolute())
    try:
        for name in names:
            turns = num_turns(name, True) // (len(CASES[name]) * len(COMPARED))
            for prompt, columns in CASES[name]:
                for what, k in COMPARED:
                    case = {"models": name, "prompt": prompt, "columns": columns, "k": k, "guided": what == "guided"}
                    line = {"model": name, "prompt": prompt, "k": k, "columns": columns, "what": what}
                    yield line | _take_turns(ours, theirs, case, turns, 2, taken)
    finally:
        ours.close()
        theirs.close()


def _take_turns(ours: Worker, theirs: Worker, case: dict, turns: int, rounds: int, taken: Callable[[], None]) -> dict:
    """Both decode the case a few rounds at a time, now one first and now the other; the CPU time says what a busy machine hides."""
    for worker in (ours, theirs):
        worker.ask(case | {"num_tokens": turns * rounds + REST})
    answers: dict[Worker, list[dict]] = {ours: [], theirs: []}
    for turn in range(turns):
        for worker in (ours, theirs) if turn % 2 else (theirs, ours):
            answers[worker].append(worker.ask({"rounds": rounds}))
        taken()
    seconds, cpu = ({worker: [answer[key] for answer in answers[worker][1:]] for worker in answers} for key in ("seconds", "cpu"))
    return {
        "ms_per_round": round(1000 * statistics.median(seconds[ours]), 2), "their_ms": round(1000 * statistics.median(seconds[theirs]), 2),
        "ours_over_theirs": round(_ratio(seconds[theirs], seconds[ours]), 3), "in_cpu_time": round(_ratio(cpu[theirs], cpu[ours]), 3),
        "same_tokens": answers[ours][-1]["tokens"] == answers[theirs][-1]["tokens"],
    }  # fmt: skip
