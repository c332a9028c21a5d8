"""A cache that is right for as long as the check at load looks, and wrong later, is found while it is used."""

import inspect
from dataclasses import replace

import pytest
from tiny_models import tiny_lm, tiny_reward

from rgtg.config import GenerationConfig
from rgtg.engine import Ended, Models, generate, make_run
from rgtg.guidance import spot_check
from rgtg.models.lm import BaseLM
from rgtg.models.prefixes.growing import GrowingRows
from rgtg.models.prefixes.strategy import choose_strategy
from rgtg.records import Step

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
    monkeypatch.setattr(spot_check, "SHARE", 1e9)


def test_a_guide_whose_cache_goes_wrong_is_read_plainly_from_there_on_and_the_column_says_so(always):
    right = Models(tiny_lm(), {"one": tiny_reward("llama", 1, "one")})
    wrong = replace(right, reward_models={"one": gone_wrong(tiny_reward("llama", 1, "one"))})
    (wanted, fine), (steps, end) = ran(right, 24), ran(wrong, 24)
    assert fine.note == "" and end.note.startswith("`one`: what it keeps of a text differed")
    assert [s.token_id for s in steps] == [s.token_id for s in wanted]
    differ = [a.position for a, b in zip(steps, wanted, strict=True) if abs(a.reward("one") - b.reward("one")) > 1e-4]
    assert differ == [WRONG_BEYOND - len("the food")]  # the one candidate that was valued before the prefix itself was wrong


def test_a_base_lm_whose_cache_goes_wrong_writes_what_plain_reading_writes(always):
    right = Models(tiny_lm())
    (wanted, _), (steps, end) = ran(right, 24, "base"), ran(Models(gone_wrong(tiny_lm())), 24, "base")
    assert "llama-lm" in end.note
    assert [s.token_id for s in steps] == [s.token_id for s in wanted]


def test_the_check_at_the_end_finds_it_without_a_look_on_the_way(monkeypatch):
    monkeypatch.setattr(spot_check, "SHARE", 0.0)
    assert "llama-lm" in ran(Models(gone_wrong(tiny_lm())), 24, "base")[1].note


def test_checks_are_counted_nowhere_and_there_is_none_after_stop(always, monkeypatch):
    models, checked = Models(tiny_lm(), {"one": tiny_reward("llama", 1, "one")}), []
    holds = GrowingRows.holds
    monkeypatch.setattr(GrowingRows, "holds", lambda rows, slot: checked.append(slot) or holds(rows, slot))
    _, end = ran(models, 6)
    assert len(checked) > 6
    monkeypatch.setattr(spot_check, "SHARE", 0.0)
    assert (end.lm_forwards, end.reward_forwards) == ((other := ran(models, 6)[1]).lm_forwards, other.reward_forwards)
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
