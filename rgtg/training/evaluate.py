"""Rewards of held-out items at every prefix, under the model in training, its parent, and the model that guided before.

Knows nothing of optimizers or data files. Where the previous guide cannot be evaluated, the reason is returned, never raised.
"""

import random
from collections.abc import Sequence

import torch
from torch import nn
from transformers import PreTrainedModel

from rgtg.errors import RgtgError
from rgtg.models.loading import resolve
from rgtg.preferences.batches import Item, TokenPair, TokenText
from rgtg.preferences.dataset import Prepared
from rgtg.records import ModelCard
from rgtg.training.config import TrainingConfig, objective_to_read
from rgtg.training.criterion import Criterion, criterion_for
from rgtg.training.held_out import Guide, Measured, wins
from rgtg.training.starts import Start, load_start

MEASURED_LIVE = 100  # held-out pairs looked at while training


class Evaluator:
    """Evaluates models on the held-out items, with the rewards of their objective."""

    def __init__(self, start: Start, prepared: Prepared, config: TrainingConfig):
        self.start, self.config = start, config
        self.criterion = criterion_for(start.model, config.objective, start.loaded.pad_id)  # its reference is the start
        self.items, self.prompts = prepared.held_out, prepared.held_out_prompts

    def measured(self, model: PreTrainedModel) -> Measured | None:
        return measure(self.criterion, model, self.items, self.prompts, self.config.seed) if self.items else None

    @property
    def num_live(self) -> int:
        """Number of pairs that `accuracy` uses at most; two labelled texts make one."""
        items = self.items[:MEASURED_LIVE]
        return len(items) if items and isinstance(items[0], TokenPair) else len(items) // 2

    def accuracy(self, model: PreTrainedModel) -> float | None:
        """Accuracy on complete responses of the first MEASURED_LIVE items, for progress during training."""
        measured = measure(self.criterion, model, self.items[:MEASURED_LIVE], self.prompts[:MEASURED_LIVE], self.config.seed)
        return round(float(wins(measured.ends()).mean()), 4) if measured else None

    def parent(self, folder_or_id: str, device: str, dtype: str) -> Measured | None:
        """Rewards of the model that training starts from, where that is a reward model, under its own objective. None for an
        implicit one: its reference is not loaded, and the start is the new reference."""
        if not self.items or not self.start.parent:
            return None
        if self.start.is_trained and not self.config.objective.is_ratio:
            return self.measured(self.start.model)
        return self.guide(folder_or_id, device, dtype).measured

    def guide(self, folder_or_id: str, device: str, dtype: str) -> Guide:
        """Rewards of another reward model on the same items, under its own objective."""
        name = folder_or_id
        try:
            resolved, _ = resolve(folder_or_id)
            card = ModelCard.read(resolved)
            name, objective = (card.name, objective_to_read(card.objective, card.training)) if card else (resolved.name, objective_to_read("", {}))
            if objective.is_ratio:
                return Guide(name, why_not="Its reward is a ratio to another model.")
            start = load_start(folder_or_id, objective, device, dtype)
            if why_not := self._unlike(start):
                return Guide(name, why_not=why_not)
            criterion = criterion_for(start.model, objective, start.loaded.pad_id)
            return Guide(name, measure(criterion, start.model, self.items, self.prompts, self.config.seed) if self.items else None)
        except RgtgError as error:
            return Guide(name, why_not=str(error))

    def _unlike(self, other: Start) -> str:
        """Why a model cannot be evaluated on these items; "" where it can."""
        if not other.is_trained:
            return "It has no trained head."
        if other.loaded.token_ids_sha256 != self.start.loaded.token_ids_sha256:
            return "It reads other tokens."
        if other.loaded.template != (self.config.template, self.config.system_prompt):
            return "It was trained with another template."
        longest = max((num_tokens(item) for item in self.items), default=0)
        return f"It reads {other.context} tokens; the longest pair has {longest}." if longest > other.context else ""


def measure(criterion: Criterion, model: PreTrainedModel, items: Sequence[Item], prompts: Sequence[str], seed: int = 0) -> Measured | None:
    """Rewards of every prefix of held-out items. Labelled texts are paired at random, a higher label against a lower one;
    None where all labels are equal."""
    pairs, texts = [i for i in items if isinstance(i, TokenPair)], [i for i in items if isinstance(i, TokenText)]
    couples = pair_up(texts, prompts, seed)
    if not pairs and not couples:
        return None
    better = [(p.prompt_ids, p.chosen_ids) for p in pairs] or [(text.prompt_ids, text.response_ids) for text, _, _ in couples]
    worse = [(p.prompt_ids, p.rejected_ids) for p in pairs] or [(text.prompt_ids, text.response_ids) for _, text, _ in couples]
    common, keys = [p.num_common for p in pairs] or [0] * len(couples), tuple(prompts) if pairs else tuple(prompt for _, _, prompt in couples)
    was_training = model.training
    model.eval()
    chosen, rejected = (criterion.rewards(model, [prompt for prompt, _ in side], [response for _, response in side]) for side in (better, worse))
    model.train(was_training)
    width = max(chosen.shape[1], rejected.shape[1])
    chosen, rejected = (nn.functional.pad(r, (0, width - r.shape[1])) for r in (chosen, rejected))
    lengths, other_lengths = (torch.tensor([len(response) for _, response in side]) for side in (better, worse))
    return Measured(chosen, rejected, lengths, other_lengths, torch.tensor(common), keys, criterion.objective.log_odds)


def pair_up(texts: Sequence[TokenText], prompts: Sequence[str], seed: int) -> list[tuple[TokenText, TokenText, str]]:
    """Random pairs of a text from the upper half of the labels and one with a lower label, with the prompt of the first."""
    rng = random.Random(seed)
    order = sorted(range(len(texts)), key=lambda i: texts[i].label)
    low, high = order[: len(order) // 2], order[len(order) // 2 :]
    rng.shuffle(low)
    return [(texts[a], texts[b], prompts[a]) for a, b in zip(high, low, strict=False) if texts[a].label > texts[b].label]


def longer_chosen(prepared: Prepared, seed: int) -> float:
    """Share of the pairs whose chosen answer is the longer one, ties one half; labelled texts are paired at random."""
    if prepared.report.kind == "pairs":
        return prepared.report.longer_chosen
    couples = pair_up([item for item in prepared.train if isinstance(item, TokenText)], [""] * len(prepared.train), seed)
    lengths = [(len(high.response_ids), len(low.response_ids)) for high, low, _ in couples]
    return sum((a > b) + 0.5 * (a == b) for a, b in lengths) / len(lengths) if lengths else 0.5


def num_tokens(item: Item) -> int:
    """Number of tokens of the prompt and the longer answer."""
    return len(item.prompt_ids) + max(map(len, item.answers))
