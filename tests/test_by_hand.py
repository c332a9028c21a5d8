"""Decoding by hand: the chosen tokens are taken, suggestions follow them, and a choice is a branch that stays in its column."""

import pytest
from enumerable import END, LENGTH, SIZE
from test_exact import TOY

from rgtg.engine import generate
from rgtg.errors import BadSettings
from rgtg.guidance.methods import METHODS
from rgtg.records import Comparison, Trace
from rgtg.workbench.further import branch_of, on_screen


def written(seed: int = 0, forced: tuple[int, ...] = (), **params) -> list[int]:
    (steps,) = TOY.write([TOY.run("by-hand", seed, forced, **params)])
    return [step.token_id for step in steps]


def test_the_chosen_tokens_come_first_and_suggestions_behind_them():
    for seed in range(5):
        (pargs,) = TOY.write([TOY.run("pargs", seed, forced=(2, 0, 1), beta=1.5)])
        assert written(seed, choices="2,0,1", ahead=0) == [2, 0, 1]
        assert written(seed, choices="2 0 1", ahead=1, beta=1.5) == [2, 0, 1, pargs[1].token_id]
    assert written(choices="2,4,1", ahead=3) == [2, END], "an answer that has ended takes no more"
    assert len(written(ahead=1)) == 1 and len(written(choices=",".join("0" * LENGTH), ahead=9)) == LENGTH
    (steps,) = TOY.write([TOY.run("by-hand", choices="3")])
    assert all(c.rewards for step in steps for c in step.candidates), "the table has the reward of every candidate"


def test_a_branch_takes_its_tokens_in_the_place_of_the_choices():
    assert written(choices="2,0,1", forced=(3,), ahead=0) == [3]
    assert written(choices="2,0,1", forced=(2, 1), ahead=0) == [1], "the first is given"


@pytest.mark.parametrize(("choices", "error"), [("1,x", "has to be token ids. Found `x`"), ("1,-2", "Found `-2`"), ("1.5", "Found `1.5`")])
def test_choices_are_token_ids(choices, error):
    with pytest.raises(BadSettings, match=error):
        METHODS["by-hand"].make((("choices", choices),))


def test_a_token_that_is_no_candidate_cannot_be_chosen():
    likely = max(range(SIZE), key=TOY.next_probs(()).__getitem__)
    other = next(v for v in range(SIZE) if v != likely)
    events = [event for _, event in generate([TOY.run("by-hand", top_k=1, choices=str(other))], TOY.models)]
    assert len(events) == 1 and f"Token {other} cannot be chosen. It is not among the 1 candidates of token 1." in events[0].error


def test_a_choice_stays_in_its_column_and_can_be_taken_back():
    run = TOY.run("by-hand", choices="2", ahead=1)
    (steps,) = TOY.write([run])
    first = Trace("first", "B", run, tuple(steps), place=1)
    comparison = Comparison("c", "", (first,))
    other = next(c.token_id for c in steps[1].candidates if c.token_id != steps[1].token_id)
    chosen = branch_of(comparison, "first", 1, other)
    assert (chosen.column, chosen.place, chosen.run.forced_ids) == ("B", 1, (2, other)) and chosen.steps == tuple(steps[:1])
    assert (chosen.parent_trace_id, chosen.branch_position) == ("first", 1)
    accepted = branch_of(comparison, "first", 1, steps[1].token_id)
    assert accepted.run.forced_ids == tuple(s.token_id for s in steps), "the suggestion itself may be chosen"
    (shown,) = on_screen(Comparison("c", "", (first, chosen)))
    assert (shown.id, shown.parent_trace_id) == (chosen.id, None), "it is the answer of the column, not a branch beside it"
    begun_again = branch_of(comparison, "first", 0, None)
    assert begun_again.run.forced_ids == () and dict(begun_again.run.params)["choices"] == "" and begun_again.steps == ()
    with pytest.raises(BadSettings, match="Token 99 is not among them"):
        branch_of(comparison, "first", 1, 99)
