"""Model and items become a loss, or the rewards of every prefix: which forward and which objective belong together.

Knows nothing of optimizers, files or processes. A scalar reward model says its reward at each position; of a causal model the
logits at a position are values or log probabilities of the next token.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields

import torch
from accelerate.utils.memory import clear_device_cache, should_reduce_batch_size
from torch import Tensor, nn

from rgtg.config import SCALAR, TrainingConfig
from rgtg.errors import BadData
from rgtg.preferences.batches import Ids, Item, PairBatch, TextBatch, TokenPair, TokenText, collate_pairs, collate_texts, pad_right, texts_of
from rgtg.training import losses

OF_TEXTS = ("regression", "bce")
AT_ONCE = 1 << 26  # numbers that a forward without gradient may give out: 256 MiB
MOST_ROWS = 64


class Scorer(nn.Module):
    """What is wrapped and trained: right-padded ids (rows, length) -> float32 rewards (rows, length) of a scalar head, or
    logits (rows, length, vocabulary) of a causal model."""

    def __init__(self, model: nn.Module):
        super().__init__()
        self.model = model

    def forward(self, ids: Tensor) -> Tensor:
        if isinstance(getattr(self.model, "score", None), nn.Module):
            return prefix_scores(self.model, ids).float()
        return self.model(ids, use_cache=False).logits.float()


def prefix_scores(model: nn.Module, ids: Tensor) -> Tensor:
    """Reward of every prefix from one forward: right-padded ids (rows, length) -> (rows, length)."""
    return model.score(model.base_model(ids, use_cache=False).last_hidden_state)[..., 0]


def responses_of(values: Tensor, prompt_lengths: Tensor) -> Tensor:
    """Cuts the prompt off: (rows, length), (rows,) -> (rows, positions), entry t belongs to t + 1 response tokens."""
    width = values.shape[1]
    at = prompt_lengths.to(values.device)[:, None] + torch.arange(width - int(prompt_lengths.min()), device=values.device)[None]
    return values.gather(1, at.clamp(max=width - 1))


def response_rewards(scores: Tensor, prompt_lengths: Tensor) -> tuple[Tensor, Tensor]:
    """(2 * pairs, length), (pairs,) -> chosen and rejected (pairs, positions), without the prompt."""
    cut = responses_of(scores, prompt_lengths.repeat(2))
    return cut[: len(cut) // 2], cut[len(cut) // 2 :]


def teaches_texts(config: TrainingConfig) -> bool:
    return config.objective in OF_TEXTS or (config.objective == "implicit" and config.implicit == "ce")


def compares_prefixes(config: TrainingConfig) -> bool:
    """Whether pairs are compared at every prefix length, not as complete responses alone."""
    return config.objective == "partial" or (config.objective == "vocabulary" and config.compare == "prefixes")


def unread_options(config: TrainingConfig) -> tuple[str, ...]:
    """Options that differ from their default though nothing reads them under this objective, by name, in the config's order."""
    prefixes, vocabulary, pairs = compares_prefixes(config), config.objective == "vocabulary", not teaches_texts(config)
    read = dict.fromkeys(("unequal", "weights", "stride", "mark_weight"), prefixes) | dict.fromkeys(("margin", "label_smoothing"), pairs)
    read |= {"centring": config.objective in ("partial", "full"), "beta": config.objective in ("autoregressive", "implicit")}
    read |= {"implicit": config.objective == "implicit", "compare": vocabulary, "constraint": vocabulary}
    read |= {"constraint_weight": vocabulary and config.constraint == "sum", "system_prompt": config.template == "chat", "lora_rank": config.lora}
    constrained = vocabulary and (config.constraint == "alternate" or config.constraint_weight > 0)
    read |= {"constraint_on": constrained, "tau": constrained}
    return tuple(f.name for f in fields(config) if not read.get(f.name, True) and getattr(config, f.name) != f.default)


def unread_words(config: TrainingConfig) -> str:
    """Of them, for a person; "" where there are none."""
    names = ", ".join(unread_options(config))
    return f"What was given for {names} changes nothing: `{config.objective}` with these settings does not read it." if names else ""


def check_kind(config: TrainingConfig, pairs: bool) -> None:
    """Raises BadData where an objective that compares is given single texts; pairs serve every objective."""
    if not pairs and not teaches_texts(config):
        do = "Choose `regression` or `bce`, or `implicit` with `ce`."
        raise BadData(f"The objective `{config.objective}` needs pairs.", "The data is single texts with labels.", do)


def rows_within(lengths: Sequence[int], num_tokens: int) -> int:
    """How many of the first rows have no more than `num_tokens` tokens when padded to their longest; at least 1.

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
    """Whether fewer rows at once may help."""
    return isinstance(error, MemoryError) or should_reduce_batch_size(error)


@dataclass(frozen=True, eq=False)
class Teacher:
    """The objective of one training. `reference` is the frozen causal model of the implicit reward and of the soft value."""

    config: TrainingConfig
    pad_id: int
    end_id: int
    reference: nn.Module | None = None

    @property
    def of_texts(self) -> bool:
        """Whether single answers with a label are taught; a pair is two of them then."""
        return teaches_texts(self.config)

    def loss(self, model: Callable[[Tensor], Tensor], items: Sequence[Item], total: float, step: int, device: torch.device) -> Tensor:
        """The part of these items in the mean over items of weight `total`; `step` is the number of steps of the optimizer before."""
        if isinstance(items[0], TokenText) or self.of_texts:
            both = isinstance(items[0], TokenPair)
            texts = [text for pair in items for text in texts_of(pair)] if both else items
            return self._text_loss(model, collate_texts(texts, self.pad_id).to(device), 2 * total if both else total)
        pads = self.config.unequal == "pad" and compares_prefixes(self.config)
        batch = collate_pairs(items, self.pad_id, self.end_id if pads else None).to(device)
        return (self._scalar_loss if self.config.objective in SCALAR else self._causal_loss)(model, batch, total, step)

    def _scalar_loss(self, model: Callable, batch: PairBatch, total: float, step: int) -> Tensor:
        config = self.config
        sides = *response_rewards(model(batch.ids), batch.prompt_lengths), batch.chosen_lengths, batch.rejected_lengths
        shared = {"sample_weights": batch.weights, "total": total}
        if config.objective == "full":
            loss = losses.full_bradley_terry(*sides, batch.margins, config.label_smoothing, **shared)
        else:
            loss = self._at_every_prefix(*sides, batch, shared | {"label_smoothing": config.label_smoothing})
        return loss + config.centring * losses.centring(*sides, only_last=config.objective == "full", **shared)

    def _at_every_prefix(
        self, chosen: Tensor, rejected: Tensor, chosen_lengths: Tensor, rejected_lengths: Tensor, batch: PairBatch, shared: dict
    ) -> Tensor:
        shape = {name: getattr(self.config, name) for name in ("unequal", "weights", "stride")}
        sides = chosen, rejected, chosen_lengths, rejected_lengths
        return losses.partial_bradley_terry(*sides, batch.num_common, batch.margins, position_weights=batch.marks, **shape, **shared)

    def _causal_loss(self, model: Callable, batch: PairBatch, total: float, step: int) -> Tensor:
        config, lengths = self.config, (batch.chosen_lengths, batch.rejected_lengths)
        logits = model(batch.ids)
        shared = {"label_smoothing": config.label_smoothing, "sample_weights": batch.weights, "total": total}
        if config.objective == "vocabulary":
            return self._vocabulary_loss(logits, batch, lengths, shared, step)
        sides = response_rewards(losses.token_log_probs(logits, batch.ids), batch.prompt_lengths)
        if config.objective == "autoregressive":
            return losses.autoregressive_bradley_terry(*sides, *lengths, config.beta, batch.margins, **shared)
        reference = response_rewards(self._reference_log_probs(batch.ids), batch.prompt_lengths)
        return losses.implicit_dpo(*sides, *reference, *lengths, config.beta, batch.margins, **shared)

    def _vocabulary_loss(self, logits: Tensor, batch: PairBatch, lengths: tuple, shared: dict, step: int) -> Tensor:
        """Pairs and the value constraint in turn, in even and odd steps, or both. FaRMA's turns are whole passes; by the step both
        are learnt also where there is one pass alone."""
        config = self.config
        values = response_rewards(losses.token_values(logits, batch.ids), batch.prompt_lengths)
        if config.compare == "complete":
            on_pairs = losses.full_bradley_terry(*values, *lengths, batch.margins, **shared)
        else:
            on_pairs = self._at_every_prefix(*values, *lengths, batch, shared)
        if step % 2 == 0 if config.constraint == "alternate" else config.constraint_weight == 0:
            return on_pairs
        num_sides = 2 if config.constraint_on == "both" else 1
        rows = num_sides * len(batch.ids) // 2
        if config.tau == 0:
            following = losses.best_values(logits[:rows])
        else:
            with torch.no_grad():
                log_probs = self.reference(batch.ids[:rows], use_cache=False).logits.float().log_softmax(-1)
                following = losses.soft_values(logits[:rows].detach(), log_probs, config.tau)
        following = responses_of(following, batch.prompt_lengths.repeat(num_sides))
        sides = zip(values, following.chunk(num_sides), lengths, strict=False)  # chosen first
        constraint = sum(losses.value_constraint(*side, batch.weights, shared["total"]) for side in sides) / num_sides
        return constraint if config.constraint == "alternate" else on_pairs + config.constraint_weight * constraint

    def _text_loss(self, model: Callable, batch: TextBatch, total: float) -> Tensor:
        facts = batch.lengths, batch.labels, batch.weights, total
        if self.config.objective in SCALAR:
            rewards = responses_of(model(batch.ids), batch.prompt_lengths)
            return (losses.prefix_regression if self.config.objective == "regression" else losses.prefix_cross_entropy)(rewards, *facts)
        log_probs, reference = (
            responses_of(values, batch.prompt_lengths)
            for values in (losses.token_log_probs(model(batch.ids), batch.ids), self._reference_log_probs(batch.ids))
        )
        lengths, labels, weights, total = facts
        return losses.implicit_cross_entropy(log_probs, reference, lengths, labels, self.config.beta, weights, total)

    @torch.no_grad()
    def _reference_log_probs(self, ids: Tensor) -> Tensor:
        return losses.token_log_probs(self.reference(ids, use_cache=False).logits.float(), ids)

    @torch.no_grad()
    def rewards(self, model: nn.Module, prompts: Sequence[Ids], responses: Sequence[Ids]) -> Tensor:
        """The reward of every prefix of each response, as it guides (`rgtg.rewards`): (responses, positions) float32 on the CPU.

        As many at once as `AT_ONCE` allows, fewer where memory runs out; raises MemoryError where a single one does not fit.
        """
        scorer, outputs = Scorer(model).eval(), self._outputs(model)
        lengths = [len(p) + len(r) for p, r in zip(prompts, responses, strict=True)]
        found: list[Tensor] = []
        most = MOST_ROWS
        while len(found) < len(responses):
            start = len(found)
            part = slice(start, start + rows_within(lengths[start : start + most], AT_ONCE // outputs))
            try:
                found += self._rewards_at_once(scorer, prompts[part], responses[part])
                continue
            except (RuntimeError, MemoryError) as error:
                most = (part.stop - start) // 2
                if not out_of_memory(error):
                    raise
                if most == 0:
                    raise MemoryError(f"One answer at a time does not fit: {error}") from error
            clear_device_cache(garbage_collection=True)  # outside of the handler, whose traceback holds what was computed
        rewards = nn.utils.rnn.pad_sequence(found, batch_first=True)
        return rewards.cumsum(1) if self.config.objective in ("autoregressive", "implicit") else rewards

    def _outputs(self, model: nn.Module) -> int:
        """Numbers a token that a forward gives out: logits, or what a scalar head reads."""
        embedding = model.get_input_embeddings().weight
        return embedding.shape[1 if self.config.objective in SCALAR else 0]

    def _rewards_at_once(self, scorer: Scorer, prompts: Sequence[Ids], responses: Sequence[Ids]) -> list[Tensor]:
        ids = pad_right([p + r for p, r in zip(prompts, responses, strict=True)], self.pad_id).to(next(scorer.parameters()).device)
        return list(responses_of(self._along(scorer, ids), torch.tensor([len(p) for p in prompts])).cpu().unbind())

    def _along(self, scorer: Scorer, ids: Tensor) -> Tensor:
        """(rows, length): a scalar or vocabulary model's reward of each prefix, else each token's share of it."""
        if self.config.objective in SCALAR:
            return scorer(ids)
        if self.config.objective == "vocabulary":
            return losses.token_values(scorer(ids), ids)
        log_probs = losses.token_log_probs(scorer(ids), ids)  # its logits are gone before the reference's are there
        return log_probs if self.config.objective == "autoregressive" else self.config.beta * (log_probs - self._reference_log_probs(ids))

    @property
    def log_odds(self) -> float | None:
        """What a difference of two rewards is to be multiplied by for the log-odds of the preference, as the loss has it; None of
        `regression`, whose rewards are labels between 0 and 1."""
        if self.config.objective == "regression":
            return None
        return self.config.beta if self.config.objective == "autoregressive" else 1.0
