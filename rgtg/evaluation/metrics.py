"""Figures about rewards and texts, each with its number of samples and an interval.

Pure functions of tensors, lists and strings. Knows nothing of models, files or the screen.
"""

import math
import random
from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor

PREFIX_LENGTHS = (1, 2, 3, 4, 6, 8, 12, 16)


def prefix_accuracy(
    chosen: Tensor,
    rejected: Tensor,
    chosen_lengths: Tensor,
    rejected_lengths: Tensor,
    num_common: Tensor,
    prefix_lengths: Sequence[int] = PREFIX_LENGTHS,
) -> dict[str, dict[str, float | int]]:
    """Share of pairs whose chosen prefix has the higher reward, by prefix length and at the end; ties count one half.

    Rewards are (pairs, positions) as in `training.losses`. A response shorter than the length keeps its final
    reward. A pair counts at a length once its sides differ there, and while at least one side is that long; a length
    at which none counts is omitted: {"4": {"accuracy": 0.93, "n": 2951}, …, "end": …}.
    """
    out = {}
    longest = torch.maximum(chosen_lengths, rejected_lengths)
    for length in prefix_lengths:
        counts = (longest >= length) & (num_common < length)
        a = _at(chosen, chosen_lengths.clamp(max=length))
        b = _at(rejected, rejected_lengths.clamp(max=length))
        out[str(length)] = _accuracy(a[counts], b[counts])
    differs = num_common < longest
    out["end"] = _accuracy(_at(chosen, chosen_lengths)[differs], _at(rejected, rejected_lengths)[differs])
    return {length: figures for length, figures in out.items() if figures["n"]}


def _at(rewards: Tensor, lengths: Tensor) -> Tensor:
    return rewards.gather(1, (lengths - 1)[:, None])[:, 0]


def _accuracy(chosen: Tensor, rejected: Tensor) -> dict[str, float | int]:
    n = chosen.numel()
    if n == 0:
        return {"accuracy": math.nan, "n": 0}
    wins = (chosen > rejected).double().sum() + 0.5 * (chosen == rejected).double().sum()
    return {"accuracy": round(float(wins) / n, 4), "n": n}


def equal_error_threshold(positive: Sequence[float], negative: Sequence[float]) -> float:
    """The equal-error threshold: as large a share of positives lies below it as of negatives above; midway between two values."""
    values = sorted(set(positive) | set(negative))
    pos, neg = sorted(positive), sorted(negative)
    best, threshold = math.inf, 0.0
    i = j = 0
    for low, high in pairwise(values):
        while i < len(pos) and pos[i] <= low:
            i += 1
        while j < len(neg) and neg[j] <= low:
            j += 1
        gap = abs(i / len(pos) - (1 - j / len(neg)))
        if gap < best:
            best, threshold = gap, (low + high) / 2
    return threshold


def calibration(gaps: Tensor, num_bins: int = 5) -> tuple[float, list[dict[str, float | int]]]:
    """Calibration of sigma(|gap|) against the share of pairs whose chosen side is ahead: the expected calibration error, and the
    non-empty bins from 0.5 to 1, [{"sure": 0.62, "accuracy": 0.58, "n": 40}, …]."""
    sure = torch.sigmoid(gaps.abs().double())
    wins = (gaps > 0).double() + 0.5 * (gaps == 0).double()
    bins = ((sure - 0.5) * 2 * num_bins).long().clamp(max=num_bins - 1)
    error, filled_bins = 0.0, []
    for number in range(num_bins):
        inside = bins == number
        if n := int(inside.sum()):
            mean_sure, accuracy = float(sure[inside].mean()), float(wins[inside].mean())
            error += n / gaps.numel() * abs(mean_sure - accuracy)
            filled_bins.append({"sure": round(mean_sure, 4), "accuracy": round(accuracy, 4), "n": n})
    return error, filled_bins


def mean_interval(values: Sequence[float], seed: int = 0, draws: int = 2000) -> tuple[float, float, float]:
    """Mean and its 95 % bootstrap interval over the values (one per prompt): (mean, low, high)."""
    if not values:
        return math.nan, math.nan, math.nan
    rng = random.Random(seed)
    n = len(values)
    means = sorted(sum(rng.choices(values, k=n)) / n for _ in range(draws))
    return sum(values) / n, means[int(0.025 * draws)], means[int(0.975 * draws) - 1]


def distinct_n(texts: Sequence[Sequence[int]], n: int = 2) -> float:
    """Unique n-grams divided by n-grams, over a set of token sequences."""
    grams = [tuple(ids[i : i + n]) for ids in texts for i in range(len(ids) - n + 1)]
    return len(set(grams)) / len(grams) if grams else math.nan
