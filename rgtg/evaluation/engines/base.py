"""What an engine is, how a shard is made, and the engine that makes them one after another in this process.

A shard is the unit of work of every engine: it is written whole or not at all, and may be made twice, lost or made in another order
without changing the results. Knows nothing of plans or tables.
"""

import logging
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

import torch

from rgtg.engine import Ended, Models, Standardised, generate
from rgtg.errors import BadSettings
from rgtg.evaluation.cells import Cell, cell_of, code_version, label
from rgtg.evaluation.shards import SweepFolder
from rgtg.guidance.methods import method
from rgtg.guidance.steps import AnswerProgress
from rgtg.records import ModelRef, Run, Step
from rgtg.rewards.base import RewardModel

logger = logging.getLogger(__name__)
AT_ONCE = 80  # answers that grow together; where one ends the next begins
Keyed = tuple[str, Run]
Shard = Sequence[Keyed]
Load = Callable[[], tuple[Models, RewardModel]]
Listen = Callable[[float], None]


@dataclass(frozen=True)
class ShardMaker:
    """Makes shards with loaded models and a judge, and writes them into the folder `out`; `code` is the version of the code."""

    models: Models
    judge: RewardModel
    out: Path
    code: str

    @property
    def refs(self) -> tuple[ModelRef, ...]:
        """All models that take part, with the hashes of their weights."""
        return refs_of(self.models, self.judge)

    def make(self, shard: Shard, listen: Listen = lambda share: None) -> None:
        """Make a shard and write it; `listen` is given the number of its answers done, with the shares of those in work."""
        started, cpu = time.perf_counter(), time.process_time()
        cells = list(self.cells(shard, listen))
        SweepFolder(self.out).write(cells, self.code, time.perf_counter() - started, time.process_time() - cpu)
        logger.info("%s: %d cells", label(shard[0][1]), len(shard))

    def cells(self, shard: Shard, listen: Listen = lambda share: None) -> Iterator[Cell]:
        """The cells of a shard, in order, none of them written."""
        steps: list[list[Step]] = [[] for _ in shard]
        ends: list[Ended | None] = [None] * len(shard)
        runs = dict(shard)
        progress = AnswerProgress([run for _, run in shard])
        for index, event in generate([run for _, run in shard], self.models, at_once=AT_ONCE):
            listen(progress.after(index, event))
            if isinstance(event, Step):
                steps[index].append(event)
            elif isinstance(event, Standardised):
                runs[shard[index][0]] = event.run
            elif isinstance(event, Ended):
                ends[index] = event
        for (key, run), steps_of_run, end in zip(runs.items(), steps, ends, strict=True):
            assert end is not None  # every column ends
            yield cell_of(key, run, steps_of_run, end, self.models, self.judge)


def refs_of(models: Models, judge: RewardModel) -> tuple[ModelRef, ...]:
    """The base LM, the reward models and the judge, each once, with the hashes of their weights."""
    refs = (models.base_lm.loaded.ref, *(model.ref for model in models.reward_models.values()), judge.ref)
    return tuple(dict.fromkeys(refs))


@dataclass(frozen=True)
class Work:
    """What a worker in another process is sent: how it loads the models, and what these and the code have to be."""

    load: Load
    out: Path
    refs: tuple[ModelRef, ...]
    code: str

    @classmethod
    def of(cls, maker: ShardMaker, load: Load) -> "Work":
        """The work of a maker, for processes that load its models by `load`."""
        return cls(load, maker.out, maker.refs, maker.code)

    def begin(self) -> ShardMaker:
        """The models, loaded in this process and computing with one thread. Raises BadSettings where weights or code have changed."""
        models, judge = self.load()
        torch.set_num_threads(1)  # the processors are shared by the workers
        maker = ShardMaker(replace(models, num_threads=1), judge, self.out, code_version())
        for was, now in ((self.refs, maker.refs), (self.code, maker.code)):
            if was != now:
                do = "Run the sweep again; with `--keep` if only the code is another one."
                raise BadSettings("Models or code have changed since the sweep began.", f"Found {now}, where it began with {was}.", do)
        return maker


class Engine(Protocol):
    """Runs shards, in any order and anywhere."""

    def run(self, shards: Sequence[Shard], maker: ShardMaker, listen: Listen) -> None:
        """Make every shard. `listen` is given the number of answers done, with the shares of those in work. What a shard raises ends it."""
        ...


class InProcess:
    """One shard after another in this process, in the order of the sweep."""

    def run(self, shards: Sequence[Shard], maker: ShardMaker, listen: Listen) -> None:
        done = 0
        for shard in shards:
            maker.make(shard, lambda share: listen(done + share))  # noqa: B023
            done += len(shard)


IN_PROCESS = InProcess()


def longest_first(shards: Sequence[Shard]) -> list[int]:
    """Numbers of the shards, those that take longest first, so that all workers end at nearly the same time."""
    return sorted(range(len(shards)), key=lambda number: -cost(shards[number]))


def cost(shard: Shard) -> int:
    """About what a shard takes, for the order alone: rows × tokens × models that read them."""
    return sum(method(run.method).make(run.params).num_rows * run.generation.max_new_tokens * (1 + len(run.guides)) for _, run in shard)
