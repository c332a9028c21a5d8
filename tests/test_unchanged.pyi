"""Outputs that a handler says nothing of are left alone, and the answers are Gradio's own."""

import asyncio

import gradio as gr
import pytest
from gradio.state_holder import SessionState

from pages.unchanged import Pages

from gradio.events import Dependency

class Counted(gr.HTML):
    made = 0

    def __init__(self, *args, **kwargs):
        type(self).made += 1
        super().__init__(*args, **kwargs)
    from typing import Callable, Literal, Sequence, Any, TYPE_CHECKING
    from gradio.blocks import Block
    if TYPE_CHECKING:
        from gradio.components import Timer
        from gradio.components.base import Component

def answers(kind: type[gr.Blocks], answer) -> tuple[list, int]:
    """What a handler's answer becomes, and how many components were made anew."""
    with kind() as demo:
        parts = {"text": gr.Textbox("a", elem_id="t"), "html": Counted("b"), "button": gr.Button("c"), "state": gr.State(1)}
        parts["button"].click(lambda: None, None, list(parts.values()))
    Counted.made = 0
    fn = next(iter(demo.fns.values()))
    made = asyncio.run(demo.postprocess_data(fn, answer(parts), SessionState(demo)))
    return made, Counted.made

@pytest.mark.parametrize(
    ("answer", "num_made"),
    [
        (lambda parts: {parts["text"]: "new"}, 0),
        (lambda parts: {parts["text"]: "new", parts["html"]: "<b>"}, 0),
        (lambda parts: {parts["text"]: gr.update(value="new", label="l")}, 0),
        (lambda parts: {parts["html"]: gr.update(value="new")}, 1),
        (lambda parts: {parts["button"]: gr.Button("d", visible=False), parts["state"]: 7}, 0),
        (lambda parts: {parts["text"]: gr.skip()}, 0),
        (lambda parts: ["x", "y", "z", 2], 0),
        (lambda parts: gr.skip(), 1),
    ],
)
def test_the_answers_are_those_of_gradio_and_what_did_not_change_is_not_made_anew(answer, num_made):
    ours, number = answers(Pages, answer)
    theirs, _ = answers(gr.Blocks, answer)
    assert ours == theirs and number == num_made

def test_gradio_still_makes_them_anew():
    assert answers(gr.Blocks, lambda parts: {parts["text"]: "new"})[1] == 1, "else `pages.unchanged` is no longer needed"
