"""What the votes say: the leaderboard, agreement between raters, and reward models against people.

Pure but for reading the votes from the store. Knows nothing of the screen; `tables` and `standalone` write results as files.
"""

import threading
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

from rgtg.errors import BadSettings
from rgtg.figures import share_words
from rgtg.ratings.agreement import Agreement, agreement_of
from rgtg.ratings.battles import CAUSES, Ballot, battles_of
from rgtg.ratings.careless import Conduct
from rgtg.ratings.leaderboard import LEAST_VOTES, RESAMPLES, Board, Effect, Place, leaderboard
from rgtg.ratings.reward_models import Against, Scored, Share, against_people, lengths_to_read, preferences_of
from rgtg.records import ModelRef, Run, mix_words
from rgtg.workbench.voting.marks import RaterMarks, marks_words

if TYPE_CHECKING:
    from rgtg.store.store import Store

BY = {"method": "method and reward model", "setting": "method, reward model and every parameter"}
ANSWERS_AT_ONCE = 500  # whose rewards are read between two reports of the progress
MAX_TEXT = 300  # characters of a prompt or an answer in the list of disagreements
Listen = Callable[[int, int], None]


@dataclass(frozen=True)
class Results:
    """Boards of the votes, as they are (`raw`) and at equal length of the answers (`adjusted`); `control_length` says which one ranks. The
    agreement of raters, the number of votes that stand, and how many of them gave no battle, by cause. `reward_models` is None as long as
    their rewards were not read; `prompts` are those of the disagreements, `raters` says how each one votes."""

    raw: Board
    adjusted: Board
    agreement: Agreement
    num_votes: int
    num_raters: int
    left_out: tuple[tuple[str, int], ...]
    by: str
    control_length: bool
    reward_models: tuple[Against, ...] | None = None
    prompts: tuple[tuple[str, str], ...] = ()
    raters: tuple[Conduct, ...] = ()

    @property
    def board(self) -> Board:
        """The board that ranks."""
        return self.adjusted if self.control_length else self.raw

    @property
    def left_out_words(self) -> str:
        """Votes without a battle in words: "votes that all are bad: 2"."""
        return ", ".join(f"{CAUSES[cause]}: {number:,}" for cause, number in self.left_out)

    def at_equal_length(self, setting: str) -> Place:
        return next(place for place in self.adjusted.places if place.setting == setting)


class VoteResults:
    """The results of a database, computed once for each state of its votes; the rewards of an answer are read once. For several threads."""

    def __init__(self, store: Callable[[], "Store"], resamples: int | None = None):
        self._store, self._resamples, self._marks = store, resamples or RESAMPLES, RaterMarks(store)
        self._lock = threading.Lock()
        self._stamp: tuple[int, ...] | None = None
        self._known: dict[Any, Any] = {}  # what was computed from these votes
        self._scored: dict[str, Scored] = {}
        self._read: dict[str, set[int]] = {}  # the prefix lengths that were asked for

    def of(self, by: str = "method", control_length: bool = False) -> Results:
        """The results without reward models. `by`: what counts as one contestant, a key of BY. Raises BadSettings, StoreError."""
        if by not in BY:
            raise BadSettings(f"Results are by {' or '.join(BY)}.", f"Found `{by}`.")
        with self._lock:
            self._renew()
            if by not in self._known:
                self._known[by] = self._boards(by)
            return replace(self._known[by], control_length=control_length)

    def reading(self) -> Iterator[tuple[int, int]]:
        """Read the rewards that `with_reward_models` needs; yields how many answers are done, and of how many."""
        with self._lock:
            self._renew()
            wanted = lengths_to_read(preferences_of(*self._ballots("method")))
        missing = [trace_id for trace_id, lengths in wanted.items() if not lengths <= self._read.get(trace_id, set())]
        for start in range(0, len(missing), ANSWERS_AT_ONCE):
            part = {trace_id: wanted[trace_id] for trace_id in missing[start : start + ANSWERS_AT_ONCE]}
            self._scored.update(self._store().rewards(part))
            self._read.update(part)
            yield start + len(part), len(missing)

    def with_reward_models(self, results: Results) -> Results:
        """The results with what was read of reward models."""
        key = ("reward models", results.by)
        with self._lock:
            self._renew()
            if key not in self._known or self._known[key][0] != len(self._read):
                found = against_people(preferences_of(*self._ballots(results.by)), self._scored)
                wanted = {one.comparison_id for against in found for one in against.disagreements}
                self._known[key] = len(self._read), tuple(found), tuple(self._store().prompts(wanted, MAX_TEXT).items())
            _, found, prompts = self._known[key]
            return replace(results, reward_models=found, prompts=prompts)

    def _renew(self) -> None:
        if self._stamp != (stamp := self._store().votes_stamp()):
            self._stamp, self._known = stamp, {}

    def _ballots(self, by: str) -> tuple[list[Ballot], dict[str, str]]:
        from rgtg.evaluation.cells import label

        key = ("ballots", by)
        if key not in self._known:
            self._known[key] = self._store().ballots(label if by == "setting" else _method)
        return self._known[key]

    def _boards(self, by: str) -> Results:
        ballots, same_answers = self._ballots(by)
        battles, left_out = battles_of(ballots)
        raw, adjusted = (leaderboard(battles, control, self._resamples) for control in (False, True))
        raters = {ballot.rater_id for ballot in ballots}
        counts = tuple(sorted(left_out.items()))
        conduct = tuple(self._marks.conduct().values())
        return Results(raw, adjusted, agreement_of(ballots, same_answers), len(ballots), len(raters), counts, by, False, raters=conduct)


def results_of(
    store: "Store", by: str = "method", control_length: bool = False, resamples: int | None = None, listen: Listen | None = None
) -> Results:
    """All results of the votes that stand; `listen` hears of how many answers the rewards were read."""
    votes = VoteResults(lambda: store, resamples)
    results = votes.of(by, control_length)
    for done, total in votes.reading():
        if listen:
            listen(done, total)
    return votes.with_reward_models(results)


def _method(run: Run) -> str:
    return " · ".join([run.method] + ([mix_words(run.guides)] if run.guides else []))


# ---- in words -------------------------------------------------------------------------------------


def rank_words(place: Place) -> str:
    """ "1", "2–3", or "–" with too few votes for a rank."""
    if place.rank is None:
        return "–"
    best, worst = place.rank
    return str(best) if best == worst else f"{best}–{worst}"


def effect_words(effect: Effect) -> str:
    """An effect in log-odds with its interval: "+0.31 (0.12 to 0.50)"."""
    return interval_of_words(effect.value, effect.low, effect.high)


def interval_of_words(value: float, low: float, high: float) -> str:
    """ "+0.31 (−0.12 to 0.50)"."""
    return f"{value:+.2f} ({low:.2f} to {high:.2f})".replace("-", "−")


def share_of_words(share: Share | None) -> str:
    """ "71.2 % (65–77) of 100"; "–" for None."""
    return "–" if share is None else f"{share_words(share.value, share.low, share.high)} of {share.n:,}"


def slope_words(slope: tuple[float, float, float] | None) -> str:
    """ "0.43 (0.31 to 0.55)"; "–" for None."""
    return "–" if slope is None else interval_of_words(*slope).removeprefix("+")


def model_names(models: tuple[Against, ...]) -> dict[ModelRef, str]:
    """A name for each reward model: with the beginning of its revision where two have one name."""
    names = [one.model.name for one in models]
    return {
        one.model: one.model.name + (f" ({one.model.revision[:7] or 'no revision'})" if names.count(one.model.name) > 1 else "") for one in models
    }


def sentences(results: Results) -> list[str]:
    """What else there is to say of a board, in words."""
    board, agreement = results.board, results.agreement
    lines = [f"{_count(results.num_votes, 'vote')} of {_count(results.num_raters, 'rater')}, {_count(board.num_battles, 'battle')} in "
             f"{_count(board.num_comparisons, 'comparison')}."]  # fmt: skip
    if results.left_out:
        lines.append(f"No battle: {results.left_out_words}.")
    if board.places:
        lines.append(
            f"Strengths in log-odds, mean 0, with 95 % bootstrap intervals. A rank needs {LEAST_VOTES} votes, and is a range where intervals overlap."
        )
        lines.append(f"Ties: {share_words(board.tie_share)}.")
    if board.num_weighted:
        lines.append(f"Shares won are corrected for pairs that were drawn more often than others, in {_count(board.num_weighted, 'battle')}.")
    if board.position:
        lines.append(f"Effect of standing further left: {effect_words(board.position)} log-odds.")
    if results.adjusted.length:
        which = "; strengths are at equal length" if results.control_length else ""
        lines.append(f"Effect of twice the length: {effect_words(results.adjusted.length)} log-odds{which}.")
    if board.careless:
        lines.append(f"Raters whose votes look like chance, and count less: {len(board.careless):,}.")
    if words := marks_words(results.raters):
        lines.append(f"{words}.")
    if board.triples:
        lines.append(f"Three settings that beat each other in a circle: {board.cycles:,} of {board.triples:,} triples.")
    if agreement.alpha is not None:
        lines.append(f"Agreement of raters: Krippendorff's alpha {agreement.alpha:.2f} on {agreement.num_comparisons:,} comparisons.")
    if agreement.self_agreement is not None:
        own = share_words(agreement.self_agreement, agreement.low, agreement.high)
        lines.append(f"The same verdict when the same answers came again: {own} of {agreement.num_repeats:,}.")
    return lines


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


# ---- as numbers -----------------------------------------------------------------------------------


def board_rows(results: Results) -> list[dict[str, Any]]:
    """The board as rows of plain values."""
    rows = []
    for place in results.board.places:
        equal = results.at_equal_length(place.setting)
        adjusted = {"adjusted_strength": round(equal.strength, 4), "adjusted_low": round(equal.low, 4), "adjusted_high": round(equal.high, 4)}
        rows.append(
            {"rank": rank_words(place), "setting": place.setting, "strength": round(place.strength, 4), "low": round(place.low, 4),
             "high": round(place.high, 4)} | adjusted
            | {"num_battles": place.num_battles, "num_votes": place.num_votes, "win_share": round(place.win_share, 4)}
        )  # fmt: skip
    return rows


def model_rows(results: Results) -> list[dict[str, Any]]:
    """The reward models as rows of plain values."""
    names = model_names(results.reward_models or ())
    return [
        {"reward_model": names[one.model], "revision": one.model.revision, "num_pairs": one.accuracy.n} | _interval("accuracy", one.accuracy)
        | {"num_apart": one.apart.n if one.apart else 0} | _interval("accuracy_apart", one.apart)
        | {"num_branches": one.at_branch.n if one.at_branch else 0} | _interval("accuracy_at_branch", one.at_branch)
        | dict(zip(("slope", "slope_low", "slope_high"), [None] * 3 if one.slope is None else [round(v, 4) for v in one.slope], strict=True))
        | {"num_unscored": one.num_unscored}
        for one in results.reward_models or ()
    ]  # fmt: skip


def conduct_row(one: Conduct) -> dict[str, Any]:
    """How a rater votes, as plain values."""
    return {
        "rater": one.rater, "num_votes": one.num_votes, "gold": [one.num_gold - one.gold_failed, one.num_gold], "too_quick": one.num_quick,
        "opposite_on_repeats": [one.num_opposite, one.num_repeats], "marks": one.marks,
    }  # fmt: skip


def _interval(name: str, share: Share | None) -> dict[str, float | None]:
    values = (share.value, share.low, share.high) if share else (None, None, None)
    return {key: None if value is None else round(value, 4) for key, value in zip((name, f"{name}_low", f"{name}_high"), values, strict=True)}


def disagreement_rows(results: Results, against: Against) -> list[dict[str, Any]]:
    """The disagreements as rows of plain values, texts cut."""
    prompts = dict(results.prompts)
    return [
        {
            "comparison_id": one.comparison_id, "prompt": prompts.get(one.comparison_id, ""), "gap": round(one.gap, 4), "num_votes": one.num_votes,
            "chosen": one.chosen.text[:MAX_TEXT], "chosen_by": one.chosen.setting, "chosen_reward": round(one.chosen_reward, 4),
            "rejected": one.rejected.text[:MAX_TEXT], "rejected_by": one.rejected.setting, "rejected_reward": round(one.rejected_reward, 4),
        }
        for one in against.disagreements
    ]  # fmt: skip


def as_json(results: Results) -> dict[str, Any]:
    """All numbers of the results."""
    board = asdict(results.board) | {"places": board_rows(results), "length": results.adjusted.length and asdict(results.adjusted.length)}
    models = [
        row | {
            "by_length": {str(n): asdict(share) for n, share in one.by_length.items()},
            "of_branches": {str(n): asdict(share) for n, share in one.of_branches.items()} | ({"end": asdict(one.branches)} if one.branches else {}),
            "calibration": [asdict(bin) for bin in one.calibration],
            "disagreements": disagreement_rows(results, one),
        }
        for row, one in zip(model_rows(results), results.reward_models or (), strict=True)
    ]  # fmt: skip
    return {"by": results.by, "control_length": results.control_length, "num_votes": results.num_votes, "num_raters": results.num_raters,
            "left_out": dict(results.left_out), "raters": list(map(conduct_row, results.raters)),
            "agreement": asdict(results.agreement), **board, "reward_models": models}  # fmt: skip
