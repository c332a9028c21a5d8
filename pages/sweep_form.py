"""The form of a sweep: what it can choose from, and the checked grid from what a browser sent.

Talks to the workbench; knows nothing of processes or of how the page is laid out.
"""

import json
from pathlib import Path
from typing import Any

from pages import temporary
from pages.columns import describe_methods, describe_models
from pages.handlers import quoted, read_json, read_number, read_text
from pages.reports import name_words
from pages.roles import models_for
from pages.token_view import _Drawn
from rgtg.config import PROMPTS_DIR, GenerationConfig
from rgtg.errors import BadSettings
from rgtg.guidance.methods import LINE_UP, Method
from rgtg.workbench.sweeping import prompts
from rgtg.workbench.sweeping.grid import MAX_PROMPTS, MAX_SEEDS, TOP_K, Grid, Row, generation_parameter, grid_of, read_models, read_values
from rgtg.workbench.workbench import Workbench

MAX_PROMPT_TEXT, MAX_TEXT, MAX_ROWS, MAX_SEED = 200_000, 2_000, 20, 2**31 - 1
SHARED = ("max_new_tokens", "temperature", "top_p")  # of all rows; k is each row's own
LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"


class GridForm(_Drawn):
    """The grid as JSON; `methods`, `models`, `sources`, `lms`, `judges` and `fields` are what it can choose from. Events `changed`, where the
    number of answers or the time may change, and `copy_command`."""

    def __init__(self, value: str = "{}", **props: Any):
        choices: dict[str, Any] = {key: [] for key in ("methods", "models", "sources", "lms", "judges", "fields")}
        script = "rgtg.gridForm(element, props, trigger, watch, upload, 'changed', 'copy_command')"
        super().__init__(value, js_on_load=script, **choices | props)


def choices(workbench: Workbench) -> dict[str, Any]:
    """The props of GridForm: all that it can choose from."""
    lms = workbench.library.base_lms()
    judges = {lm.name: [[m.name, name_words(m)] for m in (*workbench.library.judges(lm.name), *workbench.library.guides(lm.name))] for lm in lms}
    sources = [[prompts.TYPED, "typed, one a line"], *([name, name] for name in prompts.files()), [prompts.FILE, "a file …"]]
    return {
        "methods": describe_methods(workbench), "models": describe_models(workbench), "sources": sources, "lms": [m.name for m in lms],
        "judges": judges, "fields": [_field(name) for name in SHARED], "k": _field(TOP_K),
    }  # fmt: skip


def _field(name: str) -> dict[str, Any]:
    parameter = generation_parameter(name)
    label = {TOP_K: "k", "max_new_tokens": "max new tokens"}.get(name, name.replace("_", " "))
    step = 1 if isinstance(parameter.default, int) else "any"
    limits = {"min": parameter.min, "max": parameter.max, "step": step, "default": parameter.default}
    return {"name": name, "label": label, "help": parameter.help} | limits


def default_form(workbench: Workbench) -> dict[str, Any]:
    """A grid that can be started at once: the default line-up with four weights, on the prompts that ship."""
    lms, files = workbench.library.base_lms(), prompts.files()
    lm = lms[0].name if lms else ""
    judge = next(iter(workbench.library.judges(lm) or workbench.library.guides(lm)), None) if lm else None
    methods, rows = workbench.methods(), []
    for key in LINE_UP:
        guide, weight = workbench.library.guide_for(key, lm) if lm else None, methods[key].weight
        if guide or not methods[key].uses_reward:
            rows.append({"method": key, "reward_model": guide, "params": {weight.name: "0.5, 1, 2, 4"} if weight else {}})
    config = GenerationConfig()
    shared = {name: getattr(config, name) for name in SHARED}
    source = {"source": files[0] if files else prompts.TYPED, "base_lm": lm, "judge": judge.name if judge else ""}
    return source | shared | {"seeds": 1, "seed": 0, "name": "", "rows": rows}


def read_form(text: object, typed: object, workbench: Workbench) -> tuple[str, Grid]:
    """(name, grid) of the form; the name is "" where none was given. Raises BadSettings naming the field."""
    form = read_json(text, "form")
    lms = [m.name for m in workbench.library.base_lms()]
    if (lm := form.get("base_lm")) not in lms:
        raise BadSettings("That base LM is not installed.", f"Available: {', '.join(lms) or 'none'}.", "Choose one of these.", "base_lm")
    scorers = [m.name for m in (*workbench.library.judges(lm), *workbench.library.guides(lm))]
    if (judge := form.get("judge")) not in scorers:
        found = f"Found {quoted(judge)}; available: {', '.join(scorers) or 'none'}."
        raise BadSettings("A sweep needs a judge that is installed and fits the base LM.", found, "Choose one of these.", "judge")
    config: dict[str, Any] = {}
    for name in SHARED:
        p = generation_parameter(name)
        assert p.min is not None and p.max is not None
        config[name] = read_number(form.get(name), _field(name)["label"], p.min, p.max, isinstance(p.default, int), name)
    seeds = read_number(form.get("seeds"), "seeds", 1, MAX_SEEDS, True)
    first = read_number(form.get("seed", 0), "first seed", 0, MAX_SEED, True, "seed")
    rows = form.get("rows")
    if not isinstance(rows, list) or len(rows) > MAX_ROWS:
        raise BadSettings(f"A sweep has 1 to {MAX_ROWS} rows.", f"Found {quoted(rows)}.", "Reload the page.")
    read = [_read_row(row, LETTERS[number], lm, workbench) for number, row in enumerate(rows)]
    name = form.get("name", "")
    name = "" if name == "" else read_text(name, "name", MAX_TEXT, field="name").strip()
    texts = _read_prompts(form, typed, workbench)
    return name, grid_of(lm, str(judge), read, texts, GenerationConfig(**config), int(seeds), int(first))


def prompt_options(text: object, typed: object, workbench: Workbench) -> tuple[str, ...]:
    """The options of the command line that name the prompts of the form: its file, or () where they were typed or uploaded."""
    form = read_json(text, "form")
    read = _read_prompts(form, typed, workbench)
    if form["source"] == prompts.TYPED or form.get("uploaded") or len(set(read)) < len(read):
        return ()
    file = str(form["file"]) if form["source"] == prompts.FILE else str(PROMPTS_DIR / form["source"])
    return ("--prompts", file.strip(), *(["--limit", str(int(form["limit"]))] if form.get("limit") else []))


def _read_prompts(form: dict[str, Any], typed: object, workbench: Workbench) -> list[str]:
    source, limit = form.get("source"), form.get("limit")
    limit = None if limit is None else int(read_number(limit, "first", 1, MAX_PROMPTS, True, "limit"))
    if source == prompts.TYPED:
        text = read_text(typed, "prompt", MAX_PROMPT_TEXT, "Type some, one a line, or choose a file.", "grid-prompts")
        return prompts.typed(text)[:limit]
    if source == prompts.FILE:
        path = Path(read_text(form.get("file"), "file of prompts", MAX_TEXT, "Upload one, or give its path.", "file").strip()).expanduser()
        if workbench.settings.public:
            temporary.check_uploaded(path, "file")
        return prompts.from_file(path, limit, "file")
    if source not in prompts.files():
        raise BadSettings("The source of the prompts is unknown.", f"Found {quoted(source)}.", "Choose one.", "source")
    return prompts.from_file(PROMPTS_DIR / str(source), limit, "source")


def _read_row(row: object, letter: str, lm: str, workbench: Workbench) -> Row:
    methods = workbench.methods()
    if not isinstance(row, dict) or row.get("method") not in methods:
        raise BadSettings(f"The method of row {letter} is unknown.", f"The methods are: {', '.join(methods)}.", "", f"{letter}-method")
    method, sent = methods[row["method"]], row.get("params", {})
    if not isinstance(sent, dict):
        raise BadSettings(f"The parameters of row {letter} could not be read.", f"Found {quoted(sent)}.", "Choose the method again.")
    params = []
    for p in method.parameters:
        field = f"{letter}-{p.name}"
        values = read_values(_values_text(sent.get(p.name, ""), p.name, letter, field), p, field)
        params += [(p.name, values)] if values else []
    k_field = f"{letter}-{TOP_K}"
    top_k: Any = read_values(_values_text(row.get(TOP_K, ""), "k", letter, k_field), generation_parameter(TOP_K), k_field)
    if not method.uses_reward:
        return Row(method.key, tuple(params), top_k)
    if method.roles:
        return Row(method.key, tuple(params), top_k, guides=_read_roles(row.get("guides"), method, letter, lm, workbench))
    names = [m.name for m in workbench.library.guides(lm)]
    field = f"{letter}-reward_model"
    mix = row.get("reward_model")
    if not isinstance(mix, str) or not mix.strip() or len(mix) > MAX_TEXT:
        found = f"Available: {', '.join(names)}." if names else "None is installed."
        raise BadSettings(f"Row {letter} needs a reward model.", found, "Choose one, or another method.", field)
    reward_model, guides = read_models(mix, names, field)
    return Row(method.key, tuple(params), top_k, reward_model, guides)


def _values_text(value: object, name: str, letter: str, field: str) -> str:
    if value is None or value == "":
        return ""
    return read_text(str(value) if isinstance(value, int | float) else value, f"{name} in row {letter}", MAX_TEXT, "Enter values.", field)


def _read_roles(sent: object, method: Method, letter: str, lm: str, workbench: Workbench) -> tuple[tuple[str, float], ...]:
    """The models of a method's roles; () where none is named, so that those that stand in have them."""
    if not sent:
        return ()
    if not isinstance(sent, list) or len(sent) != len(method.roles) or not all(isinstance(pair, list) and len(pair) == 2 for pair in sent):
        raise BadSettings(f"The models of row {letter} could not be read.", f"Found {quoted(sent)}.", "Choose the method again.")
    for number, (role, (name, _)) in enumerate(zip(method.roles, sent, strict=True)):
        known = [m.name for m in models_for(method, number, workbench, lm)]
        if name != "" and name not in known:
            found = f"Found {quoted(name)}; available: {', '.join(known) or 'none'}."
            raise BadSettings(f"Row {letter} needs a model that fits the base LM.", found, "Choose another.", f"{letter}-{role.name}")
    named = any(name for name, _ in sent)
    return tuple((name, role.weight) for role, (name, _) in zip(method.roles, sent, strict=True)) if named else ()


def draft_of(text: object, typed: object) -> str:
    """The form and the typed prompts as JSON, for a page that fills itself again."""
    return json.dumps({"form": read_json(text, "form"), "prompts": typed if isinstance(typed, str) else ""}, ensure_ascii=False)
