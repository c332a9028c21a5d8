"""How long a sweep will take: the work of one shard of each setting, by the measured speed of its models, times the number of shards.

Loads the models of the sweep, as a comparison with them would.
"""

import threading
from collections.abc import Callable
from dataclasses import replace

from rgtg.errors import BadSettings
from rgtg.records import ColumnSpec
from rgtg.workbench.budget import Budget
from rgtg.workbench.library import Library
from rgtg.workbench.sweeping.grid import Grid

Mix = tuple[tuple[str, float], ...]
SAMPLE = 8  # prompts whose runs are made, as many times as a shard needs
MAX_KEPT = 2_000


class Estimator:
    """Estimates of grids; that of a setting is kept, so that a change of the others costs nothing."""

    def __init__(self, library: Library, budget: Budget, mix: Callable[[ColumnSpec, str], Mix]):
        self._library, self._budget, self._mix = library, budget, mix
        self._kept: dict[tuple, float] = {}  # seconds an answer
        self._lock = threading.Lock()

    def seconds(self, grid: Grid) -> float:
        """Seconds that a grid takes at most, without those of loading. Raises RgtgError for what no run can be made of."""
        with self._lock:
            return sum(self._of_column(grid, column) for column in grid.columns) * len(grid.prompts) * grid.num_seeds

    def _of_column(self, grid: Grid, column: ColumnSpec) -> float:
        """Seconds an answer of this column."""
        from rgtg.engine import make_run
        from rgtg.evaluation.sweep import AT_ONCE, SHARD

        step = max(1, len(grid.prompts) // SAMPLE)
        prompts = sorted(grid.prompts, key=len)[step // 2 :: step][:SAMPLE]
        if not prompts:
            raise BadSettings("A sweep needs prompts.", "", "Type some, one a line, or choose a file.", "grid-prompts")
        key = (column, tuple(prompts), grid.generation, grid.base_lm, grid.judge)
        if key not in self._kept:
            lm = self._library.base_lm(grid.base_lm).name
            full = replace(column, reward_model=None, guides=self._mix(column, lm))
            models = self._library.load_models(lm, [*(name for name, _ in full.guides), grid.judge])
            judge = self._library.reward_model(grid.judge).name
            runs = [
                make_run(
                    text, full.method, models, full.params, full.mix, (judge,), full.generation or grid.generation, grid.first_seed,
                    combining=full.combine,
                )
                for text in prompts
            ]  # fmt: skip
            shard = (runs * -(-SHARD // len(runs)))[:SHARD]
            if len(self._kept) > MAX_KEPT:
                self._kept.clear()
            self._kept[key] = self._budget.estimate(shard, models, AT_ONCE).seconds / len(shard)
        return self._kept[key]
