"""What the Annotate page shows, as JSON: a pair without what made its answers, and, once a vote is stored, what made them.

Knows nothing of events or of the layout.
"""

import json
import re
from collections.abc import Callable
from typing import Any

from pages.handlers import read_id, read_number, read_text
from pages.streaming import column_title
from pages.token_view import step_line
from pages.voting import read_vote
from rgtg.config import GenerationConfig
from rgtg.errors import BadSettings
from rgtg.records import Comparison, Span, Trace, Vote, mix_words, plain_params
from rgtg.workbench.annotation.annotation import LABELS, MAX_COMMENT, REASONS
from rgtg.workbench.annotation.rounds import Pair
from rgtg.workbench.annotation.tasks import MAX_ANSWERS, MAX_PAIRS, Task
from rgtg.workbench.visitors import Visitor
from rgtg.workbench.workbench import Workbench

MAX_TYPED, MAX_PATH = 500_000, 1_000


def pair_of(workbench: Workbench, pair: Pair, visitor: Visitor) -> dict[str, Any]:
    """A pair for the browser: texts and random ids, nothing of what made them."""
    comparison = workbench.annotation.shown(pair)
    answers = [{"id": trace.id, "tokens": _tokens(trace)} for trace in comparison.traces]
    shown: dict[str, Any] = {"id": pair.id, "prompt": comparison.prompt, "answers": answers, "guidelines": comparison.guideline_version}
    if token := workbench.annotation.vote_token(pair, visitor):
        shown["token"] = token
    if pair.rule.get("branch_of"):
        shown |= {"branch": pair.rule["position"], "of": pair.rule["branch_of"]}
    marks = [[span.trace_id, span.start, span.end, span.label] for span in workbench.annotation.marks(pair, visitor)]
    return shown | ({"marks": marks} if marks else {})


def _tokens(trace: Trace) -> list[dict[str, str]]:
    """Text of each token, and as `x` what is shown of one without text."""
    tokens = [json.loads(step_line(step, blind=True)) for step in trace.steps]
    if not tokens:  # of a gold pair from a file
        return [{"t": word} for word in re.findall(r"\s*\S+|\s+", trace.response)]
    if tokens and trace.stop_reason == "eos" and not tokens[-1]["t"]:
        tokens[-1]["x"] = "⟨end⟩"
    return tokens


def vote_words(vote: Vote | None) -> dict[str, Any]:
    """The vote that stands; its verdict is None where none does."""
    if vote is None:
        return {"verdict": None}
    return {
        "verdict": vote.verdict, "best": vote.best_trace_id, "strength": vote.strength, "reasons": list(vote.reasons), "comment": vote.comment,
        "ranking": vote.ranking,
    }  # fmt: skip


def revealed(comparison: Comparison, workbench: Workbench) -> list[list[str]]:
    """What made each answer, in the order on screen: [method, settings, rewards]."""
    return [[column_title(trace, workbench), _settings(trace), _rewards(trace)] for trace in comparison.traces]


def _settings(trace: Trace) -> str:
    models = mix_words(trace.run.guides)
    return " · ".join(filter(None, [models, *(f"{name} {value}" for name, value in plain_params(trace.run.params).items())]))


def _rewards(trace: Trace) -> str:
    last = trace.steps[-1].rewards if trace.steps else ()
    return ", ".join(f"{name} {value:+.2f}" for name, value in last if value is not None)


def read_said(sent: dict[str, Any]) -> Vote:
    """The vote of an event. Raises BadSettings where a field is of the wrong type."""
    vote, strength, reasons, comment = read_vote(sent), sent.get("strength"), sent.get("reasons") or [], sent.get("comment") or ""
    if strength is not None and (type(strength) is not int or not 1 <= strength <= 3):
        raise BadSettings("The strength of a vote is 1, 2 or 3.", "", "Reload the page.")
    if not isinstance(reasons, list) or len(reasons) > len(REASONS) or not all(isinstance(reason, str) for reason in reasons):
        raise BadSettings("The reasons of that vote cannot be read.", "", "Reload the page.")
    comment = read_text(comment, "comment", MAX_COMMENT, field="said-comment") if comment else ""
    version = sent.get("guidelines") or ""
    return Vote(
        vote["vote_id"], read_id(sent.get("comparison"), "pair"), vote["verdict"], vote["best_trace_id"], strength=strength, reasons=tuple(reasons),
        comment=comment, guideline_version=read_id(version, "version") if version else "", dwell_ms=vote["dwell_ms"],
        ranking=_ranking(sent.get("ranking") or []),
    )  # fmt: skip


def _ranking(sent: Any) -> tuple[tuple[str, ...], ...]:
    """Levels of answers; whether they are those of the pair is looked at in the store. Raises BadSettings."""
    if not isinstance(sent, list) or len(sent) > MAX_ANSWERS or not all(isinstance(level, list) and 1 <= len(level) <= MAX_ANSWERS for level in sent):
        raise BadSettings("That ranking cannot be read.", "", "Reload the page.")
    return tuple(tuple(read_id(name, "answer") for name in level) for level in sent)


def read_mark(sent: dict[str, Any]) -> tuple[str, Span]:
    """Id of the pair and the mark of an event. Raises BadSettings."""
    start, end, label = sent.get("start"), sent.get("end"), sent.get("label")
    if type(start) is not int or type(end) is not int or label not in LABELS:
        raise BadSettings("That mark cannot be read.", "", "Reload the page.")
    trace_id = read_id(sent.get("trace"), "answer")
    return read_id(sent.get("comparison"), "pair"), Span(read_id(sent.get("vote_id"), "mark"), trace_id, start, end, str(label))


def read_gold_path(sent: dict[str, Any]) -> str:
    """The file of gold pairs that the form names; "" for none."""
    return read_text(path, "file of gold pairs", MAX_PATH, field="task-gold") if (path := sent.get("gold")) else ""


def read_task(sent: dict[str, Any], prompts_in: Callable[[str], tuple[str, ...]]) -> tuple[Task, str]:
    """The task of the form, without columns, and the key of its line-up, "" for the default columns; `prompts_in` reads a file.
    Raises BadSettings, BadData."""
    path = sent.get("file")
    if path:
        prompts = prompts_in(read_text(path, "file of prompts", MAX_PATH, field="task-path"))
    else:
        typed = read_text(sent.get("prompts"), "prompt", MAX_TYPED, "Type one a line, or choose a file.", "task-prompts")
        prompts = tuple(line.strip() for line in typed.splitlines() if line.strip())

    def number(name: str, low: float, high: float, whole: bool = False) -> Any:
        return read_number(sent.get(name), name, low, high, whole, f"task-{name}")

    defaults = GenerationConfig()
    generation = GenerationConfig(
        max_new_tokens=number("max_new_tokens", 1, 1_000, True),
        temperature=number("temperature", 0.0, 5.0),
        top_k=defaults.top_k,
        top_p=defaults.top_p,
    )
    title, rule = read_text(sent.get("title"), "title", 200, field="task-title"), sent.get("rule")
    base_lm, line_up = sent.get("base_lm") or "", sent.get("line_up") or ""
    return Task(
        title, prompts, (), base_lm=read_text(base_lm, "base LM", MAX_PATH, field="task-base_lm") if base_lm else "", generation=generation,
        num_pairs=number("num_pairs", 1, MAX_PAIRS, True), num_answers=number("num_answers", 2, MAX_ANSWERS, True),
        rule=rule if isinstance(rule, str) else "", overlap=number("overlap", 0, 1), repeats=number("repeats", 0, 1),
        gold_share=number("gold_share", 0, 1), reveal=sent.get("reveal") is True, ranking=sent.get("ranking") is True,
    ), read_text(line_up, "line-up", MAX_PATH, field="task-line_up") if line_up else ""  # fmt: skip
