"""A comparison as a command, a Python script or JSON: what is copied makes the same answers again."""

import json
import shlex
from dataclasses import replace

import pytest
from store_records import make_comparison, make_trace

from rgtg.cli import main
from rgtg.config import GenerationConfig, Settings
from rgtg.errors import BadSettings
from rgtg.guidance.methods import METHODS, parse_run
from rgtg.records import ColumnSpec, ModelRef, Run
from rgtg.workbench.columns.copying import FORMS, number_text, run_text, spec_of
from rgtg.workbench.workbench import Workbench


@pytest.mark.parametrize(
    "text",
    [
        "base", "pargs:beta=0.1,reward_model=partial", "cards:threshold=-inf", "best-of-n:n=16", "experts:expert=a", "experts:anti_expert=b",
        "experts:expert=a,anti_expert=b", "experts:guides=a*2+b*-0.5", "pargs:guides=a*0.5+b,combine=min", "rad:inverse=yes,pick=greedy",
        "pargs:reward_model=../some/folder", "dera:beta=2,aligned=a",
    ],
)  # fmt: skip
def test_settings_are_written_as_they_are_read(text):
    spec = parse_run(text, GenerationConfig())
    assert run_text(spec) == text or parse_run(run_text(spec), GenerationConfig()) == spec


@pytest.mark.parametrize("key", METHODS)
def test_every_method_is_written_without_what_is_its_default(key):
    spec = ColumnSpec(key, tuple((p.name, p.default) for p in METHODS[key].parameters))
    assert run_text(spec) == key
    assert run_text(replace(spec, params=METHODS[key].line_up)).startswith(key)


def test_a_column_with_its_own_generation_settings_keeps_them():
    spec = parse_run("pargs:top_k=40", GenerationConfig(max_new_tokens=7))
    assert parse_run(run_text(spec), GenerationConfig()) == spec


@pytest.mark.parametrize("name", ["a,b", "a+b", "a*2", "a,beta=3"])
def test_a_name_that_the_text_cannot_hold_is_refused(name):
    with pytest.raises(BadSettings, match="cannot be written as one line"):
        run_text(ColumnSpec("pargs", (), guides=((name, 2.0), ("other", 1.0))) if name != "a,beta=3" else ColumnSpec("pargs", (), name))


@pytest.mark.parametrize("value", [2.0, 0.1, 1 / 3, 1e-6, 5, float("-inf"), 123456789.125])
def test_a_number_is_read_as_the_same(value):
    assert type(value)(number_text(value)) == value


def test_settings_of_a_run_have_its_models_and_weights():
    a, b = ModelRef("a"), ModelRef("b")
    assert spec_of(Run("x", "pargs", a, guides=((b, 1.0),))) == ColumnSpec("pargs", (), "b")
    assert spec_of(Run("x", "pargs", a, guides=((b, 2.0),))).guides == (("b", 2.0),)
    assert run_text(spec_of(Run("x", "experts", a, guides=((b, 1.0), (a, -1.0))))) == "experts:expert=b,anti_expert=a"


def test_a_command_is_one_that_the_terminal_reads_as_it_was_meant():
    prompt = 'it\'s "$HOME"\n-- and `more`'
    own = replace(make_trace("t", "A").run, prompt=prompt, generation=GenerationConfig(temperature=0.7, top_p=0.9))
    traces = [make_trace(f"t{c}", c, run=own) for c in "AB"]
    traces[1] = replace(traces[1], run=replace(own, generation=replace(own.generation, top_k=40)))
    branch = make_trace("t-C", "C", run=own, parent_trace_id="tA", branch_position=1)
    comparison = make_comparison(prompt=prompt, traces=(*traces, branch))
    words = shlex.split(FORMS["command"](comparison, str))
    options = main._parser().parse_args(words[1:])
    assert (options.prompt, options.seed, options.base_lm, options.temperature, options.top_p) == (prompt, 17, "base", 0.7, 0.9)
    assert options.run == ["pargs:beta=2,reward_model=partial", "pargs:beta=2,reward_model=partial,top_k=40"], "a branch is left out"
    compile(FORMS["Python"](comparison, str), "copied", "exec")
    copied = json.loads(FORMS["JSON"](comparison, str))
    assert copied["prompt"] == prompt and [c["column"] for c in copied["columns"]] == ["A", "B", "C"]


def test_a_method_that_is_gone_cannot_be_made_again():
    gone = make_trace("t", "A", run=replace(make_trace("t", "A").run, method="gone"))
    for form in ("command", "Python"):
        with pytest.raises(BadSettings, match="Copy it as JSON"):
            FORMS[form](make_comparison(traces=(gone,)), str)
    assert json.loads(FORMS["JSON"](make_comparison(traces=(gone,)), str))["columns"][0]["method"] == "gone"


@pytest.mark.slow
def test_what_is_copied_writes_the_same_tokens_again(tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("RGTG_DATA_DIR", str(tmp_path))
    workbench = Workbench(Settings(data_dir=tmp_path, device="cpu"))
    runs = ["base", "pargs:beta=2,reward_model=partial,top_k=5", "pargs:guides=partial*0.5+full*1.5", "experts", "best-of-n:n=3"]
    generation = GenerationConfig(max_new_tokens=8, temperature=0.8)
    running = workbench.compare("the food was", [parse_run(text, generation) for text in runs], generation, 5, save=False)
    for _ in running:
        pass
    wanted = [trace.token_ids for trace in running.traces]
    workbench.close()
    assert main.main(["generate", "--json", *shlex.split(FORMS["command"](running.comparison, str))[2:]]) == 0
    assert [tuple(t["id"] for t in json.loads(line)["tokens"]) for line in capsys.readouterr().out.splitlines()] == wanted
    names: dict = {}
    exec(FORMS["Python"](running.comparison, str), names)
    assert [trace.token_ids for trace in names["comparison"].traces] == wanted
