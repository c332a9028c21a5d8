"""What a training starts from and leaves: a folder or hub id becomes a model to train, with LoRA if asked; a model becomes a folder,
which is loaded back and asked for two answers before anybody sees it in a list.

Knows nothing of data or losses.
"""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from rgtg.errors import BadReward, BadSettings, ModelRefused
from rgtg.models.catalog import has_scalar_head, read_config
from rgtg.models.lm import BaseLM
from rgtg.models.loading import HasWeights, Loaded, load_causal_lm, load_to_train, resolve
from rgtg.models.probe import check_reads
from rgtg.records import ModelCard
from rgtg.rewards.kinds import load_reward_model
from rgtg.training.base import Objective
from rgtg.training.config import TrainingConfig
from rgtg.training.objectives import OBJECTIVES

if TYPE_CHECKING:
    from peft import PeftModel

PROBES = (("the food was", " good ."), ("the food was", " bad ."))  # prompt and answer, asked of every saved model
PROBLEM_TYPE: Literal["regression"] = "regression"  # what transformers calls a head whose output is a number and no class


@dataclass(frozen=True, eq=False)
class Start(HasWeights):
    """A model in memory, its weights free to change. `is_trained` says whether it is a reward model of the objective already."""

    loaded: Loaded
    is_trained: bool
    stored_dtype: torch.dtype

    @property
    def model(self) -> PreTrainedModel:
        return self.loaded.model

    @property
    def tokenizer(self) -> PreTrainedTokenizerBase:
        return self.loaded.tokenizer

    @property
    def card(self) -> ModelCard | None:
        return self.loaded.card

    @property
    def parent(self) -> str:
        """Its name where it is a reward model, of whatever kind; else ""."""
        return self.name if self.is_trained or (self.card is not None and self.card.kind != "base_lm") else ""

    @property
    def reference(self) -> str:
        """Name and revision, as a card names what a reward is a ratio to."""
        return f"{self.name}@{self.loaded.ref.revision}"


def check_start(name: str, objective: Objective) -> dict[str, Any]:
    """The config of a model that fits an objective, before any weight is read. Raises ModelNotFound, ModelRefused."""
    folder, _ = resolve(name)
    config = read_config(folder)
    if not objective.scalar and has_scalar_head(config):
        do = f"Start from a base LM, or choose one of {', '.join(key for key, kind in OBJECTIVES.items() if kind.scalar)}."
        raise ModelRefused(f"`{folder.name}` cannot be trained by `{objective.key}`.", "It has a scalar head in place of the vocabulary's.", do)
    return config


def load_start(name: str, objective: Objective, device: str = "auto", dtype: str = "float32") -> Start:
    """A base LM or an earlier reward model to train by `objective`; a new scalar head starts at 0. Raises ModelNotFound, ModelRefused."""
    config = check_start(name, objective)
    loaded, complete = load_to_train(name, objective.scalar, device, dtype)
    model: Any = loaded.model
    check_reads(loaded, lambda **inputs: model.base_model(**inputs).last_hidden_state if objective.scalar else model(**inputs).logits)
    is_trained = complete if objective.scalar else loaded.card is not None and loaded.card.objective == objective.key
    stored = getattr(torch, str(config.get("dtype") or config.get("torch_dtype") or dtype).removeprefix("torch."), torch.float32)
    return Start(loaded, is_trained, stored)


def add_lora(model: PreTrainedModel, config: TrainingConfig) -> "PeftModel":
    """A PeftModel around `model`, whose own weights are frozen and whose layers now hold small matrices, drawn from the config's
    seed; a scalar head stays free."""
    try:
        import peft
    except ImportError as error:
        raise BadSettings("LoRA needs the library peft.", "It is not installed.", "Run `pip install peft`, or train all weights.") from error
    settings = peft.LoraConfig(
        r=config.lora_r, lora_alpha=2 * config.lora_r, lora_dropout=config.dropout, target_modules="all-linear",
        task_type="SEQ_CLS" if config.objective.scalar else "CAUSAL_LM",
    )  # fmt: skip
    with torch.random.fork_rng(range(torch.cuda.device_count())):
        torch.manual_seed(config.seed)
        return peft.get_peft_model(model, settings)


def save_model(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, card: ModelCard, folder: Path) -> None:
    """A plain transformers folder in safetensors with `card.json` beside it; `folder` must not be there, it appears whole.
    A scalar head is said to be a regression: transformers' pipelines give its reward as it is, and not the sigmoid of it."""
    if getattr(model.config, "num_labels", None) == 1 and hasattr(model, "score"):
        model.config.problem_type = PROBLEM_TYPE
    staging = folder.with_name(f".{folder.name}.staging")
    model.save_pretrained(staging)
    tokenizer.save_pretrained(staging)
    card.write(staging)
    staging.rename(folder)


def check_model(folder: Path, base: str = "") -> list[float]:
    """Two numbers, one for each probe: the reward of the answer. `base` is what it was trained from: folder or hub id.

    ModelRefused where the folder cannot be loaded, BadReward where a number is not finite.
    """
    model = load_reward_model(str(folder), device="cpu", find_reference=lambda ref: BaseLM.of(load_causal_lm(base, ref.name, "cpu")))
    rewards = []
    for prompt, answer in PROBES:
        prompt_ids = model.loaded.encode_prompt(prompt)
        rewards.append(model.along(prompt_ids, [model.loaded.encode_response(prompt, prompt_ids, answer)])[0][-1])
    if not all(math.isfinite(number) for number in rewards):
        raise BadReward("The trained model gives numbers that are not finite.", f"Found {rewards}.", "Train again with a smaller learning rate.")
    return rewards
