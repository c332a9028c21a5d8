"""ZeroGPU, with a stand-in for `spaces` that forks and pickles as it does: one function for all columns, plain values, nothing written inside."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from rgtg.system import zero_gpu
from rgtg.workbench.serving.generating import LEAST_S, MOST_S, Estimator

STAND_IN = Path(__file__).parent / "stand_in_zero_gpu"
CODE = """
import json, os, pathlib, sys
from rgtg.system import zero_gpu
import spaces
from rgtg.config import GenerationConfig, Settings
from rgtg.engine import generate as here
from rgtg.records import ColumnSpec, Step
from rgtg.workbench.serving import generating
from rgtg.workbench.workbench import Workbench

workbench = Workbench(Settings(data_dir=pathlib.Path(sys.argv[1]), device="cpu"))
workbench.start_loading()
ready = workbench.status().state  # at once: this thread has loaded them
loaded_before = sorted(workbench.library.in_memory())
yields = []
plain = generating.on_gpu
def watched(request):
    for message in plain(request):
        yields.append(message)
        yield message
generating.on_gpu = watched
columns = [ColumnSpec("base"), ColumnSpec("pargs", (("beta", 2.0),)), ColumnSpec("best-of-n", (("n", 2),))]
running = workbench.compare("the food was", columns, GenerationConfig(max_new_tokens=8), seed=17)
events = [(column, type(event).__name__) for column, event in running]
made = workbench.store.comparison(running.id)
same = {}
for column, event in here([t.run for t in made.traces], running._models):
    if isinstance(event, Step):
        same.setdefault(column, []).append(event)
branch = workbench.branch(made.id, made.traces[1].id, 3, made.traces[1].steps[3].candidates[-1].token_id)
list(branch)
branched = workbench.store.comparison(made.id).traces[-1]
stopped = workbench.compare("my wife and i", columns[:2], GenerationConfig(max_new_tokens=200), seed=3)
for number, _ in enumerate(stopped):
    if number == 4:
        stopped.stop()
ended = workbench.store.comparison(stopped.id)
def kinds(value):
    if isinstance(value, dict):
        return {str}.union(*(kinds(v) for v in value.values()))
    if isinstance(value, (list, tuple)):
        return set().union(*(kinds(v) for v in value))
    return {type(value)}
spaces.refusal = 'You have exceeded your GPU quota (60s requested vs. 12s left). <a href="https://hf.co/x">Subscribe</a>'
try:
    list(workbench.compare("the food was", columns[:1], GenerationConfig(max_new_tokens=2), seed=1))
except Exception as error:
    quota = [type(error).__name__, str(error)]
try:
    zero_gpu.refuse("Training")
except Exception as error:
    refused = str(error)
print(json.dumps({
    "ready": ready, "in_memory": [loaded_before, sorted(workbench.library.in_memory())],
    "asked": spaces.asked, "forked": os.getpid() not in spaces.pids, "num_calls": len(spaces.pids),
    "kinds": sorted({k.__name__ for m in yields for k in kinds(m)}), "events": sorted({kind for _, kind in events}),
    "same": [[s.token_id for s in t.steps] == [s.token_id for s in same[i]] and tuple(same[i]) == tuple(t.steps) for i, t in enumerate(made.traces)],
    "branch": [branched.branch_position, branched.parent_trace_id == made.traces[1].id,
        [s.token_id for s in branched.steps[:3]] == [s.token_id for s in made.traces[1].steps[:3]]],
    "stopped": [[t.stop_reason, 0 < len(t.steps) < 200, t.lm_forwards > 0] for t in ended.traces], "refused": refused, "quota": quota,
}))
workbench.close()
"""


@pytest.mark.slow
def test_on_zero_gpu_one_function_serves_all_columns_and_the_parent_keeps_what_it_yields(tmp_path):
    paths = os.pathsep.join((str(STAND_IN), str(Path(__file__).resolve().parent.parent)))
    environment = os.environ | {"SPACES_ZERO_GPU": "true", "PYTHONPATH": paths, "OMP_NUM_THREADS": "1"}
    done = subprocess.run([sys.executable, "-c", CODE, str(tmp_path)], env=environment, capture_output=True, text=True, timeout=250, cwd=tmp_path)
    assert done.returncode == 0, done.stderr[-3000:]
    found = json.loads(done.stdout.splitlines()[-1])
    assert found["ready"] == "ready" and found["in_memory"][0] == found["in_memory"][1], "nothing is loaded later"
    assert found["forked"] and found["num_calls"] == 3, "one call for each comparison or branch, whatever its columns"
    assert set(found["kinds"]) <= {"str", "int", "float", "bool", "NoneType"} and {"Step", "Ended"} <= set(found["events"])
    assert found["same"] == [True, True, True], "each token with its candidates, as without"
    assert found["branch"] == [3, True, True], "its prefix is sent again"
    assert found["stopped"] == [["stopped", True, True]] * 2
    assert all(LEAST_S <= seconds <= MOST_S for seconds in found["asked"]) and found["asked"][1] != found["asked"][0]
    assert found["quota"][0] == "RgtgError" and "exceeded your GPU quota (60s requested vs. 12s left). Subscribe" in found["quota"][1]
    assert "lends a GPU for some seconds" in found["refused"]


def test_without_zero_gpu_the_decorator_does_nothing():
    def task() -> None: ...

    assert not zero_gpu.ACTIVE and zero_gpu.gpu(duration=lambda: 1)(task) is task
    zero_gpu.refuse("Training")


def test_the_seconds_asked_for_follow_what_comparisons_took():
    estimator = Estimator()
    assert estimator.seconds(0.5) == 60.0
    estimator.learn(100.0, 10.0)
    assert estimator.seconds(200.0) == pytest.approx(30.0) and estimator.seconds(1.0) == LEAST_S and estimator.seconds(1e6) == MOST_S
    estimator.learn(100.0, 40.0)
    assert estimator.seconds(100.0) == pytest.approx(60.0), "up at once"
    estimator.learn(100.0, 10.0)
    assert estimator.seconds(100.0) == pytest.approx(37.5), "down by halves"
