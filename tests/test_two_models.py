"""Methods that read other language models, and candidates of the mixed score, on a model whose every answer can be written down."""

import json
import math
from collections import Counter
from collections.abc import Callable

import pytest
import torch
from enumerable import SIZE, Answer, Toy, ToyLM, by_chance, distance, log_probs_of
from test_exact import LMS, OTHERS, TOY, ids_of, is_complete, log_p, of, signed, step_by_step
from tiny_models import tiny_lm, tiny_reward, tiny_token_reward

from rgtg.config import GenerationConfig
from rgtg.engine import Ended, Models, generate, make_run
from rgtg.guidance.methods import terms_of
from rgtg.records import Step

Score = Callable[[Answer, int], float]


def over(allowed: Callable[[Answer], set[int]], score: Score) -> dict[Answer, float]:
    """Each token by its score among those that are allowed there."""
    return step_by_step(lambda ids, v: score(ids, v) if v in allowed(ids) else -math.inf)


def top(num: int, score: Score) -> Callable[[Answer], set[int]]:
    return lambda ids: set(sorted(range(SIZE), key=lambda v: -score(ids, v))[:num])


def plausible(share: float, score: Score) -> Callable[[Answer], set[int]]:
    return lambda ids: {v for v in range(SIZE) if math.exp(score(ids, v)) >= share * max(math.exp(score(ids, w)) for w in range(SIZE))}


def ratio(ids: Answer, v: int) -> float:
    return of("one", ids, v) - of("two", ids, v)


def shifted(ids: Answer, v: int) -> float:
    return log_p(ids, v) + 2.0 * TOY.rewards[(*ids, v)]


def test_candidates_are_the_top_k_of_the_base_lm_or_of_the_mixed_score():
    assert distance(TOY.by_steps("farma", beta=2.0, top_k=2), over(top(2, log_p), shifted)) < 1e-5
    mixed = over(top(2, shifted), shifted)
    assert distance(TOY.by_steps("farma", beta=2.0, top_k=2, candidates="all"), mixed) < 1e-5 < distance(mixed, over(top(2, log_p), shifted))
    clipped = lambda ids, v: log_p(ids, v) + 4.0 * min(1.0, max(0.0, TOY.rewards[(*ids, v)]))  # noqa: E731
    assert distance(TOY.by_steps("rad", beta=4.0, top_k=3, candidates="all"), over(top(3, clipped), clipped)) < 1e-5
    likely = lambda ids, v: log_p(ids, v) - 3.0 * math.log1p(math.exp(-TOY.rewards[(*ids, v)]))  # noqa: E731
    assert distance(TOY.by_steps("fudge", weight=3.0, top_k=3, candidates="all", keep=2), over(top(2, likely), likely)) < 1e-5
    product = lambda ids, v: 0.3 * of("one", ids, v) + 0.7 * of("two", ids, v)  # noqa: E731
    mod = LMS.by_steps("mod", mix=[("one", 0.3), ("two", 0.7)], top_k=2, candidates="all")
    assert distance(mod, over(top(2, product), product)) < 1e-5


def test_top_p_of_the_mixed_score_keeps_the_token_that_crosses_it():
    def nucleus(ids: Answer) -> set[int]:
        order = sorted(range(SIZE), key=lambda v: -shifted(ids, v))
        weights = [math.exp(shifted(ids, v)) for v in order]
        return {v for i, v in enumerate(order) if sum(weights[:i]) < 0.8 * sum(weights)}

    assert distance(TOY.by_steps("genarm", beta=2.0, top_p=0.8, candidates="all"), over(nucleus, shifted)) < 1e-5


def test_candidates_stand_in_the_order_of_the_base_lm_whatever_selects_them():
    (steps,) = TOY.write([TOY.run("farma", 3, beta=2.0, top_k=3, candidates="all")])
    for step in steps:
        log_probs = [c.log_prob for c in step.candidates]
        assert len(log_probs) == 3 and log_probs == sorted(log_probs, reverse=True) and all(c.rewards for c in step.candidates)


@pytest.mark.parametrize("candidates", ["topk", pytest.param("all", marks=pytest.mark.slow)])
def test_a_contrast_leaves_out_what_the_base_lm_finds_implausible(candidates):
    def score(ids: Answer, v: int) -> float:
        return log_p(ids, v) + 1.7 * ratio(ids, v)

    contrast = LMS.by_steps("experts", beta=1.7, plausibility=0.3, candidates=candidates, mix=signed("experts"))
    assert distance(contrast, over(plausible(0.3, log_p), score)) < 1e-5
    assert distance(contrast, step_by_step(score)) > 0.01


@pytest.mark.parametrize(("beta", "share"), [(1.0, 0.1), (1.0, 0.4), (0.5, 0.2), (2.0, 0.0)])
def test_alignment_aware_decoding_ranks_what_the_tuned_model_finds_plausible_by_its_log_ratio(beta, share):
    def score(ids: Answer, v: int) -> float:
        return (1 - beta) * log_p(ids, v) + beta * ratio(ids, v)

    target = over(plausible(share, lambda ids, v: of("one", ids, v)), score)
    params = {"beta": beta, "plausibility": share, "mix": signed("aad")}
    assert distance(LMS.by_steps("aad", pick="sample", **params), target) < 1e-5
    (steps,) = LMS.write([LMS.run("aad", **params)])
    taken = tuple(step.token_id for step in steps)
    if beta == 1.0:
        for i, v in enumerate(taken):
            allowed = plausible(share, lambda ids, v: of("one", ids, v))(taken[:i])
            assert v == max(allowed, key=lambda w: ratio(taken[:i], w)), "greedy, as in the paper"


@pytest.mark.parametrize("candidates", ["topk", "all"])
def test_a_nudger_writes_where_the_base_lm_is_unsure(candidates):
    def unsure(ids: Answer) -> bool:
        return max(TOY.next_probs(ids)) < 0.6

    def score(ids: Answer, v: int) -> float:
        return of("one", ids, v) if unsure(ids) else log_p(ids, v)

    nudged = LMS.by_steps("nudging", threshold=0.6, candidates=candidates, top_k=3, mix=[("one", 1.0)])
    assert distance(nudged, over(top(3, score if candidates == "all" else log_p), score)) < 1e-5
    assert distance(LMS.by_steps("nudging", threshold=1.01, mix=[("one", 1.0)]), step_by_step(lambda ids, v: of("one", ids, v))) < 1e-5
    (steps,) = LMS.write([LMS.run("nudging", 1, threshold=0.6, mix=[("one", 1.0)])])
    taken = tuple(step.token_id for step in steps)
    assert [bool(step.candidates[0].rewards) for step in steps] == [unsure(taken[:i]) for i in range(len(taken))], "asked only where it writes"


class Prompted(ToyLM):
    """A language model that goes on in another way behind each prompt; a prompt is encoded as its first letter."""

    def __init__(self, **logits: dict):
        super().__init__(TOY.logits)
        self.loaded.encode_prompt = lambda text: (ord(text[0]),)
        self.by_prompt = {(ord(letter),): {ids: torch.tensor(row) for ids, row in rows.items()} for letter, rows in logits.items()}

    def behind(self, prompt):
        return self.by_prompt.get(tuple(prompt), self.logits)


def test_a_contrastive_prompt_adds_the_log_ratio_behind_its_two_texts_in_one_forward_a_token():
    def score(ids: Answer, v: int) -> float:
        return log_p(ids, v) + 1.3 * ratio(ids, v)

    toy = Toy(TOY.logits, TOY.rewards)
    toy.models = Models(Prompted(p=OTHERS["one"], n=OTHERS["two"]))
    texts = {"beta": 1.3, "positive": "p", "negative": "n"}
    assert distance(toy.by_steps("contrastive-prompt", **texts), step_by_step(score)) < 1e-5
    assert distance(toy.by_steps("contrastive-prompt", top_k=2, candidates="all", **texts), over(top(2, score), score)) < 1e-5
    assert distance(toy.by_steps("contrastive-prompt", top_k=2, **texts), over(top(2, log_p), score)) < 1e-5
    assert distance(toy.by_steps("contrastive-prompt", plausibility=0.3, **texts), over(plausible(0.3, log_p), score)) < 1e-5
    assert distance(toy.by_steps("contrastive-prompt", **texts | {"negative": "p"}), TOY.base) < 1e-5, "two equal texts say nothing"
    run = toy.run("contrastive-prompt", 5, **texts)
    events = [event for _, event in generate([run], toy.models)]
    *steps, end = [event for event in events if isinstance(event, Step | Ended)]
    assert (end.lm_forwards, end.reward_forwards) == (len(steps), 0)
    for i, step in enumerate(steps):
        ids = tuple(s.token_id for s in steps[:i])
        for c in step.candidates:
            assert dict(c.rewards) == {"contrast": pytest.approx(ratio(ids, c.token_id), abs=1e-5)}
            assert terms_of(run, c) == pytest.approx({"log p": c.log_prob, "β·r": 1.3 * dict(c.rewards)["contrast"]}, abs=1e-5)


# --- reward-guided speculative decoding ---------------------------------------------------------------------------------

DRAFTED = [("reward", 1.0), ("one", 0.0)]


def rsd(threshold: float, segment: int) -> dict[Answer, float]:
    """Segment by segment: the draft's where its reward is high enough, else any of the base LM."""
    target: Counter[Answer] = Counter()

    def segments(ids: Answer, next_probs: Callable[[Answer], list[float]]) -> dict[Answer, float]:
        ends = {ids: 1.0}
        for _ in range(segment):
            longer: Counter[Answer] = Counter()
            for text, p in ends.items():
                for v, q in [(None, 1.0)] if is_complete(text) else enumerate(next_probs(text)):
                    longer[text if v is None else (*text, v)] += p * q
            ends = dict(longer)
        return ends

    def extend(ids: Answer, mass: float) -> None:
        if is_complete(ids):
            target[ids] += mass
            return
        drafted = segments(ids, lambda text: [math.exp(of("one", text, v)) for v in range(SIZE)])
        kept = {end: p for end, p in drafted.items() if TOY.rewards[end] >= threshold}
        rejected = 1 - sum(kept.values())
        for end, p in kept.items():
            extend(end, mass * p)
        for end, p in segments(ids, TOY.next_probs).items():
            extend(end, mass * rejected * p)

    extend((), 1.0)
    return dict(target)


@pytest.mark.parametrize("num", [300, pytest.param(20_000, marks=pytest.mark.slow)])
def test_rsd_keeps_the_drafts_segment_where_its_reward_is_high_enough(num):
    shares = LMS.shares("rsd", num, threshold=0.2, segment=2, mix=DRAFTED)
    target, wrong = rsd(0.2, 2), rsd(1.5, 2)
    assert distance(shares, target) < by_chance(target, num) < distance(shares, wrong)


def test_rsd_asks_the_base_lm_once_for_a_kept_segment_and_for_each_token_of_one_that_it_writes():
    seen = set()
    for seed in range(12):
        events = [e for _, e in generate([LMS.run("rsd", seed, threshold=0.2, segment=2, mix=DRAFTED)], LMS.models)]
        *steps, end = [event for event in events if isinstance(event, Step | Ended)]
        ids = tuple(step.token_id for step in steps)
        segments = [range(start, min(start + 2, len(ids))) for start in range(0, len(ids), 2)]
        rejected = [bool(steps[s[0]].tried) for s in segments]
        seen.update(rejected)
        drafted = sum(len(t.token_ids) for step in steps for t in step.tried) + sum(
            len(s) for s, no in zip(segments, rejected, strict=True) if not no
        )
        assert end.lm_forwards == sum(len(s) if no else 1 for s, no in zip(segments, rejected, strict=True))
        assert drafted + len(segments) <= end.reward_forwards <= drafted + len(segments) + 2  # and what is read for the record at the end
        for i, step in enumerate(steps):
            assert step.log_prob == pytest.approx(log_p(ids[:i], step.token_id), abs=1e-5), "the base LM's, whoever wrote it"
            assert [c.log_prob for c in step.candidates] == pytest.approx(sorted((log_p(ids[:i], v) for v in range(SIZE)), reverse=True), abs=1e-5)
    assert seen == {True, False}


@pytest.mark.parametrize("family", ["gpt2", "jamba", *(pytest.param(family, marks=pytest.mark.slow) for family in ("llama", "bloom", "qwen3_5"))])
def test_what_a_draft_wrote_is_read_as_without_a_cache(family):
    lm, draft = tiny_lm(family), tiny_token_reward("autoregressive", family)
    models = Models(lm, {"one": tiny_reward("llama", 1, "one"), draft.name: draft})
    generation = GenerationConfig(max_new_tokens=11)
    for threshold in (-1e6, 0.0):
        run = make_run("the food", "rsd", models, (("threshold", threshold),), [("one", 1.0), (draft.name, 0.0)], (), generation, seed=1)
        steps = [event for _, event in generate([run], models) if isinstance(event, Step)]
        ids = [*run.prompt_ids, *(step.token_id for step in steps)]
        plain = lm.loaded.model(torch.tensor([ids])).logits[0, len(run.prompt_ids) - 1 : -1].log_softmax(-1)
        assert len(steps) > 3 or steps[-1].token_id == 1
        assert [s.log_prob for s in steps] == pytest.approx([float(row[s.token_id]) for row, s in zip(plain, steps, strict=True)], abs=1e-3)


@pytest.mark.slow
def test_the_tables_with_a_plausibility_come_out(shared):
    folder = shared.parent / "reference"
    if not folder.is_dir():
        pytest.skip("needs the reference tables")
    model = json.loads((folder / "model.json").read_text())
    logits = {name: {ids_of(k): v for k, v in model[f"{name}_logits"].items()} for name in ("base", "expert", "antiexpert")}
    rewards = {ids_of(k): v for k, v in model["reward"].items()}
    toy = Toy(logits["base"], rewards, one=log_probs_of(logits["expert"]), two=log_probs_of(logits["antiexpert"]))
    rows = [row for row in json.loads((folder / "contrastive.json").read_text())["rows"] if row["settings"]["plausibility"]]
    assert len(rows) >= 3
    for row in rows:
        params = {"beta": float(row["settings"]["alpha"]), "plausibility": float(row["settings"]["plausibility"]), "mix": signed("experts")}
        answer_probs = toy.by_steps("experts", **params)
        assert distance(answer_probs, {ids_of(k): p for k, p in row["sequences"].items()}) < 1e-5, row["settings"]
        (steps,) = toy.write([toy.run("experts", temperature=0.0, **params)])
        assert [step.token_id for step in steps] == row["greedy"], row["settings"]
