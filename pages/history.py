"""The list of earlier comparisons, searched and filtered: a drawer on Compare, and the list of the Data page.

Talks to the workbench. What may be filtered by is read from the database once, when the list is opened.
"""

import json
from typing import Any

import gradio as gr

from pages import visitors
from pages.components import Drawn
from pages.handlers import ID, NO_EVENT, Handler, guarded, payload, read_text
from pages.visitors import handle_of, visitor_of
from rgtg.errors import BadSettings
from rgtg.records import new_id
from rgtg.workbench.past import ME
from rgtg.workbench.workbench import Workbench

PAGE = 40  # comparisons that are sent at a time
MAX_SEARCH, MAX_NAME, MAX_PROMPT = 500, 300, 300  # characters
VOTED = {"": None, "yes": True, "no": False, ME: True}


class HistoryList(Drawn):
    """The list. Events `find` {search, method, model, voted, since, until, before}: another page of it where `before` is the last entry
    that is there; `choose` {comparison}, unless an entry is a link (`links`)."""

    function, events_sent = "historyList", ("find", "choose")

    def __init__(self, value: str = "{}", *, links: bool = True, elem_id: str = "", **props: Any):
        super().__init__(value, links=links, name=elem_id, elem_id=elem_id, **props)


class HistoryDrawer(HistoryList):
    """The list in a drawer beside the page."""

    function = "historyDrawer"


class History:
    """A list or drawer with the handler that answers it."""

    def __init__(self, workbench: Workbench, listed: HistoryList):
        self.workbench, self.list = workbench, listed

    def wire(self, **options: Any) -> None:
        """Connect the event `find`; `options` are passed to the listener."""
        self.list.find(self.find(), None, self.list, trigger_mode="always_last", **options)

    def find(self) -> Handler:
        @guarded("The history", self.workbench)
        def find(request: gr.Request, event: gr.EventData = NO_EVENT) -> str:
            sent, visitor = payload(event), visitor_of(self.workbench, request)
            voted = sent.get("voted", "")
            if not isinstance(voted, str) or not (voted in VOTED or ID.fullmatch(voted)):
                raise BadSettings("The filter of votes is unknown.", "", "Choose one from the list.")
            wanted: dict[str, Any] = {
                "search": _read(sent, "search", MAX_SEARCH),
                "method": _read(sent, "method", MAX_NAME),
                "model": _read(sent, "model", MAX_NAME),
                "voted": VOTED.get(voted, True),
                "rater": voted if voted not in ("", "yes", "no") else None,
                "since": _read(sent, "since", 40),
                "until": _read(sent, "until", 40),
            }
            before = sent.get("before")
            after = visitors.asked(self.workbench, request, before)[0] if before else None
            entries = self.workbench.past.page(visitor, PAGE + 1, after, **wanted)
            value: dict[str, Any] = {"entries": [self._words(entry) for entry in entries[:PAGE]], "more": len(entries) > PAGE, "append": bool(before)}
            if not before:
                value["filters"] = self._filters(visitor)
            return json.dumps(value | {"at": new_id()})  # `at`: an equal value would not reach the list

        return find

    def _words(self, entry: Any) -> dict[str, Any]:
        answers = [[answer.letter, answer.method, list(answer.models[1:]), answer.text] for answer in entry.answers]
        facts = {"comparison": handle_of(self.workbench, entry.id), "at": entry.created_at, "prompt": entry.prompt[:MAX_PROMPT], "answers": answers}
        return facts | {"vote": entry.words, "votes": entry.num_votes}

    def _filters(self, visitor: Any) -> dict[str, Any]:
        names = self.workbench.past.filters(visitor)
        raters = [[rater, f"rater {rater[:6]} · {count}"] for rater, count in names.raters if rater != names.me]
        num = self.workbench.past.num() if visitor.reads_all else None
        return {"methods": list(names.methods), "models": list(names.models), "raters": raters, "num": num}


def _read(sent: dict, name: str, limit: int) -> str:
    value = sent.get(name)
    return "" if value is None or (isinstance(value, str) and not value.strip()) else read_text(value, name, limit, field=f"history-{name}").strip()
