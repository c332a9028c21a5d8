"""The list of methods: one line a method. The fields of its rule are the sliders and the command-line flags.

Knows nothing of models, the engine or the screen.
"""

import math
from dataclasses import dataclass, field, fields
from functools import lru_cache

from rgtg.errors import BadSettings
from rgtg.guidance.base import GuidanceMethod
from rgtg.guidance.rules import Base, RewardShift
from rgtg.guidance.segments import CARDS, BlockBestOfK
from rgtg.guidance.sequences import BestOfN, Particles
from rgtg.records import Candidate, Params, Run


@dataclass(frozen=True)
class Parameter:
    """One field of a rule, as a slider, a choice or a flag needs it."""

    name: str
    help: str
    default: float | int | str
    min: float | None = None
    max: float | None = None
    choices: tuple[str, ...] = ()
    also: tuple[float, ...] = ()  # values outside the range that it may have as well


@dataclass(frozen=True)
class Method:
    """A name on screen for a method's class with some of its fields set.

    `objective` is how its reward model is trained by preference; `line_up` are the parameters with which a line-up begins; `summary` says
    what sets it apart from others of its class.
    """

    key: str
    title: str
    rule: type[GuidanceMethod]
    settings: dict = field(default_factory=dict, hash=False)
    objective: str = ""
    line_up: Params = ()
    summary: str = ""

    @property
    def about(self) -> str:
        """What it does, in a sentence: its own, or the first line of the rule's docstring."""
        return self.summary or (self.rule.__doc__ or "").strip().splitlines()[0]

    @property
    def uses_reward(self) -> bool:
        return self.rule.uses_reward

    @property
    def parameters(self) -> tuple[Parameter, ...]:
        """The rule's fields with this method's defaults."""
        return tuple(
            Parameter(
                f.name, f.metadata["help"], self.settings.get(f.name, f.default),
                f.metadata.get("min"), f.metadata.get("max"), tuple(f.metadata.get("choices", ())), tuple(f.metadata.get("also", ())),
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
ARGS = "Add β times the reward of each candidate to its log probability; the reward model was trained on complete answers."
PARGS = "Add β times the reward of each candidate to its log probability; the reward model was trained on partial answers, so it can judge one."
PARGS_GREEDY = "Take the candidate with the highest sum of log probability and β times the reward of a model trained on partial answers."
FARMA = "Add β times the reward of each candidate to its log probability; one forward pass of the reward model scores all next tokens."
GENARM = "Add β times the log probability that an autoregressive reward model gives each candidate to the base LM's own."
METHODS: dict[str, Method] = {
    m.key: m
    for m in (
        Method("base", "Base LM", Base),
        Method("args", "ARGS", RewardShift, {"pick": "sample"}, "full", WEIGHT_2, ARGS),
        Method("pargs", "PARGS", RewardShift, {"pick": "sample"}, "partial", WEIGHT_2, PARGS),
        Method("pargs-greedy", "PARGS-G", RewardShift, {"pick": "greedy"}, "partial", WEIGHT_2, PARGS_GREEDY),
        Method("farma", "FaRMA", RewardShift, {"pick": "sample"}, "vocabulary", WEIGHT_2, FARMA),
        Method("genarm", "GenARM", RewardShift, {"pick": "sample"}, "autoregressive", WEIGHT_2, GENARM),
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


def rule_of(run: Run) -> GuidanceMethod | None:
    """The rule at work in a stored run; None where its method, or a parameter of it, is gone."""
    return _rule(run.method, run.params)


@lru_cache(maxsize=256)
def _rule(key: str, params: Params) -> GuidanceMethod | None:
    try:
        return method(key).make(params)
    except BadSettings:
        return None


def term_names(run: Run) -> tuple[str, ...]:
    """What the parts of a candidate's score are called: ("log p", "β·r"); () where the method is gone."""
    rule = rule_of(run)
    return tuple(rule.terms(0.0, 0.0)) if rule else ()


def terms_of(run: Run, candidate: Candidate) -> dict[str, float]:
    """The parts of a candidate's score by name, in numbers: {"log p": -2.1, "β·r": 3.0}, whose sum is its score.

    {} where that cannot be said: the method is gone, a guide's reward was not kept, or the rule's parts do not add up to the score
    that was compared (another way to combine rewards, say). A false sum is never given.
    """
    rule, rewards = rule_of(run), dict(candidate.rewards)
    known = all(ref.name in rewards for ref, _ in run.guides)
    if rule is None or (not known and rule.uses_reward and rule.rescores):
        return {}
    reward = sum(weight * rewards[ref.name] for ref, weight in run.guides) if known else 0.0
    terms = {name: float(value) for name, value in rule.terms(candidate.log_prob, reward).items()}
    return terms if math.isclose(sum(terms.values()), candidate.score, rel_tol=1e-4, abs_tol=1e-3) else {}
