"""`import rgtg`: what the page and the terminal do, in Python; and guidance inside transformers' own `generate`."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from tiny_models import tiny_lm, tiny_reward, tiny_token_reward
from transformers import StopStringCriteria

import rgtg
from rgtg.engine import Models
from rgtg.errors import BadSettings, ModelRefused

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="module")
def models() -> Models:
    return Models(tiny_lm(), {"guide": tiny_reward(seed=1, name="guide"), "other": tiny_reward(seed=2, name="other")})


def written(models: Models, run: str, seed: int = 3, prompt: str = "ab", **generation):
    comparison = rgtg.compare(prompt, ["base", run], models, seed=seed, **generation)
    assert [column for column, _ in comparison]
    return comparison.traces[1]


def test_a_comparison_is_iterated_and_its_traces_are_tables(models):
    trace = written(models, "pargs:beta=2,reward_model=other", max_new_tokens=5)
    assert trace.run.reward_model.name == "other" and [ref.name for ref in trace.run.observers] == ["guide"]
    frame, candidates = rgtg.to_frame(trace), rgtg.to_frame(trace, candidates=True)
    assert frame["token_id"].tolist() == list(trace.token_ids) and "".join(frame["text"]) == trace.response
    assert frame["reward_other"].tolist() == [step.reward("other") for step in trace.steps] and frame["reward_guide"].notna().all()
    assert candidates.groupby("position").size().tolist() == [10] * len(trace.steps)
    assert candidates[candidates["taken"]]["token_id"].tolist() == list(trace.token_ids)


def test_the_base_lm_has_its_role_in_a_method_without_being_loaded_as_a_reward_model(models):
    with_lm = Models(models.base_lm, {**models.reward_models, "autoregressive": tiny_token_reward("autoregressive")})
    trace = written(with_lm, "experts:beta=1.5", max_new_tokens=4)
    assert [(ref.name, weight) for ref, weight in trace.run.guides] == [("autoregressive", 1.0), (models.base_lm.name, -1.0)]
    assert trace.steps[0].reward(models.base_lm.name) == pytest.approx(trace.steps[0].log_prob, abs=1e-4)
    assert written(models, "pargs", max_new_tokens=2).run.reward_model.name == "guide"
    with pytest.raises(BadSettings, match="Method `dera` needs a reward model. None was given. Add `aligned=NAME`"):
        rgtg.compare("ab", ["dera"], models)
    with pytest.raises(ModelRefused, match="`guide` has no log probabilities, which this method needs"):
        rgtg.compare("ab", ["dera:aligned=guide"], models)


def test_what_cannot_be_compared_is_said(models):
    with pytest.raises(BadSettings, match="max_tokens"):
        rgtg.compare("ab", ["base"], models, max_tokens=3)
    with pytest.raises(BadSettings, match="1 to 12 columns"):
        rgtg.compare("ab", [], models)
    with pytest.raises(BadSettings, match="The run `pargs:gamma=2` cannot be read"):
        rgtg.compare("ab", ["pargs:gamma=2"], models)
    with pytest.raises(AttributeError, match="no attribute `compere`"):
        _ = rgtg.compere


def generated(models: Models, run: str, prompts: list[str], seed: int = 3, **settings) -> list[list[int]]:
    """The ids that transformers' `generate` gives behind the prompts, without what fills the rows up."""
    lm = models.base_lm.loaded
    ids = [list(lm.encode_prompt(prompt)) for prompt in prompts]
    longest = max(map(len, ids))
    inputs = torch.tensor([[lm.pad_id] * (longest - len(row)) + row for row in ids])
    mask = torch.tensor([[0] * (longest - len(row)) + [1] * len(row) for row in ids])
    guidance = rgtg.guided(run, list(models.reward_models.values())[:1], lm.tokenizer, seed=seed)
    out = lm.model.generate(inputs, attention_mask=mask, max_new_tokens=6, custom_generate=guidance, **settings)
    assert all(row.equal(inputs[i * len(ids) // len(out)]) for i, row in enumerate(out[:, :longest]))
    return out[:, longest:].tolist()


@pytest.mark.parametrize("run", ["base", "pargs:beta=2", "best-of-n:n=3"])
def test_generate_gives_the_same_tokens(models, run):
    ours = [written(models, run, prompt=prompt, max_new_tokens=6, top_k=7).token_ids for prompt in ("ab", "abcde")]
    found = generated(models, run, ["ab", "abcde"], do_sample=True, top_k=7)
    assert [row[: len(ids)] for row, ids in zip(found, ours, strict=True)] == list(map(list, ours))
    greedy = written(models, run, max_new_tokens=6, temperature=0.0).token_ids
    assert generated(models, f"{run}{',' if ':' in run else ':'}top_k=10", ["ab"])[0][: len(greedy)] == list(greedy)


def test_a_second_answer_to_a_prompt_has_the_next_seed(models):
    found = generated(models, "pargs:beta=2,top_k=10", ["ab"], do_sample=True, num_return_sequences=2)
    for row, seed in zip(found, (3, 4), strict=True):
        ids = written(models, "pargs:beta=2", seed, max_new_tokens=6).token_ids
        assert row[: len(ids)] == list(ids)


def test_what_guidance_would_not_apply_is_refused(models):
    with pytest.raises(BadSettings, match="Found RepetitionPenaltyLogitsProcessor"):
        generated(models, "base", ["ab"], repetition_penalty=1.2)
    criteria = StopStringCriteria(models.base_lm.loaded.tokenizer, ["a"])
    with pytest.raises(BadSettings, match="Found StopStringCriteria"):
        generated(models, "base", ["ab"], stopping_criteria=[criteria])


@pytest.mark.slow
def test_the_python_in_the_documents_runs(tmp_path):
    pages = [(ROOT / page).read_text(encoding="utf-8") for page in ("README.md", "docs/python.md")]
    blocks = [block for page in pages for block in re.findall(r"^```python\n(.*?)^```", page, re.MULTILINE | re.DOTALL)]
    assert len(blocks) > 6
    env = os.environ | {"PYTHONPATH": str(ROOT), "RGTG_DATA_DIR": str(tmp_path / "data")}
    done = subprocess.run([sys.executable, "-c", "\n".join(blocks)], cwd=tmp_path, env=env, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "curve.html").is_file() and (tmp_path / "my-reward-model" / "card.json").is_file()
