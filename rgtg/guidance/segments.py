"""Segment methods: a few tokens are sampled from the base LM, scored once, and accepted or rejected.

Functions of rows. Knows nothing of models, caches, the engine or the screen.
"""

import math
from collections.abc import Generator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar

from rgtg.config import check_choices, check_ranges
from rgtg.guidance.base import SEGMENTS, TOKENS, GuidanceMethod
from rgtg.guidance.requests import Propose, Requests, Score

if TYPE_CHECKING:
    from rgtg.guidance.requests import Proposal
    from rgtg.guidance.rows import Draft, Rows

FORMS = ("soft", "hard")


def _option(default: Any, help: str, low: float | None = None, high: float | None = None, **more: Any) -> Any:
    return field(default=default, metadata={"help": help} | ({} if low is None else {"min": low, "max": high}) | more)


@dataclass(frozen=True)
class CARDS(GuidanceMethod):
    """Sample a segment from the base LM and accept it if its reward reaches a threshold that rises with the answer; else sample again.

    Formula: with t of at most N tokens and r₀ = (1 − α)·r(prompt) + α·R, the threshold is τ = min(r₀ + t·(R − r₀) / N, R). Accept with
    probability min(1, exp((r − τ) / b)) (soft), or where r ≥ τ (hard). A segment ends where the base LM's entropy is high, at its maximum
    length, or with the answer; after `tries` rejections the best of these and one further segment is kept. R = −inf is the base LM.
    Paper: CARDS, cascade reward sampling (arXiv 2406.16306).
    Cost: one forward of the base LM per sampled token, rejected ones included, and one of the reward model per segment and the prompt.
    Pitfall: R (8.5 in the paper) is on the scale of the reward model; set it from the rewards that the base LM's own answers get.
    """

    name: ClassVar[str] = "CARDS"
    lost: ClassVar[str] = "its reward was below the threshold"
    group: ClassVar[str] = SEGMENTS
    uses_reward: ClassVar[bool] = True

    form: str = _option("soft", "Acceptance: soft accepts below the threshold with a probability, hard never does", choices=FORMS)
    threshold: float = _option(2.0, "Reward that a complete answer should reach: larger values reject more segments", -1e6, 1e6, also=(-math.inf,))
    tries: int = _option(20, "Rejections at one place before the best segment is kept: larger values cost more", 0, 1000)
    alpha: float = _option(0.5, "Where the threshold begins: 0 = at the reward of the prompt, 1 = at its final value", 0.0, 1.0)
    accept_temperature: float = _option(0.7, "Temperature of soft acceptance: larger values accept more segments below the threshold", 1e-6, 1e6)
    entropy: float = _option(3.0, "A segment ends where the base LM's entropy reaches this, in nats: larger values make longer segments", 0.0, 100.0)
    min_segment: int = _option(4, "Minimum length of a segment, in tokens", 1, 1024)
    max_segment: int = _option(64, "Maximum length of a segment, in tokens", 1, 1024)

    def __post_init__(self) -> None:
        check_ranges(self)
        check_choices(self)

    @property
    def tries_a_token(self) -> int:
        return self.tries + 1

    def generate(self, rows: "Rows") -> Requests:
        (prompt_reward,) = yield Score()
        while rows.active:
            start = rows.num_settled
            tried: list[tuple[float, list[Draft], float]] = []
            while True:
                yield from self._write_segment(rows, start)
                (reward,) = yield Score()
                threshold = self.threshold_at(rows.num_tokens(), prompt_reward, rows.max_new_tokens)
                if len(tried) < self.tries and self._accepts(reward, threshold, rows):
                    break
                tried.append((reward, rows.drafts[0][start:], threshold))
                if len(tried) > self.tries:  # one more than `tries`: this one is not tested
                    best_segment = max(tried, key=lambda segment: segment[0])
                    tried.remove(best_segment)
                    rows.truncate(start)
                    for draft in best_segment[1]:
                        rows.put(0, draft)
                    break
                rows.truncate(start)
                rows.attempt += 1  # never reset: noise that was used for a rejected segment is not used again
            for reward, drafts, threshold in tried:
                rows.give_up(drafts, reward, threshold)
            rows.settle()

    def _write_segment(self, rows: "Rows", start: int) -> Requests:
        while rows.active and (length := len(rows.drafts[0]) - start) < self.max_segment:
            proposals = yield Propose(entropy=length >= self.min_segment)
            if length >= self.min_segment and proposals[0].entropy >= self.entropy:
                return
            rows.take(proposals)

    def threshold_at(self, num_tokens: int, prompt_reward: float, max_new_tokens: int) -> float:
        """Reward that a segment has to reach if the answer has `num_tokens` tokens at its end."""
        if self.threshold == -math.inf:
            return -math.inf
        first = (1 - self.alpha) * prompt_reward + self.alpha * self.threshold
        return min(first + num_tokens * (self.threshold - first) / max_new_tokens, self.threshold)

    def _accepts(self, reward: float, threshold: float, rows: "Rows") -> bool:
        if reward >= threshold or self.form == "hard":
            return reward >= threshold
        return rows.uniform("keep") < math.exp((reward - threshold) / self.accept_temperature)


@dataclass(frozen=True)
class BlockBestOfK(GuidanceMethod):
    """Sample k blocks of a few tokens from the base LM, keep the one with the highest reward, and continue from there.

    Formula: argmax_j r(prefix + block_j). A block as long as the answer is best-of-k; k = 1 is the base LM.
    Paper: block-wise controlled decoding (arXiv 2310.17022).
    Cost: per token one forward of the base LM over k rows, per block one of the reward model over k rows.
    Pitfall: blocks are compared in the middle of a sentence, where a reward model trained on complete responses alone is unreliable;
    and a block that ends the answer competes with blocks that do not.
    """

    name: ClassVar[str] = "Block-wise best-of-k"
    lost: ClassVar[str] = "another block had a higher reward"
    group: ClassVar[str] = SEGMENTS
    uses_reward: ClassVar[bool] = True

    k: int = _option(4, "Number of blocks sampled: larger values raise the reward and the cost", 1, 64)
    block: int = _option(4, "Length of a block, in tokens: larger values select less often, on more text", 1, 1024)

    def __post_init__(self) -> None:
        check_ranges(self)

    @property
    def num_rows(self) -> int:
        return self.k

    def generate(self, rows: "Rows") -> Requests:
        from rgtg.guidance.rows import best

        while rows.active:
            start = rows.num_settled
            rows.select([0] * self.k)
            for _ in range(self.block):
                if rows.active:
                    rows.take((yield Propose()))
            rewards = yield Score()
            winner = best(rewards)
            for row, reward in enumerate(rewards):
                if row != winner:
                    rows.give_up(rows.drafts[row][start:], reward)
            rows.select([winner])
            rows.settle()


@dataclass(frozen=True)
class ChunkBeam(GuidanceMethod):
    """Extend each of a few beams by several chunks from the base LM, keep the chunks with the highest reward, and continue from these.

    Formula: of W·K texts the W with the highest reward stay, complete ones among them; the best complete one is the answer. With
    `weighting=early` a text is worth Σ_i (r_i − r_{i−1})/i. W = 1 is block-wise best-of-k.
    Paper: chunk-level beam search of weak-to-strong search (arXiv 2405.19262); with early weighting and a log-ratio reward TreeBoN
    (arXiv 2410.16033).
    Cost: per token one forward of the base LM over W·K rows, per chunk one of the reward model over W·K rows.
    Pitfall: complete texts compete with unfinished ones, so a reward that depends on the length ends answers too early or too late.
    """

    name: ClassVar[str] = "Chunk beam search"
    lost: ClassVar[str] = "other chunks had a higher reward"
    group: ClassVar[str] = SEGMENTS
    uses_reward: ClassVar[bool] = True

    width: int = _option(2, "Beams that are kept", 1, 16)
    k: int = _option(4, "Chunks to draw for each beam", 1, 64)
    chunk: int = _option(8, "Length of a chunk, in tokens", 1, 1024)
    weighting: str = _option("end", "What a text is worth: its reward at the end, or its gains, the early ones most", choices=("end", "early"))

    def __post_init__(self) -> None:
        check_ranges(self)
        check_choices(self)

    @property
    def num_rows(self) -> int:
        return self.width * self.k

    def generate(self, rows: "Rows") -> Requests:
        rows.select([0] * self.num_rows)
        while rows.active:
            start = rows.num_settled
            for _ in range(self.chunk):
                if rows.active:
                    rows.take((yield Propose()))
            rewards = yield Score()
            worth = rewards if self.weighting == "end" else [rows.early_gains(row) for row in range(len(rewards))]
            order = sorted(range(len(worth)), key=lambda row: (-worth[row], row))
            kept, growing = order[: self.width], set(rows.active)
            if not growing & set(kept):  # the best are complete
                kept = order[:1]
            for row in range(len(rewards)):
                if row not in kept:
                    rows.give_up(rows.drafts[row][start:], rewards[row])
            rows.select([row for row in kept for _ in range(self.k if row in growing else 1)])
            rows.settle()


@dataclass(frozen=True)
class TransferQ(GuidanceMethod):
    """Let the base LM continue behind every candidate, and add the reward at the end of that rollout to the candidate's log probability.

    Formula: score(v) = log p(v | prefix) + β·r(prefix + v + rollout), the rollout sampled from the base LM. β = 0 is the base LM on k
    candidates, a rollout of 0 tokens PARGS.
    Paper: Transfer Q* (arXiv 2405.20495), direct form, with the base LM in the place of the aligned model.
    Cost: per token 1 + `rollout` forwards of the base LM over k rows, and one of the reward model over k rows.
    Pitfall: a short rollout is a partial text again, and its noise is part of the score.
    """

    name: ClassVar[str] = "Transfer Q*"
    group: ClassVar[str] = TOKENS
    uses_reward: ClassVar[bool] = True
    rescores: ClassVar[bool] = True

    beta: float = _option(1.0, "Weight of the reward at the end of the rollout", 0.0, 20.0)
    k: int = _option(5, "Candidates that are tried", 1, 64)
    rollout: int = _option(8, "Tokens that are written behind each candidate", 0, 256)
    pick: str = _option("sample", "Sample from the scores, or take the highest (greedy)", choices=("sample", "greedy"))

    def __post_init__(self) -> None:
        check_ranges(self)
        check_choices(self)

    @property
    def num_rows(self) -> int:
        return self.k

    @property
    def scores_candidates(self) -> bool:
        return False

    @property
    def tries_a_token(self) -> int:
        return self.rollout + 1

    def generate(self, rows: "Rows") -> Requests:
        while rows.active:
            (proposal,) = yield Propose()
            proposal = proposal.subset(range(min(self.k, len(proposal.ids))))
            rewards = yield from self._rollouts(rows, proposal)
            scores = proposal.log_probs + self.beta * proposal.log_probs.new_tensor(rewards)
            rows.take([proposal], lambda *_, scores=scores: scores, self.pick == "greedy")
            rows.settle()

    def _rollouts(self, rows: "Rows", proposal: "Proposal") -> Generator[Propose | Score, Any, list[float]]:
        """The reward at the end of each candidate's rollout; the rows are as before then."""
        start, num = rows.num_settled, len(proposal.ids)
        rows.select([0] * num)
        rows.attempt = rows.num_given + start + 1  # rollouts never see the noise by which tokens are chosen
        for row in range(num):
            rows.put(row, rows.draft(row, proposal, row, proposal.log_probs.tolist()))
        for _ in range(self.rollout):
            if rows.active:
                rows.take((yield Propose()))
        rewards: list[float] = yield Score()
        for row, reward in enumerate(rewards):
            rows.give_up(rows.drafts[row][start:], reward)
        rows.truncate(start)
        rows.select([0])
        rows.attempt = 0
        return rewards

    def terms(self, log_probs: Any, rewards: Any) -> dict[str, Any]:
        return {"log p": log_probs, "β·r(rollout)": self.beta * rewards}
