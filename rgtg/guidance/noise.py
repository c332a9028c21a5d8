"""The same random numbers in every column: Gumbel noise of a token as a pure function of (seed, step, token id).

Knows nothing of models, methods or columns. Vocabulary size, batch, threads, device and order of draws cannot change it.
"""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

GOLDEN = 0x9E3779B97F4A7C15
WORD = (1 << 64) - 1


def gumbel(seed: int, step: int, token_ids: Tensor | Sequence[int]) -> Tensor:
    """Standard Gumbel noise, float64, for any ids: (k,) -> (k,). A subset gets what the whole vocabulary would.

    A counter hash (the splitmix64 finaliser, https://doi.org/10.1145/2660193.2660195) gives 52 bits u; -log(-log u).
    In numpy, whose calls on a few numbers cost a tenth of torch's.
    """
    key = _mix_int(_mix_int(seed & WORD) ^ (step & WORD))
    bits = _mix(np.asarray(token_ids).astype(np.uint64) * np.uint64(GOLDEN) + np.uint64(key))
    uniform = ((bits >> np.uint64(12)) + 0.5) * 2.0**-52  # never 0, never 1: with 53 bits the half would be rounded off
    return torch.from_numpy(-np.log(-np.log(uniform)))


def uniform(seed: int, step: int, purpose: str) -> float:
    """A number in (0, 1) that is a pure function of its arguments and independent of the noise of tokens."""
    key = _mix_int(seed & WORD) ^ (step & WORD)
    for letter in purpose.encode():
        key = _mix_int(key ^ letter)
    return ((_mix_int(key) >> 12) + 0.5) * 2.0**-52


def derived_seed(seed: int, index: int) -> int:
    """A seed of its own for row or attempt `index` of one run; 0 keeps the run's, so that one row is the base."""
    return seed if index == 0 else _mix_int(_mix_int(seed & WORD) + index * GOLDEN)


def _mix_int(x: int) -> int:
    x = (x + GOLDEN) & WORD
    x = ((x ^ (x >> 30)) * 0xBF58476D1CE4E5B9) & WORD
    x = ((x ^ (x >> 27)) * 0x94D049BB133111EB) & WORD
    return x ^ (x >> 31)


def _mix(x: np.ndarray) -> np.ndarray:
    """`_mix_int` of many: products of 64-bit words wrap."""
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))
