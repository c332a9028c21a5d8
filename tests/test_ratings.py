"""Battles from votes, the leaderboard, agreement and the choice of the next pair."""

import math
from collections import Counter
from dataclasses import replace
from itertools import combinations

import evalica
import numpy as np
import pytest

from rgtg.ratings.agreement import agreement_of, krippendorff
from rgtg.ratings.battles import LEFT, RIGHT, TIE, Answer, Ballot, Battle, battles_of
from rgtg.ratings.davidson import PRECISION, cells_of, fit, log_chances
from rgtg.ratings.leaderboard import leaderboard
from rgtg.ratings.next_pair import RULES, next_pair
from tests.simulated_raters import STRENGTHS, simulate

A, B, C = Answer("1", "base", 10, 0), Answer("2", "args", 20, 1), Answer("3", "pargs", 10, 2)


def ballot(verdict: str, best: str | None = None, answers=(A, B, C), comparison: str = "c", rater: str = "r") -> Ballot:
    return Ballot(comparison, rater, verdict, best, tuple(answers))


# --- battles ------------------------------------------------------------------------------------------------------


def test_the_best_of_three_beats_the_two_others_and_a_tie_is_one_for_each_two():
    battles, _ = battles_of([ballot("best", "2")])
    assert [(b.left, b.right, b.outcome) for b in battles] == [("base", "args", RIGHT), ("args", "pargs", LEFT)]
    assert [b.length_gap for b in battles] == [-math.log(2), math.log(2)]
    battles, _ = battles_of([ballot("tie")])
    assert [(b.left, b.right, b.outcome) for b in battles] == [("base", "args", TIE), ("base", "pargs", TIE), ("args", "pargs", TIE)]


def test_the_left_answer_is_the_one_that_stood_further_left():
    battles, _ = battles_of([ballot("best", "3", (C, A))])
    assert [(b.left, b.right, b.outcome) for b in battles] == [("base", "pargs", RIGHT)]


def test_votes_without_a_battle_are_counted_by_cause():
    failed, again = Answer("4", "farma", 0, 3, failed=True), Answer("5", "base", 9, 4)
    ballots = [ballot("skip"), ballot("all_bad"), ballot("best", "1", (A,)), ballot("best", "1", (A, failed)), ballot("best", "1", (A, again))]
    battles, left_out = battles_of(ballots)
    assert battles == [] and left_out == Counter(skip=1, all_bad=1, one_answer=1, failed=1, same_setting=1)


# --- strengths ----------------------------------------------------------------------------------------------------


def arrays(rows: list[tuple[int, int, int]]) -> tuple[np.ndarray, ...]:
    return tuple(np.array(column, dtype=int) for column in zip(*rows, strict=True))


def test_two_settings_have_the_strengths_of_their_shares():
    """Of 60 battles each way round: 30 won, 10 lost and 20 tied, so theta is log 3 and the tie's weight 20 / sqrt(30 * 10)."""
    rows = [(0, 1, LEFT)] * 30 + [(0, 1, RIGHT)] * 10 + [(0, 1, TIE)] * 20 + [(1, 0, RIGHT)] * 30 + [(1, 0, LEFT)] * 10 + [(1, 0, TIE)] * 20
    left, right, outcome = arrays(rows)
    fitted = fit(cells_of(left, right, outcome, None, 2), np.ones(120))
    assert fitted.strengths == pytest.approx([math.log(3) / 2, -math.log(3) / 2], abs=2e-3)
    assert fitted.position == pytest.approx(0, abs=1e-9) and fitted.tie == pytest.approx(math.log(20 / math.sqrt(300)), abs=2e-3)


def test_the_position_is_told_from_the_strength():
    """The left answer wins 3 of 4 whoever it is: all position, no strength."""
    left, right, outcome = arrays(([(0, 1, LEFT)] * 3 + [(0, 1, RIGHT)]) * 50 + ([(1, 0, LEFT)] * 3 + [(1, 0, RIGHT)]) * 50)
    fitted = fit(cells_of(left, right, outcome, None, 2), np.ones(400))
    assert fitted.strengths == pytest.approx([0, 0], abs=1e-9) and fitted.position == pytest.approx(math.log(3), abs=2e-3)


def test_the_slope_is_zero_at_the_maximum():
    battles, _ = simulate(3, 200)
    names = sorted(STRENGTHS)
    left, right, outcome = arrays([(names.index(b.left), names.index(b.right), b.outcome) for b in battles])
    gap = np.random.default_rng(0).normal(size=200)
    cells = cells_of(left, right, outcome, gap, 5)
    best = fit(cells, np.ones(200))

    def height(**changes) -> float:
        changed = type(best)(**{**best.__dict__, **changes})
        numbers = [*changed.strengths, changed.position, changed.length, changed.tie]
        return log_chances(cells, changed).sum() - PRECISION / 2 * sum(n * n for n in numbers)

    top = height()
    for name in ("position", "length", "tie"):
        for step in (-0.01, 0.01):
            assert height(**{name: getattr(best, name) + step}) < top
    for i in range(5):
        moved = best.strengths.copy()
        moved[i] += 0.01
        assert height(strengths=moved) < top


def test_without_position_the_strengths_are_those_of_another_implementation():
    """evalica fits the same model of ties by Newman's iteration."""
    battles, _ = simulate(0, 2000, careless=0.0, position=0.0)
    names = sorted(STRENGTHS)
    left, right, outcome = arrays([(names.index(b.left), names.index(b.right), b.outcome) for b in battles])
    turned = np.array([RIGHT, LEFT, TIE])[outcome]  # each battle both ways round: no effect of the position
    both = cells_of(np.append(left, right), np.append(right, left), np.append(outcome, turned), None, 5)
    ours = fit(both, np.full(2 * len(battles), 0.5))
    winner = {LEFT: evalica.Winner.X, RIGHT: evalica.Winner.Y, TIE: evalica.Winner.Draw}
    theirs = evalica.newman(
        [b.left for b in battles], [b.right for b in battles], [winner[b.outcome] for b in battles], tolerance=1e-10, limit=10_000
    )
    logs = np.log(theirs.scores)
    logs -= logs.mean()
    assert ours.strengths == pytest.approx([logs[name] for name in names], abs=0.003)
    assert math.exp(ours.tie) == pytest.approx(2 * theirs.v, abs=0.003)


def test_a_setting_that_won_every_battle_has_a_finite_strength_and_no_rank_below_twenty():
    board = leaderboard([Battle(f"c{i}", "r", "a", "b", LEFT) for i in range(19)], resamples=50)
    assert [place.setting for place in board.places] == ["a", "b"] and all(math.isfinite(place.high) for place in board.places)
    assert [place.rank for place in board.places] == [None, None]


def test_the_order_is_recovered_and_careless_raters_are_found():
    battles, careless = simulate(1, 2000)
    board = leaderboard(battles, resamples=60)
    assert [place.setting for place in board.places] == sorted(STRENGTHS, key=lambda name: -STRENGTHS[name])
    named = {rater for rater, _ in board.careless}
    assert len(named & careless) >= 4 and len(careless) == 5 and len(named - careless) <= 2
    assert board.position.low < 0.3 < board.position.high
    assert sum(map(sum, board.wins)) + sum(map(sum, board.ties)) / 2 == 2000


def test_at_equal_lengths_a_setting_that_wins_by_length_alone_is_not_better():
    rng, battles = np.random.default_rng(0), []
    for i in range(1500):  # `long` has the longer answer in most cases, and the longer one is preferred whoever wrote it
        gap = rng.normal(0.7, 0.5) * (1 if i % 2 else -1)
        left, right = ("long", "short") if i % 2 else ("short", "long")
        battles.append(Battle(f"c{i}", f"r{i % 50}", left, right, LEFT if rng.random() < 1 / (1 + math.exp(-2 * gap)) else RIGHT, gap))
    plain, controlled = leaderboard(battles, resamples=60), leaderboard(battles, control_length=True, resamples=60)
    assert plain.places[0].low > 0.3
    by_name = {place.setting: place for place in controlled.places}
    assert by_name["long"].low < 0 < by_name["long"].high
    assert controlled.length.low < 2 * math.log(2) < controlled.length.high and plain.length is None


def test_circles_of_three_are_counted():
    def beats(winner: str, loser: str, times: int) -> list[Battle]:
        return [Battle(f"{winner}{loser}{i}", "r", winner, loser, LEFT) for i in range(times)]

    board = leaderboard(beats("a", "b", 3) + beats("b", "c", 3) + beats("c", "a", 3) + beats("a", "d", 2) + beats("b", "d", 2), resamples=5)
    assert (board.triples, board.cycles) == (2, 1)


# --- agreement ----------------------------------------------------------------------------------------------------


def test_alpha_is_that_of_a_table_worked_out_by_hand():
    """Four comparisons, two raters: a a, a a, b b, a b. Of the 8 values 5 are a and 3 b; disagreement observed is 1/4, expected
    2 * 5 * 3 / (8 * 7) = 15/28, so alpha is 1 - (1/4) / (15/28) = 8/15."""
    units = {"1": {"x": "a", "y": "a"}, "2": {"x": "a", "y": "a"}, "3": {"x": "b", "y": "b"}, "4": {"x": "a", "y": "b"}}
    assert krippendorff(units) == pytest.approx(8 / 15)
    assert krippendorff({}) is None and krippendorff({"1": {"x": "a", "y": "a"}}) == 1.0
    assert krippendorff({"1": {"x": "a"}}) is None


def test_agreement_counts_comparisons_of_two_raters_and_repeats_of_one():
    said = [("1", "x", "best", "1"), ("1", "y", "best", "1"), ("2", "x", "best", "2"), ("3", "x", "best", "1"), ("2", "y", "skip", None)]
    found = agreement_of([ballot(verdict, best, comparison=c, rater=r) for c, r, verdict, best in said], {"1": "same", "3": "same", "2": "same"})
    assert (found.num_comparisons, found.num_votes, found.alpha) == (1, 2, 1.0)
    assert (found.num_repeats, found.self_agreement) == (2, 0.5)


# --- the next pair --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("rule", RULES)
def test_every_rule_gives_the_probability_with_which_it_draws(rule, monkeypatch):
    battles, _ = simulate(5, 120)
    settings, rng = sorted(STRENGTHS), np.random.default_rng(0)
    chances = RULES[rule](list(combinations(settings, 2)), battles, settings, {})
    assert chances.sum() == pytest.approx(1) and chances.min() > 0
    chance = dict(zip(map(frozenset, combinations(settings, 2)), chances, strict=True))
    monkeypatch.setitem(RULES, rule, lambda *given: chances)  # the same for the same battles
    drawn = [next_pair(rule, settings, battles, rng) for _ in range(400)]
    assert all(p == pytest.approx(chance[frozenset(pair)]) for pair, p in drawn)
    share = Counter(frozenset(pair) for pair, _ in drawn)
    assert all(abs(share[pair] / 400 - p) < 4 * math.sqrt(p * (1 - p) / 400) for pair, p in chance.items())
    assert 0.4 < sum(pair[0] < pair[1] for pair, _ in drawn) / 400 < 0.6, "either side comes first as often"
    monkeypatch.undo()
    assert next_pair(rule, settings, [], rng)[1] > 0, "without a battle, too"


def test_the_rules_prefer_what_they_are_for():
    settings = ["a", "b", "c"]
    battles = [Battle(f"{i}", "r", "a", "b", LEFT if i % 2 else RIGHT) for i in range(400)]
    battles += [Battle(f"x{i}", "r", "b", "c", LEFT if i % 2 else RIGHT) for i in range(4)]
    pairs = [("a", "b"), ("a", "c"), ("b", "c")]
    few = RULES["under-sampled"](pairs, battles, settings, {})
    assert few[1] > few[2] > few[0] and few.max() <= 3 * few.min() + 1e-12
    assert RULES["informative"](pairs, battles, settings, {}).argmax() in (1, 2)
    weak = battles + [Battle(f"w{i}", "r", "a", "c", LEFT) for i in range(40)] + [Battle(f"v{i}", "r", "b", "c", LEFT) for i in range(40)]
    assert RULES["thompson"](pairs, weak, settings, {}).argmax() == 0


def test_disagreement_goes_by_what_each_model_says_in_its_own_unit():
    """One model counts in hundreds, the other in ones: a and b are what they see in opposite ways."""
    rewards = {"a": {"x": 0.0, "y": 3.0}, "b": {"x": 300.0, "y": 0.0}, "c": {"x": 900.0, "y": 9.0, "z": 1.0}}
    pairs = [("a", "b"), ("a", "c"), ("b", "c")]
    chances = RULES["disagreement"](pairs, [], ["a", "b", "c"], rewards)
    assert chances.argmax() == 0 and chances.sum() == pytest.approx(1) and chances.min() >= 0.1 / 3
    tenfold = {name: {model: 10 * reward for model, reward in of.items()} for name, of in rewards.items()}
    assert RULES["disagreement"](pairs, [], ["a", "b", "c"], tenfold) == pytest.approx(chances)
    alike = {name: {"x": float(i), "y": 2.0 * i} for i, name in enumerate("abc")}
    assert RULES["disagreement"](pairs, [], ["a", "b", "c"], alike) == pytest.approx([1 / 3] * 3)


# --- corrected for how pairs were chosen -------------------------------------------------------------------------------


def test_weights_correct_what_a_rule_that_looks_at_answers_biases():
    """a wins 9 of 10 on easy prompts and 5 of 10 on hard ones, half and half: 0.7 of all. The rule asks about hard prompts nine times as often."""
    rng, weighted, plain, strengths = np.random.default_rng(0), [], [], []
    for _ in range(6):
        battles = []
        for number in range(1000):
            hard = rng.random() < 0.5
            chance = 0.9 if hard else 0.1
            if rng.random() < chance:
                won = rng.random() < (0.5 if hard else 0.9)
                battles.append(Battle(f"{number}", "r", *("ab" if rng.random() < 0.5 else "ba"), 0, weight=1 / chance, by_answers=True))
                battles[-1] = replace(battles[-1], outcome=LEFT if (battles[-1].left == "a") == won else RIGHT)
        board, ignored = leaderboard(battles, resamples=2), leaderboard([replace(one, weight=1.0) for one in battles], resamples=2)
        share = {place.setting: place for place in board.places}
        weighted.append(share["a"].win_share)
        wins = np.array(board.wins)
        assert wins[0, 1] / wins.sum() == pytest.approx(share["a"].win_share)
        plain.append(next(place.win_share for place in ignored.places if place.setting == "a"))
        strengths.append(share["a"].strength - share["b"].strength)
    assert np.mean(weighted) == pytest.approx(0.7, abs=0.03) and np.mean(plain) < 0.57
    assert np.mean(strengths) == pytest.approx(math.log(0.7 / 0.3), abs=0.15)


def test_weights_correct_the_share_won_where_some_opponents_came_more_often_and_leave_strengths_alone():
    """b is asked about against the weak a nine times as often as against the strong c; against both alike it would win half."""
    battles = [Battle(f"{i}", "r", "b", "a", LEFT if i % 10 else RIGHT, weight=1 / 0.9) for i in range(90)]
    battles += [Battle(f"x{i}", "r", "b", "c", RIGHT if i else LEFT, weight=1 / 0.1) for i in range(10)]
    board, ignored = (leaderboard(known, resamples=2) for known in (battles, [replace(one, weight=1.0) for one in battles]))
    share = {place.setting: place.win_share for place in board.places}
    assert share["b"] == pytest.approx(0.5) and next(place.win_share for place in ignored.places if place.setting == "b") > 0.8
    assert [place.strength for place in board.places] == [place.strength for place in ignored.places] and board.wins == ignored.wins
