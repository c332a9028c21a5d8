"""Rewards of a scalar head on states that another model's growing rows compute anyway, so that it makes no forwards for a text of its own.

Candidates are fed to those rows as siblings; the one that is selected has its state already, from which the base LM then says its next
token: a guided token costs one forward in all. Knows nothing of methods, text or the screen.
"""

from collections.abc import Mapping, Sequence

import torch

from rgtg.models.lm import LMPrefixes
from rgtg.models.prefixes.growing import Fed
from rgtg.rewards.base import RewardPrefixes, SlotRewards

Values = tuple[Sequence[int], Sequence[float]]  # candidates of a slot and their rewards


class HeadReadings:
    """The rewards of all prefixes that growing rows have read so far, under one head. It watches the rows."""

    def __init__(self, head: torch.nn.Module, prefixes: LMPrefixes):
        self.head, self.rows, self.starts = head, prefixes.rows, prefixes.prompt_lengths
        self.candidates: dict[int, Values] = {}  # of the last forward that had any for this slot
        self.num_restarts = 0  # how often all was forgotten, with the cache
        self._rewards: list[dict[int, float]] = [{} for _ in self.rows.texts]  # slot -> {length of the prefix: reward}
        self.rows.watchers.append(self)

    def reward(self, slot: int, length: int) -> float:
        """Reward of a slot's first `length` tokens, which were read."""
        rewards = self._rewards[slot]
        if length not in rewards:  # texts that are equal at the start were read before anybody watched
            assert length == len(self.rows.texts[slot])
            rewards[length] = float(self.head(self.rows.last([slot]))[0, 0])
        return rewards[length]

    def appending(self, slot: int, token_id: int) -> None:
        ids, values = self.candidates.pop(slot, ((), ()))
        if token_id in ids:
            self._rewards[slot][len(self.rows.texts[slot]) + 1] = values[list(ids).index(token_id)]

    def copying(self, sources: Sequence[int], targets: Sequence[int]) -> None:
        before = {source: dict(self._rewards[source]) for source in sources}
        for source, target in zip(sources, targets, strict=True):
            if source != target:
                self._rewards[target] = dict(before[source])
                self.candidates.pop(target, None)

    def truncating(self, slot: int, length: int) -> None:
        if length < len(self.rows.texts[slot]):
            self._rewards[slot] = {end: reward for end, reward in self._rewards[slot].items() if end <= length}
            self.candidates.pop(slot, None)

    def fed(self, asks: Mapping[int, Sequence[int]], fed: Fed) -> None:
        values = self.head(fed.hidden)[..., 0].float().tolist()  # (rows, length): the one transfer from the device
        for row, slot, num, first in zip(values, fed.slots, fed.num_new, fed.first, strict=True):
            end = len(self.rows.texts[slot])
            new = zip(range(end - num + 1, end + 1), row, strict=False)
            self._rewards[slot] |= {length: reward for length, reward in new if length >= self.starts[slot]}
            if ids := asks[slot]:
                self.candidates[slot] = ids, row[first : first + len(ids)]

    def cache_disabled(self) -> None:
        self._rewards = [{} for _ in self.rows.texts]
        self.candidates.clear()
        self.num_restarts += 1


class SharedPrefixes(RewardPrefixes):
    """Growing responses scored on the states of the base LM, in its slots: the rows belong to it and change with it.

    `append`, `copy` and `truncate` follow here what was asked about: a judge lags behind the rows, and reads settled tokens alone.
    """

    def __init__(self, head: torch.nn.Module, prefixes: LMPrefixes):
        self.prefixes, self.readings = prefixes, HeadReadings(head, prefixes)
        self._starts = [len(text) for text in prefixes.rows.texts]
        self._lengths = list(self._starts)  # of the text that is asked about
        self._told = list(self._starts)  # up to here its rewards were given
        self._num_restarts = 0
        self._asked: dict[int, Sequence[int]] = {}

    @property
    def num_forwards(self) -> int:
        """Forwards of the base LM, all of them."""
        return self.prefixes.num_forwards

    def append(self, slot: int, token_id: int) -> None:
        if token_id in self._asked.pop(slot, ()) and self._told[slot] == self._lengths[slot]:
            self._told[slot] += 1
        self._lengths[slot] += 1

    def copy(self, sources: Sequence[int], targets: Sequence[int]) -> None:
        before = {source: (self._lengths[source], self._told[source]) for source in sources}
        for source, target in zip(sources, targets, strict=True):
            if source != target:
                self._lengths[target], self._told[target] = before[source]
                self._asked.pop(target, None)

    def truncate(self, slot: int, num_tokens: int) -> None:
        length = self.prefixes.prompt_lengths[slot] + num_tokens
        if length < self._lengths[slot]:
            self._lengths[slot], self._told[slot] = length, min(length, self._told[slot])
            self._asked.pop(slot, None)

    def in_parts(self, asks: Mapping[int, Sequence[int]]) -> list[Mapping[int, Sequence[int]]]:
        return self.prefixes.rows.in_parts(asks)

    def unread(self, asks: Mapping[int, Sequence[int]]) -> Mapping[int, Sequence[int]]:
        rows, known = self.prefixes.rows, self.readings.candidates
        return {slot: ids for slot, ids in asks.items() if not rows.is_fed(slot) or (ids and known.get(slot, ((),))[0] != ids)}

    @torch.inference_mode()
    def forward(self, asks: Mapping[int, Sequence[int]]) -> dict[int, SlotRewards]:
        if self._num_restarts < self.readings.num_restarts:
            self._num_restarts, self._told = self.readings.num_restarts, list(self._starts)
        if unread := self.unread(asks):
            self.prefixes.rows.forward(unread)
        return {slot: self._answer(slot, ids) for slot, ids in asks.items()}

    def _answer(self, slot: int, ids: Sequence[int]) -> SlotRewards:
        told, length = self._told[slot], self._lengths[slot]
        new = [self.readings.reward(slot, end) for end in range(told + 1, length + 1)]
        self._told[slot] = length
        if ids:
            self._asked[slot] = ids
        return SlotRewards(new, self.readings.reward(slot, length), self.readings.candidates[slot][1] if ids else ())

    def disable_cache(self) -> None:
        self.prefixes.disable_cache()
