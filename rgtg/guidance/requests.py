"""What a guidance method asks of the models, and what it is answered.

Knows nothing of models, caches, rows or the engine.
"""

from collections.abc import Generator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # the list of methods is read to draw the page, before torch is loaded
    from torch import Tensor


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
