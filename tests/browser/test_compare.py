"""Compare as a person meets it: the real workbench with tiny models, in chromium."""

import json
import re

import pytest
from browser_app import Visitor, serving

HOSTILE_PROMPT = "`${alert(1)} <img src=x onerror=alert(2)></script>{{value}}"
CONTRAST = """(() => {
  const parse = (colour) => {
    const found = colour.match(/[-\\d.]+/g).map(Number);
    return colour.startsWith("color(srgb") ? found.map((v, i) => (i < 3 ? v * 255 : v)) : found;
  };
  const over = (top, under) => [0, 1, 2].map((i) => top[i] * (top[3] ?? 1) + under[i] * (1 - (top[3] ?? 1)));
  const linear = (v) => (v / 255 <= 0.03928 ? v / 255 / 12.92 : ((v / 255 + 0.055) / 1.055) ** 2.4);
  const light = (c) => 0.2126 * linear(c[0]) + 0.7152 * linear(c[1]) + 0.0722 * linear(c[2]);
  const paper = parse(getComputedStyle(document.querySelector(".rgtg-column")).backgroundColor);
  return Math.min(...[...document.querySelectorAll(".tokens .tok")].map((token) => {
    const style = getComputedStyle(token);
    const [high, low] = [light(over(parse(style.backgroundColor), paper)), light(parse(style.color))].sort((a, b) => b - a);
    return (high + 0.05) / (low + 0.05);
  }));
})()"""
SIZES = """[...new Set([...document.querySelectorAll(".tokens")].filter((t) => t.offsetParent).map((t) => getComputedStyle(t).fontSize))]"""
NAMELESS = """[...document.querySelectorAll("button, input, select, textarea, a")]
  .filter((e) => e.offsetParent && !e.textContent.trim() && !e.getAttribute("aria-label") && ![...(e.labels ?? [])].some((l) => l.textContent.trim()))
  .map((e) => e.outerHTML.slice(0, 120))"""


def number(cell: str) -> float:
    return float(cell.replace("−", "-").replace("%", "").replace(" ", ""))


def test_one_click_on_an_example_gives_a_comparison(visit, workbench):
    person = visit()
    person.page.locator(".opening").first.click()
    person.wait_status("done")
    assert person.page.locator("#prompt textarea").input_value() == workbench.openings()[0]
    stored = workbench.comparison(person.comparison_id())
    assert [t.column for t in stored.traces] == ["A", "B", "C"]
    for trace in stored.traces:
        assert ascii(person.text(trace.column)) == ascii(trace.response)
        assert person.tokens(trace.column) == len(trace.steps) > 0
        assert f"{len(trace.steps)} tok" in person.page.locator(f"#view-{trace.column} .facts").inner_text()
    person.page.wait_for_selector("#reward-curve .js-plotly-plot .scatterlayer .trace")
    assert person.page.locator("#vote-D").is_hidden()


def test_the_inspectors_numbers_add_up(visit):
    person = visit()
    person.generate(max_new_tokens=8)
    for index in (0, 3, 7):
        person.page.locator("#view-C .tok").nth(index).click()
        heads = person.page.locator("#inspector th").all_inner_texts()
        rows = [dict(zip(heads, row.locator("td").all_inner_texts(), strict=True)) for row in person.page.locator("#inspector tbody tr").all()]
        assert len(rows) == 10
        for row in rows:
            log_p, reward, score = number(row["log p"]), number(row["reward"]), number(row["score"])
            assert score == pytest.approx(log_p + number(row["β·r"]), abs=0.0015)
            assert score == pytest.approx(log_p + 2.0 * reward, abs=0.0025)
        assert [number(r["score"]) for r in rows] == sorted((number(r["score"]) for r in rows), reverse=True)
        assert person.page.locator("#inspector tr.taken").count() == 1
        assert re.search(r"log p [−+]\d.* \+ β·r [−+]\d.* = [−+]\d", person.page.locator("#inspector-sentence").inner_text())


def test_opening_a_token_moves_nothing(visit):
    person = visit()
    person.generate(max_new_tokens=12)
    token = person.page.locator("#view-B .tok").nth(5)
    before, bar = token.bounding_box(), person.page.locator("#vote").bounding_box()
    token.click()
    assert token.bounding_box() == before and person.page.locator("#vote").bounding_box() == bar
    assert bar["y"] + bar["height"] <= 900


def test_keys_walk_the_tokens_and_open_the_inspector(visit):
    person = visit()
    person.generate(max_new_tokens=8)
    keys = person.page.keyboard
    person.page.locator("#view-A .tok").first.focus()
    keys.press("ArrowRight")
    keys.press("Enter")
    where = person.page.locator("#inspector .where")
    assert where.inner_text() == "A · token 2 of 8"
    keys.press("ArrowRight")
    assert where.inner_text() == "A · token 3 of 8"
    keys.press("End")
    assert where.inner_text() == "A · token 8 of 8"
    assert person.page.locator('#view-A .tok[aria-pressed="true"]').count() == 1
    assert "reward" in person.page.locator('#view-A .tok[aria-pressed="true"]').get_attribute("aria-label")
    keys.press("Escape")
    assert "Click a token" in person.page.locator("#inspector-sentence").inner_text()
    assert person.page.locator('#view-A .tok[tabindex="0"]').count() == 1


def test_a_click_on_the_curve_opens_that_token(visit):
    person = visit()
    person.generate(max_new_tokens=8)
    person.page.wait_for_selector("#reward-curve .js-plotly-plot .scatterlayer .trace .point")
    person.page.evaluate("""() => { const plot = document.querySelector('#reward-curve .js-plotly-plot');
        plot.emit('plotly_click', { points: [{ customdata: plot.data[1].customdata[4] }] }); }""")
    assert person.page.locator("#inspector .where").inner_text() == "B · token 5 of 8"


def test_branch_here_takes_the_other_road(visit, workbench):
    person = visit()
    person.generate(max_new_tokens=12)
    person.page.locator("#view-C .tok").nth(4).click()
    row = person.page.locator("#inspector tbody tr:not(.taken)").first
    token_id = int(row.get_attribute("data-token"))
    row.locator(".branch").click()
    person.page.wait_for_function("document.querySelectorAll('#view-D .tok').length === 12")
    person.page.wait_for_function("document.querySelector('#status .drawn').textContent.startsWith('done')")
    stored = workbench.comparison(person.comparison_id())
    parent, branch = stored.traces[2], stored.traces[3]
    assert branch.parent_trace_id == parent.id and branch.branch_position == 4
    assert branch.token_ids[:4] == parent.token_ids[:4] and branch.token_ids[4] == token_id
    assert person.text("D") == branch.response
    assert person.page.locator("#settings-D .branch-label").inner_text() == "branch of C at token 5"
    assert person.page.locator("#vote-D").is_visible()
    person.generate(max_new_tokens=4)  # the next comparison begins without it
    assert not person.page.locator("#column-D").is_visible()


def test_a_vote_and_its_undo_are_one_key_each(visit, workbench):
    person = visit()
    person.generate(max_new_tokens=6)
    person.page.locator("h1").click()
    votes = workbench.num_votes()
    person.page.keyboard.press("2")
    person.wait_note("saved: B is best")
    comparison = workbench.comparison(person.comparison_id())
    vote = workbench.current_vote(comparison.id, person.rater)
    assert vote.verdict == "best" and vote.best_trace_id == comparison.traces[1].id
    assert set(vote.seen_trace_ids) == {t.id for t in comparison.traces} and vote.dwell_ms is not None
    assert person.page.locator("#vote-B").get_attribute("aria-pressed") == "true"
    person.page.keyboard.press("u")
    person.wait_note("undone")
    assert workbench.current_vote(comparison.id, person.rater) is None and workbench.num_votes() == votes
    assert person.page.locator("#vote-B").get_attribute("aria-pressed") == "false"
    for key, verdict in (("t", "tie"), ("n", "all_bad"), ("s", "skip")):
        person.page.keyboard.press(key)
        person.wait_note("saved: " + {"tie": "tie", "all_bad": "all bad", "skip": "skipped"}[verdict])
        assert workbench.current_vote(comparison.id, person.rater).verdict == verdict


def test_a_vote_while_it_streams_stops_it_and_keeps_what_was_seen(visit, slow_engine, workbench):
    person = visit()
    person.generate(end="", max_new_tokens=900)
    person.page.wait_for_function("document.querySelectorAll('#view-B .tok').length > 5")
    person.page.locator("h1").click()
    person.page.keyboard.press("1")
    person.wait_note("saved: A is best")
    person.wait_status("stopped at")
    stored = workbench.comparison(person.comparison_id())
    assert all(t.stop_reason == "stopped" and 5 < len(t.steps) < 900 for t in stored.traces)
    assert workbench.current_vote(stored.id, person.rater).best_trace_id == stored.traces[0].id
    assert [person.text(t.column) for t in stored.traces] == [t.response for t in stored.traces]


def test_stop_freezes_the_text_and_says_where(visit, slow_engine, workbench):
    person = visit()
    person.generate(end="", max_new_tokens=900)
    person.page.wait_for_function("document.querySelectorAll('#view-A .tok').length > 5")
    person.page.locator("#stop").click()
    person.wait_status("stopped at")
    count = person.tokens("A")
    assert person.page.locator("#view-A .facts").inner_text().startswith(f"stopped at {count} of 900")
    person.page.wait_for_timeout(400)
    assert person.tokens("A") == count == len(workbench.comparison(person.comparison_id()).traces[0].steps)


def test_keys_are_quiet_while_typing_and_ctrl_enter_is_not(visit, workbench):
    person = visit()
    person.generate(max_new_tokens=4)
    votes = workbench.num_votes()
    field = person.page.locator("#prompt textarea")
    field.fill("")
    field.press_sequentially("the 1 tins 2")
    person.page.locator("#settings-seed").press("2")
    person.page.wait_for_timeout(200)
    assert workbench.num_votes() == votes
    field.press("Control+Enter")
    person.page.wait_for_function("document.querySelector('#view-A .prompt').textContent === 'the 1 tins 2'")
    person.wait_status("done")


def test_the_link_shows_the_same_in_another_browser(visit, workbench):
    first = visit()
    first.page.locator("#settings-C-beta").fill("3.5")
    first.generate("my wife and i", max_new_tokens=10, seed=4242, temperature=0.8)
    first.page.locator("#view-C .tok").nth(2).click()
    first.page.locator("#inspector tbody tr:not(.taken) .branch").first.click()
    first.page.wait_for_function("document.querySelectorAll('#view-D .tok').length === 10")
    first.page.locator("#vote-C").click()
    first.wait_note("saved: C is best")
    second = visit(query=f"?comparison={first.comparison_id()}")
    second.page.wait_for_function("document.querySelectorAll('#view-D .tok').length === 10")
    for column in "ABCD":
        assert second.text(column) == first.text(column)
    assert second.page.locator("#prompt textarea").input_value() == "my wife and i"
    values = json.loads(second.page.evaluate("JSON.stringify(rgtg.currentSettings())"))
    assert (values["seed"], values["max_new_tokens"], values["temperature"], values["columns"]) == (4242, 10, 0.8, 3)
    assert second.page.locator("#settings-C-beta").input_value() == "3.5"
    assert second.page.locator("#settings-C-method").input_value() == "pargs"
    assert second.page.locator("#vote-C").get_attribute("aria-pressed") == "false", "each browser votes for itself"
    second.page.locator("#view-C .tok").nth(1).click()
    assert second.page.locator("#inspector tbody tr").count() == 10
    second.page.locator("#run-again").click()
    second.wait_status("done")
    assert second.comparison_id() != first.comparison_id()
    for column in "ABC":  # the same luck, the same text
        assert second.text(column) == first.text(column)


def test_an_unknown_link_says_so_and_the_page_works(visit):
    person = visit(query="?comparison=nothing-by-that-id")
    person.page.wait_for_selector(".topline + .error-note")
    assert "nothing-by-that-id" in person.page.locator(".error-note").inner_text()
    person.generate(max_new_tokens=3)


def test_hostile_text_stays_text(visit, workbench):
    person = visit()
    missing = {"`", "${alert(1)}", "<img src=x onerror=alert(2)>", "</script>", "{{value}}"}
    for seed in range(4):  # what the tiny model says is chance; each of these has to come up
        person.generate(HOSTILE_PROMPT, max_new_tokens=150, top_k=40, seed=seed)
        stored = workbench.comparison(person.comparison_id())
        texts = [t.response for t in stored.traces]
        assert [person.text(t.column) for t in stored.traces] == texts
        missing -= {needle for needle in missing if any(needle in text for text in texts)}
        if not missing:
            break
    assert not missing
    assert person.page.locator("#view-A .prompt").inner_text() == HOSTILE_PROMPT
    for index in range(0, 60, 7):
        person.page.locator("#view-B .tok").nth(index).click()
    assert person.page.locator("#columns img, #inspector img, #columns script, #inspector b").count() == 0


def test_every_model_can_be_picked(visit, workbench):
    person = visit()
    options = person.page.locator("#settings-base_lm option").all_inner_texts()
    assert options == [m.name for m in workbench.library.base_lms()]
    guides = [m.name for m in workbench.library.guides()]
    assert person.page.locator("#settings-B-reward_model option").all_inner_texts() == guides
    person.page.locator("#settings-B-reward_model").select_option(guides[-1])
    person.page.locator("#settings-A-method").select_option("best-of-n")
    person.page.locator("#settings-A-n").fill("3")
    person.generate(max_new_tokens=5)
    traces = workbench.comparison(person.comparison_id()).traces
    assert traces[0].run.method == "best-of-n" and dict(traces[0].run.params)["n"] == 3
    assert traces[1].run.reward_model.name == guides[-1]


def test_the_four_colours_and_their_scale(visit):
    person = visit()
    person.generate(max_new_tokens=10)
    seen = set()
    for channel in ("reward", "change", "margin", "surprisal"):
        person.page.locator("#colour-channel").select_option(channel)
        label = person.page.locator("#view-C .tok").nth(3).get_attribute("aria-label")
        seen.add(label)
        words = {"reward": "reward", "change": "change in reward", "margin": "margin over", "surprisal": "nats"}[channel]
        assert words in label and re.search(r"\d\.\d\d", label)
    assert len(seen) == 4
    assert person.page.locator("#view-C .tok.high").count() == 10
    assert "nats" in person.page.locator(".legend").inner_text()


def test_wrong_numbers_are_named(visit):
    person = visit()
    person.set("temperature", 99)
    person.page.locator("#prompt textarea").fill("the food was")
    person.page.locator("#generate").click()
    assert "`temperature` has to be a number between 0 and 5" in person.refused("settings-temperature")
    person.page.locator("#prompt textarea").fill("   ")
    person.page.locator("#generate").click()
    person.page.wait_for_selector("#prompt + .error-note")
    person.generate(max_new_tokens=3, temperature=1)


def test_export_gives_the_votes_as_a_file(visit):
    person = visit()
    person.generate("a prompt of this test alone", max_new_tokens=5)
    person.page.locator("#vote-A").click()
    person.wait_note("saved")
    for _ in range(2):
        with person.page.expect_download() as found:
            person.page.locator("#export").click()
        lines = [json.loads(line) for line in found.value.path().read_text(encoding="utf-8").splitlines()]
        assert {"prompt", "chosen", "rejected"} <= set(lines[0])
        assert "a prompt of this test alone" in [line["prompt"] for line in lines]
        person.wait_note("exported")


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_it_fits_a_small_screen_in_both_themes(visit, theme: str):
    person = visit(width=390, height=844, query=f"?__theme={theme}")
    person.generate(max_new_tokens=20)
    person.page.locator("#view-C .tok").nth(2).click()
    person.page.wait_for_selector("#inspector table")
    assert person.page.evaluate("document.documentElement.scrollWidth") <= 390
    bar = person.page.locator("#vote-A").bounding_box()
    assert bar["y"] >= 0 and bar["y"] + bar["height"] <= 844
    assert ("dark" in person.page.evaluate("document.body.className")) == (theme == "dark")
    for channel in ("reward", "surprisal"):
        person.page.locator("#colour-channel").select_option(channel)
        assert person.page.evaluate(CONTRAST) >= 4.5
    assert len(person.page.evaluate(SIZES)) == 1


def test_everything_has_a_name_and_the_page_one_heading(visit):
    person = visit()
    nameless = person.page.evaluate(NAMELESS)
    assert nameless == []
    assert person.page.locator("h1").count() == 1
    assert person.page.locator("#status [role=status]").count() == 1


def test_the_page_answers_while_the_models_load(browser, tiny_models, tmp_path):
    from rgtg.config import Settings
    from rgtg.workbench.workbench import Workbench

    slow = Workbench(Settings(data_dir=tmp_path), base_lms=[tiny_models[0]], reward_models=tiny_models[1])
    with serving(slow) as address:
        person = Visitor(browser, address)
        assert "loading" in person.page.locator("#model-status .drawn").inner_text()
        person.page.locator(".opening").first.click()
        person.wait_status("the models are loading")
        slow.start_loading()
        person.wait_status("done")
        person.page.wait_for_function("document.querySelector('#model-status .drawn').textContent.includes('models ready')")
        person.context.close()
        assert not person.wrong
    slow.close()


def test_a_second_visitor_waits_in_line_and_comes_next(visit, slow_engine):
    first, second = visit(), visit()
    first.generate(end="", max_new_tokens=900)
    second.set("max_new_tokens", 4)
    second.page.locator(".opening").nth(1).click()
    second.wait_status("waiting: you are next")
    first.page.locator("#stop").click()
    first.wait_status("stopped at")
    second.wait_status("done")


def test_a_new_generate_replaces_the_running_one(visit, slow_engine):
    person = visit()
    person.generate(end="", max_new_tokens=900)
    person.page.wait_for_function("document.querySelectorAll('#view-A .tok').length > 3")
    person.page.wait_for_timeout(500)
    person.generate("my wife and i", max_new_tokens=6)
    assert person.page.locator("#view-A .prompt").inner_text() == "my wife and i"
    assert [person.tokens(c) for c in "ABC"] == [6, 6, 6]


def test_a_changed_setting_is_not_taken_for_the_texts_own(visit):
    person = visit()
    person.generate(max_new_tokens=4)
    column = person.page.locator("#column-C")
    assert "changed" not in column.get_attribute("class")
    person.page.locator("#settings-C-beta").fill("7")
    assert "changed" in column.get_attribute("class")
    person.page.locator("#settings-C-beta").fill("2")
    assert "changed" not in column.get_attribute("class")


def test_fewer_columns_next_time_keep_what_there_is(visit):
    person = visit()
    person.generate(max_new_tokens=4)
    person.page.locator("#settings-columns").select_option("2")
    assert person.page.locator("#column-C").is_visible() and person.tokens("C") == 4
    person.generate(max_new_tokens=5)
    assert not person.page.locator("#column-C").is_visible() and person.tokens("B") == 5
    person.page.locator("#settings-columns").select_option("4")
    assert person.page.locator("#column-D").is_visible()


def test_the_starter_models_are_there_and_the_judge_only_observes(browser, starter, tmp_path):
    from rgtg.config import Settings
    from rgtg.workbench.workbench import Workbench

    if not (starter / "base-lm" / "config.json").is_file():
        pytest.skip("needs data/starter: python -m rgtg starter")
    bench = Workbench(Settings(data_dir=tmp_path))
    bench.start_loading()
    with serving(bench) as address:
        person = Visitor(browser, address)
        person.page.locator(".opening").first.click()
        person.wait_status("done", timeout=120_000)
        assert [person.page.locator(f"#settings-{c}-method").input_value() for c in "ABC"] == ["base", "args", "pargs"]
        assert [person.page.locator(f"#settings-{c}-reward_model").input_value() for c in "BC"] == ["full", "partial"]
        assert "judge" not in person.page.locator("#settings-B-reward_model option").all_inner_texts()
        assert "judge" in person.page.locator("#view-A .facts").inner_text()
        person.page.locator("#colour-measure").select_option("judge")
        person.page.wait_for_function("document.querySelector('#reward-curve .js-plotly-plot')?.layout.yaxis.title.text === 'reward (judge)'")
        person.context.close()
        assert not person.wrong
    bench.close()
