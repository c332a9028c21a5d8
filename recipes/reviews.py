"""Data of the tables in docs/results.md from a folder of labelled sentences: pairs, texts with labels, and prompts.

The folder has `train.positive.txt`, `train.negative.txt`, `dev.positive.txt` and `dev.negative.txt`, a sentence a line. Half A of the training
sentences, by the hash of the sentence, trains; the starter's judge learned from half B.
"""

import random
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from rgtg.api import load_models
from rgtg.errors import BadData
from rgtg.evaluation.examine.reading import rewards_of
from rgtg.evaluation.labelling.judging import write_pairs
from rgtg.rewards.base import Opening
from rgtg.system.files import make_folder
from rgtg.tools.starter import half_of, read_corpus, text_ids

MOODS = ("positive", "negative")
FIRST_WORDS = 3  # of a sentence as a prompt
FILES = ("pairs", "other", "texts", "mixed", "dev", "openings", "beginnings")
Rows = list[dict[str, Any]]


def write_reviews(corpus: Path, out: Path, num_pairs: int, num_prompts: int, num_beginnings: int) -> None:
    """Write the files of `rows_of` into `out`, where they are not there yet. Raises BadData where the folder has too few sentences."""
    make_folder(out)
    files = {name: out / f"{name}.jsonl" for name in FILES}
    if all(path.exists() for path in files.values()):
        return
    for name, rows in rows_of(read_corpus(corpus), num_pairs, num_prompts, num_beginnings).items():
        write_pairs(rows, files[name])


def rows_of(lines: Mapping[str, Sequence[str]], num_pairs: int, num_prompts: int, num_beginnings: int) -> dict[str, Rows]:
    """`pairs`, a positive sentence of half A against a negative one; `other`, such pairs of half B; `texts`, the sentences of `pairs` with
    labels; `mixed`, pairs of any two of them, to be labelled by a judge; `dev`, pairs of held-out sentences; and prompts: `openings`, the first
    words of `num_prompts` held-out sentences of each mood, `beginnings`, a quarter more than `num_beginnings` different ones of half A. Raises
    BadData."""
    rng = random.Random(0)
    halves = {half: _shuffled(lines, half, rng) for half in "AB"}
    if (found := min(len(own) for of_half in halves.values() for own in of_half)) < num_pairs:
        raise BadData(f"The corpus has too few sentences for {num_pairs:,} pairs.", f"A half has {found:,} of one mood.", "Ask for fewer pairs.")
    positive, negative = (own[:num_pairs] for own in halves["A"])
    either = rng.sample([*positive, *negative], 2 * num_pairs)
    held_out = [list(lines[f"dev.{mood}"]) for mood in MOODS]
    openings = [_first_words(line) for sentences in held_out for line in sentences[:num_prompts]]
    beginnings = list(dict.fromkeys(_first_words(line) for pair in zip(*halves["A"], strict=False) for line in pair))
    return {
        "pairs": _pairs(positive, negative),
        "other": _pairs(*(own[:num_pairs] for own in halves["B"])),
        "texts": [{"prompt": "", "completion": line, "label": own is positive} for own in (positive, negative) for line in own],
        "mixed": _pairs(either[::2], either[1::2]),
        "dev": _pairs(*held_out),
        "openings": [{"prompt": prompt} for prompt in openings],
        "beginnings": [{"prompt": prompt} for prompt in beginnings[: num_beginnings * 5 // 4]],  # some give twice the same answer
    }


def _shuffled(lines: Mapping[str, Sequence[str]], half: str, rng: random.Random) -> tuple[list[str], ...]:
    """The different training sentences of a half, by mood."""
    found = tuple(sorted({line for line in lines[f"train.{mood}"] if half_of(line) == half}) for mood in MOODS)
    for sentences in found:
        rng.shuffle(sentences)
    return found


def _first_words(line: str) -> str:
    return " ".join(line.split()[:FIRST_WORDS])


def _pairs(chosen: Iterable[str], rejected: Iterable[str]) -> Rows:
    return [{"prompt": "", "chosen": a, "rejected": b} for a, b in zip(chosen, rejected, strict=False)]


def write_turning(corpus: Path, judge: str, out: Path, num_prompts: int, by: float = 1.0) -> None:
    """Write the beginnings of held-out positive sentences that turn by `judge`, a reward model of prefixes (see `turning`): at most `num_prompts`,
    in the order of the file. Raises BadData."""
    if out.exists():
        return
    models = load_models("starter", [judge])
    name, model = next(iter(models.reward_models.items()))
    tokenizer = models.base_lm.loaded.tokenizer
    lines = read_corpus(corpus)[f"dev.{MOODS[0]}"]
    ids = [text_ids(tokenizer, line)[1:] for line in lines]
    begin = Opening("", tuple(tokenizer("").input_ids))
    rewards = rewards_of(models.reader(name), [(begin, own) for own in ids])
    found = (turning(tokenizer, own, [reward - model.zero for reward in of_own], by) for own, of_own in zip(ids, rewards, strict=True))
    prompts = [{"prompt": prompt} for prompt in found if prompt is not None]
    if not prompts:
        raise BadData("No held-out sentence turns.", f"{len(lines):,} were read by {name}.", "Give more sentences, or another judge.")
    write_pairs(prompts[:num_prompts], out)


def turning(tokenizer: Any, ids: Sequence[int], rewards: Sequence[float], by: float) -> str | None:
    """The longest beginning of a text, in complete words, whose reward is below zero by `by`, where that of the complete text is above by as
    much; None where there is none. `rewards`: of every prefix, less the zero."""
    for n in range(len(ids) - 2, FIRST_WORDS - 1, -1):
        if rewards[-1] > by and rewards[n - 1] < -by and tokenizer.decode(list(ids[n : n + 1])).startswith(" "):
            return tokenizer.decode(list(ids[:n]))
    return None


def branching(rows: Iterable[Mapping[str, Any]]) -> Rows:
    """Prompts that branch off: of each sample the prompt and a random number of first words of the answer, at least one and not all."""
    prompts, rng = [], random.Random(0)
    for row in rows:
        words = row["response"].split(" ")
        if len(words) > 2:
            prompts.append({"prompt": row["prompt"] + " ".join(words[: rng.randrange(1, len(words) - 1) + 1])})
    return prompts


def in_pairs(rows: Iterable[Mapping[str, Any]]) -> Rows:
    """Pairs of the first two different answers to each prompt, to be labelled by a judge."""
    answers: dict[str, list[str]] = {}
    for row in rows:
        if row["response"] not in answers.setdefault(row["prompt"], []):
            answers[row["prompt"]].append(row["response"])
    return [{"prompt": prompt, "chosen": own[0], "rejected": own[1]} for prompt, own in answers.items() if len(own) > 1]
