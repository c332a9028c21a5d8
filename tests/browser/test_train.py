"""Train and Models as a person meets them: the starter models, votes made through the workbench, a real short training."""

import re
import threading
import time

import pytest
from browser_app import Trainee, serving

from rgtg.records import Job

NAMELESS = """[...document.querySelectorAll("button, input, select, textarea, a")]
  .filter((e) => e.offsetParent && !e.textContent.trim() && !e.getAttribute("aria-label") && ![...(e.labels ?? [])].some((l) => l.textContent.trim()))
  .map((e) => e.outerHTML.slice(0, 120))"""
# a network on which the end of a stream of answers comes late
LATE_END = """(() => {
  const ask = window.fetch, wait = (ms) => new Promise((over) => setTimeout(over, ms));
  window.ending = 0;
  window.fetch = async (input, options) => {
    const found = await ask(input, options);
    if (!String(input.url ?? input).includes("/queue/data")) return found;
    const late = new TransformStream({
      async transform(chunk, out) {
        const text = new TextDecoder("latin1").decode(chunk), end = text.indexOf('data: {"msg":"close_stream"');  // a letter a byte
        if (end < 0) return out.enqueue(chunk);
        out.enqueue(chunk.slice(0, end));
        window.ending += 1;
        await wait(1500);
        window.ending -= 1;
        out.enqueue(chunk.slice(end));
      },
    });
    return new Response(found.body.pipeThrough(late), { status: found.status, headers: found.headers });
  };
})()"""
STATE = "words => document.querySelector('#job-state')?.textContent.startsWith(words)"


@pytest.fixture(scope="module")
def bench(starter, tmp_path_factory):
    """A workbench with the starter models and twelve votes for the shorter answer."""
    from rgtg.config import GenerationConfig, Settings
    from rgtg.records import ColumnSpec
    from rgtg.workbench.workbench import Workbench

    if not (starter / "base-lm" / "config.json").is_file():
        pytest.skip("needs data/starter: python -m rgtg starter")
    bench = Workbench(Settings(data_dir=tmp_path_factory.mktemp("train"), device="cpu"))
    bench.start_loading()
    bench.wait_until_ready(300)
    columns = [ColumnSpec("base"), ColumnSpec("pargs", (("beta", 1.0),), "partial"), ColumnSpec("args", (("beta", 1.0),), "full")]
    for number in range(12):
        with_openings = bench.openings()[number % len(bench.openings())]
        running = bench.compare(with_openings, columns, GenerationConfig(max_new_tokens=10), seed=number)
        for _ in running:
            pass
        running.close()
        shortest = min(running.traces, key=lambda t: len(t.response))
        bench.vote(running.id, "best", shortest.id)
    yield bench
    for job in bench.trainings.jobs.jobs():
        bench.trainings.jobs.cancel(job.id)  # no trainer of a test that failed goes on; one that has ended stays as it is
    bench.close()


@pytest.fixture(scope="module")
def place(bench):
    with serving(bench) as found:
        yield found


@pytest.fixture
def go(browser, place):
    """go("train") opens that page as a new person; whatever went wrong on any of them fails the test."""
    people: list[Trainee] = []

    def go(page_name: str, width: int = 1280, height: int = 900, script: str = "") -> Trainee:
        people.append(Trainee(browser, place, width, height, page_name, script))
        return people[-1]

    yield go
    wrong = [line for person in people for line in person.wrong]
    for person in people:
        person.context.close()
    assert not wrong, wrong


def train(person: Trainee, name: str, num_steps: int, start: str = "partial") -> None:
    person.page.locator("#train-start-model").select_option(start)
    person.page.locator("#train-max_steps").fill(str(num_steps))
    person.page.locator("#train-name").fill(name)
    person.page.locator("#train-start").click()
    person.page.wait_for_function("name => document.querySelector('#job-view h2')?.textContent === name", arg=name, timeout=30_000)


def test_from_votes_to_a_model_that_is_tried_in_compare(go, bench):
    person = go("train")
    assert re.search(r"my votes \(12\)", person.page.locator("#train-source").inner_text())
    assert "Notes" in person.data() and person.page.locator("#data-facts").inner_text().count("prompts") >= 2
    assert person.page.locator("#train-name").input_value() == "starter-votes"
    train(person, "short-ones", 40)
    person.page.wait_for_selector("#training-curve .scatterlayer .trace", timeout=120_000)
    person.page.wait_for_selector("#try-in-compare", timeout=180_000)
    (job,) = bench.trainings.jobs.jobs()
    assert (job.state, job.reward_model) == ("succeeded", "short-ones") and job.config["training"] == {"max_steps": 40}
    assert person.page.locator("#job-state").inner_text() == "done"
    assert person.page.locator("#verdict").inner_text() in ("Better than its parent", "Not better than its parent", "Too few to tell")
    assert "parent" in person.page.locator("#report-facts").inner_text()
    assert "too few to tell" in person.page.locator("#report-facts").inner_text(), "4 pairs are too few to speak of a difference"
    assert person.page.locator("#accuracy-table th").all_inner_texts() == ["tokens", "accuracy", "95 % CI", "parent", "pairs"]
    person.page.wait_for_selector("#accuracy-plot .scatterlayer .trace")
    assert person.page.locator("#accuracy-plot .scatterlayer .trace").count() == 2
    assert person.page.locator("#calibration-table tbody tr").count() >= 1
    assert "short-ones" in person.page.locator("#train-status").inner_text()
    assert person.page.locator("#train-name").input_value() != "short-ones"  # the next name is free
    person.page.locator("#try-in-compare").click()
    person.page.wait_for_selector("#vote-A")
    person.wait_status("short-ones next to")
    shown = [person.page.locator(f"#settings-{c}-reward_model").input_value() for c in "BC"]
    assert shown == ["partial", "short-ones"] and person.page.locator("#settings-A-method").input_value() == "base"
    person.page.locator(".opening").first.click()
    person.wait_status("done", timeout=60_000)
    assert bench.comparison(person.comparison_id()).traces[2].run.reward_model.name == "short-ones"


def test_a_cancelled_training_leaves_no_model(go, bench):
    person = go("train")
    person.data()
    train(person, "never", 100_000)
    person.page.wait_for_function(STATE, arg="step", timeout=120_000)
    person.page.locator("#job-cancel").click()
    person.page.wait_for_function(STATE, arg="cancelled", timeout=60_000)
    assert "never" not in [m.name for m in bench.library.models()]
    assert person.page.locator("#job-cancel, #try-in-compare").count() == 0
    assert person.page.locator("#job-list .job").first.inner_text().split("\n")[0] == "never"
    again = go("train")  # another visit finds it as it is
    again.page.wait_for_function(STATE, arg="cancelled")


def test_a_file_can_be_uploaded_and_what_is_wrong_with_one_is_said(go, tmp_path):
    good, bad = tmp_path / "good ones.jsonl", tmp_path / "bad.jsonl"
    good.write_text("".join(f'{{"prompt": "the food {i}", "chosen": " was good .", "rejected": " was bad ."}}\n' for i in range(40)))
    bad.write_text('{"text": 1}\n')
    person = go("train")
    person.page.locator("#train-source").select_option("file")
    person.page.locator("#train-file").set_input_files(good)
    person.page.wait_for_function("document.querySelector('#data-facts')?.textContent.includes('40 on 40 prompts')", timeout=60_000)
    assert person.page.locator("#train-name").input_value() == "starter-good-ones"
    person.page.locator("#train-file").set_input_files(bad)
    person.page.wait_for_function("document.querySelector('#data-view .wrong')?.textContent.includes('Row 1')", timeout=30_000)
    person.page.locator("#train-start").click()
    person.page.wait_for_selector(".go-row + .error-note")
    assert "Row 1" in person.page.locator(".error-note").inner_text()


def test_a_click_while_the_stream_of_answers_ends_is_answered(go):
    person = go("train", script=LATE_END)
    person.data()
    person.page.wait_for_function("!window.ending")
    person.page.locator("#train-more summary").click()
    for rate, start in ((7, "partial"), (8, "full"), (9, "partial")):
        person.page.locator("#train-learning_rate").fill(str(rate))
        person.page.locator("#train-start-model").select_option(start)
        person.page.wait_for_function("window.ending", timeout=30_000)
        person.page.locator("#train-start").click()
        said = "rate => document.querySelector('.error-note')?.textContent.includes(`Found ${rate}`)"
        person.page.wait_for_function(said, arg=rate, timeout=15_000)


def test_a_second_training_can_be_started_while_the_first_is_being_begun(go, bench, monkeypatch):
    begin = bench.trainings.train

    def slowly(*args):
        time.sleep(1.5)
        return begin(*args)

    monkeypatch.setattr(bench.trainings, "train", slowly)
    person = go("train")
    person.data()
    for name, clicks in (("twice", 2), ("other", 1)):
        person.page.locator("#train-max_steps").fill("100000")
        person.page.locator("#train-name").fill(name)
        person.page.locator("#train-start").click(click_count=clicks)
    person.page.wait_for_function("document.querySelector('#job-view h2')?.textContent === 'other'", timeout=30_000)
    found = [job for job in bench.trainings.jobs.jobs() if job.config["name"] in ("twice", "other")]
    assert sorted(job.config["name"] for job in found) == ["other", "twice"]
    assert person.page.locator(".error-note").count() == 0
    for job in found:
        bench.trainings.jobs.cancel(job.id)


def test_the_training_that_was_opened_stays_open_while_others_run(go, bench, monkeypatch):
    person = go("train")
    person.data()
    for name in ("left", "right"):
        train(person, name, 100_000)
    person.page.locator(".job", has_text="left").click()
    person.page.wait_for_function(STATE, arg="step", timeout=120_000)
    jobs = bench.trainings.jobs.jobs

    def slowly(*args, **kwargs):
        found = jobs(*args, **kwargs)
        time.sleep(0.6)  # most clicks come while the page is brought up to date
        return found

    monkeypatch.setattr(bench.trainings.jobs, "jobs", slowly)
    opened = "name => [...document.querySelectorAll('#job-view h2, .job[aria-pressed=true] .name')].every((it) => it.textContent === name)"
    for name in ("right", "left", "right", "left"):
        person.page.locator(".job", has_text=name).click()
        person.page.wait_for_function(opened, arg=name, timeout=15_000)
        person.page.wait_for_timeout(1500)
        assert person.page.evaluate(opened, name)
    for job in jobs():
        bench.trainings.jobs.cancel(job.id)  # one that has ended stays as it is


def test_an_older_look_does_not_take_the_place_of_a_newer_one(go, bench, tmp_path, monkeypatch):
    good = tmp_path / "good.jsonl"
    good.write_text("".join(f'{{"prompt": "the food {i}", "chosen": " was good .", "rejected": " was bad ."}}\n' for i in range(40)))
    look, newer, ended = bench.trainings.data, threading.Event(), threading.Event()

    def slow_with_votes(source, start, config):
        if source != "votes":
            return look(source, start, config)
        try:
            newer.wait(30)
            return look(source, start, config)
        finally:
            ended.set()

    monkeypatch.setattr(bench.trainings, "data", slow_with_votes)
    person = go("train")
    person.page.locator("#train-source").select_option("file")
    person.page.locator("#train-file").set_input_files(good)
    of_file = "document.querySelector('#data-facts')?.textContent.includes('40 on 40 prompts')"
    person.page.wait_for_function(of_file, timeout=30_000)
    newer.set()
    assert ended.wait(30)
    person.page.wait_for_timeout(1000)  # what is not to appear has time to
    assert person.page.evaluate(of_file)


def test_a_wrong_option_is_named_and_typing_is_kept(go):
    person = go("train")
    person.data()
    person.page.locator("#train-more summary").click()
    person.page.locator("#train-eval_fraction").fill("0.4")
    person.page.locator("#train-learning_rate").fill("7")
    person.page.locator("#train-name").fill("mine alone")
    person.page.wait_for_timeout(1500)
    assert person.page.locator("#train-eval_fraction").input_value() == "0.4" and person.page.locator("#train-name").input_value() == "mine alone"
    person.page.locator("#train-start").click()
    assert "`learning_rate` has to be between 0 and 1" in person.refused("train-learning_rate")


def test_only_the_options_of_the_chosen_objective_are_shown_and_sent(go, bench):
    person = go("train")
    person.data()
    person.page.locator("#train-more summary").click()
    person.page.locator("#train-stride").fill("2")
    person.page.locator("#train-margin").fill("0.5")
    assert person.page.locator("#train-beta").count() == 0
    person.page.locator("#train-start-model").select_option("starter")
    person.page.locator("#train-objective").select_option("autoregressive")
    assert person.page.evaluate("document.activeElement.id") == "train-objective"
    assert person.page.locator("#train-stride").count() == 0 and person.page.locator("#train-beta").count() == 1
    assert person.page.locator("#train-margin").input_value() == "0.5", "what both have is kept"
    train(person, "other-options", 100_000, start="starter")
    job = next(job for job in bench.trainings.jobs.jobs() if job.config["name"] == "other-options")
    assert job.config["training"] == {"objective": "autoregressive", "margin": 0.5, "max_steps": 100_000}
    bench.trainings.jobs.cancel(job.id)


def test_a_resume_that_is_refused_can_be_pressed_again(go, bench):
    bench.store.jobs.add(Job("left", {"name": "left", "base": "x", "base_lm": "starter"}, state="failed", attempt=1))
    person = go("train?job=left")
    for _ in range(2):  # its folder is gone
        person.page.locator("#job-resume:not([disabled])").click(timeout=30_000)
        person.page.wait_for_selector("#job-view + .error-note")
        assert "folder is gone" in person.page.locator(".error-note").inner_text()
    bench.store.jobs.ask_cancel("left")


def test_models_have_cards_and_a_trained_one_can_be_deleted(go, bench):
    if "short-ones" not in bench.trainings.trained():
        pytest.skip("needs the model of the first test")
    person = go("models?model=short-ones")
    person.page.wait_for_selector("#card-facts")
    names = person.page.locator("#model-list .model").all_inner_texts()
    assert {"starter", "partial", "full", "judge", "short-ones"} <= set(names)
    person.page.wait_for_selector("#model-accuracy-plot .scatterlayer .trace")
    person.page.locator('#model-card [data-model="partial"]').click()
    person.page.wait_for_function("document.querySelector('#model-card h2').textContent === 'partial'")
    assert "short-ones" in person.page.locator("#card-facts").inner_text() and person.page.locator("#delete-model").count() == 0
    person.page.locator('#model-list [data-model="short-ones"]').click()
    person.page.locator("#delete-model").click()
    person.page.locator("#delete-not").click()
    assert "short-ones" in [m.name for m in bench.library.models()]
    person.page.locator("#delete-model").click()
    person.page.locator("#delete-sure").click()
    person.page.wait_for_function("document.querySelector('#model-card').textContent.includes('was deleted')")
    assert "short-ones" not in [m.name for m in bench.library.models()]
    assert "short-ones" not in person.page.locator("#model-list .model").all_inner_texts()


def test_a_folder_is_added_and_a_wrong_one_is_refused_in_words(go, bench, tiny_models):
    person = go("models")
    person.page.wait_for_selector("#card-facts")
    person.page.locator("#add-place").fill("nothing/at-all/here")
    person.page.locator("#add-model").click()
    first = person.refused("add-place", timeout=60_000)
    person.page.locator("#add-model").click()  # the same again: it is answered again
    person.page.wait_for_function("!document.querySelector('#add-model').disabled")
    assert person.refused("add-place") == first and "Hub id" in first
    person.page.locator("#add-place").fill(tiny_models[0])
    assert person.page.locator(".error-note").count() == 0, "gone once the place is another"
    person.page.locator("#add-kind").select_option("base_lm")
    person.page.locator("#add-model").click()
    person.page.wait_for_function("document.querySelector('#model-card h2')?.textContent === 'tiny-lm'", timeout=60_000)
    assert "tiny-lm" in person.page.locator("#model-list").inner_text()
    person.page.locator("#take-off").click()
    person.page.wait_for_function("!document.querySelector('#model-list').textContent.includes('tiny-lm')", timeout=30_000)
    assert "removed from the list" in person.page.locator("#model-card").inner_text()


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("page_name", ["train", "models"])
def test_it_fits_a_small_screen_in_both_themes(go, page_name: str, theme: str):
    person = go(f"{page_name}?__theme={theme}", width=390, height=844)
    person.page.wait_for_selector("#data-facts" if page_name == "train" else "#card-facts", timeout=60_000)
    if page_name == "train":
        person.page.locator("#train-more summary").click()
    assert person.page.evaluate("document.documentElement.scrollWidth") <= 390
    assert ("dark" in person.page.evaluate("document.body.className")) == (theme == "dark")
    assert person.page.evaluate(NAMELESS) == [] and person.page.locator("h1").count() == 1
