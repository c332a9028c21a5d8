"""The verbs of the app on tiny models made here: compare, branch, vote while running, undo, reopen, export."""

import errno
import json
import threading
from pathlib import Path

import pytest
from tiny_models import save
from transformers import AutoModelForSequenceClassification

from rgtg.config import GenerationConfig, Settings
from rgtg.engine import Ended
from rgtg.errors import BadReward, BadSettings, ModelNotFound, ModelRefused, StoreBusy, StoreError, UnknownRecord
from rgtg.records import ColumnSpec, ModelCard, Step, Vote
from rgtg.workbench.further import on_screen
from rgtg.workbench.workbench import Workbench


@pytest.fixture
def workbench(folders, tmp_path, monkeypatch):
    monkeypatch.setattr("rgtg.workbench.library.STARTER_DIR", tmp_path / "none")
    found = Workbench(Settings(data_dir=tmp_path / "data"), [folders["lm"]], [folders["partial"], folders["full"], folders["judge"]])
    yield found
    found.close()


GENERATION = GenerationConfig(max_new_tokens=12)


def finished(running):
    for _ in running:
        pass
    return running.comparison


def test_the_first_line_up_has_a_guide_of_each_kind_of_training(workbench):
    assert [(c.method, c.reward_model) for c in workbench.default_columns()] == [("base", None), ("args", "f"), ("pargs", "p")]


def test_loading_in_the_background_ends_ready(workbench):
    assert workbench.status().state == "loading"
    workbench.start_loading()
    workbench.wait_until_ready(60)
    assert workbench.status().state == "ready" and workbench.status().text == "models ready · cpu"


def test_at_the_start_only_what_the_first_line_up_needs_is_loaded(workbench):
    card = ModelCard("reward_model", "more", objective="partial", base_lm="tiny")
    workbench.library.catalog.add(save(workbench.settings.data_dir / "more", AutoModelForSequenceClassification, 5, card), "reward_model")
    workbench.start_loading()
    workbench.wait_until_ready(60)
    assert set(workbench.library.in_memory()) == {"tiny", "p", "f", "j"}
    chosen = finished(workbench.compare("the", [ColumnSpec("pargs", (), "more")], GENERATION))
    assert chosen.traces[0].stop_reason != "error" and "more" in workbench.library.in_memory()


def test_a_bad_reward_model_at_the_start_does_not_keep_the_page_from_working(folders, tmp_path, monkeypatch):
    monkeypatch.setattr("rgtg.workbench.library.STARTER_DIR", tmp_path / "none")
    card = ModelCard("reward_model", "bad", objective="partial", base_lm="tiny")
    bad = Path(save(tmp_path / "bad", AutoModelForSequenceClassification, 5, card))
    (bad / "model.safetensors").write_bytes(b"half")
    bench = Workbench(Settings(data_dir=tmp_path / "data", device="cpu"), [folders["lm"]], [str(bad), folders["full"]])
    try:
        bench.start_loading()
        bench.wait_until_ready(60)
        assert bench.status().state == "ready"
        with pytest.raises(ModelRefused, match="bad"):
            bench.compare("the", bench.default_columns(), GENERATION)
        assert finished(bench.compare("the", [ColumnSpec("args", (), "f")], GENERATION, observers=[])).traces[0].stop_reason != "error"
    finally:
        bench.close()


def test_a_comparison_is_stored_whole_and_comes_back_equal(workbench):
    comparison = finished(workbench.compare("the food", workbench.default_columns(), GENERATION, seed=5))
    assert [t.column for t in comparison.traces] == ["A", "B", "C"]
    assert comparison.state == "closed" and workbench.running(comparison.id) is None
    stored = workbench.comparison(comparison.id)
    assert [t.steps for t in stored.traces] == [t.steps for t in comparison.traces]
    assert [t.run for t in stored.traces] == [t.run for t in comparison.traces]
    base, full, partial = stored.traces
    assert {name for name, _ in base.steps[0].rewards} == {"f", "p", "j"} and base.steps[0].candidates[0].rewards == ()
    assert full.steps[0].rewards[0][0] == "f" and partial.steps[0].candidates[0].rewards[0][0] == "p"
    assert base.response == "".join(s.text for s in base.steps)


def test_a_stored_run_gives_the_same_tokens_again(workbench):
    from rgtg.engine import generate

    comparison = finished(workbench.compare("abc", workbench.default_columns(), GENERATION, seed=9))
    runs = [t.run for t in workbench.comparison(comparison.id).traces]
    again = [[] for _ in runs]
    for column, event in generate(runs, workbench.library.load_models(None, ["p", "f", "j"])):
        if isinstance(event, Step):
            again[column].append(event.token_id)
    assert [list(t.token_ids) for t in comparison.traces] == again


def test_a_vote_while_it_runs_stops_it_and_stores_text_and_vote_together(workbench):
    running = workbench.compare("the", workbench.default_columns(), GenerationConfig(max_new_tokens=60), seed=1)
    stream = iter(running)
    for _ in range(9):
        next(stream)
    vote = workbench.vote(running.id, "best", running.traces[1].id, vote_id="v1")
    rest = list(stream)
    stored = workbench.comparison(running.id)
    # what `p` guides is observed by `f`, whose turn comes first: it is read, and shown, a round later
    assert len(rest) == 0 and [len(t.steps) for t in stored.traces] == [4, 3, 2]
    assert {t.stop_reason for t in stored.traces} == {"stopped"}
    assert workbench.current_vote(running.id) == vote and vote.seen_trace_ids == tuple(t.id for t in stored.traces)


def test_a_listener_who_leaves_early_loses_nothing(workbench):
    running = workbench.compare("the", [ColumnSpec("base")], GenerationConfig(max_new_tokens=60))
    stream = iter(running)
    next(stream), next(stream)
    stream.close()
    stored = workbench.comparison(running.id)
    assert len(stored.traces[0].steps) == 2 and stored.traces[0].stop_reason == "stopped"


def test_nothing_generated_is_an_abandoned_comparison(workbench):
    running = workbench.compare("the", [ColumnSpec("base")], GENERATION)
    running.close()
    assert workbench.comparison(running.id).state == "abandoned"


def test_votes_and_generation_in_two_threads_end_with_one_comparison_and_the_vote(workbench):
    running = workbench.compare("the", workbench.default_columns(), GenerationConfig(max_new_tokens=60), seed=2)
    begun = threading.Event()

    def run():
        for _ in running:
            begun.set()

    thread = threading.Thread(target=run)
    thread.start()
    begun.wait(30)
    vote = workbench.vote(running.id, "tie")
    thread.join(30)
    stored = workbench.comparison(running.id)
    assert workbench.current_vote(running.id).id == vote.id
    assert [t.steps for t in stored.traces] == [t.steps for t in running.traces]


def test_undo_takes_the_vote_back_and_a_second_undo_says_that_there_is_nothing(workbench):
    comparison = finished(workbench.compare("the", [ColumnSpec("base")] * 2, GENERATION))
    workbench.vote(comparison.id, "best", comparison.traces[0].id)
    assert workbench.undo(comparison.id) is None and workbench.store.votes(comparison.id)[-1].verdict == "withdrawn"
    assert workbench.current_vote(comparison.id) is None
    with pytest.raises(StoreError):
        workbench.undo(comparison.id)


def test_a_branch_shares_the_prefix_and_names_its_parent(workbench):
    comparison = finished(workbench.compare("the", workbench.default_columns(), GENERATION, seed=4))
    parent = comparison.traces[2]
    other = next(c for c in parent.steps[3].candidates if c.token_id not in (parent.steps[3].token_id, 1))
    running = workbench.branch(comparison.id, parent.id, 3, other.token_id)
    finished(running)
    stored = workbench.comparison(comparison.id)
    branch = stored.traces[3]
    assert (branch.column, branch.parent_trace_id, branch.branch_position) == ("D", parent.id, 3)
    assert branch.steps[:3] == parent.steps[:3] and branch.steps[3].token_id == other.token_id
    assert [s.position for s in branch.steps] == list(range(len(branch.steps)))
    assert branch.response == "".join(s.text for s in branch.steps)
    same = workbench.branch(comparison.id, parent.id, 3, parent.steps[3].token_id)
    assert finished(same).traces[-1].token_ids == parent.token_ids


def test_a_branch_of_best_of_n_keeps_to_the_road_taken(workbench):
    comparison = finished(workbench.compare("the", [ColumnSpec("best-of-n", (("n", 3),))], GENERATION, seed=4))
    parent = comparison.traces[0]
    other = next(c for c in parent.steps[2].candidates if c.token_id not in (parent.steps[2].token_id, 1))
    branch = finished(workbench.branch(comparison.id, parent.id, 2, other.token_id)).traces[-1]
    assert branch.token_ids[:3] == (*parent.token_ids[:2], other.token_id)
    assert branch.stop_reason in ("eos", "max_new_tokens") and not branch.error


def test_bad_branches_are_refused_and_nothing_is_stored(workbench):
    comparison = finished(workbench.compare("the", [ColumnSpec("base")], GENERATION))
    trace = comparison.traces[0]
    with pytest.raises(UnknownRecord):
        workbench.branch("nothing", trace.id, 0, 3)
    with pytest.raises(UnknownRecord):
        workbench.branch(comparison.id, "nothing", 0, 3)
    with pytest.raises(BadSettings, match="has to start at a token of the answer"):
        workbench.branch(comparison.id, trace.id, 400, 3)
    stranger = next(i for i in range(3, 99) if i not in [c.token_id for c in trace.steps[0].candidates])
    with pytest.raises(BadSettings, match="one of the candidates"):
        workbench.branch(comparison.id, trace.id, 0, stranger)
    assert len(workbench.comparison(comparison.id).traces) == 1


def test_a_vote_on_a_branch_exports_as_a_pair_with_the_common_prefix_known(workbench, tmp_path):
    comparison = finished(workbench.compare("the", [ColumnSpec("base")], GENERATION, seed=8))
    parent = comparison.traces[0]
    other = next(c for c in parent.steps[2].candidates if c.token_id not in (parent.steps[2].token_id, 1))
    branch = finished(workbench.branch(comparison.id, parent.id, 2, other.token_id)).traces[-1]
    workbench.vote(comparison.id, "best", branch.id, (parent.id, branch.id))
    report = workbench.export(tmp_path / "out.jsonl")
    rows = [json.loads(line) for line in report.path.read_text().splitlines()]
    assert report.num_pairs == len(rows) == 1
    assert (rows[0]["prompt"], rows[0]["chosen"], rows[0]["rejected"]) == ("the", branch.response, parent.response)
    assert rows[0]["comparison_id"] == comparison.id


def test_what_cannot_run_is_refused_with_words(workbench, folders):
    with pytest.raises(BadSettings, match="1 to 6 columns"):
        workbench.compare("x", [], GENERATION)
    with pytest.raises(BadSettings, match="seed"):
        workbench.compare("x", [ColumnSpec("base")], GENERATION, seed=-1)
    with pytest.raises(ModelNotFound, match="no reward model `helpful`"):
        workbench.compare("x", [ColumnSpec("args", (), "helpful")], GENERATION)
    with pytest.raises(ModelRefused, match="observes and never guides"):
        workbench.compare("x", [ColumnSpec("args", (), "j")], GENERATION)
    workbench.library.catalog.add(folders["headless"], "reward_model")
    with pytest.raises(ModelRefused, match="no trained head"):
        workbench.compare("x", [ColumnSpec("args", (), folders["headless"])], GENERATION)
    with pytest.raises(UnknownRecord):
        workbench.comparison("nothing")


def test_a_failing_column_is_kept_with_its_error(workbench):
    import torch

    running = workbench.compare("x", workbench.default_columns(), GENERATION)
    head = running._models.reward_models["f"].head.weight
    kept = head.clone()
    with torch.no_grad():
        head.fill_(float("nan"))
    try:
        ends = {i: e for i, e in running if isinstance(e, Ended)}
    finally:
        with torch.no_grad():
            head.copy_(kept)
    assert ends[1].stop_reason == "error" and "`f`" in ends[1].error
    stored = workbench.comparison(running.id)
    assert stored.traces[1].error == ends[1].error


def test_score_gives_a_reward_for_every_token(workbench):
    found = workbench.score("p", "ab", "cde")
    assert found["tokens"] == ["c", "d", "e"] and len(found["rewards"]) == 3


def test_score_of_a_complete_answer_has_the_end_token_last(workbench):
    text, complete = (workbench.score("p", "ab", "cde", complete=complete) for complete in (False, True))
    assert complete["tokens"] == ["c", "d", "e", ""] and complete["rewards"][:3] == pytest.approx(text["rewards"], abs=1e-4)
    model = workbench.library.reward_model("p")
    prompt_ids = model.loaded.encode_prompt("ab")
    ids = [*model.loaded.encode_prompt("abcde")[len(prompt_ids) :], 1]
    assert complete["rewards"][3] == pytest.approx(model.along(prompt_ids, [ids])[0][-1], abs=1e-4)
    assert workbench.score("p", "ab", "", complete=True)["tokens"] == [""], "an answer that ends at once"


def test_an_answer_that_cannot_end_is_not_scored_as_complete(workbench):
    loaded = workbench.library.reward_model("p").loaded
    loaded.__dict__["closing"] = ()
    with pytest.raises(BadSettings, match="cannot score a complete answer. Its tokenizer has no end token"):
        workbench.score("p", "ab", "cde", complete=True)
    del loaded.__dict__["closing"]


# --- nothing is lost ----------------------------------------------------------------------------------------------------


def halfway(workbench, columns, steps: int):
    """A comparison that has made so many tokens and waits."""
    running = workbench.compare("the food", columns, GENERATION, seed=1)
    stream = iter(running)
    made = 0
    while made < steps:
        made += isinstance(next(stream)[1], Step)
    return running, stream


def test_a_vote_for_an_answer_without_a_token_is_refused_and_the_run_goes_on(workbench):
    columns = [ColumnSpec("base"), ColumnSpec("best-of-n", (("n", 2),), "p")]
    running, stream = halfway(workbench, columns, 2)
    first, second = running.traces
    assert (len(first.steps), len(second.steps)) == (2, 0)
    with pytest.raises(StoreError, match="no token yet"):
        workbench.vote(running.id, "best", second.id, [first.id])
    for _ in stream:
        pass
    assert len(workbench.comparison(running.id).traces[0].steps) > 2
    assert workbench.vote(running.id, "best", second.id, [first.id, second.id]).best_trace_id == second.id


def test_a_vote_that_is_refused_costs_no_answers(workbench):
    running, stream = halfway(workbench, workbench.default_columns(), 6)
    with pytest.raises(StoreError, match="another comparison"):
        workbench.vote(running.id, "best", "gone", [running.traces[0].id, "gone"])
    assert workbench.running(running.id) is running, "it goes on"
    with pytest.raises(StoreError, match="another comparison"):  # refused by the database, whatever was checked before
        running.keep(Vote("v", running.id, "best", "gone", (running.traces[0].id, "gone")))
    assert list(stream) == []
    stored = workbench.store.comparison(running.id)
    assert sum(len(t.steps) for t in stored.traces) == 6 and workbench.running(running.id) is None
    assert workbench.vote(running.id, "tie").verdict == "tie"


def test_what_could_not_be_stored_at_the_end_is_stored_with_the_next_vote(workbench, monkeypatch):
    running = workbench.compare("the food", [ColumnSpec("base")], GENERATION, seed=1)
    with monkeypatch.context() as broken:
        broken.setattr(type(workbench.store), "add_comparison", lambda *_: (_ for _ in ()).throw(StoreBusy("Nothing was stored.")))
        assert len([event for event in running if isinstance(event[1], Ended)]) == 1, "the text is worth showing"
        assert isinstance(running.not_stored, StoreBusy)
        with pytest.raises(StoreBusy):
            workbench.vote(running.id, "tie")
    assert workbench.comparison(running.id).traces[0].steps, "still there"
    assert workbench.vote(running.id, "tie").verdict == "tie"
    assert workbench.store.comparison(running.id).traces[0].steps and workbench.running(running.id) is None


def test_after_closing_nothing_opens_again(folders, tmp_path):
    bench = Workbench(Settings(data_dir=tmp_path, device="cpu"), [folders["lm"]])
    bench.close()
    for ask in (lambda: bench.store, lambda: bench.trainings.jobs):
        with pytest.raises(StoreError, match="closing"):
            ask()


def test_where_the_database_cannot_be_made_everything_that_needs_no_disk_works(folders, tmp_path, monkeypatch):
    monkeypatch.setattr("rgtg.workbench.library.STARTER_DIR", tmp_path / "none")
    (tmp_path / "file").write_text("x")
    bench = Workbench(Settings(data_dir=tmp_path / "file" / "data", device="cpu"), [folders["lm"]], [folders["partial"]])
    bench.start_loading()
    bench.wait_until_ready(60)
    assert bench.status().state == "ready"
    assert "models ready · cpu · nothing is stored: The database `rgtg.db` cannot be created" in bench.status().text
    running = bench.compare("the food", bench.default_columns(), GENERATION, seed=1)
    assert len([event for _, event in running if isinstance(event, Ended)]) == 3
    assert "a part of this path is a file" in str(running.not_stored)
    with pytest.raises(StoreError, match="cannot be created"):
        bench.vote(running.id, "tie")
    (tmp_path / "file").unlink()  # it was put right meanwhile
    assert bench.vote(running.id, "tie").verdict == "tie" and bench.status().text == "models ready · cpu"
    bench.close()


def test_a_full_disk_at_the_first_start_is_said_and_leaves_the_models(folders, tmp_path, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device", "rgtg.db")

    monkeypatch.setattr("rgtg.workbench.library.STARTER_DIR", tmp_path / "none")
    monkeypatch.setattr("rgtg.store.connection.migrate", full)
    bench = Workbench(Settings(data_dir=tmp_path / "data", device="cpu"), [folders["lm"]])
    bench.start_loading()
    bench.wait_until_ready(60)
    assert "nothing is stored" in bench.status().text and "The disk is full" in bench.status().text
    bench.close()


def test_models_that_cannot_be_used_are_counted_in_the_status(folders, tmp_path, monkeypatch):
    monkeypatch.setattr("rgtg.workbench.library.STARTER_DIR", tmp_path / "none")
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad" / "config.json").write_text("[]")
    bench = Workbench(Settings(data_dir=tmp_path / "data", device="cpu"), [str(tmp_path / "bad"), folders["lm"]])
    bench.start_loading()
    bench.wait_until_ready(60)
    assert bench.status().text == "models ready · cpu · 1 model cannot be used, see Models"
    bench.close()


def test_a_reward_that_is_not_finite_is_named_with_its_token(workbench, monkeypatch):
    model = workbench.library.reward_model("p")
    monkeypatch.setattr(type(model), "along", lambda self, prompt, texts: [[0.5, float("nan")]])
    with pytest.raises(BadReward, match=r"`p` returned a reward that is not finite\. Found NaN or infinity at token 2"):
        workbench.score("p", "a", "bc")


# --- on from where it was stopped ---------------------------------------------------------------------------------------


def test_a_vote_before_the_end_keeps_what_was_seen_and_the_run_goes_on_as_it_would_have(workbench, tmp_path):
    columns = [*workbench.default_columns(), ColumnSpec("genarm", (), "p")][:3]
    whole = finished(workbench.compare("the food", columns, GENERATION, seed=3))
    running = workbench.compare("the food", columns, GENERATION, seed=3)
    stream = iter(running)
    while min(len(t.steps) for t in running.traces) < 4:
        next(stream)
    vote = workbench.vote(running.id, "best", running.traces[1].id)
    seen = workbench.comparison(running.id).traces
    assert list(stream) == [] and {t.stop_reason for t in seen} == {"stopped"}

    onward = workbench.go_on(running.id)
    positions = [event.position for index, event in onward if index == 0 and isinstance(event, Step)]
    assert positions == list(range(len(seen[0].steps), GENERATION.max_new_tokens)), "no token is told twice"
    stored = workbench.comparison(running.id)
    assert stored.traces[:3] == seen and workbench.current_vote(running.id) == vote
    assert [t.parent_trace_id for t in stored.traces[3:]] == [t.id for t in seen]
    assert [(t.column, t.token_ids, t.response, t.stop_reason) for t in on_screen(stored)] == [
        (t.column, t.token_ids, t.response, t.stop_reason) for t in whole.traces
    ]
    assert [t.branch_position for t in on_screen(stored)] == [None] * 3, "it is no branch"
    rows = exported(workbench, tmp_path)
    assert [(row["chosen"], row["rejected"]) for row in rows] == [(seen[1].response, seen[i].response) for i in (0, 2)]
    with pytest.raises(BadSettings, match="nothing to continue"):
        workbench.go_on(running.id)

    workbench.vote(running.id, "best", on_screen(stored)[0].id)  # now on all of it
    assert {row["chosen"] for row in exported(workbench, tmp_path)} == {whole.traces[0].response}
    assert workbench.undo(running.id).best_trace_id == seen[1].id


def exported(workbench, folder: Path) -> list[dict]:
    return [json.loads(line) for line in workbench.export(folder / "pairs.jsonl").path.read_text().splitlines()]


def test_what_goes_on_can_be_stopped_again_and_branches_keep_their_letters(workbench):
    running, stream = halfway(workbench, [ColumnSpec("base"), ColumnSpec("best-of-n", (("n", 2),), "p")], 3)
    workbench.vote(running.id, "tie", seen_trace_ids=[running.traces[0].id])
    assert list(stream) == [] and len(workbench.comparison(running.id).traces[1].steps) == 0
    for _ in range(2):
        running = workbench.go_on(running.id)
        next(iter(running))
        workbench.vote(running.id, "tie")
    stored = workbench.comparison(running.id)
    assert [t.column for t in stored.traces] == ["A", "B"] * 3 and [t.column for t in on_screen(stored)] == ["A", "B"]
    parent = on_screen(stored)[0]
    other = next(c for c in parent.steps[1].candidates if c.token_id not in (parent.steps[1].token_id, 1))
    branch = finished(workbench.branch(running.id, parent.id, 1, other.token_id)).traces[-1]
    assert (branch.column, branch.place, branch.parent_trace_id, branch.branch_position) == ("C", 2, parent.id, 1)
    finished(workbench.go_on(running.id))
    assert len(on_screen(workbench.comparison(running.id))[0].steps) == 12


def test_a_comparison_without_a_token_does_not_go_on(workbench):
    running = workbench.compare("the", [ColumnSpec("base")], GENERATION)
    running.close()
    with pytest.raises(BadSettings, match="nothing to continue"):
        workbench.go_on(running.id)
