"""What every method costs, by a closed form: forwards and positions of the base LM and of its guides for an answer of N tokens."""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import NamedTuple

import pytest
from test_engine import collect
from test_laws import ACTIVE, LM, models
from test_laws import run as run_with
from tiny_models import tiny_token_reward

from rgtg.engine import Models
from rgtg.guidance.methods import METHODS, row_prompts
from rgtg.guidance.spot_check import SpotCheck
from rgtg.records import ModelRef, Run, Step

N, K = 8, 5
SECOND = "second"  # another language model, as a reference, an expert's opposite, or one more of a mix


class Cost(NamedTuple):
    """Forwards and positions of the base LM, then of the guides."""

    lm: int
    lm_read: int
    guides: int = 0
    guides_read: int = 0


@dataclass(frozen=True)
class Answer:
    """An answer of N tokens. `prompt`: number of tokens of the prompt."""

    run: Run
    steps: list[Step]
    prompt: int
    params: dict

    @property
    def tried(self) -> list[int]:
        """Lengths of the texts that were given up."""
        return [len(one.token_ids) for step in self.steps for one in step.tried]

    @property
    def guided(self) -> list[bool]:
        """Whether a token's candidates were scored."""
        return [bool(step.candidates[0].rewards) for step in self.steps]


def alone(answer: Answer) -> Cost:
    return Cost(N, answer.prompt + N - 1)  # nothing is read behind the last token


def candidates_scored(answer: Answer) -> Cost:
    return Cost(*alone(answer)[:2], N, answer.prompt + K * N)  # class T: the selected candidate is not read again


def vocabulary_scored(answer: Answer) -> Cost:
    num = len(answer.run.guides)
    return Cost(*alone(answer)[:2], num * N, num * (answer.prompt + N - 1))  # class V


def several(num_rows: int, answer: Answer, rounds: int) -> Cost:
    """Rows that share their prompt, which a forward of its own reads; each is scored in `rounds` forwards, every token once."""
    return Cost(N, answer.prompt + num_rows * (N - 1), 1 + rounds, answer.prompt + num_rows * N)


def one_answer_of(answer: Answer) -> Cost:
    return several(1 + len(answer.tried), answer, 1)


def with_rejection(answer: Answer) -> Cost:
    """n answers, of which half are given up at `first` tokens, at twice as many, …"""
    alive, checkpoint, lm, guide, rounds = answer.params["n"], answer.params["first"], 0, 0, 1
    since = 0
    for length in range(1, N + 1):
        if length == checkpoint and length < N:
            guide, since, rounds = guide + alive * (length - since), length, rounds + (alive > 1)
            alive, checkpoint = math.ceil(alive / 2), 2 * checkpoint
        lm += alive * (length < N)
    return Cost(N, answer.prompt + lm, 1 + rounds, answer.prompt + guide + alive * (N - since))


def by_segments(answer: Answer) -> Cost:
    """Q segments of a fixed length. The base LM reads what it writes, but the last token of a segment only where it stays; behind a rejected one
    both read the token before it again."""
    num_rejected, written = len(answer.tried), N + sum(answer.tried)
    assert num_rejected > 1
    num_segments = num_rejected + math.ceil(N / answer.params["max_segment"])
    return Cost(written, answer.prompt + written - 1, 1 + num_segments, answer.prompt + written + num_rejected)


def by_a_draft(answer: Answer) -> Cost:
    """Segments of a draft model. Both guides read each; where they are rejected, also what the base LM writes and the token before it."""
    num, prompt = math.ceil(N / answer.params["segment"]), answer.prompt
    if answer.params["threshold"] < 0:  # the base LM reads each in one piece, with the token before it
        return Cost(num, prompt + N + num - 1, N + num, 2 * (prompt + N) - 1)
    return Cost(*alone(answer)[:2], N + num + 2, 2 * prompt + 2 * (N + N + num) - num)


def with_rollouts(answer: Answer) -> Cost:
    """k candidates a token, each continued by r tokens; behind a rollout the last two tokens are read again, by the guide in each row."""
    k, more = answer.params["k"], [min(answer.params["rollout"], N - at - 1) for at in range(N)]
    lm_read = answer.prompt + k * sum(more) + 2 * (N - 1)
    return Cost(N + sum(more), lm_read, 1 + N + 1, answer.prompt + k * (N + sum(more)) + 2 * k * (N - 1) + 2)


def where_unsure(answer: Answer) -> Cost:
    """Skipped tokens are read in the next forward, those behind the last guided one in one of their own."""
    num, last = sum(answer.guided), answer.guided[-1]
    assert 0 < num < N, "some tokens are guided and some are not"
    return Cost(*alone(answer)[:2], num + (not last), answer.prompt + K * num + N - num)


def in_turns(answer: Answer) -> Cost:
    num, last = sum(answer.guided), answer.guided[-1]
    assert 0 < num < N
    return Cost(*alone(answer)[:2], num + (not last), answer.prompt + N - last)


def behind_three_prompts(answer: Answer) -> Cost:
    return Cost(N, sum(answer.params["prompts"]) + 3 * (N - 1))


FORMS: dict[str, Callable[[Answer], Cost]] = {
    "base": alone,
    **dict.fromkeys(("args", "pargs", "pargs-greedy", "rad", "fudge", "cd", "by-hand"), candidates_scored),
    **dict.fromkeys(("farma", "genarm", "experts", "dera", "implicit", "aad", "mod"), vocabulary_scored),
    **dict.fromkeys(("best-of-n", "soft-best-of-n", "best-of-poisson"), one_answer_of),
    "speculative-rejection": with_rejection,
    "cards": by_segments,
    "block-best-of-k": lambda answer: several(answer.params["k"], answer, math.ceil(N / answer.params["block"])),
    "chunk-beam": lambda answer: several(answer.params["width"] * answer.params["k"], answer, math.ceil(N / answer.params["chunk"])),
    "rsd": by_a_draft,
    "transfer-q": with_rollouts,
    "particles": lambda answer: several(answer.params["m"], answer, N),
    "contrastive-prompt": behind_three_prompts,
    "nudging": in_turns,
    "sparse": where_unsure,
}
SETTINGS = {  # where other parameters than those of the laws show more
    "cards": [{"threshold": 1.0, "tries": 64, "entropy": 0.0, "min_segment": 2, "max_segment": 2}],
    "rsd": [{"threshold": -1e6, "segment": 3}, {"threshold": 1e6, "segment": 3}],
    "sparse": [{"entropy": 4.36}, {"entropy": 4.38}],  # the last token is guided, or it is not
    "nudging": [{"threshold": 0.04}],
}
GUIDES = {key: [(LM, 1.0), (SECOND, -0.5)] for key in ("experts", "implicit", "mod")} | dict.fromkeys(("farma", "genarm"), LM)


@pytest.fixture(scope="module")
def endless() -> Models:
    """Models whose base LM never ends an answer before its N tokens."""
    found = models()
    loaded = replace(found.base_lm.loaded)
    loaded.__dict__["eos_ids"] = frozenset()
    second = tiny_token_reward(LM, seed=9)
    second = replace(second, lm=replace(second.lm, loaded=replace(second.loaded, ref=ModelRef(SECOND))))
    return replace(found, base_lm=replace(found.base_lm, loaded=loaded), reward_models={**found.reward_models, SECOND: second})


@pytest.mark.parametrize("key", METHODS)
def test_every_method_costs_what_its_closed_form_says(key, endless, monkeypatch):
    monkeypatch.setattr(SpotCheck, "holds", lambda *_: True)
    for params in SETTINGS.get(key, [ACTIVE[key]]):
        more = {"reward_model": GUIDES[key]} if key in GUIDES else {}
        r = run_with(endless, key, tokens=N, top_k=K, **more, **params)
        (steps,), (end,) = collect([r], endless)
        assert len(steps) == N and not end.error
        prompts = [len(ids) for ids in row_prompts(r, endless.base_lm.loaded.encode_prompt)]
        found = Cost(end.lm_forwards, end.lm_positions, end.reward_forwards, end.reward_positions)
        assert found == FORMS[key](Answer(r, steps, len(r.prompt_ids), dict(r.params) | {"prompts": prompts}))
