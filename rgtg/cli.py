"""The verbs of the workbench in a terminal: python -m rgtg generate | score | train | sweep | export | models | starter | bench.

Prints what a person or a script reads; an error is one JSON line on stderr and exit status 2. Knows nothing of Gradio.
"""

import argparse
import json
import logging
import shutil
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path

from rgtg.config import GenerationConfig, Settings, TrainingConfig
from rgtg.errors import BadData, BadSettings, RgtgError
from rgtg.guidance.methods import METHODS, method
from rgtg.records import ColumnSpec, ModelCard, Trace
from rgtg.workbench.workbench import Workbench

FROZEN = "pairs.jsonl"  # the votes of `train --from-votes`, among the checkpoints until the end


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one command; 0 where it went well, 2 with a JSON line on stderr where it did not."""
    options = _parser().parse_args(arguments)
    logging.basicConfig(level="INFO" if options.verbose else "WARNING", format="%(asctime)s %(levelname)s %(message)s", stream=sys.stderr)
    try:
        options.run_command(options)
    except RgtgError as error:
        print(json.dumps({"error": error.wrong, "found": error.found, "do": error.do}, ensure_ascii=False), file=sys.stderr)
        return 2
    except BrokenPipeError:
        return 0
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m rgtg", description="Reward-guided text generation in a terminal.")
    parser.add_argument("--verbose", action="store_true", help="log what is loaded and trained")
    commands = parser.add_subparsers(dest="command", required=True)

    generate = _command(commands, "generate", _generate, "one prompt or a file of prompts, under one or several methods")
    _prompt_options(generate)
    _run_options(generate)
    generate.add_argument("--seed", type=int, default=0)
    generate.add_argument("--save", action="store_true", help="store the comparison in the database")
    generate.add_argument("--json", action="store_true", help="one JSON object a line, a column each")

    score = _command(commands, "score", _score, "the reward of every prefix of a response")
    score.add_argument("--reward-model", required=True, metavar="NAME|PATH")
    score.add_argument("--prompt", default="")
    score.add_argument("--response", required=True)
    _model_options(score)

    train = _command(commands, "train", _train, "a reward model from votes, a file or a hub data set; `torchrun -m rgtg train` for several processes")
    given = train.add_mutually_exclusive_group(required=True)
    given.add_argument("--pairs", metavar="FILE|ID", help="JSON lines, JSON, CSV or Parquet, or a data set of the hub: owner/name[/subset[/split]]")
    given.add_argument("--from-votes", action="store_true", help="the votes of the database, frozen first")
    train.add_argument("--base", required=True, metavar="NAME|PATH", help="a base LM or an earlier reward model: installed, a folder or a hub id")
    train.add_argument("--out", required=True, type=Path, help="folder of the new reward model; checkpoints are beside it while it trains")
    train.add_argument("--name", help="its name on screen (that of the folder)")
    train.add_argument("--guide", default="", metavar="DIR|ID", help="a reward model to measure beside it where the start is none")
    train.add_argument("--split", default="train", help="split of a hub data set (train)")
    train.add_argument("--ensemble", type=int, default=1, metavar="N", help="so many models, with seeds from --seed on, in folders OUT-1 to OUT-N")
    train.add_argument("--resume", action="store_true", help="go on from the newest whole checkpoint")
    train.add_argument("--json", action="store_true", help="progress as JSON lines")
    _training_options(train)
    train.add_argument("--device", default="auto")
    train.add_argument("--dtype", default="float32", choices=("float32", "bfloat16"), help="of the weights while training (float32)")

    sweep = _command(commands, "sweep", _sweep, "methods and weights over many prompts: a table with intervals")
    sweep.add_argument("--prompts", required=True, type=Path, action="append", help="a prompt a line, or JSON lines with `prompt`; may be repeated")
    sweep.add_argument("--limit", type=int, help="only the first so many lines of each file")
    sweep.add_argument("--first-words", type=int, help="only the first so many words of each line")
    sweep.add_argument("--seeds", type=int, default=1, help="how many seeds for each prompt")
    sweep.add_argument("--observe", default="judge", metavar="NAME", help="the judge whose zero decides what is positive")
    sweep.add_argument("--out", type=Path, required=True, help="folder for cells.jsonl, table.json and table.md; a broken sweep goes on")
    _run_options(sweep)

    export = _command(commands, "export", _export, "votes as training data")
    export.add_argument("--format", default="preference", choices=("preference", "preference_tokens"))
    export.add_argument("--out", type=Path, required=True, help="the JSON lines file to write")

    models = _command(commands, "models", _models, "what is installed")
    models.add_argument("--json", action="store_true")
    _model_options(models)

    starter = _command(commands, "starter", _starter, "train the starter models from a folder of labelled sentences")
    starter.add_argument("--corpus", type=Path, required=True)
    starter.add_argument("--out", type=Path, required=True)
    starter.add_argument("--only", action="append", default=[], help="base-lm, partial, full, vocabulary, autoregressive or judge; may be repeated")

    bench = _command(commands, "bench", _bench, "speed, side by side in one run")
    bench.add_argument("what", choices=("decode", "train", "start", "store"))
    bench.add_argument("--json", action="store_true")
    bench.add_argument("--seconds", type=float, default=300.0, help="time to take at most, about")
    bench.add_argument("--models", action="append", default=[], metavar="NAME", help="decode: starter, gpt2 or llama; may be repeated")
    bench.add_argument("--only", action="append", default=[], metavar="PART", help="decode: guided, generate, tuned, …; may be repeated")
    bench.add_argument("--against", metavar="DIR", help="decode: another checkout of rgtg, in turn with this one")
    bench.add_argument("--cpu-time", action="store_true", help="decode: seconds of the processor, for a busy machine; set OMP_NUM_THREADS=1")
    return parser


def _command(commands, name: str, run, help: str) -> argparse.ArgumentParser:
    parser = commands.add_parser(name, help=help, description=help[0].upper() + help[1:] + ".")
    parser.set_defaults(run_command=run)
    return parser


def _prompt_options(parser: argparse.ArgumentParser) -> None:
    given = parser.add_mutually_exclusive_group(required=True)
    given.add_argument("--prompt")
    given.add_argument("--prompt-file", type=Path, help="a prompt a line, or JSON lines with `prompt`")


def _model_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--base-lm", metavar="NAME|PATH", help="an installed base LM, a folder or a hub id")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--dtype", default="float32", choices=("float32", "bfloat16", "float16"))


def _run_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--run", action="append", default=[], metavar="METHOD[:key=value,…]", help=f"one of {', '.join(METHODS)}; may be repeated")
    for f in fields(GenerationConfig):
        parser.add_argument("--" + f.name.replace("_", "-"), type=type(f.default), default=f.default, help=f.metadata["help"] + f" ({f.default})")
    _model_options(parser)


def _training_options(parser: argparse.ArgumentParser) -> None:
    """A flag for each field of TrainingConfig."""
    for f in fields(TrainingConfig):
        flag, help = "--" + f.name.replace("_", "-"), f"{f.metadata['help']} ({f.default})".replace("%", "%%")
        if isinstance(f.default, bool):
            parser.add_argument(flag, action=argparse.BooleanOptionalAction, default=f.default, help=help)
        else:
            parser.add_argument(flag, type=type(f.default), default=f.default, choices=f.metadata.get("choices"), help=help)


def parse_run(text: str, generation: GenerationConfig) -> ColumnSpec:
    """`pargs:beta=2,reward_model=partial,top_k=10` -> a column; parameters of the method, `reward_model`, and generation settings."""
    name, _, rest = text.partition(":")
    known = {p.name: type(p.default) for p in method(name).parameters}
    shared = {f.name: type(f.default) for f in fields(GenerationConfig)}
    params, changes, reward_model = [], {}, None
    for item in filter(None, rest.split(",")):
        key, equals, value = item.partition("=")
        if key == "reward_model" and equals:
            reward_model = value
        elif key in known and equals:
            params.append((key, _number(known[key], key, value)))
        elif key in shared and equals:
            changes[key] = _number(shared[key], key, value)
        else:
            raise BadSettings(
                f"`--run {text}` cannot be read.", f"`{item}` is no setting of `{name}`.", f"It has: {', '.join([*known, 'reward_model', *shared])}."
            )
    return ColumnSpec(name, tuple(params), reward_model, GenerationConfig(**asdict(generation) | changes) if changes else None)


def _number(kind: type, key: str, value: str) -> float | int | str:
    try:
        return kind(value)
    except ValueError:
        raise BadSettings(f"`{key}` has to be a {'whole number' if kind is int else 'number'}.", f"Found `{value}`.") from None


def read_prompts(path: Path) -> list[str]:
    """A prompt a line, or JSON lines with `prompt`; raises BadData naming the line."""
    try:
        lines = path.read_text(encoding="utf-8").split("\n")  # not splitlines: U+2028 may stand in a prompt
    except (OSError, UnicodeDecodeError) as error:
        raise BadData(f"`{path}` cannot be read as prompts.", f"{error}.", "Give a text file in UTF-8.") from error
    prompts = []
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        if path.suffix in (".jsonl", ".json") or line.startswith("{"):
            try:
                prompts.append(str(json.loads(line)["prompt"]))
            except (ValueError, KeyError, TypeError) as error:
                raise BadData(
                    f"Line {number} of `{path}` has no prompt.", f"{error}.", 'A line is JSON with the key "prompt", or plain text.'
                ) from error
        else:
            prompts.append(line.strip())
    if not prompts:
        raise BadData(f"`{path}` holds no prompt.", f"It has {len(lines)} lines, all empty.")
    return prompts


def _workbench(options: argparse.Namespace) -> Workbench:
    settings = Settings.from_environment(device=getattr(options, "device", None), dtype=getattr(options, "dtype", None))
    base_lm = getattr(options, "base_lm", None)
    workbench = Workbench(settings)
    if base_lm and base_lm not in [m.name for m in workbench.base_lms()]:
        options.base_lm = workbench.catalog.add(base_lm, "base_lm").name
    return workbench


def _columns(workbench: Workbench, options: argparse.Namespace) -> tuple[list[ColumnSpec], GenerationConfig]:
    generation = GenerationConfig(**{f.name: getattr(options, f.name) for f in fields(GenerationConfig)})
    columns = [parse_run(text, generation) for text in options.run] or workbench.default_columns()
    for column in columns:
        _list_folder(workbench, column.reward_model)
    return columns, generation


def _list_folder(workbench: Workbench, name: str | None) -> None:
    """A reward model or judge may be named by its folder."""
    if name and Path(name).is_dir():
        workbench.catalog.add(name, "reward_model")


def _generate(options: argparse.Namespace) -> None:
    workbench = _workbench(options)
    columns, generation = _columns(workbench, options)
    for prompt in [options.prompt] if options.prompt is not None else read_prompts(options.prompt_file):
        # a comparison holds a few columns; a longer list runs in several
        for start in range(0, len(columns), 4):
            live = workbench.compare(prompt, columns[start : start + 4], generation, options.seed, options.base_lm, save=options.save)
            for _ in live:
                pass
            for i, trace in enumerate(live.traces):
                _print_trace(trace, chr(ord("A") + start + i), options.json)
    workbench.close()


def trace_json(trace: Trace, column: str) -> dict:
    """One column as the JSON object that `generate --json` prints."""
    run = trace.run
    guide = [run.reward_model.name] if run.reward_model else []
    tokens = [
        {
            "id": s.token_id, "text": s.text, "log_prob": s.log_prob, "rewards": dict(s.rewards), "score": s.score,
            "rank_before": s.rank_before, "rank_after": s.rank_after, "prob_after": s.prob_after, "kl": s.kl,
            "candidates": [asdict(c) | {"id": c.token_id, "rewards": dict(c.rewards)} for c in s.candidates],
        }
        for s in trace.steps
    ]  # fmt: skip
    return {
        "prompt": run.prompt,
        "column": column,
        "method": run.method,
        "params": dict(run.params) | asdict(run.generation),
        "base_lm": run.base_lm.name,
        "reward_models": guide,
        "observers": [o.name for o in run.observers],
        "seed": run.seed,
        "text": trace.response,
        "tokens": tokens,
        "stop_reason": trace.stop_reason,
        "error": trace.error,
        "num_tokens": len(trace.steps),
        "seconds": round(trace.seconds, 4),
        "tokens_per_second": round(trace.tokens_per_second, 2),
        "lm_forwards": trace.lm_forwards,
        "reward_forwards": trace.reward_forwards,
    }


def _print_trace(trace: Trace, column: str, as_json: bool) -> None:
    if as_json:
        print(json.dumps(trace_json(trace, column), ensure_ascii=False, allow_nan=False), flush=True)
        return
    guide = f" · {trace.run.reward_model.name}" if trace.run.reward_model else ""
    params = "".join(f" {k}={v:g}" if isinstance(v, float) else f" {k}={v}" for k, v in trace.run.params)
    rewards = "  ".join(f"{name} {value:+.2f}" for name, value in (trace.steps[-1].rewards if trace.steps else ()))
    print(f"{column}  {trace.run.method}{guide}{params}")
    print(f"   {trace.run.prompt}|{trace.response}")
    print(f"   {len(trace.steps)} tokens, {trace.tokens_per_second:.0f}/s, {trace.stop_reason}  {rewards}{trace.error}", flush=True)


def _score(options: argparse.Namespace) -> None:
    workbench = _workbench(options)
    _list_folder(workbench, options.reward_model)
    print(json.dumps(workbench.score(options.reward_model, options.prompt, options.response), ensure_ascii=False, allow_nan=False))


@dataclass(frozen=True)
class Member:
    """One model of the command `train`: its folder, its name, how it is trained, and where its checkpoints are meanwhile."""

    out: Path
    name: str
    config: TrainingConfig
    work: Path


def members_of(options: argparse.Namespace, work: Path) -> list[Member]:
    """OUT alone, or OUT-1 to OUT-N of an ensemble, each with a seed and a name of its own."""
    config = TrainingConfig(**{f.name: getattr(options, f.name) for f in fields(TrainingConfig)})
    out, name = options.out, options.name or options.out.name
    if options.ensemble == 1:
        return [Member(out, name, config, work)]
    numbers = range(1, options.ensemble + 1)
    return [Member(out.with_name(f"{out.name}-{n}"), f"{name}-{n}", replace(config, seed=config.seed + n - 1), work / str(n)) for n in numbers]


def _train(options: argparse.Namespace) -> None:
    from rgtg.training.pipeline import is_first, leave_processes

    if options.ensemble < 1:
        raise BadSettings("`--ensemble` has to be at least 1.", f"Found {options.ensemble}.")
    work, pairs = options.out.with_name(f".{options.out.name}.training"), options.out.with_name(f"{options.out.name}.pairs.jsonl")
    members, first = members_of(options, work), is_first()
    missing = [member for member in members if not _is_finished(member, options)]
    frozen = pairs if len(missing) < len(members) and pairs.is_file() else work / FROZEN  # all members are trained on the same
    if first:
        _make_room(work, options.resume)
    workbench = Workbench(Settings.from_environment(device=options.device))
    try:
        source = options.pairs or (_frozen_votes(workbench, frozen, first) if missing else "")
        for member in missing:
            _train_member(workbench, options, member, source, first)
        leave_processes()
    except BaseException:
        if first:
            _tidy(work, members)
        raise
    if first:
        if (work / FROZEN).is_file():  # what was trained on stays, beside the model and not in it
            (work / FROZEN).replace(pairs)
        shutil.rmtree(work)
    workbench.close()


def _train_member(workbench: Workbench, options: argparse.Namespace, member: Member, source: str, first: bool) -> None:
    from rgtg.training import checkpoints
    from rgtg.training.pipeline import train_file

    installed = {m.name: m.folder_or_id for m in workbench.catalog.of_kind("base_lm", "reward_model")}
    base, guide = (installed.get(name, name) for name in (options.base, options.guide))
    emit = (lambda news: _print_news(news, options.json)) if first else lambda news: None
    facts = {"device": options.device, "dtype": options.dtype, "split": options.split, "guide": guide}
    card = train_file(source, base, member.out, member.config, member.name, emit=emit, work=member.work, **facts)
    if not first:
        return
    if card is None:
        raise BadSettings("The training was stopped.", f"Its checkpoints are in {member.work}.", "Add --resume to go on.")
    checkpoints.discard(member.work)
    found = {"path": str(member.out), "verdict": card.verdict, "num_pairs": card.num_pairs, "metrics": card.metrics, "report": card.report}
    print(json.dumps(found, ensure_ascii=False) if options.json else f"{member.out}: {card.verdict}", flush=True)


def _is_finished(member: Member, options: argparse.Namespace) -> bool:
    """Whether it is there from before and --resume passes it over. Raises BadSettings where another folder is in its place."""
    if not member.out.exists():
        return False
    card = ModelCard.read(member.out) if options.resume else None
    if card is None or (card.objective, card.training.get("seed")) != (member.config.objective, member.config.seed):
        do = "Choose another folder with --out" + (", or add --resume for those that are missing." if options.ensemble > 1 else ".")
        raise BadSettings(f"`{member.out}` is there already.", "", do)
    return True


def _make_room(work: Path, resume: bool) -> None:
    """A folder for the command's checkpoints. Raises BadSettings where it was begun before: where there is something to go on from."""
    if not resume and (_has_checkpoints(work) or (work / FROZEN).is_file()):
        raise BadSettings("This training was begun before.", f"Its checkpoints are in {work}.", "Add --resume to go on, or remove that folder.")
    work.mkdir(parents=True, exist_ok=True)


def _has_checkpoints(work: Path) -> bool:
    from rgtg.training import checkpoints

    return any(checkpoints.found(folder) for folder in (work, *work.glob("[0-9]*")))


def _tidy(work: Path, members: Sequence[Member]) -> None:
    """After an error nothing stays that one cannot go on from: a checkpoint, or the votes that finished members were trained on."""
    if not _has_checkpoints(work) and not ((work / FROZEN).is_file() and any(member.out.exists() for member in members)):
        shutil.rmtree(work, ignore_errors=True)


def _frozen_votes(workbench: Workbench, path: Path, first: bool) -> str:
    """The votes as they stand, written once; the other processes wait for the file."""
    from rgtg.training.votes import freeze_votes

    if first and not path.is_file():
        report = freeze_votes(workbench.store, path)
        if not report.num_pairs:
            counts = ", ".join(f"{cause} {number}" for cause, number in report.skipped.items()) or "there are no votes"
            path.unlink()
            raise BadData("There is nothing to train on.", f"Found no pairs: {counts}.", "Vote for the better of two answers first.")
    patience = time.monotonic() + 60
    while not path.is_file() and time.monotonic() < patience:
        time.sleep(0.1)
    return str(path)


def _print_news(news: dict, as_json: bool) -> None:
    if as_json:
        print(json.dumps(news, ensure_ascii=False), flush=True)
    elif news.get("phase") == "note":
        print(news["text"], flush=True)
    elif news.get("phase") == "data":
        data = news["data"]
        print(f"{data['num_used']} {data['kind']} on {data['num_prompts']} prompts, {data['num_held_out']} held out", flush=True)
        for remark in data["remarks"]:
            print(f"   {remark}", flush=True)
    elif news.get("phase") == "training":
        accuracy = news["held_out_accuracy"]
        held_out = "" if accuracy is None else f"  held out {100 * accuracy:.0f} %"
        print(f"step {news['step']} of {news['num_steps']}  loss {news['loss']:.4f}{held_out}  {news['seconds_left']:.0f} s left", flush=True)


def _sweep(options: argparse.Namespace) -> None:
    from rgtg.evaluation.sweep import write_table

    workbench = _workbench(options)
    columns, generation = _columns(workbench, options)
    _list_folder(workbench, options.observe)
    prompts = []
    for path in options.prompts:
        found = read_prompts(path)[: options.limit]
        prompts += [" ".join(p.split()[: options.first_words]) for p in found]
    cells = workbench.sweep(columns, prompts, generation, range(options.seeds), options.observe, options.out, options.base_lm)
    print(write_table(cells, options.out))
    workbench.close()


def _export(options: argparse.Namespace) -> None:
    workbench = _workbench(options)
    report = workbench.export(options.out, options.format)
    print(json.dumps({"path": str(report.path), "num_pairs": report.num_pairs, "skipped": dict(report.skipped)}, ensure_ascii=False))
    workbench.close()


def _models(options: argparse.Namespace) -> None:
    workbench = _workbench(options)
    for info in workbench.catalog.of_kind("base_lm", "reward_model", "judge"):
        if options.json:
            print(
                json.dumps(
                    {"name": info.name, "kind": info.kind, "folder_or_id": info.folder_or_id, "card": info.card and asdict(info.card)},
                    ensure_ascii=False,
                )
            )
        else:
            print(f"{info.name:<24} {info.kind:<13} {info.card.taught if info.card else ''}")


def _starter(options: argparse.Namespace) -> None:
    from rgtg.tools.starter import make_starter

    logging.getLogger("rgtg").setLevel("INFO")
    make_starter(options.corpus, options.out, options.only)


def _bench(options: argparse.Namespace) -> None:
    from rgtg.tools import bench_app, bench_decoding, bench_training

    benches = {
        "decode": lambda seconds: bench_decoding.decode(seconds, options.models, options.only, options.against, options.cpu_time),
        "train": bench_training.train,
        "start": bench_app.start,
        "store": bench_app.store,
    }
    for line in benches[options.what](options.seconds):
        print(json.dumps(line) if options.json else "  ".join(f"{key} {value}" for key, value in line.items()), flush=True)
