"""Laws of reward models that score all next tokens at once, over kinds and families, against a literal reading of the logits."""

import pytest
import torch
from test_engine import collect, ids
from test_prefix import TEXTS, close, draw
from tiny_models import FAMILIES, OTHERS, TOKEN_KINDS, tiny_lm, tiny_reward, tiny_token_reward

from rgtg.config import GenerationConfig
from rgtg.engine import Models, make_run

PROMPT_LENGTHS = [2, 2, 1]


def literal(model, text: list[int], prompt_length: int) -> float:
    """The formula of each paper for one prefix, token by token, each from its own forward."""

    def logits(lm, before: list[int]) -> torch.Tensor:
        return lm.loaded.model(torch.tensor([before])).logits[0, -1].detach()

    if model.name == "vocabulary":
        return float(logits(model.lm, text[:-1])[text[-1]])
    total = 0.0
    for end in range(prompt_length, len(text)):
        total += float(logits(model.lm, text[:end]).log_softmax(-1)[text[end]])
        if model.name == "implicit":
            total -= float(logits(model.reference, text[:end]).log_softmax(-1)[text[end]])
    return total * (0.5 if model.name == "implicit" else 1.0)


@pytest.mark.parametrize("family", [*FAMILIES, *OTHERS])
@pytest.mark.parametrize("kind", TOKEN_KINDS)
def test_growing_prefixes_give_what_the_formula_gives(kind, family):
    model = tiny_token_reward(kind, family)
    prefixes, texts, lengths = model.start(TEXTS, prompt_lengths=PROMPT_LENGTHS), [list(t) for t in TEXTS], list(PROMPT_LENGTHS)

    def wanted() -> torch.Tensor:
        return torch.tensor([literal(model, t, n) for t, n in zip(texts, lengths, strict=True)])

    def grow(selected: list[int]) -> None:
        prefixes.append(selected)
        for text, token in zip(texts, selected, strict=True):
            text.append(token)

    for seed in range(3):
        candidates = draw(3, 3, seed)
        for row, (text, n) in enumerate(zip(texts, lengths, strict=True)):
            close(prefixes.score(candidates)[row], torch.tensor([literal(model, [*text, c], n) for c in candidates[row]]))
        grow([candidates[0][1], candidates[1][2], 77])
        close(prefixes.rewards(), wanted())
    grow([4, 5, 6])  # not scored before: computed when it is asked for
    close(prefixes.rewards(), wanted())
    prefixes.truncate([len(texts[0]), 3, len(texts[2]) - 2])
    texts[1], texts[2] = texts[1][:3], texts[2][:-2]
    close(prefixes.rewards(), wanted())
    prefixes = prefixes.fork([2, 0, 0])
    texts, lengths = [list(texts[i]) for i in (2, 0, 0)], [lengths[i] for i in (2, 0, 0)]
    prefixes.score([[8], [9], [10]])
    grow([8, 9, 11])
    close(prefixes.rewards(), wanted())
    prefixes.finish([0])
    before = float(prefixes.rewards()[0])
    prefixes.score([[0], [3], [3]])
    prefixes.append([0, 3, 4])
    texts[1].append(3)
    texts[2].append(4)
    assert float(prefixes.rewards()[0]) == before
    close(prefixes.rewards()[1:], wanted()[1:])


@pytest.mark.parametrize("kind", TOKEN_KINDS)
def test_along_gives_the_reward_of_every_prefix(kind):
    model, prompt, responses = tiny_token_reward(kind), (0, 5, 17), [[40, 8, 61, 23], [9], [], [33, 71, 1]]
    found = model.along(prompt, responses)
    assert [len(f) for f in found] == [4, 1, 0, 3]
    for rewards, response in zip(found, responses, strict=True):
        assert rewards == pytest.approx([literal(model, [*prompt, *response[: n + 1]], 3) for n in range(len(response))], abs=1e-4)


def models() -> Models:
    return Models(tiny_lm(), {kind: tiny_token_reward(kind) for kind in TOKEN_KINDS} | {"one": tiny_reward("llama", 1, "one")})


def run(found: Models, guide: str, observers=(), forced=(), beta: float = 1.5):
    return make_run("the food", "pargs", found, (("beta", beta),), guide, observers, GenerationConfig(max_new_tokens=10), 3, forced)


@pytest.mark.parametrize("kind", TOKEN_KINDS)
def test_they_guide_and_observe_with_one_forward_a_token(kind):
    found = models()
    runs = [run(found, kind, ("one",)), run(found, "one", (kind,)), run(found, kind, beta=0.0)]
    base = make_run("the food", "base", found, (), None, (kind,), GenerationConfig(max_new_tokens=10), 3)
    steps, _ = collect([*runs, base], found)
    assert ids(steps[2]) == ids(steps[3]) and ids(steps[0]) != ids(steps[3])  # weight 0 is the base
    for r, column in zip([*runs, base], steps, strict=True):
        assert [s.reward(kind) for s in column] == pytest.approx(found.reward_models[kind].along(r.prompt_ids, [ids(column)])[0], abs=1e-4)
    for step in steps[0]:
        for c in step.candidates:
            assert c.score == pytest.approx(c.log_prob + 1.5 * dict(c.rewards)[kind], abs=1e-4)
    alone, (end,) = collect([run(found, kind)], found)
    assert ids(alone[0]) == ids(steps[0])
    assert end.reward_forwards == len(alone[0]) * (2 if kind == "implicit" else 1)


@pytest.mark.parametrize("kind", TOKEN_KINDS)
def test_a_branch_is_rewarded_as_the_whole_answer_that_it_is(kind):
    found = models()
    (parent,), _ = collect([run(found, kind)], found)
    other = next(c.token_id for c in parent[4].candidates if c.token_id != parent[4].token_id)
    branch = run(found, kind, forced=(*ids(parent)[:4], other))
    (steps,), _ = collect([branch], found)
    whole = [*ids(parent)[:4], *ids(steps)]
    assert [s.reward(kind) for s in steps] == pytest.approx(found.reward_models[kind].along(branch.prompt_ids, [whole])[0][4:], abs=1e-4)


def test_their_cost_is_said():
    assert tiny_token_reward("vocabulary").cost == "one forward a token for the whole vocabulary"
    assert tiny_token_reward("implicit").cost.startswith("two forwards a token")
