"""Votes of strangers on a public server: tokens that are used once, reading time, caps; and a laptop, which asks for none of it."""

import json
import threading
import time
from dataclasses import replace
from pathlib import Path

import pytest
from store_records import make_comparison

from rgtg.config import Settings
from rgtg.errors import StoreError, TooMany
from rgtg.workbench.visitors import Visitor
from rgtg.workbench.voting import door as module
from rgtg.workbench.voting.door import LIFETIME_S
from rgtg.workbench.workbench import Workbench

ANN, BOB = Visitor("anonymous", "ann's key", reads_all=False), Visitor("anonymous", "bob's key", reads_all=False)
SHOWN = ["c1-A", "c1-B"]


class Clock:
    now = 1_000_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture(scope="module")
def bench(tmp_path_factory):
    """Comparisons of Ann's, one for each test."""
    bench = Workbench(Settings(data_dir=tmp_path_factory.mktemp("public"), public=True))
    yield bench
    bench.close()


@pytest.fixture
def clock(bench):
    bench.vote_door._clock = clock = Clock()
    bench.vote_door._reading.clear()
    bench.vote_door._dwell.clear()
    return clock


@pytest.fixture
def name(bench, request) -> str:
    name = f"c{abs(hash(request.node.name))}"
    bench.store.add_comparison(make_comparison(name, "AB", rater_id=bench.raters.rater(ANN)))
    return name


def cast(bench, name: str, token: str, visitor: Visitor = ANN, verdict: str = "best", best: str | None = "A", **more):
    best_id = f"{name}-{best}" if verdict == "best" else None
    return bench.vote(name, verdict, best_id, visitor=visitor, token=token, **more)


def token_of(bench, name: str, visitor: Visitor = ANN, shown: str = "AB") -> str:
    return bench.vote_door.token(name, [f"{name}-{column}" for column in shown], visitor)


def test_a_token_is_used_once_and_the_same_vote_again_changes_nothing(bench, clock, name):
    token = token_of(bench, name)
    first = cast(bench, name, token, dwell_ms=0)
    clock.now += 5
    assert cast(bench, name, token, dwell_ms=0) == first
    with pytest.raises(StoreError, match="Its token was used for another vote"):
        cast(bench, name, token, best="B")
    assert len(bench.store.votes(name)) == 1
    changed = cast(bench, name, token_of(bench, name), best="B")
    assert changed.revision == 2 and changed.id != first.id


def test_one_token_that_is_sent_many_times_at_once_is_one_vote(bench, clock, name):
    token, errors = token_of(bench, name), []

    def send() -> None:
        try:
            cast(bench, name, token, dwell_ms=7)
        except StoreError as error:
            errors.append(error)

    threads = [threading.Thread(target=send) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(bench.store.votes(name)) == 1 and not errors


@pytest.mark.parametrize("kind", ["missing", "forged", "cut", "long", "not ascii", "of another comparison", "of another rater", "old", "less shown"])
def test_a_token_that_is_none_is_refused_with_the_reason_and_nothing_is_stored(bench, clock, name, kind):
    good = token_of(bench, name)
    payload, _, signature = good.partition(".")
    tokens = {
        "missing": ("", "without the token"),
        "forged": (f"{payload[:-4]}AAAA.{signature}", "not one of this server's"),
        "cut": (payload, "not one of this server's"),
        "long": (good + "0" * 9_000, "not one of this server's"),
        "not ascii": (good + "é", "not one of this server's"),
        "of another comparison": (bench.vote_door.token("other", [f"{name}-A", f"{name}-B"], ANN), "belongs to another comparison"),
        "of another rater": (token_of(bench, name, BOB), "given to another visitor"),
        "old": (good, "older than 24 hours"),
        "less shown": (token_of(bench, name, shown="A"), "an answer that this page had not been given"),
    }
    token, words = tokens[kind]
    clock.now += LIFETIME_S + 1 if kind == "old" else 0
    with pytest.raises(StoreError, match=f"The vote was not stored. .*{words}"):
        cast(bench, name, token)
    assert bench.store.votes(name) == ()


def test_a_token_is_that_of_its_server(bench, clock, name, tmp_path: Path):
    other = Workbench(Settings(data_dir=tmp_path, public=True, secret="another"))
    token = token_of(other, name)
    other.close()
    with pytest.raises(StoreError, match="not one of this server's"):
        cast(bench, name, token)


def test_a_reading_time_is_no_longer_than_the_clock_of_the_server_allows(bench, clock, name):
    tokens = [token_of(bench, name) for _ in range(4)]
    clock.now += 3
    said = [2_000, 60_000, 60_000, None]
    stored = [cast(bench, name, token, best="AB"[i % 2], dwell_ms=said[i]).dwell_ms for i, token in enumerate(tokens)]
    assert stored == [2_000, 1_000, 0, 0], "four votes in three seconds have three seconds of reading among them"
    token = token_of(bench, name)
    clock.now += 2
    assert cast(bench, name, token, verdict="tie").dwell_ms == 2_000, "without a time of its own it has what there is"


def test_votes_that_waited_for_the_connection_keep_their_times(bench, clock, name):
    tokens = [token_of(bench, name) for _ in range(3)]
    clock.now += 60
    assert [cast(bench, name, token, best="AB"[i % 2], dwell_ms=15_000).dwell_ms for i, token in enumerate(tokens)] == [15_000] * 3


def test_a_rater_has_so_many_votes_a_day(bench, clock, name, monkeypatch):
    monkeypatch.setattr(module, "MAX_A_DAY", bench.store.annotation.num_votes_since(bench.raters.rater(ANN), "2000") + 1)
    clock.now = time.time()
    cast(bench, name, token_of(bench, name))
    with pytest.raises(TooMany, match="You have voted .* within a day"):
        cast(bench, name, token_of(bench, name), best="B")
    bench.undo(name, ANN)
    clock.now += 25 * 3600
    cast(bench, name, token_of(bench, name), best="B")


def test_a_laptop_asks_for_no_token(tmp_path: Path):
    with_browser = replace(ANN, reads_all=True)
    bench = Workbench(Settings(data_dir=tmp_path))
    bench.store.add_comparison(make_comparison("c1", "AB"))
    assert bench.vote_door.token("c1", SHOWN, with_browser) == ""
    assert bench.vote("c1", "best", "c1-A", visitor=with_browser, dwell_ms=7).dwell_ms == 7
    bench.close()


def test_a_token_says_nothing_of_its_rater(bench, clock, name):
    payload = module.base64.urlsafe_b64decode(token_of(bench, name).partition(".")[0])
    rater = json.loads(payload)[2]
    assert ANN.subject not in payload.decode() and rater != bench.raters.rater(ANN) and len(rater) == 16
