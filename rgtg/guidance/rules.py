"""Token rules: methods that score the candidates of one step and select the next token by that score.

Functions of log probabilities and rewards. Knows nothing of models, caches, the engine or the screen.
"""

import math
from dataclasses import dataclass, field
from functools import reduce
from operator import add
from typing import TYPE_CHECKING, Any, ClassVar

from rgtg.config import check_choices, check_ranges, choice, setting
from rgtg.guidance.base import BASELINE, BETA_HELP, TOKENS, GuidanceMethod
from rgtg.guidance.requests import Propose, Requests

if TYPE_CHECKING:
    from torch import Tensor

    from rgtg.guidance.requests import Proposal
    from rgtg.guidance.rows import Rows

PICKS = ("sample", "greedy")
CANDIDATES = ("topk", "all")
CANDIDATES_HELP = "The top k under the base LM, or of the score over all tokens: the latter for reward models that score all next tokens at once"


class TokenRule(GuidanceMethod):
    """Base class of the methods that select each token by a score of the candidates: greedily, or from softmax(score / T)."""

    group: ClassVar[str] = TOKENS
    rescores: ClassVar[bool] = True
    pick: str = "sample"
    candidates: str = "topk"

    @property
    def reads_vocabulary(self) -> bool:
        return self.candidates == "all"

    @property
    def request(self) -> Propose:
        """Request for each token."""
        return Propose(self.uses_reward, whole=self.reads_vocabulary)

    def generate(self, rows: "Rows") -> Requests:
        while rows.active:
            proposals = [proposal and self.narrowed(proposal, rows) for proposal in (yield self.request)]
            rows.take(proposals, self.rescore, self.pick == "greedy")
            rows.settle()

    def narrowed(self, proposal: "Proposal", rows: "Rows") -> "Proposal":
        """The candidates that remain once their rewards are known; of the whole vocabulary the top k of the score."""
        if not self.reads_vocabulary:
            return self.cut(proposal)
        from rgtg.guidance.proposals import best_of, possible

        proposal = self.cut(possible(proposal))
        return best_of(proposal, self.rescore(proposal.log_probs, proposal.rewards), rows.run.generation)

    def cut(self, proposal: "Proposal") -> "Proposal":
        """The candidates that a method's own condition leaves: all of them here."""
        return proposal

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
    group: ClassVar[str] = BASELINE


@dataclass(frozen=True)
class RewardShift(TokenRule):
    """Add β times the reward of each candidate to its log probability.

    Formula: score(v) = log p(v | prefix) + β·r(prefix + v) over the base LM's top-k candidates, or with `candidates=all` over the top k of this
    score among all tokens; q(v) ∝ exp(score(v) / T), or the highest score. β = 0 is the base LM.
    Paper: ARGS (arXiv 2402.01694; r trained on complete responses; greedy there, sampled here by default, so that all columns share
    their random numbers), PARGS and PARGS-G (arXiv 2406.07780; r trained on partial responses), FaRMA (arXiv 2502.04517; r is a logit
    of a causal LM), GenARM (arXiv 2410.08193; r is a sum of log probabilities), CD (arXiv 2310.17022; r predicts the final reward).
    Cost: one forward of the base LM and one of each reward model per token, for any number of candidates.
    Pitfall: a reward model trained on complete responses alone gives unreliable rewards of prefixes. With `candidates=all`, as in the papers of
    FaRMA and GenARM, an improbable token with a large reward can win; a scalar head scores single candidates and refuses it.
    """

    name: ClassVar[str] = "Reward shift"
    uses_reward: ClassVar[bool] = True

    beta: float = field(default=1.0, metadata={"help": BETA_HELP, "min": 0.0, "max": 20.0})
    pick: str = field(default="sample", metadata={"help": "Sample from the scores, or take the highest (greedy)", "choices": PICKS})
    candidates: str = choice("topk", CANDIDATES_HELP, CANDIDATES)

    def __post_init__(self) -> None:
        check_ranges(self)
        check_choices(self)

    def terms(self, log_probs: Any, rewards: Any) -> dict[str, Any]:
        return {"log p": log_probs, "β·r": self.beta * rewards}


@dataclass(frozen=True)
class Interpolation(TokenRule):
    """Interpolate between the log probabilities of the base LM and those of other language models.

    Formula: score(v) = (1 − β)·log p(v | prefix) + β·Σ_j w_j·log π_j(v | prefix) over the base LM's top-k candidates, or with `candidates=all`
    over the top k of this score. β = 0 is the base LM, β = 1 the mix of the others, β > 1 goes beyond it.
    Paper: DeRa (arXiv 2402.02992; one aligned model; β is its λ), MOD (arXiv 2406.18853; several models, β = 1).
    Cost: one forward of the base LM and one of each other model per token.
    Pitfall: exact for a single token at β = 0 and 1 only; elsewhere it approximates the model that training with KL coefficient 1/β would give.
    """

    name: ClassVar[str] = "Interpolation"
    uses_reward: ClassVar[bool] = True

    beta: float = field(default=1.0, metadata={"help": "β, from the base LM (0) to the other models (1) and beyond", "min": 0.0, "max": 20.0})
    pick: str = field(default="sample", metadata={"help": "Sample from the scores, or take the highest (greedy)", "choices": PICKS})
    candidates: str = choice("topk", CANDIDATES_HELP, CANDIDATES)

    def __post_init__(self) -> None:
        check_ranges(self)
        check_choices(self)

    def terms(self, log_probs: Any, rewards: Any) -> dict[str, Any]:
        return {"(1 − β)·log p": (1 - self.beta) * log_probs, "β·log π": self.beta * rewards}


@dataclass(frozen=True)
class RAD(TokenRule):
    """Add a reward clipped to [0, 1], times a large weight, to the log probability of each candidate.

    Formula: score(v) = log p(v | prefix) + β·clip(r(prefix + v), 0, 1), with `inverse` 1 − clip(…). β = 0 is the base LM.
    Paper: RAD (arXiv 2310.09520), whose reward model is trained by regression on labels in [0, 1] at every prefix.
    Cost: per token one forward of the base LM and one of the reward model, whatever k is.
    Pitfall: rewards outside [0, 1] are all alike, so a Bradley–Terry model guides only where its reward is small.
    """

    name: ClassVar[str] = "RAD"
    uses_reward: ClassVar[bool] = True

    beta: float = setting(
        10.0, "β, the weight of the reward clipped to 0…1, so larger than elsewhere (10 to 50 in the paper): larger values follow it more closely",
        0.0, 200.0, "× clip(r)",
    )  # fmt: skip
    inverse: str = choice("no", "Whether low rewards are wanted, as for toxicity", ("no", "yes"))
    pick: str = choice("sample", "Sample from the scores, or take the highest (greedy)", PICKS)
    candidates: str = choice("topk", CANDIDATES_HELP, CANDIDATES)

    def __post_init__(self) -> None:
        check_ranges(self)
        check_choices(self)

    def terms(self, log_probs: Any, rewards: Any) -> dict[str, Any]:
        clipped = rewards.clamp(0, 1) if hasattr(rewards, "clamp") else min(max(rewards, 0.0), 1.0)
        return {"log p": log_probs, "β·clip(r)": self.beta * (1 - clipped if self.inverse == "yes" else clipped)}


@dataclass(frozen=True)
class FUDGE(TokenRule):
    """Multiply the probability of each candidate by the probability that the text will have the wanted attribute.

    Formula: score(v) = log p(v | prefix) + λ·log σ(c(prefix + v)); λ = 1 is Bayes' rule for p(v | prefix, attribute), λ = 0 the base LM.
    With `keep` only the highest scores stay.
    Paper: FUDGE (arXiv 2104.05218), whose classifier c is trained at every prefix on the label of the complete text.
    Cost: per token one forward of the base LM and one of the reward model, whatever k is.
    Pitfall: log σ saturates, so candidates that are all good are no longer told apart.
    """

    name: ClassVar[str] = "FUDGE"
    uses_reward: ClassVar[bool] = True

    weighs: ClassVar[str] = "weight"

    weight: float = setting(
        1.0, "λ, the weight of the log probability of the attribute, log σ(r); 1 is Bayes' rule: larger values insist on it more",
        0.0, 20.0, "× log σ(r)",
    )  # fmt: skip
    keep: int = setting(0, "Candidates that stay after mixing, the highest scores; 0 keeps all", 0, 200)
    pick: str = choice("sample", "Sample from the scores, or take the highest (greedy)", PICKS)
    candidates: str = choice("topk", CANDIDATES_HELP, CANDIDATES)

    def __post_init__(self) -> None:
        check_ranges(self)
        check_choices(self)

    def terms(self, log_probs: Any, rewards: Any) -> dict[str, Any]:
        return {"log p": log_probs, "λ·log σ(c)": self.weight * log_sigmoid(rewards)}

    def cut(self, proposal: "Proposal") -> "Proposal":
        if not 0 < self.keep < len(proposal.ids):
            return proposal
        scores = self.rescore(proposal.log_probs, proposal.rewards).tolist()
        return proposal.subset(sorted(sorted(range(len(scores)), key=lambda i: (-scores[i], i))[: self.keep]))


@dataclass(frozen=True)
class Sparse(RewardShift):
    """Add the reward only where the base LM is unsure; elsewhere the base LM writes alone.

    Formula: where the entropy of p(· | prefix) over the complete vocabulary reaches h, score(v) = log p(v | prefix) + β·r(prefix + v), else
    score(v) = log p(v | prefix). β = 0 is the base LM, h = 0 is PARGS.
    Paper: SIA (arXiv 2602.21215), which guides 20 to 80 % of the tokens.
    Cost: per token one forward of the base LM, per guided token one of the reward model, which reads the skipped tokens in it too.
    Pitfall: a base LM that is confidently wrong is never corrected.
    """

    name: ClassVar[str] = "Sparse guidance"
    skips: ClassVar[bool] = True

    entropy: float = setting(2.0, "Guide where the base LM's entropy reaches this, in nats; larger values guide less", 0.0, 100.0)

    @property
    def request(self) -> Propose:
        return Propose(True, entropy=True, only_if=self.is_unsure, whole=self.reads_vocabulary)

    def is_unsure(self, proposal: "Proposal") -> bool:
        """Whether the reward model is asked about these candidates."""
        assert proposal.entropy is not None
        return proposal.entropy >= self.entropy

    def terms(self, log_probs: Any, rewards: Any) -> dict[str, Any]:
        return {"log p": log_probs} if rewards is None else super().terms(log_probs, rewards)


def log_sigmoid(value: Any) -> Any:
    """log σ of a tensor or a number, without overflow.

    >>> log_sigmoid(0.0), log_sigmoid(-1000.0)
    (-0.6931471805599453, -1000.0)
    """
    if hasattr(value, "sigmoid"):
        from torch.nn.functional import logsigmoid

        return logsigmoid(value)
    return min(value, 0.0) - math.log1p(math.exp(-abs(value)))
