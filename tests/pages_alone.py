"""Pages and components outside a running app."""

from collections.abc import Iterator
from contextlib import contextmanager

import gradio as gr
from gradio.context import Context


@contextmanager
def on_a_page() -> Iterator[gr.Blocks]:
    """Components may be made and wired here. As `with gr.Blocks()`, which at its end builds a web app that no test here opens (0.15 s)."""
    before = Context.root_block, Context.block
    demo = gr.Blocks()
    Context.root_block = Context.block = demo
    try:
        yield demo
    finally:
        Context.root_block, Context.block = before
