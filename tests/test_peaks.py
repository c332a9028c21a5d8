"""Where the judge is highest as a weight grows: an overdone weight is told from a good one, and a choice on few prompts costs what it costs."""

from dataclasses import replace

import pytest
import torch

from rgtg.config import GenerationConfig
from rgtg.evaluation.cells import Cell
from rgtg.evaluation.frontier import AT_MOST
from rgtg.evaluation.peaks import NONE, drawn_peaks, optima, peaks_figure, peaks_table, weights


def cells(setting: str, judge: float, guide: float | None, kl: float | None = 1.0, prompts: int = 20) -> list[Cell]:
    return [Cell(f"{setting}{i}", setting, f"prompt {i}", 0, "x", (4, 5), "eos", judge, guide, -1.0, kl) for i in range(prompts)]


OVERDONE = [
    *cells("base", 0.0, None, 0.0),
    *cells("pargs · one · beta 8", 1.0, 9.0, 9.0),  # the guide is pleased, the judge is not
    *cells("pargs · one · beta 1", 2.0, 2.0, 1.0),
    *cells("pargs · one · beta 4", 3.0, 4.0, 4.0),
    *cells("particles · one · m 4 · beta 1", 2.0, 2.0),
    *cells("particles · one · m 8 · beta 2", 2.0, 2.0),
    *cells("cards · one · threshold 2", 2.0, 2.0),
]


def test_weights_of_a_family_are_in_order_and_what_varies_in_two_numbers_or_none_is_left_out():
    found = weights(OVERDONE)
    assert {name: (parameter, list(settings)) for name, (parameter, settings) in found.items()} == {"pargs · one": ("beta", [1.0, 4.0, 8.0])}


def test_a_default_that_a_name_is_silent_on_is_a_weight_too():
    silent = [*cells("particles · one · m 8", 2.0, 2.0), *cells("particles · one · m 8 · beta 2", 3.0, 3.0)]
    assert {name: (parameter, list(settings)) for name, (parameter, settings) in weights(silent).items()} == {"particles · one": ("beta", [1.0, 2.0])}
    sampled = [*cells("pargs · one · beta 2", 2.0, 2.0), *cells("pargs · one · beta 2 · top_k 20", 3.0, 3.0)]
    assert list(weights(sampled)["pargs · one"][1]) == [float(GenerationConfig().top_k), 20.0]
    assert weights([*cells("gone · one", 2.0, 2.0), *cells("gone · one · beta 2", 2.0, 2.0)]) == {}, "of a method that there no longer is"


def test_the_judge_peaks_before_the_guide():
    (one,) = optima(OVERDONE)
    assert (one.name, one.parameter, one.best) == ("pargs · one", "beta", (4.0, 4.0, 4.0))
    assert one.judge == (3.0, 3.0, 3.0) and one.by_guide == 8.0 and one.drop == (-2.0, -2.0, -2.0) and one.loss == (0.0, 0.0, 0.0)
    assert "| pargs · one | beta 4 [4, 4] | 3.00 [3.00, 3.00] | beta 8 | -2.00 [-2.00, -2.00] | 0.00 [0.00, 0.00] |" in peaks_table(OVERDONE)
    assert peaks_table(cells("base", 0.0, None)) == f"{NONE}\n"


def test_trainings_are_one_family_over_seeds():
    trained = [
        replace(c, setting=c.setting.replace("one", f"one-{number}"), judge=c.judge + shift)
        for number, shift in enumerate((0.0, 1.0))
        for c in OVERDONE
        if c.setting.startswith("pargs")
    ]
    assert [one.name for one in optima(trained)] == ["pargs · one-0", "pargs · one-1"]
    (one,) = optima(trained, together=True)
    assert one.name == "pargs · one-*" and one.judge[0] == pytest.approx(3.5) and one.judge[1] < 3.5 < one.judge[2]
    assert one.drop == pytest.approx((-2.0, -2.0, -2.0)), "paired by training"


def test_trainings_that_peak_elsewhere_widen_the_interval_of_the_peak():
    settings = {("a-0", 1): 0.0, ("a-0", 2): 3.0, ("a-1", 1): 3.0, ("a-1", 2): 0.5}
    trained = [c for (name, beta), judge in settings.items() for c in cells(f"pargs · {name} · beta {beta}", judge, float(beta))]
    (one,) = optima(trained, together=True)
    assert one.best == (2.0, 1.0, 2.0) and one.judge[0] == 1.75 and one.loss == (0.0, 0.0, 0.0)


def test_a_choice_on_half_of_the_prompts_loses_where_prompts_differ():
    # on nine of ten prompts the second weight is ahead by 0.1, on one the first by 10: which half has it decides
    best, lost = drawn_peaks(torch.tensor([[[0.0] * 9 + [10.0]], [[0.1] * 9 + [0.0]]], dtype=torch.float64))
    # of all prompts the first is best; a half without the last prompt says the second, and loses (10 - 4 · 0.1) / 5 on the other half
    assert set(lost.round(decimals=6).tolist()) == {0.0, 1.92} and 0.4 < float((lost == 0).double().mean()) < 0.6
    assert set(best.tolist()) == {0, 1} and float((best == 1).double().mean()) == pytest.approx(0.9**10, abs=0.05), "prompts drawn without the last"
    assert drawn_peaks(torch.tensor([[[2.0]], [[3.0]]], dtype=torch.float64))[1].unique().tolist() == [0.0]


def test_the_figure_has_judge_and_guide_of_a_family_over_the_root_of_the_kl():
    judge, guide = peaks_figure(OVERDONE).data
    assert (judge.name, list(judge.x), list(judge.y), list(guide.y)) == ("pargs · one", [1.0, 2.0, 3.0], [2.0, 3.0, 1.0], [2.0, 4.0, 9.0])
    assert judge.line.color == guide.line.color and (judge.line.dash, guide.line.dash) == ("solid", "dot")
    assert peaks_figure(cells("base", 0.0, None)).layout.annotations[0].text == NONE
    bounded = [replace(c, kl_bound=1.0 + c.judge) for n in (1, 2) for c in cells(f"best-of-n · one · n {n}", float(n), 2.0, None)]
    assert {trace.name for trace in peaks_figure(bounded).data} == {f"best-of-n · one{AT_MOST}"}
