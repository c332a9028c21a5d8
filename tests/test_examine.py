"""What `rgtg examine` says of reward models, against figures by hand and a model whose rewards are known."""

import json
from collections.abc import Sequence

import pytest
import torch
from tiny_models import tiny_lm, tiny_reward, tiny_token_reward

from rgtg.errors import BadData, ModelRefused
from rgtg.evaluation.examine import reading
from rgtg.evaluation.examine.figures import by_fraction, consistency_gap, distance, length_bias, rank_correlation, turning
from rgtg.evaluation.examine.report import _correlation, examine, markdown
from rgtg.preferences.formats import Example, Labelled, Reading
from rgtg.rewards.base import IdReader, Opening
from rgtg.runs import Models
from rgtg.training.held_out import Measured


def rewards(chosen: Sequence[Sequence[float]], rejected: Sequence[Sequence[float]], common: Sequence[int] = ()) -> Measured:
    width = max(map(len, [*chosen, *rejected]))
    rows = [torch.tensor([[*row, *[99.0] * (width - len(row))] for row in side]) for side in (chosen, rejected)]
    lengths = [torch.tensor(list(map(len, side))) for side in (chosen, rejected)]
    return Measured(*rows, *lengths, torch.tensor(common or [0] * len(chosen)), tuple(map(str, range(len(chosen)))))


def test_each_answer_is_cut_to_a_fraction_of_its_own_length():
    found = by_fraction(rewards([[0.0, 5.0], [1.0, 1.0, 1.0, 1.0]], [[1.0, 1.0, 1.0, 1.0], [2.0, 0.0]], [0, 2]), (0.5, 1.0))
    assert (found["0.5"]["accuracy"], found["0.5"]["n"]) == (0.0, 1), "of the second pair half an answer is what both have in common"
    assert (found["1"]["accuracy"], found["1"]["n"]) == (1.0, 2)


def test_a_pair_turns_where_the_judge_changes_its_mind():
    judge = rewards([[0.0, 0.0, 3.0], [1.0, 1.0, 1.0], [0.0, 0.0, 0.0]], [[1.0, 1.0, 1.0], [0.0, 0.0, 0.0], [1.0, 1.0, 1.0]])
    follows = turning(judge, judge)
    assert (follows["n"], follows["turn"]) == (1, 2.0), "the second never turns, and the third ends with the rejected answer ahead"
    assert (follows["before"]["accuracy"], follows["after"]["accuracy"]) == (0.0, 1.0)
    inherits = rewards([[1.0, 0.0, 1.0]] * 3, [[0.0, 1.0, 0.0]] * 3)
    assert (turning(inherits, judge)["before"]["accuracy"], turning(inherits, judge)["before"]["n"]) == (0.5, 1)
    assert turning(judge, rewards([[1.0]] * 3, [[0.0]] * 3)) == {"n": 0}


def test_a_prefix_is_ranked_among_longer_answers_only():
    found = rank_correlation(rewards([[1.0, 10.0], [2.0, 20.0], [3.0, 30.0]], [[4.0, 40.0], [9.0], [5.0, 50.0]]))
    assert found["1"] == {"correlation": 1.0, "n": 5} and "2" not in found
    assert rank_correlation(rewards([[3.0, 1.0], [2.0, 2.0]], [[1.0, 3.0], [0.0, 4.0]]))["1"]["correlation"] == -1.0


def test_no_correlation_is_a_figure():
    found = rank_correlation(rewards([[1.0, 1.0], [2.0, 2.0]], [[3.0, 2.0], [4.0, 1.0]]))["1"]
    assert found == {"correlation": 0.0, "n": 4} and _correlation(found) == "0.00 (n = 4)"
    assert _correlation(found | {"correlation": None}) == "–"


def test_the_bias_to_length_stands_beside_that_of_the_people():
    found = length_bias(rewards([[1.0, 9.0], [1.0], [5.0]], [[2.0], [1.0, 3.0], [4.0]]))
    assert (found["n"], found["longer_preferred"], found["longer_rewarded"]["mean"]) == (2, 0.5, 1.0)
    assert found["offsets"] == {"1": round((1 + 1 + 5 + 2 + 1 + 4) / 6, 4), "2": 6.0}


def test_the_distance_leaves_out_offsets_of_lengths_and_scale():
    one = rewards([[1.0, 2.0], [3.0, 0.0]], [[2.0, 5.0], [0.0, 1.0]])
    shifted = rewards([[12.0, 104.0], [16.0, 100.0]], [[14.0, 110.0], [10.0, 102.0]])  # 2 r + 10 at the first token, 2 r + 100 at the second
    opposite = rewards([[-1.0, -2.0], [-3.0, 0.0]], [[-2.0, -5.0], [0.0, -1.0]])
    assert distance(one, shifted)["distance"] == 0.0 and distance(one, opposite) == {"distance": 1.0, "correlation": -1.0, "n": 8}
    assert "same reward" in distance(one, rewards([[1.0, 2.0]] * 2, [[1.0, 2.0]] * 2))["why_not"]
    assert "other tokens" in distance(one, rewards([[1.0]], [[2.0]]))["why_not"]


def test_the_spread_is_taken_within_a_length():
    assert consistency_gap({1: [5.0, 5.0], 2: [-7.0, -7.0], 4: [100.0]}) == {"spread": 0.0, "n": 4}
    assert consistency_gap({1: [1.0, 3.0], 2: [0.0, 0.0]})["spread"] == round(0.5**0.5, 4) and consistency_gap({})["spread"] is None


TEXTS = [("ab", "a b c d", "c a"), ("ab", "b c", "d d a b"), ("cd", "a a a b d", "b")]
EXAMPLES = Reading(tuple(Example(i, *texts) for i, texts in enumerate(TEXTS, 1)), 3)


@pytest.fixture(scope="module")
def models() -> Models:
    return Models(tiny_lm(), {"one": tiny_reward(), "vocabulary": tiny_token_reward("vocabulary")})


def test_every_kind_of_model_is_examined_side_by_side(models):
    pairs = reading.Pairs(EXAMPLES, models.base_lm)
    report = examine(models, pairs, "one")
    assert json.loads(json.dumps(report, allow_nan=False)) == report and list(report["models"]) == ["one", "vocabulary"]
    one = report["models"]["one"]
    assert one["turning"]["n"] >= 0 and set(one["fooled"]) <= set(reading.TRICKS) and "next_tokens" not in one
    best, worst = (report["models"]["vocabulary"]["next_tokens"][side] for side in ("best", "worst"))
    assert best[0][1] == max(value for _, value in best) >= max(value for _, value in worst)
    assert report["distances"][0]["a"] == "one" and 0 <= report["distances"][0]["distance"] <= 1
    text = markdown(report)
    assert "| tokens | one | vocabulary |" in text and "0 pairs" not in text.splitlines()[0]


def test_rewards_are_those_of_each_answer_alone_whatever_is_read_together(models):
    reader = models.reader("one")
    pairs = reading.Pairs(EXAMPLES, models.base_lm).read
    found = reading.measured(reader, pairs)
    for row, pair in enumerate(pairs):
        wanted = reader.along(pair.opening, [pair.tokens.chosen_ids])[0]
        assert found.chosen[row, : len(wanted)].tolist() == pytest.approx(wanted, abs=1e-4)


def test_a_trick_that_wins_is_counted(models):
    class Longest:
        """Its reward is the number of tokens."""

        def along(self, opening, responses):
            return [[float(i + 1) for i in range(len(ids))] for ids in responses]

    pairs = reading.Pairs(EXAMPLES, models.base_lm)
    own = reading.measured(Longest(), pairs.read)
    fooled = reading.fooled(Longest(), pairs, own)
    assert fooled["full stops"]["share"] == 1.0 and fooled["full stops"]["n"] == sum(
        len(p.tokens.chosen_ids) > len(p.tokens.rejected_ids) for p in pairs.read
    )
    assert fooled["said twice"]["change"] > 0


def test_a_soft_value_has_no_gap(models):
    """A constant is the soft value of its next tokens, which have the same reward."""

    class Constant:
        shares_rows = True

        def along(self, opening, responses):
            return [[0.5] * len(ids) for ids in responses]

    found = reading.consistency(Constant(), models.base_lm, reading.Pairs(EXAMPLES, models.base_lm).read, beta=2.0)
    assert found["spread"] == pytest.approx(0.0, abs=1e-5) and found["n"] >= 2


def test_what_cannot_be_examined_is_said(models):
    with pytest.raises(BadData, match="pairs"):
        reading.Pairs(Reading((Labelled(1, "a", "b", 1.0),), 1), models.base_lm)
    with pytest.raises(BadData, match="no pair"):
        reading.Pairs(Reading((Example(1, "a", "b", "b"),), 1), models.base_lm)
    with pytest.raises(ModelRefused, match="one next token at a time"):
        reading.best_and_worst(models.reward_model("one"), models.base_lm, [])


def test_the_same_two_answers_in_both_orders_show_where_evidence_counts(models):
    class Ends:
        """Its reward is the last token's id."""

        def along(self, opening, responses):
            return [[float(id) for id in ids] for ids in responses]

    texts = (("a", "b"), ("d", "c"))
    examples = Reading(tuple(Example(i, "", *both, chosen_ended=False, rejected_ended=False) for i, both in enumerate(texts)), 2)
    pairs = reading.Pairs(examples, models.base_lm)
    own = reading.measured(Ends(), pairs.read)
    found = reading.position_bias(Ends(), pairs, own)
    assert (found["share"], found["n"], found["change"]) == (0.5, 2, 0.0), "“b a” ends with a smaller id than “a b”, “c d” with a larger one"

    class Sum(Ends):
        def along(self, opening, responses):
            return [[float(sum(ids[: i + 1])) for i in range(len(ids))] for ids in responses]

    assert reading.position_bias(Sum(), pairs, own)["share"] == 0.5, "the same tokens in another order have the same sum"

    class First(Ends):
        def along(self, opening, responses):
            return [[float(ids[0])] * len(ids) for ids in responses]

    better = reading.Pairs(Reading((Example(1, "", "d", "a"), Example(2, "", "c", "b")), 2), models.base_lm)
    assert reading.position_bias(First(), better, own)["share"] == 0.0, "only the beginning counts, and what is best stands last"


def test_next_tokens_follow_any_prefix(models):
    model, opening = models.reward_model("vocabulary"), Opening("ab", models.base_lm.loaded.encode_prompt("ab"))
    found = reading.best_and_worst(model, models.base_lm, [(opening, (5, 6))], number=2)
    one, other = (model.reads(models.base_lm).along(opening, [[5, 6, id]])[0][-1] for id in (7, 8))
    assert found["best"][0][1] >= max(one, other) - 1e-3 and found["worst"][0][1] <= min(one, other) + 1e-3 and found["n"] == 1


@pytest.mark.parametrize("family", ["llama", "gpt2", "bloom", "mistral_w8", "qwen3_5"])
@pytest.mark.parametrize("kind", ["scalar", "vocabulary", "autoregressive", "implicit"])
def test_a_long_prompt_is_read_once_for_all_answers_to_it(kind, family):
    model, lm = (tiny_reward(family) if kind == "scalar" else tiny_token_reward(kind, family)), tiny_lm()
    opening, answers = Opening("", tuple(range(2, 62))), [(5, 6, 7), (5, 9, 4, 8, 1), (3,), (5, 6, 7)]
    num = 0

    def count(_, positional, named):
        nonlocal num
        num += (named["input_ids"] if "input_ids" in named else positional[0]).numel()

    with (model.loaded.model if kind == "scalar" else model.lm.loaded.model).base_model.register_forward_pre_hook(count, with_kwargs=True):
        found = reading.rewards_of(model.reads(lm), [(opening, ids) for ids in answers])
    assert num <= 60 + 4 * 5 + 4, "of four answers"
    for ids, rewards in zip(answers, found, strict=True):
        assert rewards == pytest.approx(model.reads(lm).along(opening, [ids])[0], abs=1e-4)


def test_all_tricks_are_read_behind_one_prompt(models, monkeypatch):
    """Of 12 answers with a trick to two prompts each prompt is read once."""
    started = []

    class Counted(IdReader):
        def start(self, openings, *args, **kwargs):
            started.append(len(openings))
            return super().start(openings, *args, **kwargs)

        def along(self, opening, responses):
            raise AssertionError("each prompt is longer than its answers")

    long = Reading(tuple(Example(i, prompt * 25, chosen, rejected) for i, (prompt, chosen, rejected) in enumerate(TEXTS[1:], 1)), 2)
    pairs = reading.Pairs(long, models.base_lm)
    counted = Counted(models.reader("one").model, models.base_lm)
    own, plain = (reading.measured(reader, pairs.read) for reader in (counted, models.reader("one")))
    assert torch.allclose(own.chosen, plain.chosen, atol=1e-4)
    assert reading.fooled(counted, pairs, own) == reading.fooled(models.reader("one"), pairs, own)
    assert started[:2] == [2, 2] and sum(started[2:]) == 12
    monkeypatch.setattr(reading, "POSITIONS", 250)  # of two answers
    del started[:]
    assert torch.allclose(reading.measured(counted, pairs.read).chosen, plain.chosen, atol=1e-4) and started == [2, 2]
    reading.fooled(counted, pairs, own)
    assert max(started) < 6 and sum(started[2:]) <= 12
