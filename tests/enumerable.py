"""A language model and a reward model small enough to write down every answer: 4 words and an end, at most 4 tokens, 341 answers."""

import itertools
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from functools import cached_property
from types import SimpleNamespace
from typing import Any

import torch

from rgtg.config import GenerationConfig
from rgtg.engine import Ended, Models, generate
from rgtg.guidance.methods import METHODS
from rgtg.prompts import TokenTexts
from rgtg.records import ModelRef, Run, Step
from rgtg.rewards.base import SlotRewards

END, LENGTH, SIZE = 4, 4, 5
Answer = tuple[int, ...]


def prefixes() -> list[Answer]:
    """Every text that can go on: no end in it, shorter than the longest."""
    return [ids for n in range(LENGTH) for ids in itertools.product(range(END), repeat=n)]


def answers() -> list[Answer]:
    """Every complete answer."""
    ended = [(*ids, END) for ids in prefixes()]
    return ended + list(itertools.product(range(END), repeat=LENGTH))


def log_probs_of(logits: Mapping[Answer, Sequence[float]]) -> dict[Answer, float]:
    """The reward that a language model with these logits gives: the log probability of every prefix and answer."""
    sums = {(): 0.0}
    for ids in sorted({*prefixes(), *answers()} - {()}, key=len):
        row = logits[ids[:-1]]
        sums[ids] = sums[ids[:-1]] + row[ids[-1]] - math.log(sum(map(math.exp, row)))
    return sums


def drawn_model(seed: int = 0) -> tuple[dict[Answer, list[float]], dict[Answer, float]]:
    """Logits of every prefix, and the reward of every prefix and answer, the empty one included."""
    generator = torch.Generator().manual_seed(seed)
    logits = {ids: (1.5 * torch.randn(SIZE, generator=generator, dtype=torch.float64)).tolist() for ids in prefixes()}
    rewards = {ids: float(torch.randn((), generator=generator, dtype=torch.float64)) for ids in sorted({*prefixes(), *answers()})}
    return logits, rewards


class _Tokenizer:
    all_special_ids: tuple[int, ...] = ()
    eos_token_id = END

    def decode(self, ids: Sequence[int], **_: object) -> str:
        return "".join("abcd."[i] for i in ids)

    def convert_ids_to_tokens(self, token_id: int) -> str:
        return "abcd."[token_id]


class _Batch:
    """What follows the rows: a list of tokens a slot."""

    def __init__(self, responses: Sequence[Sequence[int]]):
        self.texts, self.num_forwards = [tuple(response) for response in responses], 0
        self.read = [0] * len(self.texts)  # tokens of each that a reward model has spoken of

    def in_parts(self, asks: Mapping[int, Sequence[int]]) -> list[Mapping[int, Sequence[int]]]:
        return [asks]

    caches, remark = (), ""

    def unread(self, asks: Any) -> Any:
        return asks

    def append(self, slot: int, token_id: int) -> None:
        self.texts[slot] += (token_id,)

    def copy(self, sources: Sequence[int], targets: Sequence[int]) -> None:
        before = [(self.texts[source], self.read[source]) for source in sources]
        for target, (text, read) in zip(targets, before, strict=True):
            self.texts[target], self.read[target] = text, read

    def truncate(self, slot: int, num_tokens: int) -> None:
        self.texts[slot], self.read[slot] = self.texts[slot][:num_tokens], min(self.read[slot], num_tokens)


class _Model:
    def __init__(self, name: str):
        self.name = name
        self.loaded = SimpleNamespace(ref=ModelRef(name), tokenizer=_Tokenizer(), end_ids=lambda writer: {}, template=("plain", ""), num_tokens=SIZE)
        self.loaded.encode_prompt = lambda text: (0,)
        self.loaded.eos_ids, self.loaded.silent_ids, self.loaded.closing = frozenset({END}), frozenset({END}), (END,)


class ToyLM(_Model):
    def __init__(self, logits: Mapping[Answer, Sequence[float]]):
        super().__init__("toy")
        self.logits = {ids: torch.tensor(row) for ids, row in logits.items()}
        self.token_texts = TokenTexts(self.loaded.tokenizer)

    def behind(self, prompt: Sequence[int]) -> Mapping[Answer, torch.Tensor]:
        """The logits behind a prompt: the same for every one here."""
        return self.logits

    def start(self, prompts: Sequence, responses: Sequence, reserve: int) -> "_Batch":
        batch, logits = _Batch(responses), list(map(self.behind, prompts))

        def forward(slots: Sequence[int]) -> torch.Tensor:
            batch.num_forwards += 1
            return torch.stack([logits[slot][batch.texts[slot]] for slot in slots])

        def logits_before(asks: Mapping[int, int]) -> dict[int, torch.Tensor]:
            batch.num_forwards += 1
            return {slot: torch.stack([logits[slot][batch.texts[slot][:-i]] for i in range(num, 0, -1)]) for slot, num in asks.items()}

        batch.forward, batch.logits_before = forward, logits_before
        return batch


class ToyReward(_Model):
    shares_rows = False
    guides = True

    def __init__(self, rewards: Mapping[Answer, float], name: str = "reward"):
        super().__init__(name)
        self.rewards = rewards

    def reads(self, lm: ToyLM) -> "ToyReward":
        return self

    def start(self, openings: Sequence, responses: Sequence, reserve: int) -> "_Batch":
        batch, rewards = _Batch(responses), self.rewards

        def forward(asks: Mapping[int, Sequence[int]]) -> dict[int, SlotRewards]:
            batch.num_forwards += 1
            found = {}
            for slot, ids in asks.items():
                text = batch.texts[slot]
                new = [rewards[text[:n]] for n in range(batch.read[slot] + 1, len(text) + 1)]
                batch.read[slot] = len(text)
                found[slot] = SlotRewards(new, rewards[text], [rewards[(*text, token)] for token in ids])
            return found

        batch.forward = forward
        return batch


class Toy:
    """Both models, and what can be said of them exactly."""

    def __init__(self, logits: Mapping[Answer, Sequence[float]], rewards: Mapping[Answer, float], **others: Mapping[Answer, float]):
        """`others` are the rewards of further reward models by name."""
        self.logits, self.rewards = dict(logits), dict(rewards)
        self.models = Models(ToyLM(logits), {name: ToyReward(its, name) for name, its in {"reward": rewards, **others}.items()})

    def run(
        self, method: str, seed: int = 0, forced: Answer = (), temperature: float = 1.0, top_k: int = SIZE, top_p: float = 1.0,
        mix: Sequence[tuple[str, float]] = (("reward", 1.0),), length: int = LENGTH, **params: object,
    ) -> Run:  # fmt: skip
        rule = METHODS[method].make(tuple(params.items()))
        values = tuple((p.name, getattr(rule, p.name)) for p in METHODS[method].parameters)
        guides = tuple((ModelRef(name), weight) for name, weight in mix) if rule.uses_reward else ()
        generation = GenerationConfig(max_new_tokens=length, top_k=top_k, top_p=top_p, temperature=temperature)
        return Run("", method, ModelRef("toy"), values, guides, generation=generation, seed=seed, prompt_ids=(0,), forced_ids=forced)

    def write(self, runs: Sequence[Run], refusals: bool = False) -> list[list[Step]]:
        steps: list[list[Step]] = [[] for _ in runs]
        for column, event in generate(runs, self.models):
            if isinstance(event, Step):
                steps[column].append(event)
            else:
                assert not isinstance(event, Ended) or not event.error or refusals, event
        return steps

    def shares(self, method: str, num: int, **settings: object) -> dict[Answer, float]:
        """The share of every answer among so many seeds."""
        counts: Counter[Answer] = Counter()
        for start in range(0, num, 500):
            runs = [self.run(method, seed, **settings) for seed in range(start, min(num, start + 500))]
            counts.update(tuple(s.token_id for s in steps) for steps in self.write(runs))
        return {answer: count / num for answer, count in counts.items()}

    def by_steps(self, method: str, **settings: object) -> dict[Answer, float]:
        """The probability of every answer under a token rule, from what it says of the candidates behind every prefix: one token each."""
        runs = [self.run(method, forced=ids, length=len(ids) + 1, **settings) for ids in prefixes()]
        steps = zip(prefixes(), self.write(runs, refusals=True), strict=True)  # refused behind a token that was no candidate
        after = {ids: {c.token_id: c.prob_after for c in found[-1].candidates} for ids, found in steps if found}
        return {a: math.prod(after.get(a[:i], {}).get(token, 0.0) for i, token in enumerate(a)) for a in answers()}

    # --- exactly, in plain Python -------------------------------------------------------------------------------------

    def next_probs(self, ids: Answer, temperature: float = 1.0) -> list[float]:
        weights = [math.exp(z / temperature) for z in self.logits[ids]]
        return [w / sum(weights) for w in weights]

    @cached_property
    def base(self) -> dict[Answer, float]:
        return {a: math.prod(self.next_probs(a[:i])[token] for i, token in enumerate(a)) for a in answers()}

    def shifted(self, beta: float) -> dict[Answer, float]:
        """Each token from p(v) exp(beta r(v)), normalised: the closed form of a reward shift."""

        def probs(ids: Answer) -> list[float]:
            weights = [p * math.exp(beta * self.rewards[(*ids, v)]) for v, p in enumerate(self.next_probs(ids))]
            return [w / sum(weights) for w in weights]

        return {a: math.prod(probs(a[:i])[token] for i, token in enumerate(a)) for a in answers()}

    def tilted(self, beta: float) -> dict[Answer, float]:
        """p(y) exp(beta r(y)) / Z: the target of particles."""
        weights = {a: p * math.exp(beta * self.rewards[a]) for a, p in self.base.items()}
        total = sum(weights.values())
        return {a: w / total for a, w in weights.items()}

    def best_of(self, n: int) -> dict[Answer, float]:
        """P(best of n) = F(r)^n - F(below r)^n, all rewards being different."""
        found, below = {}, 0.0
        for answer in sorted(answers(), key=self.rewards.__getitem__):
            found[answer] = (below + self.base[answer]) ** n - below**n
            below += self.base[answer]
        return found

    def block_best_of(self, k: int, block: int) -> dict[Answer, float]:
        """Blocks in turn, each the best of k."""
        found: Counter[Answer] = Counter()

        def extend(ids: Answer, mass: float) -> None:
            if ids and (ids[-1] == END or len(ids) == LENGTH):
                found[ids] += mass
                return
            below = 0.0
            for end, p in sorted(self._blocks(ids, block), key=lambda one: self.rewards[one[0]]):
                extend(end, mass * ((below + p) ** k - below**k))
                below += p

        extend((), 1.0)
        return dict(found)

    def _blocks(self, ids: Answer, block: int) -> list[tuple[Answer, float]]:
        ends = [(ids, 1.0)]
        for _ in range(block):
            longer = []
            for text, p in ends:
                over = text[-1:] == (END,) or len(text) == LENGTH
                longer += [(text, p)] if over else [((*text, v), p * q) for v, q in enumerate(self.next_probs(text))]
            ends = longer
        return ends

    def cards(self, temperature: float = 1.0, **params: object) -> dict[Answer, float]:
        """Segment by segment: the chance of being kept at one of the tries, and of being the best of all where none was."""
        rule, found = METHODS["cards"].make(tuple(params.items())), Counter()

        def extend(ids: Answer, mass: float) -> None:
            if ids and (ids[-1] == END or len(ids) == LENGTH):
                found[ids] += mass
                return
            for end, p in self.segment_probs(ids, rule, temperature).items():
                extend(end, mass * p)

        extend((), 1.0)
        return dict(found)

    def segment_probs(self, ids: Answer, rule, temperature: float) -> dict[Answer, float]:
        segments: dict[Answer, float] = {}

        def write(text: Answer, p: float) -> None:
            length = len(text) - len(ids)
            over = text[-1:] == (END,) or len(text) == LENGTH or length >= rule.max_segment
            if (length and over) or (length >= rule.min_segment and self.entropy(text) >= rule.entropy):
                segments[text] = p
                return
            for v, q in enumerate(self.next_probs(text, temperature)):
                write((*text, v), p * q)

        write(ids, 1.0)
        kept = {}
        for end in segments:
            reward, threshold = self.rewards[end], rule.threshold_at(len(end), self.rewards[()], LENGTH)
            soft = 1.0 if reward >= threshold else math.exp((reward - threshold) / rule.accept_temperature)
            kept[end] = soft if rule.form == "soft" else float(reward >= threshold)
        refused = {end: p * (1 - kept[end]) for end, p in segments.items()}
        share = sum(refused.values())
        final = {end: p * kept[end] * sum(share**i for i in range(rule.tries)) for end, p in segments.items()}
        # none of `tries` was kept: the best of them, each drawn from what is refused, and of one more, drawn freely
        below_refused = below = 0.0
        for end in sorted(segments, key=self.rewards.__getitem__):
            upto_refused, upto = below_refused + refused[end], below + segments[end]
            final[end] += upto_refused**rule.tries * upto - below_refused**rule.tries * below
            below_refused, below = upto_refused, upto
        return final

    def entropy(self, ids: Answer) -> float:
        return -sum(p * math.log(p) for p in self.next_probs(ids))


def distance(found: Mapping[Answer, float], wanted: Mapping[Answer, float]) -> float:
    """Total variation."""
    return sum(abs(found.get(a, 0.0) - wanted.get(a, 0.0)) for a in {*found, *wanted}) / 2


def by_chance(wanted: Mapping[Answer, float], num: int) -> float:
    """Total variation that so many independent draws from the target itself have on average, and a third more."""
    return 4 / 3 * sum(math.sqrt(2 * p * (1 - p) / (math.pi * num)) for p in wanted.values()) / 2
