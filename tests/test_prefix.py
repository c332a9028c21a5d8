"""Laws of growing prefixes, for base LM and reward model, over families: cached equals plain, batched equals single, forked equals fresh."""

import pytest
import torch
from tiny_models import FAMILIES, OTHERS, REAL_MODELS, VOCABULARY, save_with_head, tiny_lm, tiny_reward

from rgtg.models.lm import BaseLM
from rgtg.models.loading import load_causal_lm, load_classifier
from rgtg.models.prefix import encode
from rgtg.rewards.scalar import ScalarRewardModel

TEXTS = [[0, 5, 17, 40, 8, 61, 23], [0, 9], [0, 33, 71, 12, 90]]


def draw(rows: int, k: int, seed: int) -> list[list[int]]:
    return torch.randint(0, VOCABULARY, (rows, k), generator=torch.Generator().manual_seed(seed)).tolist()


def plain_rewards(reward_model, texts: list[list[int]]) -> torch.Tensor:
    return torch.stack([reward_model.head(encode(reward_model.backbone, [text]))[0, 0] for text in texts]).detach()


def plain_log_probs(lm, texts: list[list[int]]) -> torch.Tensor:
    return torch.stack([lm.loaded.model(torch.tensor([text])).logits[0, -1].log_softmax(-1) for text in texts]).detach()


def close(found: torch.Tensor, wanted: torch.Tensor) -> None:
    torch.testing.assert_close(found, wanted, rtol=0, atol=1e-4)


def law_of_rewards(reward_model) -> None:
    """Cached equals plain, forked equals fresh, while rows grow, are cut and finish."""
    prefixes, texts = reward_model.start(TEXTS), [list(t) for t in TEXTS]

    def check(seed: int) -> list[list[int]]:
        ids = draw(len(texts), 4, seed)
        wanted = torch.stack([plain_rewards(reward_model, [t + [c] for c in row]) for t, row in zip(texts, ids, strict=True)])
        close(prefixes.score(ids), wanted)
        return ids

    for seed in range(5):  # keep a candidate in every row, one of them the second, one a stranger
        ids = check(seed)
        selected = [ids[0][1], ids[1][3], 77]
        prefixes.append(selected)
        for text, token in zip(texts, selected, strict=True):
            text.append(token)
        if seed % 2:
            close(prefixes.rewards(), plain_rewards(reward_model, texts))
    lengths = [len(texts[0]), 3, len(texts[2]) - 2]
    prefixes.truncate(lengths)
    texts = [t[:n] for t, n in zip(texts, lengths, strict=True)]
    check(10)
    prefixes = prefixes.fork([2, 2, 0, 1])
    texts = [list(texts[i]) for i in (2, 2, 0, 1)]
    ids = check(11)
    prefixes.append([row[2] for row in ids])
    texts = [t + [row[2]] for t, row in zip(texts, ids, strict=True)]
    close(prefixes.rewards(), plain_rewards(reward_model, texts))
    prefixes.finish([0, 2])
    for seed in (12, 13):
        ids = draw(4, 4, seed)
        found = prefixes.score(ids)
        for row in (1, 3):
            close(found[row], plain_rewards(reward_model, [texts[row] + [c] for c in ids[row]]))
        prefixes.append([row[0] for row in ids])
        for row in (1, 3):
            texts[row].append(ids[row][0])
    close(prefixes.rewards(), plain_rewards(reward_model, texts))


def law_of_log_probs(lm) -> None:
    """Cached equals plain, forked equals fresh, while rows grow and are cut."""
    prefixes, texts = lm.start(TEXTS), [list(t) for t in TEXTS]
    close(prefixes.log_probs(), plain_log_probs(lm, texts))
    for token in (4, 50, 93):
        prefixes.append([token, token + 1, token + 2])
        for i, text in enumerate(texts):
            text.append(token + i)
        close(prefixes.log_probs(), plain_log_probs(lm, texts))
    prefixes.truncate([5, 3, 4])
    texts = [texts[0][:5], texts[1][:3], texts[2][:4]]
    close(prefixes.log_probs(), plain_log_probs(lm, texts))
    forked = prefixes.fork([1, 0, 1])
    forked.append([7, 8, 9])
    close(forked.log_probs(), plain_log_probs(lm, [texts[1] + [7], texts[0] + [8], texts[1] + [9]]))
    prefixes.append([11, 12, 13])
    close(prefixes.log_probs(), plain_log_probs(lm, [texts[0] + [11], texts[1] + [12], texts[2] + [13]]))


def law_of_batches(lm, reward_model) -> None:
    """Batched equals single."""
    ids = draw(3, 5, 0)
    together, log_probs = reward_model.start(TEXTS).score(ids), lm.start(TEXTS).log_probs()
    for row, text in enumerate(TEXTS):
        close(reward_model.start([text]).score([ids[row]])[0], together[row])
        close(lm.start([text]).log_probs()[0], log_probs[row])


@pytest.mark.parametrize("family", [*FAMILIES, *OTHERS])
def test_cached_scores_equal_plain_ones_while_rows_grow_fork_are_cut_and_finish(family):
    law_of_rewards(tiny_reward(family))


@pytest.mark.parametrize("family", [*FAMILIES, *OTHERS])
def test_cached_log_probs_equal_plain_ones(family):
    law_of_log_probs(tiny_lm(family))


@pytest.mark.parametrize("family", [*FAMILIES, *OTHERS])
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
    reward_model = tiny_reward()
    ids = [[3, 4, 5]] * 3
    prefixes = reward_model.start([TEXTS[0]] * 3)
    assert prefixes.num_forwards == 1
    found = prefixes.score(ids)
    close(found[1], found[0])
    close(found[0], plain_rewards(reward_model, [TEXTS[0] + [c] for c in ids[0]]))


def test_a_kept_candidate_costs_no_forward():
    prefixes = tiny_reward().start([TEXTS[0]])
    prefixes.score([[3, 4, 5]])
    before = prefixes.num_forwards
    prefixes.append([4])
    prefixes.rewards()
    assert prefixes.num_forwards == before
    prefixes.score([[6, 7, 8]])
    assert prefixes.num_forwards == before + 1


def test_a_finished_row_is_not_in_the_forward():
    lm, seen = tiny_lm(), []
    prefixes = lm.start(TEXTS)
    prefixes.log_probs()
    prefixes.finish([0, 2])
    hook = lm.loaded.model.base_model.register_forward_pre_hook(lambda m, a, kw: seen.append(kw["input_ids"].shape), with_kwargs=True)
    prefixes.append([4, 5, 6])
    found = prefixes.log_probs()
    hook.remove()
    assert seen == [(1, 1)]
    assert found[0].isnan().all() and not found[1].isnan().any()
    assert prefixes.rows.texts == [TEXTS[0], TEXTS[1] + [5], TEXTS[2]]


def test_the_cache_grows_beyond_what_was_reserved():
    lm = tiny_lm()
    prefixes, text = lm.start([TEXTS[1]], reserve=2), list(TEXTS[1])
    for token in range(20, 40):
        prefixes.append([token])
        text.append(token)
        found = prefixes.log_probs()
    close(found, plain_log_probs(lm, [text]))


def test_strategy_is_found_by_trying():
    assert {f: tiny_reward(f).backbone.strategy for f in [*FAMILIES, *OTHERS]} == {
        **dict.fromkeys([*FAMILIES, "mistral_w8", "gemma2_w8"], "siblings"),
        **dict.fromkeys(["bloom", "falcon_alibi"], "rows"),
    }


@pytest.mark.parametrize("strategy", ["rows", "reencode"])
def test_every_strategy_gives_the_same_rewards(strategy):
    from dataclasses import replace

    usual = tiny_reward("gpt2")
    other = replace(usual, backbone=replace(usual.backbone, strategy=strategy))
    a, b = usual.start(TEXTS), other.start(TEXTS)
    for seed in range(3):
        ids = draw(3, 4, seed)
        close(b.score(ids), a.score(ids))
        for prefixes in (a, b):
            prefixes.append([row[1] for row in ids])
        close(b.rewards(), a.rewards())
    assert other.cost != usual.cost


def test_candidate_equal_to_pad_is_scored_as_the_token_it_is():
    reward_model = tiny_reward()  # pad is eos, id 1
    found = reward_model.start([TEXTS[0]]).score([[1, 5]])[0]
    close(found, plain_rewards(reward_model, [TEXTS[0] + [1], TEXTS[0] + [5]]))
