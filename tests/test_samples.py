"""Samples of a policy with a judge's scores: whose tokens they are, and what they score."""

import pytest
from tiny_models import tiny_lm, tiny_reward

from rgtg.config import GenerationConfig
from rgtg.engine import Ended, Models, generate, make_run
from rgtg.errors import BadReward
from rgtg.evaluation.cells import run_seed
from rgtg.evaluation.labelling.samples import BASE_LM, sampled
from rgtg.records import ColumnSpec, Run, Step
from rgtg.rewards.base import Opening

MODELS = Models(tiny_lm(), {"one": tiny_reward("llama", 1, "one")})
JUDGE = tiny_reward("llama", 3, "judge")
PROMPTS, GENERATION = ["ask", "say it"], GenerationConfig(max_new_tokens=6)
PARGS = ColumnSpec("pargs", (("beta", 3.0),), "one")


def tokens(run: Run) -> list[int]:
    return [event.token_id for _, event in generate([run], MODELS) if isinstance(event, Step)]


def test_a_sample_of_the_base_lm_has_its_tokens_its_text_and_the_score_of_the_complete_answer():
    rows = sampled(MODELS, JUDGE, PROMPTS, 2, GENERATION, first_seed=5)
    assert [row["prompt"] for row in rows] == PROMPTS * 2
    for i, row in enumerate(rows):
        run = make_run(row["prompt"], "base", MODELS, generation=GENERATION, seed=run_seed(5, i // 2, i % 2))
        assert row["response_ids"] == tokens(run) and row["prompt_ids"] == list(run.prompt_ids)
        score = JUDGE.reads(MODELS.base_lm).score(Opening(row["prompt"], run.prompt_ids), row["response_ids"])
        assert row["score"] == pytest.approx(score - JUDGE.zero, abs=1e-4)
        assert (row["num_guided"], row["sampled_by"]) == (0, "base")
        (end,) = [event for _, event in generate([run], MODELS) if isinstance(event, Ended)]
        assert row["response_stop_reason"] == end.stop_reason


def test_all_tokens_of_a_guided_answer_are_guided():
    rows = sampled(MODELS, JUDGE, PROMPTS, 2, GENERATION, PARGS)
    assert [row["num_guided"] for row in rows] == [len(row["response_ids"]) for row in rows]
    assert all("pargs · one · beta 3" in row["sampled_by"] for row in rows)


def test_the_policy_writes_the_first_tokens_and_the_base_lm_the_rest():
    guided, rolled = (sampled(MODELS, JUDGE, PROMPTS, 12, GENERATION, PARGS, roll_in) for roll_in in (False, True))
    for i, (one, other) in enumerate(zip(guided, rolled, strict=True)):
        number = other["num_guided"]
        assert 0 <= number < len(one["response_ids"]) and other["response_ids"][:number] == one["response_ids"][:number]
        run = make_run(one["prompt"], "base", MODELS, generation=GENERATION, seed=run_seed(0, i // 2, i % 2), forced_ids=one["response_ids"][:number])
        behind = tokens(run)  # the last of the given tokens among them
        assert other["response_ids"] == [*one["response_ids"][: max(0, number - 1)], *behind]
    assert {row["num_guided"] for row in rolled} >= {0, 1, 2, 3}
    assert any(one["response_ids"] != other["response_ids"] for one, other in zip(guided, rolled, strict=True))
    without = sampled(MODELS, JUDGE, PROMPTS, 12, GENERATION, ColumnSpec("pargs", (("beta", 0.0),), "one"), True)
    base = sampled(MODELS, JUDGE, PROMPTS, 12, GENERATION, BASE_LM)
    assert [row["response_ids"] for row in without] == [row["response_ids"] for row in base], "at weight 0 the policy is the base LM"


def test_a_score_that_is_not_finite_is_refused(monkeypatch):
    monkeypatch.setattr("rgtg.evaluation.labelling.samples.rewards_of", lambda reader, answers: [[float("nan")]] * len(answers))
    with pytest.raises(BadReward, match="judge"):
        sampled(MODELS, JUDGE, PROMPTS, 1, GENERATION)
