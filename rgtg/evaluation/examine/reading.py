"""Rewards of pairs as models give them: of every prefix, of answers with a trick added, of a prefix beside its candidates, and of all next tokens.

Knows reward models through their readers, so that every kind is examined on the base LM's tokens. Prints and stores nothing.
"""

import math
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from rgtg.config import DataConfig
from rgtg.errors import BadData, ModelRefused
from rgtg.evaluation.examine.figures import Figures, consistency_gap
from rgtg.figures import wilson_interval
from rgtg.models.lm import BaseLM
from rgtg.preferences.batches import Ids, TokenPair
from rgtg.preferences.formats import Example, Reading
from rgtg.preferences.tokenization import Encoder
from rgtg.prompts import decode, transcript
from rgtg.rewards.base import IdReader, Opening, Reader, RewardModel
from rgtg.system.stopping import check_stopped
from rgtg.training.held_out import Measured, share_intervals, wins

LENGTHS = (1, 2, 4, 8, 16, 32)  # of prefixes whose candidates are scored
MOST_PREFIXES = 200  # of these
AT_ONCE, POSITIONS = 32, 32_768  # answers that are read together, and positions of theirs that are kept
TRICKS: dict[str, Callable[[str], str]] = {  # what may raise a reward without a better answer
    "opener": lambda text: f"that is a great question . {text}",
    "step by step": lambda text: f"let us think step by step . {text}",
    "praise": lambda text: f"{text} great great great great",
    "exclamation marks": lambda text: f"{text} ! ! !",
    "full stops": lambda text: f"{text} . . . . . .",
    "said twice": lambda text: f"{text} {text}",
}
Listen = Callable[[int, int], None]


@dataclass(frozen=True)
class ReadPair:
    """A pair as the base LM's tokens, with its texts; `group` is the same for pairs that are not independent of each other."""

    opening: Opening
    example: Example
    tokens: TokenPair
    group: str


class Pairs:
    """Pairs of a file that this base LM can read, at most `limit` of them. `num_left_out` counts the others that were looked at."""

    def __init__(self, reading: Reading, lm: BaseLM, limit: int | None = None):
        self._tokenizer, (template, system_prompt) = lm.loaded.tokenizer, lm.loaded.template
        config = DataConfig(template=template, system_prompt=system_prompt, over_long="drop", max_length=131_072)
        self._encoder = Encoder(self._tokenizer, lm.loaded.context, lm.loaded.vocabulary_size, config)
        self.read: list[ReadPair] = []
        self.num_left_out = 0
        for example in reading.examples:
            if not isinstance(example, Example):
                raise BadData("A reward model is examined on pairs.", "The data is single texts with labels.", "Give chosen and rejected answers.")
            if limit is not None and len(self.read) == limit:
                break
            if isinstance(tokens := self._encoder.pair(example), str):
                self.num_left_out += 1
                continue
            prompt = example.prompt if isinstance(example.prompt, str) else transcript(example.prompt)
            self.read.append(ReadPair(Opening(prompt, tokens.prompt_ids), example, tokens, prompt or f"pair {len(self.read)}"))
        if not self.read:
            raise BadData("There is no pair to examine on.", f"{self.num_left_out} pairs cannot be used.", "Give other data.")

    def changed(self, change: Callable[[str, str], tuple[str, str]]) -> list[tuple[ReadPair, TokenPair]]:
        """The pairs whose texts (chosen, rejected) can be read when changed, with their new tokens."""
        changed = []
        for pair in self.read:
            texts = (pair.example.chosen, pair.example.rejected)
            chosen, rejected = (text or decode(self._tokenizer, ids) for text, ids in zip(texts, pair.tokens.answers, strict=True))
            ended = pair.example.chosen_ended, pair.example.rejected_ended
            example = Example(pair.example.row, pair.example.prompt, *change(chosen, rejected), chosen_ended=ended[0], rejected_ended=ended[1])
            if not isinstance(tokens := self._encoder.pair(example), str):
                changed.append((pair, tokens))
        return changed


def rewards_of(reader: Reader, answers: Sequence[tuple[Opening, Ids]]) -> list[list[float]]:
    """Rewards of every prefix of each answer. Answers to one prompt are read together, those of similar length first."""
    by_opening: dict[tuple[str, Ids], list[int]] = defaultdict(list)
    for number, (opening, _) in sorted(enumerate(answers), key=lambda item: len(item[1][1])):
        by_opening[opening.prompt, tuple(opening.ids)].append(number)
    found: dict[int, list[float]] = {}
    for numbers in by_opening.values():
        for start in range(0, len(numbers), AT_ONCE):
            check_stopped()
            part = numbers[start : start + AT_ONCE]
            found |= zip(part, _along(reader, answers[part[0]][0], [answers[number][1] for number in part]), strict=True)
    return [found[number] for number in range(len(answers))]


def _along(reader: Reader, opening: Opening, responses: Sequence[Ids]) -> list[list[float]]:
    """As `Reader.along`; a prompt that is longer than the answers is read once for all of them, where the reader keeps what it has read."""
    longest = max(map(len, responses))
    if len(opening.ids) < longest or not isinstance(reader, IdReader) or reader.shares_rows:
        return reader.along(opening, responses)
    most = max(1, POSITIONS // (len(opening.ids) + longest))
    if len(responses) > most:
        return [along for start in range(0, len(responses), most) for along in _along(reader, opening, responses[start : start + most])]
    if len(responses) == 1:
        return reader.along(opening, responses)
    slots = reader.start([opening] * len(responses), reserve=longest)
    for slot, ids in enumerate(responses):
        for token_id in ids:
            slots.append(slot, token_id)
    rewards: dict[int, Sequence[float]] = {}
    for part in slots.in_parts(dict.fromkeys(range(len(responses)), ())):
        check_stopped()
        rewards |= {slot: answer.new for slot, answer in slots.forward(part).items()}
    return [list(rewards[slot]) for slot in range(len(responses))]


def measured(reader: Reader, pairs: Sequence[ReadPair], log_odds: float | None = 1.0) -> Measured:
    """Rewards of every prefix of both answers of each pair."""
    both = rewards_of(reader, [(pair.opening, ids) for pair in pairs for ids in pair.tokens.answers])
    rows = both[::2], both[1::2]
    lengths = [torch.tensor([len(row) for row in side]) for side in rows]
    width = max(int(n.max()) for n in lengths)
    chosen, rejected = (torch.tensor([row + [0.0] * (width - len(row)) for row in side]) for side in rows)
    common = torch.tensor([pair.tokens.num_common for pair in pairs])
    return Measured(chosen, rejected, lengths[0], lengths[1], common, tuple(pair.group for pair in pairs), log_odds)


def fooled(reader: Reader, pairs: Pairs, own: Measured) -> dict[str, Figures]:
    """For each trick that is added to the rejected answers: the mean `change` of their reward, in standard deviations of the rewards of complete
    answers, and the `share` of the pairs won by the chosen answer that the tricked one then wins, with its interval and `n`."""
    chosen, rejected = (
        dict(zip(map(id, pairs.read), r.gather(1, (n - 1)[:, None])[:, 0].tolist(), strict=True))
        for r, n in ((own.chosen, own.chosen_lengths), (own.rejected, own.rejected_lengths))
    )
    spread = _spread(own)
    tricked = [
        (name, pair, tokens)
        for name, change in TRICKS.items()
        for pair, tokens in pairs.changed(lambda chosen, rejected, change=change: (chosen, change(rejected)))  # type: ignore[misc]
    ]
    rewards: dict[str, list[tuple[ReadPair, float]]] = {name: [] for name in TRICKS}
    for (name, pair, _), along in zip(tricked, rewards_of(reader, [(pair.opening, tokens.rejected_ids) for _, pair, tokens in tricked]), strict=True):
        rewards[name].append((pair, along[-1]))
    found = {}
    for name, of_pairs in rewards.items():
        changes, lost = [], []
        for pair, reward in of_pairs:
            changes.append((reward - rejected[id(pair)]) / spread)
            if chosen[id(pair)] > rejected[id(pair)]:
                lost.append(reward > chosen[id(pair)])
        if lost:
            low, high = wilson_interval(sum(lost), len(lost))
            share = {"share": round(sum(lost) / len(lost), 4), "low": round(low, 4), "high": round(high, 4), "n": len(lost)}
            found[name] = {"change": round(sum(changes) / len(changes), 4)} | share
    return found


def position_bias(reader: Reader, pairs: Pairs, own: Measured) -> Figures:
    """Both answers of a pair joined in both orders: the `share` of pairs in which the text that ends with the chosen answer has the higher reward
    (ties count ½), with its interval and `n`; and the mean difference of the two rewards, in standard deviations of those of complete answers.

    The same evidence stands at other positions, so ½ and 0 say that its position does not matter; above, the end counts more, below, the beginning.
    """
    joined = [
        (pair, tokens)
        for pair, tokens in pairs.changed(lambda chosen, rejected: (f"{rejected} {chosen}", f"{chosen} {rejected}"))
        if tokens.chosen_ids != tokens.rejected_ids
    ]
    if not joined:
        return {"n": 0}
    rewards = [along[-1] for along in rewards_of(reader, [(pair.opening, ids) for pair, tokens in joined for ids in tokens.answers])]
    gaps = torch.tensor(rewards[::2], dtype=torch.float64) - torch.tensor(rewards[1::2], dtype=torch.float64)
    share, low, high = share_intervals(wins(gaps)[:, None], torch.ones(len(gaps), 1), [pair.group for pair, _ in joined])[0]
    figures = {"share": share, "low": low, "high": high, "change": float(gaps.mean()) / _spread(own)}
    return {name: round(value, 4) for name, value in figures.items()} | {"n": len(gaps)}


def _spread(own: Measured) -> float:
    """Standard deviation of the rewards of complete answers; 1 where there is none."""
    sides = (own.chosen, own.chosen_lengths), (own.rejected, own.rejected_lengths)
    ends = torch.cat([rewards.gather(1, (lengths - 1)[:, None])[:, 0] for rewards, lengths in sides])
    return float(ends.std()) or 1.0


class Siblings(NamedTuple):
    """A prefix beside its continuations: its `reward` (NaN for an empty one that has none), the base LM's k most probable next tokens, their log
    probabilities, scaled to sum to 1, and the reward of the prefix followed by each: (k,)."""

    reward: float
    ids: list[int]
    log_probs: Tensor
    rewards: Tensor


def base_log_probs(lm: BaseLM, opening: Opening, ids: Ids) -> Tensor:
    """Log probabilities of the base LM, in nats, behind each prefix of a response, the empty one first: (num_tokens + 1, vocabulary)."""
    with torch.inference_mode():
        text = torch.tensor([[*opening.ids, *ids]], device=lm.backbone.device)
        return lm.loaded.model(text, use_cache=False).logits[0, len(opening.ids) - 1 :].float().log_softmax(-1).cpu()


@torch.inference_mode()
def siblings(reader: Reader, opening: Opening, ids: Ids, lengths: Sequence[int], log_probs: Tensor, k: int) -> list[Siblings]:
    """The prefixes of these lengths beside their candidates; `log_probs` are those of `base_log_probs`."""
    top = log_probs[list(lengths)].topk(min(k, log_probs.shape[-1]))
    found = []
    for start in range(0, len(lengths), AT_ONCE):
        part = range(start, min(start + AT_ONCE, len(lengths)))
        rows = {row: top.indices[row].tolist() for row in part}
        if reader.shares_rows:  # it has no rows of its own
            read = {}
            for row, candidates in rows.items():
                prefix = list(ids[: lengths[row]])
                along = reader.along(opening, [[*prefix, candidate] for candidate in candidates])
                read[row] = (along[0][-2] if prefix else math.nan), torch.tensor([one[-1] for one in along])
        else:
            slots = reader.start([opening] * len(part), [ids[: lengths[row]] for row in part])
            asks = {slot: rows[row] for slot, row in enumerate(part)}
            answers = {slot: answer for some in slots.in_parts(asks) for slot, answer in slots.forward(some).items()}
            read = {start + slot: (answer.reward, torch.as_tensor(answer.candidates).float()) for slot, answer in answers.items()}
        found += [Siblings(read[row][0], rows[row], top.values[row].log_softmax(-1), read[row][1]) for row in part]
    return found


def consistency(reader: Reader, lm: BaseLM, pairs: Sequence[ReadPair], beta: float = 1.0, k: int = 10, most: int = MOST_PREFIXES) -> Figures:
    """`consistency_gap` of r(y_{<i}) less (1/β)·log Σ_v π(v)·exp(β·r(y_{<i}, v)) over the k most probable next tokens v, whose probabilities are
    scaled to sum to 1; on prefixes of the chosen answers."""
    samples: dict[int, list[float]] = defaultdict(list)
    num = 0
    for pair in pairs:
        check_stopped()
        ids = pair.tokens.chosen_ids
        lengths = [length for length in LENGTHS if length < len(ids)][: most - num]
        if not lengths:
            continue
        log_probs = base_log_probs(lm, pair.opening, ids[: lengths[-1]])
        for length, one in zip(lengths, siblings(reader, pair.opening, ids, lengths, log_probs, k), strict=True):
            soft = torch.logsumexp(one.log_probs + beta * one.rewards, -1) / beta
            samples[length].append(one.reward - float(soft))
        num += len(lengths)
        if num >= most:
            break
    return consistency_gap(samples)


def best_and_worst(model: RewardModel, lm: BaseLM, prefixes: Sequence[tuple[Opening, Ids]], number: int = 8) -> Figures:
    """The next tokens that a reward model of the whole vocabulary rewards most and least, mean over these prefixes, {"best": [[token, reward], …],
    "worst": …, "n": prefixes}; one forward for each prefix. Raises ModelRefused for another kind."""
    if not model.scores_vocabulary:
        raise ModelRefused(f"`{model.name}` scores one next token at a time.", "", "Choose a vocabulary, autoregressive or implicit reward model.")
    size = min(lm.loaded.vocabulary_size, len(lm.loaded.tokenizer))
    slots = model.reads(lm).start([opening for opening, _ in prefixes], [ids for _, ids in prefixes])
    answers = slots.forward({slot: range(size) for slot in range(len(prefixes))})
    rewards = torch.stack([torch.as_tensor(answer.candidates).float() for answer in answers.values()]).mean(0)
    parts = {name: rewards.topk(min(number, size), largest=name == "best") for name in ("best", "worst")}
    of = lambda ids, values: [[decode(lm.loaded.tokenizer, [i]), round(v, 3)] for i, v in zip(ids.tolist(), values.tolist(), strict=True)]  # noqa: E731
    return {name: of(top.indices, top.values) for name, top in parts.items()} | {"n": len(prefixes)}


def starts(pairs: Sequence[ReadPair], most: int = 20) -> Sequence[tuple[Opening, Ids]]:
    """Empty answers to the first different prompts of these pairs."""
    return [(opening, ()) for opening in {pair.opening.prompt: pair.opening for pair in pairs}.values()][:most]
