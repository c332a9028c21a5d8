"""The panel "Sweep this": a grid of weights on one prompt, made in the background; a slider through the texts, curves, and what to take.

Talks to the workbench; knows nothing of models or of how tokens are chosen. The page that has it gives its prompt, settings and columns.
"""

import json
import math
import time
from collections.abc import Iterator, Sequence
from typing import Any

import gradio as gr
import plotly.graph_objects as go
from gradio.components import Component

from pages import admission, ids
from pages.asking_back import AskedBack
from pages.columns import SYMBOLS, read_settings, read_spec
from pages.components import Drawn
from pages.handlers import NO_EVENT, Handler, guarded, in_words, payload, read_number, read_text, screen_error
from pages.streaming import wait
from pages.token_view import token_label
from pages.waiting_line import Line, Ticket
from rgtg.config import COLUMN_NAMES
from rgtg.errors import BadSettings, OverBudget
from rgtg.plots import weight_curves
from rgtg.records import Step, new_id
from rgtg.workbench.sweeps import MAX_SEEDS, MAX_WEIGHTS, WeightSweep
from rgtg.workbench.workbench import Workbench

WEIGHTS, SEEDS = "0, 0.5, 1, 2, 4, 8", 5  # of a new grid
MAX_PROMPT, MAX_TEXT = 20_000, 400
TEXT_EVERY, CURVES_EVERY = 0.25, 1.0  # seconds between updates


class SweepPanel(Drawn):
    """The grid, the texts and what is recommended; the value is the NDJSON of `Texts`. Events `sweep` {weights, seeds}, `stop_sweep`."""

    function, events_sent = "sweepPanel", ("sweep", "stop_sweep")


class Sweeping:
    """The components of the panel, and the handlers that answer them. `line` is the waiting line of the page."""

    def __init__(self, workbench: Workbench, line: Line):
        self.workbench, self.line = workbench, line
        self.asked_back = AskedBack(lambda: self.workbench.settings.public, "Start")
        with gr.Column(elem_id=ids.SWEEP, min_width=0):
            self.panel = SweepPanel("", weights=WEIGHTS, seeds=SEEDS, max_weights=MAX_WEIGHTS, max_seeds=MAX_SEEDS, elem_id=ids.SWEEP_PANEL)
            self.curves = gr.Plot(show_label=False, container=False, elem_id=ids.SWEEP_CURVES)

    def wire(self, prompt: Component, settings: Component, columns: Sequence[Component], **options: Any) -> None:
        """Connect the panel's events; `options` are passed to each listener."""
        started = self.panel.sweep(
            self.start(), [prompt, settings, *columns], [self.panel, self.curves], trigger_mode="multiple", **options
        )  # fmt: skip
        started.failure(None, None, None, js="() => rgtg.sweepRefused?.()")
        self.panel.stop_sweep(self.stop(), None, None, **options)

    def start(self) -> Handler:
        @guarded("The sweep", self.workbench)
        def start(
            prompt: object,
            settings: str,
            a: str,
            b: str,
            c: str,
            d: str,
            e: str,
            f: str,
            request: gr.Request,
            event: gr.EventData = NO_EVENT,
        ) -> Iterator[dict]:
            sent, prompt = payload(event), read_text(prompt, "prompt", MAX_PROMPT)
            run_settings = read_settings(settings, self.workbench)
            names = COLUMN_NAMES[: run_settings["columns"]]
            specs = {
                name: read_spec(text, name, self.workbench, run_settings["base_lm"]) for name, text in zip(names, (a, b, c, d, e, f), strict=False)
            }
            weights, seeds = read_weights(sent.get("weights")), read_number(sent.get("seeds"), "seeds", 1, MAX_SEEDS, True, "seeds")
            key = (prompt, tuple(specs.items()), weights, seeds, run_settings["generation"], run_settings["base_lm"], run_settings["seed"])
            self.line.stop(request.session_hash)
            ticket = admission.enter(self.line, self.workbench, request)
            try:
                for words in (waiting := _Waiting(self.workbench, self.line, ticket)):
                    yield {self.panel: progress_text(words)}
                if not waiting.turn:
                    return
                confirmed = self.asked_back.confirmed(request.session_hash, key)
                try:
                    sweep = self.workbench.sweeps.weights(
                        prompt, specs, weights, int(seeds), run_settings["generation"], run_settings["seed"], run_settings["base_lm"], confirmed,
                        lambda: ticket.stopped,
                    )  # fmt: skip
                except OverBudget as error:
                    raise self.asked_back.error(error, request.session_hash, key) from None
                yield from self._stream(sweep, ticket)
            finally:
                self.line.leave(ticket)

        return start

    def _stream(self, sweep: WeightSweep, ticket: Ticket) -> Iterator[dict]:
        """Run the grid and stream its answers; the curves are drawn anew now and then."""
        ticket.on_stop = sweep.stop
        if ticket.stopped:
            sweep.stop()
        texts, told, drawn = Texts(sweep, self.workbench), 0.0, 0.0
        yield {self.panel: texts.text, self.curves: texts.figure()}
        try:
            for item in sweep:
                ticket.stop_unheard()
                texts.take(item)
                now = time.monotonic()
                if now - told >= TEXT_EVERY:
                    told = now
                    curves = {self.curves: texts.figure()} if now - drawn >= CURVES_EVERY and texts.grown else {}
                    drawn = now if curves else drawn
                    yield {self.panel: texts.now()} | curves
        except Exception as error:
            message = in_words(error, "The sweep")
            yield {self.panel: texts.end("error", message), self.curves: texts.figure()}
            raise screen_error(message) from None
        finally:
            sweep.stop()
        late = f"It was stopped at the time limit of {sweep.deadline_s:g} s." if sweep.is_late else ""
        yield {self.panel: texts.end("stopped" if ticket.stopped or late else "done", late), self.curves: texts.figure()}

    def stop(self) -> Handler:
        @guarded("Stop", self.workbench)
        def stop(request: gr.Request) -> None:
            self.line.stop(request.session_hash)

        return stop


class _Waiting:
    """The sentences of `wait`; `turn` says afterwards whether the turn has come."""

    def __init__(self, workbench: Workbench, line: Line, ticket: Ticket):
        self.sentences, self.turn = wait(workbench, line, ticket), False

    def __iter__(self) -> Iterator[str]:
        self.turn = yield from self.sentences


def read_weights(text: object) -> tuple[float, ...]:
    """Weights from text such as "0, 0.5, 1", in ascending order, each once. Raises BadSettings."""
    text = read_text(text, "list of weights", MAX_TEXT, "Enter weights separated by commas.", "weights")
    weights = []
    for part in filter(None, text.replace(";", ",").replace(" ", ",").split(",")):
        try:
            weights.append(float(part))
        except ValueError:
            weights.append(math.nan)
        if not math.isfinite(weights[-1]):
            raise BadSettings("A weight has to be a number.", f"Found “{part[:40]}”.", "Separate weights by commas: 0, 0.5, 1.", "weights")
    found = tuple(sorted(set(weights)))
    if not 2 <= len(found) <= MAX_WEIGHTS:
        raise BadSettings(f"A grid has 2 to {MAX_WEIGHTS} weights.", f"Found {len(found)}.", "Change the list.", "weights")
    return found


def progress_text(words: str) -> str:
    """The value of the panel before there is a grid: what it waits for."""
    return _line({"id": new_id(), "waiting": words})


def _line(fields: dict) -> str:
    return json.dumps(fields, ensure_ascii=False, allow_nan=False, separators=(",", ":")) + "\n"


def _rounded(value: float | None) -> float | None:
    return None if value is None or not math.isfinite(value) else round(value, 4)


class Texts:
    """A grid as NDJSON that only grows: a head, a line an answer, notes of the progress, an end; and its curves.

    An answer: l, w, s its place by index; judge, guide, kl; stop; t its tokens as [text, judge's reward, guide's reward, log p], with a
    label as a fifth where the text is empty.
    """

    def __init__(self, sweep: WeightSweep, workbench: Workbench):
        self.sweep, self.grown, self._done, self._ended = sweep, False, 0.0, False
        self.lines = sweep.described()
        self.judge = sweep.judge.name if sweep.judge else None
        methods = workbench.methods()
        head: dict[str, Any] = {"id": new_id(), "prompt": sweep.prompt, "weights": list(sweep.weights), "total": len(sweep.runs), "judge": self.judge}
        head |= {"seeds": [run.seed for run in sweep.runs[: sweep.num_seeds]], "command": sweep.command}
        head["lines"] = [
            {"letters": list(line.columns), "title": methods[line.method].title, "name": line.name, "method": line.method, "guide": line.guide}
            | {"parameter": line.parameter, "symbol": SYMBOLS.get(line.parameter, line.parameter)}
            for line in self.lines
        ]
        self.titles = [entry["title"] for entry in head["lines"]]
        self.text = _line(head)

    def take(self, item: Any) -> None:
        """An answer, or how many are done."""
        if isinstance(item, float):
            self._done = item
            return
        self.sweep.keep(item)
        self.grown = True
        name = self.lines[item.line].guide
        fields = {"l": item.line, "w": item.weight, "s": item.seed, "stop": item.stop_reason, "error": item.error}
        fields |= {figure: _rounded(getattr(item, figure)) for figure in ("judge", "guide", "kl")}
        self.text += _line(fields | {"t": [self._token(step, name) for step in item.steps]})

    def _token(self, step: Step, guide: str) -> list:
        figures = [step.reward(self.judge) if self.judge else None, step.reward(guide), step.log_prob]
        return [step.text, *map(_rounded, figures), *([] if step.text else [token_label(step)])]

    def now(self) -> str:
        """The text with a note of the progress."""
        self.text += _line({"done": round(self._done, 2)})
        return self.text

    def end(self, reason: str, message: str = "") -> str:
        """The text with its end: what is recommended for each line."""
        if not self._ended:
            self._ended = True
            self.text += _line({"end": reason, "message": message, "peaks": [self._peak(number) for number in range(len(self.lines))]})
        return self.text

    def _peak(self, line: int) -> dict | None:
        found = self.sweep.peak(line)
        return None if found is None else {"weight": found.weight, "clear": found.is_clear, "words": peak_words(found, self._symbol(line))}

    def _symbol(self, line: int) -> str:
        return SYMBOLS.get(self.lines[line].parameter, self.lines[line].parameter)

    def figure(self) -> go.Figure:
        """Judge, guides and KL against the weight, as far as they are known."""
        self.grown = False
        measures = {"judge": f"reward ({self.judge}), above its zero"} if self.judge else {}
        measures |= {f"guide {line.guide}": f"reward ({line.guide})" for line in self.lines} | {"kl": "KL to the base LM, nats"}
        lines = []
        for number, (line, title) in enumerate(zip(self.lines, self.titles, strict=True)):
            values = {key: self.sweep.curve(number, "guide" if key.startswith("guide") else key) for key in ("judge", f"guide {line.guide}", "kl")}
            lines.append((line.columns[0], title, values))
        return weight_curves(self.sweep.weights, measures, lines)


def peak_words(peak: Any, symbol: str) -> str:
    """What the seeds say of a weight: "β = 4: the judge peaks here, between 2 and 8 …", or that they are too few to tell."""
    signed = [f"{value:+.2f}".replace("-", "−") for value in peak.gain]
    seeds = f"{peak.num_seeds} seed{'s' * (peak.num_seeds != 1)}"
    between = f"{peak.low:g}" if peak.low == peak.high else f"between {peak.low:g} and {peak.high:g}"
    gain = f"judge {signed[0]} [{signed[1]}, {signed[2]}] against the lowest weight"
    if peak.is_clear:
        return f"{symbol} = {peak.weight:g}: the judge peaks here; in 95 % of resamples of {seeds} {between}; {gain}."
    if peak.num_seeds < peak.least:
        return f"Too few to tell: {seeds}; take at least {peak.least}. The judge is highest at {symbol} = {peak.weight:g}."
    return f"Too few to tell: the judge is highest at {symbol} = {peak.weight:g}, in 95 % of resamples of {seeds} {between}; {gain}."
