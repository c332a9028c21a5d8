"""Blocks that leave alone what a handler says nothing of.

Gradio makes every output that is not among a handler's answers anew, as it does with one that changed: with the outputs of Compare that is most of
the work of an update, for each token that is streamed and each place in the waiting line.
"""

import copy
from typing import Any

import gradio as gr
from gradio.blocks import Block, convert_component_dict_to_list

UNCHANGED = gr.skip()  # what stands for such an output in the answer


def is_unchanged(value: object) -> bool:
    return type(value) is dict and value == UNCHANGED


class Pages(gr.Blocks):
    """As `gr.Blocks`; the answers are the same."""

    async def postprocess_data(self, block_fn: Any, predictions: Any, state: Any) -> list[Any]:
        """The answers of a handler for the screen, as a list in the order of its outputs."""
        outputs = list(block_fn.outputs)
        if len(outputs) < 2 or not isinstance(predictions, dict) or not predictions or not all(isinstance(key, Block) for key in predictions):
            return await super().postprocess_data(block_fn, predictions, state)
        values = convert_component_dict_to_list(outputs, predictions)
        changed = [i for i, value in enumerate(values) if outputs[i].stateful or not is_unchanged(value)]
        answers: list[Any] = [dict(UNCHANGED) for _ in outputs]
        if changed:
            part = copy.copy(block_fn)
            part.outputs = [outputs[i] for i in changed]
            given = [values[i] for i in changed]
            made = await super().postprocess_data(part, given[0] if len(changed) == 1 else given, state)
            for i, answer in zip(changed, made, strict=True):
                answers[i] = answer
        return answers
