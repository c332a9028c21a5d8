"""The tables of docs/results.md: `python -m recipes.evidence TABLE --corpus DIR --out OUT` trains, writes answers and prints.

Each table is a list of commands of rgtg, printed before they run, so that each can be run by hand. What is finished is not done again. Knows
nothing of losses.
"""

import json
import shlex
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, fields, replace
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

from recipes.reviews import branching, in_pairs, write_reviews, write_turning
from recipes.summaries import turn_table, votes_table
from rgtg.cli import terminal
from rgtg.cli.main import main as rgtg
from rgtg.errors import BadData, RgtgError
from rgtg.evaluation.labelling.judging import write_pairs

BASE, JUDGE = "starter", "judge"  # the judge learned from the other half of the sentences
VOCABULARY = "vocabulary:compare=prefixes,constraint=sum,constraint_weight=0"
FIVE, TWO = ("partial", "full", "coherent", "shuffled"), (VOCABULARY, "autoregressive:beta=0.5")
SCALAR = {"full": "args", "partial": "pargs", "coherent": "pargs", "shuffled": "pargs", "judged": "pargs"}  # what guides by which objective
BETAS = (0.5, 1, 2, 4, 8)
STRONG_BETAS = (*BETAS, 16)
WIDE = ("--top-k", "50")  # candidates, among which there is more to be wrong about
KLS = (1, 2, 4, 6)
KINDS = ("complete", "branch")  # what a vote is on
ENOUGH = 0.95  # share of the largest number of votes: some branches end at once, or twice in the same way
NOISE = 2.0  # temperature of a rater's preferences, in units of the judge's reward
Command = list[str]


@dataclass(frozen=True)
class Work:
    """A step that is no command: what it writes."""

    about: str
    do: Callable[[], None]


Step = Command | Work


@dataclass(frozen=True)
class Place:
    """Where a table is made: the corpus, the folder, and its size: pairs of a training, prompts of each mood, random seeds of trainings."""

    corpus: Path
    out: Path
    num_pairs: int = 12_800
    num_prompts: int = 100
    seeds: int = 5
    few_seeds: int = 2
    max_steps: int = 200
    workers: int = 2
    numbers: tuple[int, ...] = (10, 30, 100, 300, 1000, 10_000)  # votes

    @property
    def engine(self) -> list[str]:
        return ["--engine", "pool", "--workers", str(self.workers)] if self.workers > 1 else []

    def data(self, name: str) -> str:
        return str(self.out / "data" / f"{name}.jsonl")

    def train(self, folder: str, objectives: Sequence[str], seeds: int, pairs: str = "pairs", batch_size: int = 64) -> Command:
        """A table of trainings: each objective with so many random seeds."""
        kinds = [word for objective in objectives for word in ("--train", objective)]
        size = ["--batch-size", str(batch_size), "--max-steps", str(self.max_steps), "--eval-fraction", "0.02"]
        own = ["--pairs", self.data(pairs), "--base", BASE, "--seeds", str(seeds), "--out", str(self.out / folder)]
        return ["train", *own, *kinds, *size, *self.engine]

    def models(self, folder: str, objective: str, seeds: int) -> list[str]:
        """Folders of the trainings of an objective."""
        return [str(self.out / folder / f"{folder_name(objective)}-{seed}") for seed in range(seeds)]

    def sweep(self, folder: str, runs: Sequence[str], prompts: str = "openings", more: Sequence[str] = ()) -> Command:
        """Answers to the prompts under each run, and of the base LM."""
        words = [word for run in ("base", *runs) for word in ("--run", run)]
        return [
            "sweep", "--prompts", self.data(prompts), "--max-new-tokens", "40", "--observe", JUDGE, "--out", str(self.out / folder),
            *self.engine, "--yes", *words, *more,
        ]  # fmt: skip

    def table(self, folder: str, more: Sequence[str] = ()) -> Command:
        """The table of a sweep over prompts and random seeds, at equal KL too, and its plot."""
        kls = [word for kl in KLS for word in ("--at-kl", str(kl))]
        plot = ["--plot", str(self.out / folder / "judge-against-kl.html")]
        return ["sweep", "--table", str(self.out / folder), "--over-seeds", *kls, *plot, *more]


def folder_name(objective: str) -> str:
    """`coherent:consistency=1` -> `coherent-consistency-1`, as a table of trainings names its folders."""
    return objective.replace(":", "-").replace("=", "-").replace(",", "-")


def guided(models: Sequence[str], method: str, weights: Sequence[float], parameter: str = "beta") -> list[str]:
    """The runs of a method with each reward model at each weight."""
    return [f"{method}:{parameter}={weight:g},reward_model={model}" for model in models for weight in weights]


def matched_kl(place: Place) -> Iterator[Step]:
    """1: the judge against KL, over prompts and training seeds."""
    yield place.train("trained", FIVE, place.seeds)
    yield place.train("trained-few", TWO, place.few_seeds)
    yield place.train("trained-texts", ["regression"], place.few_seeds, "texts", batch_size=128)
    yield place.sweep("matched-kl", _matched_runs(place))
    yield place.table("matched-kl", ["--minus", "args · full-*"])


def _matched_runs(place: Place) -> list[str]:
    runs = [run for objective in FIVE for run in guided(place.models("trained", objective, place.seeds), SCALAR[objective], BETAS)]
    vocabulary, autoregressive = (place.models("trained-few", objective, place.few_seeds) for objective in TWO)
    runs += guided(vocabulary, "farma", (1, 2, 4, 8)) + guided(autoregressive, "genarm", (0.5, 1, 2))
    runs += guided(place.models("trained-texts", "regression", place.few_seeds), "rad", (10, 20, 40))
    partial, full = (place.models("trained", objective, place.few_seeds) for objective in ("partial", "full"))
    runs += guided(full, "best-of-n", (2, 4, 8, 16), "n") + guided(partial, "cards", (0, 2, 4), "threshold")
    return runs + [f"particles:m=8,beta={beta:g},reward_model={model}" for model in partial for beta in (0.5, 1, 2)]


def gold(place: Place) -> Iterator[Step]:
    """2: a judge labels the pairs, clean and with a quarter of the labels turned round; true against proxy reward as β and n grow."""
    for name, noise in (("clean", ()), ("flipped", ("--flip", "0.25", "--seed", "1"))):
        yield ["label", "--pairs", place.data("mixed"), "--judge", JUDGE, "--out", place.data(name), "--prefixes", *noise]
        objectives = ("partial", "full", "judged")
        yield place.train(f"gold-{name}", objectives, place.few_seeds, name)
        steered = {objective: place.models(f"gold-{name}", objective, place.few_seeds) for objective in objectives}
        runs = [run for objective, models in steered.items() for run in guided(models, SCALAR[objective], STRONG_BETAS)]
        several = [run for objective in ("partial", "full") for run in guided(steered[objective], "best-of-n", (2, 4, 8, 16, 32, 64), "n")]
        for folder, of_folder, more in ((f"gold-{name}-sweep", [*runs, *several], ()), (f"gold-{name}-wide", runs, WIDE)):
            yield place.sweep(folder, of_folder, more=more)
            yield place.table(folder, ["--peaks", "--plot-peaks", str(place.out / folder / "peaks.html")])


def turn(place: Place) -> Iterator[Step]:
    """3: prompts and pairs whose verdict turns midway, by a judge of prefixes that learned from the other half; the reward models of table 1."""
    yield place.train("trained", FIVE, place.seeds)
    yield place.train("prefix-judge", ["partial"], 1, "other")
    (prefix_judge,) = place.models("prefix-judge", "partial", 1)
    turning = Path(place.data("turning"))
    yield Work(f"writes {turning}", lambda: write_turning(place.corpus, prefix_judge, turning, 2 * place.num_prompts))
    models = [model for objective in FIVE for model in place.models("trained", objective, place.seeds)]
    words = [word for model in models for word in ("--reward-model", model)]
    examined = place.out / "turn-examined.json"
    yield ["examine", *words, "--judge", JUDGE, "--pairs", place.data("dev"), "--limit", "1000", "--out", str(examined)]
    trained = {objective: [Path(model).name for model in place.models("trained", objective, place.seeds)] for objective in FIVE}
    yield Work("prints accuracy on pairs that turn, over trainings", lambda: print(turn_table(examined, trained)))
    runs = [run for objective in FIVE for run in guided(place.models("trained", objective, place.seeds), SCALAR[objective], BETAS)]
    yield place.sweep("turn", runs, "turning")
    yield place.table("turn", ["--minus", "args · full-*"])


def votes(place: Place) -> Iterator[Step]:
    """4: accuracy and steering against the number of votes: of a rater whom a judge imitates with noise, on complete answers, and on two
    continuations of one beginning, both written by the base LM."""
    yield _sample(place, "beginnings", "samples", 7)
    yield Work("writes branch prompts and pairs of complete answers", lambda: _branch(place))
    yield _sample(place, "branches", "continuations", 11)
    files: dict[str, dict[int, tuple[Path, Path]]] = {kind: {} for kind in KINDS}
    yield Work("writes pairs of continuations", lambda: write_pairs(in_pairs(_rows(place, "continuations")), Path(place.data("branch"))))
    for kind in KINDS:
        noise = ["--temperature", str(NOISE), "--seed", "1"]
        yield ["label", "--pairs", place.data(kind), "--judge", JUDGE, "--out", place.data(f"{kind}-voted"), *noise]
        yield Work(f"writes the first votes of {kind}", partial(_first, place, kind))
        for number in place.numbers:
            few, folder = place.few_seeds if number == max(place.numbers) else place.seeds, f"votes-{kind}-{number}"
            own = ["--pairs", place.data(f"{kind}-{number}"), "--base", BASE, "--seeds", str(few), "--out", str(place.out / folder)]
            yield ["train", *own, "--train", "partial", "--eval-fraction", "0.02", *place.engine]
            models = place.models(folder, "partial", few)
            yield place.sweep(f"{folder}-sweep", guided(models, "pargs", (2,)))
            examined = [word for model in models for word in ("--reward-model", model)]
            files[kind][number] = place.out / f"{folder}-examined.json", place.out / f"{folder}-sweep"
            yield ["examine", *examined, "--pairs", place.data("dev"), "--limit", "1000", "--out", str(files[kind][number][0])]
            yield ["sweep", "--table", str(files[kind][number][1]), "--over-seeds"]
    plot = place.out / "votes.html"
    yield Work(f"prints accuracy and steering against the number of votes, and writes {plot}", lambda: print(votes_table(files, plot)))


def _sample(place: Place, prompts: str, out: str, seed: int) -> Command:
    """Two answers of the base LM to each prompt."""
    return [
        "sample", "--prompts", place.data(prompts), "--samples", "2", "--seed", str(seed), "--judge", JUDGE, "--max-new-tokens", "40", "--yes",
        "--out", place.data(out),
    ]  # fmt: skip


def _rows(place: Place, name: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in Path(place.data(name)).read_text(encoding="utf-8").splitlines()]


def _branch(place: Place) -> None:
    samples = _rows(place, "samples")
    write_pairs(in_pairs(samples), Path(place.data("complete")))
    write_pairs(branching(samples[: len(samples) // 2]), Path(place.data("branches")))  # one of the two answers to each prompt


def _first(place: Place, kind: str) -> None:
    voted = _rows(place, f"{kind}-voted")
    if len(voted) < ENOUGH * max(place.numbers):
        raise BadData(f"There are too few votes on {kind} answers.", f"Found {len(voted):,} of {max(place.numbers):,}.", "Give a larger corpus.")
    for number in place.numbers:
        write_pairs(voted[:number], Path(place.data(f"{kind}-{number}")))


def cost(place: Place) -> Iterator[Step]:
    """5: the judge against seconds and forwards, sparse guidance and int8 included, with the models that ship."""
    runs = ["args:beta=2", "pargs:beta=2", "farma:beta=2", "genarm:beta=1", "best-of-n:n=4", "best-of-n:n=16", "cards", "block-best-of-k"]
    runs += ["particles:beta=2", *(f"sparse:beta=2,entropy={entropy:g}" for entropy in (1, 2, 3))]
    place = replace(place, workers=1)  # seconds of one process at work
    yield place.sweep("cost", runs)
    yield ["sweep", "--table", str(place.out / "cost")]
    yield place.sweep("cost-int8", runs[:4], more=["--reward-dtype", "int8"])
    yield ["sweep", "--table", str(place.out / "cost-int8")]


TABLES: dict[str, Callable[[Place], Iterator[Step]]] = {"matched-kl": matched_kl, "gold": gold, "turn": turn, "votes": votes, "cost": cost}


def run(table: str, place: Place, dry_run: bool = False) -> int:
    """Make a table, and return the exit status of the first command that fails, else 0. Raises RgtgError."""
    print(f"# {TABLES[table].__doc__}")
    if not dry_run:
        write_reviews(place.corpus, place.out / "data", place.num_pairs, place.num_prompts, max(place.numbers))
    for step in TABLES[table](place):
        if isinstance(step, Work):
            print(f"# {step.about}", flush=True)
            if not dry_run:
                step.do()
            continue
        print(f"python -m rgtg {shlex.join(step)}", flush=True)
        if not dry_run and not _is_done(step) and (status := rgtg(step)):
            return status
    return 0


def _is_done(command: Command) -> bool:
    """Whether a command without folders of its own has written its file, an examination that of all its reward models."""
    out = Path(command[command.index("--out") + 1]) if "--out" in command else Path()
    if command[0] == "examine":
        names = {Path(model).name for option, model in pairwise(command) if option == "--reward-model"}
        return out.exists() and names <= json.loads(out.read_text(encoding="utf-8"))["models"].keys()
    return command[0] in ("label", "sample") and out.exists()


def main(arguments: Sequence[str] | None = None) -> int:
    """Make a table and return the exit status; 2 after an error, which is a JSON line on stderr."""
    parser = terminal.Parser(prog="python -m recipes.evidence", description="Make a table of docs/results.md again.")
    parser.add_argument("table", choices=TABLES)
    parser.add_argument("--corpus", type=Path, required=True, metavar="DIR", help="folder of train.positive.txt, train.negative.txt, dev.…")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="folder for data, reward models and answers; run again, it goes on")
    for f in fields(Place):
        if f.name in ("num_pairs", "num_prompts", "seeds", "few_seeds", "max_steps", "workers"):
            parser.add_argument("--" + f.name.replace("_", "-"), type=int, default=f.default, metavar="N", help=f"({f.default})")
    parser.add_argument("--dry-run", action="store_true", help="print the commands and run none")
    terminal.write_utf8()
    try:
        options = vars(parser.parse_args(arguments))
        table, dry_run = options.pop("table"), options.pop("dry_run")
        return run(table, Place(**options), dry_run)
    except RgtgError as error:
        return terminal.refuse(error)


if __name__ == "__main__":
    sys.exit(main())
