"""What is about to be stored of a file: records with counts, and the run of an answer from elsewhere."""

import hashlib
import json
from dataclasses import dataclass, field

from rgtg.preferences.formats import LEFT_OUT
from rgtg.records import Comparison, ModelRef, Run, Span, Vote

IMPORTED = "imported"  # in the place of a method


@dataclass(frozen=True)
class ImportReport:
    """Counts of what a file holds; `num_ties` counts votes without a better answer, `left_out` rows or pairs by cause. `new` is what was not in the
    database before: {"comparisons": 3, "votes": 5, "marks": 0}; empty before anything is written."""

    source: str
    read_as: str
    num_rows: int
    num_comparisons: int
    num_votes: int
    num_raters: int
    num_ties: int
    num_marks: int
    left_out: dict[str, int] = field(default_factory=dict, hash=False)
    not_read: tuple[str, ...] = ()
    new: dict[str, int] = field(default_factory=dict, hash=False)

    @property
    def left_out_words(self) -> str:
        return ", ".join(f"{LEFT_OUT.get(cause, cause)}: {number:,}" for cause, number in self.left_out.items())


@dataclass
class Plan:
    """Records to store. The rater of a vote or a mark is a name, of which only a keyed hash is stored; `known_raters` are ids of our own exports,
    which are kept."""

    report: ImportReport
    comparisons: list[Comparison] = field(default_factory=list)
    votes: list[Vote] = field(default_factory=list)
    marks: list[Span] = field(default_factory=list)
    known_raters: bool = False
    excluded: dict[str, dict[str, str]] = field(default_factory=dict)  # as `statements.exclusions` has them


def content_id(*parts: object) -> str:
    """32 hexadecimal digits that are the same for the same parts."""
    return hashlib.sha256(json.dumps(parts, ensure_ascii=False).encode("utf-8", "surrogatepass")).hexdigest()[:32]


def stand_in(prompt: str, source: str, model: str = "") -> Run:
    """The run of an answer from elsewhere: it says where from, and has no model of ours."""
    params = (("from", source), *((("model", model),) if model else ()))
    return Run(prompt, IMPORTED, ModelRef(""), params)
