"""Growing prefixes of recurrent and hybrid models: the same laws, and what their states save."""

import pytest
import torch
from test_prefix import TEXTS, close, draw, law_of_batches, law_of_log_probs, law_of_rewards, plain_log_probs
from tiny_models import HYBRIDS, tiny_lm, tiny_reward

from rgtg.models.prefixes import growing
from rgtg.models.prefixes.states import MAX_MARKS, GrowingStates

FAMILIES = ["qwen3_5", pytest.param("jamba", marks=pytest.mark.slow)]
STRATEGIES = {"qwen3_5": "states", "jamba": "steps"}


def num_positions(lm) -> list[int]:
    """The positions of each forward from here on."""
    seen: list[int] = []
    lm.loaded.model.base_model.register_forward_pre_hook(lambda module, args, kw: seen.append(kw["input_ids"].numel()), with_kwargs=True)
    return seen


@pytest.mark.parametrize("family", FAMILIES)
def test_scores_over_states_equal_plain_ones_while_slots_grow_are_copied_and_cut(family):
    reward_model = tiny_reward(family)
    assert reward_model.backbone.strategy == STRATEGIES[family]
    law_of_rewards(reward_model)


@pytest.mark.slow
@pytest.mark.parametrize("family", HYBRIDS)
def test_log_probs_over_states_equal_plain_ones_and_batched_equals_single(family):
    law_of_log_probs(tiny_lm(family))
    law_of_batches(tiny_lm(family), tiny_reward(family))


def test_a_long_text_is_read_in_blocks_behind_its_state(monkeypatch):
    monkeypatch.setattr(growing, "PART_ON_CPU", 8)
    lm, texts = tiny_lm("qwen3_5"), [draw(1, length, length)[0] for length in (11, 3, 11)]
    rows = lm.start(texts)
    close(rows.forward([0, 1, 2]).log_softmax(-1), plain_log_probs(lm, texts))
    assert rows.num_forwards == 3 + 1, "4, 4 and 3 of two texts together, and the short one"


@pytest.mark.parametrize("family", HYBRIDS)
def test_a_token_costs_one_position_and_a_taken_candidate_none(family):
    reward_model = tiny_reward(family)
    rows, seen = reward_model.start([TEXTS[0]] * 2), num_positions(reward_model)
    rows.forward({0: [3, 4, 5], 1: [6, 7]})
    for slot, token in enumerate((4, 6)):
        rows.append(slot, token)
    rows.forward({0: [], 1: []})
    rows.append(0, 9)
    rows.forward({0: []})
    assert seen == [5, 1], "the prompt is read before, once for both"


def test_a_segment_that_is_rejected_again_is_cut_without_reading():
    lm = tiny_lm("qwen3_5")
    rows, seen = lm.start([TEXTS[0]]), []
    rows.forward([0])
    seen = num_positions(lm)
    for first in (5, 15):
        for token in range(first, first + 4):
            rows.append(0, token)
            rows.forward([0])
        rows.truncate(0, 0)
    rows.forward([0])
    assert seen == [1] * 8, "back at the prompt its state is still there"


def test_a_slot_keeps_few_states_and_its_first():
    lm = tiny_lm("qwen3_5")
    rows = lm.start([TEXTS[0]]).rows
    for _ in range(6):
        for token in (4, 5):
            rows.append(0, token)
        rows.forward({0: ()})
    assert isinstance(rows, GrowingStates)
    assert [mark.length for mark in rows._marks[0]] == [9, 15, 17, 19] and MAX_MARKS == 4


def test_a_slot_that_is_distrusted_goes_on_plainly():
    lm = tiny_lm("qwen3_5")
    rows, text = lm.start([TEXTS[0]]), list(TEXTS[0])
    rows.forward([0])
    rows.disable_cache()
    for token in (4, 5):
        rows.append(0, token)
        text.append(token)
        close(rows.forward([0]).log_softmax(-1), plain_log_probs(lm, [text]))
    rows.truncate(0, 1)
    close(rows.forward([0]).log_softmax(-1), plain_log_probs(lm, [text[:-1]]))


def test_states_are_never_written_again():
    lm = tiny_lm("qwen3_5")
    rows = lm.start([TEXTS[0]]).rows
    rows.forward({0: ()})
    state = rows._states[0]
    before = [tensor.clone() for layer in state.cache.layers for tensor in tensors_of(layer)]
    rows.forward({0: [5, 6]})
    rows.append(0, 5)
    rows.forward({0: [7]})
    assert before and all(torch.equal(a, b) for a, b in zip(before, (t for layer in state.cache.layers for t in tensors_of(layer)), strict=True))


def tensors_of(layer) -> list[torch.Tensor]:
    kept = [*vars(layer).values(), *getattr(layer, "conv_states", {}).values(), *getattr(layer, "recurrent_states", {}).values()]
    return [value for value in kept if isinstance(value, torch.Tensor)]
