"""A preference as a row of a pairs file, such that it is read back as the same preference. Knows nothing of files."""

from dataclasses import replace
from typing import Any

from rgtg.preferences.items.examples import Example

SIDES = ("chosen", "rejected")
OF_A_SIDE = ("", "_ids", "_ended", "_marks", "_spans")


def row_of(example: Example) -> dict[str, Any]:
    """The row of a preference, in the layout of rgtg's own exports; what is at its default is left out.

    >>> row_of(Example(1, "Hi", "Hello.", "No.", margin=0.5))
    {'prompt': 'Hi', 'chosen': 'Hello.', 'rejected': 'No.', 'margin': 0.5}
    """
    prompt: Any = example.prompt
    if not isinstance(prompt, str):
        prompt = [{"role": role, "content": content} for role, content in prompt]
    row = {"prompt": prompt, "chosen": example.chosen, "rejected": example.rejected}
    row |= {f"{side}_stop_reason": "length" for side in SIDES if not getattr(example, f"{side}_ended")}
    if example.prompt_ids:
        row |= {f"{name}_ids": list(getattr(example, f"{name}_ids")) for name in ("prompt", *SIDES)}
        row |= {"num_common": example.num_common} if example.num_common else {}
    values: dict[str, Any] = {
        f"{side}_{name}": [list(mark) for mark in getattr(example, f"{side}_{name}")] for side in SIDES for name in ("marks", "spans")
    }
    values |= {
        "prefix_labels": list(example.prefix_labels),
        "rater_id": example.rater,
        "margin": example.margin,
        "label_smoothing": example.label_smoothing,
    }
    row |= {name: value for name, value in values.items() if value}
    return row | ({"weight": example.weight} if example.weight != 1 else {})


def exchanged(example: Example) -> Example:
    """The same preference with its sides in exchange: a label of a prefix p becomes 1 - p, as it is that of the chosen side."""
    sides = {f"{a}{part}": getattr(example, f"{b}{part}") for a, b in (SIDES, SIDES[::-1]) for part in OF_A_SIDE}
    first = {"chosen": "rejected", "rejected": "chosen"}.get(example.first, "")
    labels = tuple(1 - label for label in example.prefix_labels)
    return replace(example, **sides, first=first, models=example.models[::-1], prefix_labels=labels)
