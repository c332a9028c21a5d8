"""The table of several trainings: a row for each kind, its accuracy by length of the prefix as the mean over training seeds.

Intervals are 95 % t-intervals over trainings, on the same held-out pairs. Reads cards. Knows nothing of models.
"""

import csv
import io
import json
import math
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rgtg.evaluation.table import TABLES, Interval, words
from rgtg.records import ModelCard
from rgtg.system.files import replacing

# 0.975 quantiles of Student's t with 1, 2, … degrees of freedom
T = (12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228, 2.201, 2.179, 2.160, 2.145, 2.131, 2.120, 2.110, 2.101, 2.093, 2.086)
SHOWN = ("1", "2", "4", "8", "16", "32", "64", "end")  # lengths in the Markdown table; the files have all


def over_trainings(values: Sequence[float]) -> Interval:
    """Mean of shares and 95 % t-interval, cut to [0, 1]; of one value the interval is not known, (value, NaN, NaN)."""
    mean, half = statistics.fmean(values), half_width(values)
    return (mean, max(0.0, mean - half), min(1.0, mean + half)) if len(values) > 1 else (mean, math.nan, math.nan)


def half_width(values: Sequence[float]) -> float:
    """Half of the 95 % t-interval of the mean of two values or more; NaN of one."""
    n = len(values)
    return (T[n - 2] if n - 2 < len(T) else T[-1]) * statistics.stdev(values) / math.sqrt(n) if n > 1 else math.nan


def training_rows(cards: Mapping[str, Sequence[ModelCard]]) -> list[dict[str, Any]]:
    """A row for each kind of training: {"training", "n": trainings, "num_pairs": held out, "accuracy": {"1": (mean, low, high), …, "end": …}}.

    A length counts where all trainings of the kind have it.
    """
    rows = []
    for name, of_name in cards.items():
        lengths = [length for length in of_name[0].accuracy if all(length in card.accuracy for card in of_name)]
        accuracy = {length: over_trainings([float(card.accuracy[length]["accuracy"]) for card in of_name]) for length in lengths}
        rows.append({"training": name, "n": len(of_name), "num_pairs": int(of_name[0].metrics.get("num_held_out_pairs", 0)), "accuracy": accuracy})
    return rows


def training_markdown(rows: Sequence[Mapping[str, Any]]) -> str:
    """The rows as a Markdown table, accuracies in percent."""
    lengths = [length for length in SHOWN if any(length in row["accuracy"] for row in rows)]
    titles = [
        "training",
        "trainings",
        "held-out pairs",
        *(f"{length} token{'s' * (length != '1')}" if length != "end" else "at the end" for length in lengths),
    ]
    lines = ["| held-out accuracy, % | " + " | ".join(titles[1:]) + " |", "|" + "---|" * len(titles)]
    for row in rows:
        parts = [row["training"], str(row["n"]), f"{row['num_pairs']:,}", *(_percent(row["accuracy"].get(length)) for length in lengths)]
        lines.append("| " + " | ".join(parts) + " |")
    return "\n".join(lines) + "\n"


def _percent(value: Interval | None) -> str:
    return words(value[0] if value is not None and math.isnan(value[1]) else value, 100, 1)


def write_training_table(cards: Mapping[str, Sequence[ModelCard]], out: Path) -> str:
    """The Markdown table; also written to `table.md`, `table.csv` and `table.json` in `out`."""
    rows = training_rows(cards)
    plain = [row | {"accuracy": {k: [None if math.isnan(v) else v for v in values] for k, values in row["accuracy"].items()}} for row in rows]
    content = training_markdown(rows), _csv(rows), json.dumps(plain, indent=1, allow_nan=False) + "\n"
    for name, text in zip(TABLES, content, strict=True):
        with replacing(out / name) as part:
            part.write_text(text, encoding="utf-8", newline="")
    return content[0]


def _csv(rows: Sequence[Mapping[str, Any]]) -> str:
    """A line for each training and length: its mean accuracy and interval."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["training", "n", "num_pairs", "length", "accuracy", "accuracy_low", "accuracy_high"])
    for row in rows:
        for length, values in row["accuracy"].items():
            figures = ("" if math.isnan(value) else f"{value:.6g}" for value in values)
            writer.writerow([row["training"], row["n"], row["num_pairs"], length, *figures])
    return text.getvalue()
