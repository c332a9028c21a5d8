"""Votes copied out and restored, against a stand-in for the Hub that speaks HTTP: nothing that was acknowledged and pushed is lost."""

import json
import sqlite3
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest
from dataset_hub import running_hub
from store_records import VOTING_CHILD, child, make_comparison, make_trace, make_vote

from rgtg.errors import StoreError
from rgtg.records import Span
from rgtg.store.connection import open_store
from rgtg.store.copies import copying as module
from rgtg.store.copies.copying import OUT, Copying
from rgtg.store.copies.dataset import VotesDataset
from rgtg.store.copies.journal import NOT_JOURNALED, Journal, journaled
from rgtg.store.copies.replay import replay
from rgtg.store.copies.restoring import Restored, copies_in
from rgtg.store.schema import TABLES, migrate
from rgtg.store.store import Store
from rgtg.store.writer import Writer


@pytest.fixture
def hub(monkeypatch):
    with running_hub() as server:
        monkeypatch.setenv("HF_ENDPOINT", server.url)
        monkeypatch.setenv("HF_TOKEN", "hf_of_ann")
        yield server


ADD = "INSERT INTO events (id, created_at, kind, detail) VALUES (?, 'now', 'k', '{}')"


@pytest.fixture
def journal(tmp_path):
    conn = open_store(tmp_path / "rgtg.db").conn
    journal = Journal(tmp_path / OUT, conn, own_key=False)
    yield conn, journal
    conn.close()


def opened(folder: Path, secret: str = "secret") -> Store:
    """The store of a server whose disk is a folder."""
    return Store(folder / "rgtg.db", secret, votes_dataset="ann/votes")


def waited_for(holds: Callable[[], bool]) -> bool:
    deadline = time.monotonic() + 30
    while not holds() and time.monotonic() < deadline:
        time.sleep(0.01)
    return holds()


def pushed(store: Store) -> None:
    """Wait until everything is copied out, and forgotten that was erased."""

    def is_out() -> bool:
        state = store.copying.state
        out = not state.num_waiting and state.copied_at is not None and not state.erasing
        if not out:
            store.copying.soon()
        return out

    assert waited_for(is_out), store.copying.state


def everything(store: Store) -> dict[str, list]:
    """All rows of what people made, without their numbers."""
    with store._reading() as conn:
        return {table: [tuple(row)[1:] for row in conn.execute(f"SELECT * FROM {table} ORDER BY id")] for table in journaled(conn)}


def use(store: Store) -> None:
    """One of each: votes, a revision, a withdrawal, marks, a branch, an exclusion, consent, a flag."""
    rater = store.rater("oauth", "ann")
    store.add_comparison(make_comparison("c1", "AB"), make_vote("v1", "c1", "A", "AB"))
    store.add_vote(make_vote("v2", "c1", "B", "AB"))
    store.undo("c1", vote_id="v3")
    store.add_trace("c1", make_trace("c1-C", "C", parent_trace_id="c1-A", branch_position=1))
    store.add_mark(Span("m1", "c1-A", 0, 1, "good", rater))
    store.annotation.consent(rater)
    store.annotation.flag("v1", "broken")
    store.exclude("v2", "typed by mistake")
    store.add_event("export")


def test_votes_outlive_the_disk_by_the_journal_alone(hub, tmp_path):
    with opened(tmp_path / "first") as store:
        use(store)
        pushed(store)
        before, token, rater = everything(store), store.token("c1"), store.rater("oauth", "ann")
        hub.files = {path: content for path, content in hub.files.items() if path.startswith("journal/")}
    assert (hub.made[0].get("private") is True or hub.made[0].get("visibility") == "private") and set(hub.authorised) == {"Bearer hf_of_ann"}
    with opened(tmp_path / "second") as store:
        assert everything(store) == before and before["votes"] and before["marks"] and before["vote_flags"]
        assert store.known_rater("oauth", "ann") == rater and store.token("c1") == token
        assert len([*store.facts()]) == 1, "every hash fits"
        assert store.num_votes() == 1 and store.annotation.consent_of(rater)
        store.add_vote(make_vote("v9", "c1", "B", "AB", rater_id=rater))


@pytest.mark.slow
def test_a_copy_and_what_the_journal_says_since_give_the_same_database_again_and_again(hub, tmp_path):
    last: tuple = ()
    for number in range(4):
        with opened(tmp_path / str(number), secret="") as store:
            if number == 0:
                use(store)
            else:
                assert (everything(store), store.known_rater("oauth", "ann"), store.token("c1")) == last
            store.add_comparison(make_comparison(f"n{number}", "AB"), make_vote(f"w{number}", f"n{number}", "A", "AB"))
            pushed(store)
            last = everything(store), store.known_rater("oauth", "ann"), store.token("c1")
    assert len(copies_in(dict.fromkeys(hub.files, 0))) == 3, "the first start has nothing to copy, each other one copies what it found"
    assert json.loads(next(c for p, c in hub.files.items() if p.startswith("journal/")).splitlines()[0])["rater_key"]


@pytest.mark.slow
def test_a_line_that_cannot_be_read_is_kept_and_said_and_the_others_count(hub, tmp_path):
    with opened(tmp_path / "first") as store:
        use(store)
    (path,) = (path for path in hub.files if path.startswith("journal/"))
    hub.files[path] = hub.files[path].replace(b"typed by mistake", b"typed by\x00mistake", 1) + b'{"at": "2026'
    with opened(tmp_path / "second") as store:
        assert "1 damaged" in store.copying.state.problem and store.num_votes() == 1 and store.exclusions() == {}
        pushed(store)
        assert waited_for(lambda: not store.copying._tidy_after) and path in hub.files and len(copies_in(dict.fromkeys(hub.files, 0))) == 1


@pytest.mark.slow
def test_what_newer_copies_have_is_removed_and_what_they_lack_stays(hub, tmp_path, monkeypatch):
    monkeypatch.setattr(module, "SEGMENT_BYTES", 1)
    with opened(tmp_path) as store:
        for number in range(6):
            store.add_comparison(make_comparison(f"n{number}", "AB"), make_vote(f"w{number}", f"n{number}", "A", "AB"))
            with store.copying._journal.lock:
                store.copying._journal.begin_file()
            pushed(store)
            assert waited_for(lambda: not store.copying._tidy_after)
        journals = [path for path in hub.files if path.startswith("journal/")]
        assert len(copies_in(dict.fromkeys(hub.files, 0))) == 3 and 1 <= len(journals) <= 3
        last = everything(store)
    for copy in copies_in(dict.fromkeys(hub.files, 0))[:1]:
        hub.files[copy] = hub.files[copy][:5000]  # the newest is damaged
    with opened(tmp_path / "again") as store:
        assert everything(store) == last


def test_an_erasure_reaches_copies_journals_and_their_history(hub, tmp_path):
    with opened(tmp_path / "first") as store:
        ann, bob = store.rater("oauth", "ann"), store.rater("oauth", "bob")
        secret = make_vote("v1", "c1", "A", "AB", rater_id=ann, comment="what ann said")
        store.add_comparison(make_comparison("c1", "AB"), secret)
        store.add_vote(make_vote("v2", "c1", "A", "AB", rater_id=bob, comment="what bob said"))
        pushed(store)
        hub.large = ["an old copy"]
        assert any(b"what ann said" in content for content in hub.history)
        store.annotation.erase(ann)
        assert waited_for(lambda: not store.copying.state.erasing), "at once, not at the next push"
        assert not any(b"what ann said" in content for content in [*hub.history, *hub.files.values()]) and hub.large == []
        assert not any(b"what ann said" in file.read_bytes() for file in (tmp_path / "first" / "copied-out").rglob("*") if file.is_file())
        assert any(b"what bob said" in content for content in hub.files.values())
    with opened(tmp_path / "second") as store:
        assert [vote.id for vote in store.votes("c1")] == ["v2"] and store.num_votes() == 1


def test_an_erasure_is_replayed_from_the_journal(hub, tmp_path):
    with opened(tmp_path / "first") as store:
        store.add_comparison(make_comparison("c1", "AB"), make_vote("v1", "c1", "A", "AB", rater_id=store.rater("oauth", "ann")))
        files = []
        store.annotation.erase(store.rater("oauth", "ann"))
        files = [path.read_bytes() for path in (tmp_path / "first").rglob("*.jsonl")]
        left = everything(store)
    (tmp_path / "j.jsonl").write_bytes(files[0])
    conn = open_store(tmp_path / "second.db").conn
    with closing(conn):
        assert replay(conn, [tmp_path / "j.jsonl"]).left_out == {}
        assert left["votes"] == [] and conn.execute("SELECT count(*) FROM votes").fetchone()[0] == 0
        assert conn.execute("SELECT value FROM meta WHERE key = 'num_votes'").fetchone()[0] == "0"
        with pytest.raises(sqlite3.IntegrityError, match="facts"):
            conn.execute("DELETE FROM traces")


def test_copying_that_fails_is_tried_again_and_said(hub, tmp_path):
    hub.status = 403
    with opened(tmp_path) as store:
        assert "could not be fetched" in store.copying.state.problem
        use(store)
        state = store.copying.state
        hour = state.waiting_since + 3600
        assert state.num_waiting > 5 and state.copied_at is None and state.is_late(hour) and not state.is_late(state.waiting_since + 60)
        hub.status = 0
        store.copying._start()
        pushed(store)
        assert not store.copying.state.is_late(hour) and store.copying.state.error == ""
        hub.status = 403
        store.add_event("one more")
        store.copying.soon().exception()
        assert "could not be copied" in store.copying.state.error and store.copying.state.num_waiting == 1
        assert store.copying.state.waiting_since is not None
        hub.status = 0
        pushed(store)
        assert [path for path in hub.files if path.startswith("copies/")] == [], "a copy of this database would hide the votes that were not fetched"


def test_the_scheduler_tries_again_by_itself(hub, journal, tmp_path):
    conn, journal = journal
    writer, hub.exists = Writer(conn, noting=journal.noting), True
    copying = Copying(tmp_path / "rgtg.db", journal, VotesDataset("ann/votes"), writer, Restored(), every_min=0.002)
    assert waited_for(lambda: copying.state.copied_at is not None)
    hub.status = 403
    writer(lambda conn: conn.execute(ADD, ("a",)))
    assert waited_for(lambda: copying.state.error) and copying.state.num_waiting == 1
    hub.status = 0
    assert waited_for(lambda: copying.state.num_waiting == 0) and copying.state.error == ""
    assert any(b'"id":"a"' in content for content in hub.files.values())
    writer.close()
    copying.close()


@pytest.mark.slow
def test_a_server_that_could_not_fetch_its_votes_is_joined_with_them_at_the_next_start(hub, tmp_path):
    with opened(tmp_path / "first") as store:
        use(store)
    assert hub.files
    hub.status = 403
    with opened(tmp_path / "second") as store:
        assert store.num_votes() == 0
        store.add_comparison(make_comparison("c2", "AB"), make_vote("w", "c2", "A", "AB", rater_id=store.rater("oauth", "ann")))
        hub.status = 0
        store.copying._start()
        pushed(store)
    with opened(tmp_path / "third") as store:
        assert store.num_votes() == 2 and store.copying.state.problem == ""
        ann = store.known_rater("oauth", "ann")
        assert [vote.rater_id for vote in store.votes("c2")] == [ann] and store.annotation.consent_of(ann), "one person, two raters, now one"
        assert len([*store.facts()]) == 2


@pytest.mark.slow
def test_of_a_server_that_is_killed_only_what_it_said_is_lost(hub, tmp_path):
    with opened(tmp_path / "first") as store:
        use(store)
        pushed(store)
        copied = dict(hub.files)
        for name in ("n1", "n2"):
            store.add_comparison(make_comparison(name, "AB"), make_vote(f"v-{name}", name, "A", "AB"))
        assert store.copying.state.num_waiting == 2 and store.copying.state.waiting_since is not None
        assert store.num_votes() == 3
    hub.files = copied  # as if it had never come to its last push
    with opened(tmp_path / "second") as store:
        assert store.num_votes() == 1 and store.copying.state.problem == ""


@pytest.mark.slow
def test_what_a_killed_server_acknowledged_is_in_its_journal(hub, tmp_path):
    code = VOTING_CHILD.replace("Store(Path(sys.argv[1]))", "Store(Path(sys.argv[1]), votes_dataset='ann/votes')")
    for number in range(3):
        folder, hub.files = tmp_path / str(number), {}  # each from nothing
        with child(code, folder / "rgtg.db", f"r{number}") as process:
            acknowledged = [process.stdout.readline().strip() for _ in range(40 + number)]
            process.kill()
            acknowledged += [line for line in process.stdout.read().split("\n")[:-1] if line]
        files = [*(folder / OUT / "journal").glob("*.jsonl")]
        with closing(open_store(tmp_path / f"{number}.db").conn) as conn:
            assert {*replay(conn, files, is_new=True).left_out} <= {"unfinished"}
            assert {*acknowledged} <= {row["id"] for row in conn.execute("SELECT id FROM votes")} and len(acknowledged) >= 40
        with Store(folder / "rgtg.db") as store:
            assert store.num_votes() >= len(acknowledged)


@pytest.mark.slow
def test_a_server_error_is_waited_for_and_does_not_keep_the_app_from_starting(hub, tmp_path):
    hub.status = 503
    start = time.monotonic()
    with opened(tmp_path) as store:
        use(store)
        assert store.num_votes() == 1 and time.monotonic() - start < 60


def test_a_public_dataset_gets_nothing(hub, tmp_path):
    hub.private, hub.exists = False, True
    with opened(tmp_path) as store:
        use(store)
        assert waited_for(lambda: "is public" in store.copying.state.error)
    assert hub.files == {}


def test_without_a_dataset_there_is_no_journal(tmp_path):
    with Store(tmp_path / "rgtg.db") as store:
        use(store)
        assert store.copying is None and store._write(lambda conn: conn.execute("SELECT count(*) FROM sqlite_temp_master").fetchone()[0]) == 0
    assert not (tmp_path / "copied-out").exists()


def written(journal: Journal) -> list[dict]:
    return [json.loads(line) for path in sorted(journal.folder.glob("*.jsonl")) for line in path.read_bytes().splitlines()]


def test_what_a_caller_was_told_is_in_the_journal_and_what_failed_is_not(journal):
    conn, journal = journal
    writer = Writer(conn, noting=journal.noting)
    writer(lambda conn: conn.execute(ADD, ("a",)))
    with pytest.raises(StoreError):
        writer(lambda conn: (conn.execute(ADD, ("b",)), conn.execute(ADD, ("a",))))  # refused by the second
    before = journal.path.stat().st_size

    def fails_to_commit(conn: sqlite3.Connection) -> None:
        conn.execute("PRAGMA defer_foreign_keys = ON")
        conn.execute(
            "INSERT INTO marks (id, created_at, trace_id, rater_id, start, \"end\", label, row_sha256) VALUES ('m','','x','y',0,1,'good','')"
        )

    with pytest.raises(StoreError, match="FOREIGN KEY"):
        writer(fails_to_commit)
    assert journal.path.stat().st_size == before, "its line was cut off"
    writer(lambda conn: conn.execute(ADD, ("c",)))
    assert [[change[2]["id"] for change in line["changes"]] for line in written(journal)[1:]] == [["a"], ["c"]]
    writer.close()


def test_a_vote_that_the_journal_cannot_take_is_not_stored(journal):
    conn, journal = journal
    journal.path = journal.folder / "gone" / "x.jsonl"
    writer = Writer(conn, noting=journal.noting)
    with pytest.raises(StoreError):
        writer(lambda conn: conn.execute(ADD, ("a",)))
    assert writer(lambda conn: conn.execute("SELECT count(*) FROM events").fetchone()[0]) == 0
    writer.close()


def test_a_journal_goes_on_in_a_new_file_and_lines_are_replayed_once(journal, tmp_path, monkeypatch):
    monkeypatch.setattr("rgtg.store.copies.journal.SEGMENT_BYTES", 1000)
    conn, journal = journal
    writer = Writer(conn, noting=journal.noting)
    for number in range(30):
        writer(lambda conn, number=number: conn.execute(ADD, (str(number),)))
    writer.close()
    files = sorted(journal.folder.iterdir())
    assert len(files) > 3 and max(file.stat().st_size for file in files) <= 1300
    with files[-1].open("ab") as file:
        file.write(b'{"at": "2026", "changes": [["insert", "eve')  # killed while it wrote
    files[0].write_bytes(files[0].read_bytes().replace(b'"kind":"k"', b'"kind":{"', 1))
    with closing(open_store(tmp_path / "new.db").conn) as new:
        first, second = replay(new, files), replay(new, files)
        assert first.num_rows == 29 and first.left_out == {"damaged": 1, "unfinished": 1}
        assert second.num_lines == 0 and new.execute("SELECT count(*) FROM events").fetchone()[0] == 29
        found = [int(row[0]) for row in new.execute("SELECT id FROM events ORDER BY seq")]
        assert found == sorted(found) and len(found) == 29, "in the order in which they were written"


def test_a_journal_of_a_newer_rgtg_is_refused(tmp_path):
    (tmp_path / "j.jsonl").write_text(json.dumps({"journal": 1, "schema": 999, "number": 1, "at": ""}) + "\n")
    with closing(open_store(tmp_path / "rgtg.db").conn) as conn, pytest.raises(StoreError, match="newer rgtg"):
        replay(conn, [tmp_path / "j.jsonl"])


def test_every_table_is_in_the_journal_or_says_why_not():
    with closing(sqlite3.connect(":memory:")) as conn:
        conn.row_factory = sqlite3.Row
        migrate(conn)
        assert {*journaled(conn), *NOT_JOURNALED} == {*TABLES, "_sqlite_migrations"}
