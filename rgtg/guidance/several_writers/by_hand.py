"""Decoding by hand: a person chooses each token from the table of candidates.

Functions of rows. Knows nothing of models, caches, the engine or the screen.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, ClassVar

from rgtg.config import other, setting
from rgtg.errors import BadSettings
from rgtg.guidance.requests import Requests
from rgtg.guidance.rules import RewardShift

if TYPE_CHECKING:
    from rgtg.guidance.requests import Proposal
    from rgtg.guidance.rows import Rows


@dataclass(frozen=True)
class ByHand(RewardShift):
    """Choose each token yourself from the table of candidates with their rewards.

    Formula: the chosen tokens, then `ahead` further ones as suggestions, which PARGS writes: score(v) = log p(v | prefix) + β·r(prefix + v).
    Without a choice, with β = 0 and `ahead` as long as the answer, this is the base LM.
    Paper: none; the chosen tokens are stored as branches, the labels for partial sequences that PARGS (arXiv 2406.07780) is trained on.
    Cost: one forward of the base LM and one of the reward model per token, suggested ones included.
    Pitfall: the answer ends with a suggestion that nobody chose, unless its end was chosen; choices are token ids of one tokenizer.
    """

    name: ClassVar[str] = "By hand"

    choices: str = other("", "Ids of the chosen tokens, with commas between them; on the page tokens are chosen from the table")
    ahead: int = setting(1, "Suggested tokens behind the last choice: larger values show more of where it leads", 0, 1024)

    def __post_init__(self) -> None:
        super().__post_init__()
        _ = self.chosen_ids

    @property
    def chosen_ids(self) -> list[int]:
        """`choices` as token ids. Raises BadSettings."""
        words = self.choices.replace(",", " ").split()
        if wrong := next((word for word in words if not (word.isascii() and word.isdigit())), None):
            raise BadSettings("`choices` has to be token ids.", f"Found `{wrong:.40}`.", "Write them with commas: 12,7,301.", "choices")
        return list(map(int, words))

    def num_chosen(self, forced_ids: Sequence[int]) -> int:
        return len(forced_ids) or len(self.chosen_ids)

    def begun_again(self) -> "ByHand":
        return replace(self, choices="")

    def generate(self, rows: "Rows") -> Requests:
        chosen = [] if rows.run.forced_ids else self.chosen_ids
        while rows.active and rows.num_tokens() < self.num_chosen(rows.run.forced_ids) + self.ahead:
            proposal = self.narrowed((yield self.request)[0], rows)
            if (at := rows.num_tokens()) < len(chosen):
                scores = self.rescore(proposal.log_probs, proposal.rewards).tolist()
                rows.put(0, rows.draft(0, proposal, index_of(proposal, chosen[at], at), scores))
            else:
                rows.take([proposal], self.rescore, self.pick == "greedy")
            rows.settle()


def index_of(proposal: "Proposal", token_id: int, position: int) -> int:
    """Index of a chosen token among the candidates. Raises BadSettings."""
    if token_id not in proposal.ids:
        found = f"It is not among the {len(proposal.ids)} candidates of token {position + 1}."
        raise BadSettings(f"Token {token_id} cannot be chosen.", found, "Choose one from the table, or raise `top_k`.", "choices")
    return proposal.ids.index(token_id)
