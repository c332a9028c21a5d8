"""The files in a job's folder by which trainer and app speak: who writes them is in `worker`, here they are read.

Knows nothing of processes or the database. Whatever may be torn by a kill is read as if it were not there.
"""

import json
from pathlib import Path
from typing import Any

JOB, PAIRS = "job.json", "pairs.jsonl"  # written before the job is in line
PROCESS, HEARTBEAT, PROGRESS, OUTCOME, LOG = "process.json", "heartbeat", "progress.jsonl", "outcome.json", "log.txt"  # by the trainer
CANCEL = "cancel"  # a flag, by the app
DISK_FULL, OTHER_TRAINER = 74, 3  # exit statuses of the trainer where it could not write why


def read_mark(path: Path, attempt: int) -> dict[str, Any] | None:
    """A JSON file of this attempt; None where there is none, or an earlier attempt's, or one half written."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return found if isinstance(found, dict) and found.get("attempt") == attempt else None


def read_progress(folder: Path) -> list[dict[str, Any]]:
    """The lines the trainer wrote, without torn ones. What an attempt does again after a resume stands once:

    {"attempt": 1, "step": 10}, {"attempt": 1, "step": 20}, {"attempt": 2, "step": 20} -> 10 of the first, 20 of the second.
    """
    try:
        content = (folder / PROGRESS).read_text(encoding="utf-8", errors="replace")
    except OSError:
        return []
    found: list[dict[str, Any]] = []
    for text in content.split("\n")[:-1]:  # what stands behind the last line break is not finished
        try:
            line = json.loads(text)
        except ValueError:
            continue
        if isinstance(line, dict):
            found.append(line)
    kept, begun_at, later = [], float("inf"), None
    for line in reversed(found):
        if line.get("attempt") != later:
            first = (old["step"] for old in found if old.get("attempt") == later and isinstance(old.get("step"), int))
            begun_at, later = min(begun_at, next(first, begun_at)), line.get("attempt")
        if not isinstance(line.get("step"), int) or line["step"] < begun_at:
            kept.append(line)
    return kept[::-1]


def tail(folder: Path, num_lines: int) -> str:
    """The last lines of the log."""
    try:
        with (folder / LOG).open("rb") as file:
            file.seek(max(0, file.seek(0, 2) - 64_000))
            return "\n".join(file.read().decode("utf-8", "replace").rstrip().split("\n")[-num_lines:])
    except OSError:
        return ""
