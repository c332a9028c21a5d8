"""Reward models that read the rewards of all next tokens off one forward of a causal model.

A vocabulary model (FaRMA) takes a token's logit for the reward of the prefix that ends with it. An autoregressive one (GenARM)
sums log probabilities, and the implicit one their ratio to a reference. Knows nothing of methods, text or the screen.
"""

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from rgtg.models.lm import BaseLM, LMPrefixes
from rgtg.models.loading import Loaded
from rgtg.models.prefix import encode_all
from rgtg.rewards.base import RewardModel, RewardPrefixes


class TokenPrefixes(RewardPrefixes):
    """Growing prefixes whose every next token has its reward from one forward, however many candidates there are.

    `rewards()` of a prefix that was not scored before it was appended, or was cut back, is computed plainly from its first token.
    """

    def __init__(self, reward_model: "TokenRewardModel", prefixes: LMPrefixes, reference: LMPrefixes | None, prompt_lengths: Sequence[int]):
        super().__init__(prefixes.rows)
        self.reward_model, self.prefixes, self.reference = reward_model, prefixes, reference
        self.prompt_lengths = list(prompt_lengths)
        self._now: list[float | None] = [None] * len(self.prompt_lengths)  # the reward of each row as it stands, where it is known
        self._next: Tensor | None = None  # (rows, vocabulary): what each next token adds, or is worth

    @property
    def num_forwards(self) -> int:
        return self.prefixes.num_forwards + (self.reference.num_forwards if self.reference else 0)

    @torch.inference_mode()
    def rewards(self) -> Tensor:
        for row, known in enumerate(self._now):
            if known is None:
                self._now[row] = self.reward_model.of_prefix(self.rows.texts[row], self.prompt_lengths[row])
        return torch.tensor(self._now, dtype=torch.float32)

    @torch.inference_mode()
    def score(self, candidate_ids: Sequence[Sequence[int]]) -> Tensor:
        if self._next is None:
            self._next = self.reward_model.values(self.prefixes.logits(), self.reference.logits() if self.reference else None)
        ids = torch.tensor([list(row) for row in candidate_ids], device=self._next.device)
        found = self._next.gather(1, ids)
        return found + self.rewards().to(found.device)[:, None] if self.reward_model.sums else found

    def append(self, token_ids: Sequence[int]) -> None:
        worth = None if self._next is None else self.score([[int(token)] for token in token_ids])[:, 0].tolist()
        for row in range(len(self._now)):
            if self.active[row]:
                self._now[row] = None if worth is None else worth[row]
        self.prefixes.append(token_ids)
        if self.reference:
            self.reference.append(token_ids)
        self._next = None

    def truncate(self, lengths: Sequence[int]) -> None:
        for row, (length, text) in enumerate(zip(lengths, self.rows.texts, strict=True)):
            if length < len(text):
                self._now[row] = None
        self.prefixes.truncate(lengths)
        if self.reference:
            self.reference.truncate(lengths)
        self._next = None

    def finish(self, rows: Sequence[int]) -> None:
        self.prefixes.finish(rows)
        if self.reference:
            self.reference.finish(rows)
        self._next = None

    def fork(self, rows: Sequence[int]) -> "TokenPrefixes":
        reference = self.reference.fork(rows) if self.reference else None
        copy = TokenPrefixes(self.reward_model, self.prefixes.fork(rows), reference, [self.prompt_lengths[row] for row in rows])
        copy._now = [self._now[row] for row in rows]
        return copy


@dataclass(frozen=True, eq=False)
class TokenRewardModel(RewardModel):
    """A causal model that gives the reward of every next token in one forward; `reference` that of an implicit reward."""

    lm: BaseLM
    reference: BaseLM | None = None
    sums: ClassVar[bool] = False  # whether a prefix's reward is the sum over its tokens

    @property
    def loaded(self) -> Loaded:
        return self.lm.loaded

    @property
    def cost(self) -> str:
        return "one forward a token for the whole vocabulary" if self.reference is None else "two forwards a token, its own and its reference's"

    @abstractmethod
    def values(self, logits: Tensor, reference: Tensor | None) -> Tensor:
        """(…, vocabulary) logits -> what each next token adds to the reward, or is worth; float32."""

    def start(self, texts: Sequence[Sequence[int]], reserve: int = 64, prompt_lengths: Sequence[int] | None = None) -> TokenPrefixes:
        reference = self.reference.start(texts, reserve) if self.reference else None
        return TokenPrefixes(self, self.lm.start(texts, reserve), reference, prompt_lengths or [len(text) for text in texts])

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
