"""What a column begins with, and which reward models the page may offer it."""

from types import SimpleNamespace

from pages.columns import describe_methods, describe_models, others
from rgtg.guidance.methods import METHODS
from rgtg.models.catalog import ModelInfo
from rgtg.records import ColumnSpec, ModelCard

OBJECTIVES = {"full": "full", "partial": "partial", "free": ""}


class StubLibrary:
    """Two base LMs; `full` guides the first, `partial` the second, `free` both."""

    def base_lms(self):
        return [ModelInfo(name, "base_lm", name) for name in ("one", "two")]

    def guides(self, base_lm=None):
        names = {"one": ("full", "free"), "two": ("partial", "free")}[base_lm or "one"]
        return [ModelInfo(n, "reward_model", n, ModelCard("reward_model", n, objective=OBJECTIVES[n])) for n in names]

    trained_for = guides

    def language_models(self, base_lm=None):
        return [ModelInfo(base_lm or "one", "base_lm", "one")]

    def guide_for(self, key, base_lm=None):
        return "full" if METHODS[key].uses_reward else None


BENCH = SimpleNamespace(library=StubLibrary(), methods=lambda: METHODS)
LINE_UP = [ColumnSpec("base"), ColumnSpec("args", (("beta", 2.0),), "full"), ColumnSpec("pargs", (("beta", 2.0),), "partial")]


def test_a_reward_model_says_which_base_lms_it_guides():
    assert {m["name"]: m["fits"] for m in describe_models(BENCH)} == {
        "full": ["one"], "free": ["one", "two"], "partial": ["two"], "one": ["one"], "two": ["two"]
    }  # fmt: skip


def test_a_further_column_is_no_copy_of_one_that_is_there():
    found = others(BENCH, LINE_UP)
    rules = [METHODS[spec.method].rule for spec in (*LINE_UP, found[0])]
    assert found[0].reward_model == "full" and len(set(rules)) == 3, "base, a shift by the reward twice, and another rule"
    assert len(others(BENCH, LINE_UP[:1])) >= 3


def test_without_a_reward_model_a_further_column_has_a_method_that_needs_none():
    library = SimpleNamespace(guide_for=lambda key: None)
    assert {spec.method for spec in others(SimpleNamespace(library=library, methods=lambda: METHODS), LINE_UP[:1])} == {
        key for key, m in METHODS.items() if not m.uses_reward and key != "base"
    }


def test_a_method_chosen_anew_has_the_weight_of_a_line_up():
    for described in describe_methods(BENCH):
        beta = next((p for p in described["parameters"] if p["name"] == "beta"), None)
        assert beta is None or beta["default"] == 2.0 or not METHODS[described["key"]].line_up, described["key"]
