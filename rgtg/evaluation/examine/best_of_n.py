"""Best of n: how often the reward model puts a correct answer first among several, from files in the layouts of RewardBench.

Rows have `prompt`, `chosen` and `rejected`, each side one answer or a list of them, and, if given, `subset` and `id`. Knows rewards of complete
answers; the readers of models come from outside.
"""

import math
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rgtg.config import DataConfig
from rgtg.errors import BadData
from rgtg.evaluation.examine.figures import Figures
from rgtg.figures import wilson_interval
from rgtg.models.lm import BaseLM
from rgtg.preferences.batches import Ids
from rgtg.preferences.items.examples import Labelled
from rgtg.preferences.rows import Rows
from rgtg.preferences.tokenization import Encoder
from rgtg.preferences.turns import Prompt, messages
from rgtg.prompts import transcript
from rgtg.rewards.base import Opening

KNOWN = frozenset(("prompt", "chosen", "rejected", "subset", "id"))
REFERENCE, TIED = "ref", "tied"  # before the colon of an `id` in the Ties subset of RewardBench 2
SHAPE = "A row has `prompt`, `chosen` and `rejected`, and a side is an answer or a list of answers."


@dataclass(frozen=True)
class Item:
    """A prompt with its answers, the `num_correct` correct ones first. `name` is the row's id, "" where it has none."""

    prompt: Prompt
    answers: tuple[str, ...]
    num_correct: int
    subset: str = ""
    name: str = ""

    @property
    def kind(self) -> str:
        """REFERENCE, TIED, or "" for an item outside the Ties subset."""
        kind = self.name.partition(":")[0]
        return kind if ":" in self.name and kind in (REFERENCE, TIED) else ""


def read_items(source: str | Path, limit: int | None = None) -> list[Item]:
    """The items of a file, a folder or a hub data set, at most `limit`. Raises BadData naming the row that cannot be read."""
    found: list[Item] = []
    for numbered in Rows(source, "test", KNOWN):
        if limit is not None and len(found) == limit:
            break
        row = numbered.row
        sides = [_answers(row.get(side)) for side in ("chosen", "rejected")] if isinstance(row, Mapping) else [(), ()]
        if not all(sides):
            raise BadData(f"Row {numbered.number} of `{source}` is no choice among answers.", f"Found {row!r:.120}.", SHAPE)
        prompt = row.get("prompt") or ""
        prompt = prompt if isinstance(prompt, str) else messages(prompt, "prompt")
        found.append(Item(prompt, (*sides[0], *sides[1]), len(sides[0]), str(row.get("subset") or ""), str(row.get("id") or "")))
    if not found:
        raise BadData(f"`{source}` holds no choices among answers.", "It has no rows.", SHAPE)
    return found


def _answers(value: Any) -> tuple[str, ...]:
    """The answers of one side; () where it is something else."""
    answers = (value,) if isinstance(value, str) else tuple(value) if isinstance(value, Iterable) and not isinstance(value, Mapping) else ()
    return answers if all(isinstance(answer, str) and answer for answer in answers) else ()


Read = tuple[list[Item], list[list[tuple[Opening, Ids]]]]


def encoded(items: Sequence[Item], lm: BaseLM) -> Read:
    """The items all of whose answers this base LM can read, and for each the answers as its tokens, which end with its end token."""
    template, system_prompt = lm.loaded.template
    config = DataConfig(template=template, system_prompt=system_prompt, over_long="drop", max_length=131_072)
    encoder = Encoder(lm.loaded.tokenizer, lm.loaded.context, lm.loaded.vocabulary_size, config)
    kept, answers = [], []
    for item in items:
        texts = [encoder.text(Labelled(0, item.prompt, answer)) for answer in item.answers]
        if (tokens := [text for text in texts if not isinstance(text, str)]) and len(tokens) == len(texts):
            prompt = item.prompt if isinstance(item.prompt, str) else transcript(item.prompt)
            kept.append(item)
            answers.append([(Opening(prompt, one.prompt_ids), one.response_ids) for one in tokens])
    if not kept:
        raise BadData("No item can be read by this base LM.", f"Found {len(items):,}.", "Give shorter answers, or another base LM.")
    return kept, answers


def scored(read: Read, rewards_of: Callable[[Sequence[tuple[Opening, Ids]]], list[list[float]]]) -> Figures:
    """`best_of_n` of the rewards that `rewards_of` gives to answers, of every prefix."""
    items, answers = read
    flat = iter([along[-1] for along in rewards_of([one for group in answers for one in group])])
    return best_of_n(items, [[next(flat) for _ in group] for group in answers])


def best_of_n(items: Sequence[Item], rewards: Sequence[Sequence[float]]) -> Figures:
    """{"subsets": {name: {"accuracy", "low", "high", "n", "tied", "chance"}}, "average": mean of the subsets, "ties": `ties_score` if there is any}.

    An item counts 1 / (number of answers that share the highest reward) where a correct one is among them, else 0, as in RewardBench 2
    (arXiv 2506.01937); with several correct answers the share of correct ones among them. `tied` is the number of items of which several answers
    share the highest reward, and `chance` the accuracy of a random choice. Items of the Ties subset are in `ties` alone.
    """
    by_subset: dict[str, list[tuple[float, bool, float]]] = defaultdict(list)
    for item, values in zip(items, rewards, strict=True):
        if not item.kind:
            first = [number for number, value in enumerate(values) if value == max(values)]
            credit = sum(number < item.num_correct for number in first) / len(first)
            by_subset[item.subset].append((credit, len(first) > 1, item.num_correct / len(values)))
    subsets: dict[str, Figures] = {}
    for name, credits in by_subset.items():
        n = len(credits)
        low, high = wilson_interval(sum(credit for credit, _, _ in credits), n)
        figures = {"accuracy": sum(credit for credit, _, _ in credits) / n, "low": low, "high": high, "chance": sum(c for *_, c in credits) / n}
        subsets[name] = {key: round(value, 4) for key, value in figures.items()} | {"n": n, "tied": sum(tied for _, tied, _ in credits)}
    report: Figures = {"num_items": len(items), "subsets": subsets}
    ties = ties_score(items, rewards)
    scores = [figures["accuracy"] for figures in subsets.values()] + ([ties["score"]] if ties else [])
    return report | {"average": round(sum(scores) / len(scores), 4)} | ({"ties": ties} if ties else {})


def ties_score(items: Sequence[Item], rewards: Sequence[Sequence[float]]) -> Figures:
    """The weighted score of the Ties subset of RewardBench 2 (arXiv 2506.01937, `process_single_model` of allenai/reward-bench), {} without such
    items: 0.3 · accuracy on prompts with several correct answers (all of them above every wrong one), 0.3 · that on the reference prompts with one,
    0.2 · share of prompts where the gap between correct and wrong answers is larger than that among correct ones, 0.2 · the same with the smaller
    gap of the prompt and its reference, and 0.01 · the mean of tanh(that gap / gap among correct ones − 1).
    """
    gaps: dict[str, dict[str, tuple[float, float]]] = {REFERENCE: {}, TIED: {}}
    for item, values in zip(items, rewards, strict=True):
        if item.kind and item.num_correct < len(values):
            correct, wrong = values[: item.num_correct], values[item.num_correct :]
            gaps[item.kind][item.name.partition(":")[2]] = max(correct) - min(correct), min(correct) - max(wrong)
    if not gaps[REFERENCE] and not gaps[TIED]:
        return {}
    accuracy = {kind: _mean([gap > 0 for _, gap in found.values()]) for kind, found in gaps.items()}
    both = [(*gaps[TIED][name], gaps[REFERENCE][name][1]) for name in gaps[TIED] if name in gaps[REFERENCE]]
    preferred = _mean([gap > among for among, gap, _ in both])
    hard = _mean([min(gap, reference) > among for among, gap, reference in both])
    margin = _mean([math.tanh(min(gap, reference) / among - 1) if among else 0.0 for among, gap, reference in both])
    score = 0.3 * accuracy[TIED] + 0.3 * accuracy[REFERENCE] + 0.2 * preferred + 0.2 * hard + 0.01 * margin
    figures = {"score": score, "tied_accuracy": accuracy[TIED], "reference_accuracy": accuracy[REFERENCE]}
    figures |= {"correctness_preferred": preferred, "correctness_preferred_hard": hard, "margin": margin}
    return {name: round(value, 4) for name, value in figures.items()} | {"n": len(both)}


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values) if values else 0.0
