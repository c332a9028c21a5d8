"""An objective applied to a model: the loss of items, and the rewards of every prefix, in batches that fit the memory.

Knows nothing of optimizers, files or processes, nor of any objective by name.
"""

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from accelerate.utils.memory import clear_device_cache, should_reduce_batch_size
from torch import Tensor, nn
from transformers import PreTrainedModel

from rgtg.errors import BadData
from rgtg.preferences.batches import Ids, Item, TokenPair, TokenText, collate_pairs, collate_texts, pad_right, texts_of
from rgtg.training import losses
from rgtg.training.base import Objective
from rgtg.training.objectives import OBJECTIVES

AT_ONCE = 1 << 26  # numbers that a forward without gradient may return: 256 MiB
MOST_ROWS = 64
STATES_KEPT = 1 << 30  # bytes of states that a training of a head keeps


class Scorer(nn.Module):
    """The module that is trained: right-padded ids (rows, length) -> float32 rewards (rows, length) of a scalar head, or
    logits (rows, length, vocabulary) of a causal model."""

    def __init__(self, model: PreTrainedModel):
        super().__init__()
        self.model = model

    def forward(self, ids: Tensor) -> Tensor:
        if isinstance(getattr(self.model, "score", None), nn.Module):
            return prefix_scores(self.model, ids).float()
        return self.model(ids, use_cache=False).logits.float()


class FrozenScorer(Scorer):
    """A scorer whose head alone is trained: the states below it are computed once per text, in evaluation mode and full precision, and kept as far
    as STATES_KEPT allows."""

    def __init__(self, model: PreTrainedModel):
        super().__init__(model)
        self._states: dict[Ids, Tensor] = {}
        self._bytes = 0

    def train(self, mode: bool = True) -> "FrozenScorer":
        super().train(mode)
        self.model.base_model.eval()
        return self

    def forward(self, ids: Tensor) -> Tensor:
        model: Any = self.model
        return model.score(self.states(ids))[..., 0].float()

    @torch.no_grad()
    def states(self, ids: Tensor) -> Tensor:
        """Last hidden states (rows, length, width) of right-padded ids (rows, length)."""
        model: Any = self.model
        texts = [tuple(row) for row in ids.tolist()]
        known = {text: self._states[text] for text in texts if text in self._states}
        if missing := [text for text in dict.fromkeys(texts) if text not in known]:
            with torch.autocast(ids.device.type, enabled=False):
                fresh = model.base_model(torch.tensor(missing, device=ids.device), use_cache=False).last_hidden_state
            room = max(0, STATES_KEPT - self._bytes) // (fresh[0].numel() * fresh.element_size())
            self._states |= {text: states.clone() for text, states in zip(missing[:room], fresh, strict=False)}
            self._bytes += fresh[:room].numel() * fresh.element_size()
            known |= zip(missing, fresh, strict=True)
        return torch.stack([known[text] for text in texts])


def prefix_scores(model: Any, ids: Tensor) -> Tensor:
    """Reward of every prefix from one forward: right-padded ids (rows, length) -> (rows, length)."""
    return model.score(model.base_model(ids, use_cache=False).last_hidden_state)[..., 0]


def check_data(objective: Objective, pairs: bool, labelled: bool = True) -> None:
    """Raise BadData where an objective that compares answers is given single texts, or one that needs labels of prefixes is given pairs that
    are not `labelled` so."""
    if not pairs and not objective.takes_texts:
        *others, last = [kind.on_texts for kind in OBJECTIVES.values() if kind.on_texts]
        do = f"Choose {', '.join(others)} or {last}."
        raise BadData(f"The objective `{objective.key}` needs pairs.", "The data is single texts with labels.", do)
    if objective.needs_prefix_labels and not labelled:
        do = "Write them with `rgtg label --prefixes` and this base LM, or choose another objective."
        raise BadData(
            f"The objective `{objective.key}` needs a label for every prefix.", "There are pairs without, or with those of other tokens.", do
        )


def rows_within(lengths: Sequence[int], num_tokens: int) -> int:
    """Number of leading rows that have at most `num_tokens` tokens when padded to their longest; at least 1.

    >>> rows_within([6, 5, 7, 4], 20)
    2
    """
    longest = 0
    for number, length in enumerate(lengths, 1):
        longest = max(longest, length)
        if number * longest > num_tokens:
            return max(1, number - 1)
    return len(lengths)


def out_of_memory(error: Exception) -> bool:
    """Whether an error says that memory ran out, so that fewer rows at once may help."""
    return isinstance(error, MemoryError) or should_reduce_batch_size(error)


def criterion_for(model: PreTrainedModel, objective: Objective, pad_id: int, end_id: int | None = None) -> "Criterion":
    """The criterion to train `model` by, with a frozen copy of it as reference where the loss needs one."""
    reference = copy.deepcopy(model).eval().requires_grad_(False) if objective.needs_reference else None
    return Criterion(objective, pad_id, pad_id if end_id is None else end_id, reference)


@dataclass(frozen=True, eq=False)
class Criterion:
    """The objective of one training. `reference` is the frozen causal model of the implicit reward and of the soft value."""

    objective: Objective
    pad_id: int
    end_id: int
    reference: PreTrainedModel | None = None

    def loss(self, model: nn.Module, items: Sequence[Item], total: float, step: int, device: torch.device) -> Tensor:
        """Weighted sum of the losses of these items, divided by `total`; `step` counts optimizer steps from 0. A scalar."""
        pairs = [item for item in items if isinstance(item, TokenPair)]
        if pairs and not self.objective.takes_texts:
            batch = collate_pairs(pairs, self.pad_id, self.end_id if self.objective.pads else None).to(device)
            return self.objective.pair_loss(model, batch, total, step, self._of_reference)
        texts = [text for pair in pairs for text in texts_of(pair)] if pairs else [item for item in items if isinstance(item, TokenText)]
        as_texts = collate_texts(texts, self.pad_id).to(device)
        return self.objective.text_loss(model, as_texts, 2 * total if pairs else total, self._of_reference)

    @torch.no_grad()
    def _of_reference(self, ids: Tensor) -> Tensor:
        """Logits of the reference."""
        assert self.reference is not None
        return self.reference(ids, use_cache=False).logits.float()

    @torch.no_grad()
    def rewards(self, model: PreTrainedModel, prompts: Sequence[Ids], responses: Sequence[Ids]) -> Tensor:
        """The reward of every prefix of each response, as in guidance (`rgtg.rewards`): (responses, positions) float32 on the CPU.

        The batch size follows from `AT_ONCE` and shrinks where memory runs out. Raises MemoryError where one response does not fit.
        """
        scorer, outputs = Scorer(model).eval(), self._num_outputs(model)
        lengths = [len(p) + len(r) for p, r in zip(prompts, responses, strict=True)]
        rows: list[Tensor] = []
        most = MOST_ROWS
        while len(rows) < len(responses):
            start = len(rows)
            part = slice(start, start + rows_within(lengths[start : start + most], AT_ONCE // outputs))
            try:
                rows += self._rewards_at_once(scorer, prompts[part], responses[part])
                continue
            except (RuntimeError, MemoryError) as error:
                most = (part.stop - start) // 2
                if not out_of_memory(error):
                    raise
                if most == 0:
                    raise MemoryError(f"One answer at a time does not fit: {error}") from error
            clear_device_cache(garbage_collection=True)  # outside of the handler, whose traceback keeps tensors alive
        rewards = nn.utils.rnn.pad_sequence(rows, batch_first=True)
        return rewards.cumsum(1) if self.objective.sums else rewards

    def _num_outputs(self, model: PreTrainedModel) -> int:
        """Numbers that a forward returns per token: logits, or the hidden state that a scalar head reads."""
        embedding: Any = model.get_input_embeddings()
        return embedding.weight.shape[1 if self.objective.scalar else 0]

    def _rewards_at_once(self, scorer: Scorer, prompts: Sequence[Ids], responses: Sequence[Ids]) -> list[Tensor]:
        ids = pad_right([p + r for p, r in zip(prompts, responses, strict=True)], self.pad_id).to(next(scorer.parameters()).device)
        rewards = self.objective.token_rewards(scorer, ids, self._of_reference)
        return list(losses.responses_of(rewards, torch.tensor([len(p) for p in prompts])).cpu().unbind())
