"""Measured tuning of a loaded model on this machine: memory layout of matrices, number of threads, int8.

Works on torch modules and callables. Knows nothing of prefixes, rewards or the engine.
"""

import os
import statistics
import time
import warnings
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from types import MethodType
from typing import TypeGuard

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers.pytorch_utils import Conv1D

from rgtg.errors import ModelRefused

LM_TOKENS = (1, 4)  # tokens in a forward of the base LM: one per column
REWARD_TOKENS = (11, 44)  # in a forward of a reward model: one pending token and ten candidates, for one column and for four
MIN_WEIGHTS = 16_000_000  # in matrices; with fewer a forward is mostly Python and no layout is worth the measurement
MIN_GAIN = 1.08  # smaller gains are noise
SAMPLE_ROWS = 8192  # of a measured matrix: a head of 150,000 rows has the same optimum
ALL_THREADS_FROM = 100_000_000  # weights; models of this size use every core without measurement
DEFAULT_THREADS = torch.get_num_threads()

Matrix = nn.Linear | Conv1D


def num_weights(model: nn.Module) -> int:
    return sum(weight.numel() for weight in model.parameters())


# --- memory layout of matrices ------------------------------------------------------------------------------------------


def _by_rows(x: Tensor, matrix: Tensor, bias: Tensor | None) -> Tensor:
    return F.linear(x, matrix, bias)


def _onednn(x: Tensor, matrix: Tensor, bias: Tensor | None) -> Tensor:
    return torch.ops.mkldnn._linear_pointwise(x, matrix, bias, "none", [], "")


# layout and kernel of a multiplication: whether the matrix (out, in) is column-major, and the function
WAYS: dict[str, tuple[bool, Callable[[Tensor, Tensor, Tensor | None], Tensor]]] = {
    "row-major": (False, _by_rows),
    "column-major": (True, _by_rows),
    "oneDNN": (False, _onednn),
}


@dataclass(frozen=True)
class Tuned:
    """Changed matrices of a model: (shape (out, in), key of WAYS, speed-up factor) each."""

    changed: tuple[tuple[tuple[int, int], str, float], ...] = ()

    def __str__(self) -> str:
        return ", ".join(f"{out}×{width} {way} ({gain:.2f}×)" for (out, width), way, gain in self.changed) or "memory layout unchanged"


def tune_matrices(
    model: nn.Module,
    num_tokens: Sequence[int] = REWARD_TOKENS,
    seconds: float = 0.3,
    min_weights: int = MIN_WEIGHTS,
    ways: Sequence[str] = tuple(WAYS),
) -> Tuned:
    """Change Linear and Conv1D layers to the fastest of `ways` for forwards of `num_tokens`, as measured for each shape.

    Values, names, shapes and ties of weights stay, so that the model is saved as before. Only on a CPU, in float32, and with at least
    `min_weights` in matrices. The measurement takes about `seconds`, copies come on top. For inference: oneDNN has no gradient here.
    """
    groups: dict[tuple[type, torch.Size, bool], list[Matrix]] = {}
    holders = Counter(id(module._parameters["weight"]) for module in model.modules() if module._parameters.get("weight") is not None)
    for module in model.modules():
        if is_plain_matrix(module):
            groups.setdefault((type(module), _matrix(module).shape, holders[id(module.weight)] > 1), []).append(module)
    sizes = {key: sum(module.weight.numel() for module in modules) for key, modules in groups.items()}
    if sum(sizes.values()) < min_weights:
        return Tuned()
    ways = [way for way in ways if way != "oneDNN" or has_onednn()]
    changed = []
    for (kind, shape, shared), modules in groups.items():
        if sizes[kind, shape, shared] < 0.02 * sum(sizes.values()):
            continue
        # a shared weight, e.g. with the embedding, keeps its layout: transformers saves it as a flat view
        allowed = [way for way in ways if not (shared and WAYS[way][0])]
        way, gain = _fastest(modules, num_tokens, seconds / len(groups), allowed)
        if gain >= MIN_GAIN and way in allowed:
            for module in modules:
                _change(module, *WAYS[way])
            changed.append(((shape[0], shape[1]), way, gain))
    return Tuned(tuple(changed))


def is_plain_matrix(module: nn.Module) -> TypeGuard[Matrix]:
    """Whether a module is an unmodified Linear or Conv1D, float32 on the CPU: not quantised, adapted or tuned."""
    weight = module._parameters.get("weight") if type(module) in (nn.Linear, Conv1D) else None
    plain = weight is not None and weight.ndim == 2 and weight.device.type == "cpu" and weight.dtype == torch.float32
    return plain and "forward" not in vars(module)


def _matrix(module: Matrix) -> Tensor:
    """Weight as (out, in); a Conv1D stores its transpose."""
    return module.weight.detach().t() if isinstance(module, Conv1D) else module.weight.detach()


def _laid(matrix: Tensor, by_columns: bool) -> Tensor:
    return matrix.t().contiguous().t() if by_columns else matrix.contiguous()


def has_onednn() -> bool:
    return torch.backends.mkldnn.is_available() and hasattr(torch.ops.mkldnn, "_linear_pointwise")


@torch.inference_mode()
def _fastest(modules: Sequence[Matrix], num_tokens: Sequence[int], seconds: float, ways: Sequence[str]) -> tuple[str, float]:
    """Fastest of `ways` and its speed-up factor, from interleaved rounds over three matrices, too large together for the CPU cache.

    The gain is the smaller of those of the fastest and of the median round: beside a busy process either alone can be far off.
    """
    now = "column-major" if isinstance(modules[0], Conv1D) else "row-major"
    samples = [_matrix(module)[:SAMPLE_ROWS] for module in modules[:3]]
    laid = {way: [_laid(sample, WAYS[way][0]) for sample in samples] for way in dict.fromkeys((now, *ways))}
    inputs = [torch.randn(n, samples[0].shape[1], generator=torch.Generator().manual_seed(n)) for n in num_tokens]
    times: dict[tuple[str, int], list[float]] = {(way, n): [] for way in laid for n in num_tokens}
    begun = time.perf_counter()
    for turn in range(30):
        for way, matrices in laid.items():
            for x in inputs:
                start = time.perf_counter()
                for matrix in matrices:
                    WAYS[way][1](x, matrix, None)
                if turn:  # the first round warms up
                    times[way, len(x)].append(time.perf_counter() - start)
        if turn and time.perf_counter() - begun > seconds:
            break

    def gain(way: str) -> float:
        return min(1 / statistics.mean(pick(times[way, n]) / pick(times[now, n]) for n in num_tokens) for pick in (min, statistics.median))

    fastest = max(laid, key=gain)
    return fastest, gain(fastest)


def _change(module: Matrix, by_columns: bool, kernel: Callable[[Tensor, Tensor, Tensor | None], Tensor]) -> None:
    matrix = _laid(_matrix(module), by_columns)  # a weight tied to an embedding stays tied: the parameter object is the same
    module.weight.data = matrix.t() if isinstance(module, Conv1D) else matrix
    if kernel is _onednn:
        module.forward = MethodType(_forward_onednn, module)  # type: ignore[method-assign]


def _forward_onednn(self: Matrix, x: Tensor) -> Tensor:
    return _onednn(x, self.weight.t() if isinstance(self, Conv1D) else self.weight, self.bias)


# --- int8 ---------------------------------------------------------------------------------------------------------------


class Int8Linear(nn.Module):
    """Linear layer with int8 weights and one scale per output; inputs are quantised dynamically, with one scale per call.

    A reward therefore depends slightly on what is scored in the same call. It cannot be saved.
    """

    def __init__(self, matrix: Tensor, bias: Tensor | None):
        """Quantise a float32 matrix (out, in)."""
        super().__init__()
        scales = (matrix.abs().amax(1) / 127).clamp(min=1e-12)  # (out,)
        zeros = torch.zeros(len(scales), dtype=torch.long)
        with warnings.catch_warnings():  # torch will drop quantised tensors; `quantise` reports a torch without them
            warnings.simplefilter("ignore", UserWarning)
            quantised = torch.quantize_per_channel(matrix, scales.double(), zeros, 0, torch.qint8)
        self.packed = torch.ops.quantized.linear_prepack(quantised, bias)

    def forward(self, x: Tensor) -> Tensor:
        return torch.ops.quantized.linear_dynamic(x, self.packed, reduce_range=True)  # without it int16 sums overflow on CPUs before VNNI


def is_int8(model: nn.Module | None) -> bool:
    """Whether a model was quantised by `quantise`."""
    return model is not None and any(isinstance(module, Int8Linear) for module in model.modules())


@dataclass(frozen=True)
class Int8:
    """Effect of int8 on a reward model: `error` is the mean absolute difference of rewards to float32, `spread` their standard deviation."""

    num_layers: int
    error: float
    spread: float

    def __str__(self) -> str:
        return f"int8: rewards differ by {self.error:.2g} on average (their spread is {self.spread:.2g})"


def quantise(model: nn.Module, backbone: nn.Module, name: str, rewards: Callable[[], Tensor]) -> Int8:
    """Convert the Linear and Conv1D layers of `backbone`, inside `model`, to int8 in place; embedding and heads stay float32.

    `rewards` returns the model's rewards of fixed prefixes; it is called before and after. Choose the decoding strategy before: int8 does not
    keep outputs to 1e-4. Raises ModelRefused if it is impossible; the model is then unchanged.
    """
    layers = {path: module for path, module in backbone.named_modules() if is_plain_matrix(module)}
    do = "Use float32 for this reward model."
    if not layers:
        raise ModelRefused(f"`{name}` cannot be used in int8.", "It has no Linear layers in float32 on the CPU.", do)
    before = rewards().float()
    try:
        for path, module in layers.items():
            backbone.set_submodule(path, Int8Linear(_matrix(module).contiguous(), module.bias))
        after = rewards().float()
    except (RuntimeError, AttributeError, NotImplementedError, TypeError) as error:
        for path, module in layers.items():
            backbone.set_submodule(path, module)
        raise ModelRefused(f"`{name}` cannot be used in int8.", str(error).strip().splitlines()[0], do) from error
    difference = (after - before).abs().mean()
    if not bool(difference.isfinite()):
        for path, module in layers.items():
            backbone.set_submodule(path, module)
        raise ModelRefused(f"`{name}` cannot be used in int8.", "Its rewards would be NaN.", do)
    return Int8(len(layers), float(difference), float(before.std()))


# --- threads ------------------------------------------------------------------------------------------------------------


def choose_threads(step: Callable[[], object], weights: int, seconds: float = 0.2) -> int:
    """Number of threads for `step`, a forward of the models that decode together: 1, or all that torch uses.

    All if the user has set the number (OMP_NUM_THREADS, MKL_NUM_THREADS or torch.set_num_threads) and from 100 million `weights` on; otherwise
    1 unless all are clearly faster: more threads suffer most when another process is busy.
    """
    threads = torch.get_num_threads()
    set_by_user = threads != DEFAULT_THREADS or any(os.environ.get(name) for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS"))
    if set_by_user or threads == 1 or weights >= ALL_THREADS_FROM:
        return threads
    times: dict[int, list[float]] = {1: [], threads: []}
    begun = time.perf_counter()
    try:
        for _ in range(20):
            for number, taken in times.items():
                torch.set_num_threads(number)
                start = time.perf_counter()
                step()
                taken.append(time.perf_counter() - start)
            if time.perf_counter() - begun > seconds:
                break
    finally:
        torch.set_num_threads(threads)
    return threads if min(times[threads]) < 0.9 * min(times[1]) else 1


def fixed_threads(weights: int) -> int:
    """Number of threads without a measurement, the same in every process: 1 below 100 million weights, then all that torch uses."""
    return 1 if weights < ALL_THREADS_FROM else torch.get_num_threads()


def use_threads(num_threads: int) -> None:
    """Set the number of torch threads for the calling thread; 0 leaves it.

    torch has one number per thread: a new thread starts with the number set last in any thread, and one that has computed keeps its own (torch
    2.13 with OpenMP). It is therefore set at the start of every round, which costs 0.3 µs.
    """
    if num_threads and torch.get_num_threads() != num_threads:
        torch.set_num_threads(num_threads)
