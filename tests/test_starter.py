"""How the starter models are made: the corpus, its halves and pairs, and the whole way with tiny models in seconds."""

import json
import math
import random
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file
from test_terminal import bars
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification, AutoTokenizer, LlamaConfig

from rgtg.errors import BadData
from rgtg.models.lm import BaseLM
from rgtg.models.loading import check_same_tokens, load_causal_lm
from rgtg.records import ModelCard
from rgtg.rewards.kinds import load_reward_model
from rgtg.tools import starter as recipe
from rgtg.tools.starter import dev_pairs, half_of, half_pairs, make_starter, packed, read_corpus, text_ids, train_tokenizer

GOOD, BAD = ("good", "great", "tasty", "friendly", "fresh"), ("bad", "awful", "cold", "rude", "stale")
CAUSAL = ("base-lm", "vocabulary", "autoregressive", "plain-autoregressive")
MODELS = (*CAUSAL, "partial", "full", "judge", "plain-partial")
PROBE = "probe"  # a head on the base LM


def sentences(words: tuple[str, ...], num: int, seed: int) -> list[str]:
    luck = random.Random(seed)
    nouns = ("food", "service", "staff", "pizza", "place", "coffee")
    return [
        f"the {luck.choice(nouns)} was {luck.choice(words)} and {luck.choice(words)} {number} {'!' if number % 3 == 0 else '.'}"
        for number in range(num)
    ]


@pytest.fixture(scope="module")
def corpus(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("corpus")
    for number, (split, words, num) in enumerate(
        [("train.positive", GOOD, 60), ("train.negative", BAD, 50), ("dev.positive", GOOD, 12), ("dev.negative", BAD, 12)]
    ):
        (folder / f"{split}.txt").write_text("\n".join(sentences(words, num, number)) + "\n", encoding="utf-8")
    return folder


@pytest.fixture(scope="module")
def lines(corpus) -> dict[str, list[str]]:
    return read_corpus(corpus)


@pytest.fixture(scope="module")
def made(corpus, tmp_path_factory) -> Path:
    """The models, tiny, from a tiny corpus."""
    out = tmp_path_factory.mktemp("made") / "starter"
    with pytest.MonkeyPatch.context() as patch:
        make_tiny(patch)
        make_starter(corpus, out)
    return out


def make_tiny(patch: pytest.MonkeyPatch) -> None:
    def small(**settings) -> LlamaConfig:
        hidden = min(48, settings["intermediate_size"] // 8)
        return LlamaConfig(**settings | {"hidden_size": 32, "intermediate_size": hidden, "num_hidden_layers": 1, "num_attention_heads": 2})

    patch.setattr(recipe, "LlamaConfig", small)
    patch.setattr(recipe, "VOCABULARY", 300)
    patch.setattr(recipe, "train_tokenizer", lambda lines: train_tokenizer(lines, 300))
    patch.setattr(recipe, "CONTEXT", 64)
    for name in ("BASE", "AGAIN"):
        patch.setattr(recipe, name, replace(getattr(recipe, name), num_train_epochs=2, tokens_per_batch=512, logging_steps=100, bf16=False))
    few = {"max_steps": 3, "batch_size": 8, "logging_steps": 100, "bf16": False}
    guides = {
        name: replace(guide, config=replace(guide.config, objective=type(guide.config.objective)(), **few)) for name, guide in recipe.GUIDES.items()
    }
    patch.setattr(recipe, "GUIDES", guides)


def test_the_corpus_is_read_without_empty_lines_and_repeats(corpus, tmp_path):
    for split in recipe.SPLITS:
        (tmp_path / f"{split}.txt").write_text("a b\n\n  c \na b\n", encoding="utf-8")
    assert read_corpus(tmp_path) == {split: ["a b", "c"] for split in recipe.SPLITS}
    assert {split: len(found) for split, found in read_corpus(corpus).items()} == dict(zip(recipe.SPLITS, (60, 50, 12, 12), strict=True))


def test_a_missing_file_is_named(corpus, tmp_path):
    for split in recipe.SPLITS[:2]:
        (tmp_path / f"{split}.txt").write_text("a\n", encoding="utf-8")
    with pytest.raises(BadData, match=r"The corpus needs the file `dev\.positive\.txt`"):
        make_starter(tmp_path, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_file_in_another_encoding_is_named(corpus, tmp_path):
    for split in recipe.SPLITS:
        (tmp_path / f"{split}.txt").write_text("a\n", encoding="utf-8")
    (tmp_path / "train.negative.txt").write_bytes("café\n".encode("latin-1"))
    with pytest.raises(BadData, match=r"`train\.negative\.txt` cannot be read as text.* UTF-8"):
        read_corpus(tmp_path)


def test_the_halves_share_no_sentence_cover_all_and_know_no_order(lines):
    train = lines["train.positive"] + lines["train.negative"]
    halves = {half: {line for line in train if half_of(line) == half} for half in "AB"}
    assert not halves["A"] & halves["B"] and halves["A"] | halves["B"] == set(train)
    assert min(map(len, halves.values())) > 0.3 * len(train)
    assert "".join(map(half_of, ("good food .", "bad food .", "so so", "a", "b", "c"))) == "AABAAA"


def test_pairs_of_a_half_are_made_of_its_sentences_alone(lines):
    tokenizer = train_tokenizer(lines["train.positive"] + lines["train.negative"], 300)

    def sides(half: str) -> tuple[set[str], set[str]]:
        pairs = half_pairs(tokenizer, lines, half, seed=0)
        return tuple({tokenizer.decode(ids[:-1]) for ids in side} for side in zip(*((p.chosen_ids, p.rejected_ids) for p in pairs), strict=True))

    for half in "AB":
        chosen, rejected = sides(half)
        assert chosen == {line for line in lines["train.positive"] if half_of(line) == half}
        assert rejected <= {line for line in lines["train.negative"] if half_of(line) == half}
    assert not sides("A")[1] & sides("B")[1]


def test_a_text_begins_with_the_start_token_and_ends_with_the_end_token(lines):
    tokenizer = train_tokenizer(lines["train.positive"], 300)
    ids = text_ids(tokenizer, "the food was café 😀")
    assert (ids[0], ids[-1]) == (0, 1) and tokenizer.decode(ids[1:-1]) == "the food was café 😀"
    assert tokenizer.convert_ids_to_tokens([0, 1, 2]) == ["<s>", "</s>", "<pad>"]


def test_held_out_pairs_set_line_against_line(lines):
    tokenizer = train_tokenizer(lines["train.positive"] + lines["train.negative"], 300)
    pairs = dev_pairs(tokenizer, lines)
    assert len(pairs) == 12 and {p.prompt_ids for p in pairs} == {(0,)}
    assert [(tokenizer.decode(p.chosen_ids[:-1]), tokenizer.decode(p.rejected_ids[:-1])) for p in pairs] == list(
        zip(lines["dev.positive"], lines["dev.negative"], strict=True)
    )
    assert all(p.chosen_ids[-1] == p.rejected_ids[-1] == 1 for p in pairs)


def test_packed_rows_are_whole_texts_and_not_too_long():
    rows = [(0, 5, 1), (0, 6, 7, 1), (0, 8, 8, 8, 1)]
    for row in packed(rows, 20, length=12):
        assert 8 <= len(row) <= 12
        starts = [i for i, token in enumerate(row) if token == 0] + [len(row)]
        assert all(row[a:b] in rows for a, b in pairwise(starts))


def test_each_folder_is_a_plain_transformers_folder_in_half_precision_with_its_card(made):
    assert sorted(p.name for p in made.iterdir()) == sorted([*MODELS, PROBE, "README.md", "known.json"])
    for name in MODELS:
        folder, kind = made / name, AutoModelForCausalLM if name in CAUSAL else AutoModelForSequenceClassification
        _, info = kind.from_pretrained(folder, output_loading_info=True)
        assert not any(info.values()), info
        assert {p.suffix for p in folder.iterdir()} <= {".json", ".safetensors", ".jinja", ".txt"}
        with safe_open(folder / "model.safetensors", "pt") as weights:
            assert {weights.get_tensor(key).dtype for key in weights.keys()} == {torch.float16}  # noqa: SIM118
        assert AutoTokenizer.from_pretrained(folder)("the food")["input_ids"][0] == 0
        json.loads((folder / "card.json").read_text(encoding="utf-8"), parse_constant=lambda name: pytest.fail(f"{name} is not JSON"))


def test_the_cards_say_what_each_was_taught(made):
    cards = {name: ModelCard.read(made / name) for name in (*MODELS, PROBE)}
    assert {name: (c.kind, c.objective, c.base_lm) for name, c in cards.items()} == {
        "base-lm": ("base_lm", "", ""),
        "partial": ("reward_model", "partial", "starter"),
        "full": ("reward_model", "full", "starter"),
        "vocabulary": ("reward_model", "vocabulary", "starter"),
        "autoregressive": ("reward_model", "autoregressive", "starter"),
        "judge": ("judge", "full", "starter"),
        "probe": ("reward_model", "probe", "starter"),
        "plain-partial": ("reward_model", "partial", "starter"),
        "plain-autoregressive": ("reward_model", "autoregressive", "starter"),
    }
    assert cards["partial"].pairs_sha256 == cards["full"].pairs_sha256 != cards["judge"].pairs_sha256, "the judge learned from other sentences"
    assert cards["partial"].num_pairs == 24 and cards["partial"].accuracy["end"]["n"] == 12
    assert cards["base-lm"].metrics["num_sentences"] == 24
    assert 1 < cards["base-lm"].metrics["perplexity_per_token"] < 300


def test_what_was_made_fits_together_and_passes_the_door(made):
    lm = load_causal_lm(str(made / "base-lm"), device="cpu")
    for name in MODELS[1:]:
        check_same_tokens(load_reward_model(str(made / name), device="cpu").loaded, lm)
    probe = load_reward_model(str(made / PROBE), device="cpu", find_reference=lambda ref: BaseLM.of(lm))
    assert probe.loaded.model is lm.model


def test_a_second_call_passes_over_what_is_there(made, corpus, monkeypatch):
    for stage in ("_make_lm", "_make_reward_model"):
        monkeypatch.setattr(recipe, stage, lambda *args: pytest.fail("made again"))
    make_starter(corpus, made)


def test_a_broken_run_goes_on_and_only_what_is_named_is_made(made, corpus, tmp_path, monkeypatch):
    make_tiny(monkeypatch)
    make_starter(corpus, tmp_path / "out", only=["base-lm"])
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == ["README.md", "base-lm", "known.json"]
    make_starter(corpus, tmp_path / "out", only=["full"])
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == ["README.md", "base-lm", "full", "known.json"]
    for name in ("base-lm", "full"):
        same = (tmp_path / "out" / name / "model.safetensors").read_bytes() == (made / name / "model.safetensors").read_bytes()
        assert same, f"{name} comes out the same each time"


def test_the_readme_has_the_figures_of_the_cards(made):
    text = (made / "README.md").read_text(encoding="utf-8")
    for name in MODELS[1:]:
        figures = [f"{100 * f['accuracy']:.1f}" for f in ModelCard.read(made / name).accuracy.values()]
        assert f"| {name} | {' | '.join(figures)} |" in text


# --- the models that ship -----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def shipped(starter) -> Path:
    missing = [name for name in (*MODELS, PROBE) if not (starter / name / "card.json").is_file()]
    if missing:
        pytest.skip(f"data/starter has no {', '.join(missing)}")
    return starter


@pytest.fixture(scope="module")
def dev(shared) -> dict[str, list[str]]:
    """The held-out sentences of each side, without repeats."""
    return {
        side: list(dict.fromkeys(filter(None, map(str.strip, (shared / "reviews" / f"dev.{side}.txt").read_text(encoding="utf-8").split("\n")))))
        for side in ("positive", "negative")
    }


@torch.inference_mode()
def hidden_rows(model, rows: list[list[int]], head) -> list[torch.Tensor]:
    """`head` of the last hidden states of each row, in batches of similar length, padding cut off."""
    found: list = [None] * len(rows)
    order = sorted(range(len(rows)), key=lambda i: len(rows[i]))
    for start in range(0, len(order), 100):
        part = order[start : start + 100]
        width = max(len(rows[i]) for i in part)
        states = model.base_model(torch.tensor([rows[i] + [0] * (width - len(rows[i])) for i in part]), use_cache=False).last_hidden_state
        for i, state in zip(part, head(states), strict=True):
            found[i] = state[: len(rows[i])]
    return found


@torch.inference_mode()
def rewards_along(model, rows: list[list[int]], objective: str) -> list[list[float]]:
    """The reward of every prefix behind the start token, read off the model as its paper says."""
    if objective not in ("vocabulary", "autoregressive"):
        return [said[1:].tolist() for said in hidden_rows(model, rows, lambda states: model.score(states)[..., 0])]
    found = []
    for row, states in zip(rows, hidden_rows(model, rows, lambda states: states), strict=True):
        logits = model.lm_head(states[:-1])
        taken = (logits if objective == "vocabulary" else logits.log_softmax(-1))[range(len(row) - 1), row[1:]]
        found.append((taken if objective == "vocabulary" else taken.cumsum(0)).tolist())
    return found


@pytest.mark.slow
@pytest.mark.parametrize("name", (*MODELS[1:], PROBE))
def test_cards_of_the_shipped_starter_are_what_the_weights_give(shipped, dev, name):
    card, folder = ModelCard.read(shipped / name), shipped / ("base-lm" if name == PROBE else name)
    tokenizer, kind = AutoTokenizer.from_pretrained(folder), AutoModelForCausalLM if name in CAUSAL else AutoModelForSequenceClassification
    model = kind.from_pretrained(folder, dtype=torch.float32, **({"num_labels": 1} if name == PROBE else {}))
    if name == PROBE:
        model.score.weight.data.copy_(load_file(shipped / name / "model.safetensors")["score.weight"])
    model = model.eval()
    pairs = recipe.GUIDES[name].taste.held_out(tokenizer, {f"dev.{side}": lines for side, lines in dev.items()})
    sides = [[list(ids) for ids in side] for side in zip(*((pair.chosen_ids, pair.rejected_ids) for pair in pairs), strict=True)]
    chosen, rejected = (list(zip(side, rewards_along(model, [[0, *ids] for ids in side], card.objective), strict=True)) for side in sides)
    for length in ("4", "end"):
        wins, n = 0.0, 0
        for (a_ids, a), (b_ids, b) in zip(chosen, rejected, strict=True):
            cut = int(length) if length != "end" else max(len(a_ids), len(b_ids))
            if a_ids[:cut] != b_ids[:cut]:
                x, y = a[min(cut, len(a)) - 1], b[min(cut, len(b)) - 1]
                wins, n = wins + (x > y) + 0.5 * (x == y), n + 1
        assert n == card.accuracy[length]["n"]
        # measured before the weights were rounded to float16: a pair in a thousand may turn
        assert wins / n == pytest.approx(card.accuracy[length]["accuracy"], abs=0.001)


@pytest.mark.slow
def test_the_card_of_the_shipped_base_lm_is_what_its_weights_give(shipped, dev):
    metrics, tokenizer = ModelCard.read(shipped / "base-lm").metrics, AutoTokenizer.from_pretrained(shipped / "base-lm")
    model = AutoModelForCausalLM.from_pretrained(shipped / "base-lm", dtype=torch.float32).eval()
    texts = dev["positive"] + dev["negative"]
    rows = [[0, *tokenizer(line, add_special_tokens=False)["input_ids"], 1] for line in texts]
    nats = 0.0
    with torch.inference_mode():
        for row, states in zip(rows, hidden_rows(model, rows, lambda states: states), strict=True):
            nats -= float(model.lm_head(states[:-1]).log_softmax(-1)[range(len(row) - 1), row[1:]].sum())
    num_tokens = sum(len(row) - 1 for row in rows)
    assert (len(texts), num_tokens) == (metrics["num_sentences"], metrics["num_tokens"])
    assert math.exp(nats / num_tokens) == pytest.approx(metrics["perplexity_per_token"], rel=1e-3)
    assert nats / sum(len(line.split()) for line in texts) == pytest.approx(metrics["nats_per_word"], rel=1e-3)


def test_the_shipped_readme_has_the_figures_of_the_shipped_cards(shipped):
    assert (shipped / "README.md").read_text(encoding="utf-8") == recipe.describe(shipped)


@pytest.mark.slow
def test_the_command_draws_a_bar_for_each_model(corpus, tmp_path, monkeypatch):
    make_tiny(monkeypatch)
    monkeypatch.setattr(recipe, "BASE", replace(recipe.BASE, logging_steps=1))
    guides = {name: replace(guide, config=replace(guide.config, logging_steps=1)) for name, guide in recipe.GUIDES.items()}
    monkeypatch.setattr(recipe, "GUIDES", guides)
    arguments = ["starter", "--corpus", str(corpus), "--out", str(tmp_path / "out"), "--only", "base-lm", "--only", "partial"]
    drawn = bars(arguments, "steps", "(?:base-lm|partial):")
    ended = [total for done, total in drawn if done == total]
    assert ended[-1] == 3 and len(set(ended)) == 2
