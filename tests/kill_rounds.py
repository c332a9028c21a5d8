"""Kill a voting process with SIGKILL, again and again, and count: python tests/kill_rounds.py [rounds] [votes a round]

Prints a line a round: votes acknowledged to the child's parent, those found after the kill, what SQLite and the row
hashes say. Exit status 1 if an acknowledged vote is missing, a comparison is there by half, or the file is damaged.
"""

import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from store_records import killed_while_voting

from rgtg.store.connection import reading
from rgtg.store.store import Store


def one_round(path: Path, number: int, num_votes: int) -> tuple[int, int, int, str]:
    acknowledged = set(killed_while_voting(path, f"round{number}", num_votes))
    with Store(path) as store:
        found = {vote.id for vote in store.current_votes() if vote.id.startswith(f"vote-round{number}-")}
        whole = all(len(comparison.traces) == 2 and len(votes) == 1 for comparison, votes in store.facts())  # hashes are checked on the way
    with reading(path) as conn:
        integrity = conn.execute("PRAGMA integrity_check").fetchone()[0]
        num_broken = len(conn.execute("PRAGMA foreign_key_check").fetchall())
    sound = integrity == "ok" and num_broken == 0 and whole
    return len(acknowledged), len(found), len(acknowledged - found), "ok" if sound else f"{integrity}, {num_broken} broken keys, whole: {whole}"


def main(num_rounds: int = 10, num_votes: int = 50) -> int:
    failed = False
    print("round  acknowledged  found  missing  integrity")
    with tempfile.TemporaryDirectory() as folder:
        for number in range(1, num_rounds + 1):
            acknowledged, found, missing, integrity = one_round(Path(folder) / "rgtg.db", number, num_votes)
            failed |= missing > 0 or integrity != "ok"
            print(f"{number:5}  {acknowledged:12}  {found:5}  {missing:7}  {integrity}", flush=True)
    return int(failed)


if __name__ == "__main__":
    sys.exit(main(*map(int, sys.argv[1:3])))
