"""Laws of generation: weight 0 is the base, batched is single, the same run gives the same tokens, faults end one column."""

import copy
import json
import math
import subprocess
import sys
from collections import Counter
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from tiny_models import FAMILIES, byte_tokenizer, tiny_lm, tiny_reward, tiny_token_reward

from rgtg.config import GenerationConfig
from rgtg.engine import Ended, Models, Working, generate, make_run
from rgtg.errors import BadSettings, ModelRefused, PromptTooLong, TokenizerMismatch
from rgtg.guidance.requests import Proposal
from rgtg.guidance.rows import Rows
from rgtg.guidance.spot_check import SpotCheck
from rgtg.models.prefixes import growing
from rgtg.prompts import encode_prompt
from rgtg.records import ModelCard, ModelRef, Run, Step

ONE_EVERYDAY = [family if family == "llama" else pytest.param(family, marks=pytest.mark.slow) for family in FAMILIES]  # test_prefix has them all


@pytest.fixture
def unchecked(monkeypatch):
    """No spot check is due."""
    monkeypatch.setattr(SpotCheck, "holds", lambda *_: True)


def models(family: str = "llama") -> Models:
    return Models(tiny_lm(family), {"one": tiny_reward(family, 1, "one"), "two": tiny_reward(family, 2, "two")})


def run(loaded_models: Models, method: str, seed: int = 3, tokens: int = 14, prompt: str = "the food", observers=(), forced=(), **params):
    generation = GenerationConfig(max_new_tokens=tokens, **{k: params.pop(k) for k in ("top_k", "top_p", "temperature") if k in params})
    guide = params.pop("reward_model", "one") if method != "base" else None
    return make_run(prompt, method, loaded_models, tuple(params.items()), guide, observers, generation, seed, forced)


def collect(runs, loaded_models: Models, **kw) -> tuple[list[list[Step]], list[Ended]]:
    steps, ends = [[] for _ in runs], [None] * len(runs)
    for column, event in generate(runs, loaded_models, **kw):
        assert ends[column] is None, "nothing comes after the end"
        if isinstance(event, Step):
            steps[column].append(event)
        elif isinstance(event, Ended):
            ends[column] = event
    assert all(ends)
    return steps, ends


def ids(steps: list[Step]) -> list[int]:
    return [s.token_id for s in steps]


@pytest.mark.parametrize("family", ONE_EVERYDAY)
def test_weight_zero_is_the_base_token_for_token_with_the_reward_model_at_work(family):
    loaded_models = models(family)
    names = ("args", "pargs", "base")
    steps, ends = collect([run(loaded_models, m, **({"beta": 0.0} if m != "base" else {})) for m in names], loaded_models)
    assert ids(steps[0]) == ids(steps[1]) == ids(steps[2]) and len(steps[0]) > 3
    assert ends[0].reward_forwards > 0 and ends[1].reward_forwards > 0 and ends[2].reward_forwards == 0
    assert [s.log_prob for s in steps[0]] == pytest.approx([s.log_prob for s in steps[2]], abs=1e-4)


def test_an_answer_costs_what_it_costs_alone_beside_others_and_after_them():
    loaded_models = models()
    runs = [run(loaded_models, m, prompt=prompt) for m, prompt in (("base", "a"), ("pargs", "the food was"), ("pargs", "my wife and i"))]
    for at_once in (None, 1, 2):
        _, ends = collect(runs, loaded_models, at_once=at_once)
        alone = [collect([r], loaded_models)[1][0] for r in runs]
        assert [(e.lm_forwards, e.reward_forwards) for e in ends] == [(e.lm_forwards, e.reward_forwards) for e in alone]


def test_greedy_pick_with_weight_zero_is_the_greedy_base():
    loaded_models = models()
    steps, _ = collect([run(loaded_models, "pargs-greedy", beta=0.0), run(loaded_models, "base", temperature=0.0)], loaded_models)
    assert ids(steps[0]) == ids(steps[1])
    assert all(s.rank_before == 1 for s in steps[1])


@pytest.mark.parametrize("family", ONE_EVERYDAY)
def test_columns_together_give_what_each_gives_alone(family):
    loaded_models = models(family)
    runs = [
        run(loaded_models, "base", observers=("one", "two")),
        run(loaded_models, "args", beta=1.5, observers=("two",)),
        run(loaded_models, "pargs", beta=3.0, reward_model="two", top_k=5, observers=("one",)),
        run(loaded_models, "best-of-n", n=3, prompt="my wife and i"),
        run(loaded_models, "pargs-greedy", beta=0.7, prompt="x"),
    ]
    together, _ = collect(runs, loaded_models)
    for i, r in enumerate(runs):
        alone, _ = collect([r], loaded_models)
        assert ids(alone[0]) == ids(together[i])
        for a, b in zip(alone[0], together[i], strict=True):
            assert a.log_prob == pytest.approx(b.log_prob, abs=1e-4)
            assert dict(a.rewards) == pytest.approx(dict(b.rewards), abs=1e-4)
            assert a.text == b.text


def test_rewards_of_every_step_are_those_of_the_plain_prefix_for_guide_and_observers():
    loaded_models = models()
    runs = [
        run(loaded_models, "args", beta=2.0, observers=("two",)),
        run(loaded_models, "pargs", reward_model="two", observers=("one",)),
        run(loaded_models, "base", observers=("two",)),
    ]
    steps, _ = collect(runs, loaded_models)
    for r, column in zip(runs, steps, strict=True):
        names = {n for s in column for n, _ in s.rewards}
        assert names == {m.name for m in ([r.reward_model] if r.reward_model else []) + list(r.observers)}
        for name in names:
            along = loaded_models.reward_models[name].along(r.prompt_ids, [ids(column)])[0]
            assert [s.reward(name) for s in column] == pytest.approx(along, abs=1e-4)


def test_score_is_log_prob_plus_beta_times_reward_and_the_highest_is_taken():
    loaded_models = models()
    (steps,), _ = collect([run(loaded_models, "pargs-greedy", beta=2.5)], loaded_models)
    for step in steps:
        assert len(step.candidates) == 10
        for c in step.candidates:
            assert c.score == pytest.approx(c.log_prob + 2.5 * dict(c.rewards)["one"], abs=1e-5)
        assert step.score == max(c.score for c in step.candidates) and step.rank_after == 1
        assert [c.rank_before for c in step.candidates] == list(range(1, 11))
        assert [c.prob_after for c in step.candidates] == [float(c.token_id == step.token_id) for c in step.candidates], "nothing is drawn"
        mass = sum(math.exp(c.log_prob) for c in step.candidates)
        assert step.kl == pytest.approx(math.log(mass) - step.log_prob) and step.truncation == pytest.approx(-math.log(mass))


@pytest.mark.parametrize("temperature", [1.0, 0.5, 0.0])
def test_the_base_lm_has_no_divergence_from_itself_whatever_its_candidates(temperature):
    loaded_models = models()
    generation = GenerationConfig(max_new_tokens=4, top_k=3, temperature=temperature)
    (base, guided), _ = collect([replace(run(loaded_models, key), generation=generation) for key in ("base", "pargs")], loaded_models)
    for step in base:
        assert step.kl == pytest.approx(0, abs=1e-9) and step.truncation > 0
        assert sum(c.prob_after for c in step.candidates) == pytest.approx(1)
    for step in guided:  # at temperature 0 another token than the base LM's has no bound, and no figure
        assert (step.kl is None) == (temperature == 0 and step.rank_before != 1)
        if temperature == 1:
            full = sum(c.prob_after * (math.log(c.prob_after) - c.log_prob) for c in step.candidates)
            assert step.kl + step.truncation == pytest.approx(full)
    if temperature == 0:
        assert {step.prob_after for step in base + guided} == {1.0}


def test_one_lm_forward_a_round_and_one_for_each_reward_model():
    loaded_models = models()
    steps, ends = collect(
        [run(loaded_models, "args"), run(loaded_models, "pargs", beta=2.0), run(loaded_models, "pargs", reward_model="two", observers=("one",))],
        loaded_models,
    )
    for number, (column, end) in enumerate(zip(steps, ends, strict=True)):
        assert end.lm_forwards == len(column)  # the prompt's forward gives the first token
        # the prompt, where several columns share it, is read once and first
        assert end.reward_forwards == [len(column) + 1, len(column) + 1, 2 * len(column) + 1][number]


def test_best_of_one_is_the_base_and_best_of_n_is_the_best_of_its_draws():
    loaded_models = models()
    steps, _ = collect([run(loaded_models, "best-of-n", n=1), run(loaded_models, "base")], loaded_models)
    assert ids(steps[0]) == ids(steps[1])
    (best,), _ = collect([run(loaded_models, "best-of-n", n=5)], loaded_models)
    last = {n: collect([run(loaded_models, "best-of-n", n=n)], loaded_models)[0][0][-1].reward("one") for n in (1, 2, 5)}
    assert last[1] <= last[2] + 1e-6 <= last[5] + 2e-6 and last[5] == best[-1].reward("one")


def test_best_of_n_says_that_it_is_at_work():
    loaded_models = models()
    events = [e for _, e in generate([run(loaded_models, "best-of-n", n=2)], loaded_models)]
    assert isinstance(events[0], Working) and events[0].note == "2 answers, token 1"


def test_the_end_of_sequence_is_a_candidate_scored_like_any_other():
    loaded_models = models()
    (steps,), (end,) = collect([run(loaded_models, "pargs", beta=2.0, tokens=60, top_k=90, seed=5)], loaded_models)
    r = run(loaded_models, "pargs", beta=2.0)
    seen = [(i, c) for i, s in enumerate(steps) for c in s.candidates if c.token_id == 1]
    assert seen, "</s> is among the candidates"
    i, c = seen[0]
    plain = loaded_models.reward_models["one"].along(r.prompt_ids, [ids(steps)[:i] + [1]])[0][-1]
    assert dict(c.rewards)["one"] == pytest.approx(plain, abs=1e-4)
    assert end.stop_reason == ("eos" if ids(steps)[-1] == 1 else "max_new_tokens")


def test_a_column_that_ends_early_leaves_the_others_as_they_are():
    loaded_models = models()
    long = run(loaded_models, "pargs", beta=1.0, tokens=20)
    steps, ends = collect([run(loaded_models, "base", tokens=3), long, run(loaded_models, "base", tokens=7)], loaded_models)
    assert [len(s) for s in steps] == [3, 20, 7] or ends[1].stop_reason == "eos"
    assert ids(steps[1]) == ids(collect([long], loaded_models)[0][0])


def test_a_branch_repeats_the_prefix_and_the_same_token_gives_the_original():
    loaded_models = models()
    parent = run(loaded_models, "pargs", beta=1.5, observers=("two",))
    (steps,), _ = collect([parent], loaded_models)
    (again,), _ = collect([replace(parent, forced_ids=tuple(ids(steps)[:5]))], loaded_models)
    assert ids(again) == ids(steps)[4:] and again[0].position == 4
    assert again[0].rewards[1][0] == "two"
    other = next(c.token_id for c in steps[4].candidates if c.token_id not in (steps[4].token_id, 1))
    (road,), _ = collect([replace(parent, forced_ids=(*ids(steps)[:4], other))], loaded_models)
    assert road[0].token_id == other and road[0].log_prob == pytest.approx(
        next(c.log_prob for c in steps[4].candidates if c.token_id == other), abs=1e-4
    )


def test_stop_ends_every_column_with_what_it_has():
    loaded_models = models()
    with counted(loaded_models) as forwards:
        steps, ends = collect([run(loaded_models, "base"), run(loaded_models, "best-of-n", n=2)], loaded_models, stop=lambda: forwards["lm"] == 3)
    assert [len(s) for s in steps] == [3, 3] and {e.stop_reason for e in ends} == {"stopped"}  # the first of three read the prompts
    assert forwards == {"lm": 3, "one": 1}, "the prompts of best-of-n are read once, at the start"


@contextmanager
def counted(loaded_models: Models):
    """The forwards of each model, as they are made."""
    forwards: Counter[str] = Counter()
    loaded = {"lm": loaded_models.base_lm.loaded} | {name: m.loaded for name, m in loaded_models.reward_models.items()}
    hooks = [m.model.base_model.register_forward_pre_hook(lambda *_, name=name: forwards.update([name])) for name, m in loaded.items()]
    try:
        yield forwards
    finally:
        for hook in hooks:
            hook.remove()


def test_stop_before_the_first_forward_reads_nothing():
    loaded_models = models()
    with counted(loaded_models) as forwards:
        steps, ends = collect([run(loaded_models, "best-of-n", n=4), run(loaded_models, "base")], loaded_models, stop=lambda: True)
    assert steps == [[], []] and [(e.stop_reason, e.lm_forwards) for e in ends] == [("stopped", 0)] * 2 and not forwards


def test_stop_while_the_prompts_are_read_reads_no_further_prompt():
    loaded_models = models()
    with counted(loaded_models) as forwards:
        _, ends = collect([run(loaded_models, "best-of-n", n=4, observers=("two",))], loaded_models, stop=lambda: forwards["lm"] == 1)
    assert ends[0].stop_reason == "stopped" and forwards == {"lm": 1}


def test_stop_behind_the_last_token_of_best_of_n_scores_no_answer():
    loaded_models = models()
    with counted(loaded_models) as forwards:
        runs = [run(loaded_models, "best-of-n", n=64, tokens=3, observers=("two",), seed=seed) for seed in range(4)]
        read = []

        def stop() -> bool:
            read.append(dict(forwards))
            return forwards["lm"] >= 3

        steps, ends = collect(runs, loaded_models, stop=stop)
    assert {e.stop_reason for e in ends} <= {"stopped", "max_new_tokens", "eos"} and forwards["lm"] == 3
    assert forwards["one"] == read[0].get("one", 0) + 1, "its prompt, and no answer"
    assert all(s.reward("one") is None for column in steps for s in column)


def test_a_large_scoring_is_made_in_parts_between_which_one_can_stop(monkeypatch, unchecked):
    loaded_models = models()
    whole, _ = collect([run(loaded_models, "best-of-n", n=18, tokens=4)], loaded_models)
    monkeypatch.setattr(growing, "PART_ON_CPU", 24)  # six answers of four tokens a forward
    with counted(loaded_models) as forwards:
        parts, _ = collect([run(loaded_models, "best-of-n", n=18, tokens=4)], loaded_models)
    assert ids(parts[0]) == ids(whole[0]) and forwards["one"] == 1 + 3
    assert parts[0][-1].reward("one") == pytest.approx(whole[0][-1].reward("one"), abs=1e-4)
    with counted(loaded_models) as forwards:
        (steps,), (end,) = collect([run(loaded_models, "best-of-n", n=18, tokens=4)], loaded_models, stop=lambda: forwards["one"] == 2)
    assert forwards["one"] == 2 and len(steps) == 4 and steps[-1].reward("one") is None and end.reward_forwards == 2


def test_candidates_scored_in_parts_are_those_scored_at_once(monkeypatch):
    loaded_models = models()
    runs = [run(loaded_models, "pargs", seed=seed, beta=2.0, observers=("two",)) for seed in range(3)]
    whole, _ = collect(runs, loaded_models)
    monkeypatch.setattr(growing, "PART_ON_CPU", 20)  # one row of ten candidates, with the token before them
    parts, _ = collect(runs, loaded_models)
    assert [ids(column) for column in parts] == [ids(column) for column in whole]
    for a, b in zip(parts, whole, strict=True):
        assert [s.reward("one") for s in a] == pytest.approx([s.reward("one") for s in b], abs=1e-4)


class Broken(torch.nn.Linear):
    """A head that is sound for `good` calls and gives NaN afterwards."""

    good = 3

    def forward(self, x):
        self.good -= 1
        return super().forward(x) * (1.0 if self.good >= 0 else float("nan"))


def test_nan_rewards_end_that_column_with_a_named_error_and_the_others_go_on():
    loaded_models = models()
    broken = Broken(32, 1, bias=False)
    loaded_models = Models(loaded_models.base_lm, loaded_models.reward_models | {"one": replace(loaded_models.reward_models["one"], head=broken)})
    base = run(loaded_models, "base")
    steps, ends = collect([base, run(loaded_models, "args"), run(loaded_models, "pargs", reward_model="two")], loaded_models)
    assert ends[1].stop_reason == "error" and "`one`" in ends[1].error and "not finite" in ends[1].error
    assert len(steps[1]) == 3
    assert ids(steps[0]) == ids(collect([base], loaded_models)[0][0]) and len(steps[2]) == len(
        collect([run(loaded_models, "pargs", reward_model="two")], loaded_models)[0][0]
    )


def test_what_cannot_run_is_refused_before_the_first_forward():
    loaded_models = models()
    with pytest.raises(PromptTooLong, match=r"The prompt has 142 tokens; `llama-lm` reads 128 and 14 are kept"):
        run(loaded_models, "base", prompt="x" * 141)
    with pytest.raises(BadSettings, match="no method `nonsense`"):
        run(loaded_models, "nonsense")
    with pytest.raises(BadSettings, match="no parameter `gamma`"):
        run(loaded_models, "args", gamma=1)
    with pytest.raises(BadSettings, match=r"`beta` has to be between 0 and 20\. Found -1"):
        run(loaded_models, "args", beta=-1)
    with pytest.raises(BadSettings, match="`beta` has to be a number"):
        run(loaded_models, "args", beta=float("nan"))
    with pytest.raises(BadSettings, match="no reward model `three`"):
        run(loaded_models, "args", reward_model="three")
    judge = replace(loaded_models.reward_models["one"], loaded=replace(loaded_models.reward_models["one"].loaded, card=ModelCard("judge", "one")))
    with pytest.raises(ModelRefused, match="observes and never guides"):
        run(Models(loaded_models.base_lm, {"one": judge}), "args")
    tokenizer, table = byte_tokenizer(), byte_tokenizer().get_vocab()
    tokenizer.get_vocab = lambda: table | {"a": table["b"], "b": table["a"]}
    next_token = tiny_token_reward("vocabulary")
    other = replace(next_token, lm=replace(next_token.lm, loaded=replace(next_token.lm.loaded, tokenizer=tokenizer)))
    with pytest.raises(TokenizerMismatch, match="do not share a tokenizer"):
        run(Models(loaded_models.base_lm, {"one": other}), "args")


CHILD = """
import json, sys
sys.path.insert(0, "tests")
from test_engine import models, run, collect, ids
loaded = models()
steps, _ = collect([run(loaded, "base", seed=11), run(loaded, "pargs", beta=2.0, seed=11), run(loaded, "best-of-n", n=3, seed=11)], loaded)
print(json.dumps([ids(s) for s in steps]))
"""


@pytest.mark.slow  # the golden answers, written by another process long ago, say it every day
def test_the_same_run_in_another_process_gives_the_same_tokens():
    loaded_models = models()
    steps, _ = collect(
        [run(loaded_models, m, seed=11, **p) for m, p in (("base", {}), ("pargs", {"beta": 2.0}), ("best-of-n", {"n": 3}))], loaded_models
    )
    root = Path(__file__).resolve().parent.parent
    out = subprocess.run([sys.executable, "-c", CHILD], cwd=root, capture_output=True, text=True, check=True).stdout
    assert json.loads(out.splitlines()[-1]) == [ids(s) for s in steps]


def test_texts_of_the_steps_join_to_the_response():
    loaded_models = models()
    (steps,), _ = collect([run(loaded_models, "base", tokens=30)], loaded_models)
    text = "".join(s.text for s in steps)
    wanted = loaded_models.base_lm.loaded.tokenizer.decode([t for t in ids(steps) if t != 1])
    assert text == wanted


def test_random_numbers_differ_from_step_to_step_and_follow_the_scores():
    proposal = Proposal([0, 1, 2], torch.tensor([0.5, 0.3, 0.2]).log())
    rows = Rows(Run("", "base", ModelRef("lm"), generation=GenerationConfig(max_new_tokens=1024), seed=7), 1, (), (), frozenset())
    picks = []
    for seed in range(3):
        rows.run, rows.drafts = replace(rows.run, seed=seed), [[]]
        for _ in range(1000):
            rows.take([proposal])
        picks += [draft.token_id for draft in rows.drafts[0]]
    assert [picks.count(i) / 3000 for i in range(3)] == pytest.approx([0.5, 0.3, 0.2], abs=0.03)


def test_an_observer_of_an_unguided_column_reads_one_token_a_round(unchecked):
    loaded_models, widths = models(), []
    model = loaded_models.reward_models["one"].loaded.model.base_model
    hook = model.register_forward_pre_hook(lambda m, a, kw: widths.append(kw["input_ids"].shape[1]), with_kwargs=True)
    collect([run(loaded_models, "base", observers=("one",), tokens=5)], loaded_models)
    hook.remove()
    assert widths == [len("the food") + 1 + 1, 1, 1, 1, 1]


# --- each model reads the prompt as its card says ---------------------------------------------------------------------

CHAT = "{% for m in messages %}[{{ m.role[0] }}]{{ m.content }}{% endfor %}{% if add_generation_prompt %}[a]{% endif %}"


def chatting() -> Models:
    """A reward model that was trained with the chat template and a system prompt, beside a plain base LM and reward model."""
    plain = tiny_reward("llama", 1, "one")
    tokenizer = copy.deepcopy(plain.loaded.tokenizer)
    tokenizer.chat_template = CHAT
    card = ModelCard("reward_model", "chat", template="chat", system_prompt="be kind")
    loaded = replace(plain.loaded, ref=ModelRef("chat"), tokenizer=tokenizer, card=card)
    return Models(tiny_lm(), {"one": plain, "chat": replace(plain, loaded=loaded)})


def test_a_reward_model_reads_the_prompt_in_the_template_it_was_taught_with():
    loaded_models = chatting()
    chat, tokenizer = loaded_models.reward_models["chat"], loaded_models.reward_models["chat"].loaded.tokenizer
    as_chat = encode_prompt(tokenizer, "the food", "chat", "be kind")
    assert tokenizer.decode(as_chat).endswith("[s]be kind[u]the food[a]")
    runs = [
        run(loaded_models, "pargs", reward_model="chat", observers=("one",)),
        run(loaded_models, "args", observers=("chat",)),
        run(loaded_models, "best-of-n", n=3, reward_model="chat", observers=("one",)),
    ]
    steps, _ = collect(runs, loaded_models)
    for r, column in zip(runs, steps, strict=True):
        assert r.prompt_ids == encode_prompt(tokenizer, "the food")
        assert [s.reward("chat") for s in column] == pytest.approx(chat.along(as_chat, [ids(column)])[0], abs=1e-4)
        assert [s.reward("one") for s in column] == pytest.approx(loaded_models.reward_models["one"].along(r.prompt_ids, [ids(column)])[0], abs=1e-4)
    branch = run(loaded_models, "pargs", reward_model="chat", forced=(*ids(steps[0])[:2], steps[0][2].candidates[4].token_id))
    (branched,), _ = collect([branch], loaded_models)
    whole = [*ids(steps[0])[:2], *ids(branched)]
    assert [s.reward("chat") for s in branched] == pytest.approx(chat.along(as_chat, [whole])[0][2:], abs=1e-4)


def test_a_prompt_that_grows_too_long_by_a_template_is_refused_by_the_model_that_reads_it():
    prompt = "x" * 110
    run(chatting(), "pargs", prompt=prompt)
    with pytest.raises(PromptTooLong, match="`chat` reads 128"):
        run(chatting(), "pargs", prompt=prompt, reward_model="chat")
