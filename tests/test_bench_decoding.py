"""The yardsticks of the benchmark give the same greedy tokens as ours, on tiny models; their speed is not judged here."""

import json
import subprocess
import sys
from dataclasses import replace

import pytest
import torch
from tiny_models import tiny, tiny_lm, tiny_reward
from transformers import AutoModelForCausalLM

from rgtg.config import ROOT
from rgtg.engine import Models
from rgtg.errors import BadSettings
from rgtg.models.lm import BaseLM
from rgtg.tools import bench_decoding, bench_engine, bench_training
from rgtg.tools.bench_yardsticks import BareForwards


@pytest.fixture
def models() -> Models:
    return Models(tiny_lm("gpt2"), {"guide": tiny_reward("gpt2", 1, "guide")})


@pytest.mark.slow
def test_every_yardstick_gives_the_same_greedy_tokens_as_ours(models):
    for columns in (3,):
        lines = list(bench_decoding.DecodeCase("starter", models, 20, columns, {}).lines(bench_decoding.PARTS))
        checked = [line for line in lines if "same_tokens" in line]
        assert {line["what"] for line in checked} >= {"model.generate", "k-fold cached ARGS"}
        assert all(line["same_tokens"] for line in checked), checked
        assert all(line["tokens_per_second"] > 0 for line in lines)
    assert [line["what"] for line in lines if line["k"] == 40] == ["guided", "k-fold cached ARGS"]


def test_a_line_of_ours_says_the_limit_and_what_is_not_the_forwards(models):
    lines = {(line["what"], line["k"]): line for line in bench_decoding.DecodeCase("starter", models, 20, 2, {}).lines(["unguided", "guided"])}
    assert list(lines) == [("unguided", 10), ("guided", 10), ("guided", 40)]
    for line in lines.values():
        assert line["limit_ms"] > 0 and line["overhead"] == pytest.approx(1 - line["of_limit"], abs=0.002)
    assert "guided_over_unguided" in lines["guided", 40] and "limit_guided_over_unguided" in lines["guided", 10]


@pytest.mark.slow
def test_one_call_rewards_and_the_share_guided_have_lines_of_their_own(models, monkeypatch):
    monkeypatch.setattr(bench_decoding, "ENTROPIES", (0.0, 4.3))
    monkeypatch.setattr(bench_decoding, "SPARSE_ROUNDS", 2)
    endless = tiny("gpt2", AutoModelForCausalLM, 0)
    with torch.no_grad():
        endless.lm_head.weight[1] = 0.0  # the end token is never among the candidates
    loaded = replace(models.base_lm.loaded, model=endless)
    both = bench_engine._with_one_call(replace(models, base_lm=BaseLM.of(loaded)), loaded)
    found = list(bench_decoding.DecodeCase("starter", both, 64, 1, {}).lines([bench_engine.ONE_CALL, bench_decoding.SPARSE]))
    lines = {line["what"]: line for line in found}
    assert list(lines) == ["unguided", "guided", "one-call", "sparse, entropy 0", "sparse, entropy 4.3"] and len(found) == 5
    assert all(line["limit_ms"] > 0 and line["of_limit"] > 0 for line in found)
    shares = [lines[f"sparse, entropy {entropy}"]["share_guided"] for entropy in (0, 4.3)]
    assert shares[0] == 1.0 > shares[1] > 0.0 and lines["sparse, entropy 0"]["over_guided"] > 0 and lines["one-call"]["guided_over_unguided"] > 0


def test_where_the_time_is_up_three_turns_are_enough_and_the_line_says_so(models):
    lines = list(bench_decoding.DecodeCase("starter", models, 20, 1, {}).lines(["unguided", "uncached"], until=0.0))
    assert [line["what"] for line in lines if line["turns"] == 3] == ["unguided", "guided", "guided"] == [line["what"] for line in lines]


def test_bare_forwards_are_the_forwards_of_the_engine_in_shape_and_number(models):
    engine = bench_engine.EngineRounds(models, bench_engine.prompt_ids(models, 20, 2), 10, True, 12)
    bare = BareForwards(models, "guide", 64)
    with bare:
        engine.advance(1)
    with bare:
        engine.advance(3)
    calls = [(kind, i, tuple(given["input_ids"].shape) if kind == "backbone" else None) for kind, i, given in bare.calls]
    assert [call for call in calls if call[0] == "backbone"] == 3 * [("backbone", 0, (2, 1)), ("backbone", 1, (2, 10))]
    assert sum(kind == "head" for kind, *_ in calls) == 6
    assert bare.again(3) > 0
    # the last LM forward wrote behind the prompt and two tokens; nothing is recorded outside the block
    engine.advance(1)
    assert len(bare.calls) == 12 and bare.caches[0].high == 20 + 2


def test_variants_say_their_reward_error_and_their_share_of_the_same_tokens(models):
    variants = {"int8": (models, {"reward_error": 0.1})}
    line = list(bench_decoding.DecodeCase("llama", models, 20, 1, variants).lines(["int8"]))[-1]
    assert (line["what"], line["share_of_same_tokens"], line["reward_error"]) == ("guided, int8", 1.0, 0.1)
    assert line["over_plain"] > 0


def test_random_models_of_the_benchmark_are_decoders_with_a_scalar_head(monkeypatch):
    from transformers import LlamaConfig

    small = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2}
    monkeypatch.setattr("transformers.LlamaConfig", lambda **given: LlamaConfig(**given | small))
    monkeypatch.setattr(bench_engine, "VOCABULARY", 99)
    models = bench_engine.load("llama")
    assert models.base_lm.backbone.strategy == models.reward_models["guide"].backbone.strategy == "siblings"
    made = bench_decoding._variants("llama", models, ["tuned", "int8"])
    assert made["tuned"][1] == {"tuned_lm": "memory layout unchanged", "tuned_reward_model": "memory layout unchanged"}
    assert 0 < made["int8"][1]["reward_error"] < made["int8"][1]["reward_spread"]


def test_a_name_that_is_not_there_is_refused_with_those_that_are():
    with pytest.raises(BadSettings, match="starter, gpt2, llama"):
        next(bench_decoding.decode(1.0, models=["gpt3"]))
    with pytest.raises(BadSettings, match="k-fold"):
        next(bench_decoding.decode(1.0, only=["guide"]))
    with pytest.raises(BadSettings, match="no checkout"):
        list(bench_decoding.decode(1.0, against="/nowhere"))


def test_a_worker_decodes_with_the_checkout_it_is_started_in(tmp_path):
    (tmp_path / "rgtg" / "guidance").mkdir(parents=True)
    (tmp_path / "rgtg" / "guidance" / "methods.py").write_text(
        "class Method:\n    def __init__(self, pick, uses_reward): self.settings, self.uses_reward = {'pick': pick}, uses_reward\n"
        "METHODS = {'base': Method('', False), 'greedy': Method('greedy', True)}\n"
    )
    (tmp_path / "rgtg" / "__init__.py").write_text("")
    (tmp_path / "rgtg" / "records.py").write_text("")
    (tmp_path / "rgtg" / "config.py").write_text("class GenerationConfig:\n    def __init__(self, **_): pass\n")
    (tmp_path / "rgtg" / "engine.py").write_text(
        "from dataclasses import dataclass\n"
        "@dataclass\nclass Run:\n    prompt_ids: tuple\n"
        "class Step:\n    def __init__(self, token_id): self.token_id = token_id\n"
        "def make_run(*_): return Run(())\n"
        "def generate(runs, models):\n"
        "    for token in range(100):\n"
        "        for i, run in enumerate(runs):\n"
        "            yield i, Step(1000 * i + run.prompt_ids[0] + token)\n"
    )
    script = tmp_path / "worker.py"
    script.write_text(
        f"exec(compile(open({bench_engine.__file__!r}).read().split('if __name__')[0], 'worker', 'exec'))\n"
        "load, prompt_ids = (lambda name: name), (lambda models, prompt, columns: [[7]] * columns)\nmain()\n"
    )
    asked = [{"models": "starter", "prompt": 64, "columns": 2, "k": 10, "guided": True, "num_tokens": 9}, {"rounds": 2}, {"rounds": 1}]
    command, given = [sys.executable, "-P", str(script)], "\n".join(map(json.dumps, asked))
    done = subprocess.run(command, input=given, capture_output=True, text=True, env={"PYTHONPATH": str(tmp_path)})
    first, second, third = map(json.loads, done.stdout.splitlines())
    assert first == {} and second["seconds"] > 0
    assert third["tokens"] == [[7, 8, 9], [1007, 1008, 1009]]


@pytest.mark.slow
def test_two_checkouts_take_turns_and_give_the_same_tokens(monkeypatch):
    if not bench_engine.load("starter"):
        pytest.skip("data/starter is not there")
    monkeypatch.setattr(bench_decoding, "CASES", {"starter": ((16, 2),)})
    monkeypatch.setattr(bench_decoding, "TURNS", 2)
    lines = list(bench_decoding.decode(60.0, models=["starter"], against=str(ROOT)))[1:-1]
    assert [(line["what"], line["k"]) for line in lines] == [("unguided", 10), ("guided", 10), ("guided", 40)]
    assert all(line["same_tokens"] and line["ours_over_theirs"] > 0 for line in lines)


def test_throughput_is_measured_with_and_without_lora():
    shape = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "num_key_value_heads": 1, "intermediate_size": 64}
    shape |= {"vocab_size": 64, "max_position_embeddings": 64}
    lines = list(bench_training.throughput(shape, size=2, num_tokens=8, num_steps=5, device="cpu"))
    assert [line["weights"] for line in lines] == ["all weights", "all weights, gradient checkpointing", "LoRA"]
    assert lines[0]["trained"] == lines[0]["parameters"] == lines[1]["trained"] > lines[2]["trained"] > 0
    assert all(line["tokens_per_second"] > 0 and line["what"] == "throughput" for line in lines)


@pytest.mark.skipif(torch.cuda.is_available(), reason="says what it does without a GPU")
def test_without_a_gpu_throughput_says_so():
    (line,) = bench_training.throughput()
    assert line["skipped"] == "there is no GPU here"
