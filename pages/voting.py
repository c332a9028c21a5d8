"""The vote bar and what answers it: a vote, undo, the votes as a file. Built here once, for Compare and for Annotate.

Talks to the workbench. Whether a vote is one is checked in the library; here only that the browser sent the right types of JSON.
"""

import json
from typing import Any

import gradio as gr

from pages import ids, temporary
from pages.components import VoteBar
from pages.handlers import ID, NO_EVENT, Handler, guarded, payload, read_id, read_json, warn
from pages.reports import count
from rgtg.errors import BadSettings, RgtgError, StoreError
from rgtg.records import Comparison, new_id
from rgtg.workbench.workbench import Workbench

THANKS = {"tie": "tie", "all_bad": "all bad", "skip": "skipped"}
MAX_SEEN = 64  # more answers than a comparison can have
DOWNLOAD = """(file) => {
  const link = Object.assign(document.createElement("a"), { href: file.url, download: file.orig_name || "" });
  document.body.append(link); link.click(); link.remove();
}"""


class Voting:
    """The bar, and the file that it offers for download."""

    def __init__(self, workbench: Workbench):
        self.workbench = workbench
        self.bar = VoteBar(elem_id=ids.VOTE)
        self.export_file = gr.File(visible="hidden", elem_id=ids.EXPORT_FILE)

    def wire(self, **own: Any) -> None:
        """Connect the bar's own events; `own` is passed to each listener."""
        self.bar.vote(self.vote(), None, self.bar, trigger_mode="multiple", **own)
        self.bar.undo(self.undo(), None, self.bar, trigger_mode="multiple", **own)
        exported = self.bar.export(self.export(), self.bar, [self.export_file, self.bar], **own)
        exported.success(None, self.export_file, None, js=DOWNLOAD)

    def value(self, comparison: Comparison, note: str = "") -> str:
        """The bar's value: which answers there are and which vote stands."""
        try:
            vote = self.workbench.current_vote(comparison.id)
        except RgtgError as error:  # the text is worth showing even where the database is not
            vote, note = None, note or str(error)
        value: dict[str, Any] = {"comparison": comparison.id, "traces": [[t.column, t.id] for t in comparison.traces]}
        value |= {"verdict": vote.verdict if vote else None, "best": vote.best_trace_id if vote else None}
        return json.dumps(value | {"note": note, "at": new_id()})  # `at`: an equal value would not reach the bar

    # ---- handlers -----------------------------------------------------------------------------------

    def vote(self) -> Handler:
        @guarded("The vote")
        def vote(event: gr.EventData = NO_EVENT) -> str:
            asked = payload(event)
            try:
                comparison = self.workbench.comparison(read_id(asked.get("comparison"), "comparison"))
            except StoreError as error:
                raise StoreError(f"Your vote was not saved: {error}") from error
            try:
                self._store(comparison, read_vote(asked))
            except RgtgError as error:
                warn(f"Your vote was not saved: {error}")
                return self.value(comparison, f"not saved: {error}")
            return self.value(self.workbench.comparison(comparison.id), self._thanks(comparison, asked))

        return vote

    def _store(self, comparison: Comparison, vote: dict[str, Any]) -> None:
        current = self.workbench.current_vote(comparison.id)
        same = current and (current.verdict, current.best_trace_id) == (vote["verdict"], vote["best_trace_id"])
        if not same or self.workbench.running(comparison.id):  # else a second click on the same answer says nothing new
            self.workbench.vote(comparison.id, **vote)

    def _thanks(self, comparison: Comparison, asked: dict) -> str:
        column = next((t.column for t in comparison.traces if t.id == asked.get("best")), "")
        words = f"{column} is best" if asked["verdict"] == "best" else THANKS[asked["verdict"]]
        return f"saved: {words} · {self._counted()}"

    def _counted(self) -> str:
        count = self.workbench.num_votes()
        return f"{count} vote{'' if count == 1 else 's'}"

    def undo(self) -> Handler:
        @guarded("Undo")
        def undo(event: gr.EventData = NO_EVENT) -> str:
            comparison = self.workbench.comparison(read_id(payload(event).get("comparison"), "comparison"))
            if self.workbench.current_vote(comparison.id) is None:
                return self.value(comparison, "there is no vote to take back")
            try:
                self.workbench.undo(comparison.id)
            except RgtgError as error:
                return self.value(comparison, str(error))
            return self.value(comparison, f"taken back · {self._counted()}")

        return undo

    def export(self) -> Handler:
        @guarded("The export")
        def export(bar: str) -> dict:
            value = _bar(bar)
            file = temporary.download_folder() / "preference.jsonl"
            try:
                report = self.workbench.export(file, "preference")
            except Exception:
                temporary.fetched(str(file))
                raise
            note = f"exported {count(report.num_pairs, 'pair')}" + (f" · left out: {report.left_out}" if report.left_out else "")
            return {self.export_file: str(report.path), self.bar: json.dumps(value | {"note": note, "at": new_id()})}

        return export


def _bar(value: object) -> dict[str, Any]:
    """What the bar shows; {} before the first comparison, and where it cannot be read."""
    try:
        return read_json(value, "vote bar")
    except BadSettings:
        return {}


def read_vote(asked: dict) -> dict[str, Any]:
    """The arguments of `Workbench.vote` from the bar's event; raises BadSettings where one is of the wrong type."""
    verdict, best, seen, dwell_ms = asked.get("verdict"), asked.get("best"), asked.get("seen") or [], asked.get("dwell_ms")
    names = [verdict, *([best] if best is not None else []), *(seen if isinstance(seen, list) and len(seen) <= MAX_SEEN else [None])]
    if not all(isinstance(name, str) and ID.fullmatch(name) for name in names):
        raise BadSettings("That is no vote on this comparison.", "", "Reload the page.")
    dwell_ms = dwell_ms if type(dwell_ms) is int and 0 <= dwell_ms < 10**9 else None
    vote_id = read_id(asked.get("vote_id") or new_id(), "vote")
    return {"verdict": verdict, "best_trace_id": best, "seen_trace_ids": tuple(seen), "vote_id": vote_id, "dwell_ms": dwell_ms}
