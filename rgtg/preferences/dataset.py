"""From examples to what is trained on: ids, kept and held out, and a report of what the data is before anything is trained.

Knows tokenizers, no models. The split is by prompt and by its hash alone: a prompt that is held out now was held out from every
earlier training whose `held_out` was as large, so a child and its parent can be measured on the same pairs. (A remark says where a
parent's was smaller.) Answers without a prompt are held together by what they share, so there more data can change the side.
"""

import hashlib
import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from itertools import accumulate, pairwise

from transformers import PreTrainedTokenizerBase

from rgtg.config import TrainingConfig
from rgtg.errors import BadData, BadSettings
from rgtg.preferences.batches import Ids, Item, TokenPair, TokenText
from rgtg.preferences.formats import Example, Labelled, Mark, Prompt
from rgtg.prompts import encode_prompt, encode_response, pieces, says, transcript
from rgtg.records import ModelCard

CAUSES = {
    "equal": "both answers are the same",
    "duplicate": "the same pair by the same rater again",
    "no_tokens": "an answer without a token",
    "over_long": "longer than allowed",
    "prompt_over_long": "the prompt alone is longer than allowed",
    "equal_when_cut": "both answers are the same as far as they are read",
    "no_weight": "weight 0",
}
Name = str | Ids  # of what belongs together: a prompt as text or ids, an answer
FEW = 20  # pairs below which nothing can be said


@dataclass(frozen=True)
class DataReport:
    """What the data is. `prompt_tokens` and `answer_tokens` are (median, 95 of 100, longest); `dropped` is (cause, number).

    `num_contradictions` counts pairs whose opposite is there too, or texts with more than one label (they stay), `num_cut` answers
    that are read in part, `longer_chosen` the share of pairs whose chosen answer is the longer one, ties one half.
    """

    kind: str
    num_rows: int
    num_used: int
    num_prompts: int
    num_raters: int
    num_train: int
    num_held_out: int
    num_held_out_prompts: int
    prompt_tokens: tuple[int, int, int]
    answer_tokens: tuple[int, int, int]
    dropped: tuple[tuple[str, int], ...] = ()
    num_contradictions: int = 0
    num_cut: int = 0
    num_marked: int = 0
    longer_chosen: float = 0.5
    sha256: str = ""
    remarks: tuple[str, ...] = ()


@dataclass(frozen=True)
class Prepared:
    """Items to train on, items to measure on with the prompt each belongs to, and the report."""

    train: tuple[Item, ...]
    held_out: tuple[Item, ...]
    held_out_prompts: tuple[str, ...]
    report: DataReport = field(repr=False)


def prepare(
    examples: Sequence[Example] | Sequence[Labelled],
    tokenizer: PreTrainedTokenizerBase,
    context: int,
    vocabulary: int,
    config: TrainingConfig,
    parent: ModelCard | None = None,
) -> Prepared:
    """Encode, drop what cannot be used, split. Raises BadData where nothing is left, ids are not of this tokenizer or a row cannot
    be read in the template, BadSettings where no row can.

    `parent` is the card of the reward model that the training starts from: where it read prompts in another template, that is remarked.
    """
    pairs = isinstance(examples[0], Example)
    encoder = Encoder(tokenizer, min(context, config.max_length), vocabulary, config)
    seen, contradictions, dropped = set(), 0, Counter()
    items, used, raters = [], [], set()
    for example in examples:
        try:
            item = encoder.pair(example) if pairs else encoder.text(example)
        except BadSettings as error:
            raise BadData(f"Row {example.row} cannot be read by this tokenizer.", f"{error.wrong} {error.found}".strip(), error.do) from error
        if not isinstance(item, str):
            same = (item.prompt_ids, *answers_of(item), example.rater, getattr(item, "label", None))
            item = "duplicate" if same in seen else item
            seen.add(same)
        if isinstance(item, str):
            dropped[item] += 1
            continue
        items.append(item)
        used.append(example)
        raters.add(example.rater)
    if not items:
        counts = ", ".join(f"{number} dropped ({CAUSES[cause]})" for cause, number in dropped.items())
        raise BadData("There is nothing to train on.", f"Of {len(examples)} rows {counts}.", "Give other data, or change the limits.")
    if pairs:
        directions = {(i.prompt_ids, i.chosen_ids, i.rejected_ids) for i in items}
        contradictions = sum((p, b, a) in directions for p, a, b in directions) // 2
    else:
        labels = {(i.prompt_ids, i.response_ids, i.label) for i in items}
        contradictions = sum(number > 1 for number in Counter((prompt, response) for prompt, response, _ in labels).values())
    keys = split_keys(used)
    held = [is_held_out(key, config.held_out) for key in keys]
    if all(held):
        held = [False] * len(items)
    train = tuple(item for item, out in zip(items, held, strict=True) if not out)
    held_out = tuple((item, key) for item, key, out in zip(items, keys, held, strict=True) if out)
    report = DataReport(
        kind="pairs" if pairs else "texts", num_rows=len(examples), num_used=len(items), num_prompts=len(set(keys)),
        num_raters=len(raters - {""}), num_train=len(train), num_held_out=len(held_out),
        num_held_out_prompts=len({key for _, key in held_out}), prompt_tokens=spread([len(i.prompt_ids) for i in items]),
        answer_tokens=spread([len(side) for i in items for side in answers_of(i)]), dropped=tuple(sorted(dropped.items())),
        num_contradictions=contradictions, num_cut=encoder.num_cut, num_marked=sum(bool(getattr(i, "marks", ())) for i in items),
        longer_chosen=_longer_chosen(items) if pairs else 0.5, sha256=items_hash(items),
    )  # fmt: skip
    return Prepared(train, tuple(i for i, _ in held_out), tuple(k for _, k in held_out), replace(report, remarks=_remarks(report, encoder, parent)))


class Encoder:
    """Examples as ids; counts what it had to change. Raises BadSettings where no prompt can be read as the settings say."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase, max_length: int, vocabulary: int, config: TrainingConfig):
        self._tokenizer, self._max_length, self._vocabulary, self._config = tokenizer, max_length, vocabulary, config
        self.template, self.held_out = (config.template, config.system_prompt), config.held_out
        self._end = () if tokenizer.eos_token_id is None else (tokenizer.eos_token_id,)
        self.num_cut = self.num_read_again = self.num_marks_lost = self.num_prompts_found = self.num_conversations = 0
        self._prompt("a")
        self.has_chat_template = bool(getattr(tokenizer, "chat_template", None))

    def pair(self, example: Example) -> TokenPair | str:
        """The pair, or the cause it is dropped for."""
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
        marks = self._marks(example, prompt_ids, (chosen, rejected), own)  # before they are cut: the texts are whole
        if max(len(chosen), len(rejected)) > room:
            if self._config.over_long == "drop":
                return "over_long"
            self.num_cut += (len(chosen) > room) + (len(rejected) > room)
            chosen, rejected = chosen[:room], rejected[:room]
            if chosen == rejected:
                return "equal_when_cut"
        self.num_prompts_found += own and not example.prompt_given
        num_common = example.num_common if own else 0  # of other tokens it says nothing; what both begin with is counted anyway
        weights = mark_weights(*marks, max(len(chosen), len(rejected)), self._config.mark_weight)
        self.num_conversations += not isinstance(example.prompt, str)
        return TokenPair(prompt_ids, chosen, rejected, example.margin * self._config.margin, example.weight, num_common, weights)

    def _marks(self, example: Example, prompt_ids: Ids, sides: tuple[Ids, Ids], own: bool) -> tuple[list[Mark], list[Mark]]:
        """Of each side, by its tokens: as the row has them where the ids are its own, else from its characters."""
        answers = (example.chosen, example.chosen_marks, example.chosen_spans), (example.rejected, example.rejected_marks, example.rejected_spans)
        found, lost = [], False
        for ids, (text, marks, spans) in zip(sides, answers, strict=True):
            by_characters = marks_on_tokens(pieces(self._tokenizer, prompt_ids, ids), text, spans) if spans and not (own and marks) else []
            found.append(list(marks) if own and marks else by_characters)
            lost |= bool((marks or spans) and not found[-1])
        self.num_marks_lost += lost
        return tuple(found)

    def text(self, example: Labelled) -> TokenText | str:
        if not example.weight:
            return "no_weight"
        prompt_ids = self._prompt(example.prompt)
        ids = self._response(example.prompt, prompt_ids, example.response, True)
        room = self._max_length - len(prompt_ids)
        if not ids or room < 1:
            return "no_tokens" if not ids else "prompt_over_long"
        if len(ids) > room:
            if self._config.over_long == "drop":
                return "over_long"
            self.num_cut, ids = self.num_cut + 1, ids[:room]
        self.num_conversations += not isinstance(example.prompt, str)
        return TokenText(prompt_ids, ids, example.label, example.weight)

    def _ids(self, example: Example) -> tuple[Ids, Ids, Ids, bool]:
        """Prompt, chosen, rejected, and whether they are the row's own ids: as they were generated where they are of this
        tokenizer, else the texts encoded."""
        if example.prompt_ids:
            foreign = self._foreign(example)
            if not foreign:
                starts = (self._tokenizer.bos_token_id,), (self._tokenizer.eos_token_id,)  # what an empty prompt is
                known = example.prompt or example.prompt_ids in starts
                prompt_ids = self._prompt(example.prompt) if known and _has_texts(example) else example.prompt_ids
                return prompt_ids, example.chosen_ids, example.rejected_ids, True
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
            if text and not says(self._tokenizer, example.prompt_ids, answer, text):
                return f"Its `{side}_ids` are another text than its `{side}`."
        if example.chosen or example.rejected or not example.prompt:
            return ""
        ours = encode_prompt(self._tokenizer, example.prompt), self._prompt(example.prompt)
        return "" if example.prompt_ids in ours else "Its `prompt` has other ids here."  # without answers it says whose ids they are

    def _prompt(self, prompt: Prompt) -> Ids:
        return encode_prompt(self._tokenizer, prompt, self._config.template, self._config.system_prompt)

    def _response(self, prompt: Prompt, prompt_ids: Ids, text: str, ended: bool) -> Ids:
        ids = encode_response(self._tokenizer, prompt, prompt_ids, text, self._config.template)
        return ids + self._end if ended and ids else ids


def mark_weights(chosen: Sequence[Mark], rejected: Sequence[Mark], num_positions: int, weight: float) -> tuple[float, ...]:
    """The factor on each prefix length: `weight` where the prefix ends under a mark that agrees with the vote (good on the
    chosen, bad on the rejected side, from where it goes wrong), 1 / `weight` under one that says the opposite. () without marks.

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
    """Marks by characters of `text` as marks by tokens, of which `texts` says what each adds; [] where they do not hold the text.

    >>> marks_on_tokens([" ab", "cd", ""], "abcd", [(1, 3, "bad"), (4, 4, "goes_wrong")])
    [(0, 2, 'bad'), (2, 3, 'goes_wrong')]
    """
    before = "".join(texts).find(text)  # a space that parts it from the prompt is none of it
    ends = [0, *accumulate(map(len, texts))]
    found = []
    for start, end, label in spans if before >= 0 else ():
        end = ends[-1] + 1 if label == "goes_wrong" else end
        under = [i for i, (a, b) in enumerate(pairwise(ends)) if a - before < end and (b - before > start or a - before >= start)]
        found += [(under[0], under[-1] + 1, label)] if under else []
    return found


def split_keys(examples: Sequence[Example] | Sequence[Labelled]) -> list[str]:
    """Of each example the name of what it belongs to: equal names come on the same side of the split.

    The name is the prompt. Pairs without one belong together where they share an answer, named by the first of all their
    answers; ids whose prompt had to be found belong to every prompt that they begin with, since theirs may go too far.

    >>> split_keys([Example(1, "", "a", "b"), Example(2, "", "c", "b"), Example(3, "Hi", "c", "b")])
    ['a', 'a', 'Hi']
    """
    parents: dict[Name, Name] = {}

    def first(name: Name) -> Name:
        while parents.setdefault(name, name) != name:
            parents[name] = name = parents[parents[name]]
        return name

    def join(a: Name, b: Name) -> None:
        a, b = sorted((first(a), first(b)))
        parents[b] = a

    names = [_names(example) for example in examples]
    for name, *others in names:
        for other in others:
            join(name, other)
    begins: list[Ids] = []  # prompts of which each is the beginning of the next
    by_ids = [example for example, (name, *_) in zip(examples, names, strict=True) if isinstance(name, tuple)]
    for ids, given in sorted({(example.prompt_ids, example.prompt_given) for example in by_ids}):
        while begins and ids[: len(begins[-1])] != begins[-1]:
            begins.pop()
        for other in () if given else begins:
            join(ids, other)
        begins.append(ids)
    return [name if isinstance(name, str) else json.dumps(name) for name in (first(name) for name, *_ in names)]


def _names(example: Example | Labelled) -> tuple[Name, ...]:
    """The prompt as text or ids; without one the answer, or both of a pair."""
    text = example.prompt if isinstance(example.prompt, str) else transcript(example.prompt)
    if text or isinstance(example, Labelled):
        return (text or example.response,)
    if len(example.prompt_ids) > 1:
        return (example.prompt_ids,)
    return (example.chosen or str(example.chosen_ids), example.rejected or str(example.rejected_ids))


def is_held_out(prompt: str, share: float) -> bool:
    """By the hash of the prompt alone, whatever else is in the data."""
    return int.from_bytes(hashlib.sha256(b"held out\n" + prompt.encode()).digest()[:8]) < share * 2**64


def _has_texts(example: Example) -> bool:
    return bool(example.prompt or example.chosen or example.rejected)


def answers_of(item: Item) -> tuple[Ids, ...]:
    return (item.chosen_ids, item.rejected_ids) if isinstance(item, TokenPair) else (item.response_ids,)


def spread(values: Sequence[int]) -> tuple[int, int, int]:
    ordered = sorted(values)
    return ordered[len(ordered) // 2], ordered[int(0.95 * (len(ordered) - 1))], ordered[-1]


def items_hash(items: Sequence[Item]) -> str:
    digest = hashlib.sha256()
    for item in items:
        content = [item.prompt_ids, *answers_of(item), *((item.label,) if isinstance(item, TokenText) else ())]
        digest.update(json.dumps(content, separators=(",", ":")).encode())
    return digest.hexdigest()


def _longer_chosen(pairs: Sequence[TokenPair]) -> float:
    lengths = [(len(p.chosen_ids), len(p.rejected_ids)) for p in pairs]
    return round(sum((a > b) + 0.5 * (a == b) for a, b in lengths) / len(pairs), 4)


def _remarks(report: DataReport, encoder: Encoder, parent: ModelCard | None) -> tuple[str, ...]:
    """Sentences for the screen, before training."""
    found, here = [], encoder.template
    if parent and parent.kind != "base_lm" and (parent.template, parent.system_prompt) != here:
        system = f" with the system prompt “{parent.system_prompt}”" if parent.system_prompt else ""
        found.append(f"`{parent.name}` was taught with the template {parent.template}{system}, which is another.")
    before = parent.training.get("held_out") if parent and parent.kind != "base_lm" else None
    if isinstance(before, (int, float)) and before < encoder.held_out:
        shares = f"{100 * before:.0f} of 100 prompts out of its training, here {100 * encoder.held_out:.0f} are"
        found.append(f"`{parent.name}` kept {shares}: it may know some of them.")
    if report.num_raters == 1:
        found.append("All votes are one person's: the model learns that person's taste.")
    if report.num_train < FEW:
        found.append(f"{report.num_train} {report.kind} are few; the model may learn little.")
    if report.num_held_out < FEW:
        held = "1 of them is" if report.num_held_out == 1 else f"{report.num_held_out} {report.kind} are"
        found.append(f"{held} held out: too few to tell how good the model is.")
    share = report.num_held_out / report.num_used
    if abs(share - encoder.held_out) > 0.1:
        asked = f"{100 * encoder.held_out:.0f} of 100 {report.kind} were to be held out, {100 * share:.0f} are"
        found.append(f"{asked}: all of one prompt go to one side, and there are few prompts.")
    if report.num_contradictions:
        how = "in both directions" if report.kind == "pairs" else "with more than one label"
        found.append(f"{report.num_contradictions} {report.kind} are there {how}.")
    if report.kind == "pairs" and abs(report.longer_chosen - 0.5) > 0.2:
        side = "longer" if report.longer_chosen > 0.5 else "shorter"
        share = max(report.longer_chosen, 1 - report.longer_chosen)
        found.append(f"In {100 * share:.0f} of 100 pairs the {side} answer was chosen: length alone explains much.")
    if report.num_cut:
        found.append(f"{report.num_cut} answers are read in part.")
    if encoder.num_read_again:
        found.append(f"{encoder.num_read_again} pairs were generated by a model with other tokens; their texts are encoded again.")
    if encoder.num_conversations and encoder.has_chat_template and here[0] == "plain":
        does = "are read as plain text, although this tokenizer has a chat template; the template `chat` reads them in it"
        found.append(f"{encoder.num_conversations} conversations {does}.")
    if encoder.num_prompts_found:
        found.append(f"{encoder.num_prompts_found} pairs do not say where their prompt ends: what both answers begin with is taken for it.")
    if encoder.num_marks_lost:
        found.append(f"The marks of {encoder.num_marks_lost} pairs count tokens of another model; they are left out.")
    return tuple(found)
