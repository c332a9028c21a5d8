"""The toy of `evaluation.theory` as Help shows it: the usual values of prefixes side by side, and what values of one's own come to.

Knows nothing of the screen.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

from rgtg.errors import BadSettings
from rgtg.evaluation.theory import INNER, Figures, Toy, Values

MAX_VALUE = 4.0  # of a prefix, up and down


@dataclass(frozen=True)
class Choice:
    """One way to give rewards to prefixes: its name, where it comes from, what it comes to, and the value of each prefix of `names`."""

    name: str
    about: str
    figures: Figures
    partial_loss: float
    ratio_gap: float
    values: tuple[float, ...]


@cache
def toy() -> Toy:
    return Toy.drawn()


def names() -> tuple[str, ...]:
    """The prefixes, "a", "b", …, "ccc", in the order of a choice's values."""
    return tuple("".join("abc"[token] for token in prefix) for prefix in INNER)


def full_loss() -> float:
    """The Bradley–Terry loss on complete answers; values of prefixes are not in it."""
    return toy().full_loss({})


@cache
def choices() -> tuple[Choice, ...]:
    """The rows of the table: random values and their negative, then those that training and search aim for."""
    drawn, soft = toy().random, 1 / toy().beta
    rows: list[tuple[str, str, Values]] = [
        ("Full-sequence model, random prefixes", "trained on complete answers alone: any values have the same loss", drawn),
        ("The same, with the opposite sign", "the same loss again, and the opposite guidance", {p: -v for p, v in drawn.items()}),
        ("Partial Bradley–Terry", "what PARGS training comes to with endless data", toy().partial_values()),
        ("Mean value", "the reward of the complete answer on average: CD, FUDGE", toy().backed_up(math.inf)),
        ("Soft value, τ = 1/β", "log-mean-exp of what can follow: the one with which the token-wise rule is the RLHF policy", toy().backed_up(soft)),
        ("Maximum value", "the best that can follow: FaRMA", toy().backed_up(0.0)),
    ]
    return tuple(choice([values[prefix] for prefix in INNER], name, about) for name, about, values in rows)


def choice(values: Sequence[float], name: str = "Yours", about: str = "") -> Choice:
    """What these values of the prefixes come to, in the order of `names`. Raises BadSettings."""
    sound = all(isinstance(v, int | float) and not isinstance(v, bool) and abs(v) <= MAX_VALUE for v in values)  # NaN is not
    if len(values) != len(INNER) or not sound:
        raise BadSettings(f"The toy needs {len(INNER)} values between −{MAX_VALUE:g} and {MAX_VALUE:g}.", "", "Reload the page.")
    of = dict(zip(INNER, map(float, values), strict=True))
    return Choice(name, about, toy().figures(of), toy().partial_loss(of), toy().ratio_gap(of), tuple(of.values()))
