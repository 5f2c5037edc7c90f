"""The front: the score against a cost, every trial in its place."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import plotly.graph_objects as go

from dashboards import _look as look
from dashboards._points import (
    Point,
    Role,
    cost_axis,
    knee_number,
    known_axes,
    points,
    primary,
    space_name,
    staircase,
)
from dashboards._repeats import chance, seeds_text
from nasx.axes import AXES
from nasx.quantity import amount, heading
from nasx.study import Study
from nasx.trial import Snapshot

TITLE = "The front"
ORDER = 10
WHY = "Each point is one network; those on the line cannot be beaten in both quantities shown."
WIDE = True
FILL = (
    "The darker a point, the likelier it stands on the front when trained with other seeds: a "
    "solid one is certain, a pale ring may lose its place, a dark one behind the line may take it. "
    "Bars are one standard deviation between seeds."
)

ROLES: dict[Role, str] = {
    "front": "on the front",
    "dominated": "dominated",
    "infeasible": "over a limit",
    "stopped": "stopped early (less training)",
}


@dataclass(frozen=True)
class Info:
    """What the figure shows: points, axes, the line and the two marked trials."""

    points: list[Point]
    x: str
    y: str
    stairs: list[Point]
    knee: Point | None
    baseline: Point | None
    styles: dict[str, tuple[str, str]]
    objectives: list[str]


def figure(record: Snapshot, study: Study) -> go.Figure:
    """Return the front of `record` as a figure."""
    return draw(collect(record, study))


def collect(record: Snapshot, study: Study) -> Info:
    """Return the points with the axes to open with: the first score against the first cost."""
    found = [p for p in points(record, study) if p.role in ROLES]
    x, y = cost_axis(study), primary(study)
    if x == y:
        x = next((axis for axis in ("macs", *known_axes(found)) if axis != y), "macs")
    names = list(dict.fromkeys([*study.spaces, *(p.trial.space for p in found)]))
    knee = knee_number(record)
    return Info(
        points=found,
        x=x,
        y=y,
        stairs=staircase([p for p in found if p.role in ("front", "dominated")], x, y),
        knee=next((p for p in found if p.number == knee), None),
        baseline=next((p for p in found if p.baseline and p.role != "stopped"), None),
        styles=look.space_style(names),
        objectives=list(study.objectives),
    )


def draw(info: Info) -> go.Figure:
    """Draw the points by role and space, the front as a step line over them."""
    scored = [p for p in info.points if p.role != "stopped"]
    if not scored:
        return look.empty("No trial has finished at full training yet, so there is no front.")
    figure = look.canvas(560)
    figure.update_layout(margin_r=62)  # room for a word beside the last point
    _step(figure, info)
    for role in ("stopped", "infeasible", "dominated", "front"):
        for space, style in info.styles.items():
            chosen = [p for p in info.points if p.role == role and p.trial.space == space]
            if chosen:
                _markers(figure, info, chosen, role, style)
    _marks(figure, info)
    _legend(figure, info)
    if any(p.membership is not None for p in scored):
        look.note(figure, FILL)
    shown = [p for p in scored if info.x in p.values and info.y in p.values]
    figure.update_xaxes(title_text=look.title(info.x), **scale(shown, info.x))
    figure.update_yaxes(title_text=look.title(info.y), **scale(shown, info.y))
    figure.update_layout(dragmode="zoom", legend_itemclick=False, legend_itemdoubleclick=False)
    return figure


def scale(shown: Sequence[Point], axis: str) -> dict[str, Any]:
    """Return a logarithmic axis for a cost that spans more than fourfold."""
    values = [p.values[axis] for p in shown]
    wide = values and min(values) > 0 and max(values) > 4 * min(values)
    if wide and AXES[axis].kind != "score":
        return {"type": "log", **look.log_ticks(values)}
    if values and min(values) == max(values):  # one value: an axis of its own making
        away = 0.2 * abs(values[0]) or 1.0
        return {"type": "linear", "range": [values[0] - away, values[0] + away]}
    return {"type": "linear"}


def _step(figure: go.Figure, info: Info) -> None:
    figure.add_scatter(
        x=[p.values[info.x] for p in info.stairs],
        y=[p.values[info.y] for p in info.stairs],
        mode="lines",
        line={
            "shape": "hv" if AXES[info.x].direction == "minimize" else "vh",
            "color": look.INK,
            "width": 1.2,
        },
        opacity=0.55,
        hoverinfo="skip",
        showlegend=False,
        meta={"role": "step"},
    )


def _markers(
    figure: go.Figure, info: Info, chosen: list[Point], role: Role, style: tuple[str, str]
) -> None:
    colour, symbol = style
    looks: dict[str, dict[str, Any]] = {
        "front": {"size": 11, "color": colour, "line": {"width": 1.2, "color": "#ffffff"}},
        "dominated": {"size": 8, "color": colour, "opacity": 0.28, "line": {"width": 0}},
        "infeasible": {
            "size": 8, "color": "rgba(255,255,255,0)", "opacity": 0.6,
            "line": {"width": 1.3, "color": colour},
        },
        "stopped": {"size": 5, "color": look.FAINT, "line": {"width": 0}},
    }  # fmt: skip
    figure.add_scatter(
        x=[p.values.get(info.x) for p in chosen],
        y=[p.values.get(info.y) for p in chosen],
        mode="markers",
        marker={**looks[role], **_sure(chosen, role, colour), "symbol": symbol},
        error_y=_bars(chosen, info.y, colour) if role == "front" else None,
        customdata=[p.number for p in chosen],
        text=[hover(p, info.objectives) for p in chosen],
        hovertemplate="%{text}<extra></extra>",
        showlegend=False,
        visible=role != "stopped",
        meta={"role": role},
    )


def _sure(chosen: list[Point], role: Role, colour: str) -> dict[str, Any]:
    """Fill points by the probability that they stand on the front, where it is known.

    Members keep a ring in full colour, so that a pale one is not taken for a dominated point.
    """
    if role not in ("front", "dominated") or all(p.membership is None for p in chosen):
        return {}
    known = [p.membership or 0.0 for p in chosen]
    if role == "front":
        fill = [look.faded(colour, 0.12 + 0.88 * p) for p in known]
        return {"color": fill, "line": {"width": 1.6, "color": colour}}
    return {"color": [look.faded(colour, 0.28 + 0.72 * p) for p in known], "opacity": 1}


def _bars(chosen: list[Point], axis: str, colour: str) -> dict[str, Any] | None:
    sizes = [p.spread[axis][0] if axis in p.spread else 0.0 for p in chosen]
    return {"array": sizes, "color": colour, "thickness": 1.2, "width": 3, "visible": any(sizes)}


def hover(point: Point, axes: Sequence[str]) -> str:
    """Return the label of a point: its name, where it stands, its objectives."""
    space = look.text(space_name(point.trial.space))
    lines = [f"<b>{point.trial.name}</b>  {space}, {ROLES[point.role]}"]
    if point.membership is not None and point.role in ("front", "dominated"):
        lines.append(f"on the front with probability {chance(point.membership)}")
    if point.lost:
        lines.append(seeds_text(point))
    for axis in axes:
        if axis in point.values:
            sd, seeds = point.spread.get(axis, (0.0, 1))
            extra = f" ± {sd:.1f} ({seeds} seeds)" if seeds > 1 else ""
            if axis == "latency_ms" and not point.measured:
                extra = " (provisional)"
            lines.append(
                f"{heading(axis).split(',')[0]}: {amount(axis, point.values[axis])}{extra}"
            )
    return "<br>".join(lines)


def _marks(figure: go.Figure, info: Info) -> None:
    """Ring the knee and the baseline, with their words beside them."""
    places = (("knee", info.knee, "top left"), ("baseline", info.baseline, "bottom right"))
    for word, point, place in places:
        if point is None or info.x not in point.values or info.y not in point.values:
            continue
        figure.add_scatter(
            x=[point.values[info.x]],
            y=[point.values[info.y]],
            mode="markers+text",
            text=[word],
            textposition=place,
            textfont={"size": 12.5, "color": look.INK},
            marker={
                "size": 18, "symbol": "circle-open" if word == "knee" else "square-open",
                "color": look.INK, "line": {"width": 1.4},
            },
            customdata=[point.number],
            cliponaxis=False,
            hoverinfo="skip",
            showlegend=False,
            meta={"role": word},
        )  # fmt: skip


def _legend(figure: go.Figure, info: Info) -> None:
    """Name every space, also one without a front member, and every role that occurs."""
    several = len(info.styles) > 1
    entries: list[tuple[str, dict[str, Any]]] = []
    if several:
        for space, (colour, symbol) in info.styles.items():
            entries.append(
                (look.text(space_name(space)), {"color": colour, "symbol": symbol, "size": 9})
            )
    grey = look.MUTED if several else next(iter(info.styles.values()))[0]
    hollow = {"color": "rgba(255,255,255,0)", "line": {"width": 1.3, "color": grey}, "size": 8}
    roles: dict[Role, dict[str, Any]] = {
        "front": {"color": grey, "size": 10},
        "dominated": {"color": grey, "opacity": 0.3, "size": 8},
        "infeasible": hollow,
    }
    present = {p.role for p in info.points}
    entries += [(ROLES[role], marker) for role, marker in roles.items() if role in present]
    for name, marker in entries:
        figure.add_scatter(
            x=[None], y=[None], mode="markers", name=name, marker=marker, hoverinfo="skip",
            meta={"role": "legend"},
        )  # fmt: skip
