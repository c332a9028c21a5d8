"""No family gives other values from its cache than from plain reading, short and beyond its windows: see `families.py` for all of them."""

import pytest
from families import LONG, WINDOW, kinds, look_at
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

STRATEGIES = {
    "qwen3": "siblings",
    "gemma3_text": "siblings",
    "bloom": "rows",
    "mamba": "steps",
    "rwkv": "reencode",
    "gpt_neo": "siblings",
    "llama4_text": None,
}


@pytest.mark.parametrize("family", STRATEGIES)
def test_a_family_is_exact_by_the_strategy_that_it_gets(family):
    found = look_at(family, "base LM")
    assert found.outcome == "ok", found.line()
    assert STRATEGIES[family] in (found.strategy, None)


def test_the_long_text_lies_beyond_the_window():
    assert WINDOW < LONG


@pytest.mark.parametrize("family", ["bert", "roberta", "xlm-roberta"])
def test_an_encoder_is_refused_as_base_lm(family):
    found = look_at(family, "encoder")
    assert found.outcome == "refused" and "not a decoder" in found.reason


def test_a_config_that_says_minus_one_has_no_limit():
    assert look_at("xlnet", "base LM").outcome == "refused", "it is no decoder, and is asked"


@pytest.mark.slow
@pytest.mark.parametrize("family", sorted(MODEL_FOR_CAUSAL_LM_MAPPING_NAMES)[::8])
def test_every_eighth_family_is_exact_or_refused_or_not_built(family):
    for kind in kinds(family):
        found = look_at(family, kind)
        assert found.outcome in ("ok", "refused", "skipped"), found.line()
