"""A recipe as commands of the terminal, and running them: data, train, examine, sweep, table.

A recipe is a TOML file beside this module. Every stage but the first is a command of rgtg, printed before it runs, so that it can be run by
hand. Knows nothing of models or losses.
"""

import contextlib
import io
import json
import random
import shlex
import tomllib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from rgtg.cli.main import main as rgtg
from rgtg.config import check, other, setting
from rgtg.errors import BadData, BadSettings
from rgtg.preferences.formats import Example, read
from rgtg.prompts import transcript
from rgtg.system.files import make_folder, replacing, write_json
from rgtg.system.serialization import read_json

FOLDER = Path(__file__).resolve().parent
NAMES = tuple(sorted(path.stem for path in FOLDER.glob("*.toml")))
STAGES = ("data", "train", "examine", "sweep", "table")
PAIRS, TEST, PROMPTS = "pairs.jsonl", "test.jsonl", "prompts.jsonl"
WRITTEN_FROM = "recipe.json"  # the parts of the recipe that data and reward models come from
Row = dict[str, str]


@dataclass(frozen=True)
class Data:
    """Pairs to train on, and from another split those to examine on and the prompts of the sweep. Raises BadSettings."""

    source: str = other("", "Data set of the Hub: owner/name or owner/name/subset")
    train: str = other("train", "Split of the pairs to train on")
    test: str = other("test", "Split of the pairs to examine on and of the prompts")
    num_pairs: int = setting(2048, "Pairs to train on, drawn from the split", 1, 10_000_000)
    num_test_pairs: int = setting(500, "Pairs to examine on", 1, 10_000_000)
    num_prompts: int = setting(100, "Prompts of the sweep", 1, 1_000_000)
    max_characters: int = setting(2000, "Longest prompt and answer together; longer pairs are left out", 1, 10_000_000)
    max_bad_rows: int = setting(0, "Unreadable rows to drop before the data set is refused", 0, 1_000_000_000)
    cue: str = other("", "Text between prompt and answer: put behind every prompt, and taken off both sides where the data set has it")
    seed: int = setting(42, "Random seed of the draws", 0, 2**31 - 1)

    def __post_init__(self) -> None:
        check(self)


@dataclass(frozen=True)
class Recipe:
    """Ids of the Hub, settings of the data, and options of the commands: a key `max_steps` is the flag `--max-steps`.

    `reward_models` are those that guide, each with its own options of `train`; `{partial}` in a run of the sweep is the folder of the one
    called partial. `local` maps ids to what is read in their place.
    """

    name: str
    title: str
    base_lm: str
    judge: str
    data: Data
    train: dict[str, Any] = field(default_factory=dict)
    reward_models: dict[str, dict[str, Any]] = field(default_factory=dict)
    examine: dict[str, Any] = field(default_factory=dict)
    sweep: dict[str, Any] = field(default_factory=dict)
    table: dict[str, Any] = field(default_factory=dict)
    local: dict[str, str] = field(default_factory=dict)

    def place(self, hub_id: str) -> str:
        """The local copy of a model or data set; without one the id itself."""
        return self.local.get(hub_id, hub_id)

    @property
    def written_from(self) -> dict[str, Any]:
        """What data and reward models come from, by which a folder knows its recipe again."""
        parts = ("name", "base_lm", "data", "train", "reward_models", "local")
        return {key: value for key, value in asdict(self).items() if key in parts}


def load(name: str, changes: Iterable[str] = (), stand_in: Path | None = None) -> Recipe:
    """The recipe of that name, with `changes` such as `train.max_steps=20`, and what `stand_in` holds in place of the Hub. Raises BadSettings."""
    values = tomllib.loads((FOLDER / f"{name}.toml").read_text(encoding="utf-8"))
    for change in changes:
        values = _changed(values, change)
    try:
        recipe = Recipe(name=name, **values | {"data": Data(**values["data"])})
    except TypeError as error:
        raise BadSettings(f"The recipe `{name}` has no such key.", f"{error}.", "Its file shows the keys that there are.") from error
    if stand_in is None:
        return recipe
    ids = (recipe.base_lm, recipe.judge, recipe.data.source)
    local = {hub_id: str((stand_in / hub_id).resolve()) for hub_id in ids if (stand_in / hub_id).exists()}
    if not local:
        do = f"Put a model or data set there as {stand_in / ids[0]}."
        raise BadSettings(f"`{stand_in}` holds no stand-in for the recipe `{name}`.", f"It reads {', '.join(ids)}.", do)
    return replace(recipe, local=local)


def _changed(values: Mapping[str, Any], change: str) -> dict[str, Any]:
    """`values` with one of them replaced: "train.max_steps=20". Raises BadSettings."""
    try:
        given = tomllib.loads(change)
    except tomllib.TOMLDecodeError as error:
        do = "Write it as in TOML: train.max_steps=20, or data.cue='TL;DR:'."
        raise BadSettings(f"`--set {change}` cannot be read.", f"{error}.", do) from error

    def merged(old: Mapping[str, Any], new: Mapping[str, Any]) -> dict[str, Any]:
        return {**old, **{key: merged(old[key], value) if isinstance(old.get(key), dict) else value for key, value in new.items()}}

    return merged(values, given)


# --- the commands -----------------------------------------------------------------------------------------------------


def flags(options: Mapping[str, Any]) -> list[str]:
    """{"max_steps": 7, "lora": True, "run": ["base", "pargs"]} -> --max-steps 7 --lora --run base --run pargs."""
    words = []
    for key, value in options.items():
        flag = key.replace("_", "-")
        if isinstance(value, bool):
            words.append(f"--{flag}" if value else f"--no-{flag}")
        else:
            words += [word for item in (value if isinstance(value, list) else [value]) for word in (f"--{flag}", str(item))]
    return words


def commands(recipe: Recipe, out: Path) -> Iterator[tuple[str, list[str]]]:
    """(stage, arguments of `rgtg`) in the order in which they run. Raises BadSettings."""
    folders = {name: str(out / f"{recipe.name}-{name}") for name in recipe.reward_models}
    base_lm, judge = recipe.place(recipe.base_lm), recipe.place(recipe.judge)
    for name, own in recipe.reward_models.items():
        options = flags(recipe.train | own)
        yield "train", ["train", "--pairs", str(out / PAIRS), "--base", base_lm, "--out", folders[name], *options, "--resume"]
    models = [word for folder in folders.values() for word in ("--reward-model", folder)]
    yield "examine", ["examine", *models, "--judge", judge, "--pairs", str(out / TEST), "--base-lm", base_lm, *flags(recipe.examine)]
    runs = [_with_folders(text, folders) for text in recipe.sweep.get("run", [])]
    swept = ["--base-lm", base_lm, "--observe", judge, *flags(recipe.sweep | {"run": runs})]
    yield "sweep", ["sweep", "--prompts", str(out / PROMPTS), "--out", str(out / "sweep"), "--yes", *swept]
    yield "table", ["sweep", "--table", str(out / "sweep"), "--plot", str(out / "judge-against-kl.html"), *flags(recipe.table)]


def _with_folders(text: str, folders: Mapping[str, str]) -> str:
    """ "pargs:reward_model={partial}" -> "pargs:reward_model=out/hh-partial". Raises BadSettings."""
    try:
        return text.format(**folders)
    except (KeyError, IndexError, ValueError) as error:
        raise BadSettings(f"The run `{text}` names no reward model of the recipe.", f"It has: {', '.join(folders)}.") from error


def run(recipe: Recipe, out: Path, stages: Sequence[str] = STAGES, dry_run: bool = False) -> int:
    """Run the stages that are not done yet, and return the exit status of the first command that fails, else 0. Raises RgtgError."""
    print(f"# {recipe.title}")
    for hub_id, path in recipe.local.items():
        print(f"# {path} in place of {hub_id}")
    if "data" in stages and not dry_run:
        write_data(recipe, out)
    for stage, arguments in commands(recipe, out):
        if stage not in stages:
            continue
        print(f"python -m rgtg {shlex.join(arguments)}", flush=True)
        status = 0 if dry_run else _examine(arguments, out / "examine.md") if stage == "examine" else rgtg(arguments)
        if status:
            return status
    return 0


def _examine(arguments: list[str], report: Path) -> int:
    """Examine the reward models and keep what is printed; where that was done already it is printed again."""
    if not report.exists():
        with contextlib.redirect_stdout(io.StringIO()) as printed:
            status = rgtg(arguments)
        if status:
            return status
        with replacing(report) as part:
            part.write_text(printed.getvalue(), encoding="utf-8")
    print(report.read_text(encoding="utf-8"))
    return 0


# --- the data ---------------------------------------------------------------------------------------------------------


def write_data(recipe: Recipe, out: Path) -> None:
    """Write the pairs to train on, those to examine on, and the prompts. Raises BadSettings where the folder belongs to another recipe or to
    other settings of it, BadData where the data set has too little."""
    make_folder(out)
    if (out / WRITTEN_FROM).exists():
        if (old := read_json(out / WRITTEN_FROM)) != recipe.written_from:
            parts = ", ".join(key for key, value in recipe.written_from.items() if old.get(key) != value)
            raise BadSettings(f"`{out}` was begun with other settings.", f"What differs is {parts}.", "Choose another folder with --out.")
        return
    data, rng = recipe.data, random.Random(recipe.data.seed)
    all_pairs = _rows(recipe, data.train)
    pairs = rng.sample(all_pairs, min(data.num_pairs, len(all_pairs)))
    trained_on = {row["prompt"] for row in pairs}
    all_tests = [row for row in _rows(recipe, data.test) if row["prompt"] not in trained_on]
    tests = rng.sample(all_tests, min(data.num_test_pairs, len(all_tests)))
    all_prompts = sorted({row["prompt"] for row in all_tests})
    prompts = rng.sample(all_prompts, min(data.num_prompts, len(all_prompts)))
    if not pairs or not tests:
        found = f"{len(all_pairs)} pairs to train on and {len(all_tests)} to examine on have at most {data.max_characters} characters."
        raise BadData(f"`{data.source}` has too little for this recipe.", found, "Raise data.max_characters.")
    for name, rows in ((PAIRS, pairs), (TEST, tests), (PROMPTS, [{"prompt": prompt} for prompt in prompts])):
        with replacing(out / name) as part:
            part.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    print(f"# {len(pairs)} of {len(all_pairs)} pairs to train on, {len(tests)} of {len(all_tests)} to examine on, {len(prompts)} prompts")
    write_json(out / WRITTEN_FROM, recipe.written_from)


def _rows(recipe: Recipe, split: str) -> list[Row]:
    """The pairs of a split that are short enough, as rows of prompt, chosen and rejected."""
    examples = read(recipe.place(recipe.data.source), split, max_bad_rows=recipe.data.max_bad_rows).examples
    rows = [_row(example, recipe.data.cue) for example in examples if isinstance(example, Example)]
    longest = recipe.data.max_characters
    return [row for row in rows if len(row["prompt"]) + max(len(row["chosen"]), len(row["rejected"])) <= longest]


def _row(example: Example, cue: str) -> Row:
    """With the cue "\\nTL;DR:" the prompt "POST: …" and the answers "TL;DR: Short." are "POST: …\\nTL;DR:" and " Short."."""
    prompt = example.prompt if isinstance(example.prompt, str) else transcript(example.prompt)
    answers = [example.chosen, example.rejected]
    if cue:
        prompt = prompt.removesuffix(cue.strip()).rstrip() + cue
        gap = "" if cue[-1].isspace() else " "
        answers = [gap + answer.strip().removeprefix(cue.strip()).strip() for answer in answers]
    return {"prompt": prompt, "chosen": answers[0], "rejected": answers[1]}
