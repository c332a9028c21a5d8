"""Train: what there is to learn from, a reward model taught in the background while its curve grows, and what it is worth.

Talks to the workbench; knows nothing of trainers, processes or files of data.
"""

import json
import re
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from urllib.parse import quote

import gradio as gr
from gradio.context import Context

from pages import ids, theme
from pages.components import Lengths, Report, Words
from pages.handlers import guarded, in_words, payload, read_id, read_json, warn
from pages.reports import accuracy_figure, count, report_words
from pages.token_view import _Drawn
from rgtg.config import TrainingConfig
from rgtg.errors import BadSettings, RgtgError
from rgtg.plots import training_curve
from rgtg.records import Job
from rgtg.workbench.trainings import VOTES
from rgtg.workbench.workbench import Workbench

TITLE = "Train"
FIRST = ("objective", "num_steps", "pairs_per_batch", "learning_rate")  # the options that matter first; the rest is folded
LABELS = {"num_steps": "steps", "lora": "LoRA", "lora_rank": "LoRA rank", "beta": "β", "tau": "τ", "num_epochs": "passes"}
OF_DATA = ("held_out", "template", "max_length", "over_long", "objective")  # options that the look at the data depends on
EVERY = 1.0  # seconds between two looks at a training
MAX_TEXT = 2_000
MAX_LOOK_AT = 5_000  # votes that are looked at unasked; beyond, a person presses the button
STATES = {
    "queued": "waiting for its turn", "running": "starting", "cancelling": "being cancelled", "succeeded": "done", "failed": "failed",
    "cancelled": "cancelled", "interrupted": "interrupted",
}  # fmt: skip
SAID = {
    "queued": "is in line", "running": "is being trained", "cancelling": "is being cancelled", "succeeded": "is done and can be used in Compare",
    "failed": "has failed", "cancelled": "was cancelled", "interrupted": "was interrupted",
}  # fmt: skip
PUBLIC = "Training is off on a public server. Run rgtg on your own machine to train a reward model from your votes."
NO_VOTES = "No votes yet. Compare answers and say which is best; a first training makes sense from about 30 votes."


class TrainForm(_Drawn):
    """Data, start, options and name as JSON; `fields` describes the options, `suggested` {name, used} a name in place of one that
    is used up. Event `chosen` where the data may look different now; `asked` in the value counts how often."""

    def __init__(
        self, value: str = "{}", *, fields: list[dict], starts: list | None = None, sources: list | None = None, suggested: str = "{}", **kwargs
    ):
        script = "rgtg.trainForm(element, props, trigger, watch, upload, 'chosen')"
        super().__init__(value, js_on_load=script, fields=fields, starts=starts or [], sources=sources or [], suggested=suggested, **kwargs)


class DataView(_Drawn):
    """What the data is, as JSON {asked, words, wrong, facts, left_out, remarks}; an answer to an older `asked` than the last is not drawn."""

    def __init__(self, value: str = "{}", **kwargs):
        super().__init__(value, js_on_load="rgtg.dataView(element, props, watch)", **kwargs)


class JobList(_Drawn):
    """The trainings. Event `open_job` {job}."""

    def __init__(self, value: str = "{}", **kwargs):
        super().__init__(value, js_on_load="rgtg.jobList(element, props, trigger, watch, 'open_job')", **kwargs)


class JobView(_Drawn):
    """The open training. Events `cancel_job`, `resume_job` {job}."""

    def __init__(self, value: str = "{}", **kwargs):
        super().__init__(value, js_on_load="rgtg.jobView(element, props, trigger, watch, 'cancel_job', 'resume_job')", **kwargs)


def build(workbench: Workbench, pages: tuple[tuple[str, str], ...]) -> None:
    """Lays the page out in the open Blocks and wires it; on a public server one sentence."""
    if workbench.settings.public:
        with gr.Row(elem_classes=["topline"]):
            theme.header(TITLE, pages)
        Words(PUBLIC, elem_id=ids.TRAIN_STATUS)
        return
    page = _Page(workbench, pages)
    page.wire(Context.root_block)


class _Page:
    """The components of the page by name, and the handlers that answer them."""

    def __init__(self, workbench: Workbench, pages: tuple[tuple[str, str], ...]):
        self.workbench, self.trainings = workbench, workbench.trainings
        self._one_at_a_time, self._starting = threading.Lock(), threading.Lock()
        with gr.Row(elem_classes=["topline"]):
            theme.header(TITLE, pages)
            self.models = Words("", elem_id=ids.MODEL_STATUS)
        with gr.Row(elem_classes=["room", "train-top"]):
            with gr.Column(min_width=0):
                self.form = TrainForm(fields=option_fields(workbench), elem_id=ids.TRAIN_FORM)
                with gr.Row(elem_classes=["go-row"]):
                    self.start = gr.Button("Start training", variant="primary", elem_id=ids.TRAIN_START, min_width=0)
                    self.look = gr.Button("Look at the data", elem_id=ids.TRAIN_LOOK, min_width=0)
                    self.status = Words("", live=True, elem_id=ids.TRAIN_STATUS)
            with gr.Column(min_width=0, elem_classes=["panel"]):
                self.data = DataView(elem_id=ids.DATA_VIEW)
        with gr.Row(elem_classes=["room", "train-low"]):
            with gr.Column(min_width=0, elem_classes=["panel"]):
                self.jobs = JobList(elem_id=ids.JOB_LIST)
            with gr.Column(min_width=0):
                self.job = JobView(elem_id=ids.JOB_VIEW)
                with gr.Row(visible=False, elem_classes=["report-row"]) as self.report_box:
                    self.report = Report(elem_id=ids.REPORT)
                    with gr.Column(min_width=0):
                        with gr.Column(elem_id="accuracy-box", elem_classes=["plot-box"], min_width=0):
                            self.accuracy = gr.Plot(show_label=False, container=False, elem_id=ids.ACCURACY)
                        self.lengths = Lengths(elem_id=ids.LENGTHS)
                with gr.Column(visible=False, elem_id="curve-box", elem_classes=["plot-box"]) as self.curve_box:
                    self.curve = gr.Plot(show_label=False, container=False, elem_id=ids.TRAINING_CURVE)
        self.shown = gr.State({})  # what was sent last, so that only what changed is sent
        self.timer = gr.Timer(EVERY, active=False)

    def wire(self, blocks: gr.Blocks) -> None:
        drawn = [self.jobs, self.job, self.curve_box, self.curve, self.report_box, self.report, self.accuracy, self.lengths]
        drawn += [self.status, self.shown, self.timer]
        own = {"show_progress": "hidden", "concurrency_limit": None, "api_visibility": "private"}
        opened = blocks.load(self._load(), None, [self.form, self.models, *drawn], **own)
        opened.then(self._look(asked=False), self.form, self.data, **own)
        # two handlers: of an update that a generator yields, Gradio's page may take what the next yield leaves of it
        self.form.chosen(self._named(), self.form, self.form, trigger_mode="always_last", **own)
        self.form.chosen(self._chosen(), self.form, self.data, trigger_mode="always_last", **own)
        self.look.click(self._look(), self.form, self.data, **own)
        self.start.click(self._start(), [self.form, self.shown], [self.form, *drawn], trigger_mode="multiple", **own)
        self.jobs.open_job(self._open(), self.shown, drawn, trigger_mode="always_last", **own)
        self.job.cancel_job(self._cancel(), self.shown, drawn, **own)
        self.job.resume_job(self._resume(), self.shown, drawn, **own)
        self.timer.tick(self._tick(), self.shown, [self.models, *drawn], **own)

    # ---- before a training ------------------------------------------------------------------------

    def _load(self):
        @guarded("Opening the page")
        def load(request: gr.Request) -> dict:
            starts = self.trainings.starts()
            found = {self.models: self.workbench.status().text}
            form = {"source": VOTES, "path": "", "start": starts[0].name if starts else "", "training": {}}
            form["name"] = self._new_name(form)
            votes = self.workbench.num_votes()
            sources = [[VOTES, f"my votes ({votes:,})"], ["file", "a file or data set"]]
            choices = [[m.name, f"{m.name} ({'base LM' if m.kind == 'base_lm' else 'reward model'})"] for m in starts]
            found[self.form] = gr.update(value=json.dumps(form), starts=choices, sources=sources)
            jobs, asked = self.trainings.jobs.jobs(), request.query_params.get("job")
            if asked and asked not in [job.id for job in jobs]:
                warn(f"There is no training `{asked:.80}` on this machine.")
            known = asked if asked in [job.id for job in jobs] else jobs[0].id if jobs else ""
            return found | self._drawn(known, {})

        return load

    def _look(self, asked: bool = True):
        @guarded("Looking at the data")
        def look(form: str) -> Iterator[str]:
            if not asked and not 0 < self.workbench.num_votes() <= MAX_LOOK_AT:
                yield json.dumps({"words": NO_VOTES if not self.workbench.num_votes() else "“Look at the data” counts what there is to learn from."})
                return
            yield from self._look_at(form)

        return look

    def _look_at(self, form: str) -> Iterator[str]:
        """The words for DataView, with the `asked` of the form: a look may end after one that began later."""
        asked = {"asked": read_json(form, "form").get("asked", 0)}
        yield json.dumps(asked | {"words": "reading …"})
        try:
            found = read_form(form, self.workbench)
            report = self.trainings.data(found["source"], found["start"], found["config"])
            yield json.dumps(asked | data_words(report, self.trainings.why_dropped, found["config"]))
        except RgtgError as error:
            yield json.dumps(asked | {"words": str(error), "wrong": True})
        except Exception as error:
            yield json.dumps(asked | {"words": in_words(error, "Looking at the data"), "wrong": True})

    def _chosen(self):
        @guarded("Looking at the data")
        def chosen(form: str) -> Iterator[str]:
            if read_json(form, "form").get("source") != VOTES or self.workbench.num_votes() <= MAX_LOOK_AT:
                yield from self._look_at(form)

        return chosen

    def _named(self):
        @guarded("Naming the model")
        def named(form: str) -> dict:
            return self._suggest(read_json(form, "form"))

        return named

    def _suggest(self, form: dict, used: str = "") -> dict:
        """A prop and not the value: what a person types meanwhile stays."""
        return gr.update(suggested=json.dumps({"name": self._new_name(form), "used": used}))

    def _new_name(self, form: dict) -> str:
        """ "partial-votes", "partial-votes-2", "starter-reviews": the start and what it learns from."""
        path = str(form.get("uploaded") or form.get("path") or "file")
        stem = f"{form.get('start') or 'reward'}-{'votes' if form.get('source') == VOTES else Path(path).stem}"
        return self.trainings.free_name(re.sub(r"[^A-Za-z0-9._+-]+", "-", stem.rpartition("/")[2]).strip("-._+")[:56] or "reward")

    # ---- trainings --------------------------------------------------------------------------------

    def _start(self):
        @guarded("Starting the training")
        def start(form: str, shown: dict) -> dict:
            found = read_form(form, self.workbench)
            with self._starting:  # the second half of a double click finds what the first has begun
                begun = next((job.id for job in self.trainings.jobs.jobs() if job.state in Job.UNFINISHED and _asks_for(found, job)), None)
                job_id = begun or self.trainings.train(found["source"], found["start"], found["name"], found["training"])
            return {self.form: self._suggest(read_json(form, "form"), found["name"])} | self._drawn(job_id, shown)

        return start

    def _open(self):
        @guarded("Opening the training")
        def open_job(shown: dict, event: gr.EventData = None) -> dict:
            return self._drawn(read_id(payload(event).get("job"), "training"), shown)

        return open_job

    def _cancel(self):
        @guarded("Cancelling")
        def cancel(shown: dict, event: gr.EventData = None) -> dict:
            job_id = read_id(payload(event).get("job"), "training")
            self.trainings.jobs.cancel(job_id)
            return self._drawn(job_id, shown)

        return cancel

    def _resume(self):
        @guarded("Resuming")
        def resume(shown: dict, event: gr.EventData = None) -> dict:
            job_id = read_id(payload(event).get("job"), "training")
            self.trainings.jobs.resume(job_id)
            return self._drawn(job_id, shown)

        return resume

    def _tick(self):
        @guarded("The list of trainings")
        def tick(shown: dict) -> dict:
            return {self.models: self.workbench.status().text} | self._drawn(None, shown)

        return tick

    def _drawn(self, job_id: str | None, shown: dict) -> dict:
        """Every part that is not as it was shown last, with this training open, or with None the one that is.

        What a visitor does and the timer are answered side by side. `shown` is changed in place and by one at a time, so that a look
        that began before a click does not put back what the click has replaced.
        """
        with self._one_at_a_time:
            found = self._changed(shown.get("open", "") if job_id is None else job_id, shown)
            shown.clear()
            shown.update(found[self.shown])
            return found | {self.shown: shown}

    def _changed(self, job_id: str, shown: dict) -> dict:
        """The parts that differ from `shown`, and what is shown with them."""
        jobs = self.trainings.jobs.jobs()
        job = next((j for j in jobs if j.id == job_id), None) or (self.trainings.jobs.job(job_id) if job_id else None)
        now, card = {"open": job_id, "view": "{}", "steps": "", "report": "", "status": ""}, None
        if job:
            lines = self.trainings.jobs.progress(job_id)
            jobs = [replace(j, progress=lines[-1]) if j.id == job_id and lines else j for j in jobs]  # its row is a second behind
            steps = [line for line in lines if "step" in line]
            model = self.trainings.made_by(job)
            card = model.card if model else None
            log = self.trainings.jobs.log(job_id) if job.state in Job.RESUMABLE else ""
            now |= {"view": json.dumps(job_words(job, lines, [j for j in jobs if j.state in Job.UNFINISHED], model and model.name, log))}
            now |= {"steps": f"{job_id} {len(steps)}" if steps or job.state in Job.UNFINISHED else "", "report": f"{job_id} report" if card else ""}
            now["status"] = f"“{job.config.get('name')}” {SAID[job.state]}"
        now["list"] = json.dumps({"open": job_id, "jobs": [job_line(j) for j in jobs]})
        loading = self.workbench.status().state == "loading"
        found = {self.shown: now, self.timer: gr.Timer(active=loading or any(j.state in Job.UNFINISHED for j in jobs))}
        if now["list"] != shown.get("list"):
            found[self.jobs] = now["list"]
        if now["view"] != shown.get("view"):
            found[self.job] = now["view"]
        if job and now["status"] != shown.get("status") and (job.state in Job.UNFINISHED or shown.get("open") == job_id):
            found[self.status] = now["status"]
        if now["steps"] != shown.get("steps"):
            found |= {self.curve_box: gr.update(visible=bool(now["steps"]))}
            found |= {self.curve: training_curve(steps)} if now["steps"] else {}
        if now["report"] != shown.get("report"):
            found |= {self.report_box: gr.update(visible=card is not None), self.report: report_words(card), self.lengths: report_words(card)}
            found |= {self.accuracy: accuracy_figure(card)} if card else {}
        return found


# ---- the form ---------------------------------------------------------------------------------------------


def option_fields(workbench: Workbench) -> list[dict]:
    """The options of a training as train.js draws them; those of FIRST before the others."""
    found = []
    for p in workbench.trainings.fields():
        kind = "check" if isinstance(p.default, bool) else "text" if isinstance(p.default, str) and not p.choices else "number"
        whole = isinstance(p.default, int) and not isinstance(p.default, bool)
        spec = {"name": p.name, "label": LABELS.get(p.name, p.name.replace("_", " ")), "help": p.help, "default": p.default, "kind": kind}
        spec |= {"choices": list(p.choices)} if p.choices else {"min": p.min, "max": p.max, "step": 1 if whole else "any"}
        found.append(spec | {"first": p.name in FIRST, "data": p.name in OF_DATA, "auto": "0 = by" in p.help or "0 = one a" in p.help})
    return sorted(found, key=lambda spec: FIRST.index(spec["name"]) if spec["first"] else len(FIRST))


def read_form(text: object, workbench: Workbench) -> dict:
    """{source, start, name, training, config} of the form, each checked; raises BadSettings naming the field."""
    form = read_json(text, "form")
    starts = [m.name for m in workbench.trainings.starts()]
    if form.get("start") not in starts:
        raise BadSettings("The model to start from is not on this machine.", f"There are: {', '.join(starts) or 'none'}.", "Choose one of them.")
    source = form.get("source")
    if source == "file":
        source = form.get("path")
        if not isinstance(source, str) or not source.strip() or len(source) > MAX_TEXT or "\0" in source:
            raise BadSettings("There is no file to train on.", "", "Upload one, or give its path, or choose your votes.")
        source = source.strip()
        if source == VOTES:
            source = f"./{VOTES}"
    elif source != VOTES:
        raise BadSettings("The data has to be your votes or a file.", "", "Reload the page.")
    name = form.get("name")
    if not isinstance(name, str) or not name.strip():
        raise BadSettings("The new model needs a name.", "", "Type one.")
    training = read_options(form.get("training"), workbench)
    return {"source": source, "start": form["start"], "name": name.strip()[:MAX_TEXT], "training": training, "config": TrainingConfig(**training)}


def _asks_for(found: dict, job: Job) -> bool:
    """Whether this form is the one that the job came from."""
    start = job.config.get("parent") or job.config.get("base_lm")
    return (found["name"], found["start"], found["training"]) == (job.config.get("name"), start, job.config.get("training"))


def read_options(found: object, workbench: Workbench) -> dict:
    """The options that differ from their defaults; raises BadSettings naming one that is unknown or out of range."""
    known = {p.name: p for p in workbench.trainings.fields()}
    training = {}
    for name, value in (found if isinstance(found, dict) else {}).items():
        if name not in known:
            raise BadSettings(f"There is no option `{name!s:.40}`.", f"There are: {', '.join(known)}.", "Reload the page.")
        if isinstance(value, str) and len(value) > MAX_TEXT:
            raise BadSettings(f"`{name}` has {len(value):,} characters; {MAX_TEXT:,} are read.", "", "Shorten it.")
        if value is None and known[name].default == 0 and not isinstance(known[name].default, bool):
            continue  # an empty field that says "auto"
        if value != known[name].default:
            training[name] = value
    TrainingConfig(**training)  # checks every value
    return training


# ---- words for the page -------------------------------------------------------------------------------------


def data_words(report, why, config: TrainingConfig) -> dict:
    """A report of the data as the page shows it; `why` gives the words of a cause."""
    kind = report.kind
    raters = f" · {count(report.num_raters, 'rater')}" if report.num_raters else ""
    facts = [
        [kind, f"{report.num_used:,} on {count(report.num_prompts, 'prompt')}{raters}"],
        ["to train on", f"{report.num_train:,}"],
        ["held out", f"{report.num_held_out:,} on {count(report.num_held_out_prompts, 'prompt')}", "Kept apart by prompt, to measure the model on"],
        ["prompts", _lengths(report.prompt_tokens)],
        ["answers", _lengths(report.answer_tokens)],
    ]
    if kind == "pairs":
        facts.append(["longer one chosen", f"in {100 * report.longer_chosen:.0f} of 100 pairs"])
    if report.num_marked:
        facts.append(["with marks", f"{report.num_marked:,}"])
    if config.template != "plain":
        facts.append(["template", config.template])
    return {"facts": facts, "left_out": [f"{why(cause)}: {number:,}" for cause, number in report.dropped if number], "remarks": list(report.remarks)}


def _lengths(spread: tuple[int, int, int]) -> str:
    """ "median 8 tokens, 95 % up to 13, longest 16"."""
    middle, most, longest = spread
    return f"median {count(middle, 'token')}, 95 % up to {most:,}, longest {longest:,}"


def job_line(job: Job) -> dict:
    """A line of the list of trainings."""
    progress = job.progress or {}
    words = STATES.get(job.state, job.state)
    if job.state == "running" and progress.get("num_steps") and progress.get("phase") == "training":
        words = f"step {progress['step']:,} of {progress['num_steps']:,}"
    elif job.state == "running" and progress.get("phase"):
        words = "at work"
    elif job.state == "succeeded":
        words = progress.get("verdict") or words
    return {"id": job.id, "name": job.config.get("name", "?"), "state": job.state, "words": words, "created_at": job.created_at}


def job_words(job: Job, lines: list[dict], active: list[Job], made: str | None, log: str = "") -> dict:
    """The open training: how far it is in words, what can be done, and why it ended.

    `active` are the trainings that run or wait; `made` is the name under which its model is listed, None where there is none.
    """
    steps = [line for line in lines if "step" in line]
    last, phase = steps[-1] if steps else {}, lines[-1].get("phase") if lines else None
    share = last["step"] / last["num_steps"] if last.get("num_steps") else 0.0
    words = STATES.get(job.state, job.state)
    if job.state == "queued":
        before = sum(1 for other in active if other.id != job.id and other.created_at < job.created_at)
        words = f"waiting: {count(before, 'training')} before it" if before else "waiting for its turn"
    elif job.state == "running":
        words = phase_words(phase, last)
    found = {"id": job.id, "name": job.config.get("name", "?"), "state": job.state, "words": words, "about": about(job, lines)}
    if job.state in Job.UNFINISHED:
        found["share"] = 1.0 if phase in ("report", "done") else share
    found |= {"cancel": job.state in ("queued", "running"), "resume": job.state in Job.RESUMABLE and job.attempt < job.max_attempts}
    if job.state in Job.RESUMABLE:
        found |= {"error": job.error_text or "Its trainer is gone.", "log": log}
    if job.state == "succeeded" and made is None:
        found["error"] = "The model that it made was deleted."
    elif job.state == "succeeded":
        found |= {"lineup": f"./?lineup={job.id}", "model": f"./models?model={quote(made)}"}
    return found


def phase_words(phase: str | None, last: dict) -> str:
    """What a trainer is doing: "step 40 of 120 · 12 s left"."""
    if phase == "report":
        return "measuring it on the held-out pairs"
    if phase == "done":
        return "saving and checking the model"
    if not last:
        return "the data is read, the first steps begin" if phase == "data" else "starting: the libraries and the model are loading"
    left = last.get("seconds_left")
    return f"step {last['step']:,} of {last['num_steps']:,}" + (f" · {seconds_words(left)} left" if left is not None else "")


def seconds_words(seconds: float) -> str:
    """ "12 s", "3 min", "2.5 h"."""
    if seconds < 90:
        return f"{max(1, round(seconds))} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def about(job: Job, lines: list[dict]) -> str:
    """What is trained: "partial, from starter · 96 pairs, 18 held out · loss 0.412 · held-out accuracy 71 %"."""
    training = job.config.get("training") or {}
    parts = [f"{training.get('objective', TrainingConfig().objective)}, from {job.config.get('parent') or job.config.get('base_lm')}"]
    data = next((line["data"] for line in lines if isinstance(line.get("data"), dict)), None)
    if data:
        parts.append(f"{data.get('num_train', 0):,} {data.get('kind', 'pairs')} to train on, {data.get('num_held_out', 0):,} held out")
    last = next((line for line in reversed(lines) if line.get("loss") is not None), None)
    if last:
        parts.append(f"loss {last['loss']:.3f} at step {last['step']:,}")
        if last.get("held_out_accuracy") is not None and job.state in Job.UNFINISHED:
            parts.append(f"right on {100 * last['held_out_accuracy']:.0f} % of held-out pairs")
    changed = [f"{name.replace('_', ' ')} {value}" for name, value in training.items() if name != "objective"]
    return " · ".join([*parts, *changed])
