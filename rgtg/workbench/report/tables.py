"""Results as files: Markdown, CSV, JSON, LaTeX. Functions of results; knows nothing of the store or the screen."""

import csv
import io
import json
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any

from rgtg.errors import BadSettings
from rgtg.figures import share_words
from rgtg.ratings.reward_models import Against
from rgtg.workbench.report.results import (
    Results,
    as_json,
    board_rows,
    interval_of_words,
    model_names,
    model_rows,
    sentences,
    share_of_words,
    slope_words,
)

TABLE_FORMATS = ("markdown", "csv", "json", "latex")
PARTS = {"board": "the leaderboard", "wins": "who won against whom", "reward-models": "reward models against people"}
MOST_IN_MARKDOWN = 5  # disagreements of a reward model
Cells = list[Sequence[str]]
SPECIAL = {"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "<": r"\textless{}", ">": r"\textgreater{}"}
SPECIAL |= {"|": r"\textbar{}", "–": "--", "−": "$-$", "·": r"$\cdot$", "σ": r"$\sigma$"} | {sign: f"\\{sign}" for sign in "&%$#_{}"}


def table(results: Results, format: str, part: str = "board", with_texts: bool = True) -> str:
    """A part of the results as `csv` (cells that a spreadsheet would run are quoted) or `latex` (for the package booktabs); all of them as
    `markdown` or `json`; without texts these have no disagreements. Raises BadSettings."""
    if format not in TABLE_FORMATS:
        raise BadSettings(f"There is no table format `{format}`.", f"Known: {', '.join(TABLE_FORMATS)}.")
    if part not in PARTS:
        raise BadSettings(f"There is no table `{part}`.", f"Known: {', '.join(PARTS)}.")
    if not with_texts:
        results = replace(results, reward_models=tuple(replace(one, disagreements=()) for one in results.reward_models or ()))
    if format == "json":
        return json.dumps(as_json(results), ensure_ascii=False, indent=1, allow_nan=False) + "\n"
    if format == "csv":
        return _csv(_plain_rows(results, part))
    return latex(*_cells(results, part)) if format == "latex" else _markdown_of_all(results)


def board_cells(results: Results) -> tuple[Sequence[str], Cells]:
    """Head and rows of the leaderboard in words; the strengths at equal length stand beside."""
    head = ("rank", "setting", "strength (95 % interval)", "at equal length", "votes", "won")

    def interval(row: dict[str, Any], before: str = "") -> str:
        return interval_of_words(row[f"{before}strength"], row[f"{before}low"], row[f"{before}high"])

    return head, [
        (row["rank"], row["setting"], interval(row), interval(row, "adjusted_"), f"{row['num_votes']:,}", share_words(row["win_share"]))
        for row in board_rows(results)
    ]


def wins_cells(results: Results) -> tuple[Sequence[str], Cells]:
    """Head and rows of the win matrix in the order of the board: the share that the row's setting won against the column's, ties half."""
    board = results.board
    order = [board.settings.index(place.setting) for place in board.places]
    rows: Cells = []
    for i in order:
        cells = [f"{share_words(share)} of {board.met[i][j]:,}" if (share := won(results, i, j)) is not None else "–" for j in order]
        rows.append((board.settings[i], *cells))
    return ("won by", *(board.settings[j] for j in order)), rows


def won(results: Results, i: int, j: int) -> float | None:
    """Share of its battles against setting j that setting i won, ties half; None where they never met."""
    board = results.board
    total = board.wins[i][j] + board.wins[j][i] + board.ties[i][j]
    return None if i == j or not total else (board.wins[i][j] + board.ties[i][j] / 2) / total


def model_cells(results: Results) -> tuple[Sequence[str], Cells]:
    """Head and rows of the reward models in words."""
    models = results.reward_models or ()
    names = model_names(models)
    head = ("reward model", "accuracy (95 % interval)", "on answers it did not guide", "at the token of a branch", "log-odds per unit")
    return head, [(names[one.model], *map(share_of_words, (one.accuracy, one.apart, one.at_branch)), slope_words(one.slope)) for one in models]


def lengths_cells(against: Against) -> tuple[Sequence[str], Cells]:
    """Head and rows of a reward model's accuracy by prefix length, all votes and branch votes."""
    lengths = sorted({*against.by_length, *against.of_branches})
    rows: Cells = [(str(n), share_of_words(against.by_length.get(n)), share_of_words(against.of_branches.get(n))) for n in lengths]
    return ("tokens", "all votes", "branch votes"), [*rows, ("end", share_of_words(against.accuracy), share_of_words(against.branches))]


def _cells(results: Results, part: str) -> tuple[Sequence[str], Cells]:
    return {"board": board_cells, "wins": wins_cells, "reward-models": model_cells}[part](results)


def _plain_rows(results: Results, part: str) -> list[dict[str, Any]]:
    if part != "wins":
        return board_rows(results) if part == "board" else model_rows(results)
    board = results.board
    return [
        {"setting": one, "against": other, "num_battles": board.met[i][j], "wins": board.wins[i][j], "ties": board.ties[i][j]}
        for i, one in enumerate(board.settings)
        for j, other in enumerate(board.settings)
        if board.met[i][j]
    ]


def _markdown_of_all(results: Results) -> str:
    blocks = [_markdown(*board_cells(results)), *sentences(results)]
    if results.board.places:
        blocks += ["", "Share of battles won, ties half:", "", _markdown(*wins_cells(results))]
    if results.reward_models:
        names = model_names(results.reward_models)
        blocks += ["", "Reward models against people:", "", _markdown(*model_cells(results))]
        for one in results.reward_models:
            blocks += ["", f"{names[one.model]}, by prefix length:", "", _markdown(*lengths_cells(one))]
            blocks += [_disagreement(row) for row in one.disagreements[:MOST_IN_MARKDOWN]]
    return "\n".join(blocks) + "\n"


def _disagreement(one: Any) -> str:
    chosen, rejected = (json.dumps(answer.text[:60], ensure_ascii=False) for answer in (one.chosen, one.rejected))
    return f"- against the vote by {one.gap:.2f}: {rejected} over {chosen}, comparison {one.comparison_id}"


def _markdown(head: Sequence[str], cells: Iterable[Sequence[str]]) -> str:
    lines = ["| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in (head, *cells)]
    return "\n".join([lines[0], "|---" * len(head) + "|", *lines[1:]]) + "\n"


def _csv(rows: Sequence[dict[str, Any]]) -> str:
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(rows[0] if rows else ())
    for row in rows:
        writer.writerow([_safe(value) for value in row.values()])
    return out.getvalue()


def _safe(value: Any) -> Any:
    """Text that a spreadsheet would take for a formula gets an apostrophe in front."""
    return f"'{value}" if isinstance(value, str) and value[:1] in "=+-@\t\r" and value[:1] else value


def latex(head: Sequence[str], cells: Iterable[Sequence[str]]) -> str:
    """A table for the package booktabs; what LaTeX would take for a command is escaped."""

    def escaped(text: str) -> str:
        return "".join(SPECIAL.get(c, c if c.isprintable() else " ") for c in text)

    lines = [rf"\begin{{tabular}}{{{'l' * 2 + 'r' * (len(head) - 2)}}}", r"\toprule", " & ".join(map(escaped, head)) + r" \\", r"\midrule"]
    lines += [" & ".join(map(escaped, row)) + r" \\" for row in cells]
    return "\n".join([*lines, r"\bottomrule", r"\end{tabular}"]) + "\n"
