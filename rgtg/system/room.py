"""Who begins next where only so many can work at once. Knows nothing of what the work is."""

from collections.abc import Mapping


def next_to_begin(waiting: Mapping[int, int], busy: int, at_once: int | None) -> list[int]:
    """Numbers of those in `waiting` ({number: its size}) that begin now, in order, where `busy` of `at_once` places are taken.

    Several begin at a time, once a quarter of the places is free; one that is larger than all places begins alone. None is no limit.

    >>> next_to_begin({3: 1, 4: 1, 5: 4}, busy=2, at_once=8), next_to_begin({3: 1}, busy=7, at_once=8)
    ([3, 4, 5], [])
    """
    if at_once is None:
        return list(waiting)
    chosen: list[int] = []
    if busy and at_once - busy < at_once / 4:
        return chosen
    for number, size in waiting.items():
        if (busy or chosen) and busy + size > at_once:
            break
        chosen.append(number)
        busy += size
    return chosen
