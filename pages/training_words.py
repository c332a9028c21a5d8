"""Trainings in words: the report of the data, the progress of a job, its actions, and why it ended.

Pure functions of records and reports; knows no components.
"""

from collections.abc import Callable
from typing import Any
from urllib.parse import quote

from pages.reports import count
from rgtg.config import DataConfig, with_new_names
from rgtg.figures import accuracy_words, estimate_words, seconds_words
from rgtg.records import Job
from rgtg.workbench.trainings import DEFAULT_OBJECTIVE

STATES = {
    "queued": "waiting for its turn", "running": "starting", "cancelling": "being cancelled", "succeeded": "done", "failed": "failed",
    "cancelled": "cancelled", "interrupted": "interrupted",
}  # fmt: skip
ANNOUNCEMENTS = {
    "queued": "is queued", "running": "is being trained", "cancelling": "is being cancelled", "succeeded": "is done and can be used in Compare",
    "failed": "has failed", "cancelled": "was cancelled", "interrupted": "was interrupted",
}  # fmt: skip


def data_words(report: Any, why: Callable[[str], str], config: DataConfig, planned: Any = None) -> dict[str, Any]:
    """The value of DataView; `why` describes a cause of `dropped`, `planned` is the `training.pipeline.Estimate`."""
    kind = report.kind
    raters = f" · {count(report.num_raters, 'rater')}" if report.num_raters else ""
    lines = [
        [kind, f"{report.num_used:,} on {count(report.num_prompts, 'prompt')}{raters}"],
        ["to train on", f"{report.num_train:,}"],
        ["held out", f"{report.num_held_out:,} on {count(report.num_held_out_prompts, 'prompt')}", "Held out by prompt, to evaluate the model on"],
        ["prompts", _lengths(report.prompt_tokens)],
        ["answers", _lengths(report.answer_tokens)],
    ]
    if kind == "pairs":
        lines.append(["longer answer chosen", f"in {100 * report.longer_chosen:.0f} % of pairs"])
    if planned:
        words = estimate_words(planned.seconds, planned.num_steps, planned.batch_size, kind)
        lines.append(["training time", words, "Estimated from the pairs, their length and the speed of this model on this machine"])
    if report.num_marked:
        lines.append(["with marks", f"{report.num_marked:,}"])
    if config.template != "plain":
        lines.append(["template", config.template])
    return {"facts": lines, "left_out": [f"{why(cause)}: {number:,}" for cause, number in report.dropped if number], "remarks": list(report.remarks)}


def _lengths(spread: tuple[int, int, int]) -> str:
    """A spread in words: "median 8 tokens, 95 % up to 13, longest 16"."""
    middle, most, longest = spread
    return f"median {count(middle, 'token')}, 95 % up to {most:,}, longest {longest:,}"


def job_line(job: Job) -> dict[str, Any]:
    """A line in the list of trainings."""
    progress = job.progress or {}
    words = STATES.get(job.state, job.state)
    if job.state == "running" and progress.get("num_steps") and progress.get("phase") == "training":
        words = f"step {progress['step']:,} of {progress['num_steps']:,}"
    elif job.state == "running" and progress.get("phase"):
        words = "at work"
    elif job.state == "succeeded":
        words = progress.get("verdict") or words
    return {"id": job.id, "name": job.config.get("name", "?"), "state": job.state, "words": words, "created_at": job.created_at}


def job_words(job: Job, lines: list[dict[str, Any]], active: list[Job], made: str | None, log: str = "") -> dict[str, Any]:
    """The value of JobView: progress in words, actions, and why the job ended.

    `active` are the running and queued trainings; `made` is the listed name of its model, None where there is none.
    """
    steps = [line for line in lines if "step" in line]
    last, phase = steps[-1] if steps else {}, lines[-1].get("phase") if lines else None
    share = last["step"] / last["num_steps"] if last.get("num_steps") else 0.0
    words = STATES.get(job.state, job.state)
    if job.state == "queued":
        before = sum(1 for other in active if other.id != job.id and other.created_at < job.created_at)
        words = f"waiting: {count(before, 'training')} before it" if before else "waiting for its turn"
    elif job.state == "running":
        words = phase_words(phase, last, lines[-1].get("estimate") if lines else None)
    view = {"id": job.id, "name": job.config.get("name", "?"), "state": job.state, "words": words, "about": about(job, lines)}
    if job.state in Job.UNFINISHED:
        view["share"] = 1.0 if phase in ("report", "done") else share
    view |= {"cancel": job.state in ("queued", "running"), "resume": job.state in Job.RESUMABLE and job.attempt < job.max_attempts}
    if job.state in Job.RESUMABLE:
        view |= {"error": job.error_text or "The training process is gone.", "log": log}
    if job.state == "succeeded" and made is None:
        view["error"] = "Its model was deleted."
    elif made is not None and job.state == "succeeded":
        view |= {"lineup": f"./?lineup={job.id}", "model": f"./models?model={quote(made)}"}
    return view


def phase_words(phase: str | None, last: dict[str, Any], planned: dict[str, Any] | None = None) -> str:
    """The phase of a training: "step 40 of 120 · 12 s left"."""
    if phase == "report":
        return "evaluating on the held-out pairs"
    if phase == "done":
        return "saving and checking the model"
    if not last:
        begins = "the data is read, training begins" + (f" · about {seconds_words(planned['seconds'])} in all" if planned else "")
        return begins if phase == "data" else "starting: the libraries and the model are loading"
    left = last.get("seconds_left")
    return f"step {last['step']:,} of {last['num_steps']:,}" + (f" · {seconds_words(left)} left" if left is not None else "")


def about(job: Job, lines: list[dict[str, Any]]) -> str:
    """A training in one line: "partial, from starter · 96 pairs, 18 held out · loss 0.412 · held-out accuracy 71 %"."""
    training = with_new_names(job.config.get("training") or {})
    parts = [f"{training.get('objective', DEFAULT_OBJECTIVE)}, from {job.config.get('parent') or job.config.get('base_lm')}"]
    data = next((line["data"] for line in lines if isinstance(line.get("data"), dict)), None)
    if data:
        parts.append(f"{data.get('num_train', 0):,} {data.get('kind', 'pairs')} to train on, {data.get('num_held_out', 0):,} held out")
    last = next((line for line in reversed(lines) if line.get("loss") is not None), None)
    if last:
        parts.append(f"loss {last['loss']:.3f} at step {last['step']:,}")
        if last.get("held_out_accuracy") is not None and job.state in Job.UNFINISHED:
            parts.append(f"held-out accuracy {accuracy_words(last['held_out_accuracy'], last.get('held_out_pairs', 0))}")
    changed = [f"{name.replace('_', ' ')} {value}" for name, value in training.items() if name != "objective"]
    return " · ".join([*parts, *changed])
