"""Reward-guided speculative decoding: a draft model writes, and the base LM takes over where the reward is low.

Functions of rows. Knows nothing of models, caches, the engine or the screen.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from rgtg.config import check_ranges, setting
from rgtg.guidance.base import SEGMENTS, GuidanceMethod
from rgtg.guidance.requests import Propose, Read, Requests, Score

if TYPE_CHECKING:
    from rgtg.guidance.requests import Proposal
    from rgtg.guidance.rows import Rows

REWARD, DRAFT = 0, 1  # the places of its two models among the guides


@dataclass(frozen=True)
class RSD(GuidanceMethod):
    """Let a draft model write a segment, keep it if its reward reaches a threshold, and let the base LM write it otherwise.

    Formula: a segment of `segment` tokens from the draft model is kept if r(prefix + segment) ≥ δ; else one from the base LM, which is not
    tested, takes its place. With δ above every reward this is the base LM.
    Paper: reward-guided speculative decoding, RSD (arXiv 2501.19324; δ = 0.7 of a process reward in [0, 1], a step at a time).
    Cost: per token one forward of the draft model and per segment one of the reward model; of the base LM one per segment that is kept, which it
    reads in one piece, and one per token of a segment that is not.
    Pitfall: δ is on the scale of the reward model, and the draft's segments are as good as that model judges unfinished sentences.
    """

    name: ClassVar[str] = "RSD"
    group: ClassVar[str] = SEGMENTS
    uses_reward: ClassVar[bool] = True
    lost: ClassVar[str] = "its reward was below the threshold"

    threshold: float = setting(
        2.0, "δ, the reward from which a segment of the draft model is kept: larger values let the base LM write more", -1e6, 1e6
    )
    segment: int = setting(4, "Length of a segment, in tokens: larger values ask the reward model less often", 1, 1024)

    def __post_init__(self) -> None:
        check_ranges(self)

    @property
    def tries_a_token(self) -> int:
        return 2

    def generate(self, rows: "Rows") -> Requests:
        if rows.active and rows.run.forced_ids:
            yield from self._begin_branch(rows)
        while rows.active:
            start = rows.num_settled
            try:
                yield from self._draft(rows, start)
                (reward,) = yield Score(guide=REWARD)
                if reward >= self.threshold:
                    yield Read(len(rows.drafts[0]) - start)
            except GeneratorExit:
                rows.truncate(start)  # stopped: what the base LM has not read is not shown
                raise
            if reward < self.threshold:
                rows.give_up(rows.drafts[0][start:], reward, self.threshold)
                rows.truncate(start)
                while rows.active and len(rows.drafts[0]) < start + self.segment:
                    rows.take((yield Propose()))
            rows.settle()

    def _begin_branch(self, rows: "Rows") -> Requests:
        """Take the token that a person chose, from the candidates of the base LM or, where it is not among them, of the draft model."""
        (proposal,) = yield Propose()
        if rows.run.forced_ids[-1] not in proposal.ids:
            (of_draft,) = yield Propose(guide=DRAFT)
            rows.take([self._of_draft(of_draft, rows)])
            yield Read(1)
        else:
            rows.take([proposal])
        rows.settle()

    def _draft(self, rows: "Rows", start: int) -> Requests:
        """Let the draft model write a segment, with random numbers of its own."""
        rows.attempt = 1
        while rows.active and len(rows.drafts[0]) < start + self.segment:
            (proposal,) = yield Propose(guide=DRAFT)
            rows.take([self._of_draft(proposal, rows)])
        rows.attempt = 0

    @staticmethod
    def _of_draft(proposal: "Proposal", rows: "Rows") -> "Proposal":
        import torch

        from rgtg.guidance.proposals import best_of

        (sums,) = proposal.components.values()
        proposal.log_probs, proposal.rewards = torch.as_tensor(sums).log_softmax(0), None  # what the prefix adds to each falls out
        return best_of(proposal, proposal.log_probs, rows.run.generation)
