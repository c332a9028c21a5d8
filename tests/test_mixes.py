"""Mixes of rewards: as text, standardised by base samples, and as the base LM where every weight is 0."""

import gc
import math
from dataclasses import replace

import pytest
import torch
from test_engine import collect, ids, models
from tiny_models import tiny_reward

from rgtg.config import GenerationConfig
from rgtg.engine import Standardised, generate, make_run
from rgtg.errors import BadSettings
from rgtg.guidance.methods import parse_run, terms_of
from rgtg.guidance.mixes import standards
from rgtg.guidance.mixes.expressions import parse_mix, write_mix
from rgtg.guidance.mixes.standards import SAMPLES, sample_runs, statistics_of
from rgtg.records import Run
from rgtg.rewards.combine import COMBINE, combined
from rgtg.system.serialization import from_json, to_json

# --- as text --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "mix"),
    [
        ("partial*2+full*-0.5+judge", [("partial", 2.0), ("full", -0.5), ("judge", 1.0)]),
        (" partial * 2 + full*.5 ", [("partial", 2.0), ("full", 0.5)]),
        ("partial*1e+1+full*+2", [("partial", 10.0), ("full", 2.0)]),
        ('"a+b,c"*2+my model', [("a+b,c", 2.0), ("my model", 1.0)]),
        ("a*0.123456789", [("a", 0.123456789)]),
    ],
)
def test_a_mix_is_read_as_it_is_written(text, mix):
    assert list(parse_mix(text)) == mix and list(parse_mix(write_mix(mix))) == mix


@pytest.mark.parametrize(
    ("text", "position", "reason"),
    [
        ("partial*2+*0.5", 11, "a reward model is missing before `*`"),
        ("a++b", 3, "a reward model is missing before `+`"),
        ("a+", 3, "a reward model is missing at the end"),
        ("", 1, "a reward model is missing at the end"),
        ('""*2', 1, "the name is empty"),
        ("a*", 3, "a weight is missing"),
        ("a*+b", 3, "a weight is missing"),
        ("partial*2+full*x", 16, "the weight `x` is not a number"),
        ("a*2*3", 3, "the weight `2*3` is not a number"),
        ("a*nan+b", 3, "the weight `nan` is not a number"),
        ("a*1e999", 3, "the weight `1e999` is too large"),
        ('"a"b*2', 4, "`+` or `*` is missing before `b`"),
        ("a*2 + a", 7, "`a` is there twice"),
    ],
)
def test_what_is_wrong_with_a_mix_is_said_with_its_position(text, position, reason):
    with pytest.raises(BadSettings) as refused:
        parse_mix(text)
    assert refused.value.found.startswith(f"At character {position} of `{text}`:") and reason in refused.value.found


def test_names_are_checked_where_they_stand():
    def check(name: str) -> None:
        if name != "a":
            raise BadSettings(f"There is no reward model `{name}`.", "Installed: a.")

    with pytest.raises(BadSettings, match=r"no reward model `b`\. At character 5 of `a \+ b`: Installed: a\."):
        parse_mix("a + b", check)
    with pytest.raises(BadSettings, match="At character 20 of `pargs:reward_model=b`"):
        parse_run("pargs:reward_model=b", GenerationConfig(), check)
    with pytest.raises(BadSettings, match="At character 24 of `pargs:guides=a,combine=all`: Known: sum, standardised, "):
        parse_run("pargs:guides=a,combine=all", GenerationConfig(), check)
    spec = parse_run('pargs:beta=2,guides="a"*2,combine=clamped(2)', GenerationConfig(), check)
    assert spec.mix == (("a", 2.0),) and spec.combine == "clamped(2)" and spec.params == (("beta", 2.0),)


# --- at work --------------------------------------------------------------------------------------------------------


def mix_run(found, combining: str, *weights: float, **settings) -> Run:
    guides = list(zip(("one", "two"), weights, strict=True))
    return make_run("the food", "pargs", found, (("beta", 1.5),), guides, (), GenerationConfig(8, **settings), 3, combining=combining)


def test_with_all_weights_0_every_combination_is_the_base_lm():
    found = models()
    runs = [mix_run(found, key, 0.0, 0.0) for key in COMBINE]
    base = make_run("the food", "base", found, generation=GenerationConfig(8), seed=3)
    *columns, expected = collect([*runs, base], found)[0]
    assert len(expected) > 3 and all(ids(steps) == ids(expected) for steps in columns)


def test_statistics_are_those_of_every_length_and_a_finished_sample_keeps_its_reward():
    assert statistics_of([[1.0, 2.0, 6.0], [3.0]]) == ((2.0, 2.5, 4.5), (1.0, 0.5, 1.5))
    assert statistics_of([[1.0, 5.0], [1.0, 5.0]]) == ((1.0, 5.0), (2.0, 2.0)), "no deviation at a length: that over all of them"
    assert statistics_of([[4.0, 4.0], [4.0, 4.0]]) == ((4.0, 4.0), (1.0, 1.0))


def test_a_standardised_mix_is_what_its_definition_says():
    """The samples drawn and scored by hand: each reward less its mean, over its deviation, at the length of the candidate."""
    found = models()
    asked = mix_run(found, "standardised", 2.0, -0.5)
    (first, event), *_ = generate([asked], found)
    assert first == 0 and isinstance(event, Standardised)
    (steps,), (end,) = collect([asked], found)
    samples = collect(sample_runs(asked, ()), found)[0]
    by_hand = {}
    for name, model in found.reward_models.items():
        rewards = [model.along(asked.prompt_ids, [ids(sample)])[0] for sample in samples]
        padded = torch.tensor([row + row[-1:] * (8 - len(row)) for row in rewards], dtype=torch.float64)
        by_hand[name] = padded.mean(0), padded.std(0, correction=0)
    for t, step in enumerate(steps):
        for c in step.candidates:
            one, two = ((dict(c.rewards)[name] - by_hand[name][0][t]) / by_hand[name][1][t] for name in ("one", "two"))
            assert c.score == pytest.approx(float(c.log_prob + 1.5 * (2.0 * one - 0.5 * two)), abs=2e-3)
            terms = terms_of(event.run, c, t + 1)
            assert sum(terms.values()) == pytest.approx(c.score, abs=1e-3) and terms_of(asked, c, t + 1) == {}, "unknown without the statistics"
    last = dict(steps[-1].rewards)
    z = [(last[name] - float(by_hand[name][0][len(steps) - 1])) / float(by_hand[name][1][len(steps) - 1]) for name in ("one", "two")]
    assert combined(event.run, last, len(steps)) == pytest.approx(2.0 * z[0] - 0.5 * z[1], abs=1e-3)
    assert end.note == f"standardised by {SAMPLES} base LM samples from before", "the first call has drawn them"


def test_standardised_answers_replay_and_their_samples_are_counted_once_and_kept(monkeypatch):
    standards._kept.clear()
    monkeypatch.setattr(standards, "SAMPLES", 8)
    found = models()
    asked = mix_run(found, "standardised", 1.0, 1.0)
    events = list(generate([asked], found))
    stored = from_json(Run, to_json(events[0][1].run))
    assert stored.standards and stored == events[0][1].run
    first, again = events[-1][1], collect([asked], found)[1][0]
    alone = collect([mix_run(found, "sum", 1.0, 1.0)], found)[1][0]
    assert "which took" in first.note and first.lm_forwards > again.lm_forwards and first.reward_forwards > again.reward_forwards
    assert alone.note == "" and "from before" in again.note
    tokens = [event.token_id for _, event in events if hasattr(event, "token_id")]
    standards._kept.clear()  # as in another process
    (replayed, drawn_again), (end, _) = collect([stored, asked], found)
    assert ids(replayed) == ids(drawn_again) == tokens and end.note == ""
    assert {seed.seed for seed in sample_runs(asked, ())} == {seed.seed for seed in sample_runs(replace(asked, seed=99), ())}


def test_statistics_go_with_their_reward_model_and_none_are_kept_without_bound(monkeypatch):
    standards._kept.clear()
    monkeypatch.setattr(standards, "MAX_KEPT", 2)
    monkeypatch.setattr(standards, "SAMPLES", 2)
    found = models()
    model = replace(tiny_reward("llama", 7, "one"))
    own = replace(found, reward_models={"one": model})
    for prompt in ("a", "b", "c"):
        list(generate([make_run(prompt, "pargs", own, (), "one", (), GenerationConfig(2), combining="standardised")], own))
    (by_model,) = standards._kept.values()
    assert len(by_model[model]) == 2
    del model, own
    gc.collect()
    assert len(by_model) == 0


def test_a_reward_that_is_not_finite_in_a_sample_ends_the_column_alone():
    found = models()
    broken = replace(tiny_reward("llama", 8, "two"), head=torch.nn.Linear(32, 1))
    torch.nn.init.constant_(broken.head.weight, math.nan)
    found = replace(found, reward_models={**found.reward_models, "two": broken})
    columns, ends = collect([mix_run(found, "standardised", 1.0, 1.0), make_run("the food", "base", found, seed=3)], found)
    assert "samples that rewards are standardised by" in ends[0].error and ends[0].stop_reason == "error" and not columns[0]
    assert not ends[1].error and columns[1]
