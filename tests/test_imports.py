"""Preferences from elsewhere become votes in the database, all or nothing; our own exports come back as they were."""

import json

import pytest
from store_records import make_comparison, make_trace, make_vote

from rgtg.errors import BadData, BadSettings, StoreError
from rgtg.preferences.formats import read
from rgtg.records import ModelRef, Span
from rgtg.store.exchange.into import import_plan
from rgtg.store.exchange.plan import plan
from rgtg.store.export import export_preferences
from rgtg.store.store import Store


@pytest.fixture
def store(tmp_path):
    with Store(tmp_path / "rgtg.db") as store:
        yield store


def written(tmp_path, rows, name="data.jsonl"):
    path = tmp_path / name
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def imported(store, path, **options):
    return import_plan(store, plan(path, **options))


def votes_of(store):
    """[(prompt, {answer: place}, verdict, best answer, model of the best)] of all votes in order of arrival."""
    found = []
    for comparison, votes in store.facts():
        for vote in votes:
            best = comparison.trace(vote.best_trace_id) if vote.best_trace_id else None
            found.append((comparison.prompt, vote.verdict, best.response if best else "", len(comparison.traces)))
    return found


BATTLE = {"prompt": "p", "response_a": "one", "response_b": "two"}


@pytest.mark.parametrize(
    ("rows", "expected"),
    [
        ([{"prompt": "p", "chosen": "good", "rejected": "poor"}], [("p", "best", "good", 2)]),
        (
            [{"chosen": "\n\nHuman: Hi\n\nAssistant: Yo", "rejected": "\n\nHuman: Hi\n\nAssistant: No"}],
            [("\n\nHuman: Hi\n\nAssistant:", "best", " Yo", 2)],
        ),
        (
            [{"prompt": [{"role": "user", "content": "p"}],
              "chosen": [{"role": "assistant", "content": "a"}], "rejected": [{"role": "assistant", "content": "b"}]}],
            [("p", "best", "a", 2)],
        ),
        (
            [{"chosen": [{"role": "user", "content": "p"}, {"role": "assistant", "content": "a"}],
              "rejected": [{"role": "user", "content": "p"}, {"role": "assistant", "content": "b"}]}],
            [("p", "best", "a", 2)],
        ),
        ([{"prompt": "p", "completion": "fine", "label": True}], [("p", "best", "fine", 1)]),
        ([{"prompt": "p", "completion": "poor", "label": False}], [("p", "all_bad", "", 1)]),
        ([BATTLE | {"winner": "model_b"}], [("p", "best", "two", 2)]),
        ([BATTLE | {"winner": "tie"}], [("p", "tie", "", 2)]),
        ([BATTLE | {"winner": "tie (bothbad)"}], [("p", "all_bad", "", 2)]),
        (
            [{"prompt": "p", "responses": ["a", "b", "c"], "scores": [1, 3, 2]}],
            [("p", "best", "b", 2), ("p", "best", "c", 2), ("p", "best", "b", 2)],
        ),
        ([{"prompt": "p", "answers": ["a", "b"], "rank": [2, 1]}], [("p", "best", "b", 2)]),
        ([{"prompt": "p", "response": "a", "score": 1}, {"prompt": "p", "response": "b", "score": 2}], [("p", "best", "b", 2)]),
        (
            [{"instruction": "i", "input": "x", "response1": "a", "response2": "b", "annotator1": 1, "annotator2": 0, "annotator3": 2}],
            [("i\nx", "best", "a", 2), ("i\nx", "tie", "", 2), ("i\nx", "best", "b", 2)],
        ),
    ],
)  # fmt: skip
def test_a_layout_becomes_votes(store, tmp_path, rows, expected):
    path = written(tmp_path, rows)
    report = imported(store, path)
    assert votes_of(store) == expected
    assert report.num_votes == len(expected) and report.new["votes"] == len(expected)
    assert imported(store, path).new == {"comparisons": 0, "votes": 0, "marks": 0}
    assert votes_of(store) == expected


def test_raters_of_one_pair_vote_on_one_comparison_and_a_rater_who_judges_it_again_on_another(store, tmp_path):
    rows = [BATTLE | {"winner": "a", "rater": "ann"}, BATTLE | {"winner": "b", "rater": "bob"}, BATTLE | {"winner": "b", "rater": "ann"}]
    report = imported(store, written(tmp_path, rows))
    assert (report.num_comparisons, report.num_votes, report.num_raters) == (2, 3, 2)
    by_rater = {}
    for comparison, votes in store.facts():
        for vote in votes:
            by_rater.setdefault(vote.rater_id, []).append(comparison.trace(vote.best_trace_id).response)
    assert sorted(by_rater.values()) == [["one", "two"], ["two"]]
    with store._reading() as conn:
        assert not any("ann" in str(tuple(row)) or "bob" in str(tuple(row)) for row in conn.execute("SELECT * FROM raters"))


def test_an_imported_answer_says_where_it_is_from_and_which_model_wrote_it(store, tmp_path):
    imported(store, written(tmp_path, [BATTLE | {"winner": "b", "model_a": "small", "model_b": "large"}], "battles.jsonl"))
    ((comparison, (vote,)),) = store.facts()
    runs = {trace.response: (trace.run.method, dict(trace.run.params), trace.run.base_lm) for trace in comparison.traces}
    assert runs["two"] == ("imported", {"from": "battles.jsonl", "model": "large"}, ModelRef(""))
    assert [trace.place for trace in comparison.traces if trace.id == vote.best_trace_id] == [1]
    (entry,) = store.history()
    assert [(answer.letter, answer.method, answer.models, answer.text) for answer in entry.answers] == [
        ("A", "imported", (), "one"), ("B", "imported", (), "two"),
    ]  # fmt: skip


def test_the_chosen_answer_of_a_file_without_an_order_is_not_always_on_the_left(store, tmp_path):
    imported(store, written(tmp_path, [{"prompt": "p", "chosen": f"good {i}", "rejected": f"poor {i}"} for i in range(40)]))
    places = [c.trace(votes[0].best_trace_id).place for c, votes in store.facts()]
    assert 8 < sum(places) < 32


QA = {
    "question": "why", "prediction 1": "one is wrong", "prediction 2": "two", "prediction 3": "three", "prediction 4": "four",
    "preference": [0, 1, 2, 1, 0, 2], "feedback": {"errors": [{"error type": "Irrelevant", "start": 7, "end": 12}]},
}  # fmt: skip


def test_pairwise_winners_and_spans_become_votes_and_marks(store, tmp_path):
    report = imported(store, written(tmp_path, [QA]))
    assert (report.num_comparisons, report.num_votes, report.num_ties, report.num_marks) == (6, 6, 2, 1)
    assert [best for _, _, best, _ in votes_of(store)] == ["", "one is wrong", "four", "two", "", "four"]
    (trace_id,) = store.all_marks()
    (mark,) = store.marks(trace_id)
    assert (mark.start, mark.end, mark.label) == (7, 12, "bad")
    (row,) = lines(export_preferences(store, tmp_path / "steps.jsonl", "stepwise").path)
    assert (row["completions"], row["labels"]) == (["one is wrong"], [False])


def lines(path):
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def test_steps_are_marks_from_end_to_end_and_come_out_as_they_went_in(store, tmp_path):
    report = imported(store, written(tmp_path, [{"prompt": "p", "completions": ["First.", "Then", "so."], "labels": [True, True, False]}]))
    assert (report.num_votes, report.num_marks) == (0, 3)
    (row,) = lines(export_preferences(store, tmp_path / "steps.jsonl", "stepwise").path)
    assert (row["prompt"], row["labels"]) == ("p", [True, True, False]) and "".join(row["completions"]) == "First.\nThen\nso."


@pytest.mark.parametrize(
    ("row", "options", "message"),
    [
        (
            {"prompt": "p", "response": "a", "helpfulness": 1, "verbosity": 3}, {},
            "leaves open which score decides.*`helpfulness`, `verbosity`.*--columns",
        ),
        (
            {"prompt": "p", "completions": [{"response": r, "overall_score": s, "fine-grained_score": s} for r, s in (("a", 1), ("b", 2))]}, {},
            "completions.fine-grained_score`, `completions.overall_score",
        ),
        ({"prompt": "p", "responses": ["a", "b"], "scores": [1, 1]}, {}, "2 pairs of answers have equal scores.*--ties keep.*--ties drop"),
        ({"prompt": "p", "responses": ["a", "b"], "scores": [1, 1]}, {"ties": "some"}, "keep or drop"),
    ],
)  # fmt: skip
def test_what_a_layout_leaves_open_is_asked(store, tmp_path, row, options, message):
    with pytest.raises(BadSettings, match=message):
        imported(store, written(tmp_path, [row, row]), **options)
    assert store.num_comparisons() == 0


def test_an_answer_to_the_question_is_taken(store, tmp_path):
    path = written(tmp_path, [{"prompt": "p", "responses": ["a", "b", "c"], "scores": [1, 1, 2], "ratings": [3, 2, 1]}])
    imported(store, path, columns="prompt=prompt,answers=responses,scores=scores", ties="keep")
    assert sorted(verdict for _, verdict, _, _ in votes_of(store)) == ["best", "best", "tie"]


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"prompt": "p", "chosen": 3, "rejected": "b"}, "Row 7 .*`chosen` is a number"),
        (BATTLE | {"winner": "left-ish"}, "Row 7 .*`winner` is a text"),
        ({"prompt": "p", "completion": "a", "label": 0.5}, "Row 7 .*label is 0.5|Row 7 .*mixes|mixes pairs"),
        ({"prompt": "p", "chosen": "a\0", "rejected": "b"}, "Row 7 .*answer holds NUL"),
        (QA | {"feedback": {"errors": [{"start": 5, "end": 2}]}}, "Row 7 .*`feedback.errors` has a span"),
        (QA | {"preference": [1, 2]}, "Row 7 .*`preference` has 2 winners for 4 answers"),
    ],
)
def test_a_bad_row_refuses_the_file_by_its_number_and_nothing_is_stored(store, tmp_path, row, message):
    good = [{"prompt": f"p{i}", "chosen": "good", "rejected": "poor"} for i in range(9)]
    with pytest.raises(BadData, match=message):
        imported(store, written(tmp_path, [*good[:6], row, *good[6:]]))
    assert store.num_comparisons() == 0 and store.num_votes() == 0


def test_a_fault_of_the_database_in_the_middle_stores_nothing(store, tmp_path, monkeypatch):
    planned = plan(written(tmp_path, [{"prompt": f"p{i}", "chosen": "good", "rejected": "poor"} for i in range(9)]))
    planned.votes[5] = type(planned.votes[5])(**vars(planned.votes[5]) | {"verdict": "sideways"})
    with pytest.raises(StoreError):
        import_plan(store, planned)
    assert store.num_comparisons() == 0


# --- our own exports --------------------------------------------------------------------------------------------------


def everything(store):
    """Votes of two raters, one changed, one withdrawn, a tie, a branch, a failed answer, a continuation, marks, an odd text."""
    ann, bob = store.rater("anonymous", "ann"), store.rater("anonymous", "bob")
    store.add_comparison(
        make_comparison("c1", "ABC"), make_vote("v1", "c1", "B", "ABC", strength=3, reasons=("clear",), comment="-2 =x", rater_id=ann)
    )
    store.add_trace("c1", make_trace("c1-D", "D", parent_trace_id="c1-B", branch_position=1))
    store.add_vote(make_vote("v2", "c1", "D", "ABCD", rater_id=bob, strength=2))
    mix = make_trace("x", "A").run
    mix = type(mix)(**vars(mix) | {"guides": ((ModelRef("a", "1f"), 2.0), (ModelRef("b"), 0.5)), "combine": "standardised"})
    odd = '=SUM(A1)\r\n"quoted", \u2028 日本'
    traces = (make_trace("c2-A", "A", odd, run=mix), make_trace("c2-B", "B", "@two"), make_trace("c2-C", "C", stop_reason="error", error="no"))
    store.add_comparison(make_comparison("c2", prompt="-1 plus", traces=traces), make_vote("v3", "c2", "A", "ABC", rater_id=ann))
    store.add_vote(make_vote("v4", "c2", "B", "ABC", rater_id=ann))
    for name, verdict in (("c3", "tie"), ("c4", "all_bad"), ("c5", "skip")):
        store.add_comparison(make_comparison(name, "AB"), make_vote(f"v-{name}", name, None, "AB", verdict=verdict, rater_id=bob))
    store.add_comparison(make_comparison("c6", "AB"), make_vote("v6", "c6", "A", "AB", rater_id=ann))
    store.undo("c6", ann)
    store.add_mark(Span("m1", "c1-A", 0, 1, "good", ann))
    store.add_mark(Span("m2", "c1-A", 1, 2, "bad", ann))


@pytest.mark.parametrize("format", ["preference", "votes", "unpaired", "stepwise"])
@pytest.mark.parametrize("suffix", [".jsonl", ".csv", ".parquet"])
def test_an_export_comes_back_and_goes_out_as_it_was(store, tmp_path, format, suffix):
    everything(store)
    out = export_preferences(store, tmp_path / f"out{suffix}", format)
    assert out.num_pairs >= 1
    before = [(c, votes) for c, votes in store.facts()]
    assert import_plan(store, plan(out.path)).new == {"comparisons": 0, "votes": 0, "marks": 0}
    assert [(c, votes) for c, votes in store.facts()] == before
    with Store(tmp_path / "other.db") as other:
        import_plan(other, plan(out.path))
        again = export_preferences(other, tmp_path / f"again{suffix}", format)
        assert again.path.read_bytes() == out.path.read_bytes()
        assert import_plan(other, plan(out.path)).new == {"comparisons": 0, "votes": 0, "marks": 0}
        assert len(other.history()) >= 1


@pytest.mark.parametrize("format", ["preference_tokens", "training"])
def test_an_export_for_training_is_refused_as_an_import(store, tmp_path, format):
    everything(store)
    out = export_preferences(store, tmp_path / "out.jsonl", format).path
    with pytest.raises(BadData, match="as preference, votes, unpaired or stepwise|It has token ids"):
        plan(out)


def test_an_export_that_was_changed_is_refused_where_the_database_says_otherwise(store, tmp_path):
    everything(store)
    out = export_preferences(store, tmp_path / "out.jsonl").path
    out.write_text(out.read_text(encoding="utf-8").replace(" answer c1-A", " another"), encoding="utf-8")
    with pytest.raises(BadData, match="is stored with another text.*Nothing of it was stored"):
        import_plan(store, plan(out))
    out.write_text(out.read_text(encoding="utf-8").replace('"chosen_seed": 17', '"chosen_seed": "x"', 1), encoding="utf-8")
    with pytest.raises(BadData, match="Row 1 of `out.jsonl` cannot be imported.*`chosen_seed` is no whole number"):
        plan(out)


@pytest.mark.parametrize("format", ["preference", "preference_tokens", "training", "prefix_preference", "unpaired", "stepwise"])
def test_training_reads_what_is_exported(store, tmp_path, format):
    everything(store)
    out = export_preferences(store, tmp_path / "out.jsonl", format)
    assert out.num_pairs >= 1 and len(read(out.path).examples) >= out.num_pairs


def test_a_table_with_a_mark_of_its_encoding_and_windows_lines_is_read_as_it_is(store, tmp_path):
    path = tmp_path / "pairs.csv"
    path.write_bytes('\ufeffprompt,response_a,response_b,winner,judge\r\np,=one,"two\r\nlines",model_b,ann\r\n'.encode())
    imported(store, path)
    assert votes_of(store) == [("p", "best", "two\r\nlines", 2)]
    (row,) = lines(export_preferences(store, tmp_path / "out.jsonl").path)
    assert row["rejected"] == "=one"


CHAT = [
    {"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Human: is what?"},
    {"role": "user", "content": "Why?\n\nAssistant: no"},
]  # fmt: skip


@pytest.mark.parametrize("format", ["preference", "unpaired", "votes", "training"])
def test_the_roles_of_a_conversation_are_kept_exported_and_trained_on(store, tmp_path, format):
    """A transcript alone would not say whose turn a line is that looks like the beginning of one."""
    row = {"prompt": CHAT, "chosen": [{"role": "assistant", "content": "So."}], "rejected": [{"role": "assistant", "content": "No."}]}
    imported(store, written(tmp_path, [row, {"prompt": "plain", "chosen": "a", "rejected": "b"}]))
    turns = tuple((turn["role"], turn["content"]) for turn in CHAT)
    assert [comparison.turns for comparison, _ in store.facts()] == [turns, ()]
    out = export_preferences(store, tmp_path / "out.jsonl", format).path
    rows = [json.loads(line) for line in out.read_text(encoding="utf-8").splitlines()]
    kept = [row["prompt_turns"] for row in rows]
    assert {*map(type, kept)} == {str} and json.loads(kept[0]) == CHAT and kept[-1] == "[]"
    if format != "votes":
        reading = read(out)
        prompts = {example.prompt for example in reading.examples}
        assert prompts == {turns, "plain"} and "prompt_turns" not in reading.not_read
    if format != "training":
        with Store(tmp_path / "other.db") as other:
            imported(other, out)
            assert [comparison.turns for comparison, _ in other.facts()] == [turns, ()]
            assert export_preferences(other, tmp_path / "again.jsonl", format).path.read_bytes() == out.read_bytes()
