"""Gold pairs of a task: pairs whose better answer is known, mixed in among the others to see who reads.

They come from a file of preferences, or are pairs of the task that an administrator chose. Knows nothing of raters or of which pair comes next.
"""

import json
import random
from dataclasses import dataclass
from pathlib import Path

from rgtg.config import COLUMN_NAMES
from rgtg.errors import BadData, BadSettings
from rgtg.preferences.formats import read
from rgtg.preferences.items.examples import Example
from rgtg.prompts import check_text, transcript
from rgtg.records import Comparison, Trace, new_id, now
from rgtg.store.exchange.records import stand_in

MAX_GOLD, MAX_TEXT = 1_000, 20_000


@dataclass(frozen=True)
class GoldPair:
    """A prompt with its better and its worse answer."""

    prompt: str
    better: str
    worse: str


def read_gold(source: str) -> tuple[GoldPair, ...]:
    """The gold pairs of a file or data set of preferences, `chosen` being better. Raises BadData naming the row, BadSettings."""
    found = []
    for item in read(Path(source) if Path(source).exists() else source).examples:
        if not isinstance(item, Example) or not item.chosen or not item.rejected:
            raise BadData(
                f"`{Path(source).name}` has no gold pairs.", f"Row {item.row} is no preference of texts.", "Give prompt, chosen and rejected."
            )
        prompt = item.prompt if isinstance(item.prompt, str) else transcript(item.prompt)
        found.append(GoldPair(prompt, item.chosen, item.rejected))
        check_gold(found[-1], item.row)
    if not 1 <= len(found) <= MAX_GOLD:
        raise BadSettings(f"A file of gold pairs has 1 to {MAX_GOLD:,}.", f"Found {len(found):,}.", "Choose another.", "task-gold")
    return tuple(found)


def check_gold(pair: GoldPair, row: int) -> None:
    """Raise BadSettings where a pair cannot be shown or voted on."""
    for name, text in vars(pair).items():
        if not text.strip() or len(text) > MAX_TEXT:
            wrong = f"A gold pair has a prompt and two answers of 1 to {MAX_TEXT:,} characters."
            raise BadSettings(wrong, f"In pair {row} `{name}` has {len(text):,}.", "Correct it.", "task-gold")
        check_text(text, f"`{name}` of gold pair {row}")
    if pair.better == pair.worse:
        raise BadSettings("The answers of a gold pair differ.", f"Those of pair {row} are equal.", "Correct it.", "task-gold")


def comparison_of(pair: GoldPair, task_id: str, guideline_version: str, draw: random.Random) -> Comparison:
    """A gold pair as a comparison to be stored, with its sides in a drawn order; nobody was shown it yet."""
    texts, columns = [pair.better, pair.worse], COLUMN_NAMES[:2]
    draw.shuffle(texts)
    run, at = stand_in(pair.prompt, "gold"), now()
    traces = tuple(
        Trace(new_id(), column, run, (), text, "eos", place=place, created_at=at)
        for place, (column, text) in enumerate(zip(columns, texts, strict=True))
    )
    rule = {"task": task_id, "rule": "gold", "gold": traces[texts.index(pair.better)].id}
    return Comparison(new_id(), pair.prompt, traces, "open", None, json.dumps(rule), True, at, guideline_version)
