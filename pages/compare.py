"""The Compare page: one prompt answered side by side by several methods, the scores behind each token, and a vote on the best answer.

Talks to the workbench; knows nothing of models or of how tokens are chosen.
"""

import json
import secrets
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import suppress
from datetime import datetime
from typing import Any

import gradio as gr
import plotly.graph_objects as go
from gradio.context import Context

from pages import ids, theme
from pages.columns import (
    Columns,
    default_columns,
    default_settings,
    describe_models,
    read_settings,
    read_spec,
    reward_labels,
    setting_fields,
    spec_of,
    write_settings,
    write_spec,
)
from pages.components import Address, ColourBar, Openings, PromptBox, Settings, Words
from pages.handlers import NO_EVENT, Handler, guarded, in_words, payload, read_id, read_json, read_text, shown, warn
from pages.streaming import Texts, branch_label, column_title, stored_texts, summary, wait
from pages.theme import Links
from pages.token_view import CurveBridge, Inspector
from pages.voting import Voting
from pages.waiting_line import Line, Ticket
from rgtg.config import COLUMN_NAMES, MAX_COLUMNS
from rgtg.errors import BadSettings, OverBudget, RgtgError
from rgtg.plots import reward_curve
from rgtg.records import Comparison
from rgtg.workbench.further import on_screen, stopped_of
from rgtg.workbench.running import RunningComparison
from rgtg.workbench.workbench import Workbench

TITLE = "Compare"
MAX_PROMPT, MAX_NAME = 20_000, 200
DOUBLE_CLICK = 0.4
MAX_ASKED_BACK = 1_000
CHANNELS = (
    ("reward", "reward"),
    ("change", "change in reward"),
    ("margin", "margin over the base LM's top token"),
    ("surprisal", "surprisal (−log p)"),
    ("none", "none"),
)
ENDED = "() => rgtg.starting.ended(false)"
REFUSED = "() => rgtg.starting.ended(true)"
HINT = "Pick an example, or type a prompt and press Ctrl+Enter."


def build(workbench: Workbench, pages: Links) -> None:
    """Lay out the page in the open Blocks and connect its events."""
    page = _Page(workbench, Line(), pages)
    assert Context.root_block is not None
    page.wire(Context.root_block)


class _Page:
    """The components of the page by name, and the handlers that answer them."""

    def __init__(self, workbench: Workbench, line: Line, pages: Links):
        self.workbench, self.line = workbench, line
        self.asked_back: dict[str | None, object] = {}  # by visitor: the last request that was over the limits
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
        self.colour = ColourBar(CHANNELS, labels=reward_labels(workbench), elem_id=ids.COLOUR)
        self.columns = Columns(workbench, specs)
        with gr.Row(elem_classes=["why-row"]):
            self.inspector = Inspector(elem_id=ids.INSPECTOR)
            with gr.Column(min_width=0, elem_classes=["curve-column"]):
                self.curve = gr.Plot(reward_curve([]), show_label=False, container=False, elem_id=ids.CURVE)
                CurveBridge(ids.CURVE, elem_id=ids.CURVE_BRIDGE)
        self.voting = Voting(workbench)
        self.timer = gr.Timer(0.5)
        self.address = Address(elem_id=ids.ADDRESS)

    def wire(self, blocks: gr.Blocks) -> None:
        drawn = [self.prompt, self.settings, self.status, self.curve, self.voting.bar, self.again, self.colour]
        drawn += [*self.columns.views.values(), *self.columns.settings.values()]
        asked = [self.prompt, self.settings, self.colour, *self.columns.inputs]
        pickers = [self.settings, self.colour, *self.columns.inputs]
        # Line and RunningComparison keep the order; Gradio's own queue would hide who waits for what
        own: dict[str, Any] = {"show_progress": "hidden", "concurrency_limit": None, "api_visibility": "private"}
        starts = [self.generate.click, self.again.click, self.openings.when("pick")]
        public = own | {"api_visibility": "public", "api_name": "generate"}
        started = gr.on(starts, self._generate(), asked, drawn, trigger_mode="multiple", **public)
        started.success(None, None, None, js=ENDED)
        started.failure(None, None, None, js=REFUSED)
        self.stop.click(self._stop(), None, self.status, **own)
        self.inspector.branch(self._branch(), self.colour, drawn, trigger_mode="multiple", **own)
        self.voting.wire(**own)
        self.voting.bar.go_on(self._go_on(), self.colour, drawn, trigger_mode="multiple", **own)
        self.address.open(self._open(), None, drawn, trigger_mode="always_last", **own)
        self.colour.measure(self._measure(), self.voting.bar, self.curve, trigger_mode="always_last", **own)
        self.timer.tick(self._tick(), None, [self.models, self.timer, *pickers], **own)
        blocks.load(self._load(), [self.prompt, self.address], [self.models, self.timer, *drawn], js="() => rgtg.draft()", **own)

    # ---- generating -----------------------------------------------------------------------------

    def _generate(self) -> Handler:
        @guarded("Generation")
        def generate(
            prompt: object, settings: str, measure: str, a: str, b: str, c: str, d: str, request: gr.Request, event: gr.EventData = NO_EVENT
        ) -> Iterator[dict]:
            example = payload(event).get("text")
            prompt = read_text(prompt if example is None else example, "prompt", MAX_PROMPT)
            asked, measure = read_settings(settings, self.workbench), _read_measure(measure)
            names = COLUMN_NAMES[: asked["columns"]]
            specs = [read_spec(text, name, self.workbench, asked["base_lm"]) for name, text in zip(names, (a, b, c, d), strict=False)]
            if self.line.started_within(request.session_hash, DOUBLE_CLICK):
                yield {self.status: gr.skip()}
                return
            seed = asked["seed"] if asked["lock"] else secrets.randbelow(1_000_000)
            self.line.stop(request.session_hash)
            ticket = self.line.enter(request.session_hash)
            try:
                yield {self.status: "started"} | ({} if example is None else {self.prompt: prompt})  # else somebody may be typing the next
                if not (yield from self._wait(ticket)):
                    return
                try:
                    wanted = (prompt, tuple(specs), asked["generation"], asked["base_lm"])
                    confirmed = self.asked_back.pop(request.session_hash, None) == wanted
                    running = self.workbench.compare(
                        prompt, specs, asked["generation"], seed, asked["base_lm"], confirmed=confirmed, stopped=lambda: ticket.stopped
                    )
                except OverBudget as error:
                    yield {self.status: "not started"}
                    raise self._ask_back(error, request.session_hash, wanted) from None
                except RgtgError:
                    yield {self.status: "not started"}
                    raise
                fresh = {self.settings: json.dumps(write_settings(**asked | {"seed": seed})), self.again: gr.Button(visible=False)}
                fresh |= {self.columns.views[name]: "" for name in COLUMN_NAMES[len(running.traces) :]}
                fresh |= {settings: gr.update(branch="") for settings in self.columns.inputs}
                yield from self._stream(running, ticket, measure, fresh)
            finally:
                self.line.leave(ticket)

        return generate

    def _ask_back(self, error: OverBudget, owner: str | None, wanted: object) -> OverBudget:
        """The error for a request that is over the limits; on one's own machine, pressing Generate again runs it unchanged."""
        if self.workbench.settings.public:
            return error
        if len(self.asked_back) >= MAX_ASKED_BACK:
            self.asked_back.clear()
        self.asked_back[owner] = wanted
        return OverBudget(error.wrong, error.found, f"{error.do} Or press Generate again to run it unchanged.")

    def _branch(self) -> Handler:
        @guarded("The branch")
        def branch(measure: str, request: gr.Request, event: gr.EventData = NO_EVENT) -> Iterator[dict]:
            asked, measure = payload(event), _read_measure(measure)
            comparison = self.workbench.comparison(read_id(asked.get("comparison"), "comparison"))
            trace = comparison.trace(read_id(asked.get("trace"), "answer"))
            index, token_id = asked.get("index"), asked.get("token_id")
            if trace is None or type(index) is not int or not 0 <= index < len(trace.steps):
                raise BadSettings("That token is not part of this comparison.", "", "Reload the page.")
            if type(token_id) is not int or token_id not in [c.token_id for c in trace.steps[index].candidates]:
                raise BadSettings("That token is not among the candidates of this step.", "", "Choose one from the table.")
            if token_id == trace.steps[index].token_id:
                raise BadSettings("That token is already the selected one.", "", "Branch with another candidate.")
            doing, refused = f"branching from column {trace.column} at token {index + 1}", "no branch was made"
            yield from self._further(lambda: self.workbench.branch(comparison.id, trace.id, index, token_id), doing, refused, request, measure)

        return branch

    def _go_on(self) -> Handler:
        @guarded("Continuing")
        def go_on(measure: str, request: gr.Request, event: gr.EventData = NO_EVENT) -> Iterator[dict]:
            comparison_id, measure = read_id(payload(event).get("comparison"), "comparison"), _read_measure(measure)
            doing, refused = "continuing from where it was stopped", "nothing was added"
            yield from self._further(lambda: self.workbench.go_on(comparison_id), doing, refused, request, measure)

        return go_on

    def _further(self, begin: Callable[[], RunningComparison], doing: str, refused: str, request: gr.Request, measure: str) -> Iterator[dict]:
        """Stream further tokens of a comparison on screen; `doing` is the status until they begin, `refused` the one where they cannot."""
        ticket = self.line.enter(request.session_hash)
        try:
            yield {self.status: doing}
            if not (yield from self._wait(ticket)):
                return
            try:
                running = begin()
            except Exception:
                yield {self.status: refused}
                raise
            yield from self._stream(running, ticket, measure, {})
        finally:
            self.line.leave(ticket)

    def _wait(self, ticket: Ticket) -> Generator[dict, None, bool]:
        """Show what the ticket is waiting for; returns whether its turn has come (False: stopped)."""
        words = wait(self.workbench, self.line, ticket)
        while True:
            try:
                yield {self.status: next(words)}
            except StopIteration as ended:
                return ended.value

    def _stream(self, running: RunningComparison, ticket: Ticket, measure: str, fresh: dict) -> Iterator[dict]:
        """Run the comparison and stream the text of each column; `first_update` is sent with the first of them."""
        ticket.on_stop = running.stop
        if ticket.stopped:
            running.stop()
        texts = Texts(running, self.workbench)
        try:
            begun = {
                self.voting.bar: self.voting.value(running.comparison, self.voting.standing(running.comparison)),
                self.status: f"running, seed {running.traces[0].run.seed}",
            }
            yield fresh | begun | self._into_views(texts.now()) | self._branch_labels(running.comparison, texts.columns)
            for grown in texts:
                yield self._into_views(grown)
        except Exception as error:
            words = in_words(error, "Generation")
            yield self._into_views(texts.fail(words)) | {self.status: words}
            raise shown(words) from None
        finally:
            running.close()
        not_stored = f" · {running.not_stored}" if running.not_stored else ""
        ended: dict[Any, Any] = {self.curve: self._curve(running.comparison, measure)}
        if stopped_of(running.comparison):
            ended[self.voting.bar] = self.voting.value(running.comparison, self.voting.standing(running.comparison))
        yield self._into_views(texts.end()) | ended
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
        @guarded("Stop")
        def stop(request: gr.Request) -> str:
            return "stopping …" if self.line.stop(request.session_hash) else "nothing is running"

        return stop

    # ---- the page as it opens ---------------------------------------------------------------------

    def _load(self) -> Handler:
        @guarded("Opening the page")
        def load(prompt: object, draft: object, request: gr.Request) -> dict:
            status = self.workbench.status()
            found = {self.models: status.text, self.timer: gr.Timer(active=status.state == "loading")} | self._model_pickers()
            training = request.query_params.get("lineup")
            try:
                kept = read_json(draft or "{}", "page as it was left")
                asked = request.query_params.get("comparison") or (not training and kept.get("comparison"))
                if asked:
                    found |= self._reopened(self.workbench.comparison(read_id(asked, "comparison")))
                elif training:
                    return found | self._line_up(read_id(training, "training"))
            except RgtgError as error:
                warn(str(error))
                return found
            return found | self._as_it_was_left(prompt, kept)

        return load

    def _as_it_was_left(self, prompt: object, kept: dict) -> dict:
        """Updates that restore an unsent prompt and its settings; a model that is gone or a value out of range is left out."""
        found: dict[Any, Any] = {}
        with suppress(RgtgError):
            found[self.prompt] = read_text(prompt, "prompt", MAX_PROMPT)
        with suppress(RgtgError):
            asked = read_settings(kept.get("settings"), self.workbench)
            models = describe_models(self.workbench)
            found[self.settings] = gr.update(value=json.dumps(write_settings(**asked)), fields=setting_fields(self.workbench))
            columns = kept.get("columns")
            columns = columns if isinstance(columns, dict) else {}
            for name in COLUMN_NAMES[:MAX_COLUMNS]:
                with suppress(RgtgError):
                    spec = read_spec(columns.get(name), name, self.workbench, asked["base_lm"])
                    found[self.columns.settings[name]] = gr.update(value=write_spec(spec), models=models)
        return found

    def _open(self) -> Handler:
        @guarded("Opening the comparison")
        def open_another(request: gr.Request, event: gr.EventData = NO_EVENT) -> dict:
            asked = payload(event).get("comparison")
            self.line.stop(request.session_hash)
            if asked:
                return self._reopened(self.workbench.comparison(read_id(asked, "comparison")))
            nothing: dict[Any, Any] = {self.voting.bar: "{}", self.curve: reward_curve([]), self.again: gr.Button(visible=False), self.status: HINT}
            return nothing | self._into_views(dict.fromkeys(COLUMN_NAMES, "")) | {settings: gr.update(branch="") for settings in self.columns.inputs}

        return open_another

    def _line_up(self, job_id: str) -> dict:
        """Columns that compare a trained model with the model it was trained from."""
        job = self.workbench.trainings.jobs.job(job_id)
        specs, models = self.workbench.trainings.line_up(job), describe_models(self.workbench)
        settings = default_settings(self.workbench, len(specs)) | {"base_lm": job.config["base_lm"]}
        found: dict[Any, Any] = {self.settings: gr.update(value=json.dumps(settings), fields=setting_fields(self.workbench))}
        found |= {
            self.columns.settings[name]: gr.update(value=write_spec(spec), models=models) for name, spec in zip(COLUMN_NAMES, specs, strict=False)
        }
        return found | {self.status: f"{job.reward_model} next to the model it was trained from: {HINT[0].lower()}{HINT[1:]}"}

    def _reopened(self, comparison: Comparison) -> dict:
        """Updates that show a stored comparison in every component."""
        own = [t for t in on_screen(comparison) if t.parent_trace_id is None]
        found = {self.prompt: comparison.prompt, self.voting.bar: self.voting.value(comparison), self.curve: self._curve(comparison, "")}
        found |= {self.again: gr.Button(visible=True), self.colour: gr.update(labels=reward_labels(self.workbench))}
        found |= self._into_views(dict.fromkeys(COLUMN_NAMES, "") | stored_texts(comparison, self.workbench))
        models = describe_models(self.workbench)
        found |= {settings: gr.update(branch="") for settings in self.columns.inputs}
        for trace in own:
            found[self.columns.settings[trace.column]] = gr.update(value=write_spec(spec_of(trace.run)), models=models, branch="")
        found |= self._branch_labels(comparison, COLUMN_NAMES)
        if own:
            run = own[0].run
            settings = write_settings(run.base_lm.name, len(own), run.seed, run.generation)
            found[self.settings] = gr.update(value=json.dumps(settings), fields=setting_fields(self.workbench))
        found[self.status] = f"saved comparison from {_day(comparison.created_at)}; “Run again” regenerates it"
        return found

    def _model_pickers(self) -> dict:
        models = describe_models(self.workbench)
        shared = {self.settings: gr.update(fields=setting_fields(self.workbench)), self.colour: gr.update(labels=reward_labels(self.workbench))}
        return shared | {column: gr.update(models=models) for column in self.columns.inputs}

    def _tick(self) -> Handler:
        @guarded("The status")
        def tick() -> dict:
            status = self.workbench.status()
            words = status.text if status.state != "failed" else f"{status.text} {status.error}".strip()
            if status.state == "loading":
                return {self.models: words}
            return {self.models: words, self.timer: gr.Timer(active=False)} | self._model_pickers()

        return tick

    def _measure(self) -> Handler:
        @guarded("The curve")
        def measure(bar: str, event: gr.EventData = NO_EVENT) -> object:
            name, comparison = payload(event).get("measure"), read_json(bar or "{}", "vote bar").get("comparison")
            if not comparison:
                return gr.skip()
            return self._curve(self.workbench.comparison(read_id(comparison, "comparison")), _read_measure(name))

        return measure


def _read_measure(value: object) -> str:
    """The name of the reward model whose rewards the curve shows; "" for the default."""
    return read_text(value, "name of the reward model", MAX_NAME, "Choose one.") if value else ""


def _day(created_at: str) -> str:
    try:
        return datetime.fromisoformat(created_at).strftime("%-d %B %Y, %H:%M UTC")
    except ValueError:
        return "an unknown date"
