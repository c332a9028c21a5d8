"""Who is believed to be signed in, and what an administrator of a public server may do that strangers may not."""

import time
from types import SimpleNamespace
from typing import Any

import gradio as gr
import pytest
from gradio.context import LocalContext
from store_records import make_comparison, make_vote

from pages import access, admission, crowd, signing_in, visitors
from pages.crowd import address_of
from pages.handlers import guarded
from rgtg.config import Settings
from rgtg.workbench.workbench import Workbench

SPACE = {"SYSTEM": "spaces", "SPACE_ID": "ann/rgtg", **dict.fromkeys(signing_in.CONFIGURED, "x")}


def request(name: str = "", subject: str = "", **session: Any) -> Any:
    """What a handler is given; signed in with this account."""
    user = {"sub": subject, "preferred_username": name}
    signed = {"oauth_info": {"userinfo": user, "expires_at": time.time() + 60, **session}} if name else {}
    scope = {"session": signed, "client": ("9.9.9.9", 1), "headers": []}
    return SimpleNamespace(request=SimpleNamespace(scope=scope), cookies={visitors.KEY: f"key-of-{name or 'bob'}".ljust(32, "0")}, session_hash="s")


@pytest.fixture
def space(monkeypatch):
    """A Space that has OAuth configured, and its libraries."""
    for name, value in SPACE.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(signing_in, "LIBRARIES", ())


@pytest.fixture
def bench(tmp_path):
    bench = Workbench(Settings(data_dir=tmp_path, public=True, admins=("ann", "id-of-zoe")))
    yield bench
    bench.close()


def test_an_account_is_believed_on_a_space_alone(space, monkeypatch):
    """Elsewhere Gradio imitates the sign-in, and signs its sessions with a key that everybody knows."""
    assert signing_in.account_of(request("ann", "id-of-ann")) == ("id-of-ann", "ann")
    for missing in ("SYSTEM", "SPACE_ID", "OAUTH_CLIENT_ID", "OAUTH_CLIENT_SECRET"):
        with monkeypatch.context() as patch:
            patch.delenv(missing)
            assert signing_in.account_of(request("ann", "id-of-ann")) is None and signing_in.button() is None
    monkeypatch.setattr(signing_in, "LIBRARIES", ("a_library_that_is_not_there",))
    assert signing_in.account_of(request("ann", "id-of-ann")) is None and signing_in.button() is None


@pytest.mark.parametrize(
    "session", [{"expires_at": 1}, {"expires_at": None}, {"expires_at": float("nan")}, {"userinfo": None}, {"userinfo": {"sub": 5}}]
)
def test_a_session_that_says_less_or_has_expired_is_nobody(space, session):
    assert signing_in.account_of(request("ann", "id-of-ann", **session)) is None
    assert signing_in.account_of(None) is None and signing_in.account_in([]) is None


def test_an_account_is_one_rater_and_only_one_that_is_listed_administers(space, bench):
    ann, zoe, eve = request("ann", "id-of-ann"), request("zoe2", "id-of-zoe"), request("eve", "id-of-eve")
    assert [signing_in.administers(bench.settings, one) for one in (ann, zoe, eve, request(), None)] == [True, True, False, False, False]
    visitor = visitors.visitor_of(bench, ann)
    assert (visitor.kind, visitor.subject, visitor.reads_all) == ("oauth", "id-of-ann", True)
    assert visitors.visitor_of(bench, eve).reads_all is False and visitors.visitor_of(bench, request()).kind == "anonymous"
    assert signing_in.administers(Settings(), None)  # a laptop


def test_a_handler_for_administrators_knows_who_asks(space, bench, monkeypatch):
    monkeypatch.setattr(access, "ACCESS", {"test_signing_in.train": access.Row("train", access.EVERYONE, access.ADMINS)})

    @guarded("Training", bench)
    def train():
        return "trained"

    for who, answers in ((request("ann", "id-of-ann"), True), (request("eve", "id-of-eve"), False), (request(), False), (None, False)):
        token = LocalContext.request.set(who)
        try:
            if answers:
                assert train() == "trained"
            else:
                with pytest.raises(gr.Error, match="Visitors of a public server cannot train"):
                    train()
        finally:
            LocalContext.request.reset(token)


def test_a_visitor_who_asks_without_end_is_told_to_wait_and_others_are_not(bench, monkeypatch):
    monkeypatch.setattr(access, "ACCESS", {"test_signing_in.look": access.Row("look", access.EVERYONE, access.EVERYONE)})
    monkeypatch.setattr(crowd, "EACH_VISITOR", "3/hour")

    @guarded("Looking", bench)
    def look():
        return True

    def ask(who: Any) -> bool:
        token = LocalContext.request.set(who)
        try:
            return look()
        except gr.Error as error:
            assert "You cannot send requests more than 3 times per hour" in error.message
            return False
        finally:
            LocalContext.request.reset(token)

    bob, carol, keyless = request(), request(), request()
    carol.cookies, keyless.cookies = {visitors.KEY: "c" * 32}, {}
    assert [ask(bob) for _ in range(4)] == [True] * 3 + [False] and ask(carol)
    asked = []
    for number in range(5):
        keyless.session_hash = f"another {number}"
        asked.append(ask(keyless))
    assert asked == [True] * 3 + [False] * 2, "without a key it is the address that counts, not the session that it names"


def test_a_heavy_handler_that_streams_keeps_its_slot_to_its_end(bench, monkeypatch):
    monkeypatch.setattr(access, "ACCESS", {"test_signing_in.draw": access.Row("draw", access.EVERYONE, access.EVERYONE)})
    monkeypatch.setattr(admission, "HEAVY", {"test_signing_in.draw"})
    monkeypatch.setitem(admission._SLOTS, bench, admission.Slots(1, 5, 0.05))

    @guarded("Drawing", bench)
    def draw():
        yield 1
        yield 2

    first = draw()
    assert next(first) == 1
    with pytest.raises(gr.Error, match="The server is busy"):
        next(draw())
    first.close()
    assert list(draw()) == [1, 2] == list(draw())


def test_votes_of_others_on_a_comparison_that_one_may_read_are_theirs(bench):
    bench.store.add_comparison(make_comparison("c1", "AB"), make_vote("v1", "c1", "A", "AB"))
    comparison = bench.comparison("c1")
    assert len(bench.past.look(comparison).votes) == 1
    assert bench.past.look(comparison, visitors.visitor_of(bench, request())).votes == ()


@pytest.mark.parametrize(
    ("client", "forwarded", "proxied", "address"),
    [
        ("9.9.9.9", "1.1.1.1", False, "9.9.9.9"),
        ("127.0.0.1", "", False, ""),
        ("192.168.1.7", "", False, "192.168.1.7"),
        ("testclient", "", False, ""),
        ("1.1.1.1", "1.1.1.1, 9.9.9.9", True, "9.9.9.9"),
        ("10.0.0.1", "1.1.1.1, 9.9.9.9, 10.0.3.4", True, "9.9.9.9"),
        ("10.0.0.1", "x, 10.0.3.4", True, ""),
        ("8.8.8.8", "", True, ""),
    ],
)
def test_an_address_is_never_what_the_visitor_wrote(client: str, forwarded: str, proxied: bool, address: str):
    scope = {"client": (client, 5), "headers": [(b"x-forwarded-for", forwarded.encode())]}
    assert address_of(scope, proxied) == address
