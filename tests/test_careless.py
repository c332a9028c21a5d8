"""Marks of careless raters, and the snapshots that leave their votes out."""

import json
from pathlib import Path

import pytest
from store_records import make_comparison, make_vote

from rgtg.errors import BadSettings
from rgtg.ratings.careless import Cast, conduct, is_too_quick, least_reading_ms, left_out
from rgtg.store.annotation.sifting import snapshot_of
from rgtg.store.export import export_preferences
from rgtg.store.store import Store
from rgtg.workbench.report.results import as_json, results_of, sentences
from rgtg.workbench.voting.marks import RaterMarks


def casts(rater: str, number: int, **fields) -> list[Cast]:
    """Careful votes, of which the better side is now left and now right, with these fields."""
    known = {"verdict": "best", "num_chars": 200, "dwell_ms": 9_000, "blind": True}
    return [Cast(f"{rater}{i}", rater, f"c{i}", **known | {"best": i % 2} | fields) for i in range(number)]


@pytest.mark.parametrize(
    ("fields", "marks"),
    [
        ({}, {}),
        ({"best": 1}, {"same_side": "20 of 20"}),
        ({"best": 1, "blind": False}, {}),  # columns of Compare stand in an order of their own
        ({"best": 2, "num_answers": 3}, {}),
        ({"dwell_ms": 200}, {"too_quick": "20 of 20"}),
        ({"dwell_ms": None}, {}),
        ({"verdict": "skip", "best": None, "dwell_ms": 1}, {}),
        ({"better": 0}, {"gold": "10 of 20"}),
        ({"better": 0, "best": 0}, {}),
        ({"better": 0, "best": None, "verdict": "tie"}, {"gold": "20 of 20"}),
    ],
)
def test_what_marks_a_rater(fields, marks):
    assert conduct(casts("ann", 20, **fields))["ann"].marks == marks


def test_a_few_votes_mark_nobody():
    assert conduct(casts("ann", 9, best=1))["ann"].marks == {} and conduct(casts("ann", 2, better=1, best=0))["ann"].marks == {}


def test_repeats_have_their_sides_swapped_and_the_opposite_is_counted():
    first = casts("ann", 8, best=0)
    same = [Cast(f"r{i}", "ann", f"again{i}", "best", 1, repeats=f"c{i}") for i in range(8)]
    opposite = [Cast(f"r{i}", "ann", f"again{i}", "best", 0, repeats=f"c{i}") for i in range(8)]
    others = [Cast(f"r{i}", "bob", f"again{i}", "best", 0, repeats=f"c{i}") for i in range(8)]
    assert "inconsistent" not in conduct([*first, *same])["ann"].marks
    assert conduct([*first, *opposite])["ann"].marks["inconsistent"] == "8 of 8"
    assert conduct([*first, *others])["bob"].num_repeats == 0, "of his own votes alone"


def test_a_guesser_is_marked_by_gold_pairs_and_a_careful_rater_who_errs_is_not():
    guesses = [Cast(f"g{i}", "bob", f"c{i}", "best", i % 2, better=0) for i in range(10)]
    errs = [Cast(f"e{i}", "ann", f"c{i}", "best", int(i == 3), better=0) for i in range(10)]
    found = conduct([*guesses, *errs])
    assert found["bob"].marks == {"gold": "5 of 10"} and found["ann"].marks == {}


def test_what_is_too_quick_depends_on_how_much_there_was_to_read():
    assert is_too_quick(Cast("v", "a", "c", "best", 0, num_chars=200, dwell_ms=1_299)) and not is_too_quick(
        Cast("v", "a", "c", "best", 0, num_chars=200, dwell_ms=1_300)
    )
    assert least_reading_ms(100_000) == 3_000, "nobody has to read all of it"


def test_a_careful_snapshot_leaves_out_gold_pairs_quick_votes_and_marked_raters():
    careless, careful = casts("bob", 20, best=1), casts("ann", 5)
    gold, quick = Cast("gold", "ann", "g", "best", 0, better=0), Cast("quick", "ann", "q", "best", 0, num_chars=200, dwell_ms=5)
    assert left_out([*careless, *careful, gold, quick]) == {**dict.fromkeys([one.vote_id for one in careless], "careless_rater")} | {
        "gold": "gold",
        "quick": "too_quick",
    }


# --- in the database ------------------------------------------------------------------------------------------------------


@pytest.fixture
def store(tmp_path: Path):
    with Store(tmp_path / "rgtg.db") as store:
        yield store


def fill(store: Store, name: str, number: int, side: str = "", dwell_ms: int | None = 9_000) -> None:
    """Blind pairs of their own on which one rater votes, on the left and on the right in turn or always on one side."""
    rater = store.rater("anonymous", name)
    for i in range(number):
        pair = f"{name}{i}"
        store.add_comparison(make_comparison(pair, "AB", blind=True, rater_id=rater))
        store.add_vote(make_vote(f"v-{pair}", pair, side or "AB"[i % 2], "AB", rater_id=rater, dwell_ms=dwell_ms))


def test_a_snapshot_counts_what_it_leaves_out_by_cause_and_has_a_name(store, tmp_path):
    fill(store, "ann", 6)
    fill(store, "bob", 12, side="B")
    fill(store, "cat", 1, dwell_ms=10)
    store.exclude("v-ann0", "a slip")
    sieve = store.annotation.sieve()
    report = export_preferences(store, tmp_path / "a.jsonl", "training", sieve=sieve)
    assert report.skipped == {"careless_rater": 12, "excluded": 1, "too_quick": 1} and report.num_pairs == 5
    assert report.left_out == "votes of careless raters: 12, votes excluded: 1, votes faster than one can read: 1"
    snapshot = snapshot_of(report, sieve)
    assert snapshot["name"] == f"careful-19-votes-{report.sha256[:8]}" and snapshot["filter"] == "careful"
    assert snapshot["left_out"] == report.skipped and snapshot["num_pairs"] == 5
    again = export_preferences(store, tmp_path / "b.jsonl", "training", sieve=store.annotation.sieve())
    assert snapshot_of(again, sieve) == snapshot, "the same votes are the same snapshot"
    everything = export_preferences(store, tmp_path / "c.jsonl", "training", sieve=store.annotation.sieve("all"))
    assert everything.num_pairs == 18 and snapshot_of(everything, store.annotation.sieve("all"))["name"].startswith("all-19-votes-")


def test_the_votes_of_one_rater_are_all_taken(store):
    fill(store, "ann", 12, side="B", dwell_ms=10)
    assert store.annotation.sieve().name == "all" and set(store.annotation.conduct()[store.rater("anonymous", "ann")].marks) == {
        "same_side",
        "too_quick",
    }
    assert len(store.annotation.sieve("careful").causes) == 12
    with pytest.raises(BadSettings, match="no filter of votes `nonsense`"):
        store.annotation.sieve("nonsense")


def test_a_later_revision_has_the_reading_time_of_the_first(store):
    fill(store, "ann", 1)
    rater = store.rater("anonymous", "ann")
    store.add_vote(make_vote("later", "ann0", "B", "AB", rater_id=rater, dwell_ms=20))
    assert store.annotation.sieve("careful").causes == {}


def test_votes_of_a_banned_rater_are_left_out(store):
    fill(store, "ann", 2)
    fill(store, "bob", 2)
    store._write(lambda conn: conn.execute("UPDATE raters SET banned_at = '2026' WHERE id = ?", (store.rater("anonymous", "bob"),)))
    assert set(store.annotation.sieve().causes.values()) == {"banned_rater"} and len(store.annotation.sieve().causes) == 2


def test_gold_pairs_are_found_by_their_rule(store):
    fill(store, "ann", 3)
    rater = store.rater("anonymous", "ann")
    rule = json.dumps({"task": "t", "gold": "g-B"})
    store.add_comparison(make_comparison("g", "AB", blind=True, rater_id=rater, pair_rule=rule))
    store.add_vote(make_vote("vg", "g", "A", "AB", rater_id=rater, dwell_ms=9_000))
    found = store.annotation.conduct()[rater]
    assert (found.num_gold, found.gold_failed) == (1, 1) and store.annotation.sieve("careful").causes == {"vg": "gold"}


def test_results_say_how_many_raters_are_marked_and_data_why_a_vote_is_left_out(store):
    fill(store, "ann", 3)
    fill(store, "bob", 12, side="B", dwell_ms=10)
    words = "1 of 2 raters is marked as careless: nearly always the same side (1), mostly faster than one can read (1)."
    results = results_of(store, resamples=5)
    assert words in sentences(results)
    assert [one["marks"].keys() for one in as_json(results)["raters"]] == [set(), {"same_side", "too_quick"}]
    marks = RaterMarks(lambda: store)
    assert marks.of_votes(["v-bob1", "v-ann1"]) == {"v-bob1": "votes of careless raters"}
    fill(store, "cat", 1, dwell_ms=1)
    assert marks.of_votes(["v-cat0"]) == {"v-cat0": "votes faster than one can read"}, "new votes are looked at anew"
