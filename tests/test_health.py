"""The state of a server: what `/health` holds, and the sentences about votes that are copied out."""

import json
import time
from contextlib import asynccontextmanager
from dataclasses import replace

import pytest
from starlette.applications import Starlette
from starlette.responses import Response
from starlette.routing import Route
from starlette.testclient import TestClient

from pages import health as route
from rgtg.config import Settings
from rgtg.store.copies.copying import LATE_S, CopyState
from rgtg.workbench.serving.health import NOT_FETCHED, NOWHERE, copied_words, health, notice
from rgtg.workbench.workbench import Workbench

COPIED = CopyState("ann/votes", 1000.0, 0, None)


def test_the_words_say_when_votes_were_copied_and_what_waits():
    assert copied_words(COPIED, 1000.0 + 185) == "votes last copied out 3 minutes ago"
    assert copied_words(replace(COPIED, num_waiting=1, waiting_since=1001.0), 1010.0) == "votes last copied out just now · 1 change not yet"
    assert copied_words(CopyState("ann/votes", None, 2, 1.0), 9.0) == "votes not copied out yet since the start · 2 changes not yet"
    assert "erased votes are being removed" in copied_words(replace(COPIED, erasing=True), 1000.0)


def test_a_visitor_is_told_where_votes_are_not_safe():
    waiting = replace(COPIED, num_waiting=12, waiting_since=2000.0, error="Votes could not be copied to `ann/votes`: 503.")
    assert notice(COPIED, True, 9e9) == "" == notice(None, True, 0) == notice(waiting, True, 2000 + LATE_S)
    said = notice(waiting, True, 2000 + 3700)
    assert said.startswith("Votes could not be copied out for 1 hour; it is tried again every 5 minutes.") and "12 changes would be lost" in said
    assert "ann/votes" not in said, "the dataset is nobody else's business"
    assert notice(None, False, 0) == NOWHERE and notice(replace(COPIED, problem="401"), True, 0) == NOT_FETCHED


@pytest.mark.parametrize("on_space", [True, False])
def test_health_before_and_after_the_database_is_open(tmp_path, on_space: bool):
    settings = Settings(data_dir=tmp_path / "data", public=True, secret="a secret", space_hosts=("ann-rgtg.hf.space",) if on_space else ())
    workbench = Workbench(settings)
    before = health(workbench, 3)
    assert before["status"] == "loading" and before["in_line"] == 3 and before["writer"] == {"waiting": None, "lag_s": None}
    assert before["copies"]["notice"] == (NOWHERE if on_space else "") and before["disk_free_mb"] > 0 and not settings.data_dir.exists()
    workbench.store.rater("oauth", "ann")
    after = health(workbench, 0)
    assert after["writer"] == {"waiting": 0, "lag_s": 0.0} and after["jobs"] == {"running": 0, "queued": 0} and after["models"] == []
    assert not any(word in json.dumps(after) for word in ("a secret", "ann", str(tmp_path)))
    workbench.close()


def test_a_writer_that_is_busy_shows_as_lag(tmp_path):
    workbench = Workbench(Settings(data_dir=tmp_path))
    seen = []
    workbench.store._write(lambda conn: (time.sleep(0.05), seen.append(health(workbench, 0)["writer"])))
    assert seen[0]["lag_s"] >= 0.05 and health(workbench, 0)["writer"]["lag_s"] == 0.0
    workbench.close()


def test_the_route_answers_whatever_is_wrong_and_stands_before_all_pages(tmp_path):
    """With a lifespan and a page for every address, as Gradio has them."""
    workbench, demo, entered = Workbench(Settings(data_dir=tmp_path)), type("Demo", (), {})(), []

    @asynccontextmanager
    async def inner(app):
        entered.append(app)
        yield

    app = Starlette(routes=[Route("/{page}", lambda request: Response("a page"))], lifespan=route.lifespan(inner))
    app.get_blocks = lambda: demo
    route.tell(demo, workbench)
    with TestClient(app) as client:
        answer = client.get("/health")
        assert answer.json()["status"] == "loading" and answer.headers["cache-control"] == "no-store" and entered == [app]
        assert client.get("/annotate").text == "a page" and client.post("/health").status_code == 405
        workbench.library = None
        assert client.get("/health").status_code == 500 and client.get("/health").json() == {"status": "failed"}
