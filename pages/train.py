"""The Train page: the data, a reward model that is trained in the background with its curves, and its evaluation.

Talks to the workbench; knows nothing of trainers, processes or files of data.
"""

import json
import re
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import gradio as gr

from pages import administered, ids, theme
from pages.components import Lengths, Report, Words
from pages.handlers import guarded, in_words, payload, read_id, read_json, warn
from pages.reports import accuracy_figure, report_words
from pages.token_view import _Drawn
from pages.training_form import TrainForm, asks_for, option_fields, read_form
from pages.training_words import ANNOUNCEMENTS, data_words, job_line, job_words
from rgtg.errors import RgtgError
from rgtg.plots import training_curve
from rgtg.records import Job
from rgtg.workbench.trainings import VOTES
from rgtg.workbench.workbench import Workbench

TITLE = "Train"
KINDS = {"base_lm": "base LM", "reward_model": "reward model"}
EVERY = 1.0  # seconds between two updates of a training
MAX_LOOK_AT = 5_000  # votes that are inspected automatically; with more, the user presses the button
PUBLIC = "On a public server only its administrators train. Run rgtg on your own machine to train a reward model from your votes."
NO_VOTES = "No votes yet. Compare answers and say which is best; a first training makes sense from about 30 votes."


class DataView(_Drawn):
    """The report of the data, as JSON {asked, words, wrong, facts, left_out, remarks}; an answer to an older `asked` than the last is not drawn."""

    def __init__(self, value: str = "{}", **kwargs: Any):
        super().__init__(value, js_on_load="rgtg.dataView(element, props, watch)", **kwargs)


class JobList(_Drawn):
    """The trainings. Event `open_job` {job}."""

    def __init__(self, value: str = "{}", **kwargs: Any):
        super().__init__(value, js_on_load="rgtg.jobList(element, props, trigger, watch, 'open_job')", **kwargs)


class JobView(_Drawn):
    """The open training. Events `cancel_job`, `resume_job` {job}."""

    def __init__(self, value: str = "{}", **kwargs: Any):
        super().__init__(value, js_on_load="rgtg.jobView(element, props, trigger, watch, 'cancel_job', 'resume_job')", **kwargs)


def build(workbench: Workbench, pages: tuple[tuple[str, str], ...]) -> None:
    """Lay the page out in the open Blocks and wire it; on a public server without administrators show one sentence."""
    administered.build(workbench, pages, TITLE, _Page, PUBLIC, ids.TRAIN_STATUS)


class _Page:
    """The components of the page by name, and the handlers that answer them."""

    def __init__(self, workbench: Workbench, pages: tuple[tuple[str, str], ...]):
        self.workbench, self.trainings = workbench, workbench.trainings
        self._one_at_a_time, self._starting = threading.Lock(), threading.Lock()
        with gr.Row(elem_classes=["topline"]):
            theme.header(TITLE, pages)
            self.models = Words("", elem_id=ids.MODEL_STATUS)
        shown = not workbench.settings.public  # to strangers nothing of it is
        with gr.Row(visible=shown, elem_classes=["room", "train-top"]) as top:
            with gr.Column(min_width=0):
                self.form = TrainForm(fields=option_fields(workbench), elem_id=ids.TRAIN_FORM)
                with gr.Row(elem_classes=["go-row"]):
                    self.start = gr.Button("Start training", variant="primary", elem_id=ids.TRAIN_START, min_width=0)
                    self.look = gr.Button("Look at the data", elem_id=ids.TRAIN_LOOK, min_width=0)
                    self.status = Words("", live=True, elem_id=ids.TRAIN_STATUS)
            with gr.Column(min_width=0, elem_classes=["panel"]):
                self.data = DataView(elem_id=ids.DATA_VIEW)
        with gr.Row(visible=shown, elem_classes=["room", "train-low"]) as low:
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
        self.rows = [] if shown else [top, low]
        self.sent = gr.State({})  # what was sent last, so that only what changed is sent
        self.timer = gr.Timer(EVERY, active=False)

    def wire(self, blocks: gr.Blocks) -> None:
        drawn = [self.jobs, self.job, self.curve_box, self.curve, self.report_box, self.report, self.accuracy, self.lengths]
        drawn += [self.status, self.sent, self.timer]
        own: dict[str, Any] = {"show_progress": "hidden", "concurrency_limit": None, "api_visibility": "private"}
        opened = blocks.load(self._load(), None, [self.form, self.models, *self.rows, *drawn], **own)
        opened.success(self._look(asked=False), self.form, self.data, **own)
        # two handlers: of an update that a generator yields, Gradio's page may take what the next yield leaves of it
        self.form.chosen(self._named(), self.form, self.form, trigger_mode="always_last", **own)
        self.form.chosen(self._chosen(), self.form, self.data, trigger_mode="always_last", **own)
        self.look.click(self._look(), self.form, self.data, **own)
        self.start.click(self._start(), [self.form, self.sent], [self.form, *drawn], trigger_mode="multiple", **own)
        self.jobs.open_job(self._open(), self.sent, drawn, trigger_mode="always_last", **own)
        self.job.cancel_job(self._cancel(), self.sent, drawn, **own)
        self.job.resume_job(self._resume(), self.sent, drawn, **own)
        self.timer.tick(self._tick(), self.sent, [self.models, *drawn], **own)

    # ---- before a training ------------------------------------------------------------------------

    def _load(self) -> Callable[..., Any]:
        @guarded("Opening the page", self.workbench)
        def load(request: gr.Request) -> dict[Any, Any]:
            starts = self.trainings.starts()
            updates: dict[Any, Any] = {self.models: self.workbench.status().text} | {row: gr.update(visible=True) for row in self.rows}
            form: dict[str, Any] = {"source": VOTES, "path": "", "start": starts[0].name if starts else "", "training": {}}
            choices = [[m.name, f"{m.name} ({', '.join(filter(None, (KINDS[m.kind], m.mark)))})"] for m in starts]
            try:
                form["name"], votes = self._new_name(form), self.workbench.num_votes()
            except RgtgError as error:  # without the database nothing is trained, but the page opens
                warn(str(error))
                return updates | {self.form: gr.update(value=json.dumps(form), starts=choices)}
            sources = [[VOTES, f"my votes ({votes:,})"], ["file", "a file or data set"]]
            updates[self.form] = gr.update(value=json.dumps(form), starts=choices, sources=sources)
            jobs, asked = self.trainings.jobs.jobs(), request.query_params.get("job")
            if asked and asked not in [job.id for job in jobs]:
                warn(f"There is no training `{asked:.80}` on this machine.")
            known = asked if asked in [job.id for job in jobs] else jobs[0].id if jobs else ""
            return updates | self._drawn(known, {})

        return load

    def _look(self, asked: bool = True) -> Callable[..., Any]:
        @guarded("Looking at the data", self.workbench)
        def look(form: str) -> Iterator[str]:
            if not asked and not 0 < self.workbench.num_votes() <= MAX_LOOK_AT:
                yield json.dumps(
                    {"words": NO_VOTES if not self.workbench.num_votes() else "Press “Look at the data” to count the pairs in your votes."}
                )
                return
            yield from self._look_at(form)

        return look

    def _look_at(self, form: str) -> Iterator[str]:
        """The value of DataView, with the `asked` of the form: requests may end in another order."""
        count = read_json(form, "form").get("asked")
        asked = {"asked": count if type(count) is int else 0}
        yield json.dumps(asked | {"words": "reading …"})
        try:
            form_values = read_form(form, self.workbench)
            report = self.trainings.data(form_values["source"], form_values["start"], form_values["config"])
            planned = self.trainings.estimate(report, form_values["start"], form_values["config"])
            yield json.dumps(asked | data_words(report, self.trainings.why_dropped, form_values["config"], planned))
        except Exception as error:
            yield json.dumps(asked | {"words": in_words(error, "Looking at the data"), "wrong": True})

    def _chosen(self) -> Callable[..., Any]:
        @guarded("Looking at the data", self.workbench)
        def chosen(form: str) -> Iterator[str]:
            if read_json(form, "form").get("source") != VOTES or self.workbench.num_votes() <= MAX_LOOK_AT:
                yield from self._look_at(form)

        return chosen

    def _named(self) -> Callable[..., Any]:
        @guarded("Naming the model", self.workbench)
        def named(form: str) -> dict[Any, Any]:
            return self._suggest(read_json(form, "form"))

        return named

    def _suggest(self, form: dict[str, Any], used: str = "") -> dict[Any, Any]:
        """Suggest a name as a property, not as the value, so that a name typed meanwhile is kept."""
        return gr.update(suggested=json.dumps({"name": self._new_name(form), "used": used}))

    def _new_name(self, form: dict[str, Any]) -> str:
        """A free name made of start and data: "partial-votes", "partial-votes-2", "starter-reviews"."""
        path = str(form.get("uploaded") or form.get("path") or "file")
        stem = f"{form.get('start') or 'reward'}-{'votes' if form.get('source') == VOTES else Path(path).stem}"
        return self.trainings.free_name(re.sub(r"[^A-Za-z0-9._+-]+", "-", stem.rpartition("/")[2]).strip("-._+")[:56] or "reward")

    # ---- trainings --------------------------------------------------------------------------------

    def _start(self) -> Callable[..., Any]:
        @guarded("Starting the training", self.workbench)
        def start(form: str, sent: dict[str, Any]) -> dict[Any, Any]:
            request = read_form(form, self.workbench)
            with self._starting:  # the second half of a double click finds what the first has begun
                existing = next((job.id for job in self.trainings.jobs.jobs() if job.state in Job.UNFINISHED and asks_for(request, job)), None)
                job_id = existing or self.trainings.train(request["source"], request["start"], request["name"], request["training"])
            return {self.form: self._suggest(read_json(form, "form"), request["name"])} | self._drawn(job_id, sent)

        return start

    def _open(self) -> Callable[..., Any]:
        @guarded("Opening the training", self.workbench)
        def open_job(sent: dict[str, Any], event: gr.EventData = None) -> dict[Any, Any]:  # type: ignore[assignment]  # Gradio knows this very type
            return self._drawn(read_id(payload(event).get("job"), "training"), sent)

        return open_job

    def _cancel(self) -> Callable[..., Any]:
        @guarded("Cancelling", self.workbench)
        def cancel(sent: dict[str, Any], event: gr.EventData = None) -> dict[Any, Any]:  # type: ignore[assignment]  # Gradio knows this very type
            job_id = read_id(payload(event).get("job"), "training")
            self.trainings.jobs.cancel(job_id)
            return self._drawn(job_id, sent)

        return cancel

    def _resume(self) -> Callable[..., Any]:
        @guarded("Resuming", self.workbench)
        def resume(sent: dict[str, Any], event: gr.EventData = None) -> dict[Any, Any]:  # type: ignore[assignment]  # Gradio knows this very type
            job_id = read_id(payload(event).get("job"), "training")
            self.trainings.jobs.resume(job_id)
            return self._drawn(job_id, sent)

        return resume

    def _tick(self) -> Callable[..., Any]:
        @guarded("The list of trainings", self.workbench)
        def tick(sent: dict[str, Any]) -> dict[Any, Any]:
            return {self.models: self.workbench.status().text} | self._drawn(None, sent)

        return tick

    def _drawn(self, job_id: str | None, sent: dict[str, Any]) -> dict[Any, Any]:
        """Updates of every part that changed since it was sent, with training `job_id` open (None: the one that is open).

        Clicks and the timer are handled concurrently. `sent` is changed in place under a lock, so that a tick that began before a
        click does not undo it.
        """
        with self._one_at_a_time:
            updates = self._changed(sent.get("open", "") if job_id is None else job_id, sent)
            sent.clear()
            sent.update(updates[self.sent])
            return updates | {self.sent: sent}

    def _changed(self, job_id: str, sent: dict[str, Any]) -> dict[Any, Any]:
        """Updates of the parts that differ from what was `sent`."""
        jobs = list(self.trainings.jobs.jobs())
        job = next((j for j in jobs if j.id == job_id), None) or (self.trainings.jobs.job(job_id) if job_id else None)
        current, card = {"open": job_id, "view": "{}", "steps": "", "report": "", "status": ""}, None
        if job:
            lines = self.trainings.jobs.progress(job_id)
            jobs = [replace(j, progress=lines[-1]) if j.id == job_id and lines else j for j in jobs]  # its row is a second behind
            steps = [line for line in lines if "step" in line]
            model = self.trainings.made_by(job)
            card = model.card if model else None
            log = self.trainings.jobs.log(job_id) if job.state in Job.RESUMABLE else ""
            current |= {"view": json.dumps(job_words(job, lines, [j for j in jobs if j.state in Job.UNFINISHED], model.name if model else None, log))}
            current |= {
                "steps": f"{job_id} {len(steps)}" if steps or job.state in Job.UNFINISHED else "",
                "report": f"{job_id} report" if card else "",
            }
            current["status"] = f"“{job.config.get('name')}” {ANNOUNCEMENTS[job.state]}"
        current["list"] = json.dumps({"open": job_id, "jobs": [job_line(j) for j in jobs]})
        loading = self.workbench.status().state == "loading"
        updates: dict[Any, Any] = {self.sent: current, self.timer: gr.Timer(active=loading or any(j.state in Job.UNFINISHED for j in jobs))}
        if current["list"] != sent.get("list"):
            updates[self.jobs] = current["list"]
        if current["view"] != sent.get("view"):
            updates[self.job] = current["view"]
        if job and current["status"] != sent.get("status") and (job.state in Job.UNFINISHED or sent.get("open") == job_id):
            updates[self.status] = current["status"]
        if current["steps"] != sent.get("steps"):
            updates |= {self.curve_box: gr.update(visible=bool(current["steps"]))}
            updates |= {self.curve: training_curve(steps)} if current["steps"] else {}
        if current["report"] != sent.get("report"):
            updates |= {self.report_box: gr.update(visible=card is not None), self.report: report_words(card), self.lengths: report_words(card)}
            updates |= {self.accuracy: accuracy_figure(card)} if card else {}
        return updates
