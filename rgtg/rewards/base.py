"""The interface of reward models: rewards of complete responses and of growing prefixes.

Knows nothing of methods, text or the screen.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

from rgtg.errors import BadReward, BadSettings, ModelRefused
from rgtg.models.loading import HasWeights
from rgtg.models.prefixes.growing import GrowingRows

if TYPE_CHECKING:
    from torch import Tensor


class SlotRewards(NamedTuple):
    """Rewards of one slot: `new` of every prefix not scored before (the shortest first), `reward` of the current prefix, `candidates` of the
    current prefix followed by each candidate: a tensor on the CPU where every token of the vocabulary was asked for."""

    new: Sequence[float]
    reward: float
    candidates: "Sequence[float] | Tensor"


def not_finite(name: str, where: str) -> BadReward:
    """BadReward for a reward that is NaN or infinite; `where` is e.g. "at token 3"."""
    do = "Choose another reward model; the weights of this one may be damaged."
    return BadReward(f"Reward model `{name}` returned a reward that is not finite.", f"Found NaN or infinity {where}.", do)


class RewardPrefixes(ABC):
    """Growing responses scored by a reward model, one slot each.

    Invariant: the reward of a candidate equals that of the prefix once it is appended, and both equal those of a forward without a cache.
    """

    @property
    @abstractmethod
    def num_forwards(self) -> int:
        """Number of forwards of the model so far."""

    @abstractmethod
    def append(self, slot: int, token_id: int) -> None:
        """Append one token to the response of a slot."""

    @abstractmethod
    def copy(self, sources: Sequence[int], targets: Sequence[int]) -> None:
        """Replace each slot `targets[i]` by a copy of slot `sources[i]` as it was before the call."""

    @abstractmethod
    def truncate(self, slot: int, num_tokens: int) -> None:
        """Cut the response of a slot to its first `num_tokens` tokens."""

    def in_parts(self, asks: Mapping[int, Sequence[int]]) -> list[Mapping[int, Sequence[int]]]:
        """`asks` split by slots into forwards of moderate size, so that generation can stop between two of them."""
        return [asks]

    @abstractmethod
    def forward(self, asks: Mapping[int, Sequence[int]]) -> dict[int, SlotRewards]:
        """Rewards of each slot in `asks` (slot -> candidate ids, () for the current prefix alone). Slots with nothing new cost no forward.

        Of a kind that `scores_vocabulary` the candidates may be `range(n)`: the first n tokens of the vocabulary.
        """

    @property
    def caches(self) -> Sequence[GrowingRows]:
        """Cached prefixes of each of its networks, for the spot check; () for a kind without a cache."""
        return ()

    def disable_cache(self) -> None:  # noqa: B027
        """Disable the cache from here on; rewards so far are discarded and computed again."""


class TranslatedEnd(RewardPrefixes):
    """Growing responses of a base LM whose end token differs from that of the reward model: `end_ids` maps the former to the latter."""

    def __init__(self, batch: RewardPrefixes, end_ids: Mapping[int, int]):
        self._batch, self._end_ids = batch, end_ids

    @property
    def num_forwards(self) -> int:
        return self._batch.num_forwards

    @property
    def caches(self) -> Sequence[GrowingRows]:
        return self._batch.caches

    def append(self, slot: int, token_id: int) -> None:
        self._batch.append(slot, self._end_ids.get(token_id, token_id))

    def forward(self, asks: Mapping[int, Sequence[int]]) -> dict[int, SlotRewards]:
        return self._batch.forward({slot: [self._end_ids.get(token_id, token_id) for token_id in ids] for slot, ids in asks.items()})

    def copy(self, sources: Sequence[int], targets: Sequence[int]) -> None:
        self._batch.copy(sources, targets)

    def truncate(self, slot: int, num_tokens: int) -> None:
        self._batch.truncate(slot, num_tokens)

    def in_parts(self, asks: Mapping[int, Sequence[int]]) -> list[Mapping[int, Sequence[int]]]:
        return self._batch.in_parts(asks)

    def disable_cache(self) -> None:
        self._batch.disable_cache()


def check_guides(guides: Sequence[tuple["RewardModel", float]], language_models: Sequence[bool], vocabulary: bool = False) -> None:
    """Raise ModelRefused or BadSettings unless these may guide together. Of `language_models`, one for each role (the last for all further
    guides), the method reads log probabilities; with `vocabulary` the rewards of all next tokens."""
    for i, (guide, weight) in enumerate(guides):
        if not guide.guides:
            raise ModelRefused(f"`{guide.name}` is a judge: it observes and never guides.", do="Choose another reward model.")
        if language_models and language_models[min(i, len(language_models) - 1)] and not guide.has_log_probs:
            do = "Choose a base LM or an autoregressive reward model."
            raise ModelRefused(f"`{guide.name}` has no log probabilities, which this method needs.", "Its rewards are of another kind.", do)
        if vocabulary and not guide.scores_vocabulary:
            do = "Leave `candidates` at `topk`, or choose a vocabulary, autoregressive or implicit reward model."
            raise ModelRefused(
                f"`candidates=all` needs the rewards of all next tokens, and `{guide.name}` scores one at a time.", f"It is {guide.cost}.", do
            )
        if not math.isfinite(weight):
            raise BadSettings(f"The weight of `{guide.name}` has to be a number.", f"Found {weight}.")
    names = [guide.name for guide, _ in guides]
    if len(set(names)) < len(names):
        raise BadSettings("A mix names each reward model once.", f"Found {', '.join(names)}.")


class RewardModel(HasWeights, ABC):
    """A model that gives a reward to every prefix of a response.

    The first line of a kind's docstring says what it is; the lines after it name formula, paper, cost and pitfall.
    """

    @property
    def guides(self) -> bool:
        """Whether it may guide; a judge only observes."""
        return self.loaded.card is None or self.loaded.card.kind != "judge"

    @property
    def has_log_probs(self) -> bool:
        """Whether its rewards are sums of the log probabilities of a language model."""
        return False

    @property
    def scores_vocabulary(self) -> bool:
        """Whether one forward gives the rewards of all next tokens."""
        return False

    @property
    @abstractmethod
    def cost(self) -> str:
        """Cost of a guided token in forwards, as text for the screen."""

    @abstractmethod
    def start(self, prompts: Sequence[Sequence[int]], responses: Sequence[Sequence[int]] | None = None, reserve: int = 64) -> RewardPrefixes:
        """Growing responses, one slot per prompt, that begin with `responses` if given. `reserve`: number of tokens expected to come."""

    @abstractmethod
    def along(self, prompt_ids: Sequence[int], responses: Sequence[Sequence[int]]) -> list[list[float]]:
        """Reward of every prefix of each response, from one forward: entry t is that of the first t + 1 response tokens."""
