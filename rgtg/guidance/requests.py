"""What a guidance method asks of the models, and what it is answered.

Knows nothing of models, caches, rows or the engine.
"""

from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # the list of methods is read to draw the page, before torch is loaded
    from torch import Tensor


@dataclass(frozen=True)
class Propose:
    """The base LM's candidates for every active row; with `rewards` the guide's reward of each, with `entropy` that of the base LM's
    distribution over its whole vocabulary. `only_if` says of a proposal whether its rewards are wanted; the guide is not asked for the
    others. Answered with a list of `Proposal`, one per row, None where a row is complete."""

    rewards: bool = False
    entropy: bool = False
    only_if: "Callable[[Proposal], bool] | None" = None


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

    def subset(self, indexes: Sequence[int]) -> "Proposal":
        """The candidates at these indexes, in their order, with what is known of each."""
        rewards = None if self.rewards is None else self.rewards[list(indexes)]
        components = {name: [values[i] for i in indexes] for name, values in self.components.items()}
        return Proposal([self.ids[i] for i in indexes], self.log_probs[list(indexes)], rewards, components, self.entropy)
