"""Which two settings to ask about next: each rule gives every pair a probability, and the drawn one is stored with the comparison."""

from collections.abc import Callable, Mapping, Sequence
from itertools import combinations

import numpy as np

from rgtg.ratings.battles import BY_ANSWERS, Battle
from rgtg.ratings.davidson import Fit, Floats, information
from rgtg.ratings.leaderboard import posterior

Pair = tuple[str, str]
Rewards = Mapping[str, Mapping[str, float]]  # setting -> reward model -> its reward of that setting's answer
Rule = Callable[[Sequence[Pair], Sequence[Battle], Sequence[str], Rewards], Floats]
EVEN = 0.1  # share of draws in which every pair is as likely: no probability is 0, so that estimates can be corrected
DRAWS = 400  # of strengths, for the probabilities of Thompson sampling


def uniform(pairs: Sequence[Pair], battles: Sequence[Battle], settings: Sequence[str], rewards: Rewards) -> Floats:
    """Every pair is as likely."""
    return np.full(len(pairs), 1 / len(pairs))


def under_sampled(pairs: Sequence[Pair], battles: Sequence[Battle], settings: Sequence[str], rewards: Rewards) -> Floats:
    """Pairs with few battles more often: weight (n + 50)^-0.4, at most three times that of another pair."""
    weight = (_num_battles(pairs, battles) + 50.0) ** -0.4
    weight = np.minimum(weight, 3 * weight.min())
    return weight / weight.sum()


def informative(pairs: Sequence[Pair], battles: Sequence[Battle], settings: Sequence[str], rewards: Rewards) -> Floats:
    """The pair whose next vote narrows the strengths most (A-optimal: the expected fall of the sum of their variances)."""
    fitted = posterior(battles, settings)
    gains = np.array([_gain(fitted, *(settings.index(name) for name in pair)) for pair in pairs])
    best = gains >= gains.max() - 1e-12
    return EVEN / len(pairs) + (1 - EVEN) * best / best.sum()


def thompson(pairs: Sequence[Pair], battles: Sequence[Battle], settings: Sequence[str], rewards: Rewards) -> Floats:
    """Top two settings under strengths drawn from their distribution: asks most about the settings that may be the best."""
    fitted = posterior(battles, settings)
    rng = np.random.default_rng(len(battles))
    drawn = rng.multivariate_normal(fitted.strengths, fitted.covariance, DRAWS, check_valid="ignore")
    top = np.argsort(-drawn, axis=1)[:, :2]
    index = {frozenset((settings.index(first), settings.index(second))): i for i, (first, second) in enumerate(pairs)}
    two, times = np.unique(np.sort(top, axis=1), axis=0, return_counts=True)
    share = np.zeros(len(pairs))
    for (first, second), number in zip(two.tolist(), times.tolist(), strict=True):
        share[index[frozenset((first, second))]] = number / DRAWS
    return EVEN / len(pairs) + (1 - EVEN) * share


def disagreement(pairs: Sequence[Pair], battles: Sequence[Battle], settings: Sequence[str], rewards: Rewards) -> Floats:
    """Pairs whose order the reward models disagree about more often, in proportion to the `spread` of what each says of it."""
    spreads = np.array([spread(rewards, *pair) for pair in pairs])
    if not spreads.any():
        return uniform(pairs, battles, settings, rewards)
    return EVEN / len(pairs) + (1 - EVEN) * spreads / spreads.sum()


def spread(rewards: Rewards, first: str, second: str) -> float:
    """Variance over the reward models of σ(difference of the two rewards), each in units of its typical difference among these answers: the
    ensemble criterion of Christiano et al. (https://arxiv.org/abs/1706.03741, section 2.2.4). Models that did not score every answer are left out."""
    models = set.intersection(*(set(of_answer) for of_answer in rewards.values())) if rewards else set()
    said = []
    for name in sorted(models):
        values = np.array([of_answer[name] for of_answer in rewards.values()])
        unit = np.sqrt(2) * values.std(ddof=1) if len(values) > 1 else 0.0  # root mean square of the differences
        said.append(1 / (1 + np.exp((rewards[second][name] - rewards[first][name]) / unit)) if unit > 0 else 0.5)
    return float(np.var(said)) if said else 0.0


RULES: dict[str, Rule] = {
    "uniform": uniform, "under-sampled": under_sampled, "informative": informative, "thompson": thompson, "disagreement": disagreement,
}  # fmt: skip
assert RULES.keys() >= BY_ANSWERS


def next_pair(
    rule: str, settings: Sequence[str], battles: Sequence[Battle], rng: np.random.Generator, rewards: Rewards | None = None,
    pairs: Sequence[Pair] | None = None,
) -> tuple[Pair, float]:  # fmt: skip
    """The next two settings, in random order, and the probability with which the rule draws these two, of all pairs of the settings or of `pairs`.
    A rule of BY_ANSWERS is given the `rewards` of their answers."""
    pairs = list(combinations(settings, 2)) if pairs is None else pairs
    known = [battle for battle in battles if battle.left in settings and battle.right in settings]
    chances = RULES[rule](pairs, known, settings, rewards or {})
    drawn = int(rng.choice(len(pairs), p=chances / chances.sum()))
    first, second = pairs[drawn]
    return ((first, second) if rng.random() < 0.5 else (second, first)), float(chances[drawn] / chances.sum())


def _num_battles(pairs: Sequence[Pair], battles: Sequence[Battle]) -> Floats:
    index = {frozenset(pair): i for i, pair in enumerate(pairs)}
    counted = np.zeros(len(pairs))
    for battle in battles:
        counted[index[frozenset((battle.left, battle.right))]] += 1
    return counted


def _gain(fitted: Fit, i: int, j: int) -> float:
    """How much the sum of the variances falls by one more battle of i and j, on either side as often, to first order in its information."""
    gap = fitted.strengths[i] - fitted.strengths[j]
    column = fitted.covariance[:, i] - fitted.covariance[:, j]
    of_one = information(np.array([gap + fitted.position, -gap + fitted.position]), fitted.tie).mean()
    return float(of_one * (column @ column) / (1 + of_one * (column[i] - column[j])))
