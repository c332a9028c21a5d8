"""Labels of a judge: which answer of a pair is chosen, and which of two prefixes, with noise where it is asked for.

Pure functions of differences of rewards. Knows nothing of models, files or the screen.
"""

import math
import random
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from rgtg.config import check, other, setting
from rgtg.evaluation.examine.reading import ReadPair
from rgtg.evaluation.labelling.judging import Gaps
from rgtg.preferences.items.written import exchanged, row_of


@dataclass(frozen=True)
class LabelConfig:
    """How the rewards of a judge become labels."""

    temperature: float = setting(0.0, "Draw each label with probability σ(difference of rewards / T); 0 = the higher reward is chosen", 0.0, 1000.0)
    flip: float = setting(0.0, "Share of the labels that are turned round at random", 0.0, 1.0)
    ties_within: float = setting(0.0, "Drop pairs whose rewards differ by no more than this; 0 = drop equal ones", 0.0, 1e6)
    prefixes: bool = other(False, "Also write the judge's label of every prefix length, for the objective that trains on these")
    seed: int = setting(0, "Random seed of drawn and turned labels", 0, 2**31 - 1)

    def __post_init__(self) -> None:
        check(self)


@dataclass(frozen=True)
class LabelReport:
    """Counts: of the `num_pairs` that could be read, `num_ties` were dropped; of the others `num_drawn` were drawn against the higher reward,
    `num_flipped` turned round at random, and `num_changed` have another side chosen than before. `num_left_out` could not be read."""

    num_pairs: int
    num_left_out: int
    num_ties: int
    num_drawn: int
    num_flipped: int
    num_changed: int

    @property
    def num_written(self) -> int:
        return self.num_pairs - self.num_ties

    def __str__(self) -> str:
        counts = f"{self.num_written:,} pairs labelled, {self.num_changed:,} changed sides"
        counts += "".join(
            f", {number:,} {words}"
            for number, words in ((self.num_drawn, "drawn against the higher reward"), (self.num_flipped, "turned round at random"))
            if number
        )
        return counts + f"; {self.num_ties:,} ties dropped" + (f", {self.num_left_out:,} cannot be used" if self.num_left_out else "")


def probability(gap: float, temperature: float) -> float:
    """Bradley–Terry probability σ(gap / T) that the first side is the better one; at T = 0 it is 1, 0, or for equal rewards ½.

    >>> probability(2.0, 0.0), probability(0.0, 0.0), round(probability(2.0, 2.0), 4)
    (1.0, 0.5, 0.7311)
    """
    if temperature == 0:
        return (gap > 0) + 0.5 * (gap == 0)
    return 0.5 * (1 + math.tanh(gap / temperature / 2))  # σ that never overflows


def labelled(
    pairs: Sequence[ReadPair], gaps: Sequence[Gaps], judge: str, config: LabelConfig, num_left_out: int = 0
) -> tuple[list[dict], LabelReport]:
    """A row for each pair that is no tie, with the side chosen that the judge prefers, and the counts. `gaps` are those of `gaps_of`.

    The label of a prefix length i is σ(g_i / T) with g_i the difference of the judge's rewards of both answers cut to i tokens; at T = 0 the sign of
    g_i, with ½ for equal rewards. A label that is turned round at random takes those of its prefixes with it. Every pair has its own two
    random numbers, whatever the judge says of others, so that two judges are given the same noise.
    """
    dice, rows = random.Random(config.seed), list[dict[str, Any]]()
    num_ties = num_drawn = num_flipped = num_changed = 0
    for pair, along in zip(pairs, gaps, strict=True):
        drawn, tossed = dice.random(), dice.random()
        gap = along[-1]
        if abs(gap) <= config.ties_within:
            num_ties += 1
            continue
        first = drawn < probability(gap, config.temperature)
        flipped = tossed < config.flip
        num_drawn += first != (gap > 0)
        num_flipped += flipped
        num_changed += first == flipped
        example = replace(pair.example, margin=0.0, label_smoothing=0.0, rater="")
        if config.prefixes:
            tokens, labels = pair.tokens, tuple(round(probability(g, config.temperature), 4) for g in along)
            example = replace(example, prompt_ids=tokens.prompt_ids, chosen_ids=tokens.chosen_ids, rejected_ids=tokens.rejected_ids)
            example = replace(example, prefix_labels=tuple(1 - label for label in labels) if flipped else labels)
        example = example if first != flipped else exchanged(example)
        row = row_of(example) | {"judge_name": judge, "judge_gap": round(gap if first != flipped else -gap, 6)}
        rows.append(row | ({"flipped": flipped} if config.flip else {}))
    return rows, LabelReport(len(pairs), num_left_out, num_ties, num_drawn, num_flipped, num_changed)
