"""What `pip install .` takes: every folder of the library, what ships, and the same versions as the requirements."""

import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))


def test_every_folder_of_the_library_is_installed():
    there = {".".join(path.parent.relative_to(ROOT).parts) for path in (ROOT / "rgtg").rglob("__init__.py")}
    assert set(PROJECT["tool"]["setuptools"]["packages"]) == there | {"rgtg.data"}
    shipped = PROJECT["tool"]["setuptools"]["package-data"]["rgtg.data"]
    assert all(any(ROOT.joinpath("data").glob(pattern)) for pattern in shipped) and not any("local" in pattern for pattern in shipped)


def test_what_development_needs_is_said_the_same_twice():
    lines = (ROOT / "requirements-dev.txt").read_text(encoding="utf-8").splitlines()
    wanted = {line.partition("#")[0].strip() for line in lines} - {"", "-r requirements.txt"}
    extras = PROJECT["project"]["optional-dependencies"]
    assert set(extras["dev"]) == wanted and set(extras["lora"]) <= wanted


def test_the_extra_for_ray_is_what_its_requirements_say():
    lines = (ROOT / "requirements-ray.txt").read_text(encoding="utf-8").splitlines()
    assert [line for line in lines if not line.startswith(("#", "-r"))] == PROJECT["project"]["optional-dependencies"]["ray"]
