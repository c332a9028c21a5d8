"""The tables of docs/results.md: every command is one that the terminal knows, the data is what it says, and a small table is made whole."""

import json
import random
from pathlib import Path

import pytest

from recipes import evidence, reviews
from recipes.evidence import TABLES, Place, Work
from rgtg.cli.main import _parser
from rgtg.config import GenerationConfig
from rgtg.errors import BadData
from rgtg.guidance.methods import METHODS, parse_run
from rgtg.tools.starter import half_of

LINES = {
    f"{split}.{mood}": [f"the {noun} {i} was {word} today ." for i in range(number) for noun in ("food", "soup")]
    for split, number in (("train", 40), ("dev", 6))
    for mood, word in (("positive", "great"), ("negative", "awful"))
}


@pytest.mark.parametrize("table", TABLES)
def test_every_command_of_a_table_is_one_that_the_terminal_knows(table, tmp_path):
    place, made = Place(tmp_path / "corpus", tmp_path / "out"), set()
    for step in TABLES[table](place):
        if isinstance(step, Work):
            continue
        options = _parser().parse_args(step)
        if step[0] == "train":
            made |= {str(options.out / f"{evidence.folder_name(kind)}-{seed}") for kind in options.train for seed in range(options.seeds)}
        for text in getattr(options, "run", ()):
            spec = parse_run(text, GenerationConfig(max_new_tokens=options.max_new_tokens, top_k=options.top_k))
            METHODS[spec.method].make(spec.params)
            assert not spec.reward_model or spec.reward_model in made or "/" not in spec.reward_model
        assert set(getattr(options, "reward_model", None) or ()) <= made
    assert "--dry-run" not in made


def test_a_table_is_printed_without_being_made(tmp_path, capsys):
    assert evidence.main(["turn", "--corpus", str(tmp_path), "--out", str(tmp_path / "out"), "--dry-run"]) == 0
    printed = capsys.readouterr().out
    assert "--minus 'args · full-*'" in printed and "# writes" in printed and not (tmp_path / "out").exists()


def test_the_halves_share_no_sentence_and_the_prompts_are_first_words():
    rows = reviews.rows_of(LINES, num_pairs=12, num_prompts=2, num_beginnings=8)
    own, other = ({text for row in rows[name] for text in (row["chosen"], row["rejected"])} for name in ("pairs", "other"))
    assert {half_of(line) for line in own} == {"A"} and {half_of(line) for line in other} == {"B"}
    assert all("great" in row["chosen"] and "awful" in row["rejected"] for row in rows["pairs"])
    assert {row["completion"] for row in rows["texts"]} == own == {text for row in rows["mixed"] for text in (row["chosen"], row["rejected"])}
    assert all(row["label"] == ("great" in row["completion"]) for row in rows["texts"])
    assert rows["openings"] == [{"prompt": "the food 0"}, {"prompt": "the soup 0"}] * 2
    assert len(rows["beginnings"]) == 10 == len({row["prompt"] for row in rows["beginnings"]})
    assert [len(rows[name]) for name in ("pairs", "mixed", "dev")] == [12, 12, 12]


def test_too_few_sentences_are_said():
    with pytest.raises(BadData, match="too few sentences for 1,000 pairs"):
        reviews.rows_of(LINES, 1000, 2, 8)


def test_a_branch_is_a_beginning_of_an_answer_and_pairs_differ():
    rows = [{"prompt": "the food", "response": " was very good ."}, {"prompt": "the soup", "response": " ok"}]
    (branch,) = reviews.branching(rows)
    assert branch["prompt"] in ("the food was", "the food was very", "the food was very good")
    same = [
        {"prompt": "a", "response": " b"},
        {"prompt": "a", "response": " b"},
        {"prompt": "c", "response": " d"},
        {"prompt": "c", "response": " e"},
    ]
    assert reviews.in_pairs(same) == [{"prompt": "c", "chosen": " d", "rejected": " e"}]


@pytest.mark.slow
def test_a_small_table_is_made_whole_and_nothing_is_made_twice(tmp_path, capsys):
    """On the starter models, with a training of a few steps: what is tried is that the parts fit together."""
    corpus, draw = tmp_path / "corpus", random.Random(0)
    corpus.mkdir()
    words = {"positive": ("great", "lovely", "amazing"), "negative": ("awful", "cold", "rude")}
    for split, number in (("train", 120), ("dev", 30)):
        for mood, of_mood in words.items():
            lines = [f"the {draw.choice(('food', 'soup', 'staff'))} {i} was {draw.choice(of_mood)} and i agree ." for i in range(number)]
            (corpus / f"{split}.{mood}.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
    place = Place(corpus, tmp_path / "out", num_pairs=40, num_prompts=2, seeds=1, few_seeds=1, workers=1, numbers=(8,))
    assert evidence.run("votes", place) == 0
    made = {path: path.stat().st_mtime_ns for path in (tmp_path / "out").rglob("*.safetensors")}
    assert len(made) == 2 and "| pargs · partial-0 · beta 2 | 4 |" in capsys.readouterr().out
    assert evidence.run("votes", place) == 0
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "out").rglob("*.safetensors")} == made
    voted = [json.loads(line) for line in Path(place.data("branch-8")).read_text(encoding="utf-8").splitlines()]
    assert len(voted) == 8 and all(row["chosen"] != row["rejected"] for row in voted)


class Words:
    """A tokenizer of words, where "_" begins a token that goes on with a word."""

    def decode(self, ids: list[str]) -> str:
        return "".join(token[1:] if token[0] == "_" else f" {token}" for token in ids).removeprefix(" ") if len(ids) > 1 else self._one(ids[0])

    @staticmethod
    def _one(token: str) -> str:
        return token[1:] if token[0] == "_" else f" {token}"


def test_a_prompt_that_turns_ends_with_a_word_below_zero():
    ids = ["the", "room", "was", "bad", "but", "super", "_b", "!"]
    rewards = [0.0, 0.0, 0.5, -3.0, -2.5, -1.5, 2.0, 4.0]
    assert reviews.turning(Words(), ids, rewards, by=1.0) == "the room was bad but"  # behind `super` a word would be cut
    assert reviews.turning(Words(), ids, rewards, by=2.9) == "the room was bad"
    assert reviews.turning(Words(), ids, rewards[:-1] + [0.5], by=1.0) is None
    assert reviews.turning(Words(), ids, [2.0] * 8, by=1.0) is None
