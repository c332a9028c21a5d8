"""Tuning changes how a model is computed and never what it says: laws on tiny models of every family; speed is not judged here."""

import copy
import os

import pytest
import torch
from tiny_models import FAMILIES, OTHERS, tiny, tiny_reward
from torch import nn
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification

from rgtg.errors import ModelRefused
from rgtg.models import tuning

IDS = torch.tensor([[5, 17, 42, 8, 63], [9, 33, 2, 71, 50]])


def logits(model: nn.Module) -> torch.Tensor:
    with torch.inference_mode():
        return model(IDS).logits


@pytest.fixture
def fastest(monkeypatch):
    """Says which way is the fastest, so that a test is not left to the clock."""
    return lambda way, gain=2.0: monkeypatch.setattr(tuning, "_fastest", lambda *_: (way, gain))


@pytest.mark.parametrize("way", ["column-major", "row-major", "oneDNN"])
@pytest.mark.parametrize("family", [*FAMILIES, *OTHERS])
def test_every_way_to_multiply_gives_the_same_logits(family, way, fastest):
    if way == "oneDNN" and not tuning.has_onednn():
        pytest.skip("this torch has no oneDNN")
    model = tiny(family, AutoModelForCausalLM, 0)
    before, weights = logits(model), {name: weight.clone() for name, weight in model.state_dict().items()}
    fastest(way)
    tuned = tuning.tune_matrices(model, min_weights=0)
    assert {change[1] for change in tuned.changed} == {way} or (family == "falcon_alibi" and not tuned.changed)  # a Linear of its own
    assert (logits(model) - before).abs().max() < 2e-6 * before.abs().max()
    assert model.state_dict().keys() == weights.keys()
    assert all(torch.equal(weight, weights[name]) and weight.shape == weights[name].shape for name, weight in model.state_dict().items())


def test_column_major_weights_lie_column_after_column(fastest):
    model = tiny("llama", AutoModelForCausalLM, 0)
    fastest("column-major")
    tuning.tune_matrices(model, min_weights=0)
    weight = model.model.layers[0].mlp.down_proj.weight
    assert weight.shape == (32, 64) and weight.stride() == (1, 32)


@pytest.mark.parametrize("family", ["gpt2", "llama"])
def test_a_tuned_model_is_saved_as_before_and_its_ties_stay(family, fastest, tmp_path):
    model = tiny(family, AutoModelForCausalLM, 0)
    before = logits(model)
    tied = model.get_output_embeddings().weight is model.get_input_embeddings().weight
    fastest("column-major")
    tuning.tune_matrices(model, min_weights=0)
    # transformers cannot save a shared weight that lies column after column: that one stays
    assert model.get_output_embeddings().weight.is_contiguous() == tied
    assert (model.get_output_embeddings().weight is model.get_input_embeddings().weight) == tied == (family == "gpt2")
    model.save_pretrained(tmp_path)
    again = AutoModelForCausalLM.from_pretrained(tmp_path)
    assert torch.allclose(logits(again), before, atol=1e-5)
    assert all(weight.is_contiguous() for weight in again.parameters())


def test_small_models_are_left_alone_without_measuring(monkeypatch):
    monkeypatch.setattr(tuning, "_fastest", lambda *_: pytest.fail("measured"))
    tuned = tuning.tune_matrices(tiny("llama", AutoModelForCausalLM, 0))
    assert tuned == tuning.Tuned() and str(tuned) == "memory layout unchanged"


def test_a_gain_too_small_to_be_sure_of_changes_nothing(fastest):
    model = tiny("llama", AutoModelForCausalLM, 0)
    fastest("column-major", gain=1.03)
    assert tuning.tune_matrices(model, min_weights=0).changed == ()
    assert model.lm_head.weight.is_contiguous()


def test_half_precision_and_layers_of_other_kinds_are_left_alone(fastest):
    fastest("column-major")
    half = tiny("llama", AutoModelForCausalLM, 0).to(torch.bfloat16)
    assert tuning.tune_matrices(half, min_weights=0).changed == ()

    class Adapted(nn.Linear):
        pass

    model = nn.Sequential(Adapted(4, 4), nn.Embedding(4, 4), nn.Conv1d(4, 4, 1))
    assert tuning.tune_matrices(model, min_weights=0).changed == ()


def test_the_measurement_names_a_way_and_its_gain():
    layers = [nn.Linear(64, 96) for _ in range(4)]
    way, gain = tuning._fastest(layers, (1, 4), 0.02, ("row-major", "column-major"))
    assert way in ("row-major", "column-major") and gain >= (1.0 if way == "row-major" else 0.0)
    assert all(layer.weight.is_contiguous() for layer in layers)


def test_a_line_for_the_log_says_what_changed():
    assert str(tuning.Tuned((((3072, 768), "column-major", 1.294),))) == "3072×768 column-major (1.29×)"


# --- int8 ---------------------------------------------------------------------------------------------------------------


def test_an_int8_layer_is_the_float_layer_within_its_steps():
    matrix, bias = torch.tensor([[1.27, -0.5], [0.0, 2.54]]), torch.tensor([0.0, 1.0])
    layer = tuning.Int8Linear(matrix, bias)
    assert torch.allclose(layer(torch.tensor([[1.0, 0.0], [0.0, 1.0]])), torch.tensor([[1.27, 1.0], [-0.5, 3.54]]), atol=0.02)
    assert layer(torch.zeros(2, 3, 2)).shape == (2, 3, 2)


def quantised(family: str) -> tuple[nn.Module, tuning.Int8, torch.Tensor, torch.Tensor]:
    model = tiny(family, AutoModelForSequenceClassification, 1)

    @torch.inference_mode()
    def rewards() -> torch.Tensor:
        return model.score(model.base_model(IDS).last_hidden_state)[..., 0]

    before = rewards()
    return model, tuning.quantise(model, model.base_model, family, rewards), before, rewards()


@pytest.mark.filterwarnings("error:.*quanti.*")
@pytest.mark.parametrize("family", [*FAMILIES, "mistral_w8"])
def test_int8_says_how_far_rewards_are_off(family):
    model, int8, before, after = quantised(family)
    assert int8.error == pytest.approx(float((after - before).abs().mean()))
    assert 0 < int8.error < 0.25 * int8.spread
    assert str(int8) == f"int8: rewards differ by {int8.error:.2g} on average (their spread is {int8.spread:.2g})"
    assert isinstance(model.score, nn.Linear)  # heads stay float32
    assert not [m for m in model.base_model.modules() if tuning.is_plain_matrix(m)]


def test_a_model_that_cannot_be_int8_is_refused_in_words_and_stays_as_it_was(monkeypatch):
    model = tiny("llama", AutoModelForSequenceClassification, 1)
    with pytest.raises(ModelRefused, match="no Linear layers in float32"):
        tuning.quantise(copy.deepcopy(model).to(torch.bfloat16), model.base_model.to(torch.bfloat16), "rm", lambda: torch.zeros(2))
    model = tiny("llama", AutoModelForSequenceClassification, 1)
    before = logits(model)

    def broken(self, x):
        raise RuntimeError("no kernel for this")

    monkeypatch.setattr(tuning.Int8Linear, "forward", broken)
    with pytest.raises(ModelRefused, match="no kernel for this"):
        tuning.quantise(model, model.base_model, "rm", lambda: logits(model))
    assert torch.equal(logits(model), before)


def test_a_reward_model_says_its_rewards_in_int8():
    reward_model = tiny_reward("llama", 70)  # a seed of its own: models of one seed are shared by all tests
    strategy, model = reward_model.backbone.strategy, reward_model.loaded.model
    int8 = tuning.quantise(model, model.base_model, "rm", lambda: torch.tensor(reward_model.along([5, 17], [[42, 8, 63], [2, 71, 50]])))
    assert int8.num_layers == 14 and 0 < int8.error < 0.25 * int8.spread
    assert strategy == "siblings"


# --- threads ------------------------------------------------------------------------------------------------------------


@pytest.fixture
def two_threads(monkeypatch):
    """As if torch used two by itself, whatever the tests' own environment says."""
    for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS"):
        monkeypatch.delenv(name, raising=False)
    before = torch.get_num_threads()
    monkeypatch.setattr(tuning, "DEFAULT_THREADS", 2)
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


class Clock:
    """A step that takes 2 s with one thread and `with_two` with two, on a clock of its own."""

    def __init__(self, monkeypatch, with_two: float):
        self.now, self.with_two, self.calls = 0.0, with_two, 0
        monkeypatch.setattr(tuning.time, "perf_counter", lambda: self.now)

    def __call__(self) -> None:
        self.calls += 1
        self.now += 2.0 if torch.get_num_threads() == 1 else self.with_two


@pytest.mark.parametrize(("with_two", "chosen"), [(1.0, 2), (1.9, 1), (3.0, 1)])
def test_two_threads_are_used_where_they_are_clearly_faster(with_two, chosen, two_threads, monkeypatch):
    assert tuning.choose_threads(Clock(monkeypatch, with_two), weights=1000) == chosen
    assert torch.get_num_threads() == 2  # choosing sets nothing


def test_a_number_that_was_set_is_kept_without_measuring(two_threads, monkeypatch):
    clock = Clock(monkeypatch, 3.0)
    assert tuning.choose_threads(clock, weights=tuning.ALL_THREADS_FROM) == 2
    monkeypatch.setenv("OMP_NUM_THREADS", "2")
    assert tuning.choose_threads(clock, weights=1000) == 2
    monkeypatch.delenv("OMP_NUM_THREADS")
    monkeypatch.setattr(tuning, "DEFAULT_THREADS", 4)
    assert tuning.choose_threads(clock, weights=1000) == 2
    assert clock.calls == 0


def test_a_step_that_fails_leaves_the_number_as_it_was(two_threads):
    def fails() -> None:
        raise RuntimeError("out of memory")

    with pytest.raises(RuntimeError):
        tuning.choose_threads(fails, weights=1000)
    assert torch.get_num_threads() == 2


def test_threads_are_a_matter_of_the_thread_that_computes(two_threads):
    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor(1) as worker:
        assert worker.submit(torch.get_num_threads).result() == 2
        tuning.use_threads(1)
        assert worker.submit(torch.get_num_threads).result() == 2  # it computed already and keeps its own
        worker.submit(tuning.use_threads, 1).result()
        assert worker.submit(torch.get_num_threads).result() == 1
        tuning.use_threads(0)
        assert torch.get_num_threads() == 1
    assert "OMP_NUM_THREADS" not in os.environ
