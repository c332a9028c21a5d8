"""Traces as Plotly figures. Pure: no screen, no models, no database.

Colours say which column; blue and red stay with the sign of a reward, so no line has them. Letters at the lines' ends
and dashes say the same without colour.
"""

from collections.abc import Sequence

import plotly.graph_objects as go

from rgtg.config import COLUMN_NAMES
from rgtg.records import Trace

COLOURS = ("#7d8590", "#c2760a", "#0d9488", "#8b5fbf")
COLUMN_COLOURS = dict(zip(COLUMN_NAMES, COLOURS * 2, strict=True))  # E to H are A to D again, dotted
DASHES = dict(zip(COLUMN_NAMES, ("solid",) * 4 + ("dot",) * 4, strict=True))
SYMBOLS = ("circle", "square", "diamond", "triangle-up")
COLUMN_SYMBOLS = dict(zip(COLUMN_NAMES, SYMBOLS + tuple(f"{s}-open" for s in SYMBOLS), strict=True))
MID_GREY = "#888888"
HEIGHT = 300


def reward_curve(traces: Sequence[Trace], measure: str = "", titles: dict[str, str] | None = None) -> go.Figure:
    """Reward of every prefix, a line a trace. `measure` names the reward model; "" is each column's own guide, or else
    the first that observed it. `titles` are the methods' names by column. A point's customdata is (column, index of the token)."""
    figure = go.Figure(layout=_layout(measure))
    lines = {trace.column: (trace, points) for trace in traces if (points := curve_points(trace, measure))}
    for column, (trace, points) in lines.items():
        _add_line(figure, trace, points, (titles or {}).get(column, trace.run.method))
    _add_letters(figure, {column: points[-1] for column, (_, points) in lines.items()})
    if not figure.data:
        words = "no rewards were measured" if traces else "the curve comes with the first answer"
        figure.update_layout(xaxis={"visible": False}, yaxis={"visible": False})  # no numbers where none were measured
        figure.add_annotation(text=words, showarrow=False, x=0.5, y=0.5, xref="paper", yref="paper", font={"color": MID_GREY})
    return figure


def curve_points(trace: Trace, measure: str = "") -> list[tuple[int, float]]:
    """(index of the token, reward of the prefix that ends with it), tokens without that reward left out. A branch
    begins with the token before it leaves its parent."""
    name = measure or (trace.run.reward_model.name if trace.run.reward_model else "")
    if not name:
        name = next((step.rewards[0][0] for step in trace.steps if step.rewards), "")
    first = max(0, (trace.branch_position or 0) - 1)
    return [(i, value) for i, step in enumerate(trace.steps) if i >= first and (value := step.reward(name)) is not None]


def _add_line(figure: go.Figure, trace: Trace, points: list[tuple[int, float]], title: str) -> None:
    colour = COLUMN_COLOURS[trace.column]
    figure.add_trace(
        go.Scatter(
            x=[i + 1 for i, _ in points],
            y=[value for _, value in points],
            customdata=[(trace.column, i) for i, _ in points],
            text=[trace.steps[i].text.replace("<", "‹").replace("&", "＆") for i, _ in points],  # plotly reads a few tags in labels
            mode="lines+markers",
            name=trace.column,
            line={"color": colour, "width": 1.6, "dash": DASHES[trace.column]},
            marker={"size": 5, "symbol": COLUMN_SYMBOLS[trace.column]},
            hovertemplate=f"{trace.column} {title}, token %{{x}}<br>%{{text}}<br>reward %{{y:+.3f}}<extra></extra>",
        )
    )


def _add_letters(figure: go.Figure, ends: dict[str, tuple[int, float]]) -> None:
    """Each column's letter at the end of its line; letters that would cover one another stand side by side."""
    values = [value for _, value in ends.values()]
    near = 0.06 * (max(values) - min(values)) if values else 0.0
    placed: list[tuple[int, float]] = []
    for column, (last, value) in ends.items():
        crowd = sum(1 for x, y in placed if x == last and abs(y - value) <= near)
        placed.append((last, value))
        font = {"color": COLUMN_COLOURS[column], "size": 12}
        figure.add_annotation(x=last + 1, y=value, text=column, showarrow=False, xanchor="left", xshift=6 + 11 * crowd, font=font)


def _layout(measure: str) -> go.Layout:
    axis = {"gridcolor": "rgba(136,136,136,0.18)", "zerolinecolor": "rgba(136,136,136,0.55)", "linecolor": "rgba(136,136,136,0.4)", "color": MID_GREY}
    return go.Layout(
        height=HEIGHT,
        margin={"l": 44, "r": 44, "t": 8, "b": 34},
        paper_bgcolor="rgba(0,0,0,0)",
        plot_bgcolor="rgba(0,0,0,0)",
        font={"color": MID_GREY, "size": 11},
        showlegend=False,
        hovermode="closest",
        xaxis=axis | {"title": {"text": "token", "standoff": 4}, "zeroline": False, "tickformat": "d"},
        yaxis=axis | {"title": {"text": f"reward ({measure})" if measure else "reward (own guide)", "standoff": 4}},
    )
