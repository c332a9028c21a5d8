"""A database that is deleted, replaced or overwritten under the running app: nothing is acknowledged that is not kept."""

import re
import shutil

import pytest
from store_records import make_comparison, make_vote

from rgtg.errors import StoreError
from rgtg.store import connection
from rgtg.store.store import Store

GONE = "The database is no longer in its place: `{}` was {} while rgtg had it open."


def lose(path, how):
    """What happens to a database while the app runs; the name of the file that is missing, and the words for it."""
    if how == "deleted":
        for file in path.parent.glob("rgtg.db*"):
            file.unlink()
        return "rgtg.db", "deleted or moved"
    if how == "its -wal deleted":
        path.with_name("rgtg.db-wal").unlink()
        return "rgtg.db-wal", "deleted or moved"
    if how == "its -wal emptied":
        path.with_name("rgtg.db-wal").open("w").close()
        return "rgtg.db-wal", "overwritten by another program"
    if how == "emptied":
        path.open("w").close()
        return "rgtg.db", "overwritten by another program"
    if how == "overwritten":
        with Store(path.with_name("other") / "rgtg.db") as other:
            other.add_comparison(make_comparison())
        shutil.copyfile(path.with_name("other") / "rgtg.db", path)
        return "rgtg.db", "overwritten by another program"
    if how == "its folder moved":
        path.parent.rename(path.parent.with_name("elsewhere"))
        return "rgtg.db", "deleted or moved"
    path.rename(path.with_name("old.db"))
    with Store(path.with_name("new") / "rgtg.db") as other:
        other.add_comparison(make_comparison())
    path.with_name("new").joinpath("rgtg.db").rename(path)
    return "rgtg.db", "replaced by another file"


@pytest.mark.parametrize("how", ["deleted", "its -wal deleted", "its folder moved", "replaced", "overwritten", "emptied", "its -wal emptied"])
def test_a_database_that_is_gone_thanks_for_nothing(tmp_path, how):
    path = tmp_path / "data" / "rgtg.db"
    with Store(path) as store:
        store.add_comparison(make_comparison())
        words = re.escape(GONE.format(*lose(path, how)))
        for verb in (lambda: store.add_vote(make_vote()), lambda: store.add_comparison(make_comparison("c2")), store.num_votes, store.jobs.jobs):
            with pytest.raises(StoreError, match=words):
                verb()


@pytest.mark.parametrize("how", ["deleted", "overwritten", "emptied"])
def test_a_database_that_goes_while_a_vote_is_written_thanks_for_nothing(tmp_path, how):
    path = tmp_path / "rgtg.db"
    with Store(path) as store:
        store.add_comparison(make_comparison())
        with pytest.raises(StoreError, match="is no longer in its place"):
            store._write(lambda conn: lose(path, how))


def test_what_rgtg_itself_brings_into_the_main_file_is_no_overwriting(tmp_path, monkeypatch):
    path = tmp_path / "rgtg.db"
    with Store(path) as store:
        before = path.stat().st_size
        for number in range(30):
            if number == 10:
                monkeypatch.setattr(connection, "CHECKPOINT_BYTES", 40_000)
            store.add_comparison(make_comparison(f"c{number}"))
            assert store.num_comparisons() == number + 1
        assert path.stat().st_size > before and path.with_name("rgtg.db-wal").stat().st_size < 200_000
        with connection.reading(path) as conn:  # a reader stands in the way of a checkpoint, which goes on without
            conn.execute("SELECT * FROM comparisons").fetchone()
            store.add_comparison(make_comparison("late"))
        lose(path, "overwritten")
        with pytest.raises(StoreError, match="overwritten by another program"):
            store.add_comparison(make_comparison("later"))


def test_a_reader_stays_where_the_writer_closes(tmp_path):
    path = tmp_path / "rgtg.db"
    with Store(path) as writer:
        writer.add_comparison(make_comparison(), make_vote())
        reader = Store(path)
    assert reader.read_only and reader.num_votes() == 1
