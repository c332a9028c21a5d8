"""Statistics of base LM samples, by which the rewards of a standardised mix are measured: mean and standard deviation for every length.

The samples have random seeds of their own, so that a prompt has the same statistics under every seed, in every process. They are kept in memory
for each pair of base LM and reward model. Knows nothing of the engine that draws them, the screen or the database.
"""

import statistics
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any
from weakref import WeakKeyDictionary

from rgtg.config import GenerationConfig
from rgtg.errors import BadReward, RgtgError, Stopped
from rgtg.guidance.methods import BASE
from rgtg.guidance.noise import derived_seed
from rgtg.guidance.steps import Ended, Event
from rgtg.records import ModelRef, Run, Step
from rgtg.rewards.base import RewardModel
from rgtg.rewards.combine import SUM, needs_standards

SAMPLES = 32
SEED = 0x5A3D_0000_0001  # of the samples; a run's own seed is smaller or drawn by a person
MAX_KEPT = 64  # prompts of a pair of models
Statistics = tuple[tuple[float, ...], tuple[float, ...]]  # means and standard deviations, by length from 1
Draw = Callable[[Sequence[Run]], Iterable[tuple[int, Event]]]
Key = tuple[ModelRef, tuple[int, ...], str, GenerationConfig]

_kept: "WeakKeyDictionary[Any, WeakKeyDictionary[RewardModel, OrderedDict[Key, Statistics]]]" = WeakKeyDictionary()
_lock = threading.Lock()


@dataclass(frozen=True)
class Measured:
    """A run whose statistics are known, what they cost in forwards, and notes for its trace; or the `error` that kept them from being known."""

    run: Run
    lm_forwards: int = 0
    reward_forwards: int = 0
    notes: tuple[str, ...] = ()
    error: RgtgError | None = None


def measured(run: Run, base_lm: Any, reward_model: Callable[[str], RewardModel], draw: Draw) -> Measured:
    """The run with its `standards`, where it needs them; `draw` generates runs. Raises Stopped."""
    if not needs_standards(run):
        return Measured(run)
    models = {ref.name: reward_model(ref.name) for ref, _ in run.guides}
    key: Key = (run.base_lm, run.prompt_ids, run.prompt, run.generation)
    found = {name: known for name, model in models.items() if (known := _recall(base_lm, model, key))}
    missing = [ref for ref, _ in run.guides if ref.name not in found]
    cost, kept = (0, 0), f"standardised by {SAMPLES} base LM samples"
    if missing:
        try:
            drawn, cost = _drawn(sample_runs(run, missing), draw)
        except Stopped:
            raise
        except RgtgError as error:
            return Measured(run, error=error)
        for name, rewards in drawn.items():
            found[name] = statistics_of(rewards)
            _keep(base_lm, models[name], key, found[name])
    note = f"{kept}, which took {cost[0]} LM and {cost[1]} reward model forward passes" if missing else f"{kept} from before"
    return Measured(replace(run, standards=tuple((name, *found[name]) for name in models)), *cost, (note,))


def sample_runs(run: Run, observers: Sequence[ModelRef]) -> list[Run]:
    """Base LM runs of the same prompt and settings that these reward models read. A temperature of 0 would give one answer: it counts as 1."""
    generation = replace(run.generation, temperature=run.generation.temperature or 1.0)
    base = replace(run, method=BASE, params=(), guides=(), combine=SUM.key, observers=tuple(observers), generation=generation, forced_ids=())
    return [replace(base, seed=derived_seed(SEED, number)) for number in range(SAMPLES)]


def statistics_of(rewards: Sequence[Sequence[float]]) -> Statistics:
    """Mean and standard deviation of the rewards at every length, from those of each sample's prefixes; a finished sample keeps its last reward.

    Where all samples have the same reward, the deviation is that over all lengths; if that is 0 too, 1.

    >>> statistics_of([[1.0, 2.0], [3.0]])
    ((2.0, 2.5), (1.0, 0.5))
    """
    columns = [[row[min(position, len(row) - 1)] for row in rewards if row] for position in range(max(map(len, rewards)))]
    everywhere = statistics.pstdev([reward for row in rewards for reward in row])
    means, sds = [statistics.fmean(column) for column in columns], [statistics.pstdev(column) for column in columns]
    floors = [1e-6 * max(1.0, abs(mean)) for mean in means]  # less is rounding
    sds = [sd if sd > floor else everywhere if everywhere > floor else 1.0 for sd, floor in zip(sds, floors, strict=True)]
    return tuple(map(_rounded, means)), tuple(map(_rounded, sds))


def _rounded(number: float) -> float:
    """Six digits: what is stored is what was used."""
    return float(f"{number:.6g}")


def _drawn(runs: Sequence[Run], draw: Draw) -> tuple[Mapping[str, list[list[float]]], tuple[int, int]]:
    """Rewards of every prefix of each run, by reward model, and the forwards of the LM and of the reward models."""
    rewards: dict[str, list[list[float]]] = {ref.name: [[] for _ in runs] for ref in runs[0].observers}
    lm_forwards = reward_forwards = 0
    for number, event in draw(runs):
        if isinstance(event, Step):
            for name, reward in event.rewards:
                rewards[name][number].append(reward)
        elif isinstance(event, Ended):
            if event.stop_reason == "stopped":
                raise Stopped("It was stopped.")
            if event.error:
                raise BadReward("The samples that rewards are standardised by could not be scored.", event.error)
            lm_forwards, reward_forwards = max(lm_forwards, event.lm_forwards), max(reward_forwards, event.reward_forwards)
    return rewards, (lm_forwards, reward_forwards)


def _recall(base_lm: Any, model: RewardModel, key: Key) -> Statistics | None:
    with _lock:
        return _kept.get(base_lm, WeakKeyDictionary()).get(model, OrderedDict()).get(key)


def _keep(base_lm: Any, model: RewardModel, key: Key, known: Statistics) -> None:
    with _lock:
        of_model = _kept.setdefault(base_lm, WeakKeyDictionary()).setdefault(model, OrderedDict())
        of_model[key] = known
        while len(of_model) > MAX_KEPT:
            of_model.popitem(last=False)
