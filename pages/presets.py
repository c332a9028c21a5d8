"""The picker of line-ups: choose one, save the columns as one's own, export it to a file and open it from one.

Talks to the workbench; what a line-up is, and what is wrong with one, the library says.
"""

import json
from collections.abc import Callable, Sequence
from typing import Any

import gradio as gr

from pages import ids
from pages.columns import Columns, describe_models, read_settings, read_spec, setting_fields, write_settings, write_spec
from pages.components import LineUpBar
from pages.handlers import NO_EVENT, Handler, guarded, payload, read_text
from rgtg.config import COLUMN_NAMES
from rgtg.errors import BadSettings, RgtgError
from rgtg.records import ColumnSpec, new_id
from rgtg.workbench.columns.line_ups import MAX_TITLE, LineUp, line_up_of, missing_models, missing_words, parse_line_up
from rgtg.workbench.workbench import Workbench

MAX_FILE, MAX_KEY = 20_000, 200  # characters
Specs = Callable[..., list[ColumnSpec]]


class LineUpPicker:
    """The picker and its handlers; what is chosen goes into the page's settings and columns."""

    def __init__(self, workbench: Workbench):
        self.workbench = workbench
        self.bar = LineUpBar(self.value(), own=not workbench.settings.public, elem_id=ids.LINE_UP)

    def of(self, settings: gr.HTML, columns: Columns, status: gr.HTML) -> None:
        """Name the page's components that a line-up fills."""
        self.settings, self.columns, self.status = settings, columns, status

    def wire(self, **options: Any) -> None:
        """Connect its events; `options` are passed to each listener."""
        inputs, outputs = [self.settings, *self.columns.inputs], [self.bar, self.settings, self.status, *self.columns.inputs]
        self.bar.choose(self.choose(), self.settings, outputs, **options)
        self.bar.take_in(self.take_in(), self.settings, outputs, **options)
        self.bar.save(self.save(), inputs, [self.bar, self.status], **options)
        self.bar.write_out(self.write_out(), inputs, self.bar, **options)
        self.bar.delete(self.delete(), None, [self.bar, self.status], **options)

    def value(self, chosen: str = "", **more: Any) -> str:
        """The bar's value: the line-ups there are, which one is chosen, and for once a file to download."""
        listed = [{"key": one.key, "title": one.title, "about": one.about, "ships": one.ships} for one in self.workbench.line_ups.all().values()]
        return json.dumps({"line_ups": listed, "chosen": chosen, "unreadable": self.workbench.line_ups.unreadable(), "at": new_id(), **more})

    def shown(self, specs: Sequence[ColumnSpec], settings: dict) -> dict:
        """Updates that put these columns into the page, with the settings that all of them share."""
        models = describe_models(self.workbench)
        value = json.dumps(settings | {"columns": len(specs)})
        return {self.settings: gr.update(value=value, fields=setting_fields(self.workbench))} | {
            self.columns.settings[name]: gr.update(value=write_spec(spec), models=models, branch="")
            for name, spec in zip(COLUMN_NAMES, specs, strict=False)
        }

    def _chosen(self, line_up: LineUp, settings: str, said: str = "") -> dict:
        current = read_settings(settings, self.workbench)
        specs = line_up.specs(current["generation"])
        missing = missing_words(missing_models(specs, self.workbench.library, current["base_lm"]), "“{}”".format)
        words = f"missing for {current['base_lm']}: {missing}" if missing else said or f"{len(specs)} columns"
        return self.shown(specs, write_settings(**current)) | {self.bar: self.value(line_up.key), self.status: f"line-up “{line_up.title}”: {words}"}

    # ---- handlers -----------------------------------------------------------------------------------

    def choose(self) -> Handler:
        @guarded("Choosing the line-up", self.workbench)
        def choose(settings: str, event: gr.EventData = NO_EVENT) -> dict:
            line_up = self.workbench.line_ups.all().get(read_text(payload(event).get("key"), "line-up", MAX_KEY, "Choose one.", "line-up"))
            if line_up is None:
                raise BadSettings("That line-up no longer exists.", "", "Choose another one.", "line-up")
            return self._chosen(line_up, settings)

        return choose

    def take_in(self) -> Handler:
        @guarded("Opening the file", self.workbench)
        def take_in(settings: str, event: gr.EventData = NO_EVENT) -> dict:
            sent = payload(event)
            name = read_text(sent.get("name"), "file name", MAX_KEY, "Choose a file.", "line-up")
            try:
                line_up = parse_line_up(read_text(sent.get("text"), "file", MAX_FILE, "Choose another file."), name)
            except RgtgError as error:
                error.field = "line-up"
                raise
            ships = any(one.ships and one.title.casefold() == line_up.title.casefold() for one in self.workbench.line_ups.all().values())
            if ships or self.workbench.settings.public:
                return self._chosen(line_up, settings)
            return self._chosen(self.workbench.line_ups.keep(line_up), settings, "opened and saved")

        return take_in

    def save(self) -> Handler:
        @guarded("Saving the line-up", self.workbench)
        def save(settings: str, *columns: str, event: gr.EventData = NO_EVENT) -> dict:
            title = read_text(payload(event).get("title"), "name", MAX_TITLE, "Give the line-up a name.", "line-up-title")
            kept = self.workbench.line_ups.keep(line_up_of(self._specs(settings, columns), title))
            return {self.bar: self.value(kept.key), self.status: f"line-up “{kept.title}” saved: {len(kept.columns)} columns"}

        return _with_event(save)

    def write_out(self) -> Handler:
        @guarded("The export", self.workbench)
        def write_out(settings: str, *columns: str, event: gr.EventData = NO_EVENT) -> str:
            sent = payload(event)
            known = self.workbench.line_ups.all().get(str(sent.get("key")))
            line_up = line_up_of(self._specs(settings, columns), known.title if known else "My line-up")
            file = {"name": f"{known.key if known else 'line-up'}.json", "text": json.dumps(line_up.plain(), ensure_ascii=False, indent=2) + "\n"}
            return self.value(known.key if known else "", file=file)

        return _with_event(write_out)

    def delete(self) -> Handler:
        @guarded("Deleting the line-up", self.workbench)
        def delete(event: gr.EventData = NO_EVENT) -> dict:
            self.workbench.line_ups.delete(read_text(payload(event).get("key"), "line-up", MAX_KEY, "Choose one.", "line-up"))
            return {self.bar: self.value(), self.status: "line-up deleted; the columns stay as they are"}

        return delete

    def _specs(self, settings: str, columns: Sequence[str]) -> list[ColumnSpec]:
        shared = read_settings(settings, self.workbench)
        letters = COLUMN_NAMES[: shared["columns"]]
        return [read_spec(text, letter, self.workbench, shared["base_lm"]) for letter, text in zip(letters, columns, strict=False)]


def _with_event(handler: Handler) -> Handler:
    """The handler with six columns by name, since Gradio finds the event's parameter by its place behind them."""

    def handle(settings: str, a: str, b: str, c: str, d: str, e: str, f: str, event: gr.EventData = NO_EVENT) -> Any:
        return handler(settings, a, b, c, d, e, f, event=event)

    handle.__name__ = handler.__name__  # by which `pages.access` knows it
    return handle
