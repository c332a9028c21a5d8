"""Methods on a model whose every answer can be written down: their distribution is the closed form, and that of the reference tables."""

import itertools
import json
import math
import random
from collections import Counter
from pathlib import Path

import pytest
from enumerable import END, LENGTH, SIZE, Answer, Toy, answers, by_chance, distance, drawn_model, log_probs_of

from rgtg.guidance.methods import BASE, METHODS

TOY = Toy(*drawn_model())
NUM = [300, pytest.param(20_000, marks=pytest.mark.slow)]
SLOW_NUM = [pytest.param(num, marks=pytest.mark.slow) for num in (300, 20_000)]


def check(method: str, target: dict, num: int, wrong: dict, bias: float = 0.0, **settings) -> None:
    """The shares of so many draws lie within what chance allows, and a target that is a little wrong does not."""
    shares, bound = TOY.shares(method, num, **settings), by_chance(target, num) + bias
    print(f"{method} {settings}: total variation {distance(shares, target):.4f}, bound {bound:.4f}, a wrong target {distance(shares, wrong):.4f}")
    assert distance(shares, target) < bound < distance(shares, wrong)


def step_by_step(score) -> dict[Answer, float]:
    """Each token with a probability proportional to exp(score(prefix, token)); -inf is never drawn."""

    def probs(ids: Answer) -> list[float]:
        weights = [math.exp(score(ids, v)) for v in range(SIZE)]
        return [w / sum(weights) for w in weights]

    return {a: math.prod(probs(a[:i])[token] for i, token in enumerate(a)) for a in answers()}


def log_p(ids: Answer, v: int) -> float:
    return math.log(TOY.next_probs(ids)[v])


def is_complete(ids: Answer) -> bool:
    return ids[-1:] == (END,) or len(ids) == LENGTH


def completions(ids: Answer, num_tokens: int) -> dict[Answer, float]:
    """Every text that the base LM makes of this one with so many tokens more, or fewer where it ends, and its probability."""
    texts = {ids: 1.0}
    for _ in range(num_tokens):
        longer: Counter[Answer] = Counter()
        for text, p in texts.items():
            for v, q in [(None, 1.0)] if is_complete(text) else enumerate(TOY.next_probs(text)):
                longer[text if v is None else (*text, v)] += p * q
        texts = dict(longer)
    return texts


# --- token rules --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("beta", "inverse"), [(1.0, "no"), (8.0, "no"), (8.0, "yes")])
def test_rad_clips_the_reward_to_0_and_1(beta, inverse):
    def score(ids: Answer, v: int) -> float:
        clipped = min(1.0, max(0.0, TOY.rewards[(*ids, v)]))
        return log_p(ids, v) + beta * (clipped if inverse == "no" else 1 - clipped)

    assert distance(TOY.by_steps("rad", beta=beta, inverse=inverse), step_by_step(score)) < 1e-5


def test_fudge_with_weight_1_is_bayes_rule():
    def posterior(ids: Answer, v: int) -> float:
        return math.log(TOY.next_probs(ids)[v] / (1 + math.exp(-TOY.rewards[(*ids, v)])))

    assert distance(TOY.by_steps("fudge"), step_by_step(posterior)) < 1e-5


def test_fudge_keeps_the_highest_scores():
    def score(ids: Answer, v: int, keep: int = 2) -> float:
        scores = [log_p(ids, w) - 3 * math.log1p(math.exp(-TOY.rewards[(*ids, w)])) for w in range(SIZE)]
        return scores[v] if sorted(scores, reverse=True).index(scores[v]) < keep else -math.inf

    assert distance(TOY.by_steps("fudge", weight=3.0, keep=2), step_by_step(score)) < 1e-5


@pytest.mark.parametrize("entropy", [0.8, 1.1])
def test_sparse_guidance_guides_where_the_base_lm_is_unsure(entropy):
    def score(ids: Answer, v: int) -> float:
        return log_p(ids, v) + (2.0 * TOY.rewards[(*ids, v)] if TOY.entropy(ids) >= entropy else 0.0)

    sparse = TOY.by_steps("sparse", beta=2.0, entropy=entropy)
    assert distance(sparse, step_by_step(score)) < 1e-5
    assert distance(sparse, TOY.base) > 0.01 and distance(sparse, TOY.shifted(2.0)) > 0.01, "some are guided, some are not"


def test_sparse_guidance_asks_the_guide_only_where_it_guides_and_still_rewards_every_token():
    run = TOY.run("sparse", seed=4, beta=2.0, entropy=1.1)
    (steps,) = TOY.write([run])
    guided = [bool(step.candidates[0].rewards) for step in steps]
    assert guided == [TOY.entropy(tuple(s.token_id for s in steps[:i])) >= 1.1 for i in range(len(steps))]
    assert {True, False} <= {g for seed in range(8) for g in _guided(seed)}
    assert [step.reward("reward") for step in steps] == [TOY.rewards[tuple(s.token_id for s in steps[: i + 1])] for i in range(len(steps))]


def _guided(seed: int) -> list[bool]:
    (steps,) = TOY.write([TOY.run("sparse", seed=seed, beta=2.0, entropy=1.1)])
    return [bool(step.candidates[0].rewards) for step in steps]


OTHERS = {"one": drawn_model(1)[0], "two": drawn_model(2)[0]}  # logits of two more language models
LMS = Toy(TOY.logits, TOY.rewards, **{name: log_probs_of(logits) for name, logits in OTHERS.items()})


def of(name: str, ids: Answer, v: int) -> float:
    return OTHERS[name][ids][v] - math.log(sum(map(math.exp, OTHERS[name][ids])))


@pytest.mark.parametrize("method", ["experts", "implicit"])
def test_the_log_ratio_of_two_language_models_is_added(method):
    def score(ids: Answer, v: int) -> float:
        return log_p(ids, v) + 1.7 * (of("one", ids, v) - of("two", ids, v))

    assert distance(LMS.by_steps(method, beta=1.7, mix=signed(method)), step_by_step(score)) < 1e-5


def signed(method: str) -> list[tuple[str, float]]:
    return [(name, role.weight) for name, role in zip(OTHERS, METHODS[method].roles, strict=True)]


def test_the_log_ratio_to_the_base_lm_with_weight_1_is_the_tuned_model():
    toy = Toy(TOY.logits, TOY.rewards, one=LMS.models.reward_models["one"].rewards, base=log_probs_of(TOY.logits))
    tuned = toy.by_steps("implicit", mix=[("one", 1.0), ("base", -1.0)])
    assert distance(tuned, step_by_step(lambda ids, v: of("one", ids, v))) < 1e-5


@pytest.mark.parametrize("beta", [0.0, 0.4, 1.0, 3.0])
def test_dera_interpolates_between_the_base_lm_and_an_aligned_model_and_beyond(beta):
    def score(ids: Answer, v: int) -> float:
        return (1 - beta) * log_p(ids, v) + beta * of("one", ids, v)

    assert distance(LMS.by_steps("dera", beta=beta, mix=[("one", 1.0)]), step_by_step(score)) < 1e-5


def test_mod_is_the_weighted_product_of_the_models():
    def score(ids: Answer, v: int) -> float:
        return 0.3 * of("one", ids, v) + 0.7 * of("two", ids, v)

    assert distance(LMS.by_steps("mod", mix=[("one", 0.3), ("two", 0.7)]), step_by_step(score)) < 1e-5


# --- sequences and segments ---------------------------------------------------------------------------------------------


def soft_best_of_2(temperature: float) -> dict[Answer, float]:
    target: Counter[Answer] = Counter()
    for (a, p), (b, q) in itertools.product(TOY.base.items(), repeat=2):
        target[a] += p * q * 2 / (1 + math.exp((TOY.rewards[b] - TOY.rewards[a]) / temperature))
    return dict(target)


def best_of_poisson(mu: float) -> dict[Answer, float]:
    shares = {1 + n: math.exp(-mu) * mu**n / math.factorial(n) for n in range(40)}
    target: Counter[Answer] = Counter()
    for n, share in shares.items():
        for answer, p in TOY.best_of(n).items():
            target[answer] += share * p
    return dict(target)


def rejected_at_1_and_2() -> dict[Answer, float]:
    """Of four first tokens the two best stay, of these two with another token the better one, which is written to its end."""
    target: Counter[Answer] = Counter()
    longer = {v: completions((v,), 1) for v in range(SIZE)}
    ends = {text: completions(text, LENGTH - 2) for v in range(SIZE) for text in longer[v]}
    two_best: Counter[tuple[int, int]] = Counter()
    for tokens in itertools.product(range(SIZE), repeat=4):
        first, second = sorted(tokens, key=lambda v: -TOY.rewards[(v,)])[:2]
        two_best[first, second] += math.prod(TOY.next_probs(())[v] for v in tokens)
    for (first, second), p in two_best.items():
        for (a, q), (b, r) in itertools.product(longer[first].items(), longer[second].items()):
            for text, share in ends[max(a, b, key=TOY.rewards.__getitem__)].items():
                target[text] += p * q * r * share
    return dict(target)


def rollouts_of_1(beta: float) -> dict[Answer, float]:
    """Each token by log p(v) + beta * r(one more token behind v), the latter drawn anew at every place."""

    def probs(ids: Answer) -> list[float]:
        ends = [list(completions((*ids, v), 1).items()) for v in range(SIZE)]
        total = [0.0] * SIZE
        for drawn in itertools.product(*ends):
            weights = [TOY.next_probs(ids)[v] * math.exp(beta * TOY.rewards[text]) for v, (text, _) in enumerate(drawn)]
            share = math.prod(p for _, p in drawn) / sum(weights)
            total = [t + share * w for t, w in zip(total, weights, strict=True)]
        return total

    known: dict[Answer, list[float]] = {}
    return {a: math.prod((known.get(a[:i]) or known.setdefault(a[:i], probs(a[:i])))[token] for i, token in enumerate(a)) for a in answers()}


def two_beams(num: int) -> dict[Answer, float]:
    """Two beams, two tokens drawn for each, the best two of the four texts stay: so many runs of it, in plain Python."""
    draws, counts = random.Random(0), Counter()
    for _ in range(num):
        beams = [((), 4)]  # (text, how often it is extended)
        while True:
            texts = [(*t, *draws.choices(range(SIZE), TOY.next_probs(t))) if not is_complete(t) else t for t, k in beams for _ in range(k)]
            best = sorted(texts, key=TOY.rewards.__getitem__, reverse=True)[:2]
            if all(map(is_complete, best)):
                break
            beams = [(t, 1 if is_complete(t) else 2) for t in best]
        counts[best[0]] += 1
    return {answer: count / num for answer, count in counts.items()}


@pytest.mark.parametrize("num", NUM)
def test_sequence_methods_have_their_closed_form(num):
    check("soft-best-of-n", soft_best_of_2(0.5), num, TOY.best_of(8), n=2, reward_temperature=0.5)
    check("best-of-poisson", best_of_poisson(2.0), num, best_of_poisson(6.0), mu=2.0)
    check("speculative-rejection", rejected_at_1_and_2(), num, TOY.best_of(2), n=4, drop=0.5, first=1)


@pytest.mark.parametrize("num", SLOW_NUM)
def test_segment_methods_have_their_closed_form(num):
    check("chunk-beam", TOY.block_best_of(3, 2), num, TOY.block_best_of(3, 1), width=1, k=3, chunk=2)
    check("chunk-beam", TOY.best_of(2), num, TOY.best_of(5), width=2, k=1, chunk=2)
    check("transfer-q", rollouts_of_1(1.0), num, rollouts_of_1(2.5), beta=1.0, k=SIZE, rollout=1)


@pytest.mark.parametrize("num", SLOW_NUM)
def test_two_beams_of_two_chunks_keep_the_best_two_of_four(num):
    check("chunk-beam", two_beams(20_000), num, TOY.best_of(2), bias=0.02, width=2, k=2, chunk=1)


def test_early_weighting_keeps_the_text_whose_gains_came_first():
    def worth(answer: Answer) -> float:
        values = [0.0, *(TOY.rewards[answer[:i]] for i in range(1, len(answer) + 1))]
        return sum((after - before) / i for i, (before, after) in enumerate(itertools.pairwise(values), 1))

    others_rewarded_more = 0
    for seed in range(20):
        (steps,) = TOY.write([TOY.run("chunk-beam", seed, width=1, k=3, chunk=LENGTH, weighting="early")])
        answer, tried = tuple(s.token_id for s in steps), [t.token_ids for t in steps[0].tried]
        assert len(tried) == 2 and all(worth(answer) >= worth(other) for other in tried)
        others_rewarded_more += any(TOY.rewards[other] > TOY.rewards[answer] for other in tried)
    assert others_rewarded_more, "the reward at the end would have chosen otherwise"


def test_rollouts_do_not_see_the_noise_by_which_tokens_are_chosen():
    """Else the rollout behind the token that is chosen would foretell the answer."""
    foretold = []
    for seed in range(30):
        (steps,) = TOY.write([TOY.run("transfer-q", seed, beta=0.0, k=SIZE, rollout=LENGTH)])
        answer, rollout = tuple(s.token_id for s in steps), steps[0].tried[0].token_ids  # behind the most probable candidate, in the first row
        if len(answer) > 1 and answer[0] == rollout[0]:
            foretold.append(answer == rollout)
    assert len(foretold) > 5 and not all(foretold)


def test_a_rollout_of_nothing_is_pargs():
    assert distance(TOY.by_steps("transfer-q", beta=1.3, k=SIZE, rollout=0), TOY.shifted(1.3)) < 1e-5


def test_methods_at_an_end_of_their_range_are_one_another():
    for seed in range(5):
        same = [
            ("speculative-rejection", {"n": 3, "drop": 0.0}, "best-of-n", {"n": 3}),
            ("soft-best-of-n", {"n": 3, "reward_temperature": 1e-6}, "best-of-n", {"n": 3}),
            ("chunk-beam", {"width": 1, "k": 3, "chunk": 2}, "block-best-of-k", {"k": 3, "block": 2}),
            ("sparse", {"beta": 2.0, "entropy": 0.0}, "pargs", {"beta": 2.0}),
            ("sparse", {"beta": 2.0, "entropy": 100.0}, BASE, {}),
        ]
        for one, params, other, its in same:
            texts = [[s.token_id for s in steps] for steps in TOY.write([TOY.run(one, seed, **params), TOY.run(other, seed, **its)])]
            assert texts[0] == texts[1], (one, other, seed)


# --- reference tables ---------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def tables(shared: Path) -> Path:
    folder = shared.parent / "reference"
    if not folder.is_dir():
        pytest.skip("needs the reference tables")
    return folder


def ids_of(text: str) -> Answer:
    return tuple(map(int, text.split()))


@pytest.mark.slow
@pytest.mark.parametrize("method", ["rad", "fudge"])
def test_the_reference_tables_come_out(method, tables):
    model = json.loads((tables / "model.json").read_text())
    toy = Toy({ids_of(k): v for k, v in model["base_logits"].items()}, {ids_of(k): v for k, v in model["reward"].items()})
    rows = json.loads((tables / f"{method}.json").read_text())["rows"]
    assert len(rows) >= 9
    for row in rows:
        s = row["settings"]
        if method == "rad":
            params = {"top_k": s["top_k"], "beta": float(s["beta"]), "inverse": "yes" if s["inverse"] else "no"}
        else:
            params = {"top_k": s["precondition_top_k"], "weight": float(s["lambda"]), "keep": s["top_k"]}
        answer_probs = toy.by_steps(method, **params)
        assert distance(answer_probs, {ids_of(k): p for k, p in row["sequences"].items()}) < 1e-5, s
        (steps,) = toy.write([toy.run(method, temperature=0.0, **params)])
        assert [step.token_id for step in steps] == row["greedy"], s


@pytest.mark.slow
@pytest.mark.parametrize("table", ["dexperts", "contrastive"])
def test_the_tables_of_experts_come_out(table, tables):
    model = json.loads((tables / "model.json").read_text())
    logits = {name: {ids_of(k): v for k, v in model[f"{name}_logits"].items()} for name in ("base", "expert", "antiexpert")}
    rewards = {ids_of(k): v for k, v in model["reward"].items()}
    toy = Toy(logits["base"], rewards, one=log_probs_of(logits["expert"]), two=log_probs_of(logits["antiexpert"]))
    rows = [row for row in json.loads((tables / f"{table}.json").read_text())["rows"] if not row["settings"].get("plausibility")]
    assert len(rows) >= 3
    for row in rows:
        params = {"beta": float(row["settings"]["alpha"]), "top_p": row["settings"].get("filter_p", 1.0), "mix": signed("experts")}
        answer_probs = toy.by_steps("experts", **params)
        assert distance(answer_probs, {ids_of(k): p for k, p in row["sequences"].items()}) < 1e-5, row["settings"]
        (steps,) = toy.write([toy.run("experts", temperature=0.0, **params)])
        assert [step.token_id for step in steps] == row["greedy"], row["settings"]
