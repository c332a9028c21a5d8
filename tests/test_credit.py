"""Token-credit views, against values by hand and the definitions read literally on tiny models."""

import pytest
import torch
from tiny_models import tiny_lm, tiny_reward, tiny_token_reward

from rgtg.errors import BadData
from rgtg.evaluation.examine.credit import (
    ATTENTION,
    DIFFERENCE,
    LOG_RATIO,
    MINIMUM,
    MOST_TOKENS,
    REWARD,
    SIBLING_GAP,
    VIEWS,
    attention,
    credit,
    views,
)
from rgtg.evaluation.examine.report import token_by_token, tokens_markdown
from rgtg.rewards.base import Opening
from rgtg.runs import Models

IDS = (5, 9, 7)


def opening() -> Opening:
    return Opening("ab", tiny_lm().loaded.encode_prompt("ab"))


def test_the_views_of_three_tokens():
    found = views([1.0, -1.0, 0.5], [0.5, 0.0, 0.0], [1.0, 1.0, 2.0], [0.1, 0.2, 0.3])
    assert found == {
        REWARD: (1.0, -1.0, 0.5),
        DIFFERENCE: (None, -2.0, 1.5),
        SIBLING_GAP: (0.5, -1.0, 0.5),
        MINIMUM: (1.0, -1.0, -1.0),
        ATTENTION: (0.25, 0.25, 0.5),
        LOG_RATIO: (0.1, 0.2, 0.3),
    }
    assert list(found) == list(VIEWS)
    assert views([2.0], empty=0.0) == {REWARD: (2.0,), DIFFERENCE: (2.0,), MINIMUM: (2.0,)}


@pytest.mark.parametrize("model", [tiny_reward(), tiny_token_reward("vocabulary"), tiny_token_reward("autoregressive")], ids=lambda m: m.name)
def test_the_sibling_gap_is_its_definition(model):
    lm, reader = tiny_lm(), model.reads(tiny_lm())
    found = credit(model, lm, opening(), IDS, k=3)
    assert len(found.tokens) == 3
    for i in range(3):
        text = torch.tensor([[*opening().ids, *IDS[:i]]])
        top = lm.loaded.model(text).logits[0, -1].softmax(-1).topk(3)
        rewards = [reader.along(opening(), [[*IDS[:i], v]])[0][-1] for v in top.indices.tolist()]
        expected = float((top.values / top.values.sum() * torch.tensor(rewards)).sum())
        assert found.views[SIBLING_GAP][i] == pytest.approx(found.views[REWARD][i] - expected, abs=2e-3)


def test_attention_is_that_of_the_last_layer_and_leaves_the_model_alone():
    model = tiny_reward()
    before = model.loaded.model.config._attn_implementation
    found = credit(model, tiny_lm(), opening(), IDS).views[ATTENTION]
    assert sum(found) == pytest.approx(1.0) and min(found) >= 0
    assert model.loaded.model.config._attn_implementation == before
    assert attention(model, object(), opening(), IDS) == [], "a model that reads other tokens has none of these"


def test_the_log_ratio_is_that_of_the_two_models():
    lm = tiny_lm()
    text = torch.tensor([[*opening().ids, *IDS]])
    at = slice(len(opening().ids) - 1, -1)
    own = tiny_token_reward("autoregressive")
    log_probs = [m.loaded.model(text).logits[0, at].log_softmax(-1).gather(1, torch.tensor(IDS)[:, None])[:, 0] for m in (own.lm, lm)]
    assert credit(own, lm, opening(), IDS).views[LOG_RATIO] == pytest.approx((log_probs[0] - log_probs[1]).tolist(), abs=1e-3)
    implicit = credit(tiny_token_reward("implicit"), lm, opening(), IDS).views
    assert implicit[LOG_RATIO] == pytest.approx(implicit[DIFFERENCE], abs=1e-4)
    assert sum(implicit[LOG_RATIO]) == pytest.approx(implicit[REWARD][-1], abs=1e-4)


def test_what_cannot_be_read_token_by_token_is_said():
    for ids in ((), (5,) * (MOST_TOKENS + 1)):
        with pytest.raises(BadData, match="token by token"):
            credit(tiny_reward(), tiny_lm(), opening(), ids)


def test_the_tables_have_a_row_a_token():
    models = Models(tiny_lm(), {"one": tiny_reward()})
    report = token_by_token(models, "ab", {"chosen": "a b", "rejected": None})
    assert list(report["one"]) == ["chosen"] and len(report["one"]["chosen"]["views"][REWARD]) == len(report["one"]["chosen"]["tokens"])
    assert tokens_markdown(report).count("\n| ") == 1 + len(report["one"]["chosen"]["tokens"])
