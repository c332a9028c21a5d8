"""The engine on Ray Data equals the serial run, also where an actor or the process that drives it is killed. Skipped without Ray."""

import importlib.util
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import psutil
import pytest
from test_engines import PROMPTS, ROOT, run

from rgtg.errors import BadSettings
from rgtg.evaluation import sweep
from rgtg.evaluation.engines import ray_data
from rgtg.evaluation.shards import RESULTS, SHARDS

with_ray = pytest.mark.skipif(importlib.util.find_spec("ray") is None, reason="Ray is not installed: pip install -r requirements-ray.txt")


def test_without_ray_its_engine_says_what_to_install(monkeypatch):
    monkeypatch.setattr(ray_data.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(BadSettings, match=r"needs Ray Data. It is not installed. Run `pip install -r requirements-ray.txt`"):
        ray_data.check_installed()


def actors() -> list[psutil.Process]:
    """The actors of this process's Ray that load models or make shards."""
    return [child for child in psutil.Process().children(recursive=True) if "MapWorker" in " ".join(child.cmdline())]


@with_ray
@pytest.mark.slow
def test_ray_equals_the_serial_run_also_where_an_actor_is_killed(folders, tmp_path, monkeypatch):
    monkeypatch.setattr(sweep, "SHARD", 10)
    killed, over = [], threading.Event()

    def kill() -> None:
        while not over.is_set() and not killed:
            if len(list((tmp_path / "ray" / SHARDS).glob("*.jsonl"))) >= 3 and (found := actors()):
                os.kill(found[0].pid, signal.SIGKILL)
                killed.append(found[0].pid)
            time.sleep(0.02)

    threading.Thread(target=kill, daemon=True).start()
    done: list[float] = []
    made = run(folders, tmp_path / "ray", engine="ray", workers=2, listen=lambda number, total: done.append(number))
    over.set()
    assert killed, "no actor was there to be killed"
    assert done[0] == 0 and done[-1] == 240 and done == sorted(done)
    assert made == run(folders, tmp_path / "serial")
    assert not actors(), "Ray was started for the sweep and ends with it"


@with_ray
@pytest.mark.slow
def test_a_sweep_on_ray_whose_driver_is_killed_goes_on(folders, tmp_path):
    (tmp_path / "prompts.txt").write_text("\n".join(PROMPTS * 12))
    command = [sys.executable, "-m", "rgtg", "sweep", "--prompts", str(tmp_path / "prompts.txt"), "--base-lm", folders["lm"], "--yes"]
    command += ["--observe", folders["judge"], "--max-new-tokens", "20", "--run", "base", "--run", f"pargs:beta=2,reward_model={folders['partial']}"]
    env = os.environ | {"RGTG_DATA_DIR": str(tmp_path / "data"), "OMP_NUM_THREADS": "1"}
    out = tmp_path / "ray"
    driver = subprocess.Popen([*command, "--out", str(out), "--engine", "ray", "--workers", "2"], env=env, cwd=ROOT, stderr=subprocess.PIPE)
    while not list((out / SHARDS).glob("*.jsonl")):
        assert driver.poll() is None, driver.stderr.read().decode()
        time.sleep(0.02)
    family = psutil.Process(driver.pid).children(recursive=True)
    driver.kill()
    driver.wait()
    before = {path: path.stat().st_mtime_ns for path in Path(out / SHARDS).glob("*.jsonl")}
    assert 0 < len(before) < 10 and not (out / RESULTS).exists()
    assert not psutil.wait_procs(family, timeout=150)[1], "Ray ends with its driver, its agents last"
    for name, engine in (("ray", "ray"), ("serial", "process")):
        subprocess.run([*command, "--out", str(tmp_path / name), "--engine", engine], env=env, cwd=ROOT, check=True, stdout=subprocess.DEVNULL)
    assert (out / RESULTS).read_bytes() == (tmp_path / "serial" / RESULTS).read_bytes()
    assert all(path.stat().st_mtime_ns == changed for path, changed in before.items()), "what was complete is not made again"
