"""The waiting line and the slots of a public server: who is let in, who is told to wait, and what happens to work that nobody listens to."""

import asyncio
import threading
import time
from types import SimpleNamespace

import gradio as gr
import pytest
from gradio.context import LocalContext
from test_compare_page import StubWorkbench

from pages import admission
from pages.access import ACCESS
from pages.admission import Slots, listener
from pages.handlers import guarded
from pages.streaming import Texts, wait
from pages.waiting_line import COMES_BACK_S, PER_ADDRESS, Line, LineFull, Ticket, wait_words
from rgtg.config import GenerationConfig, Settings
from rgtg.errors import TooMany


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def test_a_person_has_one_that_runs_and_one_that_waits():
    line = Line()
    first, second = line.enter("tab 1", "ann"), line.enter("tab 2", "ann")
    with pytest.raises(LineFull, match="One of your requests is running and one is waiting"):
        line.enter("tab 3", "ann")
    line.enter("tab 4", "ben")
    first.stop()  # what is stopped leaves in a moment, and does not count
    line.enter("tab 3", "ann")
    assert line.place(second) == 1


def test_throwing_cookies_away_does_not_fill_the_line():
    line = Line()
    for i in range(PER_ADDRESS):
        line.enter(f"session {i}", f"session {i}", "one address")
    with pytest.raises(LineFull, match="from your network"):
        line.enter("new", "session new", "one address")
    line.enter("other", "session other", "another address")


def test_on_a_laptop_nothing_is_limited_but_the_line():
    line = Line()
    for _ in range(17):
        line.enter("a page")
    with pytest.raises(LineFull, match="16 people are waiting"):
        line.enter("a page")


def test_the_expected_wait_is_that_of_the_last_turns():
    clock = Clock()
    line = Line(max_waiting=3, clock=clock)
    one = line.enter("a", "a")
    assert line.expected(one) is None
    clock.now = 10.0
    line.leave(one)
    tickets = [line.enter(name, name) for name in "bcde"]
    clock.now = 14.0
    assert [line.expected(ticket) for ticket in tickets] == [0.0, 6.0, 16.0, 26.0]
    with pytest.raises(LineFull, match="3 people are waiting. Your prompt is kept; try again in about 25 s"):
        line.enter("f", "f")
    assert wait_words(1, 6.0) == "waiting: you are next, about 5 s" and wait_words(3, None) == "waiting: 3 ahead of you"


def test_whoever_was_refused_comes_before_those_who_were_served_meanwhile():
    clock = Clock()
    line = Line(max_waiting=1, clock=clock)
    running, waiting = line.enter("a", "ann"), line.enter("b", "ben")
    for name in ("cat", "dan"):
        clock.now += 1
        with pytest.raises(LineFull):
            line.enter(name, name)
    line.leave(running)
    with pytest.raises(LineFull, match="refused before you"):
        line.enter("a", "ann")  # served already
    with pytest.raises(LineFull, match="refused before you"):
        line.enter("d", "dan")  # refused after cat
    cat = line.enter("c", "cat")
    line.leave(waiting)
    line.enter("d", "dan")
    line.leave(cat)
    line.enter("a", "ann")


def test_a_place_is_not_kept_for_who_does_not_come_back():
    clock = Clock()
    line = Line(max_waiting=0, clock=clock)
    running = line.enter("a", "ann")
    with pytest.raises(LineFull):
        line.enter("b", "ben")
    line.leave(running)
    clock.now = COMES_BACK_S + 1
    line.enter("a", "ann")


def test_a_ticket_that_nobody_listens_to_leaves_the_line_and_stops_its_run():
    line, workbench, heard = Line(), StubWorkbench(), [True]
    ahead, ticket = line.enter("first"), line.enter("second", listens=lambda: heard[0])
    sentences = wait(workbench, line, ticket)
    assert next(sentences) == "waiting: you are next"
    heard[0] = False
    assert list(sentences) == ["stopped before it started"] and ticket.stopped
    running = workbench.compare("the food", workbench.default_columns(), GenerationConfig(), 1)
    ahead.on_stop = running.stop
    ahead.listens = lambda: len(running.traces[0].steps) < 2
    for _ in Texts(running, workbench, ticket=ahead):
        pass
    assert running.stopped and len(running.traces[0].steps) == 2  # of 3: it ended within a token


def test_a_closed_stream_and_one_that_is_never_read_have_no_listener(monkeypatch):
    sessions = {"me": asyncio.Queue()}
    token = LocalContext.blocks.set(SimpleNamespace(_queue=SimpleNamespace(pending_messages_per_session=sessions)))
    try:
        listens = listener("me")
        assert listens() and listener("unknown")() and listener(None)()
        sessions["me"].put_nowait("started")
        assert listens()
        later = time.monotonic() + admission.UNREAD_S + 1
        monkeypatch.setattr(admission, "time", SimpleNamespace(monotonic=lambda: later))
        assert not listens()
        sessions["me"].get_nowait()
        assert listens()  # slow, but there
        del sessions["me"]
        assert not listens()
    finally:
        LocalContext.blocks.reset(token)


def test_slots_are_few_one_for_a_person_and_waited_for_in_order():
    slots, order, inside, let_go = Slots(at_once=1, max_waiting=2), [], threading.Event(), threading.Event()

    def work(name: str) -> None:
        with slots.slot(name):
            order.append(name)
            inside.set()
            let_go.wait(5)

    threads = []
    for number, name in enumerate(("ann", "ben", "cat")):
        threads.append(threading.Thread(target=work, args=(name,)))
        threads[-1].start()
        assert inside.wait(5)
        while len(slots._waiting) < number:
            time.sleep(0.001)
    with pytest.raises(TooMany, match="too many requests"), slots.slot("dan"):
        pass
    with pytest.raises(TooMany, match="One of your requests"), slots.slot("ben"):
        pass
    let_go.set()
    for thread in threads:
        thread.join(5)
    assert order == ["ann", "ben", "cat"] and not slots._running


def test_a_slot_is_waited_for_no_longer_than_patience():
    slots = Slots(at_once=1, patience_s=0.05)
    with slots.slot("ann"), pytest.raises(TooMany, match="The server is busy"), slots.slot("ben"):
        pass
    with slots.slot("ben"):
        pass


def test_heavy_handlers_of_a_public_server_take_a_slot():
    assert set(ACCESS) >= admission.HEAVY
    workbench = StubWorkbench()
    slots = admission._SLOTS.setdefault(workbench, Slots(at_once=1, patience_s=0.0))

    def measure() -> str:
        return "done"

    measure.__module__ = "pages.compare"
    handler = guarded("The curve", workbench)(measure)
    with slots.slot("somebody"):
        assert handler() == "done", "on a laptop nothing is limited"
        workbench.settings = Settings(public=True)
        with pytest.raises(gr.Error, match="The server is busy"):
            guarded("The curve", workbench)(measure)()


def test_a_ticket_is_stopped_once():
    stopped = []
    ticket = Ticket("me", on_stop=lambda: stopped.append(1), listens=lambda: False)
    assert ticket.stop_unheard() and ticket.stop_unheard() and stopped == [1]
