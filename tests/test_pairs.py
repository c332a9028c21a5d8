from dataclasses import replace

import pytest
from store_records import make_comparison, make_trace, make_vote

from rgtg.preferences.pairs import derive_pairs, is_repeat, last_votes, num_common


def sides(pairs):
    return [(pair.chosen_trace_id, pair.rejected_trace_id) for pair in pairs]


def with_traces(*traces):
    return replace(make_comparison(), traces=traces)


def test_best_of_four_gives_three_pairs():
    pairs, skipped = derive_pairs(make_comparison(), [make_vote(best="B", strength=3, rater_id="ann")])
    assert sides(pairs) == [("c1-B", "c1-A"), ("c1-B", "c1-C"), ("c1-B", "c1-D")]
    assert skipped == {}
    first = pairs[0]
    assert (first.prompt, first.chosen, first.rejected) == ("the food was", " answer c1-B", " answer c1-A")
    assert (first.comparison_id, first.vote_id, first.rater_id) == ("c1", "v1", "ann")
    assert (first.prompt_ids, first.chosen_ids, first.rejected_ids) == ((3, 4, 5), (10, 11), (10, 11))
    assert (first.num_common, first.margin) == (0, 1.0)


@pytest.mark.parametrize(("strength", "margin"), [(None, 0.0), (1, 0.0), (2, 0.5), (3, 1.0)])
def test_strength_becomes_margin(strength, margin):
    pairs, _ = derive_pairs(make_comparison(columns="AB"), [make_vote(seen="AB", strength=strength)])
    assert [pair.margin for pair in pairs] == [margin]


def test_only_answers_that_were_there_to_be_seen_give_pairs():
    pairs, _ = derive_pairs(make_comparison(), [make_vote(best="B", seen="AB")])
    assert sides(pairs) == [("c1-B", "c1-A")]


def test_best_of_one_is_counted():
    assert derive_pairs(make_comparison(), [make_vote(best="B", seen="B")]) == ((), {"one_answer": 1})


@pytest.mark.parametrize("verdict", ["tie", "all_bad", "skip", "withdrawn"])
def test_other_verdicts_give_no_pair_and_are_counted(verdict):
    assert derive_pairs(make_comparison(), [make_vote(best=None, verdict=verdict)]) == ((), {verdict: 1})


def test_comparison_without_a_vote_is_counted():
    assert derive_pairs(make_comparison(), []) == ((), {"no_vote": 1})


def test_only_the_last_vote_of_each_rater_counts():
    votes = [
        make_vote("v1", best="A", rater_id="ann", revision=1),
        make_vote("v2", best="C", rater_id="bob", revision=1),
        make_vote("v3", best="B", rater_id="ann", revision=2),
        make_vote("v4", best=None, verdict="withdrawn", rater_id="bob", revision=2),
    ]
    assert [vote.id for vote in last_votes(reversed(votes))] == ["v4", "v3"]
    pairs, skipped = derive_pairs(make_comparison(), votes)
    assert sides(pairs) == [("c1-B", "c1-A"), ("c1-B", "c1-C"), ("c1-B", "c1-D")]
    assert skipped == {"withdrawn": 1}


def test_two_raters_each_give_their_pairs():
    votes = [make_vote("v1", best="A", seen="AB", rater_id="ann"), make_vote("v2", best="B", seen="AB", rater_id="bob")]
    pairs, _ = derive_pairs(make_comparison(), votes)
    assert sides(pairs) == [("c1-A", "c1-B"), ("c1-B", "c1-A")]


def test_equal_texts_failed_answers_and_answers_without_token_are_counted():
    comparison = with_traces(
        make_trace("c1-A", "A", response="fine"),
        make_trace("c1-B", "B", response="fine"),
        make_trace("c1-C", "C", stop_reason="error"),
        replace(make_trace("c1-D", "D", num_steps=0, stop_reason="stopped"), response=""),
        make_trace("c1-E", "E", response="poor", stop_reason="stopped"),
    )
    pairs, skipped = derive_pairs(comparison, [make_vote(best="A", seen="ABCDE")])
    assert sides(pairs) == [("c1-A", "c1-E")]
    assert skipped == {"equal_texts": 1, "error": 1, "no_tokens": 1}


def test_failed_answer_as_best_gives_no_pair_at_all():
    comparison = with_traces(make_trace("c1-A", "A", stop_reason="error"), make_trace("c1-B", "B"), make_trace("c1-C", "C"))
    assert derive_pairs(comparison, [make_vote(best="A", seen="ABC")]) == ((), {"error": 2})


def test_answers_of_two_tokenizers_give_texts_without_ids():
    other = make_trace("c1-B", "B")
    comparison = with_traces(make_trace("c1-A", "A"), replace(other, run=replace(other.run, prompt_ids=(8, 9))))
    ((pair,), _) = derive_pairs(comparison, [make_vote(best="A", seen="AB")])
    assert (pair.prompt_ids, pair.chosen_ids, pair.rejected_ids, pair.num_common) == ((), (), (), 0)
    assert pair.chosen == " answer c1-A"


def test_what_another_rater_or_other_tokens_say_is_no_repeat():
    ((pair,), _), known = derive_pairs(make_comparison(columns="AB"), [make_vote(seen="AB", rater_id="ann")]), set()
    assert [is_repeat(p, known) for p in (pair, replace(pair, vote_id="v2"), replace(pair, rater_id="bob"), replace(pair, chosen_ids=(9,)))] == [
        False, True, False, False,
    ]  # fmt: skip


def branch(name, column, parent, position, num_steps=8):
    return make_trace(name, column, num_steps=num_steps, parent_trace_id=parent, branch_position=position)


FAMILY = with_traces(
    make_trace("root", "A", num_steps=8),
    branch("five", "B", "root", 5),
    branch("three", "C", "root", 3),
    branch("five-seven", "D", "five", 7),
    branch("five-two", "E", "five", 2),
    make_trace("alone", "F", num_steps=8),
    branch("orphan", "G", "gone", 4),
    branch("orphan too", "H", "gone", 6),
)


@pytest.mark.parametrize(
    ("a", "b", "expected"),
    [
        ("root", "five", 5),  # parent and child: where the child branched off
        ("five", "three", 3),  # siblings: the earlier branch
        ("root", "five-seven", 5),  # grandchild: no more than its parent has of the root
        ("five", "five-seven", 7),
        ("root", "five-two", 2),
        ("five-seven", "five-two", 2),
        ("five-seven", "three", 3),
        ("root", "alone", 0),
        ("five", "alone", 0),
        ("orphan", "orphan too", 4),  # siblings, though their parent was not stored
    ],
)
def test_branches_share_the_tokens_up_to_where_they_part(a, b, expected):
    assert num_common(FAMILY.trace(a), FAMILY.trace(b), FAMILY.trace) == expected
    assert num_common(FAMILY.trace(b), FAMILY.trace(a), FAMILY.trace) == expected


def test_pair_of_a_branch_and_its_parent_carries_the_branch_position():
    comparison = with_traces(make_trace("c1-A", "A", num_steps=4), branch("c1-B", "B", "c1-A", 3, num_steps=5))
    ((pair,), _) = derive_pairs(comparison, [make_vote(best="B", seen="AB")])
    assert pair.num_common == 3


def test_vote_of_another_comparison_is_a_bug():
    with pytest.raises(ValueError, match="names no answer of comparison `c1`"):
        derive_pairs(make_comparison(), [make_vote(comparison="c2")])
