"""Segment methods: a piece of text is written, judged as it ends, and kept or given up.

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
    """Write a segment with the base LM, keep it if its reward reaches a threshold that rises with the answer, else try again.

    A segment ends where the base LM is unsure (entropy), at its longest, or with the answer. With t tokens of at most N and r0 =
    (1 - alpha) r(prompt) + alpha R, the threshold is min(r0 + t (R - r0) / N, R): kept with probability min(1, exp((r - threshold) / T))
    (soft), or where r >= threshold (hard). After the last try the best of them and of one further segment is kept. Cascade reward
    sampling (arXiv 2406.16306); there R = 8.5 on the reward model's own scale. A threshold of -inf is the base LM.
    """

    name: ClassVar[str] = "CARDS"
    uses_reward: ClassVar[bool] = True

    form: str = _option("soft", "Keep by chance, the likelier the higher the reward, or by the threshold alone", choices=FORMS)
    threshold: float = _option(2.0, "Reward that a complete answer should reach", -1e6, 1e6, also=(-math.inf,))
    tries: int = _option(20, "Segments that are tested at one place before the best is kept", 0, 1000)
    alpha: float = _option(0.5, "Where the threshold begins: 0 at the prompt's reward, 1 at its end", 0.0, 1.0)
    accept_temperature: float = _option(0.7, "Softness of keeping: larger keeps more", 1e-6, 1e6)
    entropy: float = _option(3.0, "A segment ends where the base LM's entropy reaches this, in nats", 0.0, 100.0)
    min_segment: int = _option(4, "Shortest segment, in tokens", 1, 1024)
    max_segment: int = _option(64, "Longest segment, in tokens", 1, 1024)

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
                if len(tried) < self.tries and self._keeps(reward, threshold, rows):
                    break
                tried.append((reward, rows.drafts[0][start:], threshold))
                if len(tried) > self.tries:  # the last one was not tested
                    kept = max(tried, key=lambda one: one[0])
                    tried.remove(kept)
                    rows.truncate(start)
                    for draft in kept[1]:
                        rows.put(0, draft)
                    break
                rows.truncate(start)
                rows.attempt += 1  # never set back: a noise that has been looked at is not drawn from again
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
        """The reward that a segment has to reach which ends behind so many tokens of the answer."""
        if self.threshold == -math.inf:
            return -math.inf
        first = (1 - self.alpha) * prompt_reward + self.alpha * self.threshold
        return min(first + num_tokens * (self.threshold - first) / max_new_tokens, self.threshold)

    def _keeps(self, reward: float, threshold: float, rows: "Rows") -> bool:
        if reward >= threshold or self.form == "hard":
            return reward >= threshold
        return rows.uniform("keep") < math.exp((reward - threshold) / self.accept_temperature)


@dataclass(frozen=True)
class BlockBestOfK(GuidanceMethod):
    """Draw k blocks of a few tokens from the base LM, keep the one with the highest reward, and go on from there.

    Block-wise controlled decoding (arXiv 2310.17022): argmax over j of V(prefix + block_j). A block as long as the answer is
    best-of-k; with k = 1 this is the base LM.
    """

    name: ClassVar[str] = "Block-wise best-of-k"
    uses_reward: ClassVar[bool] = True

    k: int = _option(4, "Blocks to draw", 1, 64)
    block: int = _option(4, "Length of a block, in tokens", 1, 1024)

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
            kept = best(rewards)
            for row, reward in enumerate(rewards):
                if row != kept:
                    rows.give_up(rows.drafts[row][start:], reward)
            rows.select([kept])
            rows.settle()
