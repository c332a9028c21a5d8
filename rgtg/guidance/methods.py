"""The registry of guidance methods: METHODS maps each key to its class and settings.

Knows nothing of models, the engine or the screen.
"""

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import Field, asdict, dataclass, field, fields
from functools import lru_cache
from typing import Any

from rgtg.config import GenerationConfig
from rgtg.docstrings import summary
from rgtg.errors import BadSettings, RgtgError
from rgtg.guidance.base import GROUPS, GuidanceMethod
from rgtg.guidance.mixes.expressions import Check, located, parse_mix, settings_in
from rgtg.guidance.rules import FUDGE, RAD, Base, Interpolation, RewardShift, Sparse
from rgtg.guidance.segments import CARDS, BlockBestOfK, ChunkBeam, TransferQ
from rgtg.guidance.sequences import BestOfN, BestOfPoisson, Particles, SoftBestOfN, SpeculativeRejection
from rgtg.guidance.several_writers.by_hand import ByHand
from rgtg.guidance.several_writers.contrast import AlignmentAware, Contrast, ContrastivePrompt
from rgtg.guidance.several_writers.nudging import Nudging
from rgtg.guidance.several_writers.rsd import RSD
from rgtg.records import Candidate, ColumnSpec, Params, Run
from rgtg.rewards.combine import combine, combined, needs_standards


@dataclass(frozen=True)
class Parameter:
    """One parameter of a method: what a slider, a choice or a command-line flag needs of it."""

    name: str
    help: str
    default: float | int | str
    min: float | None = None
    max: float | None = None
    choices: tuple[str, ...] = ()
    also: tuple[float, ...] = ()  # allowed values outside the range
    unit: str = ""  # of what it multiplies, where that is not a reward as it is: "× log σ(r)"

    @property
    def is_text(self) -> bool:
        """Whether it is a text that a person writes."""
        return isinstance(self.default, str) and not self.choices

    @classmethod
    def of(cls, f: Field[Any], settings: Mapping[str, Any] | None = None) -> "Parameter":
        """The parameter of a dataclass field; `settings` has defaults that replace the field's own."""
        more = {name: f.metadata[name] for name in ("min", "max", "unit") if name in f.metadata}
        more |= {name: tuple(f.metadata[name]) for name in ("choices", "also") if name in f.metadata}
        return cls(f.name, f.metadata["help"], (settings or {}).get(f.name, f.default), **more)


@dataclass(frozen=True)
class Role:
    """A language model that a method reads beside the base LM, by what it is to the method; its log probabilities have this weight.

    If a run names none, the base LM itself stands in (`base_lm`), or else the first model trained for the role's or the method's `objective`.
    One role may be that of the reward model, which is no `language_model`.
    """

    name: str
    weight: float
    base_lm: bool = False
    objective: str = ""
    language_model: bool = True


@dataclass(frozen=True)
class Method:
    """A method on screen: a method class with some of its fields set.

    `objective` is the training objective of the reward model it is meant for; `line_up` are the parameters of its column in a new
    comparison; `summary` is its description where several methods share one class; `roles` are the language models it reads.
    """

    key: str
    title: str
    rule: type[GuidanceMethod]
    settings: dict = field(default_factory=dict, hash=False)
    objective: str = ""
    line_up: Params = ()
    summary: str = ""
    roles: tuple[Role, ...] = ()

    @property
    def model_setting(self) -> str:
        """The setting of `--run` that names its first model."""
        return self.roles[0].name if self.roles else "reward_model"

    @property
    def reads_log_probs(self) -> bool:
        """Whether its first model is a language model, whose log probabilities it reads."""
        return bool(self.roles) and self.roles[0].language_model

    @property
    def objectives(self) -> tuple[str, ...]:
        """Training objectives of the reward models it may take by default, the best first. A role is for a language model alone."""
        return (self.objective,) if self.reads_log_probs else tuple(dict.fromkeys((self.objective, STAND_IN)))

    def default_guide(self, objectives: Mapping[str, str]) -> str | None:
        """Its default among installed reward models, {name: training objective}: the first of the best objective, else the first at all."""
        if not self.uses_reward:
            return None
        names = [name for wanted in self.objectives for name, objective in objectives.items() if objective == wanted]
        return next(iter(names if self.reads_log_probs else [*names, *objectives]), None)

    def default_roles(self, objectives: Mapping[str, str]) -> dict[str, str]:
        """{role: model} for the roles with an objective of their own, as far as such a model is among the installed ones."""
        first = {objective: name for name, objective in reversed(list(objectives.items()))}
        return {role.name: first[role.objective] for role in self.roles if role.objective and role.objective in first}

    @property
    def about(self) -> str:
        """Description in one sentence: `summary`, or else the first paragraph of the class docstring."""
        return self.summary or summary(self.rule)

    @property
    def uses_reward(self) -> bool:
        return self.rule.uses_reward

    @property
    def parameters(self) -> tuple[Parameter, ...]:
        """Fields of the method class, with this method's defaults."""
        return tuple(Parameter.of(f, self.settings) for f in fields(self.rule))  # type: ignore[arg-type]  # each is a dataclass

    @property
    def weight(self) -> Parameter | None:
        """The parameter that weighs the reward; None for a method without one."""
        return next((p for p in self.parameters if p.name == self.rule.weighs), None)

    def make(self, params: Params = ()) -> GuidanceMethod:
        """The method object with these parameters. Raises BadSettings for an unknown parameter or a value outside its range."""
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
CD = "Add β times the reward of each candidate to its log probability; the reward model predicts the reward of the complete answer on average."
EXPERTS = "Add β times the difference of two other models' log probabilities: what an expert prefers and an anti-expert does not."
DERA = "Interpolate between the log probabilities of the base LM and of an aligned model; β beyond 1 aligns further than its training did."
IMPLICIT = "Add β times the log-ratio of a tuned model to its reference, the implicit reward of its training, to each log probability."
MOD = "Draw from the weighted product of several language models' distributions, each tuned for another objective."
EXPERT_ROLES = (Role("expert", 1.0), Role("anti_expert", -1.0, base_lm=True))
IMPLICIT_ROLES = (Role("tuned", 1.0), Role("reference", -1.0, base_lm=True))
RSD_REWARD = Role("reward_model", 1.0, language_model=False)
MOD_ROLES = (Role("first", 0.5), Role("second", 0.5, base_lm=True))
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
        Method("soft-best-of-n", "Soft best-of-n", SoftBestOfN, {}, "full"),
        Method("best-of-poisson", "Best-of-Poisson", BestOfPoisson, {}, "full"),
        Method("speculative-rejection", "Speculative rejection", SpeculativeRejection, {}, "partial"),
        Method("cards", "CARDS", CARDS, {}, "partial"),
        Method("block-best-of-k", "Block-wise best-of-k", BlockBestOfK, {}, "partial"),
        Method("chunk-beam", "Chunk beam search", ChunkBeam, {}, "partial"),
        Method("rsd", "RSD", RSD, {}, "partial", (), "", (RSD_REWARD, Role("draft", 0.0, True, "autoregressive"))),
        Method("transfer-q", "Transfer Q*", TransferQ, {}, "full", WEIGHT_2),
        Method("particles", "Particles", Particles, {}, "partial", WEIGHT_2),
        Method("experts", "Experts", Contrast, {"pick": "sample"}, "autoregressive", (), EXPERTS, EXPERT_ROLES),
        Method("dera", "DeRa", Interpolation, {"beta": 0.5}, "autoregressive", (), DERA, (Role("aligned", 1.0),)),
        Method("implicit", "Implicit reward", Contrast, {"pick": "sample"}, "autoregressive", (), IMPLICIT, IMPLICIT_ROLES),
        Method("aad", "AAD", AlignmentAware, {}, "autoregressive", (), "", IMPLICIT_ROLES),
        Method("contrastive-prompt", "Contrastive prompt", ContrastivePrompt, {}, "", WEIGHT_2),
        Method("nudging", "Nudging", Nudging, {}, "autoregressive", (), "", (Role("nudger", 1.0),)),
        Method("mod", "MOD", Interpolation, {}, "autoregressive", (), MOD, MOD_ROLES),
        Method("rad", "RAD", RAD, {}, "regression"),
        Method("fudge", "FUDGE", FUDGE, {}, "bce"),
        Method("cd", "CD", RewardShift, {"pick": "sample"}, "regression", WEIGHT_2, CD),
        Method("sparse", "Sparse guidance", Sparse, {"pick": "sample"}, "partial", WEIGHT_2),
        Method("by-hand", "By hand", ByHand, {"beta": 0.0}, "partial"),
    )
}
BASE = next(key for key, m in METHODS.items() if not m.uses_reward)
LINE_UP = (BASE, "args", "pargs")  # the columns of a new comparison
STAND_IN = METHODS[LINE_UP[-1]].objective  # of the reward model for a method whose own is not installed: it judges every prefix


def method(key: str) -> Method:
    """The method with this key. Raises BadSettings that lists the known keys."""
    if key not in METHODS:
        raise BadSettings(f"There is no method `{key}`.", f"The methods are: {', '.join(METHODS)}.")
    return METHODS[key]


def by_group(methods: Iterable[Method]) -> dict[str, list[Method]]:
    """The methods under the heading of their class, in the order of GROUPS; no empty groups."""
    groups: dict[str, list[Method]] = {group: [] for group in GROUPS}
    for m in methods:
        groups[m.rule.group].append(m)
    return {group: members for group, members in groups.items() if members}


def parse_run(text: str, generation: GenerationConfig, check: Check | None = None) -> ColumnSpec:
    """Column settings from text such as `pargs:beta=2,reward_model=partial,top_k=10`: method parameters, reward models, generation settings.

    Several reward models: `pargs:guides=partial*2+full*0.5,combine=sum`; language models by their role: `experts:expert=a,anti_expert=b`.
    Raises BadSettings that lists the known settings, and what `check` raises for the name of a model; both say where in the text.
    """
    name, _, rest = text.partition(":")
    known = {p.name: type(p.default) for p in method(name).parameters}
    shared = {f.name: type(f.default) for f in fields(GenerationConfig)}
    params: list[tuple[str, Any]] = []
    changes: dict[str, Any] = {}
    models: dict[str, Any] = {}
    texts = {p.name for p in method(name).parameters if p.is_text}
    in_roles = {role.name: "" for role in method(name).roles}
    for item, at in settings_in(rest):
        key, equals, value = item.partition("=")
        if params and params[-1][0] in texts and not (equals and key.isidentifier()):
            params[-1] = params[-1][0], f"{params[-1][1]},{item}"  # a comma within the text
            continue
        try:
            if key in ("reward_model", *in_roles) and value and check is not None:
                check(value)
            if key == "reward_model" and equals and key not in in_roles:
                models[key] = value
            elif key == "combine" and equals:
                combine(value)
                models[key] = value
            elif key in in_roles and equals:
                in_roles[key] = value
            elif key in known and equals:
                params.append((key, _number(known[key], key, value)))
            elif key in shared and equals:
                changes[key] = _number(shared[key], key, value)
            elif key != "guides" or not equals:
                settings = [*known, *in_roles, "reward_model", "guides", "combine", *shared]
                raise BadSettings(f"The run `{text}` cannot be read.", f"`{item}` is not a setting of `{name}`.", f"It has: {', '.join(settings)}.")
        except RgtgError as error:
            raise located(error, text, len(name) + 1 + at + (len(key) + 1 if equals else 0)) from error
        if key == "guides":
            models[key] = parse_mix(value, check)
    if any(in_roles.values()):
        if twice := models.keys() - {"combine"}:
            raise BadSettings(f"The run `{text}` names its models twice.", f"Found `{min(twice)}` beside a role.", "Name each model once.")
        models["guides"] = tuple((in_roles[role.name], role.weight) for role in method(name).roles)
    return ColumnSpec(name, tuple(params), generation=GenerationConfig(**asdict(generation) | changes) if changes else None, **models)


def mix_of(spec: ColumnSpec, default: str | None, base_lm: str, of_roles: Mapping[str, str] = {}) -> tuple[tuple[str, float], ...]:
    """Guides of a column with their weights: those it names; where it names none, `default` or in a role that of `of_roles` or the base LM. () if
    there are none."""
    chosen = method(spec.method)
    if not chosen.uses_reward:
        return ()
    if not chosen.roles:
        return spec.mix or (((default, 1.0),) if default else ())
    named = spec.guides or tuple((spec.reward_model or "" if i == 0 else "", role.weight) for i, role in enumerate(chosen.roles))
    stand_ins = [of_roles.get(role.name, base_lm if role.base_lm else default or "") for role in chosen.roles] + [""] * len(named)
    mix = tuple((name or stand_in, weight) for (name, weight), stand_in in zip(named, stand_ins, strict=False))
    return mix if all(name for name, _ in mix) else ()


def _number(kind: type, key: str, value: str) -> float | int | str:
    try:
        return kind(value)
    except ValueError:
        raise BadSettings(f"`{key}` has to be a {'whole number' if kind is int else 'number'}.", f"Found `{value}`.") from None


def rule_of(run: Run) -> GuidanceMethod | None:
    """Method object of a stored run; None if its method, or one of its parameters, no longer exists."""
    return _rule(run.method, run.params)


@lru_cache(maxsize=256)
def _rule(key: str, params: Params) -> GuidanceMethod | None:
    try:
        return method(key).make(params)
    except BadSettings:
        return None


def row_prompts(run: Run, encode: Callable[[str], tuple[int, ...]]) -> list[tuple[int, ...]]:
    """Prompt ids of each row of a run for the base LM, `encode` being its own."""
    rule = method(run.method).make(run.params)
    others = [encode(text) for text in rule.prompts(run.prompt)]
    return [run.prompt_ids, *others] if others else [run.prompt_ids] * rule.num_rows


def term_names(run: Run) -> tuple[str, ...]:
    """Names of the summands of a candidate's score: ("log p", "β·r"); () if the method no longer exists."""
    rule = rule_of(run)
    return tuple(rule.terms(0.0, 0.0)) if rule else ()


def terms_of(run: Run, candidate: Candidate, num_tokens: int = 1) -> dict[str, float]:
    """Summands of a candidate's score by name: {"log p": -2.1, "β·r": 3.0} adds up to its score. `num_tokens` is the length of the
    response with the candidate.

    {} if they are not known: the method no longer exists, the reward of a guide or what it is standardised by was not stored, or the
    summands do not add up to the stored score.
    """
    rule, rewards = rule_of(run), dict(candidate.rewards)
    known = all(ref.name in rewards for ref, _ in run.guides)
    if rule is None or (not known and rule.uses_reward and rule.rescores and not rule.skips):
        return {}
    if needs_standards(run):
        return {}
    own = rewards.get(rule.measure, None if rule.skips else 0.0)
    reward = combined(run, rewards, num_tokens) if known and run.guides else own
    terms = {name: float(value) for name, value in rule.terms(candidate.log_prob, reward).items()}
    return terms if math.isclose(sum(terms.values()), candidate.score, rel_tol=1e-4, abs_tol=1e-3) else {}
