"""What a training starts from and leaves: a folder or hub id becomes a model to train, with LoRA if asked; a model becomes a folder.

Knows nothing of data or losses.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification, AutoTokenizer, PreTrainedTokenizerBase

from rgtg.config import SCALAR, TrainingConfig
from rgtg.errors import BadSettings, ModelRefused
from rgtg.models.artifacts import revision_of
from rgtg.models.loading import pick_device, resolve
from rgtg.records import ModelCard


@dataclass(frozen=True, eq=False)
class Start:
    """A model in memory, its weights free to change. `taught` says whether it is a reward model by the objective already."""

    name: str
    revision: str
    model: nn.Module
    tokenizer: PreTrainedTokenizerBase
    card: ModelCard | None
    taught: bool
    stored_dtype: torch.dtype

    @property
    def parent(self) -> str:
        """Its name where it is a reward model, of whatever kind; else ""."""
        return self.name if self.taught or (self.card is not None and self.card.kind != "base_lm") else ""

    @property
    def context(self) -> int:
        config = self.model.config.get_text_config()
        found = (getattr(config, name, None) for name in ("max_position_embeddings", "n_positions", "seq_length", "max_seq_len"))
        return next((n for n in found if n), 2048)

    @property
    def vocabulary(self) -> int:
        return self.model.get_input_embeddings().weight.shape[0]

    @property
    def pad_id(self) -> int:
        """Fills unused places; never read."""
        return self.tokenizer.pad_token_id if self.tokenizer.pad_token_id is not None else 0


def check_start(name: str, objective: str) -> tuple[Path, str, dict[str, Any]]:
    """Folder, revision and config of a model that fits an objective, before any weight is read. Raises ModelNotFound, ModelRefused."""
    folder, revision = resolve(name)
    found = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    if objective not in SCALAR and "SequenceClassification" in (found.get("architectures") or [""])[0]:
        do = "Start from a base LM, or choose `partial` or `full`."
        raise ModelRefused(f"`{folder.name}` cannot be trained by `{objective}`.", "It has a scalar head in place of the vocabulary's.", do)
    return folder, revision, found


def load_start(name: str, objective: str, device: str = "auto", dtype: str = "float32") -> Start:
    """A base LM or an earlier reward model to train by `objective`; a new scalar head starts at 0. Raises ModelNotFound, ModelRefused."""
    folder, revision, found = check_start(name, objective)
    card, scalar = ModelCard.read(folder), objective in SCALAR
    kind = AutoModelForSequenceClassification if scalar else AutoModelForCausalLM
    try:
        tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
        model, info = kind.from_pretrained(
            folder, dtype=getattr(torch, dtype), trust_remote_code=False, use_safetensors=True, output_loading_info=True,
            **({"num_labels": 1} if scalar else {}),
        )  # fmt: skip
    except (OSError, ValueError, KeyError, RuntimeError) as error:
        first = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise ModelRefused(f"`{folder.name}` could not be loaded for training.", first, "See the log for the rest.") from error
    missing = set(info["missing_keys"])
    if scalar:
        head = getattr(model, "score", None)
        if not isinstance(head, nn.Linear) or head.out_features != 1:
            raise ModelRefused(f"`{folder.name}` cannot score prefixes.", f"`{type(model).__name__}` has no `score` layer.", "Use a decoder.")
        if "score.weight" in missing:
            nn.init.zeros_(head.weight)
        missing -= {"score.weight"}
    if missing:
        raise ModelRefused(f"`{folder.name}` lacks weights.", f"The checkpoint holds no {', '.join(sorted(missing)[:3])}.", "Save it again, whole.")
    taught = "score.weight" not in info["missing_keys"] if scalar else card is not None and card.objective == objective
    stored = getattr(torch, str(found.get("dtype") or found.get("torch_dtype") or dtype).removeprefix("torch."), torch.float32)
    model = model.to(pick_device(device)).requires_grad_(True)
    title = card.name if card else folder.name if Path(name).is_dir() else name
    return Start(title, revision or revision_of(folder), model, tokenizer, card, taught, stored)


def add_lora(model: nn.Module, config: TrainingConfig) -> nn.Module:
    """A PeftModel around `model`, whose own weights are frozen and whose layers now hold small matrices, drawn from the config's
    seed; a scalar head stays free."""
    try:
        import peft
    except ImportError as error:
        raise BadSettings("LoRA needs the library peft.", "It is not installed.", "Run `pip install peft`, or train all weights.") from error
    settings = peft.LoraConfig(
        r=config.lora_rank, lora_alpha=2 * config.lora_rank, lora_dropout=config.dropout, target_modules="all-linear",
        task_type="SEQ_CLS" if config.objective in SCALAR else "CAUSAL_LM",
    )  # fmt: skip
    with torch.random.fork_rng(range(torch.cuda.device_count())):
        torch.manual_seed(config.seed)
        return peft.get_peft_model(model, settings)


def save_folder(model: nn.Module, tokenizer: PreTrainedTokenizerBase, card: ModelCard, folder: Path) -> None:
    """A plain transformers folder in safetensors with `card.json` beside it; `folder` must not be there, it appears whole."""
    staging = folder.with_name(f".{folder.name}.staging")
    model.save_pretrained(staging)
    tokenizer.save_pretrained(staging)
    card.write(staging)
    staging.rename(folder)
