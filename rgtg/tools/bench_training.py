"""Benchmark of training speed: one forward for all prefixes against every prefix on its own, ours against TRL's RewardTrainer, and how
many tokens a second a large model learns from on a GPU.

Knows nothing of the screen. Where two are compared, both compute the same loss on the same pairs, or the line says so.
"""

import copy
import random
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from itertools import pairwise
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import LlamaConfig, LlamaForSequenceClassification

from rgtg.config import STARTER_DIR
from rgtg.preferences.batches import TokenPair, pad_right, plan
from rgtg.training.config import TrainingConfig
from rgtg.training.criterion import Criterion, Scorer, criterion_for
from rgtg.training.objectives import Full, Partial
from rgtg.training.reward_trainer import Progress, train_reward_model
from rgtg.training.starts import Start, add_lora, load_start

PAIRS_AT_ONCE = 4
LENGTHS = (32, 64, 128)  # of the answers in tokens


def random_pairs(num_pairs: int, num_tokens: int, vocabulary: int, seed: int = 0, spread: int = 0) -> list[TokenPair]:
    """Pairs of random answers after a start token, `num_tokens` long, or at random up to `spread` shorter."""
    rng = random.Random(seed)
    draw = lambda: tuple(rng.randrange(3, vocabulary) for _ in range(num_tokens - rng.randint(0, spread)))  # noqa: E731
    return [TokenPair((0,), draw(), draw()) for _ in range(num_pairs)]


def train(seconds: float, listen: Callable[[int, int], None] = lambda done, total: None) -> Iterator[dict]:
    """Our one pass over all prefixes against enumerated prefixes, our full objective against TRL's RewardTrainer, and throughput on a GPU.

    `listen` is given the number of measurements made and of all: a length or a comparison each.
    """
    begun = time.perf_counter()
    yield {"bench": "train", "cpu_threads": torch.get_num_threads(), "torch": torch.__version__}
    total = len(LENGTHS) + 2
    listen(0, total)
    for done, line in enumerate(one_pass(), 1):
        listen(done, total)
        yield line
    measurements: tuple[Callable[[], Iterator[dict]], ...] = (against_trl, throughput)
    for done, measure in enumerate(measurements, len(LENGTHS) + 1):
        if time.perf_counter() - begun < seconds:
            yield from measure()
        listen(done, total)
    yield {"bench": "train", "seconds": round(time.perf_counter() - begun, 1)}


# --- one pass against enumerated prefixes -----------------------------------------------------------------------------


def one_pass(lengths: Sequence[int] = LENGTHS, rounds: int = 3) -> Iterator[dict]:
    """Seconds for the loss and gradient of the same pairs: `ratio` is how many times faster one pass is; (L + 1) / 2 by theory."""
    start = _start()
    criterion = criterion_for(start.model, Partial(), start.loaded.pad_id, 1)
    scorer = Scorer(start.model).train()
    for length in lengths:
        pairs = random_pairs(PAIRS_AT_ONCE, length, start.loaded.vocabulary_size, length)
        budget = 2 * PAIRS_AT_ONCE * (length + 1)
        ways: dict[str, Callable[[], float]] = {
            "ours": partial(_with_gradient, scorer, partial(_at_once, criterion, scorer, pairs)),
            "enumerated": partial(_with_gradient, scorer, partial(_enumerated, scorer, pairs, start.loaded.pad_id, budget)),
        }
        ways["ours"]()  # warm up
        times: dict[str, list[float]] = {name: [] for name in ways}
        losses = {}
        for _ in range(rounds):
            for name, way in ways.items():
                begun = time.perf_counter()
                losses[name] = way()
                times[name].append(time.perf_counter() - begun)
        one_pass_seconds, enumerated_seconds = (statistics.median(times[name]) for name in ("ours", "enumerated"))
        yield {
            "bench": "train", "what": "one pass for all prefixes", "L": length, "seconds": round(one_pass_seconds, 4),
            "enumerated_seconds": round(enumerated_seconds, 4),
            "ratio": round(enumerated_seconds / one_pass_seconds, 1), "theory": (length + 1) / 2, "aim": length / 4, "loss": round(losses["ours"], 6),
            "loss_difference": abs(losses["ours"] - losses["enumerated"]),
        }  # fmt: skip


def _with_gradient(model: nn.Module, parts: Callable[[], Sequence[Tensor] | Iterator[Tensor]]) -> float:
    model.zero_grad(set_to_none=True)
    total = 0.0
    for part in parts():
        part.backward()
        total += part.item()
    return total


def _at_once(criterion: Criterion, scorer: Scorer, pairs: Sequence[TokenPair]) -> Iterator[Tensor]:
    yield criterion.loss(scorer, pairs, len(pairs), 0, torch.device("cpu"))


def _enumerated(scorer: nn.Module, pairs: Sequence[TokenPair], pad_id: int, budget: int) -> Iterator[Tensor]:
    """Every pair cut at every length, as PARGS trains, in batches of about `budget` tokens, sorted by length, so that there is no padding."""
    cut = []
    for pair in pairs:
        longest = max(len(pair.chosen_ids), len(pair.rejected_ids))
        for n in range(pair.num_common + 1, longest + 1):
            weight = 1 / ((longest - pair.num_common) * len(pairs))
            cut.append((pair.prompt_ids + pair.chosen_ids[:n], pair.prompt_ids + pair.rejected_ids[:n], weight))
    cut.sort(key=lambda entry: len(entry[0]))
    batch: list = []
    for entry in cut:
        if batch and 2 * (len(batch) + 1) * len(entry[0]) > budget:
            yield _batch_loss(scorer, batch, pad_id)
            batch = []
        batch.append(entry)
    yield _batch_loss(scorer, batch, pad_id)


def _batch_loss(scorer: nn.Module, batch: Sequence, pad_id: int) -> Tensor:
    rows = [entry[0] for entry in batch] + [entry[1] for entry in batch]
    ends = torch.tensor([len(row) - 1 for row in rows])[:, None]
    rewards = scorer(pad_right(rows, pad_id)).gather(1, ends)[:, 0]
    gap = rewards[: len(batch)] - rewards[len(batch) :]
    return (-F.logsigmoid(gap) * torch.tensor([entry[2] for entry in batch])).sum()


# --- ours against TRL -------------------------------------------------------------------------------------------------


def against_trl(num_steps: int = 20, size: int = 16, num_tokens: int = 48) -> Iterator[dict]:
    """Seconds per step of our full objective and of TRL's RewardTrainer: same model, pairs, order, optimizer, no dropout."""
    try:
        import trl  # noqa: F401
    except ImportError:
        yield {"bench": "train", "what": "full objective against TRL", "skipped": "trl is not installed (requirements-dev.txt)"}
        return
    start = _start()
    pairs = random_pairs(num_steps * size, num_tokens, start.loaded.vocabulary_size, spread=num_tokens // 2)
    config = TrainingConfig(objective=Full(), max_steps=num_steps, batch_size=size, learning_rate=1e-4, dropout=0.0, bf16=False, logging_steps=1)
    in_order = [pair for share in plan(pairs, size, num_steps, config.seed) for pair in share.items if isinstance(pair, TokenPair)]
    contestants = {"ours": lambda: _ours(start, pairs, config), "TRL": lambda: _trl(start, in_order, config)}
    results: dict[str, tuple[list[float], list[float]]] = {name: ([], []) for name in contestants}
    for _ in range(2):
        for name, contestant in contestants.items():
            losses, stamps = contestant()
            results[name][0][:] = losses
            results[name][1].extend(b - a for a, b in pairwise(stamps[2:]))
    medians = {name: statistics.median(times) for name, (_, times) in results.items()}
    differences = [abs(a - b) for a, b in zip(results["ours"][0], results["TRL"][0], strict=True)]
    yield {
        "bench": "train", "what": "full objective against TRL", "steps": num_steps, "pairs_a_step": size,
        "ms_a_step": round(1000 * medians["ours"], 1), "trl_ms_a_step": round(1000 * medians["TRL"], 1),
        "trl_over_ours": round(medians["TRL"] / medians["ours"], 3), "largest_loss_difference": max(differences),
    }  # fmt: skip


def _ours(start: Start, pairs: Sequence[TokenPair], config: TrainingConfig) -> tuple[list[float], list[float]]:
    losses, stamps = [], []

    def listen(progress: Progress) -> None:
        losses.append(progress.loss)
        stamps.append(time.perf_counter())

    train_reward_model(copy.deepcopy(start.model), pairs, start.loaded.pad_id, config, listen)
    return losses, stamps


def _trl(start: Start, pairs: Sequence[TokenPair], config: TrainingConfig) -> tuple[list[float], list[float]]:
    from datasets import Dataset
    from transformers import PrinterCallback, TrainerCallback
    from trl import RewardConfig, RewardTrainer

    losses, stamps = [], []

    class Clock(TrainerCallback):
        def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, Any] | None = None, **kwargs: Any) -> None:
            if logs and "loss" in logs:
                losses.append(logs["loss"])
                stamps.append(time.perf_counter())

    rows = [{"chosen_ids": [*p.prompt_ids, *p.chosen_ids], "rejected_ids": [*p.prompt_ids, *p.rejected_ids]} for p in pairs]
    with tempfile.TemporaryDirectory() as folder:
        args = RewardConfig(
            output_dir=folder, max_steps=config.max_steps, per_device_train_batch_size=config.batch_size, learning_rate=config.learning_rate,
            lr_scheduler_type="linear", warmup_steps=max(1, int(config.warmup_ratio * config.max_steps)), adam_beta2=0.95, max_grad_norm=1.0,
            optim="adamw_torch_fused", logging_steps=1, save_strategy="no", report_to=[], disable_tqdm=True, use_cpu=True, bf16=False,
            max_length=None, train_sampling_strategy="sequential", dataloader_pin_memory=False, gradient_checkpointing=False, log_level="error",
        )  # fmt: skip
        trainer = RewardTrainer(
            copy.deepcopy(start.model), args=args, train_dataset=Dataset.from_list(rows), processing_class=start.tokenizer, callbacks=[Clock()]
        )
        trainer.remove_callback(PrinterCallback)
        trainer.train()
    return losses, stamps


# --- throughput at the size of a real base LM ------------------------------------------------------------------------------

A_BILLION = {"hidden_size": 2048, "num_hidden_layers": 16, "num_attention_heads": 32, "num_key_value_heads": 8, "intermediate_size": 8192}
A_BILLION |= {"vocab_size": 128_256, "max_position_embeddings": 2048, "tie_word_embeddings": True}  # the shape of Llama 3.2 1B


def throughput(shape: dict = A_BILLION, size: int = 8, num_tokens: int = 256, num_steps: int = 12, device: str = "cuda") -> Iterator[dict]:
    """Tokens a second and peak memory of the partial objective on random weights in bfloat16: all weights, with gradient
    checkpointing, and LoRA. Medians over the steps behind the first three."""
    if device == "cuda" and not torch.cuda.is_available():
        yield {"bench": "train", "what": "throughput at 1B parameters", "skipped": "there is no GPU here"}
        return
    pairs = random_pairs(num_steps * size, num_tokens, shape["vocab_size"])
    ways: dict[str, dict[str, Any]] = {
        "all weights": {},
        "all weights, gradient checkpointing": {"gradient_checkpointing": True},
        "LoRA": {"lora": True},
    }
    for name, options in ways.items():
        torch.manual_seed(0)
        with torch.device(device):
            model: Any = LlamaForSequenceClassification(LlamaConfig(**shape | {"num_labels": 1, "pad_token_id": 0}))
        model = model.to(torch.bfloat16)
        num_parameters = sum(p.numel() for p in model.parameters())
        config = TrainingConfig(max_steps=num_steps, batch_size=size, learning_rate=1e-5, dropout=0.0, logging_steps=1, **options)
        if config.lora:
            add_lora(model, config)
        if device == "cuda":
            torch.cuda.reset_peak_memory_stats()
        stamps: list[float] = []
        train_reward_model(model, pairs, 0, config, partial(_stamp, stamps))
        seconds = statistics.median(b - a for a, b in pairwise(stamps[2:]))
        line = {
            "bench": "train", "what": "throughput at 1B parameters" if shape is A_BILLION else "throughput", "weights": name,
            "parameters": num_parameters, "trained": sum(p.numel() for p in model.parameters() if p.requires_grad), "pairs_a_step": size,
            "tokens_an_answer": num_tokens, "ms_a_step": round(1000 * seconds, 1), "tokens_per_second": round(2 * size * num_tokens / seconds),
        }  # fmt: skip
        if device == "cuda":
            line |= {"peak_memory_gb": round(torch.cuda.max_memory_allocated() / 1e9, 2), "device": torch.cuda.get_device_name()}
        yield line
        del model
        if device == "cuda":
            torch.cuda.empty_cache()


def _stamp(stamps: list[float], progress: Progress) -> None:
    stamps.append(time.perf_counter())


def _start() -> Start:
    """The starter's base LM with a head that says something."""
    start = load_start(str(STARTER_DIR / "base-lm"), Partial(), "cpu")
    torch.manual_seed(0)
    head: Any = start.model.score
    nn.init.normal_(head.weight, std=0.05)
    return start
