"""Requests that a guidance method yields to the engine, and the answers it gets.

Knows nothing of models, caches, rows or the engine.
"""

from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # the list of methods is read to draw the page, before torch is loaded
    from torch import Tensor


@dataclass(frozen=True)
class Propose:
    """Request for the base LM's candidates of every active row, answered with a list of `Proposal`, one per row, None for a finished row.

    With `rewards` each candidate comes with its reward, with `entropy` each row with the entropy over the complete vocabulary.
    `only_if` says of a proposal whether its rewards are needed; the reward model is not asked about the others. `whole` proposes every token
    of the vocabulary, in the order of their ids, for a method that makes its own selection of them. With the number of a `guide` this language
    model proposes instead, every token: its rewards are in `components`, and the base LM makes no forward.
    """

    rewards: bool = False
    entropy: bool = False
    whole: bool = False
    guide: int | None = None
    only_if: "Callable[[Proposal], bool] | None" = None


@dataclass(frozen=True)
class Score:
    """Request for the reward of every row as it is now, by all guides or the one of that number, answered with a list of numbers, one per row."""

    guide: int | None = None


@dataclass(frozen=True)
class Read:
    """Request for the base LM to read the last `num_tokens` of every row, which another model wrote, in one forward: their drafts then have its log
    probabilities. Answered with None."""

    num_tokens: int


Requests = Generator[Propose | Score | Read, Any, None]


@dataclass
class Proposal:
    """Candidates for the next token of a row, the most probable first; of the whole vocabulary in the order of their ids.

    `log_probs` are in nats, normalised over the complete vocabulary; `rewards` are those of prefix + candidate, combined as the run says, and
    `components` those of each reward model by name; `entropy` is in nats.
    """

    ids: Sequence[int]
    log_probs: "Tensor"  # (k,)
    rewards: "Tensor | None" = None  # (k,)
    components: "dict[str, Sequence[float] | Tensor]" = field(default_factory=dict)
    entropy: float | None = None

    def subset(self, indexes: Sequence[int]) -> "Proposal":
        """The candidates at these indexes, in their order, with what is known of each."""
        rewards = None if self.rewards is None else self.rewards[list(indexes)]
        components: dict[str, Sequence[float] | Tensor] = {name: [float(values[i]) for i in indexes] for name, values in self.components.items()}
        return Proposal([self.ids[i] for i in indexes], self.log_probs[list(indexes)], rewards, components, self.entropy)
