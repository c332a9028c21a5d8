"""Votes become a frozen file to train from: one moment of the store, every pair with what training can use of it.

Knows nothing of torch or of how pairs are trained on, and only reads the store it is given.
"""

import hashlib
import json
import os
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rgtg.pairs import derive_pairs
from rgtg.records import Pair, Span
from rgtg.store.export import ExportReport
from rgtg.training.publish import sync

if TYPE_CHECKING:
    from rgtg.store.store import Store


def freeze_votes(store: "Store", out: Path) -> ExportReport:
    """Write every pair of the store as a JSON line to `out`, which appears whole; what gave none is counted by its cause."""
    lines, skipped, num_comparisons, num_votes = [], Counter(), 0, 0
    marks = store.all_marks()
    for comparison, votes in store.facts():
        pairs, causes = derive_pairs(comparison, votes)
        num_comparisons, num_votes, skipped = num_comparisons + 1, num_votes + len(votes), skipped + causes
        for pair in pairs:
            chosen, rejected = comparison.trace(pair.chosen_trace_id), comparison.trace(pair.rejected_trace_id)
            stops = {"chosen_stop_reason": chosen.stop_reason, "rejected_stop_reason": rejected.stop_reason}
            lines.append(line_of(pair) | stops | {"base_lm": chosen.run.base_lm.name} | _marks(marks, pair))
    content = "".join(json.dumps(line, ensure_ascii=False, allow_nan=False) + "\n" for line in lines).encode()
    part = out.with_name(f".{out.name}.part")
    part.write_bytes(content)
    sync(part)
    os.replace(part, out)
    sha256 = hashlib.sha256(content).hexdigest()
    return ExportReport(out, len(lines), num_comparisons, num_votes, True, sha256, dict(sorted(skipped.items())))


def line_of(pair: Pair) -> dict[str, Any]:
    """A pair as a row that `files` reads: texts, and ids where both answers have the same numbering."""
    line: dict[str, Any] = {"prompt": pair.prompt, "chosen": pair.chosen, "rejected": pair.rejected}
    if pair.prompt_ids:
        line |= {"prompt_ids": [*pair.prompt_ids], "chosen_ids": [*pair.chosen_ids], "rejected_ids": [*pair.rejected_ids]}
    line |= {"num_common": pair.num_common, "margin": pair.margin, "rater_id": pair.rater_id or ""}
    return line | {"comparison_id": pair.comparison_id, "vote_id": pair.vote_id}


def _marks(marks: Mapping[str, tuple[Span, ...]], pair: Pair) -> dict[str, list]:
    found = {}
    for side, trace_id in (("chosen_marks", pair.chosen_trace_id), ("rejected_marks", pair.rejected_trace_id)):
        if by_rater := [[m.start, m.end, m.label] for m in marks.get(trace_id, ()) if m.rater_id in (None, pair.rater_id)]:
            found[side] = by_rater
    return found
