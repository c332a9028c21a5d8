"""The command `rgtg results`: the leaderboard of the votes in the database, and reward models against people.

Parses options and prints; the numbers are made by the workbench.
"""

import argparse
import json
import sys
from pathlib import Path

from rgtg.cli.terminal import ProgressBar
from rgtg.config import Settings
from rgtg.errors import BadSettings, door
from rgtg.preferences.pairs import last_votes

ABOUT = "rank methods by the votes in the database, with confidence intervals, and compare reward models with people"


def add_options(parser: argparse.ArgumentParser) -> None:
    """Loads numpy: the parser of this command alone asks for it."""
    from rgtg.workbench.report.results import BY
    from rgtg.workbench.report.tables import PARTS, TABLE_FORMATS

    parser.add_argument("--by", default="method", choices=tuple(BY), help="what is ranked: " + "; ".join(f"`{k}`: {v}" for k, v in BY.items()))
    parser.add_argument("--control-length", action="store_true", help="rank at equal length of the answers")
    parser.add_argument("--format", default="markdown", choices=TABLE_FORMATS, help="form of the tables (markdown)")
    of_parts = "; ".join(f"`{k}`: {v}" for k, v in PARTS.items())
    parser.add_argument("--table", default="board", choices=tuple(PARTS), help=f"with csv and latex, which table: {of_parts} (board)")
    parser.add_argument("--json", action="store_true", help="the same as --format json")
    parser.add_argument("--html", type=Path, metavar="FILE", help="write the results, or the comparison, as one HTML file that opens without the app")
    parser.add_argument("--comparison", metavar="ID", help="with --html: the comparison to write, by the id in its address on Compare")


def results(options: argparse.Namespace) -> None:
    from rgtg.workbench.report.results import results_of
    from rgtg.workbench.report.standalone import board_html, comparison_html
    from rgtg.workbench.report.tables import table
    from rgtg.workbench.workbench import Workbench

    if options.comparison and not options.html:
        raise BadSettings("A comparison is written as HTML only.", "`--html FILE` is missing.", "Add it.")
    workbench = Workbench(Settings.from_environment())
    try:
        if options.comparison:
            comparison = workbench.store.comparison(options.comparison)
            votes = [vote for vote in last_votes(workbench.store.votes(comparison.id)) if vote.verdict != "withdrawn"]
            text = comparison_html(comparison, votes)
        else:
            with ProgressBar(options, "answers") as bar:
                found = results_of(workbench.store, options.by, options.control_length, listen=bar)
            text = board_html(found) if options.html else table(found, "json" if options.json else options.format, options.table)
    finally:
        workbench.close()
    if not options.html:
        sys.stdout.write(text)
        return
    with door(f"`{options.html}` cannot be written.", kind=BadSettings):
        options.html.write_text(text, encoding="utf-8")
    print(json.dumps({"path": str(options.html)}, ensure_ascii=False))
