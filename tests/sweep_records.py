"""A sweep of five settings, and its folder with made-up answers."""

from pathlib import Path

from rgtg.config import GenerationConfig
from rgtg.evaluation.cells import Cell
from rgtg.evaluation.shards import Plan, SweepFolder
from rgtg.records import ColumnSpec, ModelRef
from rgtg.workbench.sweeping.results import settings_of

PROMPTS = ("the food", "the place")
BETAS = [(("beta", beta),) for beta in (1.0, 2.0)]
COLUMNS = (ColumnSpec("base"), *(ColumnSpec("pargs", params, "p", GenerationConfig(max_new_tokens=4, top_k=k)) for params in BETAS for k in (5, 10)))
PLAN = Plan("lm", "j", (ModelRef("lm", "1"), ModelRef("p", "2"), ModelRef("j", "3")), COLUMNS, PROMPTS, (0, 1), GenerationConfig(max_new_tokens=4))


def cell(setting: str, prompt: str, seed: int, judge: float, kl: float | None = 1.0) -> Cell:
    return Cell(f"{setting}/{prompt}/{seed}", setting, prompt, seed, " was <b>good</b>", (1, 2), "eos", judge, judge, -1.0, kl, None, 2, 2)


def cells_of(setting: str, judge: float, kl: float | None = 1.0) -> list[Cell]:
    return [cell(setting, prompt, seed, judge + i, kl) for i, prompt in enumerate(PROMPTS) for seed in PLAN.seeds]


def finished(path: Path, names: int = 5) -> SweepFolder:
    """A folder with the shards of the first settings of PLAN."""
    folder = SweepFolder(path)
    folder.begin(PLAN)
    for number, setting in enumerate(settings_of(PLAN)[:names]):
        folder.write(cells_of(setting.name, float(number), 0.5 * number), "1", 1.0, 1.0)
    return folder
