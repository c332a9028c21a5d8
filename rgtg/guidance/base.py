"""What a guidance method is: a generator that yields where it needs a model, and nowhere else.

Knows nothing of models, caches, the engine or the screen.
"""

from typing import TYPE_CHECKING, Any, ClassVar

from rgtg.guidance.requests import Requests

if TYPE_CHECKING:
    from rgtg.guidance.rows import Rows


class GuidanceMethod:
    """What every method shares. Its docstring's first line is the text on screen, its fields are the sliders and flags."""

    name: ClassVar[str]
    uses_reward: ClassVar[bool] = False
    skips: ClassVar[bool] = False  # whether some tokens are drawn without asking the guide
    rescores: ClassVar[bool] = False  # whether each token is drawn from a distribution of the method's own, so that its KL is known

    @property
    def num_rows(self) -> int:
        """How many answers grow at once."""
        return 1

    @property
    def scores_candidates(self) -> bool:
        """Whether the guide values every candidate of every token, not only what was written."""
        return self.uses_reward and self.rescores

    @property
    def tries_a_token(self) -> int:
        """How many tokens are drawn for one that stays, at most."""
        return 1

    def generate(self, rows: "Rows") -> Requests:
        """Write the answer: ask for what needs a model, call `rows` for the rest."""
        raise NotImplementedError

    def terms(self, log_probs: Any, rewards: Any) -> dict[str, Any]:
        """The named parts of a candidate's score, which is their sum: tensors (k,), or numbers."""
        return {"log p": log_probs}
