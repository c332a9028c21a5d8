"""Sweeps in words: how far one is, what can be done, what it makes. Pure functions; knows no components."""

from typing import Any

from pages.reports import count
from rgtg.figures import seconds_words
from rgtg.workbench.sweeping.background import INTERRUPTED, RUNNING, State
from rgtg.workbench.sweeping.folder import DONE, FAILED, STOPPED
from rgtg.workbench.sweeping.grid import Grid

STATES = {RUNNING: "running", DONE: "done", FAILED: "failed", STOPPED: "stopped", INTERRUPTED: "interrupted"}
OTHER_CODE, KEEP_THEM = "--keep", "Press “Resume with the old answers” to keep them and make only what is missing, or start a new sweep."
OTHER_FOLDER, ANEW = "`--out`", "Start a new sweep."


def plan_words(grid: Grid, seconds: float | None = None) -> str:
    """ "9 settings × 32 prompts × 2 seeds = 576 answers, up to 40 s"."""
    parts = (count(len(grid.columns), "setting"), count(len(grid.prompts), "prompt"), count(grid.num_seeds, "seed"))
    words = f"{' × '.join(parts)} = {count(grid.num_answers, 'answer')}"
    return words + (f", up to {seconds_words(seconds)} on this machine" if seconds is not None else "")


def sweep_line(state: State) -> dict[str, Any]:
    """A line in the list of sweeps."""
    words = STATES[state.state]
    if state.total and state.state in (RUNNING, DONE):
        words = count(state.total, "answer") if state.state == DONE else f"{words} · {int(state.done or 0):,} of {state.total:,}"
    return {"name": state.name, "state": state.state, "words": words, "created_at": state.created_at}


def sweep_words(state: State, num_kept: int, log: str = "") -> dict[str, Any]:
    """The head of the open sweep: progress in words, actions, and why it ended; `num_kept` are the answers in its shards."""
    view: dict[str, Any] = {"name": state.name, "state": state.state, "words": STATES[state.state]}
    if state.state == RUNNING:
        if state.done is None or state.total is None:
            view["words"] = "starting: the libraries and the models are loading"
        else:
            left = f" · about {seconds_words(state.seconds_left)} left" if state.seconds_left else ""
            view["words"] = f"{int(state.done):,} of {count(state.total, 'answer')}{left}"
        view |= {"share": (state.done or 0.0) / (state.total or 1), "stop": True}
        return view
    if state.state != DONE and state.total:
        view["words"] += f" · {num_kept:,} of {count(state.total, 'answer')} kept"
    wrong, found, do = (*state.error, "", "", "")[:3]
    keep = OTHER_CODE in do
    do = KEEP_THEM if keep else ANEW if OTHER_FOLDER in do else do
    view |= {"resume": state.can_resume, "keep": keep, "error": " ".join(filter(None, (wrong, found, do)))}
    return view | ({"log": log} if log and state.state in (FAILED, INTERRUPTED) else {})
