"""The registry of rewards that a person makes, MADE, and how one is read from JSON and becomes a reward model.

A new kind needs its class and one line in MADE. Knows nothing of where the files are kept.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rgtg.errors import BadData, BadSettings, door, printable
from rgtg.models.lm import BaseLM
from rgtg.records import ModelRef
from rgtg.rewards.made.definition import Definition, check_name, content_hash
from rgtg.rewards.made.language import FollowUp, Prompted
from rgtg.rewards.made.rules import LengthRule, PatternRule, RepetitionRule, WordListRule
from rgtg.rewards.text import TextRewardModel, TextScorer
from rgtg.system.serialization import read_json

MADE: dict[str, type[Definition]] = {
    "length": LengthRule,
    "repetition": RepetitionRule,
    "pattern": PatternRule,
    "words": WordListRule,
    "follow-up": FollowUp,
    "prompted": Prompted,
}
ABOUT = "about"


@dataclass(frozen=True)
class Made:
    """A named definition of a kind."""

    name: str
    kind: str
    definition: Definition

    def plain(self) -> dict[str, Any]:
        """The content of its JSON file; `about` is for lists that do not read the other fields."""
        return {"name": self.name, "kind": self.kind, ABOUT: self.definition.about} | self.definition.plain()


def made_of(values: object) -> Made:
    """The reward that an object {"name", "kind", …} defines. Raises BadSettings that names the field."""
    if not isinstance(values, dict):
        raise BadSettings("A reward is a JSON object.", f"Found {values!r:.60}.", 'Write {"name": "short", "kind": "length", "target": 12}.')
    name, kind = check_name(values.get("name")), values.get("kind")
    if kind not in MADE:
        raise BadSettings(f"There is no kind of reward `{kind!s:.60}`.", f"Known: {', '.join(MADE)}.", field="kind")
    return Made(name, kind, MADE[kind].of({key: value for key, value in values.items() if key not in ("name", "kind", ABOUT)}))


def read_made(path: Path) -> Made:
    """The reward that a JSON file defines. Raises BadData for a file that cannot be read, BadSettings for wrong fields."""
    with door(printable(f"`{path}` is not a reward."), "Give a JSON file with `name`, `kind` and the fields of that kind.", BadData):
        values = read_json(path)
    return made_of(values)


@dataclass(frozen=True, eq=False)
class MadeRewardModel(TextRewardModel):
    """A reward that a person made; `lm` is the language model that it names, None where it asks the base LM of a run or none."""

    made: Made
    lm: BaseLM | None = None

    @property
    def ref(self) -> ModelRef:
        revision = self.lm.loaded.ref.revision if self.lm else ""
        return ModelRef(self.made.name, content_hash(self.made.kind, self.made.definition, revision))

    @property
    def cost(self) -> str:
        return self.made.definition.cost

    @property
    def num_readings(self) -> int:
        """How often a language model reads each text."""
        return self.made.definition.num_readings

    def scorer(self, lm: BaseLM) -> TextScorer:
        return self.made.definition.scorer(self.lm or lm)


def reward_model_of(made: Made, find_lm: Callable[[str], BaseLM]) -> MadeRewardModel:
    """The reward model of a definition; `find_lm` loads the language model that it names."""
    return MadeRewardModel(made, find_lm(made.definition.asks) if made.definition.asks else None)
