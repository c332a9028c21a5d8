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
from rgtg.workbench.report.results import VoteResults, disagreement_rows, results_of, sentences
from rgtg.workbench.report.standalone import board_html, comparison_html
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


def test_ballots_weigh_by_the_probability_of_their_pair(tmp_path):
    """Half as likely is twice as heavy, with a mean of 1 in a task; a pair of Compare, of another program or with a word for a rule weighs 1."""
    rules = [{"task": "t", "rule": "thompson", "probability": p} for p in (0.2, 0.4, 0.4)] + [
        {"task": "s", "rule": "disagreement", "probability": 0.1}
    ]
    with Store(tmp_path / "rgtg.db") as store:
        for i, rule in enumerate([*map(json.dumps, rules), "manual", "import", '{"probability": "x"}', "[1]", '{"probability": 0}']):
            store.add_comparison(compared(f"c{i}", pair_rule=rule), make_vote(f"v{i}", f"c{i}", "C", "BC"))
        ballots, _ = store.ballots(lambda run: run.method)
        assert [ballot.weight for ballot in ballots] == pytest.approx([1.5, 0.75, 0.75] + [1] * 6)
        assert [ballot.by_answers for ballot in ballots] == [i == 3 for i in range(9)]
        found = results_of(store, resamples=2)
        assert found.board.num_weighted == 3 and any("Shares won are corrected" in line for line in sentences(found))


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
        assert r"pargs $\cdot$ partial*2 &" in text and text.count(r"\\") == 4 and r"\toprule" in text and r"\midrule" in text
    else:
        assert text.splitlines()[2].startswith("| 1 | pargs · partial*2 | +")
    with pytest.raises(BadSettings, match="no table format `xml`"):
        table(results, "xml")


def test_wins_and_reward_models_are_tables_of_their_own(store):
    results = results_of(store, resamples=50)
    wins = {(row["setting"], row["against"]): row for row in csv.DictReader(io.StringIO(table(results, "csv", "wins")))}
    assert float(wins["pargs · partial*2", "base"]["wins"]) == 20 and wins["base", "pargs · partial*2"]["num_battles"] == "25"
    rows = list(csv.DictReader(io.StringIO(table(results, "csv", "reward-models"))))
    assert [row["reward_model"] for row in rows] == ["judge"] and rows[0]["num_pairs"] == "40"
    assert r"90.0 \% of 25" in table(results, "latex", "wins")


def test_a_name_that_a_spreadsheet_would_run_is_quoted(store):
    results = results_of(store, resamples=50)
    named = replace(results.board.places[0], setting="=1+1")
    text = table(replace(results, raw=replace(results.raw, places=(named,)), adjusted=replace(results.raw, places=(named,))), "csv")
    assert next(csv.DictReader(io.StringIO(text)))["setting"] == "'=1+1"


def test_only_new_answers_are_read_again_and_a_vote_renews_the_results(store):
    votes = VoteResults(lambda: store, resamples=50)
    assert votes.of().num_votes == 29 and [total for _, total in votes.reading()] == [60], "the three answers of each of 20 best votes"
    before = votes.with_reward_models(votes.of())
    assert votes.with_reward_models(votes.of()).reward_models is before.reward_models and list(votes.reading()) == []
    store.add_comparison(compared("new", prompt="new"), make_vote("v-new", "new", "A", "AB"))
    assert votes.of().num_votes == 30 and list(votes.reading()) == [(2, 2)]
    assert votes.with_reward_models(votes.of()).reward_models[0].accuracy.n == 41


def test_a_disagreement_names_its_comparison_with_prompt_and_texts(store):
    made = compared("odd", prompt="an odd <prompt>")
    high = tuple(replace(step, rewards=(("judge", 9.0),)) for step in made.traces[0].steps)
    store.add_comparison(replace(made, traces=(replace(made.traces[0], steps=high), *made.traces[1:])), make_vote("vo", "odd", "B", "AB"))
    results = results_of(store, resamples=50)
    judge = next(one for one in results.reward_models if one.model.name == "judge")
    (row,) = disagreement_rows(results, judge)
    assert (row["comparison_id"], row["prompt"], row["gap"], row["chosen_reward"]) == ("odd", "an odd <prompt>", 9.1, -0.1)
    assert json.loads(table(results, "json"))["reward_models"][0]["disagreements"][0] == row
    assert "an odd &lt;prompt&gt;" in board_html(results) and "an odd" not in board_html(results, with_texts=False)
    assert "odd" not in table(results, "json", with_texts=False)


def test_without_a_vote_the_board_is_empty(tmp_path):
    with Store(tmp_path / "empty.db") as store:
        results = results_of(store, resamples=50)
    assert results.board.places == () and sentences(results) == ["0 votes of 0 raters, 0 battles in 0 comparisons."]


HOSTILE = """</script><img src=x onerror=alert(1)> `${alert(1)}` <!-- ' " &amp; \ud83d"""


def test_a_comparison_is_one_file_in_which_hostile_text_is_text(store):
    comparison = store.comparison("c0")
    steps = tuple(replace(step, text=HOSTILE) for step in comparison.traces[0].steps)
    hostile = replace(comparison.traces[0], steps=steps, response=HOSTILE, run=replace(comparison.traces[0].run, prompt=HOSTILE))
    text = comparison_html(replace(comparison, prompt=HOSTILE, traces=(hostile, *comparison.traces[1:])), store.votes("c0"))
    assert "<img" not in text and text.count("</script>") == text.count("<script") == 2 and text.count("<!--") == 0
    assert "Vote: C is best." in text and "default-src 'none'" in text and "http" not in text.replace("http-equiv", "")
    data = json.loads(text.split('id="comparison">')[1].split("</script>")[0])
    assert data["columns"][0]["tokens"][0]["t"] == HOSTILE and data["measures"][0] == "judge"
    assert text.encode("utf-8")


def test_the_board_is_one_file_with_its_drawings(store):
    text = board_html(results_of(store, resamples=50))
    assert text.count("<svg") == 2 + 2 and "<script" not in text and "pargs · partial*2" in text
    with Store(store.path.with_name("empty.db")) as empty:
        assert "Nobody has voted yet" in board_html(results_of(empty, resamples=50))


def test_the_command_writes_files_that_open_without_the_app(store, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("RGTG_DATA_DIR", str(tmp_path))
    monkeypatch.setattr("rgtg.workbench.report.results.RESAMPLES", 20)
    store.close()
    assert main(["results", "--html", str(tmp_path / "board.html")]) == 0
    assert "<h2>Leaderboard</h2>" in (tmp_path / "board.html").read_text(encoding="utf-8")
    assert main(["results", "--comparison", "c0", "--html", str(tmp_path / "one.html")]) == 0
    assert "Vote: C is best." in (tmp_path / "one.html").read_text(encoding="utf-8")
    assert main(["results", "--comparison", "c0"]) == 2 and "`--html FILE` is missing" in capsys.readouterr().err


def test_the_command_prints_the_board(store, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("RGTG_DATA_DIR", str(tmp_path))
    monkeypatch.setattr("rgtg.workbench.report.results.RESAMPLES", 20)
    store.close()
    assert main(["results", "--by", "setting"]) == 0
    printed = capsys.readouterr().out
    assert "| 1 | pargs · partial*2 |" in printed and "Reward models against people:" in printed and "| won by | pargs · partial*2 |" in printed
    assert main(["results", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["num_battles"] == 55
