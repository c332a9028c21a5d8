"""Judge against KL: settings that differ in a number are one line, and at one KL they are compared by interpolation."""

import dataclasses
import math

import pytest

from rgtg.evaluation.cells import Cell
from rgtg.evaluation.frontier import AT_MOST, at_kl, families, family, frontier_figure, matched_table
from rgtg.guidance.methods import METHODS
from rgtg.guidance.sequences import BestOfN, BestOfPoisson, SoftBestOfN, SpeculativeRejection


def cells(setting: str, kl: float | None, judge: float, spread: float = 0.0, prompts: int = 20) -> list[Cell]:
    return [
        Cell(f"{setting}{i}", setting, f"prompt {i}", 0, "x", (4, 5), "eos", judge + spread * (-1) ** i, None, -1.0, None if kl is None else kl)
        for i in range(prompts)
    ]


ALL = [
    *cells("base", 0.0, 0.0),
    *cells("pargs · one · beta 2", 4.0, 3.0),
    *cells("pargs · one · beta 1", 2.0, 2.0),
    *cells("args · two · beta 1", 3.0, 1.0, 0.5),
    *cells("args · two · beta 4", 5.0, 2.0, 0.5),
    *cells("best-of-n · one · n 4", None, 9.0),
]


@pytest.mark.parametrize(
    ("setting", "name"),
    [
        ("base", "base"),
        ("pargs · one · beta 2", "pargs · one"),
        ("pargs · one*2 + two*0.5 · min · beta 2 · pick greedy", "pargs · one*2 + two*0.5 · min · pick greedy"),
        ("cards · one · threshold -inf · tries 3", "cards · one"),
    ],
)
def test_what_differs_in_numbers_alone_is_one_family(setting, name):
    assert family(setting) == name


def test_points_are_in_the_order_of_their_kl_and_what_has_none_is_left_out():
    found = families(ALL)
    assert list(found) == ["base", "pargs · one", "args · two"]
    assert [(p.setting, p.kl[0], p.judge[0]) for p in found["pargs · one"]] == [
        ("pargs · one · beta 1", 2.0, 2.0),
        ("pargs · one · beta 2", 4.0, 3.0),
    ]


def test_the_judge_at_one_kl_is_interpolated_between_two_weights():
    found = at_kl(ALL, 3.0)
    assert found["pargs · one"] == pytest.approx((2.5, 2.5, 2.5)) and found["args · two"][0] == pytest.approx(1.0)
    assert found["args · two"][1] < 1.0 < found["args · two"][2], "its judge differs from prompt to prompt"
    assert "base" not in found and "best-of-n · one" not in found


def test_where_a_method_does_not_reach_there_is_nothing_but_a_near_point_counts():
    assert "pargs · one" in at_kl(ALL, 4.4) and "pargs · one" not in at_kl(ALL, 6.0) and "pargs · one" not in at_kl(ALL, 1.0)


def test_the_table_at_equal_kl_has_the_best_on_top():
    head, _, *rows = matched_table(ALL, [3.0, 5.0]).splitlines()
    assert head == "| judge at equal KL | 3 nats | 5 nats |"
    assert rows[0] == "| pargs · one | 2.50 [2.50, 2.50] | – |" and rows[1].startswith("| args · two | 1.00 [") and len(rows) == 2


def test_the_figure_has_a_line_for_each_family():
    figure = frontier_figure(ALL)
    assert [trace.name for trace in figure.data] == ["base", "pargs · one", "args · two"] and list(figure.data[1].x) == [2.0, 4.0]
    assert "KL" in figure.layout.xaxis.title.text and "judge" in figure.layout.yaxis.title.text
    assert frontier_figure(cells("best-of-n · one · n 4", None, 1.0)).layout.annotations[0].text == "No setting has a KL."


def test_the_axis_tells_halves_of_a_nat_apart():
    assert frontier_figure(ALL).layout.xaxis.tickformat is None


def test_where_no_kl_but_a_bound_is_known_it_stands_for_the_kl_and_is_named():
    best = [dataclasses.replace(c, kl_bound=1.5) for c in cells("best-of-n · one · n 8", None, 2.5)]
    best += [dataclasses.replace(c, kl_bound=2.5) for c in cells("best-of-n · one · n 16", None, 3.5)]
    found = families([*ALL, *best])["best-of-n · one"]
    assert [(p.kl, p.judge[0], p.at_most) for p in found] == [((1.5, 1.5, 1.5), 2.5, True), ((2.5, 2.5, 2.5), 3.5, True)]
    assert at_kl([*ALL, *best], 2.0)["best-of-n · one"] == pytest.approx((3.0, 3.0, 3.0))
    table = matched_table([*ALL, *best], [2.0])
    assert f"| best-of-n · one{AT_MOST} | 3.00 [3.00, 3.00] |" in table and "| pargs · one | 2.00" in table


@pytest.mark.parametrize("n", [1, 2, 4, 16])
def test_the_kl_of_best_of_n_is_at_most_its_bound_and_near_it_where_answers_are_many(n):
    """Exactly, over outcomes in the order of their reward: P(best is i) = F(i)^n − F(i − 1)^n."""
    for probs, near in (([0.5, 0.3, 0.2], math.inf), ([1 / 1000] * 1000, 0.01)):
        kl, below = 0.0, 0.0
        for prob in probs:
            best = (below + prob) ** n - below**n
            kl, below = kl + best * math.log(best / prob), below + prob
        bound = BestOfN(n=n).kl_bound
        assert kl <= bound + 1e-9 and bound - kl < near
    kin = SoftBestOfN(n=n), SpeculativeRejection(n=n), BestOfPoisson(mu=n - 1.0)
    assert all(math.isclose(one.kl_bound, math.log(n), abs_tol=1e-12) for one in kin), "no answer is more than n times as probable"
    assert METHODS["block-best-of-k"].make(()).kl_bound is None
