"""Token rules that compare what two language models say of a token, over the tokens that one of them finds plausible.

Functions of log probabilities. Knows nothing of models, caches, the engine or the screen.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from rgtg.config import choice, other, setting
from rgtg.guidance.requests import Propose, Requests
from rgtg.guidance.rules import CANDIDATES, CANDIDATES_HELP, PICKS, Interpolation, RewardShift

if TYPE_CHECKING:
    from rgtg.guidance.requests import Proposal
    from rgtg.guidance.rows import Rows


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


@dataclass(frozen=True)
class ContrastivePrompt(Contrast):
    """Add β times how much likelier each candidate is behind one instruction than behind another, both read by the base LM itself.

    Formula: score(v) = log p(v | prefix) + β·(log p(v | x⁺, prefix) − log p(v | x⁻, prefix)) over the candidates with p(v) ≥ α·max p; x⁺ is the text
    `positive`, x⁻ the text `negative`, each in front of the prompt. β = 0, α = 0 is the base LM; so are two equal texts.
    Paper: contrastive prompts as token rewards in T-REG (arXiv 2412.02685, in training); nothing is trained.
    Cost: per token one forward of the base LM over three rows: the prompt alone and behind each text.
    Pitfall: everything in which the two texts differ is rewarded, so change the wanted property alone; the effect depends on the wording.
    """

    name: ClassVar[str] = "Contrastive prompt"
    uses_reward: ClassVar[bool] = False
    measure: ClassVar[str] = "contrast"

    positive: str = other("i loved it .", "x⁺, a text in front of the prompt whose next tokens are wanted")
    negative: str = other("i hated it .", "x⁻, a text in front of the prompt whose next tokens are not wanted")

    @property
    def num_rows(self) -> int:
        return 3

    def prompts(self, prompt: str) -> tuple[str, ...]:
        return tuple(f"{text} {prompt}" if text else prompt for text in (self.positive, self.negative))

    def generate(self, rows: "Rows") -> Requests:
        rows.spread()
        while rows.active:
            proposal, wanted, unwanted = yield Propose(whole=True)
            proposal.rewards = wanted.log_probs - unwanted.log_probs
            proposal.components = {self.measure: proposal.rewards}
            rows.take([self.narrowed(proposal, rows)], self.rescore, self.pick == "greedy")
            for row in range(1, self.num_rows):
                rows.put(row, rows.drafts[0][-1])
            rows.settle()

    def narrowed(self, proposal: "Proposal", rows: "Rows") -> "Proposal":
        from rgtg.guidance.proposals import best_of

        if self.reads_vocabulary:
            return super().narrowed(proposal, rows)
        return self.cut(best_of(proposal, proposal.log_probs, rows.run.generation))
