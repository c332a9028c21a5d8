"""A job's folder: what is refused before it is there, what stands in it, and what is read of a trainer's files."""

import json
from contextlib import closing

import pytest
from fake_training import CONFIG, PAIRS
from store_records import make_comparison, make_vote

from rgtg.errors import BadData, BadSettings
from rgtg.jobs.folder import check_config, read_progress
from rgtg.jobs.service import Jobs
from rgtg.store.connection import _connect
from rgtg.store.export import export_preferences
from rgtg.store.store import Store


def nothing_left(jobs: Jobs, store: Store) -> bool:
    return jobs.jobs() == () and (not jobs.folder.is_dir() or list(jobs.folder.iterdir()) == [])


def test_votes_without_a_pair_are_refused_with_counts(jobs, store):
    store.add_comparison(make_comparison(), make_vote(best=None))
    with pytest.raises(BadData, match=r"nothing to train on\. Found no pairs: votes for a tie: 1"):
        jobs.start(CONFIG, lambda path: export_preferences(store, path), snapshot={})
    assert nothing_left(jobs, store)


def test_snapshot_says_what_the_job_saw(jobs, store, settings):
    store.add_comparison(make_comparison(), make_vote())
    job_id = jobs.start(CONFIG, lambda path: export_preferences(store, path), snapshot={"verdict": "best"})
    with closing(_connect(settings.database, "ro")) as conn:
        (seen,) = conn.execute("SELECT * FROM snapshots").fetchall()
    assert (seen["filter"], seen["num_votes"], seen["last_vote_seq"]) == ('{"verdict":"best"}', 1, 1)
    asked = json.loads((jobs.folder / job_id / "job.json").read_text())
    assert (asked["snapshot_id"], asked["pairs_sha256"]) == (seen["id"], seen["sha256"])
    assert jobs.job(job_id).snapshot_id == seen["id"]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"name": "../x"}, "is not allowed"),
        ({"name": ".hidden"}, "is not allowed"),
        *(({"name": name}, "is not allowed") for name in ("CON", "nul.txt", "com1")),
        ({"name": ""}, "Missing: name"),
        ({"training": {"objective": "best"}}, "`objective` has to be"),
        ({"training": {"num_stepz": 1}}, "num_stepz"),
        ({"base": None}, "Missing: base"),
    ],
)
def test_bad_settings_are_refused_before_anything_is_written(jobs, store, changes, message):
    with pytest.raises(BadSettings, match=message):
        jobs.start(CONFIG | changes, PAIRS)
    assert nothing_left(jobs, store)


def test_name_that_is_taken_is_refused(jobs, settings):
    jobs.start(CONFIG, PAIRS)
    with pytest.raises(BadSettings, match=r"`MINE` is taken\. It belongs to an unfinished job"):
        jobs.start(CONFIG | {"name": "MINE"}, PAIRS)


def test_relative_base_is_made_absolute(jobs, tmp_path, monkeypatch):
    (tmp_path / "near").mkdir()
    monkeypatch.chdir(tmp_path)
    assert jobs.job(jobs.start(CONFIG | {"base": "near"}, PAIRS)).config["base"] == str(tmp_path / "near")
    assert jobs.job(jobs.start(CONFIG | {"base": "owner/name", "name": "b"}, PAIRS)).config["base"] == "owner/name"


def test_torn_and_foreign_lines_of_progress_are_left_out(tmp_path):
    assert read_progress(tmp_path) == []
    (tmp_path / "progress.jsonl").write_bytes(
        b'{"attempt": 1, "step": 10}\n{"attempt": 1, "st\n7\n{"attempt": 2, "step": 20}\n{"attempt": 2, "step": 3\xc3'
    )
    assert read_progress(tmp_path) == [{"attempt": 1, "step": 10}, {"attempt": 2, "step": 20}]


def test_steps_done_again_stand_once(tmp_path):
    lines = [{"attempt": 1, "step": 10}, {"attempt": 1, "step": 20}, {"attempt": 2, "phase": "resumed"}, {"attempt": 2, "step": 20}]
    (tmp_path / "progress.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    assert [(line["attempt"], line.get("step")) for line in read_progress(tmp_path)] == [(1, 10), (2, None), (2, 20)]


SETTINGS = {"name": "mine", "base": "owner/name", "base_lm": "tiny"}


def test_a_job_of_an_earlier_version_is_taken_as_it_is():
    training = {"objective": "full", "num_steps": 7, "unequal": "hold", "tau": 0.0}
    assert check_config(SETTINGS | {"training": training}, {})["training"] == training


def test_an_option_that_the_objective_lacks_is_refused():
    with pytest.raises(BadSettings, match="`full` has no option `unequal_lengths`. It has: "):
        check_config(SETTINGS | {"training": {"objective": "full", "unequal": "pad"}}, {})
