"""Tables of the results that stand on files of several commands: over trainings, with intervals that know of pairs, too."""

import json

import pytest

from recipes.summaries import over_pairs_and_trainings, turn_table, votes_table


def share(accuracy: float, half: float = 0.05, n: int = 100) -> dict:
    return {"accuracy": accuracy, "low": accuracy - half, "high": accuracy + half, "n": n}


def test_the_interval_of_a_share_adds_up_that_over_pairs_and_that_over_trainings():
    assert over_pairs_and_trainings([share(0.7)]) == pytest.approx((0.7, 0.65, 0.75)), "of one training that over pairs alone"
    mean, low, high = over_pairs_and_trainings([share(0.5), share(0.6), share(0.7)])
    # Student's t with 2 degrees of freedom: 4.303 · 0.1 / √3 = 0.2484; with 0.05 of the pairs: √(0.2484² + 0.05²) = 0.2534
    assert (mean, low, high) == pytest.approx((0.6, 0.6 - 0.2534, 0.6 + 0.2534), abs=1e-4)
    assert over_pairs_and_trainings([share(0.9), share(0.99)])[2] == 1.0


def test_pairs_that_turn_are_told_by_objective(tmp_path):
    def model(before: float, after: float) -> dict:
        return {"turning": {"n": 80, "before": share(before), "after": share(after)}, "by_length": {"end": share(0.9)}}

    report = {"num_pairs": 100, "judge": "judge", "models": {"partial-0": model(0.4, 0.9), "partial-1": model(0.4, 0.9), "judge": model(0.2, 1.0)}}
    (tmp_path / "e.json").write_text(json.dumps(report))
    head, _, partial, judge = turn_table(tmp_path / "e.json", {"partial": ["partial-0", "partial-1"]}).splitlines()
    assert "before the turn, n = 80" in head and "at the end, n = 100" in head
    assert partial == "| partial | 2 | 40.0 [35.0, 45.0] | 90.0 [85.0, 95.0] | 90.0 [85.0, 95.0] |"
    assert judge.startswith("| judge | 1 | 20.0 [15.0, 25.0] | 100.0 [95.0, 100.0] |")


def test_votes_are_in_the_order_of_their_number_with_both_kinds_beside_each_other(tmp_path):
    def files(name: str, accuracy: float, gain: float):
        sweep = tmp_path / name
        sweep.mkdir()
        models = {"partial-0": {"by_length": {"4": share(accuracy - 0.1), "end": share(accuracy)}}}
        (tmp_path / f"{name}.json").write_text(json.dumps({"models": models}))
        rows = [{"setting": "base"}, {"setting": "pargs", "judge": [2.0, 1.5, 2.5], "positive_minus_first": [gain, gain - 0.05, gain + 0.05]}]
        (sweep / "table-over-seeds.json").write_text(json.dumps(rows))
        return tmp_path / f"{name}.json", sweep

    kinds = {"complete": {100: files("a", 0.8, 0.2), 10: files("b", 0.6, 0.1)}, "branch": {10: files("c", 0.7, 0.15)}}
    table = votes_table(kinds, tmp_path / "votes.html").splitlines()
    assert [line.split(" | ")[:2] for line in table[2:]] == [["| 10", "branch"], ["| 10", "complete"], ["| 100", "complete"]]
    assert table[2] == "| 10 | branch | 1 | 60.0 [55.0, 65.0] | 70.0 [65.0, 75.0] | 2.00 [1.50, 2.50] | 15 [10, 20] |"
    assert "on a branch" in (tmp_path / "votes.html").read_text(encoding="utf-8")
