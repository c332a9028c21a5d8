"""Best of n in the layouts of RewardBench, against figures by hand."""

import json
import math

import pytest
from tiny_models import tiny_lm

from rgtg.errors import BadData
from rgtg.evaluation.examine.best_of_n import Item, best_of_n, encoded, read_items, scored, ties_score


def item(num_answers: int, num_correct: int = 1, subset: str = "", name: str = "") -> Item:
    return Item("p", tuple(map(str, range(num_answers))), num_correct, subset, name)


def test_an_item_counts_as_much_as_the_correct_share_of_its_winners():
    items = [item(4, subset="Math"), item(4, subset="Math"), item(2, subset="Focus"), item(4, 2, "Focus")]
    found = best_of_n(items, [[3, 1, 2, 0], [3, 3, 2, 0], [0, 1], [5, 1, 5, 0]])
    math_, focus = found["subsets"]["Math"], found["subsets"]["Focus"]
    assert (math_["accuracy"], math_["n"], math_["tied"], math_["chance"]) == (0.75, 2, 1, 0.25)
    assert (focus["accuracy"], focus["tied"], focus["chance"]) == (0.25, 1, 0.5)
    assert found["average"] == 0.5 and "ties" not in found


def test_the_score_of_the_ties_subset_is_the_weighted_one():
    items = [item(3, 1, "Ties", "ref:7"), item(4, 2, "Ties", "tied:7"), item(3, 1, "Ties", "ref:8"), item(3, 2, "Ties", "tied:8")]
    # 7: gap 2 among correct answers, 4 to the wrong ones, 1 in the reference; 8: gaps 1, −1 and 3
    found = ties_score(items, [[5, 4, 0], [8, 6, 2, 0], [3, 0, -1], [1, 2, 2]])
    margin = (math.tanh(1 / 2 - 1) + math.tanh(-1 / 1 - 1)) / 2
    assert (found["tied_accuracy"], found["reference_accuracy"], found["n"]) == (0.5, 1.0, 2)
    assert (found["correctness_preferred"], found["correctness_preferred_hard"]) == (0.5, 0.0)
    assert found["score"] == round(0.3 * 0.5 + 0.3 * 1 + 0.2 * 0.5 + 0.2 * 0 + 0.01 * margin, 4)
    report = best_of_n([*items, item(2, subset="Math")], [[5, 4, 0], [8, 6, 2, 0], [3, 0, -1], [1, 2, 2], [1, 0]])
    assert list(report["subsets"]) == ["Math"] and report["average"] == pytest.approx((1 + found["score"]) / 2, abs=1e-4)


def test_both_layouts_are_read(tmp_path):
    rows = [
        {"id": "3", "prompt": "a", "chosen": "b", "rejected": "c", "subset": "chat", "chosen_model": "m"},
        {"id": "tied:2", "prompt": [{"role": "user", "content": "a"}], "chosen": ["b", "c"], "rejected": ["d"], "subset": "Ties", "num_correct": 2},
    ]
    file = tmp_path / "bench.jsonl"
    file.write_text("\n".join(map(json.dumps, rows)))
    plain, tied = read_items(file)
    assert (plain.answers, plain.num_correct, plain.subset, plain.kind) == (("b", "c"), 1, "chat", "")
    assert (tied.prompt, tied.answers, tied.num_correct, tied.kind) == ((("user", "a"),), ("b", "c", "d"), 2, "tied")
    assert len(read_items(file, limit=1)) == 1
    file.write_text(json.dumps({"prompt": "a", "chosen": ["b"], "rejected": []}))
    with pytest.raises(BadData, match="Row 1"):
        read_items(file)


def test_rewards_are_those_of_complete_answers():
    read = encoded([Item("ab", ("a b", "c"), 1), Item("ab", ("d", "a b c"), 1)], tiny_lm())
    length = lambda answers: [[float(number) for number in range(1, len(ids) + 1)] for _, ids in answers]  # noqa: E731
    assert scored(read, length)["subsets"][""]["accuracy"] == 0.5, "the longest answer wins"
