"""Votes become a frozen file to train from: one moment of the store, every pair with what training can use of it.

Knows nothing of torch or of how pairs are trained on, and only reads the store it is given.
"""

import hashlib
import json
import os
from collections import Counter
from collections.abc import Mapping
from itertools import accumulate
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rgtg.models.artifacts import sync
from rgtg.preferences.pairs import derive_pairs
from rgtg.records import Pair, Span, Trace
from rgtg.store.export import ExportReport

if TYPE_CHECKING:
    from rgtg.store.store import Store


def freeze_votes(store: "Store", out: Path) -> ExportReport:
    """Write every pair of the store as a JSON line to `out`, which appears whole; what gave none is counted by its cause."""
    lines: list[dict[str, Any]] = []
    skipped: Counter[str] = Counter()
    num_comparisons = num_votes = 0
    marks = store.all_marks()
    for comparison, votes in store.facts():
        pairs, causes = derive_pairs(comparison, votes)
        num_comparisons, num_votes, skipped = num_comparisons + 1, num_votes + len(votes), skipped + causes
        for pair in pairs:
            chosen, rejected = comparison.trace(pair.chosen_trace_id), comparison.trace(pair.rejected_trace_id)
            assert chosen is not None and rejected is not None  # a pair is of its comparison
            stops = {"chosen_stop_reason": chosen.stop_reason, "rejected_stop_reason": rejected.stop_reason}
            marked = _marks("chosen", chosen, marks, pair.rater_id) | _marks("rejected", rejected, marks, pair.rater_id)
            lines.append(line_of(pair) | stops | {"base_lm": chosen.run.base_lm.name} | marked)
    content = "".join(json.dumps(line, ensure_ascii=False, allow_nan=False) + "\n" for line in lines).encode()
    part = out.with_name(f".{out.name}.part")
    part.write_bytes(content)
    sync(part)
    os.replace(part, out)
    sha256 = hashlib.sha256(content).hexdigest()
    return ExportReport(out, len(lines), num_comparisons, num_votes, True, sha256, dict(sorted(skipped.items())))


def line_of(pair: Pair) -> dict[str, Any]:
    """A pair as a row that `formats` reads: texts, and ids where both answers have the same numbering."""
    line: dict[str, Any] = {"prompt": pair.prompt, "chosen": pair.chosen, "rejected": pair.rejected}
    if pair.prompt_ids:
        line |= {"prompt_ids": [*pair.prompt_ids], "chosen_ids": [*pair.chosen_ids], "rejected_ids": [*pair.rejected_ids]}
    line |= {"num_common": pair.num_common, "margin": pair.margin, "rater_id": pair.rater_id or ""}
    return line | {"comparison_id": pair.comparison_id, "vote_id": pair.vote_id}


def _marks(side: str, trace: Trace, marks: Mapping[str, tuple[Span, ...]], rater_id: str | None) -> dict[str, list]:
    """The marks of the rater and of nobody, counted in tokens and, for a model with other tokens, in characters."""
    kept = [mark for mark in marks.get(trace.id, ()) if mark.rater_id in (None, rater_id)]
    if not kept:
        return {}
    ends = [0, *accumulate(len(step.text) for step in trace.steps)]  # characters before each token, and of the whole
    spans = [[ends[min(mark.start, len(ends) - 1)], ends[min(mark.end, len(ends) - 1)], mark.label] for mark in kept]
    return {f"{side}_marks": [[mark.start, mark.end, mark.label] for mark in kept], f"{side}_spans": spans}
