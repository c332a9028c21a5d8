"""Raters with known strengths, ties, a position bias and some who vote by chance; run as a script it prints how good the intervals are.

python -m tests.simulated_raters [--seeds 200] [--first 1000] [--rule-seeds 40] [--weight-seeds 40]
"""

import argparse
from collections.abc import Mapping
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace

import numpy as np

from rgtg.ratings.battles import Battle
from rgtg.ratings.leaderboard import leaderboard
from rgtg.ratings.next_pair import next_pair

STRENGTHS = {"a": -1.0, "b": -0.4, "c": 0.0, "d": 0.4, "e": 1.0}
TIE = -0.5
NUM_VOTES, NUM_RATERS = 2000, 50
CHECKPOINTS = (100, 200, 300, 400)
WIDE = {name: 2.5 * strength for name, strength in STRENGTHS.items()}
CASES = {  # strengths, the setting that comes late, after so many votes
    "five methods": (STRENGTHS, "", 0),
    "five methods far apart": (WIDE, "", 0),
    "a fifth method joins after 400 votes": (STRENGTHS, "c", 400),
}


def simulate(
    seed: int, num_votes: int = NUM_VOTES, careless: float = 0.1, position: float = 0.3, rule: str = "", strengths: Mapping[str, float] = STRENGTHS,
    late: str = "", joins_at: int = 0,
) -> tuple[list[Battle], set[str]]:  # fmt: skip
    """The battles of one vote each, and the raters who vote by chance; `rule` chooses the pairs, else every pair is as likely. The setting
    `late` takes part from vote `joins_at` on; before that every pair of the others is as likely."""
    rng = np.random.default_rng(seed)
    raters = [f"rater {i}" for i in range(NUM_RATERS)]
    by_chance = set(rng.choice(raters, round(careless * NUM_RATERS), replace=False).tolist())
    battles: list[Battle] = []
    for number in range(num_votes):
        settings = sorted(name for name in strengths if name != late or number >= joins_at)
        by_rule = rule and number >= joins_at
        left, right = next_pair(rule, settings, battles, rng)[0] if by_rule else rng.choice(settings, 2, replace=False).tolist()
        rater, theta = raters[int(rng.integers(NUM_RATERS))], strengths[left] - strengths[right] + position
        weights = np.ones(3) if rater in by_chance else np.exp([theta / 2, -theta / 2, TIE])
        battles.append(Battle(f"comparison {number}", rater, left, right, int(rng.choice(3, p=weights / weights.sum()))))
    return battles, by_chance


def measure(seed: int) -> tuple[int, bool]:
    """How many of the five intervals hold the truth, and whether the order is right."""
    board = leaderboard(simulate(seed)[0], resamples=400)
    held = sum(place.low <= STRENGTHS[place.setting] <= place.high for place in board.places)
    return held, [place.setting for place in board.places] == sorted(STRENGTHS, key=lambda name: -STRENGTHS[name])


def widths(seed: int, rule: str, case: str) -> list[float]:
    """Mean width of the intervals after so many votes, a number for each of CHECKPOINTS."""
    strengths, late, joins_at = CASES[case]
    battles, _ = simulate(seed, joins_at + max(CHECKPOINTS), 0.0, rule=rule, strengths=strengths, late=late, joins_at=joins_at)
    boards = [leaderboard(battles[: joins_at + num], resamples=400) for num in CHECKPOINTS]
    return [sum(place.high - place.low for place in board.places) / len(board.places) for board in boards]


def votes_saved(uniform: np.ndarray, informative: np.ndarray) -> float:
    """The share of votes that the informative rule saves at the same width, on average over CHECKPOINTS; by the power law of the width."""
    slope, _ = np.polyfit(np.log(np.array(CHECKPOINTS) + 0.0), np.log(uniform), 1)
    return float(1 - np.exp(np.log(uniform / informative).mean() / slope))


def shown_by_disagreement(seed: int, num_prompts: int = 2000) -> tuple[float, float, float]:
    """Share of the prompts on which people prefer a to b: the truth, of the votes as they are, and weighted by the probability of their pair.

    Three answers a prompt, of which the `disagreement` rule shows two. Four reward models see their quality with noise, and so they disagree more
    often where answers are alike, and votes are close to chance.
    """
    rng, names, pairs = np.random.default_rng(seed), ["a", "b", "c"], [("a", "b"), ("a", "c"), ("b", "c")]
    truth, battles = [], []
    for number in range(num_prompts):
        quality = rng.normal([0.8, 0.0, 0.0], 2.0)
        truth.append(1 / (1 + np.exp(quality[1] - quality[0])))
        seen = quality + rng.normal(0.0, 1.0, (4, 3))
        rewards = {name: {f"model {m}": float(seen[m, i]) for m in range(4)} for i, name in enumerate(names)}
        (left, right), probability = next_pair("disagreement", names, [], rng, rewards, pairs)
        chance = 1 / (1 + np.exp(quality[names.index(right)] - quality[names.index(left)]))
        battles.append(Battle(f"{number}", "r", left, right, int(rng.random() > chance), weight=1 / probability, by_answers=True))
    shares = []
    for known in ([replace(battle, weight=1.0) for battle in battles], battles):
        wins = np.array(leaderboard(known, resamples=1).wins)
        shares.append(wins[0, 1] / (wins[0, 1] + wins[1, 0]))
    return float(np.mean(truth)), *shares


def print_weights(pool: ProcessPoolExecutor, num_seeds: int) -> None:
    truth, plain, weighted = np.array(list(pool.map(shown_by_disagreement, range(num_seeds)))).T
    print(f"pairs by disagreement of four reward models, 2,000 votes, {num_seeds} seeds: a is better on {100 * truth.mean():.1f} % of the prompts")
    for words, found in (("votes as they are", plain), ("weighted", weighted)):
        off = 100 * (found - truth)
        print(
            f"  {words:18s} off by {off.mean():+.2f} ± {1.96 * off.std(ddof=1) / np.sqrt(num_seeds):.2f} points, one board by {off.std(ddof=1):.2f}"
        )


def print_rules(pool: ProcessPoolExecutor, num_seeds: int) -> None:
    seeds = range(num_seeds)
    for case in CASES:
        print(f"{case}: mean width of the intervals after " + ", ".join(map(str, CHECKPOINTS)) + " votes")
        table = {rule: np.array(list(pool.map(widths, seeds, [rule] * num_seeds, [case] * num_seeds))) for rule in ("uniform", "informative")}
        for rule, found in table.items():
            print(f"  {rule:12s} " + "  ".join(f"{width:.3f}" for width in found.mean(0)))
        rng, draws = np.random.default_rng(0), [np.arange(num_seeds)]
        draws += [rng.integers(num_seeds, size=num_seeds) for _ in range(1000)]
        saved = [100 * votes_saved(table["uniform"][drawn].mean(0), table["informative"][drawn].mean(0)) for drawn in draws]
        low, high = np.percentile(saved[1:], [2.5, 97.5])
        words = f"{saved[0]:.1f} % fewer votes ({low:.1f} to {high:.1f}, 95 % over {num_seeds} seeds)"
        print(f"  the informative rule reaches the same width with {words}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=200)
    parser.add_argument("--first", type=int, default=1000, help="first seed")
    parser.add_argument("--rule-seeds", type=int, default=40, help="seeds for the comparison of rules")
    parser.add_argument("--weight-seeds", type=int, default=40, help="seeds for the correction of what a rule chose")
    options = parser.parse_args()
    with ProcessPoolExecutor() as pool:
        if options.seeds:
            found = list(pool.map(measure, range(options.first, options.first + options.seeds)))
            held, num = sum(number for number, _ in found), len(STRENGTHS) * len(found)
            print(f"intervals that hold the truth: {held} of {num} ({100 * held / num:.1f} %)")
            print(f"order recovered: {sum(right for _, right in found)} of {len(found)} seeds", flush=True)
        if options.weight_seeds:
            print_weights(pool, options.weight_seeds)
        if options.rule_seeds:
            print_rules(pool, options.rule_seeds)


if __name__ == "__main__":
    main()
