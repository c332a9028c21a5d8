"""The app as a whole: its pages, how it is launched, and that it brings everything along."""

import pytest

import app
from pages import ids, theme
from rgtg.config import Settings
from rgtg.workbench.workbench import Workbench


def test_the_app_is_built_with_the_launch_settings_that_keep_it_closed(tmp_path):
    demo = app.build_app(Workbench(Settings(data_dir=tmp_path)))
    assert demo.api_open is False and demo._queue.max_size == app.MAX_WAITING and demo.analytics_enabled is False
    for public in (False, True):
        found = app.launch_settings(Settings(data_dir=tmp_path, public=public))
        assert found["allowed_paths"] == [] and {str(tmp_path), str(tmp_path / "models")} < {*found["blocked_paths"]} and found["ssr_mode"] is False
        assert found["run_history"] is False and found["enable_monitoring"] is False and found["footer_links"] == []
        assert found["max_file_size"] and found["show_error"] is not public


@pytest.mark.slow
def test_every_page_is_one_module_with_a_title_an_address_and_a_place_in_the_header_or_the_foot(tmp_path):
    assert len({page.TITLE for page in app.PAGES}) == len(app.PAGES) == len(app.LINKS) + len(app.FOOT_LINKS)
    config = app.build_app(Workbench(Settings(data_dir=tmp_path))).get_config_file()
    assert [address for address, _, _ in config["pages"]] == [address.removeprefix("./") for _, address in app.LINKS + app.FOOT_LINKS]
    parts = {part: [c["props"]["value"] for c in config["components"] if c["props"].get("elem_id") == part] for part in (ids.HEADER, ids.FOOT)}
    for page, header, foot in zip(app.PAGES, parts[ids.HEADER], parts[ids.FOOT], strict=True):
        assert header.count("<a ") == len(app.LINKS) and foot.count("<a ") == len(app.FOOT_LINKS)
        assert f"aria-current=page>{page.TITLE}</a>" in (header if page in app.IN_HEADER else foot)


def test_the_page_brings_everything_along():
    fonts = theme.theme()
    assert not fonts._stylesheets
    for text in (theme.css(), theme.head().replace("http://www.w3.org/2000/svg", "")):  # the name of a language, which nobody fetches
        assert "http://" not in text and "https://" not in text and "@import" not in text
    assert "innerHTML" not in theme.head()
