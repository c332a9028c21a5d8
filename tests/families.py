"""Every causal LM and sequence classifier that transformers registers, as a tiny random model: which strategy it gets, and how far that is from
plain reading.

`python tests/families.py [NAME …]` prints a line a family and ends with status 1 where a kept cache is wrong: as base LM and as reward
model, for short texts and for texts longer than every window that the config names; and, of families that are encoders or decoders by
their config, as the encoder, which no base LM is. `--table docs/families.md` writes the table of them all.
"""

import argparse
import inspect
import sys
import warnings
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from tiny_models import byte_tokenizer
from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForSequenceClassification
from transformers import __version__ as version
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES, MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING_NAMES

from rgtg.errors import NotADecoder, RgtgError
from rgtg.models.lm import BaseLM
from rgtg.models.loading import Loaded
from rgtg.models.prefixes.backbone import Backbone, encode
from rgtg.models.prefixes.strategy import grow
from rgtg.records import ModelRef
from rgtg.rewards.encoder import EncoderRewardModel, EncoderScorer
from rgtg.rewards.scalar import ScalarRewardModel
from rgtg.rewards.text import Answer

VOCABULARY, WINDOW, SHORT, LONG = 99, 24, 6, 48  # the window is longer than the check at load, unless that knows of it
TOLERANCE = 1e-3
# What a tiny config needs, by the names that families give it; a name that the config has not is left out.
SMALL: dict[str, Any] = {
    "vocab_size": VOCABULARY, "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 4, "num_attention_heads": 4,
    "num_key_value_heads": 2, "head_dim": 8, "max_position_embeddings": 128, "n_embd": 32, "n_layer": 4, "n_head": 4, "n_positions": 128,
    "n_ctx": 128, "d_model": 32, "n_heads": 4, "n_layers": 4, "max_seq_len": 128, "decoder_layers": 2, "encoder_layers": 2,
    "decoder_attention_heads": 4, "encoder_attention_heads": 4, "decoder_ffn_dim": 64, "encoder_ffn_dim": 64, "ffn_dim": 64,
    "sliding_window": WINDOW, "window_size": WINDOW, "attention_window_size": WINDOW, "local_attention": WINDOW, "attention_chunk_size": WINDOW,
    "num_experts": 4, "num_local_experts": 4, "n_routed_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 16,
    "shared_expert_intermediate_size": 16, "n_group": 1, "topk_group": 1, "first_k_dense_replace": 1, "kv_lora_rank": 16, "q_lora_rank": 16,
    "qk_rope_head_dim": 4, "qk_nope_head_dim": 8, "v_head_dim": 8, "global_head_dim": 8, "num_layers": 4, "num_heads": 4, "embedding_size": 32,
    "word_embed_proj_dim": 32, "rotary_dim": 4, "state_size": 8, "mamba_d_state": 8, "mamba_n_heads": 8, "mamba_d_head": 8, "mamba_n_groups": 1,
    "mamba_d_ssm": 64, "mamba_num_heads": 8, "mamba_head_dim": 8, "n_groups": 1, "linear_num_key_heads": 2, "linear_num_value_heads": 4,
    "linear_key_head_dim": 8,
    "linear_head_dim": 8, "linear_num_heads": 4, "mamba_chunk_size": 16, "chunk_size": 16, "linear_value_head_dim": 8,
    "vocab_size_per_layer_input": VOCABULARY, "hidden_size_per_layer_input": 8,
    "index_topk": WINDOW, "index_head_dim": 8, "index_n_heads": 16,
    "bos_token_id": 0, "eos_token_id": 1, "pad_token_id": 1,
}  # fmt: skip
HYBRID = ["linear_attention", "linear_attention", "full_attention", "linear_attention"]
GEMMA3N = {
    "num_kv_shared_layers": 2,
    "laurel_rank": 8,
    "layer_types": ["sliding_attention", "full_attention"] * 2,
    "intermediate_size": 64,
    "activation_sparsity_pattern": [0.0] * 4,
}
QWEN4 = {"layer_types": HYBRID, "hc_lowrank": 8, "ple_embed_dim": 32, "ngram_vocab_size_base": 100}
DOTS3 = {
    "per_layer_config": None,
    "head_dim": 12,
    "layer_types": ["indexed_attention", "sliding_attention"] * 2,
    "mlp_layer_types": ["dense", "sparse"] * 2,
    "shared_experts_intermediate_size": 16,
}
PER_FAMILY: dict[str, dict[str, Any]] = {
    "bailing_hybrid": {"layer_types": HYBRID, "mlp_layer_types": ["dense", "sparse"] * 2, "num_experts": 8, "num_expert_group": 2, "topk_group": 1},
    "bamba": {"attn_layer_indices": [1, 3]},
    "cohere_compass_text": {
        "rope_parameters": {
            "full_attention": {"rope_type": "default", "rope_theta": 1e4},
            "sliding_attention": {"rope_type": "default", "rope_theta": 1e4},
        }
    },
    "dbrx": {
        "attn_config": {"kv_n_heads": 2, "rope_theta": 1e4, "clip_qkv": 8.0},
        "ffn_config": {"hidden_size": 32, "ffn_hidden_size": 64, "moe_top_k": 2},
    },
    "dots1": {"n_shared_experts": 1, "layer_types": ["full_attention", "sliding_attention"] * 2},
    "gpt_neo": {"num_layers": 4, "attention_types": [[["global", "local"], 2]]},
    "granitemoehybrid": {"layer_types": HYBRID, "mamba_d_head": 8},
    "jamba": {"attn_layer_period": 2, "attn_layer_offset": 1},
    "kimi_linear": {"layer_types": HYBRID, "mlp_layer_types": ["dense", "sparse"] * 2},
    "lfm2": {"layer_types": ["conv", "full_attention"] * 2, "full_attn_idxs": [1, 3]},
    "lfm2_moe": {"layer_types": ["conv", "full_attention"] * 2, "num_dense_layers": 1},
    "mamba2": {"num_heads": 8, "head_dim": 8, "expand": 2},
    "zamba": {
        "attention_hidden_size": 64,
        "attention_head_dim": 16,
        "mamba_dt_rank": 4,
        "num_hidden_layers": 6,
        "attn_layer_period": 3,
        "attn_layer_offset": 1,
        "layers_block_type": ["linear_attention", "hybrid", "linear_attention"] * 2,
        "num_key_value_heads": 4,
    },
    "zamba2": {
        "attention_hidden_size": 64,
        "attention_head_dim": 16,
        "kv_channels": 8,
        "num_hidden_layers": 6,
        "mamba_headdim": 8,
        "n_mamba_heads": 8,
        "layers_block_type": ["linear_attention", "hybrid", "linear_attention"] * 2,
        "num_key_value_heads": 4,
        "adapter_rank": 8,
        "chunk_size": 16,
    },
    "longcat_flash": {"ffn_hidden_size": 64, "expert_ffn_hidden_size": 16, "zero_expert_num": 2, "moe_topk": 2},
    "git": {
        "vision_config": {
            "hidden_size": 32,
            "intermediate_size": 64,
            "num_hidden_layers": 1,
            "num_attention_heads": 4,
            "image_size": 16,
            "patch_size": 8,
        }
    },
    "gemma3n": GEMMA3N,
    "gemma3n_text": GEMMA3N,
    "qwen4_exp": QWEN4,
    "qwen4_exp_text": QWEN4,
    "reformer": {
        "attention_head_size": 8,
        "attn_layers": ["local", "local"],
        "axial_pos_embds_dim": [16, 16],
        "axial_pos_shape": [8, 16],
        "feed_forward_size": 64,
        "local_attn_chunk_length": 16,
        "lsh_attn_chunk_length": 16,
    },
    "rembert": {"input_embedding_size": 32, "output_embedding_size": 32},
    "xlm": {"emb_dim": 32},
    "xmod": {"languages": ["en_XX"], "default_language": "en_XX"},
    "dots3_note": DOTS3,
    "dots3_note_text": DOTS3,
    "zaya": {"layer_types": ["hybrid", "hybrid_sliding"] * 2, "router_hidden_size": 16, "num_experts_per_tok": 1},
}
# Further settings of a family that change how it is read: another kind of positions, full and sliding layers in turn.
VARIANTS: dict[str, tuple[str, dict[str, Any]]] = {
    "falcon (alibi)": ("falcon", {"alibi": True}),
    "falcon (new decoder)": ("falcon", {"new_decoder_architecture": True, "num_kv_heads": 2}),
    "qwen2 (sliding layers)": (
        "qwen2",
        {"use_sliding_window": True, "max_window_layers": 2, "layer_types": ["full_attention", "sliding_attention"] * 2},
    ),
}
REGISTERED = sorted({*MODEL_FOR_CAUSAL_LM_MAPPING_NAMES, *MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING_NAMES, *VARIANTS})
MAX_WEIGHTS = 20_000_000  # a config that stays large is skipped, with its size


@dataclass(frozen=True)
class Found:
    """What came of one family as one kind of model. `outcome` is ok, wrong, refused or skipped; differences are relative."""

    family: str
    kind: str
    outcome: str
    strategy: str = ""
    short: float = 0.0
    long: float = 0.0
    reason: str = ""

    def line(self) -> str:
        numbers = f"{self.strategy:9} short {self.short:.1e}  long {self.long:.1e}" if self.outcome in ("ok", "wrong") else self.reason
        return f"{self.family:28} {self.kind:12} {self.outcome:8} {numbers}"


def tiny_config(family: str, is_decoder: bool = True) -> Any:
    family, variant = VARIANTS.get(family, (family, {}))
    default = AutoConfig.for_model(family)
    text = default.get_text_config(decoder=True)
    kind = type(text)
    known = set(inspect.signature(kind.__init__).parameters) | set(text.to_dict())
    settings = {name: value for name, value in SMALL.items() if name in known and not isinstance(text.to_dict().get(name), (list, dict))}
    if "qk_rope_head_dim" in known:  # latent attention: rotated are these dimensions alone, and there are no groups
        settings |= {"head_dim": SMALL["qk_rope_head_dim"], "num_key_value_heads": SMALL["num_attention_heads"]}
    config = kind(**settings | PER_FAMILY.get(family, {}) | variant)
    config.is_decoder = is_decoder
    if config.is_encoder_decoder:
        config.decoder_start_token_id = SMALL["bos_token_id"]
    return config


def kinds(family: str) -> list[str]:
    """Base LM, reward model, and base LM as it is without `is_decoder` where a config says by that whether it is an encoder."""
    try:
        config = AutoConfig.for_model(VARIANTS.get(family, (family,))[0]).get_text_config(decoder=True)
    except Exception:  # it cannot be made at all: both lines say so
        return ["base LM", "reward model"]
    declared = "is_decoder" in inspect.signature(type(config).__init__).parameters
    return ["base LM", "reward model", *(["encoder"] if declared else [])]


def tiny_model(family: str, kind: Any, is_decoder: bool = True) -> Any:
    config = tiny_config(family, is_decoder)
    if kind is AutoModelForSequenceClassification:
        config.num_labels = 1
    with torch.device("meta"):
        size = sum(weight.numel() for weight in kind.from_config(config).parameters())
    if size > MAX_WEIGHTS:
        raise ValueError(f"its smallest config here has {size:,} weights")
    torch.manual_seed(0)
    model = kind.from_config(config).eval().requires_grad_(False)
    for weight in model.parameters():
        if weight.ndim == 2:
            weight.mul_(4.0)
    return model


def difference(backbone: Backbone, length: int) -> float:
    """The largest difference to plain reading while two rows grow behind prompts, relative to the largest value."""
    draw = torch.Generator().manual_seed(length)
    ids = torch.randint(2, VOCABULARY, (2, length + 6), generator=draw).tolist()
    rows, worst = grow(backbone, [ids[0][:length], ids[1][: length - 3]]), 0.0
    for step in range(4):
        rows.forward({slot: [5, 6 + step, 7] for slot in (0, 1)})
        for slot in (0, 1):
            rows.append(slot, 6 + step if step % 2 else ids[slot][length + step])
        wanted = encode(backbone, rows.texts)
        worst = max(worst, float((rows.last([0, 1]) - wanted).abs().max() / (1 + wanted.abs().max())))
    return worst


def batch_difference(model: EncoderRewardModel, length: int) -> float:
    """The largest difference between the rewards of texts in one padded batch and alone, relative to the largest value."""
    answers = [Answer("what is it", "ab cde " * (n // 7 + 1), False) for n in (length, length - 3, 2 * length)]
    wanted = [float(model.loaded.model(torch.tensor([model.encode(answer)[0]["input_ids"]])).logits[0, 0]) for answer in answers]
    together = EncoderScorer(model).score_texts(answers)
    return max(abs(a - b) for a, b in zip(together, wanted, strict=True)) / (1 + max(map(abs, wanted)))


@torch.inference_mode()
def look_at(family: str, kind: str) -> Found:
    auto = AutoModelForSequenceClassification if kind == "reward model" else AutoModelForCausalLM
    try:
        weights = tiny_model(family, auto, kind != "encoder")
    except Exception as error:  # whatever a stranger's config raises is the reason that the family is skipped
        none = "Unrecognized configuration class" in str(error)
        words = f"transformers has no {kind} of it" if none else f"no tiny config: {' '.join(str(error).split())}"
        return Found(family, kind, "skipped", reason=words[:150])
    try:
        weights(torch.tensor([[2, 3, 4]]), use_cache=False)
    except Exception as error:
        return Found(family, kind, "skipped", reason=f"the tiny config does not run: {' '.join(str(error).split())}"[:150])
    try:
        loaded = Loaded(ModelRef(family, "tiny"), Path(), weights, byte_tokenizer(), None)
        try:
            backbone = (ScalarRewardModel if kind == "reward model" else BaseLM).of(loaded).backbone
        except NotADecoder:
            if kind != "reward model":
                raise
            short, long = (batch_difference(EncoderRewardModel.of(loaded), length) for length in (SHORT, LONG))
            return Found(family, kind, "ok" if max(short, long) < TOLERANCE else "wrong", "text", short, long)
        short, long = difference(backbone, SHORT), difference(backbone, LONG)
    except RgtgError as error:
        return Found(family, kind, "refused", reason=str(error)[:150])
    except Exception as error:
        return Found(family, kind, "escaped", reason=f"{type(error).__name__}: {error}"[:150].replace("\n", " "))
    outcome = "ok" if max(short, long) < TOLERANCE else "wrong"
    return Found(family, kind, outcome, backbone.strategy, short, long)


HEAD = """# Families

Every family of transformers {version} that is registered as a causal LM or a sequence classifier, as a tiny random model in float32: the strategy
that the check at load chose, and the largest difference to a forward without a cache, relative to the largest value, over texts of {short} and
{long} tokens (a window, where there is one, has {window}). Made by `PYTHONPATH=. python tests/families.py --table docs/families.md` (minutes); a
test compares lines with what they are now.

- `siblings`: all candidates in one forward behind the cached prefix. `rows`: one row each over the cache. `states`, `steps`: copies of a
  recurrent state. `reencode`: no cache.
- `text`: an encoder as reward model, which reads every text from its first token; the difference is that of a batch to texts alone.
- no encoder: the family reads both ways unless its config says `is_decoder`; without that it is refused as base LM.
- —: transformers has no such model of it, or, as the note says, none of this size could be built.

| family | base LM | difference | reward model | difference | note |
|---|---|---|---|---|---|
"""


def table(found: list[Found]) -> str:
    """The document: one row a family."""
    rows: dict[str, dict[str, Found]] = {}
    for one in found:
        rows.setdefault(one.family, {})[one.kind] = one
    lines = []
    for family, of_kind in sorted(rows.items()):
        cells, notes = [], []
        for kind in ("base LM", "reward model"):
            one = of_kind.get(kind)
            exact = one is not None and one.outcome in ("ok", "wrong")
            cells += [
                one.strategy if exact else "refused" if one and one.outcome == "refused" else "—",
                f"{max(one.short, one.long):.0e}" if exact else "",
            ]
            if one is not None and not exact and not one.reason.startswith("transformers has no"):
                notes.append(f"{kind}: {one.reason}".replace("|", "/"))
        if "encoder" in of_kind and of_kind["encoder"].outcome == "refused":
            notes.insert(0, "no encoder")
        lines.append(f"| {family} | {' | '.join(cells)} | {'; '.join(dict.fromkeys(notes))} |")
    return HEAD.format(version=version, short=SHORT, long=LONG, window=WINDOW) + "\n".join(lines) + "\n"


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME")
    parser.add_argument("--table", type=Path, metavar="FILE", help="write the table to this file")
    options = parser.parse_args(arguments)
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    results, counts = list[Found](), Counter[str]()
    for family in options.names or REGISTERED:
        for kind in kinds(family):
            found = look_at(family, kind)
            results.append(found)
            counts[f"{kind} {found.outcome}"] += 1
            counts[found.outcome] += 1
            print(found.line(), flush=True)
    print(f"{len(options.names or REGISTERED)} of {len(REGISTERED)} registered families:", dict(counts))
    if options.table is not None:
        options.table.write_text(table(results), encoding="utf-8")
    return 1 if counts["wrong"] or counts["escaped"] else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
