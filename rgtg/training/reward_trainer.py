"""The training loop of reward models: transformers' Trainer, with our batches, loss and checkpoints.

Knows nothing of the database, data formats or the screen: progress goes to a callback. Dropout is seeded from (seed, step,
process) and the order of the items from the seed alone, so a resumed training gives the same result.
"""

import math
import os
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from accelerate.utils.memory import clear_device_cache
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.utils.data import SequentialSampler
from transformers import PreTrainedModel, PrinterCallback, Trainer, TrainerCallback, TrainingArguments

from rgtg.errors import BadData, BadReward
from rgtg.preferences.batches import Item, Share, TokenPair, plan
from rgtg.training import checkpoints
from rgtg.training.config import TrainingConfig
from rgtg.training.criterion import Criterion, FrozenScorer, Scorer, check_data, criterion_for, out_of_memory

WEIGHTS = "weights.safetensors"  # of a checkpoint: the trained weights only
A_MINUTE = 60.0
OF_A_HEAD = 1e-2  # learning rate where the head alone is trained
PATIENCE = 4 * 3600  # seconds that the other processes wait while the first evaluates and saves


@dataclass(frozen=True)
class Progress:
    """Progress of a training: `loss` is the mean since the previous report, in nats; `seconds` count from the start."""

    step: int
    num_steps: int
    loss: float
    seconds: float
    seconds_left: float | None = None
    held_out_accuracy: float | None = None

    @property
    def text(self) -> str:
        """`step 50 of 800, loss 0.6931, 12 s`."""
        return f"step {self.step} of {self.num_steps}, loss {self.loss:.4f}, {self.seconds:.0f} s"


def schedule(config: TrainingConfig, num_items: int, num_weights: int) -> TrainingConfig:
    """`config` with its automatic values (0) resolved: steps and batch size from the number of pairs, learning rate from that of weights."""
    size = config.batch_size or (16 if num_items < 400 else 32 if num_items < 4000 else 64)
    size = min(size, max(1, num_items))
    passes = 32 if num_items < 60 else 20 if num_items < 150 else 8 if num_items < 400 else 4 if num_items < 2000 else 2 if num_items < 20_000 else 1
    rate = config.learning_rate or (2e-4 if num_weights < 3e7 else 5e-5 if num_weights < 3e8 else 1e-5)
    if config.objective.frozen and not config.learning_rate:
        rate = OF_A_HEAD
    if config.lora and not config.learning_rate:
        rate = 5e-4  # GenARM's
    return replace(config, batch_size=size, max_steps=config.max_steps or max(1, math.ceil(passes * num_items / size)), learning_rate=rate)


class Dropout:
    """Dropout on the outputs of attention and MLP, for which Llama has no setting; `remove()` removes it."""

    def __init__(self, model: PreTrainedModel, p: float):
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


def train_reward_model(
    model: PreTrainedModel,
    items: Sequence[Item],
    pad_id: int,
    config: TrainingConfig,
    listen: Callable[[Progress], None] = lambda progress: None,
    should_stop: Callable[[], bool] = lambda: False,
    measure: Callable[[PreTrainedModel], float | None] | None = None,
    folder: Path | None = None,
    run: str = "",
    end_id: int | None = None,
) -> bool:
    """Train `model` by `config.objective`, in place; True where it finished, False where it was stopped.

    `listen` is called every `logging_steps` steps, with the result of `measure`, which is called some ten times. Checkpoints are
    written to `folder`, and the training `run` resumes from its newest complete one. Raises BadData where there is nothing to
    train on, BadReward where the loss is not finite, MemoryError where a single pair does not fit.
    """
    if not items:
        raise BadData("There is nothing to train on.", "Found no pairs.", "Vote for the better of two answers, or give a file of pairs.")
    config = schedule(config, len(items), sum(p.numel() for p in model.parameters() if p.requires_grad))
    check_data(config.objective, isinstance(items[0], TokenPair), all(item.labels for item in items if isinstance(item, TokenPair)))
    criterion = criterion_for(model, config.objective, pad_id, end_id)
    dropout = Dropout(model, config.dropout)
    if config.gradient_checkpointing:
        switch_checkpointing(model, True)
    try:
        with tempfile.TemporaryDirectory() if folder is None else nullcontext(str(folder)) as checkpoint_folder:
            trainer = PreferenceTrainer(model, criterion, config, items, Path(checkpoint_folder), run if folder else None)
            trainer.add_callback(Listener(trainer, listen, should_stop, measure))
            newest = checkpoints.newest(folder, run) if folder else None
            trainer.train(resume_from_checkpoint=str(newest) if newest else None)
            return not trainer.stopped
    finally:
        dropout.remove()
        if config.gradient_checkpointing:
            switch_checkpointing(model, False)
        model.eval()


# transformers 5.24 has a new name for it; the old one goes in 6
CHECKPOINTING = "activation_checkpointing" if hasattr(PreTrainedModel, "activation_checkpointing_enable") else "gradient_checkpointing"


def switch_checkpointing(model: nn.Module, on: bool) -> None:
    """Gradient checkpointing on or off: less memory, slower."""
    getattr(model, f"{CHECKPOINTING}_{'enable' if on else 'disable'}")()


class PreferenceTrainer(Trainer):
    """transformers' Trainer on shares of steps; where memory runs out a share is computed in halves, with the same result."""

    def __init__(self, model: PreTrainedModel, criterion: Criterion, config: TrainingConfig, items: Sequence[Item], folder: Path, run: str | None):
        self.criterion, self.config, self.folder, self.run, self.stopped = criterion, config, folder, run, False
        self.at_once = config.batch_size  # items in one forward; halved where memory runs out
        args = training_arguments(config, model, folder)
        self.shares = plan(items, config.batch_size, config.max_steps, config.seed, args.world_size)
        self.scorer = FrozenScorer(model) if config.objective.frozen else Scorer(model)
        super().__init__(self.scorer, args, data_collator=lambda rows: {"share": rows[0]}, train_dataset=self.shares)
        self.remove_callback(PrinterCallback)
        self.last_saved = time.monotonic()

    def _get_train_sampler(self, train_dataset: Any = None) -> SequentialSampler:
        return SequentialSampler(self.shares)  # `plan` has drawn the order

    def compute_loss(self, model: nn.Module, inputs: dict[str, Any], return_outputs: bool = False, num_items_in_batch: Any = None) -> Tensor:
        """The loss of a share's items, scaled so that the sum over a step's forwards and processes is the mean over items."""
        share: Share = inputs["share"]
        return self.criterion.loss(model, share.items, share.total, self.state.global_step, self.args.device)

    def training_step(self, model: nn.Module, inputs: dict[str, Any], num_items_in_batch: Any = None) -> Tensor:
        model.train()
        while True:
            try:
                value = self._share_step(model, inputs["share"])
                break
            except (RuntimeError, MemoryError) as error:
                if not out_of_memory(error):
                    raise
                self._take_less(error)
            model.zero_grad()
            clear_device_cache(garbage_collection=True)  # outside of the handler, whose traceback keeps tensors alive
        self._add_up(model)
        return value * self.args.world_size  # the reported loss is averaged over processes

    def _share_step(self, model: nn.Module, share: Share) -> Tensor:
        torch.manual_seed((self.config.seed * 1_000_003 + self.state.global_step) * 1009 + self.args.process_index)
        value = torch.zeros((), device=self.args.device)
        with self.accelerator.no_sync(model):
            for start in range(0, len(share.items), self.at_once):
                loss = self.compute_loss(model, {"share": replace(share, items=share.items[start : start + self.at_once])})
                self.accelerator.backward(loss)
                value += loss.detach()
        return value

    def _add_up(self, model: nn.Module) -> None:
        """Sum the gradients of all processes. Not during the backward passes: a process that computes its share in halves, or again,
        would leave the others waiting."""
        if self.args.world_size > 1:
            weights = [p for p in model.parameters() if p.requires_grad]
            for weight in weights:
                weight.grad = torch.zeros_like(weight) if weight.grad is None else weight.grad
            for sent in [torch.distributed.all_reduce(weight.grad, async_op=True) for weight in weights]:
                sent.wait()

    def _take_less(self, error: Exception) -> None:
        inner = self.accelerator.unwrap_model(self.model).model
        if self.at_once > 1:
            self.at_once = math.ceil(min(self.at_once, self.config.batch_size) / 2)
        elif not getattr(inner, f"is_{CHECKPOINTING}", False):
            switch_checkpointing(inner, True)
        else:
            raise MemoryError(f"One pair at a time does not fit, with gradient checkpointing either: {error}") from error

    # checkpoints

    def _save_checkpoint(self, model: nn.Module, trial: Any) -> None:
        if self.run is None or not self.args.should_save:
            return
        trained = {name: weight.detach().contiguous() for name, weight in self.scorer.named_parameters() if weight.requires_grad}

        def fill(folder: Path) -> None:
            save_file(trained, folder / WEIGHTS)
            self._save_optimizer_and_scheduler(str(folder))
            self.state.save_to_json(str(folder / "trainer_state.json"))

        checkpoints.write(self.folder, self.state.global_step, self.run, fill)
        self.last_saved = time.monotonic()

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: nn.Module | None = None) -> None:
        weights = load_file(Path(resume_from_checkpoint) / WEIGHTS)
        with torch.no_grad():
            for name, weight in self.scorer.named_parameters():
                if weight.requires_grad:
                    weight.copy_(weights[name])

    def _load_rng_state(self, checkpoint: str | None) -> None:
        pass  # the random state follows from the step


class Listener(TrainerCallback):
    """Reports progress, asks whether to stop, and decides when to write a checkpoint."""

    def __init__(self, trainer: PreferenceTrainer, listen: Callable, should_stop: Callable, measure: Callable | None):
        self.trainer, self.listen, self.should_stop, self.measure = trainer, listen, should_stop, measure
        self.begun = time.monotonic()
        self.first_step = self.measured_at = 0
        self.accuracy: float | None = None

    def on_train_begin(self, args: TrainingArguments, state: Any, control: Any, **kwargs: Any) -> None:
        self.begun, self.first_step = time.monotonic(), state.global_step

    def on_step_end(self, args: TrainingArguments, state: Any, control: Any, **kwargs: Any) -> None:
        every = self.trainer.config.save_steps
        due = state.global_step % every == 0 if every else time.monotonic() - self.trainer.last_saved > A_MINUTE
        if state.global_step < state.max_steps and args.world_size == 1 and self.should_stop():
            control.should_training_stop, self.trainer.stopped, due = True, True, True
        control.should_save = due
        control.should_log = state.global_step % args.logging_steps == 0 or state.global_step == state.max_steps

    def on_log(self, args: TrainingArguments, state: Any, control: Any, logs: dict[str, Any] | None = None, **kwargs: Any) -> None:
        if not logs or "loss" not in logs:
            return
        if not math.isfinite(logs["loss"]):
            found = f"At step {state.global_step} the loss is {logs['loss']}."
            raise BadReward("The training diverged.", found, "Choose a smaller learning rate.")
        if not state.is_world_process_zero:
            return
        last = state.global_step == state.max_steps
        if self.measure and not last and state.global_step - self.measured_at >= max(1, state.max_steps // 10):
            model = self.trainer.accelerator.unwrap_model(self.trainer.model).model
            self.accuracy, self.measured_at = self.measure(model.eval()), state.global_step
        seconds = time.monotonic() - self.begun
        left = seconds / max(1, state.global_step - self.first_step) * (state.max_steps - state.global_step)
        self.listen(Progress(state.global_step, state.max_steps, logs["loss"], seconds, left, self.accuracy))


def knows_bfloat16(device: str) -> bool:
    """Whether the hardware supports bfloat16; a CPU that emulates it takes three times as long as in float32."""
    if device == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    known = torch.cpu.get_capabilities()
    return device == "cpu" and bool(known.get("avx512_bf16") or known.get("amx_bf16") or known.get("bf16"))


def training_arguments(config: TrainingConfig, model: PreTrainedModel, folder: Path) -> TrainingArguments:
    device = next(model.parameters()).device.type
    several = int(os.environ.get("WORLD_SIZE", 1)) > 1
    bf16 = config.bf16 and knows_bfloat16(device)
    args = TrainingArguments(
        output_dir=str(folder), max_steps=config.max_steps, per_device_train_batch_size=1, gradient_accumulation_steps=1,
        learning_rate=config.learning_rate, lr_scheduler_type="linear", warmup_steps=max(1, int(config.warmup_ratio * config.max_steps)),
        weight_decay=config.weight_decay, adam_beta1=0.9, adam_beta2=0.95, max_grad_norm=1.0, optim="adamw_torch_fused",
        bf16=bf16, use_cpu=device == "cpu", ddp_backend="gloo" if device == "cpu" and several else None, ddp_find_unused_parameters=False,
        ddp_timeout=PATIENCE,
        logging_steps=config.logging_steps, logging_nan_inf_filter=False, save_strategy="no", report_to=[], disable_tqdm=True,
        log_level="error", remove_unused_columns=False, dataloader_pin_memory=False, seed=config.seed,
    )  # fmt: skip
    args._n_gpu = min(args.n_gpu, 1)  # several GPUs in one process would be DataParallel; use torchrun
    return args
