"""No family gives other values from its cache than from plain reading, short and beyond its windows: see `families.py` for all of them."""

from pathlib import Path

import pytest
from families import LONG, REGISTERED, TOLERANCE, WINDOW, kinds, look_at, table
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

from rgtg.models.prefixes.backbone import STRATEGIES as BACKBONES

STRATEGIES = {
    "qwen3": "siblings",
    "gemma3_text": "siblings",
    "bloom": "rows",
    "mamba": "steps",
    "rwkv": "reencode",
    "gpt_neo": "siblings",
    "llama4_text": None,
}
EVERYDAY = ("qwen3", "bloom", "mamba", "rwkv")  # one for each strategy


@pytest.mark.parametrize("family", [f if f in EVERYDAY else pytest.param(f, marks=pytest.mark.slow) for f in STRATEGIES])
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


def rows_of_the_table() -> dict[str, list[str]]:
    """{family: cells} of docs/families.md."""
    lines = (Path(__file__).resolve().parent.parent / "docs" / "families.md").read_text(encoding="utf-8").splitlines()
    return {cells[0]: cells for line in lines if line.startswith("| ") and (cells := [cell.strip() for cell in line.strip("|").split("|")])}


def test_the_document_has_every_family_and_each_is_exact():
    rows = rows_of_the_table()
    assert [*rows][1:] == REGISTERED
    exact = [cells for cells in rows.values() if cells[1] in (*BACKBONES, "text") or cells[3] in (*BACKBONES, "text")]
    assert len(exact) > 100
    assert all(float(difference) < TOLERANCE for cells in exact for difference in (cells[2], cells[4]) if difference)
    assert rows["bert"][3] == rows["deberta-v2"][3] == "text" and rows["bert"][5].startswith("no encoder")


@pytest.mark.parametrize("family", ["falcon (alibi)", pytest.param("deberta-v2", marks=pytest.mark.slow)])
def test_the_document_says_what_is_so_today(family):
    (row,) = [line for line in table([look_at(family, kind) for kind in kinds(family)]).splitlines() if line.startswith(f"| {family}")]
    strategies = [cell.strip() for cell in row.strip("|").split("|")][1:4:2]
    assert strategies == rows_of_the_table()[family][1:4:2]


@pytest.mark.slow
@pytest.mark.parametrize("family", sorted(MODEL_FOR_CAUSAL_LM_MAPPING_NAMES)[::8])
def test_every_eighth_family_is_exact_or_refused_or_not_built(family):
    for kind in kinds(family):
        found = look_at(family, kind)
        assert found.outcome in ("ok", "refused", "skipped"), found.line()
