"""One workbench with tiny models, its app on a free port, and Debian's chromium to look at it."""

import faulthandler
import os
import random
import shutil
from collections.abc import Iterator
from types import SimpleNamespace

import pytest
from _pytest.faulthandler import fault_handler_stderr_fd_key
from browser_app import Trainee, Visitor, make_models, serving

LIMIT_S = 600  # of one test with its fixtures; some calls of playwright have no limit of their own
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # as app.py sets it; torch reads it when it is imported


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if "tests/browser/" in item.path.as_posix():
            item.add_marker(pytest.mark.browser)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item):
    """A test that hangs ends the run, with what every thread was at."""
    faulthandler.dump_traceback_later(LIMIT_S, exit=True, file=item.config.stash[fault_handler_stderr_fd_key])
    try:
        return (yield)
    finally:
        faulthandler.cancel_dump_traceback_later()


@pytest.fixture(scope="session")
def tiny_models(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, list[str]]:
    return make_models(tmp_path_factory.mktemp("models"))


@pytest.fixture(scope="session")
def workbench(tiny_models, tmp_path_factory: pytest.TempPathFactory):
    from rgtg.config import Settings
    from rgtg.workbench.workbench import Workbench

    base_lm, reward_models = tiny_models
    found = Workbench(Settings(data_dir=tmp_path_factory.mktemp("data")), base_lms=[base_lm], reward_models=reward_models)
    found.start_loading()
    found.wait_until_ready(120)
    yield found
    found.close()


@pytest.fixture(scope="session")
def address(workbench) -> Iterator[str]:
    with serving(workbench) as found:
        yield found


@pytest.fixture(scope="session")
def browser():
    """Debian's chromium; a skip, or with RGTG_REQUIRE_BROWSER=1 a failure, where it is missing."""
    chromium = shutil.which("chromium")
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        sync_playwright = None
    if chromium is None or sync_playwright is None:
        reason = "needs Debian's chromium (apt install chromium) and playwright"
        pytest.fail(reason) if os.environ.get("RGTG_REQUIRE_BROWSER") == "1" else pytest.skip(reason)
    with sync_playwright() as p:
        found = p.chromium.launch(executable_path=chromium, args=["--no-sandbox", "--disable-gpu", "--disable-background-networking"])
        yield found
        found.close()


@pytest.fixture(autouse=True)
def drawn_seeds(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """What Generate and Annotate draw, in every run of a test the same: an answer that ends early, or equals another, does so always."""
    import numpy as np

    import pages.compare

    monkeypatch.setattr(pages.compare, "secrets", SimpleNamespace(randbelow=random.Random(request.node.name).randrange))
    if "workbench" in request.fixturenames:
        request.getfixturevalue("workbench").annotation._rng = np.random.default_rng(17)


@pytest.fixture
def visit(browser, address: str):
    """visit(width=…, query=…) opens the page as a new person; whatever went wrong on any of them fails the test."""
    open_pages: list[Visitor] = []

    def visit(**kwargs) -> Visitor:
        kind = (
            Trainee if kwargs.get("query", "").startswith(("sweep", "train", "models", "results", "data", "annotate", "help", "examine")) else Visitor
        )
        open_pages.append(kind(browser, **{"address": address} | kwargs))
        return open_pages[-1]

    yield visit
    wrong = [line for person in open_pages for line in person.wrong]
    for person in open_pages:
        person.context.close()
    assert not wrong, wrong


@pytest.fixture
def slow_engine(monkeypatch: pytest.MonkeyPatch) -> None:
    """At most some 40 tokens a second, so that there is time to act while it streams, on any machine."""
    import time

    import rgtg.engine

    whole = rgtg.engine.generate

    def slowly(*args, **kwargs):
        for index, event in whole(*args, **kwargs):
            if index == 0:
                time.sleep(0.025)
            yield index, event

    monkeypatch.setattr(rgtg.engine, "generate", slowly)
