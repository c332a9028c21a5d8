"""Sequence methods: several answers grow at once, and one of them is kept.

Functions of rows. Knows nothing of models, caches, the engine or the screen.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar

from rgtg.config import check_choices, check_ranges, setting
from rgtg.guidance.base import GuidanceMethod
from rgtg.guidance.requests import Propose, Requests, Score

if TYPE_CHECKING:
    from torch import Tensor

    from rgtg.guidance.requests import Proposal
    from rgtg.guidance.rows import Rows

PROPOSALS = ("base", "pargs")


class SeveralAnswers(GuidanceMethod):
    """Draw several complete answers from the base LM and keep one of them: what best-of-n and its kin share."""

    uses_reward: ClassVar[bool] = True

    def number(self, rows: "Rows") -> int:
        """How many answers are drawn this time."""
        return self.num_rows

    def choose(self, rewards: Sequence[float], rows: "Rows") -> int:
        """The row that is kept."""
        from rgtg.guidance.rows import best

        return best(rewards)

    def generate(self, rows: "Rows") -> Requests:
        rows.select([0] * self.number(rows))
        while rows.active:
            rows.take((yield Propose()))
        rewards = yield Score()
        kept = self.choose(rewards, rows)
        for row, reward in enumerate(rewards):
            if row != kept:
                rows.give_up(rows.drafts[row], reward)
        rows.select([kept])
        rows.settle()


@dataclass(frozen=True)
class BestOfN(SeveralAnswers):
    """Draw n complete answers from the base LM and keep the one with the highest reward.

    argmax over j of r(y_j); its KL to the base is at most log n - (n - 1) / n. The first answer has the run's own seed,
    so n = 1 is the base LM. Cost: n rows of the base LM, n scorings. Pitfall: with large n the reward model's own errors are what wins.
    """

    name: ClassVar[str] = "Best-of-n"

    n: int = field(default=4, metadata={"help": "Answers to draw", "min": 1, "max": 64})

    def __post_init__(self) -> None:
        check_ranges(self)

    @property
    def num_rows(self) -> int:
        return self.n


@dataclass(frozen=True)
class SoftBestOfN(BestOfN):
    """Draw n complete answers from the base LM and keep one by chance, the likelier the higher its reward.

    Answer j is kept with probability exp(r_j / t) / sum_l exp(r_l / t): soft best-of-n (arXiv 2505.03156), which for large n comes to
    p(y) exp(r(y) / t) / Z. With n = 1 it is the base LM, with t near 0 best-of-n. Cost: as best-of-n. Pitfall: t is in the reward's own unit.
    """

    name: ClassVar[str] = "Soft best-of-n"

    reward_temperature: float = setting(1.0, "Larger values keep answers with low rewards more often", 1e-6, 1e6)

    def choose(self, rewards: Sequence[float], rows: "Rows") -> int:
        return drawn([reward / self.reward_temperature for reward in rewards], rows.uniform("keep"))


@dataclass(frozen=True)
class BestOfPoisson(SeveralAnswers):
    """Draw a random number of complete answers from the base LM and keep the one with the highest reward.

    n = 1 + Poisson(mu): best-of-Poisson (arXiv 2506.19248), close to the optimum between reward and KL at every mu. With mu = 0 it is
    the base LM. Cost: mu + 1 rows of the base LM on average, as many scorings. Pitfall: the number changes with the random seed.
    """

    name: ClassVar[str] = "Best-of-Poisson"

    mu: float = setting(3.0, "Answers to draw on average, besides the first", 0.0, 32.0)

    def __post_init__(self) -> None:
        check_ranges(self)

    @property
    def num_rows(self) -> int:
        return 1 if self.mu == 0 else 2 + math.ceil(self.mu + 6 * math.sqrt(self.mu))

    def number(self, rows: "Rows") -> int:
        u, n, share = rows.uniform("number"), 1, math.exp(-self.mu)
        while u > share and n < self.num_rows:
            u -= share
            share *= self.mu / n
            n += 1
        return n


@dataclass(frozen=True)
class SpeculativeRejection(BestOfN):
    """Let n answers grow and drop those with the lowest reward at a few lengths; of the rest keep the best complete one.

    At `first` tokens, twice as many, and so on, the share `drop` of the answers is given up. Speculative rejection (arXiv 2410.20290), at
    fixed lengths rather than when memory is full. With drop = 0 it is best-of-n. Cost: about n / drop scorings, and fewer rows of
    the base LM the longer the answer. Pitfall: the reward model has to rank partial answers as it ranks complete ones.
    """

    name: ClassVar[str] = "Speculative rejection"

    n: int = setting(8, "Answers to begin with", 1, 64)
    drop: float = setting(0.5, "Share of the answers that is dropped each time", 0.0, 0.9)
    first: int = setting(4, "Tokens before answers are dropped first; then after twice as many", 1, 1024)

    def generate(self, rows: "Rows") -> Requests:
        rows.select([0] * self.n)
        length, checkpoint = 0, self.first
        while rows.active:
            rows.take((yield Propose()))
            length += 1
            if length == checkpoint:
                checkpoint *= 2
                if self.drop and rows.active and len(rows.drafts) > 1:
                    self._drop_worst(rows, (yield Score()))
        rewards = yield Score()
        kept = self.choose(rewards, rows)
        self._keep(rows, rewards, [kept])

    def _drop_worst(self, rows: "Rows", rewards: Sequence[float]) -> None:
        num_kept = math.ceil(len(rewards) * (1 - self.drop))
        self._keep(rows, rewards, sorted(sorted(range(len(rewards)), key=lambda row: (-rewards[row], row))[:num_kept]))

    @staticmethod
    def _keep(rows: "Rows", rewards: Sequence[float], kept: list[int]) -> None:
        for row, reward in enumerate(rewards):
            if row not in kept:
                rows.give_up(rows.drafts[row][rows.num_settled :], reward)
        rows.select(kept)
        rows.settle()


@dataclass(frozen=True)
class Particles(GuidanceMethod):
    """Let m answers grow, weigh each by the reward it gains, and copy the heavy ones over the light ones.

    Sequential Monte Carlo for the target p(y) exp(beta r(y)), with the prefix rewards as twist. A step's weight is exp(beta (r_t -
    r_(t-1))) where the base LM proposes, and sum_v p(v) exp(beta (r(v) - r_(t-1))) where PARGS does; rows are drawn anew (systematic
    resampling) where the effective number of them falls below half. Twisted SMC (arXiv 2404.17546), genlm-control (arXiv
    2504.13139). With m = 1 and the base LM's proposal this is the base LM, with PARGS's it is PARGS. Rewards that differ from length
    to length make answers that ended early too heavy or too light.
    """

    name: ClassVar[str] = "Particles"
    uses_reward: ClassVar[bool] = True

    m: int = field(default=8, metadata={"help": "Answers that grow at once: more come closer to the target", "min": 1, "max": 256})
    beta: float = field(default=1.0, metadata={"help": "Weight of the reward", "min": 0.0, "max": 20.0})
    proposal: str = field(default="base", metadata={"help": "What draws the tokens: the base LM, or PARGS", "choices": PROPOSALS})

    def __post_init__(self) -> None:
        check_ranges(self)
        check_choices(self)

    @property
    def num_rows(self) -> int:
        return self.m

    @property
    def scores_candidates(self) -> bool:
        return self.proposal != "base"

    def generate(self, rows: "Rows") -> Requests:
        rows.select([0] * self.m)
        weights, before = [0.0] * self.m, [0.0] * self.m  # weights are logarithms
        while rows.active:
            if self.proposal == "base":
                rows.take((yield Propose()))
                rewards = yield Score()
                gained = [self.beta * (r - b) for r, b in zip(rewards, before, strict=True)]
            else:
                proposals = yield Propose(rewards=True)
                factor = (rows.temperature or 1.0) * self.beta
                rows.take(proposals, partial(_shifted, factor))
                gained = [self._normaliser(p, b, rows.temperature) for p, b in zip(proposals, before, strict=True)]
                rewards = [b if p is None else rows.drafts[j][-1].reward for j, (p, b) in enumerate(zip(proposals, before, strict=True))]
            weights = [w + g for w, g in zip(weights, gained, strict=True)]
            before = rewards
            if rows.active and effective_number(weights) < self.m / 2:
                index = systematic(weights, rows.uniform("resample"))
                self._give_up(rows, weights, rewards, set(range(self.m)) - set(index))
                rows.select(index)
                rows.settle()
                weights, before = [0.0] * self.m, [before[i] for i in index]
        kept = drawn(weights, rows.uniform("draw"))
        self._give_up(rows, weights, before, set(range(self.m)) - {kept})
        rows.select([kept])
        rows.settle()

    def terms(self, log_probs: Any, rewards: Any) -> dict[str, Any]:
        """What draws the tokens; at another temperature than 1 the reward is multiplied by it, too."""
        return super().terms(log_probs, rewards) | ({} if self.proposal == "base" else {"β·r": self.beta * rewards})

    def _normaliser(self, proposal: "Proposal | None", before: float, temperature: float) -> float:
        """log sum_v p(v) exp(beta (r(v) - r_before)), p being the base LM's distribution over the candidates; 0 of a row that is over."""
        if proposal is None:
            return 0.0
        base = (proposal.log_probs.double() / (temperature or 1.0)).log_softmax(0)
        rewards: Any = proposal.rewards
        return float((base + self.beta * (rewards.double() - before)).logsumexp(0))

    @staticmethod
    def _give_up(rows: "Rows", weights: Sequence[float], rewards: Sequence[float], lost: set[int]) -> None:
        shares = normalised(weights)
        for row in sorted(lost):
            rows.give_up(rows.drafts[row][rows.num_settled :], rewards[row], weight=shares[row])


def _shifted(factor: float, log_probs: "Tensor", rewards: "Tensor | None") -> "Tensor":
    assert rewards is not None
    return log_probs + factor * rewards


def normalised(weights: Sequence[float]) -> list[float]:
    """Logarithms of weights -> shares that add up to 1."""
    highest = max(weights)
    found = [math.exp(weight - highest) for weight in weights]
    total = sum(found)
    return [weight / total for weight in found]


def effective_number(weights: Sequence[float]) -> float:
    """(sum w)^2 / sum w^2: m where all weigh alike, 1 where one has all; of logarithms."""
    return 1 / sum(share * share for share in normalised(weights))


def systematic(weights: Sequence[float], u: float) -> list[int]:
    """Systematic resampling by one number in (0, 1): row i is drawn floor(m w_i) or one more times; of logarithms."""
    shares, m = normalised(weights), len(weights)
    index, total, row = [], shares[0], 0
    for i in range(m):
        while (i + u) / m > total and row < m - 1:
            row += 1
            total += shares[row]
        index.append(row)
    return index


def drawn(weights: Sequence[float], u: float) -> int:
    """One row, by its share; of logarithms."""
    total = 0.0
    for row, share in enumerate(normalised(weights)):
        total += share
        if u < total:
            return row
    return len(weights) - 1
