"""Who begins next, where only so many can work at once."""

from rgtg.system.room import next_to_begin


def test_without_a_limit_all_begin():
    assert next_to_begin({2: 1, 5: 40}, busy=3, at_once=None) == [2, 5]


def test_they_begin_in_order_as_far_as_there_is_room():
    assert next_to_begin({0: 3, 1: 3, 2: 3, 3: 1}, busy=0, at_once=8) == [0, 1], "the last one would fit, but it is not its turn"
    assert next_to_begin({2: 3}, busy=5, at_once=8) == [2] and next_to_begin({2: 4}, busy=5, at_once=8) == []


def test_one_that_is_larger_than_all_places_begins_alone():
    assert next_to_begin({4: 64, 5: 1}, busy=0, at_once=8) == [4]
    assert next_to_begin({4: 64, 5: 1}, busy=1, at_once=8) == []


def test_several_begin_at_a_time():
    assert next_to_begin({1: 1}, busy=7, at_once=8) == [] and next_to_begin({1: 1, 2: 1, 3: 1}, busy=6, at_once=8) == [1, 2]
