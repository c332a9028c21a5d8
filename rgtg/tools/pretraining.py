"""Pretraining of a language model on texts, for the starter's base LM, as a stream of progress.

Knows nothing of reward models, files or the screen.
"""

import math
import random
import time
from collections.abc import Iterator, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import PreTrainedModel

from rgtg.config import LMTrainingConfig
from rgtg.preferences.batches import Ids, pad_right, token_batches
from rgtg.training.reward_trainer import Dropout, Progress, knows_bfloat16


class Optimizers:
    """Muon for the matrices inside the layers, AdamW for embeddings, norms and heads; linear warm-up, linear decay to 0.

    Muon: https://kellerjordan.github.io/posts/muon, as in torch.optim (2.9 and newer). With `muon=False` AdamW takes all.
    """

    def __init__(self, model: PreTrainedModel, config: LMTrainingConfig, num_steps: int):
        matrices: list[nn.Parameter] = []
        rest: list[nn.Parameter] = []
        for name, weight in model.named_parameters():
            hidden = weight.ndim == 2 and "embed" not in name and "score" not in name and "lm_head" not in name
            (matrices if hidden and config.muon else rest).append(weight)
        self.all: list[torch.optim.Optimizer] = [torch.optim.AdamW(rest, lr=config.learning_rate, betas=(0.9, 0.95), weight_decay=0.0, fused=True)]
        if matrices:
            muon = torch.optim.Muon(matrices, lr=config.muon_learning_rate, momentum=0.95, weight_decay=config.weight_decay)
            self.all.append(muon)
        self.peaks = [o.param_groups[0]["lr"] for o in self.all]
        self.num_steps, self.num_warmup = num_steps, max(1, int(config.warmup_ratio * num_steps))

    def step(self, step: int) -> None:
        share = min(1.0, (step + 1) / self.num_warmup, (self.num_steps - step) / max(1, self.num_steps - self.num_warmup))
        for optimizer, peak in zip(self.all, self.peaks, strict=True):
            optimizer.param_groups[0]["lr"] = peak * share
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)


def train_lm(model: PreTrainedModel, rows: Sequence[Ids], pad_id: int, config: LMTrainingConfig) -> Iterator[Progress]:
    """Next-token training on rows of ids (start and end tokens included), in place; yields progress."""
    rng = random.Random(config.seed)
    batches = [b for _ in range(config.num_train_epochs) for b in token_batches(rows, config.tokens_per_batch, rng)]
    torch.manual_seed(config.seed)
    optimizers, dropout = Optimizers(model, config, len(batches)), Dropout(model, config.dropout)
    model.train()
    started, total, since = time.monotonic(), 0.0, 0
    try:
        for step, batch in enumerate(batches):
            with torch.autocast(model.device.type, torch.bfloat16, enabled=config.bf16 and knows_bfloat16(model.device.type)):
                value = next_token_loss(model, batch, pad_id)
            value.backward()
            nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizers.step(step)
            total, since = total + value.item(), since + 1
            if (step + 1) % config.logging_steps == 0 or step + 1 == len(batches):
                yield Progress(step + 1, len(batches), total / since, time.monotonic() - started)
                total, since = 0.0, 0
    finally:  # stopped early, too
        dropout.remove()
        model.eval()


def next_token_loss(model: PreTrainedModel, batch: Sequence[Ids], pad_id: int) -> Tensor:
    ids = pad_right(batch, pad_id).to(model.device)
    targets = ids[:, 1:].clone()
    for row, text in enumerate(batch):
        targets[row, len(text) - 1 :] = -100  # by length: pad may be eos
    logits = model(ids[:, :-1], use_cache=False).logits
    return F.cross_entropy(logits.float().flatten(0, 1), targets.flatten(), ignore_index=-100)


@torch.inference_mode()
def negative_log_likelihood(model: PreTrainedModel, rows: Sequence[Ids], pad_id: int, size: int = 128) -> tuple[float, int]:
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
