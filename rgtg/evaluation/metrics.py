"""Metrics of rewards and texts, with their number of samples and confidence intervals.

Pure functions of tensors, lists and strings. Knows nothing of models, files or the screen.
"""

import math
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
    """Accuracy by prefix length and at the end: the share of pairs whose chosen prefix has the higher reward; ties count one half.

    Rewards are (pairs, positions) as in `training.losses`. A response shorter than the length keeps its final reward. A pair counts at a
    length if its prefixes differ there and at least one side is that long; a length without such pairs is left out:
    {"4": {"accuracy": 0.93, "n": 2951}, …, "end": …}.
    """
    by_length = {}
    longest = torch.maximum(chosen_lengths, rejected_lengths)
    for length in prefix_lengths:
        counts = (longest >= length) & (num_common < length)
        a = _at(chosen, chosen_lengths.clamp(max=length))
        b = _at(rejected, rejected_lengths.clamp(max=length))
        by_length[str(length)] = _accuracy(a[counts], b[counts])
    differs = num_common < longest
    by_length["end"] = _accuracy(_at(chosen, chosen_lengths)[differs], _at(rejected, rejected_lengths)[differs])
    return {length: accuracy for length, accuracy in by_length.items() if accuracy["n"]}


def _at(rewards: Tensor, lengths: Tensor) -> Tensor:
    return rewards.gather(1, (lengths - 1)[:, None])[:, 0]


def _accuracy(chosen: Tensor, rejected: Tensor) -> dict[str, float | int]:
    n = chosen.numel()
    if n == 0:
        return {"accuracy": math.nan, "n": 0}
    wins = (chosen > rejected).double().sum() + 0.5 * (chosen == rejected).double().sum()
    return {"accuracy": round(float(wins) / n, 4), "n": n}


def equal_error_threshold(positive: Sequence[float], negative: Sequence[float]) -> float:
    """Threshold of equal error: the share of `positive` values below it equals that of `negative` values above it, as nearly as possible."""
    values = sorted(set(positive) | set(negative))
    pos, neg = sorted(positive), sorted(negative)
    smallest_gap, threshold = math.inf, 0.0
    i = j = 0
    for low, high in pairwise(values):
        while i < len(pos) and pos[i] <= low:
            i += 1
        while j < len(neg) and neg[j] <= low:
            j += 1
        gap = abs(i / len(pos) - (1 - j / len(neg)))
        if gap < smallest_gap:
            smallest_gap, threshold = gap, (low + high) / 2
    return threshold


def calibration(gaps: Tensor, num_bins: int = 5) -> tuple[float, list[dict[str, float | int]]]:
    """Expected calibration error of the confidence σ(|gap|), and its bins from 0.5 to 1 that are not empty.

    `gaps` (pairs,) are differences of reward, chosen minus rejected. Bins: [{"sure": 0.62, "accuracy": 0.58, "n": 40}, …].
    """
    confidence = torch.sigmoid(gaps.abs().double())
    correct = (gaps > 0).double() + 0.5 * (gaps == 0).double()
    bin_of_pair = ((confidence - 0.5) * 2 * num_bins).long().clamp(max=num_bins - 1)
    error, bins = 0.0, []
    for number in range(num_bins):
        inside = bin_of_pair == number
        if n := int(inside.sum()):
            mean_confidence, accuracy = float(confidence[inside].mean()), float(correct[inside].mean())
            error += n / gaps.numel() * abs(mean_confidence - accuracy)
            bins.append({"sure": round(mean_confidence, 4), "accuracy": round(accuracy, 4), "n": n})
    return error, bins


def grouped_interval(rows: Sequence[tuple[str, float, float]], seed: int = 0, draws: int = 2000) -> tuple[float, float, float]:
    """(value, low, high) of sum(value) / sum(weight) over rows (group, value, weight), with its 95 % bootstrap interval over groups.

    A group, such as all answers to one prompt, is drawn as one; with weights of 1 this is the mean. NaN for no rows.
    """
    sums: dict[str, list[float]] = {}
    for group, value, weight in rows:
        total = sums.setdefault(group, [0.0, 0.0])
        total[0], total[1] = total[0] + value, total[1] + weight
    if not sums:
        return math.nan, math.nan, math.nan
    values = torch.tensor(list(sums.values()), dtype=torch.float64)  # (groups, 2)
    picked = torch.randint(len(sums), (draws, len(sums)), generator=torch.Generator().manual_seed(seed))
    totals = torch.stack([column[picked].sum(1) for column in values.T])  # (2, draws)
    ratios = (totals[0] / totals[1]).sort().values
    value, weight = values.sum(0).tolist()
    return value / weight, float(ratios[int(0.025 * draws)]), float(ratios[int(0.975 * draws) - 1])


def crossed_interval(rows: Sequence[tuple[str, str, float, float]], seed: int = 0, draws: int = 2000) -> tuple[float, float, float]:
    """`grouped_interval` over rows (training, group, value, weight): a 95 % bootstrap interval over trainings and groups.

    Groups, such as prompts, are those of all trainings, so both are drawn independently (Owen 2007, doi 10.1214/07-AOAS122); of n trainings n - 1
    are drawn, which makes the variance of their mean unbiased (McCarthy and Snowden 1985). One training is as good as none: its interval is
    that over groups.
    """
    trainings, groups = ({name: number for number, name in enumerate(dict.fromkeys(row[i] for row in rows))} for i in (0, 1))
    if len(trainings) < 2:
        return grouped_interval([row[1:] for row in rows], seed, draws)
    sums = torch.zeros(len(trainings), len(groups), 2, dtype=torch.float64)
    for training, group, value, weight in rows:
        sums[trainings[training], groups[group]] += torch.tensor([value, weight], dtype=torch.float64)
    dice = torch.Generator().manual_seed(seed)
    of_trainings, of_groups = times_drawn(len(trainings), len(trainings) - 1, draws, dice), times_drawn(len(groups), len(groups), draws, dice)
    totals = torch.einsum("dt,tgk,dg->dk", of_trainings, sums, of_groups)  # (draws, 2)
    ratios = (totals[:, 0] / totals[:, 1]).sort().values  # a draw of what has no row is NaN, and sorted to the end
    ratios = ratios[~ratios.isnan()]
    value, weight = sums.sum((0, 1)).tolist()
    return value / weight, float(ratios[int(0.025 * len(ratios))]), float(ratios[int(0.975 * len(ratios)) - 1])


def times_drawn(number: int, size: int, draws: int, dice: torch.Generator) -> Tensor:
    """How often each of `number` things is among `size` drawn with replacement, in each draw: (draws, number)."""
    picked = torch.randint(number, (draws, size), generator=dice)
    return torch.zeros(draws, number, dtype=torch.float64).scatter_add_(1, picked, torch.ones(draws, size, dtype=torch.float64))


def distinct_n(texts: Sequence[Sequence[int]], n: int = 2) -> float:
    """distinct-n (arXiv 1510.03055): the number of unique n-grams divided by that of all n-grams, over a set of token sequences."""
    grams = [tuple(ids[i : i + n]) for ids in texts for i in range(len(ids) - n + 1)]
    return len(set(grams)) / len(grams) if grams else math.nan
