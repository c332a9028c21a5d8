"""The Examine page: what reward models know of prefixes, several side by side on the same pairs, and one pair token by token.

Talks to the workbench; knows nothing of how a figure is computed.
"""

import json
from collections.abc import Iterator, Mapping
from typing import Any

import gradio as gr

from pages import administered, ids, theme
from pages.components import Download, Drawn, Words
from pages.examine_form import ExamineForm, choices, default_form, read_form
from pages.handlers import NO_EVENT, Handler, guarded, in_words, payload, read_id, read_number, read_text, warn
from pages.token_view import TokenView
from rgtg.errors import BadSettings, RgtgError, Stopped
from rgtg.plots import credit_curves, examined_accuracy
from rgtg.records import new_id
from rgtg.workbench.examining.examination import MAX_PAIRS, SIDES, Examination
from rgtg.workbench.examining.words import FORMS, as_file, groups, pair_labels
from rgtg.workbench.workbench import Workbench

TITLE = "Examine"
PUBLIC = "On a public server only its administrators examine reward models. Run rgtg on your own machine for that."
FILES = {"json": "application/json", "csv": "text/csv"}
MAX_SHOWN, MAX_NAME = 200, 200  # pairs in the picker; characters of a model's name
LETTERS = dict(zip(SIDES, "AB", strict=True))  # of the two token views
ABOUT_VIEWS = {
    "reward": "the reward of the prefix that ends with the token",
    "prefix difference": "its reward less that of the prefix before; offsets between lengths are in it",
    "sibling gap": "its reward less the mean reward of the base LM's 10 most probable tokens there, weighted by probability",
    "running minimum": "the lowest reward of a prefix so far",
    "attention": "share of the reward model's attention from the last token; last layer, mean over heads",
    "log-ratio": "β·log(π / π_ref) of the token",
}


class ExamineTable(Drawn):
    """The figures beside accuracy. Event `save_examination` {examination, form}."""

    function, events_sent = "examineTable", ("save_examination",)


class PairBar(Drawn):
    """The pickers of pair, model and view, and the next tokens. Events `read_pair` {examination, model, pair} and `read_next` {…, side, position}."""

    function, events_sent = "pairBar", ("read_pair", "read_next")


def build(workbench: Workbench, pages: theme.Links) -> None:
    """Lay the page out in the open Blocks and wire it; on a public server without administrators show one sentence."""
    administered.build(workbench, pages, TITLE, _Page, PUBLIC, ids.EXAMINE_STATUS)


class _Page:
    """The components of the page, and the handlers that answer them."""

    def __init__(self, workbench: Workbench, pages: theme.Links):
        self.workbench = workbench
        with gr.Row(elem_classes=["topline"]):
            theme.header(TITLE, pages)
            self.models = Words("", elem_id=ids.MODEL_STATUS)
        shown = not workbench.settings.public  # to strangers nothing of it is
        with gr.Column(visible=shown, elem_id=ids.EXAMINE, elem_classes=["room"], min_width=0) as room:
            self.form = ExamineForm(elem_id=ids.EXAMINE_FORM)
            with gr.Row(elem_classes=["go-row"]):
                self.start = gr.Button("Examine", variant="primary", elem_id=ids.EXAMINE_START, min_width=0)
                self.stop = gr.Button("Stop", elem_id=ids.EXAMINE_STOP, min_width=0, interactive=False)
                self.status = Words("", live=True, elem_id=ids.EXAMINE_STATUS)
            with gr.Row(visible=False, elem_classes=["examined"]) as self.examined:
                with gr.Column(min_width=0, elem_id="examined-box", elem_classes=["plot-box"]) as self.accuracy:
                    self.plot = gr.Plot(show_label=False, container=False, elem_id=ids.EXAMINE_PLOT)
                self.table = ExamineTable(elem_id=ids.EXAMINE_TABLE)
            with gr.Column(visible=False, elem_id=ids.PAIR_VIEW, min_width=0) as self.pair:
                self.bar = PairBar(elem_id=ids.PAIR_BAR)
                with gr.Row(elem_classes=["pair-texts"]):
                    self.texts = {side: TokenView(column=LETTERS[side], elem_id=f"pair-{side}") for side in SIDES}
                with gr.Column(min_width=0, elem_id="curves-box", elem_classes=["plot-box"]):
                    self.curves = gr.Plot(show_label=False, container=False, elem_id=ids.PAIR_CURVES)
        self.rooms = [] if shown else [room]
        self.download = Download("{}", elem_id=ids.EXAMINE_FILE)

    def wire(self, blocks: gr.Blocks) -> None:
        own: dict[str, Any] = {"show_progress": "hidden", "concurrency_limit": None, "api_visibility": "private"}
        of_pair = [self.bar, *self.texts.values(), self.curves]
        blocks.load(self._load(), None, [self.form, self.models, *self.rooms], **own)
        drawn = [self.status, self.stop, self.examined, self.accuracy, self.plot, self.table, self.pair, *of_pair, self.models]
        self.start.click(self._start(), self.form, drawn, trigger_mode="once", **own)
        self.stop.click(self._stop(), None, None, **own)
        self.table.save_examination(self._save(), None, self.download, **own)
        self.bar.read_pair(self._read(), None, of_pair, trigger_mode="always_last", **own)
        self.bar.read_next(self._next(), None, self.bar, trigger_mode="always_last", **own)

    def _load(self) -> Handler:
        @guarded("Opening the page", self.workbench)
        def load(request: gr.Request) -> dict[Any, Any]:
            updates: dict[Any, Any] = {self.models: self.workbench.status().text} | {row: gr.update(visible=True) for row in self.rooms}
            lists, form, wanted = choices(self.workbench), default_form(self.workbench), request.query_params.get("model")
            if wanted in lists["models"]:
                form["models"] = [wanted]
            elif wanted:
                warn(f"No reward model `{wanted:.80}` can be examined here.")
            return updates | {self.form: gr.update(value=json.dumps(form), **lists)}

        return load

    # ---- an examination ---------------------------------------------------------------------------

    def _start(self) -> Handler:
        @guarded("The examination", self.workbench)
        def start(form: str) -> Iterator[dict[Any, Any]]:
            running = self.workbench.examinations.start(read_form(form, self.workbench))
            words = ""
            try:
                while not running.ended():
                    if words != (words := running.words):
                        yield {self.status: words, self.stop: gr.update(interactive=True), self.models: self.workbench.status().text}
                yield self._examined(running) | {self.stop: gr.update(interactive=False)}
            except Stopped:
                yield {self.status: "Stopped; nothing was kept.", self.stop: gr.update(interactive=False)}
            except Exception as error:
                named = bool(getattr(error, "field", ""))  # then it is said beside that input
                yield {self.status: "" if named else in_words(error, "The examination"), self.stop: gr.update(interactive=False)}
                if named:
                    raise
            finally:
                running.stop()  # a tab that was closed ends the work

        return start

    def _examined(self, one: Examination) -> dict[Any, Any]:
        """Updates of everything that shows an examination that ended."""
        report = one.report
        models, num, what = report.get("models"), report.get("num_pairs"), "pair"
        if models is None:  # of choices among several answers
            models = report["best_of_n"]
            num, what = next(iter(models.values()))["num_items"], "prompt"
        left_out = f"; {report['num_left_out']:,} cannot be read" if report["num_left_out"] else ""
        table = {"id": one.id, "models": list(models), "groups": groups(report), "forms": list(FORMS.items())}
        updates: dict[Any, Any] = {self.status: f"{num:,} {what}{'s' * (num != 1)}{left_out}", self.models: self.workbench.status().text}
        updates |= {self.examined: gr.update(visible=True), self.accuracy: gr.update(visible=what == "pair"), self.table: _json(table)}
        if what == "prompt":
            return updates | {self.pair: gr.update(visible=False)}
        updates[self.plot] = examined_accuracy(models)
        first = min(report["models"], key=one.scores_vocabulary)  # a reward of the text, if there is one
        return updates | {self.pair: gr.update(visible=True)} | self._pair(one, first, 0)

    def _stop(self) -> Handler:
        @guarded("Stopping the examination", self.workbench)
        def stop() -> None:
            self.workbench.examinations.stop()

        return stop

    def _save(self) -> Handler:
        @guarded("The download", self.workbench)
        def save(event: gr.EventData = NO_EVENT) -> str:
            one, form = self._asked(event), payload(event).get("form")
            if not isinstance(form, str) or form not in FORMS or not one.report:
                raise BadSettings("The figures cannot be saved in that form.", f"There are: {', '.join(FORMS)}.", "Choose one.", "examine-format")
            return _json({"name": f"examination.{form}", "text": as_file(one.report, form), "type": FILES[form], "at": new_id()})

        return save

    # ---- one pair ---------------------------------------------------------------------------------

    def _read(self) -> Handler:
        @guarded("Reading the pair", self.workbench)
        def read(event: gr.EventData = NO_EVENT) -> dict[Any, Any]:
            one, (model, pair) = self._asked(event), _model_and_pair(event)
            one.check(model, pair)
            return self._pair(one, model, pair)

        return read

    def _pair(self, one: Examination, model: str, number: int) -> dict[Any, Any]:
        """Updates of the pair, of both token views and of the curves; or why it cannot be read token by token."""
        assert one.pairs is not None
        texts = [(pair.opening.prompt, pair.example.chosen, pair.example.rejected) for pair in one.pairs.read[:MAX_SHOWN]]
        bar: dict[str, Any] = {"id": one.id, "model": model, "pair": number, "models": list(one.report["models"]), "pairs": pair_labels(texts)}
        try:
            credits = one.credit(model, number)
        except RgtgError as error:
            return {self.bar: _json(bar | {"wrong": str(error)}), self.curves: credit_curves({})} | dict.fromkeys(self.texts.values(), "")
        bar |= {"views": {view: ABOUT_VIEWS[view] for view in next(iter(credits.values())).views}, "next": one.scores_vocabulary(model)}
        updates: dict[Any, Any] = {self.bar: _json(bar), self.curves: credit_curves({side: (c.tokens, c.views) for side, c in credits.items()})}
        prompt = one.pairs.read[number].opening.prompt
        return updates | {
            view: _tokens(LETTERS[side], side, f"{one.id} {model} {number}", prompt, credits[side]) for side, view in self.texts.items()
        }

    def _next(self) -> Handler:
        @guarded("The next tokens", self.workbench)
        def following(event: gr.EventData = NO_EVENT) -> str:
            one, (model, pair), sent = self._asked(event), _model_and_pair(event), payload(event)
            side, position = sent.get("side"), int(read_number(sent.get("position"), "token", 0, 100_000, whole=True))
            if side not in SIDES:
                raise BadSettings("There is no such answer.", "", "Reload the page.")
            found = one.next_tokens(model, pair, side, position)
            return _json({"id": one.id, "following": {"side": side, "position": position, "best": found["best"], "worst": found["worst"]}})

        return following

    def _asked(self, event: gr.EventData) -> Examination:
        return self.workbench.examinations.get(read_id(payload(event).get("examination"), "examination"))


def _model_and_pair(event: gr.EventData) -> tuple[str, int]:
    sent = payload(event)
    return read_text(sent.get("model"), "reward model", MAX_NAME), int(read_number(sent.get("pair"), "pair", 0, MAX_PAIRS, whole=True))


def _json(value: Mapping[str, Any]) -> str:
    return json.dumps(value, ensure_ascii=False, allow_nan=False)


def _tokens(letter: str, side: str, name: str, prompt: str, credit: Any) -> str:
    """The value of a TokenView: a header, a line a token with all views as its rewards, and the end."""
    lines: list[dict[str, Any]] = [{"column": letter, "trace": f"{name} {side}", "prompt": prompt, "title": side, "views": True}]
    for number, text in enumerate(credit.tokens):
        values = {view: values[number] for view, values in credit.views.items()}
        known = {view: None if value is None or value != value else round(value, 4) for view, value in values.items()}
        lines.append({"t": text, "rs": known} | ({} if text else {"x": "⟨end⟩"}))
    last = credit.views["reward"][-1]
    note = f"{side} · {len(credit.tokens)} tok · r {f'{last:+.2f}'.replace('-', '−')}"
    return "".join(_json(line) + "\n" for line in [*lines, {"end": "eos", "note": note}])
