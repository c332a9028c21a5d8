import sqlite3
from contextlib import closing
from dataclasses import replace

import pytest
from sqlite_utils import Migrations
from store_records import make_comparison, make_vote

from rgtg.errors import StoreError
from rgtg.records import Span
from rgtg.store.connection import back_up, identify, open_store
from rgtg.store.queries import count
from rgtg.store.schema import APPLICATION_ID, INDEXES, TABLES, m001_first_schema, migrate, migrations, newest
from rgtg.store.store import Store


@pytest.fixture
def store(tmp_path):
    with Store(tmp_path / "rgtg.db") as store:
        yield store


@pytest.fixture
def conn(store):
    """A second connection, as a program that knows nothing of our rules would have."""
    with closing(sqlite3.connect(store.path)) as conn:
        conn.execute("PRAGMA foreign_keys=ON")
        yield conn


def next_schema(raising: bool = False) -> Migrations:
    known = Migrations("rgtg")
    for migration in migrations._migrations:
        known(name=migration.name)(migration.fn)

    @known()
    def add_mood(db):
        db.execute("ALTER TABLE votes ADD COLUMN mood TEXT")
        if raising:
            raise RuntimeError("half way")

    return known


def columns(conn, table):
    return [row[1] for row in conn.execute(f"PRAGMA table_info({table})")]


def test_table_list_is_the_expected_one(conn):
    found = conn.execute("SELECT name FROM sqlite_master WHERE type = 'table' ORDER BY name").fetchall()
    assert [name for (name,) in found] == sorted([*TABLES, *INDEXES, "_sqlite_migrations"])
    assert conn.execute("SELECT name FROM sqlite_master WHERE type = 'view'").fetchall() == [("current_votes",)]


def test_every_table_is_strict_and_has_seq_id_and_time(conn):
    strict = {row[1]: row[5] for row in conn.execute("PRAGMA table_list")}
    assert {table: strict[table] for table in TABLES} == dict.fromkeys(TABLES, 1)
    for table in TABLES:
        assert columns(conn, table)[:3] == ["seq", "id", "created_at"]


def test_file_says_whose_it_is(conn):
    assert conn.execute("PRAGMA application_id").fetchone() == (APPLICATION_ID,)
    assert conn.execute("PRAGMA user_version").fetchone() == (newest(),)
    assert conn.execute("SELECT value FROM meta WHERE key = 'genesis'").fetchone() == ('{"app": "rgtg", "schema": 1}',)


@pytest.mark.parametrize("table", ["votes", "traces", "marks"])
@pytest.mark.parametrize("change", ["UPDATE {} SET created_at = ''", "DELETE FROM {}"])
def test_facts_refuse_update_and_delete(store, conn, table, change):
    store.add_comparison(make_comparison(), make_vote())
    store.add_mark(Span("m1", "c1-A", 0, 1, "bad"))
    with pytest.raises(sqlite3.IntegrityError, match=f"{table} are facts"):
        conn.execute(change.format(table))


def insert_vote(conn, **changes):
    rater = conn.execute("SELECT id FROM raters").fetchone()[0]
    row = {"id": "v9", "created_at": "", "comparison_id": "c1", "rater_id": rater, "revision": 9, "verdict": "best", "best_trace_id": "c1-A"}
    row |= {"seen_trace_ids": "[]", "reasons": "[]", "row_sha256": ""} | changes
    conn.execute(f"INSERT INTO votes ({', '.join(row)}) VALUES ({', '.join('?' * len(row))})", tuple(row.values()))


def test_vote_that_breaks_no_rule_is_taken(store, conn):
    store.add_comparison(make_comparison(), make_vote())
    insert_vote(conn)


@pytest.mark.parametrize(
    "changes",
    [
        {"verdict": "tie"},  # names a best answer
        {"best_trace_id": None},  # `best` names none
        {"best_trace_id": "c2-A"},  # another comparison's
        {"verdict": "left"},
        {"strength": 4},
        {"dwell_ms": -1},
        {"revision": 1},  # taken
        {"rater_id": "nobody"},
        {"seen_trace_ids": "["},
        {"comparison_id": "c9"},
    ],
)
def test_schema_itself_refuses_a_wrong_vote(store, conn, changes):
    store.add_comparison(make_comparison(), make_vote())
    store.add_comparison(make_comparison("c2"))
    with pytest.raises(sqlite3.IntegrityError):
        insert_vote(conn, **changes)


def test_one_active_job_a_device(conn):
    sql = "INSERT INTO jobs (id, created_at, kind, state, device, config) VALUES (?, '', 'train', ?, ?, '{}')"
    conn.execute(sql, ("j1", "running", "cpu"))
    conn.execute(sql, ("j2", "queued", "cpu"))
    conn.execute(sql, ("j3", "running", "cuda"))
    with pytest.raises(sqlite3.IntegrityError):
        conn.execute(sql, ("j4", "cancelling", "cpu"))


def test_letters_go_to_l_and_no_further(store):
    store.add_comparison(make_comparison(columns="ABL"))
    beyond = replace(make_comparison().traces[0], id="m", column="M")
    with pytest.raises(StoreError):
        store.add_comparison(make_comparison("c2", traces=(beyond,)))


def test_older_database_is_backed_up_and_migrated(tmp_path):
    path = tmp_path / "rgtg.db"
    with Store(path) as store:
        store.add_comparison(make_comparison(), make_vote())
    opened = open_store(path, next_schema())
    assert "mood" in columns(opened.conn, "votes")
    assert opened.conn.execute("PRAGMA foreign_keys").fetchone()[0] == 1
    opened.conn.close()
    opened.lock.release()
    assert identify(path, next_schema()) == newest() + 1
    (backup,) = tmp_path.glob(f"rgtg.v{newest()}.*.db")
    assert identify(backup) == newest()
    with Store(backup) as before:
        assert before.num_votes() == 1


def test_rows_written_before_a_migration_keep_their_hash(tmp_path):
    path = tmp_path / "rgtg.db"
    with Store(path) as store:
        store.add_comparison(make_comparison(), make_vote())
    opened = open_store(path, next_schema())
    opened.conn.close()
    opened.lock.release()
    with Store(path) as newer:
        assert [len(votes) for _, votes in newer.facts()] == [1]


def test_migration_that_raises_halfway_changes_nothing(tmp_path):
    path = tmp_path / "rgtg.db"
    Store(path).close()
    with pytest.raises(
        StoreError, match=rf"could not be brought to schema {newest() + 1}\. Found: half way\. It is as before; a copy is `rgtg\.v{newest()}\."
    ):
        open_store(path, next_schema(raising=True))
    with Store(path) as store, closing(sqlite3.connect(path)) as conn:
        assert store.read_only == ""
        assert "mood" not in columns(conn, "votes")


def test_migrating_twice_is_migrating_once(tmp_path):
    with closing(sqlite3.connect(tmp_path / "twice.db")) as conn:
        migrate(conn)
        migrate(conn)
        found = [name for (name,) in conn.execute("SELECT name FROM _sqlite_migrations")]
        assert len(found) == newest() and found[:2] == ["m001_first_schema", "m002_counts"]


def first_schema(path):
    """A database as the first schema has it, with two comparisons, and votes by two raters: one stands, one changed, one was withdrawn."""
    known = Migrations("rgtg")
    known(name="m001_first_schema")(m001_first_schema)
    opened = open_store(path, known)
    for name in ("c1", "c2"):
        row = (name, "hi", "", "closed", "manual", 0)
        opened.conn.execute(
            "INSERT INTO comparisons (id, created_at, prompt, prompt_sha256, state, pair_rule, blind) VALUES (?, '', ?, ?, ?, ?, ?)", row
        )
    for rater in ("r1", "r2"):
        opened.conn.execute("INSERT INTO raters (id, created_at, kind, subject_hmac) VALUES (?, '', 'local', ?)", (rater, rater))
    votes = [("c1", "r1", 1, "tie"), ("c1", "r1", 2, "skip"), ("c1", "r2", 1, "tie"), ("c2", "r2", 1, "tie"), ("c2", "r2", 2, "withdrawn")]
    for number, vote in enumerate(votes):
        sql = (
            "INSERT INTO votes (id, created_at, comparison_id, rater_id, revision, verdict, seen_trace_ids, reasons, row_sha256) "
            "VALUES (?, '', ?, ?, ?, ?, '[]', '[]', '')"
        )
        opened.conn.execute(sql, (f"v{number}", *vote))
    opened.conn.commit()
    opened.conn.close()
    opened.lock.release()


def test_a_database_of_the_first_schema_gets_its_counts(tmp_path):
    first_schema(tmp_path / "rgtg.db")
    with Store(tmp_path / "rgtg.db") as store:
        assert (store.num_comparisons(), store.num_votes()) == (2, 1), "the vote that became a skip is none"
        store.add_vote(make_vote("new", "c2", best=None, seen="", verdict="skip"))
        assert store.num_votes() == 1


def test_a_database_of_the_first_schema_that_may_not_be_written_is_counted(tmp_path):
    first_schema(tmp_path / "rgtg.db")
    with closing(sqlite3.connect(tmp_path / "rgtg.db")) as conn:
        assert (count(conn, "num_comparisons", "comparisons"), count(conn, "num_votes", "current_votes")) == (2, 2)


def test_a_vote_below_the_newest_revision_changes_no_count(store, conn):
    store.add_comparison(make_comparison(), make_vote())
    insert_vote(conn, id="late", revision=9, verdict="withdrawn", best_trace_id=None)
    insert_vote(conn, id="later", revision=5)
    conn.commit()
    assert store.num_votes() == 0 == len(store.current_votes())


def test_backup_has_the_last_vote(store, tmp_path):
    store.add_comparison(make_comparison(), make_vote())
    copy = back_up(store.path, tmp_path / "copy.db")
    with Store(copy) as copied:
        assert copied.num_votes() == 1
        assert copied.comparison("c1") == make_comparison()
