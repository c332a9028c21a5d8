"""The evaluation of a reward model on held-out pairs: by prefix length, against its parent or the previous guide, and against length alone.

Knows tensors of rewards, not models. Every figure comes with its number of pairs and a 95 % confidence interval.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor

from rgtg.evaluation.metrics import PREFIX_LENGTHS, calibration
from rgtg.figures import LEAST_PROMPTS, are_enough, wilson_interval
from rgtg.training.losses import hold

PARENT, GUIDE, CHANCE = "its parent", "the model that guided before", "chance"  # the verdicts: (not) better than one of these
TOO_FEW = "too few to tell"
WIDEST = 0.2  # a wider interval around 0 gives no verdict
DRAWS = 2000  # of the bootstrap
LENGTHS = (*PREFIX_LENGTHS, 24, 32, 48, 64, 96, 128, 192, 256, 384, 512, 768, 1024)


@dataclass(frozen=True, eq=False)
class Measured:
    """Rewards of every prefix of held-out pairs: (pairs, positions), and lengths (pairs,); `prompts` groups the pairs.

    `log_odds` times a gap is the log-odds of the preference, as in the loss; None where the loss has no such reading.
    """

    chosen: Tensor
    rejected: Tensor
    chosen_lengths: Tensor
    rejected_lengths: Tensor
    num_common: Tensor
    prompts: tuple[str, ...]
    log_odds: float | None = 1.0

    def gaps(self) -> tuple[Tensor, Tensor]:
        """r(chosen) - r(rejected) at every prefix length, and a mask of the lengths that count: both (pairs, positions). A finished
        response keeps its reward; lengths at which both sides are the same sequence do not count."""
        longest = torch.maximum(self.chosen_lengths, self.rejected_lengths)
        width = int(longest.max())
        position = torch.arange(width)[None]
        counts = (position < longest[:, None]) & (position >= self.num_common[:, None])
        return hold(self.chosen, self.chosen_lengths, width) - hold(self.rejected, self.rejected_lengths, width), counts

    def ends(self) -> Tensor:
        """The gap of the complete responses: (pairs,)."""
        gaps, _ = self.gaps()
        return gaps.gather(1, (torch.maximum(self.chosen_lengths, self.rejected_lengths) - 1)[:, None])[:, 0]


@dataclass(frozen=True, eq=False)
class Guide:
    """The reward model that guided before; `why_not` is the reason where it cannot be evaluated on these pairs."""

    name: str
    measured: Measured | None = None
    why_not: str = ""


def wins(gaps: Tensor) -> Tensor:
    """1 where the gap is positive, 0.5 where it is 0, else 0; the shape of `gaps`."""
    return (gaps > 0).double() + 0.5 * (gaps == 0).double()


def along(measured: Measured) -> Tensor:
    """Each pair's share of prefix lengths at which the chosen side has the higher reward: (pairs,). This is what guidance needs."""
    gaps, counts = measured.gaps()
    return (wins(gaps) * counts).sum(1) / counts.sum(1).clamp(min=1)


def by_length(measured: Measured, lengths: Sequence[int] = LENGTHS) -> dict[str, dict[str, float | int]]:
    """{"4": {"accuracy", "low", "high", "margin", "margin_low", "margin_high", "calibration_error", "n"}, …, "end": …}; margin is
    the mean gap, n the number of pairs; both means are by prompt. No calibration_error where a gap is no log-odds."""
    gaps, counts = measured.gaps()
    names = [n for n in lengths if n <= gaps.shape[1] and counts[:, n - 1].any()]
    at = torch.stack([*(gaps[:, n - 1] for n in names), measured.ends()], 1).double()  # (pairs, lengths)
    counts = torch.stack([*(counts[:, n - 1] for n in names), torch.ones(len(at), dtype=torch.bool)], 1)
    shares, margins = share_intervals(wins(at), counts, measured.prompts), intervals(at, counts, measured.prompts)
    out = {}
    for column, name in enumerate([*map(str, names), "end"]):
        figures = dict(zip(("accuracy", "low", "high"), shares[column], strict=True))
        figures |= dict(zip(("margin", "margin_low", "margin_high"), margins[column], strict=True))
        gap = at[counts[:, column], column]
        if measured.log_odds is not None:
            figures["calibration_error"] = calibration(gap * measured.log_odds)[0]
        out[name] = {key: round(value, 4) for key, value in figures.items()} | {"n": gap.numel()}
    return out


def held_out_report(child: Measured | None, parent: Measured | None = None, longer_chosen: float = 0.5, guide: Guide | None = None) -> dict[str, Any]:
    """The report of one training. The model is compared with its parent, else with the previous guide, else with chance.

    The length baseline always chooses the longer side where `longer_chosen`, the share of training pairs whose longer side was
    chosen, is at least one half, else the shorter. A model is recommended where it beats the model it is compared with, or a
    length baseline that is no worse than chance.
    """
    if child is None or not len(child.chosen):
        return {"num_pairs": 0, "num_prompts": 0, "verdict": TOO_FEW, "recommended": None}
    ends = wins(child.ends())
    baseline = parent or (guide.measured if guide else None)
    baseline_along = along(baseline) if baseline else torch.full_like(ends, 0.5)
    length_gaps = (child.chosen_lengths - child.rejected_lengths).double() * (1 if longer_chosen >= 0.5 else -1)
    difference, against_length = _difference(along(child) - baseline_along, child.prompts), _difference(ends - wins(length_gaps), child.prompts)
    length_accuracy = _share(wins(length_gaps), child.prompts)
    num_prompts = len(set(child.prompts))
    verdict = verdict_of(difference, len(ends), num_prompts, PARENT if parent else GUIDE if baseline else CHANCE)
    report: dict[str, Any] = {"num_pairs": len(ends), "num_prompts": num_prompts, "verdict": verdict}
    report |= {"accuracy": _share(ends, child.prompts), "accuracy_along": _share(along(child), child.prompts)}
    report |= {"difference_along": difference, "by_length": by_length(child)}
    if child.log_odds is not None:
        report["calibration"] = calibration(child.ends() * child.log_odds)[1]
    report["length_only"] = {"bets_on": "longer" if longer_chosen >= 0.5 else "shorter", "accuracy": length_accuracy}
    report["difference_to_length"] = against_length
    if baseline:
        baseline_figures: dict[str, Any] = {
            "accuracy": _share(wins(baseline.ends()), child.prompts),
            "accuracy_along": _share(baseline_along, child.prompts),
        }
        baseline_figures |= {"by_length": by_length(baseline)}
        report |= {"guide": {"name": guide.name} | baseline_figures} if guide and not parent else {"parent": baseline_figures}
    elif guide:
        report["guide"] = {"name": guide.name, "why_not": guide.why_not}
    beaten = difference["low"] > 0 or (against_length["low"] > 0 and length_accuracy["mean"] >= 0.5)
    return report | {"recommended": None if verdict == TOO_FEW else beaten}


def verdict_of(difference: dict[str, float], num_pairs: int, num_prompts: int, than: str) -> str:
    """The verdict, from the interval of the difference to the parent, the guide or chance.

    Where no prompt shows a difference the bootstrap has no spread; up to 3 / n of all prompts may show one (rule of three).
    """
    if not are_enough(num_pairs, num_prompts):
        return TOO_FEW
    low, high = difference["low"], difference["high"]
    if low == high == 0:
        low, high = -3 / num_prompts, 3 / num_prompts
    if low > 0:
        return f"better than {than}"
    return TOO_FEW if high > 0 and high - low > WIDEST else f"not better than {than}"


def intervals(values: Tensor, counts: Tensor, prompts: Sequence[str]) -> list[tuple[float, float, float]]:
    """Mean over prompts of their means, with a 95 % bootstrap interval over prompts, since pairs of one prompt are not independent.

    Values and counts (pairs, figures) -> (mean, low, high) of each figure.
    """
    means, present = _by_prompt(values, counts, prompts)
    sums, nums = (means * present).float(), present.float()
    # NaN where none of the prompts with this figure is drawn
    drawn = torch.cat([(times.float() @ sums) / (times.float() @ nums) for times in _draws(len(means)).split(100)])
    low, high = drawn.nanquantile(torch.tensor([0.025, 0.975]), 0)
    mean = (means * present).sum(0) / present.sum(0)
    return list(zip(mean.tolist(), low.tolist(), high.tolist(), strict=True))


@lru_cache(maxsize=1)
def _draws(num_prompts: int) -> Tensor:
    """How often each prompt is in each bootstrap draw: (draws, prompts). The same for all figures of a report."""
    generator, draws = torch.Generator().manual_seed(0), []
    one = torch.ones(100, num_prompts, dtype=torch.uint8)
    for _ in range(0, DRAWS, 100):
        draws.append(torch.zeros_like(one).scatter_add_(1, torch.randint(num_prompts, one.shape, generator=generator), one))
    return torch.cat(draws)


def share_intervals(values: Tensor, counts: Tensor, prompts: Sequence[str]) -> list[tuple[float, float, float]]:
    """As `intervals`, for shares; Wilson's interval over prompts where all prompts have the same value or are too few for a bootstrap."""
    means, present = _by_prompt(values, counts, prompts)
    figures = intervals(values, counts, prompts)
    for column, (mean, low, high) in enumerate(figures):
        prompt_means = means[present[:, column] > 0, column]
        if len(prompt_means) < LEAST_PROMPTS or prompt_means.max() - prompt_means.min() < 1e-9:
            low, high = wilson_interval(mean * len(prompt_means), len(prompt_means))
            figures[column] = mean, low, high
    return figures


def _by_prompt(values: Tensor, counts: Tensor, prompts: Sequence[str]) -> tuple[Tensor, Tensor]:
    """Mean of each prompt's pairs, and 1 where it has any: both (prompts, figures)."""
    number = {prompt: i for i, prompt in enumerate(dict.fromkeys(prompts))}
    rows, counts = torch.tensor([number[prompt] for prompt in prompts]), counts.double()
    sums, nums = (torch.zeros(len(number), values.shape[1], dtype=torch.float64).index_add_(0, rows, x) for x in (values * counts, counts))
    return sums / nums.clamp(min=1), (nums > 0).double()


def _interval(values: Tensor, prompts: Sequence[str], method: Callable = intervals) -> dict[str, float]:
    (figures,) = method(values[:, None].double(), torch.ones(len(values), 1), prompts)
    return dict(zip(("mean", "low", "high"), (round(x, 4) for x in figures), strict=True))


def _difference(values: Tensor, prompts: Sequence[str]) -> dict[str, float]:
    """Mean and interval of a difference of shares; with a single prompt the interval is all of -1 to 1."""
    figures = _interval(values, prompts)
    return figures | ({"low": -1.0, "high": 1.0} if len(set(prompts)) == 1 else {})


def _share(values: Tensor, prompts: Sequence[str]) -> dict[str, float]:
    return _interval(values, prompts, share_intervals)
