"""Measuring in the memory there is: answers go through in batches by what a forward gives out, halved where that does not fit."""

import pytest
import torch
from tiny_models import TOKEN_KINDS, VOCABULARY, tiny
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification

from rgtg.preferences.batches import TokenPair
from rgtg.training import criterion
from rgtg.training.criterion import Scorer, criterion_for
from rgtg.training.evaluate import measure
from rgtg.training.losses import token_log_probs
from rgtg.training.objectives import OBJECTIVES, Partial

PROMPTS = [(0, 5, 6)] * 8
RESPONSES = [(7, 8, 1), (9, 1), (7, 7, 7, 1), (1,), (8, 1), (9, 9, 1), (7, 1), (8, 8, 8, 1)]  # up to 7 tokens with the prompt


def rows_that_fit(monkeypatch, num_rows: int) -> list[int]:
    seen, forward = [], Scorer.forward

    def short(self, ids):
        if len(ids) > num_rows:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")
        seen.append(len(ids))
        return forward(self, ids)

    monkeypatch.setattr(Scorer, "forward", short)
    return seen


def model_of(objective: str) -> torch.nn.Module:
    return tiny("llama", AutoModelForCausalLM if objective in TOKEN_KINDS else AutoModelForSequenceClassification, 1)


@pytest.mark.parametrize("objective", ["partial", *(pytest.param(key, marks=pytest.mark.slow) for key in TOKEN_KINDS)])
def test_where_memory_runs_out_fewer_answers_are_measured_at_once_and_say_the_same(monkeypatch, objective):
    model = model_of(objective)
    start = tiny("llama", AutoModelForCausalLM, 2) if objective == "implicit" else model
    reads = criterion_for(start, OBJECTIVES[objective](), 1, 1)
    whole = reads.rewards(model, PROMPTS, RESPONSES)
    assert whole.shape == (8, 4)
    seen = rows_that_fit(monkeypatch, 3)
    for part, row, response in zip(reads.rewards(model, PROMPTS, RESPONSES), whole, RESPONSES, strict=True):
        assert part[: len(response)].tolist() == pytest.approx(row[: len(response)].tolist(), abs=1e-4)
    assert seen == [2, 2, 2, 2]


@pytest.mark.slow
def test_a_single_answer_that_does_not_fit_ends_it_with_the_reason(monkeypatch):
    model = model_of("partial")
    rows_that_fit(monkeypatch, 0)
    with pytest.raises(MemoryError, match="One answer at a time does not fit: CUDA out of memory"):
        criterion_for(model, Partial(), 1, 1).rewards(model, PROMPTS, RESPONSES)


def test_another_error_is_no_lack_of_memory(monkeypatch):
    model, forwards = model_of("partial"), []

    def broken(self, ids):
        forwards.append(len(ids))
        raise RuntimeError("The size of tensor a must match.")

    monkeypatch.setattr(Scorer, "forward", broken)
    with pytest.raises(RuntimeError, match="must match"):
        criterion_for(model, Partial(), 1, 1).rewards(model, PROMPTS, RESPONSES)
    assert forwards == [8]


@pytest.mark.parametrize(("objective", "outputs"), [("vocabulary", VOCABULARY), ("partial", 32)])
def test_how_many_answers_go_through_at_once_is_by_their_length_and_what_the_model_gives_out(monkeypatch, objective, outputs):
    model = model_of(objective)
    reads = criterion_for(model, OBJECTIVES[objective](), 1, 1)
    seen = rows_that_fit(monkeypatch, 99)
    monkeypatch.setattr(criterion, "AT_ONCE", 4 * 6 * outputs)  # four rows of six tokens; the third and the last have seven
    reads.rewards(model, PROMPTS, RESPONSES)
    assert seen == [3, 4, 1]
    seen.clear()
    monkeypatch.setattr(criterion, "AT_ONCE", 1)
    reads.rewards(model, PROMPTS, RESPONSES)
    assert seen == [1] * 8, "a row goes through, however long"


def test_log_probabilities_of_tokens_are_those_of_a_softmax_over_all():
    logits = torch.randn(2, 5, 9, generator=torch.Generator().manual_seed(0)).requires_grad_()
    ids = torch.tensor([[0, 3, 8, 1, 1], [0, 2, 2, 7, 1]])
    wanted = torch.stack([torch.stack([logits[r, t - 1].log_softmax(-1)[ids[r, t]] for t in range(1, 5)]) for r in range(2)])
    found = token_log_probs(logits, ids)
    assert found[:, 0].tolist() == [0.0, 0.0]
    torch.testing.assert_close(found[:, 1:], wanted)
    torch.testing.assert_close(*(torch.autograd.grad(values.sum(), logits)[0] for values in (found, wanted)))


def test_what_is_measured_knows_what_both_sides_share():
    model, items = (
        model_of("partial"),
        [TokenPair((0,), (5, 6, 1), (5, 7, 1)), TokenPair((0,), (5, 6, 1), (8, 7, 1), branch=2), TokenPair((0,), (5,), (6,))],
    )
    found = measure(criterion_for(model, Partial(), 1, 1), model, items, ["a", "b", "c"])
    assert found.num_common.tolist() == [1, 2, 0] and found.prompts == ("a", "b", "c")
    assert found.chosen_lengths.tolist() == [3, 3, 1] and found.gaps()[1].tolist() == [
        [False, True, True],
        [False, False, True],
        [True, False, False],
    ]
