"""The recipes: their files fit the commands of today, the layouts of their data sets are read, and one runs from end to end."""

import json
import re
import shlex
from pathlib import Path

import pyarrow
import pytest
from pyarrow import parquet
from tiny_models import save_tiny
from transformers import AutoModelForSequenceClassification

from recipes import runner
from recipes.__main__ import main
from recipes.runner import NAMES, commands, flags, load, write_data
from rgtg.cli.main import _parser
from rgtg.cli.train import config_of
from rgtg.config import GenerationConfig
from rgtg.guidance.methods import METHODS, parse_run
from rgtg.models.catalog import is_hub_id
from rgtg.preferences.formats import read

TURN = "\n\nAssistant:"


def hh_rows(num: int, first: int = 0) -> list[dict]:
    """As Anthropic/hh-rlhf: two transcripts that differ in the last answer."""
    sides = ("chosen", "yes"), ("rejected", "no")
    return [{side: f"\n\nHuman: q{i}{TURN} {answer}{i % 7}" for side, answer in sides} for i in range(first, first + num)]


def tldr_rows(num: int, first: int = 0) -> list[dict]:
    """As CarperAI/openai_summarize_comparisons: the answers begin with the cue."""
    return [{"prompt": f"POST: p{i}", "chosen": f"TL;DR: yes{i}", "rejected": "TL;DR:  no"} for i in range(first, first + num)]


def uf_rows(num: int, first: int = 0) -> list[dict]:
    """As HuggingFaceH4/ultrafeedback_binarized: the prompt as text, both sides as messages."""

    def messages(i: int, answer: str) -> list[dict]:
        return [{"content": f"q{i}", "role": "user"}, {"content": f"{answer}{i}", "role": "assistant"}]

    return [
        {
            "prompt": f"q{i}", "prompt_id": "0", "chosen": messages(i, "yes"), "rejected": messages(i, "no"), "messages": messages(i, "yes"),
            "score_chosen": 8.0, "score_rejected": 5.0,
        }
        for i in range(first, first + num)
    ]  # fmt: skip


ROWS = {"hh": hh_rows, "tldr": tldr_rows, "ultrafeedback": uf_rows}
TENTH = {
    "hh": {"prompt": f"\n\nHuman: q9{TURN}", "chosen": " yes2", "rejected": " no2"},
    "tldr": {"prompt": "POST: p9\nTL;DR:", "chosen": " yes9", "rejected": " no"},
    "ultrafeedback": {"prompt": "q9\n", "chosen": "yes9", "rejected": "no9"},
}


def stand_in(folder: Path, name: str, num: int = 40) -> Path:
    """A local copy of a recipe's data set, in the layout of the Hub."""
    recipe = load(name)
    for split, rows in ((recipe.data.train, ROWS[name](num)), (recipe.data.test, ROWS[name](13, num - 4))):  # four prompts are in both
        path = folder / recipe.data.source / "data" / f"{split}-00000-of-00001.parquet"
        path.parent.mkdir(parents=True, exist_ok=True)
        parquet.write_table(pyarrow.Table.from_pylist(rows), path)
    return folder


def rows_in(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def test_there_is_a_recipe_for_each_data_set_and_its_ids_have_the_form_of_the_hub():
    assert NAMES == ("hh", "tldr", "ultrafeedback")
    for recipe in map(load, NAMES):
        assert all(is_hub_id(name) for name in (recipe.base_lm, recipe.judge, recipe.data.source))


@pytest.mark.parametrize("name", NAMES)
def test_every_command_of_a_recipe_is_one_that_the_terminal_knows(name, tmp_path):
    recipe, stages = load(name), []
    for stage, arguments in commands(recipe, tmp_path):
        options = _parser().parse_args(arguments)
        stages.append(stage)
        if stage == "train":
            config = config_of(options)
            assert config.max_steps > 0 and config.dropout < 0.3
        for text in getattr(options, "run", ()):
            spec = parse_run(text, GenerationConfig(max_new_tokens=options.max_new_tokens, top_k=options.top_k))
            METHODS[spec.method].make(spec.params)
            guide = Path(spec.reward_model).name if spec.reward_model else ""
            assert not METHODS[spec.method].uses_reward or guide.removeprefix(f"{name}-") in recipe.reward_models
            if METHODS[spec.method].uses_reward:  # each method is guided by the reward model that its paper trains
                assert recipe.reward_models[guide.removeprefix(f"{name}-")]["objective"] == METHODS[spec.method].objective
    assert stages == ["train"] * len(recipe.reward_models) + ["examine", "sweep", "table"]


@pytest.mark.parametrize("name", NAMES)
def test_an_epoch_is_as_long_as_the_recipe_says(name):
    recipe = load(name)
    steps = recipe.data.num_pairs * (1 - recipe.train["eval_fraction"]) / recipe.train["batch_size"]
    assert recipe.train["max_steps"] == round(steps)


def test_flags_are_options_of_the_terminal():
    assert flags({"max_steps": 7, "lora": True, "bf16": False, "run": ["base", "pargs"]}) == [
        "--max-steps", "7", "--lora", "--no-bf16", "--run", "base", "--run", "pargs",
    ]  # fmt: skip


@pytest.mark.parametrize("name", NAMES)
def test_the_layout_of_the_hub_becomes_pairs_and_prompts(name, tmp_path):
    recipe = load(name, ["data.num_prompts=5"], stand_in(tmp_path / "hub", name))
    write_data(recipe, tmp_path / "out")
    pairs, tests, prompts = (rows_in(tmp_path / "out" / file) for file in (runner.PAIRS, runner.TEST, runner.PROMPTS))
    assert (len(pairs), len(tests), len(prompts)) == (40, 9, 5) and TENTH[name] in pairs
    assert {row["prompt"] for row in tests + prompts} & {row["prompt"] for row in pairs} == set()
    again = read(tmp_path / "out" / runner.PAIRS).examples  # as `rgtg train` reads it
    assert [(e.prompt, e.chosen, e.rejected) for e in again] == [tuple(row.values()) for row in pairs]


def test_the_original_layout_of_the_summaries_is_read_too_without_its_news_articles(tmp_path):
    summaries = [{"text": " Stayed.", "policy": "sup2", "note": None}, {"text": " Went.", "policy": "ref", "note": None}]
    info = {"id": "t3", "post": "I went.", "title": "Went", "subreddit": "r", "article": None}
    row = {"info": info, "split": "train", "summaries": summaries, "choice": 1, "worker": "w", "batch": "b", "extra": {"confidence": None}}
    article = row | {"info": info | {"post": None, "article": "News."}}
    folder = tmp_path / "hub" / "openai" / "summarize_from_feedback" / "comparisons"
    folder.mkdir(parents=True)
    (folder / "train.jsonl").write_text(json.dumps(row) + "\n" + json.dumps(article))
    (folder / "validation.jsonl").write_text(json.dumps(row | {"info": info | {"post": "I stayed."}, "choice": 0}))
    original = ['data.source="openai/summarize_from_feedback/comparisons"', 'data.test="validation"', "data.max_bad_rows=9"]
    write_data(load("tldr", original, tmp_path / "hub"), tmp_path / "out")
    assert rows_in(tmp_path / "out" / runner.PAIRS) == [{"prompt": "I went.\nTL;DR:", "chosen": " Went.", "rejected": " Stayed."}]
    assert rows_in(tmp_path / "out" / runner.TEST) == [{"prompt": "I stayed.\nTL;DR:", "chosen": " Stayed.", "rejected": " Went."}]


def test_a_text_without_the_cue_gets_it_and_one_with_it_keeps_one(tmp_path):
    rows = [{"prompt": "POST: a TL;DR:", "chosen": "b", "rejected": " TL;DR: c"}, {"prompt": "POST: d", "chosen": " e", "rejected": "f"}]
    path = tmp_path / "hub" / "CarperAI" / "openai_summarize_comparisons"
    path.mkdir(parents=True)
    for split in ("train", "test"):
        (path / f"{split}.jsonl").write_text(json.dumps(rows[split == "test"]))
    write_data(load("tldr", stand_in=tmp_path / "hub"), tmp_path / "out")
    assert rows_in(tmp_path / "out" / runner.PAIRS) == [{"prompt": "POST: a\nTL;DR:", "chosen": " b", "rejected": " c"}]
    assert rows_in(tmp_path / "out" / runner.TEST) == [{"prompt": "POST: d\nTL;DR:", "chosen": " e", "rejected": " f"}]


@pytest.mark.parametrize(
    ("options", "error"),
    [
        (["--set", "data.num_pairs=0"], "`num_pairs` has to be between 1 and 10,000,000."),
        (["--set", "data.nix=1"], "The recipe `hh` has no such key."),
        (["--set", "train.max_steps"], "`--set train.max_steps` cannot be read."),
        (["--set", "data.max_characters=3"], "`Anthropic/hh-rlhf` has too little for this recipe."),
        (["--only", "train", "--set", "train.max_stepz=3"], "The command line is not valid."),
        (["--set", "data.seed=1", "--out", "OTHER"], "`OTHER` was begun with other settings."),
        (
            ["--only", "sweep", "--set", "sweep.run=['pargs:reward_model={nix}']"],
            "The run `pargs:reward_model={nix}` names no reward model of the recipe.",
        ),
        (["--stand-in", "NONE"], "`NONE` holds no stand-in for the recipe `hh`."),
    ],
)
def test_what_is_wrong_is_one_json_line_on_stderr(options, error, tmp_path, capsys):
    folder = stand_in(tmp_path / "hub", "hh")
    write_data(load("hh", stand_in=folder), tmp_path / "other")
    places = {"OTHER": str(tmp_path / "other"), "NONE": str(tmp_path / "none")}
    given = [places.get(word, word) for word in options]
    assert main(["hh", "--stand-in", str(folder), "--out", str(tmp_path / "out"), "--only", "data", *given]) == 2
    said = json.loads(capsys.readouterr().err.splitlines()[-1])["error"]
    assert said == error.replace("OTHER", places["OTHER"]).replace("NONE", places["NONE"])


def test_a_dry_run_prints_the_commands_and_writes_nothing(tmp_path, capsys):
    assert main(["hh", "--out", str(tmp_path / "out"), "--dry-run", "--only", "train", "--set", "train.max_steps=3"]) == 0
    title, *lines = capsys.readouterr().out.splitlines()
    assert title == "# Anthropic HH dialogue" and len(lines) == 4
    assert all(line.startswith("python -m rgtg train --pairs ") for line in lines) and "--max-steps 3 " in lines[0]
    assert list(tmp_path.iterdir()) == []


def test_every_command_in_the_page_is_a_recipe(tmp_path):
    text = (runner.FOLDER.parent / "docs" / "recipes.md").read_text(encoding="utf-8").replace("\\\n", " ")
    calls = [shlex.split(line) for line in re.findall(r"^\S+ -m recipes (.+)$", text, re.MULTILINE)]
    assert {call[0] for call in calls} == set(NAMES)
    for data_set in ("Anthropic/hh-rlhf", "openai/summarize_from_feedback/comparisons"):
        (tmp_path / data_set).mkdir(parents=True)
    for call in calls:
        assert main([str(tmp_path) if word in ("stand-in", "local") else word for word in call] + ["--dry-run"]) == 0


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_a_recipe_runs_on_a_stand_in_and_a_second_run_only_prints(name, tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("RGTG_DATA_DIR", str(tmp_path / "data"))
    folder, recipe = stand_in(tmp_path / "hub", name), load(name)
    save_tiny(folder / recipe.base_lm)
    save_tiny(folder / recipe.judge, AutoModelForSequenceClassification, seed=3)
    sizes = ["data.num_prompts=2", "train.max_steps=2", "train.batch_size=4", "examine.limit=6", "sweep.max_new_tokens=4"]
    sizes += ["reward_models.vocabulary.max_steps=2"] if "vocabulary" in recipe.reward_models else []
    arguments = [name, "--stand-in", str(folder), "--out", str(tmp_path / "out"), *(word for size in sizes for word in ("--set", size))]
    assert main(arguments) == 0
    first = capsys.readouterr().out
    for model in recipe.reward_models:
        card = json.loads((tmp_path / "out" / f"{name}-{model}" / "card.json").read_text())
        assert card["objective"] == model and card["training"]["max_steps"] == 2
    assert first.count("python -m rgtg train ") == len(recipe.reward_models)
    assert f"| pargs · {name}-partial · beta 2 | 2 |" in first and "| judge at equal KL | 2 nats | 5 nats |" in first
    assert (tmp_path / "out" / "examine.md").read_text() in first and (tmp_path / "out" / "judge-against-kl.html").is_file()

    def never(*args, **options):
        raise AssertionError("all of it is there")

    for where in ("rgtg.training.pipeline.train_file", "rgtg.evaluation.engines.base.generate", "rgtg.evaluation.examine.report.examine"):
        monkeypatch.setattr(where, never)
    assert main(arguments) == 0
    assert f"| pargs · {name}-partial · beta 2 | 2 |" in capsys.readouterr().out
