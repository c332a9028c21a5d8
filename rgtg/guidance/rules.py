"""Token rules: each token is drawn by a score of the candidates. A rule is its formula.

Functions of log probabilities and rewards. Knows nothing of models, caches, the engine or the screen.
"""

from dataclasses import dataclass, field
from functools import reduce
from operator import add
from typing import TYPE_CHECKING, Any, ClassVar

from rgtg.config import check_choices, check_ranges
from rgtg.guidance.base import GuidanceMethod
from rgtg.guidance.requests import Propose, Requests

if TYPE_CHECKING:
    from torch import Tensor

    from rgtg.guidance.rows import Rows

PICKS = ("sample", "greedy")


class TokenRule(GuidanceMethod):
    """Chooses among the candidates of one step by a score; what every token rule shares."""

    rescores: ClassVar[bool] = True
    pick: str = "sample"

    def generate(self, rows: "Rows") -> Requests:
        while rows.active:
            rows.take((yield Propose(self.uses_reward)), self.rescore, self.pick == "greedy")
            rows.settle()

    def rescore(self, log_probs: "Tensor", rewards: "Tensor | None") -> "Tensor":
        """(k,) log probabilities, (k,) rewards -> (k,) scores, the sum of the rule's terms; leaves its input alone."""
        return reduce(add, self.terms(log_probs, rewards).values())


@dataclass(frozen=True)
class Base(TokenRule):
    """Sample from the base LM, without any reward.

    q(v) ~ p(v | prefix)^(1/T) on the candidates; with T = 0 the most probable token.
    """

    name: ClassVar[str] = "Base LM"


@dataclass(frozen=True)
class RewardShift(TokenRule):
    """Add the reward of each candidate, times a weight, to its log probability.

    score(v) = log p(v | prefix) + beta * r(prefix + v), as in ARGS (arXiv 2402.01694), where r was trained on complete
    responses, and PARGS (arXiv 2406.07780), where r was trained on partial ones; PARGS-G picks the highest score. In FaRMA
    (arXiv 2502.04517) r is a logit of a causal model, in GenARM (arXiv 2410.08193) the sum of log probabilities under one, so
    that one forward knows all of them; both papers let every token be a candidate, here `top_k` of the base LM are. With
    beta = 0 this is the base LM. ARGS samples here by default, not greedily as in its paper, so that its column
    shares its random numbers with the others.
    """

    name: ClassVar[str] = "Reward shift"
    uses_reward: ClassVar[bool] = True

    beta: float = field(default=1.0, metadata={"help": "Weight of the reward", "min": 0.0, "max": 20.0})
    pick: str = field(default="sample", metadata={"help": "Draw from the scores, or take the highest", "choices": PICKS})

    def __post_init__(self) -> None:
        check_ranges(self)
        check_choices(self)

    def terms(self, log_probs: Any, rewards: Any) -> dict[str, Any]:
        return {"log p": log_probs, "β·r": self.beta * rewards}
