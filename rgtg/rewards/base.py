"""What every kind of reward model shares: a name, a context, whether it may guide, and rewards of growing prefixes.

Knows nothing of methods, text or the screen.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence

from torch import Tensor

from rgtg.models.loading import HasWeights
from rgtg.models.prefix import ModelPrefixes


class RewardPrefixes(ModelPrefixes, ABC):
    """Growing prefixes under a reward model, one row a response. The law: `score` of a candidate is `rewards` once it is appended."""

    @abstractmethod
    def rewards(self) -> Tensor:
        """(rows,) float32: reward of each prefix as it stands."""

    @abstractmethod
    def score(self, candidate_ids: Sequence[Sequence[int]]) -> Tensor:
        """(rows, k) ids -> (rows, k) float32: reward of prefix + candidate; of no meaning in rows that have finished."""

    @abstractmethod
    def fork(self, rows: Sequence[int]) -> "RewardPrefixes":
        """New prefixes whose row i is a copy of our row `rows[i]`."""


class RewardModel(HasWeights, ABC):
    """A model that says a reward of every prefix of a response."""

    @property
    def guides(self) -> bool:
        """A judge only observes."""
        return self.loaded.card is None or self.loaded.card.kind != "judge"

    @property
    @abstractmethod
    def cost(self) -> str:
        """What a guided token costs, for the screen."""

    @abstractmethod
    def start(self, texts: Sequence[Sequence[int]], reserve: int = 64, prompt_lengths: Sequence[int] | None = None) -> RewardPrefixes:
        """Growing prefixes from ids, one row each. The first `prompt_lengths` of them are prompt, all unless given; `reserve`: tokens
        expected to come."""

    @abstractmethod
    def along(self, prompt_ids: Sequence[int], responses: Sequence[Sequence[int]]) -> list[list[float]]:
        """The reward of every prefix of each response, from one forward: entry t after t + 1 response tokens."""
