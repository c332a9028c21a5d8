"""The limits of the house: how long a file and a function may be, how many files a folder has, and that no imports run in a circle."""

import ast
from collections.abc import Iterator
from pathlib import Path

from test_layers import ROOT, imported, our_files

MAX_LINES, MAX_TEST_LINES = 400, 500  # of a file
MAX_FUNCTION_LINES = 60
MAX_FILES = 12  # in a folder of rgtg/


def import_graph(sources: dict[str, str]) -> dict[str, set[str]]:
    """Module -> modules of ours that it imports, those for types and inside functions included.

    {"a": "from b import f", "b": "import torch"} -> {"a": {"b"}, "b": set()}
    """
    graph = {}
    for module, source in sources.items():
        names = {name for _, name in imported(module, source)}
        graph[module] = {name if name in sources else name.rpartition(".")[0] for name in names} & sources.keys() - {module}
    return graph


def circles(graph: dict[str, set[str]]) -> list[set[str]]:
    """Groups of modules that reach one another."""
    reached = {module: _reached(graph, module) for module in graph}
    groups = {frozenset(other for other in reached[module] if module in reached[other]) for module in graph if module in reached[module]}
    return [set(group) for group in groups]


def _reached(graph: dict[str, set[str]], start: str) -> set[str]:
    reached, waiting = set(), [start]
    while waiting:
        new = graph[waiting.pop()] - reached
        reached |= new
        waiting += new
    return reached


def test_no_imports_run_in_a_circle_types_included():
    graph = import_graph({module: path.read_text(encoding="utf-8") for module, path in our_files()})
    assert "rgtg.records" in graph["rgtg.workbench.workbench"]
    assert circles(graph) == []


def test_the_circle_finder_finds_a_circle_of_types_and_of_functions():
    sources = {
        "rgtg.a": "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from rgtg.b import B",
        "rgtg.b": "def f():\n    from rgtg import c",
        "rgtg.c": "import rgtg.a",
        "rgtg.d": "from rgtg.a import A",
    }
    assert circles(import_graph(sources)) == [{"rgtg.a", "rgtg.b", "rgtg.c"}]
    assert circles(import_graph(sources | {"rgtg.c": "import json"})) == []


def _too_long(paths: Iterator[Path], limit: int) -> dict[str, int]:
    lengths = {str(path.relative_to(ROOT)): len(path.read_text(encoding="utf-8").splitlines()) for path in paths}
    return {name: length for name, length in lengths.items() if length > limit}


def test_a_file_is_read_in_one_sitting():
    assert _too_long((path for _, path in our_files()), MAX_LINES) == {}
    assert _too_long(ROOT.glob("tests/**/*.py"), MAX_TEST_LINES) == {}


def test_a_function_is_seen_at_once():
    functions = (ast.FunctionDef, ast.AsyncFunctionDef)
    lengths = {
        f"{module}.{node.name}": node.end_lineno - node.lineno + 1
        for module, path in our_files()
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, functions)
    }
    assert {name: length for name, length in lengths.items() if length > MAX_FUNCTION_LINES} == {}


def test_a_folder_has_room():
    folders = {path.parent for _, path in our_files() if "rgtg" in path.parts}
    counts = {str(folder.relative_to(ROOT)): len(list(folder.glob("*.py"))) for folder in folders}
    assert counts["rgtg/workbench"] >= 4
    assert {name: count for name, count in counts.items() if count > MAX_FILES} == {}
