"""Rewards of several guides become one."""

import pytest
import torch

from rgtg.errors import BadSettings
from rgtg.rewards.combine import COMBINE, combine, weighted_sum


def test_the_weighted_sum_of_two_guides():
    first, second = torch.tensor([1.0, 2.0, -4.0]), torch.tensor([10.0, 0.0, 2.0])
    assert weighted_sum([first, second], [2.0, 0.5]).tolist() == [7.0, 4.0, -7.0]
    assert first.tolist() == [1.0, 2.0, -4.0]


def test_one_guide_of_weight_one_is_its_rewards():
    assert weighted_sum([torch.tensor([0.1, -3.0])], [1.0]).tolist() == torch.tensor([0.1, -3.0]).tolist()


GOOD_AND_BAD = [torch.tensor([2.0, -4.0]), torch.tensor([1.0, 3.0])]  # two guides' rewards of two candidates


@pytest.mark.parametrize(
    ("way", "weights", "expected"),
    [
        ("sum", [1.0, 0.5], [2.5, -2.5]),
        ("logsigmoid", [1.0, 2.0], [-0.126928 - 2 * 0.313262, -4.018150 - 2 * 0.048587]),
        ("min", [1.0, 1.0], [1.0, -4.0]),
        ("min", [1.0, 4.0], [2.0, -4.0]),
        ("mean-var", [1.0, 1.0], [1.5 - 0.5 * 0.25, -0.5 - 0.5 * 12.25]),
        ("mean-var(0)", [1.0, 1.0], [1.5, -0.5]),
        ("centred", [1.0, 2.0], [0.380797 + 2 * 0.231059, -0.482014 + 2 * 0.452574]),
        ("clamped", [1.0, 1.0], [3.0, -1.0]),
        ("clamped(1.5)", [2.0, 1.0], [4.0, -1.5]),
    ],
)
def test_every_way_on_two_guides(way, weights, expected):
    assert combine(way)(GOOD_AND_BAD, weights).tolist() == pytest.approx(expected, abs=1e-5)
    assert GOOD_AND_BAD[0].tolist() == [2.0, -4.0], "its input is left alone"


@pytest.mark.parametrize("way", COMBINE)
def test_one_guide_of_weight_one_keeps_the_order_of_its_candidates(way):
    rewards = torch.tensor([-1.0, 0.5, 2.0])
    assert combine(way)([rewards], [1.0]).argsort().tolist() == [0, 1, 2]


@pytest.mark.parametrize("way", ["product", "sum(2)", "min(", "mean-var(x)", "mean-var(-1)", "clamped(nan)", "clamped(inf)", ""])
def test_a_way_that_there_is_not_is_refused(way):
    with pytest.raises(BadSettings):
        combine(way)


@pytest.mark.parametrize("key", COMBINE)
def test_every_way_says_its_formula_and_its_number(key):
    assert "_j" in COMBINE[key].about and COMBINE[key].title
    assert (COMBINE[key].symbol in COMBINE[key].about) and combine(key)([torch.ones(1)], [1.0]).shape == (1,)
    if COMBINE[key].number:
        assert combine(f"{key}({COMBINE[key].default})")(GOOD_AND_BAD, [1.0, 2.0]).tolist() == combine(key)(GOOD_AND_BAD, [1.0, 2.0]).tolist()


def test_a_way_is_asked_for_by_name():
    assert combine("sum") is weighted_sum
    with pytest.raises(BadSettings, match="no combination of rewards `product`"):
        combine("product")
