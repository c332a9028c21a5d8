import sqlite3
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import pytest
from store_records import child, killed_while_voting, make_comparison, make_vote

from rgtg.errors import StoreBusy, StoreError
from rgtg.store.connection import reading
from rgtg.store.schema import APPLICATION_ID, newest
from rgtg.store.store import Store
from rgtg.store.writer import Writer


@pytest.fixture
def writer(tmp_path):
    conn = sqlite3.connect(tmp_path / "notes.db", check_same_thread=False)
    conn.execute("CREATE TABLE notes (num INTEGER)")
    writer = Writer(conn, max_waiting=2)
    yield writer
    writer.close()


def insert(num):
    return lambda conn: conn.execute("INSERT INTO notes VALUES (?)", (num,)) and num


def notes(conn):
    return [num for (num,) in conn.execute("SELECT num FROM notes ORDER BY num")]


def test_task_returns_when_it_is_committed(writer, tmp_path):
    assert writer(insert(1)) == 1
    with closing(sqlite3.connect(tmp_path / "notes.db")) as other:
        assert notes(other) == [1]


def test_task_that_raises_leaves_nothing_and_the_next_one_works(writer):
    def half(conn):
        insert(1)(conn)
        raise ValueError("half way")

    with pytest.raises(ValueError, match="half way"):
        writer(half)
    writer(insert(2))
    assert writer(notes) == [2]


def test_sqlite_errors_arrive_as_store_errors(writer):
    with pytest.raises(StoreError, match="no such table: nowhere"):
        writer(lambda conn: conn.execute("SELECT * FROM nowhere"))


def test_task_inside_a_task_is_a_bug(writer):
    with pytest.raises(RuntimeError, match="from inside a task"):
        writer(lambda conn: writer(insert(1)))


def test_full_line_is_store_busy(writer, monkeypatch):
    monkeypatch.setattr("rgtg.store.writer.PATIENCE_S", 0.05)
    started, go = threading.Event(), threading.Event()
    with ThreadPoolExecutor(3) as pool:
        slow = pool.submit(writer, lambda conn: started.set() or go.wait(5))
        started.wait(5)
        waiting = [pool.submit(writer, insert(num)) for num in (1, 2)]
        while writer._tasks.qsize() < 2:
            time.sleep(0.005)
        with pytest.raises(StoreBusy, match="2 are queued"):
            writer(insert(3))
        go.set()
        assert slow.result() and [future.result() for future in waiting] == [1, 2]
    assert writer(notes) == [1, 2]


def test_closing_writes_what_was_accepted(tmp_path):
    conn = sqlite3.connect(tmp_path / "notes.db", check_same_thread=False)
    conn.execute("CREATE TABLE notes (num INTEGER)")
    writer, acknowledged = Writer(conn), []

    def write(num):
        try:
            acknowledged.append(writer(insert(num)))
        except StoreError:
            return

    with ThreadPoolExecutor(8) as pool:
        for num in range(200):
            pool.submit(write, num)
        writer.close()
    with closing(sqlite3.connect(tmp_path / "notes.db")) as other:
        assert notes(other) == sorted(acknowledged)
    with pytest.raises(StoreError, match="The store is closed"):
        writer(insert(1))


def test_closing_twice_is_closing_once(writer):
    writer.close()
    writer.close()


@pytest.mark.slow
def test_second_process_reads_only_and_says_so(tmp_path):
    path = tmp_path / "rgtg.db"
    code = """
from pathlib import Path
from rgtg.errors import StoreError
from rgtg.store.store import Store
from store_records import make_vote
store = Store(Path(sys.argv[1]))
print(store.num_votes(), store.read_only)
try:
    store.undo("c1")
except StoreError as error:
    print(error)
"""
    with Store(path) as store:
        store.add_comparison(make_comparison(), make_vote())
        with child(code, path) as second:
            said = second.stdout.read().splitlines()
        reason = "`rgtg.db` is read-only here: another process has it open for writing. Close that process and open it again."
        assert said == [f"1 {reason}", f"Nothing was stored. {reason}"]
        assert store.num_votes() == 1
    with Store(path) as again:
        assert again.read_only == ""


@pytest.mark.parametrize(
    ("content", "message"),
    [(b"", "It is an empty file"), (b"junk, not a database. " * 400, "file is not a database"), (b"short", "file is not a database")],
)
def test_a_file_that_is_no_database_is_refused_and_left_alone(tmp_path, content, message):
    path = tmp_path / "rgtg.db"
    path.write_bytes(content)
    for _ in range(2):  # the lock was let go
        with pytest.raises(StoreError, match=message):
            Store(path)
    assert path.read_bytes() == content
    assert sorted(found.name for found in tmp_path.iterdir()) == ["rgtg.db", "rgtg.db.lock"]


def test_database_cut_in_half_is_refused(tmp_path):
    path = tmp_path / "rgtg.db"
    Store(path).close()
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(StoreError, match="malformed"):
        Store(path)


def test_another_programs_database_is_refused_and_left_alone(tmp_path):
    path = tmp_path / "rgtg.db"
    with closing(sqlite3.connect(path)) as conn:
        conn.execute("CREATE TABLE bookmarks (url TEXT)")
        conn.execute("PRAGMA user_version=7")
    before = path.read_bytes()
    with pytest.raises(StoreError, match=r"is not a database of rgtg\. Its application id is 0x0, that of rgtg is 0x52475447"):
        Store(path)
    assert path.read_bytes() == before


def test_our_mark_without_our_tables_is_refused(tmp_path):
    path = tmp_path / "rgtg.db"
    with closing(sqlite3.connect(path)) as conn:
        conn.execute(f"PRAGMA application_id={APPLICATION_ID}")
        conn.execute("PRAGMA user_version=1")
    with pytest.raises(StoreError, match="no such table: meta"):
        Store(path)


def test_newer_database_is_read_only_and_both_versions_are_named(tmp_path):
    path = tmp_path / "rgtg.db"
    with Store(path) as store:
        store.add_comparison(make_comparison(), make_vote())
    with closing(sqlite3.connect(path)) as conn:
        conn.execute(f"PRAGMA user_version={newest() + 1}")
    with Store(path) as store:
        found = f"its schema is number {newest() + 1}, this rgtg knows {newest()}"
        assert store.read_only == f"`rgtg.db` is read-only here: it was written by a newer rgtg ({found}). Update rgtg to write."
        assert store.comparison("c1") == make_comparison()
        with pytest.raises(StoreError, match="written by a newer rgtg"):
            store.add_vote(make_vote("v2"))


def test_missing_database_beside_its_log_is_not_taken_for_a_fresh_one(tmp_path):
    (tmp_path / "rgtg.db-wal").write_bytes(b"votes of yesterday")
    with pytest.raises(StoreError, match=r"is missing but `rgtg\.db-wal` is there"):
        Store(tmp_path / "rgtg.db")


def test_a_leftover_of_a_killed_start_is_no_obstacle(tmp_path):
    (tmp_path / ".rgtg.db.0a1b2c3d.part").write_bytes(b"half made")
    with Store(tmp_path / "rgtg.db") as store:
        assert store.read_only == "" and store.num_votes() == 0


@pytest.mark.slow
def test_three_processes_starting_on_a_fresh_file_all_find_it_whole(tmp_path):
    code = """
from pathlib import Path
from rgtg.store.store import Store
sys.stdin.readline()
store = Store(Path(sys.argv[1]))
print(bool(store.read_only), store.num_votes(), flush=True)
sys.stdin.readline()
"""
    starters = [child(code, tmp_path / "fresh" / "rgtg.db") for _ in range(3)]
    for starter in starters:
        starter.stdin.write("go\n")
        starter.stdin.flush()
    said = sorted(starter.stdout.readline() for starter in starters)
    for starter in starters:
        starter.communicate("done\n")
    assert said == ["False 0\n", "True 0\n", "True 0\n"]
    assert [starter.returncode for starter in starters] == [0, 0, 0]


def test_kill_while_voting_loses_no_acknowledged_vote(tmp_path):
    path = tmp_path / "rgtg.db"
    acknowledged = killed_while_voting(path, "r0", 30)
    with Store(path) as store:
        assert store.read_only == ""
        found = {vote.id for vote in store.current_votes()}
        assert set(acknowledged) <= found and len(found) <= len(acknowledged) + 1
        assert store.num_comparisons() == len(found)  # none by half
        with reading(path) as conn:
            assert conn.execute("PRAGMA integrity_check").fetchone()[0] == "ok"
            assert conn.execute("PRAGMA foreign_key_check").fetchall() == []


@pytest.mark.slow
def test_a_fork_may_not_write(tmp_path):
    code = """
import os, warnings
from pathlib import Path
from rgtg.store.store import Store
warnings.simplefilter("ignore")
store = Store(Path(sys.argv[1]))
if os.fork() == 0:
    try:
        store.rater("local", "x")
    except RuntimeError as error:
        print(error, flush=True)
    os._exit(0)
os.wait()
store.close()
print("closed")
"""
    with child(code, tmp_path / "rgtg.db") as process:
        said = process.stdout.read().splitlines()
    assert said == ["the store cannot be written from a fork or from inside a task", "closed"]


def test_nobody_but_sqlite_opens_the_database():
    room = Path(__file__).resolve().parent.parent / "rgtg" / "store"
    for module in ("connection.py", "writer.py", "store.py", "queries.py", "schema.py", "rows.py"):
        source = (room / module).read_text(encoding="utf-8").replace("descriptor = os.open(path, os.O_RDONLY)", "")  # fsync of folders and copies
        for forbidden in (" open(", ".open(", "read_bytes", "write_bytes", "read_text", "write_text", "shutil", "file_digest"):
            assert forbidden not in source, f"{module} has {forbidden}"
