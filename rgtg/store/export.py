"""Export of votes as preference data: one state of the database, every row checked, the same bytes for the same data.

Knows nothing of SQL or of how pairs are trained on. A format is one function from a pair and its source to a row, listed in FORMATS.
"""

import hashlib
import json
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import accumulate
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rgtg.errors import BadData, BadSettings
from rgtg.preferences.pairs import CAUSES, NO_VOTE, derive_pairs, is_repeat
from rgtg.records import Comparison, ModelRef, Pair, Run, Span, Trace, Vote, plain_params
from rgtg.system.files import replacing

if TYPE_CHECKING:
    from rgtg.store.store import Store

NO_TOKEN_IDS = "no_token_ids"  # answers of two tokenizers, in a format of ids
Row = dict[str, Any]  # of texts, numbers, flags, and lists of ids that are never empty: two exports pool into one data set


@dataclass(frozen=True)
class ExportReport:
    """Counts of an export; `skipped` counts what gave no pair, by cause (`rgtg.preferences.pairs.CAUSES`, and NO_TOKEN_IDS)."""

    path: Path
    num_pairs: int
    num_comparisons: int
    num_votes: int
    sha256: str
    skipped: dict[str, int] = field(default_factory=dict, hash=False)

    @property
    def left_out(self) -> str:
        """Votes that gave no pair: "votes for a tie: 2, pairs of equal texts: 1". Comparisons without a vote are not counted."""
        return skipped_words({cause: number for cause, number in self.skipped.items() if cause != NO_VOTE})


@dataclass(frozen=True)
class Source:
    """Where a pair comes from: the comparison, the vote, and the current marks by the id of their answer."""

    comparison: Comparison
    vote: Vote
    marks: Mapping[str, tuple[Span, ...]]


def preference(pair: Pair, source: Source) -> Row:
    """Row for trl's RewardTrainer and DPO: prompt and answer are joined verbatim. An unknown value is "" or 0, as is the margin of a
    vote without a strength."""
    comparison, vote = source.comparison, source.vote
    row: Row = {"prompt": pair.prompt, "chosen": pair.chosen, "rejected": pair.rejected}
    row |= {"comparison_id": pair.comparison_id, "vote_id": pair.vote_id, "rater_id": pair.rater_id or "", "voted_at": vote.created_at}
    row |= {"margin": pair.margin, "strength": vote.strength or 0, "guideline_version": vote.guideline_version, "num_seen": len(vote.seen_trace_ids)}
    row |= {"blind": comparison.blind, "pair_rule": comparison.pair_rule, "num_common": pair.num_common}
    for side, trace in _sides(pair, comparison):
        row |= {f"{side}_{name}": value for name, value in _provenance(trace).items()}
    return row


def preference_tokens(pair: Pair, source: Source) -> Row | None:
    """Row for rewards of partial sequences: prompt and answer as token ids, so that no trainer appends an end-of-sequence token."""
    if not pair.prompt_ids:
        return None
    row: Row = {"chosen_ids": [*pair.prompt_ids, *pair.chosen_ids], "rejected_ids": [*pair.prompt_ids, *pair.rejected_ids]}
    row |= {"num_prompt_ids": len(pair.prompt_ids), "num_common": pair.num_common, "margin": pair.margin}
    return row | {"comparison_id": pair.comparison_id, "vote_id": pair.vote_id}


def training(pair: Pair, source: Source) -> Row:
    """Row with all that `rgtg train` can use: texts, ids where both answers have the same tokenizer, margin, and marks of the rater.

    Ids and marks are JSON: a file whose lists are all empty would have no type for them, and pool with no other.
    """
    row: Row = {"prompt": pair.prompt, "chosen": pair.chosen, "rejected": pair.rejected}
    row |= {"prompt_ids": _json(pair.prompt_ids), "chosen_ids": _json(pair.chosen_ids), "rejected_ids": _json(pair.rejected_ids)}
    row |= {"num_common": pair.num_common, "margin": pair.margin, "rater_id": pair.rater_id or ""}
    row |= {"comparison_id": pair.comparison_id, "vote_id": pair.vote_id}
    sides = _sides(pair, source.comparison)
    row |= {f"{side}_stop_reason": trace.stop_reason for side, trace in sides}
    row |= {"base_lm": sides[0][1].run.base_lm.name}
    for side, trace in sides:
        row |= _marks(side, trace, source.marks.get(trace.id, ()), pair.rater_id)
    return row


FORMATS: dict[str, Callable[[Pair, Source], Row | None]] = {
    "preference": preference,
    "preference_tokens": preference_tokens,
    "training": training,
}


def export_preferences(
    store: "Store", out: Path, format: str = "preference", listen: Callable[[int, int], None] = lambda done, total: None
) -> ExportReport:
    """Write every pair as a JSON line to `out`, which appears complete or not at all, and report what was left out and why.
    `listen` is given the number of comparisons read and of all.

    A format has the same columns with the same types whatever the votes say. StoreError where a row does not fit its hash.
    """
    if format not in FORMATS:
        raise BadSettings(f"No export format `{format}`.", f"There are: {', '.join(FORMATS)}.")
    if out.resolve().name.startswith(store.path.name) and out.resolve().parent == store.path.resolve().parent:
        raise BadData(f"`{out.name}` is the database.", "", "Choose another name for the export.")
    skipped, num_pairs, num_comparisons, num_votes, marks = Counter[str](), 0, 0, 0, store.all_marks()
    digest, known = hashlib.sha256(), set[int]()
    total = store.num_comparisons()
    listen(0, total)
    with replacing(out) as part, part.open("wb") as file:
        for comparison, votes in store.facts(for_pairs=True):
            pairs, causes = derive_pairs(comparison, votes)
            by_id = {vote.id: vote for vote in votes}
            num_comparisons, num_votes = num_comparisons + 1, num_votes + len(votes)
            skipped.update(causes)
            for pair in pairs:
                if is_repeat(pair, known):
                    skipped["repeat"] += 1
                    continue
                row = FORMATS[format](pair, Source(comparison, by_id[pair.vote_id], marks))
                if row is None:
                    skipped[NO_TOKEN_IDS] += 1
                    continue
                line = (json.dumps(row, ensure_ascii=False, allow_nan=False) + "\n").encode()
                file.write(line)
                digest.update(line)
                num_pairs += 1
            listen(num_comparisons, max(total, num_comparisons))
    return ExportReport(out, num_pairs, num_comparisons, num_votes, digest.hexdigest(), dict(sorted(skipped.items())))


def skipped_words(skipped: Mapping[str, int]) -> str:
    """Counts by cause in words: "votes for a tie: 2, comparisons without a vote: 64"."""
    words = CAUSES | {NO_TOKEN_IDS: "pairs of two tokenizers"}
    return ", ".join(f"{words.get(cause, cause)}: {number:,}" for cause, number in skipped.items() if number)


def _sides(pair: Pair, comparison: Comparison) -> tuple[tuple[str, Trace], tuple[str, Trace]]:
    chosen, rejected = comparison.trace(pair.chosen_trace_id), comparison.trace(pair.rejected_trace_id)
    assert chosen and rejected
    return ("chosen", chosen), ("rejected", rejected)


def _provenance(trace: Trace) -> Row:
    """What made an answer, as columns; parameters and versions differ by method, so they are JSON."""
    run = trace.run
    row: Row = {"trace_id": trace.id, "column": trace.column, "stop_reason": trace.stop_reason, "num_tokens": len(trace.steps)}
    row |= {"method": run.method, "params": _json(plain_params(run.params)), "seed": run.seed, "generation": _json(vars(run.generation))}
    return row | {"base_lm": _model(run.base_lm), "reward_model": _guides(run), "versions": _json(dict(run.versions))}


def _marks(side: str, trace: Trace, marks: Sequence[Span], rater_id: str | None) -> Row:
    """The marks of the rater and of nobody, counted in tokens and, for a model with other tokens, in characters."""
    own_marks = [mark for mark in marks if mark.rater_id in (None, rater_id)]
    ends = [0, *accumulate(len(step.text) for step in trace.steps)] if own_marks else [0]  # characters before each token, and of the complete answer
    spans = [[ends[min(mark.start, len(ends) - 1)], ends[min(mark.end, len(ends) - 1)], mark.label] for mark in own_marks]
    return {f"{side}_marks": _json([[mark.start, mark.end, mark.label] for mark in own_marks]), f"{side}_spans": _json(spans)}


def _guides(run: Run) -> str:
    """`name@revision`, of several with their weights: `a@1f*2 + b@2c*0.5`."""
    return " + ".join(_model(ref) + (f"*{weight:g}" if weight != 1 else "") for ref, weight in run.guides)


def _model(model: ModelRef | None) -> str:
    return "" if model is None else f"{model.name}@{model.revision}" if model.revision else model.name


def _json(values: Mapping[str, Any] | Sequence[Any]) -> str:
    return json.dumps(values, ensure_ascii=False, allow_nan=False, sort_keys=True)
