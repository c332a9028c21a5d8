"""Sweeps over tiny models: nothing made twice, nothing lost, and a table that says what was measured."""

import json
import logging
from dataclasses import asdict, replace

import pytest
from tiny_models import tiny_lm, tiny_reward

from rgtg.config import GenerationConfig
from rgtg.engine import Models
from rgtg.errors import BadData
from rgtg.evaluation import sweep
from rgtg.evaluation.sweep import Cell, label, run_sweep, summary, write_table
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

    def counted(runs, models):
        sizes.append(len(runs))
        return generate(runs, models)

    generate = sweep.generate
    monkeypatch.setattr(sweep, "generate", counted)
    return sizes


def run(out, columns=(BASE, PARGS), prompts=PROMPTS, seeds=(0, 1), generation=GENERATION, judge=JUDGE) -> list[Cell]:
    return run_sweep(MODELS, columns, prompts, generation, seeds, judge, out)


def lines(out) -> list[bytes]:
    return (out / "cells.jsonl").read_bytes().split(b"\n")[:-1]


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
    assert [from_json(Cell, line.decode()) for line in lines(tmp_path)] == first


def test_a_broken_sweep_goes_on_with_what_is_missing(tmp_path, made):
    whole = run(tmp_path / "whole")
    made.clear()
    run(tmp_path / "broken", (BASE,), seeds=(0,))
    same(run(tmp_path / "broken"), whole)
    assert sum(made) == 3 + 9 and len(lines(tmp_path / "broken")) == 12


@pytest.mark.parametrize("cut", [1, 40])
def test_a_torn_last_line_is_made_again(tmp_path, made, caplog, cut):
    whole = run(tmp_path)
    path = tmp_path / "cells.jsonl"
    path.write_bytes(path.read_bytes()[:-cut])  # without its line end, or half
    made.clear()
    with caplog.at_level(logging.WARNING):
        same(run(tmp_path), whole)
    assert sum(made) == 1 and "torn" in caplog.text
    assert len(lines(tmp_path)) == 12 and [from_json(Cell, line.decode()) for line in lines(tmp_path)]


@pytest.mark.parametrize("line", [b"{}", b"[]", b"nonsense", b"\xff"])
def test_a_line_that_is_no_cell_is_named(tmp_path, line):
    run(tmp_path, (BASE,), ["a"], (0,))
    (tmp_path / "cells.jsonl").write_bytes((tmp_path / "cells.jsonl").read_bytes() + line + b"\n")
    with pytest.raises(BadData, match=r"Line 2 of .*cells\.jsonl is not a cell.* Delete that line"):
        run(tmp_path, (BASE,), ["a"], (0,))


def test_other_settings_models_or_judges_make_other_cells(tmp_path, made):
    run(tmp_path, (PARGS,), ["a"], (0,))
    for change in (
        {"generation": replace(GENERATION, temperature=0.5)},
        {"columns": (replace(PARGS, params=(("beta", 3.0),)),)},
        {"columns": (replace(PARGS, reward_model="two"),)},
        {"judge": tiny_reward("llama", 4, "judge")},
        {"seeds": (1,)},
        {"prompts": ["b"]},
    ):
        made.clear()
        run(tmp_path, **{"columns": (PARGS,), "prompts": ["a"], "seeds": (0,)} | change)
        assert made == [1]


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
    ((_, run),) = sweep._runs(MODELS, column, ["a"], GENERATION, [0], MODELS.reward_models["one"])
    assert run.combine == "min" and label(run) == "pargs · one + two*0.5 · min · beta 2"


def test_two_settings_that_differ_have_two_names():
    def named(column: ColumnSpec) -> str:
        return label(sweep.make_run("a", column.method, MODELS, column.params, column.reward_model, (), column.generation or GENERATION, 0))

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
    assert other["n"] == 1 and other["positive_minus_first"][0] != other["positive_minus_first"][0], "no pair: not a number"


def test_the_rows_hold_every_figure():
    (row,) = summary([cell("base", "a", 0, 1.0), replace(cell("base", "b", 0, -3.0), stop_reason="max_new_tokens", token_ids=(4, 6))])
    assert row == {
        "setting": "base", "n": 2, "positive": row["positive"], "positive_minus_first": (0.0, 0.0, 0.0), "ended": row["ended"],
        "log_prob": (-1.5, -1.5, -1.5), "kl": (0.5, 0.5, 0.5), "judge": row["judge"], "num_tokens": 3.0, "distinct_2": 0.75,
    }  # fmt: skip
    assert (row["positive"][0], row["ended"][0], row["judge"][0]) == (0.5, 0.5, -1.0)


def test_the_table_has_a_row_a_setting_and_is_kept(tmp_path):
    cells = run(tmp_path, (BASE, BEST))
    table = write_table(cells, tmp_path)
    head, rule, *rows = table.splitlines()
    assert (
        head
        == "| setting | n | judged positive, % | minus first row, paired | ended, % | log p per token | KL, same candidates | tokens | distinct-2 |"
    )
    assert rule.count("|") == head.count("|") and [row.count("|") for row in rows] == [head.count("|")] * 2
    assert rows[0].startswith("| base | 6 |") and "| 0 [0, 0] |" in rows[0] and rows[1].startswith("| best-of-n · one · n 2 | 6 |")
    assert "| – |" in rows[1] and "| – |" not in rows[0], "best-of-n has no step distribution"
    assert (tmp_path / "table.md").read_text(encoding="utf-8") == table
    kept = json.loads((tmp_path / "table.json").read_text(encoding="utf-8"))
    assert kept == json.loads(json.dumps(summary(cells)))


def test_a_cell_goes_to_json_and_back():
    found = cell("base", "a\u2028", 0, 1.0)
    assert from_json(Cell, json.dumps(asdict(found))) == found


def test_large_sweeps_run_in_batches_and_many_rows_count_as_many(tmp_path, made, monkeypatch):
    monkeypatch.setattr(sweep, "BATCH", 4)
    run(tmp_path, (BASE, BEST), ["a", "b", "c"], (0, 1))
    assert made == [4, 2, 2, 2, 2]


def test_a_column_that_fails_is_named(tmp_path):
    import torch

    class Broken(torch.nn.Linear):
        def forward(self, x):
            return super().forward(x) * float("nan")

    broken = Models(MODELS.base_lm, {"one": replace(MODELS.reward_models["one"], head=Broken(32, 1, bias=False))})
    with pytest.raises(BadData, match=r"`pargs · one · beta 2` failed on 'a'\. .*not finite"):
        run_sweep(broken, [PARGS], ["a"], GENERATION, [0], JUDGE, tmp_path)
