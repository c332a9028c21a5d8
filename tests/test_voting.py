"""The vote bar against a real database: what it thanks for is stored, and what is not stored it does not thank for."""

import json
from pathlib import Path
from types import SimpleNamespace

import pytest
from pages_alone import on_a_page
from store_records import make_comparison

from pages.voting import Voting
from rgtg.config import Settings
from rgtg.workbench.workbench import Workbench

VISITOR = SimpleNamespace(session_hash="one", cookies={"rgtg_rater": "a" * 32})


def cast(voting: Voting, best: str) -> dict:
    data = {"comparison": "c1", "verdict": "best", "best": best, "seen": ["c1-A", "c1-B"]}
    return json.loads(voting.vote()(VISITOR, SimpleNamespace(_data=data)))


@pytest.fixture
def voting(tmp_path: Path):
    workbench = Workbench(Settings(data_dir=tmp_path))
    workbench.store.add_comparison(make_comparison(columns="AB"))
    with on_a_page():
        yield Voting(workbench)
    workbench.close()


def test_a_vote_is_thanked_for_with_the_number_that_stands(voting):
    assert cast(voting, "c1-A")["note"] == "saved: A is best · 1 vote"
    assert cast(voting, "c1-B")["note"] == "saved: B is best · 1 vote"


def test_a_vote_on_a_database_that_was_deleted_is_not_thanked_for(voting, tmp_path):
    assert cast(voting, "c1-A")["note"].startswith("saved")
    for file in tmp_path.glob("rgtg.db*"):
        file.unlink()
    with pytest.warns(UserWarning, match="Your vote was not saved: The database is no longer in its place: `rgtg.db` was deleted or moved"):
        bar = cast(voting, "c1-B")
    assert bar["refused"] and bar["note"].startswith("not saved: The database is no longer in its place")


@pytest.mark.filterwarnings("ignore::UserWarning")  # gr.Warning outside of an app
@pytest.mark.parametrize("handler", ["vote", "undo"])
def test_what_is_said_of_an_unknown_comparison_is_answered_so_that_it_is_not_sent_again(voting, handler: str):
    bar = json.loads(getattr(voting, handler)()(VISITOR, SimpleNamespace(_data={"comparison": "unknown", "verdict": "tie", "vote_id": "v1"})))
    assert bar["refused"] and bar["answers"] == "v1" and "no comparison `unknown`" in bar["note"] and voting.workbench.num_votes() == 0


def test_the_same_vote_and_the_same_undo_sent_again_are_stored_once(voting):
    said = {"comparison": "c1", "verdict": "best", "best": "c1-A", "seen": ["c1-A", "c1-B"], "vote_id": "v1"}
    for handler, data in (
        (voting.vote, said),
        (voting.vote, said | {"best": "c1-B", "vote_id": "v2"}),
        (voting.undo, {"comparison": "c1", "vote_id": "u1"}),
    ):
        for _ in range(2):
            bar = json.loads(handler()(VISITOR, SimpleNamespace(_data=data)))
            assert bar["answers"] == data["vote_id"]
    assert bar["best"] == "c1-A" and bar["note"] == "undone: A is best again · 1 vote"
    assert [vote.verdict for vote in voting.workbench.store.votes("c1")] == ["best", "best", "withdrawn", "best"]


def test_a_skip_is_not_counted(voting):
    data = {"comparison": "c1", "verdict": "skip", "vote_id": "v1"}
    assert json.loads(voting.vote()(VISITOR, SimpleNamespace(_data=data)))["note"] == "saved: skipped · 0 votes"
