"""Rewards of several guides become one."""

import pytest
import torch

from rgtg.errors import BadSettings
from rgtg.rewards.combine import combine, weighted_sum


def test_the_weighted_sum_of_two_guides():
    first, second = torch.tensor([1.0, 2.0, -4.0]), torch.tensor([10.0, 0.0, 2.0])
    assert weighted_sum([first, second], [2.0, 0.5]).tolist() == [7.0, 4.0, -7.0]
    assert first.tolist() == [1.0, 2.0, -4.0]


def test_one_guide_of_weight_one_is_its_rewards():
    assert weighted_sum([torch.tensor([0.1, -3.0])], [1.0]).tolist() == torch.tensor([0.1, -3.0]).tolist()


def test_a_combination_is_looked_up_by_name():
    assert combine("sum") is weighted_sum
    with pytest.raises(BadSettings, match="no combination of rewards `product`"):
        combine("product")
