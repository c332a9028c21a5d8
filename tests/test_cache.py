"""Rows of one layer with one number a slot: what is copied, moved and kept."""

import torch

from rgtg.models.prefixes.cache import RowCache


def two_rows() -> RowCache:
    """Row 0 holds 1 2 3, row 1 holds 4 5 6; keys, and values as their negative."""
    cache = RowCache(num_layers=1, num_rows=2, capacity=4)
    cache.begin(first=0, high=0, num_slots=3)
    entries = torch.tensor([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]])[:, None, :, None]  # (rows, heads, slots, width)
    cache.update(entries, -entries, 0)
    return cache


def rows_of(cache: RowCache) -> list[list[float]]:
    (layer,) = cache.filled
    assert torch.equal(layer.keys, -layer.values)
    return layer.keys[:, 0, :, 0].tolist()


def test_a_copy_takes_only_the_slots_that_it_is_told_to():
    cache = two_rows()
    cache.copy([0], [1], 1, 3)
    assert rows_of(cache) == [[1, 2, 3, 0], [4, 2, 3, 0]]


def test_copies_read_what_was_there_before_the_call():
    cache = two_rows()
    cache.copy([0, 1], [1, 0], 0, 3)
    assert rows_of(cache) == [[4, 5, 6, 0], [1, 2, 3, 0]]


def test_swapped_rows_change_places_as_far_as_they_are_in_use():
    cache = two_rows()
    cache.swap(0, 1, 2)
    assert rows_of(cache) == [[4, 5, 3, 0], [1, 2, 6, 0]]


def test_the_candidate_that_was_taken_moves_to_where_its_row_goes_on():
    cache = two_rows()
    cache.keep([(0, 2, 1), (1, 1, 1)])  # the second is in its place
    assert rows_of(cache) == [[1, 3, 3, 0], [4, 5, 6, 0]]
    cache.keep([(0, 0, 2), (1, 2, 0)])
    assert rows_of(cache) == [[1, 3, 1, 0], [6, 5, 6, 0]]


def test_after_an_expanded_forward_the_winner_of_each_row_is_written():
    cache = two_rows()
    cache.begin(first=0, high=3, num_slots=4, expand=2)
    new = torch.tensor([7.0, 8.0, 9.0, 10.0])[:, None, None, None]  # two candidates of each row
    keys, _ = cache.update(new, -new, 0)
    assert keys[:, 0, :, 0].tolist() == [[1, 2, 3, 7], [1, 2, 3, 8], [4, 5, 6, 9], [4, 5, 6, 10]]
    assert rows_of(cache) == [[1, 2, 3, 0], [4, 5, 6, 0]]  # nothing is written before the choice
    cache.keep([(0, 1, 3), (1, 2, 3)])
    assert rows_of(cache) == [[1, 2, 3, 8], [4, 5, 6, 9]]


def test_more_room_at_least_doubles_and_keeps_what_there_is():
    cache = two_rows()
    cache.begin(first=0, high=3, num_slots=5)
    assert rows_of(cache) == [[1, 2, 3, 0, 0, 0, 0, 0], [4, 5, 6, 0, 0, 0, 0, 0]]
