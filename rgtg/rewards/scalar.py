"""Reward models with a scalar head: the reward of a prefix is one number at its last token.

Calls the backbone and the head itself; the pooled output of a sequence classifier looks for "the last token that is not
pad", which is wrong for a candidate equal to pad. Knows nothing of methods, text or the screen.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from rgtg.errors import ModelRefused
from rgtg.models.loading import Loaded
from rgtg.models.prefix import Backbone, GrowingRows, choose_strategy, encode_all
from rgtg.rewards.base import RewardModel, RewardPrefixes


class ScalarPrefixes(RewardPrefixes):
    """Growing prefixes under a scalar reward model, one row a response."""

    def __init__(self, reward_model: "ScalarRewardModel", rows: GrowingRows):
        super().__init__(rows)
        self.reward_model = reward_model

    @torch.inference_mode()
    def rewards(self) -> Tensor:
        return self.reward_model.head(self.rows.last())[..., 0].float()

    @torch.inference_mode()
    def score(self, candidate_ids: Sequence[Sequence[int]]) -> Tensor:
        return self.reward_model.head(self.rows.value(candidate_ids))[..., 0].float()

    def fork(self, rows: Sequence[int]) -> "ScalarPrefixes":
        return ScalarPrefixes(self.reward_model, self.rows.fork(rows))


@dataclass(frozen=True, eq=False)
class ScalarRewardModel(RewardModel):
    """A causal model with a scalar head, ready to score prefixes."""

    loaded: Loaded
    backbone: Backbone
    head: torch.nn.Module

    @property
    def cost(self) -> str:
        return {
            "siblings": "one forward a token for all candidates",
            "rows": "one forward a token, candidates as rows",
            "reencode": "every candidate is read from its first token: slow",
        }[self.backbone.strategy]

    @classmethod
    def of(cls, loaded: Loaded) -> "ScalarRewardModel":
        """From loaded weights. Raises ModelRefused where there is no per-position head."""
        model = loaded.model
        head = getattr(model, "score", None)
        if not isinstance(head, torch.nn.Linear) or head.out_features != 1:
            found = f"`{type(model).__name__}` has no `score` layer with one output."
            raise ModelRefused(
                f"`{loaded.ref.name}` cannot score prefixes.", found, "Use a decoder saved with AutoModelForSequenceClassification and num_labels=1."
            )

        def hidden(**inputs) -> Tensor:
            return model.base_model(**inputs).last_hidden_state

        strategy = choose_strategy(Backbone.of(model, hidden, loaded.pad_id), loaded.vocabulary_size)
        return cls(loaded, Backbone.of(model, hidden, loaded.pad_id, strategy), head)

    def start(self, texts: Sequence[Sequence[int]], reserve: int = 64, prompt_lengths: Sequence[int] | None = None) -> ScalarPrefixes:
        return ScalarPrefixes(self, GrowingRows(self.backbone, texts, reserve))

    @torch.inference_mode()
    def along(self, prompt_ids: Sequence[int], responses: Sequence[Sequence[int]]) -> list[list[float]]:
        texts = [[*prompt_ids, *response] for response in responses]
        scores = self.head(encode_all(self.backbone, texts))[..., 0].float().cpu()
        return [scores[i, len(prompt_ids) : len(text)].tolist() for i, text in enumerate(texts)]
