"""Figures from records: which points, which names, and that no colour is borrowed from the sign of a reward."""

from dataclasses import replace

import plotly.graph_objects as go
import pytest

from rgtg.plots import (
    COLUMN_COLOURS,
    OWN_GUIDE,
    accuracy_by_length,
    curve_points,
    default_measure,
    examined_accuracy,
    frontier_layout,
    measure_of,
    reward_curve,
    training_curve,
)
from rgtg.records import ModelRef, Run, Step, Trace


def step(position: int, text: str = " ok", **rewards: float) -> Step:
    return Step(position, 5, text, -0.5, -0.5, 1, 1, 0.6, 0.6, rewards=tuple(rewards.items()))


def trace(column: str = "A", guide: str | None = None, steps: tuple[Step, ...] = (), **changes) -> Trace:
    run = Run("the food was", "pargs" if guide else "base", ModelRef("lm"), guides=((ModelRef(guide), 1.0),) if guide else ())
    return Trace(f"trace-{column}", column, run, steps, **changes)


def test_points_are_those_of_the_guide():
    guided = trace(guide="partial", steps=(step(0, judge=9.0, partial=1.0), step(1, judge=9.0, partial=2.5)))
    assert curve_points(guided, measure_of(guided, OWN_GUIDE)) == [(0, 1.0), (1, 2.5)]


def test_without_a_guide_the_first_observer_is_drawn():
    guided = trace(steps=(step(0, judge=0.25, full=3.0),))
    assert curve_points(guided, measure_of(guided, OWN_GUIDE)) == [(0, 0.25)]


def test_a_named_reward_model_is_drawn_for_every_column():
    traces = [trace("A", None, (step(0, judge=0.25),)), trace("B", "partial", (step(0, partial=7.0, judge=0.5),))]
    figure = reward_curve(traces, "judge")
    assert [list(line.y) for line in figure.data] == [[0.25], [0.5]]
    assert figure.layout.yaxis.title.text == "reward (judge)"


def test_offsets_between_lengths_are_removed_where_a_run_knows_them_and_the_plot_says_so():
    traces = [trace("A", None, (step(0, partial=1.0, judge=2.0), step(1, partial=3.0, judge=2.0), step(2, partial=4.0, judge=2.0)))]
    traces.append(trace("B", "partial", (step(0, partial=2.0, judge=1.0),)))
    traces[1] = replace(traces[1], run=replace(traces[1].run, standards=(("partial", (0.5, 2.5), (1.0, 1.0)),)))
    figure = reward_curve(traces, "partial")
    assert [list(line.y) for line in figure.data] == [[0.5, 0.5, 1.5], [1.5]], "the last mean counts beyond the longest sample"
    assert figure.layout.yaxis.title.text == "reward (partial)"
    assert "less the base LM's mean at each length" in [a.text for a in figure.layout.annotations]
    assert all("offset of this length removed" in line.hovertemplate for line in figure.data) and figure.data[0].customdata[0][2] == "+1.000"
    assert [a.y for a in figure.layout.annotations if a.text in "AB"] == [1.5, 1.5], "letters stand at the ends of the lines"
    judged = reward_curve(traces, "judge")
    assert list(judged.data[0].y) == [2.0] * 3 and {a.text for a in judged.layout.annotations} == {"A", "B"}
    both = reward_curve([*traces, trace("C", "full", (step(0, full=3.0),))], OWN_GUIDE)
    assert "reward (partial): less the base LM's mean at each length" in [a.text for a in both.layout.annotations]


def test_the_measure_is_the_judge_which_guides_no_column():
    traces = [trace("A", None, (step(0, partial=7.0, full=3.0, judge=0.25),)), trace("B", "partial", (step(0, partial=7.0, full=3.0, judge=0.5),))]
    traces.append(trace("C", "full", (step(0, partial=1.0, full=2.0, judge=-0.5),)))
    assert default_measure(traces) == "judge"
    figure = reward_curve(traces)
    assert [list(line.y) for line in figure.data] == [[0.25], [0.5], [-0.5]] and figure.layout.yaxis.title.text == "reward (judge)"
    assert all("by judge" in line.hovertemplate for line in figure.data)


def test_without_a_judge_two_guides_have_each_their_own_axis_and_name():
    traces = [trace("A", None, (step(0, full=3.0, partial=7.0),)), trace("B", "partial", (step(0, full=9.0, partial=7.0),))]
    traces.append(trace("C", "full", (step(0, full=-11.0, partial=0.0),)))
    assert default_measure(traces) == OWN_GUIDE and default_measure(traces[:0]) == OWN_GUIDE
    assert default_measure([trace("B", "partial", (step(0, partial=7.0),))]) == "partial"
    figure = reward_curve(traces)
    assert [(line.name, line.yaxis, list(line.y)) for line in figure.data] == [("A", "y", [3.0]), ("B", "y2", [7.0]), ("C", "y", [-11.0])]
    upper, lower = figure.layout.yaxis.domain, figure.layout.yaxis2.domain
    assert lower[1] < upper[0], "no unit is drawn on another's axis"
    assert {"reward (full)", "reward (partial)"} <= {a.text for a in figure.layout.annotations}
    assert "by full" in figure.data[0].hovertemplate, "the base column says whose reward it shows"


@pytest.mark.parametrize(("num_tokens", "ticks"), [(2, 1), (14, 2), (24, 2), (300, 50)])
def test_tokens_and_steps_are_counted_in_whole_numbers(num_tokens: int, ticks: int):
    assert reward_curve([trace(steps=tuple(step(i, judge=0.5) for i in range(num_tokens)))]).layout.xaxis.dtick == ticks
    assert training_curve([{"step": num_tokens, "num_steps": num_tokens, "loss": 0.5}]).layout.xaxis.dtick == ticks


def test_tokens_without_that_reward_are_left_out():
    found = trace(guide="partial", steps=(step(0, partial=1.0), step(1), step(2, partial=3.0)))
    assert curve_points(found, "partial") == [(0, 1.0), (2, 3.0)]
    assert list(reward_curve([found]).data[0].x) == [1, 3]


def test_a_branch_begins_with_the_token_before_it_leaves():
    steps = tuple(step(i, partial=float(i)) for i in range(5))
    assert curve_points(trace("E", "partial", steps, branch_position=3), "partial") == [(2, 2.0), (3, 3.0), (4, 4.0)]
    assert curve_points(trace("E", "partial", steps, branch_position=0), "partial") == [(i, float(i)) for i in range(5)]


def test_a_point_carries_its_column_and_token():
    figure = reward_curve([trace("C", "partial", (step(0, partial=1.0), step(1, partial=2.0)))])
    assert [tuple(point) for point in figure.data[0].customdata] == [("C", 0, "+1.000"), ("C", 1, "+2.000")]
    assert "%{y" not in figure.data[0].hovertemplate  # with a sign in its format plotly prints 15 digits
    assert figure.data[0].mode == "lines+markers"  # a bare line has no points to click


def test_markup_in_a_token_is_not_markup_in_the_label():
    figure = reward_curve([trace("A", "partial", (step(0, '<a href="x">&lt;', partial=1.0),))])
    assert "<" not in figure.data[0].text[0] and "&" not in figure.data[0].text[0]


def test_letters_of_lines_that_end_together_stand_side_by_side():
    ends = (("A", 1.0), ("B", 1.1), ("C", 1.5))
    traces = [trace(c, "partial", (step(0, partial=-3.0), step(1, partial=v))) for c, v in ends]  # near is near on the axis, not among the ends
    letters = {a.text: a.xshift for a in reward_curve(traces).layout.annotations}
    assert letters["A"] != letters["B"] and letters["A"] == letters["C"]


def test_nothing_measured_is_said_in_words():
    assert "No rewards were measured" in reward_curve([trace(steps=(step(0),))]).layout.annotations[0].text
    assert reward_curve([]).layout.annotations[0].text and not reward_curve([]).layout.xaxis.visible


def test_a_figure_has_a_height_no_title_and_a_clear_ground():
    layout = reward_curve([]).layout
    assert layout.height and layout.title.text is None and layout.paper_bgcolor == layout.plot_bgcolor == "rgba(0,0,0,0)"


def test_no_line_is_blue_or_red():
    for colour in COLUMN_COLOURS.values():
        red, green, blue = (int(colour[i : i + 2], 16) for i in (1, 3, 5))
        assert not (red > 2 * green and red > 2 * blue) and not (blue > 2 * red and blue > 1.5 * green)


# ---- trainings ------------------------------------------------------------------------------------------------------------


def test_a_training_has_a_line_for_loss_and_one_for_accuracy():
    lines = [{"phase": "data"}] + [{"step": s, "num_steps": 20, "loss": 1 / s, "held_out_accuracy": 0.75 if s > 5 else None} for s in (5, 10, 15)]
    loss, accuracy = training_curve(lines).data
    assert list(loss.x) == [5, 10, 15] and list(loss.y) == [0.2, 0.1, 1 / 15]
    assert list(accuracy.x) == [10, 15] and list(accuracy.y) == [75.0, 75.0] and accuracy.yaxis == "y2"


def test_a_training_without_steps_or_with_a_lost_loss_has_words_or_gaps():
    assert "first steps" in training_curve([]).layout.annotations[0].text
    assert list(training_curve([{"step": 5, "num_steps": 9, "loss": None}, {"step": 9, "num_steps": 9, "loss": 0.5}]).data[0].x) == [9]


def test_accuracy_by_length_stands_beside_the_parents_with_intervals():
    found = {"end": {"accuracy": 0.9, "low": 0.8, "high": 0.95, "n": 40}, "4": {"accuracy": 0.7, "low": 0.6, "high": 0.8, "n": 30}}
    parent, child = accuracy_by_length(found, {"4": {"accuracy": 0.6, "n": 30}}).data
    assert list(child.x) == ["4", "end"] and list(child.y) == [70.0, 90.0] and list(child.customdata) == [30, 40]
    assert [round(v) for v in child.error_y.array] == [10, 5] and [round(v) for v in child.error_y.arrayminus] == [10, 10]
    assert list(parent.x) == ["4"] and parent.name == "its parent"


def test_accuracy_without_intervals_or_figures_is_drawn_or_said():
    (line,) = accuracy_by_length({"1": {"accuracy": 0.5, "n": 3}}).data
    assert line.error_y.array is None
    assert "no held-out pairs" in accuracy_by_length({}).layout.annotations[0].text


def test_no_figure_carries_the_template_of_plotly_which_doubles_the_time_of_a_drawing():
    for figure in (reward_curve([]), training_curve([]), accuracy_by_length({}), go.Figure(layout=frontier_layout("KL", "reward"))):
        assert len(figure.layout.template.to_plotly_json().get("layout", {})) == 0 and len(figure.to_json()) < 1600


@pytest.mark.parametrize(("n", "num_traces"), [(5, 6), (4, 2)])
def test_a_band_over_few_pairs_is_left_out_since_it_would_hide_everything(n: int, num_traces: int):
    one = {"accuracy": 1.0, "low": 0.3, "high": 1.0, "n": n}
    figure = examined_accuracy({"full": {"by_length": {"1": one, "end": one}, "by_fraction": {"0.5": one}}})
    assert len(figure.data) == num_traces
