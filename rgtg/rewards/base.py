"""What every kind of reward model shares: a name, a context, whether it may guide, and rewards of growing prefixes.

Knows nothing of methods, text or the screen.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from rgtg.errors import BadReward
from rgtg.models.loading import HasWeights
from rgtg.models.prefixes.growing import GrowingRows


class Said(NamedTuple):
    """What a reward model says of one slot: the reward of every prefix that was new to it, the oldest first, of the prefix as it
    stands, and of the prefix followed by each candidate."""

    new: Sequence[float]
    reward: float
    candidates: Sequence[float]


def not_finite(name: str, where: str) -> BadReward:
    """The error of a reward model whose reward is NaN or infinite; `where` is "at token 3"."""
    do = "Choose another reward model; this one may be damaged."
    return BadReward(f"Reward model `{name}` returned a reward that is not a number.", f"Found NaN or infinity {where}.", do)


class RewardPrefixes(ABC):
    """Growing responses under a reward model, one slot each. The law: the reward of a candidate is that of the prefix once it is
    appended, and both are what plain encoding gives."""

    @property
    @abstractmethod
    def num_forwards(self) -> int:
        """Forwards of the model until now."""

    @abstractmethod
    def append(self, slot: int, token_id: int) -> None:
        """One more token of the response."""

    @abstractmethod
    def copy(self, sources: Sequence[int], targets: Sequence[int]) -> None:
        """Slot `targets[i]` becomes what slot `sources[i]` is before the call."""

    @abstractmethod
    def truncate(self, slot: int, num_tokens: int) -> None:
        """Forget the response beyond its first tokens."""

    def in_parts(self, asks: Mapping[int, Sequence[int]]) -> list[Mapping[int, Sequence[int]]]:
        """What is asked, cut by slots where it is much at once: between two forwards of a moderate size one can stop."""
        return [asks]

    @abstractmethod
    def forward(self, asks: Mapping[int, Sequence[int]]) -> dict[int, Said]:
        """Candidates by slot -> what is said of each slot; without candidates of the response as it stands. No forward is made
        where nothing is new."""

    @property
    def kept(self) -> Sequence[GrowingRows]:
        """What each of its networks keeps of the texts, which a spot check reads again. A kind that keeps nothing has nothing to check."""
        return ()

    def distrust(self) -> None:  # noqa: B027
        """From here on without a cache; what was said until now is forgotten and read again."""


class OwnEnd(RewardPrefixes):
    """Growing responses of a writer that ends them in another way than the model that reads them: `end_ids` says what it reads instead."""

    def __init__(self, batch: RewardPrefixes, end_ids: Mapping[int, int]):
        self._batch, self._end_ids = batch, end_ids

    @property
    def num_forwards(self) -> int:
        return self._batch.num_forwards

    @property
    def kept(self) -> Sequence[GrowingRows]:
        return self._batch.kept

    def append(self, slot: int, token_id: int) -> None:
        self._batch.append(slot, self._end_ids.get(token_id, token_id))

    def forward(self, asks: Mapping[int, Sequence[int]]) -> dict[int, Said]:
        return self._batch.forward({slot: [self._end_ids.get(token_id, token_id) for token_id in ids] for slot, ids in asks.items()})

    def copy(self, sources: Sequence[int], targets: Sequence[int]) -> None:
        self._batch.copy(sources, targets)

    def truncate(self, slot: int, num_tokens: int) -> None:
        self._batch.truncate(slot, num_tokens)

    def in_parts(self, asks: Mapping[int, Sequence[int]]) -> list[Mapping[int, Sequence[int]]]:
        return self._batch.in_parts(asks)

    def distrust(self) -> None:
        self._batch.distrust()


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
    def start(self, prompts: Sequence[Sequence[int]], responses: Sequence[Sequence[int]] | None = None, reserve: int = 64) -> RewardPrefixes:
        """Growing responses behind prompt ids, one slot each, with what is there of them already. `reserve`: tokens expected."""

    @abstractmethod
    def along(self, prompt_ids: Sequence[int], responses: Sequence[Sequence[int]]) -> list[list[float]]:
        """The reward of every prefix of each response, from one forward: entry t after t + 1 response tokens."""
