"""Drawings of results as SVG: forest plot, win matrix, calibration, accuracy by prefix length, reward along an answer.

A drawing is a node: [tag, attributes, children], a child being a node or text. `markup` writes it into a file, static/results.js onto a page.
Lines and words have the colour of the text around them; blue and red are for the sign of a reward, so nothing here has them.
"""

import html
import math
from collections.abc import Mapping, Sequence
from typing import Any

from rgtg.figures import share_words
from rgtg.plots import COLOURS, COLUMN_COLOURS, DASHES
from rgtg.ratings.leaderboard import Place
from rgtg.ratings.reward_models import Against, Share
from rgtg.workbench.report.results import Results, rank_words
from rgtg.workbench.report.tables import won

Node = list[Any]
Point = tuple[float, float]
RAW, ADJUSTED = COLOURS[2], COLOURS[1]
MORE, LESS = COLOURS[3], COLOURS[1]  # won more than half, less than half
MAX_LABEL = 34  # characters
MOST_SETTINGS = 16  # of one drawing, the best; tables have all of them
TEXT, SMALL = 12, 11
GREY = "0.62"  # opacity of words beside the data


def markup(node: Node) -> str:
    """The drawing as text; whatever its words and attributes hold is escaped."""
    tag, attributes, children = node
    names = "".join(f' {name}="{html.escape(str(value))}"' for name, value in attributes.items())
    return f"<{tag}{names}>" + "".join(html.escape(child) if isinstance(child, str) else markup(child) for child in children) + f"</{tag}>"


def forest(results: Results) -> Node:
    """Strengths with their intervals, the best first; below each the strength at equal length."""
    places = results.board.places[:MOST_SETTINGS]
    adjusted = [results.at_equal_length(place.setting) for place in places]
    left, width, step = 210, 620, 30
    low, high = _rounded([v for place in (*places, *adjusted) for v in (place.low, place.high)] + [0.0])
    bottom = 12 + step * len(places)

    def x(value: float) -> float:
        return left + (value - low) / (high - low) * (width - left - 16)

    nodes = [_line((x(tick), 4), (x(tick), bottom), 0.55 if tick == 0 else 0.16) for tick in _ticks(low, high)]
    nodes += [_text(x(tick), bottom + 16, f"{tick:+g}".replace("-", "−") if tick else "0", "middle", opacity=GREY) for tick in _ticks(low, high)]
    for number, (place, equal) in enumerate(zip(places, adjusted, strict=True)):
        y = 20 + step * number
        nodes.append(_text(left - 12, y + 4, _cut(place.setting), "end", place.setting))
        nodes += _interval(x, place, y - 4, RAW, "as voted", "circle")
        nodes += _interval(x, equal, y + 6, ADJUSTED, "at equal length", "diamond")
    nodes.append(_text(width - 16, bottom + 34, "strength, log-odds", "end", size=SMALL, opacity=GREY))
    nodes += _legend(left, bottom + 34, (("circle", RAW, "as voted"), ("diamond", ADJUSTED, "at equal length")))
    return _svg(width, bottom + 44, "Strengths with 95 % intervals", nodes)


def _interval(x: Any, place: Place, y: float, colour: str, name: str, sign: str) -> list[Node]:
    words = (
        f"{place.setting}, {name}: {place.strength:+.2f} ({place.low:.2f} to {place.high:.2f}), {place.num_votes:,} votes, rank {rank_words(place)}"
    )
    ends = (x(place.low), y), (x(place.high), y)
    return [
        ["line", _between(*ends) | {"stroke": colour, "stroke-width": 2}, [["title", {}, [words]]]],
        _mark(sign, x(place.strength), y, colour, words),
    ]


def win_matrix(results: Results) -> Node:
    """Share of battles that the row's setting won against the column's, ties half, with the number of battles."""
    board = results.board
    order = [board.settings.index(place.setting) for place in board.places[:MOST_SETTINGS]]
    left, cell, height = 210, 58, 36
    nodes = []
    for row, i in enumerate(order):
        y = 26 + row * height
        nodes.append(_text(left - 12, y + 22, f"{_cut(board.settings[i])}  {row + 1}", "end", board.settings[i]))
        nodes.append(_text(left + (row + 0.5) * cell, 16, str(row + 1), "middle", board.settings[i], opacity=GREY))
        for column, j in enumerate(order):
            share, box = won(results, i, j), {"x": left + column * cell, "y": y, "width": cell - 2, "height": height - 2, "rx": 2}
            if share is None:
                nodes.append(["rect", box | {"fill": "currentColor", "fill-opacity": "0.05"}, []])
                continue
            words = f"{board.settings[i]} won {share_words(share)} of {board.met[i][j]:,} battles against {board.settings[j]}"
            fill = {"fill": MORE if share >= 0.5 else LESS, "fill-opacity": round(abs(share - 0.5) * 1.1, 3)}
            nodes.append(["rect", box | fill, [["title", {}, [words]]]])
            nodes.append(_text(left + (column + 0.5) * cell - 1, y + 15, f"{100 * share:.0f} %", "middle"))
            nodes.append(_text(left + (column + 0.5) * cell - 1, y + 28, f"n {board.met[i][j]:,}", "middle", size=10, opacity="0.75"))
    return _svg(left + len(order) * cell + 4, 30 + len(order) * height, "Share of battles won, row against column", nodes)


def calibration(against: Against) -> Node:
    """Share in which the answer with the higher reward was preferred, by the difference in reward; the curve is σ(difference)."""
    most = max((bin.gap for bin in against.calibration), default=0.0) * 1.08 or 1.0
    axes = _Axes(430, 240, (0.0, most), (0.0, 1.0))
    curve = [(most * i / 60, 1 / (1 + math.exp(-most * i / 60))) for i in range(61)]
    xs = _ticks(0.0, most)
    nodes = axes.frame([f"{tick:g}" for tick in xs], xs, "difference in reward", "preferred")
    nodes.append(axes.path(curve, "currentColor", 1.2, "4 3", "σ(difference): rewards as log-odds of a preference"))
    if against.slope:
        fitted = [(x, 1 / (1 + math.exp(-max(-50.0, min(50.0, against.slope[0] * x))))) for x, _ in curve]
        nodes.append(axes.path(fitted, RAW, 1.4, "", f"σ({against.slope[0]:.2f} · difference), fitted"))
    for bin in against.calibration:
        nodes += axes.share(bin.gap, bin.preferred, RAW, "circle", f"difference {bin.gap:.2f}")
    nodes += _legend(axes.left, 232, (("circle", RAW, "share preferred, fit"), ("dash", "currentColor", "σ(difference)")))
    return _svg(430, 240, "Calibration: difference in reward and share preferred", nodes)


def lengths(against: Against) -> Node:
    """Accuracy by prefix length, of all votes and of branch votes; complete answers stand last."""
    numbers: list[int | str] = [*sorted({*against.by_length, *against.of_branches}), "end"]
    axes = _Axes(430, 240, (-0.5, len(numbers) - 0.5), (0.0, 1.0))
    nodes = axes.frame([str(n) for n in numbers], [float(i) for i in range(len(numbers))], "prefix length, tokens", "accuracy")
    of_all: dict[Any, Share] = {**against.by_length, "end": against.accuracy}
    of_branches: dict[Any, Share] = {**against.of_branches} | ({"end": against.branches} if against.branches else {})
    series = (("all votes", of_all, RAW, "circle", -0.09), ("branch votes", of_branches, ADJUSTED, "diamond", 0.09))
    for name, shares, colour, sign, aside in series:
        placed = [(i + aside, shares[n], n) for i, n in enumerate(numbers) if n in shares]
        nodes.append(axes.path([(x, share.value) for x, share, _ in placed], colour, 1.4))
        for x, share, n in placed:
            nodes += axes.share(x, share, colour, sign, f"{name}, {n if n == 'end' else f'{n} tokens'}")
    nodes += _legend(axes.left, 232, tuple((sign, colour, name) for name, shares, colour, sign, _ in series if shares))
    return _svg(430, 240, "Accuracy by prefix length", nodes)


def reward_lines(name: str, lines: Mapping[str, Sequence[tuple[int, float]]]) -> Node:
    """Reward of every prefix by the model `name`: {column: [(token index, reward)]}."""
    points = [point for line in lines.values() for point in line]
    low, high = _rounded([value for _, value in points] + [0.0])
    last = max(i for i, _ in points) + 1
    axes = _Axes(860, 220, (0.5, last + 0.8), (low, high))
    xs = [tick for tick in _ticks(1, last) if tick >= 1] or [1.0]
    nodes = axes.frame(
        [f"{tick:g}" for tick in xs],
        xs,
        "token",
        f"reward ({_cut(name)})",
        [f"{tick:g}".replace("-", "−") for tick in _ticks(low, high)],
        _ticks(low, high),
    )
    ends: list[Point] = []
    for column, line in lines.items():
        nodes.append(
            axes.path(
                [(i + 1, value) for i, value in line], COLUMN_COLOURS[column], 1.6, "" if DASHES[column] == "solid" else "2 3", f"{column}: {name}"
            )
        )
        x, y = axes.at(line[-1][0] + 1, line[-1][1])
        beside = sum(abs(x - other_x) < 14 and abs(y - other_y) < 11 for other_x, other_y in ends)  # letters that would overlap
        ends.append((x, y))
        nodes.append(_text(x + 5 + 11 * beside, y + 4, column, "start", fill=COLUMN_COLOURS[column]))
    return _svg(860, 220, f"Reward along the answers by {name}", nodes)


class _Axes:
    """A plot of this size: places of values, its frame, points and lines."""

    left = 52

    def __init__(self, width: float, height: float, x: Point, y: Point):
        self.width, self.height, self.x, self.y = width, height, x, y

    def at(self, x: float, y: float) -> Point:
        across = self.left + (x - self.x[0]) / (self.x[1] - self.x[0]) * (self.width - self.left - 14)
        return round(across, 1), round(self.height - 54 - (y - self.y[0]) / (self.y[1] - self.y[0]) * (self.height - 66), 1)

    def frame(
        self, labels: Sequence[str], xs: Sequence[float], x_title: str, y_title: str, y_labels: Sequence[str] = (), ys: Sequence[float] = ()
    ) -> list[Node]:
        ys, y_labels = ys or (0, 0.25, 0.5, 0.75, 1), y_labels or ("0", "25 %", "50 %", "75 %", "100 %")
        nodes = [_line(self.at(self.x[0], y), self.at(self.x[1], y), 0.45 if y == (0.5 if len(ys) == 5 and ys[-1] == 1 else 0) else 0.16) for y in ys]
        nodes += [_text(self.left - 6, self.at(0, y)[1] + 4, label, "end", size=SMALL, opacity=GREY) for y, label in zip(ys, y_labels, strict=True)]
        nodes += [_text(self.at(x, 0)[0], self.height - 38, label, "middle", size=SMALL, opacity=GREY) for x, label in zip(xs, labels, strict=True)]
        nodes.append(_text(self.width - 14, self.height - 22, x_title, "end", size=SMALL, opacity=GREY))
        return [*nodes, _text(self.left, 9, y_title, "start", size=SMALL, opacity=GREY)]

    def path(self, points: Sequence[Point], colour: str, width: float, dash: str = "", words: str = "") -> Node:
        line = " ".join("{},{}".format(*self.at(*point)) for point in points)
        attributes = {"points": line, "fill": "none", "stroke": colour, "stroke-width": width} | ({"stroke-dasharray": dash} if dash else {})
        return ["polyline", attributes, [["title", {}, [words]]] if words else []]

    def share(self, x: float, share: Share, colour: str, sign: str, name: str) -> list[Node]:
        words = f"{name}: {share_words(share.value, share.low, share.high)} of {share.n:,} pairs"
        bar = _between(self.at(x, share.low), self.at(x, share.high)) | {"stroke": colour, "stroke-width": 1.4, "stroke-opacity": "0.7"}
        return [["line", bar, [["title", {}, [words]]]], _mark(sign, *self.at(x, share.value), colour, words)]


def _svg(width: float, height: float, label: str, nodes: list[Node]) -> Node:
    head = {"viewBox": f"0 0 {width:g} {height:g}", "width": f"{width:g}", "height": f"{height:g}", "role": "img", "aria-label": label}
    return ["svg", head | {"font-family": "system-ui, sans-serif", "font-size": TEXT}, nodes]


def _text(x: float, y: float, words: str, anchor: str, title: str = "", size: int = TEXT, opacity: str = "1", fill: str = "currentColor") -> Node:
    attributes = {"x": round(x, 1), "y": round(y, 1), "text-anchor": anchor, "fill": fill, "font-size": size, "fill-opacity": opacity}
    return ["text", attributes, [words, *([["title", {}, [title]]] if title else [])]]


def _line(start: Point, end: Point, opacity: float) -> Node:
    return ["line", _between(start, end) | {"stroke": "currentColor", "stroke-opacity": opacity}, []]


def _between(start: Point, end: Point) -> dict[str, Any]:
    return {"x1": round(start[0], 1), "y1": round(start[1], 1), "x2": round(end[0], 1), "y2": round(end[1], 1)}


def _mark(sign: str, x: float, y: float, colour: str, words: str = "") -> Node:
    title = [["title", {}, [words]]] if words else []
    if sign == "circle":
        return ["circle", {"cx": round(x, 1), "cy": round(y, 1), "r": 4, "fill": colour}, title]
    if sign == "dash":
        return ["line", _between((x - 8, y), (x + 6, y)) | {"stroke": colour, "stroke-dasharray": "4 3", "stroke-width": 1.2}, []]
    return ["path", {"d": f"M{x:.1f} {y - 5:.1f}l5 5l-5 5l-5 -5z", "fill": colour}, title]


def _legend(x: float, y: float, entries: Sequence[tuple[str, str, str]]) -> list[Node]:
    nodes = []
    for sign, colour, words in entries:
        nodes += [_mark(sign, x + 6, y - 4, colour), _text(x + 15, y, words, "start", size=SMALL, opacity=GREY)]
        x += 26 + 6.2 * len(words)
    return nodes


def _cut(text: str) -> str:
    return text if len(text) <= MAX_LABEL else text[: MAX_LABEL - 1] + "…"


def _step(span: float) -> float:
    power = 10 ** math.floor(math.log10(span / 4))
    return next(size * power for size in (1, 2, 2.5, 5, 10) if span / (size * power) <= 6)


def _ticks(low: float, high: float) -> list[float]:
    """Four to seven round numbers."""
    step = _step(max(high - low, 1e-9))
    return [round(i * step, 10) + 0.0 for i in range(math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9) + 1)]


def _rounded(values: Sequence[float]) -> Point:
    """A range around the values."""
    low, high = min(values), max(values)
    margin = 0.06 * (high - low) or 1.0
    return low - margin, high + margin
