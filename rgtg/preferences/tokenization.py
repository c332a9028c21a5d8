"""Examples as token ids: prompts in their template, answers with their generated ids where those are of this tokenizer, marks by token.

Knows tokenizers, not models, splits or reports.
"""

import re
from collections.abc import Sequence
from itertools import accumulate, pairwise

from transformers import PreTrainedTokenizerBase

from rgtg.config import DataConfig
from rgtg.errors import BadData
from rgtg.preferences.batches import Ids, TokenPair, TokenText
from rgtg.preferences.formats import Example, Labelled, Mark, Prompt
from rgtg.prompts import check_rows, closing, decodes_to, encode_prompt, encode_response, num_end_ids, pieces

# markers of common chat templates; a tokenizer that lacks them encodes their characters
TEMPLATE_MARKERS = r"<\|[a-z][a-z0-9_]{1,30}\|>|\[/?INST\]|<</?SYS>>|</?s>|<(?:start|end)_of_turn>|<｜[^｜>]{1,30}｜>"


class Encoder:
    """Encodes examples as ids and counts its changes. Raises BadSettings where the template cannot be applied to any prompt."""

    def __init__(
        self, tokenizer: PreTrainedTokenizerBase, context: int, vocabulary: int, config: DataConfig, margin: float = 1.0, mark_weight: float = 3.0
    ):
        self._tokenizer, self._max_length, self._vocabulary, self._config = tokenizer, min(context, config.max_length), vocabulary, config
        self._margin, self._mark_weight = margin, mark_weight
        self.template, self.eval_fraction = (config.template, config.system_prompt), config.eval_fraction
        self._end = self._checked(closing(tokenizer, *self.template))
        self.num_cut = self.num_read_again = self.num_marks_lost = self.num_prompts_found = self.num_conversations = 0
        special = [token for token in tokenizer.all_special_tokens if re.search(r"[^\w\s]", token) and len(token) > 2]
        self._markers = re.compile("|".join([*map(re.escape, sorted(special, key=len, reverse=True)), TEMPLATE_MARKERS]))
        self.num_with_markers, self.markers = 0, set[str]()
        self._prompt("a")
        self.has_chat_template = bool(getattr(tokenizer, "chat_template", None))

    def pair(self, example: Example) -> TokenPair | str:
        """The pair, or the cause (one of `dataset.CAUSES`) for which it is dropped."""
        if not example.weight:
            return "no_weight"
        prompt_ids, chosen, rejected, own = self._ids(example)
        if not chosen or not rejected:
            return "no_tokens"
        if chosen == rejected:
            return "equal"
        room = self._max_length - len(prompt_ids)
        if room < 1:
            return "prompt_over_long"
        marks = self._marks(example, prompt_ids, (chosen, rejected), own)  # before truncation, as the texts are complete
        if max(len(chosen), len(rejected)) > room:
            if self._config.over_long == "drop":
                return "over_long"
            self.num_cut += (len(chosen) > room) + (len(rejected) > room)
            chosen, rejected = chosen[:room], rejected[:room]
            if chosen == rejected:
                return "equal_when_cut"
        self.num_prompts_found += not example.prompt_given and (own or not example.prompt_ids)
        self._look_for_markers(example.prompt, example.chosen, example.rejected)
        num_common = example.num_common if own else 0  # of another tokenizer's tokens it is meaningless; the common beginning counts anyway
        weights = mark_weights(*marks, max(len(chosen), len(rejected)), self._mark_weight)
        labels = example.prefix_labels[: max(len(chosen), len(rejected))] if own else ()  # of another tokenizer's prefixes they say nothing
        self.num_conversations += not isinstance(example.prompt, str)
        return TokenPair(
            prompt_ids, chosen, rejected, example.margin * self._margin, example.weight, num_common, weights, labels, example.label_smoothing
        )

    def _marks(self, example: Example, prompt_ids: Ids, sides: tuple[Ids, Ids], own: bool) -> tuple[list[Mark], list[Mark]]:
        """The marks of each side by token: the row's own where its ids are used, else from its character spans."""
        answers = (example.chosen, example.chosen_marks, example.chosen_spans), (example.rejected, example.rejected_marks, example.rejected_spans)
        marks_by_side: list[list[Mark]] = []
        lost = False
        for ids, (text, marks, spans) in zip(sides, answers, strict=True):
            by_characters = marks_on_tokens(pieces(self._tokenizer, prompt_ids, ids, self._end), text, spans) if spans and not (own and marks) else []
            marks_by_side.append(list(marks) if own and marks else by_characters)
            lost |= bool((marks or spans) and not marks_by_side[-1])
        self.num_marks_lost += lost
        return marks_by_side[0], marks_by_side[1]

    def text(self, example: Labelled) -> TokenText | str:
        if not example.weight:
            return "no_weight"
        prompt_ids, ids = self._ids_of_text(example)
        room = self._max_length - len(prompt_ids)
        if not ids or room < 1:
            return "no_tokens" if not ids else "prompt_over_long"
        if example.num_guided >= len(ids):
            return "guided"
        if len(ids) > room:
            if self._config.over_long == "drop":
                return "over_long"
            self.num_cut, ids = self.num_cut + 1, ids[:room]
        self.num_conversations += not isinstance(example.prompt, str)
        self._look_for_markers(example.prompt, example.response)
        return TokenText(prompt_ids, ids, example.label, example.weight, example.num_guided)

    def _ids_of_text(self, example: Labelled) -> tuple[Ids, Ids]:
        """Ids of prompt and answer: the row's own where they are of this tokenizer, else the encoded texts."""
        if not example.prompt_ids:
            prompt_ids = self._prompt(example.prompt)
            return prompt_ids, self._response(example.prompt, prompt_ids, example.response, example.ended)
        answer, ids, ended = (example.response,) * 2, (example.response_ids,) * 2, (example.ended,) * 2
        prompt_ids, response_ids, _, own = self._ids(Example(example.row, example.prompt, *answer, example.prompt_ids, *ids, *ended))
        if example.num_guided and not own:
            found = "Its guided tokens are counted in those of another tokenizer."
            raise BadData(f"Row {example.row} cannot be used by this model.", found, "Sample anew with the base LM of this model.")
        return prompt_ids, response_ids

    def _look_for_markers(self, prompt: Prompt, *answers: str) -> None:
        """Count rows whose texts contain special tokens as plain text."""
        texts = (*((prompt,) if isinstance(prompt, str) else (content for _, content in prompt)), *answers)
        markers = {match[0] for text in texts for match in self._markers.finditer(text)}
        self.num_with_markers += bool(markers)
        if len(self.markers) < 100:
            self.markers |= markers

    def _ids(self, example: Example) -> tuple[Ids, Ids, Ids, bool]:
        """Ids of prompt, chosen and rejected, and whether they are the row's own: those that were generated, where they are of this
        tokenizer, else the encoded texts."""
        if example.prompt_ids:
            foreign = self._foreign(example)
            if not foreign:
                starts = (self._tokenizer.bos_token_id,), (self._tokenizer.eos_token_id,)  # ids of an empty prompt
                known = example.prompt or example.prompt_ids in starts
                prompt_ids = self._prompt(example.prompt) if known and (example.prompt or example.chosen or example.rejected) else example.prompt_ids
                sides = example.chosen_ids, example.rejected_ids
                chosen, rejected = sides if prompt_ids == example.prompt_ids else map(self._closed, sides)
                return prompt_ids, chosen, rejected, True
            if not (example.chosen or example.rejected):
                do = "Give texts, or train from the model they are of."
                raise BadData(f"The ids of row {example.row} are not of this model's tokenizer.", foreign, do)
            self.num_read_again += 1
        prompt_ids = self._prompt(example.prompt)
        chosen = self._response(example.prompt, prompt_ids, example.chosen, example.chosen_ended)
        return prompt_ids, chosen, self._response(example.prompt, prompt_ids, example.rejected, example.rejected_ended), False

    def _foreign(self, example: Example) -> str:
        """Why the ids of a row are not of this tokenizer; "" where they are."""
        ids = (*example.prompt_ids, *example.chosen_ids, *example.rejected_ids)
        if min(ids) < 0:
            return f"It has id {min(ids)}."
        if max(ids) >= self._vocabulary:
            return f"It has id {max(ids)}, the model reads {self._vocabulary} ids."
        for side, text, answer in (("chosen", example.chosen, example.chosen_ids), ("rejected", example.rejected, example.rejected_ids)):
            if text and not decodes_to(self._tokenizer, example.prompt_ids, answer, text, self._end):
                return f"Its `{side}_ids` are another text than its `{side}`."
        if example.chosen or example.rejected or not example.prompt:
            return ""
        own_encodings = encode_prompt(self._tokenizer, example.prompt), self._prompt(example.prompt)
        return (
            "" if example.prompt_ids in own_encodings else "Its `prompt` has other ids here."
        )  # without answers the prompt shows whose ids they are

    def _prompt(self, prompt: Prompt) -> Ids:
        return self._checked(encode_prompt(self._tokenizer, prompt, self._config.template, self._config.system_prompt))

    def _closed(self, ids: Ids) -> Ids:
        """A complete answer with the end tokens of another template, ended as in this one."""
        num = num_end_ids(self._tokenizer, ids, self._end)
        return (*ids[:-num], *self._end) if num else ids

    def _response(self, prompt: Prompt, prompt_ids: Ids, text: str, ended: bool) -> Ids:
        ids = encode_response(self._tokenizer, prompt, prompt_ids, text, self._config.template)
        return self._checked(ids) + self._end if ended and ids else self._checked(ids)

    def _checked(self, ids: Ids) -> Ids:
        check_rows(self._tokenizer, ids, self._vocabulary)
        return ids


def mark_weights(chosen: Sequence[Mark], rejected: Sequence[Mark], num_positions: int, weight: float) -> tuple[float, ...]:
    """Factor on each prefix length: `weight` where the prefix ends under a mark that agrees with the vote (good on the chosen, bad
    on the rejected side, or beyond where it goes wrong), 1 / `weight` under one that disagrees. () without marks.

    >>> mark_weights([], [(1, 2, "bad")], 3, 3.0)
    (1.0, 3.0, 1.0)
    """
    if not chosen and not rejected:
        return ()
    factors = [1.0] * num_positions
    for marks, agrees in ((chosen, "good"), (rejected, "bad")):
        for start, end, label in marks:
            label, end = ("bad", num_positions) if label == "goes_wrong" else (label, end)
            for position in range(start, min(end, num_positions)):
                factors[position] = weight if label == agrees else 1 / weight
    return tuple(factors)


def marks_on_tokens(texts: Sequence[str], text: str, spans: Sequence[Mark]) -> list[Mark]:
    """Marks by character of `text` as marks by token; `texts` are the texts of the tokens. [] where these do not contain `text`.

    >>> marks_on_tokens([" ab", "cd", ""], "abcd", [(1, 3, "bad"), (4, 4, "goes_wrong")])
    [(0, 2, 'bad'), (2, 3, 'goes_wrong')]
    """
    before = "".join(texts).find(text)  # a space that separates it from the prompt is not part of it
    ends = [0, *accumulate(map(len, texts))]
    marks: list[Mark] = []
    for start, end, label in spans if before >= 0 else ():
        end = ends[-1] + 1 if label == "goes_wrong" else end
        covered = [i for i, (a, b) in enumerate(pairwise(ends)) if a - before < end and (b - before > start or a - before >= start)]
        marks += [(covered[0], covered[-1] + 1, label)] if covered else []
    return marks
