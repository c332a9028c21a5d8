"""The lines that feed a token view: what they hold, what a blind one leaves out, and that hostile text stays a string."""

import json
import math
from dataclasses import replace

import pytest

from pages.columns import write_spec
from pages.token_view import MAX_TRIED_TEXT, ColumnStream, all_facts, end_note, header_line, step_line, trace_text
from rgtg.config import GenerationConfig
from rgtg.guidance.methods import METHODS, term_names, terms_of
from rgtg.records import Candidate, ColumnSpec, ModelRef, Params, Run, Step, Trace, Tried
from rgtg.workbench.report.others import OtherAnswer, other_answers

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
    return Step(**{**vars(base), "truncation": 0.5, **changes})


def a_trace(steps: tuple[Step, ...] = (), guide: str | None = "partial", **changes) -> Trace:
    guides = ((ModelRef(guide, "abc"), 1.0),) if guide else ()
    params = (("beta", 2.0), ("pick", "sample"))
    run = Run("the food was", "pargs", ModelRef("starter", "def"), params, guides, observers=(ModelRef("judge"),), seed=17)
    return Trace("trace1", "C", run, steps, "".join(s.text for s in steps), **{"stop_reason": "max_new_tokens"} | changes)


RUN = a_trace().run


def lines(text: str) -> list[dict]:
    assert text.endswith("\n")
    return [json.loads(line) for line in text.split("\n")[:-1]]


def test_the_header_says_what_the_inspector_needs():
    (head,) = lines(header_line(a_trace(), "comparison1", "PARGS"))
    assert head["comparison"] == "comparison1" and head["trace"] == "trace1" and head["column"] == "C"
    assert head["title"] == "PARGS" and head["guide"] == "partial" and head["guides"] == [["partial", 1.0]] and head["params"]["pick"] == "sample"
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
    (found,) = lines(step_line(a_step(), RUN))
    assert (found["t"], found["id"], found["lp"], found["r"], found["s"]) == (" word3", 103, -4.0, 3.0, 2.0)
    assert found["k"] == [4, 7] and found["rs"] == {"partial": 3.0, "judge": 0.5}
    assert found["m"] == 3.0  # 2.0 against -1.0, the score of the base LM's top token
    assert len(found["c"]) == 10 and found["c"][0] == [109, " word9", -10.0, [9.0], 8.0, 10, 1, 0.1, [-10.0, 18.0]]
    assert [row[6] for row in found["c"]] == list(range(1, 11))


def test_score_is_log_p_plus_beta_times_reward_as_sent():
    (found,) = lines(step_line(a_step(), RUN))
    for _, _, log_p, (reward,), score, *_, terms in found["c"]:
        assert terms == [log_p, 2.0 * reward] and score == sum(terms)


def test_of_many_candidates_the_taken_one_and_the_top_token_are_kept():
    (found,) = lines(step_line(a_step(taken=5, num=40), RUN))
    ids = [row[0] for row in found["c"]]
    assert len(ids) == 10 and 105 in ids and 100 in ids and 139 in ids
    assert found["n"] == 30 and "n" not in lines(step_line(a_step(), RUN))[0]


def test_without_a_guide_the_first_observer_is_the_reward_and_no_candidate_has_one():
    step = a_step(candidates=candidates(4, reward=False), rewards=(("judge", 0.5),))
    (found,) = lines(step_line(step))
    assert found["r"] == 0.5 and all(row[3] == [] for row in found["c"])


def test_a_guide_that_did_not_score_is_null_and_not_another_model():
    (found,) = lines(step_line(a_step(rewards=(("judge", 0.5),)), RUN))
    assert found["r"] is None


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_what_is_not_finite_travels_as_null(value: float):
    (found,) = lines(step_line(a_step(log_prob=value, kl=value, rewards=(("partial", value),)), RUN))
    assert found["lp"] is None and found["kl"] is None and found["r"] is None


def test_hostile_text_is_one_line_and_comes_back_whole():
    text = step_line(a_step(text=HOSTILE), RUN)
    assert text.count("\n") == 1 and lines(text)[0]["t"] == HOSTILE


def test_a_lone_surrogate_does_not_stop_the_stream():
    step_line(a_step(text="\ud800"), RUN).encode("utf-8")


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
        stream.pace(0.1 * i, a_trace(steps[: i + 1]))
        assert stream.text.startswith(seen)
        seen = stream.text
    stream.end(a_trace(steps))
    stream.end(a_trace(steps))  # once
    kept = [line for line in lines(stream.text) if not set(line) <= {"note", "cost"}]
    assert kept == lines(trace_text(a_trace(steps), "comparison1", "PARGS"))


def test_a_branch_begins_with_the_steps_it_copies():
    stream = ColumnStream(a_trace((a_step(0), a_step(1))), "comparison1")
    assert stream.num_tokens == 2 and len(lines(stream.text)) == 3


def test_the_foot_says_length_rewards_and_divergence():
    steps = (a_step(0), a_step(1))
    assert end_note(a_trace(steps, seconds=0.5)) == "2 tok · r +3.00 · judge +0.50 · KL 0.5"
    generation = GenerationConfig()
    assert end_note(a_trace(steps, stop_reason="stopped")).startswith(f"stopped at 2 of {generation.max_new_tokens}")
    assert end_note(a_trace(steps, stop_reason="error", error="`partial` gave NaN.")) == "failed at token 3: `partial` gave NaN."
    assert end_note(a_trace((a_step(0, kl=None, truncation=None),))) == "1 tok · r +3.00 · judge +0.50"


def test_a_divergence_says_what_it_is_to_and_what_the_candidates_cost():
    now, before = a_trace((a_step(0), a_step(1))), a_trace((a_step(0, truncation=None), a_step(1, truncation=None)))
    assert "KL 0.5 nats to the base LM with the same candidates" in all_facts(now)
    assert "top k, top p and temperature alone: KL 1.0 nats to the untruncated base LM" in all_facts(now)
    # as the first versions stored it
    assert end_note(before).endswith("KL 0.5 to the untruncated base LM")
    assert "KL 0.5 nats to the untruncated base LM" in all_facts(before) and "same candidates" not in all_facts(before)


def test_a_number_that_rounds_to_nothing_has_no_sign():
    assert end_note(a_trace((a_step(rewards=(("partial", -0.001),)),))).startswith("1 tok · r 0.00 ·")


# ---- what the rule says ----------------------------------------------------------------------------------


def a_run(method: str, params: Params = (), *guides: tuple[str, float]) -> Run:
    return Run("hi", method, ModelRef("lm"), params, tuple((ModelRef(name), weight) for name, weight in guides or (("partial", 1.0),)))


def scored(score: float, **rewards: float) -> Candidate:
    return Candidate(5, " ok", -2.1, score, 3, 1, 0.5, tuple(rewards.items()))


def test_the_terms_are_the_rules_and_add_up_to_the_score():
    found = terms_of(a_run("pargs", (("beta", 2.0),)), scored(0.9, partial=1.5))
    assert found == {"log p": -2.1, "β·r": 3.0} and list(found) == list(term_names(a_run("pargs")))
    assert terms_of(a_run("base"), scored(-2.1)) == {"log p": -2.1}


@pytest.mark.parametrize("key", [m.key for m in METHODS.values() if m.uses_reward and not m.rule.rescores])
def test_a_method_that_draws_from_the_base_lm_shows_no_reward_in_its_score(key: str):
    assert term_names(a_run(key)) == ("log p",)
    assert terms_of(a_run(key), scored(-2.1)) == {"log p": -2.1}
    (head,) = lines(header_line(replace(a_trace(), run=a_run(key))))
    assert head["terms"] == ["log p"]


def test_of_a_mix_every_part_is_shown_and_their_weighted_sum_counts():
    mix = a_run("pargs", (("beta", 2.0),), ("partial", 1.0), ("length", 0.5))
    candidate = scored(-2.1 + 2 * (1.5 - 0.5), partial=1.5, length=-1.0)
    assert terms_of(mix, candidate) == {"log p": -2.1, "β·r": 2.0}
    (head,) = lines(header_line(replace(a_trace(), run=mix)))
    assert head["guides"] == [["partial", 1.0], ["length", 0.5]]
    (found,) = lines(step_line(a_step(candidates=(candidate,)), mix))
    assert found["c"][0][3] == [1.5, -1.0] and found["c"][0][8] == [-2.1, 2.0]


def test_a_sum_that_is_not_the_score_is_never_shown():
    pargs = a_run("pargs", (("beta", 2.0),))
    assert terms_of(pargs, scored(0.4, partial=1.5)) == {}  # combined in another way
    assert terms_of(pargs, scored(-2.1)) == {}  # its reward was not kept
    proposing = a_run("particles", (("proposal", "pargs"), ("beta", 2.0)))
    assert terms_of(proposing, scored(0.9, partial=1.5)) in ({}, {"log p": -2.1, "β·r": 3.0})


@pytest.mark.parametrize("run", [a_run("gone"), a_run("pargs", (("gone", 1.0),))])
def test_a_method_that_is_gone_shows_the_score_alone(run: Run):
    assert terms_of(run, scored(0.9, partial=1.5)) == {} and term_names(run) == ()
    (found,) = lines(step_line(a_step(candidates=(scored(0.9, partial=1.5),)), run))
    assert found["c"][0][4] == 0.9 and found["c"][0][8] is None
    assert end_note(replace(a_trace((a_step(rewards=()),), stop_reason="stopped"), run=run)) == "stopped at 1 of 24 · unscored · KL 0.2"


# ---- what was tried ---------------------------------------------------------------------------------------


def test_what_was_tried_travels_in_its_order_and_the_rest_is_counted():
    tried = tuple(Tried(f" try {i}", (i,), float(i), 2.5) for i in range(12))
    (found,) = lines(step_line(a_step(tried=tried), RUN))
    assert len(found["y"]["rows"]) == 10 and found["y"]["more"] == 2
    assert found["y"]["rows"][1] == [" try 1", 1.0, 2.5, None]
    assert "y" not in lines(step_line(a_step(), RUN))[0]
    assert set(lines(step_line(a_step(tried=tried), RUN, blind=True))[0]) == {"t"}


def test_of_several_answers_all_are_shown_and_the_head_says_why_they_were_lost():
    best_of = replace(RUN, method="best-of-n", params=(("n", 64),))
    tried = tuple(Tried(f" try {i}", (i,), float(i)) for i in range(63))
    (found,) = lines(step_line(a_step(tried=tried), best_of))
    assert len(found["y"]["rows"]) == 63 and found["y"]["more"] == 0
    assert lines(header_line(Trace("t", "A", best_of)))[0]["lost"] == "another answer had a higher reward"
    assert "lost" not in lines(header_line(Trace("t", "A", RUN)))[0] and "lost" not in lines(header_line(Trace("t", "A", best_of), blind=True))[0]


def test_the_other_answers_are_whole_texts_with_their_rewards():
    cards = replace(RUN, method="cards", params=())
    steps = (a_step(text=" one"), a_step(text=" two", tried=(Tried(" bad", (1,), -1.0, 0.5), Tried(" worse", (2,), -2.0, 0.5))))
    found = other_answers(Trace("t", "A", cards, tuple(replace(step, position=i) for i, step in enumerate(steps))))
    why = "its reward was below the threshold"
    assert found == [OtherAnswer(" one bad", 1, -1.0, 0.5, None, why), OtherAnswer(" one worse", 1, -2.0, 0.5, None, why)]
    assert other_answers(Trace("t", "A", replace(cards, method="transfer-q"), steps)) == [], "a rollout is no answer"
    assert other_answers(Trace("t", "A", replace(cards, method="gone"), steps)) == []


def test_a_long_piece_is_cut_and_a_hostile_one_stays_a_string():
    tried = (Tried("x" * 5000, (1,), math.nan), Tried(HOSTILE, (2,), weight=0.25))
    text = step_line(a_step(tried=tried), RUN)
    long, hostile = lines(text)[0]["y"]["rows"]
    assert text.count("\n") == 1 and len(long[0]) == MAX_TRIED_TEXT and long[1] is None
    assert hostile == [HOSTILE, None, None, 0.25]


# ---- while it is on trial, and after Stop ----------------------------------------------------------------------


def foot(stream: ColumnStream) -> str:
    return next(line["note"] for line in reversed(lines(stream.text)) if "note" in line)


def test_what_is_on_trial_is_said_until_a_step_comes():
    stream = ColumnStream(a_trace(), "comparison1")
    stream.on_trial("4 answers, token 12")
    stream.pace(1.0, a_trace())
    assert foot(stream) == "4 answers, token 12"
    stream.step(a_step())
    stream.pace(1.0, a_trace())
    assert foot(stream) == "token 1 of 24"
    stream.on_trial("on trial: token 5")
    stream.pace(1.0, a_trace())
    assert foot(stream) == "token 1 of 24 · on trial: token 5"


def test_a_growing_column_says_what_it_has_cost_and_a_blind_one_does_not():
    for blind, words in ((False, ["1 tok/s · 7 LM + 9 reward forwards"]), (True, [])):
        stream = ColumnStream(a_trace(), "comparison1", blind=blind)
        stream.step(a_step())
        stream.pace(1.0, a_trace(lm_forwards=7, reward_forwards=9))
        stream.end(a_trace((a_step(),)))
        said = [line["cost"] for line in lines(stream.text) if "cost" in line]
        assert said[:1] == words


def test_a_blind_column_tells_not_how_many_answers_grow():
    stream = ColumnStream(a_trace(), "comparison1", blind=True)
    stream.on_trial("4 answers, token 12")
    stream.pace(1.0, a_trace())
    assert foot(stream) == "on trial"


@pytest.mark.parametrize(
    ("key", "words"),
    [("best-of-n", "first of 4 answers, unscored"), ("particles", "first of 8 answers, unscored"), ("cards", "unscored"), ("pargs", "unscored")],
)
def test_a_column_that_stop_left_unscored_says_so(key: str, words: str):
    step = a_step(kl=None, rewards=(("judge", 0.5),))
    stopped = replace(a_trace((step,), stop_reason="stopped"), run=a_run(key))
    assert end_note(stopped) == f"stopped at 1 of 24 · {words} · judge +0.50"
    assert end_note(stopped, blind=True) == "stopped at 1 of 24"
    scored_step = replace(step, rewards=(("partial", 1.0),))
    assert "unscored" not in end_note(replace(stopped, steps=(scored_step,)))
    assert "unscored" not in end_note(replace(stopped, stop_reason="eos"))


def test_a_threshold_of_minus_infinity_reaches_the_page():
    params = (("threshold", -math.inf), ("tries", 3))
    (head,) = lines(header_line(replace(a_trace(), run=a_run("cards", params))))
    assert head["params"] == {"threshold": "-inf", "tries": 3}
    assert json.loads(write_spec(ColumnSpec("cards", params, "partial")))["params"] == {"threshold": "-inf", "tries": 3}


def test_an_answer_from_elsewhere_is_a_text_without_tokens():
    run = Run("hi", "imported", ModelRef(""), (("from", "pairs.json"),))
    trace = Trace("t", "A", run, (), "Good <b>day</b>", "eos")
    head, line, end = (json.loads(line) for line in trace_text(trace).splitlines())
    assert (head["method"], line, end["note"]) == ("imported", {"t": "Good <b>day</b>"}, "imported, from pairs.json")
    *_, line, end = (json.loads(line) for line in trace_text(trace, blind=True).splitlines())
    assert (line, end["note"]) == ({"t": "Good <b>day</b>"}, "imported")
