"""Sequence methods: several answers grow at once, and one of them is returned.

Functions of rows. Knows nothing of models, caches, the engine or the screen.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar

from rgtg.config import check_choices, check_ranges
from rgtg.guidance.base import BETA_HELP, GuidanceMethod
from rgtg.guidance.requests import Propose, Requests, Score

if TYPE_CHECKING:
    from torch import Tensor

    from rgtg.guidance.requests import Proposal
    from rgtg.guidance.rows import Rows

PROPOSALS = ("base", "pargs")


@dataclass(frozen=True)
class BestOfN(GuidanceMethod):
    """Sample n complete answers from the base LM and return the one with the highest reward.

    Formula: argmax_j r(y_j). Its KL to the base LM is at most log n − (n − 1) / n. The first answer has the run's own random seed, so n = 1
    is the base LM.
    Paper: the standard baseline; bound and scaling in arXiv 2210.10760.
    Cost: per token one forward of the base LM over n rows; one forward of the reward model over n rows at the end.
    Pitfall: at a low temperature the n answers repeat one another, and the effective n is smaller.
    """

    name: ClassVar[str] = "Best-of-n"
    uses_reward: ClassVar[bool] = True

    n: int = field(default=4, metadata={"help": "Number of answers sampled: larger values raise the reward and the cost", "min": 1, "max": 64})

    def __post_init__(self) -> None:
        check_ranges(self)

    @property
    def num_rows(self) -> int:
        return self.n

    def generate(self, rows: "Rows") -> Requests:
        from rgtg.guidance.rows import best

        rows.select([0] * self.n)
        while rows.active:
            rows.take((yield Propose()))
        rewards = yield Score()
        winner = best(rewards)
        for row, reward in enumerate(rewards):
            if row != winner:
                rows.give_up(rows.drafts[row], reward)
        rows.select([winner])
        rows.settle()


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
