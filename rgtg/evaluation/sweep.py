"""Sweeps over methods, weights and prompts: cells stored one by one, and a table with confidence intervals.

A judge that never guides decides what is positive. Knows nothing of the store or the screen.
"""

import hashlib
import json
import logging
import math
import statistics
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from rgtg import __version__
from rgtg.config import GenerationConfig
from rgtg.engine import Ended, Models, Standardised, generate, make_run, opening
from rgtg.errors import BadData
from rgtg.evaluation.metrics import distinct_n, mean_interval
from rgtg.guidance.methods import method
from rgtg.guidance.steps import AnswerProgress
from rgtg.records import ColumnSpec, Run, Step, mix_words
from rgtg.rewards.base import RewardModel, not_finite
from rgtg.rewards.combine import SUM, combined
from rgtg.system.serialization import from_json, to_json

logger = logging.getLogger(__name__)
BATCH = 40  # rows that advance together
DEFINITIONS = "KL to the base LM with the same candidates"  # to be changed with the meaning of a metric: stored cells are then computed again


@dataclass(frozen=True)
class Cell:
    """Result of one setting on one prompt with one random seed.

    `judge` is the judge's reward of the finished answer, minus its zero; `log_prob` is the mean per token under the base LM, in nats; `kl` and
    `truncation` are sums over tokens (see `Step`), None for methods without a distribution over tokens.
    """

    key: str
    setting: str
    prompt: str
    seed: int
    text: str
    token_ids: tuple[int, ...]
    stop_reason: str
    judge: float
    guide: float | None
    log_prob: float
    kl: float | None
    truncation: float | None = None


def run_sweep(
    models: Models,
    columns: Sequence[ColumnSpec],
    prompts: Sequence[str],
    generation: GenerationConfig,
    seeds: Sequence[int],
    judge: RewardModel,
    out: Path,
    check: Callable[[Sequence[Sequence[Run]]], None] = lambda batches: None,
    listen: Callable[[float, int], None] = lambda done, total: None,
) -> list[Cell]:
    """All cells of a sweep. Cells in `out/cells.jsonl` from an earlier call are reused; new ones are written as soon as their batch ends.

    `check` is given the batches of runs that are to be made, before the first of them; what it raises ends the sweep.
    `listen` is given the number of cells done, with the share of those in work, and of all.
    """
    out.mkdir(parents=True, exist_ok=True)
    path = out / "cells.jsonl"
    cells = {cell.key: cell for cell in _read(path)}
    planned = [_runs(models, column, prompts, generation, seeds, judge) for column in columns]
    batches = list(_batches(planned, set(cells)))
    check([[run for _, run in batch] for batch in batches])
    total = len({key for runs in planned for key, _ in runs})
    done = total - sum(map(len, batches))
    listen(done, total)
    with path.open("a", encoding="utf-8") as file:
        for batch in batches:
            for cell in _cells(batch, models, judge, lambda progress, done=done: listen(done + progress, total)):  # type: ignore[misc]
                cells[cell.key] = cell
                file.write(to_json(cell) + "\n")
            file.flush()
            done += len(batch)
            logger.info("%s: %d cells", label(batch[0][1]), len(batch))
    return [cells[key] for runs in planned for key, _ in runs]


def _runs(
    models: Models, column: ColumnSpec, prompts: Sequence[str], generation: GenerationConfig, seeds: Sequence[int], judge: RewardModel
) -> list[tuple[str, Run]]:
    """Runs of a column with their cell keys. Each prompt has its own random seed, the same for all settings: comparisons are paired."""
    settings = column.generation or generation
    return [
        (cell_key(run, judge), run)
        for seed in seeds
        for number, prompt in enumerate(prompts)
        for run in [make_run(prompt, column.method, models, column.params, column.mix, (), settings, seed * 100_003 + number, (), column.combine)]
    ]


def _batches(planned: Sequence[Sequence[tuple[str, Run]]], finished: set[str]) -> Iterator[list[tuple[str, Run]]]:
    """Runs whose keys are not in `finished`, each once, in batches of at most `BATCH` rows."""
    for runs in planned:
        todo = [(key, run) for key, run in dict(runs).items() if key not in finished]
        finished = finished | {key for key, _ in todo}
        size = max(1, BATCH // method(runs[0][1].method).make(runs[0][1].params).num_rows) if runs else 1
        yield from (todo[start : start + size] for start in range(0, len(todo), size))


def _read(path: Path) -> Iterator[Cell]:
    if not path.is_file():
        return
    *lines, torn = path.read_bytes().split(b"\n")  # not splitlines: a text may hold U+2028
    if torn:
        logger.warning("the last line of %s is incomplete; its cell is computed again", path)
        with path.open("r+b") as file:
            file.truncate(sum(len(line) + 1 for line in lines))
    for number, line in enumerate(lines, 1):
        try:
            yield from_json(Cell, line.decode())
        except (ValueError, TypeError) as error:
            raise BadData(f"Line {number} of {path} is not a cell.", f"{error}.", "Delete that line; its cell is computed again.") from error


def cell_key(run: Run, judge: RewardModel) -> str:
    """Hash of everything a cell depends on: the run, the judge's weights, the version of rgtg and the definitions of the metrics."""
    content = to_json(replace(run, versions=(), standards=())) + judge.ref.revision + __version__ + DEFINITIONS
    return hashlib.sha256(content.encode()).hexdigest()[:24]


def label(run: Run) -> str:
    """Name of a setting in the table: `pargs · partial · beta 2`."""
    params = dict(run.params)
    parts = [run.method] + ([mix_words(run.guides)] if run.guides else []) + ([run.combine] if run.combine != SUM.key else [])
    choices = {p.name: p.default for p in method(run.method).parameters if p.choices}  # their defaults are implied by the method's name
    parts += [f"{k} {v:g}" if isinstance(v, float) else f"{k} {v}" for k, v in params.items() if k not in choices or v != choices[k]]
    default = GenerationConfig(max_new_tokens=run.generation.max_new_tokens)
    parts += [f"{k} {v:g}" for k, v in asdict(run.generation).items() if v != getattr(default, k)]
    return " · ".join(parts)


def _cells(
    batch: Sequence[tuple[str, Run]], models: Models, judge: RewardModel, listen: Callable[[float], None] = lambda progress: None
) -> Iterator[Cell]:
    steps: list[list[Step]] = [[] for _ in batch]
    ends: list[Ended | None] = [None] * len(batch)
    progress = AnswerProgress([run for _, run in batch])
    batch = list(batch)
    for index, event in generate([run for _, run in batch], models):
        listen(progress.after(index, event))
        if isinstance(event, Step):
            steps[index].append(event)
        elif isinstance(event, Standardised):
            batch[index] = (batch[index][0], event.run)
        elif isinstance(event, Ended):
            ends[index] = event
    for (key, run), steps_of_run, end in zip(batch, steps, ends, strict=True):
        assert end is not None  # every column ends
        if end.stop_reason == "error":
            raise BadData(f"`{label(run)}` failed on {run.prompt!r}.", end.error)
        ids = tuple(s.token_id for s in steps_of_run)
        kl, truncation = (_total([getattr(s, name) for s in steps_of_run]) for name in ("kl", "truncation"))
        rewards = dict(steps_of_run[-1].rewards)
        guide = combined(run, rewards, len(ids)) if run.guides and all(ref.name in rewards for ref, _ in run.guides) else None
        judge_reward = judge.reads(models.base_lm).score(opening(run), ids)
        if not math.isfinite(judge_reward):
            raise not_finite(judge.name, f"at the end of an answer to {run.prompt!r:.80}")
        yield Cell(
            key, label(run), run.prompt, run.seed, "".join(s.text for s in steps_of_run), ids, end.stop_reason,
            judge_reward - judge.zero, guide, statistics.fmean(s.log_prob for s in steps_of_run), kl, truncation,
        )  # fmt: skip


def _total(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) if len(known) == len(values) else None


def summary(cells: Sequence[Cell]) -> list[dict]:
    """One row per setting, in order, with 95 % bootstrap intervals over prompts and random seeds.

    `positive_minus_first` is the paired difference to the first setting on the same prompt and random seed.
    """
    settings: dict[str, list[Cell]] = {}
    for cell in cells:
        settings.setdefault(cell.setting, []).append(cell)
    first = next(iter(settings.values()))
    rows = []
    for setting, of_setting in settings.items():
        pairs = {(c.prompt, c.seed): c for c in first}
        differences = [float(c.judge > 0) - float(pairs[c.prompt, c.seed].judge > 0) for c in of_setting if (c.prompt, c.seed) in pairs]
        kls = [c.kl for c in of_setting if c.kl is not None]
        rows.append(
            {
                "setting": setting,
                "n": len(of_setting),
                "positive": mean_interval([float(c.judge > 0) for c in of_setting]),
                "positive_minus_first": mean_interval(differences),
                "ended": mean_interval([float(c.stop_reason == "eos") for c in of_setting]),
                "log_prob": mean_interval([c.log_prob for c in of_setting]),
                "kl": mean_interval(kls) if kls else None,
                "judge": mean_interval([c.judge for c in of_setting]),
                "num_tokens": statistics.fmean(len(c.token_ids) for c in of_setting),
                "distinct_2": distinct_n([c.token_ids for c in of_setting], 2),
            }
        )
    return rows


def write_table(cells: Sequence[Cell], out: Path) -> str:
    """The summary as a Markdown table; also written to `table.md` and `table.json` in `out`."""
    rows = summary(cells)
    lines = [
        "| setting | n | judged positive, % | minus first row, paired | ended, % | log p per token | KL, same candidates | tokens | distinct-2 |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for r in rows:
        kl = _cell(r["kl"], 1, 1) if r["kl"] else "–"
        lines.append(
            f"| {r['setting']} | {r['n']} | {_cell(r['positive'], 100)} | {_cell(r['positive_minus_first'], 100)} | {_cell(r['ended'], 100)} "
            f"| {_cell(r['log_prob'], 1, 2)} | {kl} | {r['num_tokens']:.1f} | {r['distinct_2']:.2f} |"
        )
    text = "\n".join(lines) + "\n"
    (out / "table.md").write_text(text, encoding="utf-8")
    (out / "table.json").write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")
    return text


def _cell(interval: tuple[float, float, float], factor: float, digits: int = 0) -> str:
    mean, low, high = (factor * v for v in interval)
    return f"{mean:.{digits}f} [{low:.{digits}f}, {high:.{digits}f}]"
