import shutil
import sqlite3
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest
from store_records import make_comparison, make_trace, make_vote

from rgtg.errors import BadSettings, UnknownRecord
from rgtg.records import ModelRef, Vote
from rgtg.store.history import EVERYTHING, HistoryFilter, history
from rgtg.store.store import Store


@pytest.fixture
def store(tmp_path):
    with Store(tmp_path / "rgtg.db") as store:
        yield store


def listed(store: Store, wanted: HistoryFilter = EVERYTHING, limit: int = 50, before: str | None = None) -> list[str]:
    return [entry.id for entry in store.history(wanted, limit, before)]


def found(store: Store, **wanted) -> list[str]:
    return listed(store, HistoryFilter(**wanted))


def add(store: Store, name: str, prompt: str, response: str = "", **changes) -> None:
    """A comparison with one answer of another run in B."""
    run = replace(make_trace("x", "A").run, **changes)
    traces = (make_trace(f"{name}-A", "A"), make_trace(f"{name}-B", "B", response, run=run))
    store.add_comparison(make_comparison(name, prompt=prompt, traces=traces))


def test_an_entry_has_the_beginning_of_each_answer_and_the_vote(store):
    run = replace(make_trace("x", "A").run, method="base", guides=())
    traces = (make_trace("c1-A", "A", "a" * 500, place=1), make_trace("c1-B", "B", "short", run=run, place=0))
    voted = store.add_comparison(make_comparison(traces=traces), make_vote(best="B", seen="AB"))
    other = store.rater("anonymous", "other")
    store.add_vote(make_vote("v2", best="A", seen="AB", rater_id=other))
    (entry,) = store.history(HistoryFilter(rater=voted.rater_id))
    (of_anyone,) = store.history()
    assert [(a.letter, a.method, a.models, a.text) for a in entry.answers] == [
        ("B", "base", ("base",), "short"),
        ("A", "pargs", ("base", "partial"), "a" * 200),
    ]
    assert (entry.vote.id, entry.best_letter, entry.num_votes, entry.prompt) == ("v1", "B", 2, "the food was")
    assert (of_anyone.vote.id, of_anyone.best_letter) == ("v2", "A")


def test_a_continued_answer_is_listed_once_as_it_goes_on(store):
    traces = (make_trace("c1-A", "A", "begun", stop_reason="stopped"), make_trace("c1-B", "B"))
    store.add_comparison(make_comparison(traces=traces))
    store.add_trace("c1", make_trace("c1-A2", "A", "begun and ended", parent_trace_id="c1-A", branch_position=2))
    (entry,) = store.history()
    assert [(a.letter, a.text) for a in entry.answers] == [("A", "begun and ended"), ("B", " answer c1-B")]


def test_pages_follow_one_another(store):
    for i in range(7):
        store.add_comparison(make_comparison(f"c{i}", "AB"))
    assert listed(store, limit=3) == ["c6", "c5", "c4"]
    assert listed(store, limit=3, before="c4") == ["c3", "c2", "c1"]
    assert listed(store, HistoryFilter(search="food"), 3, "c1") == ["c0"]
    with pytest.raises(UnknownRecord):
        listed(store, before="c9")


@pytest.mark.parametrize(
    ("search", "ids"),
    [
        ("pasta", ["c1"]),
        ("terrib", ["c2"]),  # the beginning of a word
        ("pasta terrible", []),
        ("soup TERRIBLE", ["c2"]),  # one in the prompt, one in an answer
        ('"onion soup"', ["c2"]),
        ('"soup onion"', []),
        ("creme brulee", ["c3"]),
        ("crème", ["c3"]),
        ("don't", ["c3"]),
        ('AND NOT ( * "', []),  # no syntax of the index
        ("answer:soup", []),
        ("!?", []),
        ("", ["c3", "c2", "c1"]),
        ("日本", ["c3"]),
    ],
)
def test_words_are_searched_in_prompts_and_answers(store, search, ids):
    add(store, "c1", "the pasta", "fine")
    add(store, "c2", "the onion soup", "it was terrible")
    add(store, "c3", "the Crème brûlée", "I don't know 日本語")
    assert found(store, search=search) == ids


def test_a_branch_is_searched_too(store):
    store.add_comparison(make_comparison(columns="AB"))
    store.add_trace("c1", make_trace("c1-C", "C", "another ending", parent_trace_id="c1-A", branch_position=1))
    assert found(store, search="ending") == ["c1"] and found(store, search="food ending") == ["c1"]


def test_methods_models_owners_and_dates_filter(store):
    rater = store.rater("anonymous", "someone")
    add(store, "c1", "one", method="base", guides=())
    add(store, "c2", "two", guides=((ModelRef("full"), 1.0), (ModelRef("short"), 2.0)))
    store.add_comparison(make_comparison("c3", "AB", rater_id=rater, created_at="2026-11-05T10:00:00.000+00:00"))
    assert found(store, method="base") == ["c1"] and found(store, method="pargs") == ["c3", "c2", "c1"]
    assert found(store, model="short") == ["c2"] and found(store, model="base") == ["c3", "c2", "c1"]
    assert found(store, model="full", method="base") == []
    assert found(store, made_by=rater) == ["c3"] and found(store, made_by=rater, search="food") == ["c3"]
    assert found(store, since="2026-11-05") == ["c3"] == found(store, since="2026-11-03", until="2026-11-05")
    assert found(store, until="2026-11-04") == ["c2", "c1"] and found(store, since="2027") == []
    with pytest.raises(BadSettings, match="is no date"):
        found(store, since="yesterday")
    assert store.facet_names() == {"method": ("base", "pargs"), "model": ("base", "full", "partial", "short")}


def test_voted_follows_the_votes_that_stand(store):
    other = store.rater("anonymous", "other")
    for name in ("c1", "c2", "c3"):
        store.add_comparison(make_comparison(name, "AB"))
    mine = store.add_vote(make_vote("v1", "c1", "A", "AB"))
    store.add_vote(make_vote("v2", "c2", "A", "AB", rater_id=other))
    store.add_vote(Vote("v3", "c3", "skip"))
    assert found(store, voted=True) == ["c2", "c1"] and found(store, voted=False) == ["c3"]
    assert found(store, voted=True, rater=other) == ["c2"] and found(store, voted=False, rater=other) == ["c3", "c1"]
    store.add_vote(make_vote("v4", "c1", None, "AB", rater_id=other))
    store.undo("c1", mine.rater_id)
    assert found(store, voted=True) == ["c2", "c1"]  # the other one's stands
    store.undo("c1", other)
    assert found(store, voted=True) == ["c2"] and found(store, voted=True, rater=mine.rater_id) == []


def test_an_earlier_database_is_indexed_when_it_is_opened(tmp_path):
    path = tmp_path / "rgtg.db"
    shutil.copy(Path(__file__).parent / "golden" / "store-schema-1.sqlite3", path)
    with closing(sqlite3.connect(path)) as conn:
        prompts = [prompt for (prompt,) in conn.execute("SELECT prompt FROM comparisons ORDER BY seq DESC")]
        num_voted = conn.execute("SELECT count(DISTINCT comparison_id) FROM current_votes WHERE verdict <> 'skip'").fetchone()[0]
    with Store(path) as store:
        entries = store.history()
        assert [entry.prompt for entry in entries] == prompts
        assert len(found(store, voted=True)) == num_voted
        for entry in entries:
            assert entry.id in found(store, search=entry.prompt)
            for answer in entry.answers:
                assert entry.id in found(store, method=answer.method)
                assert all(entry.id in found(store, model=model) for model in answer.models)


def test_no_page_of_the_list_reads_steps(store):
    store.add_comparison(make_comparison(), make_vote())
    read: set[tuple[str, str]] = set()

    def note(action, table, column, *_):
        read.add((table, column))
        return sqlite3.SQLITE_OK

    with store._reading() as conn:
        conn.set_authorizer(note)
        history(conn, HistoryFilter(search="food", method="pargs", voted=True, since="2026"))
        history(conn)
    assert {column for table, column in read if table == "traces"} - {""} == {"seq", "id", "comparison_id", "column", "place", "run", "response"}
