"""Work in a process of its own: it answers, and what passes a limit, dies or is stopped there leaves the next request unharmed."""

import threading
import time

import pytest

from rgtg.errors import BadSettings, LimitPassed, RgtgError, Stopped
from rgtg.system import child
from rgtg.system.child import ask
from rgtg.system.stopping import stoppable

LIMITS = {"seconds": 5, "memory_gb": 1}


def test_a_warm_child_answers_one_request_after_the_other():
    assert ask("math:sqrt", 9, **LIMITS) == 3
    (kept,) = child._idle
    assert ask("builtins:sorted", ["b", "a"], **LIMITS) == ["a", "b"] and child._idle == [kept]


def test_what_a_function_raises_comes_back_in_words_and_its_child_is_kept():
    with pytest.raises(RgtgError, match="math domain error"):
        ask("math:sqrt", -1, **LIMITS)
    with pytest.raises(BadSettings, match="There is no template `x`"):
        ask("rgtg.prompts:encode_prompt", None, "a", "x", **LIMITS)
    assert len(child._idle) == 1


@pytest.mark.parametrize(
    ("function", "given", "limits", "said"),
    [
        ("math:factorial", 2_000_000, {"seconds": 0.1}, "takes too long. It was ended after 0.1 seconds"),
        ("time:sleep", 60, {"seconds": 0.05}, "takes too long"),
        ("builtins:bytearray", 10**11, {}, "needs too much memory. More than 1 GB were asked for"),
        ("os:abort", None, {}, "ended its process. The exit status is -6"),
    ],
)
def test_what_passes_a_limit_is_ended_and_the_next_request_is_answered(function, given, limits, said):
    with pytest.raises(LimitPassed, match=said):
        ask(function, *([] if given is None else [given]), **LIMITS | limits)
    assert child._idle == [] and ask("math:sqrt", 4, **LIMITS) == 2


def test_stop_ends_it_and_another_is_answered_meanwhile():
    stop, raised = threading.Event(), []

    def sleeping() -> None:
        with stoppable(stop.is_set), pytest.raises(Stopped) as caught:
            ask("time:sleep", 60, **LIMITS)
        raised.append(caught.value)

    thread = threading.Thread(target=sleeping)
    thread.start()
    time.sleep(0.05)
    assert ask("math:sqrt", 16, **LIMITS) == 4
    stop.set()
    thread.join(10)
    assert raised and not thread.is_alive()
    with stoppable(lambda: True), pytest.raises(Stopped):
        ask("math:sqrt", 16, **LIMITS)


def test_no_child_outlives_the_app():
    ask("math:sqrt", 4, **LIMITS)
    process = child._idle[0].process
    child.end_all()
    assert process.poll() is not None and child._idle == []
