"""Rewards by rule: length, repetition, a pattern, a list of words. Functions of the text alone.

Knows nothing of models or of the screen.
"""

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import Any, ClassVar

import regex

from rgtg.config import choice, other, setting
from rgtg.errors import BadReward, BadSettings
from rgtg.models.lm import BaseLM
from rgtg.rewards.made.definition import Definition, text, weights
from rgtg.rewards.text import Answer, TextScorer

MAX_PATTERN, MAX_REPEATS = 500, 10_000  # characters; counts in braces multiplied
PROBE_S, MATCH_S = 0.5, 1.0  # for all texts that a pattern is tried on when it is made; for a text that it scores
PROBE_LENGTH = 1000


@dataclass(frozen=True)
class Rule(Definition):
    """Base class of the kinds that are functions of the response's text."""

    def value(self, response: str, complete: bool) -> float:
        """Reward of a response, or with `complete=False` of a prefix of one."""
        raise NotImplementedError

    def scorer(self, lm: BaseLM) -> TextScorer:
        return RuleScorer(self)


class RuleScorer(TextScorer):
    """Scores texts by a rule, one by one."""

    def __init__(self, rule: Rule):
        self.rule = rule

    def score_texts(self, answers: Sequence[Answer]) -> list[float]:
        return [self.rule.value(answer.response, answer.complete) for answer in answers]


@dataclass(frozen=True)
class LengthRule(Rule):
    """Answers of a certain length: the further from it, the lower.

    Formula: −|n − target| / spread for a complete answer of n words or characters; for a prefix −max(0, n − target) / spread, since it may
    still grow.
    Paper: none.
    Cost: no forward.
    Pitfall: a short prefix costs nothing, so that it decides late: at the end token, and beyond the target.
    """

    title: ClassVar[str] = "Length"
    target: int = setting(12, "Length of the best answer", 0, 100_000)
    spread: float = setting(2.0, "Distance from it that costs 1; larger values are more lenient", 0.01, 100_000)
    unit: str = choice("words", "What is counted", ("words", "characters"))

    def value(self, response: str, complete: bool) -> float:
        beyond = (len(response.split()) if self.unit == "words" else len(response)) - self.target
        return 0.0 - (abs(beyond) if complete else max(0, beyond)) / self.spread


@dataclass(frozen=True)
class RepetitionRule(Rule):
    """Answers that do not repeat themselves.

    Formula: −(number of runs of `size` words that stood in the answer before), capitals aside.
    Paper: none.
    Cost: no forward.
    Pitfall: a word that is not finished yet counts as it stands.
    """

    title: ClassVar[str] = "Repetition"
    size: int = setting(2, "Words in a run: smaller values forbid more", 1, 20)

    def value(self, response: str, complete: bool) -> float:
        words = response.casefold().split()
        runs = [tuple(words[at : at + self.size]) for at in range(len(words) - self.size + 1)]
        return float(len(set(runs)) - len(runs))


@dataclass(frozen=True)
class PatternRule(Rule):
    """Answers in which a regular expression is found.

    Formula: reward × min(number of matches, most).
    Paper: none.
    Cost: no forward. A pattern that takes long on some text is refused when it is made, and ends a column that it would hold up.
    Pitfall: `$` matches at the end of every prefix, not of the complete answer alone.
    """

    title: ClassVar[str] = "Pattern"
    pattern: str = text("A regular expression, such as `\\bplease\\b`")
    reward: float = setting(1.0, "Reward of a match; a negative one forbids it", -1000.0, 1000.0)
    most: int = setting(1, "Matches that count at most", 1, 1000)
    ignore_case: bool = other(True, "Whether capitals make no difference")

    def check(self) -> None:
        if len(self.pattern) > MAX_PATTERN:
            raise BadSettings(f"`pattern` has {len(self.pattern)} characters.", f"The limit is {MAX_PATTERN}.", "Shorten it.", "pattern")
        counts = [max(map(int, filter(None, pair)), default=1) for pair in regex.findall(r"\{(\d*),?(\d*)\}", self.pattern)]
        if math.prod(max(1, count) for count in counts) > MAX_REPEATS:  # such a pattern is written out when it is compiled
            raise BadSettings(
                "`pattern` repeats too often.", f"Found `{self.pattern:.80}`.", f"Repeat at most {MAX_REPEATS:,} times in all.", "pattern"
            )
        try:
            compiled = self.compiled
        except (regex.error, RecursionError, OverflowError) as error:
            at = getattr(error, "pos", None)
            found = f"{getattr(error, 'msg', str(error))}" + (f" at character {at + 1}" if at is not None else "")
            raise BadSettings("`pattern` is no regular expression.", f"{found[:1].upper()}{found[1:]}.", "Correct it.", "pattern") from error
        left = PROBE_S
        for probe in _probes(self.pattern):
            started = time.perf_counter()
            try:
                _matches(compiled, probe, self.most, left)
            except TimeoutError as error:
                do = "Leave out repetitions inside repetitions, such as `(a+)+`."
                wrong = f"On texts of {PROBE_LENGTH:,} characters it takes more than {PROBE_S:g} s."
                raise BadSettings("`pattern` takes too long.", wrong, do, "pattern") from error
            left = max(0.01, left - (time.perf_counter() - started))

    @cached_property
    def compiled(self) -> Any:
        return regex.compile(self.pattern, regex.IGNORECASE if self.ignore_case else 0)

    def value(self, response: str, complete: bool) -> float:
        try:
            return self.reward * _matches(self.compiled, response, self.most, MATCH_S)
        except TimeoutError as error:
            do = "Make a simpler pattern."
            found = f"It took more than {MATCH_S:g} s on a text of {len(response):,} characters."
            raise BadReward(f"The pattern `{self.pattern:.80}` takes too long.", found, do) from error


@dataclass(frozen=True)
class WordListRule(Rule):
    """Answers with some words and without others.

    Formula: Σ weight(w) × (number of times that w stands in the answer as a word of its own), capitals aside.
    Paper: none.
    Cost: no forward.
    Pitfall: of "greatly" the prefix "great" counts until the word goes on.
    """

    title: ClassVar[str] = "Word list"
    words: tuple[tuple[str, float], ...] = weights("One word or phrase per line with its weight, such as `great 1` or `too slow -2`")

    @cached_property
    def compiled(self) -> list[tuple[Any, float]]:
        escaped = [(r"\s+".join(map(regex.escape, word.split())), weight) for word, weight in self.words]
        return [(regex.compile(rf"(?<!\w){word}(?!\w)", regex.IGNORECASE), weight) for word, weight in escaped]

    def value(self, response: str, complete: bool) -> float:
        return sum((weight * len(word.findall(response)) for word, weight in self.compiled), 0.0)


def _matches(compiled: Any, response: str, most: int, seconds: float) -> int:
    """Number of matches, `most` at most. Raises TimeoutError."""
    count = 0
    for _ in compiled.finditer(response, timeout=seconds):
        count += 1
        if count >= most:
            break
    return count


def _probes(pattern: str) -> list[str]:
    """Texts on which patterns that backtrack without end show it: long runs of each character of the pattern, then something else."""
    letters = list(dict.fromkeys([*pattern, "a", "0", " "]))[:40]
    pairs = [a + b for a, b in pairwise(letters)]
    return [part * (PROBE_LENGTH // len(part)) + "\u2603" for part in (*letters, *pairs)]
