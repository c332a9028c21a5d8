"""Rewards on text: the base LM's ids become text once, half characters wait, ends are facts, and nothing is scored twice."""

from types import SimpleNamespace

import pytest
from test_engine import collect, ids, run
from tiny_models import tiny_lm, tiny_reward
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from rgtg.engine import Models
from rgtg.records import ModelRef
from rgtg.rewards.base import Opening
from rgtg.rewards.text import AT_ONCE, Answer, TextPrefixes, TextRewardModel, TextScorer


class Counting(TextScorer):
    """The number of `e`, less a tenth per character, and 5 where the answer is complete; it keeps what it was asked."""

    def __init__(self):
        self.asked: list[Answer] = []

    def score_texts(self, answers):
        assert len(set(answers)) == len(answers)
        self.asked += answers
        self.num_forwards += 1
        return [value(answer) for answer in answers]


def value(answer: Answer) -> float:
    return answer.response.count("e") - 0.1 * len(answer.response) + 5.0 * answer.complete + 0.01 * len(answer.prompt)


class Letters(TextRewardModel):
    """Counts letters."""

    ref = ModelRef("letters", "1")
    cost = "no forward"

    def scorer(self, lm):
        return Counting()


def bytes_lm():
    """A base LM of single bytes, as far as a reward on text knows it; id 256 ends an answer."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(models.BPE(vocab={token: i for i, token in enumerate([*alphabet, "</s>"])}, merges=[]))
    tokenizer.pre_tokenizer, tokenizer.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="</s>")
    return SimpleNamespace(loaded=SimpleNamespace(tokenizer=fast, eos_ids=frozenset({256}), silent_ids=frozenset({256})))


def started(lm, prompt="ab", response="", num_slots=1):
    encode = lambda text: lm.loaded.tokenizer(text)["input_ids"]  # noqa: E731
    return TextPrefixes(Counting(), lm, [Opening(prompt, encode(prompt))] * num_slots, [encode(response)] * num_slots)


def test_bytes_of_a_character_wait_until_it_is_complete_and_cost_nothing():
    lm = bytes_lm()
    batch, (first, second) = started(lm), lm.loaded.tokenizer("é")["input_ids"]
    batch.append(0, first)
    assert batch.forward({0: (second,)})[0] == ([value(Answer("ab", "", False))], value(Answer("ab", "", False)), [value(Answer("ab", "é", False))])
    assert batch.scorer.asked == [Answer("ab", "", False), Answer("ab", "é", False)]
    batch.append(0, second)
    batch.append(0, first)
    assert batch.forward({0: ()})[0].new == [value(Answer("ab", "é", False))]
    assert len(batch.scorer.asked) == 2, "the text is as it was"
    assert batch.forward({0: (256,)})[0].candidates == [value(Answer("ab", "é\ufffd", True))], "an end completes what is left"


def test_an_end_token_adds_no_text_and_completes_the_answer():
    lm = bytes_lm()
    batch = started(lm, response="be")
    assert batch.forward({0: ()})[0] == ([], value(Answer("ab", "be", False)), []), "nobody waits for the rewards of given tokens"
    assert batch.scorer.asked == [Answer("ab", "be", False)]
    assert batch.forward({0: (256,)})[0].candidates == [value(Answer("ab", "be", True))]
    batch.append(0, 256)
    assert batch.forward({0: ()})[0].reward == value(Answer("ab", "be", True))
    batch.truncate(0, 1)
    assert batch.forward({0: ()})[0].reward == value(Answer("ab", "b", False))


def test_copies_go_their_own_way_and_keep_what_is_scored():
    lm = bytes_lm()
    batch, (a, b, e) = started(lm, num_slots=3), lm.loaded.tokenizer("abe")["input_ids"]
    batch.append(0, e)
    batch.forward({0: (a, b)})
    batch.copy([0, 0], [1, 2])
    for slot, token in enumerate((a, b, e)):
        batch.append(slot, token)
    num = len(batch.scorer.asked)
    found = batch.forward({0: (), 1: (), 2: ()})
    assert [found[slot].reward for slot in range(3)] == pytest.approx([value(Answer("ab", text, False)) for text in ("ea", "eb", "ee")])
    assert [answer.response for answer in batch.scorer.asked[num:]] == ["eb", "ee"], "slot 0 took a candidate that is scored"
    batch.copy([0, 1], [1, 0])
    assert [batch.forward({slot: ()})[slot].reward for slot in (0, 1)] == [found[1].reward, found[0].reward]


def test_of_many_texts_the_current_ones_are_scored_first():
    lm = bytes_lm()
    batch, tokens = started(lm, num_slots=2), lm.loaded.tokenizer("e" * AT_ONCE)["input_ids"]
    for slot in (0, 1):
        for token in tokens:
            batch.append(slot, token)
    found = batch.forward({0: (), 1: ()})
    assert len(batch.scorer.asked) == 1 and found[0].new == found[1].new == [found[0].reward]
    assert batch.forward({0: ()})[0].new == pytest.approx([value(Answer("ab", "e" * n, False)) for n in range(1, AT_ONCE + 1)])


def test_under_every_kind_of_method_rewards_are_those_of_the_text_shown():
    lm = tiny_lm()
    found = Models(lm, {"letters": Letters(), "one": tiny_reward("llama", 1, "one")})
    methods = ("pargs", "args", "best-of-n", "cards", "particles", "block-best-of-k")
    runs = [run(found, method, observers=("letters", "one"), tokens=8, reward_model="letters") for method in methods]
    columns, ends = collect(runs, found)
    for r, steps, end in zip(runs, columns, ends, strict=True):
        assert not end.error and len(steps) > 3, r.method
        text = ""
        for step in steps:
            text += step.text
            complete = step.token_id in lm.loaded.eos_ids
            assert step.reward("letters") == pytest.approx(value(Answer("the food", text, complete))), r.method
        reader, opening = Letters().reads(lm), Opening(r.prompt, r.prompt_ids)
        assert reader.along(opening, [ids(steps)])[0] == pytest.approx([s.reward("letters") for s in steps])
        assert reader.score(opening, ids(steps)) == pytest.approx(steps[-1].reward("letters"))
    (alone,), _ = collect(runs[:1], found)
    assert ids(alone) == ids(columns[0])
