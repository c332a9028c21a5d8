"""Laws of reward models that score all next tokens at once, over kinds and families, against a literal reading of the logits."""

from dataclasses import replace
from functools import lru_cache

import pytest
import torch
from test_engine import collect, ids
from test_prefix import MOST_SLOW, TEXTS, close, draw
from tiny_models import TOKEN_KINDS, tiny_lm, tiny_reward, tiny_token_reward

from rgtg.config import GenerationConfig
from rgtg.engine import Models, make_run

PROMPT_LENGTHS = [2, 2, 2]


@lru_cache(maxsize=4096)
def logits(lm, ids: tuple[int, ...]) -> torch.Tensor:
    """What one forward over the text alone says of its next token."""
    return lm.loaded.model(torch.tensor([ids])).logits[0, -1].detach()


def literal(model, text: list[int], prompt_length: int) -> float:
    """The formula of each paper for one prefix, token by token, each from its own forward."""

    def log_prob(lm, end: int) -> float:
        return float(logits(lm, tuple(text[:end])).log_softmax(-1)[text[end]])

    if model.name == "vocabulary":
        return float(logits(model.lm, tuple(text[:-1]))[text[-1]])
    total = sum(log_prob(model.lm, end) for end in range(prompt_length, len(text)))
    if model.name != "implicit":
        return total
    return 0.5 * (total - sum(log_prob(model.reference, end) for end in range(prompt_length, len(text))))


@pytest.mark.parametrize("kind", TOKEN_KINDS)
def test_the_rewards_of_the_whole_vocabulary_are_those_of_each_token(kind):
    model = tiny_token_reward(kind)
    prefixes = model.start([TEXTS[0][:2]], [TEXTS[0][2:]])
    for token in (7, 30):
        whole = prefixes.forward({0: range(90)})[0].candidates
        assert whole.shape == (90,)
        close(whole, torch.tensor(prefixes.forward({0: list(range(90))})[0].candidates))
        prefixes.forward({0: range(90)})
        num = prefixes.num_forwards
        prefixes.append(0, token)
        answer = prefixes.forward({0: ()})[0]
        close(torch.tensor(answer.reward), whole[token])
        assert prefixes.num_forwards == num + 1 + (model.reference is not None), "it was a candidate: only its successors are read"


@pytest.mark.parametrize("family", MOST_SLOW)
@pytest.mark.parametrize("kind", TOKEN_KINDS)
def test_growing_prefixes_give_what_the_formula_gives(kind, family):
    law_of_growth(tiny_token_reward(kind, family))


@pytest.mark.parametrize(
    "own, reference", [("llama", "reencode"), ("reencode", "llama"), ("llama", "qwen3_5"), ("qwen3_5", "llama"), ("reencode", "qwen3_5")]
)
def test_a_model_and_its_reference_are_cached_each_in_its_own_way(own, reference):
    lms = [tiny_token_reward("implicit", "llama" if name == "reencode" else name, seed).lm for name, seed in ((own, 5), (reference, 7))]
    lms = [
        replace(lm, backbone=replace(lm.backbone, strategy="reencode")) if name == "reencode" else lm
        for lm, name in zip(lms, (own, reference), strict=True)
    ]
    model = TOKEN_KINDS["implicit"](*lms)
    law_of_growth(model)
    prefixes = model.start([TEXTS[0][:3]] * 2)  # equal prompts are read at once by what keeps them
    for slot in (0, 1):
        for token in (7, 9, 11):
            prefixes.append(slot, token)
    for answer in prefixes.forward({0: (), 1: ()}).values():
        assert list(answer.new) == pytest.approx([literal(model, [*TEXTS[0][:3], 7, 9, 11][:n], 3) for n in (4, 5, 6)], abs=1e-4)
    prefixes.truncate(0, 2)
    prefixes.append(0, 12)
    assert list(prefixes.forward({0: ()})[0].new) == pytest.approx([literal(model, [*TEXTS[0][:3], 7, 9, 12], 3)], abs=1e-4)


def law_of_growth(model) -> None:
    lengths = PROMPT_LENGTHS
    texts = [list(t) for t in TEXTS]
    prefixes = model.start([t[:n] for t, n in zip(texts, lengths, strict=True)], [t[n:] for t, n in zip(texts, lengths, strict=True)])

    def append(slot: int, token: int) -> None:
        prefixes.append(slot, token)
        texts[slot].append(token)

    def stands(slots=(0, 1, 2)) -> None:
        answers = prefixes.forward(dict.fromkeys(slots, ()))
        close(torch.tensor([answers[slot].reward for slot in slots]), torch.tensor([literal(model, texts[slot], lengths[slot]) for slot in slots]))

    def check(seed: int, slots=(0, 1, 2), k=(3, 3, 3)) -> list[list[int]]:
        candidates = draw(3, 3, seed)
        answers = prefixes.forward({slot: candidates[slot][: k[slot]] for slot in slots})
        for slot in slots:
            wanted = [literal(model, [*texts[slot], c], lengths[slot]) for c in candidates[slot][: k[slot]]]
            close(torch.tensor(answers[slot].candidates), torch.tensor(wanted))
        return candidates

    for seed in range(3):
        candidates = check(seed, k=(3, 3, 1 + seed))
        for slot, token in enumerate((candidates[0][1], candidates[1][2], 77)):
            append(slot, token)
        if seed != 1:
            stands()
    for token in (4, 5):  # no candidates before: rewarded when they are read
        for slot in range(3):
            append(slot, token + slot)
    answers = prefixes.forward({1: ()})[1]
    close(torch.tensor(answers.new), torch.tensor([literal(model, texts[1][:-1], 2), literal(model, texts[1], 2)]))
    stands()
    for slot, length in enumerate((len(texts[0]), 3, len(texts[2]) - 2)):
        prefixes.truncate(slot, length - lengths[slot])
        texts[slot] = texts[slot][:length]
    stands((0, 1))
    check(5)
    prefixes.copy([0, 1], [1, 0])
    texts[0], texts[1] = list(texts[1]), list(texts[0])
    candidates = check(6, (0, 1))
    append(0, candidates[0][0])
    append(1, 11)
    append(2, 12)
    check(7)
    stands()


@pytest.mark.parametrize("kind", TOKEN_KINDS)
def test_equal_texts_are_read_once_and_rewarded_alike(kind):
    model = tiny_token_reward(kind)
    prefixes = model.start([TEXTS[0][:3]] * 3, [TEXTS[0][3:]] * 3)
    prefixes.append(2, 9)
    answers = prefixes.forward({0: [4, 5], 1: (), 2: ()})
    assert list(answers[0].candidates) == pytest.approx([literal(model, [*TEXTS[0], c], 3) for c in (4, 5)], abs=1e-4)
    assert answers[1].reward == pytest.approx(literal(model, TEXTS[0], 3), abs=1e-4)
    assert list(answers[2].new) == pytest.approx([literal(model, [*TEXTS[0], 9], 3)], abs=1e-4)


@pytest.mark.parametrize("kind", TOKEN_KINDS)
def test_along_gives_the_reward_of_every_prefix(kind):
    model, prompt, responses = tiny_token_reward(kind), (0, 5, 17), [[40, 8, 61, 23], [9], [], [33, 71, 1]]
    of_responses = model.along(prompt, responses)
    assert [len(f) for f in of_responses] == [4, 1, 0, 3]
    for rewards, response in zip(of_responses, responses, strict=True):
        assert rewards == pytest.approx([literal(model, [*prompt, *response[: n + 1]], 3) for n in range(len(response))], abs=1e-4)


def models() -> Models:
    return Models(tiny_lm(), {kind: tiny_token_reward(kind) for kind in TOKEN_KINDS} | {"one": tiny_reward("llama", 1, "one")})


def run(loaded: Models, guide: str, observers=(), forced=(), beta: float = 1.5):
    return make_run("the food", "pargs", loaded, (("beta", beta),), guide, observers, GenerationConfig(max_new_tokens=10), 3, forced)


@pytest.mark.parametrize("kind", TOKEN_KINDS)
def test_they_guide_and_observe_with_one_forward_a_token(kind):
    loaded = models()
    runs = [run(loaded, kind, ("one",)), run(loaded, "one", (kind,)), run(loaded, kind, beta=0.0)]
    base = make_run("the food", "base", loaded, (), None, (kind,), GenerationConfig(max_new_tokens=10), 3)
    steps, _ = collect([*runs, base], loaded)
    assert ids(steps[2]) == ids(steps[3]) and ids(steps[0]) != ids(steps[3])  # weight 0 is the base
    for r, column in zip([*runs, base], steps, strict=True):
        assert [s.reward(kind) for s in column] == pytest.approx(loaded.reward_models[kind].along(r.prompt_ids, [ids(column)])[0], abs=1e-4)
    for step in steps[0]:
        for c in step.candidates:
            assert c.score == pytest.approx(c.log_prob + 1.5 * dict(c.rewards)[kind], abs=1e-4)
    alone, (end,) = collect([run(loaded, kind)], loaded)
    assert ids(alone[0]) == ids(steps[0])
    assert end.reward_forwards == len(alone[0]) * (2 if kind == "implicit" else 1)


@pytest.mark.parametrize("kind", TOKEN_KINDS)
def test_a_branch_is_rewarded_as_the_whole_answer_that_it_is(kind):
    loaded = models()
    (parent,), _ = collect([run(loaded, kind)], loaded)
    other = next(c.token_id for c in parent[4].candidates if c.token_id != parent[4].token_id)
    branch = run(loaded, kind, forced=(*ids(parent)[:4], other))
    (steps,), _ = collect([branch], loaded)
    whole = [*ids(parent)[:4], *ids(steps)]
    assert [s.reward(kind) for s in steps] == pytest.approx(loaded.reward_models[kind].along(branch.prompt_ids, [whole])[0][4:], abs=1e-4)


def test_their_cost_is_said():
    assert tiny_token_reward("vocabulary").cost == "one forward per token for the complete vocabulary"
    assert tiny_token_reward("implicit").cost.startswith("two forwards per token")
