"""The guidance methods, each as in its paper: a frozen dataclass whose fields are the sliders and flags.

Functions of log probabilities and rewards. Knows nothing of models, caches, the engine or the screen.
"""

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar

from rgtg.config import check_ranges
from rgtg.errors import BadSettings

if TYPE_CHECKING:  # the list of methods is read to draw the page, before torch is loaded
    from torch import Tensor

PICKS = ("sample", "greedy")


class TokenRule:
    """Chooses among the candidates of one step by a score; what every token rule shares."""

    uses_reward: ClassVar[bool] = False
    num_rows: ClassVar[int] = 1

    def rescore(self, log_probs: "Tensor", rewards: "Tensor | None") -> "Tensor":
        """(k,) log probabilities, (k,) rewards -> (k,) scores; leaves its input alone."""
        raise NotImplementedError

    def pick_index(self, scores: "Tensor", temperature: float, seed: int, step: int, token_ids: "Tensor") -> int:
        """Gumbel-max over scores / temperature; temperature 0 or a greedy pick takes the highest, ties the lowest id."""
        from rgtg.guidance.noise import gumbel

        if temperature == 0 or getattr(self, "pick", "sample") == "greedy":
            values, ids = scores.tolist(), token_ids.tolist()
            highest = max(values)
            return min((i for i, v in enumerate(values) if v == highest), key=ids.__getitem__)
        return int((scores.double() / temperature + gumbel(seed, step, token_ids)).argmax())


@dataclass(frozen=True)
class Base(TokenRule):
    """Sample from the base LM, without any reward.

    q(v) ~ p(v | prefix)^(1/T) on the candidates; with T = 0 the most probable token.
    """

    name: ClassVar[str] = "Base LM"

    def rescore(self, log_probs: "Tensor", rewards: "Tensor | None") -> "Tensor":
        return log_probs


@dataclass(frozen=True)
class RewardShift(TokenRule):
    """Add the reward of each candidate, times a weight, to its log probability.

    score(v) = log p(v | prefix) + beta * r(prefix + v), as in ARGS (arXiv 2402.01694), where r was trained on complete
    responses, and PARGS (arXiv 2406.07780), where r was trained on partial ones; PARGS-G picks the highest score. In FaRMA
    (arXiv 2502.04517) r is a logit of a causal model, in GenARM (arXiv 2410.08193) the sum of log probabilities under one, so
    that one forward knows all of them; both papers let every token be a candidate, here `top_k` of the base LM are. With
    beta = 0 this is the base LM. ARGS samples here by default, not greedily as in its paper, so that its column
    shares its luck with the others.
    """

    name: ClassVar[str] = "Reward shift"
    uses_reward: ClassVar[bool] = True

    beta: float = field(default=1.0, metadata={"help": "Weight of the reward", "min": 0.0, "max": 20.0})
    pick: str = field(default="sample", metadata={"help": "Draw from the scores, or take the highest", "choices": PICKS})

    def __post_init__(self):
        check_ranges(self)
        if self.pick not in PICKS:
            raise BadSettings(f"`pick` has to be one of {', '.join(PICKS)}.", f"Found `{self.pick}`.")

    def rescore(self, log_probs: "Tensor", rewards: "Tensor | None") -> "Tensor":
        return log_probs + self.beta * rewards


@dataclass(frozen=True)
class BestOfN:
    """Draw n complete answers from the base LM and keep the one with the highest reward.

    argmax over j of r(y_j); its KL to the base is at most log n - (n - 1) / n. The first answer has the run's own seed,
    so n = 1 is the base LM.
    """

    name: ClassVar[str] = "Best-of-n"
    uses_reward: ClassVar[bool] = True

    n: int = field(default=4, metadata={"help": "Answers to draw", "min": 1, "max": 64})

    def __post_init__(self):
        check_ranges(self)

    @property
    def num_rows(self) -> int:
        return self.n

    def choose(self, rewards: list[float]) -> int:
        """Index of the highest reward; ties go to the first."""
        return max(range(len(rewards)), key=lambda i: (rewards[i], -i))
