"""What a trained reward model is worth, on pairs that trained nothing: by prefix length, beside its parent or what guided before, and plain length.

Knows tensors of rewards and nothing of models. Every figure comes with its number of pairs and an interval of 95 in 100.
"""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from rgtg.evaluation.metrics import PREFIX_LENGTHS, calibration, mean_interval, wilson_interval
from rgtg.training.objectives import hold

PARENT, GUIDE, CHANCE = "its parent", "what guided until now", "chance"  # the verdicts: (not) better than one of these
TOO_FEW = "too few to tell"
LEAST_PAIRS, LEAST_PROMPTS, WIDEST = 20, 10, 0.2  # below, or with a wider interval around 0, nothing is said
LENGTHS = (*PREFIX_LENGTHS, 24, 32, 48, 64, 96, 128, 192, 256, 384, 512, 768, 1024)


@dataclass(frozen=True, eq=False)
class Measured:
    """Rewards of every prefix of held-out pairs: (pairs, positions) and (pairs,); `prompts` says which belong together.

    `log_odds` times a gap is the log-odds of the preference that the loss reads from it.
    """

    chosen: Tensor
    rejected: Tensor
    chosen_lengths: Tensor
    rejected_lengths: Tensor
    num_common: Tensor
    prompts: tuple[str, ...]
    log_odds: float = 1.0

    def gaps(self) -> tuple[Tensor, Tensor]:
        """r(chosen) - r(rejected) at every prefix length and where it counts, (pairs, positions): a finished response keeps
        its reward; while both sides are the same sequence nothing is compared."""
        longest = torch.maximum(self.chosen_lengths, self.rejected_lengths)
        width = int(longest.max())
        position = torch.arange(width)[None]
        counts = (position < longest[:, None]) & (position >= self.num_common[:, None])
        return hold(self.chosen, self.chosen_lengths, width) - hold(self.rejected, self.rejected_lengths, width), counts

    def ends(self) -> Tensor:
        """(pairs,): the gap of the complete responses."""
        gaps, _ = self.gaps()
        return gaps.gather(1, (torch.maximum(self.chosen_lengths, self.rejected_lengths) - 1)[:, None])[:, 0]


@dataclass(frozen=True, eq=False)
class Guide:
    """The reward model that has guided until now; `why_not` says what keeps it from being measured on these pairs."""

    name: str
    measured: Measured | None = None
    why_not: str = ""


def wins(gaps: Tensor) -> Tensor:
    """1 where the chosen side is ahead, ties one half."""
    return (gaps > 0).double() + 0.5 * (gaps == 0).double()


def along(measured: Measured) -> Tensor:
    """(pairs,): each pair's share of prefix lengths at which the chosen side is ahead: what guidance asks of a reward model."""
    gaps, counts = measured.gaps()
    return (wins(gaps) * counts).sum(1) / counts.sum(1).clamp(min=1)


def by_length(measured: Measured, lengths: Sequence[int] = LENGTHS) -> dict[str, dict[str, float | int]]:
    """{"4": {"accuracy", "low", "high", "margin", "calibration_error", "n"}, …, "end": …}; margin is the mean gap."""
    gaps, counts = measured.gaps()
    found = {str(n): gaps[:, n - 1][counts[:, n - 1]] for n in lengths if n <= gaps.shape[1]} | {"end": measured.ends()}
    out = {}
    for name, gap in found.items():
        if n := gap.numel():
            won = float(wins(gap).sum())
            low, high = wilson_interval(won, n)
            error = calibration(gap * measured.log_odds)[0]
            figures = {"accuracy": won / n, "low": low, "high": high, "margin": float(gap.mean()), "calibration_error": error}
            out[name] = {key: round(value, 4) for key, value in figures.items()} | {"n": n}
    return out


def held_out_report(child: Measured | None, parent: Measured | None = None, longer_chosen: float = 0.5, guide: Guide | None = None) -> dict[str, Any]:
    """The report of one training. The child is measured against its parent; without one that is a reward model against the
    guide, and without that against chance.

    `longer_chosen`, the share of training pairs whose longer side was chosen, says which way the length baseline bets.
    """
    if child is None or not len(child.chosen):
        return {"num_pairs": 0, "num_prompts": 0, "verdict": TOO_FEW, "recommended": None}
    ends = wins(child.ends())
    rival = parent or (guide.measured if guide else None)
    before = along(rival) if rival else torch.full_like(ends, 0.5)
    lengths = (child.chosen_lengths - child.rejected_lengths).double() * (1 if longer_chosen >= 0.5 else -1)
    difference = _interval(along(child) - before, child.prompts)
    against_length = _interval(ends - wins(lengths), child.prompts)
    num_prompts = len(set(child.prompts))
    verdict = judge(difference, len(ends), num_prompts, PARENT if parent else GUIDE if rival else CHANCE)
    report = {"num_pairs": len(ends), "num_prompts": num_prompts, "verdict": verdict}
    report |= {"accuracy": _interval(ends, child.prompts), "accuracy_along": _interval(along(child), child.prompts)}
    report |= {"difference_along": difference, "by_length": by_length(child), "calibration": calibration(child.ends() * child.log_odds)[1]}
    report["length_only"] = {"bets_on": "longer" if longer_chosen >= 0.5 else "shorter", "accuracy": _interval(wins(lengths), child.prompts)}
    report["difference_to_length"] = against_length
    if rival:
        beside = {"accuracy": _interval(wins(rival.ends()), child.prompts), "accuracy_along": _interval(before, child.prompts)}
        beside |= {"by_length": by_length(rival)}
        report |= {"parent": beside} if parent else {"guide": {"name": guide.name} | beside}
    elif guide:
        report["guide"] = {"name": guide.name, "why_not": guide.why_not}
    beaten = difference["low"] > 0 or against_length["low"] > 0
    return report | {"recommended": None if verdict == TOO_FEW else beaten}


def judge(difference: dict[str, float], num_pairs: int, num_prompts: int, than: str) -> str:
    """By the interval of the difference to the parent, the guide or chance."""
    if num_pairs < LEAST_PAIRS or num_prompts < LEAST_PROMPTS:
        return TOO_FEW
    if difference["low"] > 0:
        return f"better than {than}"
    return TOO_FEW if difference["high"] > 0 and difference["high"] - difference["low"] > WIDEST else f"not better than {than}"


def _interval(values: Tensor, prompts: Sequence[str]) -> dict[str, float]:
    """Mean over prompts of their means, with its interval: pairs of one prompt are not independent."""
    groups: dict[str, list[float]] = defaultdict(list)
    for value, prompt in zip(values.tolist(), prompts, strict=True):
        groups[prompt].append(value)
    found = mean_interval([sum(group) / len(group) for group in groups.values()])
    return dict(zip(("mean", "low", "high"), (round(x, 4) for x in found), strict=True))
