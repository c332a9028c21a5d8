"""The panel "Sweep this" without a browser: what it takes, what it refuses, what it sends."""

import json
from itertools import pairwise
from types import SimpleNamespace

import gradio as gr
import pytest
from test_compare_page import VISITOR, StubWorkbench, a_page, columns_of, event, settings_of
from test_weight_grid import COLUMNS, GENERATION, sweeps

from pages.sweeping import Texts, peak_words, read_weights
from rgtg.errors import BadSettings, OverBudget
from rgtg.evaluation.weights import Peak
from rgtg.workbench.sweeps import WeightSweep

OVER = OverBudget("This would take up to 9 minutes, and the limit is 120 s.", "Asked for: 60 columns.", "Lower `max_new_tokens`.")


class StubSweeps:
    """Gives a small grid over tiny models whatever is asked for, and keeps what that was."""

    def __init__(self, over: OverBudget | None = None):
        self.asked: list[tuple] = []
        self.over = over

    def weights(self, prompt, columns, weights, seeds, generation, seed, base_lm, confirmed, stopped):
        if self.over and not confirmed:
            raise self.over
        self.asked.append((prompt, tuple(columns), weights, seeds, seed, base_lm))
        return sweeps().weights(prompt, COLUMNS, weights, seeds, GENERATION, seed)


def the_page(over: OverBudget | None = None):
    workbench = StubWorkbench()
    workbench.sweeps = StubSweeps(over)
    page = a_page(workbench)
    page.sweeping.workbench, page.sweeping.line = workbench, page.line
    page.sweeping.asked_back.clear()
    return page, workbench


def run(page, prompt="the food was", **sent) -> list[dict]:
    sent = event(**{"weights": "0, 2", "seeds": 2} | sent)
    return list(page.sweeping.start()(prompt, settings_of(page.workbench), *columns_of(page.workbench), VISITOR, sent))


def test_a_grid_streams_its_answers_and_ends_with_what_is_recommended():
    page, workbench = the_page()
    updates = run(page)
    assert workbench.sweeps.asked == [("the food was", ("A", "B", "C"), (0.0, 2.0), 2, 17, "starter")]
    texts = [update[page.sweeping.panel] for update in updates]
    assert all(later.startswith(earlier) for earlier, later in pairwise(texts)), "it only grows"
    head, *lines = map(json.loads, texts[-1].splitlines())
    assert head["weights"] == [0.0, 2.0] and head["total"] == 8 and head["judge"] == "judge" and head["command"].startswith("rgtg sweep --prompt")
    assert [(line["letters"], line["symbol"], line["guide"]) for line in head["lines"]] == [(["B", "E"], "β", "one"), (["D"], "λ", "two")]
    answers = [line for line in lines if "t" in line]
    assert sorted((a["l"], a["w"], a["s"]) for a in answers) == [(line, w, s) for line in range(2) for w in range(2) for s in range(2)]
    for a in answers:
        assert a["judge"] == pytest.approx(a["t"][-1][1], abs=1e-3) and a["guide"] == pytest.approx(a["t"][-1][2], abs=1e-3)
        assert all(len(token) == 4 + (token[0] == "") for token in a["t"]), "a token without text has a label"
    assert lines[-1]["end"] == "done" and [set(peak) for peak in lines[-1]["peaks"]] == [{"weight", "clear", "words"}] * 2
    assert all(peak["words"].startswith("Too few to tell: 2 seeds; take at least 5.") for peak in lines[-1]["peaks"])
    assert page.line.started_within(VISITOR.session_hash, 100) is False, "the ticket is given back"


def test_the_curves_have_an_axis_for_the_judge_for_each_guide_and_for_the_kl():
    page, _ = the_page()
    figure = run(page)[-1][page.sweeping.curves]
    titles = [note.text for note in figure.layout.annotations]
    assert titles == ["reward (judge), above its zero", "reward (one)", "reward (two)", "KL to the base LM, nats"]
    assert [(trace.name, trace.yaxis or "y") for trace in figure.data] == [
        ("B", "y"), ("B", "y2"), ("B", "y4"), ("D", "y"), ("D", "y3"), ("D", "y4"),
    ]  # fmt: skip
    assert list(figure.data[0].x) == [0, 1] and figure.layout.xaxis.ticktext == ("0", "2") and tuple(figure.data[4].customdata[1]) == (1, 1)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "no list of weights"), (None, "no list of weights"), (["0"], "no list of weights"), ("1", "Found 1."), ("2, 2", "Found 1."),
        ("0, x", "Found “x”"), ("0, nan", "Found “nan”"), ("0, inf", "Found “inf”"), ("0," * 300, "limit is 400"),
        (", ".join(map(str, range(17))), "Found 17"),
    ],
)  # fmt: skip
def test_a_list_of_weights_that_cannot_be_read_is_refused_beside_its_field(text, words):
    with pytest.raises(BadSettings, match=words) as refused:
        read_weights(text)
    assert refused.value.field == "weights"


def test_weights_are_read_in_ascending_order_each_once():
    assert read_weights(" 8;0.5, 2  2,1e1") == (0.5, 2.0, 8.0, 10.0)


@pytest.mark.parametrize(
    ("sent", "words"),
    [({"seeds": 0}, "seeds"), ({"seeds": 33}, "seeds"), ({"seeds": "many"}, "seeds"), ({"seeds": 1.5}, "seeds"), ({"weights": 7}, "weights")],
)
def test_what_the_browser_may_not_send_is_refused_before_any_model_is_asked(sent, words):
    page, workbench = the_page()
    with pytest.raises(gr.Error, match=words):
        run(page, **sent)
    assert workbench.sweeps.asked == []
    with pytest.raises(gr.Error, match="There is no prompt"):
        run(page, "  ")


def test_a_grid_over_the_limits_is_asked_back_once_and_on_a_public_server_refused():
    page, workbench = the_page(OVER)
    with pytest.raises(gr.Error, match="Or press Start again to run it unchanged"):
        run(page)
    with pytest.raises(gr.Error, match="Or press Start again"):
        run(page, weights="0, 1")  # another grid is asked about anew
    assert workbench.sweeps.asked == [] and len(run(page, weights="0, 1")) > 1
    workbench.settings = SimpleNamespace(public=True)
    for _ in range(2):
        with pytest.raises(gr.Error) as refused:
            run(page)
        assert "press Start again" not in str(refused.value)


def test_stop_ends_a_grid_with_what_is_finished():
    page, _ = the_page()
    updates = page.sweeping.start()("the food was", settings_of(page.workbench), *columns_of(page.workbench), VISITOR, event(weights="0, 2", seeds=2))
    next(updates)
    page.sweeping.stop()(VISITOR)
    *_, last = updates
    assert json.loads(last[page.sweeping.panel].splitlines()[-1])["end"] == "stopped"


def test_without_a_judge_nothing_is_recommended_and_the_curves_leave_it_out():
    sweep: WeightSweep = sweeps().weights("the food", COLUMNS, (0.0, 1.0), 1, GENERATION)
    sweep.judge = None
    texts = Texts(sweep, StubWorkbench())
    for item in sweep:
        texts.take(item)
    assert json.loads(texts.end("done").splitlines()[-1])["peaks"] == [None, None]
    assert [note.text for note in texts.figure().layout.annotations] == ["reward (one)", "reward (two)", "KL to the base LM, nats"]


def test_the_words_say_whether_the_seeds_are_enough():
    clear = Peak(4.0, 2.0, 8.0, (1.2, 0.4, 2.0), 5, True)
    assert peak_words(clear, "β") == (
        "β = 4: the judge peaks here; in 95 % of resamples of 5 seeds between 2 and 8; judge +1.20 [+0.40, +2.00] against the lowest weight."
    )
    assert peak_words(Peak(4.0, 0.0, 8.0, (0.2, -0.4, 1.0), 5, False), "β").startswith("Too few to tell: the judge is highest at β = 4, in 95 %")
    assert peak_words(Peak(4.0, 4.0, 4.0, (0.2, 0.2, 0.2), 1, False), "β").startswith("Too few to tell: 1 seed; take at least 5.")
