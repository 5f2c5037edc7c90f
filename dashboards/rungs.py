"""Who survived the rungs, by cost: are small networks kept, or large ones?"""

from __future__ import annotations

from dataclasses import dataclass

import plotly.graph_objects as go

from dashboards import _look as look
from dashboards._points import known_axes, points
from nasx.axes import AXES
from nasx.quantity import amount, brief
from nasx.study import Study
from nasx.trial import Snapshot, State

TITLE = "Who was trained further"
ORDER = 50
WHY = "Share of each quarter of the trials, by cost, that reached a rung and was scored there."

ENDED = (State.COMPLETE, State.STOPPED, State.FAILED)


@dataclass(frozen=True)
class Info:
    """Counts by cost quarter (rows, cheapest first) and rung (columns)."""

    axis: str
    rows: list[str]
    columns: list[str]
    reached: list[list[int]]
    started: list[int]


def figure(record: Snapshot, study: Study) -> go.Figure:
    """Return rung survival as a figure."""
    return draw(collect(record, study))


def collect(record: Snapshot, study: Study) -> Info:
    """Return how many trials of each cost quarter have a score at each rung."""
    found = [p for p in points(record, study) if p.trial.state in ENDED]
    static = [axis for axis in known_axes(found) if AXES[axis].kind == "static"]
    axis = next((a for a in (*study.objectives, "macs", "params") if a in static), "macs")
    priced = sorted((p for p in found if axis in p.values), key=lambda p: p.values[axis])
    quarters = min(4, len(priced))
    groups = [
        priced[len(priced) * i // quarters : len(priced) * (i + 1) // quarters]
        for i in range(quarters)
    ]
    budgets = study.fidelity.budgets()
    return Info(
        axis=axis,
        rows=[
            f"{amount(axis, g[0].values[axis])} to {amount(axis, g[-1].values[axis])}"
            if len(g) > 1
            else amount(axis, g[0].values[axis])
            for g in groups
        ],
        columns=[f"{brief(b)} samples" for b in budgets],
        reached=[
            [sum(any(r.samples >= b for r in p.trial.rungs) for p in g) for b in budgets]
            for g in groups
        ],
        started=[len(g) for g in groups],
    )


def draw(info: Info) -> go.Figure:
    """Draw one cell for each quarter and rung, with the counts written in it."""
    if not info.rows:
        return look.empty("No trial has ended yet.")
    shares = [
        [n / started for n in row] for row, started in zip(info.reached, info.started, strict=True)
    ]
    labels = [
        [f"{n} of {started}" for n in row]
        for row, started in zip(info.reached, info.started, strict=True)
    ]
    figure = look.canvas(legend=False)
    figure.add_heatmap(
        z=shares,
        x=info.columns,
        y=info.rows,
        zmin=0,
        zmax=1,
        xgap=3,
        ygap=3,
        colorscale=[[0, "#f3f6f9"], [1, "#7fb8d8"]],
        showscale=False,
        text=labels,
        texttemplate="%{text}",
        textfont={"size": 13, "color": look.INK},
        hovertemplate=f"{look.title(info.axis)} %{{y}}<br>%{{x}}: %{{z:.0%}}<extra></extra>",
    )
    figure.update_xaxes(showgrid=False, type="category")
    figure.update_yaxes(showgrid=False, type="category", title_text=look.title(info.axis))
    return figure
