"""Annotation tasks: what a rater is shown next, what is stored before and after his vote, and what is erased at his request."""

import json
from dataclasses import replace
from datetime import datetime
from pathlib import Path

import numpy as np
import pytest
from store_records import make_comparison, make_trace

from rgtg.config import GenerationConfig, Settings
from rgtg.errors import BadSettings, RgtgError, StoreError, UnknownRecord
from rgtg.guidance.methods import parse_run
from rgtg.records import Span, Vote, new_id
from rgtg.workbench.annotation import annotation as verbs
from rgtg.workbench.annotation.rounds import LAPSE, Pair, Round
from rgtg.workbench.annotation.tasks import Guidelines, Task
from rgtg.workbench.visitors import Visitor
from rgtg.workbench.workbench import Workbench

ANN, BOB = Visitor("anonymous", "ann"), Visitor("anonymous", "bob", reads_all=False)
COLUMNS = ("base", "args:beta=2", "pargs:beta=2")


def a_task(**changes) -> Task:
    known = {"title": "Reviews", "prompts": ("the food was", "my wife and i"), "columns": COLUMNS, "num_pairs": 20, "id": "t1"}
    return Task(**known | changes)


class Answers:
    """Stands for a running comparison that has ended: an answer a column, in the order of the columns."""

    def __init__(self, prompt: str, specs):
        name = new_id()
        traces = tuple(make_trace(f"{name}-{i}", "ABCD"[i], f" says {spec.method}") for i, spec in enumerate(specs))
        self.comparison, self.traces = make_comparison(name, "", prompt=prompt, traces=traces, blind=False), traces

    def __iter__(self):
        return iter(())

    def close(self) -> None: ...


@pytest.fixture
def workbench(tmp_path: Path):
    bench = Workbench(Settings(data_dir=tmp_path, public=True))
    bench.annotation._compare = lambda prompt, specs, *args, **kwargs: Answers(prompt, specs)
    yield bench
    bench.close()


@pytest.fixture
def task(workbench) -> Task:
    return workbench.annotation.tasks.add(a_task(overlap=0))


def say(annotation, task, pair, visitor, verdict="best", best=0, **more) -> Vote:
    vote = Vote(new_id(), pair.id, verdict, pair.traces[best] if verdict == "best" else None, **more)
    return annotation.vote(task.id, vote, visitor, token=annotation.vote_token(pair, visitor))


def rounds(task: Task, raters=("r1",), votes: int = 0, seed: int = 0) -> Round:
    """A round in which each rater was shown and voted on this many pairs, the left answer being best."""
    current, rng = Round(task), np.random.default_rng(seed)
    for _ in range(votes):
        for rater in raters:
            plan = current.plan(rater, rng)
            if plan is None:
                continue
            if plan.pair is not None and not plan.again:
                current.show(pair := plan.pair, rater)
            else:
                name = f"p{len(current.pairs)}"
                rule = {"task": task.id, "repeat_of": plan.pair.id, "columns": plan.pair.columns[::-1]} if plan.pair else plan.rule
                pair = current.add(Pair(name, (f"{name}-0", f"{name}-1"), rule), rater)
            current.say(pair, rater, "best", pair.traces[0])
    return current


def test_a_pair_is_stored_open_and_blind_before_it_is_shown(workbench, task):
    annotation = workbench.annotation
    annotation.guidelines.change("Which review would you rather read?")
    pair = annotation.prepare(task.id, ANN)
    stored = workbench.store.comparison(pair.id)
    rule = json.loads(stored.pair_rule)
    assert stored.state == "open" and stored.blind and stored.guideline_version == "1" and stored.rater_id == workbench.raters.find(ANN)
    assert rule["task"] == task.id and rule["rule"] == "uniform" and rule["probability"] == pytest.approx(1 / 3)
    assert [trace.response for trace in stored.traces] == [f" says {COLUMNS[i].split(':')[0]}" for i in rule["columns"]]
    assert stored.prompt == task.prompts[rule["prompt"]] and annotation.waiting(task.id, ANN) == [pair]


def test_the_disagreement_rule_shows_two_of_all_answers_with_its_probability(workbench):
    """Of three answers the models agree on all but a and b, whose order they see in opposite ways; c is no rival."""
    said = {"base": (0.0, 2.0), "args": (2.0, 0.0), "pargs": (9.0, 9.0)}

    def compare(prompt, specs, *args, **kwargs):
        running = Answers(prompt, specs)
        running.traces = tuple(
            replace(trace, steps=(replace(trace.steps[-1], rewards=tuple(zip(("one", "two"), said[spec.method], strict=True))),))
            for trace, spec in zip(running.traces, specs, strict=True)
        )
        return running

    annotation = workbench.annotation
    annotation._compare = compare
    task = annotation.tasks.add(a_task(overlap=0, repeats=0, rule="disagreement", num_pairs=30))
    rules = []
    for _ in range(30):
        stored = workbench.store.comparison(annotation.prepare(task.id, ANN).id)
        rules.append(json.loads(stored.pair_rule))
        assert [trace.response for trace in stored.traces] == [f" says {COLUMNS[i].split(':')[0]}" for i in rules[-1]["columns"]]
        assert [(trace.column, trace.place) for trace in stored.traces] == [("A", 0), ("B", 1)]
    chance = {frozenset(rule["columns"]): rule["probability"] for rule in rules}
    assert chance[frozenset({0, 1})] > 0.7 and all(0.1 / 3 < p < 0.2 for pair, p in chance.items() if pair != {0, 1})
    assert sum(set(rule["columns"]) == {0, 1} for rule in rules) > 16 and {rule["columns"][0] for rule in rules} >= {0, 1}
    assert rules[0]["reward_models"] == ["one", "two"] and rules[0]["rule"] == "disagreement"
    annotation._compare = lambda prompt, specs, *args, **kwargs: Answers(prompt, specs)
    monotone = annotation.tasks.add(a_task(rule="disagreement"))
    assert json.loads(workbench.store.comparison(annotation.prepare(monotone.id, BOB).id).pair_rule)["disagreement"] == 0
    said.update(base=(0.0, None), args=(2.0, 1.0), pargs=(9.0, 1.0))
    annotation._compare = compare
    with pytest.raises(BadSettings, match="two of them"):
        annotation.prepare(monotone.id, BOB)


def test_both_orders_of_a_pair_come_up(workbench, task):
    orders = {tuple(workbench.annotation.prepare(task.id, ANN).columns) for _ in range(18)}
    assert {(a < b) for a, b in orders} == {True, False}


def test_what_made_the_answers_is_a_secret_until_the_vote(workbench, task):
    annotation = workbench.annotation
    pair = annotation.prepare(task.id, ANN)
    with pytest.raises(BadSettings, match="after your vote"):
        workbench.comparison(pair.id, ANN)
    assert workbench.store.history() == ()
    annotation.consent(ANN)
    say(annotation, task, pair, ANN)
    assert [entry.id for entry in workbench.store.history()] == [pair.id]
    assert workbench.comparison(pair.id, ANN).state == "closed"
    annotation.undo(task.id, pair.id, ANN)
    with pytest.raises(BadSettings, match="after your vote"):
        workbench.comparison(pair.id, ANN)


def test_nobody_votes_before_he_agreed_or_on_what_he_was_not_shown(workbench, task):
    annotation = workbench.annotation
    pair = annotation.prepare(task.id, ANN)
    with pytest.raises(StoreError, match="not agreed"):
        say(annotation, task, pair, ANN)
    annotation.consent(BOB)
    with pytest.raises(UnknownRecord, match="not one of yours"):
        say(annotation, task, pair, BOB)
    assert workbench.num_votes() == 0


def test_strength_and_reasons_are_a_new_revision_and_undo_takes_back_one_at_a_time(workbench, task):
    annotation = workbench.annotation
    annotation.consent(ANN)
    pair = annotation.prepare(task.id, ANN)
    say(annotation, task, pair, ANN)
    detailed = say(annotation, task, pair, ANN, strength=3, reasons=("safer",), comment="short")
    assert detailed.revision == 2 and annotation.progress(task.id, ANN).voted == 1 and annotation.waiting(task.id, ANN) == []
    before = annotation.undo(task.id, pair.id, ANN)
    assert before is not None and before.strength is None and before.reasons == ()
    assert annotation.undo(task.id, pair.id, ANN, "u1") is None and annotation.undo(task.id, pair.id, ANN, "u1") is None
    assert annotation.waiting(task.id, ANN) == [pair] and annotation.progress(task.id, ANN).voted == 0
    with pytest.raises(BadSettings, match="reason is unknown"):
        say(annotation, task, pair, ANN, reasons=("x",))


def test_a_task_goes_on_where_it_was_after_a_restart(workbench, task):
    annotation = workbench.annotation
    annotation.consent(ANN)
    first, second = annotation.prepare(task.id, ANN), annotation.prepare(task.id, ANN)
    say(annotation, task, first, ANN, best=1)
    again = verbs.Annotation(workbench.settings, lambda: workbench.store, workbench.raters, workbench.compare, workbench.branch)
    assert again.tasks.get(task.id) == task
    assert [pair.id for pair in again.waiting(task.id, ANN)] == [second.id]
    assert [pair.votes for pair in again.voted(task.id, ANN, 3)] == [first.votes] and again.progress(task.id, ANN).voted == 1


def test_a_share_of_the_pairs_is_seen_by_several_raters_and_a_share_again_with_sides_swapped():
    current = rounds(a_task(overlap=0.5, repeats=0.1), ("r1", "r2"), 20)
    seen = [current.shown[rater] for rater in ("r1", "r2")]
    assert [len(ids) for ids in seen] == [20, 20] and len(set(seen[0]) & set(seen[1])) in range(8, 11)
    for ids in seen:
        repeats = [current.pairs[name] for name in ids if current.pairs[name].rule.get("repeat_of")]
        assert len(repeats) == 2
        for pair in repeats:
            before = current.pairs[pair.rule["repeat_of"]]
            assert tuple(pair.columns) == tuple(before.columns)[::-1] and ids.index(pair.id) - ids.index(before.id) > 3
    assert current.plan("r1", np.random.default_rng(0)) is None


@pytest.mark.parametrize(("rule", "least"), [("uniform", 0.33), ("under-sampled", 0.3), ("informative", 0.9), ("thompson", 0.03)])
def test_every_rule_says_how_probable_its_pair_was(rule: str, least: float):
    plan = rounds(a_task(rule=rule, repeats=0, overlap=0), votes=12).plan("r1", np.random.default_rng(1))
    assert plan.rule["rule"] == rule and 0 < plan.rule["probability"] <= 1 and plan.rule["probability"] >= least


def test_marks_are_stored_with_the_answer(workbench, task):
    annotation = workbench.annotation
    annotation.consent(ANN)
    pair = annotation.prepare(task.id, ANN)
    annotation.mark(task.id, pair.id, Span("m1", pair.traces[1], 0, 2, "bad"), ANN)
    with pytest.raises(UnknownRecord):
        annotation.mark(task.id, pair.id, Span("m2", "elsewhere", 0, 1, "bad"), ANN)
    assert [(span.trace_id, span.start, span.end, span.label) for span in annotation.marks(pair, ANN)] == [(pair.traces[1], 0, 2, "bad")]
    assert annotation.marks(pair, BOB) == []


def test_delete_my_votes_erases_them_and_nothing_else(workbench, task):
    annotation, store = workbench.annotation, workbench.store
    for visitor in (ANN, BOB):
        annotation.consent(visitor)
    pair, other = annotation.prepare(task.id, ANN), annotation.prepare(task.id, BOB)
    annotation.vote(task.id, Vote("v1", pair.id, "skip"), ANN, broken=True, token=annotation.vote_token(pair, ANN))
    say(annotation, task, pair, ANN, comment="my own words")
    annotation.mark(task.id, pair.id, Span("m1", pair.traces[0], 0, 1, "good"), ANN)
    say(annotation, task, other, BOB)
    assert annotation.erase(ANN) == {"vote_flags": 1, "votes": 2, "marks": 1}
    assert store.votes(pair.id) == () and store.num_votes() == 1 and annotation.marks(pair, ANN) == [] and len(store.votes(other.id)) == 1
    assert annotation.progress(task.id, ANN).voted == 0 and annotation.progress(task.id, ANN).consent_at == ""
    with store._reading() as conn:
        (event,) = conn.execute("SELECT kind, detail FROM events").fetchall()
        assert (event["kind"], json.loads(event["detail"])) == ("votes_erased", {"votes": 2, "marks": 1})
        facets = conn.execute("SELECT name FROM comparison_facets WHERE kind = 'voted'").fetchall()
        assert {row["name"] for row in facets} == {"", workbench.raters.find(BOB)}
    with pytest.raises(StoreError, match="facts"):
        store._write(lambda conn: conn.execute("DELETE FROM votes"))
    workbench.close()  # what was written last is in the file then
    assert not any(b"my own words" in file.read_bytes() for file in workbench.settings.data_dir.glob("rgtg.db*"))


def test_guidelines_are_kept_in_every_version(tmp_path):
    guidelines = Guidelines(tmp_path / "guidelines.json")
    assert guidelines.current() == ("", "")
    assert [guidelines.change(text) for text in ("a", "a", "b")] == ["1", "1", "2"]
    assert guidelines.current() == ("2", "b") and [one["text"] for one in guidelines.versions()] == ["a", "b"]


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"prompts": ()}, "1 to 10,000 prompts"),
        ({"prompts": ("a", " ")}, "Prompt 2 has 1"),
        ({"columns": ("base", "base")}, "nothing to compare"),
        ({"num_answers": 4}, "2 to 3 answers"),
        ({"num_answers": 3, "rule": "thompson"}, "drawn uniformly"),
        ({"rule": "best"}, "no rule `best`"),
        ({"num_pairs": 0}, "1 to 10,000 pairs"),
        ({"overlap": 1.5}, "`overlap` is 1.5"),
        ({"title": " "}, "one line"),
    ],
)
def test_a_task_that_is_none_is_refused_in_words(changes: dict, words: str):
    with pytest.raises(BadSettings, match=words):
        a_task(**changes).check()


# --- raters who leave -------------------------------------------------------------------------------------------------


class Clock:
    def __init__(self, at: float = 1_000_000.0):
        self.at = at

    def __call__(self) -> float:
        return self.at


def shown(current: Round, rater: str, rng) -> Pair:
    plan = current.plan(rater, rng)
    if plan.pair:
        current.show(plan.pair, rater)
        return plan.pair
    name = f"p{len(current.pairs)}"
    return current.add(Pair(name, (f"{name}-0", f"{name}-1"), plan.rule), rater)


def test_a_pair_that_a_rater_left_is_free_again_after_an_hour_and_his_vote_still_counts():
    clock, rng = Clock(), np.random.default_rng(0)
    current = Round(a_task(overlap=0, repeats=0), clock=clock)
    first, second = shown(current, "ann", rng), shown(current, "ann", rng)
    clock.at += LAPSE - 1
    assert shown(current, "bob", rng) is not first
    current.heard("ann")  # she reads on
    clock.at += LAPSE - 1
    assert shown(current, "bob", rng) not in (first, second)
    clock.at += 2
    assert shown(current, "bob", rng) is first and first.raters == ["bob"] and current.waiting("ann") == []
    current.say(first, "ann", "best", "p0-0")
    assert first.raters == ["bob", "ann"] and current.progress("ann") == 1 and [pair.id for pair in current.of_task("ann")] == ["p0"]
    assert shown(current, "ann", rng) is second  # hers again: nobody else took it
    current.say(second, "ann", "tie")
    clock.at += 10 * LAPSE
    assert shown(current, "cat", rng) not in (first, second), "what was voted on is not free"


def test_the_overlap_fills_up_where_raters_leave():
    """Each shared pair goes to whoever has fewest raters: one that was left counts nobody."""
    clock, rng = Clock(), np.random.default_rng(0)
    current = Round(a_task(overlap=1, repeats=0), clock=clock)
    pairs = [shown(current, "ann", rng) for _ in range(3)]
    for pair in pairs[:2]:
        current.say(pair, "ann", "best", pair.traces[0])
    clock.at += LAPSE + 1
    assert shown(current, "bob", rng) is pairs[2] and pairs[2].raters == ["bob"]
    assert {shown(current, "bob", rng).id for _ in range(2)} == {"p0", "p1"} and pairs[0].raters == ["ann", "bob"]


def test_a_clock_that_goes_back_frees_nothing_early_and_no_pair_is_kept_for_ever(workbench, task):
    clock, rng = Clock(), np.random.default_rng(0)
    current = Round(a_task(overlap=0, repeats=0), clock=clock)
    first = shown(current, "ann", rng)
    clock.at -= 100 * LAPSE
    assert shown(current, "bob", rng) is not first
    clock.at += LAPSE + 1
    assert shown(current, "cat", rng) is first
    made = workbench.annotation.prepare(task.id, ANN)  # and as it is read from the database
    stored = workbench.store.annotation.pairs(task.id)
    at = datetime.fromisoformat(workbench.store.comparison(made.id).created_at).timestamp()
    for later, free in ((0, False), (LAPSE + 1, True), (-100 * LAPSE, False)):
        again = Round(task, stored, Clock(at + later))
        assert (shown(again, "bob", rng).id == made.id) is free


# --- gold pairs -----------------------------------------------------------------------------------------------------------


def gold_file(tmp_path: Path, *rows: dict) -> str:
    path = tmp_path / "gold.jsonl"
    known = [{"prompt": f"question {i}", "chosen": f"a good answer {i}", "rejected": f"a bad one {i}"} for i in range(3)]
    path.write_text("\n".join(map(json.dumps, rows or known)))
    return str(path)


def test_gold_pairs_from_a_file_are_mixed_in_and_seen_by_every_rater_once(workbench, tmp_path):
    annotation = workbench.annotation
    made = annotation.add_task(
        a_task(gold_share=0.3, overlap=0, repeats=0, num_pairs=10),
        [parse_run(one, GenerationConfig()) for one in COLUMNS],
        gold=annotation.gold_in(gold_file(tmp_path)),
    )
    for visitor in (ANN, BOB):
        annotation.consent(visitor)
        shown = []
        while (pair := annotation.prepare(made.id, visitor)) is not None:
            shown.append(pair)
            say(annotation, made, pair, visitor, best=0, dwell_ms=9_000)
        gold = [pair for pair in shown if pair.is_gold]
        assert len(shown) == made.num_pairs and len(gold) == len({pair.id for pair in gold}) == 3
    texts = {trace.response for pair in gold for trace in annotation.shown(pair).traces}
    assert texts == {f"a {kind} {i}" for kind in ("good answer", "bad one") for i in range(3)}
    found = workbench.store.annotation.conduct()
    assert [one.num_gold for one in found.values()] == [3, 3] and found[workbench.raters.find(ANN)].gold_failed == sum(
        annotation.shown(pair).traces[0].response.startswith("a bad") for pair in gold
    )
    ballots, _ = workbench.store.ballots(lambda run: run.method)
    assert not {ballot.comparison_id for ballot in ballots} & {pair.id for pair in gold}, "they test the rater, not what made the answers"


@pytest.mark.parametrize(
    ("row", "words"),
    [
        ({"prompt": "q", "chosen": "same", "rejected": "same"}, "answers of a gold pair differ"),
        ({"prompt": "q", "chosen": "x" * 30_000, "rejected": "no"}, "`better` has 30,000"),
        ({"prompt": "q", "completion": "yes", "label": True}, "is no preference of texts"),
    ],
)
def test_a_file_without_gold_pairs_is_refused_with_the_reason(workbench, tmp_path, row, words):
    with pytest.raises(RgtgError, match=words):
        workbench.annotation.gold_in(gold_file(tmp_path, row))


def test_a_pair_that_an_administrator_chose_is_gold_for_others_also_after_a_restart(workbench, task):
    annotation = workbench.annotation
    annotation.consent(ANN)
    pair, other = annotation.prepare(task.id, ANN), annotation.prepare(task.id, ANN)
    with pytest.raises(BadSettings, match="You have not preferred one of these"):
        annotation.choose_gold(task.id, pair.id, ANN)
    say(annotation, task, pair, ANN, best=1)
    assert annotation.choose_gold(task.id, pair.id, ANN).is_gold and not other.is_gold
    again = Round(task, workbench.store.annotation.pairs(task.id))
    assert [one.is_gold for one in again.pairs.values()] == [True, False]
    rng = np.random.default_rng(0)
    plans = []
    while (plan := again.plan("bob", rng)) is not None:
        plans.append(plan)
        again.show(plan.pair, "bob") if plan.pair else again.add(Pair(new_id(), ("x", "y"), plan.rule), "bob")
    assert [plan.pair.id for plan in plans if plan.pair] == [pair.id] and len(plans) == task.num_pairs
