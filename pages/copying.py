"""Copy a comparison as the command, the Python script or the JSON that makes it again."""

from typing import Any

import gradio as gr

from pages import ids
from pages.components import VoteBar, Words
from pages.handlers import NO_EVENT, Handler, guarded, payload
from pages.visitors import opened
from rgtg.errors import BadSettings
from rgtg.workbench.columns.copying import FORMS, address_in
from rgtg.workbench.workbench import Workbench

COPY = "(text) => rgtg.copied(text)"


class Copying:
    """The text that was asked for, on its way to the clipboard."""

    def __init__(self, workbench: Workbench):
        self.workbench = workbench
        self.text = Words("", elem_id=ids.COPIED)

    def wire(self, bar: VoteBar, **options: Any) -> None:
        copied = bar.copy_as(self.copy(), None, self.text, **options)
        copied.success(None, self.text, None, js=COPY)

    def copy(self) -> Handler:
        @guarded("Copying", self.workbench)
        def copy(request: gr.Request, event: gr.EventData = NO_EVENT) -> str:
            sent = payload(event)
            comparison = opened(self.workbench, request, sent.get("comparison"))
            if not isinstance(form := sent.get("form"), str) or form not in FORMS:
                raise BadSettings("A comparison cannot be copied in that form.", f"There are: {', '.join(FORMS)}.", "Choose one.", "copy-as")
            return FORMS[form](comparison, address_in(self.workbench.library))

        return copy
