"""The command `rgtg examine`: what reward models know of prefixes, on pairs from a file.

Parses options and prints the tables. Knows nothing of the other commands.
"""

import argparse
import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rgtg.cli import terminal
from rgtg.errors import BadSettings, door
from rgtg.system.files import make_folder, write_json

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
    parser.add_argument("--pairs", metavar="FILE", help="pairs in any layout that `rgtg train` reads; held out from their training")
    parser.add_argument(
        "--best-of-n",
        metavar="FILE",
        help="choices among several answers in a layout of RewardBench: prompt, chosen, rejected, each side one or a list",
    )
    parser.add_argument("--prompt", default="", metavar="TEXT", help="the prompt of `--chosen` and `--rejected` (none)")
    parser.add_argument("--chosen", metavar="TEXT", help="an answer to read token by token, beside `--rejected` if that is given")
    parser.add_argument("--rejected", metavar="TEXT", help="the other answer")
    parser.add_argument(
        "--columns", default="", metavar="NAMES", help="column mapping, where the names are not recognised: prompt=…,chosen=…,rejected=…"
    )
    parser.add_argument("--judge", metavar="NAME|PATH", help="a reward model by whose rewards pairs turn; it is examined too (none)")
    parser.add_argument("--limit", type=int, default=500, metavar="N", help="use at most N pairs, or N choices of `--best-of-n` (500)")
    parser.add_argument("--beta", type=float, default=1.0, help="weight at which rewards are compared with soft values (1)")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("--out", type=Path, metavar="FILE", help="also write the JSON object to this file")


def examine(options: argparse.Namespace, open_workbench: Callable[[], "Workbench"], list_model: Callable[["Workbench", str], None]) -> None:
    """Examine the reward models and print the report. The callables are those that the commands share."""
    if options.limit < 1:
        raise BadSettings("`--limit` has to be 1 or more.", f"Found {options.limit}.", field="limit")
    if not options.beta > 0:
        raise BadSettings("`--beta` has to be a number above 0.", f"Found {options.beta}.", field="beta")
    if not options.pairs and not options.best_of_n and not options.chosen:
        raise BadSettings("There is nothing to examine the reward models on.", "", "Give `--pairs FILE`, `--best-of-n FILE` or `--chosen TEXT`.")
    if options.rejected and not options.chosen:
        raise BadSettings("`--rejected` stands beside `--chosen`.", "There is no `--chosen`.", "Give both, or `--chosen` alone.")
    from rgtg.evaluation.examine import report as reports
    from rgtg.evaluation.examine.best_of_n import encoded, read_items
    from rgtg.evaluation.examine.reading import Pairs
    from rgtg.preferences.formats import read
    from rgtg.workbench.examining.examination import file_or_id

    if options.out is not None:
        make_folder(options.out.parent, options.out)
        if options.out.is_dir():
            raise BadSettings(f"`{options.out}` is a folder.", "", "Name a file, such as examined.json.", "out")
    reading = read(file_or_id(options.pairs), columns=options.columns) if options.pairs else None
    items = read_items(file_or_id(options.best_of_n), options.limit) if options.best_of_n else []
    workbench = open_workbench()
    names = [name for name in dict.fromkeys([*options.reward_model, options.judge]) if name]
    for name in names:
        list_model(workbench, name)
    models = workbench.library.load_models(options.base_lm, names)
    judge = workbench.library.scorer(options.judge).name if options.judge else ""
    report: dict[str, Any] = {}
    parts: list[str] = []
    with terminal.ProgressBar(options, "passes") as bar:
        if reading is not None:
            report |= reports.examine(models, Pairs(reading, models.base_lm, options.limit), judge, options.beta, bar)
            parts.append(reports.markdown(report))
        if items:
            report["best_of_n"] = reports.best_of_n(models, encoded(items, models.base_lm), bar)
            parts.append(reports.best_of_n_markdown(report["best_of_n"]))
        if options.chosen:
            report["token_by_token"] = reports.token_by_token(models, options.prompt, {"chosen": options.chosen, "rejected": options.rejected})
            parts.append(reports.tokens_markdown(report["token_by_token"]))
    workbench.close()
    print(json.dumps(report, ensure_ascii=False, allow_nan=False) if options.json else "\n".join(parts), end="\n" if options.json else "")
    if options.out is not None:
        with door(f"`{options.out}` cannot be written.", kind=BadSettings):
            write_json(options.out, report)
