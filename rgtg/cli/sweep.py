"""The command `rgtg sweep`: methods and weights on many prompts, its table and its plot.

Parses options and prints the table. Knows nothing of the other commands.
"""

import argparse
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING

from rgtg.cli import terminal
from rgtg.config import GenerationConfig
from rgtg.errors import BadSettings, door
from rgtg.preferences.prompt_rows import read_prompts
from rgtg.records import ColumnSpec
from rgtg.system.files import make_folder
from rgtg.workbench.sweeps import ENGINES

if TYPE_CHECKING:
    from rgtg.evaluation.cells import Cell
    from rgtg.evaluation.shards import Plan
    from rgtg.workbench.workbench import Workbench

JUDGE = "judge"  # the starter's
ABOUT = "evaluate methods and weights on many prompts: a table with confidence intervals, and a plot of judge against KL"


def add_options(parser: argparse.ArgumentParser, prompt_files: str) -> None:
    parser.add_argument("--prompts", type=Path, action="append", default=[], help=f"{prompt_files}; may be repeated")
    parser.add_argument("--prompt", action="append", default=[], metavar="TEXT", help="one prompt; may be repeated")
    parser.add_argument("--limit", type=int, metavar="N", help="use only the first N prompts of each file")
    parser.add_argument("--first-words", type=int, metavar="N", help="use only the first N words of each prompt")
    parser.add_argument("--seeds", type=int, default=1, metavar="N", help="random seeds per prompt (1); more narrow the intervals")
    parser.add_argument("--seed", type=int, default=0, help="the first random seed, that of the first prompt (0)")
    parser.add_argument(
        "--observe",
        metavar="NAME",
        help="the reward model that judges the answers: an installed one, a folder or a Hub id; above its zero an answer counts as positive (judge)",
    )
    folder = parser.add_mutually_exclusive_group(required=True)
    folder.add_argument(
        "--out",
        type=Path,
        metavar="DIR",
        help="folder for shards, results.jsonl and table.md, .csv, .json; an interrupted sweep goes on from it, also without --prompts, "
        "and each further --run is added to it",
    )
    folder.add_argument("--table", type=Path, metavar="DIR", help="generate nothing; print the table of that folder with tokens per second")
    parser.add_argument(
        "--at-kl", type=float, action="append", default=[], metavar="NATS", help="also print the judge at this KL, for methods with several weights"
    )
    parser.add_argument(
        "--minus", default="", metavar="NAME", help="with --at-kl: also print every method's difference to this one at equal KL, paired by prompt"
    )
    parser.add_argument(
        "--over-seeds",
        action="store_true",
        help="reward models that differ only in a number at the end, such as partial-0 and partial-1, are one row, `partial-*`, with intervals over "
        "prompts and trainings; tables are written to table-over-seeds.md and so on",
    )
    parser.add_argument("--plot", type=Path, metavar="FILE", help="also write the plot of judge against KL as HTML")
    parser.add_argument(
        "--peaks",
        action="store_true",
        help="also print at which weight, or number of answers, the judge is highest, and what other choices of it lose (over-optimization)",
    )
    parser.add_argument("--plot-peaks", type=Path, metavar="FILE", help="also write the plot of judge and guides against the root of the KL as HTML")
    parser.add_argument(
        "--engine", choices=tuple(ENGINES), default="process", help=f"{'; '.join(f'{key}: {about}' for key, about in ENGINES.items())} (process)"
    )
    parser.add_argument(
        "--workers", type=int, default=0, metavar="N", help="of pool and ray: processes that each load the models (one per processor, or per GPU)"
    )
    parser.add_argument("--keep", action="store_true", help="keep answers of --out that another version of the code made")


def sweep(
    options: argparse.Namespace,
    open_workbench: Callable[[], "Workbench"],
    read_columns: Callable[["Workbench"], tuple[list[ColumnSpec], GenerationConfig]],
    list_model: Callable[["Workbench", str], None],
    offering_yes: Callable[[], AbstractContextManager[None]],
) -> None:
    """Run the sweep or read its results, and print the table. The callables are those that the commands share."""
    from rgtg.evaluation.shards import SweepFolder
    from rgtg.evaluation.table import markdown, summary, write_table

    for path in (options.plot, options.plot_peaks):
        if path is not None and path.suffix.lower() not in (".html", ".htm"):
            raise BadSettings("The plot is written as HTML.", f"Found `{path.name}`.", "Name it `….html`; a browser saves it as PNG.")
    if options.minus and not options.at_kl:
        raise BadSettings("`--minus` is of methods at equal KL.", "No `--at-kl` is given.", "Add `--at-kl NATS`, or leave it out.")
    if options.table is not None:
        folder = SweepFolder(options.table)
        cells = folder.results()
        print(write_table(cells, options.table, True) if options.over_seeds else markdown(summary(cells), folder.speed()))
    else:
        cells = _run(options, open_workbench, read_columns, list_model, offering_yes)
        table = write_table(cells, options.out)
        print(write_table(cells, options.out, True) if options.over_seeds else table)
    if options.at_kl:
        from rgtg.evaluation.frontier import matched_table

        for minus in dict.fromkeys(("", options.minus)):
            print(matched_table(cells, options.at_kl, options.over_seeds, minus))
    if options.peaks:
        from rgtg.evaluation.peaks import peaks_table

        print(peaks_table(cells, options.over_seeds))
    _plot(cells, options)


def _run(
    options: argparse.Namespace,
    open_workbench: Callable[[], "Workbench"],
    read_columns: Callable[["Workbench"], tuple[list[ColumnSpec], GenerationConfig]],
    list_model: Callable[["Workbench", str], None],
    offering_yes: Callable[[], AbstractContextManager[None]],
) -> "list[Cell]":
    from rgtg.evaluation.shards import SweepFolder

    make_folder(options.out)  # before any model is loaded
    plan = _plan_to_go_on(SweepFolder(options.out).plan, options)
    workbench = open_workbench()
    columns, generation = read_columns(workbench)
    prompts: Sequence[str] = [*options.prompt, *(prompt for path in options.prompts for prompt in read_prompts(path, options.limit))]
    if options.first_words is not None:
        prompts = [" ".join(prompt.split()[: options.first_words]) for prompt in prompts]
    seeds: Sequence[int] = range(options.seeds)
    if plan is not None:
        columns, prompts, seeds = columns if options.run else list(plan.columns), plan.prompts, plan.seeds
    list_model(workbench, options.observe)
    with offering_yes(), terminal.ProgressBar(options, "answers", digits=1) as bar:
        cells = workbench.sweeps.run(
            columns, prompts, generation, seeds, options.observe, options.out, options.base_lm, options.yes, bar, options.keep, options.seed,
            options.engine, options.workers,
        )  # fmt: skip
    workbench.close()
    return cells


def _plan_to_go_on(plan: "Plan | None", options: argparse.Namespace) -> "Plan | None":
    """The plan of the sweep in `--out` where no prompts are given, its settings taken into the options; None where they are."""
    if options.prompts or options.prompt:
        options.observe = options.observe or JUDGE
        return None
    if plan is None:
        raise BadSettings("A sweep needs prompts.", f"`{options.out}` holds no sweep to go on with.", "Add `--prompts FILE` or `--prompt TEXT`.")
    options.base_lm, options.observe = options.base_lm or plan.base_lm, options.observe or plan.judge
    vars(options).update(vars(plan.generation), seed=plan.first_seed)
    return plan


def _plot(cells: "Sequence[Cell]", options: argparse.Namespace) -> None:
    """Write the plots that are asked for."""
    from rgtg.evaluation.frontier import frontier_figure
    from rgtg.evaluation.peaks import peaks_figure

    for path, drawn in ((options.plot, frontier_figure), (options.plot_peaks, peaks_figure)):
        if path is not None:
            with door(f"`{path}` cannot be written.", kind=BadSettings):
                drawn(cells, options.over_seeds).write_html(path, include_plotlyjs=True)
