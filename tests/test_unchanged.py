"""Outputs that a handler says nothing of are left alone, and the answers are Gradio's own."""

import asyncio
from functools import cache

import gradio as gr
import pytest
from gradio.state_holder import SessionState

from pages.components import Words
from pages.unchanged import Pages


@cache
def built(kind: type[gr.Blocks]) -> tuple[gr.Blocks, dict]:
    with kind(analytics_enabled=False) as demo:
        parts = {"text": gr.Textbox("a", elem_id="t"), "html": Words("b"), "button": gr.Button("c"), "state": gr.State(1)}
        parts["button"].click(lambda: None, None, list(parts.values()))
        parts["button"].click(lambda: None, None, parts["html"])
    return demo, parts


def answers(monkeypatch, kind: type[gr.Blocks], answer, number: int = 0) -> tuple[list, int]:
    """What a handler's answer becomes, and how many components were made anew."""
    demo, parts = built(kind)
    num_made, begin = [0], Words.__init__

    def counted(self, *args, **kwargs):
        num_made[0] += 1
        begin(self, *args, **kwargs)

    monkeypatch.setattr(Words, "__init__", counted)
    made = asyncio.run(demo.postprocess_data(list(demo.fns.values())[number], answer(parts), SessionState(demo)))
    for one in made:
        if isinstance(one, dict) and one.get("props") == {"__type__": "update"}:
            del one["props"]  # of `gr.HTML`, of whose properties none changes
    monkeypatch.undo()
    return made, num_made[0]


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
def test_the_answers_are_those_of_gradio_and_what_did_not_change_is_not_made_anew(monkeypatch, answer, num_made):
    ours, number = answers(monkeypatch, Pages, answer)
    theirs, _ = answers(monkeypatch, gr.Blocks, answer)
    assert ours == theirs and number == num_made


def test_a_handler_of_one_output_may_name_it(monkeypatch):
    ours, theirs = (answers(monkeypatch, kind, lambda parts: {parts["html"]: "<b>"}, 1)[0] for kind in (Pages, gr.Blocks))
    assert ours == theirs == ["<b>"]


def test_gradio_still_makes_them_anew(monkeypatch):
    assert answers(monkeypatch, gr.Blocks, lambda parts: {parts["text"]: "new"})[1] == 1, "else `pages.unchanged` is no longer needed"
