"""Training loops as plain streams of progress: a language model on texts, a reward model on pairs.

Knows nothing of the database, of files or of the screen: who listens writes down what it wants.
"""

import math
import random
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from rgtg.config import TrainingConfig
from rgtg.evaluation.metrics import prefix_accuracy
from rgtg.training import objectives
from rgtg.training.data import Ids, TokenPair, collate_pairs, pad_right, pair_batches, token_batches


@dataclass(frozen=True)
class Progress:
    """One line of a running training: `loss` is the mean since the line before, in nats; `seconds` since the start."""

    step: int
    num_steps: int
    loss: float
    seconds: float


class Optimizers:
    """Muon for the matrices inside the layers, AdamW for embeddings, norms and heads; linear warm-up, linear decay to 0.

    Muon: https://kellerjordan.github.io/posts/muon, as in torch.optim (2.9 and newer). With `muon=False` AdamW takes all.
    """

    def __init__(self, model: nn.Module, config: TrainingConfig, num_steps: int):
        matrices, rest = [], []
        for name, weight in model.named_parameters():
            hidden = weight.ndim == 2 and "embed" not in name and "score" not in name and "lm_head" not in name
            (matrices if hidden and config.muon else rest).append(weight)
        self.all = [torch.optim.AdamW(rest, lr=config.learning_rate, betas=(0.9, 0.95), weight_decay=0.0, fused=True)]
        if matrices:
            muon = torch.optim.Muon(matrices, lr=config.muon_learning_rate, momentum=0.95, weight_decay=config.weight_decay)
            self.all.append(muon)
        self.peaks = [o.param_groups[0]["lr"] for o in self.all]
        self.num_steps, self.num_warmup = num_steps, max(1, int(config.warmup * num_steps))

    def step(self, step: int) -> None:
        share = min(1.0, (step + 1) / self.num_warmup, (self.num_steps - step) / (self.num_steps - self.num_warmup))
        for optimizer, peak in zip(self.all, self.peaks, strict=True):
            optimizer.param_groups[0]["lr"] = peak * share
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)


class Dropout:
    """Dropout on what attention and MLP add to the stream, which Llama has no setting for; `remove()` takes it off."""

    def __init__(self, model: nn.Module, p: float):
        parts = [m for name, m in model.named_modules() if name.endswith((".self_attn", ".mlp"))]
        self.handles = [part.register_forward_hook(self._hook(p)) for part in parts] if p > 0 else []

    @staticmethod
    def _hook(p: float) -> Callable:
        def drop(module: nn.Module, inputs: tuple, output: Tensor | tuple) -> Tensor | tuple:
            if isinstance(output, tuple):
                return (F.dropout(output[0], p, module.training), *output[1:])
            return F.dropout(output, p, module.training)

        return drop

    def remove(self) -> None:
        for handle in self.handles:
            handle.remove()


def train_lm(model: nn.Module, rows: Sequence[Ids], pad_id: int, config: TrainingConfig) -> Iterator[Progress]:
    """Next-token training on rows of ids (start and end tokens included), in place; yields progress."""
    luck = random.Random(config.seed)
    batches = [b for _ in range(config.num_epochs) for b in token_batches(rows, config.tokens_per_batch, luck)]

    def loss(batch: list[Ids]) -> Tensor:
        ids = pad_right(batch, pad_id).to(model.device)
        targets = ids[:, 1:].clone()
        for row, text in enumerate(batch):
            targets[row, len(text) - 1 :] = -100  # by length: pad may be eos
        logits = model(ids[:, :-1], use_cache=False).logits
        return F.cross_entropy(logits.float().flatten(0, 1), targets.flatten(), ignore_index=-100)

    yield from _train(model, batches, loss, config)


def train_reward_model(model: nn.Module, pairs: Sequence[TokenPair], pad_id: int, config: TrainingConfig) -> Iterator[Progress]:
    """Preference training of a scalar reward model, in place; yields progress. `config.objective` names the loss."""
    luck = random.Random(config.seed)
    batches: list[list[TokenPair]] = []
    while len(batches) < config.num_steps:
        batches += pair_batches(pairs, config.pairs_per_batch, luck)

    def loss(batch: list[TokenPair]) -> Tensor:
        data = collate_pairs(batch, pad_id)
        scores = prefix_scores(model, data.ids.to(model.device)).float()
        sides = response_rewards(scores, data.prompt_lengths)
        lengths = data.chosen_lengths.to(model.device), data.rejected_lengths.to(model.device)
        if config.objective == "full":
            return objectives.full_bradley_terry(*sides, *lengths)
        value = objectives.partial_bradley_terry(*sides, *lengths, data.num_common.to(model.device), unequal=config.unequal)
        return value + config.centring * objectives.centring(*sides, *lengths)

    yield from _train(model, batches[: config.num_steps], loss, config)


def _train(model: nn.Module, batches: Sequence, loss: Callable, config: TrainingConfig) -> Iterator[Progress]:
    torch.manual_seed(config.seed)
    optimizers, dropout = Optimizers(model, config, len(batches)), Dropout(model, config.dropout)
    model.train()
    started, total, since = time.monotonic(), 0.0, 0
    for step, batch in enumerate(batches):
        with torch.autocast(model.device.type, torch.bfloat16, enabled=config.autocast):
            value = loss(batch)
        value.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizers.step(step)
        total, since = total + value.item(), since + 1
        if (step + 1) % config.report_every == 0 or step + 1 == len(batches):
            yield Progress(step + 1, len(batches), total / since, time.monotonic() - started)
            total, since = 0.0, 0
    dropout.remove()
    model.eval()


def prefix_scores(model: nn.Module, ids: Tensor) -> Tensor:
    """Reward of every prefix from one forward: right-padded ids (rows, length) -> (rows, length)."""
    return model.score(model.base_model(ids, use_cache=False).last_hidden_state)[..., 0]


def response_rewards(scores: Tensor, prompt_lengths: Tensor) -> tuple[Tensor, Tensor]:
    """Cuts the prompt off: (2 * pairs, length) -> chosen and rejected (pairs, positions), entry t after t + 1 response tokens."""
    rows, width = scores.shape
    first = prompt_lengths.to(scores.device).repeat(2)[:, None]
    at = first + torch.arange(width - int(prompt_lengths.min()), device=scores.device)[None]
    cut = scores.gather(1, at.clamp(max=width - 1))
    return cut[: rows // 2], cut[rows // 2 :]


@torch.inference_mode()
def pair_rewards(model: nn.Module, pairs: Sequence[TokenPair], pad_id: int, size: int = 128) -> tuple[Tensor, ...]:
    """Rewards of every prefix of every pair, without training: chosen, rejected (pairs, positions), their lengths, common."""
    chosen, rejected, lengths = [], [], []
    for start in range(0, len(pairs), size):
        data = collate_pairs(pairs[start : start + size], pad_id)
        a, b = response_rewards(prefix_scores(model, data.ids.to(model.device)).float().cpu(), data.prompt_lengths)
        chosen += a.unbind()
        rejected += b.unbind()
        lengths.append(torch.stack([data.chosen_lengths, data.rejected_lengths, data.num_common]))
    stacked = torch.cat(lengths, 1)
    pad = nn.utils.rnn.pad_sequence
    return pad(chosen, batch_first=True), pad(rejected, batch_first=True), *stacked


def held_out_accuracy(model: nn.Module, pairs: Sequence[TokenPair], pad_id: int) -> dict[str, dict[str, float | int]]:
    """Accuracy by prefix length on pairs that trained nothing (see `metrics.prefix_accuracy`)."""
    return prefix_accuracy(*pair_rewards(model, pairs, pad_id))


@torch.inference_mode()
def negative_log_likelihood(model: nn.Module, rows: Sequence[Ids], pad_id: int, size: int = 128) -> tuple[float, int]:
    """Total nats over the rows (all tokens after the first, ending included) and the number of tokens."""
    total, num_tokens = 0.0, 0
    for start in range(0, len(rows), size):
        batch = rows[start : start + size]
        ids = pad_right(batch, pad_id).to(model.device)
        log_probs = model(ids[:, :-1], use_cache=False).logits.float().log_softmax(-1)
        picked = log_probs.gather(2, ids[:, 1:, None])[..., 0]
        inside = torch.arange(ids.shape[1] - 1, device=ids.device)[None] < torch.tensor([len(r) - 1 for r in batch], device=ids.device)[:, None]
        total -= float((picked * inside).sum())
        num_tokens += int(inside.sum())
    return total, num_tokens


def perplexity(total_nats: float, num_tokens: int) -> float:
    return math.exp(total_nats / num_tokens)
