"""Token ids of texts and pairs, in padded batches of similar length.

Knows nothing of models or losses. Rows are right-padded: a causal model's valid positions cannot see what follows
them, so no attention mask is needed (and none is made).
"""

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

Ids = tuple[int, ...]


@dataclass(frozen=True)
class TokenPair:
    """One preference as token ids; both responses follow the same prompt and keep their end-of-sequence token.

    >>> TokenPair(prompt_ids=(0,), chosen_ids=(5, 6, 1), rejected_ids=(5, 7, 1)).num_common
    1
    """

    prompt_ids: Ids
    chosen_ids: Ids
    rejected_ids: Ids

    @property
    def num_common(self) -> int:
        """Number of leading response tokens that both sides share."""
        shared = 0
        for a, b in zip(self.chosen_ids, self.rejected_ids, strict=False):
            if a != b:
                break
            shared += 1
        return shared


@dataclass(frozen=True)
class PairBatch:
    """`ids` (2 * pairs, length): all chosen rows, then all rejected rows. The rest is (pairs,)."""

    ids: Tensor
    prompt_lengths: Tensor
    chosen_lengths: Tensor
    rejected_lengths: Tensor
    num_common: Tensor


def collate_pairs(pairs: Sequence[TokenPair], pad_id: int) -> PairBatch:
    rows = [p.prompt_ids + p.chosen_ids for p in pairs] + [p.prompt_ids + p.rejected_ids for p in pairs]
    return PairBatch(
        ids=pad_right(rows, pad_id),
        prompt_lengths=torch.tensor([len(p.prompt_ids) for p in pairs]),
        chosen_lengths=torch.tensor([len(p.chosen_ids) for p in pairs]),
        rejected_lengths=torch.tensor([len(p.rejected_ids) for p in pairs]),
        num_common=torch.tensor([p.num_common for p in pairs]),
    )


def pad_right(rows: Sequence[Ids], pad_id: int) -> Tensor:
    """[(5, 6), (7,)] -> [[5, 6], [7, pad]]"""
    width = max(map(len, rows))
    return torch.tensor([list(row) + [pad_id] * (width - len(row)) for row in rows])


def token_batches(rows: Sequence[Ids], tokens_per_batch: int, luck: random.Random, pool: int = 50) -> Iterator[list[Ids]]:
    """One pass over `rows` in random order, rows of similar length together, each batch at most `tokens_per_batch` wide.

    Sorting happens inside pools of some `pool` batches, so batches stay random while little is padding.
    """
    order = list(range(len(rows)))
    luck.shuffle(order)
    average = sum(map(len, rows)) / len(rows)
    step = max(1, int(pool * tokens_per_batch / average))
    for start in range(0, len(order), step):
        batches, batch = [], []
        for i in sorted(order[start : start + step], key=lambda i: len(rows[i])):
            if batch and (len(batch) + 1) * len(rows[i]) > tokens_per_batch:
                batches.append(batch)
                batch = []
            batch.append(rows[i])
        batches.append(batch)
        luck.shuffle(batches)
        yield from batches


def pair_batches(pairs: Sequence[TokenPair], size: int, luck: random.Random, pool: int = 20) -> Iterator[list[TokenPair]]:
    """One pass over `pairs` in random order, pairs of similar length together, `size` at a time; the last short batch is left out."""
    order = list(range(len(pairs)))
    luck.shuffle(order)
    for start in range(0, len(order), pool * size):
        part = sorted(order[start : start + pool * size], key=lambda i: len(pairs[i].chosen_ids) + len(pairs[i].rejected_ids))
        batches = [part[i : i + size] for i in range(0, len(part), size)]
        luck.shuffle(batches)
        for batch in batches:
            if len(batch) == size:
                yield [pairs[i] for i in batch]
