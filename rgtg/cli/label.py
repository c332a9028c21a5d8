"""The commands `rgtg label` and `rgtg strength`: labels of pairs by a judge, and their strength by several reward models.

Parses options, reads and writes the pairs, and prints the counts. Knows nothing of the other commands.
"""

import argparse
import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rgtg.cli import terminal
from rgtg.errors import BadSettings

if TYPE_CHECKING:
    from rgtg.evaluation.examine.reading import Pairs
    from rgtg.evaluation.labelling.judging import Gaps
    from rgtg.workbench.workbench import Workbench

    Open = Callable[[], Workbench]
    ListModel = Callable[[Workbench, str], None]

ABOUT = {
    "label": "label pairs by a judge: the answer with the higher reward is chosen, with noise on request",
    "strength": "measure how strong preferences are by several reward models: margins, weights, contradictions",
}


def _shared_options(parser: argparse.ArgumentParser, judge: str, **of_judge: Any) -> None:
    parser.add_argument("--pairs", required=True, metavar="FILE|ID", help="pairs in any layout that `rgtg train` reads")
    parser.add_argument(
        "--columns", default="", metavar="NAMES", help="column mapping, where the names are not recognised: prompt=…,a=…,b=…,winner=…"
    )
    parser.add_argument("--judge", required=True, metavar="NAME|PATH", help=judge, **of_judge)
    parser.add_argument("--out", required=True, type=Path, metavar="FILE", help="file for the pairs, JSON lines that `rgtg train --pairs` reads")
    parser.add_argument("--limit", type=int, metavar="N", help="use at most N pairs (all)")
    parser.add_argument("--json", action="store_true", help="print one JSON object")


def _config_options(parser: argparse.ArgumentParser, config: type[Any]) -> None:
    """A flag for each field of a dataclass."""
    for f in fields(config):
        flag, help, choices = "--" + f.name.replace("_", "-"), f.metadata["help"].replace("%", "%%"), f.metadata.get("choices")
        if isinstance(f.default, bool):
            parser.add_argument(flag, action="store_true", help=help)
        else:
            parser.add_argument(flag, type=type(f.default), default=f.default, choices=choices, help=f"{help} ({f.default})")


def add_label_options(parser: argparse.ArgumentParser) -> None:
    from rgtg.evaluation.labelling.labels import LabelConfig

    _shared_options(parser, "the reward model whose rewards of complete answers are the labels: an installed one or a folder")
    _config_options(parser, LabelConfig)


def add_strength_options(parser: argparse.ArgumentParser) -> None:
    from rgtg.evaluation.labelling.strength import StrengthConfig

    of_one_scale = "a reward model that votes, best of an ensemble (`rgtg train --ensemble`), as their rewards are averaged; give two or more"
    _shared_options(parser, of_one_scale, action="append")
    _config_options(parser, StrengthConfig)


def label(options: argparse.Namespace, open_workbench: "Open", list_model: "ListModel") -> None:
    from rgtg.evaluation.labelling.judging import write_pairs
    from rgtg.evaluation.labelling.labels import LabelConfig, labelled

    config = LabelConfig(**{f.name: getattr(options, f.name) for f in fields(LabelConfig)})
    pairs, gaps, names = _judged(options, [options.judge], open_workbench, list_model)
    rows, report = labelled(pairs.read, gaps[0], names[0], config, pairs.num_left_out)
    write_pairs(rows, options.out)
    print(json.dumps({"path": str(options.out), "judge": names[0], **asdict(report)}) if options.json else f"{options.out}: {report}")


def strength(options: argparse.Namespace, open_workbench: "Open", list_model: "ListModel") -> None:
    from rgtg.evaluation.labelling.judging import write_pairs
    from rgtg.evaluation.labelling.strength import Strength, StrengthConfig, deciles, markdown, strengthened

    config = StrengthConfig(**{f.name: getattr(options, f.name) for f in fields(StrengthConfig)})
    if len(set(options.judge)) < 2:
        raise BadSettings("The strength of a preference needs two reward models or more.", f"Found {len(set(options.judge))}.", "Repeat --judge.")
    pairs, gaps, names = _judged(options, list(dict.fromkeys(options.judge)), open_workbench, list_model)
    found = [Strength.of([along[-1] for along in of_pair]) for of_pair in zip(*gaps, strict=True)]
    rows = strengthened(pairs.read, found, config)
    write_pairs(rows, options.out)
    against = sorted((s.mean, pair.example.row) for s, pair in zip(found, pairs.read, strict=True) if s.mean < 0)
    table, contradictions = deciles(found), [{"row": row, "strength": round(mean, 4)} for mean, row in against]
    if options.json:
        counts = {"num_pairs": len(found), "num_left_out": pairs.num_left_out, "num_written": len(rows)}
        print(json.dumps({"path": str(options.out), "judges": names, **counts, "contradictions": contradictions, "deciles": table}))
        return
    done = {"keep": "kept", "flip": "flipped", "drop": "dropped"}[config.contradictions]
    left_out = f", {pairs.num_left_out:,} cannot be used" if pairs.num_left_out else ""
    print(markdown(table))
    print(f"{options.out}: {len(rows):,} pairs; {len(against):,} contradictions {done}{left_out}")
    if against:
        print(f"The strongest contradictions are rows {', '.join(str(row) for _, row in against[:10])}; --json lists all of them.")


def _judged(
    options: argparse.Namespace, judges: Sequence[str], open_workbench: "Open", list_model: "ListModel"
) -> "tuple[Pairs, list[list[Gaps]], list[str]]":
    """The pairs of the file, and for each judge its differences of rewards and its name."""
    from rgtg.evaluation.examine.reading import Pairs
    from rgtg.evaluation.labelling.judging import gaps_of
    from rgtg.preferences.formats import read

    if options.limit is not None and options.limit < 1:
        raise BadSettings("`--limit` has to be 1 or more.", f"Found {options.limit}.", field="limit")
    reading = read(Path(options.pairs) if Path(options.pairs).exists() else options.pairs, columns=options.columns)
    workbench = open_workbench()
    for name in judges:
        list_model(workbench, name)
    models = workbench.library.load_models(options.base_lm, judges)
    names = list(models.reward_models)
    pairs, gaps = Pairs(reading, models.base_lm, options.limit), []
    for name in names:
        with terminal.ProgressBar(options, "pairs") as bar:
            gaps.append(gaps_of(models.reader(name), name, pairs.read, bar))
    workbench.close()
    return pairs, gaps, names


OPTIONS = {"label": add_label_options, "strength": add_strength_options}
COMMANDS = {"label": label, "strength": strength}
