"""Docstrings as text for the screen: what a class does in one sentence, and its formula, paper, cost and pitfall.

Pure, and loads no torch.
"""

import inspect
import re

LABELS = ("Formula", "Paper", "Cost", "Pitfall")
LABELLED = re.compile(rf"({'|'.join(LABELS)}): (.*)")


def summary(described: object) -> str:
    """First paragraph of a docstring, on one line; "" without a docstring."""
    return " ".join(_doc(described).partition("\n\n")[0].split())


def notes(described: object) -> tuple[tuple[str, str], ...]:
    """(label, text) of what follows the first paragraph, each text on one line; text without a label has the label "".

    "Formula: a\\n+ b.\\nCost: one." -> (("Formula", "a + b."), ("Cost", "one."))
    """
    parts: list[tuple[str, list[str]]] = []
    for line in _doc(described).partition("\n\n")[2].splitlines():
        if match := LABELLED.match(line):
            parts.append((match[1], [match[2]]))
        elif line and parts:
            parts[-1][1].append(line)
        elif line:
            parts.append(("", [line]))
    return tuple((label, " ".join(lines)) for label, lines in parts)


def _doc(described: object) -> str:
    return inspect.cleandoc(getattr(described, "__doc__", None) or "")
