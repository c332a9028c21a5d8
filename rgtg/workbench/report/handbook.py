"""Every method, kind of reward and training objective as their classes describe themselves, for the Help page.

Knows nothing of the screen. Loads torch only for the kinds of reward.
"""

from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, get_args, get_type_hints

from rgtg.config import GenerationConfig
from rgtg.docstrings import notes, summary
from rgtg.guidance.base import GROUPS
from rgtg.guidance.methods import METHODS, Parameter, by_group
from rgtg.training.config import shared_fields
from rgtg.training.objectives import OBJECTIVES

if TYPE_CHECKING:
    from rgtg.rewards.made.definition import Definition

MADE_ABOUT = "Rewards from a few fields, without training: the page Models has a form for them, and the terminal reads a JSON file with `--reward`."


@dataclass(frozen=True)
class Entry:
    """One method, kind of reward or objective; `notes` are (label, text) as in `rgtg.docstrings`."""

    key: str
    title: str
    about: str
    notes: tuple[tuple[str, str], ...] = ()
    parameters: tuple[Parameter, ...] = ()
    objective: str = ""  # of the reward models that a method is meant for


@dataclass(frozen=True)
class Group:
    """Entries under one heading, with a sentence on what they share."""

    title: str
    about: str
    entries: tuple[Entry, ...]


def methods() -> tuple[Group, ...]:
    """The methods by what they decide at a time; last the settings that all columns share."""
    groups = [
        Group(group, GROUPS[group], tuple(Entry(m.key, m.title, m.about, notes(m.rule), m.parameters, m.objective) for m in members))
        for group, members in by_group(METHODS.values()).items()
    ]
    shared = Entry("", "Generation settings", summary(GenerationConfig), notes(GenerationConfig), tuple(map(Parameter.of, fields(GenerationConfig))))
    return (*groups, Group("Shared by all columns", "", (shared,)))


def reward_kinds() -> tuple[Group, ...]:
    """The kinds of reward model, by what a model's card names."""
    from rgtg.rewards.kinds import KINDS  # loads torch
    from rgtg.rewards.made.kinds import MADE

    entries = []
    for key, load in KINDS.items():
        hint = get_type_hints(load)["return"]
        kind = next(iter(get_args(hint)), hint)  # the first of several
        entries.append(Entry(key, key.replace("-", " ").capitalize(), summary(load) or summary(kind), notes(kind)))
    return Group("", "", tuple(entries)), Group("Made by hand", MADE_ABOUT, tuple(_made(key, kind) for key, kind in MADE.items()))


def _made(key: str, kind: "type[Definition]") -> Entry:
    empty = {f.name: "" for f in fields(kind) if f.default == ()}
    return Entry(key, kind.title, summary(kind), notes(kind), tuple(Parameter.of(f, empty) for f in fields(kind)))


def objectives() -> tuple[Group, ...]:
    """The training objectives with their own options, then the options that all of them share."""
    entries = tuple(Entry(key, kind.paper, summary(kind), notes(kind), tuple(map(Parameter.of, fields(kind)))) for key, kind in OBJECTIVES.items())
    shared = Entry("", "Training options", "Options that have the same meaning for every objective.", (), tuple(map(Parameter.of, shared_fields())))
    return (Group("", "", entries), Group("Shared by all objectives", "", (shared,)))
