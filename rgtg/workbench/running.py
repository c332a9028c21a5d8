"""A running comparison or branch.

Collects what the engine yields into traces, and stores them once. Knows nothing of how models are found or of the screen.
"""

import gc
import logging
import sys
import threading
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from rgtg.errors import OverBudget, RgtgError, StoreError, in_words, is_out_of_memory
from rgtg.guidance.methods import method
from rgtg.records import Comparison, Step, Trace, Vote
from rgtg.workbench.serving.generating import generate

if TYPE_CHECKING:
    from rgtg.engine import Event, Models
    from rgtg.store.store import Store

logger = logging.getLogger(__name__)
LATE = "Stopped at the time limit of"


def is_late(trace: Trace) -> bool:
    """Whether an answer was stopped because it took too long."""
    return trace.stop_reason == "stopped" and LATE in trace.note


def _free_memory() -> None:
    gc.collect()
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_available():
        torch.cuda.empty_cache()


class RunningComparison:
    """A running comparison or branch. Iterating generates the tokens; the traces are stored at the end, also if the iteration is
    left early."""

    def __init__(
        self,
        comparison: Comparison,
        traces: Sequence[Trace],
        models: "Models",
        store: "Callable[[], Store] | None",
        ended: "Callable[[RunningComparison], None]",
        deadline_s: float | None = None,
    ):
        """`store` returns the database, None saves nothing; `ended` is called when the comparison has ended. It stops by itself at the first
        token after `deadline_s` seconds."""
        self._before, self._models, self._store, self._tell = comparison, models, store, ended
        self._traces = list(traces)
        self._ended = [False] * len(self._traces)
        self._stop, self._lock, self._keeping = threading.Event(), threading.Lock(), threading.Lock()
        self._frozen = self._kept = False
        self.not_stored: RgtgError | None = None  # what kept it from being stored at the end
        self._started, self._deadline_s, self._late = time.perf_counter(), deadline_s, False

    @property
    def id(self) -> str:
        return self._before.id

    @property
    def traces(self) -> tuple[Trace, ...]:
        with self._lock:
            return tuple(self._traces)

    @property
    def comparison(self) -> Comparison:
        """The comparison with the current traces."""
        new = {t.id: t for t in self.traces}
        old = [new.pop(t.id, t) for t in self._before.traces]
        traces = (*old, *new.values())
        return replace(self._before, traces=traces, state=self._before.state if any(t.steps for t in traces) else "abandoned")

    def stop(self) -> None:
        """Stop at the next round."""
        self._stop.set()

    def __iter__(self) -> Iterator[tuple[int, "Event"]]:
        self._started = time.perf_counter()
        try:
            size = yield from self._attempt(None)
            if size is not None:
                _free_memory()
                yield from self._attempt(size)
        except Exception as error:
            self._fail(error)
            raise
        finally:
            self._try_to_keep()

    def _attempt(self, at_once: int | None) -> "Generator[tuple[int, Event], None, int | None]":
        """Generate `at_once` answers at a time, all where that is None; a token that was yielded before is not yielded again.

        Returns None at the end, and after a first attempt that ran out of memory the half of its answers.
        """
        from rgtg.engine import Cost

        stream = generate([t.run for t in self._traces], self._models, self._is_over, at_once)
        try:
            for index, event in stream:
                with self._lock:
                    if self._frozen:  # a vote has stored what there was
                        return None
                    if isinstance(event, Step) and event.position < len(self._traces[index].steps):
                        continue  # the last token of a text that goes on is given to the engine, which says it again
                    self._note(index, event)
                if type(event) is not Cost:  # it is in the traces
                    yield index, event
        except Exception as error:
            if not is_out_of_memory(error):
                raise
            num_rows = sum(method(t.run.method).make(t.run.params).num_rows for t in self._traces)
            if at_once is not None or num_rows == 1:
                raise OverBudget(
                    "There is not enough memory for this comparison.", f"The limit was met with {at_once or 1} of {num_rows} answers at once.",
                    "Lower `max_new_tokens`, the number of answers of a method, or the number of columns.",
                ) from error  # fmt: skip
            logger.warning("out of memory with %s answers at once: again with half of them", num_rows)
            return num_rows // 2
        finally:
            stream.close()
        return None

    def _is_over(self) -> bool:
        self._late = self._late or (self._deadline_s is not None and time.perf_counter() - self._started > self._deadline_s)
        return self._late or self._stop.is_set()

    def close(self) -> None:
        self.stop()
        self._try_to_keep()

    def _try_to_keep(self) -> None:
        """Store the traces. After an error the text stays on screen, `not_stored` holds the reason, and a vote tries again."""
        self.not_stored = None
        try:
            self.keep()
        except (StoreError, OSError) as error:
            self.not_stored = in_words(error, kind=StoreError)
            logger.warning("%s", self.not_stored)

    def _note(self, index: int, event: "Event") -> None:
        from rgtg.engine import Cost, Ended, Standardised

        trace = self._traces[index]
        if isinstance(event, Step):
            self._traces[index] = replace(trace, steps=(*trace.steps, event), response=trace.response + event.text)
        elif isinstance(event, Standardised):
            self._traces[index] = replace(trace, run=event.run)
        elif isinstance(event, Cost):
            self._ended[index], note = isinstance(event, Ended), dict[str, str]()
            if isinstance(event, Ended) and event.stop_reason == "stopped" and self._late and not self._stop.is_set():
                note["note"] = f"{event.note} {LATE} {self._deadline_s:g} s.".strip()
            self._traces[index] = replace(trace, **vars(event) | note)

    def _fail(self, error: Exception) -> None:
        message = str(error) if isinstance(error, RgtgError) else "Generation failed. The traceback is in the log."
        with self._lock:
            self._traces = [t if done else replace(t, stop_reason="error", error=message) for t, done in zip(self._traces, self._ended, strict=True)]
            self._ended = [True] * len(self._traces)

    def keep(self, vote: Vote | None = None) -> Vote | None:
        """Store the current traces, once, with the vote if there is one, in one transaction.

        If the vote is refused, the answers are stored without it; after another error the next call tries again.
        """
        with self._keeping:  # whoever comes second waits until the first has stored
            self._freeze()
            if self._store is None:
                self._tell(self)
                return None
            if self._kept:
                return self._store().add_vote(vote) if vote is not None else None
            try:
                stored = self._store().add_comparison(self.comparison, vote)
            except StoreError:
                if vote is not None:
                    self._store().add_comparison(self.comparison)
                    self._is_kept()
                raise
            self._is_kept()
            return stored

    def _is_kept(self) -> None:
        self._kept = True
        self._tell(self)

    def _freeze(self) -> None:
        """Accept no further tokens."""
        with self._lock:
            if not self._frozen:
                self._frozen, seconds = True, time.perf_counter() - self._started
                self._traces = [
                    t if done else replace(t, stop_reason="stopped", seconds=seconds) for t, done in zip(self._traces, self._ended, strict=True)
                ]
