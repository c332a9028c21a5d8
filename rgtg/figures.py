"""Figures in words: shares of a number of samples with their intervals, when there are enough to speak of a difference, names.

Pure, and loads no torch: pages and commands say the same of a share as the report that has it.
"""

import math

LEAST_PAIRS, LEAST_PROMPTS = 20, 10  # of held-out pairs; below, nothing is said of a difference


def figure_name(name: str) -> str:
    """A figure's name in words: "num_held_out_pairs" -> "held-out pairs"."""
    return name.removeprefix("num_").replace("held_out", "held-out").replace("_", " ")


def seconds_words(seconds: float) -> str:
    """ "12 s", "3 min", "2.5 h"."""
    if seconds < 90:
        return f"{max(1, round(seconds))} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def estimate_words(seconds: float, num_steps: int, batch_size: int, kind: str) -> str:
    """ "about 12 min: 640 steps of 64 pairs"."""
    return f"about {seconds_words(seconds)}: {num_steps:,} step{'s' * (num_steps != 1)} of {batch_size:,} {kind}"


def wilson_interval(wins: float, n: int, z: float = 1.96) -> tuple[float, float]:
    """95 % confidence interval of a share, wins of n (Wilson 1927); (0, 1) for n = 0."""
    if n == 0:
        return 0.0, 1.0
    share, spread = wins / n, z * z / n
    middle, half = share + spread / 2, z * math.sqrt(share * (1 - share) / n + spread / (4 * n))
    return max(0.0, (middle - half) / (1 + spread)), min(1.0, (middle + half) / (1 + spread))


def are_enough(num_pairs: int, num_prompts: int) -> bool:
    """Whether a difference between two models can be read from so many held-out pairs."""
    return num_pairs >= LEAST_PAIRS and num_prompts >= LEAST_PROMPTS


def share_words(value: float | None, low: float | None = None, high: float | None = None) -> str:
    """ "71.2 %", with its interval "71.2 % (65–77)", a narrow one "99.4 % (99.1–99.6)"."""
    if value is None:
        return "–"
    return f"{100 * value:.1f} %" + (f" ({interval_words(low, high)})" if low is not None and high is not None else "")


def accuracy_words(accuracy: float, num_pairs: int) -> str:
    """ "71.0 % (61–79) of 100 pairs"; the share alone where it is not known of how many."""
    if not num_pairs:
        return share_words(accuracy)
    low, high = wilson_interval(accuracy * num_pairs, num_pairs)
    return f"{share_words(accuracy, low, high)} of {num_pairs:,} pairs"


def interval_words(low: float, high: float) -> str:
    """ "65–77", of a narrow one "99.1–99.6"."""
    digits = 1 if high - low < 0.02 else 0
    return f"{100 * low:.{digits}f}–{100 * high:.{digits}f}"
