"""The folder of a training job: its settings and pairs, written before it is queued, and the files that trainer and app exchange.

Knows nothing of processes or the database. The folder is complete and synced before the job is listed; what the trainer writes in it is
described in `worker`. A file cut short by a crash is read as if it were not there.
"""

import hashlib
import json
import os
import re
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from rgtg.errors import BadData, BadSettings
from rgtg.models import artifacts
from rgtg.models.catalog import absolute_path_or_id
from rgtg.system.files import sync, write_json
from rgtg.training.config import TrainingConfig

JOB, PAIRS = "job.json", "pairs.jsonl"  # written before the job is queued
PROCESS, HEARTBEAT, PROGRESS, OUTCOME, LOG = "process.json", "heartbeat", "progress.jsonl", "outcome.json", "log.txt"  # by the trainer
CANCEL = "cancel"  # a flag, by the app
DISK_FULL, OTHER_TRAINER = 74, 3  # exit statuses of the trainer where it could not write why

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9 ._+-]{0,62}[A-Za-z0-9_+-]|[A-Za-z0-9]")  # a folder on every system
RESERVED = re.compile(r"(?:con|prn|aux|nul|com\d|lpt\d)(?:\..*)?", re.IGNORECASE)  # no name of a file on Windows
Pairs = Callable[[Path], Any] | Iterable[Mapping[str, Any]]


# --- before the job is queued -------------------------------------------------------------------------------------


def check_config(config: Mapping[str, Any], taken: Mapping[str, str]) -> dict[str, Any]:
    """The job's settings with all keys filled in; `taken` maps names in lower case to what has them. Raises BadSettings."""
    missing = [key for key in ("name", "base", "base_lm") if not config.get(key)]
    if missing:
        raise BadSettings(
            "Settings of the training job are missing.", f"Missing: {', '.join(missing)}.", "Give a name, a base and the base LM it is for."
        )
    name = config["name"]
    if not isinstance(name, str) or not NAME.fullmatch(name) or RESERVED.fullmatch(name):
        do = "Use up to 64 letters, digits, spaces and `._+-`, beginning with a letter or digit, and no name that Windows reserves."
        raise BadSettings("The name of the new reward model is not allowed.", f"Found {name!r}.", do, "name")
    if name.lower() in taken:
        raise BadSettings(f"The name `{name}` is taken.", f"It belongs to {taken[name.lower()]}.", "Choose another name.", "name")
    training = dict(config.get("training") or {})
    TrainingConfig.stored(training)
    if os.path.isabs(config["base"]) and not Path(config["base"]).is_dir():
        raise BadSettings("The model to train from was not found.", f"There is no folder {config['base']}.", "Choose another model.")
    places = {key: absolute_path_or_id(config[key]) for key in ("base", "guide") if config.get(key)}
    return {"parent": None, "seed": 0, **config, **places, "training": training}


def freeze(folder: Path, config: Mapping[str, Any], pairs: Pairs) -> tuple[str, Any]:
    """Write `job.json` and the pairs; returns the hash of the pairs and what their writer returned.

    `pairs` is a function that writes JSON lines to the path it gets, or the rows. BadData, and no folder, where there
    are none: with the counts of its `skipped`, if what the writer returned has that.
    """
    folder.mkdir(parents=True)
    try:
        path = folder / PAIRS
        report = None
        if callable(pairs):
            report = pairs(path)
        else:
            _write_rows(path, pairs)
        content = path.read_bytes() if path.is_file() else b""
        if not content.strip():
            raise BadData("There is nothing to train on.", _counts(report), "Vote for the better of two answers, or give a file of pairs.")
        digest = hashlib.sha256(content).hexdigest()
        sync(path)
        write_json(folder / JOB, {**config, "pairs": PAIRS, "pairs_sha256": digest})
        sync(folder)
        sync(folder.parent)
    except BaseException:
        artifacts.discard(folder)
        raise
    return digest, report


def _write_rows(path: Path, pairs: Iterable[Mapping[str, Any]]) -> None:
    with path.open("w", encoding="utf-8") as file:
        for pair in pairs:
            file.write(json.dumps(dict(pair), ensure_ascii=False, allow_nan=False) + "\n")


def _counts(report: Any) -> str:
    """{"tie": 3, "skip": 0} -> `Found no pairs: votes for a tie: 3.`"""
    from rgtg.store.export import skipped_words

    causes = skipped_words(getattr(report, "skipped", None) or {})
    return f"Found no pairs: {causes}." if causes else "Found no pairs."


# --- while it is trained ----------------------------------------------------------------------------------------


def read_mark(path: Path, attempt: int) -> dict[str, Any] | None:
    """Content of a JSON file of this attempt; None where it is missing, of an earlier attempt or half written."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return content if isinstance(content, dict) and content.get("attempt") == attempt else None


def read_progress(folder: Path) -> list[dict[str, Any]]:
    """Lines of progress that the trainer wrote, without incomplete ones. Steps repeated after a resume appear once:

    {"attempt": 1, "step": 10}, {"attempt": 1, "step": 20}, {"attempt": 2, "step": 20} -> 10 of the first, 20 of the second.
    """
    try:
        content = (folder / PROGRESS).read_text(encoding="utf-8", errors="replace")
    except OSError:
        return []
    lines: list[dict[str, Any]] = []
    for text in content.split("\n")[:-1]:  # the line behind the last line break is not finished
        try:
            line = json.loads(text)
        except ValueError:
            continue
        if isinstance(line, dict):
            lines.append(line)
    current, first_step, later = [], float("inf"), None
    for line in reversed(lines):
        if line.get("attempt") != later:
            first = (old["step"] for old in lines if old.get("attempt") == later and isinstance(old.get("step"), int))
            first_step, later = min(first_step, next(first, first_step)), line.get("attempt")
        if not isinstance(line.get("step"), int) or line["step"] < first_step:
            current.append(line)
    return current[::-1]


def tail(folder: Path, num_lines: int) -> str:
    """Last lines of the log."""
    try:
        with (folder / LOG).open("rb") as file:
            file.seek(max(0, file.seek(0, 2) - 64_000))
            return "\n".join(file.read().decode("utf-8", "replace").rstrip().split("\n")[-num_lines:])
    except OSError:
        return ""
