"""From a file of preferences to a reward model folder with its card: load, prepare, train, evaluate, save.

Knows nothing of the database or of the screen: progress is emitted as dicts. A background job calls `run_job`, the command line
`train_file`, which `run_job` calls too.
"""

import hashlib
import json
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from transformers import PreTrainedModel

from rgtg.config import NEW_NAMES
from rgtg.evaluation.metrics import equal_error_threshold, prefix_accuracy
from rgtg.models.loading import pick_device
from rgtg.preferences.dataset import DataReport, Prepared, prepare
from rgtg.preferences.formats import Reading, read, read_back
from rgtg.prompts import closing
from rgtg.records import ModelCard
from rgtg.system.faults import boundary
from rgtg.training.config import TrainingConfig
from rgtg.training.criterion import Scorer
from rgtg.training.evaluate import MEASURED_LIVE, Evaluator, longer_chosen
from rgtg.training.held_out import LENGTHS, Measured, held_out_report
from rgtg.training.losses import last
from rgtg.training.reward_trainer import Progress, schedule, train_reward_model
from rgtg.training.starts import Start, add_lora, load_start, save_trained

Emit = Callable[[dict[str, Any]], None]


def run_job(folder: Path, emit: Emit, should_stop: Callable[[], bool]) -> None:
    """Train what `job.json` in the folder asks for and leave `model/` there, with its card; write nothing where it was stopped.

    job: `training` (names and values of `TrainingConfig.flat`), `base` (folder or hub id), `base_lm`, `parent`, `name` (names for the card),
    `pairs` (file in the folder), `seed`, and may have `reading` (of `formats.write_back`, for a person's file), `device`, `dtype`,
    `guide` (folder or hub id).
    Called again, it resumes from the newest complete checkpoint.
    """
    job = json.loads((folder / "job.json").read_text(encoding="utf-8"))
    config = TrainingConfig.stored({"seed": job.get("seed") or 0} | dict(job.get("training") or {}))
    settings = {"name": job["name"], "base_lm": job["base_lm"], "device": job.get("device") or "auto", "dtype": job.get("dtype") or "float32"}
    settings["guide"] = job.get("guide") or ""
    reading = read_back(folder / job["pairs"], job["reading"]) if job.get("reading") else None
    source = folder / job["pairs"]
    train_file(source, job["base"], folder / "model", config, emit=emit, should_stop=should_stop, work=folder, reading=reading, **settings)


def train_file(
    source: str | Path,
    base: str,
    out: Path,
    config: TrainingConfig,
    name: str = "",
    base_lm: str = "",
    device: str = "auto",
    dtype: str = "float32",
    emit: Emit = lambda news: None,
    should_stop: Callable[[], bool] = lambda: False,
    work: Path | None = None,
    split: str = "train",
    guide: str = "",
    reading: Reading | None = None,
) -> ModelCard | None:
    """Train from `base` on a file or hub data set and save to `out`. Returns the card, None where it was stopped or another process saves it.

    Checkpoints are kept in `work`; the caller deletes them. Several processes (torchrun) call it together, any number of times, and
    `end_process_group` at the end. `guide`, a folder or hub id, is the reward model that guided before: the report compares with it,
    unless `base` is a reward model that can be evaluated. `reading` is the parsed source, where it was read already.
    """
    resolved_device = _training_device(device)
    start = load_start(base, config.objective, resolved_device, dtype)
    reading = reading or read(source, split, config.columns, config.max_bad_rows, config.objective.takes_scores)
    vocabulary = start.loaded.vocabulary_size
    prepared = prepare(reading, start.tokenizer, start.context, vocabulary, config, start.card, **config.objective.vote_weights)
    writes = is_main_process()
    if writes:
        emit({"phase": "data", "data": asdict(prepared.report), "estimate": asdict(estimate(start.model, config, prepared.report))})
    boundary("trainer:prepared")
    evaluator = Evaluator(start, prepared, config)
    parent = evaluator.parent(base, resolved_device, dtype) if writes else None
    previous_guide = evaluator.guide(guide, resolved_device, dtype) if guide and writes and parent is None else None
    lora = add_lora(start.model, config) if config.lora else None
    config = schedule(config, len(prepared.train), sum(p.numel() for p in start.model.parameters() if p.requires_grad))
    progress_lines: list[dict[str, Any]] = []

    def listen(progress: Progress) -> None:
        progress_lines.append(_progress_line(progress, evaluator.num_live))
        emit(progress_lines[-1])

    end_id = next(reversed(closing(start.tokenizer, config.template, config.system_prompt)), None)
    done = train_reward_model(
        start.model, prepared.train, start.loaded.pad_id, config, listen, should_stop, evaluator.accuracy if prepared.held_out else None,
        work, _run_key(start, prepared, config), end_id,
    )  # fmt: skip
    if not done or not writes:
        return None
    boundary("trainer:fitted")
    model = (lora.merge_and_unload() if lora else start.model).eval()
    model = model.to(start.stored_dtype).to(torch.float32)  # evaluated as it is saved
    emit({"phase": "report"})
    child = evaluator.measured(model)
    report = held_out_report(child, parent, longer_chosen(prepared, config.seed), previous_guide)
    card = _card(start, prepared, config, report, child, name or out.name, base_lm, progress_lines)
    save_trained(start, model, config.objective, card, out, start.stored_dtype)
    emit({"phase": "done", "verdict": card.verdict, "held_out_accuracy": card.metrics.get("accuracy")})
    return card


def _card(
    start: Start, prepared: Prepared, config: TrainingConfig, report: dict[str, Any], child: Measured | None,
    name: str, base_lm: str, progress_lines: Sequence[dict[str, Any]],
) -> ModelCard:  # fmt: skip
    metrics: dict[str, Any] = {"num_held_out_pairs": report["num_pairs"], "verdict": report["verdict"]}
    if report["recommended"] is not None:
        metrics["recommended"] = report["recommended"]
    zero, accuracy = 0.0, {}
    if child is not None:
        metrics |= {"accuracy": report["accuracy"]["mean"], "accuracy_along": report["accuracy_along"]["mean"]}
        sides = (child.chosen, child.chosen_lengths), (child.rejected, child.rejected_lengths)
        zero = round(equal_error_threshold(*(last(*side).tolist() for side in sides)), 4)
        accuracy = prefix_accuracy(child.chosen, child.rejected, child.chosen_lengths, child.rejected_lengths, child.num_common, LENGTHS)
    data = prepared.report
    raters = f" by {data.num_raters} rater{'s' * (data.num_raters > 1)}" if data.num_raters else ""
    source = f"{data.num_used} {data.kind} on {data.num_prompts} prompts{raters}"
    training = config.flat() | {"last": progress_lines[-1] if progress_lines else {}}
    base_lm = base_lm or (start.card.base_lm if start.card and start.card.base_lm else start.name)
    return ModelCard(
        kind="reward_model", name=name, objective=config.objective.key, reward_kind=config.objective.kind, base_lm=base_lm,
        trained_on=f"{data.num_train} {data.kind}, {config.objective.where}",
        source=source, template=config.template, system_prompt=config.system_prompt, license=start.card.license if start.card else "",
        num_pairs=data.num_train, pairs_sha256=data.sha256, zero=zero, accuracy=accuracy, metrics=metrics,
        training=training, parent=start.parent,
        reference=start.reference if config.objective.is_ratio or config.objective.frozen else "",
        verdict=report["verdict"], report=report, data=asdict(data),
    )  # fmt: skip


def _progress_line(progress: Progress, num_live: int) -> dict[str, Any]:
    seconds_left = None if progress.seconds_left is None else round(progress.seconds_left, 1)
    news = {"phase": "training", "step": progress.step, "num_steps": progress.num_steps, "loss": round(progress.loss, 6)}
    return news | {"held_out_accuracy": progress.held_out_accuracy, "held_out_pairs": num_live, "seconds_left": seconds_left}


def _run_key(start: Start, prepared: Prepared, config: TrainingConfig) -> str:
    """Identifies a training, so that only its own checkpoints are resumed: a hash of start, data and settings."""
    old_names = {new: old for old, new in NEW_NAMES.items()}  # so that a training that an earlier version began goes on
    settings = {old_names.get(name, name): value for name, value in replace(config, logging_steps=1, save_steps=0).flat().items()}
    content = [start.loaded.ref.revision, prepared.report.sha256, len(prepared.train), settings]
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


# --- the estimated time

ROWS, TOKENS = 16, 2048  # at most, in the forward that is timed
STEP = 3  # cost of a step in forwards: the backward pass takes twice the forward
LOOKS, READINGS = 10, 2  # evaluations on some held-out pairs during training; on all of them at the end, of both models
STARTING = 10.0  # seconds to load the libraries and the model, and to save it
PER_STEP, PER_WEIGHT = 0.02, 6e-9  # further seconds per step; of the optimizer, per weight on a CPU


@dataclass(frozen=True)
class Estimate:
    """Estimated `seconds` of a training of `num_steps` steps of `batch_size` pairs (or texts)."""

    seconds: float
    num_steps: int
    batch_size: int


def estimate(model: PreTrainedModel, config: TrainingConfig, report: DataReport) -> Estimate:
    """Estimate the time to train `model` on this data, on the device that it is on."""
    num_weights = sum(p.numel() for p in model.parameters())
    planned = schedule(config, max(1, report.num_train), num_weights)
    rows = 2 if report.kind == "pairs" else 1
    length = min(config.max_length, report.prompt_tokens[1] + report.answer_tokens[1])  # a batch is padded to its longest
    row_seconds = seconds_of_a_row(model, max(1, length))
    forwards = 0 if planned.objective.frozen else STEP + int(planned.objective.needs_reference) + int(config.gradient_checkpointing)
    optimizer_seconds = PER_STEP + (PER_WEIGHT * num_weights if model.device.type == "cpu" and not config.lora else 0.0)
    step_seconds = forwards * row_seconds * rows * planned.batch_size + optimizer_seconds
    evaluation_seconds = rows * row_seconds * (LOOKS * min(MEASURED_LIVE, report.num_held_out) + READINGS * report.num_held_out)
    if planned.objective.frozen:  # every text is read once
        evaluation_seconds += rows * row_seconds * min(report.num_train, planned.max_steps * planned.batch_size)
    return Estimate(STARTING + step_seconds * planned.max_steps + evaluation_seconds, planned.max_steps, planned.batch_size)


@torch.inference_mode()
def seconds_of_a_row(model: PreTrainedModel, length: int) -> float:
    """Seconds of a forward per text of `length` tokens, in a batch; the faster of two runs after a warm-up."""
    num_rows = max(1, min(ROWS, TOKENS // length))
    ids = torch.ones(num_rows, length, dtype=torch.long, device=model.device)
    scorer, seconds = Scorer(model), []
    for _ in range(3):
        began = time.perf_counter()
        scorer(ids).sum().item()  # waits for the device
        seconds.append(time.perf_counter() - began)
    return min(seconds[1:]) / num_rows


def is_main_process() -> bool:
    """Whether this is the first of several processes (torchrun), which alone writes and reports."""
    return int(os.environ.get("RANK", 0)) == 0


def end_process_group() -> None:
    """Wait for the first process, which evaluates and saves, then destroy the process group. One group serves all trainings of a
    command: a second one would reuse the addresses of the first, and hang."""
    if torch.distributed.is_initialized():
        torch.distributed.barrier()
        torch.distributed.destroy_process_group()


def _training_device(device: str) -> str:
    """The device to train on; under torchrun each process has its own GPU. Raises BadSettings where there is no such device."""
    rank = os.environ.get("LOCAL_RANK")
    resolved = f"cuda:{rank}" if rank is not None and device in ("auto", "cuda") and torch.cuda.is_available() else device
    pick_device(resolved)
    return resolved
