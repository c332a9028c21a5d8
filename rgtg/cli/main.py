"""The command line, `rgtg COMMAND`: its parser, and the commands that are few lines.

Parses options, calls the workbench and prints the results; `terminal` prints errors. Knows nothing of Gradio.
"""

import argparse
import json
import logging
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, fields
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rgtg.cli import collect as collect_command
from rgtg.cli import examine as examine_command
from rgtg.cli import label as label_command
from rgtg.cli import results as results_command
from rgtg.cli import rounds as rounds_command
from rgtg.cli import space as space_command
from rgtg.cli import sweep as sweep_command
from rgtg.cli import terminal, train_table
from rgtg.cli import train as training_command
from rgtg.config import MAX_COLUMNS, GenerationConfig, Settings
from rgtg.errors import BadSettings, OverBudget
from rgtg.guidance.methods import METHODS, parse_run
from rgtg.models.catalog import is_folder, is_hub_id, split_label
from rgtg.preferences.prompt_rows import read_prompts
from rgtg.records import ColumnSpec, Trace, mix_words, plain_params
from rgtg.workbench.columns.line_ups import line_up_columns
from rgtg.workbench.report.meter import cost_of
from rgtg.workbench.report.others import other_answers_json

if TYPE_CHECKING:
    from rgtg.training.reward_trainer import Progress
    from rgtg.workbench.workbench import Workbench

logger = logging.getLogger(__name__)
PROMPT_FILES = "text with one prompt per line, or JSON, CSV or Parquet rows with `prompt`, `instruction`, `question` or `turns`"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit status: 0, 2 after an error (a JSON line on stderr), 1 where every answer failed, 130 after Ctrl-C."""
    terminal.write_utf8()
    quiet = terminal.Quiet()
    try:
        given = sys.argv[1:] if arguments is None else arguments
        options = _parser(given).parse_args(given)
        quiet = terminal.Quiet(options.verbose)
        with quiet:
            options.terminal = quiet.terminal
            options.run_command(options)
            sys.stdout.flush()
    except BrokenPipeError:
        terminal.leave_stdout()
    except KeyboardInterrupt:
        return 130
    except terminal.NothingMade as error:
        terminal.leave_stdout()
        for line in error.lines:
            terminal.print_error(**line)
        return 1
    except (SystemExit, GeneratorExit):
        raise
    except BaseException as error:
        return terminal.refuse(error, quiet.held_back)
    return 0


def _parser(given: Sequence[str] | None = None) -> argparse.ArgumentParser:
    """The parser of all commands; where the arguments are `given`, without options that load much for a command that is not among them."""
    command = "rgtg" if Path(sys.argv[0]).stem == "rgtg" else "python -m rgtg"
    parser = terminal.Parser(prog=command, description="Reward-guided text generation: generate, score, train reward models, evaluate.")
    parser.add_argument("--verbose", action="store_true", help="show log messages of rgtg and of the libraries")
    commands = parser.add_subparsers(dest="command", required=True)

    generate = _command(commands, "generate", _generate, "generate answers to one prompt or a file of prompts, with one or several methods")
    _prompt_options(generate)
    _run_options(generate)
    generate.add_argument("--seed", type=int, default=0, help="random seed, shared by all columns (0)")
    generate.add_argument("--save", action="store_true", help="save the answers as comparisons in the database")
    generate.add_argument("--json", action="store_true", help="print one JSON object per answer and line, with every token and its candidates")

    score = _command(commands, "score", _score, "compute the reward of every prefix of a response")
    score.add_argument("--reward-model", metavar="NAME|PATH", help="an installed reward model, a folder or a Hub id (that of --reward)")
    _reward_option(score)
    score.add_argument("--prompt", default="", help="the prompt that the response answers (none)")
    score.add_argument("--response", required=True, help="the response to score, prefix by prefix")
    score.add_argument("--complete", action="store_true", help="treat the response as complete: append its end-of-sequence token and score that too")
    _model_options(score)

    training_command.add_options(_command(commands, "train", train_table.train_one_or_table, training_command.ABOUT))

    sweep = _command(commands, "sweep", _sweep, sweep_command.ABOUT)
    sweep_command.add_options(sweep, PROMPT_FILES)
    _run_options(sweep)

    examine = _command(commands, "examine", _examine, examine_command.ABOUT)
    examine_command.add_options(examine)
    _model_options(examine)

    _commands_with_models(commands, given)

    for name, about in collect_command.ABOUT.items():
        collect_command.OPTIONS[name](_command(commands, name, collect_command.COMMANDS[name], about))

    results = _command(commands, "results", results_command.results, results_command.ABOUT)
    if given is None or "results" in given:
        results_command.add_options(results)

    models = _command(commands, "models", _models, "list the installed models")
    models.add_argument("--json", action="store_true", help="print one JSON object per model and line")
    _model_options(models)

    starter = _command(commands, "starter", _starter, "train the starter models on a folder of labelled sentences")
    files = "train.positive.txt, train.negative.txt, dev.positive.txt, dev.negative.txt"
    starter.add_argument("--corpus", type=Path, required=True, metavar="DIR", help=f"folder with {files}: one sentence per line")
    starter.add_argument("--out", type=Path, required=True, metavar="DIR", help="folder of the models; those already there are kept")
    starter.add_argument(
        "--only", action="append", default=[], metavar="MODEL", help="base-lm, partial, full, vocabulary, autoregressive or judge; may be repeated"
    )

    space_command.add_options(_command(commands, "space", space_command.space, space_command.ABOUT))

    _bench_options(_command(commands, "bench", _bench, "measure speed beside other implementations on this machine"))
    return parser


def _commands_with_models(commands: Any, given: Sequence[str] | None) -> None:
    """Commands in modules of their own that are handed the workbench; see `_parser` for `given`."""
    for module, handing, add_options in ((label_command, _with_workbench, _model_options), (rounds_command, _with_columns, _run_options)):
        for name, about in module.ABOUT.items():
            parser = _command(commands, name, partial(handing, module.COMMANDS[name]), about)
            if given is None or name in given:
                module.OPTIONS[name](parser)
                add_options(parser)


def _with_workbench(run: Callable[..., None], options: argparse.Namespace) -> None:
    run(options, partial(_workbench, options), _list_folder)


def _with_columns(run: Callable[..., None], options: argparse.Namespace) -> None:
    with _offering_yes(options):
        run(options, partial(_workbench, options), partial(_columns, options=options), _list_folder)


def _command(commands: Any, name: str, run: Callable[[argparse.Namespace], None], help: str) -> argparse.ArgumentParser:
    parser = commands.add_parser(name, help=help, description=help[0].upper() + help[1:] + ".")
    parser.set_defaults(run_command=run)
    return parser


def _prompt_options(parser: argparse.ArgumentParser) -> None:
    group = parser.add_mutually_exclusive_group(required=True)
    group.add_argument("--prompt", help="the prompt")
    group.add_argument("--prompt-file", type=Path, metavar="FILE", help=PROMPT_FILES)


def _model_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--base-lm", metavar="NAME|PATH", help="the base language model: an installed one, a folder or a Hub id (the starter model)")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda or mps (auto)")
    parser.add_argument("--dtype", default="float32", choices=("float32", "bfloat16", "float16"), help="dtype of the weights (float32)")
    parser.add_argument(
        "--reward-dtype", choices=("int8",), help="dtype of reward models, if different: int8 is faster on a CPU; the quantisation error is reported"
    )


def _reward_option(parser: argparse.ArgumentParser) -> None:
    help = "a JSON file that defines a reward by `name`, `kind` and fields; it is kept in the data folder and named like a model; may be repeated"
    parser.add_argument("--reward", type=Path, action="append", default=[], metavar="FILE", help=help)


def _run_options(parser: argparse.ArgumentParser) -> None:
    _reward_option(parser)
    parser.add_argument("--yes", action="store_true", help="run even if the estimated time or memory exceeds the limits")
    parser.add_argument(
        "--run",
        action="append",
        default=[],
        metavar="METHOD[:key=value,…]",
        help=f"a column: one of {', '.join(METHODS)}, with its settings; may be repeated",
    )
    parser.add_argument("--line-up", metavar="NAME|FILE", help="the columns of a line-up, by its name or from its JSON file; --run adds more")
    for f in fields(GenerationConfig):
        parser.add_argument("--" + f.name.replace("_", "-"), type=type(f.default), default=f.default, help=f"{f.metadata['help']} ({f.default})")
    _model_options(parser)


def _bench_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "what", choices=("decode", "sweep", "train", "start", "store"), help="decoding, sweeps, training, start of the app, or the database"
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object per line")
    parser.add_argument("--seconds", type=float, default=300.0, help="approximate time limit in seconds (300)")
    parser.add_argument("--models", action="append", default=[], metavar="NAME", help="decode: starter, gpt2 or llama; may be repeated")
    parser.add_argument("--only", action="append", default=[], metavar="PART", help="decode: guided, generate, tuned, …; sweep: ways, engines")
    parser.add_argument("--against", metavar="DIR", help="decode: compare with another checkout of rgtg")
    parser.add_argument("--device", default="cpu", help="decode: auto, cpu, cuda or mps (cpu)")
    parser.add_argument(
        "--cpu-time",
        action="store_true",
        help="decode, sweep: measure processor time instead of wall time, for a busy machine; set OMP_NUM_THREADS=1",
    )


def _workbench(options: argparse.Namespace) -> "Workbench":
    from rgtg.workbench.workbench import Workbench

    settings = Settings.from_environment(**{name: getattr(options, name, None) for name in ("device", "dtype", "reward_dtype", "tuned")})
    base_lm = getattr(options, "base_lm", None)
    workbench = Workbench(settings)
    if base_lm and base_lm not in [m.name for m in workbench.library.base_lms()]:
        options.base_lm = workbench.library.catalog.add(base_lm, "base_lm").name
    options.made = [workbench.library.made.add_file(path).name for path in getattr(options, "reward", ())]
    return workbench


def _columns(workbench: "Workbench", options: argparse.Namespace) -> tuple[list[ColumnSpec], GenerationConfig]:
    generation = GenerationConfig(**{f.name: getattr(options, f.name) for f in fields(GenerationConfig)})

    def parsed(text: str) -> ColumnSpec:
        chosen = METHODS.get(text.partition(":")[0])

        def check(name: str) -> None:
            _list_folder(workbench, name, bool(chosen and chosen.roles))
            workbench.library.scorer(name)

        return parse_run(text, generation, check)

    columns = line_up_columns(workbench.line_ups, workbench.library, options.line_up, generation, options.base_lm) if options.line_up else []
    for column in columns:
        for name, _ in column.mix:
            _list_folder(workbench, name, bool(METHODS[column.method].roles))
    return columns + [parsed(text) for text in options.run] or workbench.default_columns(), generation


def _list_folder(workbench: "Workbench", name: str | None, language_model: bool = False) -> None:
    """Add a reward model, judge or language model that is named by its folder or its Hub id to the catalog."""
    if name and any(is_folder(source) or is_hub_id(source) for source in (name, split_label(name)[0])):
        workbench.library.list_scorer(name, language_model)


def _generate(options: argparse.Namespace) -> None:
    from rgtg.guidance.steps import AnswerProgress

    workbench = _workbench(options)
    columns, generation = _columns(workbench, options)
    prompts = [options.prompt] if options.prompt is not None else read_prompts(options.prompt_file)
    failed, num_columns, total = list[dict[str, str]](), 0, len(prompts) * len(columns)
    with terminal.ProgressBar(options, "answers", digits=1) as bar:
        for prompt in prompts:
            # a comparison holds a few columns; a longer list runs in several
            for start in range(0, len(columns), MAX_COLUMNS):
                bar(num_columns, total)
                part = columns[start : start + MAX_COLUMNS]
                with _offering_yes(options):
                    running = workbench.compare(prompt, part, generation, options.seed, options.base_lm, save=options.save, confirmed=options.yes)
                bar(num_columns, total)
                progress = AnswerProgress([trace.run for trace in running.traces])
                for index, event in running:
                    bar(num_columns + progress.after(index, event), total)
                for i, trace in enumerate(running.traces):
                    letter = chr(ord("A") + start + i)
                    bar.print(_json(trace_json(trace, letter)) if options.json else trace_text(trace, letter))
                    if trace.stop_reason == "error":
                        failed.append({"error": trace.error, "found": f"Column {letter}, `{trace.run.method}`, of {trace.run.prompt!r:.80}."})
                num_columns += len(part)
                if running.not_stored is not None:
                    raise running.not_stored
    for name, note in workbench.library.notes.items():
        logger.warning("%s: %s", name, note)
    workbench.close()
    if len(failed) == num_columns:
        raise terminal.NothingMade(failed)


@contextmanager
def _offering_yes(options: argparse.Namespace) -> Iterator[None]:
    """Adds to the error of an estimate above the limits that `--yes` runs it anyway."""
    try:
        yield
    except OverBudget as error:
        do = error.do if options.yes else f"{error.do} Or add `--yes` to run it anyway."
        raise OverBudget(error.wrong, error.found, do) from error


def _json(values: Mapping[str, Any]) -> str:
    return json.dumps(values, ensure_ascii=False, allow_nan=False)


def trace_json(trace: Trace, column: str) -> dict:
    """One column as the JSON object that `generate --json` prints."""
    run = trace.run
    tokens = [
        {
            "id": s.token_id, "text": s.text, "log_prob": s.log_prob, "rewards": dict(s.rewards), "score": s.score,
            "rank_before": s.rank_before, "rank_after": s.rank_after, "prob_after": s.prob_after, "kl": s.kl, "truncation": s.truncation,
            "tried": [asdict(t) for t in s.tried],
            "candidates": [asdict(c) | {"id": c.token_id, "rewards": dict(c.rewards)} for c in s.candidates],
        }
        for s in trace.steps
    ]  # fmt: skip
    return {
        "prompt": run.prompt,
        "column": column,
        "method": run.method,
        "params": plain_params(run.params) | asdict(run.generation),
        "base_lm": run.base_lm.name,
        "reward_models": [ref.name for ref, _ in run.guides],
        "weights": [weight for _, weight in run.guides],
        "combine": run.combine,
        "observers": [o.name for o in run.observers],
        "seed": run.seed,
        "text": trace.response,
        "tokens": tokens,
        "other_answers": other_answers_json(trace),
        "stop_reason": trace.stop_reason,
        "error": trace.error,
        "num_tokens": len(trace.steps),
        **cost_of(trace),
        "note": trace.note,
    }


def trace_text(trace: Trace, column: str) -> str:
    """One column as the lines that `generate` prints."""
    guide = f" · {mix_words(trace.run.guides)}" if trace.run.guides else ""
    guide += f" ({trace.run.combine})" if len(trace.run.guides) > 1 else ""
    params = "".join(f" {k}={v:g}" if isinstance(v, float) else f" {k}={v}" for k, v in trace.run.params)
    rewards = "  ".join(f"{name} {value:+.2f}" for name, value in (trace.steps[-1].rewards if trace.steps else ()))
    lines = [f"{column}  {trace.run.method}{guide}{params}", f"   {trace.run.prompt}|{trace.response}"]
    lines += [f"   {len(trace.steps)} tokens, {trace.tokens_per_second:.0f}/s, {trace.stop_reason}  {rewards}{trace.error}"]
    lines += [f"   {trace.note}"] if trace.note else []
    return "\n".join(lines)


def _score(options: argparse.Namespace) -> None:
    workbench = _workbench(options)
    name = options.reward_model or next(reversed(options.made), None)
    if name is None:
        raise BadSettings("There is no reward model to score with.", "", "Add `--reward-model NAME` or `--reward FILE`.")
    _list_folder(workbench, name)
    print(_json(workbench.score(name, options.prompt, options.response, options.complete, options.base_lm)))


def _sweep(options: argparse.Namespace) -> None:
    options.tuned = False  # so that every engine, now and after a crash, computes the same digits
    sweep_command.sweep(options, partial(_workbench, options), partial(_columns, options=options), _list_folder, partial(_offering_yes, options))


def _examine(options: argparse.Namespace) -> None:
    examine_command.examine(options, partial(_workbench, options), _list_folder)


def _models(options: argparse.Namespace) -> None:
    workbench = _workbench(options)
    for info in [*workbench.library.models(), *workbench.library.unusable()]:
        if options.json:
            row = {"name": info.name, "kind": info.kind, "folder_or_id": info.folder_or_id, "card": info.card and asdict(info.card)}
            print(_json(row | ({"wrong": info.wrong} if info.wrong else {})))
        else:
            print(f"{info.name:<24} {info.kind:<13} {info.wrong or '; '.join(filter(None, (info.mark, info.card.trained_on if info.card else '')))}")


def _starter(options: argparse.Namespace) -> None:
    from rgtg.tools.starter import make_starter

    with terminal.ProgressBar(options, "steps") as bar:

        def listen(name: str, progress: "Progress") -> None:
            bar(progress.step, progress.num_steps, name)
            bar.print(f"{name}: {progress.text}")
            if progress.step == progress.num_steps:
                bar.finish()

        make_starter(options.corpus, options.out, options.only, listen)


def _bench(options: argparse.Namespace) -> None:
    from rgtg.tools import bench_app, bench_decoding, bench_sweep, bench_training

    benches: dict[str, Callable[..., Iterator[dict]]] = {
        "decode": partial(
            bench_decoding.decode, models=options.models, only=options.only, against=options.against, cpu_time=options.cpu_time, device=options.device
        ),
        "sweep": partial(bench_sweep.bench, only=options.only, cpu_time=options.cpu_time),
        "train": bench_training.train,
        "start": bench_app.start,
        "store": bench_app.store,
    }
    with terminal.ProgressBar(options, "measurements") as bar:
        for line in benches[options.what](options.seconds, listen=bar):
            bar.print(_json(line) if options.json else "  ".join(f"{key} {value}" for key, value in line.items()))
