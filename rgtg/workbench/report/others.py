"""The other answers of a trace: what a method wrote besides the answer that it kept, with why each was lost.

Functions of records. Knows nothing of models, the database or the screen.
"""

from dataclasses import asdict, dataclass

from rgtg.guidance.methods import rule_of
from rgtg.records import Trace


@dataclass(frozen=True)
class OtherAnswer:
    """An answer as far as it was written, `text`: it left the kept one behind `num_common` tokens. `reward` is that at its end."""

    text: str
    num_common: int
    reward: float | None
    threshold: float | None
    weight: float | None
    why: str


def other_answers(trace: Trace) -> list[OtherAnswer]:
    """The other answers in the order in which they were given up; [] for a method that writes only one, or that is gone."""
    rule = rule_of(trace.run)
    if rule is None or not rule.lost:
        return []
    texts, before = [], ""
    for step in trace.steps:
        texts += [OtherAnswer(before + tried.text, step.position, tried.reward, tried.threshold, tried.weight, rule.lost) for tried in step.tried]
        before += step.text
    return texts


def other_answers_json(trace: Trace) -> list[dict]:
    """`other_answers` as `generate --json` prints them."""
    return [asdict(other) for other in other_answers(trace)]
