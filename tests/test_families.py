"""No family gives other values from its cache than from plain reading, short and beyond its windows: see `families.py` for all of them."""

import pytest
from families import LONG, WINDOW, look_at
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

STRATEGIES = {"qwen3": "siblings", "gemma3_text": "siblings", "bloom": "rows", "mamba": "reencode", "gpt_neo": "siblings", "llama4_text": None}


@pytest.mark.parametrize("family", STRATEGIES)
def test_a_family_is_exact_by_the_strategy_that_it_gets(family):
    found = look_at(family, "base LM")
    assert found.outcome == "ok", found.line()
    assert STRATEGIES[family] in (found.strategy, None)


def test_the_long_text_lies_beyond_the_window():
    assert WINDOW < LONG


@pytest.mark.slow
@pytest.mark.parametrize("family", sorted(MODEL_FOR_CAUSAL_LM_MAPPING_NAMES)[::8])
def test_every_eighth_family_is_exact_or_refused_or_not_built(family):
    for kind in ("base LM", "reward model"):
        found = look_at(family, kind)
        assert found.outcome in ("ok", "refused", "skipped"), found.line()
