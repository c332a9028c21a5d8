"""A preference, a labelled answer or a marked one, as a row says it. Knows nothing of files, columns or tokenizers."""

from dataclasses import dataclass

from rgtg.preferences.turns import Prompt

Mark = tuple[int, int, str]  # first token or character, behind the last, one of MARKS
MARKS = ("good", "bad", "goes_wrong")


@dataclass(frozen=True)
class Example:
    """A preference of a row (counted from 1). `…_ids` are () where the row has texts only; `…_ended` is whether the answer is
    complete, so that an end token follows it. `num_common` and `…_marks` count tokens of the row's own ids, `…_spans` are marks
    in characters of the text. Where `prompt_given` is False, the prompt is the common beginning of both sides, which may be
    longer than the true prompt. `prefix_labels` are the probability that the chosen answer is the better one when both are cut to their first 1, 2, …
    of the row's own ids; `label_smoothing` is the probability that the label of the pair is wrong. `first` says which side stood first where
    the row says so; `models` are the names of those that answered, the chosen one's first. `tie` is "tie", "both_bad" or "equal" (scores) where
    neither side is better; such rows are read for votes only."""

    row: int
    prompt: Prompt = ""
    chosen: str = ""
    rejected: str = ""
    prompt_ids: tuple[int, ...] = ()
    chosen_ids: tuple[int, ...] = ()
    rejected_ids: tuple[int, ...] = ()
    chosen_ended: bool = True
    rejected_ended: bool = True
    num_common: int = 0
    margin: float = 0.0
    weight: float = 1.0
    rater: str = ""
    chosen_marks: tuple[Mark, ...] = ()
    rejected_marks: tuple[Mark, ...] = ()
    chosen_spans: tuple[Mark, ...] = ()
    rejected_spans: tuple[Mark, ...] = ()
    prefix_labels: tuple[float, ...] = ()
    label_smoothing: float = 0.0
    prompt_given: bool = True
    first: str = ""
    models: tuple[str, ...] = ()
    tie: str = ""


@dataclass(frozen=True)
class Marked:
    """One answer with spans marked in its characters, and no preference."""

    row: int
    prompt: Prompt
    response: str
    spans: tuple[Mark, ...]
    rater: str = ""


@dataclass(frozen=True)
class Labelled:
    """One answer with a label in [0, 1], or with a score of any size; `prompt_ids` and `response_ids` are () where the row has texts only. `ended` is
    whether the answer is complete, `num_guided` the number of its first tokens that another policy than the base LM wrote."""

    row: int
    prompt: Prompt = ""
    response: str = ""
    label: float = 0.0
    weight: float = 1.0
    rater: str = ""
    prompt_ids: tuple[int, ...] = ()
    response_ids: tuple[int, ...] = ()
    ended: bool = True
    num_guided: int = 0
