"""The Help page: what the classes say of themselves, and nothing left out."""

import re
from pathlib import Path

import pytest

from pages.help import KEYS, allowed, chapters, linked, number
from pages.theme import STATIC
from rgtg.docstrings import LABELS, notes, summary
from rgtg.guidance.base import BASELINE, GROUPS, TOKENS
from rgtg.guidance.methods import METHODS, Parameter, by_group
from rgtg.rewards.kinds import KINDS
from rgtg.rewards.made.kinds import MADE
from rgtg.training.objectives import OBJECTIVES


class Labelled:
    """Does one thing,
    and says so.

    Text without a label
    on two lines.
    Formula: a: b
    + c.
    Cost: one forward.
    """


class Plain:
    """Only a sentence."""


def entries(chapter: str) -> dict[str, dict]:
    (groups,) = (c["groups"] for c in chapters() if c["id"] == chapter)
    return {entry["key"]: entry for group in groups for entry in group["entries"]}


def test_a_docstring_is_a_summary_and_labelled_notes_and_a_missing_label_loses_no_text():
    assert summary(Labelled) == "Does one thing, and says so."
    assert notes(Labelled) == (("", "Text without a label on two lines."), ("Formula", "a: b + c."), ("Cost", "one forward."))
    assert (summary(Plain), notes(Plain)) == ("Only a sentence.", ())


@pytest.mark.parametrize(("chapter", "registry"), [("methods", METHODS), ("rewards", KINDS | MADE), ("objectives", OBJECTIVES)], ids=["m", "r", "o"])
def test_every_entry_of_the_registry_is_there_with_a_sentence(chapter, registry):
    found = entries(chapter)
    assert set(registry) == set(found) - {""}
    assert all(entry["title"] and entry["about"][-1].endswith(".") for entry in found.values())


def test_a_method_has_its_formula_its_parameters_and_an_objective_that_the_page_describes():
    rad, pargs = entries("methods")["rad"], entries("methods")["pargs"]
    assert dict(pargs["notes"]).keys() == set(LABELS) and pargs["about"] == [METHODS["pargs"].about]
    assert {p["name"]: (p["default"], p["range"]) for p in rad["parameters"]} == {
        "beta": ("10", "0 … 200"), "inverse": ("no", "no, yes"), "pick": ("sample", "sample, greedy"),
        "candidates": ("topk", "topk, all"),
    }  # fmt: skip
    assert {entry["objective"] for entry in entries("methods").values()} - {""} <= set(OBJECTIVES)


def test_a_paper_is_a_link_and_a_name_is_code():
    assert linked("RAD (arXiv 2310.09520).") == ["RAD (", ("arXiv 2310.09520", "https://arxiv.org/abs/2310.09520"), ")."]
    assert linked("arXiv 2310.09520 and arXiv 2104.05218")[1:] == [" and ", ("arXiv 2104.05218", "https://arxiv.org/abs/2104.05218")]
    assert linked("with `keep=1`, too") == ["with ", ("keep=1", ""), ", too"]


def test_ids_are_unique_because_links_name_them():
    ids = [c["id"] for c in chapters()] + [entry["id"] for chapter in ("methods", "rewards", "objectives") for entry in entries(chapter).values()]
    assert len(set(ids)) == len(ids) and "methods-rad" in ids


def test_values_are_written_as_a_person_writes_them():
    assert [number(v) for v in (1e6, 1e-6, 0.5, -3, float("-inf"), True, "", 200)] == [
        "1,000,000",
        "0.000001",
        "0.5",
        "−3",
        "−∞",
        "yes",
        "empty",
        "200",
    ]
    threshold = Parameter("threshold", "", 2.0, -1e6, 1e6, also=(float("-inf"),))
    assert allowed(threshold) == "−1,000,000 … 1,000,000, −∞" and allowed(Parameter("a", "", True)) == "yes, no"


def test_methods_are_grouped_by_their_class_and_those_with_scores_of_single_tokens_are_in_one_group():
    groups = by_group(METHODS.values())
    assert list(groups) == list(GROUPS) and sum(map(len, groups.values())) == len(METHODS)
    for title, members in groups.items():
        assert {m.rule.rescores for m in members} == {title in (BASELINE, TOKENS)}, title


def test_every_key_on_the_page_is_one_that_the_app_hears():
    scripts = "".join(path.read_text(encoding="utf-8") for path in Path(STATIC).glob("*.js"))
    heard = set(re.findall(r"button\(\"\w+\", \"(\w)\"", scripts))
    for keys, _ in KEYS:
        if len(keys) == 1:
            assert keys in heard


@pytest.mark.parametrize("key", OBJECTIVES)
def test_an_objective_has_its_formula_its_pitfall_and_a_link_to_its_paper(key):
    entry = entries("objectives")[key]
    assert {"Formula", "Pitfall"} <= dict(entry["notes"]).keys()
    assert any(address.startswith("https://arxiv.org") for _, address in (piece for piece in entry["about"] if not isinstance(piece, str)))
