"""A probe: a head on the base LM's own states, in the base LM's rows."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from test_engine import collect, ids
from test_engine import models as scalar_models
from test_engine import run as run_with
from test_laws import ACTIVE, NEUTRAL
from test_prefix import law_of_rewards
from tiny_models import tiny_lm

from rgtg.engine import Models
from rgtg.errors import BadSettings, ModelRefused
from rgtg.guidance.methods import BASE, METHODS
from rgtg.guidance.spot_check import SpotCheck
from rgtg.models.lm import BaseLM
from rgtg.models.loading import load_causal_lm
from rgtg.records import ModelCard, ModelRef
from rgtg.rewards.base import IdReader
from rgtg.rewards.kinds import load_reward_model
from rgtg.rewards.probe import ProbeRewardModel
from rgtg.rewards.shared import SharedPrefixes
from rgtg.training.config import TrainingConfig
from rgtg.training.criterion import FrozenScorer
from rgtg.training.objectives import Probe
from rgtg.training.pipeline import train_file
from rgtg.training.starts import check_model

SCALAR = [key for key, m in METHODS.items() if m.uses_reward and not m.roles]


def probe_on(lm: BaseLM, seed: int = 7, name: str = "probe") -> ProbeRewardModel:
    width = lm.loaded.model.config.get_text_config().hidden_size
    weight = torch.randn(1, width, generator=torch.Generator().manual_seed(seed)) / 2
    return ProbeRewardModel.on(lm, weight, ModelRef(name, f"test{seed}"))


def models() -> Models:
    found = scalar_models()
    lm = replace(found.base_lm)  # what is learned of its cache is forgotten with it
    return replace(found, base_lm=lm, reward_models={**found.reward_models, "probe": probe_on(lm), "other": probe_on(lm, 8, "other")})


class InTheRowsOfTheLM:
    """A probe whose responses grow in the base LM's rows, as the engine drives both."""

    def __init__(self, probe: ProbeRewardModel):
        self.probe, self.head, self.backbone = probe, probe.head, probe.backbone

    def start(self, prompts, responses=None):
        self.lm = self.probe.lm.start(prompts, responses)
        self.shared = self.probe.reads(self.probe.lm).over(self.lm)
        self.forward = self.shared.forward
        return self

    def append(self, *change):
        self.lm.append(*change)
        self.shared.append(*change)

    def copy(self, *change):
        self.lm.copy(*change)
        self.shared.copy(*change)

    def truncate(self, *change):
        self.lm.truncate(*change)
        self.shared.truncate(*change)


@pytest.mark.parametrize(
    "family", ["llama", "mistral_w8", "bloom", "qwen3_5", *(pytest.param(family, marks=pytest.mark.slow) for family in ("gpt2", "jamba"))]
)
def test_rewards_in_the_rows_of_the_base_lm_equal_plain_ones_while_slots_grow_are_copied_and_cut(family):
    law_of_rewards(InTheRowsOfTheLM(probe_on(tiny_lm(family))))


def test_a_base_lm_whose_rows_hold_logits_is_read_in_rows_of_their_own():
    probe = probe_on(tiny_lm("gemma2_w8"))  # a soft cap lies between state and logits
    assert type(probe.reads(probe.lm)) is IdReader
    law_of_rewards(probe)


def test_every_method_gives_the_same_answer_as_with_rows_of_its_own(monkeypatch):
    found = models()

    def answers() -> list:
        runs = [run_with(found, key, reward_model="probe", observers=("other", "two"), **ACTIVE[key]) for key in SCALAR]
        runs += [run_with(found, BASE, observers=("probe",)), run_with(found, "pargs", reward_model=[("probe", 1.0), ("one", 0.5), ("other", 1.0)])]
        return list(zip(runs, *collect(runs, found), strict=True))

    shared = answers()
    monkeypatch.setattr(ProbeRewardModel, "reads", lambda self, lm: IdReader(self, lm))
    for (run, steps, end), (_, own, _) in zip(shared, answers(), strict=True):
        assert not end.error and ids(steps) == ids(own) and len(steps) > 2, run.method
        for name in (ref.name for ref in run.models):
            assert [s.reward(name) for s in steps] == pytest.approx([s.reward(name) for s in own], abs=1e-4), (run.method, name)
            assert [s.reward(name) for s in steps] == pytest.approx(found.reward_models[name].along(run.prompt_ids, [ids(steps)])[0], abs=1e-4)
        assert [len(s.tried) for s in steps] == [len(s.tried) for s in own], run.method


def test_weight_0_is_the_base_lm_and_together_is_alone():
    found = models()
    runs = [run_with(found, key, reward_model="probe", **NEUTRAL[key]) for key in SCALAR] + [run_with(found, BASE)]
    together, _ = collect(runs, found)
    assert all(ids(steps) == ids(together[-1]) for steps in together)
    guided = [run_with(found, key, reward_model="probe", seed=5, **ACTIVE[key]) for key in ("pargs", "best-of-n", "cards", "sparse")]
    for r, steps in zip(guided, collect(guided, found)[0], strict=True):
        assert ids(collect([r], found)[0][0]) == ids(steps), r.method


def test_a_guided_token_costs_one_forward_in_all(monkeypatch):
    monkeypatch.setattr(SpotCheck, "holds", lambda *_: True)
    found, passes = models(), []
    hook = found.base_lm.loaded.model.base_model.register_forward_pre_hook(
        lambda m, args, kw: passes.append(kw["input_ids"].numel()), with_kwargs=True
    )

    def cost(key: str, **settings) -> tuple[int, ...]:
        passes.clear()
        r = run_with(found, key, **settings)
        (steps,), (end,) = collect([r], found)
        assert end.lm_forwards == len(passes) and end.lm_positions == sum(passes)
        return len(steps), len(r.prompt_ids), end.lm_forwards, end.lm_positions, end.reward_forwards, end.reward_positions

    k = 4
    for guides in ("probe", [("probe", 1.0), ("other", -0.5)]):  # two heads read the same states
        num, prompt, *costs = cost("pargs", reward_model=guides, beta=1.5, top_k=k)
        assert costs == [1 + num, prompt + k * num, 0, 0]
    num, prompt, *costs = cost(BASE, observers=("probe",))
    assert costs == [num + 1, prompt + num, 0, 0], "the last token is read too"
    num, prompt, *costs = cost("sparse", reward_model="probe", entropy=0.0, top_k=k)
    assert costs == [1 + num, prompt + k * num, 0, 0]
    num, prompt, *costs = cost("best-of-n", reward_model="probe", n=1)
    assert costs == [num + 1, prompt + num, 0, 0]
    hook.remove()
    seen = {"observers": ("probe",)}
    columns = [
        run_with(found, "pargs", reward_model="probe", top_k=k),
        run_with(found, BASE),
        run_with(found, BASE, **seen),
        run_with(found, "pargs", **seen),
    ]
    together = [(end.lm_forwards, end.lm_positions) for end in collect(columns, found)[1]]
    assert together == [(end.lm_forwards, end.lm_positions) for r in columns for end in collect([r], found)[1]]


def test_a_cache_that_is_found_wrong_is_given_up_and_no_reward_is_lost(monkeypatch):
    found = models()
    r = run_with(found, "pargs", reward_model="probe", observers=("other",), beta=1.5)
    right = collect([r], found)[0][0]
    calls = iter(range(1000))
    monkeypatch.setattr("rgtg.guidance.spot_check.EVERY", 5)
    monkeypatch.setattr("rgtg.models.prefixes.growing.GrowingRows.holds", lambda *_: next(calls) > 0)
    monkeypatch.setattr("rgtg.guidance.spot_check.SpotCheck._is_due", lambda self, *_: bool(self.batch.caches) and not self.record.failed)
    (steps,), (end,) = collect([r], found)
    assert "runs without a cache" in end.note and ids(steps) == ids(right)
    for name in ("probe", "other"):
        assert [s.reward(name) for s in steps] == pytest.approx([s.reward(name) for s in right], abs=1e-4)


# --- training and files ------------------------------------------------------------------------------------------------

PAIRS = [{"prompt": f"ab{i}", "chosen": "good" * (1 + i % 2), "rejected": "bad" * (1 + i % 3)} for i in range(24)]


@pytest.fixture(scope="module")
def trained(folders, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("probe")
    (folder / "pairs.jsonl").write_text("\n".join(map(json.dumps, PAIRS)))
    config = TrainingConfig(objective=Probe(), max_steps=30, batch_size=8)
    reports = []
    card = train_file(folder / "pairs.jsonl", folders["lm"], folder / "p", config, name="p", device="cpu", emit=reports.append)
    losses = [r["loss"] for r in reports if r.get("phase") == "training"]
    assert card is not None and losses[-1] < losses[0] / 2
    return folder / "p"


def lm_of(folder: str) -> BaseLM:
    return BaseLM.of(load_causal_lm(folder, "tiny", "cpu"))


def test_a_trained_probe_is_a_small_folder_that_knows_its_base_lm(trained, folders):
    lm = lm_of(folders["lm"])
    card = ModelCard.read(trained)
    assert {p.name for p in trained.iterdir()} == {"card.json", "config.json", "model.safetensors"}
    assert sum(p.stat().st_size for p in trained.iterdir()) < 20_000 and list(load_file(trained / "model.safetensors")) == ["score.weight"]
    assert (card.reward_kind, card.base_lm, card.reference) == ("probe", "tiny", f"tiny@{lm.loaded.ref.revision}")
    probe = load_reward_model(str(trained), find_reference=lambda ref: lm)
    assert isinstance(probe.reads(lm).over(lm.start([[0, 5]])), SharedPrefixes) and probe.loaded.model is lm.loaded.model
    good, bad = (probe.along(probe.loaded.encode_prompt("ab1"), [probe.loaded.encode_prompt(text)[1:]])[0][-1] for text in ("good", "bad"))
    assert good > bad and len(set(check_model(trained, folders["lm"]))) == 2


def test_a_probe_is_refused_with_other_weights_without_its_base_lm_and_as_a_start(trained, folders, tmp_path):
    with pytest.raises(ModelRefused, match="needs other weights of its base LM `tiny`"):
        load_reward_model(str(trained), find_reference=lambda ref: lm_of(folders["headless"]))
    with pytest.raises(ModelRefused, match="needs its base LM, which is not here"):
        load_reward_model(str(trained))
    for start, words in ((str(trained), "It is a head on the states of a base LM"), (folders["partial"], "It is a reward model")):
        with pytest.raises(ModelRefused, match=words):
            train_file(trained.parent / "pairs.jsonl", start, tmp_path / "x", TrainingConfig(objective=Probe()), device="cpu")
    for name in ("lora", "gradient_checkpointing"):
        with pytest.raises(BadSettings, match=f"`{name}` has no effect without an objective that trains all weights"):
            TrainingConfig(objective=Probe(), **{name: True})
    wide = tmp_path / "wide"
    wide.mkdir()
    for path in trained.iterdir():
        (wide / path.name).write_bytes(path.read_bytes())
    save_file({"score.weight": torch.zeros(1, 5)}, wide / "model.safetensors")
    with pytest.raises(ModelRefused, match=r"Its weights are \(1, 5\), the states have 32 numbers"):
        load_reward_model(str(wide), find_reference=lambda ref: lm_of(folders["lm"]))


def test_the_states_of_a_text_are_computed_once(monkeypatch):
    from tiny_models import tiny
    from transformers import AutoModelForSequenceClassification

    model, passes = tiny("gpt2", AutoModelForSequenceClassification, 3), []
    hook = model.base_model.register_forward_pre_hook(lambda m, args: passes.append(len(args[0])))
    scorer, batch = FrozenScorer(model).train(), torch.tensor([[0, 5, 6], [0, 7, 1], [0, 5, 6]])
    wanted = model.score(model.base_model(batch).last_hidden_state)[..., 0]
    passes.clear()
    torch.testing.assert_close(scorer(batch), wanted)
    torch.testing.assert_close(scorer(batch[1:]), wanted[1:])
    assert passes == [2] and not model.base_model.training
    monkeypatch.setattr("rgtg.training.criterion.STATES_KEPT", 0)
    other = FrozenScorer(model)
    torch.testing.assert_close(other(batch), wanted)
    other(batch)
    assert passes == [2, 2, 2]
    hook.remove()
