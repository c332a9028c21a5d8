"""A page that on a public server is for administrators: without any it shows one sentence. Knows nothing of what the page does."""

from collections.abc import Callable
from typing import Protocol

import gradio as gr
from gradio.context import Context

from pages import theme
from pages.components import Words
from pages.signing_in import has_admins
from rgtg.workbench.workbench import Workbench


class Page(Protocol):
    """The components of a page, which it makes when it is made, and the handlers that answer them."""

    def wire(self, blocks: gr.Blocks) -> None: ...


def build(workbench: Workbench, pages: theme.Links, title: str, make: Callable[[Workbench, theme.Links], Page], nobody: str, nobody_id: str) -> None:
    """Lay the page out in the open Blocks and wire it; where nobody may use it, show the sentence `nobody` instead."""
    if not has_admins(workbench.settings):
        with gr.Row(elem_classes=["topline"]):
            theme.header(title, pages)
        Words(nobody, elem_id=nobody_id)
        return
    page = make(workbench, pages)
    assert Context.root_block is not None
    page.wire(Context.root_block)
