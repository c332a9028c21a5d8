"""The form of an examination: what may be chosen, and checked values of what a browser sent.

Talks to the workbench; knows nothing of models or of how the page is laid out.
"""

from pathlib import Path
from typing import Any

from pages import temporary
from pages.handlers import quoted, read_json, read_number, read_text
from pages.token_view import _Drawn
from rgtg.errors import BadSettings
from rgtg.workbench.examining.examination import CHOICES, FILE, MAX_BETA, MAX_MODELS, MAX_PAIRS, MAX_TEXT, TYPED, VOTES, Request
from rgtg.workbench.workbench import Workbench

MAX_PATH, MAX_NAME = 2_000, 200  # characters
FIRST_MODELS = 3  # that are chosen when the page opens


class ExamineForm(_Drawn):
    """Models, pairs and options as JSON; `models` are the names to choose from, `sources` and `judges` the choices of the two pickers."""

    def __init__(self, value: str = "{}", **props: Any):
        lists: dict[str, Any] = {"models": [], "sources": [], "judges": [], "most": {"pairs": MAX_PAIRS, "text": MAX_TEXT, "beta": MAX_BETA}}
        super().__init__(value, js_on_load="rgtg.examineForm(element, props, watch, upload)", **(lists | props))


def choices(workbench: Workbench) -> dict[str, Any]:
    """The lists of the form."""
    num = workbench.num_votes()
    sources = [[VOTES, f"my votes ({num:,})"], [FILE, "a file or data set"], [TYPED, "one pair, typed"], [CHOICES, "best of n, a file"]]
    return {"models": workbench.examinations.names(), "sources": sources, "judges": [["", "none"], *([n, n] for n in workbench.examinations.names())]}


def default_form(workbench: Workbench) -> dict[str, Any]:
    """What the page opens with: the first reward models, votes if there are any, and a judge for the pairs that turn."""
    judges = workbench.examinations.judges()
    models = [name for name in workbench.examinations.names() if name not in judges][:FIRST_MODELS]
    source = VOTES if workbench.num_votes() else TYPED
    return {"models": models, "source": source, "limit": 200, "judge": judges[0] if judges else "", "beta": 1.0}


def read_form(text: object, workbench: Workbench) -> Request:
    """The checked form. Raises BadSettings naming the field."""
    form = read_json(text, "form")
    models = form.get("models")
    if not isinstance(models, list) or len(models) > MAX_MODELS or not all(isinstance(name, str) and len(name) <= MAX_NAME for name in models):
        raise BadSettings("Choose which reward models to examine.", f"Found {quoted(models)}.", f"Choose 1 to {MAX_MODELS}.", "models")
    source, judge, path, typed, beta = form.get("source"), form.get("judge"), "", ("", "", ""), 1.0
    if not isinstance(source, str) or not isinstance(judge, str) or len(judge) > MAX_NAME:
        raise BadSettings("The form could not be read.", "", "Reload the page.")
    if source in (FILE, CHOICES):
        path = read_text(form.get("path"), "file", MAX_PATH, "Upload one, or give its path or the id of a hub data set.", "path").strip()
        if workbench.settings.public:
            temporary.check_uploaded(Path(path), "path")
    if source == TYPED:
        prompt = form.get("prompt") or ""
        prompt = read_text(prompt, "prompt", MAX_TEXT, field="prompt") if prompt else ""
        chosen, rejected = (read_text(form.get(side), f"{side} answer", MAX_TEXT, "Type both answers.", side) for side in ("chosen", "rejected"))
        typed = (prompt, chosen, rejected)
    limit = int(read_number(form.get("limit"), "pairs", 1, MAX_PAIRS, whole=True, field="limit"))
    if source == CHOICES:  # whose form has neither
        judge = ""
    else:
        beta = float(read_number(form.get("beta"), "β", 0.001, MAX_BETA, field="beta"))
    return Request(tuple(dict.fromkeys(models)), source, path, typed, limit, judge, beta)
