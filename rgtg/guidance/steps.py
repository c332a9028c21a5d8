"""What a column yields: a draft that is settled as a record, with the candidates it was drawn from, and how a column stands or ended.

Pure functions of drafts. Knows nothing of models, the engine or the screen.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from rgtg.guidance.rows import Draft
from rgtg.guidance.sequences import normalised
from rgtg.records import Candidate, Step, Tried


@dataclass(frozen=True)
class Ended:
    """The last event of a column. Forwards are those in which it asked for something; seconds count from the start of `generate`.
    `note` says where a model's kept cache was found wrong, `check_forwards` what looking for that took (`guidance.spot_check`)."""

    stop_reason: str
    error: str = ""
    lm_forwards: int = 0
    reward_forwards: int = 0
    seconds: float = 0.0
    note: str = ""
    check_forwards: int = 0


@dataclass(frozen=True)
class Working:
    """A column has tokens on trial, none of them final: "4 answers, token 12"."""

    note: str


Event = Step | Ended | Working


def step_of(
    draft: Draft,
    position: int,
    text: str,
    text_of: Callable[[int], str],
    temperature: float,
    watched: Sequence[str],
    rescores: bool,
    tried: tuple[Tried, ...],
) -> Step:
    """The complete step. `text` is what the token adds to the answer, `text_of` what a candidate looks like in a table; `watched` are the
    reward models whose rewards are kept; only a method that `rescores` has a distribution of single tokens, and with it a KL."""
    # ten numbers: plain Python is faster here than a tensor operation each
    values, index, ids = draft.scores, draft.index, draft.proposal.ids
    log_probs, after = draft.proposal.log_probs.tolist(), normalised([value / (temperature or 1.0) for value in values])
    ranks = [0] * len(values)
    for rank, i in enumerate(sorted(range(len(values)), key=values.__getitem__, reverse=True), 1):  # stable: of equal scores the likelier first
        ranks[i] = rank
    components = draft.proposal.components
    rewards = [tuple(zip(components, said, strict=True)) for said in zip(*components.values(), strict=True)] or [()] * len(ids)
    before = range(1, len(ids) + 1)
    candidates = tuple(map(Candidate, ids, map(text_of, ids), log_probs, values, before, ranks, after, rewards))
    kl = None
    if rescores:
        kl = -log_probs[index] if draft.greedy else sum(q * (math.log(q) - p) for q, p in zip(after, log_probs, strict=True) if q > 0)
    said = tuple((name, draft.rewards[name]) for name in watched if math.isfinite(draft.rewards.get(name, math.nan)))
    return Step(
        position, draft.token_id, text, log_probs[index], values[index], index + 1, ranks[index], math.exp(log_probs[index]), after[index],
        kl, said, candidates, tried,
    )  # fmt: skip
