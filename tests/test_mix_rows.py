"""The rows of a mix as the page sends them: read like an expression, refused beside the row that is wrong."""

import json

import pytest
from test_compare_page import StubWorkbench

from pages.columns import read_spec, write_spec
from rgtg.errors import BadSettings, RgtgError
from rgtg.records import ColumnSpec, ModelRef, Run
from rgtg.rewards.combine import COMBINE
from rgtg.workbench.columns.copying import spec_of
from rgtg.workbench.columns.mixes import MAX_GUIDES, describe_combinations, read_mix

MIX = (("partial", 2.0), ("full", -0.5))


def read(**fields) -> ColumnSpec:
    return read_spec(json.dumps({"method": "pargs", "params": {"beta": 2.0}, "reward_model": "partial"} | fields), "B", StubWorkbench(), "starter")


def test_rows_are_the_mix_of_the_column_and_come_back_as_they_were_sent():
    spec = read(guides=[["partial", 2], ["full", -0.5]], combine="clamped(3)")
    assert spec.mix == MIX and spec.combine == "clamped(3)" and spec.params == (("beta", 2.0),)
    assert read_spec(write_spec(spec), "B", StubWorkbench(), "starter") == spec
    run = Run("x", "pargs", ModelRef("starter"), spec.params, tuple((ModelRef(name, "1f"), weight) for name, weight in MIX), "clamped(3)")
    assert spec_of(run) == spec, "a stored comparison opens with its rows"


def test_one_reward_of_weight_1_needs_no_rows():
    assert "guides" not in json.loads(write_spec(ColumnSpec("pargs", (), "partial")))
    assert spec_of(Run("x", "pargs", ModelRef("lm"), (), ((ModelRef("full"), 1.0),))) == ColumnSpec("pargs", (), "full")
    assert spec_of(Run("x", "pargs", ModelRef("lm"), (), ((ModelRef("full"), 2.0),))).mix == (("full", 2.0),)
    assert spec_of(Run("x", "base", ModelRef("lm"))) == ColumnSpec("base")


@pytest.mark.parametrize(
    ("rows", "combine", "field", "words"),
    [
        ([["partial", 2], ["", 0.5]], "sum", "B-guide-1", 'At character 13 of `partial*2 + ""*0.5`: the name is empty'),
        ([["partial", 2], ["gone", 0.5]], "sum", "B-guide-1", "At character 13 of `partial*2 + gone*0.5`: Available: full, partial."),
        ([["partial", None]], "sum", "B-weight-0", "At character 9 of `partial*`: a weight is missing"),
        ([["partial", "x"]], "sum", "B-weight-0", "At character 9 of `partial*x`: the weight `x` is not a number"),
        ([["partial", 1], ["partial", 2]], "sum", "B-guide-1", "`partial` is there twice"),
        ([["partial", 2]], "product", "B-combine", "Known: sum, standardised"),
        ([["partial", 2]], "clamped(x)", "B-number", "Found `x`"),
        ([["partial", 2]], 3, "B-combine", "Found 3"),
        ([["partial", 2]] * (MAX_GUIDES + 1), "sum", "B-guide-0", "Found 9"),
        ([["partial"]], "sum", "", "could not be read"),
        ("partial*2", "sum", "", "could not be read"),
    ],
)
def test_a_wrong_row_is_refused_beside_its_input_with_the_position(rows, combine, field, words):
    with pytest.raises(RgtgError) as refused:
        read(guides=rows, combine=combine)
    assert refused.value.field == field and words in str(refused.value)


def test_a_name_that_an_expression_would_split_stays_one():
    assert read_mix([["a+b, c", 2]], "sum", ["a+b, c"], "A")[0] == (("a+b, c", 2.0),)
    with pytest.raises(BadSettings):
        read_mix([], "sum", ["a"], "A")


def test_the_page_is_told_every_combination():
    described = describe_combinations()
    assert [c["key"] for c in described] == list(COMBINE) and all(c["about"] and c["title"] for c in described)
    assert {c["key"]: c["default"] for c in described if c["symbol"]} == {"mean-var": 0.5, "clamped": 5.0}
