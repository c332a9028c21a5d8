"""Tiny random models of several families, a tokenizer, and where the real data is."""

import os
from functools import cache
from pathlib import Path

import pytest
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors
from transformers import (
    AutoModelForCausalLM,
    AutoModelForSequenceClassification,
    BloomConfig,
    FalconConfig,
    Gemma2Config,
    GPT2Config,
    GPTNeoXConfig,
    LlamaConfig,
    MistralConfig,
    OPTConfig,
    PreTrainedTokenizerFast,
    Qwen2Config,
)

from rgtg.models.lm import BaseLM
from rgtg.models.loading import Loaded
from rgtg.records import ModelCard, ModelRef
from rgtg.rewards.scalar import ScalarRewardModel

VOCABULARY = 99
COMMON = {"vocab_size": VOCABULARY, "bos_token_id": 0, "eos_token_id": 1, "pad_token_id": 1}  # pad is eos, as so often
SMALL = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "max_position_embeddings": 128}
FAMILIES = {
    "gpt2": lambda: GPT2Config(n_embd=32, n_layer=2, n_head=4, n_positions=128, **COMMON),
    "llama": lambda: LlamaConfig(intermediate_size=64, num_key_value_heads=2, **SMALL, **COMMON),
    "qwen2": lambda: Qwen2Config(intermediate_size=64, num_key_value_heads=2, **SMALL, **COMMON),
    "gpt_neox": lambda: GPTNeoXConfig(intermediate_size=64, **SMALL, **COMMON),
    "opt": lambda: OPTConfig(ffn_dim=64, word_embed_proj_dim=32, **SMALL, **COMMON),
}
OTHERS = {
    "mistral_w8": lambda: MistralConfig(intermediate_size=64, num_key_value_heads=2, sliding_window=8, **SMALL, **COMMON),
    "gemma2_w8": lambda: Gemma2Config(intermediate_size=64, num_key_value_heads=2, head_dim=8, sliding_window=8, **SMALL, **COMMON),
    "bloom": lambda: BloomConfig(hidden_size=32, n_layer=2, n_head=4, **COMMON),
    "falcon_alibi": lambda: FalconConfig(hidden_size=32, num_hidden_layers=2, num_attention_heads=4, alibi=True, **COMMON),
}


def byte_tokenizer() -> PreTrainedTokenizerFast:
    """<s>, </s> and 97 printable characters, one token each; a text is encoded behind <s>."""
    letters = sorted(pre_tokenizers.ByteLevel.alphabet(), key=lambda c: (not c.isascii(), c))[: VOCABULARY - 3]
    tokenizer = Tokenizer(models.BPE(vocab={t: i for i, t in enumerate(["<s>", "</s>", "Ġ", *letters[: VOCABULARY - 3]])}, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens(["<s>", "</s>"])
    tokenizer.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 0)])
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token="<s>", eos_token="</s>", pad_token="</s>")


def tiny(family: str, kind: type, seed: int) -> torch.nn.Module:
    config = (FAMILIES | OTHERS)[family]()
    torch.manual_seed(seed)
    if kind is AutoModelForSequenceClassification:
        config.num_labels = 1
    model = kind.from_config(config).eval().requires_grad_(False)
    for weight in model.parameters():  # the default init is so small that every token looks alike
        if weight.ndim == 2:
            weight.mul_(6.0)
    return model


@cache
def tiny_lm(family: str = "llama", seed: int = 0) -> BaseLM:
    return BaseLM.of(Loaded(ModelRef(f"{family}-lm", "test"), Path(), tiny(family, AutoModelForCausalLM, seed), byte_tokenizer(), None))


@cache
def tiny_reward(family: str = "llama", seed: int = 1, name: str | None = None) -> ScalarRewardModel:
    model = tiny(family, AutoModelForSequenceClassification, seed)
    return ScalarRewardModel.of(Loaded(ModelRef(name or f"{family}-rm", f"test{seed}"), Path(), model, byte_tokenizer(), None))


def save(folder, kind, seed: int, card: ModelCard | None = None) -> str:
    model = tiny("llama", kind, seed)
    model.save_pretrained(folder)
    byte_tokenizer().save_pretrained(folder)
    if card:
        card.write(folder)
    return str(folder)


@pytest.fixture(scope="session")
def folders(tmp_path_factory) -> dict[str, str]:
    """Model folders on disk: a base LM, two guides, a judge, and a base LM that somebody takes for a reward model."""
    root = tmp_path_factory.mktemp("models")
    classifier = AutoModelForSequenceClassification
    return {
        "lm": save(root / "lm", AutoModelForCausalLM, 0, ModelCard("base_lm", "tiny")),
        "partial": save(root / "p", classifier, 1, ModelCard("reward_model", "p", objective="partial", base_lm="tiny")),
        "full": save(root / "f", classifier, 2, ModelCard("reward_model", "f", objective="full", base_lm="tiny")),
        "judge": save(root / "j", classifier, 3, ModelCard("judge", "j", objective="full", base_lm="tiny")),
        "headless": save(root / "headless", AutoModelForCausalLM, 4),
    }


@pytest.fixture
def lm() -> BaseLM:
    return tiny_lm()


@pytest.fixture
def reward_model() -> ScalarRewardModel:
    return tiny_reward()


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of real data and models; a test that needs it is skipped where there is none."""
    folder = os.environ.get("RGTG_SHARED")
    if not folder or not Path(folder).is_dir():
        pytest.skip("needs real data: set RGTG_SHARED to the folder that holds reviews/ and models/")
    return Path(folder)


STARTER = Path(__file__).resolve().parent.parent / "data" / "starter"


@pytest.fixture(scope="session")
def starter() -> Path:
    return STARTER
