"""Line-ups: those that ship, one's own in files, and what is wrong with a file in words."""

import json
from types import SimpleNamespace

import pytest

from rgtg.errors import BadData, BadSettings
from rgtg.guidance.methods import METHODS
from rgtg.models.catalog import ModelInfo
from rgtg.records import ColumnSpec
from rgtg.workbench.columns.line_ups import LineUp, LineUps, line_up_columns, line_up_of, missing_models, missing_words, parse_line_up

TITLES = {"PARGS and its rivals", "Weights 0.5–8", "One-call rewards", "Segments", "Two rewards traded", "Training-free"}
NAMES = ("full", "partial", "vocabulary", "autoregressive", "plain-partial")


def library(*names: str) -> SimpleNamespace:
    guides, lms = [ModelInfo(name, "reward_model", name) for name in names], [ModelInfo("starter", "base_lm", "starter")]
    guide_for = lambda key, base_lm=None: names[0] if names else None  # noqa: E731
    return SimpleNamespace(guides=lambda base_lm=None: guides, language_models=lambda base_lm=None: lms, guide_for=guide_for)


@pytest.fixture
def own(tmp_path) -> LineUps:
    return LineUps(tmp_path / "presets")


def test_all_that_ship_can_be_read_and_need_only_models_that_ship(own):
    shipped = own.all()
    assert own.unreadable() == [] and {one.title for one in shipped.values()} == TITLES
    for line_up in shipped.values():
        specs = line_up.specs()
        assert 3 < len(specs) <= 6 and line_up.about.endswith(("?", "."))
        assert missing_models(specs, library(*NAMES)) == {}, line_up.title
        for spec in specs:
            METHODS[spec.method].make(spec.params)


def test_two_rewards_are_named_in_one_place(own):
    traded = own.get("Two rewards traded")
    others = LineUp(traded.title, traded.columns, models={"first": "mine", "second": "yours"}).specs()
    assert {name for spec in others for name, _ in spec.mix} == {"mine", "yours"}


def test_a_line_up_is_found_by_key_title_and_file_and_else_all_are_named(own, tmp_path):
    assert own.get("WEIGHTS").title == own.get("weights 0.5–8").title == "Weights 0.5–8"
    (tmp_path / "mine.json").write_text(json.dumps({"title": "Mine", "columns": ["base"]}))
    assert own.get(str(tmp_path / "mine.json")).specs() == [ColumnSpec("base")]
    with pytest.raises(BadSettings, match="pargs-and-its-rivals"):
        own.get("nothing")
    with pytest.raises(BadData, match="does not exist"):
        own.get("nothing.json")


def test_ones_own_is_kept_replaced_and_deleted(own):
    first = own.keep(line_up_of([ColumnSpec("base"), ColumnSpec("pargs", (("beta", 4.0),), "partial")], " My β = 4 "))
    assert (first.key, first.title, first.columns) == ("my-4", "My β = 4", ("base", "pargs:beta=4,reward_model=partial"))
    again = own.keep(line_up_of([ColumnSpec("base")], "my Β = 4"))
    assert again.key == "my-4" and own.get("my-4").columns == ("base",) and len(own.all()) == len(TITLES) + 1
    other = own.keep(line_up_of([ColumnSpec("base")], "My (4)"))
    assert other.key == "my-4-2"
    own.delete("my-4")
    assert [key for key, one in own.all().items() if not one.ships] == ["my-4-2"]
    for key in ("weights", "my-4", "../rgtg"):
        with pytest.raises(BadSettings, match="not one of your own"):
            own.delete(key)


@pytest.mark.parametrize("title", ["", "  ", "x" * 61, "two\nlines", None, "weights 0.5–8"])
def test_a_title_that_cannot_be_is_refused(own, title):
    with pytest.raises(BadSettings, match="name"):
        own.keep(line_up_of([ColumnSpec("base")], title))


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("[]", "not a JSON object"), ("{", "not JSON"), ('{"columns": ["base"]}', "`title` has to be one line"), ('{"title": "A"}', "lists 0"),
        ('{"title": "A", "columns": ["base"], "colums": 1}', "`colums` is not a part"), ('{"title": "A", "columns": "base"}', "has to be a list"),
        ('{"title": "A", "columns": ["base", "nothing"]}', "Column B, `nothing`: There is no method"),
        ('{"title": "A", "columns": ["pargs:beta=99"]}', "Column A, `pargs:beta=99`: `beta` has to be between"),
        ('{"title": "A", "columns": ["pargs:reward_model={x}"]}', "names `{x}`"), ('{"title": "A", "columns": [7]}', "Column A has to be text"),
        ('{"title": "A", "columns": ["base","base","base","base","base","base","base"]}', "lists 7"),
        ('{"title": "A", "columns": ["base"], "models": {"x": 7}}', "names of models as text"),
    ],
)  # fmt: skip
def test_a_file_that_is_no_line_up_is_refused_in_words(content, words):
    with pytest.raises(BadData, match="`some.json` is not a line-up") as raised:
        parse_line_up(content, "some.json")
    assert words in str(raised.value)


def test_a_file_of_ones_own_that_cannot_be_read_hides_no_other(own, tmp_path):
    own.keep(line_up_of([ColumnSpec("base")], "Good"))
    (tmp_path / "presets" / "bad.json").write_text("{")
    assert "good" in own.all() and len(own.unreadable()) == 1 and "bad.json" in own.unreadable()[0]


def test_what_is_not_installed_is_named_with_its_columns(own):
    specs = own.get("pargs-and-its-rivals").specs()
    missing = missing_models(specs, library("full"))
    assert missing == {"C": ("partial",), "D": ("partial",), "F": ("partial",)}
    assert missing_words(missing) == "`partial` (columns C, D, F)"
    assert missing_models([ColumnSpec("pargs")], library()) == {"A": ("a reward model",)}
    assert missing_models(own.get("training-free").specs(), library("full"))["C"] == ("autoregressive",)
    with pytest.raises(BadSettings, match=r"Missing: `partial` \(columns C, D, F\)"):
        line_up_columns(own, library("full"), "pargs-and-its-rivals", specs[0].generation)
