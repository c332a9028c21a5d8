"""The grid of a sweep: values of a parameter from text, every combination as a column, the command that does the same."""

import math
import shlex

import pytest

from rgtg.cli.main import _parser
from rgtg.config import GenerationConfig
from rgtg.errors import BadData, BadSettings, ModelNotFound
from rgtg.guidance.methods import METHODS, Parameter, parse_run
from rgtg.records import ColumnSpec
from rgtg.system.serialization import from_json, to_json
from rgtg.workbench.sweeping import prompts
from rgtg.workbench.sweeping.grid import Grid, Row, generation_parameter, grid_of, read_models, read_values

BETA = next(p for p in METHODS["args"].parameters if p.name == "beta")
PICK = next(p for p in METHODS["args"].parameters if p.choices)
THRESHOLD = Parameter("threshold", "", 0.0, -5.0, 5.0, also=(-math.inf,))
CONFIG = GenerationConfig(max_new_tokens=6)


def grid(*rows: Row, texts=("a", "b"), seeds: int = 1, **more) -> Grid:
    return grid_of("lm", "judge", rows, texts, CONFIG, seeds, **more)


@pytest.mark.parametrize(
    ("text", "parameter", "values"),
    [
        ("0.5, 1, 2, 4", BETA, (0.5, 1.0, 2.0, 4.0)),
        ("0.5 1;2\t4", BETA, (0.5, 1.0, 2.0, 4.0)),
        (" 2,2.0, 2 ", BETA, (2.0,)),
        ("", BETA, ()),
        ("5 10", generation_parameter("top_k"), (5, 10)),
        (" ".join(PICK.choices), PICK, PICK.choices),
        ("−1, -inf", THRESHOLD, (-1.0, -math.inf)),
        ("a, b", Parameter("prompt", "", ""), ("a, b",)),
    ],
)
def test_values_are_read_from_text_in_their_order_each_once(text, parameter, values):
    assert read_values(text, parameter) == values


@pytest.mark.parametrize(
    ("text", "parameter", "words"),
    [
        ("1, x", BETA, "`beta` has to be a number. Found “x”."),
        ("1, 99", BETA, "`beta` has to be between 0 and "),
        ("nan", BETA, "between"),
        ("inf", BETA, "between"),
        ("5, 1.5", generation_parameter("top_k"), "`top_k` has to be a whole number. Found “1.5”."),
        ("0", generation_parameter("top_k"), "between 1 and 200"),
        ("loud", PICK, "`pick` has to be one of"),
        (" ".join(str(i / 10) for i in range(40)), BETA, "at most 32 values. Found 40."),
    ],
)
def test_a_bad_value_is_refused_with_its_field(text, parameter, words):
    with pytest.raises(BadSettings) as refused:
        read_values(text, parameter, "B-beta")
    assert words in str(refused.value) and refused.value.field == "B-beta"


def test_several_values_make_every_combination_and_k_is_a_generation_setting():
    made = grid(Row("base"), Row("pargs", (("beta", (1.0, 2.0)),), (5, 10), "partial"))
    assert [(c.method, dict(c.params).get("beta"), c.generation.top_k if c.generation else None) for c in made.columns] == [
        ("base", None, None), ("pargs", 1.0, 5), ("pargs", 1.0, None), ("pargs", 2.0, 5), ("pargs", 2.0, None),
    ]  # fmt: skip
    assert made.columns[1].generation == GenerationConfig(max_new_tokens=6, top_k=5) and made.columns[1].reward_model == "partial"


def test_equal_settings_and_equal_prompts_are_made_once():
    made = grid(Row("base"), Row("base"), Row("pargs", (("beta", (1.0,)),)), Row("pargs", (("beta", (1.0, 2.0)),)), texts=("a", "b", "a"), seeds=3)
    assert (len(made.columns), made.prompts, made.num_answers) == (3, ("a", "b"), 18)


def test_a_combination_that_the_method_refuses_is_refused_before_the_sweep():
    with pytest.raises(BadSettings, match="has no parameter `gamma`"):
        grid(Row("args", (("gamma", (1.0,)),)))


@pytest.mark.parametrize(
    ("rows", "texts", "seeds", "words"),
    [
        ([], ("a",), 1, "at least one method"),
        ([Row("base")], tuple(map(str, range(5001))), 1, "at most 5,000 prompts. Found 5,001."),
        ([Row("args", (("beta", tuple(i / 10 for i in range(32))),), tuple(range(1, 10)))], ("a",), 1, "at most 240 settings. Found 288."),
        ([Row("args", (("beta", (1.0, 2.0)),))], tuple(map(str, range(5000))), 50, "2 settings × 5,000 prompts × 50 seeds are 500,000."),
    ],
)
def test_a_grid_that_is_empty_or_too_large_is_refused(rows, texts, seeds, words):
    with pytest.raises(BadSettings, match=words.replace(".", r"\.")):
        grid_of("lm", "judge", rows, texts, CONFIG, seeds)


def test_a_grid_survives_json_with_a_threshold_without_end():
    made = Grid("lm", "judge", (ColumnSpec("cards", (("threshold", -math.inf),)),), ("a",), CONFIG, 2, 7)
    assert from_json(Grid, to_json(made)) == made


def test_the_command_makes_the_same_columns_prompts_and_seeds():
    made = grid(Row("base"), Row("pargs", (("beta", (1.0, 2.5)),), (5, 10), None, (("partial", 2.0), ("length", 0.5))), seeds=3, first_seed=7)
    words = shlex.split(made.command("here"))
    options = _parser().parse_args(words[1:])
    shared = {name: getattr(options, name) for name in ("max_new_tokens", "temperature", "top_k", "top_p")}
    assert GenerationConfig(**shared) == CONFIG and (options.seeds, options.seed, options.observe, options.base_lm) == (3, 7, "judge", "lm")
    assert tuple(options.prompt) == made.prompts and str(options.out) == "here"
    read = [parse_run(text, CONFIG) for text in options.run]
    assert [(c.method, c.mix, c.generation) for c in read] == [(c.method, c.mix, c.generation) for c in made.columns]
    assert [METHODS[c.method].make(c.params) for c in read] == [METHODS[c.method].make(c.params) for c in made.columns]


def test_a_reward_model_is_a_name_or_a_mix():
    names = ("partial", "a+b")
    assert read_models("a+b", names) == ("a+b", ())
    assert read_models("partial*2 + partial2*0.5", (*names, "partial2")) == (None, (("partial", 2.0), ("partial2", 0.5)))
    with pytest.raises(ModelNotFound, match="`gone` is no reward model") as refused:
        read_models("partial*2+gone", names, "B-reward_model")
    assert refused.value.field == "B-reward_model"


def test_prompts_are_lines_and_a_file_that_is_none_is_named(tmp_path):
    assert prompts.typed(" a b \n\n c\n") == ["a b", "c"]
    with pytest.raises(BadSettings, match="needs prompts"):
        prompts.typed("\n \n")
    with pytest.raises(BadData, match="prompt number 2"):
        prompts.typed("a\nb\udc80")
    (tmp_path / "p.txt").write_text("a\nb\nc\n")
    assert prompts.from_file(tmp_path / "p.txt", 2, "file") == ["a", "b"]
    with pytest.raises(BadSettings, match=r"no\.txt") as refused:
        prompts.from_file(tmp_path / "no.txt", None, "file")
    assert refused.value.field == "file" and "openings.txt" in prompts.files()
