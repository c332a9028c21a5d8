"""Sweeps over methods, weights and prompts: answers made many at a time, kept in shards, and merged.

A shard is a fixed group of cells, so that a sweep that was killed makes again exactly what it would have made, and any engine
(`rgtg.evaluation.engines`) the same. Knows nothing of the store or the screen.
"""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from rgtg.config import GenerationConfig
from rgtg.engine import Models
from rgtg.errors import BadSettings
from rgtg.evaluation.cells import Cell, code_version, planned
from rgtg.evaluation.engines.base import AT_ONCE, IN_PROCESS, Engine, Keyed, ShardMaker, refs_of
from rgtg.evaluation.shards import Plan, SweepFolder
from rgtg.guidance.methods import method
from rgtg.records import ColumnSpec, Run
from rgtg.rewards.base import RewardModel

__all__ = ["AT_ONCE", "SHARD", "plan_of", "run_sweep"]
SHARD = 80  # answers of a shard, which is lost if the process is killed


def plan_of(
    models: Models,
    columns: Sequence[ColumnSpec],
    prompts: Sequence[str],
    generation: GenerationConfig,
    seeds: Sequence[int],
    judge: RewardModel,
    first_seed: int = 0,
) -> Plan:
    """The plan of a sweep with these models."""
    return Plan(models.base_lm.name, judge.name, refs_of(models, judge), tuple(columns), tuple(prompts), tuple(seeds), generation, first_seed)


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
    keep: bool = False,
    first_seed: int = 0,
    engine: Engine = IN_PROCESS,
) -> list[Cell]:
    """All cells of the sweep in `out`, in order, also in `out/results.jsonl`; those in its shards are not made again.

    The folder's sweep is extended by these columns, prompts and seeds. Raises BadSettings where it holds another sweep, or cells made by
    another version of the code, unless `keep` says to keep these. `check` is given the batches of runs that are to be made, before the
    first of them; what it raises ends the sweep. `listen` is given the number of cells done, with the share of those in work, and of all.
    Which `engine` makes the shards changes no key and no answer.
    """
    folder = SweepFolder(out)
    plan = folder.extended(plan_of(models, columns, prompts, generation, seeds, judge, first_seed))
    runs = [planned(models, column, plan.prompts, plan.generation, plan.seeds, judge, plan.first_seed) for column in plan.columns]
    wanted = dict(pair for of_column in runs for pair in of_column)
    kept = _kept(folder, wanted, keep)
    shards = list(_shards(runs, set(kept)))
    check([[run for _, run in shard] for shard in shards])
    folder.begin(plan)
    listen(len(kept), len(wanted))
    engine.run(shards, ShardMaker(models, judge, out, code_version()), lambda done: listen(len(kept) + done, len(wanted)))
    cells = _kept(folder, wanted, keep=True)
    results = [cells[key] for key in wanted]
    folder.merge(results)
    return results


def _kept(folder: SweepFolder, wanted: dict[str, Run], keep: bool) -> dict[str, Cell]:
    """Cells of the folder that the sweep needs. Raises BadSettings where the code has changed since, unless `keep`."""
    found = {key: pair for key, pair in folder.cells().items() if key in wanted}
    others = {code for _, code in found.values()} - {code_version()}
    if others and not keep:
        number = sum(code in others for _, code in found.values())
        wrong = f"`{folder.path}` has {number:,} answers made by another version of the code."
        do = "Add `--keep` to keep them and make only what is missing, or choose another folder for `--out`."
        raise BadSettings(wrong, f"They are from {', '.join(sorted(others))}, and this is {code_version()}.", do)
    return {key: cell for key, (cell, _) in found.items()}


def _shards(runs: Sequence[Sequence[Keyed]], finished: set[str]) -> Iterator[list[Keyed]]:
    """What is missing of each shard. A shard has cells of one column; which ones does not depend on what is finished."""
    for of_column in runs:
        if not of_column:
            continue
        size = max(1, SHARD // method(of_column[0][1].method).make(of_column[0][1].params).num_rows)
        number = -(-len(of_column) // size)
        for start in range(number):
            shard = of_column[start * len(of_column) // number : (start + 1) * len(of_column) // number]
            missing = [(key, run) for key, run in dict(shard).items() if key not in finished]
            finished = finished | {key for key, _ in missing}
            if missing:
                yield missing
