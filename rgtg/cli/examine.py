"""The command `rgtg examine`: what reward models know of prefixes, on pairs from a file.

Parses options and prints the tables. Knows nothing of the other commands.
"""

import argparse
import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from rgtg.cli import terminal
from rgtg.errors import BadSettings

if TYPE_CHECKING:
    from rgtg.workbench.workbench import Workbench

ABOUT = "measure what reward models know of prefixes: accuracy by length, pairs that turn, biases, tricks, distances"


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--reward-model",
        action="append",
        default=[],
        required=True,
        metavar="NAME|PATH",
        help="an installed reward model, a folder or a Hub id; may be repeated",
    )
    parser.add_argument("--pairs", required=True, metavar="FILE", help="pairs in any layout that `rgtg train` reads; held out from their training")
    parser.add_argument(
        "--columns", default="", metavar="NAMES", help="column mapping, where the names are not recognised: prompt=…,chosen=…,rejected=…"
    )
    parser.add_argument("--judge", metavar="NAME|PATH", help="a reward model by whose rewards pairs turn; it is examined too (none)")
    parser.add_argument("--limit", type=int, default=500, metavar="N", help="use at most N pairs (500)")
    parser.add_argument("--beta", type=float, default=1.0, help="weight at which rewards are compared with soft values (1)")
    parser.add_argument("--json", action="store_true", help="print one JSON object")


def examine(options: argparse.Namespace, open_workbench: Callable[[], "Workbench"], list_model: Callable[["Workbench", str], None]) -> None:
    """Examine the reward models and print the report. The callables are those that the commands share."""
    from rgtg.evaluation.examine.reading import Pairs
    from rgtg.evaluation.examine.report import examine, markdown
    from rgtg.preferences.formats import read

    if options.limit < 1:
        raise BadSettings("`--limit` has to be 1 or more.", f"Found {options.limit}.", field="limit")
    if not options.beta > 0:
        raise BadSettings("`--beta` has to be a number above 0.", f"Found {options.beta}.", field="beta")
    reading = read(Path(options.pairs) if Path(options.pairs).exists() else options.pairs, columns=options.columns)
    workbench = open_workbench()
    names = [name for name in dict.fromkeys([*options.reward_model, options.judge]) if name]
    for name in names:
        list_model(workbench, name)
    models = workbench.library.load_models(options.base_lm, names)
    judge = workbench.library.scorer(options.judge).name if options.judge else ""
    with terminal.ProgressBar(options, "passes") as bar:
        report = examine(models, Pairs(reading, models.base_lm, options.limit), judge, options.beta, bar)
    workbench.close()
    print(json.dumps(report, ensure_ascii=False, allow_nan=False) if options.json else markdown(report), end="\n" if options.json else "")
