"""A comparison while it runs: its time limit, a lack of memory, a reward model that fails."""

from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from tiny_models import tiny_lm, tiny_reward

from pages.streaming import summary
from pages.token_view import end_note
from rgtg.config import GenerationConfig, Settings
from rgtg.engine import Models, make_run
from rgtg.errors import OverBudget
from rgtg.records import Comparison, Run, Trace
from rgtg.workbench.budget import Budget, PublicLimits
from rgtg.workbench.running import RunningComparison, is_late

METHODS = ("base", "best-of-n", "pargs")


class Small(torch.nn.Linear):
    """A head on a device that holds `room` rows and has allocated too much once `after` forwards were made."""

    room, after, num_refused = 100, 0, 0

    def forward(self, x):
        self.after -= 1
        if len(x) > self.room and self.after < 0:
            self.num_refused += 1
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")
        return super().forward(x)


def models(room: int = 100, after: int = 0) -> Models:
    sound = tiny_reward("llama", 1, "one")
    head = Small(sound.head.in_features, 1, bias=False)
    head.weight, head.room, head.after = sound.head.weight, room, after
    return Models(tiny_lm(), {"one": replace(sound, head=head)})


def runs(loaded: Models, tokens: int = 8) -> list[Run]:
    generation = GenerationConfig(max_new_tokens=tokens)
    params = {"best-of-n": (("n", 4),)}
    return [make_run("the food", name, loaded, params.get(name, ()), None if name == "base" else "one", (), generation, seed=3) for name in METHODS]


def running(loaded: Models, tokens: int = 8, deadline_s: float | None = None) -> RunningComparison:
    traces = [Trace(f"t{i}", "ABC"[i], run, place=i) for i, run in enumerate(runs(loaded, tokens))]
    comparison = Comparison("c", "the food", tuple(traces))
    return RunningComparison(comparison, traces, loaded, None, lambda ended: None, deadline_s)


def finished(one: RunningComparison) -> tuple[Trace, ...]:
    seen = [(index, event.position) for index, event in one if hasattr(event, "position")]
    assert len(set(seen)) == len(seen), "no token is told twice"
    return one.traces


# --- memory -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("after", [0, 6])  # at once, and once half of the text is on screen
def test_out_of_memory_is_tried_once_more_with_half_of_the_answers(after):
    whole, small = finished(running(models())), models(room=4, after=after)
    again = finished(running(small))
    assert [(t.token_ids, t.stop_reason) for t in again] == [(t.token_ids, t.stop_reason) for t in whole]
    assert small.reward_models["one"].head.num_refused == 1


def test_without_room_for_half_it_ends_with_words_and_the_next_one_is_served():
    small = models(room=0)
    failing = running(small)
    with pytest.raises(OverBudget, match="not enough memory for this comparison. The limit was met with 3 of 6 answers at once. Lower"):
        list(failing)
    assert small.reward_models["one"].head.num_refused == 2, "once more, not again and again"
    assert [t.stop_reason for t in failing.traces] == ["max_new_tokens", "error", "error"], "the base LM alone had room"
    assert "not enough memory" in failing.traces[1].error
    small.reward_models["one"].head.room = 100
    assert {t.stop_reason for t in finished(running(small))} == {"max_new_tokens"}


def test_another_failure_is_not_tried_again(monkeypatch):
    broken = models()
    monkeypatch.setattr(broken.reward_models["one"].head, "forward", lambda x: x[..., 0, 0, 0])
    ended = finished(running(broken))
    assert [t.stop_reason == "error" for t in ended] == [bool(t.run.guides) for t in ended] == ["`one` failed" in t.error for t in ended]
    monkeypatch.setattr(broken.base_lm.head, "forward", lambda x: x[..., 0, 0, 0, 0])  # it is shared
    with pytest.raises(IndexError):
        list(running(broken))


# --- time ---------------------------------------------------------------------------------------------------------------


def test_a_comparison_ends_at_the_first_token_after_its_time_limit_and_says_so(monkeypatch):
    clock = SimpleNamespace(now=0.0)
    one = running(models(), tokens=100, deadline_s=60)
    monkeypatch.setattr("rgtg.workbench.running.time", SimpleNamespace(perf_counter=lambda: clock.now))
    lengths = []
    for _ in one:
        lengths.append(max(len(t.steps) for t in one.traces))
        clock.now = 61.0 if lengths[-1] == 5 else clock.now
    assert lengths[-1] <= 6, "it ends within a token"
    assert all(is_late(t) and t.stop_reason == "stopped" for t in one.traces)
    assert "by the time limit" in end_note(one.traces[0]) and summary(one.traces).endswith("of 100 by the time limit")
    assert "Stopped at the time limit of 60 s." in one.traces[0].note


def test_what_is_stopped_by_a_person_is_not_late():
    one = running(models(), tokens=100, deadline_s=60)
    for _ in one:
        one.stop()
    assert not any(map(is_late, one.traces)) and "time limit" not in summary(one.traces)


def test_only_a_public_server_has_a_time_limit():
    assert Budget(Settings()).deadline_s is None and Budget(Settings(public=True, deadline_s=7)).deadline_s == 7


# --- limits of a public server ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("limits", "words"),
    [
        ({"prompt_tokens": 5}, "This server allows up to 5 tokens in a prompt. Found 9. Shorten it."),
        ({"max_new_tokens": 7}, "This server allows up to 7 new tokens. Found 8. Lower `max_new_tokens`."),
        ({"top_k": 9}, "This server allows up to 9 candidates a step. Found 10. Lower `top_k`."),
        ({"positions": 200}, "This server allows up to 200 tokens read in one request"),
    ],
)
def test_a_request_is_refused_before_any_model_runs(limits, words, monkeypatch):
    loaded = models()
    monkeypatch.setattr(Budget, "estimate", lambda *args: pytest.fail("a model was measured"))
    with pytest.raises(OverBudget) as refused:
        Budget(Settings(public=True), PublicLimits(**limits)).check(runs(loaded), loaded, confirmed=True)
    assert str(refused.value).startswith(words)


def test_the_default_request_is_within_the_limits_and_a_laptop_has_none():
    loaded = models()
    Budget(Settings(public=True)).check(runs(loaded, 24), loaded)
    Budget(Settings(), PublicLimits(1, 1, 1, 1)).check(runs(loaded), loaded)
