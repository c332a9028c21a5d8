"""The interface of reward models: rewards of complete responses and of growing prefixes.

A reward model is asked through a reader, which binds it to the base LM that writes. Knows nothing of methods or the screen.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

from rgtg.errors import BadReward, BadSettings, ModelRefused
from rgtg.models.lm import BaseLM, LMPrefixes
from rgtg.models.loading import HasWeights, check_same_tokens
from rgtg.prompts import check_fits
from rgtg.records import ModelRef
from rgtg.rewards.cached import CachedTexts


class Opening(NamedTuple):
    """What a response follows: the prompt as it was asked, and its ids in the base LM."""

    prompt: str
    ids: Sequence[int]


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

    def unread(self, asks: Mapping[int, Sequence[int]]) -> Mapping[int, Sequence[int]]:
        """The part of `asks` for which a forward is made; where the rows are another model's, it may have read the others already."""
        return asks

    @abstractmethod
    def forward(self, asks: Mapping[int, Sequence[int]]) -> dict[int, SlotRewards]:
        """Rewards of each slot in `asks` (slot -> candidate ids, () for the current prefix alone). Slots with nothing new cost no forward.

        Of a kind that `scores_vocabulary` the candidates may be `range(n)`: the first n tokens of the vocabulary.
        """

    @property
    def caches(self) -> Sequence[CachedTexts]:
        """Cached prefixes of each of its networks, for the spot check; () for a kind without a cache."""
        return ()

    @property
    def remark(self) -> str:
        """What the reader of an answer should know of its rewards, as a sentence, e.g. that texts were cut; "" if nothing."""
        return ""

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
    def caches(self) -> Sequence[CachedTexts]:
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


class Reader(ABC):
    """A reward model together with the base LM whose responses it reads: these are token ids of the base LM.

    One that `shares_rows` reads the states that the base LM computes anyway: it follows the base LM's slots (`over`), and its forwards are those
    of the base LM.
    """

    shares_rows = False

    def over(self, prefixes: LMPrefixes) -> RewardPrefixes:
        """The responses of these prefixes, slot by slot, where it `shares_rows`."""
        raise NotImplementedError(f"{type(self).__name__} has rows of its own")

    @abstractmethod
    def check_fits(self, opening: Opening, max_new_tokens: int) -> None:
        """Raise PromptTooLong if prompt and response do not fit the model's context."""

    @abstractmethod
    def num_prompt_tokens(self, opening: Opening) -> int:
        """Number of tokens that the model reads of the prompt."""

    @abstractmethod
    def start(self, openings: Sequence[Opening], responses: Sequence[Sequence[int]] | None = None, reserve: int = 64) -> RewardPrefixes:
        """Growing responses, one slot per opening, that begin with `responses` if given. `reserve`: number of tokens expected to come."""

    @abstractmethod
    def along(self, opening: Opening, responses: Sequence[Sequence[int]]) -> list[list[float]]:
        """Reward of every prefix of each response, one for each of its tokens."""

    @abstractmethod
    def score(self, opening: Opening, response: Sequence[int]) -> float:
        """Reward of a response as it stands; one that ends with an end token of the base LM is complete."""


class RewardModel(ABC):
    """A model that gives a reward to every prefix of a response.

    The first line of a kind's docstring says what it is; the lines after it name formula, paper, cost and pitfall.
    """

    @property
    @abstractmethod
    def ref(self) -> ModelRef:
        """Its name and what identifies its rewards: another revision may score differently."""

    @property
    def name(self) -> str:
        return self.ref.name

    @property
    def objective(self) -> str:
        """Training objective by its card, "" if unknown."""
        return ""

    @property
    def zero(self) -> float:
        """The reward from which on a response counts as positive."""
        return 0.0

    @property
    def guides(self) -> bool:
        """Whether it may guide; a judge only observes."""
        return True

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
    def reads(self, lm: BaseLM) -> Reader:
        """Reader of the responses of a base LM. Raises TokenizerMismatch if it cannot read them."""


class WithWeights(HasWeights, RewardModel):
    """A reward model with weights and a tokenizer; they are its own, or those of a base LM that is in memory anyway."""

    owns_weights = True

    @property
    def ref(self) -> ModelRef:
        return self.loaded.ref

    def of_label(self, label: str) -> "WithWeights":
        """The same weights with one of the outputs of its head, by name or number, as the reward. Raises BadSettings."""
        loaded = self.loaded.with_label(label)
        raise BadSettings(f"`{loaded.ref.name}` cannot be read alone.", "Its outputs are one reward.", "Leave the label out.")

    def check_one_output(self) -> None:
        """Raise BadSettings if its head has several outputs and none is chosen."""
        labels, name = self.loaded.labels, self.name
        if labels and self.loaded.output is None:
            do = f"Choose one: `{name}[{labels[0]}]`; a mix of several: `guides={name}[{labels[0]}]+{name}[{labels[1]}]*-0.5`."
            raise BadSettings(f"`{name}` has {len(labels)} outputs, and a reward is one number.", f"Its outputs: {', '.join(labels)}.", do)

    @property
    def objective(self) -> str:
        return self.loaded.card.objective if self.loaded.card else ""

    @property
    def zero(self) -> float:
        return self.loaded.card.zero if self.loaded.card else 0.0

    @property
    def guides(self) -> bool:
        return self.loaded.card is None or self.loaded.card.kind != "judge"


class IdRewardModel(WithWeights):
    """A reward model that reads token ids of its own vocabulary, which it shares with the base LM."""

    def reads(self, lm: BaseLM) -> Reader:
        check_same_tokens(self.loaded, lm.loaded)
        return IdReader(self, lm)

    @abstractmethod
    def start(self, prompts: Sequence[Sequence[int]], responses: Sequence[Sequence[int]] | None = None, reserve: int = 64) -> RewardPrefixes:
        """Growing responses, one slot per prompt, that begin with `responses` if given. `reserve`: number of tokens expected to come."""

    @abstractmethod
    def along(self, prompt_ids: Sequence[int], responses: Sequence[Sequence[int]]) -> list[list[float]]:
        """Reward of every prefix of each response, from one forward: entry t is that of the first t + 1 response tokens."""


class IdReader(Reader):
    """Reads the base LM's ids as they are: the prompt in its own template, and a finished response ends as in that."""

    def __init__(self, model: IdRewardModel, lm: BaseLM):
        self.model, self.lm = model, lm

    def prompt_ids(self, opening: Opening) -> tuple[int, ...]:
        """Prompt ids in the template of its card; the base LM's own if that has the same template."""
        loaded = self.model.loaded
        return tuple(opening.ids) if loaded.template == self.lm.loaded.template else loaded.encode_prompt(opening.prompt)

    def check_fits(self, opening: Opening, max_new_tokens: int) -> None:
        check_fits(len(self.prompt_ids(opening)), max_new_tokens, self.model.name, self.model.context)

    def num_prompt_tokens(self, opening: Opening) -> int:
        return len(self.prompt_ids(opening))

    def start(self, openings: Sequence[Opening], responses: Sequence[Sequence[int]] | None = None, reserve: int = 64) -> RewardPrefixes:
        batch = self.model.start([self.prompt_ids(opening) for opening in openings], responses, reserve)
        return TranslatedEnd(batch, ends) if (ends := self.model.loaded.end_ids(self.lm.loaded)) else batch

    def along(self, opening: Opening, responses: Sequence[Sequence[int]]) -> list[list[float]]:
        ends = self.model.loaded.end_ids(self.lm.loaded)
        return self.model.along(self.prompt_ids(opening), [[ends.get(token_id, token_id) for token_id in response] for response in responses])

    def score(self, opening: Opening, response: Sequence[int]) -> float:
        return self.model.along(self.prompt_ids(opening), [self.model.loaded.closed(response, self.lm.loaded)])[0][-1]
