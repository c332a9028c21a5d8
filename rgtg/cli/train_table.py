"""`rgtg train --train …`: a table of trainings, objectives × random seeds, in one folder; the same command goes on after a kill.

    trainings.json    the data, the start and the settings of each training
    partial-0/ …      a model folder each, written whole or not at all
    table.md, .csv, .json

Knows nothing of losses or models.
"""

import argparse
import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from rgtg.cli import terminal
from rgtg.cli.train import Member, flag_of, options_by_name, settings_of, shared_options, show_news, train
from rgtg.config import Settings
from rgtg.errors import BadSettings, ModelRefused, door
from rgtg.guidance.mixes.expressions import settings_in
from rgtg.models.admission import admit as admission
from rgtg.models.artifacts import revision_of
from rgtg.records import ModelCard
from rgtg.system.files import make_folder, write_json
from rgtg.system.processes import Pool, num_processors
from rgtg.system.serialization import read_json
from rgtg.training.config import TrainingConfig, parse_training
from rgtg.training.objectives import DEFAULT

PLAN = "trainings.json"


def named_training(text: str, shared: Mapping[str, Any]) -> tuple[str, TrainingConfig]:
    """Name and settings of a training, see `parse_training`; the name has what sets it apart: `coherent-consistency-1-max_steps-200`."""
    key, _, rest = text.partition(":")
    items = [item for item, _ in settings_in(rest)]
    if any(item.startswith("seed=") for item in items):
        raise BadSettings(f"The training `{text}` has a random seed of its own.", "", "Leave it out, and give --seed and --seeds.", "train")
    return "-".join([key, *(item.replace("=", "-").replace("/", "-") for item in items)]), parse_training(text, shared)


def members_of(options: argparse.Namespace) -> dict[str, list[Member]]:
    """The trainings of the table by name: a member for each seed, from --seed on."""
    shared = shared_options(options)
    first = shared.pop("seed", 0)
    table: dict[str, list[Member]] = {}
    for text in options.train:
        name, config = named_training(text, shared)
        names = [(seed, f"{name}-{seed}") for seed in range(first, first + options.seeds)]
        table[name] = [Member(options.out / own, own, replace(config, seed=seed), options.out / f".{own}.training") for seed, own in names]
    return table


def train_one_or_table(options: argparse.Namespace) -> None:
    """The command `rgtg train`."""
    if options.train:
        return train_table(options)
    usual = {"seeds": 1, "engine": "process", "workers": 0}
    if given := [name for name, value in usual.items() if getattr(options, name) != value]:
        raise BadSettings(f"`{flag_of(given[0])}` is of a table of trainings.", "There is no --train.", "Leave it out, or give --train OBJECTIVE.")
    return train(options)


def train_table(options: argparse.Namespace) -> None:
    from rgtg.evaluation.trainings import write_training_table
    from rgtg.workbench.workbench import Workbench

    _check(options)
    table = members_of(options)
    members = [member for of_name in table.values() for member in of_name]
    make_folder(options.out)
    workbench = Workbench(Settings.from_environment(device=options.device))
    settings = settings_of(workbench, options)
    _keep_plan(options.out / PLAN, _plan(options.pairs, settings, members))
    missing = [member for member in members if not member.out.exists()]
    if options.engine == "pool" and missing:
        _in_processes(options, missing, settings)
    else:
        for member in missing:
            _one_by_one(options, member, settings)
    workbench.close()
    cards = {name: [_card(member) for member in of_name] for name, of_name in table.items()}
    print(write_training_table(cards, options.out))


def _check(options: argparse.Namespace) -> None:
    """Raise BadSettings for options that a table of trainings does not have."""
    if options.from_votes:
        do = "Write them to a file with `rgtg export --out pairs.jsonl`, and give --pairs."
        raise BadSettings("A table of trainings is made from a file.", "Found --from-votes.", do)
    if options.ensemble != 1 or options.name or options.seeds < 1:
        raise BadSettings("With --train, `--seeds N` says how many models of each kind.", "", "Leave out --ensemble and --name; N is at least 1.")
    if options.objective != DEFAULT.key:
        raise BadSettings("Objectives are given by --train.", f"Found --objective {options.objective}.", f"Add `--train {options.objective}`.")
    if own := [name for name in options_by_name() if hasattr(options, name)]:
        do = f"Write, for example, `--train {options.train[0].partition(':')[0]}:{own[0]}={getattr(options, own[0])}`."
        raise BadSettings(f"`{flag_of(own[0])}` is an option of an objective.", "Found it beside --train.", do)
    if int(os.environ.get("WORLD_SIZE", 1)) > 1:
        do = "Leave `torchrun` out, and add `--engine pool --workers N`."
        raise BadSettings("A table of trainings is made by one command.", "Found several processes (WORLD_SIZE).", do)


def _plan(pairs: str, settings: Mapping[str, Any], members: Sequence[Member]) -> dict[str, Any]:
    """What the folder is: hashes of the pairs and of the model that trainings start from (ids of what is on the Hub), and the settings of each
    training that decide its weights."""
    base, trainings = Path(settings["base"]), {member.name: replace(member.config, logging_steps=1, save_steps=0).flat() for member in members}
    revision = {"base_revision": revision_of(base)} if base.is_dir() else {}
    return {"pairs": _content(Path(pairs)) or pairs, **settings, **revision, "members": trainings}


def _content(path: Path) -> str:
    """SHA-256 of a file, or of the files in a folder; "" where there is none."""
    files = [path] if path.is_file() else sorted(file for file in path.rglob("*") if file.is_file()) if path.is_dir() else []
    hashes = []
    for file in files:
        with file.open("rb") as opened:
            hashes.append(hashlib.file_digest(opened, "sha256").hexdigest())
    return hashes[0] if path.is_file() else hashlib.sha256("".join(hashes).encode()).hexdigest() if files else ""


def _keep_plan(path: Path, plan: dict[str, Any]) -> None:
    """Write the plan, added to the one that is there. Raises BadSettings where the folder holds other trainings."""
    old = read_json(path) if path.is_file() else {"members": {}}
    do = "Choose another folder for --out, or repeat what it began with."
    of_folders = "base_revision" in plan.keys() & old.keys()  # then where the base LM lies is no matter
    for name in plan.keys() & old.keys() - {"members", "device"} - ({"base"} if of_folders else set()):
        if old[name] != plan[name]:
            raise BadSettings(f"`{path.parent}` holds other trainings.", f"Its {name} is {old[name]}, not {plan[name]}.", do)
    for name, config in plan["members"].items():
        if (known := old["members"].get(name, config)) != config:
            differs = ", ".join(f"{key} {known.get(key)}, not {value}" for key, value in config.items() if known.get(key) != value)
            raise BadSettings(f"`{path.parent / name}` was trained with other settings.", f"Found {differs}.", do)
        if name not in old["members"] and (path.parent / name).exists():
            raise BadSettings(f"`{path.parent / name}` already exists.", "It is none of the trainings of this folder.", do)
    write_json(path, plan | {"members": old["members"] | plan["members"]})


def _one_by_one(options: argparse.Namespace, member: Member, settings: Mapping[str, Any]) -> None:
    with terminal.ProgressBar(options, "steps") as bar:
        verdict = _train(options.pairs, settings, member, lambda news: show_news(news, options, bar, member.name))
    _print_result(options, member, verdict)


def _in_processes(options: argparse.Namespace, members: Sequence[Member], settings: Mapping[str, Any]) -> None:
    """Train the members in several processes with one thread each."""
    shares = dict[int, float]()
    pool = Pool(partial(_begin, options.pairs, settings, admission.admitted()), options.workers or num_processors(), lambda member: member.name)
    with terminal.ProgressBar(options, "models", digits=2) as bar:

        def hear(number: int, news: Mapping[str, Any]) -> None:
            shares[number] = news["step"] / news["num_steps"] if news.get("phase") == "training" else shares.get(number, 0.0)
            bar(sum(shares.values()), len(members))

        def ended(number: int, verdict: str) -> None:
            shares[number] = 1.0
            _print_result(options, members[number], verdict)

        pool.run(members, hear, ended)


def _begin(pairs: str, settings: Mapping[str, Any], admitted: Iterable[str]) -> Callable[[Member, Callable[[Any], None]], str]:
    import torch

    torch.set_num_threads(1)
    admission.trust(admitted)
    return partial(_train, pairs, settings)


def _train(pairs: str, settings: Mapping[str, Any], member: Member, emit: Callable[[dict[str, Any]], None]) -> str:
    """Train one model, from its newest checkpoint if there is one, and return its verdict."""
    from rgtg.training.pipeline import train_file

    card = train_file(pairs, out=member.out, config=member.config, name=member.name, emit=emit, work=member.work, **settings)
    assert card is not None  # nobody stops it, and it is one process
    shutil.rmtree(member.work, ignore_errors=True)
    return card.verdict


def _print_result(options: argparse.Namespace, member: Member, verdict: str) -> None:
    print(json.dumps({"path": str(member.out), "verdict": verdict}) if options.json else f"{member.out}: {verdict}", flush=True)


def _card(member: Member) -> ModelCard:
    with door(f"`{member.out}` cannot be read.", "Delete it and run the command again.", ModelRefused):
        card = ModelCard.read(member.out)
        if card is None:
            raise ValueError("it has no card")
        return card
