"""Laws of growing prefixes, for base LM and reward model, over families: cached equals plain, batched equals single, copied equals fresh."""

from dataclasses import replace

import pytest
import torch
from tiny_models import FAMILIES, OTHERS, REAL_MODELS, VOCABULARY, save_with_head, tiny_lm, tiny_reward

from rgtg.errors import Stopped
from rgtg.models.lm import BaseLM
from rgtg.models.loading import load_causal_lm, load_classifier
from rgtg.models.prefixes import growing
from rgtg.models.prefixes.backbone import encode
from rgtg.models.prefixes.cache import RowCache
from rgtg.rewards.scalar import ScalarRewardModel
from rgtg.system.stopping import stoppable

FEW = ("llama", "mistral_w8", "bloom")  # no window, a window, positions from the mask
MOST_SLOW = [family if family in FEW else pytest.param(family, marks=pytest.mark.slow) for family in (*FAMILIES, *OTHERS)]
TEXTS = [[0, 5, 17, 40, 8, 61, 23], [0, 9], [0, 33, 71, 12, 90]]


def draw(rows: int, k: int, seed: int) -> list[list[int]]:
    return torch.randint(0, VOCABULARY, (rows, k), generator=torch.Generator().manual_seed(seed)).tolist()


def plain_rewards(reward_model, texts: list[list[int]]) -> torch.Tensor:
    return torch.stack([reward_model.head(encode(reward_model.backbone, [text]))[0, 0] for text in texts]).detach()


def plain_log_probs(lm, texts: list[list[int]]) -> torch.Tensor:
    return torch.stack([lm.loaded.model(torch.tensor([text])).logits[0, -1].log_softmax(-1) for text in texts]).detach()


def close(found: torch.Tensor, wanted: torch.Tensor) -> None:
    torch.testing.assert_close(found, wanted, rtol=0, atol=1e-4)


def law_of_rewards(reward_model, plain=plain_rewards) -> None:
    """Cached equals plain, copied equals fresh, while slots grow, are cut, become copies, and are asked together or apart."""
    prefixes, texts = reward_model.start([t[:1] for t in TEXTS], [t[1:] for t in TEXTS]), [list(t) for t in TEXTS]

    def check(seed: int, slots=(0, 1, 2), k=(4, 4, 4)) -> list[list[int]]:
        ids = draw(len(texts), 4, seed)
        answers = prefixes.forward({slot: ids[slot][: k[slot]] for slot in slots})
        for slot in slots:
            close(torch.tensor(answers[slot].candidates), plain(reward_model, [texts[slot] + [c] for c in ids[slot][: k[slot]]]))
        return ids

    def stands(slots=(0, 1, 2)) -> None:
        answers = prefixes.forward(dict.fromkeys(slots, ()))
        close(torch.tensor([answers[slot].reward for slot in slots]), plain(reward_model, [texts[slot] for slot in slots]))

    def append(slot: int, token: int) -> None:
        prefixes.append(slot, token)
        texts[slot].append(token)

    for seed in range(5):  # a candidate is taken in two slots, in one of them another than the first, a stranger in the third
        ids = check(seed, k=(4, 2 + seed % 3, 3))
        for slot, token in enumerate((ids[0][1], ids[1][1], 77)):
            append(slot, token)
        if seed % 2:
            stands()
    for slot, length in enumerate((len(texts[0]), 3, len(texts[2]) - 2)):
        prefixes.truncate(slot, length - 1)  # of the response
        texts[slot] = texts[slot][:length]
    check(10, (0, 2))
    prefixes.copy([2, 2, 0], [0, 1, 2])  # all at once: each gets what was there before
    texts[:] = [list(texts[2]), list(texts[2]), list(texts[0])]
    ids = check(11)
    for slot in range(3):
        append(slot, ids[slot][2])
    stands((1,))
    for seed in (12, 13):  # a slot that is not asked for a while, in the middle
        ids = check(seed, (0, 2), (4, 4, 1))
        append(0, ids[0][0])
        append(2, ids[2][0])
        append(1, 5 + seed)
    answers = prefixes.forward({1: ()})[1]
    close(torch.tensor(answers.new), plain(reward_model, [texts[1][:-1], texts[1]]))
    stands()
    prefixes.copy([1], [0])
    texts[0] = list(texts[1])
    append(0, 8)
    check(14)


def law_of_log_probs(lm) -> None:
    """Cached equals plain, copied equals fresh, while slots grow and are cut."""
    prefixes, texts = lm.start([t[:1] for t in TEXTS], [t[1:] for t in TEXTS]), [list(t) for t in TEXTS]

    def check(slots=(0, 1, 2)) -> None:
        close(prefixes.forward(list(slots)).log_softmax(-1), plain_log_probs(lm, [texts[slot] for slot in slots]))

    def append(slot: int, token: int) -> None:
        prefixes.append(slot, token)
        texts[slot].append(token)

    check()
    for token in (4, 50, 93):
        for slot in range(3):
            append(slot, token + slot)
        check()
    for slot, length in enumerate((5, 3, 4)):
        prefixes.truncate(slot, length - 1)
        texts[slot] = texts[slot][:length]
    check((2, 0))
    prefixes.copy([1, 0], [0, 2])
    texts[:] = [list(texts[1]), texts[1], list(texts[0])]
    for slot, token in enumerate((7, 8, 9)):
        append(slot, token)
    check()
    append(1, 11)
    check((1,))
    check()  # nothing new in two of them


def law_of_batches(lm, reward_model) -> None:
    """Batched equals single."""
    ids = draw(3, 5, 0)
    together, logits = reward_model.start(TEXTS).forward(dict(enumerate(ids))), lm.start(TEXTS).forward([0, 1, 2])
    for slot, text in enumerate(TEXTS):
        close(torch.tensor(reward_model.start([text]).forward({0: ids[slot]})[0].candidates), torch.tensor(together[slot].candidates))
        close(lm.start([text]).forward([0])[0].log_softmax(-1), logits[slot].log_softmax(-1))


@pytest.mark.parametrize("family", [*FAMILIES, *OTHERS])
def test_cached_scores_equal_plain_ones_while_slots_grow_are_copied_and_cut(family):
    law_of_rewards(tiny_reward(family))


@pytest.mark.parametrize("family", [*FAMILIES, *OTHERS])
def test_cached_log_probs_equal_plain_ones(family):
    law_of_log_probs(tiny_lm(family))


@pytest.mark.parametrize("family", MOST_SLOW)
def test_batched_equals_single(family):
    law_of_batches(tiny_lm(family), tiny_reward(family))


@pytest.mark.slow
@pytest.mark.parametrize("name", REAL_MODELS)
def test_real_models_obey_the_laws(shared, tmp_path, name):
    lm = BaseLM.of(load_causal_lm(str(shared / "models" / name), device="cpu"))
    reward_model = ScalarRewardModel.of(load_classifier(str(save_with_head(shared / "models" / name, tmp_path / "rm")), device="cpu"))
    law_of_log_probs(lm)
    law_of_rewards(reward_model)
    law_of_batches(lm, reward_model)
    assert float(plain_rewards(reward_model, TEXTS).std()) > 0.1, "rewards that differ, or the laws say nothing"


def test_equal_prompts_are_read_once_and_score_alike():
    reward_model, ids = tiny_reward(), [3, 4, 5]
    prefixes = reward_model.start([TEXTS[0]] * 3)
    assert prefixes.num_forwards == 1
    answers = prefixes.forward(dict.fromkeys(range(3), ids))
    assert prefixes.num_forwards == 2
    for slot in range(3):
        close(torch.tensor(answers[slot].candidates), plain_rewards(reward_model, [TEXTS[0] + [c] for c in ids]))


def test_a_kept_candidate_costs_no_forward():
    prefixes = tiny_reward().start([TEXTS[0]])
    answers = prefixes.forward({0: [3, 4, 5]})[0]
    before = prefixes.num_forwards
    prefixes.append(0, 4)
    now = prefixes.forward({0: ()})[0]
    assert prefixes.num_forwards == before and now.reward == answers.candidates[1] and list(now.new) == []
    prefixes.forward({0: [6, 7, 8]})
    assert prefixes.num_forwards == before + 1


def test_a_slot_that_is_not_asked_is_not_in_the_forward():
    lm, seen = tiny_lm(), []
    prefixes = lm.start(TEXTS)
    prefixes.forward([0, 1, 2])
    hook = lm.loaded.model.base_model.register_forward_pre_hook(lambda m, a, kw: seen.append(kw["input_ids"].shape), with_kwargs=True)
    for slot in range(3):
        prefixes.append(slot, 4 + slot)
    prefixes.forward([1])
    prefixes.forward([0, 2])
    prefixes.forward([2, 1])
    hook.remove()
    assert seen == [(1, 1), (2, 1)]


def test_a_copy_moves_only_what_both_do_not_share(monkeypatch):
    prefixes, moved = tiny_lm().start([TEXTS[0]] * 2), []
    whole = RowCache.copy
    monkeypatch.setattr(RowCache, "copy", lambda self, a, b, start, stop: (moved.append((start, stop)), whole(self, a, b, start, stop))[0])
    for token in (4, 5):
        for slot in (0, 1):
            prefixes.append(slot, token + slot)
        prefixes.forward([0, 1])
    prefixes.copy([1], [0])
    assert moved == [(len(TEXTS[0]), len(TEXTS[0]) + 2)]


def test_the_cache_grows_beyond_what_was_reserved():
    lm = tiny_lm()
    prefixes, text = lm.start([TEXTS[1]], reserve=2), list(TEXTS[1])
    for token in range(20, 40):
        prefixes.append(0, token)
        text.append(token)
        found = prefixes.forward([0]).log_softmax(-1)
    close(found, plain_log_probs(lm, [text]))


def test_strategy_is_found_by_trying():
    assert {f: tiny_reward(f).backbone.strategy for f in [*FAMILIES, *OTHERS]} == {
        **dict.fromkeys([*FAMILIES, "mistral_w8", "gemma2_w8"], "siblings"),
        **dict.fromkeys(["bloom", "falcon_alibi"], "rows"),
    }


@pytest.mark.parametrize("strategy", ["rows", "reencode"])
def test_every_strategy_gives_the_same_rewards(strategy):
    usual = tiny_reward("gpt2")
    other = replace(usual, backbone=replace(usual.backbone, strategy=strategy))
    law_of_rewards(other)
    assert other.cost != usual.cost


def test_candidate_equal_to_pad_is_scored_as_the_token_it_is():
    reward_model = tiny_reward()  # pad is eos, id 1
    found = reward_model.start([TEXTS[0]]).forward({0: [1, 5]})[0].candidates
    close(torch.tensor(found), plain_rewards(reward_model, [TEXTS[0] + [1], TEXTS[0] + [5]]))


@pytest.mark.parametrize("family", MOST_SLOW)
def test_a_long_text_that_is_read_in_pieces_obeys_the_laws(family, monkeypatch):
    monkeypatch.setattr(growing, "PART_ON_CPU", 4)  # two tokens of a text at once
    law_of_rewards(tiny_reward(family))
    lm = tiny_lm(family)
    texts = [draw(1, length, length)[0] for length in (11, 3, 8)]
    rows = lm.start(texts)
    close(rows.forward([0, 1, 2]).log_softmax(-1), plain_log_probs(lm, texts))


def test_one_stops_between_the_pieces_of_a_long_prompt(monkeypatch):
    monkeypatch.setattr(growing, "PART_ON_CPU", 8)
    (prompt,) = draw(1, 40, 0)
    rows = tiny_lm().start([prompt])
    with pytest.raises(Stopped), stoppable(lambda: rows.num_forwards == 3):
        rows.forward([0])
    assert rows.num_forwards == 3, "12 of 40 tokens are read"
    close(rows.forward([0]).log_softmax(-1), plain_log_probs(tiny_lm(), [prompt]))  # whoever waits again goes on from there
