"""Tiny random models of several families and a tokenizer, for tests of mechanics."""

from functools import cache
from pathlib import Path

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors
from transformers import (
    AutoModelForCausalLM,
    AutoModelForSequenceClassification,
    AutoTokenizer,
    BloomConfig,
    FalconConfig,
    Gemma2Config,
    GPT2Config,
    GPTNeoXConfig,
    JambaConfig,
    LlamaConfig,
    MistralConfig,
    OPTConfig,
    PreTrainedTokenizerFast,
    Qwen2Config,
    Qwen3_5TextConfig,
)

from rgtg.models.lm import BaseLM
from rgtg.models.loading import Loaded
from rgtg.records import ModelCard, ModelRef
from rgtg.rewards.next_token import AutoregressiveRewardModel, TokenRewardModel, VocabularyRewardModel
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

HYBRIDS = {  # their state cannot be cut; the first reads on in blocks, the second by single tokens
    "qwen3_5": lambda: Qwen3_5TextConfig(
        intermediate_size=64, num_key_value_heads=2, head_dim=8, linear_num_key_heads=2, linear_num_value_heads=2, linear_key_head_dim=8,
        linear_value_head_dim=8, layer_types=["linear_attention", "full_attention"], **SMALL, **COMMON,
    ),
    "jamba": lambda: JambaConfig(
        intermediate_size=64, num_key_value_heads=2, attn_layer_period=2, attn_layer_offset=1, num_experts=2, mamba_d_state=8, mamba_dt_rank=4,
        use_mamba_kernels=False, **SMALL, **COMMON,
    ),
}  # fmt: skip


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
    config = (FAMILIES | OTHERS | HYBRIDS)[family]()
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


def save_tiny(folder: Path, kind: type = AutoModelForCausalLM, family: str = "llama", seed: int = 0) -> Path:
    """A tiny model and its tokenizer as a plain folder."""
    tiny(family, kind, seed).save_pretrained(folder)
    byte_tokenizer().save_pretrained(folder)
    return folder


def save_with_head(source: Path, folder: Path, seed: int = 0) -> Path:
    """A copy of a base LM's folder as a reward model, its scalar head drawn from `seed`."""
    model = AutoModelForSequenceClassification.from_pretrained(source, num_labels=1, dtype=torch.float32)
    with torch.no_grad():
        model.score.weight.normal_(generator=torch.Generator().manual_seed(seed))
    model.save_pretrained(folder)
    AutoTokenizer.from_pretrained(source).save_pretrained(folder)
    return folder


REAL_MODELS = ("stories260k", "tinystories-656k")


TOKEN_KINDS = {
    "vocabulary": lambda lm, reference: VocabularyRewardModel(lm),
    "autoregressive": lambda lm, reference: AutoregressiveRewardModel(lm),
    "implicit": lambda lm, reference: AutoregressiveRewardModel(lm, reference, 0.5),
}


@cache
def tiny_token_reward(kind: str, family: str = "llama", seed: int = 5) -> TokenRewardModel:
    """A reward model of one forward for all next tokens; the implicit one against other random weights, with beta 0.5."""
    card, ref = ModelCard("reward_model", kind, objective=kind), ModelRef(kind, f"test{seed}")
    weights = [tiny(family, AutoModelForCausalLM, seed + more) for more in (0, 1)]
    return TOKEN_KINDS[kind](*(BaseLM.of(Loaded(ref, Path(), model, byte_tokenizer(), card)) for model in weights))
