"""The commands `rgtg sample` and `rgtg rounds`: scored samples of a policy, and rounds of sampling, training and measuring.

Parses options and prints the tables. Knows nothing of the other commands.
"""

import argparse
import json
from collections.abc import Callable, Sequence
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING

from rgtg.cli import terminal
from rgtg.config import GenerationConfig
from rgtg.errors import BadSettings
from rgtg.preferences.prompt_rows import read_prompts
from rgtg.system.files import make_folder

if TYPE_CHECKING:
    from rgtg.records import ColumnSpec
    from rgtg.workbench.workbench import Workbench

    Open = Callable[[], Workbench]
    ReadColumns = Callable[[Workbench], tuple[list[ColumnSpec], GenerationConfig]]
    ListModel = Callable[[Workbench, str], None]
ABOUT = {
    "sample": "sample answers of the base LM or of a guided policy, scored by a judge: rows that `rgtg train` reads as pairs or with their scores",
    "rounds": "train in rounds: the guided policy's own answers, scored by a judge, train the reward model that guides next",
}
JUDGE = "judge"  # the starter's


def _shared_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--prompts", type=Path, action="append", default=[], required=True, metavar="FILE", help="prompt file; may be repeated")
    parser.add_argument("--limit", type=int, metavar="N", help="use only the first N prompts of each file")
    parser.add_argument("--judge", default=JUDGE, metavar="NAME|PATH", help=f"the reward model that scores the answers ({JUDGE})")
    parser.add_argument("--json", action="store_true", help="print JSON")


def add_sample_options(parser: argparse.ArgumentParser) -> None:
    _shared_options(parser)
    parser.add_argument("--out", required=True, type=Path, metavar="FILE", help="file for the samples, JSON lines")
    parser.add_argument("--samples", type=int, default=4, metavar="N", help="answers to each prompt (4)")
    parser.add_argument("--seed", type=int, default=0, help="the first random seed (0)")
    parser.add_argument(
        "--roll-in",
        action="store_true",
        help="the method of --run writes a random number of first tokens and the base LM the rest, as soft values need",
    )


def add_rounds_options(parser: argparse.ArgumentParser) -> None:
    from rgtg.workbench.retraining.plan import RoundsConfig

    _shared_options(parser)
    parser.add_argument("--out", required=True, type=Path, metavar="DIR", help="folder of the rounds; interrupted ones go on from it")
    parser.add_argument(
        "--eval-prompts", type=Path, action="append", default=[], metavar="FILE", help="prompts to measure with (every fifth of --prompts)"
    )
    parser.add_argument(
        "--train",
        default="",
        metavar="OBJECTIVE[:key=value,…]",
        help="how each reward model is trained, with options of `rgtg train`, as in soft-value:temperature=0.5,max_steps=200",
    )
    parser.add_argument("--base", default="", metavar="NAME|PATH", help="the model that each training starts from (the base LM)")
    parser.add_argument("--at-kl", type=float, action="append", default=[], metavar="NATS", help="compare the rounds at this KL (those of the first)")
    for f in fields(RoundsConfig):
        parser.add_argument("--" + f.name.replace("_", "-"), type=int, default=f.default, metavar="N", help=f"{f.metadata['help']} ({f.default})")


def sample(options: argparse.Namespace, open_workbench: "Open", read_columns: "ReadColumns", list_model: "ListModel") -> None:
    from rgtg.evaluation.labelling.judging import write_pairs
    from rgtg.evaluation.labelling.samples import AT_ONCE, BASE_LM, sampled

    if options.samples < 1:
        raise BadSettings("`--samples` has to be 1 or more.", f"Found {options.samples}.", field="samples")
    if len(options.run) > 1:
        raise BadSettings("One policy writes the samples.", f"Found {len(options.run)} of --run.", "Give one, or none for the base LM.", "run")
    if options.roll_in and not options.run:
        raise BadSettings("`--roll-in` has no effect on samples of the base LM.", "", "Leave it out, or give --run.", "roll-in")
    prompts = _prompts(options.prompts, options.limit)
    workbench = open_workbench()
    columns, generation = read_columns(workbench)
    policy = columns[0] if options.run else BASE_LM
    list_model(workbench, options.judge)
    models = workbench.library.load_models(options.base_lm, [name for name, _ in policy.mix])
    judge = workbench.library.reward_model(options.judge)
    with terminal.ProgressBar(options, "answers", digits=1) as bar:
        rows = sampled(
            models, judge, prompts, options.samples, generation, policy, options.roll_in, options.seed,
            lambda runs: workbench.budget.check_batches([runs], models, options.yes, AT_ONCE), bar,
        )  # fmt: skip
    write_pairs(rows, options.out)
    workbench.close()
    mean = sum(row["score"] for row in rows) / len(rows)
    if options.json:
        print(json.dumps({"path": str(options.out), "num_samples": len(rows), "num_prompts": len(prompts), "mean_score": round(mean, 4)}))
    else:
        print(f"{options.out}: {len(rows):,} answers to {len(prompts):,} prompts, mean score {mean:+.2f} by {judge.name}")


def rounds(options: argparse.Namespace, open_workbench: "Open", read_columns: "ReadColumns", list_model: "ListModel") -> None:
    from rgtg.evaluation.frontier import matched_table
    from rgtg.training.config import parse_training
    from rgtg.workbench.retraining.plan import RoundsConfig, RoundsPlan
    from rgtg.workbench.retraining.rounds import Rounds, kls_to_match, markdown

    config, numbers = parse_training(options.train), RoundsConfig(**{f.name: getattr(options, f.name) for f in fields(RoundsConfig)})
    if not options.run:
        raise BadSettings("Rounds need a method that the reward models guide.", "There is no --run.", "Add `--run METHOD:key=value`.", "run")
    prompts, eval_prompts = _prompts(options.prompts, options.limit), _prompts(options.eval_prompts, options.limit)
    make_folder(options.out)
    workbench = open_workbench()
    list_model(workbench, options.judge)
    base_lm = options.base_lm or workbench.library.default_base_lm()
    generation = GenerationConfig(**{f.name: getattr(options, f.name) for f in fields(GenerationConfig)})
    judge = workbench.library.scorer(options.judge).name
    plan = RoundsPlan.of(prompts, eval_prompts, judge, base_lm, options.base or base_lm, tuple(options.run), config, numbers, generation)
    with terminal.ProgressBar(options, "steps", digits=1) as bar:
        part = ""

        def listen(done: float, total: float, what: str) -> None:
            nonlocal part
            if what != part and part:
                bar.finish()
            part = what
            bar(done, total, what)

        running = Rounds(workbench, plan, options.out, options.yes, listen)
        rows = running.run()
    workbench.close()
    if options.json:
        print(json.dumps(rows, ensure_ascii=False))
        return
    print(markdown(rows))
    if kls := options.at_kl or kls_to_match(rows):
        print(matched_table(running.cells, kls))


def _prompts(files: Sequence[Path], limit: int | None) -> tuple[str, ...]:
    return tuple(prompt for path in files for prompt in read_prompts(path, limit))


OPTIONS = {"sample": add_sample_options, "rounds": add_rounds_options}
COMMANDS = {"sample": sample, "rounds": rounds}
