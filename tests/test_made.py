"""Rewards that a person makes: rules by hand, language models beside plain transformers, files that are kept, and what is refused."""

import json
import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from test_engine import collect, ids, models
from tiny_models import tiny_lm

from rgtg.config import GenerationConfig, Settings
from rgtg.engine import Models, make_run
from rgtg.errors import BadData, BadReward, BadSettings, ModelRefused, PromptTooLong
from rgtg.rewards.base import Opening
from rgtg.rewards.made import language, rules
from rgtg.rewards.made.kinds import MADE, made_of, read_made, reward_model_of
from rgtg.rewards.made.rules import LengthRule, PatternRule, RepetitionRule, WordListRule
from rgtg.rewards.text import Answer
from rgtg.workbench.budget import Budget, Pace
from rgtg.workbench.columns.made import describe_kinds, file_name, try_reward
from rgtg.workbench.library import Library

EXAMPLES = {
    "length": {"target": 3, "spread": 2.0},
    "repetition": {"size": 1},
    "pattern": {"pattern": r"e\w*"},
    "words": {"words": {"ab": 1.5, "c d": -2}},
    "follow-up": {"good": ["ok", "so good"], "bad": "no"},
    "prompted": {"principles": "it is ok.", "question": "{prompt}|{response}|{principles}?"},
}


def made(kind: str, name: str = "mine", **fields):
    return made_of({"name": name, "kind": kind} | EXAMPLES[kind] | fields)


def model(kind: str, name: str = "mine", **fields):
    return reward_model_of(made(kind, name, **fields), lambda _: tiny_lm())


# --- rules, by hand -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("rule", "response", "complete", "expected"),
    [
        (LengthRule(3, 2.0), "one two", True, -0.5),
        (LengthRule(3, 2.0), "one two", False, 0.0),
        (LengthRule(3, 2.0), "a b c d e", False, -1.0),
        (LengthRule(3, 2.0), "a b c", True, 0.0),
        (LengthRule(4, 1.0, "characters"), "abcdefg", False, -3.0),
        (RepetitionRule(2), "a b a B a b", False, -3.0),
        (RepetitionRule(2), "a b c", True, 0.0),
        (RepetitionRule(1), "", False, 0.0),
        (PatternRule("gr(ea|o)t", 2.0, 2), "Great, great and grot", False, 4.0),
        (PatternRule("great", -1.0, ignore_case=False), "Great", False, 0.0),
        (PatternRule("^a.*b$"), "axxb", False, 1.0),
        (WordListRule((("great", 1.0), ("too slow", -2.0))), "Great! too  slow, greatly too slow", False, 1.0 - 4.0),
        (WordListRule((("c++", 1.0),)), "c++ or c+", False, 1.0),
    ],
)
def test_a_rule_gives_what_its_formula_says(rule, response, complete, expected):
    assert rule.value(response, complete) == pytest.approx(expected)


@pytest.mark.parametrize("pattern", ["(a|aa)+$", "(x+x+)+y"])
def test_a_pattern_that_backtracks_without_end_is_refused_when_it_is_made(pattern, monkeypatch):
    monkeypatch.setattr(rules, "PROBE_S", 0.05)
    with pytest.raises(BadSettings, match="`pattern` takes too long. On texts of 1,000 characters"):
        PatternRule(pattern)


def test_a_pattern_that_holds_a_text_up_ends_with_words(monkeypatch):
    monkeypatch.setattr(rules, "_probes", lambda pattern: [])
    monkeypatch.setattr(rules, "MATCH_S", 0.05)
    with pytest.raises(BadReward, match=r"The pattern `\(a\|aa\)\+\$` takes too long"):
        PatternRule("(a|aa)+$").value("a" * 300 + "!", False)


@pytest.mark.parametrize(
    ("pattern", "words"), [("(x", "Missing ) at character 3"), ("((a{100}){100}){100}", "repeats too often"), ("a" * 501, "501 characters")]
)
def test_what_is_no_pattern_or_too_large_is_refused(pattern, words):
    with pytest.raises(BadSettings, match=words.replace(")", r"\)")) as refused:
        PatternRule(pattern)
    assert refused.value.field == "pattern"


# --- language models, beside plain transformers --------------------------------------------------------------------


def mean_log_prob(text: str, behind: str) -> tuple[float, list[float]]:
    """Mean log probability of a text behind another by the model's own forward, one token a row of logits."""
    loaded = tiny_lm().loaded
    context = loaded.tokenizer(behind)["input_ids"]
    continuation = loaded.tokenizer(text, add_special_tokens=False)["input_ids"]
    with torch.no_grad():
        logits = loaded.model(input_ids=torch.tensor([context + continuation])).logits[0].log_softmax(-1)
    values = [float(logits[len(context) - 1 + i, token]) for i, token in enumerate(continuation)]
    return sum(values) / len(values), values


def test_follow_up_likelihood_is_that_of_a_plain_forward():
    (reward,) = model("follow-up").scorer(tiny_lm()).score_texts([Answer("the food", " was", False)])
    good = [mean_log_prob(" " + text, "the food was")[0] for text in ("ok", "so good")]
    assert reward == pytest.approx(sum(good) / 2 - mean_log_prob(" no", "the food was")[0], abs=1e-4)


def test_a_prompted_reward_is_that_of_a_plain_forward():
    (reward,) = model("prompted").scorer(tiny_lm()).score_texts([Answer("the {response}", " was", True)])
    question = "the {response}| was|it is ok.?"
    yes, no = (math.exp(sum(mean_log_prob(word, question)[1])) for word in (" yes", " no"))
    assert reward == pytest.approx(yes - no, abs=1e-6) and reward != 0.0
    (relative,) = model("prompted", relative=True).scorer(tiny_lm()).score_texts([Answer("the {response}", " was", True)])
    assert relative == pytest.approx((yes - no) / (yes + no), abs=1e-4)


def test_many_texts_are_scored_as_each_alone_in_several_forwards(monkeypatch):
    answers = [Answer("the food", " was" + " x" * number, number % 2 == 0) for number in range(6)]
    for kind in ("follow-up", "prompted"):
        alone = [model(kind).scorer(tiny_lm()).score_texts([answer])[0] for answer in answers]
        monkeypatch.setattr(language, "PART", 120)
        batch = model(kind).scorer(tiny_lm())
        assert batch.score_texts(answers) == pytest.approx(alone, abs=1e-5) and batch.num_forwards > 2


def test_what_the_language_model_cannot_read_is_said():
    with pytest.raises(PromptTooLong, match="reads 128 tokens"):
        model("follow-up").scorer(tiny_lm()).score_texts([Answer("x" * 130, "", False)])


# --- every kind ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", MADE)
def test_weight_0_is_the_base_lm_and_every_token_has_the_reward_of_its_prefix(kind):
    mine = model(kind)
    found = Models(models().base_lm, {"mine": mine})
    runs = [make_run("the food", "pargs", found, (("beta", beta),), "mine", (), GenerationConfig(6), 3) for beta in (0.0, 2.0)]
    base = make_run("the food", "base", found, (), None, ("mine",), GenerationConfig(6), 3)
    (nothing, guided, plain), ends = collect([*runs, base], found)
    assert not any(end.error for end in ends) and ids(nothing) == ids(plain)
    for steps in (guided, plain):
        along = mine.reads(found.base_lm).along(Opening("the food", base.prompt_ids), [ids(steps)])[0]
        assert [step.reward("mine") for step in steps] == pytest.approx(along, abs=1e-4)


@pytest.mark.parametrize("kind", MADE)
def test_a_definition_comes_back_from_json_and_its_hash_is_that_of_its_content(kind):
    first = made(kind)
    assert made_of(json.loads(json.dumps(first.plain()))) == first
    assert model(kind).ref == model(kind).ref and model(kind, name="other").ref.revision == model(kind).ref.revision
    changed = replace(first, definition=replace(first.definition, **{"length": {"target": 4}, "repetition": {"size": 3}}.get(kind, {})))
    assert changed == first or reward_model_of(changed, lambda _: tiny_lm()).ref.revision != model(kind).ref.revision


def test_the_estimate_counts_a_language_model_for_every_text_that_it_reads():
    def seconds(kind: str) -> float:
        found = Models(models().base_lm, {"mine": model(kind)})
        budget = Budget(Settings())
        budget._paces[found.base_lm] = [Pace(0.0, 0.0)]
        budget._paces[found.reward_models["mine"]] = [Pace(0.0, 1.0)] * model(kind).num_readings
        return budget.estimate([make_run("the food", "pargs", found, (), "mine", (), GenerationConfig(6))], found).seconds

    assert [model(kind).num_readings for kind in ("words", "follow-up", "prompted")] == [0, 3, 2]
    assert seconds("words") == 0.0 < seconds("prompted") and seconds("follow-up") == pytest.approx(1.5 * seconds("prompted"))


def test_a_named_language_model_is_asked_in_place_of_the_base_lm_and_part_of_the_hash():
    other = tiny_lm("gpt2")
    named = reward_model_of(made("follow-up", model="other"), {"other": other}.__getitem__)
    answer = [Answer("the food", " was", False)]
    assert named.scorer(tiny_lm()).score_texts(answer) == model("follow-up").scorer(other).score_texts(answer)
    assert named.ref.revision != model("follow-up").ref.revision


@pytest.mark.parametrize(
    ("values", "field", "words"),
    [
        ([], "", "A reward is a JSON object"),
        ({"kind": "length"}, "name", "`name` is empty"),
        ({"name": "a/b", "kind": "length"}, "name", "The name cannot be used"),
        ({"name": "x"}, "kind", "Known: length, repetition, pattern"),
        ({"name": "x", "kind": "length", "size": 2}, "size", "It has: target, spread, unit"),
        ({"name": "x", "kind": "length", "target": -1}, "target", "between 0 and 100,000"),
        ({"name": "x", "kind": "length", "unit": "pages"}, "unit", "one of words, characters"),
        ({"name": "x", "kind": "pattern", "pattern": " "}, "pattern", "`pattern` is empty"),
        ({"name": "x", "kind": "words", "words": {}}, "words", "`words` is empty"),
        ({"name": "x", "kind": "words", "words": {"a": "x"}}, "words", "The weight of `a` is not a number"),
        ({"name": "x", "kind": "follow-up", "good": "ok", "bad": []}, "bad", "`bad` is empty"),
        ({"name": "x", "kind": "follow-up", "good": [1], "bad": "no"}, "good", "`good` has to be text"),
        ({"name": "x", "kind": "prompted", "principles": "p", "question": "is it?"}, "question", "does not hold the answer"),
        ({"name": "x", "kind": "prompted", "principles": "p", "yes": "no"}, "no", "the same word"),
    ],
)
def test_wrong_fields_are_refused_by_name(values, field, words):
    with pytest.raises(BadSettings) as refused:
        made_of(values)
    assert refused.value.field == field and words in str(refused.value)


def test_words_are_read_from_lines_as_a_person_types_them():
    assert made("words", words="great 1\n too slow  -2.5 \n\nplain").definition.plain()["words"] == {"great": 1.0, "too slow": -2.5, "plain": 1.0}


# --- kept in the data folder ------------------------------------------------------------------------------------------


@pytest.fixture
def library(tmp_path, folders) -> Library:
    return Library(Settings(data_dir=tmp_path), [folders["lm"]], [folders["partial"]])


def test_a_made_reward_is_listed_guides_and_is_there_again_at_the_next_start(library, folders):
    info = library.made.add({"name": "short", "kind": "length", "target": 2})
    assert info in library.guides("tiny") and library.guide_for("pargs", "tiny") == "p", "no default before a trained one"
    assert info.card and info.card.trained_on == "Length: target 2" and library.made.add({"name": "short", "kind": "length", "target": 2}) == info
    again = Library(library.settings, [folders["lm"]], [folders["partial"]])
    loaded = again.load_models("tiny", ["short", "p"])
    assert loaded.reward_models["short"].ref == library.reward_model("short").ref and again.reward_model("short") is loaded.reward_models["short"]


def test_a_name_that_is_taken_is_refused_and_a_deleted_one_is_free(library):
    library.made.add({"name": "short", "kind": "length", "target": 2})
    for name, words in (("Short", "delete that reward first"), ("p", "Choose another name."), ("TINY", "It is that of a base LM")):
        with pytest.raises(BadSettings, match="is taken") as refused:
            library.made.add({"name": name, "kind": "length", "target": 3})
        assert words in str(refused.value) and refused.value.field == "name"
    with pytest.raises(BadSettings, match="was trained here"):
        library.made.add({"name": "mine", "kind": "length"}, reserved={"mine"})
    library.reward_model("short")
    library.delete_made("short")
    assert library.made.names() == [] and "short" not in library.in_memory()
    assert library.made.add({"name": "short", "kind": "repetition"}).card.reward_kind == "repetition"
    with pytest.raises(BadSettings, match="was not made here"):
        library.delete_made("p")


def test_what_another_process_adds_or_deletes_is_seen(library):
    other = Library(library.settings)
    other.made.add({"name": "short", "kind": "length"})
    assert "short" in [m.name for m in library.models()]
    other.delete_made("short")
    assert "short" not in [m.name for m in library.models()]


def test_a_damaged_file_is_listed_with_what_is_wrong(library, tmp_path: Path):
    library.made.add({"name": "short", "kind": "length"})
    (tmp_path / "rewards" / "bad.json").write_text("[1")
    (tmp_path / "rewards" / "old.json").write_text('{"name": "old", "kind": "gone"}')
    again = Library(library.settings)
    assert [m.name for m in again.unusable()] == ["bad"] and "it is not JSON" in again.unusable()[0].wrong
    with pytest.raises(ModelRefused, match="`old` cannot be used. There is no kind of reward `gone`"):
        again.reward_model("old")


def test_a_file_is_read_or_refused_with_its_path(tmp_path: Path, library):
    path = tmp_path / "short.json"
    path.write_text('{"name": "short", "kind": "length", "target": 2}')
    assert library.made.add_file(path).name == "short" and read_made(path).definition == LengthRule(2)
    path.write_text('{"name": "short", "kind": "length", "target": 3}')
    with pytest.raises(BadSettings, match=r"short.json` is not a reward: The name `short` is taken"):
        library.made.add_file(path)
    path.write_text("{")
    with pytest.raises(BadData, match=r"short.json` is not a reward. it is not JSON"):
        library.made.add_file(path)


def test_nothing_is_made_on_a_public_server(tmp_path):
    with pytest.raises(BadSettings, match="public server"):
        Library(Settings(data_dir=tmp_path, public=True)).made.add({"name": "short", "kind": "length"})


def test_a_text_is_tried_before_the_reward_is_kept(library):
    tried = try_reward({"name": "x", "kind": "length", "target": 0, "spread": 1.0}, library.base_lm, "ab", " c d")
    assert "".join(tried["tokens"]) == " c d" and tried["rewards"][-1] == -2.0 and library.made.names() == []


def test_the_form_is_told_every_field_with_its_help():
    for kind in describe_kinds():
        assert kind["about"] and kind["pitfall"] and all(field["help"] and field["type"] for field in kind["fields"]), kind["key"]
    assert file_name("Nice words!").startswith("nice-words-") and file_name("é") != file_name("ß")
