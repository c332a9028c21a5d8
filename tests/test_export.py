import hashlib
import json
import sqlite3
import threading
from contextlib import closing, contextmanager
from dataclasses import replace

import pytest
from store_records import make_comparison, make_step, make_trace, make_vote

from rgtg.errors import BadData, BadSettings, StoreError, UnknownRecord
from rgtg.preferences.formats import read_examples
from rgtg.records import Span
from rgtg.store import rows
from rgtg.store.exchange.voted import _run
from rgtg.store.export import FORMATS, export_folder, export_preferences
from rgtg.store.history import HistoryFilter
from rgtg.store.store import Store


@pytest.fixture
def store(tmp_path):
    with Store(tmp_path / "rgtg.db") as store:
        yield store


PAIRS = ("preference", "preference_tokens", "training")


def lines(path):
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def flip(path, marker):
    """Turn one bit where the text `marker` begins, as a failing disk would; in its copy for the search too."""
    content = bytearray(path.read_bytes())
    at = content.index(marker.encode())
    while at >= 0:
        content[at] ^= 0x01
        at = content.find(marker.encode(), at)
    path.write_bytes(bytes(content))


def test_a_pair_is_a_line_with_its_provenance(store, tmp_path):
    vote = store.add_comparison(make_comparison(columns="AB", pair_rule="manual"), make_vote(best="B", seen="AB", guideline_version="2"))
    report = export_preferences(store, tmp_path / "out" / "pairs.jsonl")
    (line,) = lines(report.path)
    assert (line["prompt"], line["chosen"], line["rejected"]) == ("the food was", " answer c1-B", " answer c1-A")
    assert (line["comparison_id"], line["vote_id"], line["rater_id"], line["voted_at"]) == ("c1", "v1", vote.rater_id, vote.created_at)
    assert (line["chosen_column"], line["rejected_column"], line["num_common"], line["num_seen"]) == ("B", "A", 0, 2)
    assert (line["chosen_method"], line["chosen_params"]) == ("pargs", '{"beta": 2.0, "pick": "sample"}')
    assert (line["chosen_base_lm"], line["chosen_reward_model"], line["chosen_seed"]) == ("base@abc123", "partial@def456", 17)
    assert (line["chosen_stop_reason"], line["chosen_num_tokens"], line["guideline_version"], line["blind"]) == ("eos", 2, "2", True)
    assert (line["margin"], line["strength"]) == (0.0, 0)
    assert (report.num_pairs, report.num_comparisons, report.num_votes, report.skipped) == (1, 1, 1, {})


@pytest.mark.parametrize("format", PAIRS)
def test_a_format_has_the_same_columns_of_the_same_types_whatever_was_voted(store, tmp_path, format):
    """A vote without a strength or a mark, one with both, and answers of two tokenizers, which have no ids in common."""
    store.add_comparison(make_comparison("c1", "AB"), make_vote("v1", "c1", "A", seen="AB"))
    store.add_comparison(make_comparison("c2", "AB"), make_vote("v2", "c2", "A", seen="AB", strength=3))
    store.add_mark(Span("m", "c2-A", 0, 1, "good"))
    foreign = replace(make_trace("c3-B", "B"), run=replace(make_trace("c3-B", "B").run, prompt_ids=(7,)))
    store.add_comparison(replace(make_comparison("c3", "A"), traces=(make_trace("c3-A", "A"), foreign)), make_vote("v3", "c3", "A", seen="AB"))
    found = lines(export_preferences(store, tmp_path / "pairs.jsonl", format).path)
    assert [line["margin"] for line in found] == [0.0, 1.0, 0.0][: len(found)] and len(found) == (2 if format == "preference_tokens" else 3)
    kinds = [{key: type(value) for key, value in line.items()} for line in found]
    assert all(kind == kinds[0] for kind in kinds)
    assert all(value not in ([], None) for line in found for value in line.values()), "a column of nothing has no type"


def test_pairs_of_two_tokenizers_are_read_by_their_texts(store, tmp_path):
    foreign = replace(make_trace("c1-B", "B"), run=replace(make_trace("c1-B", "B").run, prompt_ids=(7,)))
    store.add_comparison(replace(make_comparison("c1", "A"), traces=(make_trace("c1-A", "A"), foreign)), make_vote("v1", "c1", "A", seen="AB"))
    store.add_comparison(make_comparison("c2", "AB"), make_vote("v2", "c2", "A", seen="AB"))
    first, second = read_examples(export_preferences(store, tmp_path / "frozen.jsonl", "training").path)
    assert (first.prompt, first.chosen, first.rejected, first.chosen_ids) == ("the food was", " answer c1-A", " answer c1-B", ())
    assert (second.prompt_ids, second.chosen_ids, second.rejected_ids) == ((3, 4, 5), (10, 11), (10, 11))


def again(name):
    """Comparison c1, generated again with its seed: the same texts under new ids."""
    traces = tuple(make_trace(f"{name}-{column}", column, response=f" answer c1-{column}") for column in "AB")
    return replace(make_comparison(name, "AB"), traces=traces)


def test_a_comparison_generated_again_with_its_seed_gives_its_pair_once(store, tmp_path):
    store.add_comparison(make_comparison("c1", "AB"), make_vote("v1", "c1", "A", seen="AB"))
    store.add_comparison(again("c2"), make_vote("v2", "c2", "A", seen="AB"))
    store.add_comparison(again("c3"), make_vote("v3", "c3", "B", seen="AB"))  # another opinion
    store.add_comparison(again("c4"), make_vote("v4", "c4", "B", seen="AB"))
    report = export_preferences(store, tmp_path / "pairs.jsonl")
    assert [line["vote_id"] for line in lines(report.path)] == ["v1", "v3"]
    assert (report.num_pairs, report.num_votes, report.skipped) == (2, 4, {"repeat": 2})


def test_what_gave_no_pair_is_counted_by_cause(store, tmp_path):
    for verdict in ("tie", "all_bad", "skip"):
        store.add_comparison(make_comparison(verdict), make_vote(f"v-{verdict}", verdict, best=None, verdict=verdict))
    store.add_comparison(make_comparison("undone"), make_vote("v-undone", "undone"))
    store.undo("undone")
    store.add_comparison(make_comparison("silent"))
    traces = (
        make_trace("m-A", "A"),
        make_trace("m-B", "B", response=" answer m-A"),
        make_trace("m-C", "C", stop_reason="error"),
        make_trace("m-D", "D"),
    )
    store.add_comparison(replace(make_comparison("m"), traces=traces), make_vote("v-m", "m", best="A"))
    report = export_preferences(store, tmp_path / "pairs.jsonl")
    assert report.num_pairs == 1
    assert report.skipped == {"all_bad": 1, "equal_texts": 1, "error": 1, "skip": 1, "tie": 1, "withdrawn": 1}


def test_token_format_has_prompt_and_answer_as_ids(store, tmp_path):
    foreign = make_trace("c2-B", "B")
    foreign = replace(foreign, run=replace(foreign.run, prompt_ids=()))
    store.add_comparison(make_comparison("c1", "AB"), make_vote("v1", "c1", best="A", seen="AB"))
    store.add_comparison(replace(make_comparison("c2", "A"), traces=(make_trace("c2-A", "A"), foreign)), make_vote("v2", "c2", best="A", seen="AB"))
    report = export_preferences(store, tmp_path / "tokens.jsonl", "preference_tokens")
    ids = {"chosen_ids": [3, 4, 5, 10, 11], "rejected_ids": [3, 4, 5, 10, 11], "num_prompt_ids": 3, "num_common": 0, "margin": 0.0}
    assert lines(report.path) == [ids | {"comparison_id": "c1", "vote_id": "v1"}]
    assert report.skipped == {"no_token_ids": 1}


@pytest.mark.parametrize("format", PAIRS)
def test_an_export_unpacks_no_step(store, tmp_path, monkeypatch, format):
    store.add_comparison(make_comparison(), make_vote())
    monkeypatch.setattr(rows, "steps_of", lambda content: pytest.fail("steps were unpacked"))
    assert export_preferences(store, tmp_path / "pairs.jsonl", format).num_pairs == 3


@pytest.mark.parametrize("format", sorted(FORMATS))
def test_only_a_format_that_needs_steps_reads_them(store, tmp_path, monkeypatch, format):
    store.add_comparison(make_comparison("good", "AB"), make_vote("v1", "good", "A", "AB"))
    store.add_comparison(make_comparison("silent"))
    columns: set[str] = set()
    reading = store._reading

    @contextmanager
    def watched():
        with reading() as conn:
            conn.set_authorizer(lambda action, table, column, *_: columns.add(f"{table}.{column}") or sqlite3.SQLITE_OK)
            yield conn

    monkeypatch.setattr(store, "_reading", watched)
    report = export_preferences(store, tmp_path / "pairs.jsonl", format)
    assert "traces.response" in columns and ("traces.steps" in columns) == FORMATS[format].steps
    assert (report.num_comparisons, report.num_votes) == (1, 1), "nobody voted on the other one"


def test_what_was_left_out_is_said_of_votes_alone(store, tmp_path):
    store.add_comparison(make_comparison("good", "AB"), make_vote("v1", "good", "A", "AB"))
    for name in ("silent", "alone"):
        store.add_comparison(make_comparison(name))
    assert export_preferences(store, tmp_path / "pairs.jsonl").left_out == ""
    store.add_comparison(make_comparison("even"), make_vote("v2", "even", best=None))
    store.add_comparison(make_comparison("passed"), make_vote("v3", "passed", best=None, verdict="skip"))
    assert export_preferences(store, tmp_path / "pairs.jsonl").left_out == "comparisons skipped: 1, votes for a tie: 1"


def test_an_answer_that_the_index_has_lost_stops_the_export(tmp_path):
    path = tmp_path / "rgtg.db"
    with Store(path) as store:
        store.add_comparison(make_comparison(columns="AB"), make_vote(seen="AB"))
    with closing(sqlite3.connect(path)) as conn:
        root = conn.execute("SELECT rootpage FROM sqlite_schema WHERE name = 'traces_column'").fetchone()[0]
        assert [row[2] for row in conn.execute("PRAGMA index_info(traces_column)")][:2] == ["comparison_id", "column"]
        size = conn.execute("PRAGMA page_size").fetchone()[0]
    content = bytearray(path.read_bytes())
    content[(root - 1) * size + 4] -= 1  # one entry fewer on the page of the index
    path.write_bytes(content)
    with Store(path) as store, pytest.raises(StoreError, match="`traces` has 2 rows, and its index 1"):
        export_preferences(store, tmp_path / "pairs.jsonl")


def test_rows_that_are_written_before_the_end_leave_no_file_where_a_later_one_is_damaged(tmp_path):
    path, out = tmp_path / "rgtg.db", tmp_path / "pairs.jsonl"
    with Store(path) as store:
        for name in ("c1", "c2"):
            store.add_comparison(make_comparison(name, "AB"), make_vote(f"v-{name}", name, seen="AB"))
    flip(path, " answer c2-B")
    with Store(path) as store, pytest.raises(StoreError, match="does not fit its hash"):
        export_preferences(store, out)
    assert not out.exists() and not list(tmp_path.glob(".*.part"))


def test_unknown_format_is_refused(store, tmp_path):
    with pytest.raises(BadSettings, match="There are: preference, preference_tokens"):
        export_preferences(store, tmp_path / "pairs.jsonl", "csv")


def test_same_data_gives_the_same_bytes(store, tmp_path):
    for name in ("c1", "c2", "c3"):
        store.add_comparison(make_comparison(name), make_vote(f"v-{name}", name))
    first = export_preferences(store, tmp_path / "first.jsonl")
    second = export_preferences(store, tmp_path / "second.jsonl")
    assert first.path.read_bytes() == second.path.read_bytes()
    assert first.sha256 == second.sha256


def test_no_pair_gives_an_empty_file_and_a_report(store, tmp_path):
    report = export_preferences(store, tmp_path / "pairs.jsonl")
    assert (report.num_pairs, report.path.read_bytes()) == (0, b"")


def test_export_sees_one_moment_while_votes_come_in(store, tmp_path):
    stop = threading.Event()

    def vote():
        i = 0
        while not stop.is_set():
            store.add_comparison(make_comparison(f"c{i}", "AB"), make_vote(f"v{i}", f"c{i}", "A", "AB"))
            i += 1

    voter = threading.Thread(target=vote)
    voter.start()
    try:
        while store.num_votes() == 0:
            stop.wait(0.001)
        reports = [export_preferences(store, tmp_path / "pairs.jsonl") for _ in range(5)]
    finally:
        stop.set()
        voter.join()
    for report in reports:
        assert report.num_pairs == report.num_comparisons == report.num_votes > 0 and report.skipped == {}


@pytest.mark.parametrize(
    ("marker", "row"),
    [
        (" answer c1-B", r"Row 2 of `traces` \(id c1-B\)"),
        ("very kind", r"Row 1 of `votes` \(id v1\)"),
        ("the soup was", r"Row 1 of `comparisons` \(id c1\)"),
    ],
)
def test_flipped_bit_stops_the_export_and_names_the_row(tmp_path, marker, row):
    path, out = tmp_path / "rgtg.db", tmp_path / "pairs.jsonl"
    with Store(path) as store:
        store.add_comparison(make_comparison(columns="AB", prompt="the soup was"), make_vote(seen="AB", comment="very kind"))
        export_preferences(store, out)
    before = out.read_bytes()
    flip(path, marker)
    with Store(path) as store, pytest.raises(StoreError, match=row + " does not fit its hash"):
        export_preferences(store, out)
    assert out.read_bytes() == before
    assert not list(tmp_path.glob(".*.part"))


def test_byte_that_is_no_text_any_more_is_named_too(tmp_path):
    path = tmp_path / "rgtg.db"
    with Store(path) as store:
        store.add_comparison(make_comparison(columns="AB"), make_vote(seen="AB", comment="very kind"))
    path.write_bytes(path.read_bytes().replace(b"very kind", b"very \xffind"))
    with Store(path) as store, pytest.raises(StoreError, match=r"Row 1 of `votes`"):
        export_preferences(store, tmp_path / "pairs.jsonl")


def test_export_never_lands_on_the_database(store):
    for name in ("rgtg.db", "rgtg.db-wal", "rgtg.db.lock"):
        with pytest.raises(BadData, match="is the database"):
            export_preferences(store, store.path.with_name(name))


def said(trace, *texts):
    return replace(trace, steps=tuple(replace(step, text=text) for step, text in zip(trace.steps, texts, strict=True)), response="".join(texts))


def test_marks_are_written_by_tokens_and_by_characters(tmp_path):
    traces = (said(make_trace("a", "A", num_steps=4), " go", "", "é", "d"), said(make_trace("b", "B", num_steps=2), " bad", ""))
    store = Store(tmp_path / "rgtg.db")
    store.add_comparison(make_comparison("c", traces=traces), replace(make_vote("v", "c", "A", ""), best_trace_id="a", seen_trace_ids=("a", "b")))
    store.add_mark(Span("m", "a", 1, 3, "good"))
    store.add_mark(Span("n", "b", 1, 2, "goes_wrong"))
    export_preferences(store, tmp_path / "frozen.jsonl", "training")
    store.close()
    (pair,) = read_examples(tmp_path / "frozen.jsonl")
    assert (pair.chosen, pair.chosen_marks, pair.chosen_spans) == (" goéd", ((1, 3, "good"),), ((3, 4, "good"),))
    assert (pair.rejected, pair.rejected_marks, pair.rejected_spans) == (" bad", ((1, 2, "goes_wrong"),), ((4, 4, "goes_wrong"),))


def branched(name):
    """A comparison of an answer with a branch of it."""
    branch = make_trace(f"{name}-B", "B", parent_trace_id=f"{name}-A", branch_position=1)
    branch = replace(branch, response=" good fine", steps=(branch.steps[0], replace(make_step(1, 99), text=" fine")))
    return replace(make_comparison(name, "A"), traces=(make_trace(f"{name}-A", "A"), branch))


@pytest.mark.slow
@pytest.mark.parametrize("format", sorted(FORMATS))
def test_datasets_loads_the_export_with_stable_columns(store, tmp_path, format):
    import datasets

    for name in ("c1", "c2"):
        store.add_comparison(make_comparison(name), make_vote(f"v-{name}", name, strength=2, seen="ABCD"))
    store.add_comparison(branched("c3"), make_vote("v-c3", "c3", "B", "AB", strength=2))
    store.add_mark(Span("m", "c1-B", 0, 1, "bad"))
    report = export_preferences(store, tmp_path / "pairs.jsonl", format)
    loaded = datasets.load_dataset("json", data_files=str(report.path), split="train", cache_dir=str(tmp_path / "cache"))
    assert loaded.num_rows == {"unpaired": 10, "votes": 3, "stepwise": 1, "prefix_preference": 1}.get(format, 7)
    assert loaded[0] == lines(report.path)[0]
    if format == "preference":
        kinds = {name: feature.dtype for name, feature in loaded.features.items()}
        assert {kinds[name] for name in ("prompt", "chosen", "rejected", "voted_at", "chosen_params")} <= {"string", "large_string"}
        assert (kinds["margin"], kinds["strength"], kinds["blind"]) == ("float64", "int64", "bool")


@pytest.mark.slow
@pytest.mark.parametrize("format", sorted(FORMATS))
@pytest.mark.parametrize("order", ["ab", "ba"])
def test_two_exports_pool_into_one_data_set_in_either_order(tmp_path, format, order):
    """One has neither strengths nor marks and, but for ids alone, two tokenizers; the other has all of them."""
    import datasets

    for name, strength, mark in (("a", None, False), ("b", 2, True)):
        with Store(tmp_path / f"{name}.db") as store:
            traces = tuple(make_trace(f"{name}-{column}", column) for column in "AB")
            if format == "prefix_preference":
                traces = branched(name).traces
            elif name == "a" and format != "preference_tokens":
                traces = (traces[0], replace(traces[1], run=replace(traces[1].run, prompt_ids=(7,))))
            store.add_comparison(make_comparison(name, traces=traces), make_vote(f"v{name}", name, "A", "AB", strength=strength))
            if mark or format == "stepwise":
                store.add_mark(Span("m", f"{name}-B", 0, 1, "bad"))
            export_preferences(store, tmp_path / f"{name}.jsonl", format)
    files = [str(tmp_path / f"{name}.jsonl") for name in order]
    loaded = datasets.load_dataset("json", data_files=files, split="train", cache_dir=str(tmp_path / "cache"))
    expected = [row for name in order for row in lines(tmp_path / f"{name}.jsonl")]
    assert list(loaded) == expected and len(expected) >= 2
    if format in ("preference", "preference_tokens", "training"):
        assert loaded["margin"][:] == [{"a": 0.0, "b": 0.5}[name] for name in order]


def test_an_excluded_vote_gives_no_row_and_is_counted_until_it_is_included_again(store, tmp_path):
    for name in ("c1", "c2"):
        store.add_comparison(make_comparison(name, "AB", prompt=name), make_vote(f"v-{name}", name, "A", "AB"))
    store.exclude("v-c1", "a test of mine")
    report = export_preferences(store, tmp_path / "pairs.jsonl")
    assert [line["vote_id"] for line in lines(report.path)] == ["v-c2"] and report.left_out == "votes excluded: 1"
    everyone = lines(export_preferences(store, tmp_path / "votes.jsonl", "votes").path)
    assert [(row["vote_id"], row["excluded"]) for row in everyone] == [("v-c1", "a test of mine"), ("v-c2", "")]
    store.exclude("v-c1", None)
    assert len(lines(export_preferences(store, tmp_path / "again.jsonl").path)) == 2
    with pytest.raises(UnknownRecord):
        store.exclude("v9", "no such vote")


def test_two_continuations_of_one_token_are_a_pair_of_partial_sequences(store, tmp_path):
    branch = make_trace("c1-B", "B", parent_trace_id="c1-A", branch_position=1)
    branch = replace(branch, steps=(branch.steps[0], replace(make_step(1, 99), text=" fine")))
    store.add_comparison(replace(make_comparison("c1", "A"), traces=(make_trace("c1-A", "A"), branch)), make_vote("v1", "c1", "B", "AB"))
    mark = store.add_mark(Span("m1", "c1-A", 1, 2, "goes_wrong"))
    store.add_mark(Span("m2", "c1-B", 0, 1, "goes_wrong"))  # nothing else goes on from there
    report = export_preferences(store, tmp_path / "prefix.jsonl", "prefix_preference")
    (row,) = lines(report.path)
    assert (row["prompt"], row["chosen"], row["rejected"]) == ("the food was good", " fine", " good")
    assert (row["prompt_ids"], row["chosen_ids"], row["rejected_ids"], row["num_prefix_tokens"]) == ("[3, 4, 5, 10]", "[99]", "[11]", 1)
    assert (row["source"], row["vote_id"], row["mark_id"]) == ("vote", "v1", "")
    assert report.skipped == {"no_continuation": 1, "repeat": 1}, "the mark says what the vote said"
    store.undo("c1", mark.rater_id)
    (row,) = lines(export_preferences(store, tmp_path / "prefix.jsonl", "prefix_preference").path)
    assert (row["source"], row["vote_id"], row["mark_id"], row["chosen"]) == ("goes_wrong", "", "m1", " fine")


def test_a_folder_has_every_format_in_every_type_and_a_manifest_of_them(store, tmp_path):
    store.add_comparison(make_comparison("c1", "AB", prompt="=HYPERLINK(1)"), make_vote("v1", "c1", "A", "AB"))
    made = export_folder(store, tmp_path / "one", ["preference", "unpaired"])
    manifest = json.loads(made.manifest.read_text(encoding="utf-8"))
    entry = manifest["formats"]["preference"]
    assert (entry["rows"], entry["votes"], entry["columns"]["prompt"], entry["columns"]["margin"]) == (1, 1, "text", "number")
    for entry in manifest["formats"].values():
        for name, file in entry["files"].items():
            assert hashlib.sha256((tmp_path / "one" / name).read_bytes()).hexdigest() == file["sha256"]
    assert manifest["database"]["last_vote_seq"] == 1 and manifest["versions"].keys() == {"rgtg", "pyarrow"}
    export_folder(store, tmp_path / "two", ["preference", "unpaired"])
    names = sorted(path.name for path in (tmp_path / "one").iterdir())
    assert len(names) == 7 and all((tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes() for name in names)
    assert "'=HYPERLINK(1)" in (tmp_path / "one" / "preference.csv").read_text(encoding="utf-8")
    narrow = export_folder(store, tmp_path / "none", ["preference"], [".jsonl"], wanted=HistoryFilter(method="base"))
    assert narrow.reports["preference"].num_pairs == 0 and json.loads(narrow.manifest.read_text(encoding="utf-8"))["filter"] == {"method": "base"}


def test_a_run_is_read_the_short_way_as_it_is_read_the_long_way():
    """Texts that look like the fields around them, a run of an earlier version, and one that is written otherwise."""
    hostile = 'a,"seed":7,"prompt_ids":[1],"forced_ids":[],"x":"\\ \u2028 é 🧭\n\0'
    run = replace(make_trace("t", "A").run, prompt=hostile, params=(("choices", hostile), ("threshold", float("-inf"))), forced_ids=(7, 8))
    stored, without, kept = rows.json_text(run.plain(), "The run"), replace(run, prompt_ids=(), forced_ids=()), {}
    older = {name: value for name, value in json.loads(stored).items() if name not in ("guides", "combine", "standards")}
    older["reward_model"] = {"name": "partial", "revision": "def456"}
    for text in (stored, json.dumps(json.loads(stored)), json.dumps(older, separators=(",", ":")), stored):
        assert _run(text, kept) == without
    assert _run(stored.replace('"seed":17,', '"seed":18,'), kept).seed == 18 and len(kept) == 2  # what they share is read once
