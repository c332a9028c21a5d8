"""The verbs of training on tiny models: what is refused before a job, every objective's model used in Compare, picked up after a restart."""

import json
import shutil
import time

import pytest
from store_records import make_comparison, make_vote
from tiny_models import save
from transformers import AutoModelForCausalLM

from rgtg.config import GenerationConfig, Settings
from rgtg.errors import BadSettings, ModelNotFound, ModelRefused
from rgtg.jobs.service import Jobs
from rgtg.records import ColumnSpec, Job, ModelCard
from rgtg.training.objectives import OBJECTIVES
from rgtg.workbench.trainings import VOTES
from rgtg.workbench.workbench import Workbench

CAUSAL = [key for key, kind in OBJECTIVES.items() if not kind.scalar]


@pytest.fixture
def bench(folders, tmp_path, monkeypatch):
    monkeypatch.setattr("rgtg.workbench.library.STARTER_DIR", tmp_path / "none")
    found = Workbench(Settings(data_dir=tmp_path, device="cpu"), [folders["lm"]], [folders["partial"]])
    yield found
    found.close()


def vote(bench: Workbench, number: int) -> None:
    for i in range(number):
        bench.store.add_comparison(make_comparison(f"c{i}", prompt=f"the food {i} was"), make_vote(f"v{i}", f"c{i}", "B"))


@pytest.mark.parametrize("objective", CAUSAL)
def test_an_objective_that_does_not_fit_its_start_is_refused_before_there_is_a_job(bench, monkeypatch, objective):
    monkeypatch.setattr(Jobs, "watch", lambda self: None)
    vote(bench, 3)
    with pytest.raises(ModelRefused, match=f"cannot be trained by `{objective}`. It has a scalar head"):
        bench.trainings.train(VOTES, "p", "mine", {"objective": objective})
    assert bench.trainings.jobs.jobs() == ()
    bench.trainings.train(VOTES, "tiny", "mine", {"objective": objective})
    assert len(bench.trainings.jobs.jobs()) == 1


def test_an_implicit_reward_model_is_used_beside_its_reference_from_the_catalog(bench, tmp_path):
    reference = bench.library.load(bench.library.catalog.get("tiny"))
    card = ModelCard("reward_model", "dpo", objective="implicit", base_lm="tiny", training={"beta": 0.5})
    known, gone = f"tiny@{reference.loaded.ref.revision}", "nowhere@abc"
    for name, named in (("dpo", known), ("orphan", gone)):
        made = ModelCard(**vars(card) | {"name": name, "reference": named})
        bench.library.catalog.add(save(tmp_path / name, AutoModelForCausalLM, 7, made))
    running = bench.compare(
        "the food", [ColumnSpec("base"), ColumnSpec("pargs", (("beta", 2.0),), "dpo")], GenerationConfig(max_new_tokens=6), seed=2
    )
    for _ in running:
        pass
    base, guided = running.traces
    assert {name for step in base.steps for name, _ in step.rewards} == {"dpo"} and guided.stop_reason != "error"
    said = bench.score("dpo", "the food", guided.response)
    stop = len(said["rewards"])
    assert said["rewards"] == pytest.approx([step.reward("dpo") for step in guided.steps[:stop]], abs=1e-4)
    assert bench.library.load_models("tiny", ["dpo"]).reward_model("dpo").reference is reference
    with pytest.raises(ModelNotFound, match="no model `nowhere`"):
        bench.score("orphan", "the food", "x")


def test_a_reference_with_a_scalar_head_is_refused(bench, tmp_path):
    card = ModelCard("reward_model", "dpo", objective="implicit", base_lm="tiny", reference="p@")
    bench.library.catalog.add(save(tmp_path / "dpo", AutoModelForCausalLM, 7, card))
    with pytest.raises(ModelRefused, match="`p` cannot be a reference"):
        bench.score("dpo", "the food", "x")


def test_trainings_are_looked_after_as_soon_as_the_models_are_there(bench):
    bench.store.jobs.add(Job("left", {"name": "mine", "base": "x", "base_lm": "tiny"}, state="queued"))
    bench.start_loading()
    bench.wait_until_ready(60)
    until = time.monotonic() + 20
    while bench.store.jobs.job("left").state == "queued" and time.monotonic() < until:
        time.sleep(0.05)
    assert bench.store.jobs.job("left").state != "queued"


@pytest.mark.slow
@pytest.mark.parametrize("objective", ["partial", *CAUSAL])
def test_from_votes_to_a_column_that_the_new_model_guides(bench, objective):
    vote(bench, 12)
    job_id = bench.trainings.train(VOTES, "tiny", "mine", {"objective": objective, "max_steps": 4})
    until = time.monotonic() + 120
    while (job := bench.trainings.jobs.job(job_id)).state in ("queued", "running") and time.monotonic() < until:
        time.sleep(0.2)
    assert job.state == "succeeded", job.error_text
    with bench.store._reading() as conn:
        (row,) = conn.execute("SELECT filter FROM snapshots").fetchall()
    snapshot, card = json.loads(row["filter"]), bench.trainings.made_by(job).card
    assert card.snapshot == snapshot and snapshot["filter"] == "all" and snapshot["name"].startswith("all-12-votes-"), "of one rater"
    columns = bench.trainings.line_up(job)
    assert columns[-1].reward_model == "mine"
    running = bench.compare("the food", columns, GenerationConfig(max_new_tokens=6), seed=1)
    for _ in running:
        pass
    assert [t.stop_reason for t in running.traces].count("error") == 0
    assert all(step.reward("mine") is not None for step in running.traces[-1].steps)


def test_a_model_without_a_parent_is_shown_beside_what_has_guided_until_now(bench, folders):
    bench.library.catalog.add(shutil.copytree(folders["full"], bench.settings.models_dir / "f"))
    made = {"name": "f", "base": folders["lm"], "base_lm": "tiny", "parent": None}
    columns = bench.trainings.line_up(Job("j", made, state="succeeded", reward_model="f"))
    assert [(c.method, c.reward_model) for c in columns] == [("base", None), ("pargs", "p"), ("args", "f")]
    bench.library.forget("p")
    columns = bench.trainings.line_up(Job("j", made, state="succeeded", reward_model="f"))
    assert [(c.method, c.reward_model) for c in columns] == [("base", None), ("args", "f")]


def test_what_is_taken_or_unknown_is_refused(bench):
    with pytest.raises(BadSettings, match="The name `p` is taken"):
        bench.trainings.train(VOTES, "tiny", "p")
    with pytest.raises(ModelNotFound, match="no model `none`"):
        bench.trainings.train(VOTES, "none", "mine")
