"""A person's file is read in a process of its own: what it was read as comes back, and what is wrong in words."""

import json

import pytest
from tiny_models import byte_tokenizer

from rgtg.errors import BadData
from rgtg.jobs import reading
from rgtg.preferences.dataset import prepare
from rgtg.preferences.formats import Example, read, read_back
from rgtg.training.config import TrainingConfig


@pytest.fixture
def pairs(tmp_path):
    path = tmp_path / "pairs.jsonl"
    rows = [{"q": "a", "x": "b", "y": "c", "w": "x"}, {"q": "d", "x": "e", "y": "f", "w": "tie"}, {"q": 5}]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


CONFIG = TrainingConfig(columns="prompt=q,a=x,b=y,winner=w", max_bad_rows=1)


def test_rows_come_back_from_another_process_as_they_are_read_here(tmp_path, pairs):
    facts = reading.rows_apart(str(pairs), CONFIG, tmp_path)
    found = read_back(tmp_path / reading.ROWS, facts)
    assert found == read(pairs, columns=CONFIG.columns, max_bad_rows=1)
    assert found.examples == (Example(1, "a", "b", "c", first="chosen"),) and dict(found.left_out) == {"even": 1, "unreadable": 1}


def test_what_is_wrong_comes_back_in_words(tmp_path, pairs):
    with pytest.raises(BadData, match="Row 3 of .*pairs.jsonl` cannot be used.") as refused:
        reading.rows_apart(str(pairs), TrainingConfig(columns=CONFIG.columns), tmp_path)
    assert refused.value.do


def test_a_reader_that_dies_is_said(tmp_path, pairs, monkeypatch):
    monkeypatch.setattr(reading, "ANSWER", "never.json")
    with pytest.raises(BadData, match="cannot be read. Its reader failed; the log says more."):
        reading.rows_apart(str(pairs), CONFIG, tmp_path)


@pytest.mark.slow  # it loads the libraries
def test_a_report_is_made_in_another_process(tmp_path, pairs):
    byte_tokenizer().save_pretrained(tmp_path / reading.TOKENIZER)
    report = reading.report_apart(str(pairs), 64, 300, CONFIG, None, tmp_path)
    assert report == prepare(read(pairs, columns=CONFIG.columns, max_bad_rows=1), byte_tokenizer(), 64, 300, CONFIG).report
    assert (report.num_rows, report.num_used, dict(report.dropped)) == (3, 1, {"even": 1, "unreadable": 1})
