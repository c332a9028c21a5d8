"""Trainings of one kind with different random seeds are one row of a sweep's table, with intervals that know of both."""

import math
import statistics

import pytest
import torch

from rgtg.cli.main import main
from rgtg.errors import BadSettings
from rgtg.evaluation.cells import Cell
from rgtg.evaluation.frontier import at_kl, frontier_figure, matched_table, minus_at_kl
from rgtg.evaluation.metrics import crossed_interval, grouped_interval
from rgtg.evaluation.table import summary
from rgtg.evaluation.training_seeds import over_seeds, training_seed


@pytest.mark.parametrize(
    ("setting", "number", "name"),
    [
        ("pargs · partial-0 · beta 2", "0", "pargs · partial-* · beta 2"),
        ("pargs · partial-0*2 + full-12*0.5 · min · beta 2", "0, 12", "pargs · partial-**2 + full-**0.5 · min · beta 2"),
        ("args · mood-3[joy] · beta 2", "3", "args · mood-*[joy] · beta 2"),
        ("pargs · partial · beta 2", "", ""),
        ("base", "", ""),
        ("base · temperature 0.5", "", ""),
        ("sampling · threshold 1e-05", "", ""),
        ("sampling · threshold -3", "", ""),
    ],
)
def test_only_a_number_behind_a_models_name_is_a_training(setting, number, name):
    other = setting.replace("-0", "-1").replace("-12", "-13").replace("-3[", "-4[")
    assert training_seed(setting) == number
    assert over_seeds([setting, other]).get(setting, "") == name
    assert over_seeds([setting]) == {}, "a training alone keeps its name"


def cells(model: str, beta: float, kl: float, judge: float, prompts: int = 12, spread: float = 0.0) -> list[Cell]:
    setting = f"pargs · {model} · beta {beta:g}" if model else "base"
    return [
        Cell(f"{setting}{i}", setting, f"prompt {i}", 7, "x", (4, 5), "eos", judge + spread * (-1) ** i, None, -1.0, kl, 0.0, 2, 2)
        for i in range(prompts)
    ]  # fmt: skip


def trained(name: str, judges: list[float], gain: float = 1.0) -> list[Cell]:
    """Trainings whose judge at KL 2 and 4 is `judge` and `judge + gain`."""
    return [c for seed, judge in enumerate(judges) for beta in (1, 2) for c in cells(f"{name}-{seed}", beta, 2.0 * beta, judge + gain * (beta - 1))]


ALL = [*cells("", 0, 0.0, 0.0), *trained("partial", [1.0, 2.0, 3.0]), *trained("full", [0.0, 0.5, 1.0])]


def test_trainings_are_one_row_whose_interval_knows_of_them():
    apart, together = summary(ALL), summary(ALL, together=True)
    assert len(apart) == 13 and "num_trainings" not in apart[0]
    assert [(row["setting"], row["n"], row["num_prompts"], row["num_trainings"]) for row in together] == [
        ("base", 12, 12, 0), ("pargs · partial-* · beta 1", 36, 12, 3), ("pargs · partial-* · beta 2", 36, 12, 3),
        ("pargs · full-* · beta 1", 36, 12, 3), ("pargs · full-* · beta 2", 36, 12, 3),
    ]  # fmt: skip
    value, low, high = together[1]["judge"]
    assert value == 2.0 and (low, high) == (1.0, 3.0), "of three trainings two are drawn: their means are 1, 1.5, …, 3"
    assert apart[1]["judge"] == (1.0, 1.0, 1.0), "prompts alone say nothing of it"
    assert together[1]["positive_minus_first"] == pytest.approx((1.0, 1.0, 1.0))


def test_where_the_first_row_has_several_trainings_those_of_one_number_are_paired():
    rows = summary([*trained("full", [0.0, 1.0]), *trained("partial", [-1.0, 1.0], gain=0.0)], together=True)
    assert rows[3]["setting"] == "pargs · partial-* · beta 2" and rows[3]["positive"][0] == 0.5
    assert rows[2]["positive_minus_first"][0] == 0.0, "full-0 is not above zero, nor is partial-0; full-1 is, and partial-1"


def test_one_training_has_the_interval_over_prompts():
    rows = [("0", f"prompt {i}", float(i % 3), 1.0) for i in range(20)]
    assert crossed_interval(rows) == grouped_interval([row[1:] for row in rows])


def test_the_interval_is_as_wide_as_the_spread_of_trainings_and_prompts_makes_it():
    dice, covered, rounds = torch.Generator().manual_seed(0), 0, 200
    for number in range(rounds):
        of_training, of_prompt = torch.randn(10, generator=dice), torch.randn(30, generator=dice)
        noise = 0.5 * torch.randn(10, 30, generator=dice)
        rows = [(str(t), str(p), float(of_training[t] + of_prompt[p] + noise[t, p]), 1.0) for t in range(10) for p in range(30)]
        _, low, high = crossed_interval(rows, seed=number, draws=400)
        covered += low <= 0 <= high
    assert 0.87 <= covered / rounds <= 0.98


def test_at_equal_kl_each_training_is_interpolated_and_differences_are_paired():
    apart = at_kl(ALL, 3.0)
    assert apart["pargs · partial-1"] == pytest.approx((2.5, 2.5, 2.5)) and "pargs · partial-*" not in apart
    together = at_kl(ALL, 3.0, together=True)
    assert together["pargs · partial-*"] == pytest.approx((2.5, 1.5, 3.5)) and together["pargs · full-*"][0] == pytest.approx(1.0)
    difference = minus_at_kl(ALL, 3.0, "pargs · full-*", together=True)
    assert list(difference) == ["pargs · partial-*"] and difference["pargs · partial-*"][0] == pytest.approx(1.5)
    assert 0.0 <= difference["pargs · partial-*"][1] < 0.6 and 2.4 < difference["pargs · partial-*"][2] <= 3.0, "drawn independently"
    table = matched_table(ALL, [3.0], together=True, minus="pargs · full-*").splitlines()
    assert table[0] == "| judge at equal KL, minus pargs · full-* | 3 nats |" and table[2].startswith("| pargs · partial-* | 1.50 [")
    with pytest.raises(BadSettings, match=r"There is no `args` with a KL. There are: `base`, `pargs · partial-\*`"):
        minus_at_kl(ALL, 3.0, "args", together=True)


def test_prompts_that_are_hard_for_both_leave_a_paired_difference_narrow():
    one = [c for kl in (2.0, 4.0) for c in cells("one", kl, kl, kl, spread=3.0)]
    two = [c for kl in (2.0, 4.0) for c in cells("two", kl, kl, kl + 1.0, spread=3.0)]
    alone, paired = at_kl([*one, *two], 3.0)["pargs · two"], minus_at_kl([*one, *two], 3.0, "pargs · one")["pargs · two"]
    assert alone[2] - alone[1] > 2.0 and paired == pytest.approx((1.0, 1.0, 1.0))


def test_a_training_that_does_not_reach_the_kl_leaves_its_family_out():
    assert "pargs · partial-*" not in at_kl([*ALL, *cells("partial-3", 1, 0.5, 1.0)], 4.0, together=True)


def test_the_figure_has_one_line_for_the_trainings():
    assert [trace.name for trace in frontier_figure(ALL, together=True).data] == ["base", "pargs · partial-*", "pargs · full-*"]
    assert list(frontier_figure(ALL, together=True).data[1].y) == pytest.approx([2.0, 3.0])
    assert statistics.fmean(frontier_figure(ALL, together=True).data[1].error_y.array) > 0.5 and not math.isnan(at_kl(ALL, 3.0)["pargs · full-0"][0])


def test_the_terminal_prints_and_keeps_the_table_over_seeds(tmp_path, capsys):
    from rgtg.evaluation.shards import SweepFolder

    SweepFolder(tmp_path).merge(ALL)
    assert main(["sweep", "--table", str(tmp_path), "--over-seeds", "--at-kl", "3", "--minus", "pargs · full-*"]) == 0
    printed = capsys.readouterr().out
    assert "| pargs · partial-* · beta 1 | 36 | 3 |" in printed and "| pargs · partial-* | 2.50 [" in printed
    assert "| judge at equal KL, minus pargs · full-* | 3 nats |" in printed
    assert {path.name for path in tmp_path.iterdir()} == {"results.jsonl", *(f"table-over-seeds.{suffix}" for suffix in ("md", "csv", "json"))}
    assert main(["sweep", "--table", str(tmp_path), "--minus", "base"]) == 2
