"""The lines that feed a token view: what they hold, what a blind one leaves out, and that hostile text stays a string."""

import json
import math

import pytest

from pages.token_view import ColumnStream, end_note, header_line, step_line, trace_text
from rgtg.config import GenerationConfig
from rgtg.records import Candidate, ModelRef, Run, Step, Trace

HOSTILE = '` ${alert(1)} <img src=x onerror=alert(2)> </script> {{value}} "\\n\n\u2028 e\u0301 🧭'


def candidates(num: int = 10, reward: bool = True) -> tuple[Candidate, ...]:
    return tuple(
        Candidate(100 + i, f" word{i}", -1.0 - i, -1.0 - i + 2.0 * i, i + 1, num - i, 0.1, (("partial", float(i)),) if reward else ())
        for i in range(num)
    )


def a_step(position: int = 0, taken: int = 3, text: str = " word3", num: int = 10, **changes) -> Step:
    c = candidates(num)[taken]
    rewards = (("partial", float(taken)), ("judge", 0.5))
    base = Step(
        position, c.token_id, text, c.log_prob, c.score, c.rank_before, c.rank_after, math.exp(c.log_prob), 0.1, 0.25, rewards, candidates(num)
    )
    return Step(**{**vars(base), **changes})


def a_trace(steps: tuple[Step, ...] = (), guide: str | None = "partial", **changes) -> Trace:
    guides = ((ModelRef(guide, "abc"), 1.0),) if guide else ()
    params = (("beta", 2.0), ("pick", "sample"))
    run = Run("the food was", "pargs", ModelRef("starter", "def"), params, guides, observers=(ModelRef("judge"),), seed=17)
    return Trace("trace1", "C", run, steps, "".join(s.text for s in steps), **{"stop_reason": "max_new_tokens"} | changes)


def lines(text: str) -> list[dict]:
    assert text.endswith("\n")
    return [json.loads(line) for line in text.split("\n")[:-1]]


def test_the_header_says_what_the_inspector_needs():
    (head,) = lines(header_line(a_trace(), "comparison1", "PARGS"))
    assert head["comparison"] == "comparison1" and head["trace"] == "trace1" and head["column"] == "C"
    assert head["title"] == "PARGS" and head["guide"] == "partial" and head["beta"] == 2.0 and head["params"]["pick"] == "sample"
    assert "branch" not in head


def test_the_header_of_a_branch_names_parent_and_place():
    (head,) = lines(header_line(a_trace(parent_trace_id="p", branch_position=4), parent="B"))
    assert head["parent"] == "B" and head["branch"] == 4


def test_a_blind_column_gives_nothing_away():
    trace = a_trace((a_step(),), seconds=2.0)
    text = trace_text(trace, "comparison1", "PARGS", blind=True)
    for secret in ("PARGS", "pargs", "partial", "beta", "judge", "lp", "KL", "/s", "word4", "starter"):
        assert secret not in text
    assert [line["t"] for line in lines(text) if "t" in line] == [" word3"]
    assert set(lines(text)[1]) == {"t"}


def test_a_step_has_its_numbers_and_ten_candidates():
    (found,) = lines(step_line(a_step(), None, "partial"))
    assert (found["t"], found["id"], found["lp"], found["r"], found["s"]) == (" word3", 103, -4.0, 3.0, 2.0)
    assert found["d"] is None and found["k"] == [4, 7] and found["rs"] == {"partial": 3.0, "judge": 0.5}
    assert found["m"] == 3.0  # 2.0 against -1.0, the score of the base LM's favourite
    assert len(found["c"]) == 10 and found["c"][0] == [109, " word9", -10.0, 9.0, 8.0, 10, 1, 0.1]
    assert [row[6] for row in found["c"]] == list(range(1, 11))


def test_score_is_log_p_plus_beta_times_reward_as_sent():
    (found,) = lines(step_line(a_step(), None, "partial"))
    for _, _, log_p, reward, score, *_ in found["c"]:
        assert score == pytest.approx(log_p + 2.0 * reward, abs=1e-4)


def test_of_many_candidates_the_taken_one_and_the_favourite_are_kept():
    (found,) = lines(step_line(a_step(taken=5, num=40), None, "partial"))
    ids = [row[0] for row in found["c"]]
    assert len(ids) == 10 and 105 in ids and 100 in ids and 139 in ids


def test_the_change_is_against_the_token_before():
    (found,) = lines(step_line(a_step(1, 5), a_step(0, 3), "partial"))
    assert found["d"] == 2.0


def test_without_a_guide_the_first_observer_is_the_reward_and_no_candidate_has_one():
    step = a_step(candidates=candidates(4, reward=False), rewards=(("judge", 0.5),))
    (found,) = lines(step_line(step))
    assert found["r"] == 0.5 and all(row[3] is None for row in found["c"])


def test_a_guide_that_did_not_score_is_null_and_not_another_model():
    (found,) = lines(step_line(a_step(rewards=(("judge", 0.5),)), None, "partial"))
    assert found["r"] is None


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_what_is_not_finite_travels_as_null(value: float):
    (found,) = lines(step_line(a_step(log_prob=value, kl=value, rewards=(("partial", value),)), None, "partial"))
    assert found["lp"] is None and found["kl"] is None and found["r"] is None


def test_hostile_text_is_one_line_and_comes_back_whole():
    text = step_line(a_step(text=HOSTILE), None, "partial")
    assert text.count("\n") == 1 and lines(text)[0]["t"] == HOSTILE


def test_a_lone_surrogate_does_not_stop_the_stream():
    step_line(a_step(text="\ud800"), None, "partial").encode("utf-8")


def test_a_token_without_text_has_a_label():
    c = Candidate(103, "⟨Ã⟩", -1.0, -1.0, 1, 1, 1.0)
    assert lines(step_line(a_step(text="", candidates=(c,))))[0]["x"] == "⟨Ã⟩"
    assert lines(step_line(a_step(text="", candidates=())))[0]["x"] == "⟨…⟩"


def test_joined_the_texts_are_the_response():
    trace = a_trace(tuple(a_step(i, i, f" w{i}\n") for i in range(4)))
    assert "".join(line["t"] for line in lines(trace_text(trace)) if "t" in line) == trace.response


def test_a_stream_only_grows_and_comes_to_the_same_as_the_whole():
    steps = tuple(a_step(i, i) for i in range(4))
    stream, seen = ColumnStream(a_trace(), "comparison1", "PARGS"), ""
    for i, step in enumerate(steps):
        stream.step(step)
        stream.pace(0.1 * i)
        assert stream.text.startswith(seen)
        seen = stream.text
    stream.end(a_trace(steps))
    stream.end(a_trace(steps))  # once
    kept = [line for line in lines(stream.text) if set(line) != {"note"}]
    assert kept == lines(trace_text(a_trace(steps), "comparison1", "PARGS"))


def test_a_branch_begins_with_the_steps_it_copies():
    stream = ColumnStream(a_trace((a_step(0), a_step(1))), "comparison1")
    assert stream.num_tokens == 2 and len(lines(stream.text)) == 3


def test_the_foot_says_length_pace_rewards_and_divergence():
    steps = (a_step(0), a_step(1))
    assert end_note(a_trace(steps, seconds=0.5)) == "2 tok · 4/s · r +3.00 · judge +0.50 · KL 0.5"
    generation = GenerationConfig()
    assert end_note(a_trace(steps, stop_reason="stopped")).startswith(f"stopped at 2 of {generation.max_new_tokens}")
    assert end_note(a_trace(steps, stop_reason="error", error="`partial` gave NaN.")) == "failed at token 3: `partial` gave NaN."
    assert end_note(a_trace((a_step(0, kl=None),))) == "1 tok · r +3.00 · judge +0.50"
