"""The table of a sweep: one row per setting with intervals, as Markdown, CSV and JSON; the same cells give the same bytes.

Intervals are 95 % bootstrap intervals over prompts: all answers to a prompt are drawn together. Over training seeds, settings that differ
only in the number behind their reward models' names are one row, and trainings are drawn as well. Knows nothing of models.
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
from rgtg.evaluation.metrics import crossed_interval, distinct_n
from rgtg.evaluation.training_seeds import over_seeds, training_seed
from rgtg.system.files import replacing

Interval = tuple[float, float, float]  # value, low, high
TABLES = ("table.md", "table.csv", "table.json")
OVER_SEEDS = "-over-seeds"  # before the suffix of the tables in which trainings are together


def by_setting(cells: Sequence[Cell], together: bool = False) -> dict[str, list[Cell]]:
    """The cells of each setting, in order; `together` those that differ only in the training seed, named `pargs · partial-* · beta 2`."""
    names = over_seeds(cell.setting for cell in cells) if together else {}
    settings: dict[str, list[Cell]] = {}
    for cell in cells:
        settings.setdefault(names.get(cell.setting, cell.setting), []).append(cell)
    return settings


def summary(cells: Sequence[Cell], together: bool = False) -> list[dict[str, Any]]:
    """One row per setting, in order; figures with intervals are (value, low, high), None where a method has none. Where `kl` is None,
    `kl_bound` may be known, see `Cell`.

    `positive_minus_first` is the paired difference to the first setting on the same prompt and random seed, and of the same number where that
    has several trainings; `guide` is in the units of the guide; `nll` is in nats an answer, `perplexity` under the base LM over all tokens;
    forwards are those per token. `together`: see `by_setting`; rows then say their `num_trainings`, 0 without a number.
    """
    settings = by_setting(cells, together)
    of_first = next(iter(settings.values()), [])
    several = len({c.setting for c in of_first}) > 1

    def pair(cell: Cell) -> Pair:
        return (training_seed(cell.setting) if several else "", cell.prompt, cell.seed)

    first = {pair(c): c for c in of_first}
    rows = [{"setting": setting, **_row(of_setting, first, pair)} for setting, of_setting in settings.items()]
    if together:
        for row, of_setting in zip(rows, settings.values(), strict=True):
            row["num_trainings"] = len({c.setting for c in of_setting if training_seed(c.setting)})
    return rows


Pair = tuple[str, str, int]  # number of the training, prompt, random seed


def _row(cells: Sequence[Cell], first: Mapping[Pair, Cell], pair: Callable[[Cell], Pair]) -> dict[str, Any]:
    paired = [c for c in cells if pair(c) in first]
    num_tokens = sum(len(c.token_ids) for c in cells)
    return {
        "n": len(cells),
        "num_prompts": len({c.prompt for c in cells}),
        "positive": mean_of(cells, lambda c: float(c.judge > 0)),
        "positive_minus_first": mean_of(paired, lambda c: float(c.judge > 0) - float(first[pair(c)].judge > 0)),
        "judge": mean_of(cells, lambda c: c.judge),
        "guide": mean_of(cells, lambda c: c.guide),
        "kl": mean_of(cells, lambda c: c.kl),
        "kl_bound": cells[0].kl_bound,
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
    """Mean of a figure over cells, with its interval over prompts, and over trainings if they are of several settings; None where a cell has none."""
    rows = [(c.setting, c.prompt, value, 1.0) for c in cells if (value := figure(c)) is not None]
    return crossed_interval(rows) if len(rows) == len(cells) and cells else None


def _perplexity(cells: Sequence[Cell]) -> Interval:
    value, low, high = crossed_interval([(c.setting, c.prompt, nll(c), float(len(c.token_ids))) for c in cells])
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
    counted = any("num_trainings" in row for row in rows)
    titles = ["setting", "n", *(["trainings"] if counted else []), *(title for _, title, _, _ in COLUMNS)]
    titles += ["tokens/s", "tokens/processor s"] if speed else []
    lines = ["| " + " | ".join(titles) + " |", "|" + "---|" * len(titles)]
    for row in rows:
        trainings = [str(row["num_trainings"] or "–")] if counted else []
        parts = [row["setting"], str(row["n"]), *trainings, *(words_in(row, *column) for column in COLUMNS)]
        lines.append(
            "| " + " | ".join(parts + [f"{value:.0f}" if math.isfinite(value) else "–" for value in (speed[row["setting"]] if speed else ())]) + " |"
        )
    return "\n".join(lines) + "\n"


def words_in(row: Mapping[str, Any], key: str, title: str, factor: float, digits: int) -> str:
    """A figure of a row, in one of COLUMNS; "≤ 0.6" for a KL of which a bound is known."""
    if key == "kl" and row["kl"] is None and row["kl_bound"] is not None:
        return f"≤ {words(row['kl_bound'], factor, digits)}"
    return words(row[key], factor, digits)


def write_table(cells: Sequence[Cell], out: Path, together: bool = False) -> str:
    """The summary as a Markdown table; also written to `table.md`, `table.csv` and `table.json` in `out`, to `table-over-seeds.md` and so on
    where trainings are `together`."""
    rows = summary(cells, together)
    content = markdown(rows), as_csv(rows), json.dumps(_finite(rows), indent=1, allow_nan=False) + "\n"
    for name, text in zip(TABLES, content, strict=True):
        file = out / name
        with replacing(file.with_stem(file.stem + OVER_SEEDS) if together else file) as part:
            part.write_text(text, encoding="utf-8", newline="")
    return content[0]


def as_csv(rows: Sequence[Mapping[str, Any]]) -> str:
    """A column for each figure and, for those with intervals, two more: `judge`, `judge_low`, `judge_high`."""
    flat = []
    for row in rows:
        columns: dict[str, Any] = {key: row[key] for key in ("setting", "n", "num_prompts", "num_trainings") if key in row}
        for key, _, _, _ in COLUMNS:
            value, names = row[key], (key, f"{key}_low", f"{key}_high") if key in INTERVALS else (key,)
            columns |= dict(zip(names, value if isinstance(value, tuple) else (value,) * len(names), strict=True))
            columns |= {"kl_bound": row["kl_bound"]} if key == "kl" else {}
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
