"""The table of a sweep: one row per setting with intervals, as Markdown, CSV and JSON; the same cells give the same bytes.

Intervals are 95 % bootstrap intervals over prompts: all answers to a prompt are drawn together. Knows nothing of models.
"""

import csv
import io
import json
import math
import statistics
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from rgtg.evaluation.cells import Cell
from rgtg.evaluation.metrics import distinct_n, grouped_interval
from rgtg.system.files import replacing

Interval = tuple[float, float, float]  # value, low, high
TABLES = ("table.md", "table.csv", "table.json")


def by_setting(cells: Sequence[Cell]) -> dict[str, list[Cell]]:
    """The cells of each setting, in order."""
    settings: dict[str, list[Cell]] = {}
    for cell in cells:
        settings.setdefault(cell.setting, []).append(cell)
    return settings


def summary(cells: Sequence[Cell]) -> list[dict[str, Any]]:
    """One row per setting, in order; figures with intervals are (value, low, high), None where a method has none.

    `positive_minus_first` is the paired difference to the first setting on the same prompt and random seed; `guide` is in the units of
    the guide; `nll` is in nats an answer, `perplexity` under the base LM over all tokens; forwards are those per token.
    """
    settings = by_setting(cells)
    first = {(c.prompt, c.seed): c for c in next(iter(settings.values()), [])}
    return [{"setting": setting, **_row(of_setting, first)} for setting, of_setting in settings.items()]


def _row(cells: Sequence[Cell], first: Mapping[tuple[str, int], Cell]) -> dict[str, Any]:
    paired = [c for c in cells if (c.prompt, c.seed) in first]
    num_tokens = sum(len(c.token_ids) for c in cells)
    return {
        "n": len(cells),
        "num_prompts": len({c.prompt for c in cells}),
        "positive": mean_of(cells, lambda c: float(c.judge > 0)),
        "positive_minus_first": mean_of(paired, lambda c: float(c.judge > 0) - float(first[c.prompt, c.seed].judge > 0)),
        "judge": mean_of(cells, lambda c: c.judge),
        "guide": mean_of(cells, lambda c: c.guide),
        "kl": mean_of(cells, lambda c: c.kl),
        "nll": mean_of(cells, nll),
        "log_prob": mean_of(cells, lambda c: c.log_prob),
        "perplexity": _perplexity(cells),
        "ended": mean_of(cells, lambda c: float(c.stop_reason == "eos")),
        "num_tokens": statistics.fmean(len(c.token_ids) for c in cells),
        "distinct_2": distinct_n([c.token_ids for c in cells], 2),
        "lm_forwards": sum(c.lm_forwards for c in cells) / num_tokens,
        "reward_forwards": sum(c.reward_forwards for c in cells) / num_tokens,
    }


def nll(cell: Cell) -> float:
    """Negative log likelihood of an answer under the base LM, in nats."""
    return -cell.log_prob * len(cell.token_ids)


def mean_of(cells: Sequence[Cell], figure: Callable[[Cell], float | None]) -> Interval | None:
    """Mean of a figure over cells, with its interval over prompts; None where a cell has none."""
    values = [(c.prompt, value) for c in cells if (value := figure(c)) is not None]
    return grouped_interval([(prompt, value, 1.0) for prompt, value in values]) if len(values) == len(cells) and cells else None


def _perplexity(cells: Sequence[Cell]) -> Interval:
    value, low, high = grouped_interval([(c.prompt, nll(c), float(len(c.token_ids))) for c in cells])
    return math.exp(value), math.exp(low), math.exp(high)


# --- files ------------------------------------------------------------------------------------------------------------


COLUMNS: tuple[tuple[str, str, float, int], ...] = (  # key, title, factor, digits
    ("positive", "judged positive, %", 100, 0),
    ("positive_minus_first", "minus first row, paired", 100, 0),
    ("judge", "judge", 1, 2),
    ("guide", "its guide", 1, 2),
    ("kl", "KL, same candidates", 1, 1),
    ("nll", "NLL, nats", 1, 1),
    ("perplexity", "perplexity", 1, 2),
    ("ended", "ended, %", 100, 0),
    ("num_tokens", "tokens", 1, 1),
    ("distinct_2", "distinct-2", 1, 2),
    ("lm_forwards", "LM forwards a token", 1, 2),
    ("reward_forwards", "reward forwards a token", 1, 2),
)


def markdown(rows: Sequence[Mapping[str, Any]], speed: Mapping[str, tuple[float, float]] | None = None) -> str:
    """The rows as a Markdown table; with `speed` by setting, tokens per second and per processor second in two more columns."""
    titles = ["setting", "n", *(title for _, title, _, _ in COLUMNS), *(["tokens/s", "tokens/processor s"] if speed else [])]
    lines = ["| " + " | ".join(titles) + " |", "|" + "---|" * len(titles)]
    for row in rows:
        parts = [row["setting"], str(row["n"]), *(words(row[key], factor, digits) for key, _, factor, digits in COLUMNS)]
        lines.append(
            "| " + " | ".join(parts + [f"{value:.0f}" if math.isfinite(value) else "–" for value in (speed[row["setting"]] if speed else ())]) + " |"
        )
    return "\n".join(lines) + "\n"


def write_table(cells: Sequence[Cell], out: Path) -> str:
    """The summary as a Markdown table; also written to `table.md`, `table.csv` and `table.json` in `out`."""
    rows = summary(cells)
    content = markdown(rows), as_csv(rows), json.dumps(_finite(rows), indent=1, allow_nan=False) + "\n"
    for name, text in zip(TABLES, content, strict=True):
        with replacing(out / name) as part:
            part.write_text(text, encoding="utf-8", newline="")
    return content[0]


def as_csv(rows: Sequence[Mapping[str, Any]]) -> str:
    """A column for each figure and, for those with intervals, two more: `judge`, `judge_low`, `judge_high`."""
    flat = []
    for row in rows:
        columns: dict[str, Any] = {"setting": row["setting"], "n": row["n"], "num_prompts": row["num_prompts"]}
        for key, _, _, _ in COLUMNS:
            value, names = row[key], (key, f"{key}_low", f"{key}_high") if key in INTERVALS else (key,)
            columns |= dict(zip(names, value if isinstance(value, tuple) else (value,) * len(names), strict=True))
        flat.append({name: "" if value is None else f"{value:.6g}" if isinstance(value, float) else value for name, value in columns.items()})
    text = io.StringIO()
    writer = csv.DictWriter(text, list(flat[0]) if flat else ["setting"], lineterminator="\n")
    writer.writeheader()
    writer.writerows(flat)
    return text.getvalue()


INTERVALS = ("positive", "positive_minus_first", "judge", "guide", "kl", "nll", "perplexity", "ended")


def _finite(value: Any) -> Any:
    """The value with None in place of NaN, which JSON has not."""
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def words(value: Interval | float | None, factor: float, digits: int) -> str:
    """ "64 [57, 70]", "0.62"; "–" for None."""
    if value is None:
        return "–"
    if not isinstance(value, tuple):
        return f"{factor * value:.{digits}f}"
    mean, low, high = (f"{round(factor * number, digits) + 0.0:.{digits}f}" for number in value)
    return f"{mean} [{low}, {high}]"
