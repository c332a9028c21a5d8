"""A comparison as what makes it again: the command, a Python script, or JSON.

Functions of records. Knows nothing of models or of the screen.
"""

import json
import math
import shlex
from collections.abc import Callable
from dataclasses import asdict, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rgtg.config import GenerationConfig
from rgtg.errors import BadSettings, RgtgError
from rgtg.guidance.methods import METHODS, parse_run
from rgtg.records import ColumnSpec, Comparison, Run, Trace, plain_params
from rgtg.workbench.library import ships

if TYPE_CHECKING:
    from rgtg.workbench.library import Library

Address = Callable[[str], str]  # of a model: how a command names it, by its name or its folder


def address_in(library: "Library") -> Address:
    """How a command on this machine names a model: by its name if any start of rgtg lists it, else by its folder or Hub id."""

    def address(name: str) -> str:
        info = next((m for m in library.models() if m.name == name), None)
        if info is None or ships(info) or name in library.added() or library.settings.models_dir in Path(info.folder_or_id).parents:
            return name
        return info.folder_or_id

    return address


def number_text(value: float | int | str | bool) -> str:
    """The shortest text that is read as the same value: 2.0 -> "2", 0.1 -> "0.1"."""
    if isinstance(value, float):
        return f"{value:g}" if math.isinf(value) or float(f"{value:g}") == value else repr(value)
    return str(value)


def run_text(spec: ColumnSpec, address: Address = str) -> str:
    """Column settings as text that `parse_run` reads as the same: `pargs:beta=2,reward_model=partial`; defaults are left out.

    Raises BadSettings where a name has a character that such a text cannot hold.
    """
    method = METHODS[spec.method]
    defaults = {p.name: p.default for p in method.parameters}
    settings = [f"{name}={number_text(value)}" for name, value in spec.params if defaults.get(name) != value]
    settings += _models(spec, address)
    if spec.combine != ColumnSpec(spec.method).combine:
        settings.append(f"combine={spec.combine}")
    if spec.generation is not None:
        settings += [f"{name}={number_text(value)}" for name, value in asdict(spec.generation).items()]
    text = spec.method + (":" if settings else "") + ",".join(settings)
    if not _is_read_as(text, spec, address):
        wrong = f"The settings of a column with `{spec.method}` cannot be written as one line."
        raise BadSettings(wrong, f"Found `{text:.200}`.", "Rename the model: a name may have no comma, plus or asterisk.")
    return text


def _models(spec: ColumnSpec, address: Address) -> list[str]:
    roles = METHODS[spec.method].roles
    if roles and [weight for _, weight in spec.mix] == [role.weight for role in roles]:
        return [f"{role.name}={address(name)}" for role, (name, _) in zip(roles, spec.mix, strict=True) if name]
    if len(spec.mix) == 1 and spec.mix[0][1] == 1:
        return [f"{roles[0].name if roles else 'reward_model'}={address(spec.mix[0][0])}"]
    mix = "+".join(address(name) + ("" if weight == 1 else f"*{number_text(float(weight))}") for name, weight in spec.mix)
    return [f"guides={mix}"] if mix else []


def _is_read_as(text: str, spec: ColumnSpec, address: Address) -> bool:
    """Whether the text gives the settings back, but for parameters that are at their default."""
    try:
        read = parse_run(text, spec.generation or GenerationConfig())
        made = METHODS[spec.method].make
        models = tuple((address(name) if name else "", weight) for name, weight in spec.mix)
        roles = METHODS[spec.method].roles
        by_default = tuple(("", role.weight) for role in roles)
        if roles and len(models) == 1 and models[0][1] == 1:  # the first role alone
            models = (models[0][0], roles[0].weight), *by_default[1:]
        same_models = (read.mix or by_default) == (models or by_default)
        return made(read.params) == made(spec.params) and same_models and read.combine == spec.combine
    except RgtgError:
        return False


def spec_of(run: Run) -> ColumnSpec:
    """The column settings that reproduce this run."""
    guides = tuple((ref.name, weight) for ref, weight in run.guides)
    if len(guides) == 1 and guides[0][1] == 1:
        return ColumnSpec(run.method, run.params, guides[0][0], combine=run.combine)
    return ColumnSpec(run.method, run.params, guides=guides, combine=run.combine)


def _columns(comparison: Comparison) -> list[Trace]:
    """The traces that a new comparison makes again: not branches, nor what was continued."""
    traces = [trace for trace in comparison.traces if trace.parent_trace_id is None]
    if not traces or any(trace.run.method not in METHODS for trace in traces):
        raise BadSettings("This comparison cannot be made again.", "A method of it no longer exists.", "Copy it as JSON.")
    return traces


def _runs(traces: list[Trace], address: Address) -> list[str]:
    """The text of each column; what differs from the first column's generation settings is among its settings."""
    shared, texts = asdict(traces[0].run.generation), []
    for trace in traces:
        own = {name: value for name, value in asdict(trace.run.generation).items() if shared[name] != value}
        text = run_text(spec_of(trace.run), address)
        settings = ",".join(f"{name}={number_text(value)}" for name, value in own.items())
        texts.append(text + (("," if ":" in text else ":") + settings if settings else ""))
    return texts


def command(comparison: Comparison, address: Address = str) -> str:
    """The command that writes the answers again, token for token; branches are left out. Raises BadSettings."""
    traces = _columns(comparison)
    run = traces[0].run
    words = ["rgtg", "generate", f"--prompt={run.prompt}", f"--base-lm={address(run.base_lm.name)}"]
    words += [word for text in _runs(traces, address) for word in ("--run", text)]
    words += ["--seed", str(run.seed)]
    for f in fields(GenerationConfig):
        words += ["--" + f.name.replace("_", "-"), number_text(getattr(run.generation, f.name))]
    return shlex.join(words)


def python(comparison: Comparison, address: Address = str) -> str:
    """A Python script that writes the answers again, token for token; branches are left out. Raises BadSettings."""
    traces = _columns(comparison)
    run = traces[0].run
    models = dict.fromkeys(address(ref.name) for trace in traces for ref in trace.run.models if ref.name != run.base_lm.name)
    runs = "".join(f"        {text!r},\n" for text in _runs(traces, address))
    settings = "".join(f"    {name}={value!r},\n" for name, value in asdict(run.generation).items())
    return (
        f"import rgtg\n\nmodels = rgtg.load_models({address(run.base_lm.name)!r}, {list(models)!r})\n"
        f"comparison = rgtg.compare(\n    {run.prompt!r},\n    [\n{runs}    ],\n    models,\n    seed={run.seed},\n{settings})\n"
        "for column, event in comparison:\n    pass  # a token each: see docs/python.md\n"
        "for trace in comparison.traces:\n    print(trace.column, trace.response)\n"
    )


def as_json(comparison: Comparison, address: Address = str) -> str:
    """What was asked and what came of it, without the tokens: an object with a list of columns, branches among them."""
    columns = [
        {
            "column": trace.column, "method": trace.run.method, "params": plain_params(trace.run.params),
            "guides": [[ref.name, weight] for ref, weight in trace.run.guides], "combine": trace.run.combine,
            "observers": [ref.name for ref in trace.run.observers], "generation": asdict(trace.run.generation),
            "token_ids": list(trace.token_ids), "text": trace.response, "stop_reason": trace.stop_reason,
            "branch_of": trace.parent_trace_id, "branch_position": trace.branch_position, "id": trace.id,
        }
        for trace in comparison.traces
    ]  # fmt: skip
    run = comparison.traces[0].run
    head: dict[str, Any] = {"comparison": comparison.id, "prompt": comparison.prompt, "base_lm": asdict(run.base_lm), "seed": run.seed}
    return json.dumps(head | {"versions": dict(run.versions), "columns": columns}, ensure_ascii=False, allow_nan=False, indent=2)


FORMS: dict[str, Callable[[Comparison, Address], str]] = {"command": command, "Python": python, "JSON": as_json}
