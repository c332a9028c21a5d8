"""Training reward models: every objective learns, a resume is the whole, memory that runs out changes nothing, a folder with its card comes out."""

import json
import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from tiny_models import byte_tokenizer, save_tiny, tiny
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification

from rgtg.errors import BadData, BadReward, BadSettings, ModelRefused
from rgtg.models.loading import load_causal_lm, load_classifier
from rgtg.preferences.batches import TokenPair, TokenText
from rgtg.records import ModelCard
from rgtg.training import checkpoints
from rgtg.training.config import TrainingConfig
from rgtg.training.evaluate import Evaluator
from rgtg.training.held_out import Measured
from rgtg.training.objectives import BCE, OBJECTIVES, Autoregressive, Regression, Vocabulary
from rgtg.training.pipeline import run_job, train_file
from rgtg.training.reward_trainer import PreferenceTrainer, Progress, schedule, train_reward_model
from rgtg.training.starts import add_lora

ROOT = Path(__file__).resolve().parent.parent
CONFIG = TrainingConfig(max_steps=6, batch_size=4, learning_rate=1e-3, dropout=0.0, logging_steps=1, bf16=False)


def taste(num: int = 8) -> list[TokenPair]:
    """The token 7 is liked wherever it stands."""
    draw = torch.Generator().manual_seed(0)
    ids = lambda n: tuple(torch.randint(10, 60, (n,), generator=draw).tolist())  # noqa: E731
    return [TokenPair((0, *ids(2)), (*ids(i % 3), 7, *ids(2), 1), (*ids(2), 8, *ids(i % 4), 1), labels=(1.0,)) for i in range(num)]


def model_of(objective: str = "partial") -> torch.nn.Module:
    kind = AutoModelForSequenceClassification if OBJECTIVES[objective].scalar else AutoModelForCausalLM
    return tiny("llama", kind, 1).requires_grad_(True)


def weights(model: torch.nn.Module) -> torch.Tensor:
    return torch.cat([w.detach().flatten() for w in model.parameters()])


def trained(config: TrainingConfig = CONFIG, items=None, **more) -> tuple[torch.Tensor, list[Progress]]:
    model, said = model_of(config.objective.key), []
    train_reward_model(model, items or taste(), 1, config, said.append, **more)
    return weights(model), said


@pytest.mark.parametrize("objective", [*OBJECTIVES, "implicit ce", "vocabulary soft sum both", "vocabulary prefixes", "partial pad linear"])
def test_every_objective_lowers_its_loss_on_eight_pairs(objective):
    name, *more = objective.split()
    options = {
        "ce": {"implicit": "ce"},
        "soft": {"tau": 1.0},
        "sum": {"constraint": "sum"},
        "both": {"constraint_on": "both"},
        "prefixes": {"compare": "prefixes"},
    }
    options |= {"pad": {"unequal_lengths": "pad"}, "linear": {"weights": "linear"}}
    objective = OBJECTIVES[name](**{k: v for key in more for k, v in options[key].items()})
    rates = {"learning_rate": 1e-2, "dropout": TrainingConfig.dropout} if objective.frozen else {"learning_rate": 3e-4}
    config = replace(CONFIG, batch_size=8, max_steps=6, **rates, objective=objective)
    _, said = trained(config)
    losses = [line.loss for line in said]
    step = 2 if objective.options.get("constraint") == "alternate" else 1  # pairs and values in turn
    assert len(losses) == 6 and losses[-step] < losses[0], losses


@pytest.mark.slow
def test_pairs_and_values_come_in_turn_within_one_pass_and_after_a_resume(tmp_path, monkeypatch):
    taught_by, whole = [], Vocabulary.pair_loss

    def loss(self, forward, batch, total, step, reference):
        found = [float(whole(self, forward, batch, total, turn, reference).detach()) for turn in (step, 0, 1)]
        taught_by.append("pairs" if found[0] == found[1] else "values" if found[0] == found[2] else found)
        return whole(self, forward, batch, total, step, reference)

    monkeypatch.setattr(Vocabulary, "pair_loss", loss)
    config = replace(CONFIG, objective=Vocabulary(), batch_size=2, max_steps=4)  # one pass over eight pairs
    trained(config)
    assert taught_by == ["pairs", "values", "pairs", "values"]
    taught_by.clear()
    train_reward_model(model_of("vocabulary"), taste(), 1, config, should_stop=stopped_after(3), folder=tmp_path, run="a")
    trained(config, folder=tmp_path, run="a")
    assert taught_by == ["pairs", "values", "pairs", "values"]


def test_labelled_texts_are_taught_by_their_objectives_alone():
    texts = [TokenText((0,), (7, 5, 1), 1.0), TokenText((0,), (8, 5, 1), 0.0)]
    _, said = trained(replace(CONFIG, objective=Regression()), texts)
    assert said[-1].loss < said[0].loss
    with pytest.raises(BadData, match="The objective `partial` needs pairs. The data is single texts with labels."):
        trained(CONFIG, texts)


def test_nothing_to_train_on_is_refused():
    with pytest.raises(BadData, match="nothing to train on"):
        train_reward_model(model_of(), [], 1, CONFIG)


@pytest.mark.slow
def test_the_same_seed_gives_the_same_model_and_another_another():
    config = replace(CONFIG, dropout=0.2)
    first, second, other = trained(config)[0], trained(config)[0], trained(replace(config, seed=1))[0]
    assert torch.equal(first, second) and not torch.equal(first, other)


def test_steps_batch_and_learning_rate_go_by_the_data_and_the_model():
    few, many = schedule(TrainingConfig(), 26, 4_000_000), schedule(TrainingConfig(), 100_000, 4_000_000)
    assert (few.batch_size, few.max_steps, few.learning_rate) == (16, 52, 2e-4)
    assert (many.batch_size, many.max_steps) == (64, 1563)
    assert schedule(TrainingConfig(), 26, 10**9).learning_rate == 1e-5 and schedule(TrainingConfig(lora=True), 26, 10**6).learning_rate == 5e-4
    assert schedule(CONFIG, 26, 10**9).max_steps == 6 and schedule(TrainingConfig(), 3, 10**6).batch_size == 3


def test_progress_says_how_far_it_is_and_what_is_measured():
    measured = iter(range(99))
    _, said = trained(measure=lambda model: next(measured) / 100)
    assert [line.step for line in said] == [1, 2, 3, 4, 5, 6] and {line.num_steps for line in said} == {6}
    assert said[-1].seconds_left == 0 and said[0].seconds_left > 0 and said[2].held_out_accuracy is not None


def test_a_loss_that_is_no_number_ends_it():
    model = model_of()
    with torch.no_grad():
        model.score.weight.fill_(float("nan"))
    with pytest.raises(BadReward, match="diverged. At step 1 the loss is nan"):
        train_reward_model(model, taste(), 1, CONFIG)


# --- memory -----------------------------------------------------------------------------------------------------------


def short_of_memory(monkeypatch, num_items: int) -> list[int]:
    seen, compute = [], PreferenceTrainer.compute_loss

    def loss(self, model, inputs, *args, **kwargs):
        if len(inputs["share"].items) > num_items:
            raise torch.OutOfMemoryError("CUDA out of memory.")
        seen.append(len(inputs["share"].items))
        return compute(self, model, inputs, *args, **kwargs)

    monkeypatch.setattr(PreferenceTrainer, "compute_loss", loss)
    return seen


def test_where_memory_runs_out_a_step_is_taken_in_halves_and_stays_the_same_step(monkeypatch):
    config = replace(CONFIG, batch_size=8)
    whole, said = trained(config)
    seen = short_of_memory(monkeypatch, 3)
    parts, said_in_parts = trained(config)
    assert seen == [2, 2, 2, 2] * 6, "eight pairs a step as before"
    assert [line.loss for line in said_in_parts] == pytest.approx([line.loss for line in said], abs=1e-5)
    torch.testing.assert_close(parts, whole, rtol=1e-3, atol=1e-4)


@pytest.mark.slow
def test_what_was_added_up_before_memory_ran_out_is_forgotten(monkeypatch):
    config = replace(CONFIG, batch_size=8)
    whole, _ = trained(config)
    calls, compute = [], PreferenceTrainer.compute_loss

    def loss(self, model, inputs, *args, **kwargs):
        calls.append(len(inputs["share"].items))
        if calls[-1] == 8 or calls == [8, 4, 4]:  # after the gradient of the first half is there
            raise torch.OutOfMemoryError("CUDA out of memory.")
        return compute(self, model, inputs, *args, **kwargs)

    monkeypatch.setattr(PreferenceTrainer, "compute_loss", loss)
    parts, _ = trained(config)
    assert calls[:7] == [8, 4, 4, 2, 2, 2, 2]
    torch.testing.assert_close(parts, whole, rtol=1e-3, atol=1e-4)


@pytest.mark.slow
def test_where_a_single_pair_does_not_fit_it_ends_with_the_reason(monkeypatch):
    short_of_memory(monkeypatch, 0)
    with pytest.raises(MemoryError, match="One pair at a time does not fit, with gradient checkpointing either: CUDA out of memory"):
        trained()


# --- checkpoints ------------------------------------------------------------------------------------------------------


def stopped_after(num_steps: int):
    asked = iter(range(1, 99))
    return lambda: next(asked) >= num_steps


def test_a_resumed_training_is_the_training(tmp_path):
    config = replace(CONFIG, dropout=0.2, save_steps=2)
    whole, said = trained(config)
    assert train_reward_model(model_of(), taste(), 1, config, should_stop=stopped_after(3), folder=tmp_path, run="a") is False
    assert [p.name for p in checkpoints.in_folder(tmp_path)] == ["checkpoint-3", "checkpoint-2"]
    resumed, rest = trained(config, folder=tmp_path, run="a")
    assert [line.step for line in rest] == [4, 5, 6]
    assert [line.loss for line in rest] == [line.loss for line in said[3:]]
    assert torch.equal(resumed, whole)


def test_a_damaged_checkpoint_and_one_of_another_training_are_passed_over(tmp_path):
    config = replace(CONFIG, save_steps=1)
    train_reward_model(model_of(), taste(), 1, config, should_stop=stopped_after(4), folder=tmp_path, run="a")
    newest = checkpoints.newest(tmp_path, "a")
    assert newest.name == "checkpoint-4" and checkpoints.newest(tmp_path, "b") is None
    content = bytearray((newest / "weights.safetensors").read_bytes())
    content[-1] ^= 1
    (newest / "weights.safetensors").write_bytes(content)
    assert checkpoints.newest(tmp_path, "a").name == "checkpoint-3"
    (tmp_path / "checkpoint-9.tmp").mkdir()
    (tmp_path / "checkpoint-8").mkdir()
    assert checkpoints.newest(tmp_path, "a").name == "checkpoint-3"


# --- from a file to a folder ------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def base(tmp_path_factory) -> Path:
    return save_tiny(tmp_path_factory.mktemp("base") / "tiny")


def job_folder(folder: Path, base: Path, num: int = 60, **job) -> Path:
    rows = [{"prompt": f"p{i}", "chosen": f"a{i % 7}b", "rejected": f"c{i % 5}"} for i in range(num)]
    folder.mkdir(parents=True)
    (folder / "pairs.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    training = {"max_steps": 6, "batch_size": 8, "learning_rate": 3e-3, "eval_fraction": 0.5, "logging_steps": 2}
    found = {"training": training, "base": str(base), "base_lm": "tiny", "parent": None, "name": "mine", "pairs": "pairs.jsonl", "seed": 3}
    (folder / "job.json").write_text(json.dumps(found | job))
    return folder


def test_a_job_leaves_a_model_with_its_card_and_says_how_far_it_is(tmp_path, base):
    news = []
    folder = job_folder(tmp_path / "job", base)
    run_job(folder, news.append, lambda: False)
    steps = [line for line in news if line["phase"] == "training"]
    assert [line["step"] for line in steps] == [2, 4, 6]
    assert set(steps[0]) >= {"step", "num_steps", "loss", "held_out_accuracy", "seconds_left"}
    card = ModelCard.read(folder / "model")
    assert (card.kind, card.name, card.objective, card.base_lm) == ("reward_model", "mine", "partial", "tiny")
    assert (card.parent, card.template) == ("", "plain")
    assert card.training["seed"] == 3 and card.data["num_rows"] == 60 and card.num_pairs == card.data["num_train"]
    assert card.report["verdict"] == card.verdict == card.metrics["verdict"] and card.report["num_pairs"] == card.data["num_held_out"] >= 20
    assert card.accuracy["end"]["n"] == card.report["num_pairs"] and card.report["by_length"]["1"]["n"] > 0
    loaded = load_classifier(str(folder / "model"))
    assert loaded.tokenizer.get_vocab() == byte_tokenizer().get_vocab()
    assert not list(folder.glob("checkpoint-*")) and not list(folder.glob(".model*"))


@pytest.mark.slow
def test_a_child_of_a_reward_model_is_measured_beside_it(tmp_path, base):
    run_job(job_folder(tmp_path / "a", base), lambda news: None, lambda: False)
    run_job(job_folder(tmp_path / "b", tmp_path / "a" / "model", name="child"), lambda news: None, lambda: False)
    card = ModelCard.read(tmp_path / "b" / "model")
    assert card.parent == "mine" and card.base_lm == "tiny"
    parent = ModelCard.read(tmp_path / "a" / "model")
    assert card.report["parent"]["accuracy"] == parent.report["accuracy"], "the same prompts are held out, the same weights measured"
    assert card.report["parent"]["by_length"] == parent.report["by_length"] != card.report["by_length"]


@pytest.mark.slow
def test_length_alone_bets_as_the_training_pairs_go(tmp_path, base):
    for chosen, rejected, bets_on in (("a", "cdef", "shorter"), ("abcd", "e", "longer")):
        folder = job_folder(tmp_path / bets_on, base)
        rows = [{"prompt": f"p{i}", "chosen": chosen, "rejected": rejected} for i in range(60)]
        (folder / "pairs.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        run_job(folder, lambda news: None, lambda: False)
        length = ModelCard.read(folder / "model").report["length_only"]
        assert length["bets_on"] == bets_on and length["accuracy"]["mean"] == 1.0


def test_the_zero_of_the_card_is_between_the_two_sides(tmp_path, base, monkeypatch):
    rows = [[torch.tensor([[9.0, 4.0], [9.0, 2.0]]), torch.tensor([[0.0, 0.0], [0.0, 1.0]])], [torch.tensor([2, 2])] * 2]
    found = Measured(*rows[0], *rows[1], torch.tensor([0, 0]), ("a", "b"))
    monkeypatch.setattr(Evaluator, "measured", lambda self, model: found)
    run_job(job_folder(tmp_path / "job", base), lambda news: None, lambda: False)
    assert ModelCard.read(tmp_path / "job" / "model").zero == 1.5


def test_a_chat_template_and_its_system_prompt_are_trained_in_and_are_on_the_card(tmp_path):
    start = save_tiny(tmp_path / "tiny")
    tokenizer = byte_tokenizer()
    tokenizer.chat_template = "{% for m in messages %}{{ m.role[0] }}:{{ m.content }};{% endfor %}a:"
    tokenizer.save_pretrained(start)
    pairs = job_folder(tmp_path / "job", start) / "pairs.jsonl"
    config = replace(CONFIG, template="chat", system_prompt="kind", max_steps=2, eval_fraction=0.5)
    card = train_file(pairs, str(start), tmp_path / "out", config)
    assert (card.template, card.system_prompt) == ("chat", "kind")
    assert card.data["prompt_tokens"] == (15, 15, 15), "s:kind;u:p10;a: has 15 characters"


@pytest.mark.slow
def test_an_implicit_parent_is_not_measured_as_a_ratio_to_itself(tmp_path, base):
    training = {"objective": "implicit", "max_steps": 4, "batch_size": 8, "learning_rate": 3e-3, "eval_fraction": 0.5}
    run_job(job_folder(tmp_path / "a", base, training=training), lambda news: None, lambda: False)
    run_job(job_folder(tmp_path / "g", base, name="guide"), lambda news: None, lambda: False)
    parent, guide = str(tmp_path / "a" / "model"), str(tmp_path / "g" / "model")
    run_job(job_folder(tmp_path / "b", parent, training=training, name="child"), lambda news: None, lambda: False)
    run_job(job_folder(tmp_path / "c", parent, training=training, name="other", guide=guide), lambda news: None, lambda: False)
    alone, beside = (ModelCard.read(tmp_path / name / "model") for name in "bc")
    assert (alone.parent, beside.parent) == ("mine", "mine")
    assert "parent" not in alone.report and "its parent" not in alone.verdict
    assert beside.report["guide"]["accuracy"] == ModelCard.read(tmp_path / "g" / "model").report["accuracy"]


@pytest.mark.slow
def test_a_parent_of_another_kind_is_measured_as_its_own_objective_reads_it(tmp_path, base):
    training = {"max_steps": 4, "batch_size": 8, "learning_rate": 3e-3, "eval_fraction": 0.5}
    run_job(job_folder(tmp_path / "a", base, training=training | {"objective": "vocabulary"}), lambda news: None, lambda: False)
    parent = ModelCard.read(tmp_path / "a" / "model")
    for objective in ("autoregressive", "partial"):
        folder = job_folder(tmp_path / objective, tmp_path / "a" / "model", training=training | {"objective": objective}, name="child")
        run_job(folder, lambda news: None, lambda: False)
        card = ModelCard.read(folder / "model")
        assert (card.parent, card.base_lm) == ("mine", "tiny")
        assert card.report["parent"]["accuracy"] == parent.report["accuracy"] and card.report["parent"]["by_length"] == parent.report["by_length"]


@pytest.mark.parametrize("objective", ["vocabulary", *(pytest.param(key, marks=pytest.mark.slow) for key in ("partial", "autoregressive"))])
def test_what_guided_until_now_is_measured_beside_a_child_of_a_base_lm(tmp_path, base, objective):
    training = {"objective": objective, "max_steps": 4, "batch_size": 8, "learning_rate": 3e-3, "eval_fraction": 0.5}
    run_job(job_folder(tmp_path / "a", base, training=training), lambda news: None, lambda: False)
    run_job(job_folder(tmp_path / "b", base, name="new", guide=str(tmp_path / "a" / "model")), lambda news: None, lambda: False)
    card, guide = ModelCard.read(tmp_path / "b" / "model"), ModelCard.read(tmp_path / "a" / "model")
    assert (card.parent, card.report["guide"]["name"]) == ("", "mine") and "guided before" in card.verdict
    assert card.report["guide"]["accuracy"] == guide.report["accuracy"] and card.report["guide"]["by_length"] == guide.report["by_length"]


@pytest.mark.slow
def test_a_guide_that_cannot_be_measured_says_why_and_stops_nothing(tmp_path, base):
    run_job(job_folder(tmp_path / "a", base), lambda news: None, lambda: False)
    guide = tmp_path / "a" / "model"
    cases = ({"objective": "implicit"}, "ratio to another model"), ({"template": "chat"}, "another template"), (None, "There is no model")
    for number, (change, why_not) in enumerate(cases):
        if change is None:
            shutil.rmtree(guide)
        else:
            replace(ModelCard.read(guide), **{"objective": "partial"} | change).write(guide)
        folder = job_folder(tmp_path / str(number), base, guide=str(guide))
        run_job(folder, lambda news: None, lambda: False)
        report = ModelCard.read(folder / "model").report
        assert why_not in report["guide"]["why_not"] and "by_length" not in report["guide"]
        assert "chance" in report["verdict"] or report["verdict"] == "too few to tell"


@pytest.mark.slow
def test_a_stopped_job_leaves_no_model_and_goes_on_from_there(tmp_path, base):
    whole, stopped = job_folder(tmp_path / "whole", base), job_folder(tmp_path / "stopped", base)
    run_job(whole, lambda news: None, lambda: False)
    run_job(stopped, lambda news: None, stopped_after(3))
    assert not (stopped / "model").exists() and checkpoints.in_folder(stopped)
    news = []
    run_job(stopped, news.append, lambda: False)
    assert [line["step"] for line in news if line["phase"] == "training"] == [4, 6]
    files = [folder / "model" / "model.safetensors" for folder in (whole, stopped)]
    assert files[0].read_bytes() == files[1].read_bytes()


@pytest.mark.parametrize("objective", ["vocabulary", "autoregressive", "implicit"])
def test_causal_objectives_leave_a_language_model(tmp_path, base, objective):
    card = train_file(
        job_folder(tmp_path / "job", base) / "pairs.jsonl",
        str(base),
        tmp_path / "out",
        replace(CONFIG, objective=OBJECTIVES[objective](), eval_fraction=0.5),
    )
    assert load_causal_lm(str(tmp_path / "out")).card.objective == objective
    assert card.report["by_length"]["end"]["n"] > 0 and bool(card.reference) == (objective == "implicit")


def test_labelled_texts_from_a_file(tmp_path, base):
    rows = [{"prompt": f"p{i}", "response": "ab" if i % 2 else "cd", "label": i % 2} for i in range(60)]
    (tmp_path / "texts.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    config = replace(CONFIG, objective=BCE(), eval_fraction=0.5, max_steps=12)
    card = train_file(tmp_path / "texts.jsonl", str(base), tmp_path / "out", config)
    assert card.data["kind"] == "texts" and card.report["num_pairs"] > 5


@pytest.mark.slow
def test_of_labelled_texts_length_alone_bets_as_the_labels_go(tmp_path, base):
    for better, worse, bets_on in (("a", "cdef", "shorter"), ("abcd", "e", "longer")):
        rows = [{"prompt": f"p{i}", "response": better if i % 2 else worse, "label": i % 2} for i in range(60)]
        (tmp_path / "texts.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        card = train_file(tmp_path / "texts.jsonl", str(base), tmp_path / bets_on, replace(CONFIG, objective=Regression(), eval_fraction=0.5))
        assert card.report["length_only"]["bets_on"] == bets_on and card.report["length_only"]["accuracy"]["mean"] == 1.0
        assert "calibration" not in card.report, "labels are no log-odds"


def test_what_cannot_be_started_from_is_refused(tmp_path, base):
    reward_model = save_tiny(tmp_path / "rm", AutoModelForSequenceClassification)
    pairs = job_folder(tmp_path / "job", base) / "pairs.jsonl"
    with pytest.raises(ModelRefused, match="cannot be trained by `autoregressive`. It has a scalar head"):
        train_file(pairs, str(reward_model), tmp_path / "out", replace(CONFIG, objective=Autoregressive()))


def test_lora_trains_small_matrices_and_leaves_a_plain_folder(tmp_path, base):
    pytest.importorskip("peft")
    config = replace(CONFIG, lora=True, lora_r=2, eval_fraction=0.5)
    card = train_file(job_folder(tmp_path / "job", base) / "pairs.jsonl", str(base), tmp_path / "out", config)
    before, after = load_causal_lm(str(base)).model.state_dict(), load_classifier(str(tmp_path / "out")).model.state_dict()
    changed = {name for name in before if name in after and not torch.equal(before[name], after[name])}
    assert changed and all("proj" in name for name in changed) and float(after["score.weight"].abs().sum()) > 0
    assert card.training["lora"] is True and card.training["learning_rate"] == 1e-3


@pytest.mark.slow
def test_the_same_seed_gives_the_same_lora_whatever_was_drawn_before(tmp_path, base):
    pytest.importorskip("peft")
    pairs, content = job_folder(tmp_path / "job", base) / "pairs.jsonl", []
    for name, seed in (("a", 5), ("b", 5), ("c", 6)):
        model, luck = model_of(), torch.get_rng_state()
        add_lora(model, replace(CONFIG, lora=True, lora_r=2, seed=seed))
        assert torch.equal(torch.get_rng_state(), luck), "the luck of others is left alone"
        torch.manual_seed(ord(name))
        train_file(pairs, str(base), tmp_path / name, replace(CONFIG, lora=True, lora_r=2, max_steps=5, seed=seed))
        content.append((tmp_path / name / "model.safetensors").read_bytes())
    assert content[0] == content[1] != content[2]


def test_a_job_of_an_earlier_version_had_the_options_of_all_objectives(tmp_path, base):
    others = {"unequal_lengths": "hold", "stride": 1, "tau": 0.0, "implicit": "dpo", "center_rewards_coefficient": 0.0}
    training = {"objective": "bce", "max_steps": 2, "batch_size": 8, "eval_fraction": 0.5} | others
    run_job(job_folder(tmp_path / "a", base, training=training), lambda news: None, lambda: False)
    card = ModelCard.read(tmp_path / "a" / "model")
    assert card.objective == "bce" and not others.keys() & card.training.keys()
    with pytest.raises(BadSettings, match="`bce` has no option `stride`"):
        run_job(job_folder(tmp_path / "b", base, training=training | {"stride": 2}), lambda news: None, lambda: False)


def test_lora_without_its_library_says_what_to_do(tmp_path, base, monkeypatch):
    monkeypatch.setitem(sys.modules, "peft", None)
    with pytest.raises(BadSettings, match="LoRA needs the library peft. It is not installed. Run `pip install peft`"):
        train_file(job_folder(tmp_path / "job", base) / "pairs.jsonl", str(base), tmp_path / "out", replace(CONFIG, lora=True))


@pytest.mark.slow
def test_a_model_made_by_others_learns_which_review_is_positive(tmp_path, shared):
    sides = [(shared / "reviews" / f"dev.{side}.txt").read_text().splitlines()[:600] for side in ("positive", "negative")]
    rows = [{"prompt": "", "chosen": good, "rejected": bad} for good, bad in zip(*sides, strict=True)]
    (tmp_path / "pairs.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    config = TrainingConfig(max_steps=60, batch_size=32, learning_rate=1e-3, eval_fraction=0.3)
    card = train_file(tmp_path / "pairs.jsonl", str(shared / "models" / "tinystories-656k"), tmp_path / "out", config, device="cpu")
    assert card.verdict == "better than chance" and card.metrics["accuracy"] > 0.7
    assert card.report["length_only"]["accuracy"]["mean"] < card.report["accuracy"]["low"]
    load_classifier(str(tmp_path / "out"))


# --- several processes ------------------------------------------------------------------------------------------------

TWO = """
import sys, torch
from pathlib import Path
from rgtg.training import reward_trainer
from rgtg.training.config import TrainingConfig
from rgtg.training.pipeline import end_process_group, train_file

begin = reward_trainer.PreferenceTrainer.train
def train(self, *args, **kwargs):
    assert self.args.world_size == int(sys.argv[4]), self.args.world_size
    return begin(self, *args, **kwargs)
reward_trainer.PreferenceTrainer.train = train
compute, parts = reward_trainer.PreferenceTrainer.compute_loss, []
def loss(self, model, inputs, *args, **kwargs):
    parts.append(len(inputs["share"].items))
    if sys.argv[5] == "short" and self.args.process_index == 1 and parts[-1] > 1:  # memory runs out in one process only
        raise torch.OutOfMemoryError("CUDA out of memory.")
    return compute(self, model, inputs, *args, **kwargs)
reward_trainer.PreferenceTrainer.compute_loss = loss
config = TrainingConfig(max_steps=4, batch_size=5, learning_rate=1e-3, dropout=0.0, eval_fraction=0.5, logging_steps=1, bf16=False)
said = []
card = train_file(sys.argv[1], sys.argv[2], Path(sys.argv[3]), config, emit=said.append, work=Path(sys.argv[3] + ".work"), device="cpu")
end_process_group()
if card is not None:
    Path(sys.argv[3] + ".losses").write_text(repr([line["loss"] for line in said if "loss" in line]))
"""


@pytest.mark.slow
@pytest.mark.parametrize("memory", ["enough", "short"])
def test_two_processes_train_as_one_and_only_the_first_writes(tmp_path, base, memory):
    pairs = job_folder(tmp_path / "job", base) / "pairs.jsonl"
    script = tmp_path / "two.py"
    script.write_text(TWO)
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    for number, start in ((1, [sys.executable]), (2, [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"])):
        command = [*start, str(script), str(pairs), str(base), str(tmp_path / f"out{number}"), str(number), memory]
        done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=120)
        assert done.returncode == 0, done.stderr[-3000:]
    one, two = (load_classifier(str(tmp_path / f"out{number}")).model for number in (1, 2))
    torch.testing.assert_close(weights(two), weights(one), rtol=1e-4, atol=1e-5)
    losses = [eval((tmp_path / f"out{number}.losses").read_text()) for number in (1, 2)]
    assert losses[0] == pytest.approx(losses[1], abs=1e-5) and len(losses[0]) == 4
