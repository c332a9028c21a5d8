"""The Models page: base LMs, reward models and judges with their cards, parents and held-out accuracy; adds and deletes models.

Talks to the workbench; knows nothing of how weights are read or trained.
"""

import json
import os
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import gradio as gr
from gradio.context import Context

from pages import ids, theme
from pages.components import AddForm, Lengths, ModelCardView, ModelList, Report, Words
from pages.handlers import NO_EVENT, Handler, guarded, in_words, payload, read_text, screen_error, warn
from pages.making import Making
from pages.reports import accuracy_at_end, accuracy_figure, count, lengths_of, readable, report_words
from rgtg.errors import BadSettings, RgtgError
from rgtg.figures import figure_name
from rgtg.records import ModelCard, RewardModelRow, new_id
from rgtg.workbench.library import ModelInfo, children, ships, size
from rgtg.workbench.workbench import Workbench

TITLE = "Models"
KINDS = {"base_lm": "base LM", "reward_model": "reward model", "judge": "judge"}
GROUPS = {"base_lm": "Base language models", "reward_model": "Reward models", "judge": "Judges: evaluate answers, never guide them"}
HEAD = ["name", "objective", "base LM", "parent", "held-out accuracy", "pairs", "size"]
STATUSES = {
    "not_recommended": "Not recommended: beats neither the previous model nor the length baseline",
    "quarantined": "Quarantined: the model failed its checks",
}
MAX_PLACE = 1_000


def build(workbench: Workbench, pages: theme.Links) -> None:
    """Lay out the page in the open Blocks and connect its events."""
    page = _Page(workbench, pages)
    assert Context.root_block is not None
    page.wire(Context.root_block)


class _Page:
    """The components of the page by name, and the handlers that answer them."""

    def __init__(self, workbench: Workbench, pages: theme.Links):
        self.workbench, self.trainings = workbench, workbench.trainings
        with gr.Row(elem_classes=["topline"]):
            theme.header(TITLE, pages)
            self.models = Words("", elem_id=ids.MODEL_STATUS)
        self.add = None if workbench.settings.public else AddForm(elem_id=ids.ADD_FORM, elem_classes=["room"])
        self.making = Making(workbench)
        with gr.Row(elem_classes=["room", "models-grid"]):
            with gr.Column(min_width=0):
                self.list = ModelList(elem_id=ids.MODEL_LIST)
            with gr.Column(min_width=0, elem_classes=["panel"]):
                self.card = ModelCardView(elem_id=ids.MODEL_CARD)
                with gr.Column(visible=False, min_width=0) as self.report_box:
                    self.report = Report(elem_id=ids.MODEL_REPORT)
                with gr.Column(visible=False, elem_id="model-accuracy-box", elem_classes=["plot-box"]) as self.accuracy_box:
                    self.accuracy = gr.Plot(show_label=False, container=False, elem_id=ids.MODEL_ACCURACY)
                self.lengths = Lengths(elem_id=ids.MODEL_LENGTHS)
        self.timer = gr.Timer(1.0, active=False)

    def wire(self, blocks: gr.Blocks) -> None:
        outputs = [self.list, self.card, self.accuracy_box, self.accuracy, self.lengths, self.report_box, self.report]
        options: dict[str, Any] = {"show_progress": "hidden", "concurrency_limit": None, "api_visibility": "private"}
        blocks.load(self._load(), None, [*self._status_parts, *self.making.parts, *outputs], **options)
        self.making.wire(outputs, self._updates, **options)
        self.timer.tick(self._tick(), None, self._status_parts, **options)
        self.list.open_model(self._open(), None, outputs, trigger_mode="always_last", **options)
        self.card.open_model(self._open(), None, outputs, trigger_mode="always_last", **options)
        if self.add is not None:
            self.card.delete_model(self._delete(), None, outputs, **options)
            self.add.add_model(self._add(), None, [self.add, *outputs], **options)

    def _tick(self) -> Handler:
        @guarded("The status", self.workbench)
        def tick() -> dict:
            return self._status()

        return tick

    def _load(self) -> Handler:
        @guarded("Opening the page", self.workbench)
        def load(request: gr.Request) -> dict:
            wanted, names = request.query_params.get("model"), [m.name for m in self._listed()]
            first = wanted if wanted in names else names[0] if names else ""
            if wanted and wanted not in names:
                warn(f"No model `{wanted:.80}` is installed.")
            return self._status() | self.making.kinds() | self._updates(first)

        return load

    @property
    def _status_parts(self) -> list:
        return [self.models, self.timer]

    def _status(self) -> dict:
        """Updates for the status line; the timer asks again while models load."""
        status = self.workbench.status()
        return {self.models: status.text, self.timer: gr.Timer(active=status.state == "loading")}

    def _open(self) -> Handler:
        @guarded("Opening the model", self.workbench)
        def open_model(event: gr.EventData = NO_EVENT) -> dict:
            return self._updates(self._checked_name(payload(event).get("model")))

        return open_model

    def _listed(self) -> list[ModelInfo]:
        """All models; unusable ones come last."""
        return self.workbench.library.models() + self.workbench.library.unusable()

    def _checked_name(self, name: object) -> str:
        if name not in [m.name for m in self._listed()]:
            raise BadSettings("That model is not installed.", "", "Reload the page.")
        return name

    def _add(self) -> Handler:
        @guarded("Adding the model", self.workbench)
        def add(event: gr.EventData = NO_EVENT) -> dict:
            sent = payload(event)
            place, kind = sent.get("place"), sent.get("kind")
            try:
                place = read_text(place, "model to add", MAX_PLACE, "Enter a folder on this machine, or owner/name on the Hugging Face Hub.")
                info = self.workbench.add_model(place.strip(), kind if isinstance(kind, str) else "")
            except Exception as error:
                raise screen_error(in_words(error, "Adding the model"), "place") from None
            return {self.add: _note(f"{info.name} was added", done=True)} | self._updates(info.name)

        return add

    def _delete(self) -> Handler:
        @guarded("Deleting the model", self.workbench)
        def delete(event: gr.EventData = NO_EVENT) -> dict:
            sent = payload(event)
            name = self._checked_name(sent.get("model"))
            if name in self.workbench.library.added():
                self.workbench.library.take_off(name)
                return self._updates("", f"“{name}” was removed from the list. Its folder was not changed.")
            made = name in self.workbench.library.made.names()
            if not made and name not in self.trainings.trained():
                raise BadSettings(f"`{name}` was not trained here.", "", "Only models that were trained, made or added here can be deleted.")
            if sent.get("sure") is not True:
                raise BadSettings("Deleting a model has to be confirmed.", "", "Press Delete again.")
            (self.workbench.library.delete_made if made else self.trainings.delete_model)(name)
            return self._updates("", f"“{name}” was deleted. Answers generated with it are kept.")

        return delete

    # ---- content ------------------------------------------------------------------------------

    def _trained(self) -> dict[str, RewardModelRow]:
        """Models that were trained here, by name; none where the database cannot be read, since the cards can still be shown."""
        try:
            return self.trainings.trained()
        except RgtgError as error:
            warn(str(error))
            return {}

    def _updates(self, name: str, message: str = "") -> dict:
        """Updates for the table and for the card of the model `name`; without one, `message` is shown in its place."""
        models = [replace(m, card=readable(m.card)) for m in self._listed()]
        public = self.workbench.settings.public
        info = next((m for m in models if m.name == name), None)
        updates: dict[Any, Any] = {self.list: json.dumps(list_words(models, name, public)), self.card: json.dumps({"words": message})}
        card = readable(info.card, with_figure=True) if info else None
        if info:
            info = replace(info, card=card)
            trained_row, added = (None, False) if public else (self._trained().get(name), name in self.workbench.library.added())
            made = not public and self.workbench.library.made.is_made(info)
            words = card_words(info, models, trained_row, public) | {"added": added} | ({"deletable": True} if made else {})
            updates[self.card] = json.dumps(words | {"examinable": not public and name in self.workbench.examinations.names()})
        measured_card = card if card and lengths_of(card) else None
        updates |= {self.accuracy_box: gr.update(visible=measured_card is not None), self.report_box: gr.update(visible=bool(card and card.report))}
        updates |= {self.report: report_words(card), self.lengths: report_words(card)}
        return updates | ({self.accuracy: accuracy_figure(measured_card)} if measured_card else {})


def _note(text: str, **flags: bool) -> str:
    return json.dumps({"note": text, "at": new_id()} | flags)  # `at`: an equal value would not reach the page


def list_words(models: Sequence[ModelInfo], open_name: str, public: bool = False) -> dict:
    """The table as JSON for models.js: one group per kind, one row per model; unusable models form a group of their own."""
    rows = {kind: [{"name": m.name, "mark": m.mark, "cells": _cells(m)} for m in models if m.kind == kind and not m.wrong] for kind in GROUPS}
    groups = [{"title": title, "models": rows[kind]} for kind, title in GROUPS.items()]
    unusable = [{"name": m.name, "cells": [_wrong(m, public), *[""] * (len(HEAD) - 2)]} for m in models if m.wrong]
    return {"head": HEAD, "open": open_name, "groups": groups + ([{"title": "Cannot be used", "models": unusable}] if unusable else [])}


def _wrong(info: ModelInfo, public: bool) -> str:
    """Why the model cannot be used; on a public server of models of the Hub alone, as the reason for another may name a path."""
    return "It cannot be read." if public and os.path.isabs(info.folder_or_id) else info.wrong


def _cells(info: ModelInfo) -> list[str]:
    card = info.card or ModelCard(info.kind, info.name)
    return [card.objective, card.base_lm, card.parent, *accuracy_at_end(card), size_words(size(info))]


def card_words(info: ModelInfo, models: Sequence[ModelInfo], row: RewardModelRow | None, public: bool) -> dict:
    """A model's card as JSON for models.js; `row` is its database row if it was trained here."""
    card, installed = info.card, {m.name for m in models}
    facts = [
        [
            "location",
            "ships with rgtg"
            if ships(info)
            else "trained here"
            if row
            else "added"
            if public and os.path.isabs(info.folder_or_id)
            else info.folder_or_id,
        ]
    ]
    facts.append(["size on disk", size_words(size(info))])
    if info.wrong:
        return {"name": info.name, "kind": KINDS[info.kind], "facts": [["cannot be used", _wrong(info, public)], *facts]}
    status = row.status if row else "not_recommended" if info.mark else ""
    if status in STATUSES:
        facts.insert(0, ["status", STATUSES[status]])
    if card is None:
        facts.append(["model card", "none: not trained with rgtg"])
        return {"name": info.name, "kind": KINDS[info.kind], "facts": facts, "children": children(info, models)}
    card_facts = (
        ("training signal", card.trained_on),
        ("objective", card.objective),
        ("base LM", card.base_lm),
        ("training data", card.source),
        ("template", card.template),
        ("licence", card.license),
    )
    facts += [[label, words] for label, words in card_facts if words and not (label == "template" and words == "plain")]
    if card.num_pairs or card.num_texts:
        facts.append(["trained on", count(card.num_pairs, "pair") if card.num_pairs else count(card.num_texts, "text")])
    if info.kind != "base_lm":
        facts.append(
            [
                "reward threshold",
                f"{card.zero:+.3f}".replace("-", "−"),
                "Equal-error threshold: the share of chosen answers below it equals the share of rejected answers above it",
            ]
        )
    metrics = {name: value for name, value in card.metrics.items() if isinstance(value, int | float) and not isinstance(value, bool)}
    facts += [[figure_name(name), f"{value:,}" if isinstance(value, int) else f"{value:,.3f}"] for name, value in metrics.items() if not card.report]
    parents = [name for name in (card.parent or card.base_lm,) if name in installed and name != info.name]
    if card.parent and card.parent not in installed:
        facts.append(["parent", f"{card.parent}, no longer installed"])
    training = [[name.replace("_", " "), _value(value)] for name, value in card.training.items() if name != "last"]
    content = {"name": info.name, "kind": KINDS[info.kind], "facts": facts}
    return content | {"parents": parents, "children": children(info, models), "training": training, "deletable": row is not None}


def _value(value: object) -> str:
    return ("on" if value else "off") if isinstance(value, bool) else f"{value:,}" if isinstance(value, int) else str(value)


def size_words(num_bytes: int | None) -> str:
    """ "8.8 MB", "15 GB"; "–" for a model that is not on this disk."""
    if num_bytes is None:
        return "–"
    value = float(num_bytes)
    for unit in ("B", "kB", "MB", "GB"):
        if value < 1000 or unit == "GB":
            return f"{value:.0f} {unit}" if value >= 10 or unit == "B" else f"{value:.1f} {unit}"
        value /= 1000
    raise AssertionError
