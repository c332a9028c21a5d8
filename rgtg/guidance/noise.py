"""The same random numbers in every column: Gumbel noise of a token as a pure function of (seed, step, token id).

Knows nothing of models, methods or columns. Vocabulary size, batch, threads, device and order of draws cannot change it.
"""

import torch
from torch import Tensor

GOLDEN = 0x9E3779B97F4A7C15
WORD = (1 << 64) - 1


def gumbel(seed: int, step: int, token_ids: Tensor) -> Tensor:
    """Standard Gumbel noise, float64, for any ids: (k,) -> (k,). A subset gets what the whole vocabulary would.

    A counter hash (the splitmix64 finaliser, https://doi.org/10.1145/2660193.2660195) gives 52 bits u; -log(-log u).
    """
    key = _mix_int(_mix_int(seed & WORD) ^ (step & WORD))
    bits = _mix(token_ids.long() * _signed(GOLDEN) + _signed(key))
    uniform = (_shift(bits, 12).double() + 0.5) * 2.0**-52  # never 0, never 1: with 53 bits the half would be rounded off
    return -torch.log(-torch.log(uniform))


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


def _mix(x: Tensor) -> Tensor:
    x = (x ^ _shift(x, 30)) * _signed(0xBF58476D1CE4E5B9)  # int64 products wrap, which the hash relies on
    x = (x ^ _shift(x, 27)) * _signed(0x94D049BB133111EB)
    return x ^ _shift(x, 31)


def _shift(x: Tensor, n: int) -> Tensor:
    return (x >> n) & ((1 << (64 - n)) - 1)  # torch's >> is arithmetic


def _signed(x: int) -> int:
    return x - (1 << 64) if x >= 1 << 63 else x
