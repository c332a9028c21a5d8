"""Mixes of rewards as a page edits them: rows of reward model and weight, and the combination.

Knows nothing of the screen. Loads neither models nor torch.
"""

import math
from collections.abc import Collection
from dataclasses import asdict
from typing import Any

from rgtg.errors import BadSettings, ModelNotFound, RgtgError
from rgtg.guidance.mixes.expressions import Mix, parse_mix, write_mix
from rgtg.rewards.combine import COMBINE, SUM, combine

MAX_GUIDES = 8  # of one column
DEFAULT = SUM.key


def describe_combinations() -> list[dict[str, Any]]:
    """The combinations as JSON objects: key, title, about, and the symbol and default of their number, where they have one."""
    return [{k: v for k, v in asdict(c).items() if k in ("key", "title", "symbol", "default")} | {"about": c.about} for c in COMBINE.values()]


def read_mix(rows: object, combining: object, names: Collection[str], column: str) -> tuple[Mix, str]:
    """Guides with their weights, and the combination, from rows [[name, weight], …] as they come from a browser.

    Raises RgtgError that names the row's input, with the position in the mix as it would be written on the command line.
    """
    if not isinstance(rows, list) or not all(isinstance(row, list) and len(row) == 2 and isinstance(row[0], str) for row in rows):
        raise BadSettings(f"The rewards of column {column} could not be read.", f"Found {rows!r:.80}.", "Choose the method again.")
    if not 1 <= len(rows) <= MAX_GUIDES:
        raise BadSettings(f"Column {column} has to have 1 to {MAX_GUIDES} rewards.", f"Found {len(rows)}.", field=f"{column}-guide-0")

    def check(name: str) -> None:
        if name not in names:
            do = "Choose another reward model."
            raise ModelNotFound(f"`{name:.80}` is no reward model for this base LM.", f"Available: {', '.join(names) or 'none'}.", do)

    mix: Mix = ()
    for number, (_, weight) in enumerate(rows):
        try:
            mix = parse_mix(write_mix(rows[: number + 1]), check)
        except RgtgError as error:
            right = isinstance(weight, (int, float)) and not isinstance(weight, bool) and math.isfinite(weight)
            error.field = f"{column}-{'guide' if right else 'weight'}-{number}"
            raise
    if not isinstance(combining, str):
        raise BadSettings(f"The combination of column {column} could not be read.", f"Found {combining!r:.80}.", field=f"{column}-combine")
    try:
        combine(combining)
    except RgtgError as error:
        error.field = f"{column}-{'combine' if '(' not in combining else 'number'}"
        raise
    return mix, combining


def is_mix(guides: Mix, combining: str) -> bool:
    """Whether a column needs rows: several rewards, a weight other than 1, or another combination than the sum."""
    return len(guides) > 1 or combining != DEFAULT or any(weight != 1 for _, weight in guides)
