"""The formats of an export: each a function from voted comparisons to rows, listed in FORMATS. A format has the same columns of the same types
whatever was voted, so exports pool into one data set.

An unknown value is "" or 0. What differs in its keys (parameters, versions), and lists that may be empty, are JSON: a column of nothing has no type.
"""

import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from itertools import accumulate
from typing import Any

from rgtg.config import GenerationConfig
from rgtg.preferences.items.rankings import good
from rgtg.preferences.pairs import derive_pairs, is_repeat, last_votes, num_tokens
from rgtg.records import Comparison, ModelRef, Pair, Params, Span, Trace, Vote, plain_params
from rgtg.store.annotation import sifting
from rgtg.store.exchange.sentences import labelled_steps
from rgtg.store.exchange.voted import EXCLUDED, Voted
from rgtg.store.statements.exclusions import is_excluded

Guides = tuple[tuple[ModelRef, float], ...]
Row = dict[str, Any]  # of texts, numbers, flags, and lists that are never empty
Rows = Callable[[Iterable[Voted], Counter[str]], Iterator[Row]]
NO_TOKEN_IDS, EXCLUDED_PAIRS = "no_token_ids", "excluded_pairs"
NO_BRANCH, NO_CONTINUATION, UNREAD = "no_branch", "no_continuation", "unread"
WORDS = sifting.WORDS | {  # beside `preferences.pairs.CAUSES`
    NO_TOKEN_IDS: "pairs without token ids of one tokenizer",
    EXCLUDED: "votes excluded",
    EXCLUDED_PAIRS: "pairs excluded",
    NO_BRANCH: "pairs of answers that share no token",
    NO_CONTINUATION: "marks “goes wrong” without another continuation from that token",
    UNREAD: "marked answers of which a part is neither good nor bad",
}


@dataclass(frozen=True)
class Format:
    """`about` is one line of help; `steps` says that the rows need token ids or steps, which are read then."""

    about: str
    rows: Rows
    steps: bool = False


# --- pairs ------------------------------------------------------------------------------------------------------------


def of_pairs(row_of: Callable[[Pair, Vote, Voted], Row | None], found: Iterable[Voted], skipped: Counter[str]) -> Iterator[Row]:
    """A row for each pair that is not a repeat. What `row_of` returns None for has no token ids."""
    known = set[int]()
    for each, vote, pair in _pairs(found, skipped):
        if is_repeat(pair, known):
            skipped["repeat"] += 1
        elif (row := row_of(pair, vote, each)) is None:
            skipped[NO_TOKEN_IDS] += 1
        else:
            yield row


def _pairs(found: Iterable[Voted], skipped: Counter[str]) -> Iterator[tuple[Voted, Vote, Pair]]:
    for each in found:
        if not each.votes:
            continue  # marked only
        skipped.update(each.left_out)
        if not each.counted:
            continue
        pairs, causes = derive_pairs(each.comparison, each.counted)
        skipped.update(causes)
        by_id = {vote.id: vote for vote in each.votes}
        for pair in pairs:
            if is_excluded(each.excluded, pair.vote_id, pair.rejected_trace_id):
                skipped[EXCLUDED_PAIRS] += 1
            else:
                yield each, by_id[pair.vote_id], pair


def preference(pair: Pair, vote: Vote, each: Voted) -> Row:
    """Row for trl's RewardTrainer and DPO: prompt and answer are joined verbatim. The margin of a vote without a strength is 0."""
    comparison = each.comparison
    row: Row = {"prompt": pair.prompt, "chosen": pair.chosen, "rejected": pair.rejected}
    row |= {"comparison_id": pair.comparison_id, "vote_id": pair.vote_id, "rater_id": pair.rater_id or "", "voted_at": vote.created_at}
    row |= {"margin": pair.margin, "strength": vote.strength or 0, "guideline_version": vote.guideline_version, "num_seen": len(vote.seen_trace_ids)}
    row |= {
        "blind": comparison.blind,
        "pair_rule": comparison.pair_rule,
        "num_common": pair.num_common,
        "ranking": _ranking(vote),
        "prompt_turns": _turns(comparison),
    }
    for side, trace in _sides(pair, comparison):
        row |= {f"{side}_{name}": value for name, value in provenance(trace).items()}
    return row


def preference_tokens(pair: Pair, vote: Vote, each: Voted) -> Row | None:
    """Row for rewards of partial sequences: prompt and answer as token ids, so that no trainer appends an end-of-sequence token."""
    if not (pair.prompt_ids and pair.chosen_ids and pair.rejected_ids):
        return None
    row: Row = {"chosen_ids": [*pair.prompt_ids, *pair.chosen_ids], "rejected_ids": [*pair.prompt_ids, *pair.rejected_ids]}
    row |= {"num_prompt_ids": len(pair.prompt_ids), "num_common": pair.num_common, "margin": pair.margin}
    return row | {"comparison_id": pair.comparison_id, "vote_id": pair.vote_id}


def training(pair: Pair, vote: Vote, each: Voted) -> Row:
    """Row with all that `rgtg train` can use: texts, ids where both answers have the same tokenizer, margin, and marks of the rater."""
    has_ids = bool(pair.chosen_ids and pair.rejected_ids)  # an answer from elsewhere has none
    row: Row = {"prompt": pair.prompt, "chosen": pair.chosen, "rejected": pair.rejected, "prompt_turns": _turns(each.comparison)}
    row |= {f"{name}_ids": to_json(getattr(pair, f"{name}_ids") if has_ids else ()) for name in ("prompt", "chosen", "rejected")}
    row |= {"num_common": pair.num_common if has_ids else 0, "margin": pair.margin, "rater_id": pair.rater_id or ""}
    row |= {"comparison_id": pair.comparison_id, "vote_id": pair.vote_id}
    sides = _sides(pair, each.comparison)
    row |= {f"{side}_stop_reason": trace.stop_reason for side, trace in sides}
    row |= {"base_lm": sides[0][1].run.base_lm.name}
    for side, trace in sides:
        row |= _marks(side, trace, each.marks.get(trace.id, ()), pair.rater_id)
    return row


# --- continuations from one token -------------------------------------------------------------------------------------


def prefix_preference(found: Iterable[Voted], skipped: Counter[str]) -> Iterator[Row]:
    """Two continuations from one token, the better one chosen: of votes between a branch and what it left, and of marks "goes wrong" where a
    branch goes on from that token. The prompt is all that both share."""
    known = set[tuple]()

    def row_of(each: Voted, chosen: Trace, rejected: Trace, common: int, source: str, vote_id: str, mark_id: str, rater_id: str) -> Row | None:
        ids = [*chosen.run.prompt_ids, *chosen.token_ids[:common]]
        sides = {"chosen": chosen, "rejected": rejected}
        texts = {side: "".join(step.text for step in trace.steps[common:]) for side, trace in sides.items()}
        shared = "".join(step.text for step in chosen.steps[:common])
        row: Row = {"prompt": each.comparison.prompt + shared, **texts, "prompt_ids": to_json(ids)}
        row |= {f"{side}_ids": to_json(trace.token_ids[common:]) for side, trace in sides.items()}
        row |= {"num_prefix_tokens": common, "source": source, "comparison_id": each.comparison.id, "vote_id": vote_id, "mark_id": mark_id}
        row |= {"rater_id": rater_id} | {f"{side}_trace_id": trace.id for side, trace in sides.items()}
        row |= {f"{side}_stop_reason": trace.stop_reason for side, trace in sides.items()}
        same = (rater_id, row["prompt_ids"], row["chosen_ids"], row["rejected_ids"])
        if same in known:
            skipped["repeat"] += 1
            return None
        known.add(same)
        return row

    for each in found:
        for _, vote, pair in _pairs([each], skipped):
            chosen, rejected = (trace for _, trace in _sides(pair, each.comparison))
            if not pair.num_common or not chosen.steps or not rejected.steps:
                skipped[NO_BRANCH] += 1
            elif row := row_of(each, chosen, rejected, pair.num_common, "vote", vote.id, "", vote.rater_id or ""):
                yield row
        for marked, mark, other in _gone_wrong(each, skipped):
            if row := row_of(each, other, marked, mark.start, "goes_wrong", "", mark.id, mark.rater_id or ""):
                yield row


def _gone_wrong(each: Voted, skipped: Counter[str]) -> Iterator[tuple[Trace, Span, Trace]]:
    """Each mark "goes wrong" with its answer and every other continuation from its first token that the rater did not mark alike."""
    wrong = {(mark.rater_id, trace_id, mark.start) for trace_id, marks in each.marks.items() for mark in marks if mark.label == "goes_wrong"}
    for trace in each.comparison.traces:
        for mark in each.marks.get(trace.id, ()):
            if mark.label != "goes_wrong":
                continue
            others = [
                other for other in each.comparison.traces
                if other is not trace and len(other.steps) > mark.start and len(trace.steps) > mark.start
                and other.run.prompt_ids == trace.run.prompt_ids and other.token_ids[: mark.start] == trace.token_ids[: mark.start]
                and other.token_ids[mark.start] != trace.token_ids[mark.start] and _related(trace, other, each.comparison)
                and (mark.rater_id, other.id, mark.start) not in wrong
            ]  # fmt: skip
            skipped[NO_CONTINUATION] += not others
            yield from ((trace, mark, other) for other in others)


def _related(a: Trace, b: Trace, comparison: Comparison) -> bool:
    """Whether one was made from the other, or both from a third: answers that begin alike by chance are none."""

    def line(trace: Trace) -> set[str]:
        ids = {trace.id}
        while trace.parent_trace_id and trace.parent_trace_id not in ids and (parent := comparison.trace(trace.parent_trace_id)):
            ids.add(parent.id)
            trace = parent
        return ids

    return bool(line(a) & line(b))


# --- single answers ---------------------------------------------------------------------------------------------------


def unpaired(found: Iterable[Voted], skipped: Counter[str]) -> Iterator[Row]:
    """Row for trl's KTOTrainer: the best answer is good, others seen beside it and all of "all bad" are not; of a ranking see `rankings.good`."""
    known = set[tuple]()
    for each in found:
        skipped.update(each.left_out)
        for vote in last_votes(each.counted):
            seen = [trace for trace in each.comparison.traces if trace.id in vote.seen_trace_ids]
            best = next((trace for trace in seen if trace.id == vote.best_trace_id), None)
            ranked = tuple(tuple(trace.response for trace in seen if trace.id in level) for level in vote.ranking)
            same = (vote.rater_id, each.comparison.prompt, best and best.response, ranked, *sorted(trace.response for trace in seen))
            if vote.verdict not in ("best", "all_bad") and not vote.ranking:
                skipped[vote.verdict] += 1
            elif best and (cause := _unusable(best)):
                skipped[cause] += 1
            elif same in known:
                skipped["repeat"] += 1
            else:
                known.add(same)
                skipped.update(cause for trace in seen if (cause := _unusable(trace)))
                yield from (_single(each, vote, trace) for trace in seen if not _unusable(trace))


def _unusable(trace: Trace) -> str:
    """Why an answer is no example; "" where it is one."""
    return "error" if trace.stop_reason == "error" else "no_tokens" if not num_tokens(trace) and not trace.response else ""


def _single(each: Voted, vote: Vote, trace: Trace) -> Row:
    row: Row = {"prompt": each.comparison.prompt, "completion": trace.response, "label": trace.id in good(vote)}
    row |= {"comparison_id": each.comparison.id, "vote_id": vote.id, "rater_id": vote.rater_id or "", "voted_at": vote.created_at}
    row |= {"verdict": vote.verdict, "strength": vote.strength or 0, "guideline_version": vote.guideline_version, "ranking": _ranking(vote)}
    row |= {"prompt_turns": _turns(each.comparison)}
    row |= {"num_seen": len(vote.seen_trace_ids), "blind": each.comparison.blind, "pair_rule": each.comparison.pair_rule}
    return row | provenance(trace)


def stepwise(found: Iterable[Voted], skipped: Counter[str]) -> Iterator[Row]:
    """Row for trl's stepwise supervision: the steps of an answer with a label each, of a rater's marks (`sentences.labelled_steps`)."""
    for each in found:
        for trace in each.comparison.traces:
            marks = each.marks.get(trace.id, ())
            for rater_id in dict.fromkeys(mark.rater_id for mark in marks):
                own = [mark for mark in marks if mark.rater_id == rater_id]
                steps = labelled_steps(trace.response, [(*characters(trace, mark), mark.label) for mark in own])
                if steps is None:
                    skipped[UNREAD] += 1
                    continue
                row: Row = {"prompt": each.comparison.prompt, "completions": [text for text, _ in steps], "labels": [label for _, label in steps]}
                row |= {"comparison_id": each.comparison.id, "rater_id": rater_id or "", "marked_at": own[0].created_at}
                row |= {"prompt_turns": _turns(each.comparison)}
                yield row | provenance(trace)


def votes(found: Iterable[Voted], skipped: Counter[str]) -> Iterator[Row]:
    """Every vote as it was cast, changed and withdrawn ones included, with the answers of its comparison and their marks."""
    for each in found:
        current = {vote.id for vote in last_votes(each.votes) if vote.verdict != "withdrawn"}
        answers = to_json([{name: row[name] for name in ANSWER} for row in each.stored.values()])
        traces = {trace.id: trace for trace in each.comparison.traces}
        marks = to_json([_in_characters(traces[trace_id], mark) for trace_id, spans in each.marks.items() for mark in spans])
        for vote in each.votes:
            row: Row = {"prompt": each.comparison.prompt, "verdict": vote.verdict, "best_trace_id": vote.best_trace_id or ""}
            row |= {"ranking": _ranking(vote), "prompt_turns": _turns(each.comparison)}
            row |= {"comparison_id": each.comparison.id, "vote_id": vote.id, "rater_id": vote.rater_id or "", "voted_at": vote.created_at}
            row |= {"revision": vote.revision, "is_current": vote.id in current, "excluded": each.excluded.get(vote.id, {}).get("", "")}
            row |= {"excluded_pairs": to_json({rejected: why for rejected, why in each.excluded.get(vote.id, {}).items() if rejected})}
            row |= {"strength": vote.strength or 0, "reasons": to_json(vote.reasons), "comment": vote.comment, "dwell_ms": vote.dwell_ms or 0}
            row |= {"guideline_version": vote.guideline_version, "seen_trace_ids": to_json(vote.seen_trace_ids), "blind": each.comparison.blind}
            row |= {"pair_rule": each.comparison.pair_rule, "compared_at": each.comparison.created_at}
            yield row | {"answers": answers, "marks": marks}


def _in_characters(trace: Trace, mark: Span) -> Row:
    start, end = characters(trace, mark)
    return vars(mark) | {"start": start, "end": end}


ANSWER = (
    "id", "created_at", "column", "place", "run", "response", "stop_reason", "error", "parent_trace_id", "branch_position", "seconds", "lm_forwards",
    "reward_forwards", "note", "check_forwards", "observer_forwards", "lm_positions", "reward_positions", "observer_positions", "num_tokens",
)  # fmt: skip
FORMATS: dict[str, Format] = {
    "preference": Format("prompt, chosen, rejected for trl, with where each answer came from", partial(of_pairs, preference)),
    "preference_tokens": Format("the same as token ids", partial(of_pairs, preference_tokens), steps=True),
    "training": Format("what `rgtg train` reads: texts, token ids and marks", partial(of_pairs, training), steps=True),
    "prefix_preference": Format("two continuations from one token, of branches and of marks", prefix_preference, steps=True),
    "unpaired": Format("prompt, completion, label for KTO", unpaired),
    "stepwise": Format("prompt, completions, labels: sentences or steps with a label each, of marks", stepwise, steps=True),
    "votes": Format("every vote as it was cast, with all answers", votes),
}


# --- parts of a row ---------------------------------------------------------------------------------------------------


def _ranking(vote: Vote) -> str:
    return to_json(vote.ranking) if vote.ranking else "[]"


def _turns(comparison: Comparison) -> str:
    """The messages of a prompt that came as a conversation, as JSON; the prompt itself is their transcript."""
    return to_json([{"role": role, "content": text} for role, text in comparison.turns]) if comparison.turns else "[]"


def _sides(pair: Pair, comparison: Comparison) -> tuple[tuple[str, Trace], tuple[str, Trace]]:
    chosen, rejected = comparison.trace(pair.chosen_trace_id), comparison.trace(pair.rejected_trace_id)
    assert chosen and rejected
    return ("chosen", chosen), ("rejected", rejected)


def provenance(trace: Trace) -> Row:
    """What made an answer, as columns."""
    run = trace.run
    row: Row = {"trace_id": trace.id, "column": trace.column, "place": trace.place, "stop_reason": trace.stop_reason, "num_tokens": num_tokens(trace)}
    return row | {"seed": run.seed} | _settings(run.method, run.params, run.generation, run.base_lm, run.guides, run.combine, run.versions)


@lru_cache(maxsize=1024)  # thousands of answers share a few
def _settings(
    method: str, params: Params, generation: GenerationConfig, base_lm: ModelRef, guides: Guides, combine: str, versions: tuple[tuple[str, str], ...]
) -> Row:
    row: Row = {"method": method, "params": to_json(plain_params(params)), "generation": to_json(vars(generation)), "base_lm": _model(base_lm)}
    row["reward_model"] = " + ".join(_model(ref) + (f"*{weight:g}" if weight != 1 else "") for ref, weight in guides)
    return row | {"combine": combine if len(guides) > 1 else "", "versions": to_json(dict(versions))}


def characters(trace: Trace, mark: Span) -> tuple[int, int]:
    """The characters of a mark, which counts tokens; in an answer without steps it counts characters."""
    if not trace.steps:
        return mark.start, min(mark.end, len(trace.response))
    ends = [0, *accumulate(len(step.text) for step in trace.steps)]
    return ends[min(mark.start, len(ends) - 1)], ends[min(mark.end, len(ends) - 1)]


def _marks(side: str, trace: Trace, marks: Sequence[Span], rater_id: str | None) -> Row:
    """The marks of the rater and of nobody, counted in tokens and, for a model with other tokens, in characters."""
    own = [mark for mark in marks if mark.rater_id in (None, rater_id)]
    in_tokens = [[mark.start, mark.end, mark.label] for mark in own if trace.steps]
    return {f"{side}_marks": to_json(in_tokens), f"{side}_spans": to_json([[*characters(trace, mark), mark.label] for mark in own])}


def _model(model: ModelRef | None) -> str:
    return "" if model is None else f"{model.name}@{model.revision}" if model.revision else model.name


def to_json(values: Mapping[str, Any] | Sequence[Any]) -> str:
    return json.dumps(values, ensure_ascii=False, allow_nan=False, sort_keys=True)
