"""The assembled Space, started from nothing with code that it cannot write to: what was voted in it is there after its container is gone."""

import shutil

from browser_app import Visitor
from dataset_hub import running_hub

from rgtg.tools.space import assemble, checks
from rgtg.tools.space_trial import started


def test_a_vote_outlives_the_container_of_a_space(browser, tmp_path):
    assemble(tmp_path / "space")
    assert [check for check in checks(tmp_path / "space") if check.problem] == []
    with running_hub() as hub:
        extra = {"HF_ENDPOINT": hub.url, "HF_TOKEN": "hf_of_ann", "RGTG_VOTES_DATASET": "ann/votes", "RGTG_SECRET": "only for this test"}
        with started(tmp_path / "space", tmp_path / "first", extra) as trial:
            person = Visitor(browser, trial.address + "/")
            person.generate(max_new_tokens=6, seed=17)
            person.page.keyboard.press("2")
            person.wait_note("saved: B is best")
            text, handle, cookies = person.text("B"), person.comparison_id(), person.context.cookies()
            person.page.wait_for_function("document.querySelector('#foot #votes-copied').textContent.startsWith('votes ')")
            assert person.page.locator("#server-notice").count() == 0
            person.context.close()
            assert not [line for line in person.wrong if line.startswith(("error", "dialog"))]  # Gradio asks the Hub for the header of a Space
        assert trial.process.returncode == 0 and any(path.startswith("journal/") for path in hub.files)
        shutil.rmtree(tmp_path / "first")
        with started(tmp_path / "space", tmp_path / "second", extra) as trial:
            again = Visitor(browser, trial.address + "/")
            again.context.add_cookies([{key: cookie[key] for key in ("name", "value", "domain", "path")} for cookie in cookies])
            again.page.goto(f"{trial.address}/?comparison={handle}")
            again.opened()
            again.page.wait_for_selector("#vote-B[aria-pressed=true]")
            again.page.wait_for_function("document.querySelectorAll('#view-B .tok').length === 6")
            assert again.text("B") == text
            again.context.close()
