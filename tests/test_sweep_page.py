"""The page Sweep without a browser: its form, what its handlers refuse, sweeps that are found again, and the results so far."""

import json
import os
import shlex
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import gradio as gr
import psutil
import pytest
from pages_alone import on_a_page
from sweep_records import PLAN, PROMPTS, cell, cells_of, finished

import app
from pages import sweep
from pages.sweep_form import choices, default_form, read_form
from pages.sweep_words import KEEP_THEM, plan_words, sweep_line, sweep_words
from rgtg.config import GenerationConfig, Settings
from rgtg.errors import BadSettings, RgtgError
from rgtg.evaluation.table import summary, write_table
from rgtg.jobs.process import Trainer
from rgtg.records import ColumnSpec
from rgtg.workbench.sweeping import background, results
from rgtg.workbench.sweeping.background import BackgroundSweeps, State
from rgtg.workbench.sweeping.folder import Request, write_outcome
from rgtg.workbench.sweeping.grid import Grid
from rgtg.workbench.sweeping.results import SweepResults, lines_of, maps_of, settings_of
from rgtg.workbench.workbench import Workbench

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")  # gr.Warning outside of an app

VISIT = SimpleNamespace(query_params={})
GRID = Grid("lm", "j", (ColumnSpec("base"),), PROMPTS, GenerationConfig(max_new_tokens=4))


@pytest.fixture
def workbench(folders, tmp_path, monkeypatch):
    monkeypatch.setattr("rgtg.workbench.library.STARTER_DIR", tmp_path / "none")
    found = Workbench(Settings(data_dir=tmp_path, device="cpu"), base_lms=[folders["lm"]], reward_models=[folders["partial"], folders["judge"]])
    yield found
    found.close()


BUILT: list[sweep._Page] = []


@pytest.fixture
def page(workbench):
    """One for all tests, since Gradio takes a while to make it: its handlers ask the workbench that it has."""
    if not BUILT:
        with on_a_page():
            BUILT.append(sweep._Page(workbench, app.LINKS))
    BUILT[0].workbench, BUILT[0].sweeps = workbench, workbench.sweeps
    return BUILT[0]


@pytest.fixture
def launched(monkeypatch) -> list[list[str]]:
    """No process is started: what would be is kept, and this one stands for it."""
    asked: list[list[str]] = []

    def start(module, folder, online=False):
        asked.append(list(module))
        return Trainer(os.getpid(), psutil.Process().create_time())

    monkeypatch.setattr(background, "start_apart", start)
    return asked


def form(workbench, **changes) -> str:
    rows = [{"method": "base"}, {"method": "pargs", "reward_model": "p", "params": {"beta": "1, 2"}, "top_k": "5 10"}]
    return json.dumps(default_form(workbench) | {"source": "typed", "rows": rows, "max_new_tokens": 4} | changes)


def event(**payload) -> SimpleNamespace:
    return SimpleNamespace(_data=payload)


# ---- the form -------------------------------------------------------------------------------------------------------


def test_the_form_that_a_page_opens_with_can_be_started_at_once(workbench):
    name, grid = read_form(json.dumps(default_form(workbench)), "", workbench)
    assert name == "" and grid.base_lm and grid.judge == "j" and len(grid.prompts) > 10
    assert [(c.method, len(c.params)) for c in grid.columns] == [("base", 0)] + [("args", 1)] * 4 + [("pargs", 1)] * 4


def test_rows_become_columns_and_typed_prompts_lines(workbench):
    _, grid = read_form(form(workbench, seeds=3, limit=2), "the food\n\nthe place\nthe end\n", workbench)
    assert grid.prompts == PROMPTS and grid.num_seeds == 3 and grid.num_answers == 5 * 2 * 3
    assert plan_words(grid, 40.2) == "5 settings × 2 prompts × 3 seeds = 30 answers, up to 40 s on this machine"


def row(**changes) -> dict:
    return {"rows": [{"method": "pargs", "reward_model": "p", "params": {"beta": "1"}} | changes]}


@pytest.mark.parametrize(
    ("changes", "field", "words"),
    [
        (row(params={"beta": "1, x"}), "A-beta", "`beta` has to be a number. Found “x”."),
        (row(params={"beta": 99}), "A-beta", "between"),
        (row(params=[1]), "", "parameters of row A could not be read"),
        (row(top_k="0"), "A-top_k", "`top_k` has to be between 1 and 200"),
        (row(reward_model="gone"), "A-reward_model", "no reward model for this base LM"),
        (row(reward_model=None), "A-reward_model", "Row A needs a reward model. Available: p"),
        (row(method="world peace"), "A-method", "The method of row A is unknown"),
        ({"rows": []}, "add-row", "at least one method"),
        ({"rows": "all"}, "", "1 to 20 rows"),
        ({"base_lm": "gone"}, "base_lm", "not installed"),
        ({"judge": "gone"}, "judge", "needs a judge"),
        ({"seeds": 0}, "seeds", "between 1 and 100"),
        ({"max_new_tokens": None}, "max_new_tokens", "whole number"),
        ({"source": "/etc/passwd"}, "source", "source of the prompts is unknown"),
        ({"source": "file", "file": "/nowhere/p.txt"}, "file", "There is no such file"),
        ({"limit": 0}, "limit", "between 1 and 5,000"),
    ],
)
def test_a_bad_value_is_refused_beside_its_field(workbench, changes, field, words):
    with pytest.raises(RgtgError) as refused:
        read_form(form(workbench, **changes), "the food", workbench)
    assert words in str(refused.value) and refused.value.field == field


def test_without_prompts_the_box_is_named(workbench):
    with pytest.raises(BadSettings, match="no prompt") as refused:
        read_form(form(workbench), " \n", workbench)
    assert refused.value.field == "grid-prompts"


def test_the_roles_of_a_method_take_models_that_fit(workbench):
    rows = [{"method": "experts", "guides": [["lm", 9], ["", -1.0]]}]
    lm = workbench.library.default_base_lm()
    rows[0]["guides"][0][0] = lm
    _, grid = read_form(form(workbench, rows=rows), "a", workbench)
    assert grid.columns[0].guides == ((lm, 1.0), ("", -1.0)), "weights are those of the roles"
    rows[0]["guides"][0][0] = "gone"
    with pytest.raises(BadSettings, match="Row A needs a model that fits the base LM"):
        read_form(form(workbench, rows=rows), "a", workbench)


def test_a_plan_says_what_is_wrong_as_words_and_the_estimate_comes_behind_the_count(page, workbench, monkeypatch):
    monkeypatch.setattr(workbench, "status", lambda: SimpleNamespace(state="ready", text="ready"))
    count, estimated = page._plan()(form(workbench), "the food")
    assert count == "5 settings × 1 prompt × 1 seed = 5 answers" and estimated.startswith(count + ", up to ")
    assert "Found “x”" in list(page._plan()(form(workbench, **row(params={"beta": "x"})), "a"))[-1]


def test_an_estimate_grows_with_the_answers_and_is_kept(workbench):
    _, grid = read_form(form(workbench), "the food\nthe place", workbench)
    _, larger = read_form(form(workbench, seeds=10), "the food\nthe place", workbench)
    estimator = workbench.sweeps.estimator
    seconds = estimator.seconds(grid)
    assert seconds > 0 and len(estimator._kept) == 5
    assert estimator.seconds(larger) == pytest.approx(10 * seconds) and len(estimator._kept) == 5


# ---- sweeps in the background ---------------------------------------------------------------------------------------


def test_a_sweep_is_started_listed_and_found_again_by_another_start_of_the_app(tmp_path, launched):
    settings = Settings(data_dir=tmp_path, device="cpu")
    sweeps = BackgroundSweeps(settings, [str(tmp_path)], ["owner/model"])
    sweeps.start("mine", GRID, '{"form": 1}')
    assert launched == [["rgtg.workbench.sweeping", str(tmp_path / "sweeps" / "mine")]]
    assert sweeps.state("mine").state == "running" and sweeps.state("mine").total == 2
    request = BackgroundSweeps(settings).request("mine")
    assert request and (request.grid, request.draft, request.base_lms, request.reward_models) == (
        GRID,
        '{"form": 1}',
        (str(tmp_path),),
        ("owner/model",),
    )
    again = BackgroundSweeps(settings)
    assert again.state("mine").state == "interrupted", "its process has left no trace"
    write_process(tmp_path / "sweeps" / "mine", os.getpid())
    assert again.state("mine").state == "running"
    write_process(tmp_path / "sweeps" / "mine", os.getpid(), created_at=1.0)
    assert again.state("mine").state == "interrupted", "another process has its pid"


def write_process(folder: Path, pid: int, created_at: float = 0.0) -> None:
    (folder / "process.json").write_text(json.dumps({"pid": pid, "created_at": created_at or psutil.Process(pid).create_time()}))


def test_one_sweep_runs_at_a_time_and_a_name_is_taken_once(tmp_path, launched):
    sweeps = BackgroundSweeps(Settings(data_dir=tmp_path))
    sweeps.start("mine", GRID)
    with pytest.raises(BadSettings, match="The sweep `mine` is running") as refused:
        sweeps.start("other", GRID)
    assert refused.value.do == "Wait until it ends, or stop it."
    with pytest.raises(BadSettings, match="The name `Mine` is taken") as refused:
        sweeps.start("Mine", GRID)
    assert refused.value.field == "name" and sweeps.free_name("MINE") == "MINE-2" and len(launched) == 1


@pytest.mark.parametrize("name", ["../out", "a/b", ".hidden", "con", "", "x" * 80])
def test_a_name_that_is_no_folder_of_its_own_is_refused(tmp_path, launched, name):
    sweeps = BackgroundSweeps(Settings(data_dir=tmp_path))
    for act in (lambda: sweeps.start(name, GRID), lambda: sweeps.state(name), lambda: sweeps.stop(name)):
        with pytest.raises(BadSettings, match="name of the sweep is not allowed"):
            act()
    assert not launched and not (tmp_path / "sweeps").exists()


def test_stop_ends_the_process_also_after_a_restart_and_resume_starts_it_again(tmp_path, launched):
    sweeps, path = BackgroundSweeps(Settings(data_dir=tmp_path)), tmp_path / "sweeps" / "mine"
    path.mkdir(parents=True)
    Request(GRID, "2026-01-01T00:00:00.000+00:00").write(path)
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"], start_new_session=True)
    write_process(path, child.pid)
    assert sweeps.state("mine").state == "running"
    sweeps.stop("mine")
    assert child.wait(5) and sweeps.state("mine").state == "stopped" and sweeps.state("mine").can_resume
    sweeps.stop("mine")  # as it is
    sweeps.resume("mine", keep=True)
    assert launched == [["rgtg.workbench.sweeping", str(path), "keep"]] and not (path / "outcome.json").exists()
    sweeps.resume("mine")
    assert len(launched) == 1, "it is running"


def test_a_failure_keeps_its_words_and_a_sweep_of_the_command_line_is_listed_but_not_resumed(tmp_path):
    sweeps, path = BackgroundSweeps(Settings(data_dir=tmp_path)), tmp_path / "sweeps" / "mine"
    path.mkdir(parents=True)
    Request(GRID, "2026-01-01T00:00:00.000+00:00").write(path)
    write_outcome(path, "failed", BadSettings("It is wrong.", "Found this.", "Add `--keep` to keep them."))
    finished(tmp_path / "sweeps" / "terminal")
    assert [state.name for state in sweeps.all()] == ["terminal", "mine"]
    view = sweep_words(sweeps.state("mine"), 1)
    assert view["error"] == f"It is wrong. Found this. {KEEP_THEM}" and view["keep"] and view["resume"]
    with pytest.raises(BadSettings, match="`terminal` was not started on this page"):
        sweeps.resume("terminal")


def test_a_sweep_whose_process_is_gone_says_so_and_what_to_do(tmp_path, launched):
    sweeps = BackgroundSweeps(Settings(data_dir=tmp_path))
    sweeps.start("mine", GRID)
    (state,) = BackgroundSweeps(Settings(data_dir=tmp_path)).all()
    view = sweep_words(state, 1)
    assert (view["words"], view["error"]) == ("interrupted · 1 of 2 answers kept", "The process of the sweep is gone. Resume makes what is missing.")
    assert sweep_line(state)["words"] == "interrupted" and "stop" not in view


def test_a_page_without_models_still_opens(tmp_path, monkeypatch):
    monkeypatch.setattr("rgtg.workbench.library.STARTER_DIR", tmp_path / "none")
    bench = Workbench(Settings(data_dir=tmp_path, device="cpu"))
    form = default_form(bench)
    assert (form["base_lm"], form["judge"], [row["method"] for row in form["rows"]]) == ("", "", ["base"]) and choices(bench)["lms"] == []
    with pytest.raises(BadSettings, match="That base LM is not installed"):
        read_form(json.dumps(form), "", bench)
    bench.close()


def test_a_running_sweep_says_how_far_it_is():
    view = sweep_words(State("mine", "running", done=512.4, total=1024, seconds_left=30.0), 500)
    assert (view["words"], view["share"], view["stop"]) == ("512 of 1,024 answers · about 30 s left", pytest.approx(0.5, abs=0.01), True)
    assert "loading" in sweep_words(State("mine", "running"), 0)["words"]


def test_a_public_server_without_administrators_has_no_sweeps(folders, tmp_path):
    bench = Workbench(Settings(data_dir=tmp_path, public=True), base_lms=[folders["lm"]])
    demo = app.build_app(bench)
    on_page = [block for block in demo.blocks.values() if getattr(block, "page", "") == "sweep"]
    assert not any(isinstance(block, (gr.Button, sweep.GridForm)) for block in on_page)
    assert any(getattr(block, "value", None) == sweep.PUBLIC for block in on_page)
    assert not [fn for fn in demo.fns.values() if fn.page == "sweep"]
    with pytest.raises(BadSettings, match="public"):
        bench.sweeps.background.start("mine", GRID)
    bench.close()


# ---- results so far -------------------------------------------------------------------------------------------------


def test_settings_have_the_names_of_their_cells_and_their_numbers():
    names = [setting.name for setting in settings_of(PLAN)]
    assert names == ["base", "pargs · p · beta 1 · top_k 5", "pargs · p · beta 1", "pargs · p · beta 2 · top_k 5", "pargs · p · beta 2"]
    assert dict(settings_of(PLAN)[2].numbers) == {"beta": 1.0, "top_k": 10.0}


def test_two_numbers_that_vary_make_a_map_and_lines_vary_in_one():
    (found,) = maps_of(settings_of(PLAN))
    assert (found.title, found.x, found.xs, found.y, found.ys) == ("pargs · p", "beta", (1.0, 2.0), "top_k", (5.0, 10.0))
    assert found.names[0] == ("pargs · p · beta 1 · top_k 5", "pargs · p · beta 2 · top_k 5")
    assert set(lines_of(settings_of(PLAN)).values()) == {"base", "pargs · p · top_k 5", "pargs · p · top_k 10"}


def test_rows_so_far_are_those_of_the_table_and_grow_with_the_shards(tmp_path):
    folder = finished(tmp_path, names=2)
    found = SweepResults(tmp_path)
    first = found.refresh()
    assert [(row["setting"], row["n"]) for row in found.rows()] == [("base", 4), ("pargs · p · beta 1 · top_k 5", 4)]
    finished(tmp_path)
    assert found.refresh() != first
    cells = [cell for number, s in enumerate(settings_of(PLAN)) for cell in cells_of(s.name, float(number), 0.5 * number)]
    assert found.rows() == summary(cells) and found.num_cells() == 20
    write_table(cells, tmp_path)
    assert SweepResults(tmp_path).rows() == summary(cells), "from table.json"
    earlier = [{key: value for key, value in row.items() if key != "kl_bound"} for row in json.loads((tmp_path / "table.json").read_text())]
    (tmp_path / "table.json").write_text(json.dumps(earlier))
    assert SweepResults(tmp_path).rows() == summary(cells), "an earlier version's table is made again"
    folder.write([cell("base", "the food", 7, 9.0)], "1", 1.0, 1.0)  # the table is of fewer answers
    assert SweepResults(tmp_path).rows()[0]["n"] == 5


def test_the_plot_has_a_line_for_each_k_and_names_every_point(tmp_path):
    finished(tmp_path)
    found = SweepResults(tmp_path)
    drawn = results.figure(found.rows(), found.settings)
    lines = {line.name: list(line.text) for line in drawn.data}
    assert lines["pargs · p · top_k 5"] == ["pargs · p · beta 1 · top_k 5", "pargs · p · beta 2 · top_k 5"]
    assert lines["pargs · p · top_k 10"] == ["pargs · p · beta 1", "pargs · p · beta 2"] and lines["base"] == ["base"]


# ---- handlers -------------------------------------------------------------------------------------------------------


def test_start_writes_a_folder_named_by_its_methods_and_opens_it(page, workbench, launched):
    updates = page._start()(form(workbench), "the food", sent := {})
    assert sent["open"] == "base-pargs" and launched and json.loads(updates[page.head])["stop"]
    draft = json.loads(json.loads(updates[page.head])["draft"])
    assert draft["prompts"] == "the food" and draft["form"]["rows"][1]["params"] == {"beta": "1, 2"}
    with pytest.raises(gr.Error, match="is running"):
        page._start()(form(workbench), "the food", {})


def test_the_command_names_the_file_of_the_prompts_or_each_that_was_typed(page, workbench, tmp_path):
    typed = shlex.split(page._command()(form(workbench), "the food\nthe place"))
    assert [typed[i + 1] for i, word in enumerate(typed) if word == "--prompt"] == list(PROMPTS) and typed[-2:] == ["--out", "base-pargs"]
    (tmp_path / "p.txt").write_text("a\nb\nc\n")
    words = page._command()(form(workbench, source="file", file=str(tmp_path / "p.txt"), limit=2, name="mine"), "")
    assert f"--prompts {tmp_path / 'p.txt'} --limit 2 " in words and words.endswith("--out mine") and "--prompt " not in words
    assert "--prompts" in page._command()(form(workbench, source="openings.txt"), "")


def test_what_has_not_changed_is_not_sent_again(page, workbench):
    finished(workbench.settings.data_dir / "sweeps" / "mine")
    updates = page._load()(VISIT)
    sent = updates[page.sent]
    assert sent["open"] == "mine" and page.plot in updates and "pargs" in updates[page.tables]
    assert set(page._tick()(sent)) == {page.models, page.sent, page.timer}
    assert page._tick()(sent)[page.timer].active is not None


def test_an_address_opens_its_sweep(page, workbench):
    for name in ("one", "two"):
        finished(workbench.settings.data_dir / "sweeps" / name)
    assert page._load()(SimpleNamespace(query_params={"sweep": "one"}))[page.sent]["open"] == "one"
    assert page._load()(SimpleNamespace(query_params={"sweep": "../x"}))[page.sent]["open"] in ("one", "two")


def test_answers_of_a_setting_come_in_the_order_that_was_asked_for(page, workbench):
    finished(workbench.settings.data_dir / "sweeps" / "mine")
    found = json.loads(page._answers()(event(name="mine", setting="base", order="best")))
    assert found["total"] == 4 and [one["judge"] for one in found["answers"]] == [1.0, 1.0, 0.0, 0.0]
    assert found["answers"][0] == {
        "prompt": "the place",
        "text": " was <b>good</b>",
        "seed": 0,
        "stop": "eos",
        "tokens": 2,
        "judge": 1.0,
        "kl": 0.0,
        "guide": 1.0,
    }


def test_lines_are_compared_at_equal_kl(page, workbench):
    finished(workbench.settings.data_dir / "sweeps" / "mine")
    shown = json.loads(page._load()(VISIT)[page.matched])
    families = ["pargs · p · top_k 5", "pargs · p · top_k 10"]
    assert shown == {"name": "mine", "families": families, "kl": 1.0}, "a line for each k; the base LM has one KL"
    # of k = 5 the KLs are 0.5 and 1.5 with mean judges 1.5 and 3.5, of k = 10 they are 1 and 2 with 2.5 and 4.5; prompts are ½ apart from the mean
    found = json.loads(page._match()(event(name="mine", kl=1.0, minus=families[0])))
    assert found["table"][0] == ["method", "judge at 1 nat", f"minus {families[0]}"]
    assert found["table"][1] == [[families[0], "2.50 [2.00, 3.00]", "–"], [families[1], "2.50 [2.00, 3.00]", "0.00 [0.00, 0.00]"]]
    alone = json.loads(page._match()(event(name="mine", kl=30, minus="")))
    assert alone["table"] == [["method", "judge at 30 nats"], []]


@pytest.mark.parametrize(
    ("handler", "payload", "words"),
    [
        ("_match", {"name": "mine", "kl": 0, "minus": ""}, "KL"),
        ("_match", {"name": "mine", "kl": "x", "minus": ""}, "KL"),
        ("_match", {"name": "mine", "kl": 1, "minus": "gone"}, "no such method to compare with"),
        ("_match", {"name": "mine", "kl": 1, "minus": ["base"]}, "no such method to compare with"),
        ("_answers", {"name": "mine", "setting": "gone"}, "no answers of that setting"),
        ("_answers", {"name": "mine", "setting": ["base"]}, "no answers of that setting"),
        ("_answers", {"name": "mine", "setting": "base", "order": "x"}, "no such order"),
        ("_answers", {"name": "../mine", "setting": "base"}, "not allowed"),
        ("_save", {"name": "mine", "form": "exe"}, "cannot be saved in that form"),
        ("_save", {"name": "gone", "form": "csv"}, "There is no sweep `gone`"),
        ("_save", {"name": 3, "form": "csv"}, "no name of a sweep"),
        ("_open", {"name": "gone"}, "There is no sweep"),
        ("_stop", {}, "no name of a sweep"),
        ("_resume", {"name": "mine"}, "not started on this page"),
    ],
)
def test_a_handler_checks_what_it_is_sent(page, workbench, handler, payload, words):
    finished(workbench.settings.data_dir / "sweeps" / "mine")
    arguments = [event(**payload)] if handler in ("_answers", "_save", "_match") else [{}, event(**payload)]
    with pytest.raises(gr.Error, match=words):
        getattr(page, handler)()(*arguments)


def test_a_sweep_is_downloaded_as_table_answers_and_plot(page, workbench):
    finished(workbench.settings.data_dir / "sweeps" / "mine")
    files = {name: json.loads(page._save()(event(name="mine", form=name))[page.download]) for name in ("csv", "latex", "jsonl")}
    assert files["csv"]["name"] == "mine.csv" and files["csv"]["text"].startswith("setting,n,num_prompts,positive,positive_low,")
    assert r"pargs $\cdot$ p $\cdot$ beta 2" in files["latex"]["text"] and files["jsonl"]["text"].count("\n") == 20
    html = Path(page._save()(event(name="mine", form="html"))[page.html])
    text = html.read_text(encoding="utf-8")
    assert html.name == "mine.html" and "pargs · p · beta 2" in text and len(text) > 1_000_000, "what draws it is inside"
    html.unlink()


def test_a_damaged_shard_is_named_and_the_page_stays(page, workbench):
    path = workbench.settings.data_dir / "sweeps" / "mine"
    finished(path)
    (path / "shards" / "0000.jsonl").write_text("{}\n")
    updates = page._load()(VISIT)
    assert updates[page.sent]["results"] == "mine damaged" and updates[page.tables] == "{}"
