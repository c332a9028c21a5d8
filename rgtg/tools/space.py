"""What a Hugging Face Space needs of a checkout, assembled into a folder and checked.

Nothing of tests, documents, caches or data of this machine. What the Hub allows is written down here, from its documentation in November 2026;
the Hub itself is never asked.
"""

import ast
import re
import shutil
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from importlib.metadata import packages_distributions
from pathlib import Path
from typing import Any

from rgtg.config import CHECKOUT, ROOT
from rgtg.errors import BadSettings, door
from rgtg.system.files import make_folder

PARTS = ("app.py", "LICENSE", "pages", "rgtg", "data/starter", "data/prompts", "data/presets", "data/README.md")
LEFT_OUT = ("__pycache__", "*.pyc", "*.pyi", ".*", "*.db", "*.db-*", "*.egg-info")
NEEDED = (
    "README.md", "requirements.txt", "app.py", "LICENSE", "pages/compare.py", "pages/static/style.css", "rgtg/__init__.py", "rgtg/config.py",
    "data/starter/known.json", "data/starter/base-lm/model.safetensors", "data/prompts/openings.txt", "data/presets",
)  # fmt: skip
MAX_FILE_BYTES, MAX_BYTES = 10_000_000, 1_000_000_000  # of a file that is committed as it is; of a Space
STRANGERS = re.compile(r"(?:^|/)(?:tests|docs|\.ci|\.git|\.env|\.venv|__pycache__|data/local)(?:/|$)|\.(?:db|pyc|log|pem|key)$|\.db-\w+$|/token$")
TORCH = "torch>=2.8,<2.12"  # what ZeroGPU has; a newer one does not find its driver
COLOURS = ("red", "yellow", "green", "blue", "indigo", "purple", "pink", "gray")
HEAD = re.compile(r"\A---\n(.*?)\n---\n", re.DOTALL)


def _text(limit: int) -> Callable[[Any], bool]:
    return lambda value: isinstance(value, str) and 0 < len(value) <= limit and "\n" not in value


def _one_of(*values: Any) -> Callable[[Any], bool]:
    return lambda value: value in values


def _flag(value: Any) -> bool:
    return isinstance(value, bool)


def _matches(pattern: str) -> Callable[[Any], bool]:
    return lambda value: isinstance(value, str) and re.fullmatch(pattern, value) is not None


FIELDS: Mapping[str, tuple[Callable[[Any], bool], str]] = {  # of the front matter: what it may be, in words
    "title": (_text(100), "a line of text"),
    "emoji": (lambda value: isinstance(value, str) and 0 < len(value) <= 8 and not value.isascii(), "one emoji"),
    "colorFrom": (_one_of(*COLOURS), f"one of {', '.join(COLOURS)}"),
    "colorTo": (_one_of(*COLOURS), f"one of {', '.join(COLOURS)}"),
    "sdk": (_one_of("gradio"), "gradio"),
    "sdk_version": (_matches(r"\d+\.\d+\.\d+"), 'a version like "6.31.0"'),
    "python_version": (_matches(r"3\.\d+(\.\d+)?"), 'a version in quotes like "3.12.12": without them 3.10 is the number 3.1'),
    "app_file": (_matches(r"[\w/.-]+\.py"), "a Python file"),
    "short_description": (_text(60), "a line of at most 60 characters"),
    "license": (_matches(r"[a-z0-9][a-z0-9.-]*"), "a license's key like apache-2.0"),
    "pinned": (_flag, "true or false"),
    "tags": (lambda value: isinstance(value, list) and all(map(_matches(r"[\w.:-]+"), value)), "a list of words"),
    "startup_duration_timeout": (_matches(r"\d+[smh]"), "a time like 30m"),
    "hf_oauth": (_flag, "true or false"),
    "hf_oauth_expiration_minutes": (lambda value: type(value) is int and 0 < value <= 43_200, "a number of minutes up to 43,200"),
    "models": (lambda value: isinstance(value, list) and all(map(_matches(r"[\w.-]+/[\w.-]+"), value)), "a list of Hub ids"),
}
REQUIRED = ("title", "sdk", "sdk_version", "python_version", "app_file", "license")


@dataclass(frozen=True)
class Check:
    """A check by name; `problem` says what is wrong, "" where nothing is."""

    name: str
    problem: str = ""


def assemble(folder: Path, sign_in: bool = False) -> None:
    """Write what a Space needs into a new folder. With `sign_in` visitors can sign in with their Hub account: administrators have to.

    Raises BadSettings where this is no checkout, or the folder has something in it."""
    if not CHECKOUT:
        raise BadSettings("A Space is assembled from a checkout of rgtg.", "This one is installed as a package.", "Clone the repository.")
    if folder.is_dir() and any(folder.iterdir()):
        do = "Name a new one, or check the one that you have with --check."
        raise BadSettings(f"`{folder}` is not empty.", f"It has `{next(folder.iterdir()).name}`.", do, "dir")
    make_folder(folder)
    with door(f"`{folder}` cannot be written.", kind=BadSettings):
        for part in PARTS:
            source, target = ROOT / part, folder / part
            target.parent.mkdir(parents=True, exist_ok=True)
            if source.is_dir():
                shutil.copytree(source, target, ignore=shutil.ignore_patterns(*LEFT_OUT))
            else:
                shutil.copyfile(source, target)
        (folder / "README.md").write_text(_readme(sign_in), encoding="utf-8")
        (folder / "requirements.txt").write_text(_requirements(sign_in), encoding="utf-8")


def _readme(sign_in: bool) -> str:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    head, _, body = text.removeprefix("---\n").partition("\n---\n")
    if sign_in:
        head += "\nhf_oauth: true\nhf_oauth_expiration_minutes: 480"
    about = next(paragraph for paragraph in body.split("\n\n") if paragraph and not paragraph.startswith("#"))
    return (
        f"---\n{head}\n---\n\n# rgtg\n\n{about.strip()}\n\nThe Help page explains the methods. Votes are stored; what for, the Annotate page says.\n"
    )


def _requirements(sign_in: bool) -> str:
    """The repository's, with what Spaces has of torch."""
    lines = (ROOT / "requirements.txt").read_text(encoding="utf-8").splitlines()
    lines = [TORCH if re.match(r"torch\b", line) else line for line in lines if not line.startswith("#")]
    if sign_in:
        lines = [line.replace("gradio>=", "gradio[oauth]>=") for line in lines]
    return "# What the Space runs on: that of the repository, with the versions of torch that ZeroGPU has.\n" + "\n".join(lines) + "\n"


def checks(folder: Path) -> Iterator[Check]:
    """The checks of an assembled folder, in order."""
    files = {path.relative_to(folder).as_posix(): path for path in sorted(folder.rglob("*")) if path.is_file()}
    missing = [name for name in NEEDED if name not in files and not any(file.startswith(f"{name}/") for file in files)]
    yield Check("every file is there", f"Missing: {', '.join(missing)}." if missing else "")
    large = [f"{name} ({path.stat().st_size / 1e6:.1f} MB)" for name, path in files.items() if path.stat().st_size >= MAX_FILE_BYTES]
    yield Check("every file is below 10 MB", f"Too large: {', '.join(large)}." if large else "")
    total = sum(path.stat().st_size for path in files.values())
    yield Check("all files together are below 1 GB", "" if total < MAX_BYTES else f"They have {total / 1e9:.1f} GB.")
    strangers = [name for name in files if STRANGERS.search(name)]
    yield Check("nothing is there that a Space does not need", f"Found: {', '.join(strangers[:5])}." if strangers else "")
    links = [name for name, path in files.items() if path.is_symlink()]
    yield Check("every file is a file of its own", f"Links: {', '.join(links[:5])}." if links else "")
    yield Check("the front matter is valid", " ".join(_front_matter(folder, files)))
    yield Check("the requirements fit Spaces", " ".join(_requirement_problems(folder, files)))


def _front_matter(folder: Path, files: Mapping[str, Path]) -> Iterator[str]:
    import yaml

    if "README.md" not in files:
        yield "There is no README.md."
        return
    match = HEAD.match(files["README.md"].read_text(encoding="utf-8"))
    try:
        fields = yaml.safe_load(match[1]) if match else None
    except yaml.YAMLError as error:
        yield f"It is not YAML: {' '.join(str(error).split())}."
        return
    if not isinstance(fields, dict):
        yield "README.md has to begin with it, between two lines of ---."
        return
    yield from (f"`{name}` is missing." for name in REQUIRED if name not in fields)
    for name, value in fields.items():
        if name not in FIELDS:
            yield f"`{name}` is no field of a Space."
        elif not FIELDS[name][0](value):
            yield f"`{name}` has to be {FIELDS[name][1]}, but is {value!r}."
    if isinstance(fields.get("app_file"), str) and fields["app_file"] not in files:
        yield f"`app_file` names `{fields['app_file']}`, which is not there."
    if CHECKOUT and fields.get("license") != (own := _license()):
        yield f"`license` has to be that of the repository, `{own}`, but is {fields.get('license')!r}."


def _license() -> str:
    match = re.search(r'^license = "([^"]+)"', (ROOT / "pyproject.toml").read_text(encoding="utf-8"), re.MULTILINE)
    assert match is not None
    return match[1].lower()


def _requirement_problems(folder: Path, files: Mapping[str, Path]) -> Iterator[str]:
    from packaging.requirements import InvalidRequirement, Requirement

    named = {}
    lines = files["requirements.txt"].read_text(encoding="utf-8").splitlines() if "requirements.txt" in files else []
    for line in filter(None, (line.partition("#")[0].strip() for line in lines)):
        try:
            requirement = Requirement(line)
        except InvalidRequirement:
            yield f"`{line}` is no requirement."
            continue
        named[requirement.name.lower().replace("_", "-")] = requirement
    torch = named.get("torch")
    if torch is None:
        yield "torch is missing."
    elif torch.specifier.contains("2.12.0") or torch.specifier.contains("2.7.1") or not torch.specifier.contains("2.11.0"):
        yield f"torch has to be pinned to what ZeroGPU has (`{TORCH}`), but is `{torch}`."
    yield from (f"`{name}` is imported, but not required." for name in sorted(_imported(folder) - {*named}))


def _imported(folder: Path) -> set[str]:
    """Distributions that app.py and pages import when they are loaded, ours and Python's own left out."""
    owners, found = _owners(), set()
    for path in (folder / "app.py", *folder.glob("pages/**/*.py")):
        for node in ast.parse(path.read_text(encoding="utf-8")).body if path.is_file() else ():
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else [getattr(node, "module", None) or ""]
            for name in {name.partition(".")[0] for name in names} - {"", "app", "pages", "rgtg", *sys.stdlib_module_names}:
                found.add(owners.get(name, [name])[0].lower().replace("_", "-"))
    return found - OF_GRADIO


@cache
def _owners() -> Mapping[str, list[str]]:
    """The distributions that each installed package comes from."""
    return packages_distributions()


OF_GRADIO = frozenset({"starlette", "fastapi", "uvicorn", "httpx", "python-multipart"})  # what Gradio brings along
