"""The Sweep page: a grid of methods and their parameters on many prompts, made in the background, and what comes of it as it comes.

Talks to the workbench; knows nothing of processes, shards or how an answer is made.
"""

import json
import threading
from collections.abc import Iterator
from typing import Any

import gradio as gr

from pages import administered, ids, temporary, theme
from pages.components import Download, Drawn, PromptBox, Words
from pages.handlers import NO_EVENT, Handler, guarded, in_words, payload, read_number, read_text, warn
from pages.sweep_form import GridForm, choices, default_form, draft_of, prompt_options, read_form
from pages.sweep_words import plan_words, sweep_line, sweep_words
from pages.voting import DOWNLOAD
from rgtg.errors import BadSettings, RgtgError
from rgtg.records import new_id
from rgtg.workbench.columns.copying import address_in
from rgtg.workbench.sweeping import results
from rgtg.workbench.sweeping.background import RUNNING, State
from rgtg.workbench.sweeping.folder import NO_DRAFT
from rgtg.workbench.sweeping.results import FORMS, ORDERS
from rgtg.workbench.workbench import Workbench

TITLE = "Sweep"
EVERY = 1.0  # seconds between two updates of a sweep
MAX_NAME, MAX_ANSWERS, MAX_KL = 64, 100, 1000.0  # answers that the panel shows; nats
PUBLIC = "On a public server only its administrators run sweeps. Run rgtg on your own machine for that."
FILES = {"csv": ("csv", "text/csv"), "latex": ("tex", "text/plain"), "jsonl": ("jsonl", "application/jsonl"), "html": ("html", "text/html")}
COPY = "(text) => rgtg.copyGrid(text)"


class SweepList(Drawn):
    """The sweeps, the newest first; the value is {open, sweeps}. Event `open_sweep` {name}."""

    function, events_sent = "sweepList", ("open_sweep",)


class SweepHead(Drawn):
    """The open sweep: how far it is, what can be done. Events `stop_sweep`, `resume_sweep` {name, keep}, `save_sweep` {name, form}."""

    function, events_sent = "sweepHead", ("stop_sweep", "resume_sweep", "save_sweep")


class SweepTables(Drawn):
    """Maps of two parameters and the table of the open sweep. Event `read_answers` {name, setting, order, asked}, also for a point of the plot."""

    function, events_sent = "sweepTables", ("read_answers",)


class SweepMatched(Drawn):
    """Methods at equal KL; the value is {name, families, kl, minus, table}. Event `match_kl` {name, kl, minus}."""

    function, events_sent = "sweepMatched", ("match_kl",)


class SweepAnswers(Drawn):
    """The answers of one setting. Event `read_answers` {name, setting, order, asked}."""

    function, events_sent = "sweepAnswers", ("read_answers",)


def build(workbench: Workbench, pages: tuple[tuple[str, str], ...]) -> None:
    """Lay the page out in the open Blocks and wire it; on a public server without administrators show one sentence."""
    administered.build(workbench, pages, TITLE, _Page, PUBLIC, ids.SWEEP_STATUS)


class _Page:
    """The components of the page by name, and the handlers that answer them."""

    def __init__(self, workbench: Workbench, pages: tuple[tuple[str, str], ...]):
        self.workbench, self.sweeps = workbench, workbench.sweeps
        self._one_at_a_time = threading.Lock()
        with gr.Row(elem_classes=["topline"]):
            theme.header(TITLE, pages)
            self.models = Words("", elem_id=ids.MODEL_STATUS)
        shown = not workbench.settings.public  # to strangers nothing of it is
        with gr.Column(visible=shown, elem_id=ids.GRID_EDITOR, elem_classes=["room"], min_width=0) as editor:
            self.form = GridForm(elem_id=ids.GRID_FORM)
            self.prompts = PromptBox(
                label="prompts, one a line", lines=4, max_lines=10, show_label=False, container=False, elem_id=ids.GRID_PROMPTS,
                placeholder="Prompts, one a line",
            )  # fmt: skip
            with gr.Row(elem_classes=["go-row"]):
                self.start = gr.Button("Start sweep", variant="primary", elem_id=ids.GRID_START, min_width=0)
                self.plan = Words("", live=True, elem_id=ids.GRID_PLAN)
        with gr.Row(visible=shown, elem_classes=["room", "sweep-low"]) as low:
            with gr.Column(min_width=0):
                self.list = SweepList(elem_id=ids.SWEEP_LIST)
            with gr.Column(min_width=0, elem_id=ids.SWEEP_OPEN):
                self.head = SweepHead(elem_id=ids.SWEEP_HEAD)
                with gr.Row(elem_classes=["sweep-drawn"], visible=False) as self.drawn_box:
                    with gr.Column(min_width=0, elem_id="frontier-box", elem_classes=["plot-box"]):
                        self.plot = gr.Plot(show_label=False, container=False, elem_id=ids.SWEEP_FRONTIER)
                    self.answers = SweepAnswers(orders=list(ORDERS.items()), elem_id=ids.SWEEP_ANSWERS)
                self.matched = SweepMatched(max_kl=MAX_KL, elem_id=ids.SWEEP_MATCHED)
                self.tables = SweepTables(elem_id=ids.SWEEP_TABLES)
        self.rows = [] if shown else [editor, low]
        self.status = Words("", live=True, elem_id=ids.SWEEP_STATUS)
        self.download, self.html = Download("{}", elem_id=ids.SWEEP_FILE), gr.File(visible="hidden", elem_id=ids.SWEEP_HTML)
        self.command = Words("", elem_id=ids.SWEEP_COMMAND)
        self.sent = gr.State({})  # what was sent last, so that only what changed is sent
        self.timer = gr.Timer(EVERY, active=False)

    def wire(self, blocks: gr.Blocks) -> None:
        drawn = [self.list, self.head, self.drawn_box, self.plot, self.matched, self.tables, self.status, self.sent, self.timer]
        own: dict[str, Any] = {"show_progress": "hidden", "concurrency_limit": None, "api_visibility": "private"}
        form = [self.form, self.prompts]
        blocks.load(self._load(), None, [self.form, self.models, *self.rows, *drawn], **own)
        self.form.changed(self._plan(), form, self.plan, trigger_mode="always_last", **own)
        self.prompts.input(self._plan(), form, self.plan, trigger_mode="always_last", **own)
        self.start.click(self._start(), [*form, self.sent], [self.answers, *drawn], trigger_mode="once", **own)
        copied = self.form.copy_command(self._command(), form, self.command, **own)
        copied.success(None, self.command, None, js=COPY)
        self.list.open_sweep(self._open(), self.sent, [self.answers, *drawn], trigger_mode="always_last", **own)
        self.head.stop_sweep(self._stop(), self.sent, drawn, **own)
        self.head.resume_sweep(self._resume(), self.sent, drawn, **own)
        saved = self.head.save_sweep(self._save(), None, [self.download, self.html], **own)
        saved.success(None, self.html, None, js=f"(file) => file && ({DOWNLOAD})(file)")
        for component in (self.tables, self.answers):
            component.read_answers(self._answers(), None, self.answers, trigger_mode="multiple", **own)
        self.matched.match_kl(self._match(), None, self.matched, trigger_mode="always_last", **own)
        self.timer.tick(self._tick(), self.sent, [self.models, *drawn], **own)

    # ---- before a sweep ---------------------------------------------------------------------------

    def _load(self) -> Handler:
        @guarded("Opening the page", self.workbench)
        def load(request: gr.Request) -> dict[Any, Any]:
            updates: dict[Any, Any] = {self.models: self.workbench.status().text} | {row: gr.update(visible=True) for row in self.rows}
            updates[self.form] = gr.update(value=json.dumps(default_form(self.workbench)), **choices(self.workbench))
            names, asked = [state.name for state in self.sweeps.background.all()], request.query_params.get("sweep")
            if asked and asked not in names:
                warn(f"There is no sweep `{asked:.80}` on this machine.")
            return updates | self._drawn(asked if asked in names else names[0] if names else "", {})

        return load

    def _plan(self) -> Handler:
        @guarded("The plan of the sweep", self.workbench)
        def plan(form: str, prompts: str) -> Iterator[str]:
            try:
                _, grid = read_form(form, prompts, self.workbench)
                yield plan_words(grid)
                if self.workbench.status().state != "loading":
                    yield plan_words(grid, self.sweeps.estimator.seconds(grid))
            except RgtgError as error:  # what is being typed may not be complete yet; Start says it beside the field
                yield in_words(error, "The plan of the sweep")

        return plan

    def _command(self) -> Handler:
        @guarded("Copying the command", self.workbench)
        def command(form: str, prompts: str) -> str:
            name, grid = read_form(form, prompts, self.workbench)
            out = name or self._free_name(grid)
            return grid.command(out, address_in(self.workbench.library), prompt_options(form, prompts, self.workbench))

        return command

    # ---- sweeps -----------------------------------------------------------------------------------

    def _start(self) -> Handler:
        @guarded("Starting the sweep", self.workbench)
        def start(form: str, prompts: str, sent: dict[str, Any]) -> dict[Any, Any]:
            name, grid = read_form(form, prompts, self.workbench)
            name = name or self._free_name(grid)
            self.sweeps.background.start(name, grid, draft_of(form, prompts))
            return {self.answers: "{}"} | self._drawn(name, sent)

        return start

    def _free_name(self, grid: Any) -> str:
        stem = "-".join(dict.fromkeys(column.method for column in grid.columns))
        return self.sweeps.background.free_name(stem[:56].strip("-"))

    def _open(self) -> Handler:
        @guarded("Opening the sweep", self.workbench)
        def open_sweep(sent: dict[str, Any], event: gr.EventData = NO_EVENT) -> dict[Any, Any]:
            return {self.answers: "{}"} | self._drawn(self._name(event), sent)

        return open_sweep

    def _stop(self) -> Handler:
        @guarded("Stopping the sweep", self.workbench)
        def stop(sent: dict[str, Any], event: gr.EventData = NO_EVENT) -> dict[Any, Any]:
            name = self._name(event)
            self.sweeps.background.stop(name)
            return self._drawn(name, sent)

        return stop

    def _resume(self) -> Handler:
        @guarded("Resuming the sweep", self.workbench)
        def resume(sent: dict[str, Any], event: gr.EventData = NO_EVENT) -> dict[Any, Any]:
            name = self._name(event)
            self.sweeps.background.resume(name, keep=payload(event).get("keep") is True)
            return self._drawn(name, sent)

        return resume

    def _name(self, event: gr.EventData) -> str:
        """The sweep that an event names. Raises BadSettings where there is none."""
        return self.sweeps.background.state(read_text(payload(event).get("name"), "name of a sweep", MAX_NAME, "Reload the page.")).name

    def _save(self) -> Handler:
        @guarded("The download", self.workbench)
        def save(event: gr.EventData = NO_EVENT) -> dict[Any, Any]:
            name, form = self._name(event), payload(event).get("form")
            if not isinstance(form, str) or form not in FORMS:
                raise BadSettings("The sweep cannot be saved in that form.", f"There are: {', '.join(FORMS)}.", "Choose one.", "sweep-form")
            text, (ending, kind) = results.as_file(self.sweeps.results(name), form), FILES[form]
            if form != "html":
                return {self.download: json.dumps({"name": f"{name}.{ending}", "text": text, "type": kind, "at": new_id()}), self.html: None}
            path = temporary.download_folder() / f"{name}.{ending}"  # 5 MB, most of them the library that draws
            path.write_text(text, encoding="utf-8")
            return {self.html: str(path)}

        return save

    def _answers(self) -> Handler:
        @guarded("The answers", self.workbench)
        def answers(event: gr.EventData = NO_EVENT) -> str:
            name, sent = self._name(event), payload(event)
            found, setting, order = self.sweeps.results(name), sent.get("setting"), sent.get("order", next(iter(ORDERS)))
            found.refresh()
            if not isinstance(setting, str) or not (cells := found.cells(setting)):
                raise BadSettings("There are no answers of that setting.", "", "Reload the page.")
            if not isinstance(order, str) or order not in ORDERS:
                raise BadSettings("The answers have no such order.", f"There are: {', '.join(ORDERS)}.", "Choose one.")
            shown = [_answer(cell) for cell in results.in_order(cells, order)[:MAX_ANSWERS]]
            asked = sent.get("asked") if type(sent.get("asked")) is int else 0
            value = {"name": name, "setting": setting, "order": order, "asked": asked, "total": len(cells), "answers": shown}
            return json.dumps(value, ensure_ascii=False, allow_nan=False)

        return answers

    def _match(self) -> Handler:
        @guarded("The comparison at equal KL", self.workbench)
        def match(event: gr.EventData = NO_EVENT) -> str:
            name, sent = self._name(event), payload(event)
            kl = float(read_number(sent.get("kl"), "KL", 0.01, MAX_KL, field="matched-kl"))
            found, minus = self.sweeps.results(name), sent.get("minus")
            found.refresh()
            families, _ = results.comparable(found.rows(), found.settings)
            if not isinstance(minus, str) or minus not in ("", *families):
                raise BadSettings("There is no such method to compare with.", "", "Choose another.", "matched-minus")
            table = results.at_equal_kl(found.all_cells(), found.settings, kl, minus)
            value = {"name": name, "families": families, "kl": kl, "minus": minus, "table": table}
            return json.dumps(value, ensure_ascii=False, allow_nan=False)

        return match

    def _tick(self) -> Handler:
        @guarded("The list of sweeps", self.workbench)
        def tick(sent: dict[str, Any]) -> dict[Any, Any]:
            return {self.models: self.workbench.status().text} | self._drawn(None, sent)

        return tick

    def _drawn(self, name: str | None, sent: dict[str, Any]) -> dict[Any, Any]:
        """Updates of every part that changed since it was sent, with the sweep `name` open (None: the one that is open).

        Clicks and the timer are handled concurrently; `sent` is changed in place under a lock, so that a tick that began before a click
        does not undo it.
        """
        with self._one_at_a_time:
            updates = self._changed(sent.get("open", "") if name is None else name, sent)
            sent.clear()
            sent.update(updates[self.sent])
            return updates | {self.sent: sent}

    def _changed(self, name: str, sent: dict[str, Any]) -> dict[Any, Any]:
        """Updates of the parts that differ from what was `sent`."""
        states = self.sweeps.background.all()
        state = next((one for one in states if one.name == name), None)
        current: dict[str, Any] = {"open": name if state else "", "head": "{}", "status": "", "results": sent.get("results", "")}
        current["list"] = json.dumps({"open": current["open"], "sweeps": [sweep_line(one) for one in states]})
        updates: dict[Any, Any] = {self.timer: gr.Timer(active=any(one.state == RUNNING for one in states) or self._is_loading())}
        if state is not None:
            updates |= self._results(state, sent, current)
            current["head"] = self._head(state)
            current["status"] = f"“{name}” {'is running' if state.state == RUNNING else sweep_words(state, 0)['state']}"
        elif sent.get("open"):
            updates |= {self.drawn_box: gr.update(visible=False), self.matched: "{}", self.tables: "{}"}
        for component, key in ((self.list, "list"), (self.head, "head"), (self.status, "status")):
            if current[key] != sent.get(key):
                updates[component] = current[key]
        return updates | {self.sent: current}

    def _is_loading(self) -> bool:
        return self.workbench.status().state == "loading"

    def _head(self, state: State) -> str:
        found, request = self.sweeps.results(state.name), self.sweeps.background.request(state.name)
        log = self.sweeps.background.log(state.name) if state.can_resume else ""
        view = sweep_words(state, found.num_cells(), log) | {"forms": list(FORMS.items()) if found.num_cells() else []}
        if request is not None:
            grid, draft = request.grid, request.draft
            about = f"{plan_words(grid)} · base LM {grid.base_lm} · judged by {grid.judge}"
            view |= {"about": about, "draft": draft if draft != NO_DRAFT else ""}
        return json.dumps(view, ensure_ascii=False, allow_nan=False)

    def _results(self, state: State, sent: dict[str, Any], current: dict[str, Any]) -> dict[Any, Any]:
        """Updates of plot and tables, where there is something new; computed at most as often as it is quick."""
        found = self.sweeps.results(state.name)
        try:
            seen = f"{state.name} {found.refresh()}"
            if seen == sent.get("results") or (sent.get("open") == state.name and not found.is_due(state.state == RUNNING)):
                return {}
            rows = found.rows()
        except RgtgError as error:  # a damaged shard
            current["results"] = f"{state.name} damaged"
            if sent.get("results") != current["results"]:
                warn(str(error))
            return {self.drawn_box: gr.update(visible=False), self.matched: "{}", self.tables: "{}"}
        current["results"] = seen
        if not rows:
            empty = json.dumps({"name": state.name} if state.state == RUNNING else {})
            return {self.drawn_box: gr.update(visible=False), self.matched: "{}", self.tables: empty}
        maps = [results.map_value(one, rows) for one in results.maps_of(found.settings)]
        absent = results.without_kl(rows)
        note = f"Without a KL, in the table alone: {', '.join(absent)}." if absent else ""
        tables = {"name": state.name, "note": note, "table": results.table_words(rows), "maps": maps}
        families, kl = results.comparable(rows, found.settings)
        text, matched = (
            json.dumps(value, ensure_ascii=False, allow_nan=False) for value in (tables, {"name": state.name, "families": families, "kl": kl})
        )
        return {self.drawn_box: gr.update(visible=True), self.plot: results.figure(rows, found.settings), self.matched: matched, self.tables: text}


def _answer(cell: Any) -> dict[str, Any]:
    figures = {name: value if value is None else round(value, 3) for name, value in (("judge", cell.judge), ("kl", cell.kl), ("guide", cell.guide))}
    return {"prompt": cell.prompt, "text": cell.text, "seed": cell.seed, "stop": cell.stop_reason, "tokens": len(cell.token_ids)} | figures
