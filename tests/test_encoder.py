"""Encoders as reward models: the same numbers as a plain forward, batched or alone, within their positions, and one label of several."""

import pytest
import torch
from test_engine import collect, ids, run
from text_models import ENCODERS, POSITIONS, encoder, saved
from tiny_models import tiny_lm

from rgtg.config import Settings
from rgtg.engine import Models, make_run
from rgtg.errors import BadSettings, ModelRefused
from rgtg.records import ModelCard
from rgtg.rewards import encoder as module
from rgtg.rewards.encoder import EncoderRewardModel
from rgtg.rewards.kinds import load_reward_model
from rgtg.rewards.scalar import ScalarRewardModel
from rgtg.rewards.text import Answer
from rgtg.workbench.budget import Budget, Pace, _networks

LABELS = ("anger", "joy", "fear")
TEXTS = ["good", "the food was good and so was THE service !", "x", "so so"]


def plain(loaded, *texts: str) -> torch.Tensor:
    return loaded.model(**loaded.tokenizer(*texts, return_tensors="pt")).logits[0]


@pytest.mark.parametrize("family", ENCODERS)
def test_batched_rewards_are_those_of_a_plain_forward_of_each_text(family, monkeypatch):
    loaded = encoder(family)
    model = EncoderRewardModel.of(loaded)
    assert model.context == (POSITIONS - 1 if family == "roberta" else POSITIONS), "one position is that of padding"
    scorer, answers = model.scorer(tiny_lm()), [Answer("how was it ?", text, False) for text in TEXTS]
    wanted = [float(plain(loaded, "how was it ?", text)[0]) for text in TEXTS]
    assert scorer.score_texts(answers) == pytest.approx(wanted, abs=1e-5) and scorer.num_forwards == 1
    assert scorer.score_texts(answers) == pytest.approx(wanted, abs=1e-5) and scorer.num_forwards == 1, "it remembers"
    monkeypatch.setattr(module, "PART_ON_CPU", 40)
    model.recent.clear()
    assert scorer.score_texts(answers) == pytest.approx(wanted, abs=1e-5) and scorer.num_forwards > 2, "in several forwards"
    assert scorer.score_texts([Answer("", "good", True)]) == pytest.approx([float(plain(loaded, "good")[0])], abs=1e-5)


def test_of_a_longer_text_the_beginning_of_the_prompt_is_left_out_and_it_says_so():
    loaded = encoder("roberta")
    model = EncoderRewardModel.of(loaded)
    scorer = model.scorer(tiny_lm())
    scorer.score_texts([Answer("the " * 20, "food", False)])
    assert scorer.remark == ""
    num = model.context - len(["[CLS]", "[SEP]", "food", "was", "good", "[SEP]"])
    long, cut = Answer("so " * 100, "food was good", False), Answer("so " * num, "food was good", False)
    assert scorer.score_texts([long]) == pytest.approx(scorer.score_texts([cut]), abs=1e-5)
    assert f"`roberta` reads {POSITIONS - 1} tokens: of longer texts it was not given the beginning of the prompt" in scorer.remark
    response = "was " * (model.context - 3)
    assert scorer.score_texts([Answer("so " * 100, response + response, False)]) == pytest.approx(
        scorer.score_texts([Answer("x", response + response, False)]), abs=1e-5
    ), "nothing is left of the prompt, and the end of the response decides"


def test_an_encoder_guides_and_observes_and_its_remark_ends_the_answer():
    model, prompt = EncoderRewardModel.of(encoder("electra")), "a b " * 28
    found = Models(tiny_lm(), {"electra": model})
    settings = {"reward_model": "electra", "observers": ("electra",), "tokens": 8}
    runs = [run(found, "pargs", beta=beta, **settings) for beta in (0.0, 20.0)] + [run(found, "base", observers=("electra",), tokens=8)]
    runs.append(run(found, "pargs", prompt=prompt, **settings))
    (neutral, guided, base, long), ends = collect(runs, found)
    assert ids(neutral) == ids(base) != ids(guided) and not any(end.error for end in ends)
    for steps, asked in ((guided, "the food"), (base, "the food"), (long, prompt)):
        answer = Answer(asked, "".join(step.text for step in steps), False)
        assert steps[-1].reward("electra") == pytest.approx(model.scorer(tiny_lm()).score_texts([answer])[0], abs=1e-4)
    (alone,), (end,) = collect(runs[1:2], found)
    assert ids(alone) == ids(guided) and end.note == ""
    assert "`electra` reads 64 tokens" in ends[-1].note


def test_its_time_counts_in_the_estimate_and_grows_with_the_square_of_the_length(tmp_path, monkeypatch):
    monkeypatch.setattr("rgtg.workbench.budget._pace", lambda network: Pace(0.0, float(network.backbone.strategy == "reencode")))  # of encoders alone
    found, budget = Models(tiny_lm(), {"bert": EncoderRewardModel.of(encoder("bert"))}), Budget(Settings(data_dir=tmp_path))
    runs = [run(found, "base", tokens=10), *(run(found, "pargs", reward_model="bert", tokens=n) for n in (10, 40))]
    base, short, long = (budget.estimate([one], found).seconds for one in runs)
    assert base == 0 and long > 4 * short > 0
    (network,) = _networks(found.reward_models["bert"])
    assert network.head(network.backbone.forward(torch.tensor([[2, 9, 3]]), None, None, None)).shape == (1, 1, 1), "it can be measured"


def test_one_output_of_several_is_chosen_by_name_or_number_and_read_in_one_text(tmp_path, monkeypatch):
    loaded = encoder("bert", LABELS)
    model = load_reward_model(str(saved(loaded, tmp_path / "emotions")), device="cpu")
    assert isinstance(model, EncoderRewardModel) and model.loaded.labels == LABELS
    joy, fear = model.of_label("joy"), model.of_label("2")
    assert (joy.name, fear.name) == ("emotions[joy]", "emotions[fear]") and joy.loaded.model is fear.loaded.model
    answers = [Answer("the food was", " good", False)]
    assert [m.scorer(tiny_lm()).score_texts(answers)[0] for m in (joy, fear)] == pytest.approx(
        plain(loaded, "the food was good")[1:].tolist(), abs=1e-5
    )
    with pytest.raises(BadSettings, match=r"`emotions` has no output `sadness`\. Its outputs: anger, joy, fear"):
        model.of_label("sadness")
    found = Models(tiny_lm(), {"emotions": model})
    with pytest.raises(BadSettings, match=r"`emotions` has 3 outputs, and a reward is one number"):
        make_run("a", "pargs", found, guides="emotions")
    mixed = Models(tiny_lm(), {joy.name: joy, fear.name: fear})
    forward, calls = model.loaded.model.forward, []
    monkeypatch.setattr(model.loaded.model, "forward", lambda **inputs: calls.append(1) or forward(**inputs))
    (steps,), (end,) = collect([make_run("a", "pargs", mixed, (), [(joy.name, 1.0), (fear.name, -0.5)])], mixed)
    assert len(calls) == end.reward_forwards <= len(steps) + 1, "both labels from one forward"
    assert {name for name, _ in steps[0].rewards} == {joy.name, fear.name}


def test_the_template_of_a_card_says_whether_prompt_and_response_are_two_segments(tmp_path):
    folder = saved(encoder("bert"), tmp_path / "rm")
    answer, texts = Answer("the food", " was good", False), {"pair": ("the food", "was good"), "plain": ("the food was good",)}
    for template in ("pair", "plain"):
        ModelCard("reward_model", "rm", reward_kind="encoder", template=template).write(folder)
        model = load_reward_model(str(folder), device="cpu")
        assert model.scorer(tiny_lm()).score_texts([answer]) == pytest.approx([float(plain(encoder("bert"), *texts[template])[0])], abs=1e-5)


def test_where_padding_changes_the_outputs_only_texts_of_equal_length_share_a_forward(monkeypatch):
    loaded = encoder("bert", seed=9)
    forward = loaded.model.forward
    monkeypatch.setattr(loaded.model, "forward", lambda attention_mask=None, **inputs: forward(**inputs))
    model = EncoderRewardModel.of(loaded)
    assert not model.pads and EncoderRewardModel.of(encoder("bert")).pads
    scorer, texts = model.scorer(tiny_lm()), ["good", "the food was good", "food"]
    wanted = [float(plain(loaded, text)[0]) for text in texts]
    assert scorer.score_texts([Answer("", text, False) for text in texts]) == pytest.approx(wanted, abs=1e-5) and scorer.num_forwards == 2


def test_outputs_that_are_not_finite_are_refused_and_a_head_at_the_first_token_is_no_scalar_head(monkeypatch):
    loaded = encoder("bert", seed=10)
    with pytest.raises(ModelRefused, match="no `score` layer"):
        ScalarRewardModel.of(loaded)
    loaded.model.classifier.weight.fill_(float("nan"))
    with pytest.raises(ModelRefused, match="not finite"):
        EncoderRewardModel.of(loaded)
