"""The Data page: every comparison, searched and filtered, with its votes and the pairs they give; import, export, and what is excluded.

Talks to the workbench; knows nothing of how a record is stored.
"""

import json
from typing import Any

import gradio as gr

from pages import ids, theme
from pages.components import Download, Drawn, Words
from pages.exchanging import Exchanging
from pages.handlers import NO_EVENT, Handler, guarded, payload, read_id
from pages.history import History, HistoryList
from pages.signing_in import administers
from pages.streaming import column_title
from pages.theme import Links
from pages.visitors import handle_of, opened, visitor_of
from rgtg.errors import BadSettings
from rgtg.records import Comparison, Trace, Vote, new_id
from rgtg.workbench.past import Looked
from rgtg.workbench.report.standalone import comparison_html
from rgtg.workbench.workbench import Workbench

TITLE = "Data"
MAX_TEXT = 4_000  # characters of a text that is shown


class Inspected(Drawn):
    """One comparison: texts, votes, pairs. Events `exclude` {comparison, vote, rejected, reason}: out with a reason, in again with null;
    `save_html` {comparison}: as a file that opens without the app."""

    function, events_sent = "inspected", ("exclude", "save_html")


def build(workbench: Workbench, pages: Links) -> None:
    """Lay out the page in the open Blocks and connect its events."""
    _Page(workbench, pages).wire()


class _Page:
    """The components of the page by name, and the handlers that answer them."""

    def __init__(self, workbench: Workbench, pages: Links):
        self.workbench = workbench
        with gr.Row(elem_classes=["topline"]):
            theme.header(TITLE, pages)
            Words(workbench.status().text, elem_id=ids.MODEL_STATUS)
        with gr.Row(elem_classes=["data-row"]):
            with gr.Column(min_width=0, elem_classes=["data-list"]):
                self.exchanging = Exchanging(workbench)
                self.history = History(workbench, HistoryList(links=False, elem_id=ids.COMPARISONS))
            with gr.Column(min_width=0, elem_classes=["data-one"]):
                self.inspected = Inspected(elem_id=ids.INSPECTED)
                self.file = Download("{}", elem_id=ids.DATA_FILE)

    def wire(self) -> None:
        options: dict[str, Any] = {"show_progress": "hidden", "concurrency_limit": None, "api_visibility": "private"}
        self.history.wire(**options)
        self.exchanging.wire(**options)
        self.history.list.choose(self.look(), None, self.inspected, trigger_mode="always_last", **options)
        self.inspected.exclude(self.exclude(), None, self.inspected, **options)
        self.inspected.save_html(self.save_html(), None, self.file, **options)

    def look(self) -> Handler:
        @guarded("Opening the comparison", self.workbench)
        def look(request: gr.Request, event: gr.EventData = NO_EVENT) -> str:
            return self._shown(opened(self.workbench, request, payload(event).get("comparison")), request)

        return look

    def exclude(self) -> Handler:
        @guarded("Excluding", self.workbench)
        def exclude(request: gr.Request, event: gr.EventData = NO_EVENT) -> str:
            sent = payload(event)
            comparison = opened(self.workbench, request, sent.get("comparison"))
            vote, rejected, reason = read_id(sent.get("vote"), "vote"), sent.get("rejected") or "", sent.get("reason")
            if vote not in {vote.id for vote in self._looked(comparison, request).votes}:
                raise BadSettings("That vote is not one of this comparison.", "", "Reload the page.")
            if not (reason is None or isinstance(reason, str)):
                raise BadSettings("The reason has to be text.", "", "Say why in a few words.", "reason")
            self.workbench.past.exclude(vote, reason, read_id(rejected, "answer") if rejected else "")
            return self._shown(comparison, request)

        return exclude

    def save_html(self) -> Handler:
        @guarded("Saving the comparison", self.workbench)
        def save_html(request: gr.Request, event: gr.EventData = NO_EVENT) -> str:
            comparison = opened(self.workbench, request, payload(event).get("comparison"))
            text = comparison_html(comparison, self._looked(comparison, request).votes)
            return json.dumps({"name": f"comparison-{comparison.id[:8]}.html", "text": text, "type": "text/html", "at": new_id()})

        return save_html

    def _looked(self, comparison: Comparison, request: gr.Request) -> Looked:
        return self.workbench.past.look(comparison, visitor_of(self.workbench, request))

    def _shown(self, comparison: Comparison, request: gr.Request) -> str:
        looked = self._looked(comparison, request)
        me = self.workbench.raters.find(visitor_of(self.workbench, request))
        value: dict[str, Any] = {
            "comparison": handle_of(self.workbench, comparison.id),
            "prompt": comparison.prompt[:MAX_TEXT],
            "at": comparison.created_at,
        }
        value |= {"answers": [self._answer(trace) for trace in comparison.traces], "votes": [_vote(vote, looked, me) for vote in looked.votes]}
        value |= {"pairs": [_pair(pair, looked) for pair in looked.pairs], "editable": administers(self.workbench.settings, request)}
        return json.dumps(value | {"as_of": new_id()})

    def _answer(self, trace: Trace) -> dict[str, Any]:
        made_by = [column_title(trace, self.workbench), *(ref.name for ref, _ in trace.run.guides), trace.run.base_lm.name]
        text, made_by_words = trace.response[:MAX_TEXT], " · ".join(filter(None, made_by))
        return {"letter": trace.column, "made_by": made_by_words, "text": text, "tokens": len(trace.steps), "end": trace.stop_reason}


def _vote(vote: Vote, looked: Looked, me: str | None) -> dict[str, Any]:
    rater = "you" if vote.rater_id == me else f"rater {(vote.rater_id or '')[:6]}"
    facts = [f"strength {vote.strength}" if vote.strength else "", ", ".join(vote.reasons), vote.comment, looked.left_out.get(vote.id, "")]
    excluded = looked.exclusions.get(vote.id, {}).get("")
    return {
        "vote": vote.id,
        "words": looked.words(vote),
        "rater": rater,
        "at": vote.created_at,
        "facts": " · ".join(filter(None, facts)),
        "excluded": excluded,
    }


def _pair(pair: Any, looked: Looked) -> dict[str, Any]:
    letters = {trace.id: trace.column for trace in looked.comparison.traces}
    of_vote = looked.exclusions.get(pair.vote_id, {})
    excluded = of_vote.get("", of_vote.get(pair.rejected_trace_id))
    return {
        "vote": pair.vote_id, "rejected": pair.rejected_trace_id, "title": f"{letters[pair.chosen_trace_id]} over {letters[pair.rejected_trace_id]}",
        "chosen_text": pair.chosen[:MAX_TEXT], "rejected_text": pair.rejected[:MAX_TEXT], "shared": pair.num_common, "excluded": excluded,
        "with_vote": "" in of_vote,
    }  # fmt: skip
