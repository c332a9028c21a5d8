"""What the frozen file says of an answer beyond its text and ids."""

from dataclasses import replace

from store_records import make_comparison, make_trace, make_vote

from rgtg.preferences.formats import read_examples
from rgtg.records import Span
from rgtg.store.store import Store
from rgtg.training.votes import freeze_votes


def said(trace, *texts):
    return replace(trace, steps=tuple(replace(step, text=text) for step, text in zip(trace.steps, texts, strict=True)), response="".join(texts))


def test_marks_are_written_by_tokens_and_by_characters(tmp_path):
    traces = (said(make_trace("a", "A", num_steps=4), " go", "", "é", "d"), said(make_trace("b", "B", num_steps=2), " bad", ""))
    store = Store(tmp_path / "rgtg.db")
    store.add_comparison(make_comparison("c", traces=traces), replace(make_vote("v", "c", "A", ""), best_trace_id="a", seen_trace_ids=("a", "b")))
    store.add_mark(Span("m", "a", 1, 3, "good"))
    store.add_mark(Span("n", "b", 1, 2, "goes_wrong"))
    freeze_votes(store, tmp_path / "frozen.jsonl")
    store.close()
    (pair,) = read_examples(tmp_path / "frozen.jsonl")
    assert (pair.chosen, pair.chosen_marks, pair.chosen_spans) == (" goéd", ((1, 3, "good"),), ((3, 4, "good"),))
    assert (pair.rejected, pair.rejected_marks, pair.rejected_spans) == (" bad", ((1, 2, "goes_wrong"),), ((4, 4, "goes_wrong"),))
