"""New traces of an existing comparison: a branch from one of its tokens, the continuation of a stopped answer; and the traces on
screen.

Functions of records. Knows nothing of models, of the database or of what runs.
"""

from dataclasses import replace

from rgtg.config import COLUMN_NAMES
from rgtg.errors import BadSettings, UnknownRecord
from rgtg.guidance.methods import rule_of
from rgtg.records import Comparison, Run, Step, Trace, new_id, now


def on_screen(comparison: Comparison) -> tuple[Trace, ...]:
    """Traces on screen: the last one of each column, with the parent and position of its branch, if any."""
    first: dict[str, Trace] = {}
    for trace in comparison.traces:
        first.setdefault(trace.column, trace)
    last = {trace.column: trace for trace in comparison.traces}
    begun = [(last[column], old.parent_trace_id, old.branch_position) for column, old in first.items()]
    return tuple(t if t.parent_trace_id == parent else replace(t, parent_trace_id=parent, branch_position=at) for t, parent, at in begun)


def branch_of(comparison: Comparison, trace_id: str, position: int, token_id: int | None) -> Trace:
    """A new column that repeats the trace up to `position` and takes `token_id` there. Raises RgtgError.

    An answer that is written by hand stays in its column: the last one there is the answer, and those before it, its parents, are kept. With
    the `token_id` None the choices from `position` on are taken back.
    """
    parent = comparison.trace(trace_id)
    if parent is None:
        raise UnknownRecord("That column is not part of this comparison.", f"Found `{trace_id}`.")
    if not isinstance(position, int) or not 0 <= position < len(parent.steps):
        raise BadSettings("A branch has to start at a token of the answer.", f"Found position {position} of {len(parent.steps)}.")
    rule = rule_of(parent.run)
    by_hand = rule is not None and rule.num_chosen(parent.run.forced_ids) is not None
    if rule is not None and by_hand and token_id is None:
        again = rule.begun_again()
        parent = replace(parent, run=replace(parent.run, params=tuple((name, getattr(again, name)) for name, _ in parent.run.params)))
        return _behind(parent, parent.steps[:position], parent.token_ids[:position], parent.column, parent.place)
    if token_id not in [c.token_id for c in parent.steps[position].candidates]:
        raise BadSettings("A branch has to take one of the candidates of its step.", f"Token {token_id} is not among them.")
    if by_hand:
        return _behind(parent, parent.steps[:position], (*parent.token_ids[:position], token_id), parent.column, parent.place)
    place = len(on_screen(comparison))
    if place >= len(COLUMN_NAMES):
        raise BadSettings(f"A comparison has at most {len(COLUMN_NAMES)} columns, branches included.", "", "Run it again for a new comparison.")
    return _behind(parent, parent.steps[:position], (*parent.token_ids[:position], token_id), COLUMN_NAMES[place], place)


def stopped_of(comparison: Comparison) -> tuple[Trace, ...]:
    """Stopped answers that can be continued."""
    if comparison.state != "closed" or not any(t.steps for t in comparison.traces):  # nothing to vote on, so nobody may go on either
        return ()
    return tuple(t for t in on_screen(comparison) if t.stop_reason == "stopped" and len(t.steps) < t.run.generation.max_new_tokens)


def continuations(comparison: Comparison) -> list[Trace]:
    """A trace for each stopped column that continues it. Raises BadSettings where none was stopped.

    The trace that was stopped stays as it is, and so does what a vote says was seen: the new one is another fact, of the same column,
    with the stopped one as its parent, at whose end it begins. Tokens come as the run would have gone on, since noise is a function of
    seed and position; a method that tries pieces or whole answers begins a new one behind what was shown when it was stopped.
    """
    stopped = stopped_of(comparison)
    if not stopped:
        raise BadSettings(
            "There is nothing to continue.", "No answer of this comparison was stopped before its end.", "Run it again for new answers."
        )
    return [_behind(parent, parent.steps, parent.token_ids, parent.column, parent.place) for parent in stopped]


def _behind(parent: Trace, steps: tuple[Step, ...], forced_ids: tuple[int, ...], column: str, place: int) -> Trace:
    run: Run = replace(parent.run, forced_ids=forced_ids)
    text = "".join(step.text for step in steps)
    return Trace(
        new_id(), column, run, tuple(steps), text, place=place, parent_trace_id=parent.id, branch_position=len(steps), created_at=now()
    )  # fmt: skip
