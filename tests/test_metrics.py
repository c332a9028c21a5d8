"""Figures on numbers small enough to reckon by hand."""

import math

import pytest
import torch

from rgtg.evaluation.metrics import distinct_n, equal_error_threshold, grouped_interval, prefix_accuracy

CHOSEN = torch.tensor([[1.0, 2.0, 3.0], [0.0, 5.0, 9.0], [1.0, 1.0, 1.0]])
REJECTED = torch.tensor([[0.0, 2.0, 4.0], [1.0, 4.0, 2.0], [1.0, 0.0, 2.0]])
CHOSEN_LENGTHS = torch.tensor([3, 2, 3])  # the 9 of the second pair lies past its end
REJECTED_LENGTHS = torch.tensor([3, 3, 3])


def accuracy(num_common: list[int], lengths=(1, 2, 3, 4)) -> dict:
    return prefix_accuracy(CHOSEN, REJECTED, CHOSEN_LENGTHS, REJECTED_LENGTHS, torch.tensor(num_common), lengths)


def test_accuracy_counts_wins_at_every_length_and_ties_as_one_half():
    found = accuracy([0, 0, 0])
    assert found["1"] == {"accuracy": 0.5, "n": 3}  # won, lost, tied
    assert found["2"] == {"accuracy": 0.8333, "n": 3}  # tied, won, won
    assert found["3"] == found["end"] == {"accuracy": 0.3333, "n": 3}  # lost, 5 held against 2: won, lost


def test_a_length_at_which_both_prefixes_are_the_same_does_not_count():
    found = accuracy([0, 0, 1])
    assert found["1"] == {"accuracy": 0.5, "n": 2} and found["2"]["n"] == 3
    assert accuracy([3, 0, 3])["end"] == {"accuracy": 1.0, "n": 1}


def test_the_shorter_response_keeps_its_final_reward():
    swapped = prefix_accuracy(REJECTED, CHOSEN, REJECTED_LENGTHS, CHOSEN_LENGTHS, torch.zeros(3, dtype=torch.long), (3,))
    assert swapped["3"] == {"accuracy": 0.6667, "n": 3}


def test_a_length_that_no_pair_reaches_is_left_out():
    assert list(accuracy([0, 0, 0])) == ["1", "2", "3", "end"]
    assert accuracy([3, 3, 3]) == {}


def test_what_lies_past_a_responses_end_is_never_read():
    spoiled = CHOSEN.clone()
    spoiled[1, 2] = torch.nan
    assert prefix_accuracy(spoiled, REJECTED, CHOSEN_LENGTHS, REJECTED_LENGTHS, torch.zeros(3, dtype=torch.long)) == accuracy([0, 0, 0])


def test_the_threshold_leaves_as_many_positives_below_as_negatives_above():
    assert equal_error_threshold([2.0, 3.0, 4.0], [-1.0, 0.0, 1.0]) == 1.5
    assert equal_error_threshold([1.0, 3.0, 4.0, 5.0], [0.0, 0.5, 2.0, -1.0]) == 1.5  # one of four on either side
    assert equal_error_threshold([0.0, 10.0], [-10.0, 1.0]) == 0.5


def test_the_threshold_is_a_share_and_not_a_count():
    # of two positives and four negatives: half below, half above
    assert equal_error_threshold([0.0, 3.0], [-2.0, -1.0, 1.0, 2.0]) == 0.5


def test_distinct_n_is_the_share_of_unique_grams_over_all_texts():
    assert distinct_n([[1, 2, 1, 2]], 2) == pytest.approx(2 / 3)
    assert distinct_n([[1, 2, 3], [1, 2, 4]], 2) == 0.75
    assert distinct_n([[1, 1, 1]], 1) == pytest.approx(1 / 3)
    assert math.isnan(distinct_n([[1], []], 2))


def test_grams_do_not_reach_over_the_border_of_two_texts():
    assert distinct_n([[1, 2], [3, 4], [2, 3]], 2) == 1.0
    assert distinct_n([[1, 2], [1, 2]], 2) == 0.5


def each(values: list[float]) -> list[tuple[str, float, float]]:
    """Every value a group of its own, with weight 1."""
    return [(str(number), value, 1.0) for number, value in enumerate(values)]


def test_the_interval_is_about_the_mean_and_the_same_each_time():
    mean, low, high = grouped_interval(each([0.0, 1.0] * 50))
    assert mean == 0.5 and (low, high) == pytest.approx((0.402, 0.598), abs=0.02)  # 0.5 ± 1.96 * 0.5 / 10
    assert grouped_interval(each([0.0, 1.0] * 50)) == (mean, low, high)


def test_one_value_or_none_has_an_interval_too():
    assert grouped_interval(each([3.0])) == (3.0, 3.0, 3.0)
    assert all(map(math.isnan, grouped_interval([])))


def test_a_group_is_drawn_as_one_and_weights_make_a_ratio():
    once = grouped_interval([("a", 0.0, 1.0), ("b", 1.0, 1.0), ("c", 5.0, 1.0)])
    assert once == pytest.approx(grouped_interval([(group, value, 1.0) for group, value in (("a", 0.0), ("b", 1.0), ("c", 5.0)) for _ in range(9)]))
    assert grouped_interval([("a", 6.0, 2.0), ("b", 0.0, 4.0)])[0] == 1.0, "6 nats over 6 tokens, not the mean of 3 and 0"


def test_the_interval_covers_the_truth_about_as_often_as_it_says():
    import random

    luck = random.Random(0)
    inside = 0
    for _ in range(200):
        _, low, high = grouped_interval(each([luck.gauss(1.0, 2.0) for _ in range(30)]), draws=200)
        inside += low <= 1.0 <= high
    assert 175 <= inside <= 199  # 95 % of 200 is 190; the bootstrap of 30 values is a little narrow
