"""Token ids of pairs and labelled texts, in padded batches of similar length.

Knows nothing of models, losses or files. Rows are right-padded: a causal model's valid positions cannot see what follows
them, so no attention mask is needed (and none is made).
"""

import hashlib
import json
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields, replace
from typing import Self

import torch
from torch import Tensor

Ids = tuple[int, ...]


@dataclass(frozen=True)
class TokenPair:
    """One preference as token ids; both responses follow the same prompt and keep their end-of-sequence token.

    `branch` is the number of tokens both share by construction, `marks` the factor on each prefix length (1 past its end), `labels` the
    probability that the chosen response is the better one at each prefix length, () where only the complete ones have a label;
    `label_smoothing` is the probability that the label is wrong.

    >>> TokenPair(prompt_ids=(0,), chosen_ids=(5, 6, 1), rejected_ids=(5, 7, 1)).num_common
    1
    """

    prompt_ids: Ids
    chosen_ids: Ids
    rejected_ids: Ids
    margin: float = 0.0
    weight: float = 1.0
    branch: int = 0
    marks: tuple[float, ...] = ()
    labels: tuple[float, ...] = ()
    label_smoothing: float = 0.0

    @property
    def answers(self) -> tuple[Ids, ...]:
        return self.chosen_ids, self.rejected_ids

    @property
    def num_common(self) -> int:
        """Number of leading response tokens that both sides share."""
        shared = 0
        for a, b in zip(self.chosen_ids, self.rejected_ids, strict=False):
            if a != b:
                break
            shared += 1
        return max(shared, self.branch)

    @property
    def num_tokens(self) -> int:
        return 2 * len(self.prompt_ids) + len(self.chosen_ids) + len(self.rejected_ids)


@dataclass(frozen=True)
class TokenText:
    """A response with a label in [0, 1], or a score, as token ids; another policy than the base LM wrote its first `num_guided` tokens."""

    prompt_ids: Ids
    response_ids: Ids
    label: float
    weight: float = 1.0
    num_guided: int = 0

    @property
    def answers(self) -> tuple[Ids, ...]:
        return (self.response_ids,)

    @property
    def num_tokens(self) -> int:
        return len(self.prompt_ids) + len(self.response_ids)


Item = TokenPair | TokenText


def items_hash(items: Sequence[Item]) -> str:
    """SHA-256 of the ids and labels of all items, in order."""
    digest = hashlib.sha256()
    for item in items:
        labels = (item.label, *filter(None, [item.num_guided])) if isinstance(item, TokenText) else (*filter(None, [item.labels]),)
        content = [item.prompt_ids, *item.answers, *labels]
        digest.update(json.dumps(content, separators=(",", ":")).encode())
    return digest.hexdigest()


@dataclass(frozen=True)
class _Tensors:
    def to(self, device: torch.device) -> Self:
        return replace(self, **{f.name: getattr(self, f.name).to(device) for f in fields(self)})


@dataclass(frozen=True)
class PairBatch(_Tensors):
    """`ids` (2 * pairs, length): all chosen rows, then all rejected rows. `marks` and `labels` are (pairs, positions), the rest (pairs,)."""

    ids: Tensor
    prompt_lengths: Tensor
    chosen_lengths: Tensor
    rejected_lengths: Tensor
    num_common: Tensor
    margins: Tensor
    weights: Tensor
    smoothings: Tensor
    marks: Tensor
    labels: Tensor


@dataclass(frozen=True)
class TextBatch(_Tensors):
    """`ids` (texts, length), a text a row; the rest is (texts,)."""

    ids: Tensor
    prompt_lengths: Tensor
    lengths: Tensor
    labels: Tensor
    weights: Tensor
    num_guided: Tensor


def collate_pairs(pairs: Sequence[TokenPair], pad_id: int, end_id: int | None = None) -> PairBatch:
    """A padded batch of pairs. With `end_id` the shorter response of a pair is padded with end tokens to the longer (as in PARGS).

    >>> collate_pairs([TokenPair((0,), (5, 1), (7, 8, 1))], 2).ids.tolist()
    [[0, 5, 1, 2], [0, 7, 8, 1]]
    """
    sides = [(p.chosen_ids, p.rejected_ids) for p in pairs]
    if end_id is not None:
        longest = [max(map(len, side)) for side in sides]
        sides = [(a + (end_id,) * (n - len(a)), b + (end_id,) * (n - len(b))) for (a, b), n in zip(sides, longest, strict=True)]
    rows = [p.prompt_ids + side[which] for which in (0, 1) for p, side in zip(pairs, sides, strict=True)]
    width = max(max(map(len, side)) for side in sides)
    return PairBatch(
        ids=pad_right(rows, pad_id),
        prompt_lengths=torch.tensor([len(p.prompt_ids) for p in pairs]),
        chosen_lengths=torch.tensor([len(chosen) for chosen, _ in sides]),
        rejected_lengths=torch.tensor([len(rejected) for _, rejected in sides]),
        num_common=torch.tensor([p.num_common for p in pairs]),
        margins=torch.tensor([p.margin for p in pairs], dtype=torch.float32),
        weights=torch.tensor([p.weight for p in pairs], dtype=torch.float32),
        smoothings=torch.tensor([p.label_smoothing for p in pairs], dtype=torch.float32),
        marks=torch.tensor([_padded(p.marks, width) for p in pairs], dtype=torch.float32),
        labels=torch.tensor([_padded(p.labels, width) for p in pairs], dtype=torch.float32),
    )


def _padded(values: Sequence[float], width: int) -> list[float]:
    return [*values[:width], *[1.0] * (width - len(values))]


def collate_texts(texts: Sequence[TokenText], pad_id: int) -> TextBatch:
    return TextBatch(
        ids=pad_right([t.prompt_ids + t.response_ids for t in texts], pad_id),
        prompt_lengths=torch.tensor([len(t.prompt_ids) for t in texts]),
        lengths=torch.tensor([len(t.response_ids) for t in texts]),
        labels=torch.tensor([t.label for t in texts], dtype=torch.float32),
        weights=torch.tensor([t.weight for t in texts], dtype=torch.float32),
        num_guided=torch.tensor([t.num_guided for t in texts]),
    )


def texts_of(pair: TokenPair) -> tuple[TokenText, TokenText]:
    """A pair as two labelled texts, chosen 1 and rejected 0."""
    chosen, rejected = (TokenText(pair.prompt_ids, ids, label, pair.weight) for ids, label in ((pair.chosen_ids, 1.0), (pair.rejected_ids, 0.0)))
    return chosen, rejected


@dataclass(frozen=True)
class Share:
    """The share of one process in one step: its items, and the total weight of all processes' items."""

    items: tuple[Item, ...]
    total: float


def plan(items: Sequence[Item], size: int, num_steps: int, seed: int, num_processes: int = 1) -> list[Share]:
    """All steps of a training: step s of process r is entry s * num_processes + r. Batches are the same for any number of processes.

    >>> [len(share.items) for share in plan([TokenPair((0,), (1,), (2,))] * 5, size=4, num_steps=2, seed=0, num_processes=2)]
    [2, 2, 2, 2]
    """
    rng = random.Random(seed)
    batches: list[list[Item]] = []
    size = min(size, len(items))
    while len(batches) < num_steps:
        batches += pair_batches(items, size, rng)
    shares = []
    for batch in batches[:num_steps]:
        total = sum(item.weight for item in batch)
        for rank in range(num_processes):
            own_items = batch[rank::num_processes] or [replace(batch[0], weight=0.0)]  # every process takes part in every step
            shares.append(Share(tuple(own_items), total))
    return shares


def pad_right(rows: Sequence[Ids], pad_id: int) -> Tensor:
    """Rows padded on the right: [(5, 6), (7,)] -> [[5, 6], [7, pad]]."""
    width = max(map(len, rows))
    return torch.tensor([list(row) + [pad_id] * (width - len(row)) for row in rows])


def token_batches(rows: Sequence[Ids], tokens_per_batch: int, rng: random.Random, pool: int = 50) -> Iterator[list[Ids]]:
    """One epoch over `rows` in random order, rows of similar length together, each batch with at most `tokens_per_batch` padded tokens.

    Rows are sorted within pools of about `pool` batches, so that batches stay random with little padding.
    """
    order = list(range(len(rows)))
    rng.shuffle(order)
    average = sum(map(len, rows)) / len(rows)
    step = max(1, int(pool * tokens_per_batch / average))
    for start in range(0, len(order), step):
        batches: list[list[Ids]] = []
        batch: list[Ids] = []
        for i in sorted(order[start : start + step], key=lambda i: len(rows[i])):
            if batch and (len(batch) + 1) * len(rows[i]) > tokens_per_batch:
                batches.append(batch)
                batch = []
            batch.append(rows[i])
        batches.append(batch)
        rng.shuffle(batches)
        yield from batches


def pair_batches(pairs: Sequence[Item], size: int, rng: random.Random, pool: int = 20) -> Iterator[list[Item]]:
    """One epoch over `pairs` in random order, pairs of similar length together, `size` at a time; a random remainder is left out."""
    order = list(range(len(pairs)))
    rng.shuffle(order)
    del order[len(order) // size * size :]  # before sorting: the longest pairs would be left out each time
    for start in range(0, len(order), pool * size):
        part = sorted(order[start : start + pool * size], key=lambda i: pairs[i].num_tokens)
        batches = [part[i : i + size] for i in range(0, len(part), size)]
        rng.shuffle(batches)
        for batch in batches:
            yield [pairs[i] for i in batch]
