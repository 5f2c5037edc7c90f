"""Every candidate as a line through its fields: which values lead to the front?"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import plotly.graph_objects as go

from dashboards import _look as look
from dashboards._points import Point, points, primary, space_name
from nasx.axes import AXES
from nasx.quantity import amount, count, digits
from nasx.study import Study
from nasx.trial import Snapshot

TITLE = "What the candidates are made of"
ORDER = 45
WHY = "One line for each candidate through its fields and objectives; the front in colour."
WIDE = True
MOST = 12  # vertical axes that can still be read


@dataclass(frozen=True)
class Axis:
    """One vertical axis: its label, ends as text, and each line's height (None = no value)."""

    label: str
    top: str
    bottom: str
    heights: list[float | None]
    names: list[str]  # values in words, one for each line
    levels: list[tuple[float, str]]  # categories, by height


@dataclass(frozen=True)
class Info:
    """Axes and lines; `left_out` counts fields with one value or beyond the most that fit."""

    points: list[Point]
    axes: list[Axis]
    constant: int
    beyond: int


def figure(record: Snapshot, study: Study) -> go.Figure:
    """Return the candidates as parallel coordinates (ordinary SVG lines, no WebGL)."""
    return draw(collect(record, study))


def collect(record: Snapshot, study: Study) -> Info:
    """Return one axis for each field that varies, then one for each objective."""
    found = [p for p in points(record, study) if primary(study) in p.values]
    rows = [flat(p.trial.candidate) for p in found]
    names = list(dict.fromkeys(name for row in rows for name in row))
    varied = [n for n in names if len({repr(row.get(n)) for row in rows}) > 1]
    room = max(1, MOST - len(study.objectives))
    axes = [_field_axis(name, [row.get(name) for row in rows]) for name in varied[:room]]
    if len(record.study.spaces) > 1:
        axes.insert(0, _field_axis("space", [space_name(p.trial.space) for p in found]))
    axes += [_objective_axis(axis, found) for axis in study.objectives]
    return Info(found, axes, len(names) - len(varied), max(0, len(varied) - room))


def flat(candidate: dict[str, Any]) -> dict[str, Any]:
    """Return leaf values: a list field's elements as name.0, name.1, ..."""
    leaves: dict[str, Any] = {}
    for name, value in candidate.items():
        if isinstance(value, list | tuple):
            leaves.update({f"{name}.{i}": v for i, v in enumerate(value)})
        else:
            leaves[name] = value
    return leaves


def _field_axis(name: str, values: list[Any]) -> Axis:
    known = [v for v in values if v is not None]
    if all(isinstance(v, int | float) and not isinstance(v, bool) for v in known):
        low, high = min(known), max(known)
        log = low > 0 and high / low > 20
        heights = [None if v is None else _height(v, low, high, log) for v in values]
        words = ["–" if v is None else _short(v) for v in values]
        return Axis(name, _short(high), _short(low), heights, words, [])
    kinds = sorted({str(v) for v in known})
    step = {kind: i / max(1, len(kinds) - 1) for i, kind in enumerate(kinds)}
    heights = [None if v is None else step[str(v)] for v in values]
    levels = [(h, kind) for kind, h in step.items()]
    return Axis(name, "", "", heights, [str(v) for v in values], levels)


def _objective_axis(axis: str, found: list[Point]) -> Axis:
    values = [p.values.get(axis) for p in found]
    known = [v for v in values if v is not None]
    label = AXES[axis].label
    if not known:
        return Axis(label, "", "", [None] * len(values), ["–"] * len(values), [])
    low, high = min(known), max(known)
    if low == high:
        level = [(0.5, amount(axis, low))]
        return Axis(label, "", "", heights_of_one(values), [amount(axis, v) for v in values], level)
    log = AXES[axis].kind != "score" and low > 0 and high > 4 * low
    heights = [None if v is None else _height(v, low, high, log) for v in values]
    words = [amount(axis, v) for v in values]
    return Axis(label, amount(axis, high), amount(axis, low), heights, words, [])


def heights_of_one(values: list[float | None]) -> list[float | None]:
    """Return the middle for every value there is: an axis with one value has no ends."""
    return [None if v is None else 0.5 for v in values]


def _height(value: float, low: float, high: float, log: bool) -> float:
    if high == low:
        return 0.5
    if log:
        return math.log(value / low) / math.log(high / low)
    return (value - low) / (high - low)


def _short(value: float) -> str:
    if isinstance(value, int):
        return count(value)
    return count(value) if abs(value) >= 1000 else digits(value)


def draw(info: Info) -> go.Figure:
    """Draw faint lines first, the front over them, and the axes last."""
    if not info.points:
        return look.empty("No trial has a score yet.")
    figure = look.canvas(400)
    order = sorted(range(len(info.points)), key=lambda i: info.points[i].role == "front")
    seen: set[str] = set()
    traces = []
    for i in order:
        point = info.points[i]
        front = point.role == "front"
        name = "on the front" if front else "other candidates"
        heights = [axis.heights[i] for axis in info.axes]
        trace = go.Scatter(
            x=list(range(len(info.axes))),
            y=heights,
            mode="lines+markers",
            line={"color": look.ACCENT if front else look.FAINT, "width": 1.8 if front else 1},
            marker={"size": 5 if front else 3},
            opacity=0.85 if front else 0.6,
            name=name,
            legendgroup=name,
            showlegend=name not in seen,
            connectgaps=True,
            text=[
                f"<b>{point.trial.name}</b><br>{look.text(a.label)} {look.text(a.names[i])}"
                for a in info.axes
            ],
            hovertemplate="%{text}<extra></extra>",
        )
        traces.append(trace)
        seen.add(name)
    figure.add_traces(traces)
    _rulers(figure, info)
    return figure


def _rulers(figure: go.Figure, info: Info) -> None:
    """Draw each vertical axis with its label below and its ends above and below it."""
    line = {"color": look.FAINT, "width": 1}
    ends = (0.0, 1.0)
    words = [
        {
            "x": i, "y": height, "text": look.text(text), "showarrow": False,
            "yanchor": {1.0: "bottom", 0.0: "top"}.get(height, "middle"),
            "yshift": {1.0: 4, 0.0: -4}.get(height, 0),
            "xanchor": "center" if height in ends else "left",
            "xshift": 0 if height in ends else 6,
            "font": {"size": 11.5, "color": look.MUTED},
        }
        for i, axis in enumerate(info.axes)
        for height, text in ((1.0, axis.top), (0.0, axis.bottom), *axis.levels)
        if text
    ]  # fmt: skip
    figure.update_layout(
        shapes=[
            {"type": "line", "x0": i, "x1": i, "y0": 0, "y1": 1, "line": line}
            for i in range(len(info.axes))
        ],
        annotations=words,
        margin={"l": 16, "r": 16, "t": 40, "b": 40},
        yaxis={"visible": False, "range": [-0.12, 1.12]},
        xaxis={
            "tickvals": list(range(len(info.axes))),
            "ticktext": [look.text(axis.label) for axis in info.axes],
            "tickfont": {"color": look.INK, "size": 12.5},
            "range": [-0.35, len(info.axes) - 0.65],
            "showgrid": False,
        },
    )
    left = []
    if info.constant:
        left.append(f"{info.constant} that never varied")
    if info.beyond:
        left.append(f"{info.beyond} more than fit (all are in the data below)")
    if left:
        look.note(figure, f"Fields left out: {' and '.join(left)}.")
