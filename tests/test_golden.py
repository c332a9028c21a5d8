"""What the engine wrote before, it writes today: token for token, and every stored run opens, replays and branches."""

import json
import shutil
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import pytest

from rgtg.config import GenerationConfig, Settings
from rgtg.engine import Ended, Models, generate, make_run
from rgtg.models.lm import BaseLM
from rgtg.models.loading import load_causal_lm
from rgtg.records import ColumnSpec, Step
from rgtg.rewards.kinds import load_reward_model
from rgtg.store.store import Store
from rgtg.workbench.workbench import Workbench

GOLDEN = Path(__file__).parent / "golden"
OPENINGS = 50


@pytest.fixture(scope="module")
def models(starter: Path) -> Models:
    names = ("partial", "full", "vocabulary", "autoregressive", "judge")
    lm = BaseLM.of(load_causal_lm(str(starter / "base-lm"), "starter", device="cpu"))
    return Models(lm, {name: load_reward_model(str(starter / name), name, device="cpu") for name in names})


def settings(every: int) -> Iterator[list[dict]]:
    """The lines of each setting, of every so many openings."""
    found = defaultdict(list)
    for line in (GOLDEN / "tokens.jsonl").read_text(encoding="utf-8").splitlines():
        answer = json.loads(line)
        found[answer["method"], answer["temperature"], answer["seed"]].append(answer)
    assert len(found) == 24 and all(len(answers) == OPENINGS for answers in found.values())
    for answers in found.values():
        yield answers[::every]


def written(answers: list[dict], models: Models) -> Iterator[tuple[list[int], str, dict[str, float]]]:
    """(token ids, stop reason, rewards of the complete answer) of each line's run, all in one batch."""
    runs = [
        make_run(
            a["prompt"], a["method"], models, tuple(a["params"].items()), a["reward_model"], ("judge",),
            GenerationConfig(temperature=a["temperature"]), a["seed"],
        )
        for a in answers
    ]  # fmt: skip
    steps: list[list[Step]] = [[] for _ in runs]
    reasons = [""] * len(runs)
    for column, event in generate(runs, models):
        if isinstance(event, Step):
            steps[column].append(event)
        elif isinstance(event, Ended):
            reasons[column] = event.stop_reason
    for taken, reason in zip(steps, reasons, strict=True):
        yield [s.token_id for s in taken], reason, dict(taken[-1].rewards)


def check(every: int, models: Models) -> None:
    for answers in settings(every):
        for answer, (ids, reason, rewards) in zip(answers, written(answers, models), strict=True):
            assert (ids, reason) == (answer["token_ids"], answer["stop_reason"]), answer
            assert rewards == pytest.approx(answer["rewards"], abs=2e-3), answer


def test_an_eightieth_of_the_golden_answers_is_written_again(models: Models):
    check(80, models)


@pytest.mark.slow
def test_every_golden_answer_is_written_again(models: Models):
    check(1, models)


def test_a_database_of_the_first_schema_opens_and_its_runs_replay_to_the_same_tokens(models: Models, tmp_path: Path):
    path = tmp_path / "rgtg.db"
    shutil.copy(GOLDEN / "store-schema-1.sqlite3", path)
    with Store(path) as store:
        facts = list(store.facts())  # raises where a row does not fit its hash
        assert store.num_votes() == 1 and sum(len(votes) for _, votes in facts) == 4
    traces = [trace for comparison, _ in facts for trace in comparison.traces]
    assert len(traces) == 14 and sum(trace.parent_trace_id is not None for trace in traces) == 6
    steps: list[list[Step]] = [[] for _ in traces]
    for column, event in generate([trace.run for trace in traces], models):
        if isinstance(event, Step):
            steps[column].append(event)
    for trace, taken in zip(traces, steps, strict=True):
        given = len(trace.run.forced_ids[:-1])  # what a branch repeats is not written again
        assert tuple(s.token_id for s in taken) == trace.token_ids[given:], trace.column
        for old, new in zip(trace.steps[given:], taken, strict=True):
            assert dict(new.rewards) == pytest.approx(dict(old.rewards), abs=2e-3)
            assert (new.text, new.rank_before, new.rank_after) == (old.text, old.rank_before, old.rank_after)


@pytest.mark.slow
def test_an_old_comparison_branches_and_keeps_what_it_had(tmp_path: Path):
    shutil.copy(GOLDEN / "store-schema-1.sqlite3", tmp_path / "rgtg.db")
    workbench = Workbench(Settings(data_dir=tmp_path, device="cpu"))
    old = workbench.store.comparisons()[-1]
    parent = old.traces[1]
    other = next(c for c in parent.steps[3].candidates if c.token_id != parent.steps[3].token_id)
    for _ in workbench.branch(old.id, parent.id, 3, other.token_id):
        pass
    found = workbench.comparison(old.id)
    workbench.close()
    assert found.traces[:-1] == old.traces
    assert found.traces[-1].token_ids[:4] == (*parent.token_ids[:3], other.token_id) and found.traces[-1].parent_trace_id == parent.id


@pytest.mark.slow
def test_a_threshold_of_minus_infinity_is_stored_and_opens(tmp_path: Path):
    workbench = Workbench(Settings(data_dir=tmp_path, device="cpu"))
    running = workbench.compare(
        "the food was", [ColumnSpec("cards", (("threshold", float("-inf")),)), ColumnSpec("base")], GenerationConfig(max_new_tokens=6)
    )
    for _ in running:
        pass
    found = workbench.store.comparison(running.id)
    workbench.close()
    assert dict(found.traces[0].run.params)["threshold"] == float("-inf") and found.traces[0].token_ids == found.traces[1].token_ids
