"""Laws over every method: neutral parameters are the base column, together is alone, and each has its exact distribution."""

import json
import math
from dataclasses import replace

import pytest
import torch
from enumerable import END, SIZE, Toy, by_chance, distance, drawn_model
from test_engine import collect, ids
from test_engine import models as scalar_models
from test_engine import run as run_with
from tiny_models import tiny_token_reward

from rgtg.engine import Ended, Models, Working, generate, make_run
from rgtg.errors import BadReward, ModelRefused
from rgtg.guidance.methods import BASE, METHODS
from rgtg.guidance.requests import Propose
from rgtg.records import Run, Step

NEUTRAL = {  # the parameters under which a method is the base LM, under the same settings
    "base": {},
    "args": {"beta": 0.0},
    "pargs": {"beta": 0.0},
    "pargs-greedy": {"beta": 0.0, "pick": "sample"},
    "farma": {"beta": 0.0},
    "genarm": {"beta": 0.0},
    "experts": {"beta": 0.0},
    "dera": {"beta": 0.0},
    "implicit": {"beta": 0.0},
    "aad": {"beta": 0.0, "plausibility": 0.0, "pick": "sample"},
    "contrastive-prompt": {"beta": 0.0},
    "nudging": {"threshold": 0.0},
    "rsd": {"threshold": 1e6},
    "mod": {"beta": 0.0},
    "best-of-n": {"n": 1},
    "cards": {"threshold": -math.inf},
    "block-best-of-k": {"k": 1},
    "particles": {"m": 1},
    "rad": {"beta": 0.0},
    "fudge": {"weight": 0.0},
    "cd": {"beta": 0.0},
    "sparse": {"entropy": 100.0},
    "by-hand": {"beta": 0.0, "ahead": 1024},
    "soft-best-of-n": {"n": 1},
    "best-of-poisson": {"mu": 0.0},
    "speculative-rejection": {"n": 1},
    "chunk-beam": {"width": 1, "k": 1},
    "transfer-q": {"beta": 0.0, "k": 64},
}
ACTIVE = {key: {"beta": 1.5} for key in ("args", "pargs", "pargs-greedy", "farma", "genarm", "experts", "dera", "implicit", "mod", "cd")} | {
    "base": {},
    "aad": {"plausibility": 0.3},
    "contrastive-prompt": {"beta": 1.5, "positive": "good", "negative": "bad"},
    "nudging": {"threshold": 0.5},
    "rsd": {"threshold": 1.0, "segment": 3},
    "rad": {"beta": 8.0},
    "fudge": {"weight": 3.0},
    "sparse": {"beta": 1.5, "entropy": 1.0},
    "by-hand": {"beta": 1.5, "ahead": 1024},
    "soft-best-of-n": {"n": 3},
    "best-of-poisson": {"mu": 2.0},
    "speculative-rejection": {"n": 4, "first": 2},
    "chunk-beam": {"width": 2, "k": 2, "chunk": 3},
    "transfer-q": {"beta": 1.5, "k": 3, "rollout": 2},
    "best-of-n": {"n": 3},
    "cards": {"threshold": 1.0, "tries": 3, "entropy": 1.0, "min_segment": 2, "max_segment": 5},
    "block-best-of-k": {"k": 3, "block": 3},
    "particles": {"m": 4, "beta": 2.0},
}
LM = "autoregressive"  # the guide of the methods that read a language model
SCORED_ONCE = ("best-of-n", "soft-best-of-n", "best-of-poisson")  # at the end
TOY = Toy(*drawn_model())
CARDS = {"threshold": 0.3, "tries": 6, "entropy": 1.2, "min_segment": 1, "max_segment": 3}
BIAS = 0.02  # what eight particles leave of the difference to their target


def models() -> Models:
    found = scalar_models()
    return replace(found, reward_models={**found.reward_models, LM: tiny_token_reward(LM)})


def run(found: Models, key: str, **settings) -> Run:
    guide = {"reward_model": [("one", 1.0), (LM, 0.0)]} if key == "rsd" else {"reward_model": LM} if METHODS[key].roles else {}
    return run_with(found, key, **guide | settings)


@pytest.mark.parametrize("settings", [{}, {"temperature": 0.6, "top_k": 5, "top_p": 0.9}, {"temperature": 0.0}], ids=["usual", "cut", "greedy"])
def test_with_neutral_parameters_every_method_is_the_base_column_token_for_token(settings):
    found = models()
    runs = [run(found, key, observers=("two",), **NEUTRAL[key], **settings) for key in METHODS]
    columns = dict(zip(METHODS, collect(runs, found)[0], strict=True))
    base = columns[BASE]
    assert len(base) > 3
    for key, steps in columns.items():
        assert ids(steps) == ids(base), key
        assert [s.reward("two") for s in steps] == pytest.approx([s.reward("two") for s in base], abs=1e-4), key


def test_every_column_together_is_what_it_is_alone():
    found = models()
    runs = [run(found, key, observers=("two",), seed=5, **ACTIVE[key]) for key in METHODS]
    together, ends = collect(runs, found)
    for r, steps, end in zip(runs, together, ends, strict=True):
        (alone,), (end_alone,) = collect([r], found)
        assert ids(alone) == ids(steps) and end.stop_reason == end_alone.stop_reason, r.method
        assert [[t.token_ids for t in s.tried] for s in alone] == [[t.token_ids for t in s.tried] for s in steps]
        for name in (ref.name for ref in r.models):
            along = found.reward_models[name].along(r.prompt_ids, [ids(steps)])[0]
            assert [s.reward(name) for s in steps] == pytest.approx(along, abs=1e-4), (r.method, name)


def test_columns_on_prompts_of_different_lengths_begin_where_others_end_and_are_what_they_are_together():
    found, at_once, prompts = models(), 7, ("the food", "my wife and i went there again", "a")
    runs = [run(found, key, prompt=prompts[i % 3], seed=i, tokens=8, **ACTIVE[key]) for i, key in enumerate(METHODS)]
    assert len({len(r.prompt_ids) for r in runs}) == 3
    steps: list[list[int]] = [[] for _ in runs]
    begun, ended = set(), set()
    for column, event in generate(runs, found, at_once=at_once):
        begun.add(column)
        if isinstance(event, Ended):
            assert not event.error
            ended.add(column)
        elif isinstance(event, Step):
            steps[column].append(event.token_id)
        rows = sum(METHODS[runs[c].method].make(runs[c].params).num_rows for c in begun - ended)
        assert rows <= at_once or len(begun - ended) == 1, "no column begins before there is room"
    assert len(ended) == len(runs) and steps == list(map(ids, collect(runs, found)[0]))


def test_a_branch_begins_with_its_parents_tokens_and_with_the_one_that_is_chosen():
    found, at = models(), 4
    parents = collect([run(found, key, **ACTIVE[key]) for key in METHODS], found)[0]
    others = [next(c.token_id for c in p[at].candidates if c.token_id not in (p[at].token_id, 1)) for p in parents]
    begun = [(key, (*ids(p)[:at], t)) for key, p, other in zip(METHODS, parents, others, strict=True) for t in (p[at].token_id, other)]
    branches, ends = collect([run(found, key, forced=forced, **ACTIVE[key]) for key, forced in begun], found)
    assert not any(end.error for end in ends)
    for key, parent, other, again, branch in zip(METHODS, parents, others, branches[::2], branches[1::2], strict=True):
        assert (again[0].position, again[0].token_id) == (at, parent[at].token_id) and branch[0].token_id == other, key
        if METHODS[key].rule.rescores:
            assert ids(again) == ids(parent)[at:], key
        assert [c.token_id for c in again[0].candidates] == [c.token_id for c in parent[at].candidates], key


@pytest.mark.parametrize("key", METHODS)
def test_after_stop_nothing_is_read_or_scored_and_the_first_row_is_kept(key):
    found = models()
    counts = {}

    def stop() -> bool:
        stopped = reads["lm"] >= 4
        if stopped and not counts:
            counts.update({name: reads[name] for name in reads})
        return stopped

    reads = dict.fromkeys(("lm", "one"), 0)
    hooks = [
        model.register_forward_pre_hook(lambda *_, name=name: reads.__setitem__(name, reads[name] + 1))
        for name, model in (("lm", found.base_lm.loaded.model.base_model), ("one", found.reward_models["one"].loaded.model.base_model))
    ]
    (steps,), (end,) = collect([run(found, key, **ACTIVE[key])], found, stop=stop)
    for hook in hooks:
        hook.remove()
    assert reads == counts and end.stop_reason == "stopped" and end.error == ""
    assert len(steps) in (3, 4) or key in ("cards", "transfer-q", "rsd")  # one first reads the prompt's reward, one is in its second rollout
    if METHODS[key].rule is METHODS["best-of-n"].rule:
        assert all(s.reward("one") is None for s in steps), "kept unscored"


class Failing(torch.nn.Module):
    """A head whose output is NaN from some call on."""

    def __init__(self, head: torch.nn.Module, num_good: int):
        super().__init__()
        self.head, self.good = head, iter([1.0] * num_good)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(x) * next(self.good, math.nan)


def test_a_reward_that_is_no_number_ends_one_column_with_its_words():
    found = models()
    scalar, lm = found.reward_models["one"], found.reward_models[LM]
    for key in (key for key, m in METHODS.items() if m.uses_reward):
        num_good = 0 if key in SCORED_ONCE else 7 if key == "rsd" else 2  # the first segment of a draft model is kept or none
        bad = replace(lm, lm=replace(lm.lm, head=Failing(lm.lm.head, num_good))) if METHODS[key].roles else None
        bad = bad or replace(scalar, head=Failing(scalar.head, num_good))
        broken = replace(found, reward_models=found.reward_models | {bad.name: bad})
        steps, ends = collect([run(found, key, **ACTIVE[key]), run(found, BASE)], broken)
        assert ends[0].stop_reason == "error" and f"`{bad.name}`" in ends[0].error and not ends[1].error and len(steps[1]) == 14, key
        assert len(steps[0]) >= 1, "what there was is kept"


@pytest.mark.parametrize("key", ["pargs", "best-of-n", "particles"])
def test_a_reward_model_that_fails_ends_its_columns_alone_and_is_named(key):
    found, number = models(), iter(range(100))

    class Broken(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            if next(number) >= (0 if key in SCORED_ONCE else 3):
                raise RuntimeError("mat1 and mat2 shapes cannot be multiplied")
            return found.reward_models["one"].head(x)

    broken = replace(found, reward_models=found.reward_models | {"one": replace(found.reward_models["one"], head=Broken())})
    steps, ends = collect([run(found, key, **ACTIVE[key]), run(found, BASE), run(found, "pargs", reward_model=LM)], broken)
    assert ends[0].error == "Reward model `one` failed. The traceback is in the log. Choose another reward model." and steps[0]
    assert not ends[1].error and not ends[2].error and len(steps[1]) == len(steps[2]) == 14


def test_candidates_of_the_whole_vocabulary_need_a_model_that_scores_it():
    found = models()
    with pytest.raises(ModelRefused, match="`candidates=all` needs the rewards of all next tokens, and `one` scores one at a time"):
        run(found, "pargs", candidates="all")
    assert dict(run(found, "pargs", candidates="all", reward_model=LM).params)["candidates"] == "all"


def test_a_method_that_fails_ends_its_column_alone(monkeypatch):
    def fail(self, log_probs, rewards):
        raise BadReward("It went wrong.")

    monkeypatch.setattr(METHODS["args"].rule, "rescore", fail)
    found = models()
    steps, ends = collect([run(found, "args"), run(found, BASE)], found)
    assert ends[0].error == "It went wrong." and steps[0] == [] and len(steps[1]) == 14


def test_what_was_tried_stands_with_the_step_that_replaced_it():
    found = models()
    for key in ("best-of-n", "block-best-of-k", "cards", "particles"):
        r = run(found, key, **ACTIVE[key])
        (steps,), _ = collect([r], found)
        tried = [(s.position, t) for s in steps for t in s.tried]
        assert tried, key
        for position, t in tried:
            prefix = [s.token_id for s in steps[:position]]
            wanted = found.reward_models["one"].along(r.prompt_ids, [[*prefix, *t.token_ids]])[0][-1]
            assert t.reward == pytest.approx(wanted, abs=1e-4) and t.text
            assert (t.threshold is not None) == (key == "cards") and (t.weight is not None) == (key == "particles")


def test_several_answers_say_that_they_are_on_trial():
    found = models()
    notes = [e.note for _, e in generate([run(found, "best-of-n", n=3)], found) if isinstance(e, Working)]
    assert notes[0] == "3 answers, token 1" and len(notes) == 13


def test_a_mix_is_the_weighted_sum_and_keeps_every_component():
    found = models()
    mixed = make_run("the food", "pargs", found, (("beta", 1.5),), [("one", 2.0), ("two", -0.5)], (), seed=3)
    nothing = make_run("the food", "pargs", found, (("beta", 1.5),), [("one", 0.0), ("two", 0.0)], (), seed=3)
    steps, ends = collect([mixed, nothing, run(found, BASE, tokens=24)], found)
    assert ids(steps[1]) == ids(steps[2]) != ids(steps[0])
    for step in steps[0]:
        assert [name for name, _ in step.rewards] == ["one", "two"]
        for c in step.candidates:
            one, two = (dict(c.rewards)[name] for name in ("one", "two"))
            assert c.score == pytest.approx(c.log_prob + 1.5 * (2 * one - 0.5 * two), abs=1e-4)
    assert ends[0].lm_forwards == len(steps[0])


# --- exactness on a model whose every answer can be written down ------------------------------------------------------


def test_token_rules_have_the_closed_form():
    assert distance(TOY.by_steps(BASE), TOY.base) < 1e-5
    for beta in (0.5, 3.0):
        assert distance(TOY.by_steps("pargs", beta=beta), TOY.shifted(beta)) < 1e-5
    assert distance(TOY.shifted(0.5), TOY.base) > 0.05


def check(method: str, wanted: dict, num: int, wrong: dict, bias: float = 0.0, **settings) -> None:
    """The shares of so many draws lie within what chance allows, and a target that is a little wrong does not."""
    found, bound = TOY.shares(method, num, **settings), by_chance(wanted, num) + bias
    print(f"{method} {settings}: total variation {distance(found, wanted):.4f}, bound {bound:.4f}, a wrong target {distance(found, wrong):.4f}")
    assert distance(found, wanted) < bound < distance(found, wrong)


@pytest.mark.parametrize("num", [300, pytest.param(20_000, marks=pytest.mark.slow)])
def test_draws_have_their_exact_distribution(num):
    check("pargs", TOY.shifted(1.0), num, TOY.shifted(1.6), beta=1.0)
    check("best-of-n", TOY.best_of(3), num, TOY.best_of(8), n=3)
    check("block-best-of-k", TOY.block_best_of(3, 2), num, TOY.block_best_of(3, 1), k=3, block=2)
    check("cards", TOY.cards(**CARDS), num, TOY.cards(**CARDS | {"accept_temperature": 3.0}), **CARDS)
    hard = CARDS | {"form": "hard", "tries": 1}
    check("cards", TOY.cards(**hard), num, TOY.cards(**hard | {"tries": 6}), **hard)


@pytest.mark.parametrize(
    ("num", "proposal"),
    [(300, "base"), *(pytest.param(n, p, marks=pytest.mark.slow) for n, p in ((20_000, "base"), (300, "pargs"), (5_000, "pargs")))],
)
def test_particles_come_to_the_tilted_target(num, proposal):
    check("particles", TOY.tilted(0.5), num, TOY.tilted(1.2), BIAS, m=8, beta=0.5, proposal=proposal)


@pytest.mark.slow
def test_cards_reproduces_the_reference_tables(shared):
    """Every setting and state: the final probability of every segment that it may go on with (a key is the whole answer)."""
    folder = shared.parent / "reference"
    if not folder.is_dir():
        pytest.skip("needs the reference tables")
    model = json.loads((folder / "model.json").read_text())

    def key(text: str) -> tuple[int, ...]:
        return tuple(map(int, text.split()))

    toy = Toy({key(k): v for k, v in model["base_logits"].items()}, {key(k): v for k, v in model["reward"].items()})
    assert (model["vocabulary"], model["end_token"]) == (SIZE, END)
    for row in json.loads((folder / "cards.json").read_text())["rows"]:
        s = row["settings"]
        params = {"form": s["option"], "threshold": s["reward_threshold"], "tries": s["tries"], "alpha": s["alpha"], "accept_temperature": s["beta"]}
        params |= {"entropy": s["entropy_threshold"], "min_segment": s["min_segment"], "max_segment": s["max_segment"]}
        rule = METHODS["cards"].make(tuple(params.items()))
        for state, wanted in row["states"].items():
            found = toy.segment_probs(key(state), rule, s["beta"])
            assert found == pytest.approx({key(end): facts["final"] for end, facts in wanted["segments"].items()}, abs=1e-9), (s, state)


def test_rows_that_are_over_are_copied_before_a_guide_reads_them(monkeypatch):
    """A method that keeps another row than the first and has not scored it: the guide reads the text that is shown."""

    def keep_the_last(self, rows):
        rows.select([0] * self.n)
        while rows.active:
            rows.take((yield Propose()))
        rows.select([self.n - 1])
        rows.settle()

    monkeypatch.setattr(METHODS["best-of-n"].rule, "generate", keep_the_last)
    found = models()
    r = run(found, "best-of-n", n=3)
    (steps,), _ = collect([r], found)
    assert [s.reward("one") for s in steps] == pytest.approx(found.reward_models["one"].along(r.prompt_ids, [ids(steps)])[0], abs=1e-4)
