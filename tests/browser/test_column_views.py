"""Columns, tokens and the table beside them, as they stand on the screen: the tiny models, one visitor for all of it."""

import pytest
from browser_app import Visitor

from rgtg.errors import BadSettings
from rgtg.models.catalog import ModelInfo

# a column by itself in place of all others, fed with lines as the server sends them
DRAW = """(steps, prompt) => {
  rgtg.kept = { ...rgtg.views };
  for (const letter of Object.keys(rgtg.views)) delete rgtg.views[letter];
  const home = rgtg.el("div", { id: "drawn-here", style: "width: 400px" }, rgtg.el("div", { class: "drawn" }));
  document.querySelector(".gradio-container").append(home);
  const lines = [{ prompt, column: "Z", guide: "one", guides: [["one", 1]], params: {}, terms: ["log p", "β·r"] }, ...steps];
  rgtg.tokenView(home, { column: "Z", value: lines.map((line) => JSON.stringify(line) + "\\n").join("") }, () => {});
  rgtg.paintAll();
}"""
GONE = """() => {
  document.querySelector("#drawn-here").remove();
  delete rgtg.views.Z;
  Object.assign(rgtg.views, rgtg.kept);
  rgtg.forget();
  rgtg.paintAll();
}"""
CUT = """() => [...document.querySelectorAll(".rgtg-column:not(.absent) > :first-child .drawn > select")].filter((select) => {
  const pen = document.createElement("canvas").getContext("2d"), style = getComputedStyle(select);
  pen.font = `${style.fontWeight} ${style.fontSize} ${style.fontFamily}`;
  return pen.measureText(select.selectedOptions[0].text).width > select.clientWidth - 24;
}).map((select) => `${select.id} ${select.selectedOptions[0].text}`)"""
CONTRAST = """() => {
  const linear = (v) => (v / 255 <= 0.03928 ? v / 255 / 12.92 : ((v / 255 + 0.055) / 1.055) ** 2.4);
  const light = (colour) => colour.match(/[\\d.]+/g).slice(0, 3).map((v, i) => linear(v) * [0.2126, 0.7152, 0.0722][i]).reduce((a, b) => a + b);
  const style = getComputedStyle(document.querySelector("#generate")), found = [light(style.backgroundColor), light(style.color)];
  return (Math.max(...found) + 0.05) / (Math.min(...found) + 0.05);
}"""


@pytest.fixture(scope="module")
def person(browser, address):
    found = Visitor(browser, address)
    yield found
    found.context.close()
    assert not found.wrong


@pytest.fixture
def drawn(person):
    """draw(steps, prompt): a column Z of these steps, once the next frame has painted it."""
    script = f"([steps, prompt]) => {{ ({DRAW})(steps, prompt); return new Promise((painted) => requestAnimationFrame(painted)); }}"
    yield lambda steps, prompt="the": person.page.evaluate(script, [steps, prompt])
    person.page.evaluate(GONE)


def step(text: str, reward: float = 0.5, log_prob: float = -0.5) -> dict:
    return {"t": text, "id": 5, "lp": log_prob, "g": 0.75, "s": 1.0, "r": reward, "m": 0, "k": [1, 1], "rs": {"one": reward}, "c": []}


def test_unlocked_a_second_generate_is_another_answer_and_a_typed_seed_is_kept(person):
    seeds = []
    for _ in range(2):
        person.generate(max_new_tokens=4)
        seeds.append(person.page.locator("#settings-seed").input_value())
    assert seeds[0] != seeds[1] and not person.page.locator("#settings-lock").is_checked()
    person.set("seed", 5)
    assert person.page.locator("#settings-lock").is_checked()
    person.generate(max_new_tokens=4)
    assert person.page.locator("#settings-seed").input_value() == "5"


def test_the_fourth_column_is_another_method(person):
    person.page.locator("#settings-columns").select_option("4")
    shown = [person.page.locator(f"#settings-{c}-method").input_value() for c in "ABCD"]
    assert len(set(shown)) == 4
    for method in ("args", "pargs", "genarm"):
        person.page.locator("#settings-D-method").select_option("best-of-n")
        person.page.locator("#settings-D-method").select_option(method)
        assert person.page.locator("#settings-D-beta").input_value() == "2"
    person.page.locator("#settings-columns").select_option("3")


def test_another_base_lm_takes_reward_models_that_can_guide_it(person, workbench):
    names = [m.name for m in workbench.library.base_lms()]
    if "starter" not in names:
        pytest.skip("needs data/starter: python -m rgtg starter")
    person.page.locator("#settings-base_lm").select_option("starter")
    assert [person.page.locator(f"#settings-{c}-reward_model").input_value() for c in "BC"] == ["full", "partial"]
    offered = person.page.locator("#settings-B-reward_model option").evaluate_all("nodes => nodes.map((node) => node.value)")
    assert offered.index("tiny-full") > offered.index("plain-partial"), "what reads its text with other tokens stands behind what was trained for it"
    person.generate(max_new_tokens=3)
    person.page.locator("#settings-base_lm").select_option("tiny-lm")
    assert person.page.locator("#settings-B-reward_model").input_value() == "tiny-partial"
    person.generate(max_new_tokens=3)


def test_a_column_whose_reward_model_cannot_guide_the_base_lm_is_marked_at_once(person):
    person.page.evaluate(
        """() => { rgtg.was = rgtg.currentSettings; rgtg.currentSettings = () => ({ ...rgtg.was(), base_lm: "another" }); rgtg.tell("settings"); }"""
    )
    assert (
        person.page.locator("#settings-B-misfit").inner_text()
        == "“tiny-partial” was not trained for another: train a reward model on the Train page, or choose Base LM."
    )
    assert person.page.locator("#settings-B-reward_model").get_attribute("aria-invalid") is not None
    assert person.page.locator("#settings-A-misfit").count() == 0
    person.page.evaluate("""() => { rgtg.currentSettings = rgtg.was; rgtg.tell("settings"); }""")
    assert person.page.locator(".misfit").count() == 0


def test_pointing_at_a_token_and_giving_it_the_focus_show_reward_change_and_probability(person):
    person.generate(max_new_tokens=6)
    tip = person.page.locator("#token-tip")
    person.page.locator("#view-C .tok").nth(3).hover()
    words = tip.inner_text()
    assert all(part in words for part in ("reward ", " by tiny-partial", "change in reward ", "probability ", "after guidance "))
    person.page.locator("h1").hover()
    assert tip.is_hidden()
    person.page.locator("#view-A .tok").first.focus()
    person.page.keyboard.press("ArrowRight")
    assert "change in reward" in tip.inner_text() and "after guidance" not in tip.inner_text()
    person.page.keyboard.press("Escape")
    assert tip.is_hidden()


def test_candidates_are_one_tab_from_their_token_and_escape_goes_back(person):
    person.generate(max_new_tokens=6)
    keys, focused = person.page.keyboard, lambda: person.page.evaluate("document.activeElement.closest('tr')?.dataset.token")
    person.page.locator("#view-C .tok").nth(2).focus()
    keys.press("Enter")
    keys.press("Tab")
    rows = [row.get_attribute("data-token") for row in person.page.locator("#inspector .candidates tbody tr:not(.taken)").all()]
    assert focused() == rows[0]
    keys.press("ArrowDown")
    assert focused() == rows[1]
    keys.press("ArrowRight")
    assert person.page.locator("#inspector .where").inner_text() == "C · token 4 of 6" and focused()
    keys.press("Tab")
    assert focused() is None, "the table is one stop"
    keys.press("Shift+Tab")
    keys.press("Escape")
    assert person.page.evaluate("document.activeElement === document.querySelector('#view-C .tokens').children[3]")


def test_a_road_that_is_taken_is_not_offered_again(person):
    person.generate(max_new_tokens=6, seed=8)
    person.page.locator("#view-C .tok").nth(2).click()
    taken = person.page.locator("#inspector tr.taken")
    assert taken.locator("button").count() == 0 and "selected" in taken.locator("td").last.inner_text()
    row = person.page.locator("#inspector .candidates tbody tr:not(.taken)").first
    token = row.get_attribute("data-token")
    row.locator("button").click()
    person.page.wait_for_function("document.querySelectorAll('#view-D .tok').length === 6")
    person.wait_status("done")
    person.page.locator("#inspector-next").click()
    person.page.locator("#inspector-previous").click()
    there = person.page.locator(f'#inspector tr[data-token="{token}"] button')
    assert there.inner_text() == "in D"
    there.click()
    assert person.page.locator("#inspector .where").inner_text() == "D · token 3 of 6"


def test_a_branch_that_is_refused_is_not_said_to_go_on(person, workbench, monkeypatch):
    def refused(*_):
        raise BadSettings("A comparison has at most 12 columns.")

    person.generate(max_new_tokens=4)
    monkeypatch.setattr(workbench, "branch", refused)
    person.page.locator("#view-C .tok").nth(1).click()
    person.page.locator("#inspector .branch").first.click()
    person.wait_status("no branch was made")


def test_names_of_columns_are_not_cut_however_many_there_are(person):
    person.page.locator("#settings-columns").select_option("4")
    for column, method in zip("ABCD", ("pargs", "pargs-greedy", "block-best-of-k", "particles"), strict=True):
        person.page.locator(f"#settings-{column}-method").select_option(method)
    person.generate(max_new_tokens=4)
    assert person.page.evaluate(CUT) == []
    person.page.locator("#view-A .tok").nth(1).click()
    person.page.locator("#inspector .branch").first.click()
    person.page.wait_for_selector("#view-E .tok")
    person.wait_status("done")
    label = person.page.locator("#settings-E .branch-label")
    assert person.page.evaluate(CUT) == [] and label.evaluate("node => node.scrollWidth <= node.clientWidth + 1")
    for column, method in zip("ABC", ("base", "args", "pargs"), strict=True):
        person.page.locator(f"#settings-{column}-method").select_option(method)
    person.page.locator("#settings-columns").select_option("3")


def test_more_candidates_than_are_shown_are_counted(person):
    person.generate(max_new_tokens=3, top_k=100)
    person.page.locator("#view-C .tok").nth(1).click()
    assert person.page.locator("#inspector-left-out").inner_text().startswith("10 of 100 candidates")
    person.generate(max_new_tokens=3, top_k=10)
    person.page.locator("#view-C .tok").nth(1).click()
    assert person.page.locator("#inspector-left-out").count() == 0


def test_a_choice_without_chance_is_certain(person):
    person.generate(max_new_tokens=3, temperature=0)
    person.page.locator("#view-C .tok").nth(1).click()
    assert person.page.locator("#inspector tr.taken td[data-column=after]").inner_text() == "100 %"
    person.generate(max_new_tokens=3, temperature=1)
    assert "KL 0.0" in person.page.locator("#view-A .facts").inner_text()
    assert "alone: KL" in person.page.locator("#view-A .facts").get_attribute("title")


def test_a_long_answer_takes_the_height_that_there_is_and_an_open_token_stays_in_sight(person):
    person.generate(max_new_tokens=70)
    box = "#view-A .text"
    needed, given = person.page.locator(box).evaluate("node => [node.scrollHeight, node.clientHeight]")
    assert needed <= given + 1 and given > 214, (needed, given)
    person.page.locator("#view-A .tok").nth(66).click()
    token, panel, bar = (person.page.locator(css).bounding_box() for css in ('#view-A .tok[aria-pressed="true"]', "#inspector", "#vote"))
    assert token["y"] >= 0 and token["y"] + token["height"] <= panel["y"] and panel["y"] + panel["height"] <= bar["y"] + 1
    person.generate(max_new_tokens=4)


def test_a_newline_has_its_sign_where_it_stands(person, drawn):
    drawn([step(" end.\n\n"), step("So")])
    parts = person.page.evaluate("[...document.querySelector('#drawn-here .tok').childNodes].map((n) => [n.className ?? '', n.textContent])")
    assert [part for part in parts if part[1]] == [["", " end."], ["newline", "\n"], ["newline", "\n"]]
    assert person.page.evaluate("document.querySelector('#drawn-here .tokens').textContent") == " end.\n\nSo"


def test_noise_has_no_full_colour_and_no_sign_of_zero(person, drawn):
    drawn([step(" a", 0.001), step(" b", -0.002)])
    assert person.page.locator("#colour .legend").inner_text().split() == ["−0.10", "+0.10"]
    assert person.page.evaluate("getComputedStyle(document.querySelector('#drawn-here .text')).getPropertyValue('--half-range')") == "0.1"
    assert "reward 0.00 by one" in person.page.locator("#drawn-here .tok").nth(1).get_attribute("aria-label")


def test_text_from_right_to_left_begins_on_the_right(person, drawn):
    drawn([step(" العالم"), step(" جميل")], "مرحبا")
    assert person.page.evaluate("getComputedStyle(document.querySelector('#drawn-here .text')).direction") == "rtl"
    first, second = (person.page.locator("#drawn-here .tok").nth(i).bounding_box() for i in (0, 1))
    assert second["x"] < first["x"]
    person.page.locator("#drawn-here .tok").first.focus()
    person.page.keyboard.press("ArrowLeft")
    assert person.page.evaluate("document.activeElement.index") == 1


def test_the_curve_has_no_bar_and_every_column_of_a_table_a_head(person):
    person.generate(max_new_tokens=4)
    person.page.wait_for_selector("#reward-curve .js-plotly-plot .scatterlayer .trace")
    assert not person.page.locator("#reward-curve .modebar").is_visible()
    person.page.locator("#view-C .tok").nth(1).click()
    assert all(person.page.locator("#inspector th").all_inner_texts())
    point = person.page.locator("#reward-curve .scatterlayer .trace .point").nth(2).bounding_box()
    person.page.mouse.move(point["x"] + point["width"] / 2, point["y"] + point["height"] / 2)
    person.page.wait_for_function("document.querySelector('#reward-curve .hoverlayer').textContent.includes('reward')")
    number = person.page.evaluate("document.querySelector('#reward-curve .hoverlayer').textContent").split("reward ")[1].split(" by")[0]
    assert len(number) <= 8


def test_generate_can_be_read_in_the_dark_and_keys_are_named_at_twice_the_size(visit):
    person = visit(width=640, height=450, query="?__theme=dark")
    assert person.page.evaluate(CONTRAST) >= 4.5
    assert person.page.locator("#vote-A kbd").is_visible() and person.page.locator("#vote-A kbd").inner_text() == "1"


def test_the_picker_of_colours_marks_a_model_that_is_not_recommended(visit, monkeypatch):
    monkeypatch.setattr(ModelInfo, "mark", property(lambda model: "not recommended" if model.name == "tiny-partial" else ""))
    another = visit()
    another.generate(max_new_tokens=3)
    options = another.page.locator("#colour-measure option")
    labels = {option.get_attribute("value"): option.inner_text() for option in options.all()}
    assert labels == {"tiny-partial": "tiny-partial (not recommended)", "own guide": "own guide"}
    another.page.locator("#colour-measure").select_option("tiny-partial")
    assert "by tiny-partial" in another.page.locator("#view-C .tok").first.get_attribute("aria-label"), "the name itself is as it was"


def test_six_columns_scroll_within_their_strip_with_names_in_full_and_the_sixth_key_votes(visit, workbench):
    another = visit()
    another.page.locator("#settings-columns").select_option("6")
    methods = ["base", "pargs", "rad", "fudge", "speculative-rejection", "particles"]
    for column, method in zip("ABCDEF", methods, strict=True):
        another.page.locator(f"#settings-{column}-method").select_option(method)
    another.generate(max_new_tokens=4)
    assert all(another.tokens(column) for column in "ABCDEF")
    assert another.page.evaluate(CUT) == []
    overflow = "[document.documentElement, document.querySelector('#columns')].map((node) => node.scrollWidth > node.clientWidth)"
    assert another.page.evaluate(overflow) == [False, True]
    another.page.keyboard.press("6")
    another.wait_note("saved: F is best")
    comparison = workbench.comparison(another.comparison_id())
    assert [t.run.method for t in comparison.traces] == methods
    another.page.locator("#vote-F[aria-pressed=true]").wait_for()
    assert another.page.locator("#vote-G").is_hidden()
    another.page.locator("#view-A .tok").nth(1).click()
    another.page.locator("#inspector .branch").first.click()
    another.page.wait_for_selector("#view-G .tok")
    another.wait_status("done")
    another.page.keyboard.press("7")
    another.wait_note("saved: G is best")
    another.page.reload()
    another.opened()
    another.page.wait_for_function("document.querySelectorAll('#view-F .tok').length > 0")
    assert another.page.locator("#settings-columns").input_value() == "6"
