"""What held-out pairs say: by prefix length, beside the parent and plain length, and when nothing can be said."""

from dataclasses import replace

import pytest
import torch

from rgtg.training.held_out import CHANCE, PARENT, TOO_FEW, Guide, Measured, along, by_length, held_out_report, verdict_of


def measured(gaps: list[list[float]], lengths: list[tuple[int, int]] | None = None, prompts=None, common=None) -> Measured:
    """Rejected rewards are 0; chosen ones the gaps."""
    chosen = torch.tensor(gaps)
    lengths = lengths or [(chosen.shape[1], chosen.shape[1])] * len(gaps)
    a, b = (torch.tensor([n[i] for n in lengths]) for i in (0, 1))
    return Measured(chosen, torch.zeros_like(chosen), a, b, torch.tensor(common or [0] * len(gaps)), tuple(prompts or map(str, range(len(gaps)))))


def test_accuracy_margin_and_counts_by_length():
    found = by_length(measured([[1.0, -1.0, 2.0], [0.0, 3.0, 9.0]], [(3, 3), (2, 1)], common=[1, 0]), (1, 2, 3))
    assert {name: (f["accuracy"], f["margin"], f["n"]) for name, f in found.items()} == {
        "1": (0.5, 0.0, 1), "2": (0.5, 1.0, 2), "3": (1.0, 2.0, 1), "end": (1.0, 2.5, 2),
    }  # fmt: skip
    assert (found["2"]["low"], found["2"]["high"], found["2"]["margin_low"], found["2"]["margin_high"]) == (0.0945, 0.9055, -1.0, 3.0)
    assert (found["3"]["low"], found["3"]["high"]) == (0.2065, 1.0), "of one pair, by Wilson"


def test_a_pair_counts_by_its_share_of_lengths():
    assert along(measured([[1.0, -1.0, 2.0, 0.0]])).tolist() == [2.5 / 4]


def test_a_child_that_is_right_more_often_is_better_and_one_that_is_not_is_not():
    good, coin = measured([[1.0, 1.0]] * 40), measured([[1.0, -1.0]] * 40)
    report = held_out_report(good, coin)
    assert report["verdict"] == "better than its parent" and report["recommended"] is True
    assert report["difference_along"] == {"mean": 0.5, "low": 0.5, "high": 0.5}
    assert report["parent"]["accuracy_along"]["mean"] == 0.5 and report["num_pairs"] == report["num_prompts"] == 40
    worse = held_out_report(coin, good)
    assert worse["verdict"] == "not better than its parent" and worse["recommended"] is False
    assert held_out_report(good)["verdict"] == "better than chance", "without a parent"
    assert held_out_report(coin)["verdict"] == "not better than chance"


def test_without_a_parent_the_guide_until_now_stands_beside_it():
    good, coin = (measured([[x, x]] * 40) for x in (1.0, 0.0))
    report = held_out_report(good, None, 0.5, Guide("partial", coin))
    assert report["verdict"] == "better than the model that guided before" and "parent" not in report
    assert (report["guide"]["name"], report["guide"]["accuracy"]["mean"], report["guide"]["by_length"]["2"]["n"]) == ("partial", 0.5, 40)
    assert report["difference_along"]["mean"] == 0.5
    worse = held_out_report(coin, None, 0.5, Guide("partial", good))
    assert worse["verdict"] == "not better than the model that guided before" and worse["recommended"] is False
    apart = held_out_report(good, None, 0.5, Guide("partial", why_not="It reads other tokens."))
    assert apart["verdict"] == "better than chance" and apart["guide"] == {"name": "partial", "why_not": "It reads other tokens."}
    assert "guide" not in held_out_report(good, coin, 0.5, Guide("partial", coin)), "a parent comes first"


def test_figures_at_a_length_are_by_prompt_as_all_others():
    two = measured([[1.0]] * 50 + [[-1.0]] * 50, prompts=["a"] * 50 + ["b"] * 50)
    found = by_length(two, (1,))
    assert found["1"] == {"accuracy": 0.5, "low": 0.0945, "high": 0.9055, "margin": 0.0, "margin_low": -1.0, "margin_high": 1.0, "n": 100} | {
        "calibration_error": pytest.approx(0.2311, abs=1e-4)
    }
    assert held_out_report(two)["accuracy"] == {"mean": 0.5, "low": 0.0945, "high": 0.9055}, "too few prompts to draw from"
    many = measured([[1.0]] * 75 + [[-1.0]] * 25)
    found, whole = by_length(many, (1,))["end"], held_out_report(many)["accuracy"]
    assert (found["accuracy"], found["low"], found["high"]) == (whole["mean"], whole["low"], whole["high"])
    assert found["low"] == pytest.approx(0.66, abs=0.02) and found["high"] == pytest.approx(0.83, abs=0.02)


def test_a_length_that_few_prompts_reach_has_the_interval_of_those():
    found = by_length(measured([[1.0, 1.0]] * 3 + [[1.0, 0.0]] * 37, [(2, 2)] * 3 + [(1, 1)] * 37), (1, 2))
    assert found["2"]["n"] == 3 and (found["2"]["low"], found["2"]["high"]) == (0.4385, 1.0)


def test_where_no_pair_differs_twenty_say_nothing_and_forty_do():
    few, many = (measured([[1.0]] * num, prompts=map(str, range(num))) for num in (20, 40))
    report = held_out_report(few, few)
    assert (report["verdict"], report["recommended"], report["difference_along"]) == (TOO_FEW, None, {"mean": 0.0, "low": 0.0, "high": 0.0})
    assert held_out_report(many, many)["verdict"] == "not better than its parent"
    worse = measured([[-1.0]] * 20)
    assert held_out_report(worse, few)["verdict"] == "not better than its parent", "all twenty say so"
    assert held_out_report(few, worse)["verdict"] == "better than its parent"


def test_one_prompt_says_nothing_of_others():
    report = held_out_report(measured([[1.0, 1.0], [1.0, -1.0]], prompts=["a", "a"]))
    assert (report["difference_along"]["low"], report["difference_along"]["high"]) == (-1.0, 1.0)
    assert (report["difference_to_length"]["low"], report["difference_to_length"]["high"]) == (-1.0, 1.0)


def test_few_pairs_few_prompts_and_wide_intervals_say_nothing():
    assert held_out_report(None)["verdict"] == held_out_report(measured([[1.0]] * 19))["verdict"] == TOO_FEW
    assert held_out_report(measured([[1.0]] * 40, prompts=["a", "b"] * 20))["verdict"] == TOO_FEW
    assert verdict_of({"low": -0.15, "high": 0.15}, 30, 30, PARENT) == TOO_FEW
    assert verdict_of({"low": -0.05, "high": 0.05}, 900, 900, CHANCE) == "not better than chance"
    assert held_out_report(measured([[1.0]] * 19))["recommended"] is None


def test_plain_length_is_a_rival():
    lengths = [(2, 1)] * 20 + [(1, 2)] * 20
    report = held_out_report(measured([[1.0, 1.0]] * 40, lengths), longer_chosen=0.8)
    assert report["length_only"]["bets_on"] == "longer" and report["length_only"]["accuracy"]["mean"] == 0.5
    assert report["difference_to_length"]["low"] > 0
    assert held_out_report(measured([[1.0, 1.0]] * 40, [(1, 2)] * 40), longer_chosen=0.1)["length_only"]["accuracy"]["mean"] == 1.0


def test_a_bet_on_length_that_is_worse_than_chance_is_no_rival():
    coin = measured([[1.0] * 4 if i % 2 else [-1.0] * 4 for i in range(60)], [(2, 4)] * 60)
    report = held_out_report(coin, longer_chosen=0.5)
    assert report["length_only"]["accuracy"]["mean"] == 0.0 and report["difference_to_length"]["low"] > 0
    assert (held_out_report(coin, coin)["recommended"], report["recommended"]) == (False, None), report["verdict"]


def test_pairs_of_one_prompt_count_as_one_voice():
    report = held_out_report(measured([[1.0]] * 30 + [[-1.0]] * 10, prompts=["one"] * 30 + list(map(str, range(10)))))
    assert report["accuracy"]["mean"] == pytest.approx(1 / 11, abs=1e-3)


def test_calibration_reads_a_gap_as_the_loss_does():
    raw = measured([[40.0]] * 30)
    assert held_out_report(raw)["calibration"][-1]["sure"] == pytest.approx(1.0, abs=1e-3)
    scaled = replace(raw, log_odds=0.01)  # 40 nats under a beta of 0.01
    assert held_out_report(scaled)["calibration"][-1]["sure"] == pytest.approx(0.5987, abs=1e-3)
    assert by_length(scaled, (1,))["1"]["margin"] == 40.0 and by_length(scaled, (1,))["1"]["calibration_error"] == pytest.approx(0.4013, abs=1e-3)


def test_where_a_gap_is_no_log_odds_nothing_is_calibrated():
    report = held_out_report(replace(measured([[0.5]] * 30), log_odds=None))
    assert "calibration" not in report and "calibration_error" not in report["by_length"]["1"] and report["by_length"]["1"]["margin"] == 0.5
