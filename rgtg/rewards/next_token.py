"""Reward models that read the rewards of all next tokens off one forward of a causal model.

A vocabulary model (FaRMA) takes a token's logit for the reward of the prefix that ends with it. An autoregressive one (GenARM)
sums log probabilities, and the implicit one their ratio to a reference. Knows nothing of methods, text or the screen.
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
from rgtg.rewards.base import RewardModel, RewardPrefixes, Said


class TokenPrefixes(RewardPrefixes):
    """Growing responses whose every next token has its reward from one forward, however many candidates there are."""

    def __init__(self, reward_model: "TokenRewardModel", prefixes: LMPrefixes, reference: LMPrefixes | None, prompt_lengths: Sequence[int]):
        self.reward_model, self.prefixes, self.reference = reward_model, prefixes, reference
        self._prompt_lengths = list(prompt_lengths)
        self._rewards: list[list[float]] = [[] for _ in prompt_lengths]  # of the response's prefixes, as far as they are known
        self._next: dict[int, Tensor] = {}  # (vocabulary,): what each next token adds, or is worth, behind what was fed
        self._candidates: dict[int, tuple[Sequence[int], Sequence[float]]] = {}
        if read := [slot for slot in range(len(self._rewards)) if prefixes.rows.is_fed(slot)]:  # texts that several slots share
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
            self._rewards[slot].append(rewards[list(ids).index(token_id)])
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

    def in_parts(self, asks: Mapping[int, Sequence[int]]) -> list[Mapping[int, Sequence[int]]]:
        parts = self.prefixes.rows.in_parts(dict.fromkeys(asks, ()))  # candidates are looked up, not fed
        return [{slot: asks[slot] for slot in part} for part in parts]

    @torch.inference_mode()
    def forward(self, asks: Mapping[int, Sequence[int]]) -> dict[int, Said]:
        unknown = {slot: num for slot in asks if (num := self._num_unknown(slot))}
        fed = self._feed(list(asks), max(unknown.values(), default=0) + 1)
        new = {slot: self._read(slot, num, fed[slot]) for slot, num in unknown.items()}
        # a view of many positions would keep them all
        self._next |= {slot: values[-1].clone() if len(values) > 1 else values[-1] for slot, values in fed.items()}
        asked = [slot for slot, ids in asks.items() if ids]
        candidates = dict(zip(asked, self._look_up(asked, asks), strict=True))
        for slot in asked:
            self._candidates[slot] = asks[slot], candidates[slot]
        return {slot: Said(new.get(slot, ()), self._stands(slot, not ids), candidates.get(slot, ())) for slot, ids in asks.items()}

    @property
    def kept(self) -> list[GrowingRows]:
        return [prefixes.rows for prefixes in self._both]

    def distrust(self) -> None:
        for prefixes in self._both:
            prefixes.distrust()
        self._rewards = [[] for _ in self._rewards]
        self._next.clear()
        self._candidates.clear()

    def _feed(self, slots: list[int], num: int) -> dict[int, Tensor]:
        """Slot -> (positions, vocabulary): values behind its last `num` pending tokens, or as many as there are; of slots in which
        nothing is pending, nothing."""
        found = [prefixes.rows.forward(dict.fromkeys(slots, ())) for prefixes in self._both]
        if found[0] is None:
            return {}
        num = min(num, max(found[0].num_new))
        logits = []
        for prefixes, fed in zip(self._both, found, strict=True):
            assert fed is not None
            order = [fed.slots.index(slot) for slot in found[0].slots]
            last = torch.tensor(fed.num_new, device=fed.hidden.device)[order, None]
            at = (last + torch.arange(-num, 0, device=last.device)).clamp(min=0)  # (rows, num)
            logits.append(prefixes.lm.head(fed.hidden[order].gather(1, at[..., None].expand(-1, -1, fed.hidden.shape[-1]))))
        values = self.reward_model.values(*self._logits(logits))
        return {slot: values[row, -min(num, new) :] for row, (slot, new) in enumerate(zip(found[0].slots, found[0].num_new, strict=True))}

    @staticmethod
    def _logits(both: Sequence[Tensor]) -> tuple[Tensor, Tensor | None]:
        return both[0].float(), both[1].float() if len(both) > 1 else None

    def _read(self, slot: int, num: int, values: Tensor) -> list[float]:
        """The rewards of the last `num` tokens, which were appended without having been candidates: `values` (positions, vocabulary)
        stand behind the last tokens, the first of the `num` may have its own from the forward before."""
        before = values[:-1] if len(values) > num else torch.cat([self._next[slot][None], values[:-1]])
        tokens = torch.tensor(self._text(slot)[-num:], device=before.device)
        found = before[-num:].gather(1, tokens[:, None])[:, 0]
        if self.reward_model.sums:
            found = found.double().cumsum(0) + (self._rewards[slot][-1] if self._rewards[slot] else 0.0)
        new = found.tolist()
        self._rewards[slot] += new
        return new

    def _look_up(self, slots: list[int], asks: Mapping[int, Sequence[int]]) -> list[list[float]]:
        """The rewards of each slot's candidates, in one gather and one transfer."""
        if not slots:
            return []
        width = max(len(asks[slot]) for slot in slots)
        ids = torch.tensor([(*asks[slot], *[0] * width)[:width] for slot in slots])
        following = torch.stack([self._next[slot] for slot in slots])
        found = following.gather(1, ids.to(following.device))
        if self.reward_model.sums:
            found = found + torch.tensor([self._stands(slot) for slot in slots], device=found.device)[:, None]
        return [row[: len(asks[slot])] for slot, row in zip(slots, found.tolist(), strict=True)]

    def _stands(self, slot: int, wanted: bool = True) -> float:
        """Reward of the response as it stands; of an empty one, where the kind has one, read plainly and only where it is wanted."""
        if self._rewards[slot]:
            return self._rewards[slot][-1]
        if self.reward_model.sums or not wanted:
            return 0.0
        return self.reward_model.of_prefix(self._text(slot), self._prompt_lengths[slot])

    def _num_unknown(self, slot: int) -> int:
        return len(self._text(slot)) - self._prompt_lengths[slot] - len(self._rewards[slot])

    def _text(self, slot: int) -> list[int]:
        return self.prefixes.rows.texts[slot]

    @property
    def _both(self) -> list[LMPrefixes]:
        return [self.prefixes, *([self.reference] if self.reference else [])]


@dataclass(frozen=True, eq=False)
class TokenRewardModel(RewardModel):
    """A causal model that gives the reward of every next token in one forward; `reference` that of an implicit reward."""

    lm: BaseLM
    reference: BaseLM | None = None
    sums: ClassVar[bool] = False  # whether a prefix's reward is the sum over its tokens

    @property
    def loaded(self) -> Loaded:  # type: ignore[override]  # it is read and never set
        return self.lm.loaded

    @property
    def cost(self) -> str:
        return "one forward a token for the whole vocabulary" if self.reference is None else "two forwards a token, its own and its reference's"

    @abstractmethod
    def values(self, logits: Tensor, reference: Tensor | None) -> Tensor:
        """(…, vocabulary) logits -> what each next token adds to the reward, or is worth; float32."""

    def start(self, prompts: Sequence[Sequence[int]], responses: Sequence[Sequence[int]] | None = None, reserve: int = 64) -> TokenPrefixes:
        reference = self.reference.start(prompts, responses, reserve) if self.reference else None
        return TokenPrefixes(self, self.lm.start(prompts, responses, reserve), reference, list(map(len, prompts)))

    @torch.inference_mode()
    def along(self, prompt_ids: Sequence[int], responses: Sequence[Sequence[int]]) -> list[list[float]]:
        texts, skip = [[*prompt_ids, *response] for response in responses], len(prompt_ids)
        values = self.values(_logits(self.lm, texts, skip - 1), _logits(self.reference, texts, skip - 1) if self.reference else None)
        found = []
        for row, text in zip(values, texts, strict=True):
            taken = torch.tensor(text[skip:], device=row.device, dtype=torch.long)[:, None]
            rewards = row[: len(taken)].gather(1, taken)[:, 0]
            found.append((rewards.double().cumsum(0) if self.sums else rewards).tolist())
        return found

    def of_prefix(self, text: Sequence[int], prompt_length: int) -> float:
        """Reward of one prefix, plainly; 0 where there is nothing before its last token."""
        if self.sums:
            return self.along(text[:prompt_length], [text[prompt_length:]])[0][-1] if len(text) > prompt_length else 0.0
        return self.along(text[:-1], [text[-1:]])[0][-1] if len(text) > 1 else 0.0


def _logits(lm: BaseLM, texts: list[list[int]], start: int) -> Tensor:
    """From position `start` on: the head is not asked about the prompt."""
    return lm.head(encode_all(lm.backbone, texts)[:, start:]).float()


@dataclass(frozen=True, eq=False)
class VocabularyRewardModel(TokenRewardModel):
    """r(prefix + v) = logit of v behind the prefix: FaRMA (arXiv 2502.04517)."""

    def values(self, logits: Tensor, reference: Tensor | None) -> Tensor:
        return logits.float()


@dataclass(frozen=True, eq=False)
class AutoregressiveRewardModel(TokenRewardModel):
    """r(prefix) = sum over its tokens of log pi_r(token | before), in nats: GenARM (arXiv 2410.08193).

    With a reference, `beta` times the log-ratio to it: the implicit reward of DPO (arXiv 2305.18290) and of arXiv 2412.01981.
    """

    sums: ClassVar[bool] = True
    beta: float = 1.0

    def values(self, logits: Tensor, reference: Tensor | None) -> Tensor:
        found = logits.float().log_softmax(-1)
        return self.beta * (found if reference is None else found - reference.float().log_softmax(-1))
