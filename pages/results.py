"""The Results page: the leaderboard of the votes, how far it can be trusted, and reward models against people.

Talks to the workbench; knows nothing of how a number is computed. On a public server it shows no prompt and no answer: those are their
visitors' own.
"""

import json
import time
from collections.abc import Iterator
from typing import Any

import gradio as gr
from gradio.context import Context

from pages import ids, theme
from pages.components import Download, ResultsView, Words
from pages.handlers import NO_EVENT, Handler, guarded, payload
from pages.visitors import asked
from rgtg.errors import BadSettings
from rgtg.records import new_id
from rgtg.workbench.report import drawings
from rgtg.workbench.report.results import BY, Results, VoteResults, disagreement_rows, model_names, sentences
from rgtg.workbench.report.standalone import board_html, comparison_html
from rgtg.workbench.report.tables import PARTS, board_cells, lengths_cells, model_cells, table
from rgtg.workbench.workbench import Workbench

TITLE = "Results"
FILES = {"csv": ("csv", "text/csv"), "latex": ("tex", "text/plain"), "json": ("json", "application/json"), "html": ("html", "text/html")}
FORMS = {"csv": "CSV", "latex": "LaTeX", "json": "JSON, all numbers", "html": "HTML, a file that opens without the app"}
TELL_EVERY = 0.3  # seconds between two reports of the progress
NOBODY = "Nobody has voted yet. On Compare, generate answers and press the number of the best one: every vote counts here at once."
UNSCORED = "No reward model scored the answers that were voted on. Compare with a guided method, or with a judge."


def build(workbench: Workbench, pages: theme.Links) -> None:
    """Lay out the page in the open Blocks and connect its events."""
    page = _Page(workbench, pages)
    assert Context.root_block is not None
    page.wire(Context.root_block)


class _Page:
    """The components of the page, and the handlers that answer them."""

    def __init__(self, workbench: Workbench, pages: theme.Links):
        self.workbench, self.votes = workbench, VoteResults(lambda: workbench.store)
        with gr.Row(elem_classes=["topline"]):
            theme.header(TITLE, pages)
            self.models = Words("", elem_id=ids.MODEL_STATUS)
        self.status = Words("", live=True, elem_id=ids.RESULTS_STATUS)
        self.view = ResultsView("{}", elem_id=ids.RESULTS, elem_classes=["room"])
        self.file = Download("{}", elem_id=ids.RESULTS_FILE)

    def wire(self, blocks: gr.Blocks) -> None:
        options: dict[str, Any] = {"show_progress": "hidden", "concurrency_limit": None, "api_visibility": "private"}
        blocks.load(self.load(), None, [self.models, self.status, self.view], **options)
        self.view.choose_results(self.choose(), None, [self.models, self.status, self.view], trigger_mode="always_last", **options)
        self.view.save_results(self.save(), None, self.file, **options)
        self.view.save_comparison(self.save_comparison(), None, self.file, **options)

    def load(self) -> Handler:
        @guarded("Opening the page", self.workbench)
        def load() -> Iterator[dict]:
            yield {self.models: self.workbench.status().text, self.status: "reading the votes …"}
            yield from self._updates("method", False)

        return load

    def choose(self) -> Handler:
        @guarded("The results", self.workbench)
        def choose(event: gr.EventData = NO_EVENT) -> Iterator[dict]:
            by, control_length = _chosen(payload(event))
            yield {self.status: "computing …"}
            yield from self._updates(by, control_length)

        return choose

    def _updates(self, by: str, control_length: bool) -> Iterator[dict]:
        """First the board, then with the reward models, whose rewards are read meanwhile."""
        results, told = self.votes.of(by, control_length), time.monotonic()
        yield {self.view: self._value(results), self.status: "reading rewards …" if results.num_votes else ""}
        for done, total in self.votes.reading():
            if time.monotonic() - told > TELL_EVERY:
                told = time.monotonic()
                yield {self.status: f"reading rewards: {done:,} of {total:,} answers"}
        words = {self.status: "", self.models: self.workbench.status().text}
        yield words | {self.view: self._value(self.votes.with_reward_models(results))}

    def _value(self, results: Results) -> str:
        return json.dumps(view(results, with_texts=not self.workbench.settings.public), ensure_ascii=False, allow_nan=False)

    def save(self) -> Handler:
        @guarded("Saving the results", self.workbench)
        def save(event: gr.EventData = NO_EVENT) -> str:
            sent = payload(event)
            form, part = sent.get("format"), sent.get("table")
            if not isinstance(form, str) or not isinstance(part, str) or form not in FILES or part not in PARTS:
                raise BadSettings("The results cannot be saved in that form.", "", "Choose another one.", "results-format")
            for _ in self.votes.reading():
                pass
            results = self.votes.with_reward_models(self.votes.of(*_chosen(sent)))
            public = self.workbench.settings.public
            if form == "html":
                return _file("results", form, board_html(results, with_texts=not public))
            return _file("results" if form == "json" else part, form, table(results, form, part, with_texts=not public))

        return save

    def save_comparison(self) -> Handler:
        @guarded("Saving the comparison", self.workbench)
        def save_one(request: gr.Request, event: gr.EventData = NO_EVENT) -> str:
            comparison_id, visitor = asked(self.workbench, request, payload(event).get("comparison"))
            comparison = self.workbench.comparison(comparison_id, visitor)
            vote = self.workbench.current_vote(comparison.id, visitor)
            return _file(f"comparison-{comparison.id[:8]}", "html", comparison_html(comparison, [vote] if vote else []))

        return save_one


def _chosen(sent: dict) -> tuple[str, bool]:
    by = sent.get("by")
    if not isinstance(by, str) or by not in BY:
        raise BadSettings("That is not what results can be ranked by.", "", "Reload the page.")
    return by, sent.get("control_length") is True


def _file(name: str, form: str, text: str) -> str:
    ending, kind = FILES[form]
    return json.dumps({"name": f"{name}.{ending}", "text": text, "type": kind, "at": new_id()})


def view(results: Results, with_texts: bool = True) -> dict[str, Any]:
    """What results.js draws: tables in words, drawings as nodes, a list for each reward model."""
    choices = {"by": results.by, "control_length": results.control_length, "choices": list(BY.items()), "formats": list(FORMS.items())}
    content: dict[str, Any] = choices | {"tables": list(PARTS.items()), "votes": results.num_votes}
    if not results.num_votes:
        return content | {"nobody": NOBODY}
    content["facts"] = sentences(results)
    if results.board.places:
        content |= {"board": board_cells(results), "forest": drawings.forest(results), "wins": drawings.win_matrix(results)}
    if results.reward_models is None:
        return content
    names = model_names(results.reward_models)
    content |= {"models": model_cells(results)} if names else {"unscored": UNSCORED}
    content["against"] = [
        {
            "name": names[one.model], "unscored": one.num_unscored, "calibration": drawings.calibration(one), "lengths": drawings.lengths(one),
            "table": lengths_cells(one), "disagreements": disagreement_rows(results, one) if with_texts else None,
        }
        for one in results.reward_models
    ]  # fmt: skip
    return content
