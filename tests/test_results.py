"""What the votes in a database say: ballots read without steps, the board in words and as files, the command."""

import csv
import io
import json
from dataclasses import replace

import pytest

from rgtg.cli.main import main
from rgtg.errors import BadSettings
from rgtg.records import ModelRef
from rgtg.store import rows
from rgtg.store.store import Store
from rgtg.workbench.report.results import results_of, sentences
from rgtg.workbench.report.tables import table
from tests.store_records import make_comparison, make_vote

METHODS = {"A": ("base", ()), "B": ("args", ((ModelRef("full", "1"), 1.0),)), "C": ("pargs", ((ModelRef("partial", "2"), 2.0),))}


def compared(name: str, **changes):
    comparison = make_comparison(name, "ABC", **changes)
    traces = (replace(t, run=replace(t.run, method=METHODS[t.column][0], guides=METHODS[t.column][1], params=())) for t in comparison.traces)
    return replace(comparison, traces=tuple(traces))


@pytest.fixture
def store(tmp_path):
    """Thirty comparisons: C is best in 20, a tie in 5, all bad in 3, skipped in 1, taken back in 1."""
    with Store(tmp_path / "rgtg.db") as store:
        for i in range(30):
            best = "C" if i < 20 else None
            verdict = "best" if best else "tie" if i < 25 else "all_bad" if i < 28 else "skip"
            vote = make_vote(f"v{i}", f"c{i}", best, "ABC", verdict=verdict)
            store.add_comparison(compared(f"c{i}", prompt=f"prompt {i}"), vote)
        store.undo("c29")
        yield store


def test_votes_are_counted_and_the_best_has_the_first_rank(store):
    results = results_of(store, resamples=50)
    assert results.board.places[0].setting == "pargs · partial*2"
    assert results.board.places[0].rank == (1, 1) and results.board.places[0].num_battles == 50
    assert results.board.num_battles == 20 * 2 + 5 * 3 and (results.num_votes, results.num_raters) == (29, 1)
    assert dict(results.left_out) == {"all_bad": 3, "skip": 1}
    assert "No battle: votes that all are bad: 3, comparisons skipped: 1." in sentences(results)


def test_settings_are_told_apart_by_every_parameter_or_by_method_alone(store):
    other = compared("warm")
    traces = tuple(replace(t, run=replace(t.run, params=(("beta", 4.0),))) if t.column == "C" else t for t in other.traces)
    store.add_comparison(replace(other, traces=traces), make_vote("vw", "warm", "C", "ABC"))
    assert len(results_of(store, "method", resamples=50).board.settings) == 3
    names = results_of(store, "setting", resamples=50).board.settings
    assert len(names) == 4 and "pargs · partial*2 · beta 4" in names


def test_no_step_is_read(store, monkeypatch):
    monkeypatch.setattr(rows, "steps_of", lambda *given: pytest.fail("the steps were parsed"))
    assert results_of(store, resamples=50).board.num_battles == 55


def test_a_rater_who_meets_the_same_answers_again_is_compared_with_himself(store):
    for i, best in enumerate("CB"):
        store.add_comparison(compared(f"again{i}", prompt="prompt 0"), make_vote(f"va{i}", f"again{i}", best, "ABC"))
    again = [replace(t, response=f" answer c0-{t.column}") for t in compared("third").traces]
    store.add_comparison(replace(compared("third", prompt="prompt 0"), traces=tuple(again)), make_vote("v-third", "third", "A", "ABC"))
    agreement = results_of(store, resamples=50).agreement
    assert (agreement.num_repeats, agreement.self_agreement) == (1, 0.0), "other answers to the same prompt are no repeat"


@pytest.mark.parametrize("format", ["markdown", "csv", "json", "latex"])
def test_the_board_as_a_file(store, format):
    results = results_of(store, resamples=50)
    text = table(results, format)
    if format == "csv":
        first = next(csv.DictReader(io.StringIO(text)))
        assert first["setting"] == "pargs · partial*2" and float(first["low"]) < float(first["strength"]) < float(first["high"])
    elif format == "json":
        read = json.loads(text)
        assert read["places"][0]["rank"] == "1" and read["num_votes"] == 29 and read["wins"][read["settings"].index("pargs · partial*2")][0] == 20
    elif format == "latex":
        assert r"pargs $\cdot$ partial*2 &" in text and text.count(r"\\") == 4
    else:
        assert text.splitlines()[2].startswith("| 1 | pargs · partial*2 | +")
    with pytest.raises(BadSettings, match="no table format `xml`"):
        table(results, "xml")


def test_a_name_that_a_spreadsheet_would_run_is_quoted(store):
    results = results_of(store, resamples=50)
    named = replace(results.board.places[0], setting="=1+1")
    text = table(replace(results, raw=replace(results.raw, places=(named,)), adjusted=replace(results.raw, places=(named,))), "csv")
    assert next(csv.DictReader(io.StringIO(text)))["setting"] == "'=1+1"


def test_without_a_vote_the_board_is_empty(tmp_path):
    with Store(tmp_path / "empty.db") as store:
        results = results_of(store, resamples=50)
    assert results.board.places == () and sentences(results) == ["0 votes of 0 raters, 0 battles in 0 comparisons."]


def test_the_command_prints_the_board(store, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("RGTG_DATA_DIR", str(tmp_path))
    store.close()
    assert main(["results", "--by", "setting"]) == 0
    assert "| 1 | pargs · partial*2 |" in capsys.readouterr().out
    assert main(["results", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["num_battles"] == 55
