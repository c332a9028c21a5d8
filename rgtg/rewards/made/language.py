"""Rewards that a language model gives by what it expects next: a good or a bad follow-up, a yes or a no to a question.

Knows nothing of methods or of the screen.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch

from rgtg.config import other
from rgtg.errors import BadSettings, PromptTooLong
from rgtg.models.lm import BaseLM
from rgtg.models.prefixes.backbone import encode_all
from rgtg.prompts import next_turn
from rgtg.rewards.made.definition import Definition, text, texts
from rgtg.rewards.text import Answer, TextScorer
from rgtg.system.stopping import check_stopped

PART = 4096  # positions of a forward
MODEL_HELP = "The language model that is asked; empty for the base LM of the run"
QUESTION = "{prompt}{response}\n\n{principles}\nIs that so? Answer yes or no:"


class LMScorer(TextScorer):
    """Scores texts by the log probabilities that a language model gives to continuations of them, re-reading each from its first token."""

    def __init__(self, lm: BaseLM):
        self.lm = lm

    @torch.inference_mode()
    def log_probs(self, asked: Sequence[tuple[Sequence[int], Sequence[int]]]) -> list[list[float]]:
        """Log probability, in nats, of every token of each continuation behind its context, given as (context ids, continuation ids)."""
        found: list[list[float]] = []
        while len(found) < len(asked):
            check_stopped()
            part = self._part(asked[len(found) :])
            hidden = encode_all(self.lm.backbone, [[*context, *continuation] for context, continuation in part])
            self.num_forwards += 1
            for states, (context, continuation) in zip(hidden, part, strict=True):
                at = slice(len(context) - 1, len(context) + len(continuation) - 1)
                log_probs = self.lm.head(states[at]).float().log_softmax(-1)
                ids = torch.tensor(list(continuation), device=log_probs.device)[:, None]
                found.append(log_probs.gather(1, ids)[:, 0].tolist())
        return found

    def _part(self, asked: Sequence[tuple[Sequence[int], Sequence[int]]]) -> Sequence[tuple[Sequence[int], Sequence[int]]]:
        """As many of the first ones as fit into a forward, at least one. Raises PromptTooLong."""
        longest = 0
        for number, (context, continuation) in enumerate(asked):
            length = len(context) + len(continuation)
            if length > self.lm.context:
                do = "Shorten the prompt, the answer or the texts of the reward."
                raise PromptTooLong(f"`{self.lm.name}` reads {self.lm.context:,} tokens.", f"A text that it is asked about has {length:,}.", do)
            longest = max(longest, length)
            if number and longest * (number + 1) > PART:
                return asked[:number]
        return asked

    def written(self, answer: Answer) -> tuple[int, ...]:
        """Ids of a prompt and a response, in the model's template."""
        prompt_ids = self.lm.loaded.encode_prompt(answer.prompt)
        return (*prompt_ids, *self.lm.loaded.encode_response(answer.prompt, prompt_ids, answer.response))


@dataclass(frozen=True)
class FollowUp(Definition):
    """Answers that a good follow-up is likely after and a bad one is not: follow-up likelihood.

    Formula: mean_j ℓ(f⁺_j | x, y) − mean_j ℓ(f⁻_j | x, y), ℓ the mean log probability per token of a follow-up, in nats.
    Paper: FLR (arXiv 2409.13948). Its lists of follow-ups and its normalisation were not confirmed; here both are what the fields say.
    Cost: every text is read again from its first token for each follow-up, all of a token's texts in one batch.
    Pitfall: it says little in the middle of a sentence, and depends on the wording: show it beside a trained reward model.
    """

    title: ClassVar[str] = "Follow-up likelihood"
    cost: ClassVar[str] = "no cache: every candidate is read again with each follow-up"
    good: tuple[str, ...] = texts("What somebody says after a good answer, such as “Thank you, that was great!”; one per line")
    bad: tuple[str, ...] = texts("What somebody says after a bad answer, such as “That is wrong.”; one per line")
    model: str = text(MODEL_HELP, needed=False)

    @property
    def num_readings(self) -> int:
        return len(self.good) + len(self.bad)

    def scorer(self, lm: BaseLM) -> TextScorer:
        return FollowUpScorer(lm, self.good, self.bad)


class FollowUpScorer(LMScorer):
    """Scores texts by the likelihood of follow-ups."""

    def __init__(self, lm: BaseLM, good: Sequence[str], bad: Sequence[str]):
        super().__init__(lm)
        tokenizer, (template, system_prompt) = lm.loaded.tokenizer, lm.loaded.template
        between = next_turn(tokenizer, template, system_prompt)
        space = "" if template == "chat" else " "
        ids = [(*between, *tokenizer(space + one, add_special_tokens=False, split_special_tokens=True)["input_ids"]) for one in (*good, *bad)]
        if short := next((one for one, encoded in zip((*good, *bad), ids, strict=True) if len(encoded) == len(between)), None):
            raise BadSettings("A follow-up has no tokens.", f"Found `{short:.60}`.", "Write another one.", "good")
        self._between, self._follow_ups, self._num_good = between, [one[len(between) :] for one in ids], len(good)

    def score_texts(self, answers: Sequence[Answer]) -> list[float]:
        contexts = [(*self.written(answer), *self._between) for answer in answers]
        values = iter(self.log_probs([(context, follow_up) for context in contexts for follow_up in self._follow_ups]))
        rewards = []
        for _ in answers:
            means = [math.fsum(row) / len(row) for row in (next(values) for _ in self._follow_ups)]
            good, bad = means[: self._num_good], means[self._num_good :]
            rewards.append(math.fsum(good) / len(good) - math.fsum(bad) / len(bad))
        return rewards


@dataclass(frozen=True)
class Prompted(Definition):
    """Answers to which a language model says yes when it is asked in words.

    Formula: P(yes | question) − P(no | question), between −1 and 1; the question holds the prompt, the answer and the principles. With
    `relative` the difference is divided by P(yes) + P(no).
    Paper: none in this form; principles that a model judges by are those of Constitutional AI (arXiv 2212.08073).
    Cost: every text is read again from its first token, for the yes and for the no, all of a token's texts in one batch.
    Pitfall: a small language model that was not trained to answer says yes or no to anything; look at the scores of a few texts first.
    """

    title: ClassVar[str] = "Prompted"
    cost: ClassVar[str] = "no cache: every candidate is read again within the question"
    principles: str = text("What a good answer is like, such as “The answer is polite and short.”", long=True)
    question: str = text("The question, with {prompt}, {response} and {principles} where these belong", QUESTION, long=True)
    yes: str = text("The word for yes", "yes")
    no: str = text("The word for no", "no")
    relative: bool = other(False, "Count these two words alone, for a model that seldom answers with one of them")
    model: str = text(MODEL_HELP, needed=False)

    def check(self) -> None:
        if "{response}" not in self.question:
            raise BadSettings(
                "`question` does not hold the answer.", f"Found `{self.question:.80}`.", "Write {response} where it belongs.", "question"
            )
        if self.yes.strip() == self.no.strip():
            raise BadSettings("`yes` and `no` are the same word.", f"Found `{self.yes:.60}`.", "Write two different words.", "no")

    def asked(self, answer: Answer) -> str:
        """The question about an answer. What the texts themselves hold stays as it is."""
        texts = {"prompt": answer.prompt, "response": answer.response, "principles": self.principles}
        parts = self.question.split("{")
        filled = [parts[0]]
        for part in parts[1:]:
            name, brace, rest = part.partition("}")
            filled.append(texts[name] + rest if brace and name in texts else "{" + part)
        return "".join(filled)

    @property
    def num_readings(self) -> int:
        return 2

    def scorer(self, lm: BaseLM) -> TextScorer:
        return PromptedScorer(lm, self)


class PromptedScorer(LMScorer):
    """Scores texts by the answer to a question."""

    def __init__(self, lm: BaseLM, definition: Prompted):
        super().__init__(lm)
        self.definition = definition

    def score_texts(self, answers: Sequence[Answer]) -> list[float]:
        pairs = []
        for answer in answers:
            question = self.definition.asked(answer)
            ids = self.lm.loaded.encode_prompt(question)
            space = "" if self.lm.loaded.template[0] == "chat" or question[-1:].isspace() else " "
            pairs += [(ids, self.lm.loaded.encode_response(question, ids, space + word)) for word in (self.definition.yes, self.definition.no)]
        sums = [math.fsum(row) for row in self.log_probs(pairs)]
        both = list(zip(sums[::2], sums[1::2], strict=True))
        if self.definition.relative:  # (e^a − e^b) / (e^a + e^b), which does not underflow
            return [math.tanh((yes - no) / 2) for yes, no in both]
        return [math.exp(yes) - math.exp(no) for yes, no in both]
