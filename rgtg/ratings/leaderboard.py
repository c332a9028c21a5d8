"""The leaderboard: strengths with bootstrap intervals, win matrix, effects of position and length, and how careful each rater was.

Knows nothing of the store or the screen.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from rgtg.ratings.battles import TIE, Battle, settings_of
from rgtg.ratings.davidson import Cells, Fit, Floats, cells_of, fit, log_chances

LEAST_VOTES = 20  # on a setting that gets a rank
LEAST_VOTES_OF_RATER = 8  # to tell whether a rater votes by chance
RESAMPLES = 1000
ROUNDS, SETTLED = 50, 1e-3  # of telling careful raters from careless ones
CLOSE_ENOUGH = 1e-3  # last step of a resample's fit; Newton's next one would be of the order of its square
GAP_STEP = 0.05  # log of the ratio of lengths: battles of nearly equal ratios are counted together


@dataclass(frozen=True)
class Place:
    """A row of the board: strength in log-odds (mean 0 over the board) with its 95 % interval, ranks that the intervals allow (None with
    fewer than LEAST_VOTES), number of battles and of votes that they come from, and share of battles won, by weight (ties count half)."""

    setting: str
    strength: float
    low: float
    high: float
    rank: tuple[int, int] | None
    num_battles: int
    win_share: float
    num_votes: int


@dataclass(frozen=True)
class Effect:
    """An effect in log-odds with its 95 % interval."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Board:
    """All numbers of a board. `wins[i][j]` counts battles that setting i won against j, `ties[i][j]` those without a winner, both by weight,
    and `met[i][j]` how many battles there were; `position`: for the answer further left; `length`: for twice the length (None where it is not
    controlled for); `careless` names raters whose votes look like chance, with the weight that they have; `triples` and `cycles` count three
    settings that all met, and those that beat each other in a circle;
    `num_weighted` counts the battles whose pair was drawn more or less often than others."""

    places: tuple[Place, ...]
    settings: tuple[str, ...]
    wins: tuple[tuple[float, ...], ...]
    ties: tuple[tuple[float, ...], ...]
    met: tuple[tuple[int, ...], ...]
    num_battles: int
    num_comparisons: int
    tie_share: float
    position: Effect | None
    length: Effect | None
    careless: tuple[tuple[str, float], ...] = ()
    triples: int = 0
    cycles: int = 0
    num_weighted: int = 0


def leaderboard(battles: Sequence[Battle], control_length: bool = False, resamples: int = RESAMPLES, seed: int = 0) -> Board:
    """The board of these battles.

    Strengths are those of Bradley and Terry with ties and an effect of the position (`rgtg.ratings.davidson`); with `control_length` at equal
    lengths. Votes of a rater that look like chance weigh less. Intervals: percentiles of a bootstrap that draws whole comparisons, since the
    battles of one vote depend on each other. How pairs were chosen is corrected for by weights (docs/results.md): the share of battles won by
    `weight`, for a setting that met some others more often than the rest; strengths and counts of wins by `pair_weight` only.
    """
    settings = settings_of(battles)
    wins, ties, met = _counts(battles, settings)
    comparisons = sorted({battle.comparison_id for battle in battles})
    if len(settings) < 2:
        return Board((), settings, wins, ties, met, len(battles), len(comparisons), 0.0, None, None)
    cells = _cells(battles, settings, control_length)
    chosen = np.array([battle.pair_weight for battle in battles])
    weight, fitted = _careful(battles, cells, chosen)
    samples = _bootstrap(battles, comparisons, cells, weight * chosen, fitted, resamples, seed)
    strengths = np.array([one.strengths for one in samples])
    low, high = np.percentile(strengths, [2.5, 97.5], axis=0)
    places = [_place(i, name, fitted, low, high, battles) for i, name in enumerate(settings)]
    ranked = [i for i, place in enumerate(places) if place.num_votes >= LEAST_VOTES]
    places = [_ranked(i, place, ranked, low, high) for i, place in enumerate(places)]
    triples, cycles = _circles(wins)
    doubled = float(np.log(2.0))
    return Board(
        places=tuple(sorted(places, key=lambda place: -place.strength)),
        settings=settings, wins=wins, ties=ties, met=met, num_battles=len(battles), num_comparisons=len(comparisons),
        tie_share=sum(battle.outcome == TIE for battle in battles) / len(battles),
        position=_effect(fitted.position, [one.position for one in samples]),
        length=_effect(fitted.length * doubled, [one.length * doubled for one in samples]) if control_length else None,
        careless=tuple(sorted((rater, round(w, 3)) for rater, w in _by_rater(battles, weight).items() if w < 0.5)),
        triples=triples, cycles=cycles, num_weighted=sum(battle.weight != 1.0 for battle in battles),
    )  # fmt: skip


def posterior(battles: Sequence[Battle], settings: Sequence[str]) -> Fit:
    """Strengths and their covariance, for the choice of the next pair; settings without a battle have strength 0 and a wide one."""
    return _careful(battles, _cells(battles, settings, False), np.ones(len(battles)))[1]


def _cells(battles: Sequence[Battle], settings: Sequence[str], with_length: bool) -> Cells:
    index = {name: i for i, name in enumerate(settings)}
    left, right = (np.array([index[getattr(battle, side)] for battle in battles], dtype=int) for side in ("left", "right"))
    gap = np.round(np.array([battle.length_gap for battle in battles]) / GAP_STEP) * GAP_STEP if with_length else None
    return cells_of(left, right, np.array([battle.outcome for battle in battles], dtype=int), gap, len(settings))


def _careful(battles: Sequence[Battle], cells: Cells, chosen: Floats) -> tuple[Floats, Fit]:
    """Weight of each battle, the chance that its rater votes by the answers, and the fit with these weights times `chosen`.

    A mixture of two kinds of raters by expectation-maximisation: one votes by strength, the other with fixed shares of left, right and tie.
    A rater with few votes is taken for careful.
    """
    raters, rater = np.unique([battle.rater_id for battle in battles], return_inverse=True)
    num_votes = np.bincount(rater, minlength=len(raters))
    judged = num_votes >= LEAST_VOTES_OF_RATER
    careful = np.ones(len(raters))
    fitted = fit(cells, careful[rater] * chosen)
    if judged.sum() < 2:
        return careful[rater], fitted
    shares, share_careless = np.full(3, 1 / 3), 0.1
    for _ in range(ROUNDS):
        before = careful.copy()
        by_strength = np.bincount(rater, log_chances(cells, fitted), minlength=len(raters))
        by_chance = np.bincount(rater, np.log(shares)[cells.outcome], minlength=len(raters))
        odds = np.log(share_careless / (1 - share_careless)) + by_chance - by_strength
        careful = np.where(judged, 1 / (1 + np.exp(np.clip(odds, -500, 500))), 1.0)
        left_over = 1 - careful[rater]
        counted = np.bincount(cells.outcome, left_over, minlength=3) + 1.0  # a prior of one vote each
        shares = counted / counted.sum()
        share_careless = float((0.1 + (1 - careful[judged]).sum()) / (1 + judged.sum()))  # a weak prior of one in ten
        fitted = fit(cells, careful[rater] * chosen, fitted)
        if np.abs(careful - before).max() < SETTLED:
            break
    return careful[rater], fitted


def _bootstrap(
    battles: Sequence[Battle], comparisons: Sequence[str], cells: Cells, weight: Floats, fitted: Fit, resamples: int, seed: int
) -> list[Fit]:
    number = {name: i for i, name in enumerate(comparisons)}
    of = np.array([number[battle.comparison_id] for battle in battles])
    rng, design, num = np.random.default_rng(seed), cells.design, len(comparisons)
    drawn = (np.bincount(rng.integers(num, size=num), minlength=num) for _ in range(resamples))
    return [fit(cells, weight * times[of], fitted, design, CLOSE_ENOUGH) for times in drawn]


def _place(i: int, name: str, fitted: Fit, low: Floats, high: Floats, battles: Sequence[Battle]) -> Place:
    own = [battle for battle in battles if name in (battle.left, battle.right)]
    won = sum(battle.weight * (0.5 if battle.outcome == TIE else (battle.left, battle.right)[battle.outcome] == name) for battle in own)
    votes = {(battle.comparison_id, battle.rater_id) for battle in own}
    return Place(
        name, float(fitted.strengths[i]), float(low[i]), float(high[i]), None, len(own), won / sum(battle.weight for battle in own), len(votes)
    )


def _ranked(i: int, place: Place, ranked: Sequence[int], low: Floats, high: Floats) -> Place:
    """With the best and the worst rank that the intervals allow."""
    if i not in ranked:
        return place
    better = sum(bool(low[j] > high[i]) for j in ranked)
    not_worse = sum(bool(high[j] >= low[i]) for j in ranked)
    return replace(place, rank=(1 + better, not_worse))


def _effect(value: float, samples: Sequence[float]) -> Effect:
    low, high = np.percentile(samples, [2.5, 97.5])
    return Effect(value, float(low), float(high))


def _by_rater(battles: Sequence[Battle], weight: Floats) -> dict[str, float]:
    return {battle.rater_id: float(w) for battle, w in zip(battles, weight, strict=True)}


Matrix = tuple[tuple[float, ...], ...]


def _counts(battles: Sequence[Battle], settings: Sequence[str]) -> tuple[Matrix, Matrix, tuple[tuple[int, ...], ...]]:
    index = {name: i for i, name in enumerate(settings)}
    wins, ties = np.zeros((2, len(settings), len(settings)))
    met = np.zeros(wins.shape, dtype=int)
    for battle in battles:
        left, right = index[battle.left], index[battle.right]
        met[left, right] += 1
        met[right, left] += 1
        if battle.outcome == TIE:
            ties[left, right] += battle.pair_weight
            ties[right, left] += battle.pair_weight
        else:
            winner, loser = (left, right) if battle.outcome == 0 else (right, left)
            wins[winner, loser] += battle.pair_weight
    return tuple(map(tuple, wins.tolist())), tuple(map(tuple, ties.tolist())), tuple(map(tuple, met.tolist()))


def _circles(wins: Sequence[Sequence[float]]) -> tuple[int, int]:
    """How many three settings have a majority in each of their three pairs, and how many of these go round in a circle."""
    count, num = np.array(wins), len(wins)
    beats = count > count.T
    triples = cycles = 0
    for a in range(num):
        for b in range(a + 1, num):
            for c in range(b + 1, num):
                if all(beats[x, y] or beats[y, x] for x, y in ((a, b), (b, c), (a, c))):
                    triples += 1
                    cycles += beats[a, b] == beats[b, c] == beats[c, a]
    return triples, int(cycles)
