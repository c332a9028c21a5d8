"""The list of methods: complete enough to draw sliders and flags from it."""

import subprocess
import sys
from dataclasses import fields
from pathlib import Path

import pytest

from rgtg.config import GenerationConfig
from rgtg.errors import BadSettings
from rgtg.guidance.methods import METHODS, method, mix_of, parse_run
from rgtg.guidance.rules import Base, RewardShift
from rgtg.guidance.segments import CARDS, BlockBestOfK
from rgtg.guidance.sequences import BestOfN, Particles
from rgtg.records import ColumnSpec
from rgtg.training.objectives import OBJECTIVES


@pytest.mark.parametrize("key", METHODS)
def test_every_method_can_be_shown(key):
    entry = METHODS[key]
    assert entry.key == key and entry.title
    assert entry.about.endswith(".") and len(entry.about) > 20
    assert set(entry.settings) <= {f.name for f in fields(entry.rule)}
    assert entry.uses_reward == (entry.objective != ""), "a method that reads rewards says how its reward model is trained"


def test_no_two_methods_are_described_alike():
    assert len({m.about for m in METHODS.values()}) == len(METHODS)


@pytest.mark.parametrize(("key", "parameter"), [(key, p) for key, m in METHODS.items() for p in m.parameters], ids=str)
def test_every_parameter_has_help_a_default_and_a_range_or_choices(key, parameter):
    assert parameter.help and parameter.default is not None
    if parameter.is_text:
        assert parameter.choices == () and parameter.min is parameter.max is None
    elif parameter.choices:
        assert parameter.default in parameter.choices and parameter.min is parameter.max is None
    else:
        assert parameter.min <= parameter.default <= parameter.max


@pytest.mark.parametrize("key", METHODS)
def test_every_method_makes_its_rule_with_the_defaults_it_shows(key):
    rule = METHODS[key].make()
    assert isinstance(rule, METHODS[key].rule)
    assert {p.name: p.default for p in METHODS[key].parameters} == {f.name: getattr(rule, f.name) for f in fields(rule)}


def test_the_methods_are_settings_of_a_few_classes():
    assert METHODS["base"].make() == Base()
    assert METHODS["args"].make() == METHODS["pargs"].make() == METHODS["farma"].make() == METHODS["genarm"].make() == RewardShift(1.0, "sample")
    assert METHODS["pargs-greedy"].make() == RewardShift(1.0, "greedy")
    assert METHODS["best-of-n"].make() == BestOfN(4)
    assert METHODS["cards"].make() == CARDS() and METHODS["block-best-of-k"].make() == BlockBestOfK(4, 4)
    assert METHODS["particles"].make() == Particles(8, 1.0, "base")


@pytest.mark.parametrize("key", METHODS)
def test_a_method_that_uses_rewards_says_how_its_reward_model_is_trained(key):
    assert METHODS[key].objective in OBJECTIVES if METHODS[key].uses_reward else METHODS[key].objective == ""


def test_parameters_given_go_before_the_settings_of_the_method():
    assert METHODS["pargs-greedy"].make((("beta", 2.5),)) == RewardShift(2.5, "greedy")
    assert METHODS["pargs-greedy"].make((("pick", "sample"),)) == RewardShift(1.0, "sample")
    assert METHODS["pargs-greedy"].make() == RewardShift(1.0, "greedy"), "what was given before is forgotten"


def test_an_unknown_method_or_parameter_is_refused_with_those_there_are():
    there = ", ".join(METHODS)
    with pytest.raises(BadSettings, match=f"no method `dpo`. The methods are: {there}."):
        method("dpo")
    with pytest.raises(BadSettings, match="Method `pargs` has no parameter `gamma`. It has: beta, pick, candidates."):
        method("pargs").make((("gamma", 1.0),))
    with pytest.raises(BadSettings, match="Method `base` has no parameter `beta`. It has: none."):
        method("base").make((("beta", 1.0),))
    with pytest.raises(BadSettings, match="`beta` has to be between 0 and 20"):
        method("args").make((("beta", 21.0),))


def test_the_list_is_read_without_loading_torch():
    code = "import sys, rgtg.guidance.methods as m; [x.parameters for x in m.METHODS.values()]; print('torch' in sys.modules)"
    root = Path(__file__).resolve().parent.parent
    assert subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=True).stdout == "False\n"


@pytest.mark.parametrize(
    ("text", "mix"),
    [
        ("experts", [("lm", 1.0), ("base", -1.0)]),
        ("experts:expert=a", [("a", 1.0), ("base", -1.0)]),
        ("experts:anti_expert=b,beta=2", [("lm", 1.0), ("b", -1.0)]),
        ("experts:reward_model=a", [("a", 1.0), ("base", -1.0)]),
        ("implicit:tuned=a,reference=b", [("a", 1.0), ("b", -1.0)]),
        ("rsd", [("lm", 1.0), ("base", 0.0)]),
        ("rsd:draft=a", [("lm", 1.0), ("a", 0.0)]),
        ("rsd:reward_model=a,threshold=1", [("a", 1.0), ("base", 0.0)]),
        ("aad:tuned=a", [("a", 1.0), ("base", -1.0)]),
        ("nudging:nudger=a", [("a", 1.0)]),
        ("dera:aligned=a", [("a", 1.0)]),
        ("mod", [("lm", 0.5), ("base", 0.5)]),
        ("mod:guides=a*0.2+b*0.3+c*0.5", [("a", 0.2), ("b", 0.3), ("c", 0.5)]),
        ("pargs", [("lm", 1.0)]),
        ("base", []),
    ],
)
def test_models_named_by_their_role_are_guides_with_signs_and_others_take_the_default(text, mix):
    assert list(mix_of(parse_run(text, GenerationConfig()), "lm", "base")) == mix


def test_a_text_may_have_commas_and_equals_signs():
    text = "contrastive-prompt:positive=so good, a = b,and more,negative=so bad,beta=2"
    assert dict(parse_run(text, GenerationConfig()).params) == {"positive": "so good, a = b,and more", "negative": "so bad", "beta": 2.0}


def test_a_role_may_have_a_default_of_its_own():
    installed = {"partial": "partial", "arm": "autoregressive", "other": "autoregressive"}
    rsd = METHODS["rsd"]
    assert (rsd.default_guide(installed), rsd.default_roles(installed)) == ("partial", {"draft": "arm"})
    assert mix_of(ColumnSpec("rsd"), "partial", "base", rsd.default_roles(installed)) == (("partial", 1.0), ("arm", 0.0))
    assert METHODS["experts"].default_roles(installed | {"unnamed": ""}) == {}


def test_a_role_without_a_model_leaves_no_guide():
    assert mix_of(ColumnSpec("experts"), None, "base") == ()
    assert len(mix_of(parse_run("experts:expert=a", GenerationConfig()), None, "base")) == 2


def test_a_run_names_its_models_once():
    with pytest.raises(BadSettings, match="names its models twice. Found `guides` beside a role"):
        parse_run("experts:expert=a,guides=b*2", GenerationConfig())
    with pytest.raises(BadSettings, match="It has: beta, pick, candidates, plausibility, expert, anti_expert, reward_model"):
        parse_run("experts:draft=a", GenerationConfig())
