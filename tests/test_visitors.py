"""Whose a comparison is: what a visitor reads, votes on and takes back, on a laptop and on a public server."""

import json
from pathlib import Path
from types import SimpleNamespace
from urllib.parse import quote

import gradio as gr
import pytest
from pages_alone import on_a_page
from store_records import make_comparison

from pages import access, visitors
from pages.handlers import guarded
from pages.voting import Voting
from rgtg.config import Settings
from rgtg.errors import BadSettings, StoreError, UnknownRecord
from rgtg.workbench.visitors import LOCAL, Visitor
from rgtg.workbench.workbench import Workbench

ANN, BOB = Visitor("anonymous", "ann's key", reads_all=False), Visitor("anonymous", "bob's key", reads_all=False)


def request(key: str, nickname: str = "") -> SimpleNamespace:
    return SimpleNamespace(session_hash="s", cookies={visitors.KEY: key * 32, visitors.NICKNAME: quote(nickname)})


@pytest.fixture(params=[False, True], ids=["laptop", "public"])
def workbench(request, tmp_path: Path):
    """A comparison `c1` that Ann made, and `c0` of nobody known."""
    workbench = Workbench(Settings(data_dir=tmp_path, public=request.param))
    workbench.store.add_comparison(make_comparison("c0", "AB"))
    workbench.store.add_comparison(make_comparison("c1", "AB", rater_id=workbench.raters.rater(ANN)))
    yield workbench
    workbench.close()


def test_a_visitor_reads_what_is_his_or_was_shared_by_its_link(workbench):
    assert workbench.comparison("c1", ANN).id == workbench.comparison("c1").id == "c1"
    shared = BOB.with_token(workbench.store.token("c1"))
    assert workbench.comparison("c1", shared).id == "c1"
    for comparison_id, visitor in (
        ("c1", BOB),
        ("c9", BOB),
        ("c0", ANN),
        ("c0", shared),
        ("c1", BOB.with_token("0" * 32)),
        ("c1", BOB.with_token("é")),
    ):
        with pytest.raises(UnknownRecord, match="comparison `c"):
            workbench.comparison(comparison_id, visitor)


@pytest.mark.parametrize("verb", ["vote", "undo", "branch", "go_on"])
def test_every_verb_refuses_what_a_visitor_may_not_read(workbench, verb: str):
    arguments = {"vote": ("tie",), "branch": ("c1-A", 0, None)}.get(verb, ())
    with pytest.raises(UnknownRecord):
        getattr(workbench, verb)("c1", *arguments, visitor=BOB)
    assert workbench.num_votes() == 0


def test_each_votes_and_takes_back_as_himself(workbench):
    bob = BOB.with_token(workbench.store.token("c1"))
    tokens = [workbench.vote_door.token("c1", ["c1-A", "c1-B"], visitor) for visitor in (ANN, bob)]
    mine, other = (
        workbench.vote("c1", "best", f"c1-{side}", visitor=visitor, token=token)
        for side, visitor, token in zip("AB", (ANN, bob), tokens, strict=True)
    )
    assert mine.rater_id != other.rater_id and workbench.num_votes() == 2
    assert workbench.undo("c1", bob) is None and workbench.current_vote("c1", ANN).best_trace_id == "c1-A"
    with pytest.raises(StoreError, match="nothing to undo"):
        workbench.undo("c1", bob)
    assert workbench.num_votes() == 1 and workbench.current_vote("c1", LOCAL) is None


def test_the_first_browser_on_a_laptop_takes_over_the_votes_from_before_there_were_raters(tmp_path):
    """Up to schema 5 everybody was the local rater."""
    ann, bob = Visitor("anonymous", "ann's key"), Visitor("anonymous", "bob's key")
    for public in (True, False):
        bench = Workbench(Settings(data_dir=tmp_path / str(public), public=public))
        bench.store.add_comparison(make_comparison("c1", "AB"))
        bench.vote("c1", "best", "c1-A")
        found = [bench.current_vote("c1", ann), bench.current_vote("c1", bob)]
        assert found[1] is None and (found[0] is None) == public
        bench.vote("c1", "best", "c1-B", visitor=ann, token=bench.vote_door.token("c1", ["c1-A", "c1-B"], ann))
        assert bench.num_votes() == 1 + public
        bench.close()


def test_two_browsers_on_one_link_do_not_touch_each_others_vote(workbench):
    with on_a_page():
        voting = Voting(workbench)
    assert voting.bar.props["exports"] is not workbench.settings.public
    handle = workbench.raters.handle("c1")
    assert ("." in handle) == workbench.settings.public
    say = {"comparison": handle, "verdict": "best", "seen": ["c1-A", "c1-B"]}

    def cast(who, **sent):
        visitor = visitors.asked(workbench, who, handle)[1]
        shown = json.loads(voting.value(workbench.comparison("c1", visitor), visitor))
        return json.loads(voting.vote()(who, SimpleNamespace(_data=say | {"token": shown.get("token")} | sent)))

    ann, bob, bobs_sister = request("a"), request("b"), request("b", "Zoë")
    assert cast(ann, best="c1-A", vote_id="v1")["comparison"] == handle
    assert cast(bob, best="c1-B", vote_id="v2")["note"] == "saved: B is best · 2 votes"
    assert cast(bobs_sister, best="c1-B", vote_id="v3")["note"] == "saved: B is best · 3 votes"
    undone = json.loads(voting.undo()(bob, SimpleNamespace(_data={"comparison": handle, "vote_id": "u1"})))
    assert undone["verdict"] is None and cast(ann, best="c1-A", vote_id="v1")["best"] == "c1-A"
    assert len({vote.rater_id for vote in workbench.store.votes("c1")}) == 3


@pytest.mark.filterwarnings("ignore::UserWarning")  # gr.Warning outside of an app
def test_a_handle_that_is_none_is_refused_in_words(workbench):
    for value in (None, 7, "", "../c1", "c1.x", "c1." + "0" * 31, "c1." + "0" * 32 + "."):
        with pytest.raises(BadSettings):
            visitors.asked(workbench, request("a"), value)


def test_a_browser_gets_its_key_once_and_none_that_is_not_random():
    def given(cookie: bytes, secure: bool = False) -> list:
        return visitors.new_key({"headers": [(b"cookie", cookie)]}, secure)

    ((name, value),) = given(b"other=1")
    key = value.decode().split(";")[0].partition("=")[2]
    assert name == b"set-cookie" and len(key) == 32 and b"HttpOnly" in value and b"SameSite=Lax" in value
    assert given(f"other=1; {visitors.KEY}={key}".encode()) == []
    assert len(given(f"{visitors.KEY}=short".encode())) == 1 and b"SameSite=None; Secure; Partitioned" in given(b"", True)[0][1]


def test_a_nickname_is_text_of_one_line():
    assert (
        visitors.nickname_of(quote(" Zoë\n<b>  x")) == "Zoë <b> x"
        and visitors.nickname_of("%ff%00") == "\ufffd"
        and len(visitors.nickname_of("x" * 99)) == 40
    )


def test_a_handler_in_no_row_refuses_and_one_for_administrators_refuses_strangers(workbench, monkeypatch):
    def answers(row) -> bool:
        monkeypatch.setattr(access, "ACCESS", {"test_visitors.handler": row} if row else {})

        @guarded("Trying", workbench)
        def handler():
            return True

        @guarded("Streaming", workbench)
        def stream():
            yield True

        monkeypatch.setitem(access.ACCESS, "test_visitors.stream", row) if row else None
        results = []
        for ask in (handler, lambda: next(stream())):
            try:
                results.append(ask())
            except gr.Error as error:
                assert "switched off" in error.message or "Visitors of a public server cannot be tried" in error.message
                results.append(False)
        assert results[0] == results[1]
        return results[0]

    assert not answers(None) and answers(access.Row("be tried", access.EVERYONE, access.OWNERS))
    assert answers(access.Row("be tried", access.EVERYONE, access.ADMINS)) != workbench.settings.public


def test_every_handler_of_the_app_has_its_row(tmp_path):
    import app

    workbench = Workbench(Settings(data_dir=tmp_path))
    demo = app.build_app(workbench)
    names = {access.name_of(fn.fn) for fn in demo.fns.values() if fn.fn is not None}
    assert names == set(access.ACCESS), "a handler without a row, or a row without a handler"
    workbench.close()
