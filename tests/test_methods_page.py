"""docs/methods.md has a section for every method, reward kind and objective, with what the code says of it."""

import inspect
import re
from dataclasses import fields
from pathlib import Path

import pytest

from rgtg.guidance.methods import METHODS
from rgtg.rewards.combine import COMBINE
from rgtg.rewards.encoder import EncoderRewardModel
from rgtg.rewards.kinds import KINDS
from rgtg.rewards.made.kinds import MADE
from rgtg.rewards.next_token import AutoregressiveRewardModel, VocabularyRewardModel
from rgtg.rewards.probe import ProbeRewardModel
from rgtg.rewards.scalar import ScalarRewardModel
from rgtg.training.objectives import OBJECTIVES

PAGE = (Path(__file__).resolve().parent.parent / "docs" / "methods.md").read_text(encoding="utf-8")
LABELS = ("Formula", "Paper", "Cost", "Pitfall")


def sections(chapter: str) -> dict[str, str]:
    """Key -> text of its section, of one chapter."""
    (text,) = re.findall(rf"^## {chapter}$\n(.*?)(?=^## |\Z)", PAGE, re.MULTILINE | re.DOTALL)
    return dict(re.findall(r"^### [^\n]*\(`([a-z-]+)`\)$\n(.*?)(?=^### |\Z)", text, re.MULTILINE | re.DOTALL))


@pytest.mark.parametrize(
    ("chapter", "registry"),
    [("Methods", METHODS), ("Reward kinds", KINDS), ("Made rewards", MADE), ("Training objectives", OBJECTIVES)],
    ids=lambda value: str(value)[:12],
)
def test_the_page_has_a_section_for_every_key_and_for_no_other(chapter, registry):
    assert list(sections(chapter)) == list(registry)


@pytest.mark.parametrize("key", METHODS)
def test_a_method_has_its_formula_paper_parameters_with_defaults_cost_and_pitfalls(key):
    text = sections("Methods")[key]
    assert re.findall(r"^- \*\*(\w+)\*\* \S", text, re.MULTILINE) == ["What", "Formula", "Paper", "Parameters", "Cost", "Pitfalls"]
    for parameter in METHODS[key].parameters:
        default = f"{parameter.default:g}" if isinstance(parameter.default, float) else parameter.default
        assert f"`{parameter.name}={default}`" in text


@pytest.mark.parametrize("chapter", ["Reward kinds", "Made rewards", "Training objectives"])
def test_kinds_and_objectives_have_formula_paper_and_pitfalls(chapter):
    for text in sections(chapter).values():
        assert {"What", "Formula", "Paper", "Pitfalls"} <= set(re.findall(r"^- \*\*(\w+)\*\* \S", text, re.MULTILINE))


@pytest.mark.parametrize("key", MADE)
def test_a_made_reward_has_its_fields_with_their_defaults(key):
    for f in fields(MADE[key]):
        default = f"{f.default:g}" if isinstance(f.default, float) else f.default
        assert (f"`{f.name}={default}`" if default and f.metadata.get("input") != "area" else f"`{f.name}`") in sections("Made rewards")[key]


@pytest.mark.parametrize("key", COMBINE)
def test_every_combination_is_in_the_table(key):
    assert re.search(rf"^\| `{key}(\(.\))?` \| ", PAGE, re.MULTILINE)


@pytest.mark.parametrize("key", OBJECTIVES)
def test_an_objective_has_the_paper_of_its_class(key):
    (paper,) = re.findall(r"arXiv \S+?(?=[,);])", OBJECTIVES[key].__doc__ or "")[:1]
    assert paper in sections("Training objectives")[key]


@pytest.mark.parametrize(
    "kind",
    [
        *dict.fromkeys(method.rule for method in METHODS.values()),
        ScalarRewardModel,
        EncoderRewardModel,
        VocabularyRewardModel,
        AutoregressiveRewardModel,
        ProbeRewardModel,
        *MADE.values(),
    ],
    ids=lambda c: c.__name__,
)
def test_every_method_class_and_reward_kind_says_formula_paper_cost_and_pitfall(kind):
    first, *lines = inspect.cleandoc(kind.__doc__).splitlines()
    assert first.endswith(".")
    assert tuple(line.partition(":")[0] for line in lines if re.match(r"[A-Z]\w+: \S", line)) == LABELS


@pytest.mark.parametrize("key", [key for key, method in METHODS.items() if "arXiv" in (method.rule.__doc__ or "")])
def test_the_papers_of_a_section_are_those_of_its_class(key):
    papers = set(re.findall(r"arXiv \d{4}\.\d{5}", sections("Methods")[key]))
    assert papers and papers <= set(re.findall(r"arXiv \d{4}\.\d{5}", " ".join((METHODS[key].rule.__doc__ or "").split())))
