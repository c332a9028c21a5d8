"""The models of a column that has several: the language models in a method's roles, and reward models with weights.

Their value in the browser's JSON is `guides`, [[name, weight], …] as in `ColumnSpec`; in a role "" is the model that stands in.
"""

from dataclasses import asdict
from typing import Any

from pages.handlers import quoted, read_number, read_text
from rgtg.errors import BadSettings
from rgtg.guidance.methods import Method
from rgtg.records import ColumnSpec
from rgtg.workbench.workbench import Workbench

MAX_MODELS, MAX_WEIGHT = 16, 1e6
Guides = tuple[tuple[str, float], ...]


def describe_roles(method: Method) -> list[dict[str, Any]]:
    """{"name", "label", "weight", "base_lm", "objective", "language_model"} of each role, for roles.js; `base_lm`: the base LM stands in, else
    the first model that fits."""
    return [asdict(role) | {"label": role.name.replace("_", "-")} for role in method.roles]


def guides_of(spec: ColumnSpec, method: Method | None) -> Guides:
    """The guides of a column as the page holds them: one for every role, and () where one reward model is enough."""
    if method is None or not method.roles:
        return spec.guides
    named = spec.guides or ((spec.reward_model or "", method.roles[0].weight),)
    return named + tuple(("", role.weight) for role in method.roles[len(named) :])


def read_guides(sent: object, method: Method, column: str, workbench: Workbench, base_lm: str | None) -> Guides:
    """`guides` from the browser's JSON; () where none is named. Raises BadSettings naming a model that is not installed."""
    if not sent:
        return ()
    if not isinstance(sent, list) or len(sent) > MAX_MODELS or not all(isinstance(pair, list) and len(pair) == 2 for pair in sent):
        raise BadSettings(f"The models of column {column} could not be read.", f"Found {quoted(sent)}.", "Choose the method again.")
    weights = [float(read_number(weight, f"weight in column {column}", -MAX_WEIGHT, MAX_WEIGHT)) for _, weight in sent]
    if method.roles and len(sent) != len(method.roles):
        roles = ", ".join(role.name for role in method.roles)
        raise BadSettings(f"Column {column} needs a model for each role: {roles}.", f"Found {len(sent)}.", "Choose the method again.")
    for number, (name, _) in enumerate(sent):
        names = [m.name for m in models_for(method, number, workbench, base_lm)]
        field = f"{column}-{method.roles[number].name}" if method.roles else f"{column}-reward_model"
        if name in names or (method.roles and name == "" and (method.roles[number].base_lm or workbench.library.guide_for(method.key, base_lm))):
            continue
        wrong = f"Column {column} needs a model that is installed and fits the base LM" + (f" `{base_lm}`." if base_lm else ".")
        raise BadSettings(wrong, f"Found {quoted(name)}; available: {', '.join(names) or 'none'}.", "Choose one in the column's header.", field)
    return tuple((name, weight) for (name, _), weight in zip(sent, weights, strict=True)) if any(name for name, _ in sent) else ()


def models_for(method: Method, number: int, workbench: Workbench, base_lm: str | None) -> list[Any]:
    """Installed models that may have the role of this number: language models, or in the role of a reward model those that guide."""
    guides = workbench.library.guides(base_lm)
    if not method.roles[number].language_model:
        return guides
    return [
        *(m for m in guides if m.card is None or m.card.objective in ("", *_objectives(method, number))),
        *workbench.library.language_models(base_lm),
    ]


def _objectives(method: Method, number: int) -> tuple[str, ...]:
    role = method.roles[number]
    return (role.objective,) if role.objective else method.objectives


def read_combine(sent: object, column: str) -> str:
    """How the rewards of several models are combined, as text; whether there is such a way is checked with the run."""
    return read_text(sent, f"combination of rewards in column {column}", 60, "Choose one.")
