"""Models of three sizes for the decoding benchmark, and the engine one round at a time.

As a script it decodes with the checkout it is started in, which may be an older one: it stands on `make_run`, `Models` and `generate`
alone, and imports rgtg inside its functions. A request is one JSON line on stdin, its answer one on stdout.
Knows nothing of what it is measured against.
"""

import json
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

VOCABULARY = 32_000  # of the Llama; GPT-2 has its own
POSITIONS = 2048
clock = time.perf_counter  # or another, see `bench_decoding.decode`


ONE_CALL = "one-call"  # a reward model that gives the rewards of all next tokens in one forward


def load(name: str, device: str = "cpu", one_call: bool = False, ends: bool = False) -> Any:
    """`Models` of a base LM and the reward model `guide`, with `one_call` one of that kind beside it: `starter` from data/starter (None where
    it is not there; with `ends` its answers end), `gpt2` at the size of GPT-2 small and `llama` with 85 million weights in its layers, both
    of random weights."""
    return _starter(device, one_call, ends) if name == "starter" else _random(name, device, one_call)


def _with_one_call(models: Any, loaded: Any) -> Any:
    """The models with a vocabulary reward model of these weights."""
    from rgtg.models.lm import BaseLM
    from rgtg.rewards.next_token import VocabularyRewardModel

    named = replace(loaded, ref=replace(loaded.ref, name=ONE_CALL))
    return replace(models, reward_models={**models.reward_models, ONE_CALL: VocabularyRewardModel(BaseLM.of(named))})


def guided_method() -> str:
    """The token rule that takes the highest score."""
    from rgtg.guidance.methods import METHODS

    return next(key for key, method in METHODS.items() if method.settings.get("pick") == "greedy")


def sparse_method() -> str:
    """The token rule that leaves some tokens unguided."""
    from rgtg.guidance.methods import METHODS

    return next(key for key, method in METHODS.items() if method.rule.skips and method.weight)


def _starter(device: str, one_call: bool = False, ends: bool = False) -> Any:
    from rgtg.config import STARTER_DIR
    from rgtg.engine import Models
    from rgtg.guidance.methods import METHODS
    from rgtg.models.lm import BaseLM
    from rgtg.models.loading import load_causal_lm, load_classifier
    from rgtg.rewards.scalar import ScalarRewardModel

    guide = STARTER_DIR / METHODS[guided_method()].objective
    if not guide.is_dir():
        return None
    loaded = load_causal_lm(str(STARTER_DIR / "base-lm"), device=device)
    sources: tuple[Any, ...] = (loaded.model.generation_config, loaded.model.config, loaded.tokenizer)
    for source in () if ends else sources:
        source.eos_token_id = None  # an answer that ends after two tokens measures nothing
    models = Models(BaseLM.of(loaded), {"guide": ScalarRewardModel.of(load_classifier(str(guide), "guide", device=device))})
    if not one_call:
        return models
    from rgtg.training.objectives import Vocabulary

    return _with_one_call(models, load_causal_lm(str(STARTER_DIR / Vocabulary.key), device=device))


def _random(name: str, device: str, one_call: bool = False) -> Any:
    """Weights from seed 0, with a tokenizer that has a token for every row, since rows without one are never candidates."""
    import torch
    from tokenizers import Tokenizer
    from tokenizers.models import WordLevel
    from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification, GPT2Config, LlamaConfig, PreTrainedTokenizerFast

    from rgtg.engine import Models
    from rgtg.models.lm import BaseLM
    from rgtg.models.loading import Loaded
    from rgtg.records import ModelRef
    from rgtg.rewards.scalar import ScalarRewardModel

    ids: dict[str, Any] = {"num_labels": 1, "pad_token_id": 0, "bos_token_id": 0, "eos_token_id": None}
    llama: dict[str, Any] = {
        "hidden_size": 768,
        "intermediate_size": 2048,
        "num_hidden_layers": 12,
        "num_attention_heads": 12,
        "vocab_size": VOCABULARY,
    }
    config = GPT2Config(n_positions=POSITIONS, **ids) if name == "gpt2" else LlamaConfig(max_position_embeddings=POSITIONS, **llama, **ids)
    words = {"<s>": 0, "</s>": 1} | {f"w{i}": i for i in range(2, config.vocab_size)}
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=Tokenizer(WordLevel(words, "<s>")), bos_token="<s>")
    torch.manual_seed(0)
    kinds = [(name, AutoModelForCausalLM), ("guide", AutoModelForSequenceClassification), *([(ONE_CALL, AutoModelForCausalLM)] if one_call else [])]
    loaded = [
        Loaded(ModelRef(title, "random"), Path(), kind.from_config(config).to(device).eval().requires_grad_(False), tokenizer, None)
        for title, kind in kinds
    ]
    models = Models(BaseLM.of(loaded[0]), {"guide": ScalarRewardModel.of(loaded[1])})
    return _with_one_call(models, loaded[2]) if one_call else models


def prompt_ids(models: Any, num_tokens: int, columns: int) -> list[list[int]]:
    """Random ids after the start token, a different prompt for each column, the same in every process."""
    import torch

    size = models.base_lm.loaded.vocabulary_size
    draw = torch.Generator().manual_seed(num_tokens)
    return [[0, *torch.randint(3, size, (num_tokens - 1,), generator=draw).tolist()] for _ in range(columns)]


class EngineRounds:
    """Greedy columns of the engine, round by round: base, or PARGS-G with beta 1, or with `entropy` the sparse rule that guides from there on."""

    def __init__(
        self, models: Any, prompts: Sequence[Sequence[int]], k: int, guided: bool, num_tokens: int, guide: str = "guide", entropy: float | None = None
    ):
        from rgtg.config import GenerationConfig
        from rgtg.engine import generate, make_run
        from rgtg.guidance.methods import METHODS

        params: tuple[tuple[str, Any], ...] = (("beta", 1.0),) if guided else ()
        method = guided_method() if guided else next(k for k, m in METHODS.items() if not m.uses_reward)
        if entropy is not None:
            method, params = sparse_method(), (*params, ("entropy", entropy), ("pick", "greedy"))
        config = GenerationConfig(max_new_tokens=num_tokens, temperature=0.0, top_k=k)
        run = make_run("a", method, models, params, guide if guided else None, (), config, 0)
        self._events = generate([replace(run, prompt_ids=tuple(ids)) for ids in prompts], models)
        self.tokens: list[list[int]] = [[] for _ in prompts]
        self.num_guided = 0  # tokens whose candidates were scored

    def advance(self, num_rounds: int) -> float:
        """Decode `num_rounds` tokens in every column; seconds per round. The first call encodes the prompts."""
        wanted = len(self.tokens[0]) + num_rounds
        begun = clock()
        while len(self.tokens[-1]) < wanted:  # the last column is the last of its round
            column, event = next(self._events)
            if hasattr(event, "token_id"):
                self.tokens[column].append(event.token_id)
                self.num_guided += any(candidate.rewards for candidate in getattr(event, "candidates", ()))
            elif error := getattr(event, "error", ""):
                raise RuntimeError(error)
        return (clock() - begun) / num_rounds


def main() -> None:
    """Answers `{"models", "prompt", "columns", "k", "guided", "num_tokens"}` with `{}`, `{"rounds": n}` with seconds
    and CPU seconds a round, and the tokens so far."""
    models: dict[str, Any] = {}
    rounds: EngineRounds | None = None
    for line in sys.stdin:
        request = json.loads(line)
        if "models" in request:
            name = request["models"]
            models = models if name in models else {name: load(name)}  # one at a time: two workers share the memory
            prompts = prompt_ids(models[name], request["prompt"], request["columns"])
            rounds = EngineRounds(models[name], prompts, request["k"], request["guided"], request["num_tokens"])
            answer: dict = {}
        else:
            assert rounds is not None
            cpu = time.process_time()
            seconds = rounds.advance(request["rounds"])
            answer = {"seconds": seconds, "cpu": (time.process_time() - cpu) / request["rounds"], "tokens": rounds.tokens}
        sys.stdout.write(json.dumps(answer) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
