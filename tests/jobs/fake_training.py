"""Trainers that keep the contract of `rgtg.training.pipeline.run_job` without torch, and an app that hosts jobs and may be killed."""

import errno
import json
import os
import shutil
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path

if __name__ == "__main__":
    sys.modules["pandas"] = None  # type: ignore[assignment]  # sqlite-utils looks for it, nothing here needs it, and it takes half a second

from rgtg.errors import BadData
from rgtg.records import ModelCard
from rgtg.system.faults import boundary

NUM_STEPS = 4
FAST = {"poll_s": 0.02, "heartbeat_s": 0.05, "row_s": 0.0, "silent_s": 30.0, "hung_s": 60.0, "term_after_s": 0.3, "kill_after_s": 0.3}
CONFIG = {"name": "mine", "base": str(Path(__file__).parent), "base_lm": "tiny", "parent": "partial", "training": {"max_steps": NUM_STEPS}}
PAIRS = [{"prompt": "a", "chosen": "b", "rejected": "c"}] * 3
Emit, Stop = Callable[[dict], None], Callable[[], bool]


def quick(folder: Path, emit: Emit, should_stop: Stop) -> None:
    """Four steps with a checkpoint each; goes on from the newest."""
    done = max((int(p.name.split("-")[1]) for p in folder.glob("checkpoint-?")), default=0)
    for step in range(done + 1, NUM_STEPS + 1):
        if should_stop():
            return
        checkpoint = folder / f"checkpoint-{step}.tmp"
        checkpoint.mkdir(parents=True, exist_ok=True)
        emit({"step": step, "num_steps": NUM_STEPS, "loss": float("nan") if step == 1 else 1.0 / step})
        boundary(f"trainer:step{step}")
        checkpoint.rename(checkpoint.with_suffix(""))
    job = json.loads((folder / "job.json").read_text())
    model = folder / "model"
    model.mkdir(exist_ok=True)
    (model / "config.json").write_text('{"architectures": ["LlamaForSequenceClassification"]}')
    (model / "model.safetensors").write_bytes(bytes(range(256)) * 8)
    boundary("trainer:saving")
    ModelCard("reward_model", job["name"], objective="partial", base_lm=job["base_lm"], metrics={"recommended": job["seed"] == 0}).write(model)


def copying(folder: Path, emit: Emit, should_stop: Stop) -> None:
    """The base as it is: a folder that can be loaded."""
    job = json.loads((folder / "job.json").read_text())
    shutil.copytree(job["base"], folder / "model")
    ModelCard("reward_model", job["name"], base_lm=job["base_lm"]).write(folder / "model")


def slow(folder: Path, emit: Emit, should_stop: Stop) -> None:
    """Stops when asked, within 20 ms."""
    for step in range(2000):
        if should_stop():
            return
        emit({"step": step, "num_steps": 2000})
        time.sleep(0.02)


def until_told(folder: Path, emit: Emit, should_stop: Stop) -> None:
    """Waits for a file `go` in its folder."""
    deadline = time.monotonic() + 60
    while not (folder / "go").exists() and time.monotonic() < deadline:
        time.sleep(0.02)
    quick(folder, emit, should_stop)


def stopped_with_a_checkpoint(folder: Path, emit: Emit, should_stop: Stop) -> None:
    emit({"step": 1, "num_steps": 2})
    while not should_stop():
        time.sleep(0.02)
    (folder / "checkpoint-1").mkdir()
    (folder / "checkpoint-2.tmp").mkdir()


def stubborn(folder: Path, emit: Emit, should_stop: Stop) -> None:
    """Neither asks nor hears SIGTERM, but lives."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    while True:
        emit({"step": 1})
        time.sleep(0.02)


def hung(folder: Path, emit: Emit, should_stop: Stop) -> None:
    emit({"step": 1})
    time.sleep(600)


def refusing(folder: Path, emit: Emit, should_stop: Stop) -> None:
    raise BadData("No pair is left to train on.", "Found 3: too long 2, contradictions 1.", "Raise the length, or vote more.")


def disk_full(folder: Path, emit: Emit, should_stop: Stop) -> None:
    raise OSError(errno.ENOSPC, "No space left on device")


def crashing(folder: Path, emit: Emit, should_stop: Stop) -> None:
    raise ZeroDivisionError("by zero")


def leaving(folder: Path, emit: Emit, should_stop: Stop) -> None:
    print("what a library said last", file=sys.stderr)
    os._exit(7)


def telling(folder: Path, emit: Emit, should_stop: Stop) -> None:
    """What the process sees of the world."""
    nothing = sys.stdin.read()
    emit({"step": 1, "environment": dict(os.environ), "session": os.getsid(0), "nice": os.nice(0), "stdin": nothing})
    quick(folder, emit, should_stop)


def check(folder: Path, base: str) -> list[float]:
    assert (folder / "model.safetensors").stat().st_size == 2048
    return [1.0, -1.0]


def app(data_dir: str, mode: str) -> None:
    """A server that starts a job and looks after it; prints the job's id as soon as a person would have it."""
    from rgtg.config import Settings
    from rgtg.jobs.service import Jobs
    from rgtg.jobs.supervisor import Patience
    from rgtg.store.store import Store

    settings = Settings(data_dir=Path(data_dir))
    with Store(settings.database) as store:
        jobs = Jobs(store, settings, patience=Patience(**FAST))
        job_id = jobs.start(CONFIG, PAIRS, snapshot={"verdict": "best"})
        print(job_id, flush=True)
        while jobs.job(job_id).state != "succeeded":
            jobs.tick()
            if mode == "cancel" and jobs.progress(job_id):
                jobs.cancel(job_id)
            time.sleep(0.01)
        if mode == "delete":
            jobs.delete_model("mine")


if __name__ == "__main__":
    app(*sys.argv[1:3])
