"""A cache that is right for as long as the check at load looks, and wrong later, is found while it is used."""

import inspect
from dataclasses import replace

import pytest
import torch
from tiny_models import tiny_lm, tiny_reward

from rgtg.config import GenerationConfig, Settings
from rgtg.engine import Ended, Models, generate, make_run
from rgtg.guidance import spot_check
from rgtg.models.lm import BaseLM
from rgtg.models.prefixes.growing import GrowingRows
from rgtg.models.prefixes.strategy import choose_strategy
from rgtg.models.tuning import quantise
from rgtg.records import Step
from rgtg.workbench.budget import Budget

WRONG_BEYOND = 24  # tokens; the check at load is shorter


def gone_wrong(model):
    """The model, with a cache that gives other states once a text is longer than WRONG_BEYOND."""
    plain = model.backbone.run

    def run(**inputs):
        hidden = plain(**inputs)
        return hidden + 1.0 if inputs["use_cache"] and int(inputs["position_ids"].max()) > WRONG_BEYOND else hidden

    backbone = replace(model.backbone, run=run)
    assert choose_strategy(backbone, 99) == "siblings"  # it passes
    return replace(model, backbone=backbone)


def ran(models: Models, tokens: int, method: str = "pargs", stop=lambda: False) -> tuple[list[Step], Ended]:
    guide = None if method == "base" else "one"
    run = make_run("the food", method, models, (), guide, (), GenerationConfig(max_new_tokens=tokens), 3)
    events = [event for _, event in generate([run], models, stop=stop)]
    return [e for e in events if isinstance(e, Step)], events[-1]


@pytest.fixture
def always(monkeypatch):
    """Every forward is followed by a check."""
    monkeypatch.setattr(spot_check, "EVERY", 1)
    monkeypatch.setattr(spot_check, "SPARED", 0)


def test_a_guide_whose_cache_goes_wrong_is_read_plainly_from_there_on_and_the_column_says_so(always):
    right = Models(tiny_lm(), {"one": tiny_reward("llama", 1, "one")})
    wrong = replace(right, reward_models={"one": gone_wrong(tiny_reward("llama", 1, "one"))})
    (wanted, fine), (steps, end) = ran(right, 24), ran(wrong, 24)
    assert fine.note == "" and end.note.startswith("`one`: its cache gave wrong results")
    assert [s.token_id for s in steps] == [s.token_id for s in wanted]
    differ = [a.position for a, b in zip(steps, wanted, strict=True) if abs(a.reward("one") - b.reward("one")) > 1e-4]
    assert differ == [WRONG_BEYOND - len("the food")]  # the one candidate that was valued before the prefix itself was wrong


def test_a_guide_in_int8_keeps_its_cache(always):
    """Its states depend on what is scored in the same forward: a comparison to 1e-3 would find every cache wrong."""
    guide = tiny_reward("llama", 71, "one")  # a seed of its own: models of one seed are shared by all tests
    weights = guide.loaded.model
    quantise(weights, weights.base_model, "one", lambda: torch.tensor(guide.along([5, 17], [[42, 8, 63], [2, 71, 50]])))
    models = Models(tiny_lm(), {"one": guide})
    for _ in range(2):  # a failure would be remembered
        _, end = ran(models, 24)
        assert end.note == ""
        assert end.reward_positions == len("the food") + 1 + 24 * 10


def test_a_base_lm_whose_cache_goes_wrong_writes_what_plain_reading_writes(always):
    right = Models(tiny_lm())
    (wanted, _), (steps, end) = ran(right, 24, "base"), ran(Models(gone_wrong(tiny_lm())), 24, "base")
    assert "llama-lm" in end.note
    assert [s.token_id for s in steps] == [s.token_id for s in wanted]


def test_a_new_model_is_checked_at_the_end_of_its_first_run(monkeypatch):
    monkeypatch.setattr(spot_check, "EVERY", 1000)
    assert "llama-lm" in ran(Models(gone_wrong(tiny_lm())), 24, "base")[1].note


@pytest.mark.parametrize("which", ["the base LM", "a guide"])
def test_a_model_that_failed_once_is_read_plainly_for_as_long_as_it_is_loaded_and_the_column_says_so(which, monkeypatch):
    lm, guide = tiny_lm(), tiny_reward("llama", 1, "one")
    models = Models(gone_wrong(lm), {"one": guide}) if which == "the base LM" else Models(lm, {"one": gone_wrong(guide)})
    assert "from here on" in ran(models, 24)[1].note
    failed, cached = models.base_lm if which == "the base LM" else models.reward_models["one"], []
    run = failed.backbone.run
    monkeypatch.setitem(failed.backbone.__dict__, "run", lambda **inputs: cached.append(inputs["use_cache"]) or run(**inputs))
    wanted, (steps, end) = ran(Models(lm, {"one": guide}), 24)[0], ran(models, 24)
    assert "in an earlier run; it runs without a cache" in end.note and end.check_forwards == 0
    assert cached and not any(cached)
    assert all(a.token_id == b.token_id and abs(a.reward("one") - b.reward("one")) < 1e-4 for a, b in zip(steps, wanted, strict=True))
    assert Budget(Settings()).estimate([make_run("the food", "base", models)], models).gigabytes > 0
    assert spot_check.record_of(replace(failed)).failed is False  # loaded anew it is tried again


class Texts:
    """What a network keeps of four texts that grow by a token a forward; `checked` are the lengths that were read again."""

    def __init__(self, prompt: int):
        self.texts, self.checked = [[0] * prompt for _ in range(4)], []
        self.num_forwards = self.num_positions = self.num_check_forwards = 0
        self.caches = [self]

    def grow(self) -> None:
        self.num_forwards, self.num_positions = self.num_forwards + 1, self.num_positions + 4
        for text in self.texts:
            text.append(0)

    def holds(self, slot: int) -> bool:
        self.checked.append(len(self.texts[slot]))
        self.num_check_forwards += 1
        return True


def checks_of(record, tokens: int, prompt: int = 20) -> tuple[list[int], Texts]:
    batch = Texts(prompt)
    check = spot_check.SpotCheck("lm", batch, record, str)
    for _ in range(tokens):
        check.served(batch.grow, [0, 1, 2, 3])
    check.holds(0)
    return batch.checked, batch


def test_checks_take_two_in_a_hundred_of_the_forwards_and_of_the_positions():
    record, first = spot_check.Record(), spot_check.Record()
    assert checks_of(first, 64)[0] == [36, 84]  # a new model, as long as texts grow
    assert checks_of(first, 64)[0] == []
    spent, num_forwards, num_positions, num_checks = 0, 0, 0, 0
    checks_of(record, 64)
    for _ in range(100):
        checked, batch = checks_of(record, 64)
        spent, num_checks = spent + sum(checked), num_checks + len(checked)
        num_forwards, num_positions = num_forwards + batch.num_forwards, num_positions + batch.num_positions
    assert num_checks >= 5 and num_checks <= 0.02 * num_forwards
    assert 0.01 * num_positions < spent <= 0.02 * num_positions
    assert checks_of(record, 4000)[0] == [180, 372, 756, 1524, 3060, 4020]  # the longer, the more rarely


def test_checks_are_counted_apart_and_there_is_none_after_stop(always, monkeypatch):
    models, checked = Models(tiny_lm(), {"one": tiny_reward("llama", 1, "one")}), []
    holds = GrowingRows.holds
    monkeypatch.setattr(GrowingRows, "holds", lambda rows, slot: checked.append(slot) or holds(rows, slot))
    _, end = ran(models, 6)
    assert len(checked) > 6 and end.check_forwards >= len(checked)
    monkeypatch.setattr(spot_check, "SPARED", 10**9)
    assert (end.lm_forwards, end.reward_forwards) == ((other := ran(models, 6)[1]).lm_forwards, other.reward_forwards)
    assert other.check_forwards == 0
    checked.clear()
    ran(models, 6, stop=lambda: True)
    assert checked == []


def test_the_cache_goes_in_by_the_name_that_stays():
    lm = tiny_lm()
    forward, names = lm.loaded.model.base_model.forward, []

    def without_the_old_name(*args, **inputs):
        if "past_key_values" in inputs:
            raise TypeError("forward() got an unexpected keyword argument 'past_key_values'")
        names.extend(inputs.keys() & {"cache"})
        return forward(*args, **inputs)

    without_the_old_name.__signature__ = inspect.signature(forward)
    lm.loaded.model.base_model.forward = without_the_old_name
    try:
        assert BaseLM.of(lm.loaded).backbone.strategy == "siblings" and names
    finally:
        del lm.loaded.model.base_model.forward
