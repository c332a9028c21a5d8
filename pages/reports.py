"""The evaluation report of a reward model in words and tables, for the pages Train and Models.

Reads cards only; knows nothing of how their figures were computed.
"""

import json
from dataclasses import replace
from datetime import datetime

import plotly.graph_objects as go

from rgtg.figures import LEAST_PAIRS, LEAST_PROMPTS, are_enough, interval_words, share_words, wilson_interval
from rgtg.plots import accuracy_by_length
from rgtg.records import ModelCard
from rgtg.workbench.library import ModelInfo

CI, HELP = "95 % CI", "Percentage points with their 95 % confidence interval, by prompt"
CHANCE = "No model to compare with; the baseline is chance."


def readable(card: ModelCard | None, with_figure: bool = False) -> ModelCard | None:
    """The card; without its figures where these are malformed, so that a foreign card breaks no page."""
    try:
        if card is not None and lengths_of(card):
            if with_figure:
                accuracy_figure(card)
            accuracy_at_end(card)
        report_words(card)
    except (TypeError, ValueError, KeyError, AttributeError, IndexError, OverflowError):
        assert card is not None
        return replace(card, report={}, accuracy={}, verdict="its report cannot be read")
    return card


def lengths_of(card: ModelCard) -> dict[str, dict]:
    """Accuracy by prefix length with its intervals: the report's, over prompts, else Wilson's, over pairs."""
    return {length: _with_interval(figures) for length, figures in (card.report.get("by_length") or card.accuracy).items()}


def _with_interval(figures: dict) -> dict:
    if "low" in figures or not figures.get("n"):
        return figures
    low, high = wilson_interval(figures["accuracy"] * figures["n"], figures["n"])
    return {"low": low, "high": high} | figures


def accuracy_at_end(card: ModelCard) -> tuple[str, str]:
    """Held-out accuracy on complete answers and its number of pairs: ("99.4 % (99.1–99.6)", "3,000"); empty texts where there is none."""
    end = lengths_of(card).get("end")
    return (share_words(end["accuracy"], end.get("low"), end.get("high")), f"{end.get('n', 0):,}") if end else ("", "")


def baseline_of(report: dict) -> tuple[str, dict]:
    """The model that this one is compared with, and its figures: "parent", the name of a guide, or ("", {})."""
    guide = report.get("guide") or {}
    if "parent" in report:
        return "parent", report["parent"]
    return (guide["name"], guide) if "by_length" in guide else ("", {})


def accuracy_figure(card: ModelCard) -> go.Figure:
    """Figure of the accuracy by prefix length, with that of the baseline model."""
    name, baseline = baseline_of(card.report)
    return accuracy_by_length(lengths_of(card), baseline.get("by_length"), "its parent" if name == "parent" else name)


def report_words(card: ModelCard | None) -> str:
    """The value of `components.Report` as JSON; "{}" where there is no evaluation."""
    if card is None or not (card.report or card.accuracy):
        return "{}"
    report = card.report
    words: dict = {"facts": [], "lengths": _table(lengths_of(card), *baseline_of(report))}
    if report:
        words |= {"verdict": _sentence_case(report.get("verdict", "")), "sentence": _sentence(report), "facts": _facts(report)}
    if report.get("calibration"):
        words["calibration"] = {"head": ["predicted", "accuracy", CI, "pairs"], "rows": [_calibration_row(b) for b in report["calibration"]]}
    return json.dumps(words)


def _calibration_row(bin: dict) -> list[str]:
    n = bin.get("n", 0)
    low, high = wilson_interval((bin.get("accuracy") or 0) * n, n)
    return [share_words(bin.get("sure")), share_words(bin.get("accuracy")), interval_words(low, high), f"{n:,}"]


def _sentence(report: dict) -> str:
    pairs, prompts = report.get("num_pairs", 0), report.get("num_prompts", 0)
    if not pairs:
        return "No pairs were held out: vote on more prompts, or raise `eval_fraction`."
    where = f"Evaluated on {count(pairs, 'held-out pair')} of {count(prompts, 'prompt')}."
    if "parent" in report:
        return where
    name, guide = baseline_of(report)[0], report.get("guide") or {}
    if name:
        return f"{where} Compared with {name}, the model that guided before."
    why_not = f"{guide['name']}, the model that guided before, cannot be evaluated on them: {guide['why_not']} " if guide.get("why_not") else ""
    return f"{where} {why_not}{CHANCE}"


def _facts(report: dict) -> list[list[str]]:
    """Lines of the report, [label, words, help] each."""
    facts, (name, baseline), length = [], baseline_of(report), report.get("length_only") or {}
    for key, label, about in (
        ("accuracy_along", "partial answers", "Share of prefix lengths at which the chosen answer has the higher reward: what guidance needs"),
        ("accuracy", "complete answers", "Share of pairs whose chosen answer, when complete, has the higher reward"),
    ):
        if key in report:
            baseline_words = f" · {name} {interval(baseline[key])}" if key in baseline else ""
            facts.append([label, f"{interval(report[key])}{baseline_words}", f"{about}, with its 95 % confidence interval"])
    baseline_name = {"parent": "the parent", "": "chance"}.get(name, name)
    pairs, prompts = report.get("num_pairs", 0), report.get("num_prompts", 0)
    if report and not are_enough(pairs, prompts):
        few = f"too few to tell: {count(pairs, 'pair')} of {count(prompts, 'prompt')}; at least {LEAST_PAIRS} of {LEAST_PROMPTS} are needed"
        return [*facts, [f"over {baseline_name}", few, "With so few pairs a difference may be chance"]]
    if difference := report.get("difference_along"):
        facts.append([f"over {baseline_name}", f"{points(difference)}, partial answers", HELP])
    if length:
        length_words = f"{interval(length['accuracy'])}, by always choosing the {length['bets_on']} answer"
        facts.append(["length baseline", length_words, "Accuracy of a rule that looks at length alone, with its 95 % confidence interval"])
    if against := report.get("difference_to_length"):
        facts.append(["over the length baseline", f"{points(against)}, complete answers", HELP])
    return facts


def _table(figures: dict[str, dict], name: str, baseline: dict) -> dict | None:
    """The table of accuracy by prefix length, "end" last; None where there is none."""
    baseline_figures = baseline.get("by_length")
    if not figures:
        return None
    lengths = sorted(figures, key=lambda n: float("inf") if n == "end" else int(n))
    head = ["tokens", "accuracy", CI, *([name] if baseline_figures else []), "pairs"]
    rows = []
    for n in lengths:
        row = [n, share_words(figures[n]["accuracy"]), interval_words(figures[n]["low"], figures[n]["high"]) if "low" in figures[n] else ""]
        if baseline_figures:
            baseline_row = _with_interval(baseline_figures.get(n, {}))
            row.append(share_words(baseline_row.get("accuracy"), baseline_row.get("low"), baseline_row.get("high")))
        rows.append([*row, f"{figures[n].get('n', 0):,}"])
    return {"head": head, "rows": rows}


def name_words(info: ModelInfo) -> str:
    """A model's name in a list: "mine (not recommended)"."""
    return f"{info.name} ({info.mark})" if info.mark else info.name


# ---- numbers in words -----------------------------------------------------------------------------------


def interval(figures: dict) -> str:
    """A share with its interval: "71.2 % (65–77)"."""
    return share_words(figures.get("mean"), figures.get("low"), figures.get("high"))


def points(figures: dict) -> str:
    """A difference with its interval: "+11.1 points (+4.0 to +18.2)"."""
    if figures.get("mean") is None:
        return "–"
    mean, low, high = (f"{100 * figures[name]:+.1f}".replace("-", "−") for name in ("mean", "low", "high"))
    return f"{mean} points ({low} to {high})"


def count(number: int, thing: str) -> str:
    """A number with its noun: "1 pair", "3,200 pairs"."""
    return f"{number:,} {thing}{'' if number == 1 else 's'}"


def _sentence_case(words: str) -> str:
    return words[:1].upper() + words[1:]


def day_words(created_at: str) -> str:
    """When something was stored, as text: "4 May 2026, 10:31 UTC"."""
    try:
        return datetime.fromisoformat(created_at).strftime("%-d %B %Y, %H:%M UTC")
    except ValueError:
        return "an unknown date"
