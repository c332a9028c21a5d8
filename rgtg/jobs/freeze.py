"""What a job is to train on, written down before it is in line: checked settings and frozen pairs in a folder of its own.

Knows nothing of the database or of processes. The folder is whole, and on disk, before anybody hears of the job.
"""

import hashlib
import json
import os
import re
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from rgtg.errors import BadData, BadSettings
from rgtg.jobs.folder import JOB, PAIRS
from rgtg.models import artifacts
from rgtg.models.catalog import whole_place
from rgtg.training.config import TrainingConfig

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9 ._+-]{0,62}[A-Za-z0-9_+-]|[A-Za-z0-9]")  # a folder on every system
Pairs = Callable[[Path], Any] | Iterable[Mapping[str, Any]]


def check_config(config: Mapping[str, Any], taken: Mapping[str, str]) -> dict[str, Any]:
    """The settings of a job with every key there; `taken` maps names in lower case to who has them. Raises BadSettings."""
    missing = [key for key in ("name", "base", "base_lm") if not config.get(key)]
    if missing:
        raise BadSettings("A training job lacks settings.", f"Missing: {', '.join(missing)}.", "Give a name, a base and the base LM it is for.")
    name = config["name"]
    if not isinstance(name, str) or not NAME.fullmatch(name):
        do = "Use up to 64 letters, digits, spaces and `._+-`, beginning with a letter or digit."
        raise BadSettings("The new reward model needs another name.", f"Found {name!r}.", do)
    if name.lower() in taken:
        raise BadSettings(f"The name `{name}` is taken.", f"It belongs to {taken[name.lower()]}.", "Choose another name.")
    training = dict(config.get("training") or {})
    TrainingConfig.stored(training)
    if os.path.isabs(config["base"]) and not Path(config["base"]).is_dir():
        raise BadSettings("The model to start from is gone.", f"There is no folder {config['base']}.", "Choose another.")
    places = {key: whole_place(config[key]) for key in ("base", "guide") if config.get(key)}
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
        artifacts.sync(path)
        artifacts.write_json(folder / JOB, {**config, "pairs": PAIRS, "pairs_sha256": digest})
        artifacts.sync(folder)
        artifacts.sync(folder.parent)
    except BaseException:
        artifacts.discard(folder)
        raise
    return digest, report


def _write_rows(path: Path, pairs: Iterable[Mapping[str, Any]]) -> None:
    with path.open("w", encoding="utf-8") as file:
        for pair in pairs:
            file.write(json.dumps(dict(pair), ensure_ascii=False, allow_nan=False) + "\n")


def _counts(report: Any) -> str:
    """{"tie": 3, "skip": 0} -> `Found no pairs: tie 3.`"""
    skipped = getattr(report, "skipped", None) or {}
    causes = ", ".join(f"{cause} {count}" for cause, count in skipped.items() if count)
    return f"Found no pairs: {causes}." if causes else "Found no pairs."
