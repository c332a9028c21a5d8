"""The trainer's process: trains in the job's folder, reports progress, and leaves a sealed model in staging.

Never opens the database. Writes `process.json`, `heartbeat`, `progress.jsonl` and `outcome.json` in the job's folder, each with the
number of the attempt. Loads torch only with the trainer.
"""

import json
import logging
import math
import os
import threading
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace
from importlib import metadata
from pathlib import Path
from typing import Any

import psutil
from filelock import FileLock, Timeout

from rgtg.errors import RgtgError, is_disk_full, is_out_of_memory, words_of
from rgtg.jobs.folder import CANCEL, DISK_FULL, HEARTBEAT, JOB, OTHER_TRAINER, OUTCOME, PROCESS, PROGRESS
from rgtg.models import artifacts
from rgtg.models.catalog import not_recommended
from rgtg.records import ModelCard
from rgtg.system.faults import boundary, named
from rgtg.system.files import write_json

log = logging.getLogger(__name__)

LIBRARIES = ("torch", "transformers", "safetensors")
PHASES = ("started", "trained", "staged", "checked", "sealed", "ended")  # boundaries `trainer:<phase>`, after each


def main(folder: Path, attempt: int) -> int:
    """Run one attempt; exit status 0 when trained or stopped, 1 after a failure (reason in `outcome.json`), DISK_FULL, OTHER_TRAINER."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(name)s %(message)s")
    with suppress(OSError, AttributeError):
        os.nice(10)
    try:
        with FileLock(folder / "trainer.lock", timeout=0):  # two would mix their checkpoints
            return _attempt(folder, attempt)
    except Timeout:
        log.error("another trainer is at work in %s", folder)
        return OTHER_TRAINER


def _attempt(folder: Path, attempt: int) -> int:
    born_at = psutil.Process().create_time()
    write_json(folder / PROCESS, {"pid": os.getpid(), "created_at": born_at, "attempt": attempt})
    boundary("trainer:started")
    job = json.loads((folder / JOB).read_text(encoding="utf-8"))
    artifacts.discard(folder / "model")  # half of one, by an attempt that was killed
    signs = Signs(folder, attempt, job.get("heartbeat_s", 10.0))
    try:
        named("RGTG_TEST_RUN_JOB", "rgtg.training.pipeline:run_job")(folder, signs.emit, signs.should_stop)
        boundary("trainer:trained")
        state = "stopped" if signs.should_stop() else _leave_model(folder, job, signs)
        outcome = {"state": state}
    except BaseException as error:
        log.exception("the training failed")
        outcome = {"state": "failed", **described(error)}
    finally:
        signs.close()
    try:
        write_json(folder / OUTCOME, {"attempt": attempt, **outcome})
    except OSError as error:
        return DISK_FULL if is_disk_full(error) else 1
    boundary("trainer:ended")
    return 1 if outcome["state"] == "failed" else 0


def _leave_model(folder: Path, job: Mapping[str, Any], signs: "Signs") -> str:
    """Stage the model, load it back, score two texts and seal it; the app publishes it."""
    if (card := ModelCard.read(folder / "model")) and (snapshot := job.get("snapshot")):
        replace(card, snapshot=snapshot).write(folder / "model")
    staging = artifacts.staging_folder(Path(job["models"]), folder.name)
    artifacts.stage(folder / "model", staging)
    boundary("trainer:staged")
    signs.should_stop()
    scores = named("RGTG_TEST_CHECK_MODEL", "rgtg.training.starts:check_model")(staging, job["base"])
    boundary("trainer:checked")
    artifacts.seal(staging, manifest_facts(staging, job, folder.name) | {"probe_scores": list(scores)})
    boundary("trainer:sealed")
    return "trained"


def manifest_facts(model: Path, job: Mapping[str, Any], job_id: str) -> dict[str, Any]:
    """Manifest without the hashes: enough for a row in a database that does not know the job."""
    card = ModelCard.read(model) or ModelCard("reward_model", job["name"])
    status = "not_recommended" if not_recommended(card) else "ready"
    manifest = {"job_id": job_id, "name": job["name"], "parent": job.get("parent"), "base_lm": job["base_lm"], "base": job["base"], "status": status}
    manifest |= {"template": card.template, "objective": card.objective, "metrics": card.metrics, "num_pairs": card.num_pairs}
    manifest |= {"snapshot_id": job.get("snapshot_id"), "pairs_sha256": job.get("pairs_sha256", "")}
    return manifest | {"versions": {name: metadata.version(name) for name in LIBRARIES}}


def described(error: BaseException) -> dict[str, str]:
    """Error code and text of an exception, for the job's row."""
    if isinstance(error, RgtgError):
        return {"code": "refused", "text": str(error)}
    if is_disk_full(error):
        return {"code": "disk_full", "text": "The disk is full. Free some space and resume: training continues from the last complete checkpoint."}
    if is_out_of_memory(error):
        return {"code": "out_of_memory", "text": f"There is not enough memory. {error} Use a smaller model or a smaller batch size."}
    return {"code": "crashed", "text": f"The trainer failed: {words_of(error)} The log has the traceback."}


class Signs:
    """Progress lines and a heartbeat that counts them, so that a process that beats without progress (a deadlock) is recognised."""

    def __init__(self, folder: Path, attempt: int, every_s: float):
        self._folder, self._attempt, self._every_s = folder, attempt, every_s
        self._moves, self._over = 0, threading.Event()
        self._begin_line(folder / PROGRESS)
        self._thread = threading.Thread(target=self._beat, name="heartbeat", daemon=True)
        self._thread.start()

    def emit(self, news: Mapping[str, Any]) -> None:
        """Write one line of progress; NaN and infinity become null."""
        self._moves += 1
        line = json.dumps(finite(news) | {"attempt": self._attempt}, ensure_ascii=False, allow_nan=False)
        with (self._folder / PROGRESS).open("a", encoding="utf-8") as file:
            file.write(line + "\n")

    def should_stop(self) -> bool:
        """Whether the job was cancelled. Call it at every step: a trainer that neither calls it nor emits for ten minutes is ended as hung."""
        self._moves += 1
        return (self._folder / CANCEL).exists()

    def close(self) -> None:
        self._over.set()
        self._thread.join()

    def _beat(self) -> None:
        beats = 0
        while True:
            with suppress(OSError):  # the trainer reports a full disk
                (self._folder / HEARTBEAT).write_text(json.dumps({"attempt": self._attempt, "beats": beats, "moves": self._moves}))
            if self._over.wait(self._every_s):
                return
            beats += 1

    @staticmethod
    def _begin_line(path: Path) -> None:
        """End an incomplete line of a killed attempt, so that the next one begins on a new line."""
        if path.is_file() and not path.read_bytes().endswith(b"\n"):
            with path.open("a", encoding="utf-8") as file:
                file.write("\n")


def finite(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): finite(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [finite(item) for item in value]
    if hasattr(value, "item") and not isinstance(value, (str, bytes)):
        value = value.item()
    return None if isinstance(value, float) and not math.isfinite(value) else value
