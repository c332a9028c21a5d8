"""Engines of sweeps: whatever runs the shards, and whoever dies meanwhile, the results are those of the serial run to the byte."""

import multiprocessing
import os
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import psutil
import pytest
from tiny_models import tiny_lm, tiny_reward

from rgtg.config import GenerationConfig, Settings
from rgtg.engine import Models
from rgtg.errors import BadSettings, RgtgError
from rgtg.evaluation import sweep
from rgtg.evaluation.cells import planned
from rgtg.evaluation.engines.base import ShardMaker, Work, longest_first
from rgtg.evaluation.engines.pool import ProcessPool
from rgtg.evaluation.shards import RESULTS, SHARDS
from rgtg.records import ColumnSpec
from rgtg.system import processes
from rgtg.system.processes import _portable
from rgtg.workbench.sweeps import engine_of, load_anew
from rgtg.workbench.workbench import Workbench

GENERATION = GenerationConfig(max_new_tokens=12)
PROMPTS = [f"the food number {'and again ' * (i % 5)}{i}" for i in range(30)]
ROOT = Path(__file__).resolve().parent.parent


def models() -> Models:
    return Models(tiny_lm(), {"one": tiny_reward("llama", 1, "one")}, 1)


def shard(column: ColumnSpec, number: int) -> list:
    return planned(models(), column, PROMPTS[:number], GENERATION, [0], tiny_reward("llama", 3, "judge"))


def run(folders, out: Path, **given) -> bytes:
    """The results of a sweep of three methods over the models in folders."""
    workbench = Workbench(Settings(data_dir=out / "data", tuned=False), [folders["lm"]], [folders["partial"]])
    judge = workbench.library.list_scorer(folders["judge"])
    columns = [
        ColumnSpec("base"),
        *(ColumnSpec(key, params, "p") for key, params in (("pargs", (("beta", 2.0),)), ("best-of-n", (("n", 4),)), ("particles", (("m", 4),)))),
    ]
    workbench.sweeps.run(columns, PROMPTS, GENERATION, [0, 1], judge, out, confirmed=True, **given)
    return (out / RESULTS).read_bytes()


def test_the_longest_shard_comes_first():
    base, guided = ColumnSpec("base"), ColumnSpec("pargs", (("beta", 2.0),), "one")
    shards = [shard(base, 4), shard(guided, 3), shard(ColumnSpec("best-of-n", (("n", 4),), "one"), 3), shard(base, 5)]
    assert longest_first(shards) == [2, 1, 3, 0]


def test_an_engine_is_named_by_its_key():
    with pytest.raises(BadSettings, match="There is no engine `dask`. There are: process, pool, ray"):
        engine_of("dask")
    with pytest.raises(BadSettings, match="The engine `process` has one worker. Found 2. Add `--engine pool`"):
        engine_of("process", 2)
    with pytest.raises(BadSettings, match="at least 1. Found -1"):
        engine_of("pool", -1)


def test_what_a_sweep_loads_is_not_tuned_by_measurement_so_that_every_process_computes_the_same(folders, tmp_path, monkeypatch):
    monkeypatch.setattr("rgtg.models.tuning.tune_matrices", lambda *_: pytest.fail("matrices were measured"))
    monkeypatch.setattr("rgtg.models.tuning.choose_threads", lambda *_: pytest.fail("threads were measured"))
    library = Workbench(Settings(data_dir=tmp_path, tuned=False), [folders["lm"]]).library
    lm = library.catalog.find(folders["lm"]).name
    assert library.load_models(lm).num_threads == 1
    installed = [*library.models(), library.catalog.add(folders["judge"])]
    models_anew, judge = load_anew(library.settings, installed, (), lm, ["j"], "j")
    assert models_anew.num_threads == 1 and judge.name == "j" and list(models_anew.reward_models) == ["j"]


def test_a_worker_refuses_models_and_code_that_have_changed(tmp_path, monkeypatch):
    judge = tiny_reward("llama", 3, "judge")
    work = Work.of(ShardMaker(models(), judge, tmp_path, "0.1.0+abc"), lambda: (models(), judge))
    with pytest.raises(BadSettings, match=r"have changed since the sweep began.*began with 0\.1\.0\+abc"):
        work.begin()
    work = Work.of(ShardMaker(models(), tiny_reward("llama", 4, "another"), tmp_path, sweep.code_version()), lambda: (models(), judge))
    with pytest.raises(BadSettings, match="have changed since the sweep began"):
        work.begin()


def test_an_error_of_a_worker_is_the_same_here():
    error = _portable(BadSettings("Wrong.", "Found 3.", "Do 4."))
    assert isinstance(error, BadSettings) and (error.wrong, error.found, error.do) == ("Wrong.", "Found 3.", "Do 4.")
    try:
        raise KeyError("key")
    except KeyError as bug:
        assert "Traceback" in "".join(_portable(bug).__notes__)


@pytest.mark.slow
def test_a_pool_equals_the_serial_run_also_where_its_workers_are_killed(folders, tmp_path, monkeypatch):
    monkeypatch.setattr(sweep, "SHARD", 20)
    serial = run(folders, tmp_path / "serial")
    killed: set[int] = set()

    def kill(done: float, total: int) -> None:
        if len(killed) < 2 and done > 30 * (len(killed) + 1):
            victim = multiprocessing.active_children()[0]
            os.kill(victim.pid, signal.SIGKILL)
            killed.add(victim.pid)

    assert run(folders, tmp_path / "pool", engine="pool", workers=2, listen=kill) == serial
    assert len(killed) == 2 and not multiprocessing.active_children()
    assert {path.suffix for path in (tmp_path / "pool" / SHARDS).iterdir()} <= {".jsonl", ".part"}
    names = [sorted(path.name for path in (tmp_path / name / SHARDS).glob("*.jsonl")) for name in ("serial", "pool")]
    assert names[0] == names[1], "the shards are the same ones"


@pytest.mark.slow
def test_a_worker_that_always_dies_ends_the_sweep_with_what_to_do_and_a_bug_comes_with_its_traceback(tmp_path, monkeypatch):
    maker = ShardMaker(models(), tiny_reward("llama", 3, "judge"), tmp_path, sweep.code_version())
    monkeypatch.setattr(processes, "MAX_TRIES", 2)
    with pytest.raises(RgtgError, match="2 processes ended at loading. Found exit status 7. Fewer `--workers`"):
        ProcessPool(partial(os._exit, 7), 1).run([shard(ColumnSpec("base"), 2)], maker, lambda done: None)
    with pytest.raises(ValueError, match="invalid literal") as caught:
        ProcessPool(partial(int, "x"), 1).run([shard(ColumnSpec("base"), 2)], maker, lambda done: None)
    assert "in _serve" in "".join(caught.value.__notes__)
    assert not multiprocessing.active_children()


@pytest.mark.slow
@pytest.mark.skipif(os.name != "posix", reason="signals as a terminal sends them")
@pytest.mark.parametrize("ending", [signal.SIGINT, signal.SIGKILL])
def test_after_ctrl_c_or_a_kill_there_are_complete_shards_and_no_process_is_left(folders, tmp_path, ending, request):
    (tmp_path / "prompts.txt").write_text("\n".join(PROMPTS * 60))
    command = [sys.executable, "-m", "rgtg", "sweep", "--prompts", str(tmp_path / "prompts.txt"), "--base-lm", folders["lm"], "--yes"]
    command += ["--observe", folders["judge"], "--max-new-tokens", "30", "--run", "base", "--engine", "pool", "--workers", "2"]
    env = os.environ | {"RGTG_DATA_DIR": str(tmp_path / "data"), "OMP_NUM_THREADS": "1"}
    out = tmp_path / "out"
    heard = partial(signal.signal, signal.SIGINT, signal.SIG_DFL)  # what a shell starts in the background has it ignored
    process = subprocess.Popen([*command, "--out", str(out)], env=env, cwd=ROOT, start_new_session=True, stderr=subprocess.PIPE, preexec_fn=heard)
    request.addfinalizer(process.kill)
    _wait_for(lambda: list((out / SHARDS).glob("*.jsonl")) or process.poll() is not None, 200)
    family = psutil.Process(process.pid).children(recursive=True)
    assert len(family) >= 2
    if ending == signal.SIGINT:
        os.killpg(process.pid, ending)  # Ctrl+C in a terminal is for the whole group
    else:
        process.kill()
    assert process.wait(30) == (130 if ending == signal.SIGINT else -9)
    _wait_for(lambda: not [member for member in family if _is_running(member)], 20)
    left = list((out / SHARDS).iterdir())
    assert left and (ending == signal.SIGKILL or {path.suffix for path in left} == {".jsonl"})
    assert len([path for path in left if path.suffix == ".jsonl"]) < 8, "it was stopped before its end"
    assert not (out / RESULTS).exists()


def _is_running(process: psutil.Process) -> bool:
    try:
        return process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def _wait_for(condition, seconds: float) -> None:
    patience = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < patience, "it took too long"
        time.sleep(0.02)
