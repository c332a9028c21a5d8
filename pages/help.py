"""The Help page: every method, kind of reward and training objective from its class, a glossary, the keys, and a toy.

Talks to the workbench; knows nothing of how a method works.
"""

import json
import math
import re
from collections.abc import Iterable
from itertools import zip_longest
from typing import Any

import gradio as gr
from gradio.context import Context

from pages import ids, theme
from pages.components import HelpView, Words
from pages.handlers import Handler, guarded
from pages.theory import ToyPanel
from rgtg.guidance.methods import Parameter
from rgtg.workbench.report import handbook
from rgtg.workbench.workbench import Workbench

TITLE = "Help"
METHODS = "What each column of Compare can be generated with. The key is the name on the command line: rgtg generate --run KEY:parameter=value"
KINDS = "What a reward model can be. A model's card names its kind; without a card it is scalar."
OBJECTIVES = "What a reward model can be trained for, on the Train page or with rgtg train --objective KEY."
GLOSSARY = (
    ("Base LM", "The language model that proposes every token. Guidance changes which token is selected, never the model itself."),
    ("Beta (β)", "The weight of the reward in log p + β·r. 0 is the base LM; larger values follow the reward model more closely."),
    ("Branch", "A second answer that continues from one token of another answer with a different candidate."),
    ("Candidates", "The most probable next tokens under the base LM, limited by top k and top p. Methods that work token by token score only these."),
    (
        "Forward",
        "One run of a model over the tokens that are new to it, for several columns at once; positions are one column's tokens in it.",
    ),
    ("Gain in reward", "The reward of the prefix with a token, minus the reward before it."),
    ("Guide", "The reward model that a column's method follows."),
    ("Held-out accuracy", "The share of pairs, on prompts that training never saw, whose chosen answer gets the higher reward."),
    ("Judge", "A reward model that only evaluates finished answers. It never guides, so that its scores do not favour what was optimised."),
    (
        "KL",
        "Kullback–Leibler divergence, in nats: how far the guided distribution of the next tokens is from that of the base LM, over the answer.",
    ),
    ("Line-up", "A named set of columns: methods with their models and parameters, chosen beside the prompt, saved, and exchanged as a file."),
    ("Log probability (log p)", "The natural logarithm of a token's probability under the base LM, at most 0."),
    ("Margin", "The reward of the selected token minus the reward of the base LM's most probable token, at the same position."),
    ("Pair", "Two answers to one prompt, of which one was chosen and the other rejected. Votes become pairs, and reward models are trained on them."),
    ("Prefix", "The prompt and the answer so far. Guidance needs rewards of prefixes, because the answer is not yet complete."),
    ("Prefix reward", "The reward of an unfinished answer. Only differences between prefixes of one length are comparable."),
    ("Random seed", "Columns with one seed share their random numbers, so that they differ only where guidance made them differ."),
    ("Role", "What a second language model is to a method: its expert, its reference. Where none is named, the model in the picker stands in."),
    ("Score", "What a method selects a token by, such as log p + β·r."),
    ("Surprisal", "−log p of a token, in nats: the larger, the less the base LM expected it."),
    ("Sweep", "Every setting of a grid of methods and parameters on many prompts, judged: a table with intervals, and judge against KL."),
    ("Temperature", "Divides the score before sampling. 0 always selects the highest score; larger values make selection more random."),
    ("Top k, top p", "Limits of the candidates: their number, and the probability that they reach together."),
)
KEYS = (
    ("Ctrl Enter", "Generate, also while typing in the prompt"),
    ("Esc", "Stop while an answer is written; otherwise close what is open"),
    ("1 … 6", "Vote: column A … F is best; branches have the next numbers, up to 9"),
    ("T", "Vote: tie"),
    ("N", "Vote: none is good"),
    ("S", "Skip: no opinion"),
    ("U", "Undo the vote"),
    ("← →, Home, End", "Within an answer: the previous or next token, the first, the last"),
    ("Enter", "On a token: why it was selected"),
    ("1 … 9, 0", "In a column by hand or its table: choose that candidate; Backspace takes the last choice back"),
)
ANNOTATE_KEYS = (
    ("1 … 4, T, N, S, U", "Vote, as on Compare; U goes back through the pairs"),
    ("1 … 4, =, Enter", "Where answers are ranked: the best first, = for equally good, Enter when done; the others count as worse"),
    ("J K L, 5 … 9, C", "Of the vote before: how sure, why, a comment"),
    ("← → ↑ ↓, Shift", "Select tokens of the answers"),
    ("G, X, W", "Mark the selected tokens: good, bad, wrong from here"),
    ("B", "Two continuations from the selected token, to vote on"),
    ("F", "Skip a broken pair and flag it"),
    ("H", "Guidelines"),
)


def build(workbench: Workbench, pages: theme.Links) -> None:
    """Lay out the page in the open Blocks and connect its events."""
    with gr.Row(elem_classes=["topline"]):
        theme.header(TITLE, pages)
        models = Words("", elem_id=ids.MODEL_STATUS)
    view, toy = HelpView("{}", elem_id=ids.HELP, elem_classes=["room"]), ToyPanel()
    assert Context.root_block is not None
    options: dict[str, Any] = {"show_progress": "hidden", "concurrency_limit": None, "api_visibility": "private"}
    Context.root_block.load(_load(workbench, toy), None, [models, view, toy.view], **options)
    toy.wire(**options)


def _load(workbench: Workbench, toy: ToyPanel) -> Handler:
    @guarded("Opening the page", workbench)
    def load() -> tuple[str, str, str]:
        contents = [*chapters(), {"id": "theory", "title": "Prefix rewards on a toy", "below": True}]
        return workbench.status().text, json.dumps({"chapters": contents}, allow_nan=False), toy.value()

    return load


def chapters() -> list[dict[str, Any]]:
    """What HelpView draws: chapters with groups of entries, or with terms and their meaning."""
    return [
        _chapter("methods", "Guidance methods", METHODS, handbook.methods()),
        _chapter("rewards", "Reward models", KINDS, handbook.reward_kinds()),
        _chapter("objectives", "Training objectives", OBJECTIVES, handbook.objectives()),
        {"id": "glossary", "title": "Glossary", "about": "", "terms": GLOSSARY},
        {"id": "keys", "title": "Keys", "about": "On Compare; quiet while you type.", "terms": KEYS},
        {"id": "annotate-keys", "title": "Keys of Annotate", "about": "Quiet while you type.", "terms": ANNOTATE_KEYS},
    ]


def _chapter(name: str, title: str, about: str, groups: Iterable[handbook.Group]) -> dict[str, Any]:
    described = [{"title": group.title, "about": group.about, "entries": [_entry(name, entry) for entry in group.entries]} for group in groups]
    return {"id": name, "title": title, "about": about, "groups": described}


def _entry(chapter: str, entry: handbook.Entry) -> dict[str, Any]:
    name = entry.key or entry.title.lower().replace(" ", "-")
    return {
        "id": f"{chapter}-{name}",
        "key": entry.key,
        "title": entry.title,
        "about": linked(entry.about),
        "notes": [(label, linked(text)) for label, text in entry.notes],
        "objective": entry.objective,
        "parameters": [{"name": p.name, "help": p.help, "default": number(p.default), "range": allowed(p)} for p in entry.parameters],
    }


def linked(text: str) -> list[str | tuple[str, str]]:
    """Words, papers with their addresses, and names in the code with none: "`keep` as in arXiv 2104.05218" ->
    [("keep", ""), " as in ", ("arXiv 2104.05218", "https://arxiv.org/abs/2104.05218")]."""
    pieces = re.split(r"(arXiv \d{4}\.\d{4,5}|`[^`]+`)", text)
    marked = [(p.strip("`"), "" if p.startswith("`") else f"https://arxiv.org/abs/{p.split()[1]}") for p in pieces[1::2]]
    return [piece for pair in zip_longest(pieces[::2], marked) for piece in pair if piece]


def allowed(parameter: Parameter) -> str:
    """The values that a parameter may have: "0 … 20", "sample, greedy", "yes, no", "any text"."""
    if parameter.choices:
        return ", ".join(parameter.choices)
    if parameter.min is None or parameter.max is None:
        return "yes, no" if isinstance(parameter.default, bool) else "any text"
    return ", ".join([f"{number(parameter.min)} … {number(parameter.max)}", *map(number, parameter.also)])


def number(value: float | int | str | bool) -> str:
    """A value of a parameter as text: 1000000.0 -> "1,000,000", 1e-6 -> "0.000001", True -> "yes", "" -> "empty"."""
    if isinstance(value, bool | str):
        return ("yes" if value else "no") if isinstance(value, bool) else value or "empty"
    if math.isinf(value):
        return "∞" if value > 0 else "−∞"
    text = f"{value:,.10f}".rstrip("0").rstrip(".")
    return text.replace("-", "−")
