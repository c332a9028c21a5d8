"""The handlers of Train without a browser: what they read of the form, what they refuse, what they say of a training."""

import json
import shutil
from dataclasses import fields, replace
from pathlib import Path
from types import SimpleNamespace

import gradio as gr
import pytest
from pages_alone import on_a_page
from store_records import make_comparison, make_vote

import app
from pages import compare, train, training_form
from pages.reports import accuracy_at_end, accuracy_figure, interval, points, report_words
from pages.training_form import asks_for, option_fields, read_form, read_options
from pages.training_words import about, data_words, job_line, job_words, phase_words, seconds_words
from pages.waiting_line import Line
from rgtg.config import DataConfig, Settings
from rgtg.errors import BadData, BadSettings
from rgtg.jobs.service import Jobs
from rgtg.records import Job, ModelCard, RewardModelRow
from rgtg.training.config import TrainingConfig, shared_fields
from rgtg.training.objectives import OBJECTIVES
from rgtg.workbench.trainings import VOTES
from rgtg.workbench.workbench import Workbench

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")  # gr.Warning outside of an app

STEPS = [
    {"phase": "data", "data": {"kind": "pairs", "num_train": 40, "num_held_out": 8}},
    {"phase": "training", "step": 5, "num_steps": 20, "loss": 0.69, "held_out_accuracy": None, "seconds_left": 30.2},
    {"phase": "training", "step": 10, "num_steps": 20, "loss": 0.5, "held_out_accuracy": 0.75, "held_out_pairs": 8, "seconds_left": 20.0},
]
VISIT = SimpleNamespace(query_params={})


@pytest.fixture
def workbench(folders, tmp_path, monkeypatch):
    """Real, on tiny models; jobs stay in line, for nothing looks after them."""
    monkeypatch.setattr(Jobs, "watch", lambda self: None)
    monkeypatch.setattr("rgtg.workbench.library.STARTER_DIR", tmp_path / "none")
    found = Workbench(Settings(data_dir=tmp_path, device="cpu"), base_lms=[folders["lm"]], reward_models=[folders["partial"]])
    yield found
    found.close()


BUILT: list[train._Page] = []


@pytest.fixture
def page(workbench):
    """One for all tests, since Gradio takes a while to make it: its handlers ask the workbench that it has."""
    if not BUILT:
        with on_a_page():
            BUILT.append(train._Page(workbench, app.LINKS))
    BUILT[0].workbench, BUILT[0].trainings = workbench, workbench.trainings
    return BUILT[0]


def vote(workbench, number: int = 6) -> None:
    for i in range(number):
        workbench.store.add_comparison(make_comparison(f"c{i}", prompt=f"the food {i} was"), make_vote(f"v{i}", f"c{i}", "B" if i else None))


def form(**changes) -> str:
    return json.dumps({"source": VOTES, "path": "", "start": "tiny", "name": "mine", "training": {}} | changes)


def event(**payload) -> SimpleNamespace:
    return SimpleNamespace(_data=payload)


# ---- the form -------------------------------------------------------------------------------------------------------


def test_every_option_of_a_training_is_on_the_page_those_of_an_objective_with_it_alone(workbench):
    listed = option_fields(workbench)
    assert {f["name"] for f in listed if "objective" not in f} == {"objective", *(f.name for f in shared_fields())}
    for key, kind in OBJECTIVES.items():
        assert [f["name"] for f in listed if f.get("objective") == key] == [f.name for f in fields(kind)]
    first = training_form.FIRST
    assert [f["name"] for f in listed[: len(first)]] == list(first) and [f["first"] for f in listed].count(True) == len(first)
    kinds = {f["name"]: f["kind"] for f in listed}
    assert (kinds["bf16"], kinds["system_prompt"], kinds["max_steps"]) == ("check", "text", "number")
    assert all(f["help"] for f in listed)


def test_only_options_that_differ_are_kept(workbench):
    found = read_options({"max_steps": None, "learning_rate": 0.001, "objective": "partial", "lora": True, "stride": 1}, workbench)
    assert found == {"learning_rate": 0.001, "lora": True}


def test_columns_and_the_limit_of_unreadable_rows_are_options_that_the_look_at_the_data_depends_on(workbench):
    listed = {f["name"]: f for f in option_fields(workbench)}
    assert (listed["columns"]["kind"], listed["columns"]["data"], listed["max_bad_rows"]["kind"], listed["max_bad_rows"]["data"]) == (
        "text", True, "number", True,
    )  # fmt: skip
    given = {"columns": "prompt=q,a=x,b=y,winner=w", "max_bad_rows": 3}
    assert read_options(given, workbench) == given
    with pytest.raises(BadSettings, match="`columns` has no effect on votes"):
        workbench.trainings.data(VOTES, "tiny", TrainingConfig(columns="a=x"))


def test_an_option_that_the_objective_lacks_is_refused(workbench):
    for value in (2, 1):  # at its default too
        with pytest.raises(BadSettings, match="`full` has no option `stride`. It has: margin, label_smoothing, center_rewards_coefficient."):
            read_options({"objective": "full", "stride": value}, workbench)


@pytest.mark.parametrize(
    "given",
    [
        {"max_steps": -1},
        {"max_steps": 1.5},
        {"learning_rate": "fast"},
        {"objective": "world peace"},
        {"lora": 1},
        {"margin": None},
        {"eval_fraction": 2},
    ],
)
def test_a_wrong_option_is_named(workbench, given):
    with pytest.raises(BadSettings, match=f"`{next(iter(given))}`"):
        read_options(given, workbench)


def test_an_unknown_option_is_refused(workbench):
    with pytest.raises(BadSettings, match="no option `__class__`"):
        read_options({"__class__": 1}, workbench)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"start": "gone"}, "not on this machine"),
        ({"source": "file"}, "no file to train on"),
        ({"source": "file", "path": 3}, "no file to train on"),
        ({"source": "/etc/passwd"}, "votes or a file"),
        ({"name": "  "}, "no name"),
        ({"name": 5}, "no name"),
    ],
)
def test_a_form_that_cannot_be_used_says_why(workbench, changes, words):
    with pytest.raises(BadSettings, match=words):
        read_form(form(**changes), workbench)


def test_a_file_called_votes_is_a_file(workbench):
    assert read_form(form(source="file", path="votes"), workbench)["source"] != VOTES


# ---- looking at the data ------------------------------------------------------------------------------------------------


def test_without_votes_the_page_says_so_unasked(page):
    assert json.loads(list(page._look(asked=False)(form()))[-1])["words"] == train.NO_VOTES
    found = json.loads(list(page._look()(form()))[-1])
    assert found["wrong"] and "nothing to train on" in found["words"]


def test_votes_are_counted_with_what_is_left_out(page, workbench):
    vote(workbench)
    found = json.loads(list(page._look()(form()))[-1])
    facts = {label: words for label, words, *_ in found["facts"]}
    assert facts["pairs"] == "15 on 5 prompts · 1 rater"  # five best votes among four answers, one tie
    assert "votes for a tie: 1" in found["left_out"]
    assert any("one person" in remark for remark in found["remarks"])


@pytest.mark.slow
def test_a_file_is_looked_at_and_a_bad_one_is_named(page, tmp_path):
    good, bad = tmp_path / "good.jsonl", tmp_path / "bad.jsonl"
    good.write_text("".join(json.dumps({"prompt": f"p{i}", "chosen": "ab", "rejected": "c"}) + "\n" for i in range(30)))
    bad.write_text('{"prompt": "p"}\n')
    facts = {label: words for label, words, *_ in json.loads(list(page._look()(form(source="file", path=str(good))))[-1])["facts"]}
    assert facts["pairs"] == "30 on 30 prompts" and facts["longer answer chosen"] == "in 100 % of pairs"
    found = json.loads(list(page._look()(form(source="file", path=str(bad))))[-1])
    assert found["wrong"] and "Row 1" in found["words"]


def test_causes_and_lengths_are_words():
    report = SimpleNamespace(
        kind="pairs", num_used=64, num_prompts=1, num_raters=0, num_train=60, num_held_out=4, num_held_out_prompts=1,
        prompt_tokens=(1, 2, 3), answer_tokens=(8, 13, 1600), longer_chosen=0.25, num_marked=3, dropped=(("tie", 2), ("skip", 0)), remarks=("few",),
    )  # fmt: skip
    found = data_words(report, lambda cause: f"because of {cause}", DataConfig())
    facts = {label: words for label, words, *_ in found["facts"]}
    assert facts["pairs"] == "64 on 1 prompt" and facts["answers"] == "median 8 tokens, 95 % up to 13, longest 1,600"
    assert found["left_out"] == ["because of tie: 2"] and found["remarks"] == ["few"]


# ---- trainings ------------------------------------------------------------------------------------------------------------


def test_start_puts_a_training_in_line_and_offers_another_name(page, workbench):
    vote(workbench)
    loaded = page._load()(VISIT)
    name = json.loads(loaded[page.form]["value"])["name"]
    assert name == "tiny-votes"
    found = page._start()(form(name=name, training={"max_steps": 7}), {})
    (job,) = workbench.trainings.jobs.jobs()
    assert job.state == "queued" and job.config["name"] == name and job.config["training"] == {"max_steps": 7}
    assert json.loads(found[page.form]["suggested"]) == {"name": "tiny-votes-2", "used": "tiny-votes"}
    assert json.loads(found[page.job])["id"] == job.id and json.loads(found[page.job])["cancel"] is True
    assert found[page.timer].active is True and "queued" in found[page.status]
    with pytest.raises(gr.Error, match="taken"):
        page._start()(form(name=name), {})


def test_the_name_of_an_installed_model_is_taken(page, workbench):
    vote(workbench)
    with pytest.raises(gr.Error, match="`P` is taken"):
        page._start()(form(name="P"), {})


def test_a_reward_model_to_start_from_is_the_parent(page, workbench):
    vote(workbench)
    page._start()(form(start="p", name="child"), {})
    config = workbench.trainings.jobs.jobs()[0].config
    assert (config["parent"], config["base_lm"]) == ("p", "tiny")


def test_what_guides_until_now_goes_with_a_training_from_the_base_lm(page, workbench, folders):
    vote(workbench)
    page._start()(form(), {})
    config = workbench.trainings.jobs.jobs()[0].config
    assert (config["parent"], config["guide"]) == (None, str(Path(folders["partial"]).absolute()))


@pytest.mark.parametrize("suffix", ["csv", "parquet", "json"])
def test_a_file_of_any_kind_is_frozen_as_json_lines(workbench, tmp_path, suffix):
    import pandas

    rows = pandas.DataFrame([{"prompt": f"p{i}", "chosen": "a", "rejected": "b"} for i in range(4)])
    path = tmp_path / f"pairs.{suffix}"
    write = {"csv": rows.to_csv, "parquet": rows.to_parquet, "json": rows.to_json}[suffix]
    write(path, **({"orient": "records"} if suffix == "json" else {"index": False}))
    job_id = workbench.trainings.train(str(path), "tiny", "mine")
    lines = (workbench.trainings.jobs.folder / job_id / "pairs.jsonl").read_text().splitlines()
    assert [json.loads(line)["prompt"] for line in lines] == ["p0", "p1", "p2", "p3"]


def test_labelled_texts_and_an_objective_that_compares_start_nothing(page, workbench, tmp_path):
    path = tmp_path / "labelled.jsonl"
    path.write_text("".join(json.dumps({"text": f"a{i}", "label": i % 2}) + "\n" for i in range(8)))
    with pytest.raises(gr.Error, match="`partial` needs pairs"):
        page._start()(form(source="file", path=str(path)), {})
    assert workbench.trainings.jobs.jobs() == ()


@pytest.mark.slow
def test_labelled_texts_are_looked_at_for_an_objective_that_takes_them(page, workbench, tmp_path):
    path = tmp_path / "labelled.jsonl"
    path.write_text("".join(json.dumps({"text": f"a{i}", "label": i % 2}) + "\n" for i in range(8)))
    with pytest.raises(BadData, match="`partial` needs pairs"):
        workbench.trainings.data(str(path), "tiny", TrainingConfig())
    page._start()(form(source="file", path=str(path), training={"objective": "bce"}), {})
    assert len(workbench.trainings.jobs.jobs()) == 1


def test_a_file_that_is_not_there_starts_nothing(page, workbench, tmp_path):
    with pytest.raises(gr.Error, match="no preferences"):
        page._start()(form(source="file", path=str(tmp_path / "gone.jsonl")), {})
    assert workbench.trainings.jobs.jobs() == ()


def test_cancel_and_resume_answer_for_known_trainings_only(page, workbench):
    vote(workbench)
    page._start()(form(), {})
    job = workbench.trainings.jobs.jobs()[0]
    view = json.loads(page._cancel()({}, event(job=job.id))[page.job])
    assert view["state"] == "cancelled" and view["cancel"] is False and view["resume"] is False
    with pytest.raises(gr.Error):
        page._resume()({}, event(job=job.id))
    for handler in (page._open(), page._cancel(), page._resume()):
        for wrong in ({"job": "../../etc"}, {"job": None}, {"job": "nothing-by-that-id"}, {}):
            with pytest.raises(gr.Error):
                handler({}, event(**wrong))


def test_a_tick_sends_only_what_changed(page, workbench):
    vote(workbench)
    sent = page._start()(form(), {})[page.sent]
    again = page._tick()(sent)
    assert set(again) == {page.models, page.sent, page.timer}


def test_a_model_whose_row_is_there_is_listed_when_it_is_asked_for(page, workbench, folders):
    config = {"name": "mine", "base": folders["lm"], "base_lm": "tiny", "parent": None}
    workbench.store.jobs.add(Job("job-1", config, state="running"))
    shutil.copytree(folders["full"], workbench.settings.models_dir / "mine")
    job = lambda: workbench.store.jobs.job("job-1")  # noqa: E731
    assert workbench.trainings.made_by(job()) is None
    workbench.store.jobs.publish(RewardModelRow("row-1", "mine", "tiny", "0" * 64, job_id="job-1"))
    found = page._open()({}, event(job="job-1"))
    assert "lineup" in json.loads(found[page.job]) and workbench.trainings.made_by(job()) in workbench.library.models()
    workbench.store.jobs.set_status("mine", "deleted")
    workbench.library.catalog.remove(workbench.trainings.made_by(job()).name)
    assert "was deleted" in json.loads(page._tick()(found[page.sent])[page.job])["error"] and workbench.trainings.made_by(job()) is None


def test_compare_opens_with_what_a_training_made_beside_its_parent(workbench, folders):
    with on_a_page():
        compare_page = compare._Page(workbench, Line(), app.LINKS)
    child = workbench.library.catalog.add(shutil.copytree(folders["full"], workbench.settings.models_dir / "f"), "reward_model")
    config = {"name": child.name, "base": folders["partial"], "base_lm": "tiny", "parent": "p"}
    workbench.store.jobs.add(Job("job-1", config, state="succeeded", reward_model=child.name))
    found = compare_page._load()("{}", SimpleNamespace(query_params={"lineup": "job-1"}))
    specs = [json.loads(found[compare_page.columns.settings[c]]["value"]) for c in "ABC"]
    assert [(s["method"], s["reward_model"]) for s in specs] == [("base", None), ("pargs", "p"), ("args", "f")]  # by what each was taught
    assert json.loads(found[compare_page.settings]["value"])["columns"] == 3 and "f next to" in found[compare_page.status]
    workbench.store.jobs.add(Job("job-2", config, state="failed"))
    for wrong in ("job-2", "gone", "../x"):
        found = compare_page._load()("{}", SimpleNamespace(query_params={"lineup": wrong}))
        assert compare_page.columns.views["A"] not in found and compare_page.settings in found


def test_a_public_server_has_no_training(folders, tmp_path):
    bench = Workbench(Settings(data_dir=tmp_path, public=True), base_lms=[folders["lm"]])
    demo = app.build_app(bench)
    on_page = [block for block in demo.blocks.values() if getattr(block, "page", "") == "train"]
    assert not any(isinstance(block, (gr.Button, training_form.TrainForm)) for block in on_page)
    assert any(getattr(block, "value", None) == train.PUBLIC for block in on_page)
    assert not [fn for fn in demo.fns.values() if fn.page == "train"]
    vote(bench)
    with pytest.raises(BadSettings, match="public"):
        bench.trainings.train(VOTES, bench.library.base_lms()[0].name, "mine")
    bench.close()


# ---- words ------------------------------------------------------------------------------------------------------------------


def job(state: str = "running", **changes) -> Job:
    config = {"name": "mine", "base_lm": "tiny", "parent": None, "training": {"stride": 2}}
    return Job("j1", config, state=state, created_at="2026-11-02T10:00:00+00:00", attempt=1, **changes)


def test_a_running_training_says_how_far_it_is():
    found = job_words(job(), STEPS, [job()], None)
    assert found["words"] == "step 10 of 20 · 20 s left" and found["share"] == 0.5 and found["cancel"]
    assert (
        found["about"]
        == "partial, from tiny · 40 pairs to train on, 8 held out · loss 0.500 at step 10 · held-out accuracy 75.0 % (41–93) of 8 pairs · stride 2"
    )
    assert job_line(job(progress=STEPS[-1]))["words"] == "step 10 of 20"


def test_a_training_that_was_stored_in_old_names_is_told_in_the_new_ones():
    old = replace(job(), config={"name": "mine", "base_lm": "tiny", "parent": None, "training": {"num_steps": 7, "centring": 0.5}})
    assert about(old, []) == "partial, from tiny · max steps 7 · center rewards coefficient 0.5"
    form = {"name": "mine", "start": "tiny", "training": {"max_steps": 7, "center_rewards_coefficient": 0.5}}
    assert asks_for(form, old) and not asks_for(form | {"training": {"max_steps": 8}}, old)


def test_each_phase_has_words():
    assert "loading" in phase_words(None, {}) and "read" in phase_words("data", {})
    assert phase_words("data", {}, {"seconds": 300.0}).endswith(" · about 5 min in all")
    assert "held-out" in phase_words("report", STEPS[-1]) and "saving" in phase_words("done", STEPS[-1])
    assert [seconds_words(s) for s in (0.2, 59.6, 600, 9000)] == ["1 s", "60 s", "10 min", "2.5 h"]


def test_a_training_in_line_counts_those_before_it():
    first = Job("j0", {"name": "first"}, state="running", created_at="2026-11-02T09:00:00+00:00")
    assert job_words(job("queued"), [], [first, job("queued")], None)["words"] == "waiting: 1 training before it"


def test_an_ended_training_says_what_can_be_done():
    failed = job_words(job("failed", error_text="The disk is full."), STEPS, [], None, "last words")
    assert failed["error"] == "The disk is full." and failed["resume"] and not failed["cancel"] and failed["log"] == "last words"
    done = job("succeeded", reward_model="mine", progress={"phase": "done", "verdict": "better than its parent"})
    assert job_words(done, STEPS, [], "mine")["lineup"] == "./?lineup=j1" and job_line(done)["words"] == "better than its parent"
    assert "deleted" in job_words(done, STEPS, [], None)["error"] and "lineup" not in job_words(done, STEPS, [], None)
    assert "share" not in job_words(done, STEPS, [], "mine")
    assert job_words(done, STEPS, [], "mine 2")["model"] == "./models?model=mine%202"


def test_about_names_the_parent():
    config = {"name": "mine", "base_lm": "tiny", "parent": "p", "training": {"objective": "full"}}
    assert about(Job("j", config), []) == "full, from p"


def report(**changes) -> dict:
    mean = {"mean": 0.7123, "low": 0.65, "high": 0.77}
    length = {"4": {"accuracy": 0.7, "low": 0.6, "high": 0.8, "n": 102}, "end": {"accuracy": 0.8, "low": 0.7, "high": 0.9, "n": 102}}
    found = {"num_pairs": 102, "num_prompts": 60, "verdict": "better than its parent", "accuracy": mean, "accuracy_along": mean}
    found |= {
        "difference_along": {"mean": 0.111, "low": -0.04, "high": 0.18},
        "by_length": length,
        "calibration": [{"sure": 0.6, "accuracy": 0.5, "n": 4}],
    }
    found |= {"length_only": {"bets_on": "longer", "accuracy": mean}, "difference_to_length": mean}
    return found | {"parent": {"accuracy": mean, "accuracy_along": mean, "by_length": {"4": {"accuracy": 0.6, "n": 102}}}} | changes


def test_the_report_is_in_words_beside_the_parents():
    found = json.loads(report_words(ModelCard("reward_model", "mine", report=report())))
    assert (
        found["verdict"] == "Better than its parent" and "102 held-out pairs of 60 prompts" in found["sentence"] and "chance" not in found["sentence"]
    )
    facts = {label: words for label, words, *_ in found["facts"]}
    assert facts["partial answers"] == "71.2 % (65–77) · parent 71.2 % (65–77)"
    assert facts["over the parent"] == "+11.1 points (−4.0 to +18.0), partial answers"
    assert "longer" in facts["length baseline"]
    assert found["lengths"]["rows"] == [["4", "70.0 %", "60–80", "60.0 % (50–69)", "102"], ["end", "80.0 %", "70–90", "–", "102"]]
    assert found["calibration"]["rows"] == [["60.0 %", "50.0 %", "15–85", "4"]]


def test_the_guide_until_now_stands_beside_a_report_without_parent():
    beside = report()
    guide = {"name": "partial"} | beside.pop("parent")
    found = json.loads(report_words(ModelCard("reward_model", "mine", report=beside | {"guide": guide})))
    assert found["sentence"].endswith("Compared with partial, the model that guided before.")
    facts = {label: words for label, words, *_ in found["facts"]}
    assert facts["complete answers"] == "71.2 % (65–77) · partial 71.2 % (65–77)" and "over partial" in facts
    assert found["lengths"]["head"] == ["tokens", "accuracy", "95 % CI", "partial", "pairs"]
    apart = {"name": "partial", "why_not": "It reads other tokens."}
    found = json.loads(report_words(ModelCard("reward_model", "mine", report=beside | {"guide": apart})))
    assert "partial, the model that guided before, cannot be evaluated on them: It reads other tokens. " in found["sentence"]
    assert "the baseline is chance" in found["sentence"] and found["lengths"]["head"] == ["tokens", "accuracy", "95 % CI", "pairs"]


def test_so_few_pairs_say_nothing_of_a_difference():
    few = report(num_pairs=14, num_prompts=2, verdict="too few to tell", difference_along={"mean": 0.799, "low": 0.6, "high": 1.0})
    facts = {label: words for label, words, *_ in json.loads(report_words(ModelCard("reward_model", "mine", report=few)))["facts"]}
    assert facts["over the parent"] == "too few to tell: 14 pairs of 2 prompts; at least 20 of 10 are needed"
    assert "79.9" not in str(facts) and "over the length baseline" not in facts


def test_a_card_without_intervals_gets_them_from_its_pairs():
    card = ModelCard("reward_model", "sure", accuracy={"end": {"accuracy": 1.0, "n": 4}})
    other = ModelCard("reward_model", "known", accuracy={"end": {"accuracy": 0.994, "n": 3000}})
    assert accuracy_at_end(card) == ("100.0 % (51–100)", "4") and accuracy_at_end(other) == ("99.4 % (99.1–99.6)", "3,000")
    assert json.loads(report_words(card))["lengths"]["rows"] == [["end", "100.0 %", "51–100", "4"]]
    assert accuracy_figure(card).data[0].error_y.arrayminus[0] > 40


def test_a_report_without_parent_or_pairs_says_so():
    alone = report()
    del alone["parent"]
    found = json.loads(report_words(ModelCard("reward_model", "mine", report=alone)))
    assert "the baseline is chance" in found["sentence"] and "over chance" in {fact[0] for fact in found["facts"]}
    none = json.loads(report_words(ModelCard("reward_model", "m", report={"num_pairs": 0, "num_prompts": 0, "verdict": "too few to tell"})))
    assert none["verdict"] == "Too few to tell" and "No pairs were held out" in none["sentence"] and none["lengths"] is None
    assert report_words(None) == report_words(ModelCard("base_lm", "lm")) == "{}"


def test_numbers_that_are_missing_are_dashes():
    assert interval({"mean": None}) == points({"mean": None}) == "–"
