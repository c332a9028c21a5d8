"""The command `rgtg train`: one reward model or an ensemble from votes, a file or a hub data set, in the terminal.

Prints progress as text or JSON lines. Knows nothing of the other commands or of background jobs.
"""

import argparse
import json
import shutil
import time
from collections.abc import Mapping, Sequence
from dataclasses import Field, dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rgtg.cli import terminal
from rgtg.config import NEW_NAMES, Settings, refuse_old_name
from rgtg.errors import BadData, BadSettings
from rgtg.figures import accuracy_words, estimate_words
from rgtg.records import ModelCard
from rgtg.system.files import make_folder, write_json
from rgtg.system.serialization import read_json
from rgtg.training.config import TrainingConfig, objective_help, shared_fields
from rgtg.training.objectives import DEFAULT, OBJECTIVES

if TYPE_CHECKING:
    from rgtg.workbench.workbench import Workbench

ABOUT = "a reward model from votes, a file or a hub data set; `torchrun -m rgtg train` for several processes"
FROZEN = "pairs.jsonl"  # snapshot of the votes of `train --from-votes`, beside the checkpoints until the end


def add_options(parser: argparse.ArgumentParser) -> None:
    given = parser.add_mutually_exclusive_group(required=True)
    given.add_argument("--pairs", metavar="FILE|ID", help="JSON, CSV, Parquet, Arrow, a folder of them, or owner/name[/subset[/split]] on the hub")
    given.add_argument("--from-votes", action="store_true", help="the votes in the database, as a named snapshot")
    parser.add_argument(
        "--filter", choices=("careful", "all"),
        help="careful, the default with several raters, leaves out gold pairs, votes faster than one can read and careless raters",
    )  # fmt: skip
    parser.add_argument(
        "--base", required=True, metavar="NAME|PATH", help="base LM or reward model to start from: an installed name, a folder or a hub id"
    )
    parser.add_argument("--out", required=True, type=Path, help="new folder for the reward model; checkpoints are beside it during training")
    parser.add_argument("--name", help="display name (that of the folder)")
    parser.add_argument("--guide", default="", metavar="DIR|ID", help="reward model to compare with, where training starts from a base LM")
    parser.add_argument("--split", default="train", help="split of a hub data set (train)")
    parser.add_argument(
        "--ensemble", type=int, default=1, metavar="N", help="number of models, with random seeds from --seed on, in folders OUT-1 to OUT-N"
    )
    parser.add_argument(
        "--train",
        action="append",
        default=[],
        metavar="OBJECTIVE[:key=value,…]",
        help="a training of a table in the folder --out: an objective with its options, in place of --objective; may be repeated. The same command "
        "goes on after a stop, skips what is finished, and ends with the accuracy by length of the prefix, with intervals over the seeds",
    )
    parser.add_argument("--seeds", type=int, default=1, metavar="N", help="with --train: models of each kind, with random seeds from --seed on (1)")
    parser.add_argument(
        "--engine", choices=("process", "pool"), default="process", help="with --train: one model after another, or in several processes (process)"
    )
    parser.add_argument("--workers", type=int, default=0, metavar="N", help="with --engine pool: number of processes (one per processor)")
    parser.add_argument("--resume", action="store_true", help="resume from the newest complete checkpoint")
    parser.add_argument("--json", action="store_true", help="progress as JSON lines")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--dtype", default="float32", choices=("float32", "bfloat16"), help="of the weights while training (float32)")
    parser.add_argument("--objective", default=DEFAULT.key, help=f"{objective_help()} ({DEFAULT.key})")
    for f in shared_fields():
        _add_flag(parser, f, f.metadata["help"])
    for by_objective in options_by_name().values():
        f = next(iter(by_objective.values()))
        _add_flag(parser, f, f"{f.metadata['help']}; of {', '.join(by_objective)}")
    current = {f.name for f in shared_fields()} | options_by_name().keys()
    for old in (old for old, new in NEW_NAMES.items() if new in current):
        parser.add_argument(
            flag_of(old), flag_of(f"no_{old}"), dest=old, action=_Renamed, nargs="?", default=argparse.SUPPRESS, help=argparse.SUPPRESS
        )


class _Renamed(argparse.Action):
    """A flag of an earlier version; it raises BadSettings with the one that replaced it."""

    def __call__(self, parser: argparse.ArgumentParser, namespace: argparse.Namespace, values: Any, option_string: str | None = None) -> None:
        negation = "no_" if (option_string or "").startswith("--no-") else ""
        refuse_old_name(self.dest, lambda name: flag_of(negation + name))


def flag_of(name: str) -> str:
    """ "max_steps" -> "--max-steps"."""
    return "--" + name.replace("_", "-")


def options_by_name() -> dict[str, dict[str, Field[Any]]]:
    """The objectives that have an option: {"margin": {"partial": field, "full": field, …}, …}."""
    by_name: dict[str, dict[str, Field[Any]]] = {}
    for key, kind in OBJECTIVES.items():
        for f in fields(kind):
            by_name.setdefault(f.name, {})[key] = f
    return by_name


def _add_flag(parser: argparse.ArgumentParser, f: Field[Any], about: str) -> None:
    """Add a flag without a default, so that a flag that was given can be told from one that was not."""
    flag, help = flag_of(f.name), f"{about} ({f.default})".replace("%", "%%")
    if isinstance(f.default, bool):
        parser.add_argument(flag, action=argparse.BooleanOptionalAction, default=argparse.SUPPRESS, help=help)
    else:
        choices = f.metadata.get("choices")
        metavar = f"{{{','.join(choices)}}}" if choices else None
        parser.add_argument(flag, type=type(f.default), default=argparse.SUPPRESS, metavar=metavar, help=help)


def shared_options(options: argparse.Namespace) -> dict[str, Any]:
    """The options of all objectives whose flags were given."""
    return {f.name: getattr(options, f.name) for f in shared_fields() if hasattr(options, f.name)}


def config_of(options: argparse.Namespace) -> TrainingConfig:
    """The settings from the flags that were given. Raises BadSettings."""
    names = ["objective", *(f.name for f in shared_fields()), *options_by_name()]
    return TrainingConfig.of({name: getattr(options, name) for name in names if hasattr(options, name)})


@dataclass(frozen=True)
class Member:
    """One model of the command `train`: its folder, name, settings, and the folder of its checkpoints."""

    out: Path
    name: str
    config: TrainingConfig
    work: Path


def members_of(options: argparse.Namespace, work: Path) -> list[Member]:
    """The members of an ensemble, OUT-1 to OUT-N, each with its own seed and name; OUT alone for a single model."""
    config = config_of(options)
    out, name = options.out, options.name or options.out.name
    if options.ensemble == 1:
        return [Member(out, name, config, work)]
    numbers = range(1, options.ensemble + 1)
    return [Member(out.with_name(f"{out.name}-{n}"), f"{name}-{n}", replace(config, seed=config.seed + n - 1), work / str(n)) for n in numbers]


def train(options: argparse.Namespace) -> None:
    from rgtg.training.pipeline import end_process_group, is_main_process
    from rgtg.workbench.workbench import Workbench

    if options.ensemble < 1:
        raise BadSettings("`--ensemble` has to be at least 1.", f"Found {options.ensemble}.")
    if not options.out.name:
        raise BadSettings("`--out` has to name a new folder.", f"Found `{options.out}`.", "Give a name that is not taken.")
    if options.filter and not options.from_votes:
        raise BadSettings("`--filter` is of votes.", "Found --pairs.", "Leave it out, or give --from-votes.")
    if options.from_votes and getattr(options, "columns", ""):
        raise BadSettings("`--columns` has no effect on votes.", f"Found `{options.columns}`.", "Leave it out, or give --pairs.")
    work, pairs = options.out.with_name(f".{options.out.name}.training"), options.out.with_name(f"{options.out.name}.pairs.jsonl")
    members, first = members_of(options, work), is_main_process()
    missing = [member for member in members if not _is_finished(member, options)]
    frozen = pairs if len(missing) < len(members) and pairs.is_file() else work / FROZEN  # all members are trained on the same votes
    if first:
        _check_room(work, options.resume)
        make_folder(work, options.out)
    workbench = Workbench(Settings.from_environment(device=options.device))
    try:
        source = options.pairs or (_frozen_votes(workbench, frozen, first, options.filter or "") if missing else "")
        for member in missing:
            _train_member(workbench, options, member, source, first)
        end_process_group()
    except BaseException:
        if first:
            _tidy(work, members)
        raise
    if first:
        if (work / FROZEN).is_file():  # the training data is kept beside the model
            (work / FROZEN).replace(pairs)
            if (described := _snapshot_beside(work / FROZEN)).is_file():
                described.replace(_snapshot_beside(pairs))
        shutil.rmtree(work)
    workbench.close()


def _train_member(workbench: "Workbench", options: argparse.Namespace, member: Member, source: str, first: bool) -> None:
    from rgtg.training import checkpoints
    from rgtg.training.pipeline import train_file

    settings = settings_of(workbench, options)
    with terminal.ProgressBar(options, "steps") as bar:
        emit = (lambda news: show_news(news, options, bar, member.name)) if first else lambda news: None
        card = train_file(source, out=member.out, config=member.config, name=member.name, emit=emit, work=member.work, **settings)
    if not first:
        return
    if card is not None and _snapshot_beside(Path(source)).is_file() and options.from_votes:
        card = replace(card, snapshot=read_json(_snapshot_beside(Path(source))))
        card.write(member.out)
    if card is None:
        raise BadSettings("The training was stopped.", f"Its checkpoints are in {member.work}.", "Add --resume to continue.")
    checkpoints.discard(member.work)
    result = {"path": str(member.out), "verdict": card.verdict, "num_pairs": card.num_pairs, "metrics": card.metrics, "report": card.report}
    result |= {"snapshot": card.snapshot} if card.snapshot else {}
    print(json.dumps(result, ensure_ascii=False) if options.json else f"{member.out}: {card.verdict}", flush=True)


def settings_of(workbench: "Workbench", options: argparse.Namespace) -> dict[str, Any]:
    """Arguments of `train_file` that all members share; installed models are named by their folders."""
    installed = {m.name: m.folder_or_id for m in workbench.library.catalog.of_kind("base_lm", "reward_model")}
    base, guide = (installed.get(name, name) for name in (options.base, options.guide))
    return {"base": base, "device": options.device, "dtype": options.dtype, "split": options.split, "guide": guide}


def _is_finished(member: Member, options: argparse.Namespace) -> bool:
    """Whether the model exists and --resume skips it. Raises BadSettings where another folder has its name."""
    if not member.out.exists():
        return False
    card = ModelCard.read(member.out) if options.resume else None
    if card is None or (card.objective, card.training.get("seed")) != (member.config.objective.key, member.config.seed):
        do = "Choose another folder with --out" + (", or add --resume for those that are missing." if options.ensemble > 1 else ".")
        raise BadSettings(f"`{member.out}` already exists.", "", do)
    return True


def _check_room(work: Path, resume: bool) -> None:
    """Raise BadSettings where an earlier training left checkpoints or votes and --resume is not given."""
    if not resume and (_has_checkpoints(work) or (work / FROZEN).is_file()):
        raise BadSettings("This training was started before.", f"Its checkpoints are in {work}.", "Add --resume to continue, or remove that folder.")


def _has_checkpoints(work: Path) -> bool:
    from rgtg.training import checkpoints

    return any(checkpoints.in_folder(folder) for folder in (work, *work.glob("[0-9]*")))


def _tidy(work: Path, members: Sequence[Member]) -> None:
    """Clean up after an error: keep only what --resume needs, a checkpoint or the votes that finished members were trained on."""
    if not _has_checkpoints(work) and not ((work / FROZEN).is_file() and any(member.out.exists() for member in members)):
        shutil.rmtree(work, ignore_errors=True)


def _snapshot_beside(pairs: Path) -> Path:
    """Where a snapshot of votes is described: its name, its filter, what it leaves out."""
    return pairs.with_name(pairs.name.removesuffix(".jsonl") + ".snapshot.json")


def _frozen_votes(workbench: "Workbench", path: Path, first: bool, filter: str) -> str:
    """Path of a snapshot of the votes, written by the first process; the others wait for it."""
    from rgtg.store.export import skipped_words

    if first and not path.is_file():
        report, snapshot = workbench.trainings.snapshot(path, filter)
        if not report.num_pairs:
            counts = skipped_words(report.skipped) or "there are no votes"
            path.unlink()
            raise BadData("There is nothing to train on.", f"Found no pairs: {counts}.", "Vote for the better of two answers first.")
        write_json(_snapshot_beside(path), snapshot)
    patience = time.monotonic() + 60
    while not path.is_file() and time.monotonic() < patience:
        time.sleep(0.1)
    return str(path)


def show_news(news: Mapping[str, Any], options: argparse.Namespace, bar: terminal.ProgressBar, name: str) -> None:
    from rgtg.preferences.dataset import CAUSES

    if options.json:
        print(json.dumps(news, ensure_ascii=False), flush=True)
    elif news.get("phase") == "data":
        data = news["data"]
        print(f"{data['num_used']} {data['kind']} on {data['num_prompts']} prompts, {data['num_held_out']} held out", flush=True)
        for cause, number in data["dropped"]:
            print(f"   left out: {number:,} ({CAUSES.get(cause, cause)})", flush=True)
        for remark in data["remarks"]:
            print(f"   {remark}", flush=True)
        print(estimate_words(**news["estimate"], kind=data["kind"]), flush=True)
        if not options.resume:  # else the first news says where it goes on
            bar(0, news["estimate"]["num_steps"], name)
    elif news.get("phase") == "training":
        accuracy = news["held_out_accuracy"]
        held_out = "" if accuracy is None else f"  held-out accuracy {accuracy_words(accuracy, news['held_out_pairs'])}"
        bar(news["step"], news["num_steps"], name)
        bar.print(f"step {news['step']} of {news['num_steps']}  loss {news['loss']:.4f}{held_out}  {news['seconds_left']:.0f} s left")
