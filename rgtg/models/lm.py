"""The base LM: log probabilities of growing prefixes.

Knows nothing of rewards, methods, prompt templates or the screen.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from rgtg.models.loading import HasWeights, Loaded
from rgtg.models.prefixes.backbone import Backbone
from rgtg.models.prefixes.growing import GrowingRows
from rgtg.models.prefixes.strategy import grow
from rgtg.models.probe import check_reads, with_strategy
from rgtg.prompts import TokenTexts


class LMPrefixes:
    """Growing responses of a base LM, one slot each, with the logits of their next tokens."""

    def __init__(self, lm: "BaseLM", rows: GrowingRows, prompt_lengths: Sequence[int]):
        self.lm, self.rows = lm, rows
        self.prompt_lengths = list(prompt_lengths)

    @property
    def num_forwards(self) -> int:
        return self.rows.num_forwards

    def append(self, slot: int, token_id: int) -> None:
        """Append one token to the response of a slot."""
        self.rows.append(slot, token_id)

    def copy(self, sources: Sequence[int], targets: Sequence[int]) -> None:
        """Replace each slot `targets[i]` by a copy of slot `sources[i]` as it was before the call."""
        self.rows.copy(sources, targets)

    def truncate(self, slot: int, num_tokens: int) -> None:
        """Cut the response of a slot to its first `num_tokens` tokens."""
        self.rows.truncate(slot, self.prompt_lengths[slot] + num_tokens)

    def unread(self, slots: Sequence[int]) -> list[int]:
        """The slots for which `forward` makes a forward."""
        return [slot for slot in slots if not self.rows.is_fed(slot)]

    @torch.inference_mode()
    def forward(self, slots: Sequence[int]) -> Tensor:
        """Logits of the next token, (slots, vocabulary) float32, unnormalised. Slots with nothing new cost no forward."""
        self.rows.forward(dict.fromkeys(slots, ()))
        return self.lm.head(self.rows.last(slots)).float()

    @torch.inference_mode()
    def logits_before(self, asks: Mapping[int, int]) -> dict[int, Tensor]:
        """Logits (num, vocabulary) float32 in front of each of the last `num` tokens of each slot in `asks` (slot -> num), in one forward, which
        reads these tokens and the one before them."""
        before: dict[int, Tensor] = {}
        for slot, num in asks.items():
            tokens = self.rows.texts[slot][-num:]
            self.rows.truncate(slot, len(self.rows.texts[slot]) - num)
            if self.rows.is_fed(slot):  # a recurrent model has kept its state there
                before[slot] = self.rows.last([slot])
            for token in tokens:
                self.rows.append(slot, token)
        fed = self.rows.forward(dict.fromkeys(asks, ()))
        assert fed is not None
        new = {slot: fed.hidden[row, : fed.num_new[row]] for row, slot in enumerate(fed.slots)}
        rows = new | {slot: torch.cat([hidden, new[slot]]) for slot, hidden in before.items()}
        return {slot: self.lm.head(rows[slot][-num - 1 : -1]).float() for slot, num in asks.items()}

    @property
    def caches(self) -> list[GrowingRows]:
        """Cached prefixes, for the spot check."""
        return [self.rows]

    def disable_cache(self) -> None:
        """Disable the cache from here on."""
        self.rows.disable_cache()


@dataclass(frozen=True, eq=False)
class BaseLM(HasWeights):
    """Causal language model that continues prefixes."""

    loaded: Loaded
    backbone: Backbone
    head: torch.nn.Module
    token_texts: TokenTexts

    @classmethod
    def of(cls, loaded: Loaded) -> "BaseLM":
        """Base LM from loaded weights; output head and decoding strategy are determined by trial. Raises ModelRefused if it is not a decoder."""
        model: Any = loaded.model
        head = model.get_output_embeddings()

        def hidden(**inputs: Any) -> Tensor:
            return model.base_model(**inputs).last_hidden_state

        def logits(**inputs: Any) -> Tensor:
            return model(**inputs).logits

        check_reads(loaded, logits)
        if head is not None and _head_is_all(model, hidden, head):
            run = hidden
        else:  # a soft cap, scale or projection lies between hidden state and logits: use the model's own forward
            run, head = logits, torch.nn.Identity()
        backbone = with_strategy(loaded, Backbone.of(model, run, loaded.pad_id))
        return cls(loaded, backbone, head, TokenTexts(loaded.tokenizer))

    @torch.inference_mode()
    def one_token(self) -> None:
        """Run a forward of one token with its logits, the work of one column per round, for timing."""
        self.head(self.backbone.forward(torch.zeros(1, 1, dtype=torch.long, device=self.backbone.device), None, None, None))

    def start(self, prompts: Sequence[Sequence[int]], responses: Sequence[Sequence[int]] | None = None, reserve: int = 64) -> LMPrefixes:
        """Growing responses, one slot per prompt, that begin with `responses` if given; equal texts are encoded once. `reserve`: number of
        tokens expected to come."""
        texts = [[*prompt, *response] for prompt, response in zip(prompts, responses or [()] * len(prompts), strict=True)]
        return LMPrefixes(self, grow(self.backbone, texts, reserve), list(map(len, prompts)))


@torch.inference_mode()
def _head_is_all(model: torch.nn.Module, hidden: Callable[..., Tensor], head: torch.nn.Module) -> bool:
    """Whether the head applied to the last hidden state gives the model's logits."""
    ids = torch.tensor([[1, 2, 3]], device=next(model.parameters()).device)
    if getattr(model, "base_model", model) is model:  # Llama 4: the model is its own base model and returns no hidden state
        return False
    return torch.allclose(
        head(hidden(input_ids=ids, use_cache=False)).float(), model(input_ids=ids, use_cache=False).logits.float(), rtol=1e-4, atol=1e-4
    )
