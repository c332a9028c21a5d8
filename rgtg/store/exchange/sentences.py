"""The steps of an answer with a label each, from marks on its text. Pure functions of texts and spans."""

import re
from collections.abc import Sequence

SENTENCE = re.compile(r"\S.*?(?:(?<=[.!?…])[\"'”’)\]]*(?=\s+|$)|(?<=[。！？])|(?=\n)|$)\s*", re.S)
Label = tuple[int, int, str]  # first character, behind the last, good, bad or goes_wrong


def sentences(text: str) -> list[tuple[int, int]]:
    """The sentences of a text, complete: joined they are the text.

    >>> [("Yes. It is! " + "Fine")[a:b] for a, b in sentences("Yes. It is! Fine")]
    ['Yes. ', 'It is! ', 'Fine']
    """
    starts = [match.start() for match in SENTENCE.finditer(text) if match[0].strip()]
    starts = [0, *starts[1:]] if starts else [0]
    return [(start, end) for start, end in zip(starts, [*starts[1:], len(text)], strict=True) if end > start]


def labelled_steps(text: str, marks: Sequence[Label]) -> list[tuple[str, bool]] | None:
    """The steps with their labels; None where it is not known of one whether it is good.

    Marks that cover the text from end to end are the steps themselves. Else they are sentences: one that a bad mark touches, and all from where it
    goes wrong, are bad; the others are good if they are marked so, or if something bad was marked in the answer, which its rater then read for it.

    >>> labelled_steps("One. Two. Three.", [(5, 8, "bad")])
    [('One. ', True), ('Two. ', False), ('Three.', True)]
    """
    if not text or not marks:
        return None
    in_order = sorted((start, end, label) for start, end, label in marks if label != "goes_wrong")
    wrong = min((start for start, _, label in marks if label == "goes_wrong"), default=len(text) + 1)
    if wrong > len(text) and _tile(in_order, len(text)):
        return [(text[start:end], label == "good") for start, end, label in in_order]
    is_read = any(label != "good" for _, _, label in marks)
    steps = []
    for start, end in sentences(text):
        touching = {label for a, b, label in in_order if a < end and b > start}
        if not (touching or is_read):
            return None
        steps.append((text[start:end], "bad" not in touching and end <= wrong))
    return steps


def _tile(marks: Sequence[Label], length: int) -> bool:
    """Whether marks follow one another from the first character to the last."""
    at = 0
    for start, end, _ in marks:
        if start != at:
            return False
        at = end
    return at == length
