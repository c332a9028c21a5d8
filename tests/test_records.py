"""Records: to JSON and back unchanged, frozen, hashable."""

import json
from dataclasses import FrozenInstanceError, asdict, is_dataclass, replace

import pytest

from rgtg import records
from rgtg.config import GenerationConfig
from rgtg.errors import BadData
from rgtg.records import (
    Candidate,
    ColumnSpec,
    Comparison,
    Job,
    ModelCard,
    ModelRef,
    Pair,
    RewardModelRow,
    Run,
    Span,
    Step,
    Trace,
    Tried,
    Vote,
    new_id,
)
from rgtg.system.serialization import from_dict, from_json, to_json

CANDIDATE = Candidate(7, " gut\u2028", -0.5, 1.5, 1, 2, 0.25, (("partial", 1.0),))
TRIED = Tried(" bad", (9, 10), -1.5, threshold=0.5)
STEP = Step(
    0, 7, " gut", -0.5, 1.5, 1, 2, 0.6, 0.25, 0.125, (("partial", 1.0), ("judge", -2.0)), (CANDIDATE, replace(CANDIDATE, token_id=8)), (TRIED,)
)
RUN = Run(
    "das Essen 😀", "pargs", ModelRef("starter", "abc"), (("beta", 2.0), ("pick", "sample"), ("n", 3), ("on", True)), ((ModelRef("partial"), 1.0),),
    "sum", (ModelRef("judge", "x"),), GenerationConfig(top_k=3), 2**53 - 1, (0, 5), (7,), (("torch", "2.13"),),
)  # fmt: skip
TRACE = Trace("t1", "A", RUN, (STEP, replace(STEP, position=1, kl=None)), " gut", "eos", seconds=2.0, parent_trace_id="t0", branch_position=0)
ALL = [
    CANDIDATE, TRIED, STEP, RUN, TRACE,
    ModelRef("starter"),
    ColumnSpec("args", (("beta", 2.0),), "full", GenerationConfig(temperature=0.5)),
    ColumnSpec("base"),
    Comparison("c1", "das Essen", (TRACE, replace(TRACE, id="t2", column="B"))),
    Vote("v1", "c1", "best", "t1", ("t1", "t2"), "r1", 2, ("fluent",), "so", "g1", 1200, 3),
    Span("s1", "t1", 0, 2, "bad"),
    Pair("p", "a", "b", "c1", "v1", "t1", "t2", (0,), (1, 2), (3,), 1, 0.5),
    Job("j1", {"objective": "partial"}, state="running", pid=7, pid_created_at=1.5, progress={"step": 3}),
    RewardModelRow("m1", "mine", "starter", "ab", metrics={"accuracy": 0.5}),
    ModelCard("judge", "judge", zero=0.25, accuracy={"4": {"accuracy": 0.5, "n": 3}}, metrics={"n": 1}),
]  # fmt: skip


@pytest.mark.parametrize("record", ALL, ids=lambda r: type(r).__name__)
def test_json_and_back_gives_an_equal_record_of_the_same_kind(record):
    again = from_json(type(record), to_json(record))
    assert again == record and type(again) is type(record)
    assert hash(again) == hash(record)
    assert to_json(again) == to_json(record)


def test_every_kind_of_record_is_among_those_tested():
    kinds = {k for k in vars(records).values() if isinstance(k, type) and is_dataclass(k) and k.__module__ == records.__name__}
    assert kinds == {type(r) for r in ALL}


def test_what_is_inside_comes_back_as_tuples_and_records():
    again = from_json(Trace, to_json(TRACE))
    assert isinstance(again.run.generation, GenerationConfig) and isinstance(again.run.observers[0], ModelRef)
    assert isinstance(again.steps[0].candidates[1], Candidate) and again.steps[0].rewards == (("partial", 1.0), ("judge", -2.0))
    assert dict(again.run.params) == {"beta": 2.0, "pick": "sample", "n": 3, "on": True}
    assert again.steps[1].kl is None


def test_a_float_written_as_a_whole_number_comes_back_as_a_float():
    found = from_dict(Span, {"id": "s", "trace_id": "t", "start": 0, "end": 1, "label": "good"})
    assert found.rater_id is None
    step = from_dict(Step, asdict(STEP) | {"log_prob": -1})
    assert step.log_prob == -1.0 and isinstance(step.log_prob, float)


def test_unknown_keys_are_passed_over_and_missing_ones_take_their_default():
    assert from_dict(ModelRef, {"name": "starter", "colour": "red"}) == ModelRef("starter", "")
    with pytest.raises(TypeError, match="name"):
        from_dict(ModelRef, {"revision": "x"})


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_what_is_no_number_does_not_get_into_json(value):
    with pytest.raises(ValueError, match="not JSON compliant"):
        to_json(replace(STEP, log_prob=value))


def test_records_are_frozen():
    with pytest.raises(FrozenInstanceError):
        STEP.text = "x"


def test_a_record_says_what_follows_from_it():
    assert TRACE.token_ids == (7, 7)
    assert TRACE.tokens_per_second == 0.5  # two steps, one of them forced, in two seconds
    assert replace(TRACE, seconds=0.0).tokens_per_second == 0.0
    assert STEP.reward("judge") == -2.0 and STEP.reward("other") is None
    comparison = Comparison("c", "p", (TRACE,))
    assert comparison.trace("t1") is TRACE and comparison.trace("t9") is None


def test_ids_are_random():
    assert len({new_id() for _ in range(100)}) == 100


def test_a_card_lies_beside_the_weights_and_reads_back(tmp_path):
    card = ALL[-1]
    assert ModelCard.read(tmp_path) is None
    card.write(tmp_path)
    assert ModelCard.read(tmp_path) == card
    assert json.loads((tmp_path / "card.json").read_text(encoding="utf-8"))["zero"] == 0.25


@pytest.mark.parametrize("text", ["{", "[]", "{}", '"judge"', "\udcff"])
def test_a_card_that_cannot_be_read_is_named(tmp_path, text):
    (tmp_path / "card.json").write_text(text, encoding="utf-8", errors="surrogateescape")
    with pytest.raises(BadData, match=r"card\.json is not a model card"):
        ModelCard.read(tmp_path)


def test_a_run_that_knew_one_guide_is_read_as_one_with_a_weight_of_1():
    old = {"prompt": "x", "method": "pargs", "base_lm": {"name": "lm", "revision": ""}, "reward_model": {"name": "partial", "revision": "ab"}}
    assert from_dict(Run, old).guides == ((ModelRef("partial", "ab"), 1.0),)
    assert from_dict(Run, old | {"reward_model": None}).guides == ()


def test_an_infinite_parameter_is_written_as_text_and_comes_back_as_a_number():
    run = replace(RUN, params=(("threshold", float("-inf")), ("tries", 20), ("form", "soft")))
    assert '["threshold","-inf"]' in to_json(run) and from_json(Run, to_json(run)) == run
