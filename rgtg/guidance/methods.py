"""The list of methods: one line a method. The fields of its rule are the sliders and the command-line flags.

Knows nothing of models, the engine or the screen.
"""

from dataclasses import dataclass, field, fields

from rgtg.errors import BadSettings
from rgtg.guidance.base import GuidanceMethod
from rgtg.guidance.rules import Base, RewardShift
from rgtg.guidance.segments import CARDS, BlockBestOfK
from rgtg.guidance.sequences import BestOfN, Particles
from rgtg.records import Params


@dataclass(frozen=True)
class Parameter:
    """One field of a rule, as a slider, a choice or a flag needs it."""

    name: str
    help: str
    default: float | int | str
    min: float | None = None
    max: float | None = None
    choices: tuple[str, ...] = ()


@dataclass(frozen=True)
class Method:
    """A name on screen for a method's class with some of its fields set.

    `objective` is how its reward model is trained by preference; `line_up` are the parameters with which a line-up begins.
    """

    key: str
    title: str
    rule: type[GuidanceMethod]
    settings: dict = field(default_factory=dict, hash=False)
    objective: str = ""
    line_up: Params = ()

    @property
    def about(self) -> str:
        """The first line of the rule's docstring."""
        return (self.rule.__doc__ or "").strip().splitlines()[0]

    @property
    def uses_reward(self) -> bool:
        return self.rule.uses_reward

    @property
    def parameters(self) -> tuple[Parameter, ...]:
        """The rule's fields with this method's defaults."""
        return tuple(
            Parameter(
                f.name, f.metadata["help"], self.settings.get(f.name, f.default),
                f.metadata.get("min"), f.metadata.get("max"), tuple(f.metadata.get("choices", ())),
            )
            for f in fields(self.rule)  # type: ignore[arg-type]  # each is a dataclass
        )  # fmt: skip

    def make(self, params: Params = ()) -> GuidanceMethod:
        """The rule with these parameters; raises BadSettings naming an unknown one or one outside its range."""
        known = {p.name: p for p in self.parameters}
        for name, _ in params:
            if name not in known:
                raise BadSettings(f"Method `{self.key}` has no parameter `{name}`.", f"It has: {', '.join(known) or 'none'}.")
        return self.rule(**self.settings | dict(params))


WEIGHT_2: Params = (("beta", 2.0),)
METHODS: dict[str, Method] = {
    m.key: m
    for m in (
        Method("base", "Base LM", Base),
        Method("args", "ARGS", RewardShift, {"pick": "sample"}, "full", WEIGHT_2),
        Method("pargs", "PARGS", RewardShift, {"pick": "sample"}, "partial", WEIGHT_2),
        Method("pargs-greedy", "PARGS-G", RewardShift, {"pick": "greedy"}, "partial", WEIGHT_2),
        Method("farma", "FaRMA", RewardShift, {"pick": "sample"}, "vocabulary", WEIGHT_2),
        Method("genarm", "GenARM", RewardShift, {"pick": "sample"}, "autoregressive", WEIGHT_2),
        Method("best-of-n", "Best-of-n", BestOfN, {}, "full"),
        Method("cards", "CARDS", CARDS, {}, "partial"),
        Method("block-best-of-k", "Block-wise best-of-k", BlockBestOfK, {}, "partial"),
        Method("particles", "Particles", Particles, {}, "partial", WEIGHT_2),
    )
}
BASE = next(key for key, m in METHODS.items() if not m.uses_reward)
LINE_UP = (BASE, "args", "pargs")  # what a person compares first


def method(key: str) -> Method:
    """The method of that name; raises BadSettings with the names there are."""
    if key not in METHODS:
        raise BadSettings(f"There is no method `{key}`.", f"The methods are: {', '.join(METHODS)}.")
    return METHODS[key]
