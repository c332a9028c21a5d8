"""Tiny random reward models that read text: encoders, and decoders with another tokenizer than that of the tiny base LM."""

from functools import cache
from pathlib import Path
from typing import Any

import torch
from tiny_models import FAMILIES, HYBRIDS, OTHERS
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors
from transformers import AutoModelForSequenceClassification, BertConfig, DebertaV2Config, ElectraConfig, PreTrainedTokenizerFast, RobertaConfig

from rgtg.models.loading import Loaded
from rgtg.records import ModelRef

LETTERS = [chr(i) for i in range(33, 127)]
SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]"]
WORDS = ["the", "food", "was", "good", "and", "so"]
POSITIONS = 64
SIZES = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 64, "max_position_embeddings": POSITIONS}
VOCABULARY = len(SPECIAL) + len(WORDS) + 2 * len(LETTERS)
ENCODERS = {
    "bert": lambda: BertConfig(vocab_size=VOCABULARY, pad_token_id=0, **SIZES),
    "deberta": lambda: DebertaV2Config(
        vocab_size=VOCABULARY, pad_token_id=0, relative_attention=True, position_buckets=8, pos_att_type=["p2c", "c2p"], **SIZES
    ),
    "roberta": lambda: RobertaConfig(vocab_size=VOCABULARY, pad_token_id=0, type_vocab_size=2, **SIZES),
    "electra": lambda: ElectraConfig(vocab_size=VOCABULARY, pad_token_id=0, embedding_size=32, **SIZES),
}


def word_tokenizer() -> PreTrainedTokenizerFast:
    """Word pieces: lower case, a few words, letters; a text lies between [CLS] and [SEP]."""
    pieces = [*SPECIAL, *WORDS, *LETTERS, *("##" + letter for letter in LETTERS)]
    tokenizer = Tokenizer(models.WordPiece({piece: i for i, piece in enumerate(pieces)}, unk_token="[UNK]"))
    tokenizer.normalizer, tokenizer.pre_tokenizer = normalizers.Lowercase(), pre_tokenizers.WhitespaceSplit()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B:1 [SEP]:1", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token="[PAD]", unk_token="[UNK]", cls_token="[CLS]", sep_token="[SEP]")


def merging_tokenizer() -> PreTrainedTokenizerFast:
    """Bytes with merges, so that a letter that comes may change the tokens before it: "the" is one token, "th" another."""
    merges = [("t", "h"), ("th", "e"), ("o", "o"), ("f", "oo"), ("e", "r"), ("Ġ", "th"), ("a", "s"), ("!", "!"), ("!!", "!!")]
    pieces = ["<s>", "</s>", *sorted(pre_tokenizers.ByteLevel.alphabet()), *(a + b for a, b in merges)]
    tokenizer = Tokenizer(models.BPE(vocab={piece: i for i, piece in enumerate(pieces)}, merges=merges))
    tokenizer.pre_tokenizer, tokenizer.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    tokenizer.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 0)])
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token="<s>", eos_token="</s>", pad_token="</s>")


def _model(config: Any, seed: int, labels: tuple[str, ...]) -> Any:
    torch.manual_seed(seed)
    config.num_labels = max(1, len(labels))
    if labels:
        config.id2label, config.label2id = dict(enumerate(labels)), {label: i for i, label in enumerate(labels)}
    model = AutoModelForSequenceClassification.from_config(config).eval().requires_grad_(False)
    for weight in model.parameters():
        if weight.ndim == 2:
            weight.mul_(6.0)
    return model


@cache
def encoder(family: str = "bert", labels: tuple[str, ...] = (), seed: int = 3) -> Loaded:
    return Loaded(ModelRef(family, f"test{seed}"), Path(), _model(ENCODERS[family](), seed, labels), word_tokenizer(), None)


@cache
def foreign(family: str = "llama", labels: tuple[str, ...] = (), seed: int = 4) -> Loaded:
    """A decoder with the merging tokenizer."""
    tokenizer = merging_tokenizer()
    config = (FAMILIES | OTHERS | HYBRIDS)[family]()
    config.vocab_size = len(tokenizer)
    return Loaded(ModelRef(f"foreign-{family}", f"test{seed}"), Path(), _model(config, seed, labels), tokenizer, None)


def saved(loaded: Loaded, folder: Path) -> Path:
    """The model as a plain folder."""
    loaded.model.save_pretrained(folder)
    loaded.tokenizer.save_pretrained(folder)
    return folder
