"""Rounds of retraining: answers of the guided policy, scored by a judge, train the reward model that guides next.

On pairs of answers it is reward learning on policy (RLP, arXiv 2403.19279) with a judge in place of people; with an objective that takes scores the
guided policy writes only the beginning of each sample (Q#, arXiv 2502.20548). Knows nothing of the screen.
"""

import logging
import shutil
from collections.abc import Callable, Sequence
from itertools import combinations
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rgtg.errors import OverBudget
from rgtg.evaluation.labelling.judging import write_pairs
from rgtg.guidance.methods import BASE
from rgtg.records import ColumnSpec, ModelCard, Run
from rgtg.system.files import replacing, write_json
from rgtg.workbench.retraining.plan import DATA, MODEL, SAMPLES, SWEEP, RoundsPlan

if TYPE_CHECKING:
    from rgtg.engine import Models
    from rgtg.evaluation.cells import Cell
    from rgtg.workbench.workbench import Workbench

logger = logging.getLogger(__name__)
Listen = Callable[[float, float, str], None]
APART = 10_000_019  # between the random seeds of two rounds


class Rounds:
    """The rounds of a plan in a folder. `listen` is given what is done, of how much, and of what."""

    def __init__(
        self, workbench: "Workbench", plan: RoundsPlan, folder: Path, confirmed: bool = False, listen: Listen = lambda done, total, what: None
    ):
        self._workbench, self.plan, self.folder, self._confirmed, self._listen = workbench, plan, folder, confirmed, listen
        self.cells: list[Cell] = []  # of all rounds so far

    def run(self) -> list[dict[str, Any]]:
        """Go through all rounds, what is there already left out, and return a row for each round and setting (`_measured`); the base LM is round 0.

        Raises RgtgError as a sweep and a training do; what is complete by then is kept.
        """
        self.plan.begin(self.folder)
        rows = self._measured(0, [ColumnSpec(BASE)], None)
        policy: ColumnSpec | None = None
        for number in range(1, self.plan.numbers.rounds + 1):
            folder = self.folder / f"round-{number}"
            self._sample(number, folder / SAMPLES, policy)
            card = self._train(number, folder)
            columns = self.plan.columns(self._workbench.library.list_scorer(str(folder / MODEL)))
            rows += self._measured(number, columns, card)
            policy = columns[0]
            self._write_table(rows)
        return rows

    def _sample(self, number: int, path: Path, policy: ColumnSpec | None) -> None:
        """Answers to the prompts by the policy of the round before, the base LM in the first."""
        from rgtg.evaluation.labelling.samples import BASE_LM, sampled

        if path.is_file():
            return
        plan, library = self.plan, self._workbench.library
        models = library.load_models(plan.base_lm, [name for name, _ in policy.mix] if policy else [])
        what = f"round {number}: samples"

        rows = sampled(
            models, library.reward_model(plan.judge), plan.prompts, plan.numbers.samples, plan.generation, policy or BASE_LM,
            plan.config.objective.takes_scores, plan.numbers.seed + number * APART,
            lambda runs: self._check_memory(runs, models), lambda done, total: self._listen(done, total, what),
        )  # fmt: skip
        write_pairs(rows, path)

    def _train(self, number: int, folder: Path) -> ModelCard:
        """The reward model of a round, trained on the samples of all rounds so far."""
        from rgtg.training.pipeline import train_file

        if (folder / MODEL).is_dir() and (card := ModelCard.read(folder / MODEL)) is not None:
            return card
        with replacing(folder / DATA) as part:
            so_far = [self.folder / f"round-{i}" / SAMPLES for i in range(1, number + 1)]
            part.write_text("".join(path.read_text(encoding="utf-8") for path in so_far), encoding="utf-8")
        catalog, work = self._workbench.library.catalog, folder / "training"
        installed = {m.name: m.folder_or_id for m in catalog.of_kind("base_lm", "reward_model")}

        def emit(news: dict[str, Any]) -> None:
            if news.get("phase") == "training":
                self._listen(news["step"], news["num_steps"], f"round {number}: training")

        card = train_file(
            folder / DATA, installed.get(self.plan.start, self.plan.start), folder / MODEL, self.plan.config, f"{self.folder.name}-{number}",
            self.plan.base_lm, self._workbench.settings.device, emit=emit, work=work,
        )  # fmt: skip
        assert card is not None  # nothing stops it, and one process trains
        shutil.rmtree(work)
        return card

    def _measured(self, number: int, columns: Sequence[ColumnSpec], card: ModelCard | None) -> list[dict[str, Any]]:
        """A row for each setting: judge, positive, KL (with intervals over the prompts of the evaluation), the held-out accuracy of the reward model,
        and `own_accuracy`, how often it ranks two of its own answers to one prompt as the judge does, with `num_own` pairs."""
        from rgtg.evaluation.cells import planned
        from rgtg.evaluation.table import by_setting, summary

        plan, what = self.plan, f"round {number}: evaluation"
        out, library = self.folder / f"round-{number}" / SWEEP, self._workbench.library
        models = library.load_models(plan.base_lm, [name for name, _ in columns[0].mix])
        judge = library.reward_model(plan.judge)
        for column in columns:
            self._check_memory([run for _, run in planned(models, column, plan.eval_prompts, plan.generation, [0], judge)], models)
        out.mkdir(parents=True, exist_ok=True)
        cells = self._workbench.sweeps.run(
            columns, plan.eval_prompts, plan.generation, range(plan.numbers.eval_seeds), plan.judge, out, plan.base_lm, True,
            lambda done, total: self._listen(done, total, what), first_seed=plan.numbers.seed,
        )  # fmt: skip
        self.cells += cells
        found = by_setting(cells)
        shared = {"round": number, "num_trained": 0, "held_out_accuracy": None, "num_held_out": 0}
        if card is not None:
            shared |= {"num_trained": card.num_pairs, "held_out_accuracy": card.metrics.get("accuracy")}
            shared |= {"num_held_out": card.metrics.get("num_held_out_pairs", 0)}
        rows = []
        for row in summary(cells):
            figures = {name: row[name] for name in ("setting", "n", "num_prompts", "judge", "positive", "kl", "num_tokens")}
            rows.append(shared | figures | own_accuracy(found[row["setting"]]))
        return rows

    def _check_memory(self, runs: Sequence[Run], models: "Models") -> None:
        """Raise OverBudget where these runs need more memory than the limit. Their time is no reason: rounds take long, and go on where they were."""
        from rgtg.evaluation.labelling.samples import AT_ONCE

        limit = self._workbench.settings.memory_budget_gb
        if not self._confirmed and (needed := self._workbench.budget.estimate(runs, models, AT_ONCE).gigabytes) > limit:
            found = f"It would need up to {needed:,.1f} GB, and the limit is {limit:g} GB."
            raise OverBudget("The answers of a round may not fit into memory.", found, "Lower `max_new_tokens` or `top_k`.")

    def _write_table(self, rows: Sequence[dict[str, Any]]) -> None:
        write_json(self.folder / "table.json", list(rows))
        with replacing(self.folder / "table.md") as part:
            part.write_text(markdown(rows), encoding="utf-8")


def own_accuracy(cells: "Sequence[Cell]") -> dict[str, float | int | None]:
    """Share of pairs of answers to one prompt that guide and judge rank alike, equal rewards of the guide counting one half, and their number; pairs
    that the judge finds equal do not count. None without pairs: with one random seed each prompt has one answer."""
    wins, number = 0.0, 0
    by_prompt: dict[str, list[Cell]] = {}
    for cell in cells:
        by_prompt.setdefault(cell.prompt, []).append(cell)
    for of_prompt in by_prompt.values():
        for a, b in combinations(of_prompt, 2):
            if a.guide is not None and b.guide is not None and a.judge != b.judge:
                gap = (a.guide - b.guide) * (1 if a.judge > b.judge else -1)
                wins, number = wins + (gap > 0) + 0.5 * (gap == 0), number + 1
    return {"own_accuracy": round(wins / number, 4) if number else None, "num_own": number}


def markdown(rows: Sequence[dict[str, Any]]) -> str:
    """A table of the rounds with 95 % intervals over prompts; shares are in %, KL in nats an answer."""
    from rgtg.evaluation.table import words

    heads = (
        "round",
        "setting",
        "trained on",
        "held-out accuracy, %",
        "its own answers ranked as the judge does, %",
        "judge",
        "positive, %",
        "KL",
        "n",
    )
    lines = [f"| {' | '.join(heads)} |", "|---" * len(heads) + "|"]
    for row in rows:
        held_out, own = (
            "–" if row[name] is None else f"{100 * row[name]:.1f} (n = {row[number]:,})"
            for name, number in (("held_out_accuracy", "num_held_out"), ("own_accuracy", "num_own"))
        )
        figures = words(row["judge"], 1, 2), words(row["positive"], 100, 0), words(row["kl"], 1, 2)
        cells = (
            str(row["round"]),
            row["setting"],
            f"{row['num_trained']:,}" if row["num_trained"] else "–",
            held_out,
            own,
            *figures,
            f"{row['n']:,}",
        )
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def kls_to_match(rows: Sequence[dict[str, Any]]) -> list[float]:
    """The mean KL of each setting in the first round, at which later rounds are compared."""
    return sorted({float(f"{row['kl'][0]:.2g}") for row in rows if row["round"] == 1 and row["kl"] is not None})
