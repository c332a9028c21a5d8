"""A vote may rank three and four answers: what it says of each two of them, in pairs, battles, exports and after an undo."""

import doctest
import json

import pytest
from store_records import make_comparison, make_vote

from pages.annotating.words import read_said
from rgtg.errors import BadSettings, StoreError
from rgtg.preferences.items import rankings
from rgtg.preferences.pairs import derive_pairs
from rgtg.ratings.agreement import agreement_of
from rgtg.ratings.battles import LEFT, RIGHT, TIE, Answer, Ballot, battles_of
from rgtg.ratings.reward_models import preferences_of
from rgtg.store.exchange.into import import_plan
from rgtg.store.exchange.plan import plan
from rgtg.store.export import export_preferences
from rgtg.store.store import Store
from rgtg.workbench.annotation.tasks import Task

C_THEN_A = (("c1-C",), ("c1-A",))
C_AND_A = (("c1-A", "c1-C"),)
ANSWERS = tuple(Answer(f"c1-{letter}", f"m{letter}", 5, place, text=letter) for place, letter in enumerate("ABCD"))


@pytest.fixture
def store(tmp_path):
    with Store(tmp_path / "rgtg.db") as store:
        yield store


def ranked(ranking, verdict="best", best="C", **changes):
    return make_vote(best=best, verdict=verdict, ranking=ranking, **changes)


def sides(pairs):
    return [(pair.chosen_trace_id[-1], pair.rejected_trace_id[-1]) for pair in pairs]


def test_the_examples_in_the_docstrings_hold():
    assert doctest.testmod(rankings).failed == 0


def test_ranked_answers_beat_those_below_and_the_unranked_are_not_compared():
    pairs, skipped = derive_pairs(make_comparison(), [ranked(C_THEN_A)])
    assert sides(pairs) == [("C", "A"), ("C", "B"), ("C", "D"), ("A", "B"), ("A", "D")] and skipped == {}
    pairs, skipped = derive_pairs(make_comparison(), [ranked(C_AND_A, "tie", None)])
    assert sides(pairs) == [("A", "B"), ("A", "D"), ("C", "B"), ("C", "D")] and skipped == {"ranked_equal": 1}


def test_battles_and_preferences_of_a_ranking():
    two = Ballot("c1", "r", "tie", None, ANSWERS, ranking=C_AND_A)
    battles, left_out = battles_of([two])
    said = [(battle.left, battle.right, battle.outcome) for battle in battles]
    assert said == [("mA", "mB", LEFT), ("mA", "mC", TIE), ("mA", "mD", LEFT), ("mB", "mC", RIGHT), ("mC", "mD", LEFT)] and not left_out
    one = Ballot("c1", "r", "best", "c1-C", ANSWERS, ranking=C_THEN_A)
    preferred = [(one.chosen.setting[1:], one.rejected.setting[1:]) for one in preferences_of([one])]
    assert preferred == [("C", "A"), ("C", "B"), ("C", "D"), ("A", "B"), ("A", "D")]
    assert agreement_of([two, Ballot("c1", "s", "tie", None, ANSWERS, ranking=(("c1-C", "c1-A"),))]).alpha == 1.0
    other = [Ballot("c2", rater, "best", "c1-B", ANSWERS) for rater in "rs"]
    assert agreement_of([two, Ballot("c1", "s", "tie", None, ANSWERS), *other]).alpha < 1.0  # "these two" is not "all alike"


@pytest.mark.parametrize(
    ("vote", "found"),
    [
        (ranked((("c1-A",), ("c1-C",))), "says otherwise"),  # the verdict names C
        (ranked((("c1-C",),)), "says otherwise"),  # the verdict says it by itself
        (ranked(C_AND_A), "says otherwise"),
        (ranked((("c1-C",), ("c1-C", "c1-A"))), "stands twice"),
        (ranked((("c1-C",), ())), "no answer"),
        (ranked((("c1-C",), ("c2-A",))), "not there to be seen"),
        (ranked(C_THEN_A, seen="BCD"), "not there to be seen"),
    ],
)  # fmt: skip
def test_a_ranking_that_is_none_of_the_answers_is_refused(store, vote, found):
    store.add_comparison(make_comparison())
    with pytest.raises(StoreError, match=found):
        store.add_vote(vote)
    assert store.num_votes() == 0


def test_a_ranking_is_stored_taken_back_and_said_in_words(store):
    store.add_comparison(make_comparison(), make_vote("v1", best="B"))
    stored = store.add_vote(ranked(C_THEN_A, name="v2"))
    assert stored.ranking == C_THEN_A and store.vote_of("c1") == stored
    assert [(entry.words, entry.best_letter) for entry in store.history()] == [("C > A > rest", "C")]
    assert store.undo("c1").best_trace_id == "c1-B"
    again = store.add_vote(ranked((*C_THEN_A, ("c1-B", "c1-D")), name="v3"))
    assert store.history()[0].words == "C > A > B = D"
    assert store.add_vote(ranked((*C_THEN_A, ("c1-B", "c1-D")), name="v3")) == again  # a retry
    with pytest.raises(StoreError, match="ranking"):
        store.add_vote(ranked(C_THEN_A, name="v3"))
    assert store.undo("c1").best_trace_id == "c1-B" and store.undo("c1") is None


@pytest.mark.parametrize("format", ["preference", "unpaired", "votes"])
@pytest.mark.parametrize("vote", [ranked(C_THEN_A), ranked(C_AND_A, "tie", None), ranked((("c1-C",), ("c1-A",), ("c1-B",)))])
def test_a_ranking_goes_out_and_comes_back(store, tmp_path, format, vote):
    store.add_comparison(make_comparison(), vote)
    report = export_preferences(store, tmp_path / "a.jsonl", format)
    with Store(tmp_path / "other.db") as other:
        assert import_plan(other, plan(report.path)).num_votes == 1
        assert other.current_votes()[0].ranking == vote.ranking
        assert export_preferences(other, tmp_path / "b.jsonl", format).sha256 == report.sha256
    if format == "unpaired":
        rows = map(json.loads, report.path.read_text(encoding="utf-8").splitlines())
        labels = {row["column"]: row["label"] for row in rows}
        assert labels == {"A": True, "B": len(vote.ranking) == 3, "C": True, "D": False}  # those that were ranked are good


def test_the_page_sends_levels_and_nothing_else():
    said = {"comparison": "c1", "verdict": "best", "best": "C", "vote_id": "v1", "ranking": [["C"], ["A", "B"]]}
    assert read_said(said).ranking == (("C",), ("A", "B"))
    for wrong in ("C", [["C"], []], [["C"], [1]], [["C", "A", "B", "D", "E"]], [["C"]] * 5, {"C": 1}, [["../x"]]):
        with pytest.raises(BadSettings):
            read_said(said | {"ranking": wrong})


def test_two_answers_are_not_ranked():
    task = Task("T", ("p",), ("base", "args:beta=2", "pargs:beta=2"), ranking=True)
    with pytest.raises(BadSettings, match="no ranking"):
        task.check()
