"""Small records for the tests of the store, pairs and export, and a Python child process that uses the store."""

import subprocess
import sys
from pathlib import Path

from rgtg.config import COLUMN_NAMES, GenerationConfig
from rgtg.records import Candidate, Comparison, ModelRef, Run, Step, Trace, Tried, Vote

ROOT = Path(__file__).resolve().parent.parent
AT = "2026-11-02T10:00:00.000+00:00"


def make_step(position: int, token_id: int, text: str = " good") -> Step:
    rewards = (("partial", 1.25), ("judge", -0.1))
    candidates = (
        Candidate(token_id, text, -0.1, 2.4, 2, 1, 0.75, (("partial", 1.25),)),
        Candidate(9, " bad", -0.30000000000000004, -1.0, 1, 2, 0.25, (("partial", -2.5),)),
    )
    tried = (Tried(" worse", (4, 5), -0.5, 1.0), Tried(" other", (6,), weight=0.125)) if position == 0 else ()
    return Step(position, token_id, text, -0.1, 2.4, 2, 1, 0.9, 0.75, 0.0031, rewards, candidates, tried, 0.25)


def make_trace(name: str, column: str, response: str = "", num_steps: int = 2, **changes) -> Trace:
    run = Run(
        prompt="the food was",
        method="pargs",
        base_lm=ModelRef("base", "abc123"),
        params=(("beta", 2.0), ("pick", "sample")),
        guides=((ModelRef("partial", "def456"), 1.0),),
        observers=(ModelRef("judge"),),
        generation=GenerationConfig(max_new_tokens=8),
        seed=17,
        prompt_ids=(3, 4, 5),
        versions=(("rgtg", "0.1.0"),),
    )
    steps = tuple(make_step(i, 10 + i) for i in range(num_steps))
    known = {"run": run, "steps": steps, "response": response or f" answer {name}", "stop_reason": "eos", "place": COLUMN_NAMES.index(column)}
    return Trace(name, column, **known | {"seconds": 0.25, "lm_forwards": 3, "reward_forwards": 2, "created_at": AT} | changes)


def make_comparison(name: str = "c1", columns: str = "ABCD", **changes) -> Comparison:
    traces = tuple(make_trace(f"{name}-{column}", column) for column in columns)
    return Comparison(name, **{"prompt": "the food was", "traces": traces, "blind": True, "created_at": AT} | changes)


def make_vote(name: str = "v1", comparison: str = "c1", best: str | None = "B", seen: str = "ABCD", **changes) -> Vote:
    """A vote for column `best` of a comparison made by `make_comparison`."""
    known = {"verdict": "best" if best else "tie", "best_trace_id": f"{comparison}-{best}" if best else None}
    return Vote(name, comparison, **known | {"seen_trace_ids": tuple(f"{comparison}-{column}" for column in seen)} | changes)


def child(code: str, *arguments: object) -> subprocess.Popen:
    """Another process with the checkout and the tests on its path."""
    paths = f"import sys; sys.path[:0] = [{str(ROOT)!r}, {str(ROOT / 'tests')!r}]\n"
    command = [sys.executable, "-c", paths + code, *map(str, arguments)]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


VOTING_CHILD = """
from pathlib import Path
from store_records import make_comparison, make_vote
from rgtg.store.store import Store
store = Store(Path(sys.argv[1]))
for i in range(100_000):
    name = f"{sys.argv[2]}-{i}"
    vote = store.add_comparison(make_comparison(name, "AB"), make_vote(f"vote-{name}", name, "A", "AB"))
    print(vote.id, flush=True)  # acknowledged: from here on it must never be lost
"""


def killed_while_voting(path: Path, round_name: str, num_votes: int) -> list[str]:
    """Kill a voting child with SIGKILL after it acknowledged `num_votes`; the ids of all it acknowledged."""
    with child(VOTING_CHILD, path, round_name) as process:
        acknowledged = [process.stdout.readline().strip() for _ in range(num_votes)]
        process.kill()
        rest = process.stdout.read()
    lines = rest.split("\n")
    return acknowledged + [line for line in lines[:-1] if line]  # a last line without its end was not acknowledged
