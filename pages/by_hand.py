"""Decoding by hand: the tokens that a person chooses from the table of candidates, and takes back.

Talks to the workbench. What a choice is, a branch that stays in its column, is checked in the library.
"""

from collections.abc import Callable, Iterator
from typing import Any

import gradio as gr

from pages.components import Drawn
from pages.handlers import NO_EVENT, Handler, guarded, payload, read_id
from pages.visitors import asked
from rgtg.errors import BadSettings
from rgtg.workbench.running import RunningComparison
from rgtg.workbench.workbench import Workbench

Stream = Callable[[Callable[[], RunningComparison], str, str, gr.Request, str], Iterator[dict]]


class ByHand(Drawn):
    """The keys by which a column is written by hand; nothing is to be seen of it.

    Events `choose` {comparison, trace, index, token_id} and `take_back` {comparison, trace, index}: `index` is that of the token which is
    open again.
    """

    function, events_sent = "byHand", ("choose", "take_back")

    def wire(self, workbench: Workbench, stream: Stream, outputs: list, **options: Any) -> None:
        """Connect both events; `stream` shows the further tokens of a comparison, with a status until they come and one if they do not."""
        for event in (self.choose, self.take_back):
            event(_chosen(workbench, stream), None, outputs, trigger_mode="multiple", **options)


def _chosen(workbench: Workbench, stream: Stream) -> Handler:
    @guarded("The choice", workbench)
    def chosen(request: gr.Request, event: gr.EventData = NO_EVENT) -> Iterator[dict]:
        sent = payload(event)
        (comparison, visitor), trace = asked(workbench, request, sent.get("comparison")), read_id(sent.get("trace"), "answer")
        index, token_id = sent.get("index"), sent.get("token_id")
        if type(index) is not int or not (token_id is None or type(token_id) is int):
            raise BadSettings("That token is not part of this comparison.", "", "Reload the page.")
        status = f"token {index + 1} " + ("is open again" if token_id is None else "chosen")
        yield from stream(lambda: workbench.branch(comparison, trace, index, token_id, visitor), status, "nothing was chosen", request, "")

    return chosen
