"""The strength of preferences by a vote of several reward models (Secrets of RLHF II, arXiv 2401.06080).

Each model gives every pair the difference of its rewards, r(chosen) - r(rejected). Their mean is the strength of the preference, their standard
deviation its uncertainty; where the mean is negative the models contradict the label. Pure functions; knows nothing of models or files.
"""

import statistics
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from rgtg.config import check, choice, other, setting
from rgtg.evaluation.examine.reading import ReadPair
from rgtg.evaluation.labelling.labels import probability
from rgtg.preferences.items.written import exchanged, row_of

KEEP, FLIP, DROP = "keep", "flip", "drop"


@dataclass(frozen=True)
class StrengthConfig:
    """What becomes of pairs by their strength."""

    contradictions: str = choice(KEEP, "Pairs whose mean difference is negative: keep them, flip their label, or drop them", (KEEP, FLIP, DROP))
    weights: bool = other(False, "Also weigh each pair by the share of the models that agree with its label")
    smooth: bool = other(False, "Also smooth each label by the models' mean probability that it is wrong, σ(-difference of rewards)")
    scale: float = setting(1.0, "Factor from the mean difference of rewards to the margin", 0.0, 100.0)

    def __post_init__(self) -> None:
        check(self)


@dataclass(frozen=True)
class Strength:
    """Of one pair: mean and sample standard deviation of the models' differences of rewards, the share of models that agree with the label, equal
    rewards counting one half, and their mean probability of the label, σ(difference)."""

    mean: float
    spread: float
    agreement: float
    probability: float

    @classmethod
    def of(cls, gaps: Sequence[float]) -> "Strength":
        """
        >>> Strength.of([3.0, 1.0, -1.0])
        Strength(mean=1.0, spread=2.0, agreement=0.6666666666666666, probability=0.6508580756006764)
        """
        agreement = statistics.fmean(probability(gap, 0) for gap in gaps)
        return cls(statistics.fmean(gaps), statistics.stdev(gaps), agreement, statistics.fmean(probability(gap, 1) for gap in gaps))

    @property
    def of_the_other_label(self) -> "Strength":
        return Strength(-self.mean, self.spread, 1 - self.agreement, 1 - self.probability)


def strengthened(pairs: Sequence[ReadPair], strengths: Sequence[Strength], config: StrengthConfig) -> list[dict[str, Any]]:
    """A row for each pair that is not dropped, with `margin` = scale × mean, 0 where that is negative, and the columns `judge_gap` (the mean),
    `judge_spread` and `judge_agreement` for a reader; all are of the label as it is written."""
    rows = []
    for pair, strength in zip(pairs, strengths, strict=True):
        example = pair.example
        if strength.mean < 0 and config.contradictions == DROP:
            continue
        if strength.mean < 0 and config.contradictions == FLIP:
            example, strength = exchanged(example), strength.of_the_other_label
        example = replace(example, margin=round(config.scale * max(0.0, strength.mean), 4))
        example = replace(example, weight=round(example.weight * strength.agreement, 4)) if config.weights else example
        example = replace(example, label_smoothing=round(1 - strength.probability, 4)) if config.smooth else example
        figures = {"judge_gap": strength.mean, "judge_spread": strength.spread, "judge_agreement": strength.agreement}
        rows.append(row_of(example) | {name: round(value, 4) for name, value in figures.items()})
    return rows


def deciles(strengths: Sequence[Strength], number: int = 10) -> list[dict[str, float | int]]:
    """Tenths of the pairs from the weakest to the strongest: of each its number `n`, `low` and `high` strength, means of `strength`, `spread` and
    `agreement`, and `num_negative`, the contradictions in it. Fewer tenths where there are fewer pairs."""
    order, found = sorted(strengths, key=lambda s: s.mean), []
    number = min(number, len(order))
    for i in range(number):
        part = order[i * len(order) // number : (i + 1) * len(order) // number]
        means = {
            "strength": statistics.fmean(s.mean for s in part),
            "spread": statistics.fmean(s.spread for s in part),
            "agreement": statistics.fmean(s.agreement for s in part),
        }
        counts = {"n": len(part), "num_negative": sum(s.mean < 0 for s in part)}
        found.append(counts | {"low": round(part[0].mean, 4), "high": round(part[-1].mean, 4)} | {k: round(v, 4) for k, v in means.items()})
    return found


def markdown(table: Sequence[dict[str, float | int]]) -> str:
    """The tenths as a Markdown table, the weakest first."""
    lines = ["| tenth | pairs | strength from | to | mean | spread | models that agree, % | contradictions |", "|---" * 8 + "|"]
    lines += [
        f"| {i} | {row['n']:,} | {row['low']:+.2f} | {row['high']:+.2f} | {row['strength']:+.2f} | {row['spread']:.2f} | "
        f"{100 * row['agreement']:.0f} | {row['num_negative']:,} |"
        for i, row in enumerate(table, 1)
    ]
    return "\n".join(lines) + "\n"
