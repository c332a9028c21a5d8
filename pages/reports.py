"""What the held-out pairs say of a reward model, in words and tables: written here once, for Train and for Models.

Reads cards alone; knows nothing of how their figures were made.
"""

import json
from dataclasses import replace

import plotly.graph_objects as go

from rgtg.plots import accuracy_by_length
from rgtg.records import ModelCard

CHANCE = "Nothing stands beside it, so it is measured against chance."


def readable(card: ModelCard | None, with_figure: bool = False) -> ModelCard | None:
    """The card; without its figures where they are not as training writes them, so that one card from elsewhere breaks no page."""
    try:
        if card is not None and lengths_of(card):
            if with_figure:
                accuracy_figure(card)
            share(lengths_of(card).get("end", {}).get("accuracy"))
        report_words(card)
    except (TypeError, ValueError, KeyError, AttributeError, IndexError, OverflowError):
        assert card is not None
        return replace(card, report={}, accuracy={}, verdict="its report cannot be read")
    return card


def lengths_of(card: ModelCard) -> dict[str, dict]:
    """Accuracy by length of the prefix: with intervals where the report has them."""
    return card.report.get("by_length") or card.accuracy


def rival_of(report: dict) -> tuple[str, dict]:
    """The model that was measured beside this one, in a word, and its figures: "parent", the name of a guide, or ("", {})."""
    guide = report.get("guide") or {}
    if "parent" in report:
        return "parent", report["parent"]
    return (guide["name"], guide) if "by_length" in guide else ("", {})


def accuracy_figure(card: ModelCard) -> go.Figure:
    """Accuracy by length of the prefix, the rival's beside it."""
    name, rival = rival_of(card.report)
    return accuracy_by_length(lengths_of(card), rival.get("by_length"), "its parent" if name == "parent" else name)


def report_words(card: ModelCard | None) -> str:
    """The value of `components.Report`; "{}" where nothing was measured."""
    if card is None or not (card.report or card.accuracy):
        return "{}"
    report = card.report
    found: dict = {"facts": [], "lengths": _table(lengths_of(card), *rival_of(report))}
    if report:
        found |= {"verdict": _sentence_case(report.get("verdict", "")), "sentence": _sentence(report), "facts": _facts(report)}
    if report.get("calibration"):
        rows = [[share(b.get("sure")), share(b.get("accuracy")), f"{b.get('n', 0):,}"] for b in report["calibration"]]
        found["calibration"] = {"head": ["it says", "it is right", "pairs"], "rows": rows}
    return json.dumps(found)


def _sentence(report: dict) -> str:
    pairs, prompts = report.get("num_pairs", 0), report.get("num_prompts", 0)
    if not pairs:
        return "No pairs were held out: vote on more prompts, or hold out a larger share."
    where = f"Measured on {count(pairs, 'pair')} of {count(prompts, 'prompt')} that trained nothing."
    if "parent" in report:
        return where
    name, guide = rival_of(report)[0], report.get("guide") or {}
    if name:
        return f"{where} Beside it stands {name}, which has guided until now."
    why_not = f"{guide['name']}, which has guided until now, cannot be measured on them: {guide['why_not']} " if guide.get("why_not") else ""
    return f"{where} {why_not}{CHANCE}"


def _facts(report: dict) -> list[list[str]]:
    """[label, words, help] a line."""
    found, (name, rival), length = [], rival_of(report), report.get("length_only") or {}
    for key, label, about in (
        ("accuracy_along", "along the answer", "Share of prefix lengths at which the chosen answer has the higher reward: what guidance asks for"),
        ("accuracy", "at its end", "Share of pairs whose chosen answer, read to its end, has the higher reward"),
    ):
        if key in report:
            beside = f" · {name} {interval(rival[key])}" if key in rival else ""
            found.append([label, f"{interval(report[key])} right{beside}", about])
    if difference := report.get("difference_along"):
        than = {"parent": "the parent", "": "chance"}.get(name, name)
        found.append([f"over {than}", f"{points(difference)}, along the answer", "With its interval of 95 in 100, by prompt"])
    if length:
        bets = f"{interval(length['accuracy'])} right, by taking the {length['bets_on']} answer"
        found.append(["length alone", bets, "What one would get right by looking at nothing but the length"])
    if against := report.get("difference_to_length"):
        found.append(["over length", f"{points(against)}, at the end", "With its interval of 95 in 100, by prompt"])
    return found


def _table(found: dict[str, dict], name: str, rival: dict) -> dict | None:
    """Rows by length, "end" last."""
    other = rival.get("by_length")
    if not found:
        return None
    lengths = sorted(found, key=lambda n: float("inf") if n == "end" else int(n))
    with_interval = any("low" in found[n] for n in lengths)
    head = ["tokens", "right", *(["95 in 100"] if with_interval else []), *([name] if other else []), "pairs"]
    rows = []
    for n in lengths:
        row = [n, share(found[n]["accuracy"])]
        row += [f"{100 * found[n]['low']:.0f}–{100 * found[n]['high']:.0f}" if "low" in found[n] else ""] if with_interval else []
        row += [share(other[n]["accuracy"]) if n in other else "–"] if other else []
        rows.append([*row, f"{found[n].get('n', 0):,}"])
    return {"head": head, "rows": rows}


# ---- numbers in words -----------------------------------------------------------------------------------


def share(value: float | None) -> str:
    """0.7123 -> "71.2 %"."""
    return "–" if value is None else f"{100 * value:.1f} %"


def interval(found: dict) -> str:
    """ "71.2 % (65–77)"."""
    if found.get("mean") is None:
        return "–"
    return f"{share(found['mean'])} ({100 * found['low']:.0f}–{100 * found['high']:.0f})"


def points(found: dict) -> str:
    """ "+11.1 points (+4.0 to +18.2)"."""
    if found.get("mean") is None:
        return "–"
    mean, low, high = (f"{100 * found[name]:+.1f}".replace("-", "−") for name in ("mean", "low", "high"))
    return f"{mean} points ({low} to {high})"


def count(number: int, thing: str) -> str:
    """ "1 pair", "3,200 pairs"."""
    return f"{number:,} {thing}{'' if number == 1 else 's'}"


def _sentence_case(words: str) -> str:
    return words[:1].upper() + words[1:]
