"""Raters with known strengths, ties, a position bias and some who vote by chance; run as a script it prints how good the intervals are.

python -m tests.simulated_raters [--seeds 200] [--first 1000]
"""

import argparse
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor

import numpy as np

from rgtg.ratings.battles import Battle
from rgtg.ratings.leaderboard import leaderboard
from rgtg.ratings.next_pair import next_pair

STRENGTHS = {"a": -1.0, "b": -0.4, "c": 0.0, "d": 0.4, "e": 1.0}
TIE = -0.5
NUM_VOTES, NUM_RATERS = 2000, 50


def simulate(seed: int, num_votes: int = NUM_VOTES, careless: float = 0.1, position: float = 0.3, rule: str = "") -> tuple[list[Battle], set[str]]:
    """The battles of one vote each, and the raters who vote by chance; `rule` chooses the pairs, else every pair is as likely."""
    rng = np.random.default_rng(seed)
    raters = [f"rater {i}" for i in range(NUM_RATERS)]
    by_chance = set(rng.choice(raters, round(careless * NUM_RATERS), replace=False).tolist())
    battles: list[Battle] = []
    for number in range(num_votes):
        left, right = next_pair(rule, sorted(STRENGTHS), battles, rng)[0] if rule else rng.choice(sorted(STRENGTHS), 2, replace=False).tolist()
        rater, theta = raters[int(rng.integers(NUM_RATERS))], STRENGTHS[left] - STRENGTHS[right] + position
        weights = np.ones(3) if rater in by_chance else np.exp([theta / 2, -theta / 2, TIE])
        battles.append(Battle(f"comparison {number}", rater, left, right, int(rng.choice(3, p=weights / weights.sum()))))
    return battles, by_chance


def measure(seed: int) -> tuple[int, bool]:
    """How many of the five intervals hold the truth, and whether the order is right."""
    board = leaderboard(simulate(seed)[0], resamples=400)
    held = sum(place.low <= STRENGTHS[place.setting] <= place.high for place in board.places)
    return held, [place.setting for place in board.places] == sorted(STRENGTHS, key=lambda name: -STRENGTHS[name])


def widths(seed: int, rule: str, checkpoints: Sequence[int]) -> list[float]:
    """Mean width of the intervals after so many votes."""
    battles, _ = simulate(seed, max(checkpoints), careless=0.0, rule=rule)
    boards = [leaderboard(battles[:num], resamples=200) for num in checkpoints]
    return [sum(place.high - place.low for place in board.places) / len(board.places) for board in boards]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=200)
    parser.add_argument("--first", type=int, default=1000, help="first seed")
    parser.add_argument("--rule-seeds", type=int, default=10, help="seeds for the comparison of rules")
    options = parser.parse_args()
    with ProcessPoolExecutor() as pool:
        found = list(pool.map(measure, range(options.first, options.first + options.seeds)))
        held, num = sum(number for number, _ in found), len(STRENGTHS) * len(found)
        print(f"intervals that hold the truth: {held} of {num} ({100 * held / num:.1f} %)")
        print(f"order recovered: {sum(right for _, right in found)} of {len(found)} seeds")
        checkpoints, seeds = (200, 400, 600, 800), range(options.rule_seeds)
        print("mean width of the intervals after " + ", ".join(map(str, checkpoints)) + " votes")
        for rule in ("uniform", "informative"):
            tables = pool.map(widths, seeds, [rule] * len(seeds), [checkpoints] * len(seeds))
            print(f"  {rule:12s} " + "  ".join(f"{width:.3f}" for width in np.mean(list(tables), axis=0)))


if __name__ == "__main__":
    main()
