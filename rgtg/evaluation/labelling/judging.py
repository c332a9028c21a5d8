"""Differences of rewards between the two answers of each pair, at every prefix length, by a judge.

Knows nothing of what becomes of them, of files or the screen.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from rgtg.errors import BadSettings, door
from rgtg.evaluation.examine.reading import ReadPair, measured
from rgtg.rewards.base import Reader, not_finite
from rgtg.system.files import replacing

AT_ONCE = 128  # pairs that are read between two reports of progress
Listen = Callable[[int, int], None]
Gaps = tuple[float, ...]


def gaps_of(reader: Reader, name: str, pairs: Sequence[ReadPair], listen: Listen = lambda done, total: None) -> list[Gaps]:
    """r(chosen) - r(rejected) of each pair with both answers cut to their first 1, 2, … tokens of the base LM; beyond its end the shorter one keeps
    its final reward, so the last number is that of the complete answers. Raises BadReward where one is not finite.
    """
    found: list[Gaps] = []
    listen(0, len(pairs))
    for start in range(0, len(pairs), AT_ONCE):
        part = pairs[start : start + AT_ONCE]
        gaps, _ = measured(reader, part).gaps()
        for pair, row in zip(part, gaps.tolist(), strict=True):
            found.append(tuple(row[: max(map(len, pair.tokens.answers))]))
            if any(gap - gap != 0 for gap in found[-1]):
                raise not_finite(name, f"in row {pair.example.row}")
        listen(len(found), len(pairs))
    return found


def write_pairs(rows: Sequence[Mapping[str, Any]], path: Path) -> None:
    """Write rows as JSON lines to a file that appears complete or not at all. Raises BadSettings where that fails or there is none to write."""
    if not rows:
        raise BadSettings("No pair is left to write.", "", "Leave out fewer of them.")
    if path.suffix.lower() in (".csv", ".tsv", ".parquet", ".json"):
        raise BadSettings("The pairs are written as JSON lines.", f"Found `{path.name}`.", "Name it `….jsonl`.", "out")
    with door(f"`{path}` cannot be written.", kind=BadSettings), replacing(path) as part:
        part.write_text("".join(json.dumps(row, ensure_ascii=False, allow_nan=False) + "\n" for row in rows), encoding="utf-8")
