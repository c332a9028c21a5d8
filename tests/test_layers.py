"""Imports go one way: app → pages → workbench → … → records. Read with `ast`, so that imports inside functions count too."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

from rgtg.guidance.methods import METHODS
from rgtg.training.objectives import OBJECTIVES

ROOT = Path(__file__).resolve().parent.parent

# A room may import from itself and from every level below its own. A room is `app`, `pages`, or what follows `rgtg.`
LEVELS = (
    ("app", "recipes"),
    ("pages",),
    ("__main__", "cli", "api", "workbench"),
    ("jobs", "tools"),
    ("engine", "runs", "training", "evaluation"),
    ("guidance", "models", "rewards", "store", "ratings"),
    ("preferences", "prompts", "plots", "figures", "docstrings"),
    ("records", "config", "errors", "system"),
    ("rgtg",),  # the package's own __init__: loaded with everything, so it imports nothing of ours
)
LEVEL = {room: number for number, rooms in enumerate(LEVELS) for room in rooms}

# Within a level only these.
WITHIN = {
    "__main__": ("rgtg.cli",),
    "cli": ("rgtg.workbench",),
    "api": ("rgtg.workbench",),
    "rgtg": ("rgtg.api",),  # at first use
    "engine": ("rgtg.runs",),
    "evaluation": ("rgtg.engine", "rgtg.runs", "rgtg.training.held_out", "rgtg.training.config"),
    "training": ("rgtg.evaluation.metrics",),
    "rewards": ("rgtg.models",),
    "guidance": ("rgtg.rewards",),
    "store": ("rgtg.ratings",),
    "preferences": ("rgtg.prompts",),
    "records": ("rgtg.config", "rgtg.errors", "rgtg.system.serialization"),
    "system": ("rgtg.errors", "rgtg.config"),
    "serialization": ("rgtg.errors",),
    "config": ("rgtg.errors",),
    "child": ("rgtg.config", "rgtg.errors"),
}

# Whatever the level says. `rgtg` as a whole never imports gradio, see `violations`. Of these none imports torch or transformers.
LIGHT = (
    "rgtg.store",
    "rgtg.ratings",
    "rgtg.jobs",
    "rgtg.plots",
    "rgtg.figures",
    "rgtg.docstrings",
    "rgtg.preferences.pairs",
    "rgtg.models.artifacts",
    "rgtg.models.catalog",
    "rgtg.models.admission.admit",
    "rgtg.system",
)
NEVER = {"engine": ("rgtg.store",)}

# A page talks to the workbench only. Besides, it may know names and pure records (what a run is called, what a setting is, a figure
# drawn from records); none of these has a verb that loads, generates or stores.
PAGES_KNOW = ("rgtg.workbench", "rgtg.records", "rgtg.config", "rgtg.errors", "rgtg.plots", "rgtg.figures", "rgtg.guidance.methods",
              "rgtg.system.rate_limits")  # fmt: skip


def room_of(module: str) -> str | None:
    """`rgtg.store.writer` -> `store`, `pages.compare` -> `pages`, `rgtg` and names from its __init__ -> `rgtg`, `torch` -> None."""
    top, *rest = module.split(".")
    if top != "rgtg":
        return top if top in LEVEL else None
    return rest[0] if rest and rest[0] in LEVEL else "rgtg"


def lies_in(module: str, places: tuple[str, ...]) -> bool:
    return any(module == place or module.startswith(place + ".") for place in places)


@cache  # several tests read every file
def imported(module: str, source: str) -> tuple[tuple[int, str], ...]:
    """(line, full name) of each import in the file, wherever it stands; `from a import b` gives `a.b`, for b may be a module."""
    return tuple(_imported(module, source))


def _imported(module: str, source: str) -> Iterator[tuple[int, str]]:
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            package = module.split(".")[: -node.level] if node.level else []
            start = ".".join(package + ([node.module] if node.module else []))
            yield from ((node.lineno, f"{start}.{alias.name}") for alias in node.names)
        elif isinstance(node, ast.Call) and node.args and isinstance(node.args[0], ast.Constant) and isinstance(node.args[0].value, str):
            called = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
            if called in ("import_module", "__import__"):
                yield node.lineno, node.args[0].value


def violations(module: str, source: str) -> list[str]:
    """Each import that goes the wrong way, as a sentence with its line. A package is given as `rgtg.store.__init__`."""
    room, top = room_of(module), module.split(".")[0]
    if room is None or (room == "rgtg" and module != "rgtg.__init__"):
        return [f"{module} has no place in LEVELS"]
    found = []
    for line, target in imported(module, source):
        where, to = f"{module}, line {line}: ", room_of(target)
        if lies_in(target, ("torch", "transformers") if lies_in(module, LIGHT) else NEVER.get(room, ())):
            found.append(f"{where}{room} never imports {target}")
        elif top == "rgtg" and lies_in(target, ("gradio",)):
            found.append(f"{where}rgtg never imports gradio")
        elif to is None or to == room or lies_in(target, WITHIN.get(room, ())):
            continue
        elif LEVEL[to] <= LEVEL[room]:
            found.append(f"{where}{room} does not import {to} ({target})")
        elif room == "pages" and to != "rgtg" and not lies_in(target, PAGES_KNOW):
            found.append(f"{where}a page talks to the workbench, not to {target}")
    return found


def our_files() -> Iterator[tuple[str, Path]]:
    for path in [*ROOT.glob("app.py"), *(path for top in ("recipes", "pages", "rgtg") for path in sorted(ROOT.glob(f"{top}/**/*.py")))]:
        yield ".".join(path.relative_to(ROOT).with_suffix("").parts), path


def test_imports_go_one_way():
    files = dict(our_files())
    assert "rgtg.records" in files
    wrong = [sentence for module, path in files.items() for sentence in violations(module, path.read_text(encoding="utf-8"))]
    assert not wrong, "\n" + "\n".join(wrong)


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("rgtg.records", "from rgtg.engine import generate"),
        ("rgtg.records", "import rgtg.store.store as s"),
        ("rgtg.errors", "from rgtg.config import Settings"),
        ("rgtg.engine", "def f():\n    from rgtg.store.store import Store"),
        ("rgtg.engine", "from rgtg import store"),
        ("rgtg.engine", "from rgtg.training import trainer"),
        ("rgtg.store.store", "import torch.nn as nn"),
        ("rgtg.store.export", "if True:\n    from transformers import AutoTokenizer"),
        ("rgtg.store.store", "from ..engine import generate"),
        ("rgtg.store.__init__", "from ..guidance import METHODS"),
        ("rgtg.preferences.pairs", "import torch"),
        ("rgtg.jobs.worker", "import torch"),
        ("rgtg.models.artifacts", "import torch"),
        ("rgtg.training.pipeline", "from rgtg.jobs import folder"),
        ("rgtg.jobs.service", "from rgtg.tools import starter"),
        ("rgtg.plots", "from rgtg.preferences.pairs import pairs"),
        ("rgtg.training.reward_trainer", "from rgtg.evaluation import sweep"),
        ("rgtg.training.reward_trainer", "from rgtg.evaluation import metrics, sweep"),
        ("rgtg.rewards.scalar", "from rgtg.guidance.rules import RewardShift"),
        ("rgtg.models.lm", "from rgtg.rewards import scalar"),
        ("rgtg.workbench.workbench", "from rgtg.cli.main import main"),
        ("rgtg.workbench.workbench", "import gradio as gr"),
        ("rgtg.cli", "import importlib\nimportlib.import_module('gradio')"),
        ("rgtg.cli", "from pages import compare"),
        ("rgtg.__init__", "from rgtg.records import Run"),
        ("rgtg.something_new", ""),
        ("pages.compare", "from rgtg.engine import generate"),
        ("pages.compare", "from rgtg import store"),
        ("pages.compare", "from rgtg.guidance.rules import RewardShift"),
        ("pages.compare", "import app"),
    ],
)
def test_the_checker_finds_an_import_that_goes_the_wrong_way(module: str, source: str):
    assert len(violations(module, source)) == 1


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("app", "import gradio as gr\nfrom pages import compare\nfrom rgtg.config import Settings\nfrom rgtg.workbench.workbench import Workbench"),
        (
            "pages.compare",
            "import gradio as gr\nfrom rgtg import __version__, plots\nfrom rgtg.guidance.methods import METHODS\nfrom . import columns",
        ),
        ("rgtg.__main__", "from rgtg.cli.main import main"),
        ("rgtg.cli", "from rgtg import workbench\nfrom rgtg.tools import bench_decoding\nfrom rgtg.evaluation import sweep"),
        ("rgtg.tools.bench_decoding", "import torch\nfrom rgtg.engine import generate"),
        ("rgtg.evaluation.sweep", "from rgtg.engine import generate\nfrom .metrics import distinct"),
        ("rgtg.training.pipeline", "from rgtg.evaluation.metrics import prefix_accuracy\nfrom rgtg.evaluation import metrics"),
        ("rgtg.guidance.rules", "from torch import Tensor\nfrom rgtg.rewards.scalar import ScalarReward"),
        (
            "rgtg.store.store",
            "import sqlite3\nfrom rgtg import ratings\nfrom rgtg.store.writer import Writer\nfrom rgtg.preferences.pairs import pairs",
        ),
        ("rgtg.records", "from rgtg.config import GenerationConfig"),
    ],
)
def test_the_checker_lets_the_allowed_pass(module: str, source: str):
    assert violations(module, source) == []


LOAD_NO_TORCH = ("rgtg.training.config", "rgtg.models.artifacts", "rgtg.store.store", "rgtg.jobs.service", "rgtg.workbench.workbench", "rgtg.cli")


@pytest.mark.parametrize(
    "absent, modules",
    [
        ("gradio", ("rgtg", "rgtg.workbench.workbench")),
        ("torch", LOAD_NO_TORCH),
        pytest.param("torch", ("pages.training_form",), marks=pytest.mark.slow),  # Gradio alone takes seconds
    ],
)
def test_importing_leaves_the_heavy_ones_out(absent: str, modules: tuple[str, ...]):
    code = f"import importlib, sys\nfor name in {modules}:\n importlib.import_module(name)\n if {absent!r} in sys.modules: sys.exit(name)"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, f"{done.stderr.strip()} loads {absent}"


# --- names that stand in one place ------------------------------------------------------------------------------------

# Where the key of an objective or of a method may stand as a literal, besides tests and data files: by module, the top-level statements
# (a class, or what is assigned). What is asked of a model's card by a key is asked of its class or of a registry instead.
HOMES = {
    "rgtg.training.objectives": tuple(kind.__name__ for kind in OBJECTIVES.values()),
    "rgtg.rewards.kinds": ("KINDS",),
    "rgtg.guidance.methods": ("METHODS", "LINE_UP"),
    "rgtg.training.starts": ("PROBLEM_TYPE",),  # transformers' word
    "rgtg.guidance.sequences": ("PROPOSALS",),  # what may propose is named after the method that does
}
EXPERIMENTS = {"recipes.evidence"}  # which trainings and methods are compared: as the other recipes say it in their TOML files
NOT_A_METHOD = {"base"}  # also what a job calls the model that it starts from


@cache
def literals(source: str, homes: tuple[str, ...] = ()) -> tuple[tuple[int, str], ...]:
    """(line, text) of each string constant that stands in none of the top-level statements `homes`; keys of tables count."""
    return tuple(_literals(source, homes))


def _literals(source: str, homes: tuple[str, ...]) -> Iterator[tuple[int, str]]:
    for statement in ast.parse(source).body:
        targets = statement.targets if isinstance(statement, ast.Assign) else [getattr(statement, "target", None)]
        names = {getattr(statement, "name", None), *(getattr(target, "id", None) for target in targets)}
        if not names & set(homes):
            yield from ((node.lineno, node.value) for node in ast.walk(statement) if isinstance(node, ast.Constant) and isinstance(node.value, str))


def keys_out_of_place(files: dict[str, Path], keys: set[str]) -> list[str]:
    return [
        f"{module}, line {line}: {text!r}"
        for module, path in files.items()
        if module not in EXPERIMENTS
        for line, text in literals(path.read_text(encoding="utf-8"), HOMES.get(module, ()))
        if text in keys
    ]


def test_no_key_of_an_objective_stands_outside_its_class_and_the_registries():
    assert keys_out_of_place(dict(our_files()), set(OBJECTIVES)) == []


@pytest.mark.parametrize("key", OBJECTIVES)
def test_the_key_of_an_objective_stands_in_its_own_class_alone(key: str):
    path = ROOT / "rgtg" / "training" / "objectives.py"
    assert [text for _, text in literals(path.read_text(encoding="utf-8"), (OBJECTIVES[key].__name__,)) if text == key] == []


def test_no_key_of_a_method_stands_outside_its_registry():
    assert keys_out_of_place(dict(our_files()), set(METHODS) - NOT_A_METHOD) == []


def test_the_checker_finds_a_key_wherever_it_stands():
    source = 'KINDS = {"full": 1}\nTABLE: dict = {"partial": 1}\ndef f(a):\n    """Not partial."""\n    return a in ("full", "b")\n'
    assert [found for found in literals(source, ("KINDS",)) if found[1] in OBJECTIVES] == [(2, "partial"), (5, "full")]
    assert [found for found in literals(source) if found[1] in OBJECTIVES] == [(1, "full"), (2, "partial"), (5, "full")]
