"""Token rules that compare what two language models say of a token, over the tokens that one of them finds plausible.

Functions of log probabilities. Knows nothing of models, caches, the engine or the screen.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from rgtg.config import choice, setting
from rgtg.guidance.rules import CANDIDATES, CANDIDATES_HELP, PICKS, Interpolation, RewardShift

if TYPE_CHECKING:
    from rgtg.guidance.requests import Proposal


@dataclass(frozen=True)
class Contrast(RewardShift):
    """Add β times the log-ratio of two other language models to the log probability of each plausible candidate.

    Formula: score(v) = log p(v | prefix) + β·(log π₁(v | prefix) − log π₂(v | prefix)) over the candidates with p(v) ≥ α·max p, α being
    `plausibility`. β = 0, α = 0 is the base LM.
    Paper: DExperts (arXiv 2105.03023), proxy-tuning (arXiv 2401.08565), emulated fine-tuning (arXiv 2310.12962), the implicit reward of DPO
    (arXiv 2305.18290); the plausibility of contrastive decoding (arXiv 2210.15097, α = 0.1).
    Cost: one forward of the base LM and one of each other model per token.
    Pitfall: a log-ratio of two small probabilities means little and may be large; a plausibility above 0 keeps such tokens out.
    """

    name: ClassVar[str] = "Contrast"

    plausibility: float = setting(0.0, "α, the share of the highest probability that a candidate needs; 0 keeps all, larger values fewer", 0.0, 1.0)

    def cut(self, proposal: "Proposal") -> "Proposal":
        from rgtg.guidance.proposals import plausible

        return plausible(proposal, proposal.log_probs, self.plausibility)


@dataclass(frozen=True)
class AlignmentAware(Interpolation):
    """Select by the log-ratio of a tuned model to its reference alone, over the tokens that the tuned model finds plausible.

    Formula: score(v) = (1 − β)·log p(v | prefix) + β·(log π(v | prefix) − log π_ref(v | prefix)) over the tokens with π(v) ≥ α·max π, α being
    `plausibility`; β = 1 is the paper's rule, β = 0, α = 0 the base LM.
    Paper: alignment-aware decoding (arXiv 2509.26169; greedy, over the complete vocabulary).
    Cost: one forward of the base LM, one of the tuned model and one of its reference per token.
    Pitfall: the base LM has no say at β = 1, so α alone keeps the text fluent: at 0 the largest log-ratio of any token wins.
    """

    name: ClassVar[str] = "Alignment-aware decoding"

    beta: float = setting(1.0, "β, from the base LM (0) to the log-ratio alone (1) and beyond", 0.0, 20.0)
    pick: str = choice("greedy", "Sample from the scores, or take the highest (greedy)", PICKS)
    candidates: str = choice("all", CANDIDATES_HELP, CANDIDATES)
    plausibility: float = setting(
        0.1, "α, the share of the tuned model's highest probability that a token needs: larger values stay closer to it", 0.0, 1.0
    )

    def terms(self, log_probs: Any, rewards: Any) -> dict[str, Any]:
        return {"(1 − β)·log p": (1 - self.beta) * log_probs, "β·log(π / π_ref)": self.beta * rewards}

    def cut(self, proposal: "Proposal") -> "Proposal":
        import torch

        from rgtg.guidance.proposals import plausible

        tuned = next(iter(proposal.components.values()))  # the log probability of the prefix is in all of them
        return plausible(proposal, torch.as_tensor(tuned), self.plausibility)
