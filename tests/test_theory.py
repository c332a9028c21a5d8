"""The toy on the Help page, to its digits."""

import json
import math
from types import SimpleNamespace

import gradio as gr
import numpy as np
import pytest

from pages.theory import ToyPanel, now
from rgtg.errors import BadSettings
from rgtg.evaluation.theory import INNER, Toy, soft_value
from rgtg.workbench.report import demonstration


@pytest.fixture(scope="module")
def toy() -> Toy:
    return Toy.drawn()


def figures(toy: Toy, values) -> tuple[float, ...]:
    f = toy.figures(values)
    return tuple(round(x, 3) for x in (f.reward, f.kl, f.objective, f.distance, f.greedy))


def test_every_row_of_the_table_has_the_digits_that_it_should(toy):
    assert figures(toy, toy.random) == (0.275, 1.154, -0.612, 0.547, 0.083)
    assert figures(toy, toy.partial_values()) == (0.707, 0.433, 0.374, 0.123, 0.917)
    assert figures(toy, toy.backed_up(math.inf)) == (0.757, 0.534, 0.346, 0.162, 0.917)
    assert figures(toy, toy.backed_up(1 / toy.beta)) == (0.800, 0.495, 0.419, 0.000, 1.816)
    assert figures(toy, toy.backed_up(0.0)) == (0.693, 0.545, 0.274, 0.248, 1.816)
    assert max(toy.rewards.values()) == pytest.approx(1.816, abs=5e-4)


def test_a_loss_on_complete_answers_is_the_same_for_opposite_prefixes_and_guidance_is_not(toy):
    opposite = {prefix: -value for prefix, value in toy.random.items()}
    assert round(toy.full_loss(toy.random), 6) == round(toy.full_loss(opposite), 6) == 0.510253
    assert (round(toy.figures(toy.random).reward, 3), round(toy.figures(opposite).reward, 3)) == (0.275, -0.020)


def test_partial_training_is_at_its_lowest_loss_and_an_offset_at_a_length_is_free(toy):
    trained = toy.partial_values()
    lowest = toy.partial_loss(trained)
    for seed in range(5):
        generator = np.random.default_rng(seed)
        assert toy.partial_loss({p: v + 0.05 * generator.normal() for p, v in trained.items()}) > lowest
    moved = {prefix: value + 3.0 * len(prefix) for prefix, value in trained.items()}
    assert toy.partial_loss(moved) == pytest.approx(lowest) and toy.policy(moved) == pytest.approx(toy.policy(trained))


def test_the_token_wise_rule_is_a_ratio_of_two_policies_for_any_values(toy):
    for values in (toy.random, toy.partial_values(), dict.fromkeys(INNER, 0.0)):
        assert toy.ratio_gap(values) < 1e-15


def test_the_soft_value_alone_reaches_the_optimum(toy):
    soft = toy.backed_up(1 / toy.beta)
    assert toy.policy(soft) == pytest.approx(toy.optimum, abs=1e-12) and round(toy.figures(soft).objective, 4) == 0.4192
    best = toy.figures(soft).objective
    assert all(toy.figures(values).objective < best - 1e-3 for values in (toy.partial_values(), toy.backed_up(math.inf), toy.backed_up(0.0)))


def test_the_smallest_example_of_mean_maximum_and_soft_value():
    a, b, uniform = np.array([10.0, -10, -10]), np.array([1.0, 1, 1]), np.ones(3) / 3
    assert [round(soft_value(a, uniform, tau), 2) for tau in (math.inf, 0.0, 1.0)] == [-3.33, 10.0, 8.9]
    assert soft_value(b, uniform, 1.0) == pytest.approx(1.0) and soft_value(a, uniform, 11.02) == pytest.approx(1.0, abs=2e-3)


def test_the_page_computes_what_is_dragged_and_the_loss_stays():
    panel = ToyPanel()
    first = json.loads(panel.value())
    assert len(first["names"]) == len(first["rows"][0]["values"]) == 39 and first["names"][:4] == ["a", "b", "c", "aa"]
    dragged = json.loads(panel.drag()(SimpleNamespace(_data={"values": [1.0, *first["rows"][4]["values"][1:]], "number": 3})))
    assert dragged["loss"] == first["loss"] == "0.510253" and dragged["number"] == 3
    assert dragged["now"] != first["rows"][4]["cells"][1:] == now(demonstration.choices()[4])["now"]
    assert first["rows"][4]["cells"] == ["Soft value, τ = 1/β", "+0.800", "0.495", "+0.419", "0.000", "1.816", "0.6097"]


@pytest.mark.parametrize("values", [[], [0.0] * 38, [0.0] * 38 + [math.nan], [0.0] * 38 + [4.1], [0.0] * 38 + ["1"], [0.0] * 38 + [True], None])
def test_values_that_are_none_are_refused(values):
    with pytest.raises(gr.Error):
        ToyPanel().drag()(SimpleNamespace(_data={"values": values, "number": 1}))
    if values is not None:
        with pytest.raises(BadSettings, match="39 values"):
            demonstration.choice(values)
