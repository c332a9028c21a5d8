"""One column's text as clickable tokens, and the NDJSON stream behind it.

The pure functions write NDJSON: a header, then a line a step, notes and an end between them. The drawing is in
static/tokens.js; text reaches the page as `textContent` and in no other way.
"""

import json
import math
from collections.abc import Iterable, Sequence
from typing import Any

import gradio as gr
from gradio.events import EventListener

from rgtg.guidance.methods import rule_of, term_names, terms_of
from rgtg.records import Candidate, Run, Step, Trace, Tried, plain_params
from rgtg.workbench.report.meter import cost_in_full, cost_in_short
from rgtg.workbench.running import is_late

SHOWN_DECIMALS = 4  # one more than the table prints; every byte of a step is paid for again at each update
MAX_CANDIDATES = 10
MAX_TRIED, MAX_ANSWERS = 10, 63  # rejected pieces, and other answers, at one token
MAX_TRIED_TEXT = 400  # characters of a rejected segment


def _number(value: float | None) -> float | None:
    """The value rounded for the stream; None if it is not finite, because JSON has no NaN."""
    return None if value is None or not math.isfinite(value) else round(value, SHOWN_DECIMALS)


def _line(fields: dict) -> str:
    text = json.dumps(fields, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    return text.encode("utf-8", "replace").decode("utf-8") + "\n"  # a lone surrogate cannot travel


def header_line(trace: Trace, comparison_id: str = "", title: str = "", parent: str = "", blind: bool = False) -> str:
    """The first line of a column; if `blind`, without method, models, parameters and weights."""
    head: dict[str, Any] = {"comparison": comparison_id, "trace": trace.id, "column": trace.column, "prompt": trace.run.prompt}
    if blind:
        return _line(head | {"blind": True})
    run = trace.run
    head |= {"method": run.method, "title": title or run.method, "params": plain_params(run.params), "base_lm": run.base_lm.name}
    head |= {
        "guide": run.reward_model.name if run.reward_model else None,
        "guides": [[ref.name, weight] for ref, weight in run.guides] or [[name, 1.0] for name in _measures(run)],
        "combine": run.combine,
    }
    head |= {"terms": term_names(run)}
    head |= {"temperature": run.generation.temperature, "max": run.generation.max_new_tokens, "seed": run.seed}
    if (rule := rule_of(run)) and (num_chosen := rule.num_chosen(run.forced_ids)) is not None:
        head["chosen"] = num_chosen
    if rule and rule.lost:
        head["lost"] = rule.lost
    if trace.branch_position is not None:
        head |= {"parent": parent, "branch": trace.branch_position}
    return _line(head)


def step_line(step: Step, run: Run | None = None, blind: bool = False) -> str:
    """One token of this run. Keys: t text, x label of a token without text, id, lp log p, g share after guidance, s score, r reward,
    m lead over the base LM's favourite, k ranks, kl, rs rewards by name, c candidates (`_row`), n how many more there were, y what was
    tried here.

    >>> step_line(Step(0, 5, " ok", -0.5, -0.5, 1, 1, 0.6, 0.6), blind=True)
    '{"t":" ok"}\\n'
    """
    label = {} if step.text else {"x": token_label(step)}
    if blind:
        return _line({"t": step.text} | label)
    guide = run.reward_model.name if run and run.reward_model else None
    top = next((c for c in step.candidates if c.rank_before == 1), None)
    fields: dict[str, Any] = {"t": step.text} | label
    fields |= {
        "id": step.token_id,
        "lp": _number(step.log_prob),
        "g": _number(step.prob_after),
        "s": _number(step.score),
        "r": _number(_reward(step, guide)),
    }
    fields |= {"m": _number(step.score - top.score) if top else None, "k": [step.rank_before, step.rank_after], "kl": _number(step.kl)}
    fields |= {"rs": {name: _number(value) for name, value in step.rewards}, "c": [_row(c, run, step.position + 1) for c in _shown(step)]}
    left_out = len(step.candidates) - len(fields["c"])
    return _line(fields | ({"n": left_out} if left_out else {}) | _tried(step.tried, run))


def _tried(tried: Sequence[Tried], run: Run | None) -> dict:
    """{"y": {"rows": [[text, reward, threshold, share], …], "more": 2}}, {} where nothing was tried: the first ones, the others counted."""
    if not tried:
        return {}
    rule = rule_of(run) if run else None
    limit = MAX_ANSWERS if rule and rule.num_rows > 1 else MAX_TRIED
    rows = [[_cut(one.text), _number(one.reward), _number(one.threshold), _number(one.weight)] for one in tried[:limit]]
    return {"y": {"rows": rows, "more": len(tried) - len(rows)}}


def _cut(text: str) -> str:
    return text if len(text) <= MAX_TRIED_TEXT else text[: MAX_TRIED_TEXT - 1] + "…"


def token_label(step: Step) -> str:
    """The label of a token without text: "⟨</s>⟩", "⟨â⟩"."""
    text = next((c.text for c in step.candidates if c.token_id == step.token_id), "")
    return text if text.startswith("⟨") else f"⟨{text or '…'}⟩"


def _reward(step: Step, guide: str | None) -> float | None:
    """The guide's reward; without a guide the first that was measured."""
    if not step.rewards:
        return None
    return step.rewards[0][1] if guide is None else step.reward(guide)


def _shown(step: Step) -> list:
    """At most MAX_CANDIDATES, best score first; the selected one and the base LM's favourite always among them."""
    ranked = sorted(step.candidates, key=lambda c: c.rank_after)
    required = [c for c in ranked if c.token_id == step.token_id or c.rank_before == 1]
    others = [c for c in ranked if c not in required][: MAX_CANDIDATES - len(required)]
    return sorted(required + others, key=lambda c: c.rank_after)


def _row(c: Candidate, run: Run | None, num_tokens: int) -> list:
    """[id, text, log p, each guide's reward, score, rank before, rank after, share after, the score's terms]: the terms in the order of
    the header's, null where they cannot be said."""
    rewards = dict(c.rewards)
    by_guide = [_number(rewards.get(name)) for name in _measures(run)] if run and rewards else []
    terms = [_number(value) for value in terms_of(run, c, num_tokens).values()] if run else []
    return [c.token_id, c.text, _number(c.log_prob), by_guide, _number(c.score), c.rank_before, c.rank_after, _number(c.prob_after), terms or None]


def _measures(run: Run) -> list[str]:
    """Names of the rewards that a run's candidates have: of its guides, or the one that its method computes itself."""
    rule = rule_of(run)
    return [ref.name for ref, _ in run.guides] or ([rule.measure] if rule and rule.measure else [])


def note_line(text: str, cost: str = "") -> str:
    """A line that sets the column's footer: "token 12 of 24", and below it what that cost: "31 tok/s · 12 LM + 24 reward forwards"."""
    return _line({"note": text} | ({"cost": cost} if cost else {}))


def end_line(trace: Trace, blind: bool = False) -> str:
    """The last line: stop reason, the answer's figures in short form, and all of them for the tooltip."""
    end = {"end": trace.stop_reason, "note": end_note(trace, blind)}
    return _line(end | ({} if blind else {"cost": cost_in_short(trace, trace.tokens_per_second), "more": all_facts(trace)}))


def end_note(trace: Trace, blind: bool = False) -> str:
    """ "24 tok · r +3.10 · judge +0.80 · KL 5.8": r is the guide's reward of the whole answer, the other the last observer's."""
    count = len(trace.steps)
    if trace.stop_reason == "error":
        return f"failed at token {count + 1}: {trace.error or 'see the log'}"
    length = f"{count} tok"
    if trace.stop_reason == "stopped":
        length = f"stopped at {count} of {trace.run.generation.max_new_tokens}" + (
            f" by the time limit, {trace.seconds:.0f} s" if is_late(trace) else ""
        )
    if not trace.steps and trace.response:
        source = dict(trace.run.params).get("from")
        return "imported" if blind or not source else f"imported, from {source}"
    if blind or not trace.steps:
        return length
    guides, rewards = [ref.name for ref, _ in trace.run.guides], trace.steps[-1].rewards
    rewards_shown = [(name if len(guides) > 1 else "r", value) for name, value in rewards if name in guides]
    rewards_shown += [pair for pair in rewards[-1:] if pair[0] not in guides]
    parts = [length, *_unscored(trace), *(f"{name} {_signed(value)}" for name, value in rewards_shown), *_kl_fact(trace.steps)]
    return " · ".join(parts)


def _unscored(trace: Trace) -> list[str]:
    """A note on a column that was stopped before its guides had scored the text on screen."""
    run, rewards = trace.run, dict(trace.steps[-1].rewards)
    if trace.stop_reason != "stopped" or all(ref.name in rewards for ref, _ in run.guides):
        return []
    rule = rule_of(run)
    return [f"first of {rule.num_rows} answers, unscored" if rule and rule.num_rows > 1 else "unscored"]


def all_facts(trace: Trace) -> str:
    """Every reward by name, KL and what it is to, negative log likelihood in nats, and the cost; a line each."""
    if not trace.steps:
        return ""
    rewards = [f"{name} {_signed(value)}" for name, value in trace.steps[-1].rewards]
    nll = f"NLL {-sum(step.log_prob for step in trace.steps):.1f} nats"
    return "\n".join([" · ".join(rewards), *_kl_facts(trace.steps), nll, *cost_in_full(trace), *([trace.note] if trace.note else [])])


def _signed(value: float) -> str:
    """ "+3.10", "−0.20"; what rounds to nothing is "0.00"."""
    return f"{value:+.2f}".replace("-", "−") if round(value, 2) else "0.00"


def _kl_fact(steps: Sequence[Step]) -> list[str]:
    """The short form: KL to the base LM with the same candidates; a trace of an early version, measured against the untruncated one, says so."""
    kl, truncation = _total(step.kl for step in steps), _total(step.truncation for step in steps)
    return [] if kl is None else [f"KL {kl:.1f}" + ("" if truncation is not None else " to the untruncated base LM")]


def _kl_facts(steps: Sequence[Step]) -> list[str]:
    """The long form, with the KL that truncation to the candidates costs."""
    kl, truncation = _total(step.kl for step in steps), _total(step.truncation for step in steps)
    cost = [] if truncation is None else [f"top k, top p and temperature alone: KL {truncation:.1f} nats to the untruncated base LM"]
    return ([] if kl is None else [f"KL {kl:.1f} nats to the {'untruncated base LM' if not cost else 'base LM with the same candidates'}"]) + cost


def _total(values: Iterable[float | None]) -> float | None:
    """The sum over an answer; None where a step has none."""
    known = list(values)
    return None if not known or None in known else sum(value for value in known if value is not None)


def trace_text(trace: Trace, comparison_id: str = "", title: str = "", parent: str = "", blind: bool = False) -> str:
    """The complete text of a column, as its stream ends."""
    lines = [step_line(step, trace.run, blind) for step in trace.steps]
    if not lines and trace.response:  # an answer from elsewhere: a text, of which no tokens are known
        lines = [_line({"t": trace.response})]
    return "".join([header_line(trace, comparison_id, title, parent, blind), *lines, end_line(trace, blind)])


class ColumnStream:
    """The growing text of one column; it is only ever appended to."""

    def __init__(self, trace: Trace, comparison_id: str, title: str = "", parent: str = "", blind: bool = False):
        self.text = header_line(trace, comparison_id, title, parent, blind)
        self.num_tokens, self.num_given = 0, len(trace.run.forced_ids)
        self._run, self._blind = trace.run, blind
        self._on_trial = ""
        self.ended = False
        for step in trace.steps:  # a branch begins with what it copies
            self.step(step)

    def step(self, step: Step) -> None:
        self.text += step_line(step, self._run, self._blind)
        self.num_tokens, self._on_trial = self.num_tokens + 1, ""

    def standardised(self, run: Run) -> None:
        """Take the run with the statistics of its base samples, which its scores are made of."""
        self._run = run

    def on_trial(self, text: str) -> None:
        """Set what is being tried beyond the text, for the next `pace` to show; the next step clears it."""
        self._on_trial = text

    def pace(self, seconds: float, trace: Trace) -> None:
        """The lines under a column that still grows: "token 12 of 24 · on trial: token 15", and what the trace has cost."""
        parts = []
        if self.num_tokens:
            parts.append(f"token {self.num_tokens} of {self._run.generation.max_new_tokens}")
        if self._on_trial:  # how many answers grow would give a blind column away
            parts.append("on trial" if self._blind else self._on_trial)
        if parts and not self.ended:
            speed = max(0, self.num_tokens - self.num_given) / seconds if seconds > 0.2 else 0.0
            self.text += note_line(" · ".join(parts), "" if self._blind else cost_in_short(trace, speed))

    def fail(self, message: str) -> None:
        """End a column after an exception."""
        if not self.ended:
            self.text += _line({"end": "error", "note": message})
            self.ended = True

    def end(self, trace: Trace) -> None:
        if not self.ended:
            self.text += end_line(trace, self._blind)
            self.ended = True


class _Drawn(gr.HTML):
    """A component that static/*.js draws: a still template, no styles of Gradio's, its value a string.

    The template never holds a value: Gradio evaluates templates, so model text in one would run.
    """

    def __init__(self, value: str = "", *, js_on_load: str, html_template: str = '<div class="drawn"></div>', **kwargs: Any):
        super().__init__(value, html_template=html_template, css_template="", js_on_load=js_on_load, apply_default_css=False, **kwargs)

    def postprocess(self, value: str | None) -> str | None:
        return value  # the parent warns of `<script`, which here is text

    def api_info(self) -> dict:
        return {"type": "string"}

    def when(self, event: str) -> EventListener:
        """One of its own events as `gr.on` takes triggers (Gradio 6.31 gives a custom event no such form)."""
        listener = EventListener(event_name=event)
        listener.__self__ = self  # type: ignore[attr-defined]  # as Gradio sets it on its own
        return listener


class TokenView(_Drawn):
    """One column's text; the value is the NDJSON of this module."""

    def __init__(self, value: str = "", *, column: str = "A", blind: bool = False, **kwargs: Any):
        super().__init__(value, js_on_load="rgtg.tokenView(element, props, watch)", column=column, blind=blind, **kwargs)


class Inspector(_Drawn):
    """Why this token: a sentence, the candidates, the same position in other columns. Event `branch` {comparison, trace, index, token_id}."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__("", js_on_load="rgtg.inspector(element, trigger, 'branch')", **kwargs)


class CurveBridge(_Drawn):
    """Links the reward curve and the token views in both directions, in the browser."""

    def __init__(self, curve_id: str, **kwargs: Any):
        super().__init__("", js_on_load=f"rgtg.curveBridge({json.dumps(curve_id)})", **kwargs)
