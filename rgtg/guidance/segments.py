"""Segment methods: a few tokens are sampled from the base LM, scored once, and accepted or rejected.

Functions of rows. Knows nothing of models, caches, the engine or the screen.
"""

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar

from rgtg.config import check_choices, check_ranges
from rgtg.guidance.base import GuidanceMethod
from rgtg.guidance.requests import Propose, Requests, Score

if TYPE_CHECKING:
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
