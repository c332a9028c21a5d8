"""Random numbers that all columns share: Gumbel noise as a pure function of (random seed, step, token id).

Knows nothing of models, methods or columns. Vocabulary size, batch, threads, device and order of draws cannot change it.
"""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

GOLDEN = 0x9E3779B97F4A7C15
WORD = (1 << 64) - 1


def gumbel(seed: int, step: int, token_ids: Tensor | Sequence[int]) -> Tensor:
    """Standard Gumbel noise of each token id, (k,) float64; it does not depend on which other ids are asked for.

    −log(−log u) of 52 bits u from a counter hash (the splitmix64 finaliser, https://doi.org/10.1145/2660193.2660195). In numpy, whose calls
    on a few numbers cost a tenth of those of torch.
    """
    key = _mix_int(_mix_int(seed & WORD) ^ (step & WORD))
    bits = _mix(np.asarray(token_ids).astype(np.uint64) * np.uint64(GOLDEN) + np.uint64(key))
    uniform = ((bits >> np.uint64(12)) + 0.5) * 2.0**-52  # never 0 or 1: with 53 bits the half would be rounded off
    return torch.from_numpy(-np.log(-np.log(uniform)))


def uniform(seed: int, step: int, purpose: str) -> float:
    """Uniform number in (0, 1): a pure function of its arguments, independent of the Gumbel noise."""
    key = _mix_int(seed & WORD) ^ (step & WORD)
    for letter in purpose.encode():
        key = _mix_int(key ^ letter)
    return ((_mix_int(key) >> 12) + 0.5) * 2.0**-52


def derived_seed(seed: int, index: int) -> int:
    """Random seed of row or attempt `index` of a run; index 0 has the run's own seed, so that a single row equals the base column."""
    return seed if index == 0 else _mix_int(_mix_int(seed & WORD) + index * GOLDEN)


def _mix_int(x: int) -> int:
    x = (x + GOLDEN) & WORD
    x = ((x ^ (x >> 30)) * 0xBF58476D1CE4E5B9) & WORD
    x = ((x ^ (x >> 27)) * 0x94D049BB133111EB) & WORD
    return x ^ (x >> 31)


def _mix(x: np.ndarray) -> np.ndarray:
    """`_mix_int` of an array: products of 64-bit words wrap around."""
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))
