"""Faults that the app has to survive and that no other test has: `tests.faults` is the table of all of them."""

import csv
import gzip
import json
import threading
import time
from collections.abc import Iterator
from types import SimpleNamespace

import gradio as gr
import pytest
from faults import FAULTS, file_of, functions_in
from store_records import make_comparison, make_vote
from test_compare_page import StubWorkbench, a_page, run

from pages.voting import Voting
from rgtg.config import GenerationConfig, Settings
from rgtg.errors import BadData, BadSettings, RgtgError, StoreError
from rgtg.records import ColumnSpec
from rgtg.store import connection
from rgtg.store.backups import make_backup
from rgtg.store.connection import verify
from rgtg.store.exchange.into import import_plan
from rgtg.store.exchange.plan import plan
from rgtg.store.export import export_preferences
from rgtg.store.store import Store
from rgtg.workbench.workbench import Workbench

VISITOR = SimpleNamespace(session_hash="one", cookies={"rgtg_rater": "a" * 32})
GENERATION = GenerationConfig(max_new_tokens=6)


def test_every_fault_of_the_table_names_tests_that_there_are():
    assert [fault.number for fault in FAULTS] == [*range(1, 19), 0]
    for fault in FAULTS:
        assert fault.tests
        for name in fault.tests:
            assert name.partition("::")[2] in functions_in(file_of(name)), name


# --- the server and the disk ------------------------------------------------------------------------------------------


def test_a_vote_counts_where_the_server_was_restarted_between_the_text_and_the_vote(tmp_path):
    """The page was drawn by a process that is gone: its vote names the comparison, and its cookie the rater."""
    said = {"comparison": "c1", "verdict": "best", "best": "c1-A", "seen": ["c1-A", "c1-B"], "vote_id": "v1"}
    raters = set()
    for restart, note in ((False, "saved: A is best · 1 vote"), (True, "saved: B is best · 1 vote"), (True, "undone: A is best again · 1 vote")):
        workbench = Workbench(Settings(data_dir=tmp_path))
        if not restart:
            workbench.store.add_comparison(make_comparison(columns="AB"))
        with gr.Blocks():
            voting = Voting(workbench)
        answer = (voting.undo if note.startswith("undone") else voting.vote)()(VISITOR, SimpleNamespace(_data=said))
        assert json.loads(answer)["note"] == note and json.loads(answer)["answers"] == said["vote_id"]
        said |= {"best": "c1-B", "vote_id": "v2"} if not restart else {"vote_id": "u1"}
        raters |= {vote.rater_id for vote in workbench.store.votes("c1")}
        workbench.close()
    assert len(raters) == 1


@pytest.fixture
def tiny(folders, tmp_path, monkeypatch) -> Iterator[Workbench]:
    monkeypatch.setattr("rgtg.workbench.library.STARTER_DIR", tmp_path / "none")
    found = Workbench(Settings(data_dir=tmp_path / "data"), [folders["lm"]], [folders["partial"]])
    yield found
    found.close()


def test_on_a_full_disk_answers_are_written_the_vote_is_refused_aloud_and_kept_for_later(tiny):
    tiny.store.add_comparison(make_comparison(), make_vote())
    num_pages = tiny.store._writer(lambda conn: conn.execute("PRAGMA page_count").fetchone()[0])
    tiny.store._writer(lambda conn: conn.execute(f"PRAGMA max_page_count={num_pages}").fetchone())
    running = tiny.compare("the food", [ColumnSpec("base"), ColumnSpec("pargs", (), "p")], GenerationConfig(max_new_tokens=60))
    for _ in running:
        pass
    assert all(len(trace.steps) > 1 and trace.stop_reason != "error" for trace in running.traces), "generating goes on"
    assert "the disk is full" in str(running.not_stored)  # the words behind the status of the run
    with pytest.raises(StoreError, match="Nothing was stored: the disk is full"):
        tiny.vote(running.id, "tie")
    assert tiny.store.num_comparisons() == tiny.num_votes() == 1 and tiny.store.comparison("c1") == make_comparison()
    assert not tiny.store._writer._conn.in_transaction
    tiny.store._writer(lambda conn: conn.execute("PRAGMA max_page_count=1000000").fetchone())
    assert tiny.vote(running.id, "tie").verdict == "tie" and tiny.store.comparison(running.id).traces[0].steps


@pytest.mark.parametrize("how", ["junk", "cut in half", "empty"])
def test_a_database_that_is_none_is_kept_and_the_newest_sound_backup_is_offered(tmp_path, how):
    path = tmp_path / "rgtg.db"
    with Store(path) as store:
        store.add_comparison(make_comparison(), make_vote())
        good = make_backup(path).path
    broken = good.with_name("rgtg.2099-01-01T00-00-00.db")
    broken.write_bytes(good.read_bytes()[:5000])
    content = {"junk": b"junk " * 4000, "cut in half": path.read_bytes()[: path.stat().st_size // 2], "empty": b""}[how]
    path.write_bytes(content)
    for file in tmp_path.glob("rgtg.db-*"):
        file.unlink()
    with pytest.raises(StoreError) as refused:
        Store(path)
    assert f"rgtg restore {good}" in str(refused.value) and path.read_bytes() == content
    broken.unlink()
    good.unlink()
    with pytest.raises(StoreError) as refused:
        Store(path)
    assert "rgtg restore" not in str(refused.value)


@pytest.mark.slow
def test_a_backup_ends_under_steady_writes_and_the_wal_stays_bounded(tmp_path, monkeypatch):
    monkeypatch.setattr(connection, "CHECKPOINT_BYTES", 200_000)
    path, ended, largest = tmp_path / "rgtg.db", threading.Event(), 0
    with Store(path) as store:

        def write(name: str) -> None:
            for number in range(100_000):
                if ended.is_set():
                    return
                store.add_comparison(make_comparison(f"{name}{number}"), make_vote(f"v-{name}{number}", f"{name}{number}"))

        writers = [threading.Thread(target=write, args=(name,)) for name in "ab"]
        for writer in writers:
            writer.start()
        try:
            number = before = 0
            while number < 3 or before < 300:
                number += 1
                before, start = store.num_votes(), time.monotonic()
                copy = make_backup(path, tmp_path / f"copies-{number}").path
                assert time.monotonic() - start < 60
                assert verify(copy)["votes"] >= before, "nothing from before it began is missing"
                largest = max(largest, path.with_name("rgtg.db-wal").stat().st_size)
        finally:
            ended.set()
            for writer in writers:
                writer.join()
        written = store.num_votes()
    assert written > before > 0 and path.stat().st_size > 2_000_000 and largest < 4_000_000


def test_a_clock_that_goes_back_changes_no_order(tmp_path, monkeypatch):
    times = iter(f"2026-11-26T{hour:02}:00:00.000+00:00" for hour in range(23, 0, -1))
    monkeypatch.setattr("rgtg.store.store.now", lambda: next(times))
    with Store(tmp_path / "rgtg.db") as store:
        for name in ("c1", "c2"):
            store.add_comparison(make_comparison(name, created_at=""))
        assert store.history()[0].id == "c2" or store.history() == ()  # nobody voted yet
        store.add_vote(make_vote("v1", best="A"))
        last = store.add_vote(make_vote("v2", best="B"))
        store.add_vote(make_vote("v3", "c2", best="C"))
        assert store.vote_of("c1") == last and last.revision == 2 and last.created_at < store.votes("c1")[0].created_at
        assert [entry.id for entry in store.history()] == ["c2", "c1"]
        assert store.undo("c1").best_trace_id == "c1-A"


# --- prompts ----------------------------------------------------------------------------------------------------------

REFUSED = {"empty": "", "blank": " \n\t ", "no text": None, "100,000 characters": "x" * 100_000, "half a character": "a\ud83d"}
TAKEN = {
    "right to left": "\u202eאבג العربية", "zero width": "a\u200b\u200d\ufeff👩‍👩‍👧", "control": "a\x01\x07\x1b[31m\x7f",
    "markers": "</s><s>[INST] {{x}} <|im_end|>",
    "markup": "<script>alert(1)</script> ![x](http://x.example/x.png) ${1}", "windows": "a\r\nb", "combining": "e\u0301\u0301",
}  # fmt: skip


@pytest.mark.parametrize("prompt", REFUSED.values(), ids=REFUSED)
def test_a_prompt_that_is_none_is_refused_on_the_server_before_anything_reads_it(prompt):
    workbench = StubWorkbench()
    with pytest.raises(gr.Error, match="prompt"):
        run(a_page(workbench), prompt)
    assert not workbench.asked


def test_a_prompt_is_stored_as_typed_and_its_markers_are_text(tiny):
    special = set(tiny.library.base_lm().loaded.tokenizer.all_special_ids)
    for name, prompt in TAKEN.items():
        assert run(a_page(stub := StubWorkbench()), prompt) and stub.asked[0][0] == prompt, name
        running = tiny.compare(prompt, [ColumnSpec("base")], GENERATION)
        for _ in running:
            pass
        stored = tiny.store.comparison(running.id)
        assert (stored.prompt, stored.traces[0].run.prompt) == (prompt, prompt), name
        assert not special & set(stored.traces[0].run.prompt_ids[1:]), name
    for prompt in ("x" * 100_001, "word " * 200):
        with pytest.raises(RgtgError, match="prompt|long|fit"):
            tiny.compare(prompt, [ColumnSpec("base")], GENERATION)


# --- imports ----------------------------------------------------------------------------------------------------------

GOOD = {"prompt": "p", "chosen": "good", "rejected": "poor"}
LINE, GIGABYTE = json.dumps(GOOD).encode() + b"\n", gzip.compress(b"a" * 10_000_000) * 100
BAD_FILES = {
    "seventh.jsonl": (LINE * 6 + b'{"prompt": "p", "chosen": 7, "rejected": "x"}\n' + LINE * 3, "[Rr]ow 7 .*`chosen`"),
    "one line of a gigabyte.jsonl.gz": (gzip.compress(b'{"prompt": "p", "chosen": "') + GIGABYTE, "Line 1 has more than 64,000,000"),
    "bomb.csv.gz": (gzip.compress(b'prompt,chosen,rejected\n"p","') + GIGABYTE, "more than 64,000,000"),
    "archive.zip": (b"PK\x03\x04" + b"\0" * 40, "zip archive or an Excel workbook"),
    "broken.jsonl.gz": (gzip.compress(json.dumps(GOOD).encode() * 50)[:40], "cannot be unpacked"),
    "nothing.jsonl": (b"", "no row|empty|holds no"),
    "cut.json": (json.dumps([GOOD] * 3).encode()[:-20], "cannot be read"),
    "other bytes.csv": ("prompt,chosen,rejected\nä,ö,ü\n".encode("latin-1"), "no UTF-8"),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD_FILES)
def test_a_broken_file_is_refused_in_words_and_nothing_of_it_is_stored(tmp_path, name):
    content, words = BAD_FILES[name]
    (tmp_path / name).write_bytes(content)
    with Store(tmp_path / "rgtg.db") as store:
        with pytest.raises((BadData, BadSettings), match=words) as refused:
            import_plan(store, plan(tmp_path / name))
        assert name in str(refused.value) and "Error" not in str(refused.value)
        assert store.num_comparisons() == store.num_votes() == 0


def test_marks_of_an_encoding_windows_lines_and_formulas_come_in_and_go_out_as_texts(tmp_path):
    formula = '=HYPERLINK("http://x.example","click")'
    (tmp_path / "a.csv").write_bytes(b'\xef\xbb\xbfprompt,chosen,rejected\r\n+1,@good,"' + formula.replace('"', '""').encode() + b'"\r\n')
    with Store(tmp_path / "rgtg.db") as store:
        import_plan(store, plan(tmp_path / "a.csv"))
        ((comparison, _),) = store.facts()
        assert comparison.prompt == "+1" and {trace.response for trace in comparison.traces} == {"@good", formula}
        exported = export_preferences(store, tmp_path / "out.csv")
        with exported.path.open(newline="", encoding="utf-8") as file:
            (row,) = csv.DictReader(file)
        assert (row["prompt"], row["chosen"], row["rejected"]) == ("'+1", "'@good", f"'{formula}"), "no spreadsheet runs it"
        with Store(tmp_path / "other.db") as other:
            import_plan(other, plan(exported.path))
            assert export_preferences(other, tmp_path / "again.csv").sha256 == exported.sha256
