"""The prompts of a sweep: typed, from a file that ships, or from another file.

Knows nothing of the screen or of models.
"""

from collections.abc import Sequence
from pathlib import Path

from rgtg.config import PROMPTS_DIR
from rgtg.errors import BadData, BadSettings
from rgtg.preferences.prompt_rows import read_prompts
from rgtg.prompts import check_text
from rgtg.workbench.sweeping.grid import MAX_PROMPTS

TYPED, FILE = "typed", "file"  # sources besides the names of `files`


def files() -> list[str]:
    """Names of the prompt files that ship with rgtg."""
    return sorted(path.name for path in PROMPTS_DIR.glob("*.*")) if PROMPTS_DIR.is_dir() else []


def typed(text: str) -> list[str]:
    """Prompts from a text with one a line; blank lines are left out. Raises BadSettings where there is none, BadData."""
    prompts = [line.strip() for line in text.splitlines() if line.strip()]
    if not prompts:
        raise BadSettings("A sweep needs prompts.", "", "Type some, one a line, or choose a file.", "grid-prompts")
    return _checked(prompts)


def from_file(source: Path, limit: int | None, field: str) -> list[str]:
    """The first `limit` prompts of a file. Raises BadSettings naming the field."""
    try:
        return _checked(read_prompts(source, min(limit or MAX_PROMPTS + 1, MAX_PROMPTS + 1)))
    except BadData as error:
        raise BadSettings(error.wrong, error.found, error.do, field) from error


def _checked(prompts: Sequence[str]) -> list[str]:
    for number, prompt in enumerate(prompts, 1):
        check_text(prompt, f"prompt number {number}")
    return list(prompts)
