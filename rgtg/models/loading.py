"""Loading of models from a folder or the Hub: the one place for it, safetensors only, never with remote code.

Everything that can be checked is checked before loading. Knows nothing of prefixes, rewards or methods.
"""

import hashlib
import json
import logging
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForSequenceClassification, AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase
from transformers.utils.logging import disable_progress_bar, set_verbosity_error

from rgtg.errors import BadSettings, ModelNotFound, ModelRefused, TokenizerMismatch, door, printable, words_of
from rgtg.models.admission.admit import admit
from rgtg.models.artifacts import revision_of
from rgtg.models.catalog import is_folder, is_hub_id, labels_in, read_config
from rgtg.models.hub import check_files, from_hub
from rgtg.models.weights import (
    BIAS,
    HEAD,
    check_counts,
    check_shapes,
    check_sizes,
    choose_attention,
    loading_problem,
    other_heads,
    read_bias,
    read_other_head,
)
from rgtg.prompts import check_rows, closing, encode_prompt, encode_response, is_special
from rgtg.records import ModelCard, ModelRef
from rgtg.system.stopping import check_stopped

logger = logging.getLogger(__name__)
set_verbosity_error()
disable_progress_bar()  # status line and log say what is loaded

TOKENIZERS = (  # almost every tokenizer has one of these files
    "tokenizer.json", "tokenizer.model", "vocab.json", "vocab.txt", "spiece.model", "sentencepiece.bpe.model", "tekken.json",
)  # fmt: skip
MAX_PATH = 200  # characters of a path in a message


@dataclass(frozen=True, eq=False)
class Loaded:
    """A model and its tokenizer in memory, with where they came from."""

    ref: ModelRef
    folder: Path
    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    card: ModelCard | None
    remark: str = ""  # what differs from the checkpoint, e.g. the name of its head
    output: int | None = None  # of a head with several, the one that was chosen by its label

    @property
    def template(self) -> tuple[str, str]:
        """(template, system prompt) in which this model reads a prompt, by its card."""
        return (self.card.template, self.card.system_prompt) if self.card else ("plain", "")

    def encode_prompt(self, prompt: str) -> tuple[int, ...]:
        """Ids of a prompt in this model's template. Raises BadSettings."""
        return self._with_rows(encode_prompt(self.tokenizer, prompt, *self.template))

    def encode_response(self, prompt: str, prompt_ids: Sequence[int], response: str) -> tuple[int, ...]:
        """Ids of a response behind a prompt in this model's template. Raises BadSettings."""
        return self._with_rows(encode_response(self.tokenizer, prompt, prompt_ids, response, self.template[0]))

    def _with_rows(self, ids: tuple[int, ...]) -> tuple[int, ...]:
        check_rows(self.tokenizer, ids, self.vocabulary_size)
        return ids

    @cached_property
    def context(self) -> int:
        """Number of tokens the model can read, by its config; 2048 if that names no limit."""
        config = self.model.config.get_text_config()
        limits = (getattr(config, name, None) for name in ("max_position_embeddings", "n_positions", "seq_length", "max_seq_len"))
        return next((n for n in limits if isinstance(n, int) and n > 0), 2048)  # XLNet has -1 for no limit

    @cached_property
    def labels(self) -> tuple[str, ...]:
        """Names of the outputs of its head; () if it has none or one."""
        names: dict[Any, Any] = (self.model.config.id2label or {}) if hasattr(self.model, "num_labels") else {}
        return tuple(str(names[number]) for number in sorted(names)) if len(names) > 1 else ()

    def with_label(self, label: str) -> "Loaded":
        """These weights under the name `MODEL[label]`, with the output of this name or number. Raises BadSettings."""
        numbers = [*map(str, range(len(self.labels)))]
        if label not in (*self.labels, *numbers):
            known = f"Its outputs: {', '.join(self.labels)}." if self.labels else "It has one output."
            do = f"Write one of these, or its number from 0 on: `{self.ref.name}[{self.labels[0]}]`." if self.labels else "Leave the label out."
            raise BadSettings(f"`{self.ref.name}` has no output `{printable(label):.80}`.", known, do)
        number = self.labels.index(label) if label in self.labels else int(label)
        return replace(self, ref=replace(self.ref, name=f"{self.ref.name}[{self.labels[number]}]"), output=number)

    @cached_property
    def pad_id(self) -> int:
        """Id that fills unused positions, which are masked: the tokenizer's own if it has a row, else 0."""
        pad = self.tokenizer.pad_token_id
        return pad if pad is not None and pad < self.vocabulary_size else 0

    @cached_property
    def token_ids(self) -> dict[str, int]:
        """{token: id} of the tokenizer, for ids that have a row in the embedding."""
        return {token: i for token, i in self.tokenizer.get_vocab().items() if i < self.vocabulary_size}

    @cached_property
    def num_tokens(self) -> int:
        """One more than the highest token id; rows of the embedding beyond it are padding."""
        return max(self.token_ids.values(), default=self.vocabulary_size - 1) + 1

    @cached_property
    def token_ids_sha256(self) -> str:
        """Hash of `token_ids`: equal if two models give all tokens the same ids."""
        return hashlib.sha256(json.dumps(sorted(self.token_ids.items())).encode()).hexdigest()

    @cached_property
    def vocabulary_size(self) -> int:
        """Number of rows of the embedding."""
        embedding: Any = self.model.get_input_embeddings()
        return embedding.weight.shape[0]

    @cached_property
    def closing(self) -> tuple[int, ...]:
        """Ids that end a complete answer in this model's template; () if its tokenizer has none."""
        return closing(self.tokenizer, *self.template)

    def closed(self, ids: Sequence[int], writer: "Loaded") -> tuple[int, ...]:
        """Answer `ids` of the base LM `writer` as this model reads it: a finished answer ends as in this model's template."""
        if not self.closing or not ids or ids[-1] not in writer.eos_ids or self.template == writer.template:
            return tuple(ids)
        num = len(writer.closing)
        return (*ids[: -num if tuple(ids[-num:]) == writer.closing else -1], *self.closing)

    def end_ids(self, writer: "Loaded") -> dict[int, int]:
        """{end id of the base LM `writer`: that of this model}, to translate an answer token by token, as `closed` does for a complete one.

        {} if both have the same template, or if an end has more than one token.
        """
        if self.template == writer.template or len(self.closing) != 1 or len(writer.closing) != 1:
            return {}
        return dict.fromkeys(writer.eos_ids, self.closing[0])

    @cached_property
    def eos_ids(self) -> frozenset[int]:
        """All ids that end a response: those of generation config, config and tokenizer, and the last id that closes a turn."""
        sources = (getattr(self.model, "generation_config", None), self.model.config.get_text_config(), self.tokenizer)
        eos_ids: set[int | None] = set()
        for source in sources:
            ids = getattr(source, "eos_token_id", None)
            eos_ids |= set(ids) if isinstance(ids, (list, tuple)) else {ids}
        return frozenset(i for i in eos_ids if i is not None) | frozenset(self.closing[-1:])

    @cached_property
    def silent_ids(self) -> frozenset[int]:
        """Ids that add no text to a response: its end ids, and special tokens among the ids that close a turn."""
        return self.eos_ids | {i for i in self.closing if is_special(self.tokenizer, i)}


class HasWeights:
    """Base class of base LMs and reward models: name and context length (in tokens) of their weights."""

    loaded: Loaded

    @property
    def name(self) -> str:
        return self.loaded.ref.name

    @property
    def context(self) -> int:
        return self.loaded.context


def pick_device(device: str = "auto") -> torch.device:
    """The named device, or for "auto" the first of cuda, mps and cpu that is available. Raises BadSettings if it cannot be used."""
    if device != "auto":
        try:
            tensor = torch.zeros(1, device=device)
            tensor.item()
            return tensor.device
        except (RuntimeError, AssertionError, NotImplementedError, ValueError) as error:
            raise BadSettings(f"The device `{device}` cannot be used.", words_of(error), "Choose auto, cpu, or a device of this machine.") from error
    if torch.cuda.is_available():
        return torch.device("cuda")
    return torch.device("mps" if torch.backends.mps.is_available() else "cpu")


def resolve(name: str) -> tuple[Path, str]:
    """(local folder, revision) of a folder or Hub id (`owner/name`, `owner/name@<commit>`); a Hub repository is downloaded.

    A repository with code, without config or with pickled weights is refused before any weights are downloaded.
    Raises ModelNotFound or ModelRefused.
    """
    if is_folder(name):
        folder = Path(name).expanduser().resolve()
        check_folder(folder, _names_in(folder))
        return folder, ""
    if not is_hub_id(name):
        raise ModelNotFound(
            f"There is no model `{printable(name):.{MAX_PATH}}`.",
            "It is neither a folder on this machine nor a Hub id.",
            "Give a folder with config.json and model.safetensors, or owner/name.",
        )
    folder, revision = from_hub(*name.partition("@")[::2])
    check_folder(folder, _names_in(folder))
    return folder, revision


def _names_in(folder: Path) -> list[str]:
    with door(f"The folder `{folder}` cannot be listed.", kind=ModelRefused):
        return sorted(os.listdir(folder))


def check_folder(folder: Path, names: Iterable[str]) -> None:
    config = folder / "config.json"
    check_files(printable(str(folder)), list(names), config if os.path.lexists(config) else None)


def load_causal_lm(name: str, title: str | None = None, device: str = "auto", dtype: str = "float32") -> Loaded:
    """Load a causal LM from a folder or Hub id. Raises ModelNotFound or ModelRefused."""
    return _frozen(*_load(AutoModelForCausalLM, name, title, device, dtype))


def load_classifier(name: str, title: str | None = None, device: str = "auto", dtype: str = "float32") -> Loaded:
    """Load a model with a trained head for one reward or several labels from a folder or Hub id. Raises ModelNotFound or ModelRefused."""
    return _frozen(*_load(AutoModelForSequenceClassification, name, title, device, dtype, num_labels=len(labels_in(resolve(name)[0])) or 1))


def load_to_train(name: str, scalar: bool, device: str = "auto", dtype: str = "float32") -> tuple[Loaded, bool]:
    """Load a decoder with trainable weights, and whether all of them were saved: a new scalar head starts at 0.

    Raises ModelNotFound, ModelRefused.
    """
    kind, extra = (AutoModelForSequenceClassification, {"num_labels": 1}) if scalar else (AutoModelForCausalLM, {})
    card = ModelCard.read(resolve(name)[0])
    loaded, missing = _load(kind, name, card.name if card else None, device, dtype, **extra)
    head = getattr(loaded.model, "score", None)
    if scalar and (not isinstance(head, torch.nn.Linear) or head.out_features != 1):
        raise ModelRefused(f"`{loaded.ref.name}` cannot score prefixes.", f"`{type(loaded.model).__name__}` has no `score` layer.", "Use a decoder.")
    if isinstance(head, torch.nn.Linear) and HEAD in missing:
        torch.nn.init.zeros_(head.weight)
    _check_complete(loaded, [key for key in missing if key != HEAD])
    loaded.model.requires_grad_(True)
    return loaded, not missing


def enter(name: str, title: str | None = None) -> tuple[str, Path, str, dict[str, Any]]:
    """(title, folder, revision, content of config.json) of a folder or Hub id that has passed all checks before loading.

    Unknown content is tried in a child process. Raises ModelNotFound, ModelRefused, Stopped.
    """
    folder, revision = resolve(name)
    title = printable(title or (name if is_hub_id(name) and not is_folder(name) else folder.name or str(folder)))
    config = read_config(folder)
    check_counts(title, config)
    check_sizes(title, folder, config)
    admit(title, folder)
    return title, folder, revision, config


def _load(kind: Any, name: str, title: str | None, device: str, dtype: str, **extra: int) -> tuple[Loaded, list[str]]:
    """Model and tokenizer, and the names of weights that the checkpoint lacks."""
    title, folder, revision, config_json = enter(name, title)
    wrong = f"`{title}` could not be loaded: "
    with door(wrong + "its config cannot be read.", kind=ModelRefused):
        config = AutoConfig.from_pretrained(folder, trust_remote_code=False, **extra)
        choose_attention(config, config_json)
    has_none = not any((folder / name).is_file() for name in TOKENIZERS)
    problem = f"there is no tokenizer in {folder}." if has_none else "its tokenizer cannot be read."
    with door(wrong + problem, "Save its tokenizer into the folder." if has_none else "", ModelRefused):
        tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
    problem, do = loading_problem(config_json)
    where = pick_device(device)
    straight = (
        {} if where.type == "cpu" else {"device_map": {"": where}}
    )  # each tensor goes to the device as it is read, so that they are never all in main memory
    check_stopped()
    with door(wrong + problem, do, ModelRefused):
        model, info = kind.from_pretrained(
            folder, config=config, dtype=getattr(torch, dtype), trust_remote_code=False, use_safetensors=True, output_loading_info=True,
            ignore_mismatched_sizes=True, **straight,
        )  # fmt: skip
    check_shapes(title, info["mismatched_keys"])
    missing = set(info["missing_keys"])
    remark = read_other_head(model, folder, title) if extra and HEAD in missing else ""
    missing -= {HEAD} if remark else set()
    if extra and BIAS in info["unexpected_keys"]:
        read_bias(model, folder, title)
    with door(wrong + "it cannot be used here.", kind=ModelRefused):
        ref = ModelRef(title, revision or revision_of(folder))
        loaded = Loaded(ref, folder, model.to(where), tokenizer, ModelCard.read(folder), remark)
    return loaded, sorted(missing)


def _frozen(loaded: Loaded, missing: Sequence[str]) -> Loaded:
    """The model in evaluation mode, without gradients. Raises ModelRefused if weights are missing."""
    _check_complete(loaded, missing)
    loaded.model.eval().requires_grad_(False)
    return loaded


def _check_complete(loaded: Loaded, missing: Sequence[str]) -> None:
    if missing:
        title = loaded.ref.name
        head = [key for key in missing if key.split(".")[0] in ("score", "classifier")]
        wrong = f"`{title}` has no trained head: its rewards would be random." if head else f"`{title}` lacks weights."
        do = "Choose a trained reward model, or train one from it." if head else "Save the complete model again."
        others = other_heads(loaded.model, loaded.folder) if head else {}
        beside = f", but {', '.join(f'`{key}` {shape}' for key, (_, shape) in others.items())}" if others else ""
        do = f"If one of them is its head, with one output, save it as `{HEAD}`." if others else do
        raise ModelRefused(wrong, f"The checkpoint holds no {', '.join(missing[:3])}{beside}.", do)


def share_tokens(reward_model: Loaded, base_lm: Loaded) -> bool:
    """Whether the reward model has every token of the base LM under the same id; it may have further tokens and rows."""
    return reward_model.token_ids_sha256 == base_lm.token_ids_sha256 or base_lm.token_ids.items() <= reward_model.token_ids.items()


def check_same_tokens(reward_model: Loaded, base_lm: Loaded) -> None:
    """Raise TokenizerMismatch unless they `share_tokens`."""
    if share_tokens(reward_model, base_lm):
        return
    rm_ids, lm_ids = reward_model.token_ids, base_lm.token_ids
    do, names = (
        "Choose one trained for this base LM, or a reward model with a scalar head, which reads text.",
        f"Reward model `{reward_model.ref.name}` and base LM `{base_lm.ref.name}`",
    )
    missing = sorted((i, token) for token, i in lm_ids.items() - rm_ids.items())
    (first, token), vocabulary = missing[0], reward_model.tokenizer.get_vocab()
    if all(vocabulary.get(token) == i for i, token in missing):
        rows = f"{len(missing)} have no row, the first is `{token}` ({first}); it reads {reward_model.vocabulary_size} ids."
        raise TokenizerMismatch(f"Reward model `{reward_model.ref.name}` cannot read every token of base LM `{base_lm.ref.name}`.", rows, do)
    counts = f"`{reward_model.ref.name}` has {len(rm_ids)} tokens, `{base_lm.ref.name}` has {len(lm_ids)}; {len(missing)} of these differ."
    raise TokenizerMismatch(f"{names} do not share a tokenizer.", counts, do)
