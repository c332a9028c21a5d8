"""Line-ups, copies of columns and of comparisons, roles, the meter, and the toy of the Help page."""

import json
import shlex

import pytest

from rgtg.cli import main
from rgtg.guidance.methods import METHODS

ONE_ROLE, TWO_ROLES = (next(m for m in METHODS.values() if len(m.roles) == n and all(role.language_model for role in m.roles)) for n in (1, 2))
CLIPBOARD = "navigator.clipboard.writeText = async (text) => { window.pasted = text; }"


@pytest.fixture
def cleaned(workbench):
    yield
    for key, line_up in workbench.line_ups.all().items():
        if not line_up.ships:
            workbench.line_ups.delete(key)


def test_a_line_up_is_chosen_saved_exported_deleted_and_opened(visit, workbench, cleaned, tmp_path):
    person = visit()
    page = person.page
    page.locator("#line-up").select_option("one-call-rewards")
    person.wait_status("line-up “One-call rewards”: missing for tiny-lm: “vocabulary” (column B), “autoregressive” (column C)")
    assert page.locator("#settings-B-misfit").inner_text().endswith("“vocabulary” was not trained for tiny-lm: choose another reward model.")
    page.locator("#line-up").select_option("weights")
    person.wait_status("line-up “Weights 0.5–8”: 6 columns")
    assert page.locator("#settings-columns").input_value() == "6" and page.locator("#settings-F-beta").input_value() == "8"
    page.locator("#settings-columns").select_option("2")
    page.locator("#settings-B-reward_model").select_option("tiny-partial")
    page.locator("#line-up-bar summary").click()
    page.locator("#line-up-title").fill("Mine")
    page.locator("#line-up-save").click()
    person.wait_status("line-up “Mine” saved: 2 columns")
    assert workbench.line_ups.get("mine").columns == ("base", "pargs:beta=0.5,reward_model=tiny-partial")
    with page.expect_download() as download:
        page.locator("#line-up-export").click()
    download.value.save_as(tmp_path / "mine.json")
    page.locator("#line-up-delete").click()
    person.wait_status("line-up deleted")
    assert "mine" not in workbench.line_ups.all()
    (tmp_path / "wrong.json").write_text(json.dumps({"title": "Wrong", "columns": ["base", "pargs:beta=99"]}))
    page.locator("#line-up-file").set_input_files(tmp_path / "wrong.json")
    page.wait_for_selector(".error-note")
    assert "`wrong.json` is not a line-up. Column B, `pargs:beta=99`" in page.locator(".error-note").inner_text()
    page.locator("#line-up-file").set_input_files(tmp_path / "mine.json")
    person.wait_status("line-up “Mine”: opened and saved")
    assert page.locator("#line-up").input_value() == "mine" and page.locator(".error-note").count() == 0


def test_a_parameter_goes_to_all_columns_and_a_column_is_doubled(visit):
    person = visit()
    page = person.page
    page.locator("#settings-B-beta").fill("3.5")
    page.locator("#settings-B .more summary").click()
    page.locator("#settings-B-all-beta").click()
    assert page.locator("#settings-C-beta").input_value() == "3.5" and person.status() == "β 3.5 in columns B, C"
    page.locator("#settings-B-duplicate").click()
    assert page.locator("#settings-columns").input_value() == "4" and page.locator("#column-D").is_visible()
    same = ("method", "reward_model", "beta")
    assert [page.locator(f"#settings-D-{n}").input_value() for n in same] == [page.locator(f"#settings-B-{n}").input_value() for n in same]
    person.generate(max_new_tokens=5, seed=3)
    assert person.text("D") == person.text("B")


def test_a_role_has_a_picker_and_a_stand_in_and_what_was_made_is_copied_and_can_be_made_again(visit, workbench):
    person = visit()
    page = person.page
    page.locator("#settings-C-method").select_option(TWO_ROLES.key)
    for role in TWO_ROLES.roles:
        picker = page.locator(f"#settings-C-{role.name}")
        assert picker.locator("option").first.inner_text() == ("tiny-lm (stand-in)" if role.base_lm else "none installed")
    assert "No model for tiny-lm is installed" in page.locator("#settings-C-misfit").inner_text()
    page.locator("#settings-C-method").select_option(ONE_ROLE.key)
    page.locator(f"#settings-C-{ONE_ROLE.roles[0].name}").select_option("tiny-lm")
    person.generate(max_new_tokens=5, seed=3)
    comparison = workbench.comparison(person.comparison_id())
    assert [ref.name for ref, _ in comparison.traces[2].run.guides] == ["tiny-lm"]
    assert "changed" not in page.locator("#column-C").get_attribute("class")
    assert " LM + " in page.locator("#view-C .cost").inner_text() and "base LM: " in page.locator("#view-C .cost").get_attribute("title")
    page.evaluate(CLIPBOARD)
    page.locator("#copy-as").select_option("command")
    person.wait_note("copied")
    options = main._parser().parse_args(shlex.split(page.evaluate("window.pasted"))[1:])
    assert (options.prompt, options.seed, len(options.run)) == ("the food was", 3, 3) and options.run[2].startswith(ONE_ROLE.key)
    page.reload()
    person.opened()
    page.wait_for_function("document.querySelectorAll('#view-C .tok').length === 5")
    assert page.locator(f"#settings-C-{ONE_ROLE.roles[0].name}").input_value() == "tiny-lm"


def test_prefix_rewards_are_dragged_while_the_loss_stays(visit):
    page = visit(query="help#theory").page
    page.wait_for_selector("#toy-now")
    numbers = "Array.from(document.querySelectorAll('#toy-now td'), (node) => node.textContent)"
    before = page.evaluate(numbers)
    page.locator("#toy button", has_text="Soft value").click()
    page.wait_for_function(f"({numbers})[2] === '+0.419'")
    page.locator("#toy-a").focus()
    page.keyboard.press("End")
    page.wait_for_function(f"({numbers})[2] !== '+0.419'")
    assert page.evaluate(numbers) != before and page.locator("#toy-loss").inner_text() == "0.510253"
