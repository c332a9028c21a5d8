"""The figures of an examination as text: rows of a table by group, rows of a CSV, short names of pairs. Knows nothing of models or the screen."""

import csv
import io
import json
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from rgtg.figures import share_words

Report = Mapping[str, Any]
Figures = Mapping[str, Any]
LENGTHS = ("1", "2", "4", "8", "16", "32", "end")  # those that the table shows; the downloads have all
FORMS = {"json": "JSON, all figures", "csv": "CSV, a figure a row"}
DASH = "–"
MAX_LABEL = 60  # characters of a pair in a picker


def groups(report: Report) -> list[dict[str, Any]]:
    """The table: [{"title", "help", "rows": [[label, a cell for each model, …], …]}, …]. A group without figures is left out."""
    if "best_of_n" in report:
        return _choices(report["best_of_n"])
    models: Mapping[str, Figures] = report["models"]
    found = [
        ("Accuracy", "Share of pairs whose chosen answer has the higher reward, with 95 % intervals over prompts.", _accuracy(models)),
        (_turning_title(report, models), "By the judge, the chosen answer is behind at a prefix and ahead in the end.", _turning(models)),
        ("Calibration error", "Expected calibration error of σ(difference of rewards), by length of the prefix.", _calibration(models)),
        ("Rank correlation with the complete answer", "Spearman's correlation of a prefix's reward with its answer's.", _correlation(models)),
        (
            "Consistency gap",
            "Standard deviation, within a length, of a prefix's reward less the soft value of its next tokens; 0 is exact.",
            _row(f"β = {report['beta']:g}", models, lambda f: _number(f["consistency"]["spread"], "{:.2f}")),
        ),
        ("Bias", "Length: beside what people preferred. Position: both answers joined in both orders; 50 % is none.", _bias(models)),
        ("What fools it", "Share of rejected answers that win once this is added.", _tricks(models)),
        ("Distance", "Between two models, on rewards less their mean at each length: 0 the same up to scale, 1 the opposite.", _distances(report)),
    ]
    return [{"title": title, "help": about, "rows": rows} for title, about, rows in found if any(cell != DASH for row in rows for cell in row[1:])]


def _choices(models: Mapping[str, Figures]) -> list[dict[str, Any]]:
    about = "Share of prompts where a correct answer has the highest reward, with 95 % intervals; a tie counts in part. Chance: of a random choice."
    first = next(iter(models.values()))
    rows = []
    for subset, one in first["subsets"].items():
        label = f"{subset or 'all'}: {one['n']:,} prompt{'s' * (one['n'] != 1)}, chance {100 * one['chance']:.0f} %"
        of_subset = [f["subsets"][subset] for f in models.values()]
        rows.append([label, *(_share(figures) + (f", {figures['tied']:,} tied" if figures["tied"] else "") for figures in of_subset)])
    rows.append(["average of the subsets", *(share_words(f["average"]) for f in models.values())])
    found = [{"title": "Best of n", "help": about, "rows": rows}]
    if "ties" in first:
        names = [(key, key.replace("_", " ")) for key in first["ties"] if key != "n"]
        rows = [[name, *(_number(f["ties"][key], "{:.3f}") for f in models.values())] for key, name in names]
        found.append({"title": "Ties subset", "help": "The weighted score of RewardBench 2 and its parts.", "rows": rows})
    return found


def _row(label: str, models: Mapping[str, Figures], cell: Callable[[Figures], str]) -> list[list[str]]:
    return [[label, *map(cell, models.values())]]


def _number(value: float | None, form: str) -> str:
    return DASH if value is None else form.format(value).replace("-", "−")


def _share(figures: Figures | None, key: str = "accuracy") -> str:
    return share_words(figures[key], figures["low"], figures["high"]) if figures and figures.get("n") else DASH


def _tokens(length: str) -> str:
    return "complete" if length == "end" else f"{length} token{'s' * (length != '1')}"


def _accuracy(models: Mapping[str, Figures]) -> list[list[str]]:
    return _row("complete answers", models, lambda f: _share(f["by_length"].get("end"))) + _row(
        "half of each answer", models, lambda f: _share(f["by_fraction"].get("0.5"))
    )


def _turning_title(report: Report, models: Mapping[str, Figures]) -> str:
    n = max((f["turning"]["n"] for f in models.values() if "turning" in f), default=0)
    pairs = "pair that turns" if n == 1 else f"{n:,} pairs that turn"
    return f"Accuracy on the {pairs} by {report['judge']}" if n else "Pairs that turn"


def _turning(models: Mapping[str, Figures]) -> list[list[str]]:
    return [[f"{side} the turn", *(_share(f.get("turning", {}).get(side)) for f in models.values())] for side in ("before", "after")]


def _calibration(models: Mapping[str, Figures]) -> list[list[str]]:
    cell = lambda f, length: _number(f["by_length"].get(length, {}).get("calibration_error"), "{:.3f}")  # noqa: E731
    return _by_length(models, cell)


def _correlation(models: Mapping[str, Figures]) -> list[list[str]]:
    cell = lambda f, length: _number(f["rank_correlation"].get(length, {}).get("correlation"), "{:.2f}")  # noqa: E731
    return _by_length(models, cell)


def _by_length(models: Mapping[str, Figures], cell: Callable[[Figures, str], str]) -> list[list[str]]:
    rows = [[_tokens(length), *(cell(f, length) for f in models.values())] for length in LENGTHS]
    return [row for row in rows if any(text != DASH for text in row[1:])]


def _bias(models: Mapping[str, Figures]) -> list[list[str]]:
    length = lambda f: _share(f["length"].get("longer_rewarded", {}) | {"n": f["length"]["n"]}, "mean")  # noqa: E731
    return [
        *_row("longer answer wins", models, length),
        *_row("longer was preferred", models, lambda f: share_words(f["length"]["longer_preferred"]) if f["length"]["n"] else DASH),
        *_row("correlation of reward and length", models, lambda f: _number(f["length"]["correlation"], "{:+.2f}")),
        *_row("good part last wins", models, lambda f: _share(f["position"], "share")),
    ]


def _tricks(models: Mapping[str, Figures]) -> list[list[str]]:
    names = list(dict.fromkeys(name for f in models.values() for name in f["fooled"]))
    return [[name, *(_share(f["fooled"].get(name), "share") for f in models.values())] for name in names]


def _distances(report: Report) -> list[list[str]]:
    names = list(report["models"])
    between = {frozenset((d["a"], d["b"])): d for d in report["distances"]}
    cell = lambda a, b: _number(between.get(frozenset((a, b)), {}).get("distance"), "{:.2f}") if a != b else DASH  # noqa: E731
    return [[f"to {a}", *(cell(a, b) for b in names)] for a in names] if between else []


def pair_labels(texts: list[tuple[str, str, str]]) -> list[str]:
    """Names of pairs in a picker: "3 · the food was: great … / cold …"."""
    short = lambda text, most: text if len(text) <= most else text[: most - 1].rstrip() + "…"  # noqa: E731
    labels = []
    for number, (prompt, chosen, rejected) in enumerate(texts, 1):
        start = f"{short(prompt.strip(), 24)}: " if prompt.strip() else ""
        labels.append(f"{number} · {start}{short(chosen.strip(), 28)} / {short(rejected.strip(), 28)}"[: MAX_LABEL + 40].replace("\n", " "))
    return labels


def as_file(report: Report, form: str) -> str:
    """The report in one of FORMS."""
    if form == "json":
        return json.dumps(report, ensure_ascii=False, allow_nan=False, indent=1)
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(("model", "figure", "at", "value", "low", "high", "n"))
    writer.writerows(_rows(report))
    return out.getvalue()


def _rows(report: Report) -> Iterator[tuple[Any, ...]]:
    """(model, figure, at, value, low, high, n) of every number."""
    if "best_of_n" in report:
        yield from _choice_rows(report["best_of_n"])
        return
    for name, f in report["models"].items():
        for key in ("by_length", "by_fraction"):
            for at, one in f[key].items():
                yield name, f"accuracy {key.replace('_', ' ')}", at, one["accuracy"], one["low"], one["high"], one["n"]
        for at, one in f["by_length"].items():
            if "calibration_error" in one:
                yield name, "calibration error", at, one["calibration_error"], "", "", one["n"]
        for at, one in f["rank_correlation"].items():
            yield name, "rank correlation", at, one["correlation"], "", "", one["n"]
        for side in ("before", "after"):
            if (one := f.get("turning", {}).get(side, {"n": 0}))["n"]:
                yield name, "accuracy on pairs that turn", f"{side} the turn", one["accuracy"], one["low"], one["high"], one["n"]
        if f["length"]["n"]:
            one = f["length"]["longer_rewarded"]
            yield name, "longer answer wins", "", one["mean"], one["low"], one["high"], f["length"]["n"]
            yield name, "longer answer was preferred", "", f["length"]["longer_preferred"], "", "", f["length"]["n"]
        yield name, "rank correlation of reward and length", "", f["length"]["correlation"], "", "", ""
        if f["position"]["n"]:
            yield name, "good part last wins", "", f["position"]["share"], f["position"]["low"], f["position"]["high"], f["position"]["n"]
        for at, one in f["fooled"].items():
            yield name, "fooled by", at, one["share"], one["low"], one["high"], one["n"]
        yield name, "consistency gap", f"beta {report['beta']:g}", f["consistency"]["spread"], "", "", f["consistency"]["n"]
    for one in report["distances"]:
        if "distance" in one:
            yield one["a"], "distance", one["b"], one["distance"], "", "", one["n"]


def _choice_rows(models: Mapping[str, Figures]) -> Iterator[tuple[Any, ...]]:
    for name, f in models.items():
        for subset, one in f["subsets"].items():
            yield name, "best of n", subset, one["accuracy"], one["low"], one["high"], one["n"]
            yield name, "prompts with a tie", subset, one["tied"], "", "", one["n"]
            yield name, "chance", subset, one["chance"], "", "", one["n"]
        ties = f.get("ties", {})
        for key in (key for key in ties if key != "n"):
            yield name, f"ties: {key.replace('_', ' ')}", "", ties[key], "", "", ties["n"]
        yield name, "average of the subsets", "", f["average"], "", "", f["num_items"]
