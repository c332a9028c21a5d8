"""The columns of a comparison, their settings and the settings that all of them share; used by every page that generates."""

import json
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import gradio as gr

from pages import ids
from pages.components import ColumnSettings
from pages.handlers import quoted, read_json, read_number, read_text
from pages.reports import name_words
from pages.roles import describe_roles, guides_of, read_combine, read_guides
from pages.token_view import TokenView
from rgtg.config import COLUMN_NAMES, MAX_COLUMNS, GenerationConfig
from rgtg.errors import BadSettings, RgtgError
from rgtg.guidance.methods import BASE, METHODS, Parameter, by_group
from rgtg.records import ColumnSpec, ModelCard, plain_params
from rgtg.workbench.columns.mixes import DEFAULT, describe_combinations, is_mix, read_mix
from rgtg.workbench.workbench import Workbench

MAX_SEED = 2**31 - 1
MAX_TEXT = 2_000  # characters of a parameter that is a text
SHARED = ("max_new_tokens", "temperature", "top_k", "top_p")
SYMBOLS = {"alpha": "α", "beta": "β", "mu": "μ", "weight": "λ"}
LABELS = {"max_new_tokens": "max new tokens", "top_k": "top k", "top_p": "top p"}


# ---- layout -----------------------------------------------------------------------------------------


class Columns:
    """A to F with settings, the letters behind them for branches: `views` and `settings` by letter."""

    def __init__(self, workbench: Workbench, specs: Sequence[ColumnSpec]):
        assert specs
        self.views: dict[str, TokenView] = {}
        self.settings: dict[str, ColumnSettings] = {}
        described = {"methods": describe_methods(workbench), "models": describe_models(workbench), "combinations": describe_combinations()}
        defaults = [*specs, *others(workbench, specs)]
        with gr.Row(elem_id=ids.COLUMNS):
            for place, name in enumerate(COLUMN_NAMES):
                with gr.Column(elem_id=ids.column(name), elem_classes=["rgtg-column"], min_width=0):
                    value = write_spec(defaults[place]) if place < MAX_COLUMNS else "{}"
                    own: dict[str, Any] = described if place < MAX_COLUMNS else {"branch": "branch"}
                    self.settings[name] = ColumnSettings(value, column=name, place=place, elem_id=ids.column_settings(name), **own)
                    self.views[name] = TokenView(column=name, elem_id=ids.view(name))

    @property
    def inputs(self) -> list[ColumnSettings]:
        """The settings of A to F, as a handler takes them."""
        return [self.settings[name] for name in COLUMN_NAMES[:MAX_COLUMNS]]


# ---- values for the page, and back ---------------------------------------------------------------------


def describe_methods(workbench: Workbench) -> list[dict]:
    """The methods with their parameters, as JSON objects for forms.js."""
    return [
        {
            "key": m.key,
            "title": m.title,
            "group": group,
            "about": m.about,
            "uses_reward": m.uses_reward,
            "objectives": m.objectives,
            "roles": describe_roles(m),
            "parameters": [_describe(p, dict(m.line_up).get(p.name, p.default)) for p in _texts_early(m.parameters)],
        }
        for group, methods in by_group(workbench.methods().values()).items()
        for m in methods
    ]


def _texts_early(parameters: Sequence[Parameter]) -> list[Parameter]:
    """The parameters with those that a person writes behind the first, which alone is always in sight."""
    return [*parameters[:1], *sorted(parameters[1:], key=lambda parameter: not parameter.is_text)]


def _describe(parameter: Parameter, default: float | int | str | bool) -> dict:
    """{"name", "label", "help", "default", "min", "max", "choices", "unit", "whole"}: one input of a column's header."""
    description = asdict(parameter) | plain_params((("default", default),))
    del description["also"]  # infinite, which JSON has not
    label = SYMBOLS.get(parameter.name, parameter.name.replace("_", " "))
    return description | {"label": label, "whole": isinstance(parameter.default, int), "text": parameter.is_text}


def describe_models(workbench: Workbench) -> list[dict]:
    """The models that can guide, each with its label, objective, training signal and the base LMs it fits; base LMs only in a role."""
    by_name: dict[str, dict] = {}
    for lm in workbench.library.base_lms():
        own = {m.name.partition("[")[0] for m in workbench.library.trained_for(lm.name)}
        for m in [*workbench.library.guides(lm.name), *workbench.library.language_models(lm.name)]:
            card = m.card or ModelCard("reward_model", m.name)
            description: dict[str, Any] = {
                "name": m.name,
                "label": name_words(m),
                "objective": card.objective,
                "about": card.trained_on or card.source,
                "fits": [],
                "trained_for": [],
                "only_role": m.kind == "base_lm",
            }
            description = by_name.setdefault(m.name, description)
            description["fits"].append(lm.name)
            description["trained_for"] += [lm.name] if m.name.partition("[")[0] in own else []
    return list(by_name.values())


def reward_labels(workbench: Workbench) -> dict[str, str]:
    """The label of every reward model and judge by name, as pickers show it: "mine (not recommended)"."""
    return {m.name: name_words(m) for m in workbench.library.models() if m.kind != "base_lm"}


def default_columns(workbench: Workbench) -> list[ColumnSpec]:
    """The workbench's default columns; only the base LM where no model is installed, so that the page still opens."""
    try:
        return workbench.default_columns()[:MAX_COLUMNS]
    except RgtgError:
        return [ColumnSpec(BASE)]


def others(workbench: Workbench, specs: Sequence[ColumnSpec]) -> list[ColumnSpec]:
    """Initial settings of the columns after `specs`: the first method of each rule not used yet for which a reward model is installed."""
    methods, filled = workbench.methods(), list(specs)
    for m in methods.values():
        guide = workbench.library.guide_for(m.key)
        if m.rule not in [methods[spec.method].rule for spec in filled] and (guide or not m.uses_reward):
            filled.append(ColumnSpec(m.key, m.line_up, guide))
    return [*filled[len(specs) :], *[filled[-1]] * MAX_COLUMNS]


def setting_fields(workbench: Workbench) -> list[dict]:
    """The inputs for the settings that all columns share, from GenerationConfig."""
    config = GenerationConfig.__dataclass_fields__
    numbers = [
        {
            "name": n,
            "label": LABELS.get(n, n),
            "help": config[n].metadata["help"],
            "min": config[n].metadata["min"],
            "max": config[n].metadata["max"],
            "step": 1 if config[n].type is int else "any",
        }
        for n in SHARED
    ]
    seed = {
        "name": "seed",
        "label": "seed",
        "help": "Random seed, shared by all columns. Entering a value locks it",
        "min": 0,
        "max": MAX_SEED,
        "step": 1,
    }
    lock = {
        "name": "lock",
        "label": "locked",
        "kind": "check",
        "help": "Keep this seed, so that Generate repeats the same answers. Unlocked, every Generate draws a new seed",
    }
    new = {"name": "new", "label": "new", "kind": "button", "help": "Draw a new seed"}
    count = {
        "name": "columns",
        "label": "columns",
        "choices": list(range(1, MAX_COLUMNS + 1)),
        "whole": True,
        "help": "Number of columns to generate",
    }
    lms = {
        "name": "base_lm",
        "label": "base LM",
        "choices": [m.name for m in workbench.library.base_lms()],
        "help": "Base language model, shared by all columns",
    }
    return [lms, count, seed, lock, new, *numbers]


def default_settings(workbench: Workbench, num_columns: int) -> dict:
    lms = workbench.library.base_lms()
    return write_settings(lms[0].name if lms else "", num_columns, 17, GenerationConfig(), lock=False)


def write_settings(base_lm: str, columns: int, seed: int, generation: GenerationConfig, lock: bool = True) -> dict:
    """The value of Settings, as `read_settings` reads it."""
    return {"base_lm": base_lm, "columns": columns, "seed": seed, "lock": lock} | {name: getattr(generation, name) for name in SHARED}


def write_spec(spec: ColumnSpec) -> str:
    """The value of ColumnSettings, as `read_spec` reads it."""
    value: dict[str, Any] = {"method": spec.method, "reward_model": spec.reward_model, "params": plain_params(spec.params)}
    if roles := guides_of(spec, METHODS.get(spec.method)):
        value |= {"reward_model": None, "guides": [list(guide) for guide in roles], "combine": spec.combine}
    elif is_mix(spec.guides, spec.combine):
        value |= {"reward_model": spec.reward_model or spec.guides[0][0], "guides": [list(guide) for guide in spec.mix], "combine": spec.combine}
    elif spec.guides:
        value["reward_model"] = spec.guides[0][0]
    return json.dumps(value, allow_nan=False)


def read_spec(text: object, column: str, workbench: Workbench, base_lm: str | None) -> ColumnSpec:
    """Column settings from the browser's JSON; raises BadSettings for an unknown method or reward model, or a parameter out of range."""
    fields = read_json(text, f"settings of column {column}")
    methods = workbench.methods()
    if not isinstance(fields.get("method"), str) or fields["method"] not in methods:
        raise BadSettings(f"The method of column {column} is unknown.", f"The methods are: {', '.join(methods)}.", "", f"{column}-method")
    method, params_sent = methods[fields["method"]], fields.get("params", {})
    if not isinstance(params_sent, dict):
        raise BadSettings(f"The parameters of column {column} could not be read.", f"Found {quoted(params_sent)}.", "Choose the method again.")
    params = tuple((p.name, _read_parameter(params_sent[p.name], p, column)) for p in method.parameters if p.name in params_sent)
    if not method.uses_reward:
        return ColumnSpec(method.key, params)
    if method.roles and (guides := read_guides(fields.get("guides"), method, column, workbench, base_lm)):
        return ColumnSpec(method.key, params, guides=guides, combine=read_combine(fields.get("combine", DEFAULT), column))
    names, name = [m.name for m in workbench.library.guides(base_lm)], fields.get("reward_model")
    if method.roles and name is None and workbench.library.guide_for(method.key, base_lm):
        return ColumnSpec(method.key, params)
    if fields.get("guides") and not method.roles:
        guides, combining = read_mix(fields["guides"], fields.get("combine", DEFAULT), names, column)
        return ColumnSpec(method.key, params, guides=guides, combine=combining)
    if name not in names:
        available = f"Available: {', '.join(names)}." if names else "None is installed."
        wrong = f"Column {column} needs a reward model trained for the base LM" + (f" `{base_lm}`." if base_lm else ".")
        remedy = (
            "Choose one in the column's header."
            if names
            else "Train one on the Train page, add one on the Models page, or choose the method Base LM."
        )
        raise BadSettings(wrong, available, remedy, f"{column}-reward_model")
    return ColumnSpec(method.key, params, name)


def _read_parameter(value: Any, parameter: Parameter, column: str) -> float | int | str:
    field = f"{column}-{parameter.name}"
    if parameter.choices:
        if value not in parameter.choices:
            wrong = f"`{parameter.name}` in column {column} has to be one of: {', '.join(map(str, parameter.choices))}."
            raise BadSettings(wrong, f"Found {quoted(value)}.", field=field)
        return value
    if parameter.is_text:
        return "" if value == "" else read_text(value, f"{parameter.name} in column {column}", MAX_TEXT, field=field)
    if parameter.min is None or parameter.max is None:
        raise BadSettings(f"`{parameter.name}` in column {column} cannot be set on this page.")
    infinite = {str(number): number for number in parameter.also}
    if isinstance(value, str) and value in infinite:
        return infinite[value]
    whole = isinstance(parameter.default, int)
    return read_number(value, f"{parameter.name} in column {column}", parameter.min, parameter.max, whole, field)


def read_settings(text: object, workbench: Workbench) -> dict:
    """The shared settings, {base_lm, columns, seed, lock, generation}, from JSON; raises BadSettings naming the wrong field."""
    fields = read_json(text, "settings")
    config, lms = GenerationConfig.__dataclass_fields__, [m.name for m in workbench.library.base_lms()]
    if fields.get("base_lm") not in lms:
        raise BadSettings("That base LM is not installed.", f"Available: {', '.join(lms) or 'none'}.", "Choose one of these.", "base_lm")
    numbers: dict[str, Any] = {
        n: read_number(fields.get(n), LABELS.get(n, n), config[n].metadata["min"], config[n].metadata["max"], config[n].type is int, n)
        for n in SHARED
    }
    num_columns = read_number(fields.get("columns"), "columns", 1, MAX_COLUMNS, whole=True)
    seed = read_number(fields.get("seed"), "seed", 0, MAX_SEED, whole=True)
    return {
        "base_lm": fields["base_lm"],
        "columns": num_columns,
        "seed": seed,
        "lock": fields.get("lock") is not False,
        "generation": GenerationConfig(**numbers),
    }
