"""The soft value: its loss against a literal one, its minimiser against an enumeration of every answer, and files of scored answers."""

import itertools
import json
import math

import pytest
import torch
from tiny_models import byte_tokenizer

from rgtg.config import DataConfig
from rgtg.errors import BadData
from rgtg.preferences.batches import TokenText, collate_texts, items_hash
from rgtg.preferences.dataset import Prepared, prepare
from rgtg.preferences.formats import Example, Labelled, read
from rgtg.training.losses import soft_value_regression

LENGTHS, SCORES, GUIDED = [3, 1, 4, 2], [1.5, -2.0, 0.25, 30.0], [0, 0, 2, 1]


@pytest.mark.parametrize("tau", [0.5, 1.0, 3.0])
def test_the_loss_is_that_of_its_formula_and_goes_on_as_a_line_where_it_would_overflow(tau):
    values = torch.randn(4, 5, generator=torch.Generator().manual_seed(0), dtype=torch.float64).requires_grad_()
    weights, wanted = [1.0, 2.0, 0.5, 1.0], 0.0
    for row in range(4):
        for i in range(max(1, GUIDED[row]), LENGTHS[row] + 1):
            e = (SCORES[row] - values[row, i - 1]) / tau
            exp = torch.exp(e) if e <= 10 else math.exp(10) * (1 + e - 10)
            wanted = wanted + weights[row] * tau**2 * (exp - e - 1) / 2.5
    facts = torch.tensor(LENGTHS), torch.tensor(SCORES), tau, torch.tensor(GUIDED), torch.tensor(weights), 2.5
    found = soft_value_regression(values, *facts)
    assert float(found.detach()) == pytest.approx(float(wanted.detach()), rel=1e-10)
    torch.testing.assert_close(*(torch.autograd.grad(loss, values)[0] for loss in (found, wanted)))
    assert bool(torch.autograd.grad(soft_value_regression(values - 1e4, *facts), values)[0].isfinite().all())


def tree(seed: int = 0) -> dict[str, tuple[float, float]]:
    """Every answer of at most four tokens a, b, where "." ends one: its probability and its reward."""
    draw = torch.Generator().manual_seed(seed)
    chance: dict[str, list[float]] = {}
    answers = {}
    for text in ("".join(letters) for n in range(1, 5) for letters in itertools.product("ab.", repeat=n)):
        if "." in text[:-1] or (len(text) < 4 and text[-1] != "."):
            continue
        probability = 1.0
        for i, letter in enumerate(text):
            if text[:i] not in chance:
                chance[text[:i]] = torch.rand(3, generator=draw).softmax(0).tolist()
            probability *= chance[text[:i]]["ab.".index(letter)]
        answers[text] = probability, float(torch.randn((), generator=draw))
    assert sum(p for p, _ in answers.values()) == pytest.approx(1.0)
    return answers


@pytest.mark.parametrize("tau", [0.5, 2.0])
@pytest.mark.parametrize("roll_in", [False, True])
def test_the_minimiser_at_every_prefix_is_the_soft_value_of_what_the_base_lm_writes_behind_it(tau, roll_in):
    """Given every answer with its probability. With `roll_in` another policy wrote the first token, mostly "a": nothing changes behind it."""
    answers = tree()
    prefixes = sorted({text[:i] for text in answers for i in range(1, len(text) + 1)})
    soft, mean = {}, {}
    for prefix in prefixes:
        below = [(p, r) for text, (p, r) in answers.items() if text.startswith(prefix)]
        mass = sum(p for p, _ in below)
        soft[prefix] = tau * math.log(sum(p / mass * math.exp(r / tau) for p, r in below))
        mean[prefix] = sum(p / mass * r for p, r in below)
    at = torch.tensor([[prefixes.index(text[: min(i, len(text))]) for i in range(1, 5)] for text in answers])
    lengths, scores = torch.tensor([len(text) for text in answers]), torch.tensor([r for _, r in answers.values()], dtype=torch.float64)
    weights = torch.tensor([p * (5.0 if roll_in and text[0] == "a" else 1.0) for text, (p, _) in answers.items()], dtype=torch.float64)
    guided = torch.full_like(lengths, int(roll_in))
    table = torch.zeros(len(prefixes), dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.LBFGS([table], max_iter=500, tolerance_grad=1e-12, tolerance_change=1e-15, line_search_fn="strong_wolfe")

    def loss() -> torch.Tensor:
        optimizer.zero_grad()
        value = soft_value_regression(table[at], lengths, scores, tau, guided, weights)
        value.backward()
        return value

    optimizer.step(loss)
    assert table.tolist() == pytest.approx([soft[prefix] for prefix in prefixes], abs=1e-5)
    assert max(abs(soft[prefix] - mean[prefix]) for prefix in prefixes) > 0.05, "else the regression on the mean would do"


def test_at_a_high_temperature_the_loss_is_the_squared_error():
    values = torch.randn(2, 3, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    found = soft_value_regression(values, torch.tensor([3, 2]), torch.tensor([1.0, -1.0]), 1e4)
    squares = [(1 - v) ** 2 / 2 for v in values[0].tolist()] + [(-1 - v) ** 2 / 2 for v in values[1, :2].tolist()]
    assert float(found) == pytest.approx(sum(squares) / 2, rel=1e-3)


# --- scored answers in files --------------------------------------------------------------------------------------------

IDS = {"prompt_ids": [0, 7], "response_ids": [8, 9, 1]}


def written(tmp_path, rows: list[dict]) -> str:
    (tmp_path / "samples.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(tmp_path / "samples.jsonl")


def prepared(source: str, scored: bool) -> Prepared:
    return prepare(read(source, scored=scored), byte_tokenizer(), 64, 99, DataConfig(eval_fraction=0.0))


def sample(response: str, score: float, **more) -> dict:
    """A sample in the tokens of the byte tokenizer."""
    tokenizer = byte_tokenizer()
    ids = tokenizer("ask", add_special_tokens=True)["input_ids"], tokenizer(response, add_special_tokens=False)["input_ids"] + [1]
    return {"prompt": "ask", "response": response, "score": score, "prompt_ids": ids[0], "response_ids": ids[1], **more}


def test_a_scored_answer_is_a_text_with_its_score_or_one_side_of_a_pair(tmp_path):
    source = written(tmp_path, [sample("good", 2.5, num_guided=2), sample("bad", -3.0, response_stop_reason="length") | {"weight": 2.0}])
    a, b = read(source, scored=True).examples
    assert (a.label, a.num_guided, a.ended, b.label, b.ended, b.weight) == (2.5, 2, True, -3.0, False, 2.0)
    good, bad = prepared(source, True).train
    assert (good.label, good.num_guided, good.response_ids) == (2.5, 2, tuple(sample("good", 0)["response_ids"]))
    assert collate_texts([good, bad], 1).num_guided.tolist() == [2, 0]
    assert items_hash([good]) != items_hash([TokenText(good.prompt_ids, good.response_ids, 2.5)])
    (pair,) = read(source).examples
    assert isinstance(pair, Example) and (pair.chosen, pair.rejected, pair.rejected_ended) == ("good", "bad", False)
    (tokens,) = prepared(source, False).train
    assert (tokens.chosen_ids, tokens.rejected_ids) == (good.response_ids, bad.response_ids), "as they were generated"


def test_texts_alone_are_encoded_and_foreign_tokens_are_refused_where_guided_ones_are_counted(tmp_path):
    plain = {"prompt": "ask", "response": "good", "score": 1.0}
    (text,) = prepared(written(tmp_path, [plain]), True).train
    assert text.response_ids == tuple(sample("good", 0)["response_ids"])
    other = sample("good", 1.0) | {"response_ids": [5, 6]}
    assert prepared(written(tmp_path, [other]), True).train == (text,)
    with pytest.raises(BadData, match="counted in those of another tokenizer"):
        prepared(written(tmp_path, [other | {"num_guided": 1}]), True)
    assert read(written(tmp_path, [plain]), scored=True).examples == (Labelled(1, "ask", "good", 1.0),)
