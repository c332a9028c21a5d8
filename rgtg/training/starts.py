"""Loading the model that a training starts from, with LoRA if asked, and saving and checking the trained one.

Knows nothing of data or losses.
"""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from rgtg.errors import BadReward, BadSettings, ModelRefused
from rgtg.models.catalog import has_scalar_head, is_probe, read_config
from rgtg.models.lm import BaseLM
from rgtg.models.loading import HasWeights, Loaded, load_causal_lm, load_to_train, resolve
from rgtg.models.probe import check_reads
from rgtg.models.weights import is_language_model
from rgtg.records import ModelCard
from rgtg.rewards.base import IdRewardModel
from rgtg.rewards.kinds import load_reward_model
from rgtg.rewards.probe import save_probe
from rgtg.training.base import Objective
from rgtg.training.config import TrainingConfig
from rgtg.training.objectives import OBJECTIVES

if TYPE_CHECKING:
    from peft import PeftModel

PROBES = (("the food was", " good ."), ("the food was", " bad ."))  # prompt and answer, scored by every saved model
PROBLEM_TYPE: Literal["regression"] = "regression"  # transformers' name for a head whose output is a number, not a class


@dataclass(frozen=True, eq=False)
class Start(HasWeights):
    """A model in memory to be trained; `is_trained` is whether it is a reward model of the objective already."""

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
        """Its name where it is a reward model of any kind; else ""."""
        return self.name if self.is_trained or (self.card is not None and self.card.kind != "base_lm") else ""

    @property
    def reference(self) -> str:
        """Name and revision, as a card refers to the reference model of an implicit reward or the base LM of a probe."""
        return f"{self.name}@{self.loaded.ref.revision}"


def check_start(name: str, objective: Objective) -> dict[str, Any]:
    """Check that a model fits an objective and return its config, before weights are loaded. Raises ModelNotFound, ModelRefused."""
    folder, _ = resolve(name)
    config = read_config(folder)
    if is_probe(config):
        raise ModelRefused(f"`{folder.name}` cannot be trained further.", "It is a head on the states of a base LM.", "Start from that base LM.")
    if objective.frozen and not is_language_model(folder):
        wrong, do = f"`{folder.name}` cannot be trained by `{objective.key}`.", "Start from a base LM, or choose another objective."
        raise ModelRefused(wrong, "It is a reward model, and the head would read its states instead of those of the base LM that writes.", do)
    if not objective.scalar and has_scalar_head(config):
        do = f"Start from a base LM, or choose one of {', '.join(key for key, kind in OBJECTIVES.items() if kind.scalar)}."
        raise ModelRefused(f"`{folder.name}` cannot be trained by `{objective.key}`.", "It has a scalar head in place of the vocabulary's.", do)
    return config


def load_start(name: str, objective: Objective, device: str = "auto", dtype: str = "float32") -> Start:
    """Load a base LM or reward model to train by `objective`; a new scalar head starts at 0. Raises ModelNotFound, ModelRefused."""
    config = check_start(name, objective)
    loaded, complete = load_to_train(name, objective.scalar, device, dtype)
    model: Any = loaded.model
    check_reads(loaded, lambda **inputs: model.base_model(**inputs).last_hidden_state if objective.scalar else model(**inputs).logits)
    is_trained = complete if objective.scalar else loaded.card is not None and loaded.card.objective == objective.key
    if objective.frozen:
        model.requires_grad_(False)
        model.score.requires_grad_(True)
    stored = getattr(torch, str(config.get("dtype") or config.get("torch_dtype") or dtype).removeprefix("torch."), torch.float32)
    return Start(loaded, is_trained, stored)


def add_lora(model: PreTrainedModel, config: TrainingConfig) -> "PeftModel":
    """A PeftModel around `model`: its weights are frozen, LoRA matrices are initialised from the config's seed, and a scalar head
    stays trainable."""
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


def save_trained(start: Start, model: Any, objective: Objective, card: ModelCard, folder: Path, dtype: torch.dtype) -> None:
    """Save a trained model, of a frozen one its head alone."""
    if objective.frozen:
        save_probe(model.score, card, folder)
    else:
        save_model(model.to(dtype=dtype), start.tokenizer, card, folder)


def save_model(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, card: ModelCard, folder: Path) -> None:
    """Save a plain transformers folder in safetensors with `card.json`, atomically; `folder` must not exist. A scalar head is
    declared a regression, so that transformers' pipelines return its reward and not the sigmoid of it."""
    if getattr(model.config, "num_labels", None) == 1 and hasattr(model, "score"):
        model.config.problem_type = PROBLEM_TYPE
    staging = folder.with_name(f".{folder.name}.staging")
    model.save_pretrained(staging)
    tokenizer.save_pretrained(staging)
    card.write(staging)
    staging.rename(folder)


def check_model(folder: Path, base: str = "") -> list[float]:
    """The rewards of two probe answers under a saved model. `base`, a folder or hub id, is the model it was trained from.

    Raises ModelRefused where the folder cannot be loaded, BadReward where a reward is not finite.
    """
    model = load_reward_model(str(folder), device="cpu", find_reference=lambda ref: BaseLM.of(load_causal_lm(base, ref.name, "cpu")))
    assert isinstance(model, IdRewardModel)  # as all that are trained here
    rewards = []
    for prompt, answer in PROBES:
        prompt_ids = model.loaded.encode_prompt(prompt)
        rewards.append(model.along(prompt_ids, [model.loaded.encode_response(prompt, prompt_ids, answer)])[0][-1])
    if not all(math.isfinite(number) for number in rewards):
        raise BadReward("The trained model gives rewards that are not finite.", f"Found {rewards}.", "Train again with a smaller learning rate.")
    return rewards
