"""The vote bar and its handlers: vote, undo and export of the votes; used by every page with answers to vote on.

Talks to the workbench. Whether a vote is one is checked in the library; here only that the browser sent the right types of JSON.
"""

import json
from contextlib import suppress
from typing import Any

import gradio as gr

from pages import ids, temporary
from pages.components import VoteBar
from pages.copying import Copying
from pages.handlers import ID, NO_EVENT, Handler, guarded, payload, read_id, read_json, warn
from pages.reports import count
from pages.streaming import stopped_words
from pages.visitors import asked, handle_of, visitor_of
from rgtg.config import COLUMN_NAMES
from rgtg.errors import BadSettings, RgtgError
from rgtg.records import Comparison, Vote, new_id
from rgtg.workbench.columns.copying import FORMS
from rgtg.workbench.further import on_screen
from rgtg.workbench.visitors import Visitor
from rgtg.workbench.workbench import Workbench

THANKS = {"tie": "tie", "all_bad": "all bad", "skip": "skipped"}
MAX_SEEN = 64  # more answers than a comparison can have
DOWNLOAD = """(file) => {
  const link = Object.assign(document.createElement("a"), { href: file.url, download: file.orig_name || "" });
  document.body.append(link); link.click(); link.remove();
}"""


class Voting:
    """The vote bar, with the file that Export downloads and the text that Copy as copies."""

    def __init__(self, workbench: Workbench):
        self.workbench = workbench
        self.bar = VoteBar(letters=COLUMN_NAMES, forms=tuple(FORMS), exports=not workbench.settings.public, elem_id=ids.VOTE)
        self.copying = Copying(workbench)
        self.export_file = gr.File(visible="hidden", elem_id=ids.EXPORT_FILE)

    def wire(self, **options: Any) -> None:
        """Connect the bar's own events but `go_on`, whose text the page shows; `own` is passed to each listener."""
        self.bar.vote(self.vote(), None, self.bar, trigger_mode="multiple", **options)
        self.bar.undo(self.undo(), None, self.bar, trigger_mode="multiple", **options)
        self.copying.wire(self.bar, **options)
        exported = self.bar.export(self.export(), self.bar, [self.export_file, self.bar], **options)
        exported.success(None, self.export_file, None, js=DOWNLOAD)

    def value(self, comparison: Comparison, visitor: Visitor, note: str = "", answers: str = "") -> str:
        """The bar's value: which answers there are, which vote stands, and how far they came if they were stopped. `answers` is the id of
        the vote or undo that it answers: the page keeps that until then."""
        columns, stopped = on_screen(comparison), "" if self.workbench.running(comparison.id) else stopped_words(comparison)
        value: dict[str, Any] = {"comparison": handle_of(self.workbench, comparison.id), "traces": [[t.column, t.id] for t in columns]}
        try:
            vote = self.workbench.current_vote(comparison.id, visitor)
        except RgtgError as error:  # the text is worth showing even where the database is not
            vote, note = None, note or str(error)
        voted = best_column(comparison, vote)
        value |= {"verdict": vote.verdict if vote else None, "best": next((t.id for t in columns if t.column == voted), None)}
        if token := self.workbench.vote_door.token(comparison.id, [t.id for t in comparison.traces], visitor):
            value["token"] = token
        value |= {"stopped": bool(stopped), "note": " · ".join(filter(None, [note, stopped])), "answers": answers}
        return json.dumps(value | {"at": new_id()})  # `at`: an equal value would not reach the bar

    def standing(self, comparison: Comparison, visitor: Visitor) -> str:
        """ "saved: A is best · 3 votes" of the vote that stands; "" where none does, or the database is away."""
        try:
            vote = self.workbench.current_vote(comparison.id, visitor)
            return f"saved: {self._words(comparison, vote)} · {self._counted()}" if vote else ""
        except RgtgError:
            return ""

    @staticmethod
    def _words(comparison: Comparison, vote: Vote) -> str:
        words = f"{best_column(comparison, vote)} is best" if vote.verdict == "best" else THANKS[vote.verdict]
        seen_traces = [t for t in comparison.traces if t.id in vote.seen_trace_ids]
        continued = {t.id for t in seen_traces} - {t.id for t in on_screen(comparison)}
        return f"{words}, of the first {max(len(t.steps) for t in seen_traces)} tokens" if continued else words

    def _counted(self) -> str:
        count = self.workbench.num_votes()
        return f"{count} vote{'' if count == 1 else 's'}"

    # ---- handlers -----------------------------------------------------------------------------------

    def vote(self) -> Handler:
        @guarded("The vote", self.workbench)
        def vote(request: gr.Request, event: gr.EventData = NO_EVENT) -> str:
            sent, comparison, visitor = payload(event), None, visitor_of(self.workbench, request)
            try:
                comparison_id, visitor = asked(self.workbench, request, sent.get("comparison"))
                comparison = self.workbench.comparison(comparison_id, visitor)
                vote = read_vote(sent)
                self._store(comparison, vote, visitor, read_token(sent))
                comparison = self.workbench.comparison(comparison.id, visitor)
                return self.value(comparison, visitor, self.standing(comparison, visitor), vote["vote_id"])
            except RgtgError as error:
                warn(f"Your vote was not saved: {error}")
                return self._refused(sent, comparison, visitor, f"not saved: {error}")

        return vote

    def _store(self, comparison: Comparison, vote: dict[str, Any], visitor: Visitor, token: str) -> None:
        current = self.workbench.current_vote(comparison.id, visitor)
        new = (vote["verdict"], vote["best_trace_id"], set(vote["seen_trace_ids"] or [t.id for t in on_screen(comparison)]))
        is_same = current and (current.verdict, current.best_trace_id, set(current.seen_trace_ids)) == new
        if not is_same or self.workbench.running(comparison.id):  # else a second click on the same answer says nothing new
            self.workbench.vote(comparison.id, visitor=visitor, token=token, **vote)

    def _refused(self, sent: dict, comparison: Comparison | None, visitor: Visitor, note: str) -> str:
        """The answer to a vote or an undo that was not stored: the page keeps it no longer."""
        answers, comparison_id = (field if isinstance(field := sent.get(name), str) else "" for name in ("vote_id", "comparison"))
        if comparison is not None:
            with suppress(RgtgError):
                return self.value(comparison, visitor, note, answers)
        return json.dumps({"comparison": comparison_id, "answers": answers, "refused": True, "note": note, "at": new_id()})

    def undo(self) -> Handler:
        @guarded("Undo", self.workbench)
        def undo(request: gr.Request, event: gr.EventData = NO_EVENT) -> str:
            sent, comparison, visitor = payload(event), None, visitor_of(self.workbench, request)
            try:
                comparison_id, visitor = asked(self.workbench, request, sent.get("comparison"))
                comparison = self.workbench.comparison(comparison_id, visitor)
                undo_id = read_id(sent.get("vote_id") or new_id(), "undo")
                restored_vote = self.workbench.undo(comparison.id, visitor, undo_id)
            except RgtgError as error:
                return self._refused(sent, comparison, visitor, str(error))
            restored = f": {self._words(comparison, restored_vote)} again" if restored_vote else ""
            return self.value(comparison, visitor, f"undone{restored} · {self._counted()}", undo_id)

        return undo

    def export(self) -> Handler:
        @guarded("The export", self.workbench)
        def export(bar: str) -> dict:
            value = _bar(bar)
            file = temporary.download_folder() / "preference.jsonl"
            try:
                report = self.workbench.export(file, "preference")
            except Exception:
                temporary.fetched(str(file))
                raise
            note = f"exported {count(report.num_pairs, 'pair')}" + (f" · excluded: {report.left_out}" if report.left_out else "")
            return {self.export_file: str(report.path), self.bar: json.dumps(value | {"note": note, "at": new_id()})}

        return export


def _bar(value: object) -> dict[str, Any]:
    """What the bar shows; {} before the first comparison, and where it cannot be read."""
    try:
        return read_json(value, "vote bar")
    except BadSettings:
        return {}


def best_column(comparison: Comparison, vote: Vote | None) -> str:
    """The letter of the best answer, which may have gone on since; "" where the vote names none."""
    best = comparison.trace(vote.best_trace_id) if vote and vote.best_trace_id else None
    return best.column if best else ""


def read_vote(sent: dict) -> dict[str, Any]:
    """The arguments of `Workbench.vote` from the bar's event; raises BadSettings where one is of the wrong type."""
    verdict, best, seen, dwell_ms = sent.get("verdict"), sent.get("best"), sent.get("seen") or [], sent.get("dwell_ms")
    ids = [verdict, *([best] if best is not None else []), *(seen if isinstance(seen, list) and len(seen) <= MAX_SEEN else [None])]
    if not all(isinstance(name, str) and ID.fullmatch(name) for name in ids):
        raise BadSettings("That vote cannot be read.", "", "Reload the page.")
    dwell_ms = dwell_ms if type(dwell_ms) is int and 0 <= dwell_ms < 10**9 else None
    vote_id = read_id(sent.get("vote_id") or new_id(), "vote")
    return {"verdict": verdict, "best_trace_id": best, "seen_trace_ids": tuple(seen), "vote_id": vote_id, "dwell_ms": dwell_ms}


def read_token(sent: dict) -> str:
    """The token that a vote comes with on a public server; "" without one."""
    return token if isinstance(token := sent.get("token"), str) else ""
