"""Training a language model on texts: the loss of real tokens alone, falling, the same each time."""

import pytest
import torch
from tiny_models import tiny
from transformers import AutoModelForCausalLM

from rgtg.config import LMTrainingConfig
from rgtg.tools.pretraining import Optimizers, negative_log_likelihood, next_token_loss, perplexity, train_lm

ROWS = [(0, 5, 17, 40, 1), (0, 9, 1), (0, 33, 71, 12, 8, 61, 1)]  # 1 is the end token, and pad
CONFIG = LMTrainingConfig(num_train_epochs=15, tokens_per_batch=64, muon=False, dropout=0.0, bf16=False, logging_steps=1)


def model(seed: int = 0) -> torch.nn.Module:
    return tiny("llama", AutoModelForCausalLM, seed).requires_grad_(True)


def literal_nats(lm, row: tuple[int, ...]) -> list[float]:
    """-log p of each token after the first, the text alone."""
    log_probs = lm(torch.tensor([row])).logits[0].log_softmax(-1).detach()
    return [-float(log_probs[i, token]) for i, token in enumerate(row[1:])]


def test_the_loss_is_that_of_each_text_alone_end_tokens_included():
    lm = model()
    nats = [n for row in ROWS for n in literal_nats(lm, row)]
    assert float(next_token_loss(lm, ROWS, pad_id=1).detach()) == pytest.approx(sum(nats) / len(nats), abs=1e-4)
    total, num_tokens = negative_log_likelihood(lm, ROWS, pad_id=1, size=2)
    assert num_tokens == len(nats) == 12 and total == pytest.approx(sum(nats), abs=1e-3)


def test_perplexity_is_the_exponential_of_the_mean():
    assert perplexity(0.0, 7) == 1.0
    assert perplexity(3 * 2.302585, 3) == pytest.approx(10.0, abs=1e-4)


@pytest.mark.parametrize("muon", [False, True])
def test_training_lowers_the_loss_and_leaves_the_model_ready(muon):
    lm = model()
    said = list(train_lm(lm, ROWS, 1, LMTrainingConfig(**vars(CONFIG) | {"muon": muon})))
    assert [p.step for p in said] == list(range(1, 16)) and {p.num_steps for p in said} == {15}
    assert said[-1].loss < 0.7 * said[0].loss
    assert not lm.training


def test_the_same_seed_gives_the_same_weights_and_another_does_not():
    found = []
    for seed in (3, 3, 4):
        lm = model()
        list(train_lm(lm, ROWS, 1, LMTrainingConfig(**vars(CONFIG) | {"seed": seed, "num_train_epochs": 3, "dropout": 0.2})))
        found.append(lm.lm_head.weight.detach())
    assert torch.equal(found[0], found[1]) and not torch.equal(found[0], found[2])


def test_a_training_that_is_left_early_leaves_no_dropout_behind():
    lm = model()
    training = train_lm(lm, ROWS, 1, LMTrainingConfig(**vars(CONFIG) | {"dropout": 0.5}))
    next(training)
    assert lm.training
    training.close()
    assert not lm.training and not any(m._forward_hooks for m in lm.modules())


def test_one_step_is_enough_of_a_training():
    lm = model()
    (only,) = train_lm(lm, ROWS, 1, LMTrainingConfig(**vars(CONFIG) | {"num_train_epochs": 1}))
    assert (only.step, only.num_steps) == (1, 1)


def test_the_learning_rate_rises_and_falls_to_almost_nothing():
    lm = model()
    optimizers = Optimizers(lm, LMTrainingConfig(**vars(CONFIG) | {"warmup_ratio": 0.2, "learning_rate": 1.0}), num_steps=10)
    rates = []
    for step in range(10):
        optimizers.step(step)
        rates.append(optimizers.all[0].param_groups[0]["lr"])
    assert rates == pytest.approx([0.5, 1.0, 1.0, 0.875, 0.75, 0.625, 0.5, 0.375, 0.25, 0.125])


def test_muon_takes_the_matrices_inside_the_layers_and_no_other():
    lm = model()
    optimizers = Optimizers(lm, LMTrainingConfig(**vars(CONFIG) | {"muon": True}), num_steps=10)
    adam, muon = ({id(w) for w in o.param_groups[0]["params"]} for o in optimizers.all)
    names = {id(w): name for name, w in lm.named_parameters()}
    assert adam | muon == set(names) and not adam & muon
    assert all("proj" in names[w] for w in muon) and all("proj" not in names[w] for w in adam)
