"""Decoders with another tokenizer: rewards are those of the text encoded anew, and only what changed is read again."""

import random

import pytest
import torch
from test_engine import collect, ids, run
from text_models import foreign
from tiny_models import tiny_lm, tiny_token_reward

from rgtg.engine import Models
from rgtg.errors import PromptTooLong, TokenizerMismatch
from rgtg.rewards.base import Opening
from rgtg.rewards.retokenized import CachedScorer, Retokenized, num_shared
from rgtg.rewards.scalar import ScalarRewardModel
from rgtg.rewards.text import Answer, TextReader

FAMILIES = ("llama", "mistral_w8", "bloom", "jamba")


def scorer_of(family: str = "llama") -> CachedScorer:
    model = ScalarRewardModel.of(foreign(family))
    return CachedScorer(Retokenized(model.loaded, model.backbone, model.head))


def plain(family: str, answer: Answer) -> float:
    """Reward by the model's own forward of the text, without a cache."""
    loaded = foreign(family)
    ids = loaded.tokenizer(answer.prompt + answer.response, split_special_tokens=True)["input_ids"] + [1] * answer.complete
    hidden = loaded.model.base_model(torch.tensor([ids]), use_cache=False).last_hidden_state
    return float(loaded.model.score(hidden[0, -1])[0])


@pytest.mark.parametrize("family", FAMILIES)
def test_growing_cut_and_copied_texts_have_the_rewards_of_plain_encoding(family):
    scorer, draw = scorer_of(family), random.Random(0)
    texts = {0: "", 1: "th", 2: "fo"}
    for _ in range(4):
        asked = []
        for slot in texts:
            texts[slot] = texts[draw.choice(list(texts))][: draw.choice((3, 100, 100, 100))] + draw.choice(("t", "he", "oo", "! !", "er", "!!"))
            asked += [Answer("the f", texts[slot] + more, more == "e") for more in ("h", "e", " th")]
        asked = list(dict.fromkeys(asked))[: draw.choice((2, 9, 9))]
        assert scorer.score_texts(asked) == pytest.approx([plain(family, answer) for answer in asked], abs=1e-4)
    asked = [Answer("er", "h", False), Answer("", "th", False)]
    assert scorer.score_texts(asked) == pytest.approx([plain(family, answer) for answer in asked], abs=1e-4)


def test_only_what_changed_is_read_again():
    scorer, text = scorer_of(), "the food was " * 6
    candidates = [Answer(text, more, False) for more in "abcd"]
    scorer.score_texts(candidates)
    rows = scorer._rows
    before = rows.num_forwards, rows.num_positions
    scorer.score_texts([Answer(text, "a" + more, False) for more in "efgh"])
    assert scorer._rows is rows and rows.num_forwards == before[0] + 1
    assert rows.num_positions - before[1] <= 4 * 3, "the last token of a row is read again for its state"
    assert num_shared([1, 2, 3], [1, 2, 4, 5]) == 2 and num_shared([], [1]) == 0


def test_a_foreign_decoder_guides_as_one_that_reads_text_and_a_next_token_reward_is_refused():
    model = ScalarRewardModel.of(foreign())
    found = Models(tiny_lm(), {model.name: model})
    assert isinstance(model.reads(tiny_lm()), TextReader)
    runs = [run(found, "pargs", reward_model=model.name, beta=beta, observers=(model.name,), tokens=8) for beta in (0.0, 4.0)]
    runs += [run(found, method, reward_model=model.name, tokens=8) for method in ("best-of-n", "cards")] + [run(found, "base", tokens=8)]
    (neutral, *guided, base), ends = collect(runs, found)
    assert ids(neutral) == ids(base) and not any(end.error for end in ends)
    for steps in guided:
        text = ""
        for step in steps:
            text += step.text
            answer = Answer("the food", text, step.token_id in tiny_lm().loaded.eos_ids)
            assert step.reward(model.name) == pytest.approx(plain("llama", answer), abs=1e-4)
    assert ends[1].reward_forwards < 20, "one forward a token, not one a candidate"
    with pytest.raises(TokenizerMismatch, match="do not share a tokenizer"):
        tiny_token_reward("vocabulary").reads(type(tiny_lm())(foreign(), None, None, None))
    with pytest.raises(PromptTooLong, match="foreign-llama"):
        model.reads(tiny_lm()).check_fits(Opening("b" * 29, ()), 100)


def test_of_a_text_beyond_its_context_the_first_and_the_last_tokens_are_read_and_it_says_so():
    scorer, loaded = scorer_of(), foreign()
    text = "x y z " * 30
    ids = loaded.tokenizer(text)["input_ids"]
    hidden = loaded.model.base_model(torch.tensor([[ids[0], *ids[1 - loaded.context :]]]), use_cache=False).last_hidden_state
    assert scorer.score_texts([Answer(text[:9], text[9:], False)]) == pytest.approx([float(loaded.model.score(hidden[0, -1])[0])], abs=1e-4)
    assert "`foreign-llama` reads 128 tokens" in scorer.remark
