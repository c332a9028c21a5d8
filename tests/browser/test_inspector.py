"""Why this token, for methods that score single tokens and for those that judge longer pieces: the starter models, in chromium."""

import json

import pytest
from browser_app import Visitor, serving

from rgtg.guidance.methods import METHODS


@pytest.fixture(scope="module")
def person(browser, tmp_path_factory: pytest.TempPathFactory):
    """A visitor of the starter who has generated with best-of-n, CARDS and PARGS."""
    from rgtg.config import STARTER_DIR, Settings
    from rgtg.workbench.workbench import Workbench

    if not (STARTER_DIR / "base-lm" / "config.json").is_file():
        pytest.skip("needs data/starter: python -m rgtg starter")
    bench = Workbench(Settings(data_dir=tmp_path_factory.mktemp("data")))
    bench.start_loading()
    bench.wait_until_ready(120)
    with serving(bench) as address:
        found = Visitor(browser, address)
        for column, method in zip("ABC", ("best-of-n", "cards", "pargs"), strict=True):
            found.page.locator(f"#settings-{column}-method").select_option(method)
        found.page.locator("#column-B .more summary").click()
        found.page.locator("#settings-B-threshold").fill("20")  # out of reach, so that every place has something that was given up
        found.page.locator("#settings-B-tries").fill("12")
        found.page.locator("h1").click()
        found.generate(end="", max_new_tokens=12, seed=17)
        found.wait_status("done", timeout=90_000)
        yield found
        found.context.close()
        assert not found.wrong
    bench.close()


def test_the_judge_is_the_measure_of_every_column(person: Visitor):
    assert person.page.locator("#colour-measure").input_value() == "judge"
    assert person.page.evaluate("document.querySelector('#reward-curve .js-plotly-plot').layout.yaxis.title.text") == "reward (judge)"
    for column in "ABC":
        assert "by judge" in person.page.locator(f"#view-{column} .tok").first.get_attribute("aria-label")
    assert "judge" not in person.page.locator("#colour .legend").inner_text(), "one scale, which the picker names"


def open_token(person: Visitor, column: str, index: int) -> list[str]:
    """Clicks on a token; returns the heads of its table of candidates."""
    if person.page.evaluate("rgtg.opened()") != {"column": column, "index": index}:
        person.page.locator(f"#view-{column} .tok").nth(index).click()
    return person.page.locator("#inspector .candidates th").all_inner_texts()


@pytest.mark.parametrize("column", ["A", "B"])
def test_a_method_that_judges_longer_pieces_shows_no_reward_in_its_score(person: Visitor, column: str):
    heads = open_token(person, column, 0)
    assert "β·r" not in heads and "reward" not in heads and "log p" in heads
    assert "scores longer segments" in person.page.locator("#inspector-sentence").inner_text()
    assert "β·r" not in person.page.locator("#inspector").inner_text()
    for row in person.page.locator("#inspector .candidates tbody tr").all():
        cells = dict(zip(heads, row.locator("td").all_inner_texts(), strict=True))
        assert cells["log p"] == cells["score"]


def test_pargs_shows_its_sum(person: Visitor):
    heads = open_token(person, "C", 1)
    assert heads[heads.index("log p") :][:3] == ["log p", "β·r", "score"]
    assert " + β·r " in person.page.locator("#inspector-sentence").inner_text()
    assert person.page.locator("#inspector-tried").count() == 0


def test_best_of_n_lists_the_answers_that_were_not_kept(person: Visitor):
    open_token(person, "A", 0)
    assert person.page.locator("#inspector-to-tried").inner_text() == "3 rejected ↓"
    assert person.page.locator("#inspector .tried th").all_inner_texts() == ["Sampled but not selected", "reward"]
    assert person.page.locator("#inspector .tried tbody tr").count() == 3


def test_the_other_answers_are_folded_below_the_column(person: Visitor):
    for column, num in (("A", 3), ("B", None)):
        fold = person.page.locator(f"#view-{column} .others")
        summary = fold.locator("summary").inner_text()
        assert summary.endswith("other answers") and (num is None or summary == f"{num} other answers")
        assert fold.locator("li").count() == 0, "on demand"
        fold.locator("summary").click()
        rows = fold.locator("li:not(.hint)")
        rows.first.wait_for()
        rewards = [float(text.replace("−", "-")) for text in fold.locator("b").all_inner_texts()]
        assert rewards == sorted(rewards, reverse=True) and all(person.page.evaluate("texts => texts.map(Boolean)", rows.all_inner_texts()))
        fold.locator("summary").click()
    assert "another answer had a higher reward" in person.page.locator("#view-A .others .why").first.evaluate("node => node.textContent")
    assert "its reward was below the threshold" in person.page.locator("#view-B .others .why").first.evaluate("node => node.textContent")
    assert person.page.locator("#view-C .others").count() == 0
    kept = person.page.evaluate("rgtg.reward(rgtg.views.A, rgtg.views.A.steps.length - 1) !== null && rgtg.views.A.steps.at(-1).r")
    assert max(rewards_of(person, "A")) <= kept + 1e-3


def rewards_of(person: Visitor, column: str) -> list[float]:
    return person.page.evaluate("column => rgtg.views[column].steps.flatMap((step) => (step.y?.rows ?? []).map((row) => row[1]))", column)


def test_cards_lists_ten_tries_with_their_thresholds_and_counts_the_rest(person: Visitor):
    open_token(person, "B", 0)
    assert person.page.locator("#inspector .tried th").all_inner_texts() == ["Rejected here", "reward", "threshold"]
    assert person.page.locator("#inspector .tried tbody tr").count() == 10
    assert person.page.locator("#inspector-tried .hint").inner_text() == "and 2 more"
    person.page.locator("#inspector-to-tried").click()
    heading, box = (person.page.locator(f"#inspector {css}").bounding_box() for css in (".tried th:first-child", ".table"))
    assert box["y"] <= heading["y"] and heading["y"] + heading["height"] <= box["y"] + box["height"]


def test_the_settings_of_a_method_can_all_be_reached(person: Visitor):
    person.page.locator("#column-B .more summary").click()
    person.page.locator("#settings-B-max_segment").scroll_into_view_if_needed()
    field, strip = (person.page.locator(css).bounding_box() for css in ("#settings-B-max_segment", "#columns"))
    assert field["y"] + field["height"] <= strip["y"] + strip["height"]
    person.page.locator("h1").click()


def test_a_hostile_piece_stays_text(person: Visitor):
    piece = "</script><img src=x onerror=alert(1)>"
    person.page.evaluate(
        """piece => { const step = rgtg.views.A.steps[0]; step.y = { rows: [[piece, null, null, 0.25]], more: 0 }; rgtg.select("A", 0, "test"); }""",
        piece,
    )
    assert person.page.locator("#inspector .piece").inner_text() == piece
    assert person.page.locator("#inspector .tried td").all_inner_texts()[1] == "25 %"
    assert person.page.locator("#inspector img").count() == 0


def test_a_threshold_of_minus_infinity_is_shown_and_kept(person: Visitor):
    spec = json.loads(person.page.evaluate("JSON.stringify(rgtg.field({ label: 'threshold' }, '-inf', 'f', () => 0).placeholder)"))
    assert spec == "−∞"


def test_a_method_takes_its_own_default_reward_model_unless_a_person_picked_one(person: Visitor):
    method, model = (person.page.locator(f"#settings-C-{name}") for name in ("method", "reward_model"))
    defaults = {"genarm": "autoregressive", "fudge": "partial", "farma": "vocabulary", "args": "full", "best-of-n": "full"}
    for key, default in defaults.items():
        method.select_option(key)
        assert model.input_value() == default, key
    model.select_option("vocabulary")
    for key, kept in (("pargs", "vocabulary"), ("fudge", "vocabulary"), ("dera", ""), ("pargs", "partial")):
        method.select_option(key)
        picker = model if kept else person.page.locator(f"#settings-C-{METHODS[key].roles[0].name}")  # whose stand-in it takes
        assert picker.input_value() == kept, key


def test_own_guides_have_each_their_name_and_scale_and_the_base_column_says_whose_it_shows(person: Visitor):
    person.page.locator("#settings-A-method").select_option("base")
    person.page.locator("#settings-B-method").select_option("args")
    person.generate(max_new_tokens=12)
    person.page.locator("#colour-measure").select_option("own guide")
    person.page.wait_for_function("document.querySelector('#reward-curve .js-plotly-plot')?.layout.yaxis2")
    names = person.page.evaluate("document.querySelector('#reward-curve .js-plotly-plot').layout.annotations.map((a) => a.text)")
    assert {"reward (full)", "reward (partial)"} <= set(names)
    legend = person.page.locator("#colour .legend .scale").all_inner_texts()
    assert [line.split(" −")[0] for line in legend] == ["A B: full", "C: partial"]
    words = [person.page.locator(f"#view-{c} .tok").first.get_attribute("aria-label") for c in "ABC"]
    assert ["by full" in words[0], "by full" in words[1], "by partial" in words[2]] == [True] * 3
    ranges = [person.page.evaluate(f"getComputedStyle(document.querySelector('#view-{c} .text')).getPropertyValue('--half-range')") for c in "ABC"]
    assert ranges[0] == ranges[1] != ranges[2]
