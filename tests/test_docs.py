"""The documents: their links lead somewhere, and their commands are ones that the terminal knows."""

import re
import shlex
from pathlib import Path

import pytest

from rgtg.cli import main
from rgtg.config import ROOT

PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md")])


def commands(page: Path) -> list[list[str]]:
    """The arguments of every `rgtg …` line in the page's code blocks, continued lines joined."""
    blocks = re.findall(r"^```\n(.*?)^```", page.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    lines = [line.strip() for block in blocks for line in block.replace("\\\n", " ").splitlines()]
    calls = [re.match(r"(?:rgtg|\S+ (?:.* )?-m rgtg) (.+)", line) for line in lines if not line.startswith(("alias", "#"))]
    return [shlex.split(call[1].replace("$DIR", "DIR"), comments=True) for call in calls if call]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_link_leads_to_a_file(page):
    targets = re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", page.read_text(encoding="utf-8"))
    missing = [target for target in targets if "://" not in target and not (page.parent / target).exists()]
    assert not missing


def test_every_command_is_one_that_the_terminal_knows():
    calls = [(page.name, call) for page in PAGES for call in commands(page)]
    assert len(calls) > 12
    for name, call in calls:
        try:
            main._parser().parse_args(call)
        except Exception as error:
            pytest.fail(f"{name}: rgtg {' '.join(call)}: {error}")
