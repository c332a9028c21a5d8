"""Sweeps of the workbench: many prompts in a folder, and weights on the prompt in hand.

Finds the models and checks the limits; the answers are made in `rgtg.evaluation`. Knows nothing of the screen.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from rgtg.config import GenerationConfig
from rgtg.prompts import check_text
from rgtg.records import ColumnSpec, Run
from rgtg.workbench.budget import Budget
from rgtg.workbench.library import Library

if TYPE_CHECKING:
    from rgtg.evaluation.cells import Cell

Mix = tuple[tuple[str, float], ...]


class Sweeps:
    """The sweeps of one installation. `mix` gives the reward models of a column with a base LM, with their weights, by the models' names."""

    def __init__(self, library: Library, budget: Budget, mix: Callable[[ColumnSpec, str], Mix]):
        self.library, self.budget, self.mix = library, budget, mix

    def run(
        self,
        columns: Sequence[ColumnSpec],
        prompts: Sequence[str],
        generation: GenerationConfig,
        seeds: Sequence[int],
        observe: str,
        out: Path,
        base_lm: str | None = None,
        confirmed: bool = False,
        listen: Callable[[float, int], None] = lambda done, total: None,
        keep: bool = False,
    ) -> "list[Cell]":
        """Generate every column for every prompt and seed and score it with a judge; the cells are kept in the folder `out`, so that a sweep
        that was interrupted goes on, see `evaluation.sweep.run_sweep`. Raises OverBudget as `compare` does, for the missing cells."""
        from rgtg.evaluation.sweep import AT_ONCE, run_sweep

        for number, prompt in enumerate(prompts, 1):
            check_text(prompt, f"prompt number {number}")
        lm = self.library.base_lm(base_lm).name
        full = [replace(column, reward_model=None, guides=self.mix(column, lm)) for column in columns]
        models = self.library.load_models(lm, [*(name for column in full for name, _ in column.guides), observe])
        judge = self.library.reward_model(observe)

        def check(batches: Sequence[Sequence[Run]]) -> None:
            read = [[replace(run, observers=(judge.loaded.ref,)) for run in batch] for batch in batches]  # the judge reads each answer
            self.budget.check_batches(read, models, confirmed, AT_ONCE)

        return run_sweep(models, full, prompts, generation, seeds, judge, out, check, listen, keep)
