"""The engine that runs shards in several processes of this machine.

Each loads the models once, computes with one thread and writes its shards itself; see `rgtg.system.processes`.
"""

from collections.abc import Callable, Sequence
from functools import partial

from rgtg.evaluation.cells import label
from rgtg.evaluation.engines.base import Listen, Load, Shard, ShardMaker, Work, longest_first
from rgtg.system.processes import Pool, num_processors


class ProcessPool:
    """Processes of this machine, one per processor where no number is given; `load` has to be importable by a new process."""

    def __init__(self, load: Load, workers: int = 0):
        self.load, self.workers = load, workers or num_processors()

    def run(self, shards: Sequence[Shard], maker: ShardMaker, listen: Listen) -> None:
        tasks = [shards[number] for number in longest_first(shards)]
        shares = dict[int, float]()

        def hear(number: int, share: float) -> None:
            shares[number] = share
            listen(sum(shares.values()))

        pool = Pool(partial(_begin, Work.of(maker, self.load)), self.workers, lambda shard: label(shard[0][1]))
        pool.run(tasks, hear, lambda number, _: hear(number, len(tasks[number])))


def _begin(work: Work) -> Callable[[Shard, Listen], None]:
    return work.begin().make
