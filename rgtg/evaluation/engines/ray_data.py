"""The engine that runs shards as Ray Data, with a pool of actors on this machine or on a cluster.

Each actor loads the models once, on a GPU of its own where there are GPUs, and writes its shards itself: on a cluster the folder of the
sweep has to be on a disk that all machines share. Ray restarts an actor that dies and gives its shard to another. Ray is an extra,
imported when this engine runs.
"""

import importlib.util
import os
from collections import Counter
from collections.abc import Sequence
from typing import Any

from rgtg.errors import BadSettings, RgtgError
from rgtg.evaluation.cells import label
from rgtg.evaluation.engines.base import Listen, Load, Shard, ShardMaker, Work, longest_first
from rgtg.system.processes import MAX_TRIES, num_processors

QUIET = {"RAY_USAGE_STATS_ENABLED": "0", "RAY_DEDUP_LOGS": "0", "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0"}  # nothing is sent to Ray's makers


def check_installed() -> None:
    """Raise BadSettings where Ray Data is not installed."""
    if importlib.util.find_spec("ray") is None or importlib.util.find_spec("ray.data") is None:
        do = "Run `pip install -r requirements-ray.txt`, or choose `--engine pool`."
        raise BadSettings("The engine `ray` needs Ray Data.", "It is not installed.", do, "engine")


class RayData:
    """Actors of Ray, `workers` of them: one per GPU, or else per processor, where no number is given.

    A Ray that runs already, in this process or at RAY_ADDRESS, is used and left running; else one is started for the sweep.
    """

    def __init__(self, load: Load, workers: int = 0):
        check_installed()
        self.load, self.workers = load, workers

    def run(self, shards: Sequence[Shard], maker: ShardMaker, listen: Listen) -> None:
        if not shards:
            return
        import ray

        own = not ray.is_initialized()
        if own:
            self._start(ray)
        try:
            self._run(ray, shards, maker, listen)
        finally:
            if own:
                ray.shutdown()

    def _start(self, ray: Any) -> None:
        for name, value in QUIET.items():
            os.environ.setdefault(name, value)
        local = {} if os.environ.get("RAY_ADDRESS") else {"num_cpus": self.workers or num_processors(), "include_dashboard": False}
        ray.init(logging_level="ERROR", log_to_driver=False, **local)

    def _run(self, ray: Any, shards: Sequence[Shard], maker: ShardMaker, listen: Listen) -> None:
        from ray.data import ActorPoolStrategy, DataContext

        DataContext.get_current().enable_progress_bars = False
        there = ray.cluster_resources()
        num_gpus = int(there.get("GPU", 0))
        most = num_gpus or int(there.get("CPU", 1))
        size = min(self.workers or most, most, len(shards))
        order = [{"shard": number} for number in longest_first(shards)]
        counter = ray.remote(num_cpus=0)(_Counter).remote()
        work = Work.of(maker, self.load)
        pool = ActorPoolStrategy(size=size, max_tasks_in_flight_per_actor=1)
        made = ray.data.from_items(order, override_num_blocks=len(order)).map_batches(
            _Actor, fn_constructor_args=(work, list(shards), counter), batch_size=1, compute=pool,
            num_cpus=1, num_gpus=1 if num_gpus else 0,
        )  # fmt: skip
        done = 0
        try:
            for row in made.iter_rows():
                done += len(shards[int(row["shard"])])
                listen(done)
        except ray.exceptions.RayError as error:
            raise _for_a_person(error) from error


class _Counter:
    """How often each shard was begun, for all actors: Ray Data itself gives a shard to another actor as often as it takes."""

    def __init__(self) -> None:
        self.begun: Counter[int] = Counter()

    def begin(self, number: int) -> int:
        """How often the shard was begun, this time included."""
        self.begun[number] += 1
        return self.begun[number]


class _Actor:
    """An actor: the models once, then one shard after another."""

    def __init__(self, work: Work, shards: Sequence[Shard], counter: Any):
        self.shards, self.counter, self.maker = shards, counter, work.begin()

    def __call__(self, batch: dict[str, Any]) -> dict[str, Any]:
        import ray

        for number in map(int, batch["shard"]):
            shard = self.shards[number]
            if ray.get(self.counter.begin.remote(number)) > MAX_TRIES:
                do = "Fewer `--workers` need less memory. What is complete is kept."
                raise RgtgError(f"{MAX_TRIES} actors ended at `{label(shard[0][1])}`.", "", do)
            self.maker.make(shard)
        return batch


def _for_a_person(error: BaseException) -> BaseException:
    """The error of ours that Ray wrapped; another one as it is."""
    seen: BaseException | None = error
    while seen is not None and not isinstance(seen, RgtgError):
        seen = getattr(seen, "cause", None) or seen.__cause__
    return seen or error
