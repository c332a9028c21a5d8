"""Sweeps whose driver is killed again and again, with each engine: `python -m tests.killed_sweeps [--engine process|pool|ray] [--kills 3]`.

Prints a line for each kill, and whether the results equal those of a serial sweep that nobody disturbed, to the byte. The models are tiny
ones; exits with 1 where results differ or a process is left.
"""

import argparse
import os
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import psutil

ROOT = Path(__file__).resolve().parent.parent
SAME = ("results.jsonl", "table.md", "table.csv", "table.json")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--engine", action="append", choices=("process", "pool", "ray"), help="may be repeated (process and pool)")
    parser.add_argument("--kills", type=int, default=3)
    parser.add_argument("--prompts", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0, help="of the moments")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        command = _command(root, options.prompts)
        began = time.perf_counter()
        subprocess.run([*command, "--out", str(root / "whole")], env=_environment(root), cwd=ROOT, check=True, stdout=subprocess.DEVNULL)
        print(f"undisturbed: {len(_shards(root / 'whole'))} shards, {time.perf_counter() - began:.1f} s", flush=True)
        equal = [_equals(root, command, engine, options) for engine in options.engine or ("process", "pool")]
        return 0 if all(equal) else 1


def _command(root: Path, num_prompts: int) -> list[str]:
    sys.path.insert(0, str(ROOT / "tests"))
    from tiny_models import save
    from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification

    from rgtg.records import ModelCard

    lm = save(root / "lm", AutoModelForCausalLM, 0, ModelCard("base_lm", "tiny"))
    guide = save(root / "p", AutoModelForSequenceClassification, 1, ModelCard("reward_model", "p", objective="partial", base_lm="tiny"))
    judge = save(root / "j", AutoModelForSequenceClassification, 3, ModelCard("judge", "j", objective="full", base_lm="tiny"))
    (root / "prompts.txt").write_text("".join(f"the food number {'and again ' * (i % 5)}{i}\n" for i in range(num_prompts)))
    command = [sys.executable, "-m", "rgtg", "sweep", "--prompts", str(root / "prompts.txt"), "--base-lm", lm, "--observe", judge, "--yes"]
    runs = ["base", *(f"{run},reward_model={guide}" for run in ("pargs:beta=2", "best-of-n:n=4", "particles:m=4"))]
    return [*command, "--max-new-tokens", "20", *(word for run in runs for word in ("--run", run))]


def _environment(root: Path) -> dict[str, str]:
    return os.environ | {"RGTG_DATA_DIR": str(root / "data"), "OMP_NUM_THREADS": "1"}


def _shards(out: Path) -> list[Path]:
    return list((out / "shards").glob("*.jsonl"))


def _equals(root: Path, command: list[str], engine: str, options: argparse.Namespace) -> bool:
    out, dice, left, killed = root / engine, random.Random(options.seed), 0, 0
    arguments = [*command, "--out", str(out), "--engine", engine, *(["--workers", "2"] if engine != "process" else [])]
    while True:
        seen, began = len(_shards(out)), time.perf_counter()
        driver = subprocess.Popen(arguments, env=_environment(root), cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        while driver.poll() is None and (killed == options.kills or len(_shards(out)) == seen):
            time.sleep(0.005)
        if killed < options.kills:
            time.sleep(dice.uniform(0, 0.5))  # anywhere in the shards that follow
        if driver.poll() is not None:
            break
        family = psutil.Process(driver.pid).children(recursive=True)
        driver.kill()
        driver.wait()
        killed += 1
        alive = psutil.wait_procs(family, timeout=150)[1]
        left += len(alive)
        words = f"killed after {time.perf_counter() - began:.1f} s with {len(_shards(out))} shards complete, {seen} before"
        print(f"{engine}: {words}; {len(family)} processes below it, {len(alive)} left", flush=True)
    same = driver.returncode == 0 and all((out / name).read_bytes() == (root / "whole" / name).read_bytes() for name in SAME)
    print(f"{engine}: killed {killed} times, exit {driver.returncode}: {'equal to the byte' if same else 'DIFFERENT'}", flush=True)
    return same and not left and killed == options.kills


if __name__ == "__main__":
    sys.exit(main())
