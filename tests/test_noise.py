"""Random numbers that all columns share: properties of the noise, and some of its values."""

import numpy as np
import pytest
import torch

from rgtg.guidance import noise
from rgtg.guidance.noise import derived_seed, gumbel, uniform


def test_the_values_are_the_ones_that_stored_runs_were_made_with():
    draws = gumbel(17, 3, torch.tensor([0, 1, 2, 50256, 151935]))
    assert draws.tolist() == pytest.approx(
        [0.3691801685997447, 3.907753421518986, 2.4029219658437415, -0.3129194047136506, 2.4297351988129994], abs=1e-12
    )
    assert draws.dtype == torch.float64


def test_a_subset_gets_what_the_whole_vocabulary_gets():
    whole = gumbel(5, 6, torch.arange(50257))
    ids = torch.tensor([50256, 3, 3, 777])
    assert torch.equal(gumbel(5, 6, ids), whole[ids])
    assert torch.equal(gumbel(5, 6, ids.int()), whole[ids])


def test_a_larger_vocabulary_changes_nothing():
    assert torch.equal(gumbel(5, 6, torch.arange(151936))[:99], gumbel(5, 6, torch.arange(99)))


def test_seed_and_step_are_not_interchangeable():
    ids = torch.arange(1000)
    assert not torch.isclose(gumbel(5, 6, ids), gumbel(6, 5, ids)).any()
    assert not torch.isclose(gumbel(5, 6, ids), gumbel(5, 7, ids)).any()
    assert not torch.isclose(gumbel(5, 6, ids), gumbel(6, 6, ids)).any()


def test_no_draw_is_a_shifted_other():
    a, b = gumbel(0, 0, torch.arange(2000)), gumbel(0, 1, torch.arange(2000))
    assert not set(a.tolist()) & set(b.tolist())


def test_the_noise_is_standard_gumbel():
    draws = torch.stack([gumbel(seed, step, torch.arange(20000)) for seed in range(5) for step in range(4)])
    assert float(draws.mean()) == pytest.approx(0.5772, abs=0.006)  # 400,000 draws: standard error 0.002
    assert float(draws.var()) == pytest.approx(1.6449, abs=0.02)
    assert float((draws < 0).double().mean()) == pytest.approx(0.36788, abs=0.003)  # exp(-1)
    correlation = torch.corrcoef(draws) - torch.eye(len(draws))
    assert float(correlation.abs().max()) < 0.04


def test_the_highest_of_log_probability_plus_noise_is_a_draw():
    log_probs = torch.tensor([0.5, 0.3, 0.2], dtype=torch.float64).log()
    picks = [int((log_probs + gumbel(seed, 0, torch.arange(3))).argmax()) for seed in range(4000)]
    assert [picks.count(i) / 4000 for i in range(3)] == pytest.approx([0.5, 0.3, 0.2], abs=0.025)


@pytest.mark.parametrize("bits", [0, noise.WORD])
def test_the_extremes_of_the_hash_give_finite_noise(monkeypatch, bits):
    monkeypatch.setattr(noise, "_mix", lambda x: np.full_like(x, bits))
    assert gumbel(0, 0, torch.tensor([0])).isfinite().all()


@pytest.mark.parametrize("seed", [0, 1, 2**53 - 1, 2**64 - 1])
def test_any_seed_serves(seed):
    assert gumbel(seed, 1023, torch.arange(99)).isfinite().all()


def test_the_first_sample_keeps_the_seed_and_the_others_have_their_own():
    assert derived_seed(17, 0) == 17
    seeds = [derived_seed(seed, index) for seed in range(50) for index in range(64)]
    assert len(set(seeds)) == len(seeds) and all(0 <= seed < 2**64 for seed in seeds)
    assert derived_seed(17, 1) == 8693259451503138829


def test_a_uniform_number_is_pinned_and_every_argument_counts():
    draws = [uniform(17, 3, "keep"), uniform(17, 3, "draw"), uniform(17, 4, "keep"), uniform(18, 3, "keep")]
    assert draws == pytest.approx([0.4749600149011258, 0.15416392817288893, 0.9684507192953974, 0.28937599179880447], abs=1e-15)


def test_uniform_numbers_are_spread_evenly():
    draws = [uniform(seed, step, "keep") for seed in range(20) for step in range(50)]
    assert all(0 < u < 1 for u in draws)
    assert [sum(i <= 4 * u < i + 1 for u in draws) / 1000 for i in range(4)] == pytest.approx([0.25] * 4, abs=0.05)
