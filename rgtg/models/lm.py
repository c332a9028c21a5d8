"""The base LM: log probabilities of growing prefixes.

Knows nothing of rewards, methods, prompt templates or the screen.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from rgtg.models.loading import HasWeights, Loaded
from rgtg.models.prefix import Backbone, GrowingRows, ModelPrefixes, choose_strategy
from rgtg.prompts import TokenTexts


class LMPrefixes(ModelPrefixes):
    """Growing prefixes of a base LM, one row a response."""

    def __init__(self, lm: "BaseLM", rows: GrowingRows):
        super().__init__(rows)
        self.lm = lm

    @torch.inference_mode()
    def log_probs(self) -> Tensor:
        """(rows, vocab), nats, normalised over the whole vocabulary, float32; a row that has finished is NaN."""
        return self.logits().log_softmax(-1)

    @torch.inference_mode()
    def logits(self) -> Tensor:
        """(rows, vocab) float32, as the model gives them; a row that has finished is NaN."""
        last = self.rows.last()
        if bool(self.active.all()):
            return self.lm.head(last).float()
        active = self.active.to(last.device)
        found = self.lm.head(last[active]).float()
        return found.new_full((len(active), found.shape[-1]), torch.nan).masked_scatter_(active[:, None], found)

    def fork(self, rows: Sequence[int]) -> "LMPrefixes":
        return LMPrefixes(self.lm, self.rows.fork(rows))


@dataclass(frozen=True, eq=False)
class BaseLM(HasWeights):
    """A causal language model, ready to continue prefixes."""

    loaded: Loaded
    backbone: Backbone
    head: torch.nn.Module
    token_texts: TokenTexts

    @classmethod
    def of(cls, loaded: Loaded) -> "BaseLM":
        """From loaded weights: finds the head and the strategy by trying them."""
        model = loaded.model
        head = model.get_output_embeddings()

        def hidden(**inputs) -> Tensor:
            return model.base_model(**inputs).last_hidden_state

        def logits(**inputs) -> Tensor:
            return model(**inputs).logits

        if head is not None and _head_is_all(model, hidden, head):
            forward = hidden
        else:  # soft caps, scales, projections between hidden state and logits: take the model's own way
            forward, head = logits, torch.nn.Identity()
        plain = Backbone.of(model, forward, loaded.pad_id)
        strategy = choose_strategy(plain, loaded.vocabulary_size)
        return cls(loaded, Backbone.of(model, forward, loaded.pad_id, strategy), head, TokenTexts(loaded.tokenizer))

    def start(self, prompts: Sequence[Sequence[int]], reserve: int = 64) -> LMPrefixes:
        """Growing prefixes from prompt ids, one row each; equal prompts are read once. `reserve`: tokens expected to come."""
        return LMPrefixes(self, GrowingRows(self.backbone, prompts, reserve))


@torch.inference_mode()
def _head_is_all(model: torch.nn.Module, hidden, head: torch.nn.Module) -> bool:
    ids = torch.tensor([[1, 2, 3]], device=model.device)
    return torch.allclose(head(hidden(input_ids=ids)).float(), model(input_ids=ids).logits.float(), rtol=1e-4, atol=1e-4)
