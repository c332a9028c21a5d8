"""Reward models against people, on tables small enough to check by hand, and how their rewards are read from stored steps."""

import json
import math
from dataclasses import replace

import numpy as np
import pytest

from rgtg.ratings.battles import Answer, Ballot
from rgtg.ratings.reward_models import Preferred, Scored, against_people, calibration_of, lengths_to_read, preferences_of, share_of, slope_of
from rgtg.records import ModelRef
from rgtg.store import ballots
from rgtg.store.ballots import rewards_at
from rgtg.store.rows import steps_json
from tests.store_records import make_step

MODEL = ModelRef("partial", "1")


def answer(name: str, **changes) -> Answer:
    return Answer(name, "base", 5, 0, **{"text": f"text {name}"} | changes)


def compared(number: int, num_common: int = 0, group: str = "") -> Preferred:
    return Preferred(f"c{number}", group or f"c{number}", answer(f"{number}+"), answer(f"{number}-"), num_common)


def scored(*rewards: float, guides: frozenset = frozenset()) -> Scored:
    """An answer of so many tokens: the reward of each prefix."""
    return Scored(tuple(range(1, len(rewards) + 1)), {MODEL: rewards}, guides)


def test_accuracy_has_the_interval_of_wilson_and_dependent_pairs_count_as_fewer():
    share = share_of([1, 1, 0], [0, 1, 2])
    assert (share.value, share.n) == (pytest.approx(2 / 3), 3)
    assert (share.low, share.high) == (pytest.approx(0.2077, abs=1e-4), pytest.approx(0.9385, abs=1e-4))
    two_votes = share_of([1, 1, 0, 0], [0, 0, 1, 1])  # as good as two pairs
    assert two_votes.n == 4 and (two_votes.low, two_votes.high) == (pytest.approx(0.0945, abs=1e-4), pytest.approx(0.9055, abs=1e-4))
    certain = share_of([1, 1, 1, 1], [0, 0, 1, 1])
    assert certain.low == pytest.approx(2 / (2 + 1.96**2))


def test_an_equal_reward_counts_half_and_an_unscored_answer_not_at_all():
    pairs = [compared(0), compared(1), compared(2)]
    rewards = {"0+": scored(0.5, 1.0), "0-": scored(0.5, 0.0), "1+": scored(2.0), "1-": scored(9.0, 2.0), "2+": scored(1.0)}
    rewards["2-"] = Scored((1, 2), {MODEL: (1.0, None)})
    (found,) = against_people(pairs, rewards)
    assert (found.accuracy.value, found.accuracy.n, found.num_unscored) == (0.75, 2, 1)
    assert {n: (share.value, share.n) for n, share in found.by_length.items()} == {1: (0.25, 2), 2: (0.75, 2)}, "the shorter keeps its final reward"
    assert found.of_branches == {} and found.at_branch is None


def test_branch_votes_are_compared_from_the_token_where_they_part():
    rewards = {"0+": scored(7, 7, 7, 7, 1, 2), "0-": scored(7, 7, 7, 7, 3, 1), "1+": scored(5, 1), "1-": scored(5, 0)}
    (found,) = against_people([compared(0, num_common=4), compared(1, num_common=1)], rewards)
    assert {n: (share.value, share.n) for n, share in found.of_branches.items()} == {2: (1.0, 1)}, "5 is not among the lengths, 4 is common"
    assert (found.at_branch.value, found.at_branch.n, found.branches.value, found.branches.n) == (0.5, 2, 1.0, 2)
    assert lengths_to_read([compared(0, num_common=4)])["0+"] >= {1, 2, 4, 5, 8}


def test_calibration_and_slope_by_hand():
    gaps = np.array([1.0, 1.0, 1.0, -1.0])  # three of four for the higher reward, all by 1: log-odds log 3
    (bin,) = calibration_of(gaps, range(4))
    assert (bin.gap, bin.preferred.value, bin.preferred.n) == (1.0, 0.75, 4)
    slope, low, high = slope_of(10 * gaps, range(4))
    assert slope == pytest.approx(math.log(3) / 10)
    assert high - low == pytest.approx(2 * 1.96 / math.sqrt(4 * 0.75 * 0.25) / 10)
    assert slope_of(np.array([1.0, 2.0]), range(2)) is None, "nothing is against the reward: no finite slope"
    bins = calibration_of(np.arange(1.0, 61.0), range(60))
    assert [bin.gap for bin in bins] == [10.5, 30.5, 50.5] and all(bin.preferred.n == 20 for bin in bins)


def test_disagreements_come_largest_first_and_equal_votes_together_and_guided_answers_are_told_apart():
    rewards = {"0+": scored(1.0), "0-": scored(2.0), "1+": scored(0.0), "1-": scored(4.0), "2+": scored(1.0), "2-": scored(0.0)}
    rewards["2+"] = scored(1.0, guides=frozenset([MODEL]))
    (found,) = against_people([compared(0), compared(1), compared(2), compared(0)], rewards)
    assert [(one.comparison_id, one.gap, one.num_votes) for one in found.disagreements] == [("c1", 4.0, 1), ("c0", 1.0, 2)]
    assert (found.accuracy.value, found.apart.value, found.apart.n) == (0.25, 0.0, 3)


def test_a_best_vote_prefers_its_answer_to_each_other_one_that_differs_and_did_not_fail():
    root, branch = answer("r"), answer("b", parent_trace_id="r", branch_position=3)
    leaf = answer("l", parent_trace_id="b", branch_position=6)
    same, failed = answer("s", text=leaf.text), answer("f", failed=True)
    everything = (root, branch, leaf, same, failed)
    vote = Ballot("c", "rater", "best", "l", (root, leaf, same, failed), around=everything)
    found = preferences_of([vote, replace(vote, verdict="tie", best_trace_id=None)], {"c": "same answers"})
    assert [(one.group, one.chosen.id, one.rejected.id, one.num_common) for one in found] == [("same answers", "l", "r", 3)], (
        "the branch between was not seen"
    )


# ---- read from stored steps -------------------------------------------------------------------------


HOSTILE = (" a", '[1,11,"', 'x\n"\\', '],[3,13,"', " d")


def test_rewards_are_found_without_unpacking_the_steps_whatever_the_texts_are(monkeypatch):
    steps = [replace(make_step(i, 10 + i, text), rewards=(("partial", i + 0.5), ("judge", -1e-07 * i))) for i, text in enumerate(HOSTILE)]
    steps[2] = replace(steps[2], rewards=(), kl=None)
    expected = (1, 2, 3, 5), [dict(steps[i].rewards) for i in (0, 1, 2, 4)]
    packed = steps_json(steps)
    with monkeypatch.context() as patch:
        patch.setattr(ballots, "steps_of", lambda content: pytest.fail("all steps were unpacked"))
        assert rewards_at(packed, {1, 2, 3, 9}) == expected
    early = json.dumps({key: value for key, value in json.loads(packed).items() if key != "token_ids"})
    assert rewards_at(early, {1, 2, 3, 9}) == expected
    assert rewards_at(steps_json(()), {1, 2}) == ((), [])
