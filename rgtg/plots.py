"""Plotly figures of traces and trainings. Pure: no screen, no models, no database.

A colour identifies a column; blue and red are reserved for the sign of a reward, so no line has them. Letters at the ends of lines, symbols
and dashes identify columns without colour.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import plotly.graph_objects as go

from rgtg.config import COLUMN_NAMES
from rgtg.records import Trace

COLOURS = ("#7d8590", "#c2760a", "#0d9488", "#8b5fbf", "#5f8d1f", "#c0569b")
SYMBOLS = ("circle", "square", "diamond", "triangle-up", "star", "pentagon")
COLUMN_COLOURS = dict(zip(COLUMN_NAMES, COLOURS * 2, strict=False))  # behind F the colours are those of A and so on again, dotted
DASHES = dict(zip(COLUMN_NAMES, ("solid",) * len(COLOURS) + ("dot",) * len(COLOURS), strict=False))
COLUMN_SYMBOLS = dict(zip(COLUMN_NAMES, SYMBOLS + tuple(f"{s}-open" for s in SYMBOLS), strict=False))
MID_GREY = "#888888"
MOST_MARKERS = 100  # per line: more would touch, and drawing 900 of them blocks a browser for half a second
HEIGHT = 300
REMOVED = "less the base LM's mean at each length"  # where offsets between lengths are removed
OWN_GUIDE = "own guide"  # in place of the name of a reward model: the guide of each column


def reward_curve(traces: Sequence[Trace], measure: str = "", titles: dict[str, str] | None = None) -> go.Figure:
    """Reward of every prefix, one line per trace. `measure` is the name of a reward model, "" is `default_measure`; with OWN_GUIDE each
    reward model has its own axis. `titles` are method names by column. The customdata of a point is (column, token index, reward as text).

    Where a run holds the statistics of a reward over base samples, the offset of each length is removed, and axis and points say so."""
    measure = measure or default_measure(traces)
    lines = {t.column: (t, name, points) for t in traces if (points := curve_points(t, name := measure_of(t, measure)))}
    models = list(dict.fromkeys(name for _, name, _ in lines.values()))
    offsets = {name: means for t in traces for name, means, _ in t.run.standards if name in models}
    figure = go.Figure(layout=_layout(f"reward ({_plain(models[0])})" if len(models) == 1 else "reward"))
    axes = {name: f"y{number if number > 1 else ''}" for number, name in enumerate(models, 1)}
    for column, (trace, name, points) in lines.items():
        _add_line(figure, trace, points, (titles or {}).get(column, trace.run.method), name, axes[name], offsets.get(name, ()))
    for model in models:
        shown = {column: without_offsets(points, offsets.get(name, ())) for column, (_, name, points) in lines.items() if name == model}
        _add_letters(figure, shown, axes[model])
    if len(models) > 1:
        _stack(figure, axes, {name: f"reward ({_plain(name)})" + (f": {REMOVED}" if name in offsets else "") for name in axes})
    elif offsets:
        figure.update_layout(margin={"t": 22})
        _add_note(figure, REMOVED, 1.0)
    if not figure.data:
        return with_message(figure, "No rewards were measured." if traces else "The curve appears with the first answer.")
    figure.update_xaxes(**_integer_ticks(max(len(trace.steps) for trace, _, _ in lines.values())))
    return figure


def default_measure(traces: Sequence[Trace]) -> str:
    """Measure for all columns: a reward model that guides none of them (a judge), else the only reward model, else OWN_GUIDE. static/core.js
    follows the same rule."""
    guides = {ref.name for trace in traces for ref, _ in trace.run.guides}
    names = list(dict.fromkeys(name for trace in traces if trace.steps for name, _ in trace.steps[0].rewards))
    judges = [name for name in names if name not in guides]
    return judges[-1] if judges else names[0] if len(names) == 1 else OWN_GUIDE


def measure_of(trace: Trace, measure: str) -> str:
    """Name of the reward model that a trace is plotted by: with OWN_GUIDE its guide, or else its first observer; "" if it has neither."""
    if measure != OWN_GUIDE:
        return measure
    if trace.run.reward_model:
        return trace.run.reward_model.name
    return next((step.rewards[0][0] for step in trace.steps if step.rewards), "")


def curve_points(trace: Trace, name: str) -> list[tuple[int, float]]:
    """Points (token index, reward of the prefix that ends there) by the reward model `name`; tokens without that reward are left out. A
    branch begins one token before it leaves its parent."""
    first = max(0, (trace.branch_position or 0) - 1)
    return [(i, value) for i, step in enumerate(trace.steps) if i >= first and (value := step.reward(name)) is not None]


def without_offsets(points: Sequence[tuple[int, float]], means: Sequence[float]) -> list[tuple[int, float]]:
    """Points less the mean reward of base samples at their length; as they are without means. Beyond the longest sample its last mean counts.

    >>> without_offsets([(0, 1.0), (1, 2.0), (2, 4.0)], (0.5, 1.5))
    [(0, 0.5), (1, 0.5), (2, 2.5)]
    """
    return [(i, value - means[min(i, len(means) - 1)]) for i, value in points] if means else list(points)


def _add_line(
    figure: go.Figure, trace: Trace, points: list[tuple[int, float]], title: str, name: str, axis: str, means: Sequence[float] = ()
) -> None:
    colour, removed = COLUMN_COLOURS[trace.column], "; offset of this length removed" if means else ""
    figure.add_trace(
        go.Scatter(
            x=[i + 1 for i, _ in points],
            y=[value for _, value in without_offsets(points, means)],
            customdata=[
                (trace.column, i, f"{round(value, 3) + 0.0:+.3f}".replace("-", "−")) for i, value in points
            ],  # plotly ignores the sign in a format
            text=[_plain(trace.steps[i].text) for i, _ in points],
            yaxis=axis,
            mode="lines+markers" if len(points) <= MOST_MARKERS else "lines",
            name=trace.column,
            line={"color": colour, "width": 1.6, "dash": DASHES[trace.column]},
            marker={"size": 5, "symbol": COLUMN_SYMBOLS[trace.column]},
            hovertemplate=f"{trace.column} {title}, token %{{x}}<br>%{{text}}<br>reward %{{customdata[2]}} by {_plain(name)}{removed}<extra></extra>",
        )
    )


def _plain(text: str) -> str:
    """Text without characters that Plotly would read as tags: text of a model is never markup."""
    return text.replace("<", "‹").replace("&", "＆")


def _add_letters(figure: go.Figure, lines: Mapping[str, Sequence[tuple[int, float]]], axis: str) -> None:
    """Add each column's letter at the end of its line; letters that would overlap are placed side by side."""
    values = [value for points in lines.values() for _, value in points]
    overlap = 0.06 * (max(values) - min(values))
    placed: list[tuple[int, float]] = []
    for column, points in lines.items():
        last, value = points[-1]
        num_overlapping = sum(1 for x, y in placed if x == last and abs(y - value) <= overlap)
        placed.append((last, value))
        font = {"color": COLUMN_COLOURS[column], "size": 12}
        figure.add_annotation(
            x=last + 1, y=value, yref=axis, text=column, showarrow=False, xanchor="left", xshift=6 + 11 * num_overlapping, font=font
        )


def _stack(figure: go.Figure, axes: Mapping[str, str], titles: Mapping[str, str]) -> None:
    """Give each of `axes` its part of the height, one above the other, with title and range: their units differ."""
    share = 1 / len(axes)
    for number, (name, axis) in enumerate(axes.items()):
        domain = [max(0.0, 1 - (number + 1) * share), 1 - (number + 0.18) * share]
        side = figure.layout.yaxis.to_plotly_json() | {"domain": domain, "title": None, "nticks": 4, "anchor": "x"}
        figure.update_layout({f"yaxis{axis[1:]}": side})
        _add_note(figure, titles[name], domain[1])
    figure.update_xaxes(anchor=list(axes.values())[-1])


def _add_note(figure: go.Figure, text: str, y: float) -> None:
    """Add a line of words above the axes that end at this height, from 0 to 1."""
    place = {"x": 0, "y": y, "xref": "paper", "yref": "paper", "xanchor": "left", "yanchor": "bottom"}
    figure.add_annotation(text=text, **place, showarrow=False, font={"color": MID_GREY, "size": 11})


def _integer_ticks(highest: int) -> dict[str, int]:
    """Axis settings for about ten ticks at integers up to `highest`."""
    step = next(size * 10**power for power in range(18) for size in (1, 2, 5) if highest <= 12 * size * 10**power)
    return {"tick0": 0, "dtick": step}


def _layout(title: str) -> go.Layout:
    axis = {"gridcolor": "rgba(136,136,136,0.18)", "zerolinecolor": "rgba(136,136,136,0.55)", "linecolor": "rgba(136,136,136,0.4)", "color": MID_GREY}
    return go.Layout(
        template="none",  # every property in use is set here; Plotly's own template has 6 KB and doubles the time of a drawing
        height=HEIGHT,
        margin={"l": 44, "r": 44, "t": 8, "b": 34},
        paper_bgcolor="rgba(0,0,0,0)",
        plot_bgcolor="rgba(0,0,0,0)",
        font={"color": MID_GREY, "size": 11},
        showlegend=False,
        hovermode="closest",
        xaxis=axis | {"title": {"text": "token", "standoff": 4}, "zeroline": False, "tickformat": "d"},
        yaxis=axis | {"title": {"text": title, "standoff": 4}, "automargin": True},
    )


# ---- weights -----------------------------------------------------------------------------------------

AXIS_HEIGHT = 128  # px of one axis of `weight_curves`
Interval = tuple[float, float, float]  # mean, low, high


def weight_curves(
    weights: Sequence[float], measures: Mapping[str, str], lines: Sequence[tuple[str, str, Mapping[str, Sequence[Interval | None]]]]
) -> go.Figure:
    """Curves against the weight, an axis for each measure ({key: title with unit}), one above the other; bars are intervals over seeds.

    A line is (letter of its column, title, {measure: values by weight}). Weights are at equal distances. The customdata of a point is
    (line, weight) by index.
    """
    figure = go.Figure(layout=_plain_layout(max(1, len(measures)) * AXIS_HEIGHT + 40, "weight", "", right=28))
    if not any(value for _, _, values in lines for of_measure in values.values() for value in of_measure):
        return with_message(figure, "The curves appear with the first answers.")
    axes = {key: f"y{number if number > 1 else ''}" for number, key in enumerate(measures, 1)}
    for number, (letter, title, values) in enumerate(lines):
        for key, axis in axes.items():
            points = [(i, value) for i, value in enumerate(values.get(key, ())) if value]
            if not points:
                continue
            up, down = ([abs(value[side] - value[0]) for _, value in points] for side in (2, 1))
            colour = COLUMN_COLOURS[letter]
            figure.add_trace(
                go.Scatter(
                    x=[i for i, _ in points], y=[value[0] for _, value in points], yaxis=axis, name=letter, mode="lines+markers",
                    customdata=[(number, i) for i, _ in points], text=[f"{value[0]:.2f} [{value[1]:.2f}, {value[2]:.2f}]" for _, value in points],
                    error_y={"type": "data", "array": up, "arrayminus": down, "thickness": 0.8, "width": 2},
                    line={"color": colour, "width": 1.6, "dash": DASHES[letter]}, marker={"size": 6, "symbol": COLUMN_SYMBOLS[letter]},
                    hovertemplate=f"{letter} {_plain(title)}, weight %{{x}}<br>{_plain(measures[key])} %{{text}}<extra></extra>",
                )
            )  # fmt: skip
    _stack(figure, axes, {name: _plain(title) for name, title in measures.items()})
    figure.update_xaxes(tickvals=list(range(len(weights))), ticktext=[f"{weight:g}" for weight in weights], range=[-0.3, len(weights) - 0.7])
    return figure


# ---- trainings ----------------------------------------------------------------------------------------

NEW, OLD = COLOURS[2], COLOURS[0]  # a new model and its baseline
TRAINING_HEIGHT, ACCURACY_HEIGHT = 210, 250


def training_curve(progress: Sequence[Mapping[str, Any]]) -> go.Figure:
    """Loss (left axis, nats) and accuracy on held-out pairs (right axis, %) by step, from the progress reports of a training."""
    lines = [line for line in progress if isinstance(line.get("step"), int)]
    loss = [(line["step"], line["loss"]) for line in lines if line.get("loss") is not None]
    accuracy = [(line["step"], 100 * line["held_out_accuracy"]) for line in lines if line.get("held_out_accuracy") is not None]
    figure = go.Figure(layout=_plain_layout(TRAINING_HEIGHT, "step", "loss, nats", right=48))
    if not loss:
        return with_message(figure, "The curve appears with the first steps.")
    _add_series(figure, loss, "loss", OLD, "step %{x}<br>loss %{y:.4f} nats")
    steps = next((line["num_steps"] for line in reversed(lines) if line.get("num_steps")), loss[-1][0])
    figure.update_xaxes(range=[0, steps * 1.02], **_integer_ticks(steps))
    figure.update_yaxes(rangemode="tozero")
    if accuracy:
        _add_series(figure, accuracy, "held-out accuracy", NEW, "step %{x}<br>%{y:.1f} % right on held-out pairs", yaxis="y2", symbol="diamond")
        figure.data[-1].line.shape = "hv"  # a report repeats the last measurement
        side = {"overlaying": "y", "side": "right", "range": [0, 104], "ticksuffix": " %", "color": NEW, "showgrid": False, "zeroline": False}
        figure.update_layout(yaxis2=side)
    return figure


def accuracy_by_length(
    accuracy: Mapping[str, Mapping[str, float]], other: Mapping[str, Mapping[str, float]] | None = None, name: str = "its parent"
) -> go.Figure:
    """Accuracy of a reward model on held-out pairs by prefix length, with intervals, and that of the model `other`, called `name`.

    `accuracy` is {"4": {"accuracy": 0.93, "low": 0.9, "high": 0.95, "n": 2951}, …, "end": …}; `low` and `high` may be missing.
    """
    lengths = sorted({*accuracy, *(other or {})}, key=lambda length: float("inf") if length == "end" else int(length))
    figure = go.Figure(layout=_plain_layout(ACCURACY_HEIGHT, "prefix length, tokens", "accuracy, %", right=16))
    if not lengths:
        return with_message(figure, "There are no held-out pairs to evaluate on.")
    for title, model, colour, symbol in ((name, other, OLD, "circle"), ("this model", accuracy, NEW, "diamond")):
        points = [(length, 100 * model[length]["accuracy"], model[length].get("n", 0)) for length in lengths if length in model] if model else []
        if points:
            hover = f"{title}, %{{x}} tokens<br>%{{y:.1f}} % of %{{customdata}} pairs"
            _add_series(figure, [p[:2] for p in points], title, colour, hover, symbol=symbol, customdata=[p[2] for p in points])
    with_interval = [length for length in lengths if "low" in accuracy.get(length, {})]
    if with_interval:
        up, down = (
            [100 * abs(accuracy[n][side] - accuracy[n]["accuracy"]) if n in with_interval else 0 for n in lengths if n in accuracy]
            for side in ("high", "low")
        )
        figure.data[-1].error_y = {"type": "data", "array": up, "arrayminus": down, "thickness": 1, "width": 3, "color": NEW}
    figure.add_hline(y=50, line={"color": "rgba(136,136,136,0.6)", "width": 1, "dash": "dot"})
    figure.update_xaxes(type="category", categoryorder="array", categoryarray=lengths)
    lowest = min(100 * model[n].get("low", model[n]["accuracy"]) for model in (accuracy, other or {}) for n in model)
    figure.update_yaxes(range=[max(0, min(45, lowest - 5)), 102])
    if other:
        figure.update_layout(showlegend=True, legend={"orientation": "h", "x": 1, "xanchor": "right", "y": 0.02, "yanchor": "bottom"})
    return figure


def _add_series(figure: go.Figure, points: Sequence[tuple], name: str, colour: str, hover: str, symbol: str = "circle", **extra: Any) -> None:
    x, y = zip(*points, strict=True)
    line, marker = {"color": colour, "width": 1.6}, {"size": 5, "symbol": symbol}
    figure.add_trace(
        go.Scatter(x=x, y=y, name=name, mode="lines+markers", line=line, marker=marker, hovertemplate=hover + "<extra></extra>", **extra)
    )


def with_message(figure: go.Figure, text: str) -> go.Figure:
    """The figure with a message in place of data that is not there yet."""
    figure.update_layout(xaxis={"visible": False}, yaxis={"visible": False})
    figure.add_annotation(text=text, showarrow=False, x=0.5, y=0.5, xref="paper", yref="paper", font={"color": MID_GREY})
    return figure


def frontier_layout(x_title: str, y_title: str) -> go.Layout:
    """Layout of a plot of many lines: large, with a legend beside it."""
    layout = _plain_layout(560, x_title, y_title, right=16)
    layout.update(showlegend=True, width=980, paper_bgcolor="#ffffff", legend={"font": {"size": 10}})
    layout.xaxis.tickformat = None  # halves of a nat, too
    return layout


def _plain_layout(height: int, x_title: str, y_title: str, right: int) -> go.Layout:
    layout = _layout("")
    layout.update(height=height, margin={"l": 48, "r": right, "t": 8, "b": 34})
    layout.xaxis.title.text, layout.yaxis.title.text = x_title, y_title
    return layout


# ---- examinations -------------------------------------------------------------------------------------

EXAMINED_HEIGHT, VIEW_HEIGHT = 460, 112  # px: of both accuracies together, of one row of views of a pair
LEAST_DRAWN = 5  # pairs: the interval of fewer would hide the other bands
SIDE_LINES = {"chosen": (COLOURS[2], "solid", "diamond"), "rejected": (COLOURS[1], "dash", "circle")}


def examined_accuracy(models: Mapping[str, Mapping[str, Any]]) -> go.Figure:
    """Accuracy of reward models by prefix length (above) and by fraction of the answers, with bands of their 95 % intervals. Lengths with fewer
    than LEAST_DRAWN pairs are left out; where all have fewer, the bands are.

    `models` is {name: {"by_length": {"4": {"accuracy", "low", "high", "n"}, …, "end": …}, "by_fraction": {"0.1": …}}}.
    """
    figure = go.Figure(layout=_plain_layout(EXAMINED_HEIGHT, "", "", right=12))
    places = {"by_length": ("x", "y", "%{x} tokens"), "by_fraction": ("x2", "y2", "%{x} of each answer")}
    ticks: dict[str, list[str]] = {key: [] for key in places}
    lowest = 45.0
    for number, (name, figures) in enumerate(models.items()):
        colour, symbol = COLOURS[number % len(COLOURS)], SYMBOLS[number % len(SYMBOLS)]
        for key, (x, y, at) in places.items():
            points = [(_at(where, key), one) for where, one in figures[key].items()]
            points = [(where, one) for where, one in points if one["n"] >= LEAST_DRAWN] or points
            ticks[key] += [where for where, _ in points]
            xs, values = [where for where, _ in points], [[100 * one[side] for _, one in points] for side in ("low", "high", "accuracy")]
            lowest = min([lowest, *(value - 4 for value in values[2])])
            shared: dict[str, Any] = {"x": xs, "xaxis": x, "yaxis": y, "legendgroup": name}
            edge = {"mode": "lines", "line": {"width": 0}, "hoverinfo": "skip", "showlegend": False}
            if any(one["n"] >= LEAST_DRAWN for _, one in points):
                figure.add_trace(go.Scatter(y=values[0], **edge, **shared))
                figure.add_trace(go.Scatter(y=values[1], fill="tonexty", fillcolor=_faint(colour), **edge, **shared))
            hover = f"{_plain(name)}, {at}<br>%{{y:.1f}} % (%{{customdata[0]}}) of %{{customdata[1]}} pairs<extra></extra>"
            custom = [(f"{100 * one['low']:.1f}–{100 * one['high']:.1f}", f"{one['n']:,}") for _, one in points]
            line = {"color": colour, "width": 1.6, "dash": "solid" if number < len(COLOURS) else "dot"}
            figure.add_trace(
                go.Scatter(
                    y=values[2], mode="lines+markers", name=_plain(name), line=line, marker={"size": 5, "symbol": symbol}, customdata=custom,
                    hovertemplate=hover, showlegend=key == "by_length", **shared,
                )
            )  # fmt: skip
    order = {key: sorted(set(found), key=lambda where: float("inf") if where == "end" else float(where.rstrip(" %"))) for key, found in ticks.items()}
    side = figure.layout.yaxis.to_plotly_json() | {"range": [max(0.0, lowest), 102], "ticksuffix": " %", "title": None}
    across = figure.layout.xaxis.to_plotly_json() | {"type": "category", "categoryorder": "array", "title": None, "tickformat": None}
    figure.update_layout(
        xaxis=across | {"categoryarray": order["by_length"], "anchor": "y"}, yaxis=side | {"domain": [0.56, 0.93]},
        xaxis2=across | {"categoryarray": order["by_fraction"], "anchor": "y2"}, yaxis2=side | {"domain": [0, 0.39], "anchor": "x2"},
        showlegend=True, legend={"orientation": "h", "x": 0, "xanchor": "left", "y": 1.0, "yanchor": "bottom", "font": {"size": 11}},
    )  # fmt: skip
    for text, height in (("accuracy by length of the prefix, tokens", 0.93), ("accuracy by fraction of each answer", 0.39)):
        _add_note(figure, text, height)
    for y in ("y", "y2"):
        figure.add_shape(
            type="line", xref="paper", yref=y, x0=0, x1=1, y0=50, y1=50, line={"color": "rgba(136,136,136,0.6)", "width": 1, "dash": "dot"}
        )
    return figure


def _at(where: str, key: str) -> str:
    return f"{100 * float(where):.0f} %" if key == "by_fraction" else where


def _faint(colour: str) -> str:
    """The colour of a band: "#7d8590" -> "rgba(125,133,144,0.16)"."""
    red, green, blue = (int(colour[i : i + 2], 16) for i in (1, 3, 5))
    return f"rgba({red},{green},{blue},0.16)"


def credit_curves(sides: Mapping[str, tuple[Sequence[str], Mapping[str, Sequence[float | None]]]]) -> go.Figure:
    """Views of the tokens of a chosen and a rejected response, axes of their own, two in a row; {side: (tokens, {view: values})}."""
    views = list(dict.fromkeys(view for _, values in sides.values() for view in values))
    rows = max(1, -(-len(views) // 2))
    figure = go.Figure(layout=_plain_layout(rows * VIEW_HEIGHT + 40, "", "", right=12))
    if not views:
        return with_message(figure, "The curves appear with a pair.")
    longest = max((len(tokens) for tokens, _ in sides.values()), default=1)
    ticks: dict[str, Any] = _integer_ticks(2 * longest) | {"range": [0.4, longest + 0.6]}  # each has half the width
    across, up = (axis.to_plotly_json() | {"title": None} for axis in (figure.layout.xaxis, figure.layout.yaxis))
    for number, view in enumerate(views):
        row, column, name = number // 2, number % 2, str(number + 1) if number else ""
        top = 1 - (row + 0.2) / rows
        x = {"domain": [0.53 * column, 0.47 + 0.53 * column], "anchor": f"y{name}", "showticklabels": number + 2 >= len(views)}
        y = {"domain": [max(0.0, 1 - (row + 1) / rows), top], "anchor": f"x{name}", "nticks": 4}
        figure.update_layout({f"xaxis{name}": across | ticks | x, f"yaxis{name}": up | y})
        _add_note(figure, view, top)
        figure.layout.annotations[-1].x = 0.53 * column
        for side, (tokens, values) in sides.items():
            _add_view(figure, side, view, tokens, values.get(view, ()), name, not number)
    figure.update_layout(showlegend=True, legend={"orientation": "h", "x": 1, "xanchor": "right", "y": 1.0, "yanchor": "bottom"}, margin={"t": 18})
    return figure


def _add_view(figure: go.Figure, side: str, view: str, tokens: Sequence[str], values: Sequence[float | None], axis: str, legend: bool) -> None:
    colour, dash, symbol = SIDE_LINES[side]
    points = [(i, value) for i, value in enumerate(values, 1) if value is not None and value == value]
    figure.add_trace(
        go.Scatter(
            x=[i for i, _ in points], y=[value for _, value in points], xaxis=f"x{axis}", yaxis=f"y{axis}", name=side, legendgroup=side,
            text=[f"{_plain(tokens[i - 1]) or '⟨end⟩'}<br>{view} {f'{value:+.3f}'.replace('-', '−')}" for i, value in points],
            mode="lines+markers" if len(points) <= MOST_MARKERS else "lines", line={"color": colour, "width": 1.6, "dash": dash},
            marker={"size": 5, "symbol": symbol}, showlegend=legend, hovertemplate=f"{side}, token %{{x}} %{{text}}<extra></extra>",
        )
    )  # fmt: skip
