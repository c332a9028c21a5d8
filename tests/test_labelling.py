"""Labels of a judge and the strength by several, against labels by hand, and a file of them trained on."""

import json
import math
from dataclasses import replace

import pytest
from tiny_models import tiny_lm, tiny_reward

from rgtg.config import DataConfig
from rgtg.errors import BadData, BadSettings
from rgtg.evaluation.examine.reading import Pairs, ReadPair
from rgtg.evaluation.labelling.judging import gaps_of, write_pairs
from rgtg.evaluation.labelling.labels import LabelConfig, labelled, probability
from rgtg.evaluation.labelling.strength import Strength, StrengthConfig, deciles, markdown, strengthened
from rgtg.preferences.batches import TokenPair
from rgtg.preferences.dataset import prepare
from rgtg.preferences.formats import Example, Reading, read
from rgtg.preferences.items.written import exchanged, row_of
from rgtg.rewards.base import Opening
from rgtg.training.config import TrainingConfig
from rgtg.training.objectives import OBJECTIVES
from rgtg.training.reward_trainer import train_reward_model

EXAMPLES = [Example(1, "ask", "good", "evil"), Example(2, "ask", "no", "perhaps"), Example(3, "say", "one", "two two"), Example(4, "say", "a", "b")]


def some_pairs() -> Pairs:
    return Pairs(Reading(tuple(EXAMPLES), 4), tiny_lm())


def read_pair(example: Example, num_tokens: int = 3) -> ReadPair:
    ids = tuple(range(2, 2 + num_tokens))
    return ReadPair(Opening("", (0,)), example, TokenPair((0,), ids, (*ids[:-1], 50)), "")


def test_the_gaps_are_the_differences_of_the_rewards_of_both_answers_cut_to_each_length():
    pairs, reward_model = some_pairs(), tiny_reward()
    found = gaps_of(reward_model.reads(tiny_lm()), "rm", pairs.read)
    for pair, gaps in zip(pairs.read, found, strict=True):
        a, b = (reward_model.along(pair.opening.ids, [ids])[0] for ids in pair.tokens.answers)
        n = max(len(a), len(b))
        assert gaps == pytest.approx([a[min(i, len(a)) - 1] - b[min(i, len(b)) - 1] for i in range(1, n + 1)], abs=1e-4)


def test_the_answer_with_the_higher_reward_is_chosen_and_ties_are_dropped():
    pairs = [read_pair(replace(example, margin=1.0)) for example in EXAMPLES]
    rows, report = labelled(pairs, [(0.0, 0.0, 2.0), (1.0, 1.0, -2.0), (1.0, 1.0, 0.0), (0.0, 0.0, 0.4)], "gold", LabelConfig(ties_within=0.5))
    assert [(row["chosen"], row["rejected"], row["judge_gap"], row["judge_name"]) for row in rows] == [
        ("good", "evil", 2.0, "gold"), ("perhaps", "no", 2.0, "gold"),
    ]  # fmt: skip
    assert not any("margin" in row or "flipped" in row for row in rows), "the margin was of the label before"
    assert (report.num_pairs, report.num_ties, report.num_changed, report.num_drawn, report.num_flipped) == (4, 2, 1, 0, 0)
    assert str(report) == "2 pairs labelled, 1 changed sides; 2 ties dropped"


def test_a_prefix_has_the_verdict_of_the_judge_on_that_prefix():
    (row,), _ = labelled([read_pair(EXAMPLES[0])], [(3.0, 0.0, -1.0)], "gold", LabelConfig(prefixes=True))
    assert (row["chosen"], row["prefix_labels"]) == ("evil", [0.0, 0.5, 1.0]), "the first answer was ahead, then level, then behind"
    assert (row["prompt_ids"], row["chosen_ids"], row["rejected_ids"]) == ([0], [2, 3, 50], [2, 3, 4])
    (row,), _ = labelled([read_pair(EXAMPLES[0])], [(3.0, 0.0, 40.0)], "gold", LabelConfig(prefixes=True, temperature=2.0))
    assert row["chosen"] == "good" and row["prefix_labels"] == pytest.approx([1 / (1 + math.exp(-1.5)), 0.5, 1.0], abs=1e-4)


def test_a_label_turned_at_random_takes_its_prefixes_with_it():
    pairs, gaps = [read_pair(EXAMPLES[0])] * 400, [(3.0, 0.0, -1.0)] * 400
    rows, report = labelled(pairs, gaps, "gold", LabelConfig(prefixes=True, flip=0.25, seed=3))
    assert {(row["chosen"], row["flipped"], tuple(row["prefix_labels"])) for row in rows} == {
        ("evil", False, (0.0, 0.5, 1.0)), ("good", True, (0.0, 0.5, 1.0)),
    }  # fmt: skip
    assert report.num_flipped == sum(row["flipped"] for row in rows) == report.num_pairs - report.num_changed
    assert abs(report.num_flipped / 400 - 0.25) < 0.065, "three standard errors"


def test_labels_are_drawn_with_the_probability_of_bradley_and_terry_and_the_same_whatever_other_pairs_say():
    pairs = [read_pair(EXAMPLES[0])] * 2000
    config = LabelConfig(temperature=2.0, flip=0.1, seed=1)
    rows, report = labelled(pairs, [(1.0,)] * 2000, "gold", config)
    assert abs(report.num_drawn / 2000 - (1 - probability(1.0, 2.0))) < 0.033, "three standard errors"
    others, _ = labelled(pairs, [(-5.0,)] * 1000 + [(1.0,)] * 1000, "gold", config)
    assert [row["chosen"] for row in others[1000:]] == [row["chosen"] for row in rows[1000:]]
    assert labelled(pairs, [(1.0,)] * 2000, "gold", replace(config, seed=2))[0] != rows


def test_a_row_is_read_back_as_the_same_preference(tmp_path):
    told = Example(
        1, (("system", "be kind"), ("user", "Hi")), "good", "evil", (0, 4), (5, 6), (5, 7, 1), False, True, 1, 0.5, 2.0, "ann",
        ((0, 1, "good"),), ((1, 2, "bad"),), ((0, 2, "good"),), ((1, 3, "bad"),), (1.0, 0.25, 0.5), 0.125,
    )  # fmt: skip
    for example in (told, replace(told, prompt="Hi", prompt_ids=(), chosen_ids=(), rejected_ids=(), num_common=0), EXAMPLES[0]):
        write_pairs([row_of(example)], tmp_path / "pairs.jsonl")
        assert read(tmp_path / "pairs.jsonl").examples == (example,)
        assert exchanged(exchanged(example)) == example != exchanged(example)
    assert exchanged(told).prefix_labels == (0.0, 0.75, 0.5) and exchanged(told).rejected_marks == ((0, 1, "good"),)


def test_pairs_with_labels_of_prefixes_are_trained_on_and_others_are_refused(tmp_path):
    pairs = some_pairs()
    rows, _ = labelled(pairs.read, gaps_of(tiny_reward().reads(tiny_lm()), "rm", pairs.read), "rm", LabelConfig(prefixes=True))
    write_pairs(rows, tmp_path / "gold.jsonl")
    lm = tiny_lm().loaded
    prepared = lambda source: prepare(read(source), lm.tokenizer, 128, lm.vocabulary_size, DataConfig(eval_fraction=0.0)).train  # noqa: E731
    items = prepared(tmp_path / "gold.jsonl")
    assert [item.labels for item in items] == [tuple(row["prefix_labels"]) for row in rows]
    assert [len(item.labels) for item in items] == [max(map(len, item.answers)) for item in items]
    (tmp_path / "plain.jsonl").write_text("".join(json.dumps(row_of(example)) + "\n" for example in EXAMPLES))
    config = TrainingConfig(objective=OBJECTIVES["judged"](), max_steps=1)
    with pytest.raises(BadData, match="needs a label for every prefix"):
        train_reward_model(tiny_reward().loaded.model, prepared(tmp_path / "plain.jsonl"), 1, config)


def test_strength_is_the_mean_of_the_models_and_a_contradiction_is_kept_flipped_or_dropped():
    pairs = [read_pair(replace(example, weight=2.0)) for example in EXAMPLES[:2]]
    strengths = [Strength.of([3.0, 1.0]), Strength.of([-4.0, 0.0])]
    assert [(s.mean, round(s.spread, 4), s.agreement) for s in strengths] == [(2.0, 1.4142, 1.0), (-2.0, 2.8284, 0.25)]
    right = [sum(1 / (1 + math.exp(-gap)) for gap in gaps) / 2 for gaps in ((3.0, 1.0), (-4.0, 0.0))]
    smoothed = lambda **options: [row["label_smoothing"] for row in strengthened(pairs, strengths, StrengthConfig(smooth=True, **options))]  # noqa: E731
    assert smoothed() == pytest.approx([1 - right[0], 1 - right[1]], abs=1e-4)
    assert smoothed(contradictions="flip") == pytest.approx([1 - right[0], right[1]], abs=1e-4)
    of = lambda **options: [  # noqa: E731
        (row["chosen"], row.get("margin", 0.0), row["weight"], row["judge_agreement"])
        for row in strengthened(pairs, strengths, StrengthConfig(**options))
    ]
    assert of() == [("good", 2.0, 2.0, 1.0), ("no", 0.0, 2.0, 0.25)]
    assert of(contradictions="flip", weights=True) == [("good", 2.0, 2.0, 1.0), ("perhaps", 2.0, 1.5, 0.75)]
    assert of(contradictions="drop", scale=0.5) == [("good", 1.0, 2.0, 1.0)]
    with pytest.raises(BadSettings, match="`contradictions` has to be one of keep, flip, drop"):
        StrengthConfig(contradictions="hide")


def test_the_tenths_go_from_the_weakest_to_the_strongest():
    table = deciles([Strength(mean, 1.0, 0.5, 0.5) for mean in (5.0, -1.0, 3.0, 0.0)], 2)
    assert [(row["n"], row["low"], row["high"], row["strength"], row["num_negative"]) for row in table] == [(2, -1, 0, -0.5, 1), (2, 3, 5, 4, 0)]
    assert "| 1 | 2 | -1.00 | +0.00 | -0.50 | 1.00 | 50 | 1 |" in markdown(table)
    assert len(deciles([Strength(1.0, 0.0, 1.0, 0.7)] * 3)) == 3


def test_margin_and_smoothing_of_a_file_of_strengths_are_trained_on(tmp_path):
    pairs = some_pairs()
    write_pairs(
        strengthened(pairs.read, [Strength(float(i), 0.5, 1.0, 0.75) for i in range(4)], StrengthConfig(smooth=True)), tmp_path / "strong.jsonl"
    )
    lm = tiny_lm().loaded
    items = prepare(read(tmp_path / "strong.jsonl"), lm.tokenizer, 128, lm.vocabulary_size, DataConfig(eval_fraction=0.0), margin=0.5).train
    assert [item.margin for item in items] == [0.0, 0.5, 1.0, 1.5] and {item.label_smoothing for item in items} == {0.25}


def test_nothing_to_write_and_other_types_are_refused(tmp_path):
    with pytest.raises(BadSettings, match="No pair is left"):
        write_pairs([], tmp_path / "a.jsonl")
    with pytest.raises(BadSettings, match="as JSON lines"):
        write_pairs([{"a": 1}], tmp_path / "a.csv")
