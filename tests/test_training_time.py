"""The estimate of a training: what it grows with, from a forward that is timed."""

from types import SimpleNamespace

import pytest
import torch

from rgtg.figures import estimate_words
from rgtg.training import pipeline as module
from rgtg.training.config import TrainingConfig
from rgtg.training.pipeline import STARTING, estimate, seconds_of_a_row

MODEL = SimpleNamespace(device=torch.device("cpu"), parameters=lambda: [torch.zeros(1000)])


def report(**changes) -> SimpleNamespace:
    known = {"kind": "pairs", "num_train": 3200, "num_held_out": 0, "prompt_tokens": (8, 10, 12), "answer_tokens": (20, 30, 90)}
    return SimpleNamespace(**known | changes)


@pytest.fixture
def a_ms_a_token(monkeypatch):
    monkeypatch.setattr(module, "seconds_of_a_row", lambda model, length: length / 1000)
    monkeypatch.setattr(module, "PER_STEP", 0.0)


def seconds(found=None, **options) -> float:
    return estimate(MODEL, TrainingConfig.of({"max_steps": 100, "batch_size": 10} | options), found or report()).seconds - STARTING


def test_it_grows_with_steps_pairs_length_and_what_a_step_costs(a_ms_a_token):
    once = seconds()
    assert once == pytest.approx(100 * 10 * 2 * 3 * 0.040, rel=1e-2), "steps x pairs x two sides x three forwards x a row"
    assert seconds(max_steps=200) == pytest.approx(2 * once) and seconds(batch_size=20) == pytest.approx(2 * once, rel=1e-3)
    assert seconds(report(answer_tokens=(20, 70, 90))) == pytest.approx(2 * once, rel=1e-3)
    assert seconds(report(kind="texts"), objective="regression") == pytest.approx(once / 2, rel=1e-3)
    assert seconds(objective="implicit") == pytest.approx(once * 4 / 3, rel=1e-3), "its reference is read as well"
    assert seconds(report(num_held_out=50)) - once == pytest.approx(50 * 2 * 12 * 0.040, rel=1e-2)


def test_the_number_of_pairs_gives_steps_where_none_are_asked_for(a_ms_a_token):
    found = estimate(MODEL, TrainingConfig(), report())
    assert (found.num_steps, found.batch_size) == (200, 32)
    assert estimate_words(found.seconds, found.num_steps, found.batch_size, "pairs").endswith("min: 200 steps of 32 pairs")


def test_a_longer_text_takes_longer():
    from transformers import LlamaConfig, LlamaForSequenceClassification

    shape = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 64, "vocab_size": 50}
    model = LlamaForSequenceClassification(LlamaConfig(num_labels=1, **shape)).eval()
    assert 0 < seconds_of_a_row(model, 4) < seconds_of_a_row(model, 512)
