"""What the votes say: the leaderboard, agreement between raters, and both as files.

Pure but for reading the votes from the store. Knows nothing of the screen.
"""

import csv
import io
import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from rgtg.errors import BadSettings
from rgtg.figures import share_words
from rgtg.ratings.agreement import Agreement, agreement_of
from rgtg.ratings.battles import CAUSES, battles_of
from rgtg.ratings.leaderboard import LEAST_BATTLES, RESAMPLES, Board, Effect, Place, leaderboard
from rgtg.records import Run, mix_words

if TYPE_CHECKING:
    from rgtg.store.store import Store

BY = {"method": "method and reward model", "setting": "method, reward model and every parameter"}
COLUMNS = ("rank", "setting", "strength", "low", "high", "num_battles", "win_share")  # of the board as a file
TABLE_FORMATS = ("markdown", "csv", "json", "latex")


@dataclass(frozen=True)
class Results:
    """A board, the agreement of its raters, the number of votes that stand, and how many of them gave no battle, by cause."""

    board: Board
    agreement: Agreement
    num_votes: int
    num_raters: int
    left_out: tuple[tuple[str, int], ...]
    by: str
    control_length: bool

    @property
    def left_out_words(self) -> str:
        """Votes without a battle in words: "votes that all are bad: 2"."""
        return ", ".join(f"{CAUSES[cause]}: {number:,}" for cause, number in self.left_out)


def results_of(store: "Store", by: str = "method", control_length: bool = False, resamples: int = RESAMPLES) -> Results:
    """The results of all votes that stand. `by`: what counts as one contestant, a key of BY. Raises BadSettings, StoreError."""
    if by not in BY:
        raise BadSettings(f"Results are by {' or '.join(BY)}.", f"Found `{by}`.")
    from rgtg.evaluation.cells import label

    ballots, same_answers = store.ballots(label if by == "setting" else _method)
    battles, left_out = battles_of(ballots)
    counts = tuple(sorted(left_out.items()))
    raters = {ballot.rater_id for ballot in ballots}
    agreement = agreement_of(ballots, same_answers)
    return Results(leaderboard(battles, control_length, resamples), agreement, len(ballots), len(raters), counts, by, control_length)


def _method(run: Run) -> str:
    return " · ".join([run.method] + ([mix_words(run.guides)] if run.guides else []))


def rank_words(place: Place) -> str:
    """ "1", "2–3", or "–" with too few battles for a rank."""
    if place.rank is None:
        return "–"
    best, worst = place.rank
    return str(best) if best == worst else f"{best}–{worst}"


def effect_words(effect: Effect) -> str:
    """An effect in log-odds with its interval: "+0.31 (0.12 to 0.50)"."""
    return f"{effect.value:+.2f} ({effect.low:.2f} to {effect.high:.2f})"


def board_rows(board: Board) -> list[dict[str, Any]]:
    """The board as rows of plain values."""
    return [
        {
            "rank": rank_words(place), "setting": place.setting, "strength": round(place.strength, 4), "low": round(place.low, 4),
            "high": round(place.high, 4), "num_battles": place.num_battles, "win_share": round(place.win_share, 4),
        }
        for place in board.places
    ]  # fmt: skip


def sentences(results: Results) -> list[str]:
    """What else there is to say of a board, in words."""
    board, agreement = results.board, results.agreement
    lines = [f"{results.num_votes:,} votes of {results.num_raters:,} raters, {board.num_battles:,} battles in {board.num_comparisons:,} comparisons."]
    if results.left_out:
        lines.append(f"No battle: {results.left_out_words}.")
    if board.places:
        lines.append(f"Strengths in log-odds, mean 0, with 95 % bootstrap intervals; a rank needs {LEAST_BATTLES} battles.")
        lines.append(f"Ties: {share_words(board.tie_share)}.")
    if board.position:
        lines.append(f"Effect of standing further left: {effect_words(board.position)} log-odds.")
    if board.length:
        lines.append(f"Effect of twice the length: {effect_words(board.length)} log-odds; strengths are at equal length.")
    if board.careless:
        lines.append(f"Raters whose votes look like chance, and count less: {len(board.careless):,}.")
    if board.triples:
        lines.append(f"Three settings that beat each other in a circle: {board.cycles:,} of {board.triples:,} triples.")
    if agreement.alpha is not None:
        lines.append(f"Agreement of raters: Krippendorff's alpha {agreement.alpha:.2f} on {agreement.num_comparisons:,} comparisons.")
    if agreement.self_agreement is not None:
        own = share_words(agreement.self_agreement, agreement.low, agreement.high)
        lines.append(f"The same verdict when the same answers came again: {own} of {agreement.num_repeats:,}.")
    return lines


def as_json(results: Results) -> dict[str, Any]:
    """All numbers of the results."""
    board = asdict(results.board) | {"places": board_rows(results.board)}
    return {"by": results.by, "control_length": results.control_length, "num_votes": results.num_votes, "num_raters": results.num_raters,
            "left_out": dict(results.left_out), "agreement": asdict(results.agreement), **board}  # fmt: skip


def table(results: Results, format: str) -> str:
    """The board as `markdown`, `csv` (cells that a spreadsheet would run are quoted), `json` or `latex`. Raises BadSettings."""
    if format not in TABLE_FORMATS:
        raise BadSettings(f"There is no table format `{format}`.", f"Known: {', '.join(TABLE_FORMATS)}.")
    if format == "json":
        return json.dumps(as_json(results), ensure_ascii=False, indent=1, allow_nan=False) + "\n"
    rows = board_rows(results.board)
    if format == "csv":
        return _csv(rows)
    head = ("rank", "setting", "strength (95 % interval)", "battles", "won")
    cells = [
        (row["rank"], row["setting"], f"{row['strength']:+.2f} ({row['low']:.2f} to {row['high']:.2f})", f"{row['num_battles']:,}",
         share_words(row["win_share"]))
        for row in rows
    ]  # fmt: skip
    return _latex(head, cells) if format == "latex" else _markdown(head, cells, sentences(results))


def _markdown(head: Sequence[str], cells: Iterable[Sequence[str]], notes: Sequence[str]) -> str:
    lines = ["| " + " | ".join(head) + " |", "|---" * len(head) + "|"]
    lines += ["| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in cells]
    return "\n".join([*lines, "", *notes]) + "\n"


def _csv(rows: Sequence[dict[str, Any]]) -> str:
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(COLUMNS)
    for row in rows:
        writer.writerow([_safe(row[name]) for name in COLUMNS])
    return out.getvalue()


def _safe(value: Any) -> Any:
    """Text that a spreadsheet would take for a formula gets an apostrophe in front."""
    return f"'{value}" if isinstance(value, str) and value[:1] in "=+-@\t\r" and value[:1] else value


def _latex(head: Sequence[str], cells: Iterable[Sequence[str]]) -> str:
    def escaped(text: str) -> str:
        special = {"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "–": "--", "·": r"$\cdot$"}
        return "".join(special.get(c, f"\\{c}" if c in "&%$#_{}" else c) for c in text)

    lines = [r"\begin{tabular}{llrrr}", r"\hline", " & ".join(map(escaped, head)) + r" \\", r"\hline"]
    lines += [" & ".join(map(escaped, row)) + r" \\" for row in cells]
    return "\n".join([*lines, r"\hline", r"\end{tabular}"]) + "\n"
