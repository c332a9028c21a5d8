"""From examples to a data set: token ids, the split into training and held-out items, and a report of the data.

Knows tokenizers, not models. The split depends on the hash of the prompt alone: a prompt that is held out now was held out from every
earlier training with an `eval_fraction` as large, so a model and its parent can be evaluated on the same pairs. (A remark says where
the parent's was smaller.) Answers without a prompt are grouped by what they share, so there more data can change the side.
"""

import hashlib
import json
import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from transformers import PreTrainedTokenizerBase

from rgtg.config import DataConfig
from rgtg.errors import BadData, BadSettings
from rgtg.preferences.batches import Ids, Item, TokenPair, TokenText, items_hash
from rgtg.preferences.formats import LEFT_OUT, Example, Labelled, Reading
from rgtg.preferences.tokenization import Encoder
from rgtg.prompts import transcript
from rgtg.records import ModelCard

CAUSES = {
    "equal": "both answers are the same",
    "duplicate": "the same pair by the same rater again",
    "no_tokens": "an empty answer",
    "guided": "written to its end by another policy than the base LM",
    "over_long": "longer than `max_length`",
    "prompt_over_long": "the prompt alone is longer than `max_length`",
    "equal_when_cut": "both answers are the same once truncated",
    "no_weight": "weight 0",
    **LEFT_OUT,
}
Name = str | Ids  # of what belongs together: a prompt as text or ids, an answer
FEW = 20  # fewer pairs allow no conclusion


@dataclass(frozen=True)
class DataReport:
    """Counts and lengths of the data. `prompt_tokens` and `answer_tokens` are (median, 95th percentile, longest); `dropped` is (cause, number).

    `num_contradictions` counts pairs whose opposite is in the data too, or texts with more than one label (they are kept), `num_cut`
    truncated answers, `longer_chosen` the share of pairs whose chosen answer is the longer one, ties one half.
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
    """Items to train on, held-out items with the prompt of each, and the report."""

    train: tuple[Item, ...]
    held_out: tuple[Item, ...]
    held_out_prompts: tuple[str, ...]
    report: DataReport = field(repr=False)


def prepare(
    examples: Sequence[Example] | Sequence[Labelled] | Reading,
    tokenizer: PreTrainedTokenizerBase,
    context: int,
    vocabulary: int,
    config: DataConfig,
    parent: ModelCard | None = None,
    margin: float = 1.0,
    mark_weight: float = 3.0,
) -> Prepared:
    """Encode, drop what cannot be used, split. Raises BadData where nothing is left, ids are not of this tokenizer or a row cannot
    be read in the template, BadSettings where no row can.

    `parent` is the card of the model that training starts from; a different template of it is remarked on. The report of a `Reading`
    also says how it was read and what was left out.
    `margin` is the factor on a vote's margin, `mark_weight` that of prefixes under a mark that agrees with the vote.
    """
    reading = examples if isinstance(examples, Reading) else Reading(tuple(examples), len(examples))
    encoder = Encoder(tokenizer, context, vocabulary, config, margin, mark_weight)
    left_out = Counter(dict(reading.left_out))
    used, items, dropped = _encoded(reading.examples, encoder, config.max_bad_rows - left_out["unreadable"])
    dropped += left_out
    if not items:
        counts = ", ".join(f"{number} dropped ({CAUSES[cause]})" for cause, number in dropped.items())
        raise BadData("There is nothing to train on.", f"Of {reading.num_rows} rows {counts}.", "Give other data, or change the limits.")
    keys = split_keys(used)
    held = [is_held_out(key, config.eval_fraction) for key in keys]
    if all(held):
        held = [False] * len(items)
    train = tuple(item for item, out in zip(items, held, strict=True) if not out)
    held_out = tuple((item, key) for item, key, out in zip(items, keys, held, strict=True) if out)
    pairs = [item for item in items if isinstance(item, TokenPair)]
    report = DataReport(
        kind="pairs" if pairs else "texts", num_rows=reading.num_rows, num_used=len(items), num_prompts=len(set(keys)),
        num_raters=len({example.rater for example in used} - {""}), num_train=len(train), num_held_out=len(held_out),
        num_held_out_prompts=len({key for _, key in held_out}), prompt_tokens=spread([len(i.prompt_ids) for i in items]),
        answer_tokens=spread([len(answer) for i in items for answer in i.answers]), dropped=tuple(sorted(dropped.items())),
        num_contradictions=_num_contradictions(items), num_cut=encoder.num_cut, num_marked=sum(bool(pair.marks) for pair in pairs),
        longer_chosen=_longer_chosen(pairs) if pairs else 0.5, sha256=items_hash(items),
    )  # fmt: skip
    return Prepared(
        train,
        tuple(i for i, _ in held_out),
        tuple(k for _, k in held_out),
        replace(report, remarks=(*_remarks_on_rows(reading), *_remarks(report, encoder, parent))),
    )


def load_tokenizer(folder: Path) -> PreTrainedTokenizerBase:
    """Load a tokenizer that was saved without a model."""
    from transformers import AutoTokenizer

    tokenizer: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
    return tokenizer


def _encoded(examples: Sequence[Example | Labelled], encoder: Encoder, may_fail: int) -> tuple[list[Example | Labelled], list[Item], Counter[str]]:
    """The examples that can be used, their items, and the number dropped for each of CAUSES. Up to `may_fail` may be refused by the
    tokenizer or its template."""
    seen: set[tuple[Any, ...]] = set()
    used: list[Example | Labelled] = []
    items: list[Item] = []
    dropped: Counter[str] = Counter()
    for example in examples:
        try:
            item = encoder.pair(example) if isinstance(example, Example) else encoder.text(example)
        except (BadSettings, BadData) as error:
            if dropped["unreadable"] < may_fail:
                dropped["unreadable"] += 1
                continue
            if isinstance(error, BadData):
                raise
            raise BadData(f"Row {example.row} cannot be read by this tokenizer.", f"{error.wrong} {error.found}".strip(), error.do) from error
        if not isinstance(item, str):
            same = (item.prompt_ids, *item.answers, example.rater, getattr(item, "label", None))
            item = "duplicate" if same in seen else item
            seen.add(same)
        if isinstance(item, str):
            dropped[item] += 1
            continue
        items.append(item)
        used.append(example)
    return used, items, dropped


def _num_contradictions(items: Sequence[Item]) -> int:
    """Number of pairs whose opposite is in the data too, and of texts with more than one label."""
    directions = {(i.prompt_ids, i.chosen_ids, i.rejected_ids) for i in items if isinstance(i, TokenPair)}
    labels = {(i.prompt_ids, i.response_ids, i.label) for i in items if isinstance(i, TokenText)}
    of_texts = Counter((prompt, response) for prompt, response, _ in labels).values()
    return sum((p, b, a) in directions for p, a, b in directions) // 2 + sum(number > 1 for number in of_texts)


def split_keys(examples: Sequence[Example | Labelled]) -> list[str]:
    """The group of each example: examples of one group are on the same side of the split.

    The name is the prompt. Pairs without one belong together where they share an answer, named by the first of all their
    answers; ids whose prompt was inferred belong to every prompt that they begin with, as the inferred one may be too long.

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
    by_ids = {
        (e.prompt_ids, e.prompt_given) for e, (name, *_) in zip(examples, names, strict=True) if isinstance(e, Example) and isinstance(name, tuple)
    }
    for ids, given in sorted(by_ids):
        while begins and ids[: len(begins[-1])] != begins[-1]:
            begins.pop()
        for other in () if given else begins:
            join(ids, other)
        begins.append(ids)
    return [name if isinstance(name, str) else json.dumps(name) for name in (first(name) for name, *_ in names)]


def _names(example: Example | Labelled) -> tuple[Name, ...]:
    """The names of an example's group: its prompt as text or ids; without one its answer, or both of a pair."""
    text = example.prompt if isinstance(example.prompt, str) else transcript(example.prompt)
    if text:
        return (text,)
    if isinstance(example, Labelled):
        return (example.response,)
    if len(example.prompt_ids) > 1:
        return (example.prompt_ids,)
    return (example.chosen or str(example.chosen_ids), example.rejected or str(example.rejected_ids))


def is_held_out(prompt: str, share: float) -> bool:
    """Whether a prompt is held out, by its hash alone, whatever else is in the data."""
    return int.from_bytes(hashlib.sha256(b"held out\n" + prompt.encode()).digest()[:8]) < share * 2**64


def spread(values: Sequence[int]) -> tuple[int, int, int]:
    """Median (of two the upper), 95th percentile (the smallest value that at least 95 % do not exceed) and maximum.

    >>> spread([6, 8]), spread(range(1, 101))
    ((8, 8, 8), (51, 95, 100))
    """
    ordered = sorted(values)
    return ordered[len(ordered) // 2], ordered[math.ceil(0.95 * len(ordered)) - 1], ordered[-1]


def _longer_chosen(pairs: Sequence[TokenPair]) -> float:
    lengths = [(len(p.chosen_ids), len(p.rejected_ids)) for p in pairs]
    return round(sum((a > b) + 0.5 * (a == b) for a, b in lengths) / len(pairs), 4)


def _remarks_on_rows(reading: Reading) -> tuple[str, ...]:
    """How the rows were read, which columns were not, and which rows could not be."""
    remarks = [f"Read as: {reading.read_as}."] if reading.read_as else []
    if reading.not_read:
        names = ", ".join(f"`{name}`" for name in reading.not_read[:12])
        more = f" and {len(reading.not_read) - 12} more" if len(reading.not_read) > 12 else ""
        remarks.append(f"Columns that are not read: {names}{more}.")
    if reading.faults:
        remarks.append(f"{dict(reading.left_out)['unreadable']} rows cannot be read and are dropped; {'; '.join(reading.faults)}")
    return tuple(remarks)


def _remarks(report: DataReport, encoder: Encoder, parent: ModelCard | None) -> tuple[str, ...]:
    """Remarks on the data for the user, before training."""
    remarks, template = [], encoder.template
    if parent and parent.kind != "base_lm" and (parent.template, parent.system_prompt) != template:
        system = f" with the system prompt “{parent.system_prompt}”" if parent.system_prompt else ""
        remarks.append(f"`{parent.name}` was trained with another template: {parent.template}{system}.")
    before = parent.training.get("eval_fraction") if parent and parent.kind != "base_lm" else None
    if parent and isinstance(before, (int, float)) and before < encoder.eval_fraction:
        shares = f"{100 * before:.0f} % of prompts, this training {100 * encoder.eval_fraction:.0f} %"
        remarks.append(f"`{parent.name}` held out {shares}: it may have been trained on some of them.")
    if report.num_raters == 1:
        remarks.append("All votes are from one person: the model learns that person's taste.")
    if report.num_train < FEW:
        remarks.append(f"Few {report.kind} to train on ({report.num_train}): the model may learn little.")
    if report.num_held_out < FEW:
        remarks.append(f"Few {report.kind} held out ({report.num_held_out}): too few to tell how good the model is.")
    share = report.num_held_out / report.num_used
    if abs(share - encoder.eval_fraction) > 0.1:
        shares = f"{100 * share:.0f} % of {report.kind} are held out instead of {100 * encoder.eval_fraction:.0f} %"
        remarks.append(f"{shares}: {report.kind} of one prompt stay together, and there are few prompts.")
    if report.num_contradictions:
        how = "contradict each other: both directions are" if report.kind == "pairs" else "contradict each other: more than one label is"
        remarks.append(f"{report.num_contradictions} {report.kind} {how} in the data.")
    if report.kind == "pairs" and abs(report.longer_chosen - 0.5) > 0.2:
        side = "longer" if report.longer_chosen > 0.5 else "shorter"
        share = max(report.longer_chosen, 1 - report.longer_chosen)
        remarks.append(f"The {side} answer was chosen in {100 * share:.0f} % of pairs: the model may learn length.")
    if report.num_cut:
        remarks.append(f"{report.num_cut} answers are truncated.")
    if encoder.num_read_again:
        remarks.append(f"{encoder.num_read_again} pairs were generated with another tokenizer; their texts are encoded again.")
    if encoder.num_conversations and encoder.has_chat_template and template[0] == "plain":
        how = "are read as plain text, although this tokenizer has a chat template; choose the template `chat` to apply it"
        remarks.append(f"{encoder.num_conversations} conversations {how}.")
    if encoder.num_prompts_found:
        remarks.append(
            f"{encoder.num_prompts_found} pairs do not say where their prompt ends: the common beginning of both answers is taken as the prompt."
        )
    if encoder.num_with_markers:
        markers = ", ".join(f"`{marker}`" for marker in sorted(encoder.markers)[:4])
        remarks.append(f"{encoder.num_with_markers} {report.kind} contain special tokens as text ({markers}): these are read as plain text.")
    if encoder.num_marks_lost:
        remarks.append(f"The marks of {encoder.num_marks_lost} pairs belong to tokens of another model; they are ignored.")
    return tuple(remarks)
