"""Reward models that score text: the ids of the base LM are decoded with its own tokenizer as they come.

A new kind implements `TextRewardModel.scorer`; its scorer gets texts and returns one reward each. What happens with token ids is decided
here, once: bytes of an incomplete character wait for the rest of it, an end token adds no text and makes the answer complete, and no
prefix is scored twice. Knows nothing of methods or the screen.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

from rgtg.models.lm import BaseLM
from rgtg.prompts import TextStream
from rgtg.rewards.base import Opening, Reader, RewardModel, RewardPrefixes, SlotRewards
from rgtg.rewards.cached import CachedTexts

AT_ONCE = 64  # beyond this many texts the rewards of earlier prefixes wait until they are asked for again: most answers of best-of-n are dropped


class Answer(NamedTuple):
    """A prompt and a response to it as text. `complete`: whether the response has ended; else it is a prefix that may continue."""

    prompt: str
    response: str
    complete: bool


class TextScorer(ABC):
    """Gives rewards to texts, for one batch of growing responses; it may keep a cache from call to call."""

    num_forwards: int = 0  # of its model so far

    @abstractmethod
    def score_texts(self, answers: Sequence[Answer]) -> list[float]:
        """Reward of each answer; the answers are all different. May raise Stopped between two forwards."""

    @property
    def remark(self) -> str:
        """What the reader of an answer should know of its rewards, as a sentence, e.g. that texts were cut; "" if nothing."""
        return ""

    def caches(self, num_slots: int) -> Sequence[CachedTexts]:
        """Its caches for the spot check, with a text for each of this many slots; () for one without a cache."""
        return ()

    def disable_cache(self) -> None:  # noqa: B027
        """Disable the cache from here on."""


class TextRewardModel(RewardModel):
    """A reward model that scores text, whatever the base LM's tokenizer is."""

    @abstractmethod
    def scorer(self, lm: BaseLM) -> TextScorer:
        """A scorer for responses that this base LM writes."""

    def reads(self, lm: BaseLM) -> "TextReader":
        return TextReader(self, lm)

    def check_fits(self, prompt: str, max_new_tokens: int) -> None:
        """Raise PromptTooLong if a prompt and a response of this many tokens are too long for the model."""

    def num_prompt_tokens(self, opening: Opening) -> int:
        """Number of tokens that the model reads of the prompt; about as many as the base LM, if it does not say otherwise."""
        return len(opening.ids)


@dataclass(frozen=True)
class Prefix:
    """The first tokens of a response as text, with the decoder that continues it; `reward` is None until it is scored."""

    response: str
    complete: bool
    stream: TextStream
    reward: float | None = None

    def then(self, token_id: int, eos_ids: frozenset[int]) -> "Prefix":
        """The prefix that is one token longer, not yet scored."""
        stream = self.stream.copy()
        text, complete = self.response + stream.push(token_id), token_id in eos_ids
        return Prefix(text + stream.finish() if complete else text, complete, stream)


class TextPrefixes(RewardPrefixes):
    """Growing responses scored as text, one slot each; ids are those of the base LM."""

    def __init__(self, scorer: TextScorer, lm: BaseLM, openings: Sequence[Opening], responses: Sequence[Sequence[int]]):
        self.scorer = scorer
        self._eos_ids = lm.loaded.eos_ids
        self._prompts = [opening.prompt for opening in openings]
        self._grown: list[list[Prefix]] = []  # of each slot the prefixes of 0, 1, … tokens
        self._num_given = list(map(len, responses))  # tokens whose rewards nobody waits for
        self._candidates: dict[int, dict[int, Prefix]] = {}  # of the current prefix of a slot: scored prefixes by the token that they add
        for opening, response in zip(openings, responses, strict=True):
            self._grown.append([Prefix("", False, TextStream(lm.loaded.tokenizer, opening.ids, lm.loaded.silent_ids))])
            for token_id in response:
                self._grown[-1].append(self._grown[-1][-1].then(token_id, self._eos_ids))

    @property
    def num_forwards(self) -> int:
        return self.scorer.num_forwards

    @property
    def caches(self) -> Sequence[CachedTexts]:
        return self.scorer.caches(len(self._grown))

    @property
    def remark(self) -> str:
        return self.scorer.remark

    def append(self, slot: int, token_id: int) -> None:
        known = self._candidates.pop(slot, {})
        self._grown[slot].append(known.get(token_id) or self._grown[slot][-1].then(token_id, self._eos_ids))

    def copy(self, sources: Sequence[int], targets: Sequence[int]) -> None:
        before = {source: (self._prompts[source], list(self._grown[source]), self._num_given[source]) for source in sources}
        for source, target in zip(sources, targets, strict=True):
            if source != target:
                prompt, grown, num_given = before[source]
                self._prompts[target], self._grown[target], self._num_given[target] = prompt, list(grown), num_given
                self._candidates.pop(target, None)

    def truncate(self, slot: int, num_tokens: int) -> None:
        if num_tokens < len(self._grown[slot]) - 1:
            del self._grown[slot][num_tokens + 1 :]
            self._candidates.pop(slot, None)

    def forward(self, asks: Mapping[int, Sequence[int]]) -> dict[int, SlotRewards]:
        places = {slot: self._to_score(slot, current=not ids) for slot, ids in asks.items()}
        if sum(map(len, places.values())) > AT_ONCE:
            places = {slot: of_slot if asks[slot] or self._grown[slot][-1].reward is not None else of_slot[-1:] for slot, of_slot in places.items()}
        following = {slot: [self._grown[slot][-1].then(token_id, self._eos_ids) for token_id in ids] for slot, ids in asks.items()}
        rewards = self._score({slot: [*map(self._grown[slot].__getitem__, places[slot]), *following[slot]] for slot in asks})
        answers = {}
        for slot, ids in asks.items():
            grown, candidates = self._grown[slot], [replace(p, reward=rewards[self._answer(slot, p)]) for p in following[slot]]
            for place in places[slot]:
                grown[place] = replace(grown[place], reward=rewards[self._answer(slot, grown[place])])
            if ids:
                self._candidates[slot] = dict(zip(ids, candidates, strict=True))
            new = grown[max(places[slot][0], self._num_given[slot] + 1) :] if places[slot] else ()
            answers[slot] = SlotRewards(list(map(_reward, new)), _reward(grown[-1]), list(map(_reward, candidates)))
        return answers

    def _to_score(self, slot: int, current: bool) -> list[int]:
        """Numbers of tokens of the prefixes that were appended and not scored, in ascending order; with `current` that of the current one, if it
        is not scored."""
        grown = self._grown[slot]
        last = len(grown) - 1
        return [n for n, p in enumerate(grown) if p.reward is None and (n > self._num_given[slot] or (current and n == last))]

    def _answer(self, slot: int, prefix: Prefix) -> Answer:
        return Answer(self._prompts[slot], prefix.response, prefix.complete)

    def _score(self, wanted: Mapping[int, Sequence[Prefix]]) -> dict[Answer, float]:
        """Rewards by text: equal texts are scored once, and a token that completes no character leaves the text as it was scored."""
        known = {self._answer(slot, p): p.reward for slot in wanted for p in self._grown[slot][-2:] if p.reward is not None}
        new = list(dict.fromkeys(self._answer(slot, p) for slot, prefixes in wanted.items() for p in prefixes))
        new = [answer for answer in new if answer not in known]
        return known | dict(zip(new, self.scorer.score_texts(new) if new else (), strict=True))

    def disable_cache(self) -> None:
        self.scorer.disable_cache()


def _reward(prefix: Prefix) -> float:
    return math.nan if prefix.reward is None else prefix.reward


class TextReader(Reader):
    """Reads the responses of a base LM as text."""

    def __init__(self, model: TextRewardModel, lm: BaseLM):
        self.model, self.lm = model, lm

    def check_fits(self, opening: Opening, max_new_tokens: int) -> None:
        self.model.check_fits(opening.prompt, max_new_tokens)

    def num_prompt_tokens(self, opening: Opening) -> int:
        return self.model.num_prompt_tokens(opening)

    def start(self, openings: Sequence[Opening], responses: Sequence[Sequence[int]] | None = None, reserve: int = 64) -> TextPrefixes:
        return TextPrefixes(self.model.scorer(self.lm), self.lm, openings, responses or [()] * len(openings))

    def along(self, opening: Opening, responses: Sequence[Sequence[int]]) -> list[list[float]]:
        return [self._along(opening, response) for response in responses]

    def _along(self, opening: Opening, response: Sequence[int]) -> list[float]:
        batch = self.start([opening])
        for token_id in response:
            batch.append(0, token_id)
        rewards: Sequence[float] = ()
        while len(rewards) < len(response):  # of many only the last one comes at first
            rewards = batch.forward({0: ()})[0].new
        return list(rewards)

    def score(self, opening: Opening, response: Sequence[int]) -> float:
        return self.start([opening], [response]).forward({0: ()})[0].reward
