"""The threshold that a segment has to reach, by hand."""

from math import inf

import pytest

from rgtg.guidance.segments import CARDS


def test_the_threshold_rises_from_between_the_prompts_reward_and_its_own():
    rule = CARDS(threshold=2.0, alpha=0.5)
    assert [rule.threshold_at(t, -1.0, 10) for t in (0, 4, 10)] == pytest.approx([0.5, 0.5 + 4 * 1.5 / 10, 2.0])


@pytest.mark.parametrize(("alpha", "first"), [(0.0, -1.0), (1.0, 2.0)])
def test_alpha_says_where_it_begins(alpha: float, first: float):
    assert CARDS(threshold=2.0, alpha=alpha).threshold_at(0, -1.0, 10) == first


def test_a_prompt_above_the_threshold_asks_for_no_more_than_it():
    assert [CARDS(threshold=2.0).threshold_at(t, 6.0, 10) for t in (0, 5, 10)] == [2.0, 2.0, 2.0]


def test_without_a_threshold_everything_is_kept():
    assert CARDS(threshold=-inf).threshold_at(3, -1.0, 10) == -inf
