"""The Compare page: one prompt answered side by side by several methods, the scores behind each token, and a vote on the best answer.

Talks to the workbench; knows nothing of models or of how tokens are chosen.
"""

import json
import secrets
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import suppress
from functools import partial
from typing import Any

import gradio as gr
import plotly.graph_objects as go
from gradio.context import Context

from pages import admission, ids, theme
from pages.asking_back import AskedBack
from pages.by_hand import ByHand
from pages.columns import (
    Columns,
    default_columns,
    default_settings,
    describe_models,
    read_settings,
    read_spec,
    reward_labels,
    setting_fields,
    write_settings,
    write_spec,
)
from pages.components import Address, ColourBar, Openings, PromptBox, Settings, Words
from pages.handlers import NO_EVENT, Handler, guarded, in_words, payload, read_id, read_json, read_text, screen_error, warn
from pages.history import History, HistoryDrawer
from pages.presets import LineUpPicker
from pages.reports import day_words
from pages.streaming import Texts, branch_label, column_title, stored_texts, summary, wait
from pages.sweeping import Sweeping
from pages.theme import Links
from pages.token_view import CurveBridge, Inspector
from pages.visitors import asked, opened, visitor_of
from pages.voting import Voting
from pages.waiting_line import Line, Ticket, line_of
from rgtg.config import COLUMN_NAMES, MAX_COLUMNS
from rgtg.errors import BadSettings, OverBudget, RgtgError
from rgtg.plots import reward_curve
from rgtg.records import Comparison
from rgtg.workbench.columns.copying import spec_of
from rgtg.workbench.further import on_screen, stopped_of
from rgtg.workbench.running import RunningComparison
from rgtg.workbench.visitors import Visitor
from rgtg.workbench.workbench import Workbench

TITLE = "Compare"
MAX_PROMPT, MAX_NAME = 20_000, 200
DOUBLE_CLICK = 0.4
CHANNELS = (
    ("reward", "reward"),
    ("change", "change in reward"),
    ("margin", "margin over base LM's top token"),
    ("surprisal", "surprisal (−log p)"),
    ("none", "none"),
)
ENDED = "() => rgtg.starting.ended(false)"
REFUSED = "() => rgtg.starting.ended(true)"
RESTORED = {"restored": True}  # of a page that was left: forms.js keeps what was changed since
HINT = "Pick an example, or type a prompt and press Ctrl+Enter."


def build(workbench: Workbench, pages: Links) -> None:
    """Lay out the page in the open Blocks and connect its events."""
    page = _Page(workbench, line_of(workbench), pages)
    assert Context.root_block is not None
    page.wire(Context.root_block)


class _Page:
    """The components of the page by name, and the handlers that answer them."""

    def __init__(self, workbench: Workbench, line: Line, pages: Links):
        self.workbench, self.line = workbench, line
        self.asked_back = AskedBack(lambda: self.workbench.settings.public, "Generate")
        specs = default_columns(workbench)
        with gr.Row(elem_classes=["topline"]):
            theme.header(TITLE, pages)
            self.models = Words(workbench.status().text, elem_id=ids.MODEL_STATUS)
        with gr.Row(elem_classes=["ask-row"]):
            with gr.Column(min_width=0, elem_classes=["ask-left"]):
                self.prompt = PromptBox(label="Prompt", show_label=False, lines=4, max_lines=4, placeholder=HINT, elem_id=ids.PROMPT, container=False)
            with gr.Column(min_width=0, elem_classes=["ask-right"]):
                self.settings = Settings(json.dumps(default_settings(workbench, len(specs))), fields=setting_fields(workbench), elem_id=ids.SETTINGS)
                with gr.Row(elem_classes=["go-row"]):
                    self.generate = gr.Button("Generate", variant="primary", elem_id=ids.GENERATE, min_width=0)
                    self.stop = gr.Button("Stop", elem_id=ids.STOP, min_width=0)
                    self.again = gr.Button("Run again", elem_id=ids.RUN_AGAIN, min_width=0, visible=False)
                    self.status = Words(HINT, live=True, elem_id=ids.STATUS)
                self.openings = Openings(workbench.openings(), elem_id=ids.OPENINGS)
        with gr.Row(elem_classes=["show-row"]):
            self.line_ups = LineUpPicker(workbench)
            self.colour = ColourBar(CHANNELS, labels=reward_labels(workbench), elem_id=ids.COLOUR)
        self.columns = Columns(workbench, specs)
        self.line_ups.of(self.settings, self.columns, self.status)
        with gr.Row(elem_classes=["why-row"]):
            self.inspector = Inspector(elem_id=ids.INSPECTOR)
            with gr.Column(min_width=0, elem_classes=["curve-column"]):
                self.curve = gr.Plot(reward_curve([]), show_label=False, container=False, elem_id=ids.CURVE)
                CurveBridge(ids.CURVE, elem_id=ids.CURVE_BRIDGE)
        self.sweeping = Sweeping(workbench, self.line)
        self.voting = Voting(workbench)
        self.history = History(workbench, HistoryDrawer(elem_id=ids.HISTORY))
        self.timer = gr.Timer(0.5)
        self.address, self.by_hand = Address(elem_id=ids.ADDRESS), ByHand(elem_id=ids.BY_HAND)

    def wire(self, blocks: gr.Blocks) -> None:
        outputs = [self.prompt, self.settings, self.status, self.curve, self.voting.bar, self.again, self.colour]
        outputs += [*self.columns.views.values(), *self.columns.settings.values()]
        inputs = [self.prompt, self.settings, self.colour, *self.columns.inputs]
        pickers = [self.settings, self.colour, *self.columns.inputs]
        # Line and RunningComparison keep the order; Gradio's own queue would hide who waits for what
        options: dict[str, Any] = {"show_progress": "hidden", "concurrency_limit": None, "api_visibility": "private"}
        starts = [self.generate.click, self.again.click, self.openings.when("pick")]
        generate_options = options | {"api_visibility": "public", "api_name": "generate"}
        generated = gr.on(starts, self._generate(), inputs, outputs, trigger_mode="multiple", **generate_options)
        generated.success(None, None, None, js=ENDED)
        generated.failure(None, None, None, js=REFUSED)
        self.stop.click(self._stop(), None, self.status, trigger_mode="multiple", **options)
        self.inspector.branch(self._branch(), self.colour, outputs, trigger_mode="multiple", **options)
        self.by_hand.wire(self.workbench, self._extend, outputs, **options)
        self.voting.wire(**options)
        self.line_ups.wire(**options)
        self.history.wire(**options)
        self.sweeping.wire(self.prompt, self.settings, self.columns.inputs, **options)
        self.voting.bar.go_on(self._go_on(), self.colour, outputs, trigger_mode="multiple", **options)
        self.address.open(self._open(), None, outputs, trigger_mode="always_last", **options)
        self.colour.measure(self._measure(), self.voting.bar, self.curve, trigger_mode="always_last", **options)
        self.timer.tick(self._tick(), None, [self.models, self.timer, *pickers], **options)
        blocks.load(self._load(), self.address, [self.models, self.timer, *outputs], js="() => rgtg.draft()", **options)

    # ---- generating -----------------------------------------------------------------------------

    def _generate(self) -> Handler:
        @guarded("Generation", self.workbench)
        def generate(
            prompt: object,
            settings: str,
            measure: str,
            a: str,
            b: str,
            c: str,
            d: str,
            e: str,
            f: str,
            request: gr.Request,
            event: gr.EventData = NO_EVENT,
        ) -> Iterator[dict]:
            example, visitor = payload(event).get("text"), visitor_of(self.workbench, request)
            prompt = read_text(prompt if example is None else example, "prompt", MAX_PROMPT)
            run_settings, measure = read_settings(settings, self.workbench), _read_measure(measure)
            names = COLUMN_NAMES[: run_settings["columns"]]
            specs = [read_spec(text, name, self.workbench, run_settings["base_lm"]) for name, text in zip(names, (a, b, c, d, e, f), strict=False)]
            if self.line.started_within(request.session_hash, DOUBLE_CLICK):
                yield {self.status: gr.skip()}
                return
            seed = run_settings["seed"] if run_settings["lock"] else secrets.randbelow(1_000_000)
            self.line.stop(request.session_hash)
            ticket = admission.enter(self.line, self.workbench, request)
            try:
                yield {self.status: "started"} | ({} if example is None else {self.prompt: prompt})  # else somebody may be typing the next
                if not (yield from self._wait(ticket)):
                    return
                try:
                    request_key = (prompt, tuple(specs), run_settings["generation"], run_settings["base_lm"])
                    confirmed = self.asked_back.confirmed(request.session_hash, request_key)
                    running = self.workbench.compare(
                        prompt, specs, run_settings["generation"], seed, run_settings["base_lm"], visitor=visitor, confirmed=confirmed,
                        stopped=lambda: ticket.stopped,
                    )  # fmt: skip
                except OverBudget as error:
                    yield {self.status: "not started"}
                    raise self.asked_back.error(error, request.session_hash, request_key) from None
                except RgtgError:
                    yield {self.status: "not started"}
                    raise
                first_update = {self.settings: json.dumps(write_settings(**run_settings | {"seed": seed})), self.again: gr.Button(visible=False)}
                first_update |= {self.columns.views[name]: "" for name in COLUMN_NAMES[len(running.traces) :]}
                first_update |= {settings: gr.update(branch="") for settings in self.columns.inputs}
                yield from self._stream(running, ticket, measure, first_update, visitor)
            finally:
                self.line.leave(ticket)

        return generate

    def _branch(self) -> Handler:
        @guarded("The branch", self.workbench)
        def branch(measure: str, request: gr.Request, event: gr.EventData = NO_EVENT) -> Iterator[dict]:
            sent, measure = payload(event), _read_measure(measure)
            comparison_id, visitor = asked(self.workbench, request, sent.get("comparison"))
            comparison = self.workbench.comparison(comparison_id, visitor)
            trace = comparison.trace(read_id(sent.get("trace"), "answer"))
            index, token_id = sent.get("index"), sent.get("token_id")
            if trace is None or type(index) is not int or not 0 <= index < len(trace.steps):
                raise BadSettings("That token is not part of this comparison.", "", "Reload the page.")
            if type(token_id) is not int or token_id not in [c.token_id for c in trace.steps[index].candidates]:
                raise BadSettings("That token is not among the candidates of this step.", "", "Choose one from the table.")
            if token_id == trace.steps[index].token_id:
                raise BadSettings("That token is already the selected one.", "", "Branch with another candidate.")
            status, refused_status = f"branching from column {trace.column} at token {index + 1}", "no branch was made"
            start = partial(self.workbench.branch, comparison.id, trace.id, index, token_id, visitor)
            yield from self._extend(start, status, refused_status, request, measure)

        return branch

    def _go_on(self) -> Handler:
        @guarded("Continuing", self.workbench)
        def go_on(measure: str, request: gr.Request, event: gr.EventData = NO_EVENT) -> Iterator[dict]:
            asking, measure = asked(self.workbench, request, payload(event).get("comparison")), _read_measure(measure)
            status, refused_status = "continuing from where it was stopped", "nothing was added"
            yield from self._extend(partial(self.workbench.go_on, *asking), status, refused_status, request, measure)

        return go_on

    def _extend(self, start: Callable[[], RunningComparison], status: str, refused_status: str, request: gr.Request, measure: str) -> Iterator[dict]:
        """Stream further tokens of a comparison on screen; `status` is shown until they begin, `refused_status` if they cannot."""
        ticket = admission.enter(self.line, self.workbench, request)
        try:
            yield {self.status: status}
            if not (yield from self._wait(ticket)):
                return
            try:
                running = start()
            except Exception:
                yield {self.status: refused_status}
                raise
            yield from self._stream(running, ticket, measure, {}, visitor_of(self.workbench, request))
        finally:
            self.line.leave(ticket)

    def _wait(self, ticket: Ticket) -> Generator[dict, None, bool]:
        """Show what the ticket is waiting for; returns whether its turn has come (False: stopped)."""
        sentences = wait(self.workbench, self.line, ticket)
        while True:
            try:
                yield {self.status: next(sentences)}
            except StopIteration as ended:
                return ended.value

    def _stream(self, running: RunningComparison, ticket: Ticket, measure: str, first_update: dict, visitor: Visitor) -> Iterator[dict]:
        """Run the comparison and stream the text of each column; `first_update` is sent with the first of them."""
        ticket.on_stop = running.stop
        if ticket.stopped:
            running.stop()
        texts = Texts(running, self.workbench, ticket=ticket)
        try:
            started = {
                self.voting.bar: self.voting.value(running.comparison, visitor, self.voting.standing(running.comparison, visitor)),
                self.status: f"running, seed {running.traces[0].run.seed}",
            }
            yield first_update | started | self._into_views(texts.now()) | self._branch_labels(running.comparison, texts.columns)
            for grown in texts:
                yield self._into_views(grown)
        except Exception as error:
            message = in_words(error, "Generation")
            yield self._into_views(texts.fail(message)) | {self.status: message}
            raise screen_error(message) from None
        finally:
            running.close()
        not_stored = f" · {running.not_stored}" if running.not_stored else ""
        final_update: dict[Any, Any] = {self.curve: self._curve(running.comparison, measure)}
        if stopped_of(running.comparison):
            final_update[self.voting.bar] = self.voting.value(running.comparison, visitor, self.voting.standing(running.comparison, visitor))
        yield self._into_views(texts.end()) | final_update
        yield {self.status: summary(running.traces) + not_stored}  # on its own: Gradio sends the last answer twice, and all of it

    def _into_views(self, texts: dict[str, str]) -> dict:
        return {self.columns.views[name]: text for name, text in texts.items()}

    def _branch_labels(self, comparison: Comparison, columns: Iterable[str]) -> dict:
        labels = {t.column: branch_label(comparison, t) for t in on_screen(comparison) if t.column in columns}
        return {self.columns.settings[name]: gr.update(branch=label) for name, label in labels.items() if label}

    def _curve(self, comparison: Comparison, measure: str) -> go.Figure:
        columns = on_screen(comparison)
        return reward_curve(columns, measure, {t.column: column_title(t, self.workbench) for t in columns})

    def _stop(self) -> Handler:
        @guarded("Stop", self.workbench)
        def stop(request: gr.Request) -> str:
            return "stopping …" if self.line.stop(request.session_hash) else "nothing is running"

        return stop

    # ---- the page as it opens ---------------------------------------------------------------------

    def _load(self) -> Handler:
        @guarded("Opening the page", self.workbench)
        def load(draft: object, request: gr.Request) -> dict:
            status = self.workbench.status()
            updates = {self.models: status.text, self.timer: gr.Timer(active=status.state == "loading")} | self._model_pickers()
            job_id = request.query_params.get("lineup")
            try:
                draft_values = read_json(draft or "{}", "page as it was left")
                comparison_id = request.query_params.get("comparison") or (not job_id and draft_values.get("comparison"))
                if comparison_id:
                    with admission.computing("compare.open_another", self.workbench):
                        updates |= self._reopened(opened(self.workbench, request, comparison_id), visitor_of(self.workbench, request))
                elif job_id:
                    return updates | self._line_up(read_id(job_id, "training"))
            except RgtgError as error:
                warn(str(error))
                return updates
            if draft_values.get("prompt"):
                updates.pop(self.prompt, None)  # the page has put back the one that was being written
            return updates | self._restored_draft(draft_values)

        return load

    def _restored_draft(self, draft: dict) -> dict:
        """Updates that restore unsent settings where they are as the page opened; a model that is gone or a value out of range is left out."""
        updates: dict[Any, Any] = {}
        with suppress(RgtgError):
            settings = read_settings(draft.get("settings"), self.workbench)
            models = describe_models(self.workbench)
            updates[self.settings] = gr.update(value=json.dumps(write_settings(**settings) | RESTORED), fields=setting_fields(self.workbench))
            columns = draft.get("columns")
            columns = columns if isinstance(columns, dict) else {}
            for name in COLUMN_NAMES[:MAX_COLUMNS]:
                with suppress(RgtgError):
                    spec = read_spec(columns.get(name), name, self.workbench, settings["base_lm"])
                    updates[self.columns.settings[name]] = gr.update(value=json.dumps(json.loads(write_spec(spec)) | RESTORED), models=models)
        return updates

    def _open(self) -> Handler:
        @guarded("Opening the comparison", self.workbench)
        def open_another(request: gr.Request, event: gr.EventData = NO_EVENT) -> dict:
            comparison_id = payload(event).get("comparison")
            self.line.stop(request.session_hash)
            if comparison_id:
                return self._reopened(opened(self.workbench, request, comparison_id), visitor_of(self.workbench, request))
            cleared: dict[Any, Any] = {self.voting.bar: "{}", self.curve: reward_curve([]), self.again: gr.Button(visible=False), self.status: HINT}
            return cleared | self._into_views(dict.fromkeys(COLUMN_NAMES, "")) | {settings: gr.update(branch="") for settings in self.columns.inputs}

        return open_another

    def _line_up(self, job_id: str) -> dict:
        """Columns that compare a trained model with the model it was trained from."""
        job = self.workbench.trainings.jobs.job(job_id)
        specs = self.workbench.trainings.line_up(job)
        settings = default_settings(self.workbench, len(specs)) | {"base_lm": job.config["base_lm"]}
        status = f"{job.reward_model} next to the model it was trained from: {HINT[0].lower()}{HINT[1:]}"
        return self.line_ups.shown(specs, settings) | {self.status: status}

    def _reopened(self, comparison: Comparison, visitor: Visitor) -> dict:
        """Updates that show a stored comparison in every component."""
        unbranched = [t for t in on_screen(comparison) if t.parent_trace_id is None]
        updates = {self.prompt: comparison.prompt, self.voting.bar: self.voting.value(comparison, visitor), self.curve: self._curve(comparison, "")}
        updates |= {self.again: gr.Button(visible=True), self.colour: gr.update(labels=reward_labels(self.workbench))}
        updates |= self._into_views(dict.fromkeys(COLUMN_NAMES, "") | stored_texts(comparison, self.workbench))
        models = describe_models(self.workbench)
        updates |= {settings: gr.update(branch="") for settings in self.columns.inputs}
        for trace in unbranched:
            updates[self.columns.settings[trace.column]] = gr.update(value=write_spec(spec_of(trace.run)), models=models, branch="")
        updates |= self._branch_labels(comparison, COLUMN_NAMES)
        if unbranched:
            run = unbranched[0].run
            settings = write_settings(run.base_lm.name, len(unbranched), run.seed, run.generation)
            updates[self.settings] = gr.update(value=json.dumps(settings), fields=setting_fields(self.workbench))
        updates[self.status] = f"saved comparison from {day_words(comparison.created_at)}; “Run again” regenerates it"
        return updates

    def _model_pickers(self) -> dict:
        models = describe_models(self.workbench)
        shared = {self.settings: gr.update(fields=setting_fields(self.workbench)), self.colour: gr.update(labels=reward_labels(self.workbench))}
        return shared | {column: gr.update(models=models) for column in self.columns.inputs}

    def _tick(self) -> Handler:
        @guarded("The status", self.workbench)
        def tick() -> dict:
            status = self.workbench.status()
            status_text = status.text if status.state != "failed" else f"{status.text} {status.error}".strip()
            if status.state == "loading":
                return {self.models: status_text}
            return {self.models: status_text, self.timer: gr.Timer(active=False)} | self._model_pickers()

        return tick

    def _measure(self) -> Handler:
        @guarded("The curve", self.workbench)
        def measure(bar: str, request: gr.Request, event: gr.EventData = NO_EVENT) -> object:
            name, comparison = payload(event).get("measure"), read_json(bar or "{}", "vote bar").get("comparison")
            if not comparison:
                return gr.skip()
            return self._curve(opened(self.workbench, request, comparison), _read_measure(name))

        return measure


def _read_measure(value: object) -> str:
    """The name of the reward model whose rewards the curve shows; "" for the default."""
    return read_text(value, "name of the reward model", MAX_NAME, "Choose one.") if value else ""
