"""Figures of a reward model on pairs: accuracy by length and fraction, pairs that turn, rank correlation, biases; and of two models, how far apart.

Knows tensors of rewards (`training.held_out.Measured`), not models. Intervals are 95 %, over prompts.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd
import torch
from torch import Tensor

from rgtg.figures import wilson_interval
from rgtg.training.held_out import LENGTHS, Measured, by_length, share_intervals, wins

FRACTIONS = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0)
LEAST = 3  # values that a correlation needs
Figures = dict[str, Any]


def examined(measured: Measured, judge: Measured | None = None) -> Figures:
    """All figures of one model on these pairs. Those of pairs that turn need the rewards of a `judge` on the same pairs."""
    report: Figures = {"num_pairs": len(measured.chosen), "num_prompts": len(set(measured.prompts)), "by_length": by_length(measured)}
    report |= {"by_fraction": by_fraction(measured), "rank_correlation": rank_correlation(measured), "length": length_bias(measured)}
    return report | ({"turning": turning(measured, judge)} if judge is not None else {})


def by_fraction(measured: Measured, fractions: Sequence[float] = FRACTIONS) -> dict[str, Figures]:
    """Accuracy where each response of a pair is cut to this fraction of its own length, rounded up: {"0.1": {"accuracy", "low", "high", "n"}, …}.

    A pair counts where the prefixes are not both part of what its responses have in common.
    """
    lengths = [
        torch.ceil(torch.tensor(fractions)[None] * n[:, None]).long().clamp(min=1) for n in (measured.chosen_lengths, measured.rejected_lengths)
    ]
    gaps = measured.chosen.gather(1, lengths[0] - 1) - measured.rejected.gather(1, lengths[1] - 1)
    counts = torch.maximum(*lengths) > measured.num_common[:, None]
    return {f"{f:g}": figures for f, figures in zip(fractions, _shares(wins(gaps), counts, measured.prompts), strict=True) if figures["n"]}


def turning(measured: Measured, judge: Measured) -> Figures:
    """Accuracy before and after the verdict of a pair turns: `n` pairs whose chosen response the judge prefers in the end and has behind at a prefix
    before. The turn is the last length at which it is behind; `turn` is the median of these.

    The label is that of the complete pair, so a model that follows the judge is wrong before the turn.
    """
    gaps, counts = judge.gaps()
    behind = counts & (gaps < 0)
    turned = behind.any(1) & (judge.ends() > 0)
    if not turned.any():
        return {"n": 0}
    position = torch.arange(gaps.shape[1])[None]
    last = (behind * (position + 1)).amax(1, keepdim=True)  # (pairs, 1): number of tokens
    own, own_counts = measured.gaps()
    masks = [own_counts & turned[:, None] & side for side in (position + 1 <= last, position + 1 > last)]
    means = torch.stack([(wins(own) * mask).sum(1) / mask.sum(1).clamp(min=1) for mask in masks], 1)
    before, after = _shares(means, torch.stack([mask.any(1) for mask in masks], 1), measured.prompts)
    return {"n": int(turned.sum()), "turn": float(last[turned].double().median()), "before": before, "after": after}


def rank_correlation(measured: Measured, lengths: Sequence[int] = LENGTHS) -> dict[str, Figures]:
    """Spearman's correlation of the reward of a prefix with that of its complete response, over responses longer than the prefix:
    {"4": {"correlation", "n"}, …}."""
    found = {}
    for length in lengths:
        pairs = [(r[n > length, length - 1], _last(r, n)[n > length]) for r, n in _sides(measured) if length <= r.shape[1]]
        prefix, complete = (torch.cat(part) for part in zip(*pairs, strict=True)) if pairs else (torch.zeros(0), torch.zeros(0))
        if len(prefix) >= LEAST:
            found[str(length)] = {"correlation": _spearman(prefix, complete), "n": len(prefix)}
    return found


def length_bias(measured: Measured) -> Figures:
    """Of the pairs of unequal length, the share in which the longer response has the higher reward, and in which it was preferred; Spearman's
    correlation of reward and length; and `offsets`, the mean reward of a prefix by its length."""
    longer = (measured.chosen_lengths - measured.rejected_lengths).sign()
    unequal = longer != 0
    choices = wins(measured.ends() * longer)[unequal]
    n, rewards = int(unequal.sum()), [(_last(r, n), n) for r, n in _sides(measured)]
    figures: Figures = {"n": n, "longer_preferred": round(float((longer[unequal] > 0).double().mean()), 4) if n else None}
    if n:
        low, high = wilson_interval(float(choices.sum()), n)
        figures["longer_rewarded"] = {"mean": round(float(choices.mean()), 4), "low": round(low, 4), "high": round(high, 4)}
    figures["correlation"] = _spearman(torch.cat([r for r, _ in rewards]), torch.cat([n for _, n in rewards]).double())
    figures["offsets"] = {str(k): round(v, 4) for k in LENGTHS if (v := _offset(measured, k)) is not None}
    return figures


def distance(one: Measured, other: Measured) -> Figures:
    """How far apart two models are in what they say of siblings: rewards of all prefixes of these responses, less their mean at each length, scaled
    to norm 1; `distance` is half the norm of the difference (0: the same up to an offset for each length and a scale, 1: the opposite), and
    `correlation` the product.

    In the manner of STARC (arXiv 2309.15257), whose canonical form takes out what shaping may add; here that is a term of each length.
    """
    flat = [torch.cat([_centred(r, n) for r, n in _sides(m)]) for m in (one, other)]
    if flat[0].shape != flat[1].shape:
        return {"why_not": "Their responses have other tokens."}
    if min(float(f.norm()) for f in flat) == 0:
        return {"why_not": "One of them gives all prefixes of a length the same reward."}
    a, b = (f / f.norm() for f in flat)
    return {"distance": round(float((a - b).norm()) / 2, 4), "correlation": round(float(a @ b), 4), "n": len(a)}


def consistency_gap(samples: Mapping[int, Sequence[float]]) -> Figures:
    """Spread of r(y_{<i}) less the soft value of its candidates, samples by length -> {"spread", "n"}: the standard deviation within a length,
    averaged over lengths with at least two samples. 0 where guidance token by token is exact up to an offset of each length."""
    lengths = [torch.tensor(values, dtype=torch.float64) for values in samples.values() if len(values) > 1]
    n = sum(map(len, lengths))
    return {"spread": round(math.sqrt(sum(float(v.var(unbiased=False)) * len(v) for v in lengths) / n), 4) if n else None, "n": n}


def _sides(measured: Measured) -> tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor]]:
    return (measured.chosen, measured.chosen_lengths), (measured.rejected, measured.rejected_lengths)


def _last(rewards: Tensor, lengths: Tensor) -> Tensor:
    return rewards.gather(1, (lengths - 1)[:, None])[:, 0]


def _offset(measured: Measured, length: int) -> float | None:
    found = [r[n >= length, length - 1] for r, n in _sides(measured) if length <= r.shape[1]]
    values = torch.cat(found) if found else torch.zeros(0)
    return float(values.double().mean()) if len(values) else None


def _centred(rewards: Tensor, lengths: Tensor) -> Tensor:
    """Rewards of all prefixes in one row, each less the mean of its length: (prefixes,)."""
    inside = torch.arange(rewards.shape[1])[None] < lengths[:, None]
    means = (rewards.double() * inside).sum(0) / inside.sum(0).clamp(min=1)
    return (rewards.double() - means)[inside]


def _spearman(a: Tensor, b: Tensor) -> float | None:
    ranks = [pd.Series(values.tolist()).rank() for values in (a, b)]
    if len(ranks[0]) < LEAST or any(r.nunique() < 2 for r in ranks):
        return None
    return round(float(ranks[0].corr(ranks[1])), 4)


def _shares(values: Tensor, counts: Tensor, prompts: Sequence[str]) -> list[Figures]:
    """Mean and interval of each column of shares over the pairs that count: (pairs, figures) twice -> one dictionary a figure."""
    numbers = counts.sum(0).tolist()
    columns = [i for i, n in enumerate(numbers) if n]
    found = dict(zip(columns, share_intervals(values[:, columns], counts[:, columns], prompts), strict=True)) if columns else {}
    names = ("accuracy", "low", "high")
    return [{name: round(x, 4) for name, x in zip(names, found[i], strict=True)} | {"n": n} if n else {"n": 0} for i, n in enumerate(numbers)]
