import json
import shutil
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from filelock import FileLock
from store_records import AT, make_comparison, make_step, make_trace, make_vote

from rgtg.errors import RgtgError, StoreError, UnknownRecord
from rgtg.records import Comparison, Span
from rgtg.store import rows
from rgtg.store.store import Store


@pytest.fixture
def store(tmp_path):
    with Store(tmp_path / "rgtg.db") as store:
        yield store


def test_comparison_comes_back_equal(store):
    child = make_trace("c1-E", "E", parent_trace_id="c1-B", branch_position=1, created_at=AT)
    failed = make_trace("c1-F", "F", num_steps=0, stop_reason="error", error="Out of memory: 'cuda' <b>", created_at=AT)
    comparison = make_comparison(state="closed", pair_rule="margin", guideline_version="3")
    comparison = replace(comparison, traces=(*comparison.traces, child, failed))
    store.add_comparison(comparison)
    assert store.comparison("c1") == comparison


@pytest.mark.parametrize("text", ["", " ", "日本語 עברית", "a\r\n\tb", "<script>{{x}}</script>", "\u200b\ufeff👩‍👩‍👧", "\x01\x7f", "x" * 100_000])
def test_texts_come_back_as_typed(store, text):
    trace = make_trace("t", "A")
    trace = replace(trace, response=text, steps=(make_step(0, 1, text),), run=replace(trace.run, prompt=text))
    comparison = Comparison("c", text, (trace,), created_at=AT)
    store.add_comparison(comparison)
    assert store.comparison("c") == comparison


def test_blank_times_are_filled_in(store):
    store.add_comparison(Comparison("c", "hi", (make_trace("t", "A", created_at=""),)))
    found = store.comparison("c")
    assert found.created_at and found.traces[0].created_at == found.created_at


def test_steps_are_stored_as_arrays_under_one_list_of_names():
    content = json.loads(rows.steps_json((make_step(0, 7),)))
    assert content["rewards"] == ["partial", "judge"]
    first = [7, " good", -0.1, 2.4, 2, 1, 0.75, [0, 1.25]]
    second = [9, " bad", -0.30000000000000004, -1.0, 1, 2, 0.25, [0, -2.5]]
    tried = [[" worse", [4, 5], -0.5, 1.0, None], [" other", [6], None, None, 0.125]]
    assert content["steps"] == [[0, 7, " good", -0.1, 2.4, 2, 1, 0.9, 0.75, 0.0031, [0, 1.25, 1, -0.1], [first, second], tried, 0.25]]


def test_steps_written_before_a_field_was_added_take_its_default():
    content = json.loads(rows.steps_json((make_step(0, 7),)))
    content["step"].remove("kl")
    del content["steps"][0][9]
    assert rows.steps_of(json.dumps(content)) == (replace(make_step(0, 7), kl=None),)


def test_two_hundred_steps_of_ten_candidates_stay_below_a_quarter_megabyte():
    step = make_step(0, 7)
    candidate = replace(step.candidates[0], log_prob=-1 / 3, score=2 / 3, prob_after=1 / 7, rewards=(("partial", 1 / 9),))
    steps = (replace(step, candidates=(candidate,) * 10),) * 200
    content = rows.steps_json(steps)
    assert len(content) < 250_000
    assert rows.steps_of(content) == steps


def test_vote_with_its_comparison_is_one_transaction(store):
    vote = store.add_comparison(make_comparison(), make_vote(strength=2, reasons=("fluent", "kind"), comment="nice", dwell_ms=1200))
    assert vote.revision == 1 and vote.created_at and vote.rater_id == store.rater("local")
    assert store.vote_of("c1") == vote
    with pytest.raises(StoreError):
        store.add_comparison(make_comparison("c2"), make_vote("v2", "c2", best=None, verdict="maybe"))
    with pytest.raises(UnknownRecord):
        store.comparison("c2")


def test_same_comparison_again_is_stored_once(store):
    for _ in range(2):
        store.add_comparison(make_comparison(), make_vote())
    assert store.num_comparisons() == 1 and store.num_votes() == 1
    assert len(store.comparison("c1").traces) == 4


def test_stored_comparison_takes_only_what_is_new(store):
    whole = make_comparison(columns="ABC")
    store.add_comparison(replace(whole, traces=whole.traces[:1], state="open"))
    store.add_comparison(whole, make_vote(best="C", seen="ABC"))
    assert store.comparison("c1") == whole
    with pytest.raises(StoreError, match="differs in prompt"):
        store.add_comparison(replace(whole, prompt="the service was"))
    with pytest.raises(StoreError, match="differs in response"):
        store.add_comparison(replace(whole, traces=(make_trace("c1-A", "A", response="other"),)))


def test_branch_is_a_new_trace_of_the_same_comparison(store):
    store.add_comparison(make_comparison(columns="AB"))
    branch = make_trace("c1-C", "C", parent_trace_id="c1-B", branch_position=1)
    for _ in range(2):
        assert store.add_trace("c1", branch) == branch
    assert store.comparison("c1").traces[-1] == branch
    assert len(store.comparison("c1").traces) == 3


def test_branch_is_refused_without_comparison_parent_or_free_column(store):
    store.add_comparison(make_comparison(columns="AB"))
    store.add_comparison(make_comparison("c2", columns="AB"))
    with pytest.raises(UnknownRecord, match="no comparison `c9`"):
        store.add_trace("c9", make_trace("t", "C"))
    with pytest.raises(StoreError, match="parent in the same comparison"):
        store.add_trace("c1", make_trace("t", "C", parent_trace_id="c2-A", branch_position=0))
    with pytest.raises(StoreError, match="Column B of this comparison is taken"):
        store.add_trace("c1", make_trace("t", "B"))
    assert len(store.comparison("c1").traces) == 2


def test_double_click_is_one_vote(store):
    store.add_comparison(make_comparison())
    first = store.add_vote(make_vote(dwell_ms=900))
    assert store.add_vote(make_vote(dwell_ms=1100)) == first
    assert store.num_votes() == 1


def test_same_vote_id_with_other_content_is_refused(store):
    store.add_comparison(make_comparison(), make_vote(best="A"))
    with pytest.raises(StoreError, match=r"`v1` in `votes` differs in best_trace_id"):
        store.add_vote(make_vote(best="B"))
    assert store.vote_of("c1").best_trace_id == "c1-A"


def test_change_of_mind_is_a_new_row(store):
    store.add_comparison(make_comparison(), make_vote("v1", best="A"))
    store.add_vote(make_vote("v2", best="B"))
    assert [(vote.id, vote.revision) for vote in store.votes("c1")] == [("v1", 1), ("v2", 2)]
    assert store.vote_of("c1").id == "v2" and store.num_votes() == 1


def test_undo_appends_and_a_second_undo_has_nothing_to_undo(store):
    store.add_comparison(make_comparison(), make_vote(strength=3, comment="yes"))
    assert store.undo("c1") is None
    withdrawn = store.votes("c1")[-1]
    assert (withdrawn.verdict, withdrawn.revision, withdrawn.best_trace_id, withdrawn.comment) == ("withdrawn", 2, None, "")
    assert store.vote_of("c1") is None and store.num_votes() == 0 and store.current_votes() == ()
    with pytest.raises(StoreError, match="There is nothing to undo"):
        store.undo("c1")
    assert store.add_vote(make_vote("v2", best="C")).revision == 3


def test_undo_goes_back_to_the_vote_before_again_and_again(store):
    store.add_comparison(make_comparison(), make_vote("v1", best="A", strength=2))
    store.add_vote(make_vote("v2", best="B"))
    assert (store.undo("c1", vote_id="u1").best_trace_id, store.vote_of("c1").strength, store.num_votes()) == ("c1-A", 2, 1)
    assert store.undo("c1", vote_id="u1").best_trace_id == "c1-A", "the same undo sent twice"
    assert [vote.verdict for vote in store.votes("c1")] == ["best", "best", "withdrawn", "best"], "nothing is erased"
    store.add_vote(make_vote("v3", best="C"))
    assert store.undo("c1").best_trace_id == "c1-A" and store.undo("c1") is None and store.num_votes() == 0
    with pytest.raises(StoreError, match="nothing to undo"):
        store.undo("c1")


def test_a_skip_is_no_vote_in_the_count(store):
    store.add_comparison(make_comparison(), make_vote("v1", best="A"))
    store.add_vote(make_vote("v2", best=None, verdict="skip"))
    assert store.num_votes() == 0 and store.vote_of("c1").verdict == "skip"
    assert store.undo("c1").best_trace_id == "c1-A" and store.num_votes() == 1


def test_an_answer_goes_on_in_its_own_column_and_once(store):
    store.add_comparison(make_comparison(columns="AB"), make_vote(seen="AB"))
    onward = make_trace("more", "B", parent_trace_id="c1-B", branch_position=2, num_steps=4, created_at=AT)
    store.add_trace("c1", onward)
    assert store.comparison("c1").traces == (*make_comparison(columns="AB").traces, onward) and store.vote_of("c1").best_trace_id == "c1-B"
    for parent in ("c1-B", "c1-A"):
        with pytest.raises(StoreError, match="Column B of this comparison is taken"):
            store.add_trace("c1", replace(onward, id="other", parent_trace_id=parent))
    store.add_trace("c1", replace(onward, id="yet more", parent_trace_id="more"))
    assert store.add_vote(make_vote("v2", best=None, verdict="tie", seen="A")).revision == 2


def test_undo_is_the_raters_own(store):
    ann, bob = store.rater("anonymous", "ann"), store.rater("anonymous", "bob")
    store.add_comparison(make_comparison(), make_vote(rater_id=ann))
    with pytest.raises(StoreError, match="nothing to undo"):
        store.undo("c1", bob)
    store.add_vote(make_vote("v2", best=None, rater_id=bob))
    store.undo("c1", ann)
    assert [vote.rater_id for vote in store.current_votes()] == [bob]


def test_vote_names_only_answers_of_its_comparison(store):
    store.add_comparison(make_comparison("c1"))
    store.add_comparison(make_comparison("c2"))
    with pytest.raises(StoreError, match=r"answer of another comparison\. Found c2-A"):
        store.add_vote(make_vote(best_trace_id="c2-A"))
    with pytest.raises(StoreError, match=r"answer of another comparison\. Found c2-B"):
        store.add_vote(make_vote(seen_trace_ids=("c1-B", "c2-B")))
    with pytest.raises(StoreError, match="among those that were there to be seen"):
        store.add_vote(make_vote(best="D", seen="AB"))
    with pytest.raises(StoreError, match="which answers were there to be seen"):
        store.add_vote(make_vote(best=None, seen=""))
    with pytest.raises(StoreError, match="the others name none"):
        store.add_vote(make_vote(verdict="skip"))
    with pytest.raises(StoreError, match="A verdict is one of best, tie, all_bad, skip"):
        store.add_vote(make_vote(best=None, verdict="withdrawn"))
    assert store.votes("c1") == ()


def test_vote_on_an_unknown_expired_or_abandoned_comparison_is_refused(store):
    with pytest.raises(UnknownRecord, match="no comparison `c1`"):
        store.add_vote(make_vote())
    for state in ("expired", "abandoned"):
        store.add_comparison(make_comparison(state, "AB", state=state))
        with pytest.raises(StoreError, match=f"This comparison is {state}"):
            store.add_vote(make_vote(f"vote-{state}", state, seen="AB"))


def test_vote_of_an_unknown_rater_is_refused(store):
    store.add_comparison(make_comparison())
    with pytest.raises(UnknownRecord, match="no rater `nobody`"):
        store.add_vote(make_vote(rater_id="nobody"))


def test_vote_closes_an_open_comparison_and_a_closed_one_stays_closed(store):
    store.add_comparison(make_comparison(state="open"))
    store.add_vote(make_vote())
    assert store.comparison("c1").state == "closed"
    with pytest.raises(StoreError, match="A comparison that is closed stays so"):
        store.set_state("c1", "expired")


def test_comparisons_come_newest_first_a_page_at_a_time(store):
    for name in ("c1", "c2", "c3"):
        store.add_comparison(make_comparison(name, "AB", state="open" if name == "c2" else "closed"))
    assert [c.id for c in store.comparisons(limit=2)] == ["c3", "c2"]
    assert [c.id for c in store.comparisons(limit=2, before="c2")] == ["c1"]
    assert [c.id for c in store.comparisons(state="open")] == ["c2"]


def test_rater_is_the_same_for_the_same_name_and_the_name_is_not_kept(tmp_path):
    path = tmp_path / "rgtg.db"
    with Store(path, secret="pepper") as store:
        ann = store.rater("oauth", "ann@example.org")
        assert store.rater("oauth", "ann@example.org") == ann
        assert len({ann, store.rater("anonymous", "ann@example.org"), store.rater("oauth", "bob"), store.rater()}) == 4
    with Store(path, secret="pepper") as store:
        assert store.rater("oauth", "ann@example.org") == ann
    assert b"ann@example.org" not in path.read_bytes()


def test_marks_stand_until_they_are_changed_or_taken_back(store):
    store.add_comparison(make_comparison())
    good, bad = Span("m1", "c1-A", 0, 1, "good"), Span("m2", "c1-A", 1, 2, "bad", comment="rude")
    kept = [store.add_mark(mark) for mark in (good, bad)]
    assert store.add_mark(good) == kept[0]
    assert store.marks("c1-A") == tuple(kept) == store.all_marks()["c1-A"]
    store.add_mark(Span("m3", "c1-A", 0, 1, "withdrawn"))
    changed = store.add_mark(Span("m4", "c1-A", 1, 2, "goes_wrong"))
    assert store.marks("c1-A") == (changed,)
    assert store.marks("c1-B") == ()
    assert store.all_marks() == {"c1-A": (changed,)}


def test_mark_outside_its_answer_is_refused(store):
    store.add_comparison(make_comparison())
    for start, end in ((0, 3), (1, 1), (-1, 1)):
        with pytest.raises(StoreError, match="has to lie within its answer"):
            store.add_mark(Span("m", "c1-A", start, end, "bad"))
    with pytest.raises(StoreError, match="A mark is one of"):
        store.add_mark(Span("m", "c1-A", 0, 1, "funny"))
    with pytest.raises(UnknownRecord):
        store.add_mark(Span("m", "c9-A", 0, 1, "bad"))


def test_event_is_kept(store):
    assert store.add_event("export", "ann", {"num_pairs": 3}) != store.add_event("export")


BAD_NUMBERS = [float("nan"), float("inf"), -float("inf"), 10**400, np.float32("nan"), "3", None, [1], True, 1e301]


@pytest.mark.parametrize("value", BAD_NUMBERS)
@pytest.mark.parametrize("field", ["seconds", "lm_forwards", "place"])
def test_bad_number_in_a_column_is_refused_by_name(store, field, value):
    comparison = replace(make_comparison(columns="A"), traces=(make_trace("t", "A", **{field: value}),))
    with pytest.raises(StoreError, match="has to be a"):
        store.add_comparison(comparison)
    assert store.num_comparisons() == 0


@pytest.mark.parametrize("value", [float("nan"), float("inf"), np.float32("inf"), 2**70, {1}, object(), np.zeros(2), "\ud800"])
def test_bad_value_in_a_step_or_a_run_is_refused_by_name(store, value):
    for trace in (
        make_trace("t", "A", steps=(replace(make_step(0, 1), rewards=(("partial", value),)),)),
        make_trace("t", "A", run=replace(make_trace("t", "A").run, params=(("beta", value),))),
    ):
        with pytest.raises(StoreError, match=r"The (steps|run)"):
            store.add_comparison(replace(make_comparison(), traces=(trace,)))


def test_numpy_scalars_become_plain_numbers(store):
    step = replace(make_step(0, 1), log_prob=np.float32(-0.1), token_id=np.int64(7), kl=np.float64(0.5))
    trace = make_trace("t", "A", steps=(step,), seconds=np.float32(0.1), lm_forwards=np.int64(3))
    store.add_comparison(replace(make_comparison(), traces=(trace,)))
    found = store.comparison("c1").traces[0]
    assert found == trace
    assert {type(found.seconds), type(found.steps[0].log_prob), type(found.steps[0].kl)} == {float}
    assert {type(found.lm_forwards), type(found.steps[0].token_id)} == {int}


@pytest.mark.parametrize("bad", ["a\0b", "\ud800", "\udfff"])
@pytest.mark.parametrize("field", ["id", "comment", "guideline_version", "reasons"])
def test_bad_text_from_a_person_is_refused(store, field, bad):
    store.add_comparison(make_comparison())
    with pytest.raises(RgtgError, match="a character that cannot be stored"):
        store.add_vote(replace(make_vote(), **{field: (bad,) if field == "reasons" else bad}))
    with pytest.raises(RgtgError, match=r"The prompt .* Found U\+"):
        store.add_comparison(make_comparison("c2", prompt=bad))


def test_nul_from_a_model_costs_no_vote(store):
    trace = make_trace("c1-A", "A", response="a\0b", steps=(make_step(0, 1, "\0"),))
    store.add_comparison(replace(make_comparison(), traces=(trace,)), make_vote(best="A", seen="A"))
    found = store.comparison("c1").traces[0]
    assert found.response == "a\ufffdb" and found.steps == trace.steps


def test_sixteen_threads_voting_lose_nothing(store):
    def vote(thread):
        rater = store.rater("anonymous", f"rater {thread}")
        names = [f"c{thread}-{i}" for i in range(5)]
        return [store.add_comparison(make_comparison(name, "AB"), make_vote(f"v-{name}", name, "A", "AB", rater_id=rater)).id for name in names]

    with ThreadPoolExecutor(16) as pool:
        acknowledged = [vote_id for found in pool.map(vote, range(16)) for vote_id in found]
    assert len(acknowledged) == 80
    assert sorted(vote.id for vote in store.current_votes()) == sorted(acknowledged)


def test_sixteen_threads_on_one_comparison_get_sixteen_revisions(store):
    store.add_comparison(make_comparison())
    barrier = threading.Barrier(16)

    def vote(i):
        barrier.wait()
        return store.add_vote(make_vote(f"v{i}")).revision

    with ThreadPoolExecutor(16) as pool:
        assert sorted(pool.map(vote, range(16))) == list(range(1, 17))
    assert store.num_votes() == 1


def test_full_disk_refuses_the_vote_aloud_and_keeps_what_was_stored(store):
    store.add_comparison(make_comparison(), make_vote())
    num_pages = store._writer(lambda conn: conn.execute("PRAGMA page_count").fetchone()[0])
    store._writer(lambda conn: conn.execute(f"PRAGMA max_page_count={num_pages}").fetchone())
    with pytest.raises(StoreError, match=r"Nothing was stored: the disk is full\. .* Free some space"):
        for i in range(20):
            store.add_comparison(make_comparison(f"more{i}"), make_vote(f"w{i}", f"more{i}"))
    num_stored = store.num_comparisons()
    assert store.num_votes() == num_stored and store.comparison("c1") == make_comparison()
    store._writer(lambda conn: conn.execute("PRAGMA max_page_count=1000000").fetchone())
    store.add_comparison(make_comparison("last"), make_vote("last", "last"))
    assert store.num_votes() == num_stored + 1


def test_store_is_found_again_after_closing(tmp_path):
    with Store(tmp_path / "deep" / "rgtg.db") as store:
        vote = store.add_comparison(make_comparison(), make_vote())
    with Store(tmp_path / "deep" / "rgtg.db") as store:
        assert store.comparison("c1") == make_comparison() and store.current_votes() == (vote,)
    assert sorted(found.name for found in (tmp_path / "deep").iterdir() if "-" not in found.name) == ["rgtg.db", "rgtg.db.lock"]


def test_texts_votes_and_counts_unpack_no_step(store, monkeypatch):
    store.add_comparison(make_comparison(), make_vote())
    monkeypatch.setattr(rows, "steps_of", lambda content: pytest.fail("steps were unpacked"))
    found = store.comparison("c1")
    assert [(trace.response, len(trace.steps), trace.token_ids) for trace in found.traces[:1]] == [(" answer c1-A", 2, (10, 11))]
    assert store.vote_of("c1").id == "v1" and (store.num_votes(), store.num_comparisons()) == (1, 1)
    assert [(comparison.id, len(votes)) for comparison, votes in store.facts()] == [("c1", 1)]
    store.add_comparison(found)  # as it is when it is branched: nothing is unpacked to be compared


def test_steps_of_the_first_versions_tell_their_token_ids(store):
    content = json.loads(rows.steps_json((make_step(0, 7), make_step(1, 9))))
    del content["token_ids"]
    found = rows.StoredSteps(json.dumps(content))
    assert found.token_ids == (7, 9) and found == (make_step(0, 7), make_step(1, 9)) and hash(found) == hash(tuple(found))


def test_counts_follow_every_vote_and_every_withdrawal(store):
    alice, bob = store.rater("anonymous", "alice"), store.rater("anonymous", "bob")
    for name in ("c1", "c2"):
        store.add_comparison(make_comparison(name))
    seen = []
    for number, (comparison, rater) in enumerate([("c1", alice), ("c1", bob), ("c1", alice), ("c2", alice)]):
        store.add_vote(make_vote(f"v{number}", comparison, rater_id=rater))
        seen.append(store.num_votes())
    for comparison, rater in (("c1", alice), ("c2", alice)):
        store.undo(comparison, rater)
        seen.append(store.num_votes())
    store.add_vote(make_vote("again", "c1", rater_id=alice))
    assert [*seen, store.num_votes()] == [1, 2, 2, 3, 2, 1, 2]
    assert store.num_votes() == len(store.current_votes()) and store.num_comparisons() == 2


def test_the_note_on_an_answer_is_kept_with_what_the_check_took(tmp_path):
    noted = make_comparison(traces=(make_trace("t", "A", note="`one`: it differed", check_forwards=3), make_trace("u", "B")))
    with Store(tmp_path / "rgtg.db") as store:
        store.add_comparison(noted)
    with Store(tmp_path / "rgtg.db") as store:
        assert store.comparison("c1") == noted
        assert [c for c, _ in store.facts()] == [noted]
        store.add_comparison(noted)  # the same fact again


def test_a_database_of_the_first_schema_takes_twelve_columns_and_keeps_its_answers(tmp_path):
    path = tmp_path / "rgtg.db"
    shutil.copy(Path(__file__).parent / "golden" / "store-schema-1.sqlite3", path)
    with Store(path) as store:
        before, counted = store.comparisons(), make_comparison("new", "ABCDEFGHIJKL")
        counted = replace(
            counted, traces=tuple(replace(t, observer_forwards=1, lm_positions=30, reward_positions=70, observer_positions=9) for t in counted.traces)
        )
        assert {(t.lm_positions, t.reward_positions) for c in before for t in c.traces} == {(0, 0)}
        store.add_comparison(counted)
        assert store.comparison("new") == counted
        assert all(c in [stored for stored, _ in store.facts()] for c in before), "facts are read with their hashes, which are as they were"


def test_a_database_of_an_earlier_schema_that_may_only_be_read_has_no_notes(tmp_path):
    path = tmp_path / "rgtg.db"
    shutil.copy(Path(__file__).parent / "golden" / "store-schema-1.sqlite3", path)
    with FileLock(f"{path}.lock"), Store(path) as store:
        assert store.read_only
        assert {(t.note, t.check_forwards) for c in store.comparisons() for t in c.traces} == {("", 0)}
