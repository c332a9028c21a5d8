"""Token rules: methods that score the candidates of one step and select the next token by that score.

Functions of log probabilities and rewards. Knows nothing of models, caches, the engine or the screen.
"""

from dataclasses import dataclass, field
from functools import reduce
from operator import add
from typing import TYPE_CHECKING, Any, ClassVar

from rgtg.config import check_choices, check_ranges
from rgtg.guidance.base import BETA_HELP, GuidanceMethod
from rgtg.guidance.requests import Propose, Requests

if TYPE_CHECKING:
    from torch import Tensor

    from rgtg.guidance.rows import Rows

PICKS = ("sample", "greedy")


class TokenRule(GuidanceMethod):
    """Base class of the methods that select each token by a score of the candidates: greedily, or from softmax(score / T)."""

    rescores: ClassVar[bool] = True
    pick: str = "sample"

    def generate(self, rows: "Rows") -> Requests:
        while rows.active:
            rows.take((yield Propose(self.uses_reward)), self.rescore, self.pick == "greedy")
            rows.settle()

    def rescore(self, log_probs: "Tensor", rewards: "Tensor | None") -> "Tensor":
        """Scores of the candidates, (k,): the sum of `terms`. Takes (k,) log probabilities and (k,) rewards, and changes neither."""
        return reduce(add, self.terms(log_probs, rewards).values())


@dataclass(frozen=True)
class Base(TokenRule):
    """Sample from the base LM, without any reward.

    Formula: q(v) ∝ p(v | prefix)^(1/T) over the candidates; T = 0 selects the most probable token.
    Paper: none; the baseline of all other methods.
    Cost: one forward of the base LM per token, none of a reward model.
    Pitfall: top-k and top-p already move the distribution away from the complete one: a KL of −log(kept probability) per step.
    """

    name: ClassVar[str] = "Base LM"


@dataclass(frozen=True)
class RewardShift(TokenRule):
    """Add β times the reward of each candidate to its log probability.

    Formula: score(v) = log p(v | prefix) + β·r(prefix + v) over the base LM's top-k candidates; q(v) ∝ exp(score(v) / T), or the
    highest score. β = 0 is the base LM.
    Paper: ARGS (arXiv 2402.01694; r trained on complete responses; greedy there, sampled here by default, so that all columns share
    their random numbers), PARGS and PARGS-G (arXiv 2406.07780; r trained on partial responses), FaRMA (arXiv 2502.04517; r is a logit
    of a causal LM), GenARM (arXiv 2410.08193; r is a sum of log probabilities).
    Cost: one forward of the base LM and one of the reward model per token, for any number of candidates.
    Pitfall: a reward model trained on complete responses alone gives unreliable rewards of prefixes. FaRMA takes the top-k of the
    mixed score and GenARM the complete vocabulary; here the candidates are always the base LM's top-k.
    """

    name: ClassVar[str] = "Reward shift"
    uses_reward: ClassVar[bool] = True

    beta: float = field(default=1.0, metadata={"help": BETA_HELP, "min": 0.0, "max": 20.0})
    pick: str = field(default="sample", metadata={"help": "Sample from the scores, or take the highest (greedy)", "choices": PICKS})

    def __post_init__(self) -> None:
        check_ranges(self)
        check_choices(self)

    def terms(self, log_probs: Any, rewards: Any) -> dict[str, Any]:
        return {"log p": log_probs, "β·r": self.beta * rewards}
