"""Speed, side by side in one run: `python -m rgtg bench decode | train | start | store`.

Yardsticks are written here as plainly and as fast as the library allows, and give the same greedy tokens as ours, or the
benchmark says so. Knows nothing of the screen.
"""

import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise
from pathlib import Path

from rgtg.config import STARTER_DIR, GenerationConfig

NUM_TOKENS = 16


def text(line: dict) -> str:
    """One line for a terminal."""
    return "  ".join(f"{key} {value}" for key, value in line.items())


# --- decode -----------------------------------------------------------------------------------------------------------


def decode(seconds: float) -> Iterator[dict]:
    """Decoding speed after the first token, ours beside yardsticks, medians of interleaved rounds; `ratio` says against what."""
    import torch

    yield {"bench": "decode", "cpu_threads": torch.get_num_threads(), "torch": torch.__version__, "tokens_each": NUM_TOKENS}
    begun = time.perf_counter()
    for name, models in (("starter", _starter()), ("gpt2-small", _gpt2_small())):
        if models is None:
            yield {"model": name, "skipped": "data/starter is not there"}
            continue
        for prompt in (64, 256):
            for columns in (1, 4):
                yield from _decode_case(name, models, prompt, columns, seconds - (time.perf_counter() - begun))
    yield {"bench": "decode", "seconds": round(time.perf_counter() - begun, 1)}


def _decode_case(name: str, models, prompt: int, columns: int, left: float) -> Iterator[dict]:
    small = name == "starter"
    prompts = _prompts(models, prompt, columns)
    contestants: dict[tuple[str, int], Callable] = {}
    for k in (10, 40):
        contestants["unguided", k] = lambda k=k: _ours(models, prompts, k, guided=False)
        contestants["guided", k] = lambda k=k: _ours(models, prompts, k, guided=True)
        if small or (columns == 1 and (prompt == 256 or k == 10)):
            contestants["k-fold cached ARGS", k] = lambda k=k: _k_fold(models, prompts, k, NUM_TOKENS if small else 8)
    contestants["model.generate", 10] = lambda: _transformers_generate(models, prompts)
    times: dict[tuple[str, int], list[float]] = {key: [] for key in contestants}
    tokens: dict[tuple[str, int], list[list[int]]] = {}
    contestants["unguided", 10]()  # warm up
    for _ in range(5 if small else 3):
        for key, contestant in contestants.items():
            if key[0].startswith("k-fold") and not small and times[key]:
                continue  # slow: once, over several tokens
            taken, stamps = contestant()
            tokens[key] = taken
            times[key] += [b - a for a, b in pairwise(stamps)]
    if columns == 1:  # every prefix from its first token: two rounds are enough, and as much as one wants to wait for
        for k in (10,) if prompt == 256 or small else (10, 40):
            taken, stamps = _uncached(models, prompts, k, 3)
            tokens["uncached", k] = taken
            times["uncached", k] = [b - a for a, b in pairwise(stamps)]
    for key in times:
        what, k = key
        ours = ("unguided" if what == "model.generate" else "guided", k)
        same = all(a == b[: len(a)] for a, b in zip(tokens[key], tokens[ours], strict=True))
        per_round = statistics.median(times[key])
        line = {"model": name, "prompt": prompt, "k": k, "columns": columns, "what": what}
        line |= {"tokens_per_second": round(columns / per_round, 1), "ms_per_round": round(1000 * per_round, 2)}
        if what == "guided":
            line["guided_over_unguided"] = round(statistics.median(times["unguided", k]) / per_round, 3)
        elif what != "unguided":
            line["ours_over_this"] = round(per_round / statistics.median(times[ours]), 2)
            line["same_tokens"] = same
        yield line


def _starter():
    from rgtg.engine import Models
    from rgtg.models.lm import BaseLM
    from rgtg.models.loading import load_causal_lm, load_classifier
    from rgtg.rewards.scalar import ScalarRewardModel

    if not (STARTER_DIR / "partial").is_dir():
        return None
    loaded = load_causal_lm(str(STARTER_DIR / "base-lm"), device="cpu")
    for source in (loaded.model.generation_config, loaded.model.config, loaded.tokenizer):
        source.eos_token_id = None  # an answer that ends after two tokens measures nothing
    lm = BaseLM.of(loaded)
    return Models(lm, {"guide": ScalarRewardModel.of(load_classifier(str(STARTER_DIR / "partial"), "guide", device="cpu"))})


def _gpt2_small():
    """Random weights at GPT-2-small size with 2,048 positions, under the smallest tokenizer that serves."""
    import torch
    from tokenizers import Tokenizer
    from tokenizers.models import WordLevel
    from transformers import GPT2Config, GPT2ForSequenceClassification, GPT2LMHeadModel, PreTrainedTokenizerFast

    from rgtg.engine import Models
    from rgtg.models.lm import BaseLM
    from rgtg.models.loading import Loaded
    from rgtg.records import ModelRef
    from rgtg.rewards.scalar import ScalarRewardModel

    tokenizer = PreTrainedTokenizerFast(tokenizer_object=Tokenizer(WordLevel({"<s>": 0, "</s>": 1}, "<s>")), bos_token="<s>")
    config = GPT2Config(n_positions=2048, num_labels=1, pad_token_id=0, bos_token_id=0, eos_token_id=None)
    torch.manual_seed(0)
    loaded = [
        Loaded(ModelRef(name, "random"), Path(), kind(config).eval().requires_grad_(False), tokenizer, None)
        for name, kind in (("gpt2-small", GPT2LMHeadModel), ("guide", GPT2ForSequenceClassification))
    ]
    return Models(BaseLM.of(loaded[0]), {"guide": ScalarRewardModel.of(loaded[1])})


def _prompts(models, length: int, columns: int) -> list[list[int]]:
    import torch

    size = models.base_lm.loaded.vocabulary_size
    draw = torch.Generator().manual_seed(length)
    return [[0, *torch.randint(3, size, (length - 1,), generator=draw).tolist()] for _ in range(columns)]


def _ours(models, prompts: Sequence[Sequence[int]], k: int, guided: bool) -> tuple[list[list[int]], list[float]]:
    """Greedy tokens of the engine and the time of each round's last step."""
    from rgtg.engine import generate
    from rgtg.records import Run, Step

    config = GenerationConfig(max_new_tokens=NUM_TOKENS, temperature=0.0, top_k=k)
    runs = [
        Run(
            "", "pargs-greedy" if guided else "base", models.base_lm.loaded.ref, (("beta", 1.0),) if guided else (),
            ((models.reward_models["guide"].loaded.ref, 1.0),) if guided else (), generation=config, prompt_ids=tuple(ids),
        )
        for ids in prompts
    ]  # fmt: skip
    tokens, stamps = [[] for _ in runs], {}
    for column, event in generate(runs, models):
        if isinstance(event, Step):
            tokens[column].append(event.token_id)
            stamps[event.position] = time.perf_counter()
    return tokens, list(stamps.values())


def _transformers_generate(models, prompts: Sequence[Sequence[int]]) -> tuple[list[list[int]], list[float]]:
    """transformers' own greedy decoding, one batched call; its stopping criterion reads the clock."""
    import torch
    from transformers import StoppingCriteria, StoppingCriteriaList

    stamps = []

    class Clock(StoppingCriteria):
        def __call__(self, input_ids, scores, **kwargs):
            stamps.append(time.perf_counter())
            return torch.zeros(len(input_ids), dtype=torch.bool)

    ids = torch.tensor(prompts)
    with torch.inference_mode():
        out = models.base_lm.loaded.model.generate(
            ids, attention_mask=torch.ones_like(ids), max_new_tokens=NUM_TOKENS, do_sample=False, pad_token_id=0,
            stopping_criteria=StoppingCriteriaList([Clock()]),
        )  # fmt: skip
    return _until_eos(out[:, ids.shape[1] :].tolist(), models), stamps


def _until_eos(rows: list[list[int]], models) -> list[list[int]]:
    eos = models.base_lm.loaded.eos_ids
    return [row[: next((i + 1 for i, t in enumerate(row) if t in eos), len(row))] for row in rows]


def _k_fold(models, prompts: Sequence[Sequence[int]], k: int, num_tokens: int) -> tuple[list[list[int]], list[float]]:
    """ARGS as its authors cache it: k copies of the reward model's cache, a token each, the winner copied to all rows."""
    import torch
    from transformers import DynamicCache

    lm, reward = models.base_lm.loaded.model, models.reward_models["guide"]
    with torch.inference_mode():
        ids = torch.tensor(prompts)
        n = len(ids)
        lm_cache, rm_cache = DynamicCache(), DynamicCache()
        logits = lm(ids, past_key_values=lm_cache, use_cache=True, logits_to_keep=1).logits[:, -1]
        reward.loaded.model.base_model(ids, past_key_values=rm_cache, use_cache=True)
        rm_cache.batch_repeat_interleave(k)
        taken, stamps = [], []
        for step in range(num_tokens):
            top, candidates = logits.float().log_softmax(-1).topk(k)
            hidden = reward.loaded.model.base_model(candidates.reshape(-1, 1), past_key_values=rm_cache, use_cache=True).last_hidden_state
            best = (top + reward.head(hidden)[..., 0].view(n, k)).argmax(-1)
            token = candidates.gather(1, best[:, None])
            taken.append(token[:, 0].tolist())
            stamps.append(time.perf_counter())
            if step + 1 < num_tokens:
                rows = (torch.arange(n) * k + best).repeat_interleave(k)
                rm_cache.batch_select_indices(rows)
                logits = lm(token, past_key_values=lm_cache, use_cache=True).logits[:, -1]
    return _until_eos([list(row) for row in zip(*taken, strict=True)], models), stamps


def _uncached(models, prompts: Sequence[Sequence[int]], k: int, num_tokens: int) -> tuple[list[list[int]], list[float]]:
    """Every candidate read from its first token in one batched call a model and token, without autograd and without a cache."""
    import torch

    lm, reward = models.base_lm.loaded.model, models.reward_models["guide"]
    stamps: list[float] = []
    with torch.inference_mode():
        ids = torch.tensor(prompts)
        first = ids.shape[1]
        for _ in range(num_tokens):
            top, candidates = lm(ids, use_cache=False, logits_to_keep=1).logits[:, -1].float().log_softmax(-1).topk(k)
            rows = torch.cat([ids.repeat_interleave(k, 0), candidates.reshape(-1, 1)], 1)
            hidden = reward.loaded.model.base_model(rows, use_cache=False).last_hidden_state[:, -1]
            best = (top + reward.head(hidden)[..., 0].view(len(ids), k)).argmax(-1)
            ids = torch.cat([ids, candidates.gather(1, best[:, None])], 1)
            stamps.append(time.perf_counter())
    return _until_eos(ids[:, first:].tolist(), models), stamps


# --- train ------------------------------------------------------------------------------------------------------------


def train(seconds: float) -> Iterator[dict]:
    """Our one pass over all prefixes against enumerated prefixes, our full objective against TRL's RewardTrainer, and throughput on a GPU."""
    import torch

    from rgtg.tools import bench_training

    begun = time.perf_counter()
    yield {"bench": "train", "cpu_threads": torch.get_num_threads(), "torch": torch.__version__}
    yield from bench_training.one_pass()
    if time.perf_counter() - begun < seconds:
        yield from bench_training.against_trl()
    if time.perf_counter() - begun < seconds:
        yield from bench_training.throughput()
    yield {"bench": "train", "seconds": round(time.perf_counter() - begun, 1)}


# --- start ------------------------------------------------------------------------------------------------------------


def start(seconds: float) -> Iterator[dict]:
    """Seconds from `python app.py` to the page answering, and to models ready for a first comparison."""
    import socket
    import urllib.request

    from rgtg.config import ROOT

    with socket.socket() as free, tempfile.TemporaryDirectory() as folder:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
        free.close()
        begun = time.perf_counter()
        env = os.environ | {"RGTG_DATA_DIR": folder}
        app = subprocess.Popen(
            [sys.executable, "app.py", "--port", str(port)], cwd=ROOT, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        try:
            answering = None
            while answering is None and time.perf_counter() - begun < seconds:
                try:
                    urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=5).read()
                    answering = time.perf_counter() - begun
                except OSError:
                    time.sleep(0.05)
            ready = None
            for line in app.stdout:
                if "models ready" in line:
                    ready = time.perf_counter() - begun
                    break
            yield {"bench": "start", "page_answers_after_s": answering and round(answering, 2), "models_ready_after_s": ready and round(ready, 2)}
        finally:
            app.terminate()
            app.wait()


# --- store ------------------------------------------------------------------------------------------------------------


def store(seconds: float) -> Iterator[dict]:
    """Votes a second from 16 threads, each vote with its comparison in one transaction of its own."""
    import threading

    from rgtg.records import Comparison, ModelRef, Run, Step, Trace, Vote, new_id
    from rgtg.store.store import Store

    def comparison() -> tuple[Comparison, Vote]:
        steps = tuple(Step(i, i, "word ", -1.0, -1.0, 1, 1, 0.4, 0.4) for i in range(24))
        traces = tuple(Trace(new_id(), c, Run("a prompt", "base", ModelRef("lm")), steps, "word " * 24, "eos") for c in "AB")
        found = Comparison(new_id(), "a prompt", traces)
        return found, Vote(new_id(), found.id, "best", traces[0].id, tuple(t.id for t in traces))

    with tempfile.TemporaryDirectory() as folder, Store(Path(folder) / "rgtg.db") as found:
        waits: list[float] = []

        def vote() -> None:
            for _ in range(50):
                record = comparison()
                begun = time.perf_counter()
                found.add_comparison(*record)
                waits.append(time.perf_counter() - begun)

        threads = [threading.Thread(target=vote) for _ in range(16)]
        begun = time.perf_counter()
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        took = time.perf_counter() - begun
        waits.sort()
        yield {
            "bench": "store", "votes": len(waits), "votes_per_second": round(len(waits) / took),
            "p95_ms": round(1000 * waits[int(0.95 * len(waits))], 1), "worst_ms": round(1000 * waits[-1], 1), "stored": found.num_votes(),
        }  # fmt: skip
