"""Nudging: two language models take turns.

Functions of log probabilities. Knows nothing of models, caches, the engine or the screen.
"""

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from rgtg.config import check_choices, check_ranges, choice, setting
from rgtg.guidance.requests import Propose
from rgtg.guidance.rules import CANDIDATES, PICKS, TokenRule

if TYPE_CHECKING:
    from rgtg.guidance.requests import Proposal


@dataclass(frozen=True)
class Nudging(TokenRule):
    """Let a small tuned language model write the tokens of which the base LM is unsure; elsewhere the base LM writes alone.

    Formula: where max p(· | prefix) < γ, score(v) = log π(v | prefix), else score(v) = log p(v | prefix). γ = 0 is the base LM, γ > 1 the tuned
    model; the candidates are the top k of whoever writes.
    Paper: nudging (arXiv 2410.09300, γ of 0.3 to 0.4, there for complete words).
    Cost: per token one forward of the base LM, per token of the tuned model one of it, which reads the base LM's tokens in it too.
    Pitfall: what is sure depends on the base LM and on the tokenizer: a base LM that is never sure hands over its whole answer.
    """

    name: ClassVar[str] = "Nudging"
    uses_reward: ClassVar[bool] = True
    skips: ClassVar[bool] = True

    threshold: float = setting(
        0.4, "γ: the tuned model writes where the base LM's most probable token has less; larger values nudge more often", 0.0, 1.01
    )
    pick: str = choice("sample", "Sample from the scores, or take the highest (greedy)", PICKS)
    candidates: str = choice("all", "The top k of whoever writes, or always those of the base LM", CANDIDATES)

    def __post_init__(self) -> None:
        check_ranges(self)
        check_choices(self)

    @property
    def request(self) -> Propose:
        return Propose(True, only_if=self.is_unsure, whole=self.reads_vocabulary)

    def is_unsure(self, proposal: "Proposal") -> bool:
        """Whether the tuned model writes the token."""
        return math.exp(float(proposal.log_probs.max())) < self.threshold

    def terms(self, log_probs: Any, rewards: Any) -> dict[str, Any]:
        return {"log p": log_probs} if rewards is None else {"log π": rewards}
