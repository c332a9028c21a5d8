"""The command `rgtg results`: the leaderboard of the votes in the database.

Parses options and prints; the numbers are made by the workbench.
"""

import argparse
import sys

from rgtg.config import Settings
from rgtg.workbench.report.results import BY, TABLE_FORMATS, results_of, table

ABOUT = "rank methods by the votes in the database, with confidence intervals"


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--by", default="method", choices=tuple(BY), help="what is ranked: " + "; ".join(f"`{k}`: {v}" for k, v in BY.items()))
    parser.add_argument("--control-length", action="store_true", help="compare at equal length of the answers")
    parser.add_argument("--format", default="markdown", choices=TABLE_FORMATS, help="form of the table (markdown)")
    parser.add_argument("--json", action="store_true", help="the same as --format json")


def results(options: argparse.Namespace) -> None:
    from rgtg.workbench.workbench import Workbench

    workbench = Workbench(Settings.from_environment())
    sys.stdout.write(table(results_of(workbench.store, options.by, options.control_length), "json" if options.json else options.format))
    workbench.close()
