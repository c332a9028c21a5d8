"""Numbers as text: shares with their confidence intervals, durations, names of metrics.

Pure, and loads no torch: pages, commands and reports use the same text for the same number.
"""

import math

LEAST_PAIRS, LEAST_PROMPTS = 20, 10  # of held-out data; with fewer no difference is reported


def figure_name(name: str) -> str:
    """Name of a metric as text: "num_held_out_pairs" -> "held-out pairs"."""
    return name.removeprefix("num_").replace("held_out", "held-out").replace("_", " ")


def seconds_words(seconds: float) -> str:
    """Duration as text: "12 s", "3 min", "2.5 h"."""
    if seconds < 90:
        return f"{max(1, round(seconds))} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def estimate_words(seconds: float, num_steps: int, batch_size: int, kind: str) -> str:
    """Estimated duration as text: "about 12 min: 640 steps of 64 pairs"."""
    return f"about {seconds_words(seconds)}: {num_steps:,} step{'s' * (num_steps != 1)} of {batch_size:,} {kind}"


def wilson_interval(wins: float, n: float, z: float = 1.96) -> tuple[float, float]:
    """Wilson score interval (1927) of the share wins / n, at 95 % for the default `z`; (0, 1) for n = 0."""
    if n == 0:
        return 0.0, 1.0
    share, spread = wins / n, z * z / n
    middle, half = share + spread / 2, z * math.sqrt(share * (1 - share) / n + spread / (4 * n))
    return max(0.0, (middle - half) / (1 + spread)), min(1.0, (middle + half) / (1 + spread))


def are_enough(num_pairs: int, num_prompts: int) -> bool:
    """Whether so many held-out pairs and prompts are enough to report a difference between two models."""
    return num_pairs >= LEAST_PAIRS and num_prompts >= LEAST_PROMPTS


def share_words(value: float | None, low: float | None = None, high: float | None = None) -> str:
    """Share as text: "71.2 %", with its interval "71.2 % (65–77)" or, if that is narrow, "99.4 % (99.1–99.6)"; "–" for None."""
    if value is None:
        return "–"
    return f"{100 * value:.1f} %" + (f" ({interval_words(low, high)})" if low is not None and high is not None else "")


def accuracy_words(accuracy: float, num_pairs: int) -> str:
    """Accuracy as text: "71.0 % (61–79) of 100 pairs"; without interval if `num_pairs` is 0 (unknown)."""
    if not num_pairs:
        return share_words(accuracy)
    low, high = wilson_interval(accuracy * num_pairs, num_pairs)
    return f"{share_words(accuracy, low, high)} of {num_pairs:,} pairs"


def interval_words(low: float, high: float) -> str:
    """Interval of a share as text, in percent: "65–77", a narrow one "99.1–99.6"."""
    digits = 1 if high - low < 0.02 else 0
    return f"{100 * low:.{digits}f}–{100 * high:.{digits}f}"
