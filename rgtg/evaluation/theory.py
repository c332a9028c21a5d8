"""A toy on which the theory of prefix rewards is exact: 3 tokens, answers of 4, every answer enumerated.

Pure functions of arrays. Knows nothing of models, methods or the screen. `Toy.drawn()` is the one that Help shows.
"""

import itertools
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np

SIZE, LENGTH, BETA = 3, 4, 1.3
Prefix = tuple[int, ...]
Values = dict[Prefix, float]  # of every prefix of 1 to LENGTH - 1 tokens


def prefixes(*lengths: int) -> list[Prefix]:
    """Every prefix of these lengths, the shortest first, in lexicographic order within a length."""
    return [ids for length in lengths for ids in itertools.product(range(SIZE), repeat=length)]


ANSWERS = prefixes(LENGTH)
INNER = prefixes(*range(1, LENGTH))  # the prefixes whose rewards a loss on complete answers leaves free


@dataclass(frozen=True)
class Figures:
    """What a policy comes to: mean reward, KL to the reference in nats, the objective J = E[r] − KL/β, the total variation distance to the
    optimal policy, and the reward of the answer that takes the highest value at every step."""

    reward: float
    kl: float
    objective: float
    distance: float
    greedy: float


@dataclass(frozen=True, eq=False)
class Toy:
    """A reference policy by prefix, a reward of every complete answer, and random values of the prefixes."""

    reference: Mapping[Prefix, np.ndarray]
    rewards: Mapping[Prefix, float]
    random: Values
    beta: float = BETA

    @classmethod
    def drawn(cls, seed: int = 0, beta: float = BETA) -> "Toy":
        generator = np.random.default_rng(seed)
        reference = {prefix: generator.dirichlet(np.ones(SIZE)) for prefix in prefixes(*range(LENGTH))}
        rewards = {answer: float(generator.normal()) for answer in ANSWERS}
        return cls(reference, rewards, {prefix: float(generator.normal()) for prefix in INNER}, beta)

    # --- policies -------------------------------------------------------------------------------------------------

    def _value(self, values: Values, prefix: Prefix) -> float:
        return self.rewards[prefix] if len(prefix) == LENGTH else values[prefix]

    def next_tokens(self, values: Values, prefix: Prefix) -> np.ndarray:
        """The token-wise rule, p(v) ∝ π_ref(v)·exp(β·r(prefix, v)): (SIZE,)."""
        weights = self.reference[prefix] * np.exp(self.beta * np.array([self._value(values, (*prefix, v)) for v in range(SIZE)]))
        return weights / weights.sum()

    def policy(self, values: Values) -> np.ndarray:
        """Probability of every answer under the token-wise rule: (answers,)."""
        return self._product({prefix: self.next_tokens(values, prefix) for prefix in self.reference})

    def _product(self, steps: Mapping[Prefix, np.ndarray]) -> np.ndarray:
        return np.array([np.prod([steps[answer[:i]][answer[i]] for i in range(LENGTH)]) for answer in ANSWERS])

    @cached_property
    def base(self) -> np.ndarray:
        """Probability of every answer under the reference policy."""
        return self._product(self.reference)

    @cached_property
    def optimum(self) -> np.ndarray:
        """The RLHF policy, π* ∝ π_ref·exp(β·r), which has the highest J."""
        return _normalised(self.base * np.exp(self.beta * self._r))

    @cached_property
    def _r(self) -> np.ndarray:
        return np.array([self.rewards[answer] for answer in ANSWERS])

    def figures(self, values: Values) -> Figures:
        """Of the token-wise rule with these values of the prefixes."""
        policy = self.policy(values)
        answer: Prefix = ()
        reward, kl = float(policy @ self._r), float((policy * np.log(policy / self.base)).sum())
        for _ in range(LENGTH):
            answer = max(((*answer, v) for v in range(SIZE)), key=lambda prefix: self._value(values, prefix))
        return Figures(reward, kl, reward - kl / self.beta, float(abs(policy - self.optimum).sum() / 2), self.rewards[answer])

    # --- D1: what a loss on complete answers sees -------------------------------------------------------------------

    def full_loss(self, values: Values) -> float:
        """−E log σ(r(chosen) − r(rejected)) over pairs of complete answers of the reference, labelled by r. `values` are not in it."""
        gaps = self._r[:, None] - self._r[None]
        return float(_logistic_loss(gaps, _sigmoid(gaps), np.outer(self.base, self.base)))

    def partial_loss(self, values: Values) -> float:
        """The mean of the same loss over pairs of prefixes of every length, complete answers included: it depends on `values`."""
        losses = []
        for length in range(1, LENGTH + 1):
            group, shares, wins = self._pairs(length)
            r = np.array([self._value(values, prefix) for prefix in group])
            losses.append(_logistic_loss(r[:, None] - r[None], wins, np.outer(shares, shares)))
        return float(np.mean(losses))

    # --- D2 and D4: values of prefixes ------------------------------------------------------------------------------

    def _pairs(self, length: int) -> tuple[list[Prefix], np.ndarray, np.ndarray]:
        """Prefixes of a length, their probabilities, and how probably the answer that continues one beats that of the other."""
        group = prefixes(length)
        inside = np.array([[answer[:length] == prefix for answer in ANSWERS] for prefix in group]) * self.base  # (prefixes, answers)
        shares = inside.sum(1)
        given = inside / shares[:, None]
        return group, shares, given @ _sigmoid(self._r[:, None] - self._r[None]) @ given.T

    def partial_values(self) -> Values:
        """What partial Bradley–Terry training comes to with endless data, by Newton's method; their mean at each length is 0."""
        values: Values = {}
        for length in range(1, LENGTH):
            group, shares, wins = self._pairs(length)
            weights, r = np.outer(shares, shares), np.zeros(len(group))
            for _ in range(50):
                p = _sigmoid(r[:, None] - r[None])
                gradient = (weights * (p - wins)).sum(1)
                curvature = weights * p * (1 - p)
                hessian = np.diag(curvature.sum(1)) - curvature
                step = np.linalg.lstsq(hessian, gradient, rcond=None)[0]
                r = r - step
                if abs(step).max() < 1e-13:
                    break
            values |= dict(zip(group, (r - r.mean()).tolist(), strict=True))
        return values

    def backed_up(self, tau: float) -> Values:
        """V_τ(prefix) = τ·log E exp(V_τ(prefix, v)/τ) under the reference: the mean for τ = ∞, the maximum for τ = 0."""
        values: Values = {}
        for prefix in reversed(prefixes(*range(1, LENGTH))):
            after = np.array([self._value(values, (*prefix, v)) for v in range(SIZE)])
            values[prefix] = soft_value(after, self.reference[prefix], tau)
        return values

    # --- D3: a ratio of two RLHF policies ---------------------------------------------------------------------------

    def ratio_gap(self, values: Values) -> float:
        """Largest difference between the token-wise rule and the normalised ratio π_i(prefix, v)/π_{i−1}(prefix) of RLHF policies of
        prefixes."""
        gaps = []
        of_prefixes = {length: self._prefix_policy(values, length) for length in range(LENGTH + 1)}
        for prefix in self.reference:
            ratios = np.array([of_prefixes[len(prefix) + 1][(*prefix, v)] / of_prefixes[len(prefix)][prefix] for v in range(SIZE)])
            gaps.append(abs(_normalised(ratios) - self.next_tokens(values, prefix)).max())
        return float(max(gaps))

    def _prefix_policy(self, values: Values, length: int) -> dict[Prefix, float]:
        """π_i ∝ π_ref(prefix)·exp(β·r(prefix)), over the prefixes of one length."""
        group = prefixes(length)
        shares = np.array([np.prod([self.reference[prefix[:i]][prefix[i]] for i in range(length)]) for prefix in group])
        r = np.array([self._value(values, prefix) if prefix else 0.0 for prefix in group])
        return dict(zip(group, _normalised(shares * np.exp(self.beta * r)).tolist(), strict=True))


def soft_value(after: np.ndarray, shares: np.ndarray, tau: float) -> float:
    """τ·log Σ shares·exp(after/τ): between the mean (τ = ∞) and the maximum (τ = 0)."""
    if tau == 0:
        return float(after.max())
    if np.isinf(tau):
        return float(shares @ after)
    top = after.max()
    return float(top + tau * np.log(shares @ np.exp((after - top) / tau)))


def _sigmoid(x: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-x))


def _logistic_loss(gaps: np.ndarray, wins: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Cross-entropy of `wins` under σ(gaps), weighted."""
    return (weights * (wins * np.logaddexp(0, -gaps) + (1 - wins) * np.logaddexp(0, gaps))).sum()


def _normalised(weights: np.ndarray) -> np.ndarray:
    return weights / weights.sum()
