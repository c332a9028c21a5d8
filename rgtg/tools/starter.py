"""Training of `data/starter/`: a base LM, guides of two tastes (positive; plain and short) and a judge from a folder of labelled sentences.

The folder holds `train.positive.txt`, `train.negative.txt`, `dev.positive.txt`, `dev.negative.txt`, one sentence a line.
Each stage writes one model folder and is skipped where that folder exists, so that an interrupted run can be resumed.
Knows nothing of the engine, the store or the screen.
"""

import hashlib
import logging
import random
import shutil
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerBase, PreTrainedTokenizerFast

from rgtg.config import LMTrainingConfig
from rgtg.errors import BadData
from rgtg.evaluation.metrics import equal_error_threshold, prefix_accuracy
from rgtg.figures import figure_name
from rgtg.models.admission.admit import write_known
from rgtg.preferences.batches import Ids, TokenPair, items_hash
from rgtg.records import ModelCard
from rgtg.tools.pretraining import negative_log_likelihood, perplexity, train_lm
from rgtg.training.config import TrainingConfig
from rgtg.training.criterion import criterion_for
from rgtg.training.evaluate import measure
from rgtg.training.losses import last
from rgtg.training.objectives import Autoregressive, Full, Partial, Probe, Vocabulary
from rgtg.training.reward_trainer import Progress, train_reward_model
from rgtg.training.starts import load_start, save_model, save_trained

logger = logging.getLogger(__name__)

SPLITS = ("train.positive", "train.negative", "dev.positive", "dev.negative")
VOCABULARY = 4096
CONTEXT = 2048
PACKED_LENGTH = 512  # one row in forty is a concatenation of reviews, so that late positions are trained too
SOURCE = (
    "Review sentences from star ratings (the Yelp sentiment set of the repository shentianxiao/language-style-transfer, "
    "Apache-2.0; the text itself stands under Yelp's terms). Lower-cased, space-tokenised, one sentence a line."
)
LICENSE = "other"  # weights that learned from text under somebody's terms
BASE = LMTrainingConfig(num_train_epochs=4, learning_rate=3e-3, muon=True, muon_learning_rate=0.02, weight_decay=0.1, dropout=0.1, logging_steps=50)
AGAIN = replace(BASE, num_train_epochs=1, muon_learning_rate=0.01)  # of the small language model, on every third text
REWARD = TrainingConfig(max_steps=800, batch_size=64, learning_rate=4e-4, dropout=0.1, logging_steps=50)
FEWER: dict[str, Any] = {"max_steps": 400, "batch_size": 32}  # logits of the whole vocabulary cost several times a scalar head
JUDGE = "judge"
LARGE: dict[str, Any] = {"hidden_size": 256, "intermediate_size": 704, "num_hidden_layers": 4, "num_attention_heads": 8}
SMALL = LARGE | {"intermediate_size": 256, "num_hidden_layers": 1}
SMALL_LM = ".small-lm"  # what small models start from: the first layer of the base LM, trained on; deleted when they are there
LIVELY = frozenset((
    "very", "so", "really", "absolutely", "super", "extremely", "definitely", "highly", "totally", "completely", "incredibly", "ever",
    "always", "never", "best", "worst", "amazing", "awesome", "fantastic", "incredible", "wonderful", "excellent", "perfect", "horrible",
    "terrible", "awful", "disgusting", "love", "loved", "hate", "hated",
))  # fmt: skip
MIN_GAP = 3  # in plainness, between the two sentences of a pair


@dataclass(frozen=True)
class Taste:
    """What the pairs of a reward model prefer, in words and as pairs of sentences: (tokenizer, lines, half, seed) -> pairs to train on,
    (tokenizer, lines) -> held-out pairs."""

    words: str
    pairs: Callable[[PreTrainedTokenizerBase, dict[str, list[str]], str, int], list[TokenPair]]
    held_out: Callable[[PreTrainedTokenizerBase, dict[str, list[str]]], list[TokenPair]]


@dataclass(frozen=True)
class Recipe:
    """How a reward model is trained: `half` of the training sentences, `small`: of fewer layers, with a language model of its own to start from."""

    config: TrainingConfig
    half: str
    taste: Taste
    small: bool = False


Listen = Callable[[str, Progress], None]  # the name of a model and how far its training is


def make_starter(corpus: Path, out: Path, only: Sequence[str] = (), listen: Listen = lambda name, progress: None) -> None:
    """Trains what is missing of the base LM and the models of GUIDES under `out`; `only` names the stages to run."""
    lines = read_corpus(corpus)
    out.mkdir(parents=True, exist_ok=True)
    if not (out / "base-lm").exists() and (not only or "base-lm" in only):
        trained = train_tokenizer(lines["train.positive"] + lines["train.negative"])
        _make_lm(lines, trained, new_model(LARGE), BASE, out / "base-lm", listen)
    missing = {name: recipe for name, recipe in GUIDES.items() if not (out / name).exists() and (not only or name in only)}
    if any(recipe.small for recipe in missing.values()) and not (out / SMALL_LM).exists():
        tokenizer = AutoTokenizer.from_pretrained(out / "base-lm")
        _make_lm(lines, tokenizer, first_layers(out / "base-lm"), AGAIN, out / SMALL_LM, listen, every=3)
    for name, recipe in missing.items():
        _make_reward_model(lines, out, name, recipe, listen)
    shutil.rmtree(out / SMALL_LM, ignore_errors=True)
    (out / "README.md").write_text(describe(out), encoding="utf-8")
    write_known(out)


def read_corpus(corpus: Path) -> dict[str, list[str]]:
    """{"train.positive": [line, …], …} without empty lines and duplicates. Raises BadData naming a missing file."""
    lines_of = {}
    for split in SPLITS:
        path = corpus / f"{split}.txt"
        if not path.is_file():
            raise BadData(
                f"The corpus needs the file `{path.name}`.",
                f"Nothing is at {path}.",
                "Give a folder that holds " + ", ".join(f"{s}.txt" for s in SPLITS) + ".",
            )
        try:
            text = path.read_text(encoding="utf-8")
        except UnicodeDecodeError as error:
            raise BadData(f"`{path.name}` cannot be read as text.", f"{error}.", "Save it again in UTF-8.") from error
        lines_of[split] = list(dict.fromkeys(line.strip() for line in text.splitlines() if line.strip()))
    return lines_of


def half_of(line: str) -> str:
    """`A` or `B`, by the hash of the sentence: the halves are disjoint whatever the order of the file."""
    return "AB"[hashlib.sha256(line.encode()).digest()[0] & 1]


def train_tokenizer(lines: Sequence[str], vocabulary: int = VOCABULARY) -> PreTrainedTokenizerFast:
    """Byte-level BPE with `<s>`, `</s>` and `<pad>`; a text is encoded after `<s>`."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    special = ["<s>", "</s>", "<pad>"]
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    tokenizer.train_from_iterator(
        lines, trainers.BpeTrainer(vocab_size=vocabulary, special_tokens=special, initial_alphabet=alphabet, show_progress=False)
    )
    tokenizer.post_processor = processors.TemplateProcessing(single="<s> $A", pair="<s> $A $B", special_tokens=[("<s>", 0)])
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token="<s>", eos_token="</s>", pad_token="<pad>",
        model_max_length=CONTEXT, clean_up_tokenization_spaces=False,
    )  # fmt: skip


def new_model(size: dict[str, Any]) -> LlamaForCausalLM:
    """A causal LM with random weights, the same ones each time."""
    torch.manual_seed(0)
    return LlamaForCausalLM(
        LlamaConfig(
            vocab_size=VOCABULARY, max_position_embeddings=CONTEXT, tie_word_embeddings=True, bos_token_id=0, eos_token_id=1, pad_token_id=2, **size
        )
    )  # fmt: skip


def first_layers(folder: Path) -> LlamaForCausalLM:
    """The first layers of a causal LM, as many as SMALL has, each with the hidden units whose weights are largest."""
    large = LlamaForCausalLM.from_pretrained(folder, dtype=torch.float32)
    small = new_model(SMALL)
    small.model.embed_tokens.load_state_dict(large.model.embed_tokens.state_dict())
    small.model.norm.load_state_dict(large.model.norm.state_dict())
    for ours, theirs in zip(small.model.layers, large.model.layers, strict=False):
        weights = theirs.state_dict()
        size = weights["mlp.gate_proj.weight"].norm(dim=1) * weights["mlp.up_proj.weight"].norm(dim=1) * weights["mlp.down_proj.weight"].norm(dim=0)
        kept = size.topk(small.config.intermediate_size).indices
        for name in ("gate_proj", "up_proj"):
            weights[f"mlp.{name}.weight"] = weights[f"mlp.{name}.weight"][kept]
        weights["mlp.down_proj.weight"] = weights["mlp.down_proj.weight"][:, kept]
        ours.load_state_dict(weights)
    return small


def _make_lm(
    lines: dict[str, list[str]],
    tokenizer: PreTrainedTokenizerBase,
    model: LlamaForCausalLM,
    config: LMTrainingConfig,
    folder: Path,
    listen: Listen,
    every: int = 1,
) -> None:
    train = (lines["train.positive"] + lines["train.negative"])[::every]
    rows = [text_ids(tokenizer, line) for line in train]
    last = ""
    for progress in train_lm(model, rows + packed(rows, len(rows) // 40 // 35), 2, config):
        last = progress.text
        listen(folder.name.lstrip("."), progress)
    dev = lines["dev.positive"] + lines["dev.negative"]
    nats, num_tokens = negative_log_likelihood(model, [text_ids(tokenizer, line) for line in dev], 2)
    card = ModelCard(
        kind="base_lm", name="starter", trained_on="to continue review sentences and to end them", source=SOURCE, license=LICENSE,
        num_texts=len(train), training=asdict(config) | {"last": last},
        metrics={
            "perplexity_per_token": round(perplexity(nats, num_tokens), 3), "num_tokens": num_tokens,
            "nats_per_word": round(nats / sum(len(line.split()) for line in dev), 4), "num_sentences": len(dev),
        },
    )  # fmt: skip
    logger.info("%s: %s", folder.name.lstrip("."), card.metrics)
    save_model(model.half(), tokenizer, card, folder)


def _make_reward_model(lines: dict[str, list[str]], out: Path, name: str, recipe: Recipe, listen: Listen) -> None:
    config, taste = recipe.config, recipe.taste
    torch.manual_seed(config.seed)
    start = load_start(str(out / (SMALL_LM if recipe.small else "base-lm")), config.objective, "cpu")
    model, tokenizer = start.model, start.tokenizer
    pairs = taste.pairs(tokenizer, lines, recipe.half, config.seed)
    reports: list[Progress] = []

    def report(progress: Progress) -> None:
        reports.append(progress)
        listen(name, progress)

    train_reward_model(model, pairs, 2, config, report)
    held_out = taste.held_out(tokenizer, lines)
    measured = measure(criterion_for(model, config.objective, 2, 1), model, held_out, [""] * len(held_out))
    assert measured is not None  # pairs can always be evaluated
    sides = (measured.chosen, measured.chosen_lengths), (measured.rejected, measured.rejected_lengths)
    card = ModelCard(
        kind=JUDGE if name == JUDGE else "reward_model", name=name, objective=config.objective.key, reward_kind=config.objective.kind,
        base_lm="starter", template="plain",
        trained_on=f"which of two review sentences is {taste.words}, {config.objective.where}",
        source=SOURCE + f" Half {recipe.half} of the training sentences (by hash of the sentence); the dev sentences were held out.",
        license=LICENSE,
        num_pairs=config.max_steps * config.batch_size, pairs_sha256=items_hash(pairs), training=config.flat() | {"last": reports[-1].text},
        zero=round(equal_error_threshold(*(last(*side).tolist() for side in sides)), 4),
        accuracy=prefix_accuracy(measured.chosen, measured.rejected, measured.chosen_lengths, measured.rejected_lengths, measured.num_common),
        metrics={"num_held_out_pairs": len(held_out)}, reference=start.reference if config.objective.frozen else "",
    )  # fmt: skip
    logger.info("%s: zero %s, accuracy %s", name, card.zero, {k: v["accuracy"] for k, v in card.accuracy.items()})
    save_trained(start, model, config.objective, card, out / name, torch.float16)


def text_ids(tokenizer: PreTrainedTokenizerBase, line: str) -> Ids:
    """The ids of `<s>` text `</s>`."""
    return tuple(tokenizer(line)["input_ids"]) + (tokenizer.eos_token_id,)


def packed(rows: Sequence[Ids], num_rows: int, length: int = PACKED_LENGTH, seed: int = 0) -> list[Ids]:
    """`num_rows` rows of up to `length` ids, each a concatenation of complete texts in random order."""
    rng, out = random.Random(seed), []
    for _ in range(num_rows):
        row: Ids = ()
        while len(row) + len(text := rng.choice(rows)) <= length:
            row += text
        out.append(row)
    return out


def half_pairs(tokenizer: PreTrainedTokenizerBase, lines: dict[str, list[str]], half: str, seed: int) -> list[TokenPair]:
    """Each positive sentence of the half against a random negative one of the half, without a prompt."""
    rng = random.Random(seed)
    sides = []
    for split in ("train.positive", "train.negative"):
        ids = [text_ids(tokenizer, line)[1:] for line in lines[split] if half_of(line) == half]
        rng.shuffle(ids)
        sides.append(ids)
    positive, negative = sides
    start = (tokenizer.bos_token_id,)
    return [TokenPair(start, chosen, negative[i % len(negative)]) for i, chosen in enumerate(positive)]


def dev_pairs(tokenizer: PreTrainedTokenizerBase, lines: dict[str, list[str]]) -> list[TokenPair]:
    """Line i of dev.positive against line i of dev.negative, without a prompt."""
    sides = ([text_ids(tokenizer, line)[1:] for line in lines[split]] for split in ("dev.positive", "dev.negative"))
    return [TokenPair((tokenizer.bos_token_id,), a, b) for a, b in zip(*sides, strict=False)]


def plainness(line: str) -> int:
    """How plain and short a sentence is: minus its number of words, minus 4 for each exclamation mark and 2 for each lively word."""
    words = line.split()
    return -len(words) - 4 * words.count("!") - 2 * sum(word in LIVELY for word in words)


def plain_pairs(tokenizer: PreTrainedTokenizerBase, lines: dict[str, list[str]], half: str, seed: int) -> list[TokenPair]:
    """Two random sentences of the half, both positive or both negative, the plainer one chosen."""
    rng, pairs = random.Random(seed), []
    for split in ("train.positive", "train.negative"):
        own = [line for line in lines[split] if half_of(line) == half]
        rng.shuffle(own)
        pairs += _by_plainness(tokenizer, own)
    rng.shuffle(pairs)
    return pairs


def plain_dev_pairs(tokenizer: PreTrainedTokenizerBase, lines: dict[str, list[str]]) -> list[TokenPair]:
    """Lines 2i and 2i + 1 of dev.positive, and of dev.negative, the plainer one chosen."""
    return [pair for split in ("dev.positive", "dev.negative") for pair in _by_plainness(tokenizer, lines[split])]


def _by_plainness(tokenizer: PreTrainedTokenizerBase, lines: Sequence[str]) -> list[TokenPair]:
    pairs = []
    for two in zip(lines[::2], lines[1::2], strict=False):
        lively, plain = sorted(two, key=plainness)
        if plainness(plain) - plainness(lively) >= MIN_GAP:
            pairs.append(TokenPair((tokenizer.bos_token_id,), text_ids(tokenizer, plain)[1:], text_ids(tokenizer, lively)[1:]))
    return pairs


POSITIVE = Taste("positive", half_pairs, dev_pairs)
PLAIN = Taste("plain and short rather than lively", plain_pairs, plain_dev_pairs)
GUIDES = {
    Partial.key: Recipe(replace(REWARD, objective=Partial()), "A", POSITIVE),
    Full.key: Recipe(replace(REWARD, objective=Full()), "A", POSITIVE),
    # FaRMA's own objective (complete answers, max constraint) was accurate at the end (98.7 %) but not on prefixes (43 to 56 %)
    Vocabulary.key: Recipe(
        replace(REWARD, objective=Vocabulary(compare="prefixes", constraint="sum", constraint_weight=0.0), **FEWER), "A", POSITIVE
    ),
    Autoregressive.key: Recipe(replace(REWARD, objective=Autoregressive(beta=0.5), **FEWER), "A", POSITIVE),
    Probe.key: Recipe(replace(REWARD, objective=Probe(), dropout=TrainingConfig.dropout, learning_rate=0.0), "A", POSITIVE),
    JUDGE: Recipe(replace(REWARD, objective=Full()), "B", POSITIVE),
    f"plain-{Partial.key}": Recipe(replace(REWARD, objective=Partial(), max_steps=400), "A", PLAIN, small=True),
    f"plain-{Autoregressive.key}": Recipe(replace(REWARD, objective=Autoregressive(beta=0.5), **FEWER), "A", PLAIN, small=True),
}


def describe(out: Path) -> str:
    """The README of the starter folder, from the cards of the models that are there."""
    cards = {folder.name: card for folder in sorted(out.iterdir()) if folder.is_dir() and (card := ModelCard.read(folder))}
    lines = [
        "---",
        f"license: {LICENSE}",
        "---",
        "",
        "# Starter models",
        "",
        SOURCE,
        "",
        "Made by `python -m rgtg starter --corpus DIR --out data/starter`.",
    ]
    lines += ["The weights learned from that text, hence `license: other`; the code of the project is Apache-2.0.", ""]
    for name, card in cards.items():
        pairs = f", {card.num_pairs:,} pairs" if card.num_pairs else ""
        figures = ", ".join(
            f"{value:,} {figure_name(key)}" if isinstance(value, int) else f"{figure_name(key)} {value:,}" for key, value in card.metrics.items()
        )
        lines.append(f"- **{name}** ({card.kind.replace('_', ' ')}): trained {card.trained_on}{pairs}. {figures}.")
    measured = {name: card for name, card in cards.items() if card.accuracy}
    for taste in (POSITIVE, PLAIN):
        lines += _accuracy_table(taste, {name: measured[name] for name, recipe in GUIDES.items() if name in measured and recipe.taste is taste})
    return "\n".join(lines) + "\n"


def _accuracy_table(taste: Taste, cards: dict[str, ModelCard]) -> list[str]:
    if not cards:
        return []
    first = next(iter(cards.values())).accuracy
    lines = ["", f"Share of held-out pairs whose sentence that is {taste.words} has the higher reward, in %, by prefix length in tokens", ""]
    lines += [f"| model | {' | '.join(first)} |", "|---" * (len(first) + 1) + "|"]
    for name, card in cards.items():
        lines.append(f"| {name} | " + " | ".join(f"{100 * card.accuracy[length]['accuracy']:.1f}" for length in first) + " |")
    return [*lines, "| n | " + " | ".join(f"{of['n']:,}" for of in first.values()) + " |"]
