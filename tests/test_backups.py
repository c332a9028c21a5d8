import shutil
import sqlite3
import time
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from store_records import make_comparison, make_vote

from rgtg.errors import StoreError
from rgtg.store import backups as module
from rgtg.store.backups import Backup, Backups, backups, make_backup, restore, superfluous
from rgtg.store.connection import back_up
from rgtg.store.schema import newest
from rgtg.store.store import Store

NOON = datetime(2026, 11, 26, 12, 0, tzinfo=UTC)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "rgtg.db"


def vote(store: Store, *names: str) -> None:
    for name in names:
        store.add_comparison(make_comparison(name, "AB"), make_vote(f"v-{name}", name, "A", "AB"))


def test_restore_drill(path):
    """What was backed up is there again, what came later is set aside complete, with what was only in the -wal."""
    with Store(path) as store:
        vote(store, "c1", "c2")
        backup = make_backup(path, at=NOON)  # while it is open for writing
        vote(store, "c3")
        with pytest.raises(StoreError, match=r"`rgtg\.db` is in use\. Another process has it open for writing"):
            restore(path, backup.path)
        live = {suffix: path.with_name(path.name + suffix) for suffix in ("", "-wal", "-shm")}
        crashed = path.parent / "crashed"
        crashed.mkdir()
        for file in live.values():  # as a killed process leaves them
            shutil.copy(file, crashed / file.name)
    aside = restore(crashed / path.name, backup.path)
    with Store(crashed / path.name) as restored:
        assert [entry.id for entry in restored.history()] == ["c2", "c1"] and restored.num_votes() == 2
        assert len(list(restored.facts())) == 2  # every hash fits
        vote(restored, "c4")
    assert {file.name for file in aside.iterdir()} == {"rgtg.db", "rgtg.db-wal", "rgtg.db-shm"}
    with Store(aside / path.name) as before:
        assert before.num_votes() == 3


def test_a_restore_where_no_database_is_puts_the_backup_there(path, tmp_path):
    with Store(path) as store:
        vote(store, "c1")
    backup = make_backup(path, tmp_path / "elsewhere")
    assert restore(tmp_path / "new" / "rgtg.db", backup.path) is None
    with Store(tmp_path / "new" / "rgtg.db") as store:
        assert store.num_votes() == 1


def damaged(copy: Path) -> None:
    content = bytearray(copy.read_bytes())
    content[len(content) // 2 : len(content) // 2 + 8192] = bytes(8192)
    copy.write_bytes(content)


def newer(copy: Path) -> None:
    with closing(sqlite3.connect(copy)) as conn:
        conn.execute(f"PRAGMA user_version={newest() + 1}")


def foreign(copy: Path) -> None:
    copy.unlink()
    with closing(sqlite3.connect(copy)) as conn:
        conn.execute("CREATE TABLE bookmarks (url TEXT)")


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (damaged, "is damaged|cannot be read"),
        (lambda copy: copy.write_bytes(copy.read_bytes()[: copy.stat().st_size // 2]), "is damaged|cannot be read"),
        (lambda copy: copy.write_bytes(b""), "It is an empty file"),
        (lambda copy: copy.write_bytes(b"junk" * 1000), "cannot be read as a database"),
        (foreign, "is not a database of rgtg"),
        (newer, "was written by a newer rgtg"),
        (lambda copy: copy.unlink(), "There is no file"),
    ],
)
def test_a_bad_copy_is_refused_and_nothing_changes(path, tmp_path, spoil, message):
    with Store(path) as store:
        vote(store, "c1")
    copy = back_up(path, tmp_path / "copy.db")
    spoil(copy)
    with pytest.raises(StoreError, match=message):
        restore(path, copy)
    assert not list(tmp_path.glob("before-restore*")) and not list(tmp_path.glob(".*.part"))
    with Store(path) as store:
        assert store.num_votes() == 1


def test_a_copy_with_fewer_rows_is_no_backup(path, tmp_path, monkeypatch):
    with Store(path) as store:
        vote(store, "c1")
    monkeypatch.setattr("rgtg.store.connection.verify", lambda part, name: {"votes": 0})
    with pytest.raises(StoreError, match=r"is not complete\. `\w+` has 0 of"):
        make_backup(path)
    assert backups(tmp_path / "backups") == []


def test_a_full_disk_is_named_before_anything_is_written(path, tmp_path, monkeypatch):
    Store(path).close()
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: shutil._ntuple_diskusage(10, 9, 1))
    with pytest.raises(StoreError, match="0 MB are free"):
        make_backup(path)
    assert list((tmp_path / "backups").iterdir()) == []


def test_rotation_keeps_12_of_five_minutes_24_of_an_hour_and_14_of_a_day():
    made = [Backup(Path(str(i)), NOON - i * timedelta(minutes=5)) for i in range(12 * 24 * 20)]  # for 20 days
    kept = sorted({int(b.path.name) for b in made} - {int(b.path.name) for b in superfluous(made)})
    assert kept[:13] == [*range(12), 13], "a step of five minutes each, then the newest of an hour"
    assert len(kept) == 12 + (24 - 2) + (14 - 2)
    assert superfluous(made[:1]) == [] and superfluous([]) == []


def test_a_backup_every_five_minutes_if_something_changed_and_every_hundred_votes(path, monkeypatch):
    with Store(path) as store:
        kept = Backups(path, store.last_rows, poll_s=1000)
        now = time.monotonic()
        assert not kept.is_due(now + 10_000)  # nothing has changed
        vote(store, "c1")
        assert not kept.is_due(now + 200) and kept.is_due(now + 301)
        monkeypatch.setattr(module, "EVERY_VOTES", 3)
        vote(store, "c2")
        assert not kept.is_due(now + 5)
        vote(store, "c3")
        assert kept.is_due(now + 5)
        kept._back_up()
        assert kept.last.path.exists() and not kept.is_due(now + 10_000)
        kept.close()


def test_backups_are_made_in_the_background(path, monkeypatch):
    monkeypatch.setattr(module, "EVERY_VOTES", 1)
    monkeypatch.setattr(module, "POLL_S", 0.01)
    with Store(path, backups=True) as store:
        kept = store.backups
        vote(store, "c1")
        while kept.last is None:
            assert kept.error == ""
            time.sleep(0.01)
    assert not kept._thread.is_alive()
    assert [backup.path for backup in backups(path.parent / "backups")] == [kept.last.path]
