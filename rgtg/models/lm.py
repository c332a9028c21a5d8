"""The base LM: log probabilities of growing prefixes.

Knows nothing of rewards, methods, prompt templates or the screen.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from rgtg.models.loading import HasWeights, Loaded
from rgtg.models.prefixes.backbone import Backbone
from rgtg.models.prefixes.growing import GrowingRows
from rgtg.models.prefixes.strategy import grow
from rgtg.models.probe import check_reads, grown
from rgtg.prompts import TokenTexts


class LMPrefixes:
    """Growing responses of a base LM, one slot each."""

    def __init__(self, lm: "BaseLM", rows: GrowingRows, prompt_lengths: Sequence[int]):
        self.lm, self.rows = lm, rows
        self._prompt_lengths = list(prompt_lengths)

    @property
    def num_forwards(self) -> int:
        return self.rows.num_forwards

    def append(self, slot: int, token_id: int) -> None:
        """One more token of the response."""
        self.rows.append(slot, token_id)

    def copy(self, sources: Sequence[int], targets: Sequence[int]) -> None:
        """Slot `targets[i]` becomes what slot `sources[i]` is before the call."""
        self.rows.copy(sources, targets)

    def truncate(self, slot: int, num_tokens: int) -> None:
        """Forget the response beyond its first tokens."""
        self.rows.truncate(slot, self._prompt_lengths[slot] + num_tokens)

    @torch.inference_mode()
    def forward(self, slots: Sequence[int]) -> Tensor:
        """(slots, vocabulary) float32 logits of the next token, as the model gives them; no forward where nothing is new."""
        self.rows.forward(dict.fromkeys(slots, ()))
        return self.lm.head(self.rows.last(slots)).float()

    @property
    def kept(self) -> list[GrowingRows]:
        """What is kept of the texts, which a spot check reads again."""
        return [self.rows]

    def distrust(self) -> None:
        """From here on without the cache."""
        self.rows.distrust()


@dataclass(frozen=True, eq=False)
class BaseLM(HasWeights):
    """A causal language model, ready to continue prefixes."""

    loaded: Loaded
    backbone: Backbone
    head: torch.nn.Module
    token_texts: TokenTexts

    @classmethod
    def of(cls, loaded: Loaded) -> "BaseLM":
        """From loaded weights: finds the head and the strategy by trying them. Raises ModelRefused where it is no decoder."""
        model: Any = loaded.model
        head = model.get_output_embeddings()

        def hidden(**inputs: Any) -> Tensor:
            return model.base_model(**inputs).last_hidden_state

        def logits(**inputs: Any) -> Tensor:
            return model(**inputs).logits

        check_reads(loaded, logits)
        if head is not None and _head_is_all(model, hidden, head):
            run = hidden
        else:  # soft caps, scales, projections between hidden state and logits: take the model's own way
            run, head = logits, torch.nn.Identity()
        backbone = grown(loaded, Backbone.of(model, run, loaded.pad_id))
        return cls(loaded, backbone, head, TokenTexts(loaded.tokenizer))

    @torch.inference_mode()
    def one_token(self) -> None:
        """A forward of one token and its logits, as a round of one column has them: for measuring."""
        self.head(self.backbone.forward(torch.zeros(1, 1, dtype=torch.long, device=self.backbone.device), None, None, None))

    def start(self, prompts: Sequence[Sequence[int]], responses: Sequence[Sequence[int]] | None = None, reserve: int = 64) -> LMPrefixes:
        """Growing responses behind prompt ids, one slot each, with what is there of them already; equal texts are read once.
        `reserve`: tokens expected to come."""
        texts = [[*prompt, *response] for prompt, response in zip(prompts, responses or [()] * len(prompts), strict=True)]
        return LMPrefixes(self, grow(self.backbone, texts, reserve), list(map(len, prompts)))


@torch.inference_mode()
def _head_is_all(model: torch.nn.Module, hidden: Callable[..., Tensor], head: torch.nn.Module) -> bool:
    ids = torch.tensor([[1, 2, 3]], device=next(model.parameters()).device)
    if getattr(model, "base_model", model) is model:  # Llama 4: the whole model is its own base, and gives no hidden state
        return False
    return torch.allclose(
        head(hidden(input_ids=ids, use_cache=False)).float(), model(input_ids=ids, use_cache=False).logits.float(), rtol=1e-4, atol=1e-4
    )
