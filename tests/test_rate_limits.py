"""Rate limits and the names under which addresses are counted."""

import pytest

from rgtg.errors import TooMany
from rgtg.system import rate_limits
from rgtg.system.rate_limits import RateLimits, RotatingHash, network_of


def test_one_is_refused_in_words_and_others_are_not():
    limits = RateLimits()
    for _ in range(3):
        limits.check("vote", "ann", "3/hour; 100/day")
    with pytest.raises(TooMany, match=r"You cannot vote more than 3 times per hour\. Try again in \d+ (minutes|hours|seconds?)\."):
        limits.check("vote", "ann", "3/hour; 100/day")
    limits.check("vote", "bob", "3/hour; 100/day")
    limits.check("undo", "ann", "3/hour; 100/day")


def test_a_refused_attempt_counts_towards_no_other_limit():
    limits = RateLimits()
    limits.check("vote", "ann", "1/hour; 2/day")
    for _ in range(5):
        with pytest.raises(TooMany, match="once per hour"):
            limits.check("vote", "ann", "1/hour; 2/day")
    limits.check("vote", "ann", "2/day")
    with pytest.raises(TooMany, match="2 times per day"):
        limits.check("vote", "ann", "2/day")


def test_names_without_end_do_not_fill_the_memory(monkeypatch):
    monkeypatch.setattr(rate_limits, "MAX_COUNTERS", 50)
    limits = RateLimits()
    for number in range(200):
        limits.check("vote", f"rater {number}", "3/day")
    assert len(limits._storage.storage) <= 51


def test_an_address_has_a_name_that_changes_every_day():
    now = [0.0]
    name = RotatingHash(lambda: now[0])
    first = name("9.9.9.9")
    assert name("9.9.9.9") == first != name("9.9.9.8") and "9.9" not in first and RotatingHash()("9.9.9.9") != first
    now[0] = rate_limits.ROTATE_EVERY
    assert name("9.9.9.9") != first


def test_whoever_has_a_network_is_one():
    assert network_of("2001:db8:1:2:3:4:5:6") == network_of("2001:db8:1:2::") != network_of("2001:db8:1:3::")
    assert network_of("::ffff:9.9.9.9") == network_of("9.9.9.9") and network_of("fe80::1%eth0") == "fe80::" and network_of("?") == "?"
