"""Reward models that give the rewards of all next tokens in one forward of a causal LM.

A vocabulary model (FaRMA) reads a token's logit as the reward of the prefix that ends with it; an autoregressive one (GenARM) sums log
probabilities, and an implicit one log-ratios to a reference model. Knows nothing of methods, text or the screen.
"""

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from rgtg.models.lm import BaseLM, LMPrefixes
from rgtg.models.loading import Loaded
from rgtg.models.prefixes.backbone import encode_all
from rgtg.models.prefixes.growing import GrowingRows
from rgtg.rewards.base import IdRewardModel, RewardPrefixes, SlotRewards


class TokenPrefixes(RewardPrefixes):
    """Growing responses scored by a causal LM: one forward gives the reward of every possible next token."""

    def __init__(self, reward_model: "TokenRewardModel", prefixes: LMPrefixes, reference: LMPrefixes | None, prompt_lengths: Sequence[int]):
        self.reward_model, self.prefixes, self.reference = reward_model, prefixes, reference
        self._prompt_lengths = list(prompt_lengths)
        self._rewards: list[list[float]] = [[] for _ in prompt_lengths]  # of the prefixes of each response, as far as known
        self._next: dict[int, Tensor] = {}  # (vocabulary,): `TokenRewardModel.values` behind the tokens fed so far
        self._candidates: dict[int, tuple[Sequence[int], Sequence[float] | Tensor]] = {}
        if read := [slot for slot in range(len(self._rewards)) if self._is_fed(slot)]:  # equal texts were encoded once at the start
            values = reward_model.values(*self._logits([both.forward(read) for both in self._both]))
            self._next = dict(zip(read, values, strict=True))
            for slot in read:
                prompt, text = self._prompt_lengths[slot], self._text(slot)
                self._rewards[slot] = reward_model.along(text[:prompt], [text[prompt:]])[0] if len(text) > prompt else []

    @property
    def num_forwards(self) -> int:
        return self.prefixes.num_forwards + (self.reference.num_forwards if self.reference else 0)

    def append(self, slot: int, token_id: int) -> None:
        ids, rewards = self._candidates.pop(slot, ((), ()))
        if token_id in ids and self._num_unknown(slot) == 0:
            self._rewards[slot].append(float(rewards[ids.index(token_id)]))
        for prefixes in self._both:
            prefixes.append(slot, token_id)

    def copy(self, sources: Sequence[int], targets: Sequence[int]) -> None:
        before = {source: (list(self._rewards[source]), self._next.get(source)) for source in sources}
        for prefixes in self._both:
            prefixes.copy(sources, targets)
        for source, target in zip(sources, targets, strict=True):
            if source != target:
                rewards, following = before[source]
                self._rewards[target] = list(rewards)
                self._candidates.pop(target, None)
                self._next.pop(target, None)
                if following is not None:
                    self._next[target] = following

    def truncate(self, slot: int, num_tokens: int) -> None:
        if self._prompt_lengths[slot] + num_tokens < len(self._text(slot)):
            self._next.pop(slot, None)
            self._candidates.pop(slot, None)
        del self._rewards[slot][num_tokens:]
        for prefixes in self._both:
            prefixes.truncate(slot, num_tokens)
        if slot not in self._next and self._is_fed(slot):  # a recurrent model has kept its state there
            self._next[slot] = self.reward_model.values(*self._logits([both.forward([slot]) for both in self._both]))[0]

    def in_parts(self, asks: Mapping[int, Sequence[int]]) -> list[Mapping[int, Sequence[int]]]:
        parts = self.prefixes.rows.in_parts(dict.fromkeys(asks, ()))  # candidates are looked up, not fed
        return [{slot: asks[slot] for slot in part} for part in parts]

    @torch.inference_mode()
    def forward(self, asks: Mapping[int, Sequence[int]]) -> dict[int, SlotRewards]:
        unknown = {slot: num for slot in asks if (num := self._num_unknown(slot))}
        fed = self._feed(list(asks), max(unknown.values(), default=0) + 1)
        new = {slot: self._read(slot, num, fed[slot]) for slot, num in unknown.items()}
        # a view would keep the values of all positions in memory
        self._next |= {slot: values[-1].clone() if len(values) > 1 else values[-1] for slot, values in fed.items()}
        asked = [slot for slot, ids in asks.items() if ids]
        some = [slot for slot in asked if not isinstance(asks[slot], range)]
        candidates: dict[int, Sequence[float] | Tensor] = dict(zip(some, self._look_up(some, asks), strict=True))
        candidates |= {slot: self._first(slot, len(asks[slot])) for slot in asked if slot not in candidates}
        for slot in asked:
            self._candidates[slot] = asks[slot], candidates[slot]
        return {slot: SlotRewards(new.get(slot, ()), self._current_reward(slot, not ids), candidates.get(slot, ())) for slot, ids in asks.items()}

    @property
    def caches(self) -> list[GrowingRows]:
        return [prefixes.rows for prefixes in self._both]

    def disable_cache(self) -> None:
        for prefixes in self._both:
            prefixes.disable_cache()
        self._rewards = [[] for _ in self._rewards]
        self._next.clear()
        self._candidates.clear()

    def _feed(self, slots: list[int], num: int) -> dict[int, Tensor]:
        """Values (positions, vocabulary) behind the last `num` pending tokens of each slot, or behind all of fewer; slots with no pending
        token are left out."""
        outputs = [prefixes.rows.forward(dict.fromkeys(slots, ())) for prefixes in self._both]
        if (own := outputs[0]) is None:
            return {}
        num = min(num, max(own.num_new))
        logits = []
        for prefixes, fed in zip(self._both, outputs, strict=True):
            assert fed is not None
            order = [fed.slots.index(slot) for slot in own.slots]
            last = torch.tensor(fed.num_new, device=fed.hidden.device)[order, None]
            at = (last + torch.arange(-num, 0, device=last.device)).clamp(min=0)  # (rows, num)
            logits.append(prefixes.lm.head(fed.hidden[order].gather(1, at[..., None].expand(-1, -1, fed.hidden.shape[-1]))))
        values = self.reward_model.values(*self._logits(logits))
        return {slot: values[row, -min(num, new) :] for row, (slot, new) in enumerate(zip(own.slots, own.num_new, strict=True))}

    @staticmethod
    def _logits(both: Sequence[Tensor]) -> tuple[Tensor, Tensor | None]:
        return both[0].float(), both[1].float() if len(both) > 1 else None

    def _read(self, slot: int, num: int, values: Tensor) -> list[float]:
        """Rewards of the last `num` tokens, which were appended without having been candidates.

        `values` (positions, vocabulary) belong to the last positions; the first of the `num` tokens may need those of the forward before.
        """
        before = values[:-1] if len(values) > num else torch.cat([self._next[slot][None], values[:-1]])
        tokens = torch.tensor(self._text(slot)[-num:], device=before.device)
        rewards = before[-num:].gather(1, tokens[:, None])[:, 0]
        if self.reward_model.sums:
            rewards = rewards.double().cumsum(0) + (self._rewards[slot][-1] if self._rewards[slot] else 0.0)
        new = rewards.tolist()
        self._rewards[slot] += new
        return new

    def _look_up(self, slots: list[int], asks: Mapping[int, Sequence[int]]) -> list[list[float]]:
        """Rewards of each slot's candidates, by one gather and one transfer from the device."""
        if not slots:
            return []
        width = max(len(asks[slot]) for slot in slots)
        ids = torch.tensor([(*asks[slot], *[0] * width)[:width] for slot in slots])
        following = torch.stack([self._next[slot] for slot in slots])
        rewards = following.gather(1, ids.to(following.device))
        if self.reward_model.sums:
            rewards = rewards + torch.tensor([self._current_reward(slot) for slot in slots], device=rewards.device)[:, None]
        return [row[: len(asks[slot])] for slot, row in zip(slots, rewards.tolist(), strict=True)]

    def _first(self, slot: int, num: int) -> Tensor:
        """Rewards (num,) behind each of the first tokens of the vocabulary."""
        rewards = self._next[slot][:num].cpu()
        return rewards + self._current_reward(slot) if self.reward_model.sums else rewards.clone()

    def _current_reward(self, slot: int, wanted: bool = True) -> float:
        """Reward of the current response; that of an empty one takes a forward of its own, which is made only if it is `wanted`."""
        if self._rewards[slot]:
            return self._rewards[slot][-1]
        if self.reward_model.sums or not wanted:
            return 0.0
        return self.reward_model.of_prefix(self._text(slot), self._prompt_lengths[slot])

    def _num_unknown(self, slot: int) -> int:
        return len(self._text(slot)) - self._prompt_lengths[slot] - len(self._rewards[slot])

    def _is_fed(self, slot: int) -> bool:
        """Whether one of the networks has read all of a slot: the other one has to, or they would go on from different tokens."""
        return any(prefixes.rows.is_fed(slot) for prefixes in self._both)

    def _text(self, slot: int) -> list[int]:
        return self.prefixes.rows.texts[slot]

    @property
    def _both(self) -> list[LMPrefixes]:
        return [self.prefixes, *([self.reference] if self.reference else [])]


@dataclass(frozen=True, eq=False)
class TokenRewardModel(IdRewardModel):
    """Base class of causal LMs that give the reward of every next token in one forward; `reference` is that of an implicit reward."""

    lm: BaseLM
    reference: BaseLM | None = None
    sums: ClassVar[bool] = False  # whether a prefix's reward is the sum over its tokens

    @property
    def loaded(self) -> Loaded:  # type: ignore[override]  # it is read and never set
        return self.lm.loaded

    @property
    def cost(self) -> str:
        return (
            "one forward per token for the complete vocabulary" if self.reference is None else "two forwards per token, its own and its reference's"
        )

    @property
    def scores_vocabulary(self) -> bool:
        return True

    @abstractmethod
    def values(self, logits: Tensor, reference: Tensor | None) -> Tensor:
        """(…, vocabulary) float32 from logits of this shape: what each next token adds to the reward (with `sums`), or the reward itself."""

    def start(self, prompts: Sequence[Sequence[int]], responses: Sequence[Sequence[int]] | None = None, reserve: int = 64) -> TokenPrefixes:
        reference = self.reference.start(prompts, responses, reserve) if self.reference else None
        return TokenPrefixes(self, self.lm.start(prompts, responses, reserve), reference, list(map(len, prompts)))

    @torch.inference_mode()
    def along(self, prompt_ids: Sequence[int], responses: Sequence[Sequence[int]]) -> list[list[float]]:
        texts, skip = [[*prompt_ids, *response] for response in responses], len(prompt_ids)
        values = self.values(_logits(self.lm, texts, skip - 1), _logits(self.reference, texts, skip - 1) if self.reference else None)
        rewards = []
        for row, text in zip(values, texts, strict=True):
            ids = torch.tensor(text[skip:], device=row.device, dtype=torch.long)[:, None]
            of_tokens = row[: len(ids)].gather(1, ids)[:, 0]
            rewards.append((of_tokens.double().cumsum(0) if self.sums else of_tokens).tolist())
        return rewards

    def of_prefix(self, text: Sequence[int], prompt_length: int) -> float:
        """Reward of one prefix by a forward without a cache; 0 if nothing precedes its last token."""
        if self.sums:
            return self.along(text[:prompt_length], [text[prompt_length:]])[0][-1] if len(text) > prompt_length else 0.0
        return self.along(text[:-1], [text[-1:]])[0][-1] if len(text) > 1 else 0.0


def _logits(lm: BaseLM, texts: list[list[int]], start: int) -> Tensor:
    """Logits (texts, positions, vocabulary) from position `start` on: the head is not applied to the prompt."""
    return lm.head(encode_all(lm.backbone, texts)[:, start:]).float()


@dataclass(frozen=True, eq=False)
class VocabularyRewardModel(TokenRewardModel):
    """A causal LM whose logits are read as rewards.

    Formula: r(x, y_{<t} + v) = logit of v behind y_{<t}, without softmax.
    Paper: FaRMA (arXiv 2502.04517), trained by Bradley–Terry on pairs in turn with a max-constraint on prefixes.
    Cost: one forward per token for the complete vocabulary.
    Pitfall: it needs the base LM's token ids; a logit is the reward of one prefix, so rewards are not summed over tokens.
    """

    def values(self, logits: Tensor, reference: Tensor | None) -> Tensor:
        return logits.float()


@dataclass(frozen=True, eq=False)
class AutoregressiveRewardModel(TokenRewardModel):
    """A causal LM whose log probabilities, or log-ratios to a reference model, add up to the reward.

    Formula: r(x, y_{≤t}) = Σ_{i≤t} log π_r(y_i | x, y_{<i}), in nats; with a reference β·Σ_{i≤t} log(π(y_i | ·) / π_ref(y_i | ·)).
    Paper: GenARM (arXiv 2410.08193); with a reference the implicit reward of DPO (arXiv 2305.18290) and of process rewards (arXiv 2412.01981).
    Cost: one forward per token for the complete vocabulary, with a reference two.
    Pitfall: log π_r is never positive, so that sums favour short responses; compare responses of equal length only.
    """

    sums: ClassVar[bool] = True
    beta: float = 1.0

    @property
    def has_log_probs(self) -> bool:
        return self.reference is None

    def values(self, logits: Tensor, reference: Tensor | None) -> Tensor:
        log_probs = logits.float().log_softmax(-1)
        return self.beta * (log_probs if reference is None else log_probs - reference.float().log_softmax(-1))
