"""The events of a column: each token as a `Step` record with its candidates, notes while it works, and how it ended.

Pure functions of drafts. Knows nothing of models, the engine or the screen.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from rgtg.guidance.rows import Draft, GivenUp
from rgtg.prompts import pieces
from rgtg.records import Candidate, Run, Step, Tried

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


@dataclass(frozen=True, kw_only=True)
class Cost:
    """Event of a column: what it has cost so far. Forwards are those that served it, with other columns or alone; positions are the tokens fed
    for it, the prompt and candidates included, as if it were alone (0 for a kind of reward without a cache). Those of reward models include
    the share of models that only observe, `observer_`."""

    lm_forwards: int = 0
    reward_forwards: int = 0
    observer_forwards: int = 0
    lm_positions: int = 0
    reward_positions: int = 0
    observer_positions: int = 0


def cost_of(run: Run, forwards: Mapping[str, int], positions: Mapping[str, int], base_lm: str) -> Cost:
    """The cost of a run from the forwards and positions of each model; `base_lm` is the key of the base LM."""
    observing = [ref.name for ref in run.observers]

    def parts(counts: Mapping[str, int]) -> tuple[int, int, int]:
        lm = counts.get(base_lm, 0)
        return lm, sum(counts.values()) - lm, sum([counts.get(name, 0) for name in observing])

    (lm, reward, observer), (lm_read, reward_read, observer_read) = parts(forwards), parts(positions)
    return Cost(
        lm_forwards=lm, reward_forwards=reward, observer_forwards=observer,
        lm_positions=lm_read, reward_positions=reward_read, observer_positions=observer_read,
    )  # fmt: skip


@dataclass(frozen=True)
class Ended(Cost):
    """Last event of a column; seconds count from the start of `generate`.

    `note` names models whose cache was found wrong, `check_forwards` is the number of forwards of that check (`guidance.spot_check`).
    """

    stop_reason: str
    error: str = ""
    seconds: float = 0.0
    note: str = ""
    check_forwards: int = 0


@dataclass(frozen=True)
class Working:
    """Event of a column whose newest tokens may still be discarded; `note` is e.g. "4 answers, token 12"."""

    note: str


@dataclass(frozen=True)
class Standardised:
    """Event before the first token of a column whose rewards are standardised: its run, which holds the statistics from now on."""

    run: Run


Event = Step | Cost | Ended | Working | Standardised


class AnswerProgress:
    """How many of several answers are done, with the share of each one in work: its tokens over `max_new_tokens`."""

    def __init__(self, runs: Sequence[Run]):
        self._lengths = [run.generation.max_new_tokens for run in runs]
        self._shares = [0.0] * len(runs)

    def after(self, index: int, event: Event) -> float:
        """Answers done after an event of one of them."""
        if isinstance(event, Ended):
            self._shares[index] = 1.0
        elif isinstance(event, Step):
            self._shares[index] = min(1.0, (event.position + 1) / self._lengths[index])
        return sum(self._shares)


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
    """Step record of a draft. `text` is what the token adds to the answer, `text_of` the text of a candidate in a table.

    `watched` are the reward models whose rewards are stored. Only a method that `rescores` has a distribution over tokens, and so a KL.
    """
    # ten numbers: plain Python is faster here than a tensor operation each
    values, index, ids = draft.scores, draft.index, draft.proposal.ids
    log_probs, guided = draft.proposal.log_probs.tolist(), log_shares(values, ids, 0.0 if draft.greedy else temperature)
    after = [math.exp(share) for share in guided]
    ranks = [0] * len(values)
    for rank, i in enumerate(sorted(range(len(values)), key=values.__getitem__, reverse=True), 1):  # stable: of equal scores the likelier first
        ranks[i] = rank
    components = draft.proposal.components
    rewards = [tuple(zip(components, row, strict=True)) for row in zip(*components.values(), strict=True)] or [()] * len(ids)
    before = range(1, len(ids) + 1)
    candidates = tuple(map(Candidate, ids, map(text_of, ids), log_probs, values, before, ranks, after, rewards))
    unguided = values == log_probs and draft.greedy == (temperature == 0)
    base = guided if unguided else log_shares(log_probs, ids, temperature)
    kl, truncation = (0.0 if unguided else divergence(guided, base), divergence(base, log_probs)) if rescores else (None, None)
    observed = tuple((name, draft.rewards[name]) for name in watched if math.isfinite(draft.rewards.get(name, math.nan)))
    return Step(
        position, draft.token_id, text, log_probs[index], values[index], index + 1, ranks[index], math.exp(log_probs[index]), after[index],
        kl, observed, candidates, tried, truncation,
    )  # fmt: skip


def tried_of(given_up: GivenUp, before: Sequence[int], tokenizer: "PreTrainedTokenizerBase", closing: Sequence[int]) -> Tried:
    """Record of rejected drafts behind the tokens `before` of a base LM."""
    ids = tuple(draft.token_id for draft in given_up.drafts)
    text = "".join(pieces(tokenizer, before, ids, closing))
    return Tried(text, ids, given_up.reward, given_up.threshold, given_up.weight)


def log_shares(scores: Sequence[float], ids: Sequence[int], temperature: float) -> list[float]:
    """Log probability of each candidate, softmax(score / temperature); at 0 the highest score (of equal ones the lowest id) is certain."""
    if not temperature:
        certain = max(range(len(scores)), key=lambda i: (scores[i], -ids[i]))
        return [0.0 if i == certain else -math.inf for i in range(len(scores))]
    scaled, highest = [score / temperature for score in scores], max(scores) / temperature
    total = highest + math.log(sum(math.exp(value - highest) for value in scaled))
    return [value - total for value in scaled]


def divergence(after: Sequence[float], before: Sequence[float]) -> float | None:
    """KL(after ‖ before) in nats, from log probabilities; None if it is infinite because `before` gives a token of `after` probability 0.

    >>> divergence([0.0, -math.inf], [math.log(0.5), math.log(0.5)]), divergence([math.log(0.5), math.log(0.5)], [0.0, -math.inf])
    (0.6931471805599453, None)
    """
    terms = [math.exp(q) * (q - p) for q, p in zip(after, before, strict=True) if q > -math.inf]
    return max(0.0, sum(terms)) if math.inf not in terms else None
