"""Pairs and texts in padded batches: nothing lost, nothing twice."""

import random

import pytest

from rgtg.preferences.batches import TokenPair, TokenText, collate_pairs, collate_texts, pad_right, pair_batches, plan, texts_of, token_batches


def some_pairs(num: int, seed: int = 0) -> list[TokenPair]:
    luck = random.Random(seed)
    return [TokenPair((0,), tuple(range(luck.randint(1, 30))), tuple(range(luck.randint(1, 30)))) for _ in range(num)]


@pytest.mark.parametrize(
    ("chosen", "rejected", "num_common"),
    [((5, 6, 1), (5, 7, 1), 1), ((5,), (5, 6), 1), ((5, 6), (5, 6), 2), ((4,), (5,), 0), ((5, 6, 7), (4, 6, 7), 0)],
)
def test_the_leading_tokens_that_both_share_are_counted(chosen, rejected, num_common):
    assert TokenPair((0,), chosen, rejected).num_common == TokenPair((0,), rejected, chosen).num_common == num_common


def test_a_batch_holds_all_chosen_rows_and_then_all_rejected_ones():
    found = collate_pairs([TokenPair((0,), (5, 6, 1), (5, 1)), TokenPair((0, 9), (7,), (8, 8))], pad_id=2)
    assert found.ids.tolist() == [[0, 5, 6, 1], [0, 9, 7, 2], [0, 5, 1, 2], [0, 9, 8, 8]]
    assert found.prompt_lengths.tolist() == [1, 2]
    assert (found.chosen_lengths.tolist(), found.rejected_lengths.tolist(), found.num_common.tolist()) == ([3, 1], [2, 2], [1, 0])


def test_rows_are_filled_on_the_right():
    assert pad_right([(5, 6), (7,)], 9).tolist() == [[5, 6], [7, 9]]


@pytest.mark.parametrize("num", [1, 7, 100, 333])
def test_one_pass_over_texts_has_each_once_and_no_batch_is_too_wide(num):
    luck = random.Random(1)
    rows = [tuple([i] * luck.randint(1, 40)) for i in range(num)]
    batches = list(token_batches(rows, 200, random.Random(0), pool=3))
    assert sorted(row for batch in batches for row in batch) == sorted(rows)
    assert all(len(batch) * max(map(len, batch)) <= 200 for batch in batches)


def test_a_text_longer_than_a_batch_has_a_batch_of_its_own():
    rows = [(1,) * 50, (2,) * 3, (3,) * 3]
    batches = list(token_batches(rows, 10, random.Random(0)))
    assert sorted(map(len, batches)) == [1, 2] and [(1,) * 50] in batches


@pytest.mark.parametrize(("num", "size"), [(8, 8), (64, 8), (100, 7), (333, 16)])
def test_one_pass_over_pairs_has_full_batches_and_no_pair_twice(num, size):
    pairs = some_pairs(num)
    batches = list(pair_batches(pairs, size, random.Random(0), pool=3))
    assert [len(b) for b in batches] == [size] * (num // size)
    seen = [id(p) for b in batches for p in b]
    assert len(set(seen)) == len(seen)


def test_the_longest_pairs_are_taught_too():
    pairs = some_pairs(100)
    luck = random.Random(0)
    seen = {id(p) for _ in range(12) for batch in pair_batches(pairs, 64, luck) for p in batch}
    assert len(seen) == 100  # which 36 are left out of a pass is chance, not length


def test_pairs_of_similar_length_are_together():
    pairs = some_pairs(400)

    def spread(batches) -> float:
        return sum(max(map(cost, b)) - min(map(cost, b)) for b in batches)

    def cost(pair: TokenPair) -> int:
        return len(pair.chosen_ids) + len(pair.rejected_ids)

    sorted_together = list(pair_batches(pairs, 20, random.Random(0)))
    assert spread(sorted_together) < 0.25 * spread([pairs[i : i + 20] for i in range(0, 400, 20)])


def test_the_order_is_that_of_the_luck_that_is_given():
    pairs = some_pairs(64)
    orders = [[id(p) for b in pair_batches(pairs, 8, random.Random(seed)) for p in b] for seed in (0, 0, 1)]
    assert orders[0] == orders[1] != orders[2]


def test_a_branch_counts_as_shared_whatever_the_tokens_say():
    assert TokenPair((0,), (5, 6), (7, 8), branch=1).num_common == 1


def test_the_shorter_side_goes_on_with_end_tokens_where_asked():
    batch = collate_pairs([TokenPair((0,), (5, 1), (7, 8, 9, 1)), TokenPair((0, 4), (5,), (6,))], pad_id=2, end_id=1)
    assert batch.ids.tolist() == [[0, 5, 1, 1, 1], [0, 4, 5, 2, 2], [0, 7, 8, 9, 1], [0, 4, 6, 2, 2]]
    assert batch.chosen_lengths.tolist() == batch.rejected_lengths.tolist() == [4, 1]


def test_marks_margins_and_weights_come_along():
    batch = collate_pairs([TokenPair((0,), (5, 6), (7, 8, 1), 0.5, 2.0, 0, (1.0, 3.0)), TokenPair((0,), (5,), (6,))], pad_id=2)
    assert batch.marks.tolist() == [[1.0, 3.0, 1.0], [1.0, 1.0, 1.0]]
    assert (batch.margins.tolist(), batch.weights.tolist()) == ([0.5, 0.0], [2.0, 1.0])


def test_texts_in_a_batch_and_a_pair_as_two_texts():
    chosen, rejected = texts_of(TokenPair((0,), (5, 6), (7,), weight=2.0))
    assert (chosen, rejected) == (TokenText((0,), (5, 6), 1.0, 2.0), TokenText((0,), (7,), 0.0, 2.0))
    batch = collate_texts([chosen, rejected], pad_id=9)
    assert batch.ids.tolist() == [[0, 5, 6], [0, 7, 9]] and batch.lengths.tolist() == [2, 1] and batch.labels.tolist() == [1.0, 0.0]


@pytest.mark.parametrize("num_processes", [1, 2, 3])
def test_a_plan_has_the_same_steps_for_every_number_of_processes(num_processes):
    items = [TokenPair((0,), (i + 3,) * (1 + i % 4), (1,), weight=1.0 + i) for i in range(7)]
    alone = plan(items, 3, 5, seed=1)
    shares = plan(items, 3, 5, seed=1, num_processes=num_processes)
    assert len(alone) == 5 and len(shares) == 5 * num_processes
    for step, whole in enumerate(alone):
        parts = shares[step * num_processes : (step + 1) * num_processes]
        weighed = [item for part in parts for item in part.items if item.weight]
        assert sorted(weighed, key=repr) == sorted(whole.items, key=repr)
        assert {part.total for part in parts} == {whole.total} and whole.total == sum(i.weight for i in whole.items)


def test_a_process_without_items_of_its_own_takes_part_with_weight_nothing():
    shares = plan([TokenPair((0,), (5,), (6,))], 4, 2, seed=0, num_processes=2)
    assert [[item.weight for item in share.items] for share in shares] == [[1.0], [0.0], [1.0], [0.0]]
