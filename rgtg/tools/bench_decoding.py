"""Benchmark of decoding speed against baselines and against bare forwards on the same machine: `python -m rgtg bench decode`.

The contestants of a case take turns, a few tokens each; a ratio is the median over turns, so that other load affects both sides.
The benchmark checks that baselines select the same greedy tokens. Knows nothing of the screen.
"""

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
from rgtg.tools.bench_engine import EngineRounds, load, prompt_ids
from rgtg.tools.bench_yardsticks import BareForwards, KFold, TransformersGenerate, Uncached

TURNS = 8  # the first encodes the prompts and is not counted
MIN_TURNS = 3  # counted turns, at least, where the time is up
CASES = {  # prompt tokens and columns
    "starter": ((64, 1), (64, 4), (256, 1), (256, 4)),
    "gpt2": ((64, 1), (64, 4), (256, 1), (256, 4)),
    "llama": ((64, 1), (64, 4)),
}
CPU_PARTS = ("tuned", "int8")
PARTS = ("unguided", "guided", "generate", "k-fold", "uncached", *CPU_PARTS)
REST = 16  # spare tokens in the cache, beyond those that are timed


def decode(
    seconds: float = 300.0,
    models: Sequence[str] = (),
    only: Sequence[str] = (),
    against: str | None = None,
    cpu_time: bool = False,
    device: str = "cpu",
) -> Iterator[dict]:
    """One line for each model, prompt length, number of columns, k and contestant; `models` and `only` choose from CASES and PARTS.

    With `against`, the folder of another checkout of rgtg, both engines take turns in separate processes instead, on the CPU. With
    `cpu_time` seconds are processor time, which excludes other load; this is meaningful where torch uses one thread. On a GPU a
    measurement includes synchronisation.
    """
    for name, known in [*((name, CASES) for name in models), *((name, PARTS) for name in only)]:
        if name not in known:
            raise BadSettings(f"`bench decode` has no `{name}`.", f"There are: {', '.join(known)}.")
    parts = [part for part in PARTS if not only or part in only]
    torch_device = pick_device(device)
    if torch_device.type != "cpu":
        parts = [part for part in parts if part not in CPU_PARTS]
    names = models or tuple(CASES)
    line = {"bench": "decode", "cpu_threads": torch.get_num_threads(), "torch": torch.__version__, "turns": TURNS - 1, "cpu_time": cpu_time}
    yield line | {"device": torch.cuda.get_device_name(torch_device) if torch_device.type == "cuda" else str(torch_device)}
    bench_engine.clock = _clock(torch_device, cpu_time)
    begun = time.perf_counter()
    lines = _compare_checkouts(Path(against), names) if against else _decode_models(names, parts, begun + seconds, str(torch_device))
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


def _decode_models(names: Sequence[str], parts: Sequence[str], until: float, device: str) -> Iterator[dict]:
    for name in names:
        models = load(name, device)
        if models is None:
            yield {"model": name, "skipped": "data/starter is not there"}
            continue
        variants = _variants(name, models, [part for part in parts if part in CPU_PARTS])
        for prompt, columns in CASES[name]:
            yield from DecodeCase(name, models, prompt, columns, variants if prompt == 64 else {}).lines(parts, until)


def _variants(name: str, models: Models, parts: Sequence[str]) -> dict[str, tuple[Models, dict]]:
    """The same weights, tuned and in int8, each with further figures of its line; for models that are large enough."""
    if name == "starter":
        return {}
    variants: dict[str, tuple[Models, dict]] = {}
    for part in parts:
        other = load(name)
        guide = other.reward_models["guide"]
        if part == "tuned":
            lm, reward = tune_matrices(other.base_lm.loaded.model, LM_TOKENS), tune_matrices(guide.loaded.model)
            variants[part] = other, {"tuned_lm": str(lm), "tuned_reward_model": str(reward)}
            continue
        texts = [ids[1:] for ids in prompt_ids(models, 24, 4)]
        int8 = quantise(guide.loaded.model, guide.loaded.model.base_model, "guide", lambda: torch.tensor(guide.along([0], texts)))  # noqa: B023
        variants[part] = Models(models.base_lm, {"guide": guide}), {"reward_error": round(int8.error, 4), "reward_spread": round(int8.spread, 4)}
    return variants


class Rounds(Protocol):
    """A contestant: `advance` decodes rounds and returns seconds per round; `tokens` are those of every column so far."""

    @property
    def tokens(self) -> list[list[int]]: ...

    def advance(self, num_rounds: int) -> float: ...


class DecodeCase:
    """One model, prompt length and number of columns, with all contestants and their times."""

    def __init__(self, name: str, models: Models, prompt: int, columns: int, variants: dict[str, tuple[Models, dict]]):
        self.name, self.models, self.prompt, self.columns, self.variants = name, models, prompt, columns, variants
        self.prompts = prompt_ids(models, prompt, columns)
        self.small = name == "starter"
        self.turns = 2 * TURNS if self.small else TURNS  # its rounds are short, and so noisier
        self.times: dict[tuple[str, int], list[float]] = {}
        self.limits: dict[tuple[str, int], list[float]] = {}
        self.tokens: dict[tuple[str, int], list[list[int]]] = {}

    def lines(self, parts: Sequence[str], until: float = float("inf")) -> Iterator[dict]:
        """Run all turns and yield a line per contestant; past `until`, by `time.perf_counter`, three counted turns are enough."""
        contestants = {key: (rounds, make()) for key, (rounds, make) in self._contestants(parts).items()}
        bare = {
            key: BareForwards(contestant.models, key[0] != "unguided", self.prompt + self.turns * rounds + 2 * key[1] + REST)
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
        self.tokens = {key: contestant.tokens for key, (_, contestant) in contestants.items()}
        if "uncached" in parts and self.columns == 1 and time.perf_counter() < until:
            self._run_uncached()
        for key in self.times:
            yield self._line(*key)

    def _contestants(self, parts: Sequence[str]) -> dict[tuple[str, int], tuple[int, Callable[[], Rounds]]]:
        """Rounds per turn and a constructor, by name and k. The engine comes before the baselines that are compared with it."""
        models, prompts = self.models, self.prompts
        few = 2
        contestants: dict[tuple[str, int], tuple[int, Callable[[], Rounds]]] = {}
        contestants["unguided", 10] = 4, lambda: _Engine(models, prompts, 10, False, self.turns * 4)
        if "generate" in parts:
            contestants["model.generate", 10] = 4, lambda: TransformersGenerate(models, prompts)
        for k in (10, 40):
            if set(parts) - {"unguided", "generate"} and (k == 10 or {"guided", "k-fold", "uncached"} & set(parts)):
                contestants["guided", k] = few, lambda k=k: _Engine(models, prompts, k, True, self.turns * few)  # type: ignore[misc]
            if "k-fold" in parts and (self.small or (self.columns == 1 and (self.prompt == 256 or k == 10))):
                contestants["k-fold cached ARGS", k] = 2 if self.small else 1, lambda k=k: KFold(models, prompts, k)  # type: ignore[misc]
        for part, (other, _) in self.variants.items():
            contestants[f"guided, {part}", 10] = few, lambda other=other: _Engine(other, prompts, 10, True, self.turns * few)  # type: ignore[misc]
        return contestants

    def _run_uncached(self) -> None:
        """Run the baseline that computes every prefix from its first token, once, as it is slow."""
        for k in (10,) if self.prompt == 256 or self.small else (10, 40):
            contestant = Uncached(self.models, self.prompts, k)
            self.times["uncached", k] = [contestant.advance(2 if self.small or (k == 10 and self.prompt == 64) else 1)]
            self.tokens["uncached", k] = contestant.tokens

    def _line(self, what: str, k: int) -> dict:
        times, own_key = self.times[what, k], ("unguided" if what == "model.generate" else "guided", k)
        seconds = statistics.median(times)
        line: dict = {"model": self.name, "prompt": self.prompt, "k": k, "columns": self.columns, "what": what}
        line |= {"tokens_per_second": round(self.columns / seconds, 1), "ms_per_round": round(1000 * seconds, 2)}
        if 1 < len(times) < self.turns - 1:
            line["turns"] = len(times)
        if limits := self.limits.get((what, k)):
            of_limit = _ratio(limits, times)
            line |= {"limit_ms": round(1000 * statistics.median(limits), 2), "of_limit": round(of_limit, 3), "overhead": round(1 - of_limit, 3)}
        if what == "guided":
            line["guided_over_unguided"] = round(_ratio(self.times["unguided", 10], times), 3)
            line["limit_guided_over_unguided"] = round(_ratio(self.limits["unguided", 10], self.limits[what, k]), 3)
        elif what == "model.generate":
            line |= {"ours_over_this": round(_ratio(times, self.times[own_key]), 3), "same_tokens": self._share(what, k, own_key) == 1}
        elif what.startswith("guided, "):
            line |= {"over_plain": round(_ratio(self.times[own_key], times), 3), "share_of_same_tokens": round(self._share(what, k, own_key), 3)}
            line |= self.variants[what.removeprefix("guided, ")][1]
        elif what != "unguided":
            line |= {"ours_over_this": round(_ratio(times, self.times[own_key]), 2), "same_tokens": self._share(what, k, own_key) == 1}
        return line

    def _share(self, what: str, k: int, own_key: tuple[str, int]) -> float:
        """Share of equal tokens, of those that both contestants have."""
        pairs = [pair for own, other in zip(self.tokens[own_key], self.tokens[what, k], strict=True) for pair in zip(own, other, strict=False)]
        return sum(a == b for a, b in pairs) / len(pairs)


class _Engine(EngineRounds):
    """The engine of this checkout, with its models, whose forwards are recorded."""

    def __init__(self, models: Models, prompts: Sequence[Sequence[int]], k: int, guided: bool, num_tokens: int):
        super().__init__(models, prompts, k, guided, num_tokens + REST)
        self.models = models


def _ratio(over: Sequence[float], under: Sequence[float]) -> float:
    """Median over turns of the ratio of two times; the ratio of medians where the numbers of turns differ."""
    if len(over) != len(under):
        return statistics.median(over) / statistics.median(under)
    return statistics.median(a / b for a, b in zip(over, under, strict=True))


# --- two checkouts ------------------------------------------------------------------------------------------------------


class Worker:
    """A process that decodes with the code of one checkout, and is idle while the other works."""

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


def _compare_checkouts(other: Path, names: Sequence[str]) -> Iterator[dict]:
    from rgtg.config import ROOT

    if not (other / "rgtg" / "engine.py").is_file():
        raise BadSettings(f"`{other}` is no checkout of rgtg.", "There is no rgtg/engine.py in it.")
    own, other_worker = Worker(ROOT), Worker(other.absolute())
    try:
        for name in names:
            for prompt, columns in CASES[name]:
                for what, k in (("unguided", 10), ("guided", 10), ("guided", 40)):
                    case = {"models": name, "prompt": prompt, "columns": columns, "k": k, "guided": what == "guided"}
                    line = {"model": name, "prompt": prompt, "k": k, "columns": columns, "what": what}
                    yield line | _take_turns(own, other_worker, case, 5 * TURNS if name == "starter" else TURNS, 2)
    finally:
        own.close()
        other_worker.close()


def _take_turns(own: Worker, other: Worker, case: dict, turns: int, rounds: int) -> dict:
    """Both workers decode the case a few rounds at a time in alternating order; CPU time is reported too, as other load does not affect it."""
    for worker in (own, other):
        worker.ask(case | {"num_tokens": turns * rounds + REST})
    answers: dict[Worker, list[dict]] = {own: [], other: []}
    for turn in range(turns):
        for worker in (own, other) if turn % 2 else (other, own):
            answers[worker].append(worker.ask({"rounds": rounds}))
    seconds, cpu = ({worker: [answer[key] for answer in answers[worker][1:]] for worker in answers} for key in ("seconds", "cpu"))
    return {
        "ms_per_round": round(1000 * statistics.median(seconds[own]), 2), "their_ms": round(1000 * statistics.median(seconds[other]), 2),
        "ours_over_theirs": round(_ratio(seconds[other], seconds[own]), 3), "in_cpu_time": round(_ratio(cpu[other], cpu[own]), 3),
        "same_tokens": answers[own][-1]["tokens"] == answers[other][-1]["tokens"],
    }  # fmt: skip
