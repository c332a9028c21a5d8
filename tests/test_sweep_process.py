"""A sweep in a process of its own, killed, found by another start of the app, resumed: it equals one that was never interrupted."""

import time
from collections.abc import Callable

import pytest

from rgtg.config import GenerationConfig, Settings
from rgtg.records import ColumnSpec
from rgtg.workbench.sweeping.background import BackgroundSweeps
from rgtg.workbench.sweeping.grid import Grid
from rgtg.workbench.workbench import Workbench

pytestmark = pytest.mark.slow
BETAS = (0.5, 1.0, 2.0, 4.0, 8.0)


def wait(until: Callable[[], object], seconds: float = 120.0) -> None:
    end = time.monotonic() + seconds
    while not until():
        assert time.monotonic() < end
        time.sleep(0.02)


def test_a_sweep_that_was_killed_and_resumed_equals_one_that_was_not(folders, tmp_path):
    settings = Settings(data_dir=tmp_path, device="cpu")
    models = [folders["lm"]], [folders["partial"], folders["judge"]]
    workbench = Workbench(settings, *models)
    columns = tuple(ColumnSpec("pargs", (("beta", beta),), "p") for beta in BETAS)
    prompts = tuple(f"the food {number}" for number in range(40))
    lm = workbench.library.base_lm().name
    grid = Grid(lm, "j", columns, prompts, GenerationConfig(max_new_tokens=8), 2)
    sweeps = BackgroundSweeps(settings, *models)
    sweeps.start("mine", grid)
    shards = sweeps.path("mine") / "shards"
    wait(lambda: len(list(shards.glob("*.jsonl"))) or sweeps.state("mine").state != "running")
    again = BackgroundSweeps(settings, *models)
    again.stop("mine")
    assert again.state("mine").state == "stopped" and 0 < len(list(shards.glob("*.jsonl"))) < len(BETAS), again.log("mine")
    again.resume("mine")
    wait(lambda: again.state("mine").state != "running")
    assert again.state("mine").state == "done", again.log("mine")
    uninterrupted = workbench.sweeps.run(columns, prompts, grid.generation, range(2), "j", tmp_path / "other", lm, confirmed=True)
    assert (again.path("mine") / "results.jsonl").read_bytes() == (tmp_path / "other" / "results.jsonl").read_bytes() and len(uninterrupted) == 400
    workbench.close()


def test_a_failure_says_why_on_the_page(folders, tmp_path):
    settings = Settings(data_dir=tmp_path, device="cpu")
    sweeps = BackgroundSweeps(settings, [folders["lm"]], [folders["judge"]])
    lm = Workbench(settings, [folders["lm"]]).library.default_base_lm()
    sweeps.start("mine", Grid(lm, "j", (ColumnSpec("pargs", (), "gone"),), ("the food",)))
    wait(lambda: sweeps.state("mine").state != "running")
    state = sweeps.state("mine")
    assert state.state == "failed" and "gone" in state.error[0] and state.can_resume, state
