"""`rgtg space`: what is assembled, and that each thing that is wrong with it is named."""

import shutil
from pathlib import Path

import pytest
import yaml

from rgtg.cli.main import main
from rgtg.errors import BadSettings
from rgtg.tools.space import FIELDS, assemble, checks


@pytest.fixture(scope="module")
def assembled(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("spaces") / "space"
    assemble(folder, sign_in=True)
    return folder


@pytest.fixture
def folder(assembled, tmp_path) -> Path:
    """As little of a Space as the check of one of its files needs, to be spoilt."""
    for name in ("README.md", "requirements.txt", "app.py", "pages/compare.py"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        shutil.copy(assembled / name, tmp_path / name)
    return tmp_path


def problem(folder: Path, name: str) -> str:
    """What one check says; those after it are not made."""
    return next(check.problem for check in checks(folder) if check.name == name)


def problems(folder: Path) -> dict[str, str]:
    return {check.name: check.problem for check in checks(folder) if check.problem}


def head_of(folder: Path) -> dict:
    return yaml.safe_load((folder / "README.md").read_text(encoding="utf-8").split("---")[1])


def test_an_assembled_space_has_what_it_needs_and_nothing_else(assembled):
    assert problems(assembled) == {}
    assert {path.name for path in assembled.iterdir()} == {"README.md", "LICENSE", "requirements.txt", "app.py", "pages", "rgtg", "data"}
    assert not [*assembled.rglob("__pycache__"), *assembled.rglob("*.pyi"), *assembled.rglob("test_*"), *assembled.rglob("*.db")]
    head = head_of(assembled)
    assert head["sdk"] == "gradio" and head["python_version"] == "3.12.12" and head["license"] == "apache-2.0" and head["hf_oauth"] is True
    lines = (assembled / "requirements.txt").read_text(encoding="utf-8").splitlines()
    assert "torch>=2.8,<2.12" in lines and any(line.startswith("gradio[oauth]>=") for line in lines)


def test_what_is_there_already_is_not_overwritten(assembled):
    with pytest.raises(BadSettings, match="is not empty"):
        assemble(assembled)


@pytest.mark.parametrize(
    ("field", "value", "words"),
    [
        ("python_version", 3.10, "`python_version` has to be a version in quotes"),
        ("colorFrom", "teal", "`colorFrom` has to be one of red"),
        ("sdk_version", None, "`sdk_version` has to be a version"),
        ("emoji", ":compass:", "`emoji` has to be one emoji"),
        ("license", "mit", "`license` has to be that of the repository, `apache-2.0`"),
        ("short_description", "x" * 61, "at most 60"),
        ("app_file", "main.py", "`main.py`, which is not there"),
        ("startup_duration_timeout", 30, "a time like 30m"),
        ("suggested_storage", "small", "`suggested_storage` is no field of a Space"),
        ("pinned", "yes please", "true or false"),
    ],
)
def test_an_invalid_value_of_the_front_matter_is_named(folder, field: str, value: object, words: str):
    head = yaml.safe_dump(head_of(folder) | {field: value}, allow_unicode=True)
    (folder / "README.md").write_text(f"---\n{head}---\n\n# rgtg\n", encoding="utf-8")
    assert words in problem(folder, "the front matter is valid")


@pytest.mark.parametrize("text", ["# rgtg\n", "---\ntitle: a\n", "---\n[1, 2]\n---\n", "---\ntitle: : :\n---\n"])
def test_a_front_matter_that_is_none_is_named(folder, text: str):
    (folder / "README.md").write_text(text, encoding="utf-8")
    assert problem(folder, "the front matter is valid")


def test_files_that_are_too_large_missing_or_no_business_of_a_space_are_named(folder, assembled):
    (folder / "large.bin").write_bytes(bytes(10_000_000))
    (folder / "rgtg.db").write_bytes(b"votes")
    (folder / "LICENSE").symlink_to(assembled / "LICENSE")
    (folder / "app.py").unlink()
    found = problems(folder)
    assert found["every file is below 10 MB"] == "Too large: large.bin (10.0 MB)."
    assert found["every file is there"].startswith("Missing: app.py, pages/static/style.css") and "data/presets" in found["every file is there"]
    assert found["nothing is there that a Space does not need"] == "Found: rgtg.db." and found["every file is a file of its own"] == "Links: LICENSE."


@pytest.mark.parametrize(
    ("before", "after", "words"),
    [
        ("torch>=2.8,<2.12", "torch>=2.8", "pinned to what ZeroGPU has"),
        ("torch>=2.8,<2.12", "torch==2.13.0", "pinned to what ZeroGPU has"),
        ("plotly>=6.5,<8", "", "`gradio` is imported, but not required"),
        ("tqdm>=", "tqdm >>", "is no requirement"),
    ],
)
def test_requirements_that_do_not_fit_are_named(folder, before: str, after: str, words: str):
    path = folder / "requirements.txt"
    text = path.read_text(encoding="utf-8").replace(before, after)
    path.write_text("\n".join(line for line in text.splitlines() if after or not line.startswith("gradio")), encoding="utf-8")
    assert words in problem(folder, "the requirements fit Spaces")


def test_the_command_names_the_problem_and_the_next_step(folder, capsys):
    assert main(["space", str(folder), "--check", "--no-start"]) == 2
    printed = capsys.readouterr()
    assert "problem  every file is there: Missing: LICENSE" in printed.out and "--check" in printed.err and "hf upload" not in printed.out


def test_every_field_says_what_it_may_be():
    assert all(words for _, words in FIELDS.values())
