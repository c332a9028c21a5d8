"""Sequence methods: several answers grow at once, and one of them is returned.

Functions of rows. Knows nothing of models, caches, the engine or the screen.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar

from rgtg.config import check_choices, check_ranges, setting
from rgtg.guidance.base import ANSWERS, BETA_HELP, GuidanceMethod
from rgtg.guidance.requests import Propose, Requests, Score

if TYPE_CHECKING:
    from torch import Tensor

    from rgtg.guidance.requests import Proposal
    from rgtg.guidance.rows import Rows

PROPOSALS = ("base", "pargs")


class SeveralAnswers(GuidanceMethod):
    """Draw several complete answers from the base LM and keep one of them: what best-of-n and its kin share."""

    group: ClassVar[str] = ANSWERS
    uses_reward: ClassVar[bool] = True
    lost: ClassVar[str] = "another answer had a higher reward"

    @property
    def kl_bound(self) -> float | None:
        """log n: however one of n independent answers is chosen, no answer is more than n times as probable as under the base LM."""
        return math.log(self.num_rows)

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
        self.keep(rows, rewards, [self.choose(rewards, rows)])

    @staticmethod
    def keep(rows: "Rows", rewards: Sequence[float], kept: Sequence[int]) -> None:
        """Go on with these rows and note what the others were."""
        for row, reward in enumerate(rewards):
            if row not in kept:
                rows.give_up(rows.drafts[row][rows.num_settled :], reward)
        rows.select(kept)
        rows.settle()


@dataclass(frozen=True)
class BestOfN(SeveralAnswers):
    """Sample n complete answers from the base LM and return the one with the highest reward.

    Formula: argmax_j r(y_j). Its KL to the base LM is at most log n − (n − 1) / n. The first answer has the run's own random seed, so n = 1
    is the base LM.
    Paper: the standard baseline; bound and scaling in arXiv 2210.10760.
    Cost: per token one forward of the base LM over n rows; one forward of the reward model over n rows at the end.
    Pitfall: at a low temperature the n answers repeat one another, and the effective n is smaller.
    """

    name: ClassVar[str] = "Best-of-n"

    n: int = field(default=4, metadata={"help": "Number of answers sampled: larger values raise the reward and the cost", "min": 1, "max": 64})

    def __post_init__(self) -> None:
        check_ranges(self)

    @property
    def num_rows(self) -> int:
        return self.n

    @property
    def kl_bound(self) -> float | None:
        """log n − (n − 1) / n, a bound by Beirami et al. (arXiv 2401.01879); it is close where n answers are seldom equal."""
        return math.log(self.n) - (self.n - 1) / self.n


@dataclass(frozen=True)
class SoftBestOfN(BestOfN):
    """Sample n complete answers from the base LM and draw one of them, the likelier the higher its reward.

    Formula: answer j is drawn with probability exp(r_j/τ) / Σ_l exp(r_l/τ); for large n that is p(y)·exp(r(y)/τ)/Z. n = 1 is the base LM.
    Paper: soft best-of-n (arXiv 2505.03156).
    Cost: as best-of-n.
    Pitfall: τ is in the unit of the reward model; near 0 this is best-of-n.
    """

    name: ClassVar[str] = "Soft best-of-n"
    lost: ClassVar[str] = "another answer was drawn, by its reward"

    reward_temperature: float = setting(1.0, "Larger values keep answers with low rewards more often", 1e-6, 1e6)

    @property
    def kl_bound(self) -> float | None:
        return math.log(self.n)  # see `SeveralAnswers`

    def choose(self, rewards: Sequence[float], rows: "Rows") -> int:
        return drawn([reward / self.reward_temperature for reward in rewards], rows.uniform("keep"))


@dataclass(frozen=True)
class BestOfPoisson(SeveralAnswers):
    """Sample a random number of complete answers from the base LM and return the one with the highest reward.

    Formula: argmax_j r(y_j) over n = 1 + Poisson(μ) answers. μ = 0 is the base LM.
    Paper: best-of-Poisson (arXiv 2506.19248), close to the best reward at its KL for every μ.
    Cost: as best-of-n, with 1 + μ answers on average.
    Pitfall: the number of answers, and with it the time, changes with the random seed.
    """

    name: ClassVar[str] = "Best-of-Poisson"

    mu: float = setting(3.0, "Answers to draw on average, besides the first", 0.0, 32.0)

    def __post_init__(self) -> None:
        check_ranges(self)

    @property
    def num_rows(self) -> int:
        return 1 if self.mu == 0 else 2 + math.ceil(self.mu + 6 * math.sqrt(self.mu))

    @property
    def kl_bound(self) -> float | None:
        """log(1 + μ), of the mean number of answers."""
        return math.log(1 + self.mu)

    def number(self, rows: "Rows") -> int:
        u, n, share = rows.uniform("number"), 1, math.exp(-self.mu)
        while u > share and n < self.num_rows:
            u -= share
            share *= self.mu / n
            n += 1
        return n


@dataclass(frozen=True)
class SpeculativeRejection(BestOfN):
    """Grow n answers, drop those with the lowest reward at a few lengths, and return the best of the rest.

    Formula: at `first` tokens, twice as many, and so on, the share `drop` with the lowest r(prefix) is given up; at the end argmax_j r(y_j).
    drop = 0 is best-of-n, n = 1 the base LM.
    Paper: speculative rejection (arXiv 2410.20290), here at fixed lengths rather than where memory runs full.
    Cost: per token one forward of the base LM over the answers that are left; about n/drop scorings in all.
    Pitfall: the reward model has to rank partial answers as it ranks complete ones.
    """

    name: ClassVar[str] = "Speculative rejection"
    lost: ClassVar[str] = "others had a higher reward at this length"

    n: int = setting(8, "Answers to begin with", 1, 64)
    drop: float = setting(0.5, "Share of the answers that is dropped each time", 0.0, 0.9)
    first: int = setting(4, "Tokens before answers are dropped first; then after twice as many", 1, 1024)

    @property
    def kl_bound(self) -> float | None:
        return math.log(self.n)  # see `SeveralAnswers`

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
        self.keep(rows, rewards, [self.choose(rewards, rows)])

    def _drop_worst(self, rows: "Rows", rewards: Sequence[float]) -> None:
        num_kept = math.ceil(len(rewards) * (1 - self.drop))
        self.keep(rows, rewards, sorted(sorted(range(len(rewards)), key=lambda row: (-rewards[row], row))[:num_kept]))


@dataclass(frozen=True)
class Particles(GuidanceMethod):
    """Grow m answers, weight each by the reward it gains, and resample: answers of high weight replace those of low weight.

    Formula: sequential Monte Carlo for the target p(y)·exp(β·r(y)), with prefix rewards as twist. A step's weight is exp(β(r_t − r_{t−1}))
    if the base LM proposes, and Σ_v p(v)·exp(β(r(v) − r_{t−1})) if PARGS does. Systematic resampling below an effective sample size
    (Σw)² / Σw² of m / 2; one answer is drawn by its weight at the end. m = 1 is the base LM, or PARGS.
    Paper: twisted SMC (arXiv 2404.17546), genlm-control (arXiv 2504.13139).
    Cost: per token one forward of the base LM and one of the reward model, over m rows.
    Pitfall: an offset of the rewards that depends on the length gives answers that end early too much or too little weight.
    """

    name: ClassVar[str] = "Particles"
    lost: ClassVar[str] = "another answer was drawn, by its weight"
    group: ClassVar[str] = ANSWERS
    uses_reward: ClassVar[bool] = True

    m: int = field(default=8, metadata={"help": "Number of particles (answers): larger values come closer to the target", "min": 1, "max": 256})
    beta: float = field(default=1.0, metadata={"help": BETA_HELP, "min": 0.0, "max": 20.0})
    proposal: str = field(default="base", metadata={"help": "Proposal distribution of the next token: the base LM, or PARGS", "choices": PROPOSALS})

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
        log_weights, before = [0.0] * self.m, [0.0] * self.m  # `before`: rewards of the previous step
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
            log_weights = [w + g for w, g in zip(log_weights, gained, strict=True)]
            before = rewards
            if rows.active and effective_number(log_weights) < self.m / 2:
                index = systematic(log_weights, rows.uniform("resample"))
                self._give_up(rows, log_weights, rewards, set(range(self.m)) - set(index))
                rows.select(index)
                rows.settle()
                log_weights, before = [0.0] * self.m, [before[i] for i in index]
        winner = drawn(log_weights, rows.uniform("draw"))
        self._give_up(rows, log_weights, before, set(range(self.m)) - {winner})
        rows.select([winner])
        rows.settle()

    def terms(self, log_probs: Any, rewards: Any) -> dict[str, Any]:
        """Summands of the proposal's score at temperature 1; at temperature T the reward is multiplied by T too."""
        return super().terms(log_probs, rewards) | ({} if self.proposal == "base" else {"β·r": self.beta * rewards})

    def _normaliser(self, proposal: "Proposal | None", before: float, temperature: float) -> float:
        """log Σ_v p(v)·exp(β(r(v) − before)), where p is the base LM's distribution over the candidates; 0 for a finished row."""
        if proposal is None:
            return 0.0
        base = (proposal.log_probs.double() / (temperature or 1.0)).log_softmax(0)
        rewards: Any = proposal.rewards
        return float((base + self.beta * (rewards.double() - before)).logsumexp(0))

    @staticmethod
    def _give_up(rows: "Rows", log_weights: Sequence[float], rewards: Sequence[float], rejected: set[int]) -> None:
        shares = normalised(log_weights)
        for row in sorted(rejected):
            rows.give_up(rows.drafts[row][rows.num_settled :], rewards[row], weight=shares[row])


def _shifted(factor: float, log_probs: "Tensor", rewards: "Tensor | None") -> "Tensor":
    assert rewards is not None
    return log_probs + factor * rewards


def normalised(log_weights: Sequence[float]) -> list[float]:
    """Weights that add up to 1, from their logarithms."""
    highest = max(log_weights)
    weights = [math.exp(log_weight - highest) for log_weight in log_weights]
    total = sum(weights)
    return [weight / total for weight in weights]


def effective_number(log_weights: Sequence[float]) -> float:
    """Effective sample size (Σw)² / Σw²: m if all m weights are equal, 1 if one row has all the weight."""
    return 1 / sum(share * share for share in normalised(log_weights))


def systematic(log_weights: Sequence[float], u: float) -> list[int]:
    """Indices of the rows drawn by systematic resampling with one number `u` in (0, 1): row i floor(m·w_i) times, or once more."""
    shares, m = normalised(log_weights), len(log_weights)
    index, total, row = [], shares[0], 0
    for i in range(m):
        while (i + u) / m > total and row < m - 1:
            row += 1
            total += shares[row]
        index.append(row)
    return index


def drawn(log_weights: Sequence[float], u: float) -> int:
    """Index of one row, drawn by its weight with a number `u` in (0, 1)."""
    total = 0.0
    for row, share in enumerate(normalised(log_weights)):
        total += share
        if u < total:
            return row
    return len(log_weights) - 1
