"""The state of a server in a few numbers and sentences, for `/health` and the foot of every page. Cheap; holds no secret and nothing personal.

Knows nothing of how it is asked.
"""

import shutil
import sqlite3
import time
from typing import TYPE_CHECKING, Any

from rgtg.store.copies.copying import EVERY_MIN, CopyState

if TYPE_CHECKING:
    from rgtg.store.store import Store
    from rgtg.workbench.workbench import Workbench

NOWHERE = "Votes end with this Space: there is nowhere to copy them to. Its owner can name a private dataset in RGTG_VOTES_DATASET."
NOT_FETCHED = "Not all earlier votes could be fetched when this server started. New votes are kept and joined with them; its log has the reason."


def health(workbench: "Workbench", in_line: int, at: float | None = None) -> dict[str, Any]:
    """{"status", "in_line", "writer", "copies", "backup_age_s", "disk_free_mb", "sqlite", "models", "jobs"}; `in_line` is the number of generations
    that run or wait. What needs the database is null until it is open."""
    store, at = workbench.opened_store, at or time.time()
    last = store.backups.last if store is not None and store.backups else None
    state = store.copying.state if store is not None and store.copying else None
    jobs = store.jobs.jobs(("queued", "running", "cancelling")) if store is not None else ()
    return {
        "status": workbench.status().state,
        "in_line": in_line,
        "writer": dict(zip(("waiting", "lag_s"), _lag(store), strict=True)),
        "copies": {
            "to_hub": bool(workbench.settings.votes_dataset),
            "age_s": round(at - state.copied_at) if state and state.copied_at else None,
            "waiting": state.num_waiting if state else None,
            "late": state.is_late(at) if state else None,
            "words": copied_words(state, at) if state else "",
            "notice": notice(state, workbench.settings.votes_dataset != "" or not workbench.settings.space_hosts, at),
        },
        "backup_age_s": round(at - last.made_at.timestamp()) if last else None,
        "disk_free_mb": _free_mb(workbench),
        "sqlite": sqlite3.sqlite_version,
        "models": sorted(workbench.library.in_memory()),
        "jobs": {"running": sum(job.state != "queued" for job in jobs), "queued": sum(job.state == "queued" for job in jobs)},
    }


def copied_words(state: CopyState, at: float) -> str:
    """How far copying out has come, for the foot of a page."""
    waiting = f" · {state.num_waiting:,} change{'s' if state.num_waiting != 1 else ''} not yet" if state.num_waiting else ""
    erasing = " · erased votes are being removed from the copies" if state.erasing else ""
    last = f"votes last copied out {ago(at - state.copied_at)}" if state.copied_at else "votes not copied out yet since the start"
    return last + waiting + erasing


def notice(state: CopyState | None, is_kept: bool, at: float) -> str:
    """What a visitor has to know before he votes; "" where votes are safe. `is_kept`: there is a place for them that outlives this server."""
    if not is_kept:
        return NOWHERE
    if state is not None and state.is_late(at):
        assert state.waiting_since is not None
        since = ago(at - state.waiting_since).removesuffix(" ago")
        return (
            f"Votes could not be copied out for {since}; it is tried again every {EVERY_MIN:g} minutes. "
            f"If this server ended now, {state.num_waiting:,} change{'s' if state.num_waiting != 1 else ''} would be lost."
        )
    return NOT_FETCHED if state is not None and state.problem else ""


def ago(seconds: float) -> str:
    """
    >>> ago(20), ago(70), ago(7300)
    ('just now', '1 minute ago', '2 hours ago')
    """
    for unit, length in (("day", 86_400), ("hour", 3600), ("minute", 60)):
        if number := int(max(seconds, 0) // length):
            return f"{number} {unit}{'s' if number > 1 else ''} ago"
    return "just now"


def _lag(store: "Store | None") -> tuple[int | None, float | None]:
    if store is None:
        return None, None
    waiting, lag_s = store.lag
    return waiting, round(lag_s, 3)


def _free_mb(workbench: "Workbench") -> int | None:
    """Megabytes free where the database is, or would be."""
    folder = next((folder for folder in (workbench.settings.data_dir, *workbench.settings.data_dir.parents) if folder.is_dir()), None)
    return shutil.disk_usage(folder).free // 1_000_000 if folder else None
