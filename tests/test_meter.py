"""What an answer cost: as the engine counts it, in words and in JSON."""

from dataclasses import replace

import pytest
from store_records import make_step, make_trace
from tiny_models import tiny_lm, tiny_reward

from rgtg.config import GenerationConfig
from rgtg.engine import Ended, Models, generate, make_run
from rgtg.guidance.spot_check import SpotCheck
from rgtg.guidance.steps import Cost
from rgtg.workbench.report.meter import cost_in_full, cost_in_short, cost_of, share_guided

K, TOKENS = 5, 6


@pytest.fixture(scope="module")
def models() -> Models:
    return Models(tiny_lm(), {"one": tiny_reward(seed=1, name="one"), "two": tiny_reward(seed=2, name="two")})


def costs(models: Models, *columns: tuple) -> list[Ended]:
    """How columns end that run together."""
    generation = GenerationConfig(max_new_tokens=TOKENS, top_k=K)
    runs = [make_run("the food", key, models, params, "one" if key != "base" else None, seen, generation, 3) for key, params, seen in columns]
    ends, told = [None] * len(runs), [Cost()] * len(runs)
    for column, event in generate(runs, models):
        if isinstance(event, Ended):
            assert 0 < told[column].lm_forwards <= event.lm_forwards
            ends[column] = event
        elif isinstance(event, Cost):
            assert all(before <= now for before, now in zip(vars(told[column]).values(), vars(event).values(), strict=True)), "a meter only rises"
            told[column] = event
    return ends


@pytest.fixture(autouse=True)
def unchecked(monkeypatch):
    monkeypatch.setattr(SpotCheck, "holds", lambda *_: True)


def test_positions_are_those_of_the_closed_form(models):
    prompt = len(models.base_lm.loaded.encode_prompt("the food"))
    base, guided, best = costs(models, ("base", (), ()), ("pargs", (), ()), ("best-of-n", (("n", 3),), ()))
    assert (base.lm_positions, base.reward_positions) == (prompt + TOKENS - 1, 0), "nothing is read behind the last token"
    assert (guided.lm_positions, guided.reward_positions) == (prompt + TOKENS - 1, prompt + TOKENS * K), "the selected candidate is not fed again"
    assert best.lm_positions == prompt + 3 * (TOKENS - 1), "n answers share their prompt"
    assert best.reward_positions == prompt + 3 * TOKENS


def test_a_column_costs_the_same_positions_alone_as_among_others(models):
    columns = (("pargs", (), ("two",)), ("base", (), ("two",)), ("best-of-n", (("n", 3),), ("two",)), ("cards", (), ()))
    ends = costs(models, *columns)
    assert 0 < ends[0].observer_forwards < ends[0].reward_forwards and 0 < ends[0].observer_positions < ends[0].reward_positions
    together = [(end.lm_positions, end.reward_positions) for end in ends]
    assert together == [(end.lm_positions, end.reward_positions) for column in columns for end in costs(models, column)]


def a_trace(method: str = "sparse", guided: int = 1, **changes):
    steps = tuple(make_step(i, 10 + i) for i in range(4))
    skipped = tuple(replace(s, candidates=tuple(replace(c, rewards=()) for c in s.candidates)) for s in steps)
    trace = make_trace("t", "A", steps=steps[:guided] + skipped[guided:], **changes)
    return replace(trace, run=replace(trace.run, method=method, params=()))


def test_the_share_that_was_guided_is_counted_for_a_method_that_skips():
    trace = a_trace()
    assert share_guided(trace.run, trace.steps) == 0.25 and cost_of(trace)["share_guided"] == 0.25
    assert share_guided(a_trace("pargs").run, trace.steps) is None and share_guided(trace.run, ()) is None


def test_the_cost_is_said_in_short_and_in_full():
    trace = a_trace(
        lm_forwards=4,
        reward_forwards=4,
        observer_forwards=3,
        lm_positions=1200,
        reward_positions=45,
        observer_positions=30,
        check_forwards=1,
        seconds=0.5,
    )
    assert cost_in_short(trace, 8.2) == "25 % guided · 8 tok/s · 4 LM + 1 reward forwards"
    assert cost_in_full(trace) == [
        "base LM: 4 forwards, 1,200 positions (1.00 forwards a token)",
        "guides: 1 forward, 15 positions (0.25 forwards a token)",
        "observers: 3 forwards, 30 positions (0.75 forwards a token)",
        "0.50 s · 8.0 tok/s",
        "1 forward to check caches, not counted above",
        "25 % guided",
    ]
    assert cost_in_short(a_trace("base", lm_forwards=1, reward_forwards=0), 0) == "1 LM forward"
    older = cost_in_full(a_trace("pargs", lm_forwards=4, reward_forwards=0))
    assert older[:2] == ["base LM: 4 forwards (1.00 forwards a token)", "reward models: 0 forwards"], "positions were not counted then"
