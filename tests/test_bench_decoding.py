"""The yardsticks of the benchmark give the same greedy tokens as ours, on tiny models; their speed is not judged here."""

import pytest
import torch
from tiny_models import tiny_lm, tiny_reward

from rgtg.engine import Models
from rgtg.tools import bench_decoding, bench_training


@pytest.fixture
def models() -> Models:
    return Models(tiny_lm("gpt2"), {"guide": tiny_reward("gpt2", 1, "guide")})


def test_every_yardstick_gives_the_same_greedy_tokens_as_ours(models):
    for columns in (1, 3):
        lines = list(bench_decoding._decode_case("starter", models, 20, columns, 60.0))
        checked = [line for line in lines if "same_tokens" in line]
        assert {line["what"] for line in checked} >= {"model.generate", "k-fold cached ARGS"}
        assert all(line["same_tokens"] for line in checked), checked
        assert all(line["tokens_per_second"] > 0 for line in lines)
    assert [line["what"] for line in lines if line["k"] == 40] == ["unguided", "guided", "k-fold cached ARGS"]


def test_the_store_benchmark_finds_every_vote_it_was_thanked_for():
    (line,) = bench_decoding.store(10.0)
    assert line["votes"] == line["stored"] == 800


def test_throughput_is_measured_with_and_without_lora():
    shape = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "num_key_value_heads": 1, "intermediate_size": 64}
    shape |= {"vocab_size": 64, "max_position_embeddings": 64}
    lines = list(bench_training.throughput(shape, size=2, num_tokens=8, num_steps=5, device="cpu"))
    assert [line["weights"] for line in lines] == ["all weights", "all weights, checkpointing", "LoRA"]
    assert lines[0]["trained"] == lines[0]["parameters"] == lines[1]["trained"] > lines[2]["trained"] > 0
    assert all(line["tokens_per_second"] > 0 and line["what"] == "throughput" for line in lines)


@pytest.mark.skipif(torch.cuda.is_available(), reason="says what it does without a GPU")
def test_without_a_gpu_throughput_says_so():
    (line,) = bench_training.throughput()
    assert line["skipped"] == "there is no GPU here"
