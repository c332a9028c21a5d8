"""Baselines of the decoding benchmark, one round at a time: bare forwards of the same shapes, transformers' generate, ARGS with a
k-fold cache, and ARGS without a cache.

As plain and as fast as the library allows. Each has `advance(num_rounds)`, which returns seconds per round, and `tokens`. Knows nothing
of how rounds are compared.
"""

import inspect
from collections.abc import Sequence
from functools import partial
from typing import Any, cast

import torch
from torch import Tensor, nn
from transformers import DynamicCache, GPT2Model, StoppingCriteria, StoppingCriteriaList
from transformers.cache_utils import Cache, CacheLayerMixin

from rgtg.engine import Models
from rgtg.rewards.base import WithWeights
from rgtg.tools import bench_engine

CACHE = "cache" if "cache" in inspect.signature(GPT2Model.forward).parameters else "past_key_values"  # renamed in transformers 5.24


class _Slots(CacheLayerMixin):
    """One layer's keys and values, written in place."""

    def __init__(self, owner: "SlotCache"):
        super().__init__()
        self.owner = owner

    def lazy_initialization(self, key_states: Tensor, value_states: Tensor) -> None:
        rows, heads, _, dim = key_states.shape
        self.keys = key_states.new_zeros(rows, heads, self.owner.capacity, dim)
        self.values = value_states.new_zeros(rows, heads, self.owner.capacity, dim)
        self.is_initialized = True

    def update(self, key_states: Tensor, value_states: Tensor, *args: Any, **kwargs: Any) -> tuple[Tensor, Tensor]:
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
        rows, start, stop = key_states.shape[0], self.owner.high, self.owner.high + key_states.shape[2]
        assert self.keys is not None and self.values is not None
        if rows > self.keys.shape[0]:  # not all columns ask in each round
            self.lazy_initialization(key_states, value_states)
        self.keys[:rows, :, start:stop], self.values[:rows, :, start:stop] = key_states, value_states
        return self.keys[:rows, :, :stop], self.values[:rows, :, :stop]

    def get_seq_length(self) -> int:
        return self.owner.high

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
        return self.owner.high + query_length, 0

    def get_max_length(self) -> int:
        return -1


class SlotCache(Cache):
    """A preallocated cache that the next forward extends at slot `high`."""

    def __init__(self, num_layers: int, capacity: int):
        super().__init__(layers=[_Slots(self) for _ in range(num_layers)])
        self.high, self.capacity = 0, capacity


class BareForwards:
    """The forwards of a decoding without the work between them: its calls of the models are recorded and replayed.

    Same inputs, masks and cache lengths, in the same order; the cache holds other numbers. The limit of this machine.
    """

    def __init__(self, models: Models, guide: str | None, capacity: int):
        used: list[Any] = [models.base_lm, *([models.reward_models[guide]] if guide else [])]
        self.backbones: list[Any] = [model.loaded.model.base_model for model in used]
        self.heads: list[Any] = [getattr(model, "lm", model).head for model in used]
        self.caches = [SlotCache(module.config.num_hidden_layers, capacity) for module in self.backbones]
        self.calls: list[tuple[str, int, dict | Tensor]] = []
        self.hooks: list = []

    def __enter__(self) -> "BareForwards":
        """Record forwards until the end of the block."""
        self.calls = []
        for i, (backbone, head) in enumerate(zip(self.backbones, self.heads, strict=True)):
            self.hooks.append(backbone.register_forward_pre_hook(partial(self._record_backbone, i), with_kwargs=True))
            self.hooks.append(head.register_forward_pre_hook(partial(self._record_head, i)))
        return self

    def __exit__(self, *_: object) -> None:
        while self.hooks:
            self.hooks.pop().remove()

    def _record_backbone(self, i: int, module: nn.Module, args: tuple, kwargs: dict) -> None:
        if kwargs["use_cache"]:  # a spot check reads plainly: what it costs is not the forwards of a decoding
            self.calls.append(("backbone", i, kwargs))

    def _record_head(self, i: int, module: nn.Module, args: tuple) -> None:
        self.calls.append(("head", i, args[0]))

    @torch.inference_mode()
    def again(self, num_rounds: int) -> float:
        """Replay the last recording, of `num_rounds` rounds; seconds per round."""
        begun = bench_engine.clock()
        for kind, i, given in self.calls:
            if kind == "head":
                self.heads[i](given)
                continue
            assert isinstance(given, dict)
            cache, mask, width = self.caches[i], given["attention_mask"], given["input_ids"].shape[1]
            cache.high = (mask.shape[-1] if mask is not None else int(given["position_ids"][0, -1]) + 1) - width
            self.backbones[i](**{name: cache if isinstance(value, Cache) else value for name, value in given.items()})
        return (bench_engine.clock() - begun) / num_rounds


class TransformersGenerate:
    """transformers' own greedy decoding, batched, in calls that continue from its cache; its stopping criterion reads the clock."""

    def __init__(self, models: Models, prompts: Sequence[Sequence[int]]):
        self.model: Any = models.base_lm.loaded.model
        self.ids, self.cache = torch.tensor(prompts, device=self.model.device), DynamicCache()
        self.first = self.ids.shape[1]

    @property
    def tokens(self) -> list[list[int]]:
        return self.ids[:, self.first :].tolist()

    @torch.inference_mode()
    def advance(self, num_rounds: int) -> float:
        stamps: list[float] = []

        class Clock(StoppingCriteria):
            def __call__(self, input_ids: Tensor, scores: Tensor, **kwargs: Any) -> Tensor:
                stamps.append(bench_engine.clock())
                return torch.zeros(len(input_ids), dtype=torch.bool, device=input_ids.device)

        self.ids = self.model.generate(
            self.ids, attention_mask=torch.ones_like(self.ids), max_new_tokens=num_rounds + 1, do_sample=False, pad_token_id=0,
            stopping_criteria=StoppingCriteriaList([Clock()]), **{CACHE: self.cache},
        )  # fmt: skip
        return (stamps[-1] - stamps[0]) / num_rounds  # a call's own preparation, before its first token, is not a round


class KFold:
    """ARGS as its authors cache it: k copies of the reward model's cache, one token each, the selected row copied to all rows."""

    @torch.inference_mode()
    def __init__(self, models: Models, prompts: Sequence[Sequence[int]], k: int):
        self.lm: Any = models.base_lm.loaded.model
        self.reward: Any = cast(WithWeights, models.reward_models["guide"]).loaded.model
        self.k = k
        ids = torch.tensor(prompts, device=self.lm.device)
        self.lm_cache = DynamicCache()
        self.reward_cache: Any = DynamicCache()
        self.logits = self.lm(ids, use_cache=True, logits_to_keep=1, **{CACHE: self.lm_cache}).logits[:, -1]
        cast(Any, self.reward).base_model(ids, use_cache=True, **{CACHE: self.reward_cache})
        self.reward_cache.batch_repeat_interleave(k)
        self.tokens: list[list[int]] = [[] for _ in prompts]

    @torch.inference_mode()
    def advance(self, num_rounds: int) -> float:
        begun = bench_engine.clock()
        n = len(self.tokens)
        for _ in range(num_rounds):
            top, candidates = self.logits.float().log_softmax(-1).topk(self.k)
            hidden = self.reward.base_model(candidates.reshape(-1, 1), use_cache=True, **{CACHE: self.reward_cache}).last_hidden_state
            best = (top + self.reward.score(hidden)[..., 0].view(n, self.k)).argmax(-1)
            self.reward_cache.batch_select_indices((torch.arange(n, device=best.device) * self.k + best).repeat_interleave(self.k))
            token = candidates.gather(1, best[:, None])
            self.logits = self.lm(token, use_cache=True, **{CACHE: self.lm_cache}).logits[:, -1]
            for tokens, taken in zip(self.tokens, token[:, 0].tolist(), strict=True):
                tokens.append(taken)
        return (bench_engine.clock() - begun) / num_rounds


class Uncached:
    """Every candidate computed from its first token, in one batched call per model and token, without autograd and without a cache."""

    def __init__(self, models: Models, prompts: Sequence[Sequence[int]], k: int):
        self.lm: Any = models.base_lm.loaded.model
        self.reward: Any = cast(WithWeights, models.reward_models["guide"]).loaded.model
        self.k = k
        self.ids = torch.tensor(prompts, device=self.lm.device)
        self.first = self.ids.shape[1]

    @property
    def tokens(self) -> list[list[int]]:
        return self.ids[:, self.first :].tolist()

    @torch.inference_mode()
    def advance(self, num_rounds: int) -> float:
        begun = bench_engine.clock()
        for _ in range(num_rounds):
            top, candidates = self.lm(self.ids, use_cache=False, logits_to_keep=1).logits[:, -1].float().log_softmax(-1).topk(self.k)
            rows = torch.cat([self.ids.repeat_interleave(self.k, 0), candidates.reshape(-1, 1)], 1)
            hidden = self.reward.base_model(rows, use_cache=False).last_hidden_state[:, -1]
            best = (top + self.reward.score(hidden)[..., 0].view(len(self.ids), self.k)).argmax(-1)
            self.ids = torch.cat([self.ids, candidates.gather(1, best[:, None])], 1)
        return (bench_engine.clock() - begun) / num_rounds
