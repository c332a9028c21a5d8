"""Files made from the store for training elsewhere: one moment, every row checked, the same bytes for the same data.

Knows nothing of SQL or of how pairs are trained on. A format is one function from a pair to a row, listed in FORMATS.
"""

import hashlib
import json
import os
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from rgtg.errors import BadData, BadSettings
from rgtg.preferences.pairs import derive_pairs
from rgtg.records import Comparison, ModelRef, Pair, Trace, Vote, new_id
from rgtg.store.store import Store

Line = dict[str, str | int | float | bool | list[int]]


@dataclass(frozen=True)
class ExportReport:
    """What was written: `skipped` counts by cause what gave no pair (`rgtg.preferences.pairs.CAUSES`, and `no_token_ids`)."""

    path: Path
    num_pairs: int
    num_comparisons: int
    num_votes: int
    has_margin: bool
    sha256: str
    skipped: dict[str, int] = field(default_factory=dict, hash=False)


def preference(pair: Pair, comparison: Comparison, vote: Vote) -> Line:
    """For trl's RewardTrainer and DPO: prompt and answer joined verbatim, nothing between. Every column keeps its type:
    what is not known is "" or 0, never null."""
    line: Line = {"prompt": pair.prompt, "chosen": pair.chosen, "rejected": pair.rejected}
    line |= {"comparison_id": pair.comparison_id, "vote_id": pair.vote_id, "rater_id": pair.rater_id or "", "voted_at": vote.created_at}
    line |= {"strength": vote.strength or 0, "guideline_version": vote.guideline_version, "num_seen": len(vote.seen_trace_ids)}
    line |= {"blind": comparison.blind, "pair_rule": comparison.pair_rule, "num_common": pair.num_common}
    for side, trace_id in (("chosen", pair.chosen_trace_id), ("rejected", pair.rejected_trace_id)):
        line |= {f"{side}_{name}": value for name, value in _provenance(comparison.trace(trace_id)).items()}
    return line


def preference_tokens(pair: Pair, comparison: Comparison, vote: Vote) -> Line | None:
    """For rewards of partial sequences: prompt and answer as token ids, so no trainer appends an end-of-sequence token."""
    if not pair.prompt_ids:
        return None
    line: Line = {"chosen_ids": [*pair.prompt_ids, *pair.chosen_ids], "rejected_ids": [*pair.prompt_ids, *pair.rejected_ids]}
    line |= {"num_prompt_ids": len(pair.prompt_ids), "num_common": pair.num_common}
    return line | {"comparison_id": pair.comparison_id, "vote_id": pair.vote_id}


FORMATS: dict[str, Callable[[Pair, Comparison, Vote], Line | None]] = {
    "preference": preference,
    "preference_tokens": preference_tokens,
}


def export_preferences(store: Store, out: Path, format: str = "preference") -> ExportReport:
    """Write every pair as a JSON line to `out`, which appears whole or not at all, and report what was left out and why.

    `margin` is a column only if every exported vote gave a strength. StoreError where a row does not fit its hash.
    """
    if format not in FORMATS:
        raise BadSettings(f"No export format `{format}`.", f"There are: {', '.join(FORMATS)}.")
    lines, margins, skipped, num_comparisons, num_votes = [], [], Counter(), 0, 0
    for comparison, votes in store.facts():
        pairs, causes = derive_pairs(comparison, votes)
        by_id = {vote.id: vote for vote in votes}
        num_comparisons, num_votes, skipped = num_comparisons + 1, num_votes + len(votes), skipped + causes
        for pair in pairs:
            line = FORMATS[format](pair, comparison, by_id[pair.vote_id])
            if line is None:
                skipped["no_token_ids"] += 1
                continue
            lines.append(line)
            margins.append(pair.margin if by_id[pair.vote_id].strength else None)
    has_margin = bool(lines) and None not in margins
    if has_margin:
        lines = [line | {"margin": margin} for line, margin in zip(lines, margins, strict=True)]
    content = "".join(json.dumps(line, ensure_ascii=False, allow_nan=False) + "\n" for line in lines).encode()
    _write(Path(out), content, store)
    report = (Path(out), len(lines), num_comparisons, num_votes, has_margin, hashlib.sha256(content).hexdigest())
    return ExportReport(*report, dict(sorted(skipped.items())))


def _provenance(trace: Trace) -> Line:
    """What made an answer, as columns; parameters and versions differ by method, so they are JSON."""
    run = trace.run
    found: Line = {"trace_id": trace.id, "column": trace.column, "stop_reason": trace.stop_reason, "num_tokens": len(trace.steps)}
    found |= {"method": run.method, "params": _json(dict(run.params)), "seed": run.seed, "generation": _json(vars(run.generation))}
    return found | {"base_lm": _model(run.base_lm), "reward_model": _model(run.reward_model), "versions": _json(dict(run.versions))}


def _model(model: ModelRef | None) -> str:
    return "" if model is None else f"{model.name}@{model.revision}" if model.revision else model.name


def _json(found: dict) -> str:
    return json.dumps(found, ensure_ascii=False, allow_nan=False, sort_keys=True)


def _write(out: Path, content: bytes, store: Store) -> None:
    """By rename from the same folder; never onto the database or the files beside it."""
    if out.resolve().name.startswith(store.path.name) and out.resolve().parent == store.path.resolve().parent:
        raise BadData(f"`{out.name}` is the database.", "", "Choose another name for the export.")
    out.parent.mkdir(parents=True, exist_ok=True)
    part = out.with_name(f".{out.name}.{new_id()[:8]}.part")
    try:
        with part.open("xb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        part.replace(out)
    finally:
        part.unlink(missing_ok=True)
