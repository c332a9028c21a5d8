"""Sixteen people vote at once in one process that is killed, again and again: `python -m tests.voters [rounds] [votes a round]`.

Prints a line a round: votes acknowledged before the kill, those found after it, what SQLite and the row hashes say, and how long a vote took in the
store (median, 95th percentile, worst, in milliseconds). Exit status 1 if an acknowledged vote is missing or the file is damaged.
"""

import statistics
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

from store_records import child  # noqa: E402

from rgtg.store.connection import verify  # noqa: E402
from rgtg.store.store import Store  # noqa: E402

NUM_VOTERS = 16
VOTERS = """
import random, threading, time
from pathlib import Path
from store_records import make_comparison, make_vote
from rgtg.store.store import Store
store = Store(Path(sys.argv[1]))
raters = [store.rater("anonymous", f"voter {i}") for i in range(16)]
def vote(i):
    time.sleep(random.uniform(0, 1))
    for k in range(100_000):
        name = f"{sys.argv[2]}-{i}-{k}"
        store.add_comparison(make_comparison(name, "AB"))
        start = time.perf_counter()
        vote = store.add_vote(make_vote(f"vote-{name}", name, "A", "AB", rater_id=raters[i]))
        sys.stdout.write(f"{vote.id} {1000 * (time.perf_counter() - start):.3f}\\n")  # acknowledged: from here on it must never be lost
        sys.stdout.flush()
        time.sleep(random.uniform(0.2, 1.8))  # faster than people read, and not in step
for i in range(16):
    threading.Thread(target=vote, args=(i,)).start()
"""


def one_round(path: Path, number: int, num_votes: int) -> tuple[set[str], list[float], set[str]]:
    """Ids acknowledged, how long each took, ids found."""
    with child(VOTERS, path, f"round{number}") as process:
        lines = [process.stdout.readline() for _ in range(num_votes)]
        process.kill()
        lines += process.stdout.read().split("\n")[:-1]
    said = [line.split() for line in lines]
    with Store(path) as store:
        found = {vote.id for _, votes in store.facts() for vote in votes}  # hashes are checked on the way
    return {vote_id for vote_id, _ in said}, [float(taken) for _, taken in said], found


def main(num_rounds: int = 30, num_votes: int = 100) -> int:
    missing, all_taken = 0, list[float]()
    print("round  acknowledged  missing  integrity  median ms   p95 ms  worst ms")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "rgtg.db"
        for number in range(1, num_rounds + 1):
            acknowledged, taken, found = one_round(path, number, num_votes)
            missing += len(acknowledged - found)
            all_taken += taken
            verify(path)
            p95 = sorted(taken)[int(0.95 * len(taken)) - 1]
            print(f"{number:5}  {len(acknowledged):12}  {len(acknowledged - found):7}  ok         "
                  f"{statistics.median(taken):9.1f}  {p95:7.1f}  {max(taken):8.1f}", flush=True)  # fmt: skip
    p95 = sorted(all_taken)[int(0.95 * len(all_taken)) - 1]
    print(f"all: {len(all_taken)} acknowledged, {missing} missing, median {statistics.median(all_taken):.1f} ms, p95 {p95:.1f} ms")
    return int(missing > 0)


if __name__ == "__main__":
    sys.exit(main(*map(int, sys.argv[1:3])))
