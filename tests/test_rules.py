"""The formulas of the methods on tensors small enough to check by hand, and laws over every method."""

from dataclasses import FrozenInstanceError, replace

import pytest
import torch

from rgtg.config import GenerationConfig
from rgtg.errors import BadReward, BadSettings
from rgtg.guidance.methods import METHODS
from rgtg.guidance.noise import gumbel
from rgtg.guidance.requests import Proposal
from rgtg.guidance.rows import Rows, best
from rgtg.guidance.rules import Base, RewardShift, TokenRule
from rgtg.guidance.sequences import BestOfN
from rgtg.records import ModelRef, Run

LOG_PROBS = torch.tensor([-0.5, -1.0, -3.0])
REWARDS = torch.tensor([0.0, 1.0, 2.0])
IDS = torch.tensor([40, 7, 23])


def pick(rule: TokenRule, scores: torch.Tensor, temperature: float, seed: int, step: int, ids: torch.Tensor) -> int:
    """The index that a row takes whose scores these are, as its token number `step`."""
    generation = GenerationConfig(temperature=temperature, max_new_tokens=1024)
    rows = Rows(Run("", "base", ModelRef("lm"), generation=generation, seed=seed), 1, (), (), frozenset())
    rows.num_given = step
    rows.take([Proposal(ids.tolist(), scores)], None, rule.pick == "greedy")
    return rows.drafts[0][0].index


TOKEN_RULES = {key: m.make() for key, m in METHODS.items() if isinstance(m.make(), TokenRule)}


@pytest.mark.parametrize("key", TOKEN_RULES)
def test_rescore_leaves_its_input_alone(key):
    log_probs, rewards = LOG_PROBS.clone(), REWARDS.clone()
    scores = TOKEN_RULES[key].rescore(log_probs, rewards)
    scores = scores + 0  # what comes out may be what went in, but nothing is written into it
    assert torch.equal(log_probs, LOG_PROBS) and torch.equal(rewards, REWARDS)
    assert scores.shape == (3,)


@pytest.mark.parametrize("key", METHODS)
def test_the_terms_of_every_method_add_up_to_its_score(key):
    rule = METHODS[key].make()
    terms = rule.terms(LOG_PROBS, REWARDS)
    total = rule.rescore(LOG_PROBS, REWARDS) if isinstance(rule, TokenRule) else LOG_PROBS + (rule.beta * REWARDS if rule.rescores else 0)
    assert torch.equal(sum(terms.values()), total) and all(isinstance(name, str) for name in terms)


@pytest.mark.parametrize("key", METHODS)
def test_the_terms_take_numbers_as_they_take_tensors(key):
    """The page explains a stored candidate, of which there are numbers."""
    rule = METHODS[key].make()
    for log_prob, reward in zip(LOG_PROBS, (-2.0, 0.5, 3.0), strict=True):
        terms = rule.terms(log_prob.reshape(1), torch.tensor([reward]))
        assert rule.terms(float(log_prob), reward) == pytest.approx({name: float(values) for name, values in terms.items()})


def test_a_score_that_is_not_finite_is_refused_with_the_scores():
    rows = Rows(Run("", "args", ModelRef("lm")), 1, (), (), frozenset())
    with pytest.raises(BadReward, match=r"Method `args` computed a score that is not finite\. Scores: \[-0\.5, inf\]"):
        rows.take([Proposal([1, 2], torch.tensor([-0.5, float("inf")]))])


def test_where_the_base_lm_gives_no_numbers_no_weight_is_to_blame():
    rows = Rows(Run("", "args", ModelRef("lm")), 1, (), (), frozenset())
    with pytest.raises(BadReward, match=r"The base LM returned probabilities that are NaN\. Choose another base LM"):
        rows.take([Proposal([1, 2], torch.tensor([-0.5, float("nan")]))])


def test_the_score_is_log_probability_plus_weight_times_reward():
    assert RewardShift(beta=2.0).rescore(LOG_PROBS, REWARDS).tolist() == [-0.5, 1.0, 1.0]
    assert RewardShift(beta=0.5).rescore(LOG_PROBS, REWARDS).tolist() == [-0.5, -0.5, -2.0]


def test_weight_zero_is_the_base_lm():
    assert torch.equal(RewardShift(beta=0.0).rescore(LOG_PROBS, REWARDS), Base().rescore(LOG_PROBS, None))
    assert torch.equal(Base().rescore(LOG_PROBS, None), LOG_PROBS)


def test_the_same_reward_for_all_candidates_changes_no_pick():
    rule = RewardShift(beta=3.0)
    for step in range(50):
        plain = pick(Base(), LOG_PROBS, 1.0, 9, step, IDS)
        assert pick(rule, rule.rescore(LOG_PROBS, torch.full((3,), 4.0)), 1.0, 9, step, IDS) == plain


def test_at_temperature_zero_the_highest_score_is_taken_whatever_the_seed():
    assert {pick(Base(), torch.tensor([0.0, 3.0, 2.9]), 0, seed, 0, IDS) for seed in range(20)} == {1}


def test_a_greedy_pick_takes_the_highest_at_any_temperature():
    rule = RewardShift(pick="greedy")
    assert {pick(rule, torch.tensor([2.9, 0.0, 3.0]), 5.0, seed, 0, IDS) for seed in range(20)} == {2}


def test_ties_go_to_the_lowest_id():
    scores = torch.tensor([1.0, 1.0, 1.0, 0.0])
    assert pick(Base(), scores, 0, 0, 0, torch.tensor([40, 7, 23, 1])) == 1
    assert pick(RewardShift(pick="greedy"), scores, 1.0, 0, 0, torch.tensor([40, 7, 3, 1])) == 2
    assert pick(Base(), scores[:2], 0, 0, 0, torch.tensor([0, 1])) == 0


def test_a_sample_is_the_highest_of_score_over_temperature_plus_noise():
    scores = torch.tensor([0.0, 1.0, -1.0])
    for step in range(30):
        wanted = max(range(3), key=lambda i: float(scores[i]) / 0.7 + float(gumbel(4, step, IDS)[i]))
        assert pick(Base(), scores, 0.7, 4, step, IDS) == wanted


def test_a_low_temperature_sharpens_and_a_high_one_flattens():
    scores, ids = torch.tensor([1.0, 0.0]), torch.tensor([0, 1])
    share = {t: sum(pick(Base(), scores, t, seed, 0, ids) == 0 for seed in range(2000)) / 2000 for t in (0.25, 1.0, 5.0)}
    assert share == pytest.approx({0.25: 0.982, 1.0: 0.731, 5.0: 0.550}, abs=0.035)  # sigma(1 / T)


def test_the_order_of_the_candidates_changes_no_pick():
    scores, order = torch.tensor([0.3, 0.1, 0.2]), [2, 0, 1]
    for seed in range(40):
        first = IDS[pick(Base(), scores, 1.0, seed, 0, IDS)]
        assert IDS[order][pick(Base(), scores[order], 1.0, seed, 0, IDS[order])] == first


def test_one_candidate_is_taken():
    assert pick(Base(), torch.tensor([-9.0]), 1.0, 0, 0, torch.tensor([5])) == 0


def test_the_best_is_the_highest_and_the_first_of_equals():
    assert best([0.5, 2.0, 1.0]) == best([0.5, 2.0, 1.0, 2.0]) == 1
    assert best([-7.0]) == 0
    assert BestOfN(3).num_rows == 3 and Base().num_rows == RewardShift().num_rows == 1


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: RewardShift(beta=-0.1), r"`beta` has to be between 0 and 20\. Found -0\.1\. .* the default is 1\."),
        (lambda: RewardShift(beta=20.5), r"`beta` has to be between 0 and 20\. Found 20\.5\."),
        (lambda: RewardShift(beta=float("nan")), "`beta` has to be a number"),
        (lambda: RewardShift(beta="2"), "`beta` has to be a number"),
        (lambda: RewardShift(pick="best"), "`pick` has to be one of sample, greedy. Found `best`."),
        (lambda: BestOfN(n=0), r"`n` has to be between 1 and 64\. Found 0\."),
        (lambda: BestOfN(n=65), r"`n` has to be between 1 and 64\. Found 65\."),
        (lambda: BestOfN(n=2.5), r"`n` has to be a whole number\. Found 2\.5\."),
        (lambda: replace(RewardShift(), beta=99.0), "Found 99"),
    ],
)
def test_what_is_out_of_range_is_refused_with_what_was_found(make, said):
    with pytest.raises(BadSettings, match=said):
        make()


def test_rules_are_frozen():
    with pytest.raises(FrozenInstanceError):
        RewardShift().beta = 3.0
