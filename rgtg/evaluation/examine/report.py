"""The examination of several reward models side by side, and its report as JSON and as Markdown tables. Knows nothing of files or the terminal."""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from rgtg.evaluation.examine import best_of_n as choices
from rgtg.evaluation.examine import reading
from rgtg.evaluation.examine.credit import credit
from rgtg.evaluation.examine.figures import Figures, distance, examined
from rgtg.evaluation.examine.reading import Listen, Pairs
from rgtg.rewards.base import Opening, RewardModel
from rgtg.runs import Models
from rgtg.training.config import objective_to_read

Cell = Callable[[Figures], str]


def examine(models: Models, pairs: Pairs, judge: str = "", beta: float = 1.0, listen: Listen = lambda done, total: None) -> dict[str, Any]:
    """Figures of each loaded reward model on these pairs, {"pairs": …, "models": {name: figures}, "distances": [{"a", "b", …}, …]}.

    `judge` is the name of one of them, by which pairs turn; it is examined as the others are. `beta` is that of the soft value. `listen` is given
    the number of passes over the data that are done and of all. Raises RgtgError where a model cannot read the pairs.
    """
    report: dict[str, Any] = {"num_pairs": len(pairs.read), "num_left_out": pairs.num_left_out, "judge": judge, "beta": beta, "models": {}}
    names, lm = list(models.reward_models), models.base_lm
    total = 3 * len(names)
    found = {}
    for number, name in enumerate(names):
        listen(number, total)
        found[name] = reading.measured(models.reader(name), pairs.read, log_odds_of(models.reward_model(name)))
    for number, name in enumerate(names):
        model, reader = models.reward_model(name), models.reader(name)
        listen(len(names) + 2 * number, total)
        figures = examined(found[name], found.get(judge)) | {"fooled": reading.fooled(reader, pairs, found[name])}
        figures["position"] = reading.position_bias(reader, pairs, found[name])
        listen(len(names) + 2 * number + 1, total)
        figures["consistency"] = reading.consistency(reader, lm, pairs.read, beta)
        if model.scores_vocabulary:
            figures["next_tokens"] = reading.best_and_worst(model, lm, reading.starts(pairs.read))
        report["models"][name] = figures
    report["distances"] = [{"a": a, "b": b} | distance(found[a], found[b]) for i, a in enumerate(names) for b in names[i + 1 :]]
    listen(total, total)
    return report


def best_of_n(models: Models, read: choices.Read, listen: Listen = lambda done, total: None) -> dict[str, Figures]:
    """`best_of_n.best_of_n` of each loaded reward model on the same items."""
    found, names = {}, list(models.reward_models)
    for number, name in enumerate(names):
        listen(number, len(names))
        reader = models.reader(name)
        found[name] = choices.scored(read, lambda answers, reader=reader: reading.rewards_of(reader, answers))  # type: ignore[misc]
    listen(len(names), len(names))
    return found


def token_by_token(models: Models, prompt: str, answers: Mapping[str, str | None]) -> dict[str, dict[str, Figures]]:
    """{model: {side: {"tokens": […], "views": {name: […]}}}} of texts, as they stand, without an end token; a side without a text is left out."""
    loaded = models.base_lm.loaded
    opening = Opening(prompt, loaded.encode_prompt(prompt))
    ids = {side: tuple(loaded.encode_response(prompt, opening.ids, text)) for side, text in answers.items() if text}
    read = {name: {side: credit(model, models.base_lm, opening, ids[side]) for side in ids} for name, model in models.reward_models.items()}
    rounded = lambda values: [None if value is None or math.isnan(value) else round(value, 4) for value in values]  # noqa: E731
    return {
        name: {
            side: {"tokens": list(one.tokens), "views": {view: rounded(values) for view, values in one.views.items()}} for side, one in sides.items()
        }
        for name, sides in read.items()
    }


def log_odds_of(model: RewardModel) -> float | None:
    """Factor from a difference of two rewards to the log-odds of a preference, by the objective on the model's card; None where there is no such
    reading."""
    loaded = getattr(model, "loaded", None)
    card = loaded.card if loaded is not None else None
    return objective_to_read(card.objective, card.training).log_odds if card and card.objective else None


def markdown(report: Mapping[str, Any]) -> str:
    """The report as tables, one column for each model; shares are in %, with 95 % intervals."""
    figures: Mapping[str, Figures] = report["models"]
    left_out = f"; {report['num_left_out']:,} cannot be used" if report["num_left_out"] else ""
    parts = [f"{report['num_pairs']:,} pairs{left_out}. Shares in %, with 95 % intervals over prompts; n is the number of pairs."]
    parts.append(_table("Accuracy by length of the prefix", "tokens", _rows(figures, "by_length", _share)))
    parts.append(_table("Accuracy by fraction of the answers", "fraction", _rows(figures, "by_fraction", _share)))
    calibration = _rows(figures, "by_length", lambda cell: f"{cell['calibration_error']:.3f}" if "calibration_error" in cell else "–")
    parts.append(_table("Expected calibration error of σ(difference of rewards)", "tokens", calibration))
    correlation = _rows(figures, "rank_correlation", _correlation)
    parts.append(_table("Rank correlation of a prefix's reward with that of its complete answer", "tokens", correlation))
    if report["judge"]:
        turns = {side: {name: _share(f["turning"].get(side, {"n": 0})) for name, f in figures.items()} for side in ("before", "after")}
        n = max((f["turning"]["n"] for f in figures.values()), default=0)
        parts.append(_table(f"Accuracy on the {n:,} pairs that turn by {report['judge']}", "the turn", turns))
    parts.append(_table("Rejected answers that win once a trick is added", "trick", _rows(figures, "fooled", _trick)))
    parts.append(_table("Bias and consistency", "", _others(figures, report["beta"])))
    if report["distances"]:
        lines = [f"- {d['a']} and {d['b']}: {d.get('why_not') or format(d['distance'], '.3f')}" for d in report["distances"]]
        parts.append("Distance of rewards within a length (0: the same ranking and scale, 1: the opposite)\n\n" + "\n".join(lines))
    for name, f in figures.items():
        if "next_tokens" in f:
            words = {side: ", ".join(f"`{token.strip()}` {value:+.2f}" for token, value in f["next_tokens"][side]) for side in ("best", "worst")}
            parts.append(f"First tokens that {name} rewards most: {words['best']}; least: {words['worst']}.")
    return "\n\n".join(parts) + "\n"


def best_of_n_markdown(report: Mapping[str, Figures]) -> str:
    """Accuracy of each model by subset, in %, and the parts of the score of the Ties subset."""
    first = next(iter(report.values()))
    rows: dict[str, dict[str, str]] = {}
    for subset, one in first["subsets"].items():
        cell = lambda f: f"{_share(f)}, {f['tied']:,} tied"  # noqa: E731
        rows[f"{subset or 'all'} (chance {100 * one['chance']:.1f})"] = {name: cell(f["subsets"][subset]) for name, f in report.items()}
    for key in first.get("ties", {}):
        if key != "n":
            rows[f"Ties: {key.replace('_', ' ')}"] = {name: f"{100 * f['ties'][key]:.1f}" for name, f in report.items()}
    rows["average of the subsets"] = {name: f"{100 * f['average']:.1f}" for name, f in report.items()}
    title = f"Best of n on {first['num_items']:,} prompts, in %: a correct answer has the highest reward; a tie counts in part"
    return _table(title, "subset", rows) + "\n"


def tokens_markdown(report: Mapping[str, Mapping[str, Figures]]) -> str:
    """A table for each model and side: a row a token, a column a view."""
    parts = []
    for name, sides in report.items():
        for side, one in sides.items():
            cells = lambda values: ("–" if value is None else f"{value:+.2f}" for value in values)  # noqa: E731
            rows = zip(one["tokens"], *map(cells, one["views"].values()), strict=True)
            lines = [f"| {number} | `{text.strip() or '⏎'}` | {' | '.join(values)} |" for number, (text, *values) in enumerate(rows, 1)]
            head = [f"|  | token | {' | '.join(one['views'])} |", "|---" * (len(one["views"]) + 2) + "|"]
            parts.append("\n".join([f"{name}, {side}, token by token", "", *head, *lines]))
    return "\n\n".join(parts) + "\n"


def _rows(figures: Mapping[str, Figures], key: str, cell: Cell) -> dict[str, dict[str, str]]:
    """Label of a row -> model -> cell, with the rows of all models in their order."""
    labels = list(dict.fromkeys(label for f in figures.values() for label in f[key]))
    labels.sort(key=lambda label: float(label) if label.replace(".", "", 1).isdigit() else float("inf"))
    return {label: {name: cell(f[key][label]) if label in f[key] else "–" for name, f in figures.items()} for label in labels}


def _share(figures: Figures) -> str:
    if not figures["n"]:
        return "–"
    return f"{100 * figures['accuracy']:.1f} ({100 * figures['low']:.1f}–{100 * figures['high']:.1f}, n = {figures['n']:,})"


def _correlation(figures: Figures) -> str:
    return "–" if figures["correlation"] is None else f"{figures['correlation']:.2f} (n = {figures['n']:,})"


def _trick(figures: Figures) -> str:
    return f"{100 * figures['share']:.1f} ({100 * figures['low']:.1f}–{100 * figures['high']:.1f}); reward {figures['change']:+.2f} SD"


def _position(figures: Figures) -> str:
    return f"{100 * figures['share']:.1f} ({100 * figures['low']:.1f}–{100 * figures['high']:.1f}); reward {figures['change']:+.2f} SD"


def _others(figures: Mapping[str, Figures], beta: float) -> dict[str, dict[str, str]]:
    rows: dict[str, Cell] = {
        "longer answer has the higher reward, %": lambda f: f"{100 * f['length']['longer_rewarded']['mean']:.1f}" if f["length"]["n"] else "–",
        "longer answer was preferred, %": lambda f: f"{100 * f['length']['longer_preferred']:.1f}" if f["length"]["n"] else "–",
        "rank correlation of reward and length": lambda f: "–" if f["length"]["correlation"] is None else f"{f['length']['correlation']:+.2f}",
        "of two orders of both answers, ending with the chosen has the higher reward, %": lambda f: (
            _position(f["position"]) if f["position"]["n"] else "–"
        ),
        f"spread of reward less soft value, β = {beta:g}": lambda f: (
            "–" if f["consistency"]["spread"] is None else f"{f['consistency']['spread']:.3f}"
        ),
    }
    return {label: {name: cell(f) for name, f in figures.items()} for label, cell in rows.items()}


def _table(title: str, corner: str, rows: Mapping[str, Mapping[str, str]]) -> str:
    names: Sequence[str] = list(next(iter(rows.values()), {}))
    lines = [f"| {corner} | {' | '.join(names)} |", "|---" * (len(names) + 1) + "|"]
    return "\n".join([title, "", *lines, *(f"| {label} | {' | '.join(cells.values())} |" for label, cells in rows.items())])
