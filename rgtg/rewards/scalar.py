"""Reward models with a scalar head: the reward of a prefix is the output of the head at its last token.

Calls backbone and head directly: the pooled output of a sequence classifier is that of the last token that is not pad, which is wrong for a
candidate equal to pad. Knows nothing of methods, text or the screen.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from rgtg.errors import NotADecoder
from rgtg.models.lm import BaseLM
from rgtg.models.loading import Loaded, share_tokens
from rgtg.models.prefixes.backbone import Backbone, encode_all
from rgtg.models.prefixes.growing import GrowingRows
from rgtg.models.prefixes.strategy import grow
from rgtg.models.probe import check_reads, with_strategy
from rgtg.rewards.base import IdRewardModel, Reader, RewardPrefixes, SlotRewards
from rgtg.rewards.retokenized import Retokenized
from rgtg.rewards.text import TextReader


class ScalarPrefixes(RewardPrefixes):
    """Growing responses scored by a scalar head, one slot each."""

    def __init__(self, head: torch.nn.Module, rows: GrowingRows, prompt_lengths: Sequence[int]):
        self.head, self.rows = head, rows
        self._prompt_lengths = list(prompt_lengths)
        self._reward: dict[int, float] = {}  # of the current prefix of each slot, if known
        self._candidates: dict[int, tuple[Sequence[int], Sequence[float]]] = {}

    @property
    def num_forwards(self) -> int:
        return self.rows.num_forwards

    def append(self, slot: int, token_id: int) -> None:
        ids, rewards = self._candidates.pop(slot, ((), ()))
        self._reward.pop(slot, None)
        if token_id in ids:
            self._reward[slot] = rewards[list(ids).index(token_id)]
        self.rows.append(slot, token_id)

    def copy(self, sources: Sequence[int], targets: Sequence[int]) -> None:
        before = {source: self._reward.get(source) for source in sources}
        self.rows.copy(sources, targets)
        for source, target in zip(sources, targets, strict=True):
            if source != target:
                self._candidates.pop(target, None)
                self._reward.pop(target, None)
                if (reward := before[source]) is not None:
                    self._reward[target] = reward

    def truncate(self, slot: int, num_tokens: int) -> None:
        length = self._prompt_lengths[slot] + num_tokens
        if length < len(self.rows.texts[slot]):
            self._reward.pop(slot, None)
            self._candidates.pop(slot, None)
        self.rows.truncate(slot, length)

    def in_parts(self, asks: Mapping[int, Sequence[int]]) -> list[Mapping[int, Sequence[int]]]:
        return self.rows.in_parts(asks)

    @torch.inference_mode()
    def forward(self, asks: Mapping[int, Sequence[int]]) -> dict[int, SlotRewards]:
        fed = self.rows.forward(asks)
        answers: dict[int, SlotRewards] = {}
        if fed is not None:
            values = self.head(fed.hidden)[..., 0].float().tolist()  # (rows, length): the one transfer from the device
            for row, slot, num, first in zip(values, fed.slots, fed.num_new, fed.first, strict=True):
                if num:
                    self._reward[slot] = row[num - 1]
                num_response = len(self.rows.texts[slot]) - self._prompt_lengths[slot]
                ids = asks[slot]
                candidates = row[first : first + len(ids)]
                if ids:
                    self._candidates[slot] = ids, candidates
                reward = self._reward.get(slot, math.nan) if ids else self._current_reward(slot)
                answers[slot] = SlotRewards(row[max(0, num - num_response) : num], reward, candidates)
        for slot in asks.keys() - answers.keys():
            answers[slot] = SlotRewards((), self._current_reward(slot), ())
        return answers

    @property
    def caches(self) -> list[GrowingRows]:
        return [self.rows]

    def disable_cache(self) -> None:
        self.rows.disable_cache()
        self._reward.clear()
        self._candidates.clear()

    def _current_reward(self, slot: int) -> float:
        """Reward of a slot with no pending token, computed from the hidden state of its last token if it is not known."""
        if slot not in self._reward:
            self._reward[slot] = float(self.head(self.rows.last([slot]))[0, 0])
        return self._reward[slot]


@dataclass(frozen=True, eq=False)
class ScalarRewardModel(IdRewardModel):
    """A decoder with a scalar head.

    Formula: r(x, y_{≤t}) = wᵀ·h_t + b, where h_t is the last hidden state at token t of the response.
    Paper: any sequence-classification reward model with `num_labels=1`; trained on complete responses (Bradley–Terry, as in ARGS, arXiv
    2402.01694), on partial ones (PARGS, arXiv 2406.07780), or on labelled texts (RAD, arXiv 2310.09520; FUDGE, arXiv 2104.05218).
    Cost: one forward per token for all candidates, which see the prefix but not one another; see `cost` where a model allows less.
    Pitfall: rewards are free up to an offset, which after training on prefixes differs from length to length.
    """

    loaded: Loaded
    backbone: Backbone
    head: torch.nn.Linear

    @property
    def cost(self) -> str:
        return {
            "siblings": "one forward per token for all candidates",
            "rows": "one forward per token, one row per candidate",
            "states": "one forward per token, one row per candidate over copies of its state",
            "steps": "one forward per token, one row per candidate over copies of its state",
            "reencode": "no cache: every candidate is encoded from its first token, which is slow",
        }[self.backbone.strategy]

    @classmethod
    def of(cls, loaded: Loaded) -> "ScalarRewardModel":
        """Reward model from loaded weights. Raises NotADecoder if it has no `score` layer or sees later tokens, and ModelRefused."""
        model: Any = loaded.model
        head = getattr(model, "score", None)
        if not isinstance(head, torch.nn.Linear):
            do = "Use a decoder saved with AutoModelForSequenceClassification."
            raise NotADecoder(f"`{loaded.ref.name}` cannot score prefixes.", f"`{type(model).__name__}` has no `score` layer.", do)

        def hidden(**inputs: Any) -> Tensor:
            return model.base_model(**inputs).last_hidden_state

        check_reads(loaded, lambda **inputs: head(hidden(**inputs)))
        return cls(loaded, with_strategy(loaded, Backbone.of(model, hidden, loaded.pad_id)), head)

    def of_label(self, label: str) -> "ScalarRewardModel":
        loaded, head = self.loaded.with_label(label), torch.nn.Linear(1, 1, bias=self.head.bias is not None)
        number = slice(loaded.output, (loaded.output or 0) + 1)
        head.weight = torch.nn.Parameter(self.head.weight[number], requires_grad=False)
        if self.head.bias is not None:
            head.bias = torch.nn.Parameter(self.head.bias[number], requires_grad=False)
        return replace(self, loaded=loaded, head=head)

    def reads(self, lm: BaseLM) -> Reader:
        self.check_one_output()
        if share_tokens(self.loaded, lm.loaded):
            return super().reads(lm)
        return TextReader(Retokenized(self.loaded, self.backbone, self.head), lm)

    def start(self, prompts: Sequence[Sequence[int]], responses: Sequence[Sequence[int]] | None = None, reserve: int = 64) -> ScalarPrefixes:
        texts = [[*prompt, *response] for prompt, response in zip(prompts, responses or [()] * len(prompts), strict=True)]
        return ScalarPrefixes(self.head, grow(self.backbone, texts, reserve), list(map(len, prompts)))

    @torch.inference_mode()
    def along(self, prompt_ids: Sequence[int], responses: Sequence[Sequence[int]]) -> list[list[float]]:
        texts = [[*prompt_ids, *response] for response in responses]
        scores = self.head(encode_all(self.backbone, texts))[..., 0].float().cpu()
        return [scores[i, len(prompt_ids) : len(text)].tolist() for i, text in enumerate(texts)]
