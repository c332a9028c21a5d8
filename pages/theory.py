"""The toy on the Help page: a table of prefix rewards, and rewards to drag while the loss stays.

What the numbers are, the library computes; here they become text.
"""

import json
from typing import Any

import gradio as gr

from pages import ids
from pages.components import ToyView
from pages.handlers import NO_EVENT, Handler, guarded, payload
from rgtg.errors import BadSettings
from rgtg.workbench.report import demonstration
from rgtg.workbench.report.demonstration import Choice

HEAD = ("prefix rewards", "E[r]", "KL", "J", "TV to π*", "greedy r", "partial loss")
ABOUT = (
    "Three tokens a, b, c, answers of four tokens, β = 1.3: few enough to go through all 81 answers, so every number is exact. "
    "The rewards of complete answers are fixed. Choose the rewards of unfinished ones, or drag them, and see what guidance makes of them. "
    "Why prefixes need rewards of their own: PARGS, arXiv 2406.07780."
)
POINTS = (
    (
        "A loss on complete answers leaves prefixes free.",
        "It reads rewards of complete answers only: {loss} for any values below, although guidance by them differs. A neural reward model ties "
        "prefixes to complete answers through its weights: free means that the loss does not determine them, not that they are random.",
    ),
    (
        "Training on partial answers gives them a meaning.",
        "The reward of a prefix then says how probably an answer that continues it beats one that continues another. The partial loss, over pairs "
        "of prefixes of one length, is lowest at {lowest}. Only differences at one length are trained, so an offset for each length is free.",
    ),
    (
        "The token-wise rule is a ratio of two RLHF policies, whatever the rewards of prefixes are.",
        "Largest difference between p(v) ∝ π_ref(v)·exp(β·r(prefix, v)) and the normalised ratio: {gap}.",
    ),
    (
        "Which prefix reward?",
        "J = E[r] − KL/β is highest for the RLHF policy π* ∝ π_ref·exp(β·r), which only the soft value reaches. Greedy search by the mean or the "
        "partial value can miss the best answer; by the maximum it never does, but for sampling the maximum is not the RLHF policy.",
    ),
)


class ToyPanel:
    """The toy and its handler."""

    def __init__(self) -> None:
        self.view = ToyView("{}", elem_id=ids.TOY, elem_classes=["room"])

    def wire(self, **options: Any) -> None:
        self.view.drag(self.drag(), None, self.view, trigger_mode="always_last", **options)

    def value(self) -> str:
        """All of it, with random prefixes chosen."""
        rows = [{"cells": row_words(one), "about": one.about, "values": one.values} for one in demonstration.choices()]
        fixed = {"title": "Prefix rewards on a toy", "about": ABOUT, "head": HEAD, "names": demonstration.names(), "rows": rows}
        return json.dumps(fixed | {"max": demonstration.MAX_VALUE} | now(demonstration.choices()[0]), allow_nan=False)

    def drag(self) -> Handler:
        @guarded("Computing the toy", None)
        def drag(event: gr.EventData = NO_EVENT) -> str:
            sent = payload(event)
            values, number = sent.get("values"), sent.get("number")
            if not isinstance(values, list) or type(number) is not int or not 0 <= number < 2**53:
                raise BadSettings("The values could not be read.", "", "Reload the page.")
            return json.dumps(now(demonstration.choice(values)) | {"number": number}, allow_nan=False)

        return drag


def now(choice: Choice) -> dict[str, Any]:
    """What changes with the values: the row of numbers, and the sentences with theirs."""
    lowest = min(one.partial_loss for one in demonstration.choices())
    numbers = {"loss": f"{demonstration.full_loss():.6f}", "lowest": f"{lowest:.6f}", "gap": f"{choice.ratio_gap:.1e}".replace("-", "−")}
    return {"now": row_words(choice)[1:], "points": [[title, text.format(**numbers)] for title, text in POINTS], "loss": numbers["loss"]}


def row_words(choice: Choice) -> list[str]:
    """The cells of a row: name, E[r], KL, J, TV, greedy, partial loss."""
    f = choice.figures
    signed = [f"{f.reward:+.3f}", f"{f.kl:.3f}", f"{f.objective:+.3f}", f"{f.distance:.3f}", f"{f.greedy:.3f}", f"{choice.partial_loss:.4f}"]
    return [choice.name, *(text.replace("-", "−") for text in signed)]
