"""The vote bar against a real database: what it thanks for is stored, and what is not stored it does not thank for."""

import json
from pathlib import Path
from types import SimpleNamespace

import gradio as gr
import pytest
from store_records import make_comparison

from pages.voting import Voting
from rgtg.config import Settings
from rgtg.workbench.workbench import Workbench


def cast(voting: Voting, best: str) -> dict:
    data = {"comparison": "c1", "verdict": "best", "best": best, "seen": ["c1-A", "c1-B"]}
    return json.loads(voting.vote()(SimpleNamespace(_data=data)))


@pytest.fixture
def voting(tmp_path: Path):
    workbench = Workbench(Settings(data_dir=tmp_path))
    workbench.store.add_comparison(make_comparison(columns="AB"))
    with gr.Blocks():
        yield Voting(workbench)
    workbench.close()


def test_a_vote_is_thanked_for_with_the_number_that_stands(voting):
    assert cast(voting, "c1-A")["note"] == "saved: A is best · 1 vote"
    assert cast(voting, "c1-B")["note"] == "saved: B is best · 1 vote"


def test_a_vote_on_a_database_that_was_deleted_is_not_thanked_for(voting, tmp_path):
    assert cast(voting, "c1-A")["note"].startswith("saved")
    for file in tmp_path.glob("rgtg.db*"):
        file.unlink()
    with pytest.raises(gr.Error, match="Your vote was not saved: The database is no longer in its place: `rgtg.db` was deleted or moved"):
        cast(voting, "c1-B")
