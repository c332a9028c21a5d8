""" "Sweep this" in a browser: the grid, the slider, the curves, a weight taken over, what is downloaded, and Stop."""

import csv
import io
import threading
import time
from pathlib import Path

import pytest
from browser_app import hostile_tokenizer, serving

from pages import admission
from pages.waiting_line import Line

STATE = "start => document.querySelector('#sweep-state').textContent.startsWith(start)"
CURVES = "#sweep-curves .js-plotly-plot"


@pytest.fixture(scope="module")
def judged(tiny_models, tmp_path_factory):
    """An app of its own with a judge beside the tiny models."""
    import torch
    from transformers import LlamaConfig, LlamaForSequenceClassification

    from rgtg.config import Settings
    from rgtg.records import ModelCard
    from rgtg.workbench.workbench import Workbench

    folder, tokenizer = tmp_path_factory.mktemp("judge") / "tiny-judge", hostile_tokenizer()
    shape = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 64, "max_position_embeddings": 2048}
    torch.manual_seed(9)
    LlamaForSequenceClassification(
        LlamaConfig(num_labels=1, vocab_size=len(tokenizer), bos_token_id=0, eos_token_id=1, pad_token_id=1, **shape)
    ).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    ModelCard("judge", "tiny-judge").write(folder)
    base_lm, reward_models = tiny_models
    workbench = Workbench(Settings(data_dir=tmp_path_factory.mktemp("data")), base_lms=[base_lm], reward_models=[*reward_models, str(folder)])
    workbench.start_loading()
    workbench.wait_until_ready(120)
    with serving(workbench) as address:
        yield address
    workbench.close()


def opened(person, weights: str = "0, 1, 4", seeds: int = 2, tokens: int = 6):
    """The panel with a finished grid."""
    page = person.page
    person.set("max_new_tokens", tokens)
    page.locator("#prompt textarea").fill("the food was")
    page.locator("#sweep-this").click()
    page.locator("#sweep-weights").fill(weights)
    page.locator("#sweep-seeds").fill(str(seeds))
    page.locator("#sweep-start").click()
    page.wait_for_function(STATE, arg="done", timeout=60_000)
    page.wait_for_selector(f"{CURVES} .scatterlayer .point")
    return page


def downloaded(page, button: str) -> bytes:
    with page.expect_download() as found:
        page.locator(button).click()
    return Path(found.value.path()).read_bytes()


def test_a_grid_is_made_looked_through_and_its_weight_taken_over(visit, judged):
    person = visit(address=judged)
    page = opened(person)
    columns = page.evaluate("Object.values(rgtg.currentColumns).slice(0, 3).map((value) => value().params?.beta ?? null)")
    with_weight = [letter for letter, beta in zip("ABC", columns, strict=True) if beta is not None]
    assert with_weight and page.locator(".sweep-line .letter").all_inner_texts() == with_weight
    requests: list[str] = []
    page.on("request", lambda request: requests.append(request.url))
    slider, text = page.locator("#sweep-slider"), page.locator(".sweep-text").first
    slider.focus()
    page.keyboard.press("Home")
    shown = {page.locator("#sweep-weight").inner_text(): text.evaluate("node => node.textContent")}
    for _ in range(2):
        page.keyboard.press("ArrowRight")
        shown[page.locator("#sweep-weight").inner_text()] = text.evaluate("node => node.textContent")
    assert list(shown) == ["0", "1", "4"] and len(set(shown.values())) > 1 and all(words.startswith("the food was") for words in shown.values())
    assert requests == [], "the slider asks nobody"
    assert "judge" in page.locator(".sweep-line .facts").first.inner_text() and page.locator(".sweep-text .tok").count() > 4
    assert page.locator("#sweep-advice p").first.inner_text().find("Too few to tell: 2 seeds; take at least 5.") > 0
    page.locator(f'.use-weight[data-column="{with_weight[0]}"]').click()
    assert page.locator(f"#settings-{with_weight[0]}-beta").input_value() == "4"
    person.generate()
    assert page.evaluate(f"rgtg.views.{with_weight[0]}.head.params.beta") == 4


def test_the_curves_have_an_axis_a_unit_and_a_click_opens_the_weight(visit, judged):
    page = opened(visit(address=judged))
    titles = page.locator(f"{CURVES} .annotation-text").all_text_contents()
    assert titles[0] == "reward (tiny-judge), above its zero" and titles[-1] == "KL to the base LM, nats" and len(titles) >= 3
    page.locator("#sweep-slider").press("Home")
    point = page.locator(f"{CURVES} .scatterlayer .trace").first.locator(".point").nth(2)
    point.scroll_into_view_if_needed()
    box, plot = point.bounding_box(), page.locator(f"{CURVES} .nsewdrag").first
    corner = plot.bounding_box()
    centre = {"x": box["x"] + box["width"] / 2 - corner["x"], "y": box["y"] + box["height"] / 2 - corner["y"]}
    plot.hover(position=centre)
    page.wait_for_selector(f"{CURVES} .hoverlayer .hovertext")
    plot.click(position=centre)
    page.wait_for_function("document.querySelector('#sweep-weight').textContent === '4'")
    assert page.evaluate(f"document.querySelector('{CURVES}').layout.shapes[0].x0") == 2


def test_what_is_downloaded_is_what_was_made(visit, judged):
    page = opened(visit(address=judged))
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    rows = list(csv.DictReader(io.StringIO(downloaded(page, "#sweep-csv").decode())))
    num_lines = page.locator(".sweep-line").count()
    assert len(rows) == num_lines * 3 * 2 and {float(row["weight"]) for row in rows} == {0.0, 1.0, 4.0}
    page.locator("#sweep-slider").press("Home")
    own = next(row for row in rows if row["weight"] == "0")
    label = "node => [...node.querySelectorAll('.tok')].map((token) => token.textContent).join('')"
    assert own["text"].lstrip("'") == page.locator(".sweep-text").first.evaluate(label) and own["prompt"] == "the food was"
    assert downloaded(page, "#sweep-png").startswith(b"\x89PNG")
    page.locator("#sweep-command").click()
    page.wait_for_function(STATE, arg="command copied")
    command = page.evaluate("navigator.clipboard.readText()")
    assert command.startswith("rgtg sweep --prompt 'the food was'") and command.count("--run ") == 3 * num_lines


def test_a_wrong_list_is_said_beside_it_and_a_long_grid_can_be_stopped(visit, judged, slow_engine, monkeypatch):
    import rgtg.evaluation.weight_grid as weights

    whole = weights.generate

    def slowly(*args, **kwargs):
        for index, event in whole(*args, **kwargs):
            time.sleep(0.003)
            yield index, event

    monkeypatch.setattr(weights, "generate", slowly)
    person = visit(address=judged)
    page = person.page
    page.locator("#prompt textarea").fill("the food was")
    page.locator("#sweep-this").click()
    page.locator("#sweep-weights").fill("0, many")
    page.locator("#sweep-start").click()
    assert "Found “many”" in person.refused("sweep-weights")
    page.wait_for_selector("#sweep-start:not([disabled])")
    page.locator("#sweep-weights").fill("0, 1")
    person.set("max_new_tokens", 400)
    may_start, enter, stop, stops = threading.Event(), admission.enter, Line.stop, []
    monkeypatch.setattr(admission, "enter", lambda *args: may_start.wait(60) and enter(*args))
    monkeypatch.setattr(Line, "stop", lambda *args: [stop(*args), stops.append(args)][0])
    page.locator("#sweep-start").click()
    page.wait_for_selector("#sweep-progress:not([hidden])")
    page.locator("#sweep-stop").click()  # before there is anything to stop
    while len(stops) < 2:  # one is that of the start
        page.wait_for_timeout(20)
    may_start.set()
    page.wait_for_function(STATE, arg="stopped", timeout=60_000)
    assert page.locator("#sweep-start").is_enabled() and page.locator("#sweep-stop").is_hidden()


@pytest.mark.parametrize(("theme", "width"), [("light", 1280), ("dark", 390)])
def test_the_panel_fits_and_axe_finds_nothing(visit, judged, theme, width):
    from test_axe import RUN

    axe = Path(__import__("axe_playwright_python").__path__[0]) / "axe.min.js"
    page = opened(visit(address=judged, query=f"?__theme={theme}", width=width))
    page.evaluate(axe.read_text(encoding="utf-8"))
    assert page.evaluate(RUN, {}) == []
    assert page.evaluate("document.documentElement.scrollWidth - innerWidth") <= 0
    assert page.evaluate("document.activeElement.id") == "sweep-start", "the focus is where it was"
