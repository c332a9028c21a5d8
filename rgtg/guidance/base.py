"""What a guidance method is: a generator that yields where it needs a model, and nowhere else.

Knows nothing of models, caches, the engine or the screen.
"""

from collections.abc import Generator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar

if TYPE_CHECKING:  # the list of methods is read to draw the page, before torch is loaded
    from torch import Tensor

    from rgtg.guidance.rows import Rows


@dataclass(frozen=True)
class Propose:
    """The base LM's candidates for every active row; with `rewards` the guide's reward of each, with `entropy` that of the base LM's
    distribution over its whole vocabulary. Answered with a list of `Proposal`, a row each, None where a row is over."""

    rewards: bool = False
    entropy: bool = False


@dataclass(frozen=True)
class Score:
    """The guide's reward of every row as it stands. Answered with a list of numbers."""


Requests = Generator[Propose | Score, Any, None]


@dataclass
class Proposal:
    """What a row may go on with: its candidates, the most probable first.

    `log_probs` are in nats over the whole vocabulary; `rewards` are the guides' rewards of prefix + candidate, combined as the run
    says, `components` those of each guide by name; `entropy` is in nats.
    """

    ids: list[int]
    log_probs: "Tensor"  # (k,)
    rewards: "Tensor | None" = None  # (k,)
    components: dict[str, list[float]] = field(default_factory=dict)
    entropy: float | None = None


class GuidanceMethod:
    """What every method shares. Its docstring's first line is the text on screen, its fields are the sliders and flags."""

    name: ClassVar[str]
    uses_reward: ClassVar[bool] = False
    rescores: ClassVar[bool] = False  # whether each token is drawn from a distribution of the method's own, so that its KL is known

    @property
    def num_rows(self) -> int:
        """How many answers grow at once."""
        return 1

    def generate(self, rows: "Rows") -> Requests:
        """Write the answer: ask for what needs a model, call `rows` for the rest."""
        raise NotImplementedError

    def terms(self, log_probs: Any, rewards: Any) -> dict[str, Any]:
        """The named parts of a candidate's score, which is their sum: tensors (k,), or numbers."""
        return {"log p": log_probs}
