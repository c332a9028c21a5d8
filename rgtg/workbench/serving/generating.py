"""Where a comparison's tokens are generated: in this process, or on ZeroGPU in a process that has a GPU for some seconds.

There one GPU function serves all columns. It is sent the runs as plain values, a branch with the ids of its prefix, and yields plain values;
nothing in it touches the database. Models are in memory before it is called, so that the process it runs in has them.
"""

import re
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from rgtg.errors import RgtgError
from rgtg.records import Run, Step
from rgtg.system import zero_gpu
from rgtg.system.serialization import from_dict

if TYPE_CHECKING:
    from rgtg.engine import Event, Models

FIRST_S, LEAST_S, MOST_S = 60.0, 10.0, 120.0  # asked for the first time, before anything is known; at least; at most
MARGIN = 1.5  # times the estimate: who asks for too little is cut off
Message = dict[str, Any]  # {"column": 0, "kind": "Step", "values": {…}}

_models: "dict[tuple[str, ...], Models]" = {}  # by name, for the process of the GPU


class Estimator:
    """Seconds to ask a GPU for: the budget's estimate, which was measured elsewhere, times what the last comparisons took of theirs."""

    def __init__(self) -> None:
        self.estimate: Callable[[Sequence[Run], Models], float] = lambda runs, models: FIRST_S
        self._ratio: float | None = None

    def seconds(self, estimated: float) -> float:
        wanted = FIRST_S if self._ratio is None else MARGIN * self._ratio * estimated
        return min(max(wanted, LEAST_S), MOST_S)

    def learn(self, estimated: float, took: float) -> None:
        if estimated > 0:
            ratio = took / estimated
            self._ratio = ratio if self._ratio is None else max(ratio, (self._ratio + ratio) / 2)  # up at once, down by halves


estimator = Estimator()


def generate(
    runs: Sequence[Run], models: "Models", stop: Callable[[], bool], at_once: int | None = None
) -> "Generator[tuple[int, Event], None, None]":
    """As `engine.generate`, wherever the GPU is."""
    import rgtg.engine

    return _lent(runs, models, stop, at_once) if zero_gpu.ACTIVE else rgtg.engine.generate(runs, models, stop, at_once)


@zero_gpu.gpu(duration=lambda request: request["seconds"])
def on_gpu(request: Message) -> Iterator[Message]:
    """Generate {"runs", "models", "seconds", "at_once"} on the GPU, and yield a message for every event."""
    from rgtg.engine import generate

    runs = [from_dict(Run, run) for run in request["runs"]]
    for column, event in generate(runs, _models[tuple(request["models"])], at_once=request["at_once"]):
        values = {"run": event.run.plain()} if hasattr(event, "run") else asdict(event)
        yield {"column": column, "kind": type(event).__name__, "values": values}


def _lent(runs: Sequence[Run], models: "Models", stop: Callable[[], bool], at_once: int | None) -> "Generator[tuple[int, Event], None, None]":
    """The events of `on_gpu`. Where it is stopped the GPU is given back at once, and each column ends as far as it came."""
    from rgtg.engine import Cost, Ended, Standardised, Working

    kinds: dict[str, type] = {kind.__name__: kind for kind in (Step, Cost, Ended, Working, Standardised)}
    names = (models.base_lm.name, *models.reward_models)
    _models[names] = models
    estimated, started = estimator.estimate(runs, models), time.perf_counter()
    request = {"runs": [run.plain() for run in runs], "models": list(names), "seconds": estimator.seconds(estimated), "at_once": at_once}
    costs, alive = [Cost() for _ in runs], set(range(len(runs)))
    messages = on_gpu(request)
    try:
        for message in messages:
            column: int = message["column"]
            event: Any = from_dict(kinds[message["kind"]], message["values"])
            if isinstance(event, Ended):
                alive.remove(column)
            elif isinstance(event, Cost):
                costs[column] = event
            yield column, event
            if alive and stop():
                break
        else:
            estimator.learn(estimated, time.perf_counter() - started)
            return
    except Exception as error:
        raise _refusal(error) from error
    finally:
        getattr(messages, "close", lambda: None)()
    seconds = time.perf_counter() - started
    for column in sorted(alive):
        yield column, Ended(stop_reason="stopped", seconds=seconds, **asdict(costs[column]))


def _refusal(error: Exception) -> Exception:
    """What ZeroGPU says to a visitor, such as that his quota is used up, arrives as an error of Gradio's, perhaps with links in it."""
    message = getattr(error, "message", None)
    if not type(error).__module__.startswith("gradio") or not isinstance(message, str):
        return error
    return RgtgError(
        "ZeroGPU did not lend a GPU, or took it back.", re.sub(r"<[^<>]*>", "", message), "Try again later, or with fewer tokens or columns."
    )
