"""A running comparison as one growing text per column, for the page to stream.

Knows nothing of the page's layout: it gives words and texts, the page puts them into its components.
"""

import time
from collections.abc import Generator, Iterable, Iterator

from pages.token_view import ColumnStream, trace_text
from pages.visitors import handle_of
from pages.waiting_line import Line, Ticket, wait_words
from rgtg.records import Comparison, Step, Trace
from rgtg.workbench.further import on_screen, stopped_of
from rgtg.workbench.running import RunningComparison, is_late
from rgtg.workbench.workbench import Workbench

EVERY = ((300, 0.08), (600, 0.16), (10**9, 0.32))  # up to so many tokens a column: seconds between updates
POLL, RETELL = 0.05, 2.0  # seconds; the expected wait is told anew


def wait(workbench: Workbench, line: Line, ticket: Ticket) -> Generator[str, None, bool]:
    """Yields a status sentence whenever it changes while others generate or models load; returns whether the turn has come (False: stopped)."""
    last_status, told_at = "", 0.0
    while not ticket.stop_unheard():
        place, models = line.place(ticket), workbench.status()
        if place == 0 and models.state != "loading":
            workbench.wait_until_ready(0)
            return True
        loading = f"the models are loading; your comparison starts when they are ready ({models.text})"
        status = wait_words(place, line.expected(ticket)) if place else loading
        if status.partition(",")[0] != last_status.partition(",")[0] or time.monotonic() - told_at > RETELL:
            last_status, told_at = status, time.monotonic()
            yield status
        time.sleep(POLL)
    yield "stopped before it started"
    return False


class Texts:
    """The texts of a running comparison or branch by column; iterating runs it and yields all of them as they grow.

    One that has not grown is among them: Gradio sends what a text has become since the last answer, and all of it after an answer without.
    """

    def __init__(self, running: RunningComparison, workbench: Workbench, blind: bool = False, ticket: Ticket | None = None):
        """With a `ticket` it ends at the next token where nobody listens any more."""
        self.running, self._workbench, self._ticket = running, workbench, ticket
        comparison, trace_ids = running.comparison, {t.id for t in running.traces}
        self._streams = {t.column: self._stream(comparison, t, blind) for t in on_screen(comparison) if t.id in trace_ids}
        self.columns = tuple(self._streams)

    def _stream(self, comparison: Comparison, trace: Trace, blind: bool) -> ColumnStream:
        return ColumnStream(
            trace, handle_of(self._workbench, comparison.id), column_title(trace, self._workbench), parent_column(comparison, trace), blind
        )

    def now(self) -> dict[str, str]:
        """Column -> text so far."""
        return {name: stream.text for name, stream in self._streams.items()}

    def __iter__(self) -> Iterator[dict[str, str]]:
        """Paced: what came in between is sent together. The end is not sent here, see `end`."""
        started_at, sent_at, changed_columns = time.monotonic(), 0.0, set()
        for index, event in self.running:
            if self._ticket is not None:
                self._ticket.stop_unheard()
            name = self.columns[index]
            self._take(self._streams[name], event, self.running.traces[index])
            changed_columns.add(name)
            if time.monotonic() - sent_at >= self._interval():
                sent_at = time.monotonic()
                for column, trace in zip(self.columns, self.running.traces, strict=True):
                    if column in changed_columns:
                        self._streams[column].pace(sent_at - started_at, trace)
                yield self.now()
                changed_columns = set()

    def _interval(self) -> float:
        longest = max(stream.num_tokens for stream in self._streams.values())
        return next(seconds for limit, seconds in EVERY if longest <= limit)

    @staticmethod
    def _take(stream: ColumnStream, event: object, trace: Trace) -> None:
        if isinstance(event, Step):
            stream.step(event)
        elif hasattr(event, "stop_reason"):
            stream.end(trace)
        elif hasattr(event, "note"):
            stream.on_trial(event.note)
        elif hasattr(event, "run"):
            stream.standardised(event.run)

    def end(self) -> dict[str, str]:
        """All texts with their last line."""
        for name, trace in zip(self.columns, self.running.traces, strict=True):
            self._streams[name].end(trace)
        return self.now()

    def fail(self, message: str) -> dict[str, str]:
        """All texts; those of unfinished columns end with this error message."""
        for stream in self._streams.values():
            stream.fail(message)
        return self.now()


def stored_texts(comparison: Comparison, workbench: Workbench, blind: bool = False) -> dict[str, str]:
    """Column -> text of every trace on screen, as its stream ended."""
    name = handle_of(workbench, comparison.id)
    return {t.column: trace_text(t, name, column_title(t, workbench), parent_column(comparison, t), blind) for t in on_screen(comparison)}


def stopped_words(comparison: Comparison) -> str:
    """ "stopped at 34 of 300", of the longest answer that was stopped before its end; "" if none was."""
    return summary(stopped) if (stopped := stopped_of(comparison)) else ""


def summary(traces: Iterable[Trace]) -> str:
    """For the live region: "done, 24 tokens in 1.4 s", "stopped at 12 of 24"."""
    traces = tuple(traces)
    longest = max(traces, key=lambda t: len(t.steps))
    if any(t.stop_reason == "stopped" for t in traces):
        late = " by the time limit" if any(map(is_late, traces)) else ""
        return f"stopped at {len(longest.steps)} of {longest.run.generation.max_new_tokens}{late}"
    failed = ", ".join(t.column for t in traces if t.stop_reason == "error")
    return f"done, {len(longest.steps)} tokens in {max(t.seconds for t in traces):.1f} s" + (f"; failed: {failed}" if failed else "")


def column_title(trace: Trace, workbench: Workbench) -> str:
    """ "PARGS": the method's name on screen; its key where the method is gone."""
    method = workbench.methods().get(trace.run.method)
    return method.title if method else trace.run.method


def parent_column(comparison: Comparison, trace: Trace) -> str:
    """The letter of the column that a branch came from; "" for a trace that is no branch."""
    parent = comparison.trace(trace.parent_trace_id) if trace.parent_trace_id else None
    return parent.column if parent else ""


def branch_label(comparison: Comparison, trace: Trace) -> str:
    """The header of a branch, "branch of B at token 5"; "" for a trace that is no branch."""
    parent = parent_column(comparison, trace)
    return f"branch of {parent} at token {(trace.branch_position or 0) + 1}" if parent else ""
