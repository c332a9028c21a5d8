"""The growing answers of one column, with every operation on them that needs no model.

Works on token ids and on whatever follows them (`append`, `copy`, `truncate` by slot). Knows nothing of models, text or the engine.
"""

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Protocol

import torch
from torch import Tensor

from rgtg.errors import BadReward, BadSettings
from rgtg.guidance.noise import derived_seed, gumbel, uniform
from rgtg.guidance.requests import Proposal
from rgtg.records import Run
from rgtg.rewards.combine import combined


class Follower(Protocol):
    """A model's batch of growing prefixes, which mirrors every change of the rows."""

    def append(self, slot: int, token_id: int) -> None: ...
    def copy(self, sources: Sequence[int], targets: Sequence[int]) -> None: ...
    def truncate(self, slot: int, num_tokens: int) -> None: ...


@dataclass(eq=False)
class Draft:
    """A token that may still be discarded, with the candidates it was selected from. Copies of a row share their drafts."""

    token_id: int
    is_last: bool
    proposal: Proposal
    index: int  # of the token among the candidates
    scores: list[float]  # (k,), what the selection compared
    greedy: bool
    rewards: dict[str, float] = field(default_factory=dict)  # of the prefix that ends here, by reward model
    reward: float | None = None  # the combined reward, if the selection knew it

    def read(self, log_probs: Tensor) -> None:
        """Give the candidates their log probabilities under the base LM, from those of the vocabulary, and its order; the scores stay."""
        values = log_probs[list(self.proposal.ids)].cpu()
        order = values.sort(descending=True, stable=True).indices.tolist()
        self.proposal = self.proposal.subset(order)
        self.proposal.log_probs = values[order]
        self.index, self.scores = order.index(self.index), [self.scores[i] for i in order]


@dataclass(frozen=True, eq=False)
class GivenUp:
    """Drafts that a method rejected, with the reward, threshold or weight that decided it."""

    drafts: tuple[Draft, ...]
    reward: float | None = None
    threshold: float | None = None
    weight: float | None = None


class Rows:
    """The answers of one column. Each row has its own random seed, so that copies of a row diverge; row 0 has the seed of the run."""

    def __init__(
        self,
        run: Run,
        num_rows: int,
        followers: Sequence[tuple[Follower, Sequence[int]]],
        observers: Sequence[tuple[Follower, int]],
        eos_ids: frozenset[int],
    ):
        """`followers` are batches with the slot of each row in them, `observers` batches with the slot of the one text they read."""
        self.run, self.num_rows = run, num_rows
        self._followers, self._observers, self._eos_ids = followers, observers, eos_ids
        self.drafts: list[list[Draft]] = [[]]
        self.settled: list[Draft] = []
        self.given_up: dict[int, list[GivenUp]] = {}  # by the number of settled drafts before them
        self.num_given = len(run.forced_ids[:-1])
        self.attempt = 0
        self.stopped = len(run.forced_ids) > run.generation.max_new_tokens  # a branch with no room

    @property
    def active(self) -> list[int]:
        """Indices of the rows that still grow; [] once the run was stopped."""
        return [] if self.stopped else [j for j, row in enumerate(self.drafts) if not (row and row[-1].is_last)]

    @property
    def num_settled(self) -> int:
        return len(self.settled)

    def num_tokens(self, row: int = 0) -> int:
        """Number of tokens of a row's answer, including those given to a branch."""
        return self.num_given + len(self.drafts[row])

    @property
    def lengths(self) -> list[int]:
        """Number of tokens of each row's answer."""
        return [self.num_tokens(row) for row in range(len(self.drafts))]

    @property
    def max_new_tokens(self) -> int:
        """Maximum number of tokens of an answer."""
        return self.run.generation.max_new_tokens

    @property
    def temperature(self) -> float:
        return self.run.generation.temperature

    def uniform(self, purpose: str) -> float:
        """Uniform number in (0, 1) for acceptance and resampling: a pure function of random seed, position, attempt and purpose."""
        return uniform(self._seed(0), max(self.lengths), purpose)

    def _seed(self, row: int) -> int:
        return derived_seed(self.run.seed, row + self.attempt * self.num_rows)

    # --- growing ---------------------------------------------------------------------------------------------------

    def take(
        self, proposals: Sequence[Proposal | None], rescore: Callable[[Tensor, Tensor | None], Tensor] | None = None, greedy: bool = False
    ) -> None:
        """Append one token to each row with a proposal: Gumbel-max over its scores at the run's temperature, or the highest score (greedy).

        `rescore` maps log probabilities and rewards to scores; without it the scores are the log probabilities of the base LM.
        """
        for row, proposal in enumerate(proposals):
            if proposal is not None:
                self.put(row, self._pick(row, proposal, rescore, greedy))

    def _pick(self, row: int, proposal: Proposal, rescore: Callable | None, greedy: bool) -> Draft:
        scores = proposal.log_probs if rescore is None else rescore(proposal.log_probs, proposal.rewards)
        values, position, temperature = scores.tolist(), self.num_tokens(row), self.temperature
        if not all(map(math.isfinite, values)):
            if proposal.log_probs.isnan().any():
                raise BadReward(
                    "The base LM returned probabilities that are NaN.", "", "Choose another base LM; the weights of this one may be damaged."
                )
            wrong = f"Method `{self.run.method}` computed a score that is not finite."
            raise BadReward(wrong, f"Scores: {[round(value, 3) for value in values]}.", "Lower the weight.")
        greedy = greedy or temperature == 0
        if position + 1 == len(self.run.forced_ids):
            index = self._forced(proposal)
        elif greedy:  # of equal scores the lowest id wins
            highest = max(values)
            index = values.index(highest)
            if values.count(highest) > 1:
                index = min((i for i, value in enumerate(values) if value == highest), key=proposal.ids.__getitem__)
        else:
            noise = gumbel(self._seed(row), position, proposal.ids).tolist()
            index = max(
                range(len(values)), key=[value / temperature + gumbel_noise for value, gumbel_noise in zip(values, noise, strict=True)].__getitem__
            )
        return self.draft(row, proposal, index, values, greedy)

    def draft(self, row: int, proposal: Proposal, index: int, scores: list[float], greedy: bool = False) -> Draft:
        """Candidate `index` of a proposal as the row's next token; `put` adds it."""
        token_id = proposal.ids[index]
        is_last = token_id in self._eos_ids or self.num_tokens(row) + 1 >= self.max_new_tokens
        rewards = {name: float(values[index]) for name, values in proposal.components.items()}
        reward = float(proposal.rewards[index]) if proposal.rewards is not None else None
        return Draft(token_id, is_last, proposal, index, scores, greedy, rewards, reward)

    def _forced(self, proposal: Proposal) -> int:
        token_id = self.run.forced_ids[-1]
        if token_id not in proposal.ids:
            raise BadSettings(
                f"The branch cannot begin with token {token_id}.", "It is not among the candidates of this step.", "Branch from a token in the table."
            )
        return proposal.ids.index(token_id)

    def put(self, row: int, draft: Draft) -> None:
        """Append a draft to a row."""
        self.drafts[row].append(draft)
        for follower, slots in self._followers:
            follower.append(slots[row], draft.token_id)

    def early_gains(self, row: int) -> float:
        """sum over its tokens of (r_i - r_(i-1)) / i, r_i the guides' combined reward of the first i tokens; what all rows share is left out."""
        values = [0.0, *(combined(self.run, draft.rewards, i) for i, draft in enumerate(self.drafts[row], self.num_given + 1))]
        return sum((after - before) / i for i, (before, after) in enumerate(pairwise(values), self.num_given + 1))

    def spread(self) -> None:
        """Begin all rows, each behind the prompt of its own."""
        self.drafts = [[] for _ in range(self.num_rows)]

    def every_token(self, num_tokens: int) -> list[Proposal | None]:
        """Proposals of the whole vocabulary for the rows that grow, to which another model than the base LM gives its rewards."""
        active = self.active
        return [Proposal(range(num_tokens), torch.empty(0)) if row in active else None for row in range(len(self.drafts))]

    def take_read(self, logits: Iterable[Tensor]) -> None:
        """Give the last drafts of each row what the base LM says in front of them, (tokens, vocabulary) a row."""
        for drafts, values in zip(self.drafts, logits, strict=True):
            for draft, log_probs in zip(reversed(drafts), reversed(values.log_softmax(-1)), strict=False):
                draft.read(log_probs)

    # --- choosing --------------------------------------------------------------------------------------------------

    def select(self, index: Sequence[int]) -> None:
        """Replace the rows: row i becomes a copy of row `index[i]`, as for best-of-n, beams and resampling."""
        for follower, slots in self._followers:
            follower.copy([slots[j] for j in index], slots[: len(index)])
        self.drafts = [list(self.drafts[j]) for j in index]

    def truncate(self, length: int) -> None:
        """Discard the drafts of every row beyond `length`."""
        for row, drafts in enumerate(self.drafts):
            if len(drafts) > length:
                del drafts[length:]
                for follower, slots in self._followers:
                    follower.truncate(slots[row], self.num_given + length)

    def give_up(self, drafts: Sequence[Draft], reward: float | None = None, threshold: float | None = None, weight: float | None = None) -> None:
        """Record drafts behind the settled text as rejected, for the trace."""
        if drafts:
            self.given_up.setdefault(self.num_settled, []).append(GivenUp(tuple(drafts), reward, threshold, weight))

    def settle(self) -> None:
        """Make the drafts that all rows share final: from here on they are events, and observers read them."""
        first, others = self.drafts[0], self.drafts[1:]
        shared = len(first)
        for row in others:
            shared = next((i for i, (a, b) in enumerate(zip(first, row, strict=False)) if a is not b), min(shared, len(row)))
        for draft in first[self.num_settled : shared]:
            self.settled.append(draft)
            for follower, slot in self._observers:
                follower.append(slot, draft.token_id)

    @property
    def stop_reason(self) -> str:
        """Why the settled answer ends: "eos", "max_new_tokens" or "stopped"."""
        if self.settled and self.settled[-1].token_id in self._eos_ids:
            return "eos"
        is_full = self.num_given + self.num_settled >= self.max_new_tokens or len(self.run.forced_ids) > self.max_new_tokens
        return "max_new_tokens" if is_full else "stopped"

    def stop(self) -> None:
        """End all growth; of several rows only the first is kept, unfinished as it may be."""
        self.stopped = True
        self.drafts = self.drafts[:1]
        self.settle()


def best(rewards: Sequence[float]) -> int:
    """Index of the highest reward, the first of equal ones."""
    return max(range(len(rewards)), key=lambda i: (rewards[i], -i))
