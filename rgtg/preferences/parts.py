"""One row as a preference or a labelled text: its prompt with system prompt and history, its answers, and their marks and weights.

Takes the roles of columns from `columns`. Knows nothing of files, other rows or tokenizers.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from rgtg.preferences.columns import Columns, Row, fetch, has, integer_of, label_of, number_of, winner_of
from rgtg.preferences.items.examples import MARKS, Example, Labelled, Mark, Marked
from rgtg.preferences.text_rows import BadRow, parse_json
from rgtg.preferences.turns import (
    TURN,
    LeftOut,
    Prompt,
    Value,
    answered,
    check_same,
    common_prompt,
    is_turns,
    kind_of,
    last_turn,
    messages,
    text_of,
    unwrapped,
    value_of,
    with_context,
    without_prompt,
)  # fmt: skip
from rgtg.prompts import Message

DEFAULT = Columns()
RATERS = ("rater_id", "rater", "annotator_id", "annotator", "judge", "worker_id", "worker", "labeler")
CONTEXT = (  # columns that may hold the prompt, the likeliest first
    "prompt", "instruction", "question", "query", "context", "messages", "conversations", "conversation", "trajectory", "history", "input", "post",
)  # fmt: skip


class RowParts:
    """One row while it is read; `used` are the columns that were read. Its methods raise BadRow where it cannot be read, LeftOut where
    it is no preference."""

    def __init__(self, number: int, row: Row, cells: bool, given: Columns = DEFAULT):
        """`given` are the columns that the user names."""
        self.number, self.row, self.used, self._cells, self._given = number, row, set[str](), cells, given
        self.num_flags = 0  # answers that are true or false

    def get(self, path: str) -> Any:
        """The value at a path; JSON in a cell is parsed."""
        self.used |= {part.split(".")[0] for part in (path.split("+") if path not in self.row else [path])} & self.row.keys()
        if path in self.row:
            self.used.add(path)
        return unwrapped(fetch(self.row, path), path, self._cells)

    def listed(self, name: str) -> Any:
        """A list, also where it is written as JSON, as in our own exports, whose columns have one type each."""
        self.used |= {name} & self.row.keys()
        value = self.row[name]
        return parse_json(value) if isinstance(value, str) and value.lstrip().startswith("[") else value

    @property
    def has_ids(self) -> bool:
        """Whether it is a pair of token ids; rows of our own exports have empty ids where there are texts only."""
        names = [f"{key}_ids" for key in ("chosen", "rejected", "prompt")]
        present = {name for name in names if self.row.get(name) is not None}
        return present >= set(names[:2]) and any(self.row[name] not in ("", "[]", []) for name in present)

    def optional(self, name: str) -> Any:
        return self.get(name) if self.row.get(name) is not None else None

    # --- the prompt

    def prompt(self, columns: Columns, needed: bool = False) -> Value:
        """The prompt with its system prompt and earlier turns: from `columns`, else from a usual column; "" where there is none."""
        taken = {path.split(".")[0] for path in columns.paths}
        has_turns = not columns.prompt and self.row.get("prompt_turns") not in (None, "", "[]")  # our own export: `prompt` is their transcript
        usual = ("prompt_turns",) if has_turns else CONTEXT
        self.used |= {"prompt_turns", *(("prompt",) if has_turns else ())} & self.row.keys()
        name = columns.prompt or next((name for name in usual if self.row.get(name) is not None and name not in taken), "")
        prompt: Value = value_of(self.get(name), name) if name else ""
        if name == "instruction" and isinstance(prompt, str) and isinstance(self.row.get("input"), str) and "input" not in taken:
            prompt = "\n".join(text for text in (prompt, text_of(self.get("input"), "input")) if text)
        if isinstance(prompt, str) and not prompt and name in ("prompt", "instruction"):
            other = self.optional("input") if "input" not in taken and name == "prompt" else None
            prompt = value_of(other, "input") if other is not None else prompt
        return with_context(prompt, self._system(columns), self._history() if name != "history" and "history" not in taken else ())

    def _system(self, columns: Columns) -> str:
        name = columns.system or next((name for name in ("system", "system_prompt") if self.row.get(name) is not None), "")
        return text_of(self.get(name), name) if name and self.row.get(name) != "" else ""

    def _history(self) -> tuple[Message, ...]:
        """Earlier turns as [["Hi", "Hello."], …] (LLaMA-Factory) or as messages; a plain text is ignored."""
        if not isinstance(self.row.get("history"), (list, tuple, str)) or not self.row["history"]:
            return ()
        history = unwrapped(self.row["history"], "history", self._cells)
        if isinstance(history, str):
            return ()
        self.used.add("history")
        if is_turns(history):
            return messages(history, "history")
        if not all(isinstance(pair, (list, tuple)) and len(pair) == 2 for pair in history):
            raise BadRow("`history` is no list of turns.", 'Write it as [["question", "answer"], …].')
        return tuple((role, text_of(text, "history")) for pair in history for role, text in zip(("user", "assistant"), pair, strict=True))

    # --- pairs

    def pair(self, columns: Columns) -> tuple[Example, str]:
        """The pair of `chosen` and `rejected`, and how it was read."""
        chosen, rejected = (value_of(self.get(path), path) for path in (columns.chosen, columns.rejected))
        prompt = self._behind_no_answer(self.prompt(columns), (chosen, rejected))
        is_empty = self.row.get("prompt") == "" or (self._cells and "prompt" in self.row)  # given as empty, not missing
        if isinstance(chosen, str) and isinstance(rejected, str) and not (prompt or is_empty or (TURN in chosen and TURN in rejected)):
            asked, *answers = common_prompt(chosen, rejected)
            example = Example(self.number, asked, answers[0], answers[1], **self._ended(), **self.pair_fields(), prompt_given=False)
            return example, "texts in `chosen` and `rejected` that begin with their prompt"
        if isinstance(chosen, str) and isinstance(rejected, str) and not prompt and TURN in chosen and TURN in rejected:
            dialogues = last_turn(chosen, columns.chosen), last_turn(rejected, columns.rejected)
            return self._example(dialogues), "complete dialogues in `chosen` and `rejected`"
        if isinstance(prompt, str) and isinstance(chosen, str) and isinstance(rejected, str):
            chosen, rejected = without_prompt(prompt, chosen, rejected)
        sides = answered(prompt, chosen, columns.chosen), answered(prompt, rejected, columns.rejected)
        conversations = not (isinstance(chosen, str) and isinstance(rejected, str))
        name = columns.prompt or next((name for name in CONTEXT if name in self.used), "")
        how = ("conversations in " if conversations else "") + (f"`{name}`, " if name else "") + f"`{columns.chosen}`, `{columns.rejected}`"
        return self._example(sides), how

    def _behind_no_answer(self, prompt: Value, sides: tuple[Value, Value]) -> Value:
        """A prompt without the answer at its end, where it repeats the complete conversation of one side."""
        if isinstance(prompt, str) or len(prompt) < 2 or prompt[-1][0] != "assistant":
            return prompt
        for side in sides:
            turns = (("assistant", side),) if isinstance(side, str) else side
            same = [content.strip() for _, content in prompt[-len(turns) :]] == [content.strip() for _, content in turns]
            if same:
                return prompt[:-1]
        return prompt

    def _example(self, sides: Sequence[tuple[Value, str]], **extra: Any) -> Example:
        (prompt, chosen), (other, rejected) = sides
        check_same(prompt, other)
        return Example(self.number, prompt or "", chosen, rejected, **self._ended(), **self.pair_fields(), **extra)

    def battles(self, columns: Columns) -> list[Example]:
        """The better of two answers over the other, for each column with a winner; ties too."""
        if not columns.winner:
            a, b = (number_of(self.get(path), path, least=None) for path in (columns.score_a, columns.score_b))
            return [self._battle(columns, "a" if a > b else "b" if b > a else "equal", "")]
        paths = [columns.winner] if columns.winner in self.row or "+" not in columns.winner else columns.winner.split("+")
        winners = [(path, self.get(path)) for path in paths]
        several = len(paths) > 1
        return [
            self._battle(columns, winner_of(value, replace(columns, winner=path)), path if several else "")
            for path, value in winners if value is not None or not several
        ]  # fmt: skip

    def _battle(self, columns: Columns, winner: str, rater: str) -> Example:
        paths = (columns.b, columns.a) if winner == "b" else (columns.a, columns.b)
        of_lists = self._turns_of_lists(columns, paths) if columns.prompt or self.row.get("prompt") is not None else None
        prompt = "" if of_lists else self.prompt(columns)
        sides = of_lists or [answered(prompt, value_of(value, path), path) for path, value in zip(paths, self._two_texts(paths), strict=True)]
        named = [self._name(columns.model_a or "model_a"), self._name(columns.model_b or "model_b")]
        example = self._example(sides, first="rejected" if winner == "b" else "chosen", tie="" if winner in "ab" else winner)
        models = tuple(named[::-1] if winner == "b" else named) if any(named) else ()
        return self._with_spans(replace(example, models=models, rater=rater or example.rater), columns)

    def _two_texts(self, paths: tuple[str, str]) -> list[Any]:
        """Two answers; true or false beside a text is what JSON made of such an answer."""
        values = [self.get(path) for path in paths]
        flags = [isinstance(value, bool) for value in values]
        self.num_flags += any(flags) and not all(flags)
        return [json.dumps(value) if flag and not all(flags) else value for value, flag in zip(values, flags, strict=True)]

    def _name(self, path: str) -> str:
        value = self.get(path) if has(self.row, path) else ""
        return value if isinstance(value, str) else ""

    def _turns_of_lists(self, columns: Columns, paths: tuple[str, str]) -> tuple[tuple[Value, str], tuple[Value, str]] | None:
        """Prompt and answers as lists of one text a turn, as LMArena has them."""
        name = columns.prompt or "prompt"
        lists = [self.get(path) for path in (name, *paths)]
        if not all(isinstance(texts, list) and texts and not isinstance(texts[0], Mapping) for texts in lists):
            return None
        asked, *answers = ([text_of(text, path) for text in texts] for path, texts in zip((name, *paths), lists, strict=True))
        sides: list[tuple[Value, str]] = []
        for path, texts in zip(paths, answers, strict=True):
            if len(texts) != len(asked):
                raise BadRow(f"`{path}` has {len(texts)} turns and `{name}` {len(asked)}.")
            turns = tuple(turn for ask, text in zip(asked, texts, strict=True) for turn in (("user", ask), ("assistant", text)))
            sides.append((asked[0] if len(asked) == 1 else turns[:-1], texts[-1]))
        return sides[0], sides[1]

    def scored(self, columns: Columns) -> tuple[list[Example], int]:
        """All pairs of answers that have a score, ties too, and the number of answers."""
        answers, scores = self._answers(columns), self._numbers(columns.scores or columns.ranks)
        if len(answers) != len(scores):
            raise BadRow(f"It has {len(answers)} answers and {len(scores)} of `{columns.scores or columns.ranks}`.", "Give one for each answer.")
        prompt = self.prompt(columns)
        values = scores if columns.scores else [None if rank is None else -rank for rank in scores]
        valued = [(value, answered(prompt, answer, columns.answers)) for value, answer in zip(values, answers, strict=True) if value is not None]
        pairs = []
        for i, (value, side) in enumerate(valued):
            for other_value, other in valued[i + 1 :]:
                better = value >= other_value
                tie = "equal" if value == other_value else ""
                pairs.append(self._example((side, other) if better else (other, side), first="chosen" if better else "rejected", tie=tie))
        if len(valued) < 2:
            raise LeftOut("alone", "It has fewer than two scored answers.")
        return pairs, len(answers)

    def compared(self, columns: Columns) -> tuple[list[Example], int]:
        """The better of each two answers over the other, ties too, and the number of answers. Spans are in the first answer."""
        answers, prompt, winners = self._answers(columns), self.prompt(columns), self.get(columns.pairs)
        two = [(i, j) for i in range(len(answers)) for j in range(i + 1, len(answers))]
        if not isinstance(winners, (list, tuple)) or len(winners) != len(two):
            number = len(winners) if isinstance(winners, (list, tuple)) else kind_of(winners)
            raise BadRow(f"`{columns.pairs}` has {number} winners for {len(answers)} answers.", f"Give one for each two of them: {len(two)}.")
        sides = [answered(prompt, answer, columns.answers) for answer in answers]
        pairs = []
        for (i, j), value in zip(two, winners, strict=True):
            winner = winner_of(value, replace(columns, winner=columns.pairs, a=columns.answers, b=""))
            example = self._example((sides[j], sides[i]) if winner == "b" else (sides[i], sides[j]), tie="" if winner in "ab" else winner)
            example = replace(example, first="rejected" if winner == "b" else "chosen")
            pairs.append(self._with_spans(example, columns) if i == 0 else example)
        return pairs, len(answers)

    def _with_spans(self, example: Example, columns: Columns) -> Example:
        """The example with the spans of the answer that stood first."""
        if not columns.spans or not has(self.row, columns.spans):
            return example
        if example.first == "rejected":
            return replace(example, rejected_spans=self._spans(columns.spans, example.rejected))
        return replace(example, chosen_spans=self._spans(columns.spans, example.chosen))

    def _spans(self, path: str, text: str) -> tuple[Mark, ...]:
        """[{"start": 3, "end": 9, "error type": "Irrelevant"}] or [[3, 9, "bad"]] -> ((3, 9, "bad"),): whatever is not called good is bad."""
        value = self.get(path)
        if not isinstance(value, (list, tuple)):
            raise BadRow(f"`{path}` is {kind_of(value)}, not a list of spans.")
        spans = []
        for span in value:
            start, end, *labels = (span.get("start"), span.get("end"), span.get("label")) if isinstance(span, Mapping) else (*span, "bad")
            if type(start) is not int or type(end) is not int or not 0 <= start < end:
                raise BadRow(f"`{path}` has a span from {kind_of(start)} to {kind_of(end)}.", "A span is start and end, in characters from 0.")
            if start >= len(text):
                raise BadRow(f"`{path}` has a span from {start} to {end}, and the answer has {len(text)} characters.", "Mend or remove the row.")
            label = str(labels[0]).strip().lower().replace(" ", "_")
            good = label in ("good", "correct", "true", "positive", "1", "+1")
            spans.append((start, min(end, len(text)), "goes_wrong" if label == "goes_wrong" else "good" if good else "bad"))
        return tuple(dict.fromkeys(spans))

    def _answers(self, columns: Columns) -> list[Value]:
        parts = columns.answers.split("+")
        answers = [self.get(part) for part in parts] if len(parts) > 1 and columns.answers not in self.row else self.get(columns.answers)
        if isinstance(answers, (list, tuple)) and answers:
            return [value_of(unwrapped(answer, columns.answers, False), columns.answers) for answer in answers]
        raise BadRow(f"`{columns.answers}` is {kind_of(answers)}, not a list of answers.")

    def _numbers(self, path: str) -> list[float | None]:
        values = self.get(path)
        if not isinstance(values, (list, tuple)):
            raise BadRow(f"`{path}` is {kind_of(values)}, not a list of numbers.")
        return [None if value is None else number_of(value, path, least=None) for value in values]

    # --- labelled texts

    def labelled(self, columns: Columns) -> Labelled:
        label = label_of(self.get(columns.label), columns.label)
        value = value_of(self.get(columns.response), columns.response)
        prompt, answer = answered(self._behind_no_answer(self.prompt(columns), (value, value)), value, columns.response)
        return Labelled(self.number, prompt, answer, label, **self.of_vote())

    def steps(self, columns: Columns) -> Iterator[Labelled]:
        """The text up to each step, with the label of that step."""
        answers, labels = self._answers(columns), self.get(columns.labels)
        if not isinstance(labels, (list, tuple)) or len(labels) != len(answers):
            raise BadRow(f"`{columns.labels}` has not one label for each of {len(answers)} steps.", "Give one for each step.")
        prompt, texts = self.prompt(columns), [text_of(answer, columns.answers) for answer in answers]
        for i, label in enumerate(labels):
            yield Labelled(self.number, prompt, "\n".join(texts[: i + 1]), label_of(label, columns.labels), **self.of_vote())

    def stepped(self, columns: Columns) -> Marked:
        """The complete text of steps, each of them a span that is good or bad."""
        *_, last = steps = list(self.steps(columns))
        starts = [0, *(len(step.response) + 1 for step in steps[:-1])]
        ends = [*starts[1:], len(last.response)]
        spans = tuple((a, b, "good" if step.label > 0.5 else "bad") for a, b, step in zip(starts, ends, steps, strict=True) if b > a)
        return Marked(self.number, last.prompt, last.response, spans, last.rater)

    def marked(self, columns: Columns) -> Marked:
        value = value_of(self.get(columns.response), columns.response)
        prompt, answer = answered(self.prompt(columns), value, columns.response)
        return Marked(self.number, prompt, answer, self._spans(columns.spans, answer), self._rater())

    def graded(self, columns: Columns) -> tuple[Prompt, str, float]:
        """Prompt, answer and score of a row that holds one answer of several."""
        score = number_of(self.get(columns.score), columns.score, least=None)
        value = value_of(self.get(columns.response), columns.response)
        prompt, answer = answered(self.prompt(columns), value, columns.response)
        return prompt, answer, score

    def sampled(self) -> dict[str, Any]:
        """Token ids of an answer in a row of its own, whether it is complete, and how many of its tokens were guided, as far as the row says."""
        self.used |= {"prompt_ids", "response_ids", "response_stop_reason", "num_guided"} & self.row.keys()
        if self.row.get("prompt_ids") is None or self.row.get("response_ids") is None:
            return {}
        ids = {f"{name}_ids": tuple(self._token_ids(f"{name}_ids")) for name in ("prompt", "response")}
        num_guided = integer_of(self.row["num_guided"], "num_guided") if self.row.get("num_guided") is not None else 0
        return ids | {"ended": self.row.get("response_stop_reason") in (None, "", "eos"), "num_guided": num_guided}

    # --- token ids

    def ids(self) -> Example:
        chosen, rejected = (self._token_ids(key) for key in ("chosen_ids", "rejected_ids"))
        pair_fields = self.pair_fields()
        if self.row.get("prompt_ids") is not None:
            prompt = self._token_ids("prompt_ids")
        else:
            shared = next((i for i, (a, b) in enumerate(zip(chosen, rejected, strict=False)) if a != b), min(len(chosen), len(rejected)))
            given = self.row.get("num_prompt_ids") is not None
            num_prompt = integer_of(self.get("num_prompt_ids"), "num_prompt_ids") if given else shared
            pair_fields |= {} if given else {"prompt_given": False, "num_common": 0}
            if num_prompt > min(len(chosen), len(rejected)):
                raise BadRow(f"`num_prompt_ids` is {num_prompt}, and a side has {min(len(chosen), len(rejected))} ids.")
            if chosen[:num_prompt] != rejected[:num_prompt]:
                raise BadRow(f"The first {num_prompt} ids of its sides differ.", "Both answers have to follow the same prompt.")
            prompt, chosen, rejected = chosen[:num_prompt], chosen[num_prompt:], rejected[num_prompt:]
        if not prompt:
            raise BadRow("Its sides have no first token in common.", "Give `prompt_ids`, or the start token in both.")
        texts: dict[str, Any] = {side: self._answer(side) for side in ("chosen", "rejected")}
        asked = self.row.get("prompt")
        return Example(
            self.number, value_of(self.get("prompt"), "prompt") if asked else "", **texts,
            prompt_ids=tuple(prompt), chosen_ids=tuple(chosen), rejected_ids=tuple(rejected), **self._ended(), **pair_fields,
        )  # fmt: skip

    def _token_ids(self, key: str) -> list[int]:
        ids = self.listed(key)
        if not isinstance(ids, (list, tuple)):
            raise BadRow(f"`{key}` is {kind_of(ids)}, not a list of ids.")
        odd = next((value for value in ids if not isinstance(value, int) or isinstance(value, bool)), None)
        if odd is not None or None in ids:
            raise BadRow(f"`{key}` has {kind_of(odd)}.", "Ids are whole numbers from 0 on.")
        if min(ids, default=0) < 0:
            raise BadRow(f"`{key}` has {min(ids)}.", "Ids count from 0.")
        return list(ids)

    def _answer(self, side: str) -> str:
        """The text of an answer with ids: plain, or the last turn of a conversation."""
        if self.row.get(side) is None:
            return ""
        value = value_of(self.get(side), side)
        return value if isinstance(value, str) else value[-1][1]

    # --- other values of a row

    def _ended(self) -> dict[str, Any]:
        """Whether each answer is complete: an exported one has its stop reason, any other is taken as complete."""
        self.used |= {f"{side}_stop_reason" for side in ("chosen", "rejected")} & self.row.keys()
        return {f"{side}_ended": self.row.get(f"{side}_stop_reason") in (None, "", "eos") for side in ("chosen", "rejected")}

    def of_vote(self) -> dict[str, Any]:
        return {"weight": self._number(self._given.weight or "weight", 1.0), "rater": self._rater()}

    def _rater(self) -> str:
        path = self._given.rater or next((name for name in RATERS if self.row.get(name) not in (None, "")), "")
        value = self.get(path) if path and has(self.row, path) else None
        if value is not None and (isinstance(value, bool) or not isinstance(value, (str, int))):
            raise BadRow(f"`{path}` is {kind_of(value)}, not a text.")
        return text_of(str(value), path) if value is not None and value != "" else ""

    def _number(self, key: str, default: float) -> float:
        value = self.get(key) if has(self.row, key) else None
        return default if value in (None, "") else number_of(value, key)

    def pair_fields(self) -> dict[str, Any]:
        self.used |= {"num_common"} & self.row.keys()
        fields: dict[str, Any] = {"num_common": 0, "margin": self._number(self._given.margin or "margin", 0.0)} | self.of_vote()
        if self.row.get("num_common") not in (None, ""):
            fields["num_common"] = integer_of(self.row["num_common"], "num_common")
        for side in ("chosen", "rejected"):
            fields |= {key: self._marks(key) for key in (f"{side}_marks", f"{side}_spans") if self.row.get(key) is not None}
        if self.row.get("label_smoothing") is not None:
            fields["label_smoothing"] = label_of(self.get("label_smoothing"), "label_smoothing")
        if self.row.get("prefix_labels") is not None:
            fields["prefix_labels"] = tuple(label_of(value, "prefix_labels") for value in self.listed("prefix_labels"))
        return fields

    def _marks(self, key: str) -> tuple[Mark, ...]:
        marks = self.listed(key)
        if not isinstance(marks, (list, tuple)):
            raise BadRow(f"`{key}` is {kind_of(marks)}, not a list of marks.")
        for mark in marks:
            well_formed = isinstance(mark, (list, tuple)) and len(mark) == 3 and all(type(at) is int for at in mark[:2])
            if not well_formed or not 0 <= mark[0] <= mark[1] or mark[2] not in MARKS:
                do = f"A mark is [first, behind the last, label]; the labels are {', '.join(MARKS)}."
                raise BadRow(f"`{key}` has {mark!s:.60}.", do)
        return tuple((start, end, label) for start, end, label in marks)
