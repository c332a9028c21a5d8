"""Sweeps over tiny models: nothing made twice, nothing lost, and a table that says what was measured."""

import csv
import json
import os
import random
import signal
import subprocess
import sys
import time
from dataclasses import asdict, replace
from pathlib import Path

import pytest
from tiny_models import tiny_lm, tiny_reward

from rgtg.config import GenerationConfig
from rgtg.engine import Models, make_run
from rgtg.errors import BadData, BadSettings
from rgtg.evaluation import cells as cells_of
from rgtg.evaluation import sweep
from rgtg.evaluation.cells import Cell, label, planned
from rgtg.evaluation.engines import base
from rgtg.evaluation.shards import RESULTS, SHARDS, SweepFolder
from rgtg.evaluation.sweep import run_sweep
from rgtg.evaluation.table import TABLES, summary, write_table
from rgtg.records import ColumnSpec, ModelCard
from rgtg.system.serialization import from_json

PROMPTS = ["the food", "my wife\u2028and i", "the food"]  # U+2028 ends a line for some readers
GENERATION = GenerationConfig(max_new_tokens=5)
BASE, PARGS, BEST = ColumnSpec("base"), ColumnSpec("pargs", (("beta", 2.0),), "one"), ColumnSpec("best-of-n", (("n", 2),), "one")
MODELS = Models(tiny_lm(), {"one": tiny_reward("llama", 1, "one"), "two": tiny_reward("llama", 2, "two")})
JUDGE = tiny_reward("llama", 3, "judge")


@pytest.fixture
def made(monkeypatch) -> list[int]:
    """How many runs each call of the engine was given."""
    sizes: list[int] = []

    def counted(runs, models, **given):
        sizes.append(len(runs))
        return generate(runs, models, **given)

    generate = base.generate
    monkeypatch.setattr(base, "generate", counted)
    return sizes


def run(out, columns=(BASE, PARGS), prompts=PROMPTS, seeds=(0, 1), generation=GENERATION, judge=JUDGE, **given) -> list[Cell]:
    return run_sweep(MODELS, columns, prompts, generation, seeds, judge, out, **given)


def results(out) -> list[bytes]:
    return (out / RESULTS).read_bytes().split(b"\n")[:-1]


def shards(out) -> list[Path]:
    return sorted((out / SHARDS).iterdir())


def same(found: list[Cell], wanted: list[Cell]) -> None:
    """Equal up to rounding: cells made in batches of another size differ in the last digits."""
    for a, b in zip(found, wanted, strict=True):
        figures = {name: pytest.approx(getattr(b, name), abs=1e-4) for name in ("judge", "guide", "log_prob", "kl", "truncation")}
        assert asdict(a) == asdict(b) | figures


def test_there_is_a_cell_for_every_setting_prompt_and_seed(tmp_path):
    cells = run(tmp_path, (BASE, PARGS, BEST))
    assert [c.setting for c in cells] == ["base"] * 6 + ["pargs · one · beta 2"] * 6 + ["best-of-n · one · n 2"] * 6
    assert [c.prompt for c in cells] == PROMPTS * 6
    assert [c.seed for c in cells[:6]] == [c.seed for c in cells[6:12]] == [c.seed for c in cells[12:]]
    assert len({c.key for c in cells}) == 18 and len({c.seed for c in cells}) == 6, "two equal prompts each have their own random seed"


def test_a_second_sweep_makes_nothing_and_says_the_same(tmp_path, made):
    first = run(tmp_path)
    assert sum(made) == 12
    assert run(tmp_path) == first and sum(made) == 12
    assert [from_json(Cell, line.decode()) for line in results(tmp_path)] == first


def test_a_broken_sweep_goes_on_with_the_shards_that_are_missing_and_is_the_same_to_the_byte(tmp_path, made, monkeypatch):
    monkeypatch.setattr(sweep, "SHARD", 2)
    for name in ("whole", "broken"):
        write_table(run(tmp_path / name, (BASE, PARGS, BEST)), tmp_path / name)
    lost = random.Random(0).sample(shards(tmp_path / "broken"), 5)
    for path in lost:
        path.unlink()
    (tmp_path / "broken" / SHARDS / ".x.jsonl.part").write_text("half a shard, whose process was killed")
    (tmp_path / "broken" / RESULTS).unlink()
    made.clear()
    write_table(run(tmp_path / "broken", (BASE, PARGS, BEST)), tmp_path / "broken")
    assert len(made) == 5
    for name in (RESULTS, *TABLES):
        assert (tmp_path / "broken" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes(), name


@pytest.mark.parametrize("damage", [lambda text: text[:-9], lambda text: text + b"{}\n", lambda text: b"", lambda text: text.replace(b"key", b"kex")])
def test_a_damaged_shard_is_named(tmp_path, damage):
    run(tmp_path, (BASE,), ["a"], (0,))
    (path,) = shards(tmp_path)
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(BadData, match=f"{path.name} is damaged.* Delete it"):
        run(tmp_path, (BASE,), ["a"], (0,))
    path.unlink()
    assert len(run(tmp_path, (BASE,), ["a"], (0,))) == 1


def test_settings_prompts_and_seeds_are_added_to_a_sweep_and_only_what_is_new_is_made(tmp_path, made):
    run(tmp_path, (PARGS,), ["a"], (0,))
    for change, number in (
        ({"columns": (replace(PARGS, params=(("beta", 3.0),)),)}, 1),
        ({"columns": (replace(PARGS, reward_model="two"),)}, 1),
        ({"columns": (replace(PARGS, generation=replace(GENERATION, temperature=0.5)),)}, 1),
        ({"columns": (replace(PARGS, params=()), replace(PARGS, params=(("beta", 1.0),)))}, 1),  # the default, named or not
        ({"prompts": ["a", "b"]}, 5),
        ({"prompts": ["a", "b"], "seeds": (0, 1)}, 10),
    ):
        made.clear()
        found = run(tmp_path, **{"columns": (PARGS,), "prompts": ["a"], "seeds": (0,)} | change)
        assert sum(made) == number
    assert len(found) == 5 * 2 * 2 == len(results(tmp_path)) == len({c.key for c in found})
    assert [row["n"] for row in summary(found)] == [4] * 5


def test_another_sweep_in_the_same_folder_is_refused_with_what_differs(tmp_path, made):
    run(tmp_path, (PARGS,), ["a", "b"], (0, 1))
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    retrained = Models(MODELS.base_lm, MODELS.reward_models | {"one": _with_revision(MODELS.reward_models["one"], "other")})
    for models, change, words in (
        (MODELS, {"judge": _with_revision(tiny_reward("llama", 4, "judge"), "new")}, "`judge` had other weights: .*, now new"),
        (MODELS, {"judge": MODELS.reward_models["two"]}, "its judge is `judge`, not `two`"),
        (MODELS, {"generation": replace(GENERATION, max_new_tokens=6)}, "`max_new_tokens` is 5, not 6"),
        (MODELS, {"prompts": ["a"]}, "it has 2 prompts, not 1"),
        (MODELS, {"prompts": ["b", "a"]}, "its prompts are other ones"),
        (MODELS, {"seeds": (1, 2)}, "its seeds are other ones"),
        (retrained, {}, "`one` had other weights"),
    ):
        given = {"prompts": ["a", "b"], "generation": GENERATION, "seeds": (0, 1), "judge": JUDGE} | change
        made.clear()
        with pytest.raises(BadSettings, match=f"holds another sweep.*{words}.*Choose another folder"):
            run_sweep(models, (PARGS,), given["prompts"], given["generation"], given["seeds"], given["judge"], tmp_path)
        assert made == []
    assert before == {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}


def _with_revision(model, revision: str):
    return replace(model, loaded=replace(model.loaded, ref=replace(model.loaded.ref, revision=revision)))


def test_answers_of_other_code_are_not_taken_in_silence(tmp_path, made, monkeypatch):
    first = run(tmp_path, (BASE,), ["a"], (0,))
    monkeypatch.setattr(sweep, "code_version", lambda: "9.9.9+abc")
    with pytest.raises(BadSettings, match=r"has 1 answers made by another version of the code.*this is 9\.9\.9\+abc.*--keep"):
        run(tmp_path, (BASE,), ["a", "b"], (0,))
    made.clear()
    kept = run(tmp_path, (BASE,), ["a", "b"], (0,), keep=True)
    assert made == [1] and kept[0] == first[0]
    assert {code for _, code in SweepFolder(tmp_path).cells().values()} == {cells_of.code_version(), "9.9.9+abc"}


def test_the_code_version_changes_with_a_source_that_a_cell_depends_on():
    root = Path(cells_of.__file__).resolve().parent.parent
    assert all((root / name).exists() for name in cells_of.MADE_BY)
    version, changed = cells_of.code_version.__wrapped__, root / "guidance" / "noise.py"
    before, read = version(), Path.read_bytes
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Path, "read_bytes", lambda path: read(path) + (b"#" if path == changed else b""))
        assert version() != before
    assert version() == before


@pytest.mark.parametrize("name", ["cells.jsonl", RESULTS])
def test_a_folder_with_other_results_is_refused(tmp_path, name):
    (tmp_path / name).write_text("{}\n")
    with pytest.raises(BadSettings, match=f"holds results of something else. Found {name} without sweep.json. Choose another folder"):
        run(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == [name]


def test_what_json_has_no_number_for_comes_back_in_a_plan(tmp_path, made):
    cards = ColumnSpec("cards", (("threshold", float("-inf")),), "one")
    run(tmp_path, (cards,), ["a"], (0,))
    run(tmp_path, (cards,), ["a"], (0,))
    assert made == [1] and SweepFolder(tmp_path).plan.columns == (cards,)


def test_a_cell_says_what_the_judge_the_guide_and_the_base_said(tmp_path):
    judge = replace(JUDGE, loaded=replace(JUDGE.loaded, card=ModelCard("judge", "judge", zero=0.25)))
    for cell in run(tmp_path, (BASE, PARGS, BEST), ["the food"], (0,), judge=judge):
        prompt_ids = tuple(tiny_lm().loaded.tokenizer(cell.prompt)["input_ids"])
        assert cell.judge == pytest.approx(JUDGE.along(prompt_ids, [cell.token_ids])[0][-1] - 0.25, abs=1e-4)
        if cell.setting == "base":
            assert cell.guide is None and cell.kl == pytest.approx(0, abs=1e-9) and cell.truncation > 0
        else:
            assert cell.guide == pytest.approx(MODELS.reward_models["one"].along(prompt_ids, [cell.token_ids])[0][-1], abs=1e-4)
        assert (cell.kl is None) == cell.setting.startswith("best")
        assert len(cell.token_ids) <= 5 and cell.log_prob < 0


def test_a_mix_is_combined_as_its_column_says_and_named_so():
    column = ColumnSpec("pargs", (("beta", 2.0),), guides=(("one", 1.0), ("two", 0.5)), combine="min")
    ((_, run),) = planned(MODELS, column, ["a"], GENERATION, [0], MODELS.reward_models["one"])
    assert run.combine == "min" and label(run) == "pargs · one + two*0.5 · min · beta 2"


def test_two_settings_that_differ_have_two_names():
    def named(column: ColumnSpec) -> str:
        return label(make_run("a", column.method, MODELS, column.params, column.reward_model, (), column.generation or GENERATION, 0))

    columns = {
        "base": BASE,
        "base · temperature 0.5 · top_k 3": replace(BASE, generation=replace(GENERATION, temperature=0.5, top_k=3)),
        "pargs · one · beta 2": PARGS,
        "pargs · one · beta 2 · pick greedy": replace(PARGS, params=(("beta", 2.0), ("pick", "greedy"))),
        "pargs-greedy · one · beta 2": replace(PARGS, method="pargs-greedy"),
        "args · one · beta 2": replace(PARGS, method="args"),
        "pargs · two · beta 2": replace(PARGS, reward_model="two"),
        "best-of-n · one · n 2": BEST,
    }
    assert [named(column) for column in columns.values()] == list(columns)


def cell(setting: str, prompt: str, seed: int, judge: float, **changes) -> Cell:
    return Cell(f"{setting}{prompt}{seed}", setting, prompt, seed, "x", (4, 5, 4, 5), "eos", judge, None, -1.5, 0.5, **changes)


def test_the_difference_is_paired_by_prompt_and_seed():
    cells = [cell("base", p, s, judge) for p, s, judge in (("a", 0, -1.0), ("a", 1, 1.0), ("b", 0, -1.0), ("b", 1, -1.0))]
    # the same cells in another order: all that were negative but one become positive
    cells += [cell("pargs", p, s, judge) for p, s, judge in (("b", 1, 2.0), ("b", 0, -0.5), ("a", 1, 3.0), ("a", 0, 0.5))]
    cells += [cell("other", "c", 9, 1.0)]
    base, pargs, other = summary(cells)
    assert (base["positive"][0], pargs["positive"][0]) == (0.25, 0.75)
    assert base["positive_minus_first"] == (0.0, 0.0, 0.0) and pargs["positive_minus_first"][0] == 0.5
    assert pargs["positive_minus_first"][1] >= 0.0, "no pair got worse"
    assert other["n"] == 1 and other["positive_minus_first"] is None, "no pair, no difference"


def test_intervals_are_over_prompts_so_that_more_seeds_of_one_prompt_narrow_nothing():
    values = {"a": 1.0, "b": 3.0, "c": 8.0}
    once = [cell("base", p, 0, judge) for p, judge in values.items()]
    often = [cell("base", p, seed, judge) for p, judge in values.items() for seed in range(50)]
    assert summary(once)[0]["judge"] == pytest.approx(summary(often)[0]["judge"])
    assert summary(often)[0]["judge"][0] == pytest.approx(4.0) and summary(often)[0]["num_prompts"] == 3


def test_the_rows_hold_every_figure():
    second = replace(cell("base", "b", 0, -3.0, lm_forwards=4), stop_reason="max_new_tokens", token_ids=(4, 6), guide=None, log_prob=-3.0)
    (row,) = summary([cell("base", "a", 0, 1.0, lm_forwards=4, reward_forwards=3), second])
    figures = {name: row[name][0] for name in ("positive", "ended", "judge", "kl", "nll", "log_prob")}
    assert figures == {"positive": 0.5, "ended": 0.5, "judge": -1.0, "kl": 0.5, "nll": 6.0, "log_prob": -2.25}
    assert row["perplexity"][0] == pytest.approx(2.718281828**2), "over all six tokens, 12 nats"
    assert (row["num_tokens"], row["distinct_2"], row["guide"]) == (3.0, 0.75, None)
    assert (row["lm_forwards"], row["reward_forwards"]) == (8 / 6, 3 / 6)


def test_the_table_has_a_row_a_setting_and_is_kept(tmp_path):
    cells = run(tmp_path, (BASE, BEST))
    table = write_table(cells, tmp_path)
    head, rule, *rows = table.splitlines()
    titles = [title.strip() for title in head.strip("|").split("|")]
    assert titles[:4] == ["setting", "n", "judged positive, %", "minus first row, paired"] and "KL, same candidates" in titles
    assert rule.count("|") == head.count("|") and [row.count("|") for row in rows] == [head.count("|")] * 2
    by_title = [dict(zip(titles, map(str.strip, row.strip("|").split("|")), strict=True)) for row in rows]
    assert [row["setting"] for row in by_title] == ["base", "best-of-n · one · n 2"] and by_title[0]["n"] == "6"
    assert (by_title[0]["minus first row, paired"], by_title[0]["KL, same candidates"]) == ("0 [0, 0]", "0.0 [0.0, 0.0]")
    assert by_title[1]["KL, same candidates"] == "≤ 0.2" and by_title[1]["NLL, nats"] != "–", "best-of-n has no step distribution, but a bound"
    assert (tmp_path / "table.md").read_text(encoding="utf-8") == table
    kept = json.loads((tmp_path / "table.json").read_text(encoding="utf-8"))
    assert kept == json.loads(json.dumps(summary(cells)))
    with (tmp_path / "table.csv").open(encoding="utf-8", newline="") as file:
        first, second = csv.DictReader(file)
    assert first["setting"] == "base" and float(first["judge"]) == pytest.approx(kept[0]["judge"][0], rel=1e-5) and second["kl_low"] == ""


def test_a_cell_goes_to_json_and_back():
    found = cell("base", "a\u2028", 0, 1.0)
    assert from_json(Cell, json.dumps(asdict(found))) == found


def test_large_sweeps_run_in_shards_of_equal_size_and_many_rows_count_as_many(tmp_path, made, monkeypatch):
    monkeypatch.setattr(sweep, "SHARD", 4)
    monkeypatch.setattr(sweep, "AT_ONCE", 2)
    run(tmp_path, (BASE, BEST), ["a", "b", "c"], (0, 1))
    assert made == [3, 3, 2, 2, 2] and len(shards(tmp_path)) == 5


def test_a_column_that_fails_is_named(tmp_path):
    import torch

    class Broken(torch.nn.Linear):
        def forward(self, x):
            return super().forward(x) * float("nan")

    broken = Models(MODELS.base_lm, {"one": replace(MODELS.reward_models["one"], head=Broken(32, 1, bias=False))})
    with pytest.raises(BadData, match=r"`pargs · one · beta 2` failed on 'a'\. .*not finite"):
        run_sweep(broken, [PARGS], ["a"], GENERATION, [0], JUDGE, tmp_path)


@pytest.mark.slow
def test_a_sweep_that_is_killed_again_and_again_equals_one_that_is_not(tmp_path, folders):
    (tmp_path / "prompts.txt").write_text("".join(f"the food number {'and again ' * (i % 5)}{i}\n" for i in range(30)))
    arguments = ["--prompts", str(tmp_path / "prompts.txt"), "--base-lm", folders["lm"], "--observe", folders["judge"], "--max-new-tokens", "12"]
    for guided in ("pargs:beta=2", "best-of-n:n=4", "particles:m=4"):
        arguments += ["--run", f"{guided},reward_model={folders['partial']}"]
    command = [sys.executable, "-m", "rgtg", "sweep", *arguments, "--run", "base", "--seeds", "2", "--yes", "--out"]
    env = os.environ | {"RGTG_DATA_DIR": str(tmp_path / "data"), "OMP_NUM_THREADS": "1"}
    subprocess.run([*command, str(tmp_path / "whole")], env=env, check=True, stdout=subprocess.DEVNULL)
    dice, killed, out = random.Random(7), 0, tmp_path / "killed"
    while True:
        seen = len(list((out / SHARDS).glob("*.jsonl")))
        process = subprocess.Popen([*command, str(out)], env=env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        while process.poll() is None and (killed == 8 or len(list((out / SHARDS).glob("*.jsonl"))) < seen + 1):
            time.sleep(0.002)  # until it has written something: the moment after that is chance
        time.sleep(dice.uniform(0, 0.1))
        if process.poll() is not None:
            assert process.returncode == 0
            break
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
        killed += 1
    assert killed >= 3 and not ({path.suffix for path in shards(out)} - {".jsonl", ".part"})
    for name in (RESULTS, *TABLES):
        assert (out / name).read_bytes() == (tmp_path / "whole" / name).read_bytes(), name
