"""How the score grew with training, for every trial."""

from __future__ import annotations

from dataclasses import dataclass

import plotly.graph_objects as go

from dashboards import _look as look
from dashboards._points import Point, points, primary
from nasx.quantity import amount, brief
from nasx.study import Study
from nasx.trial import Snapshot

TITLE = "Learning curves"
ORDER = 55
WHY = "The score at each rung; a line that ends early is a trial that was stopped there."


@dataclass(frozen=True)
class Info:
    """The trials with a score, the score's name and the rungs' budgets."""

    points: list[Point]
    axis: str
    budgets: list[int]


def figure(record: Snapshot, study: Study) -> go.Figure:
    """Return score over samples as a figure."""
    return draw(collect(record, study))


def collect(record: Snapshot, study: Study) -> Info:
    """Return every trial with the primary score at one rung or more."""
    axis = primary(study)
    found = [p for p in points(record, study) if any(axis in r.values for r in p.trial.rungs)]
    return Info(found, axis, list(study.fidelity.budgets()))


def draw(info: Info) -> go.Figure:
    """Draw the front's lines strong, those of other trials faint."""
    if not info.points:
        return look.empty("No trial has a score yet.")
    figure = look.canvas()
    groups = (
        ("stopped or unfinished", look.FAINT, 1.0, 0.7),
        ("fully trained", look.COLOURS[5], 1.2, 0.75),
        ("on the front", look.ACCENT, 1.8, 1.0),
    )
    for name, colour, width, opacity in groups:
        chosen = [p for p in info.points if _group(p) == name]
        for i, point in enumerate(chosen):
            rungs = [r for r in point.trial.rungs if info.axis in r.values]
            figure.add_scatter(
                x=[r.samples for r in rungs],
                y=[r.values[info.axis] for r in rungs],
                mode="lines+markers",
                line={"color": colour, "width": width},
                marker={"size": 4, "color": colour},
                opacity=opacity,
                name=name,
                legendgroup=name,
                showlegend=i == 0,
                text=[
                    f"<b>{point.trial.name}</b><br>{amount(info.axis, r.values[info.axis])} "
                    f"after {brief(r.samples)} samples"
                    for r in rungs
                ],
                hovertemplate="%{text}<extra></extra>",
            )
    figure.update_xaxes(
        title_text="samples trained on",
        type="log",
        tickvals=info.budgets,
        ticktext=[brief(b) for b in info.budgets],
    )
    figure.update_yaxes(title_text=look.title(info.axis, of=" (valid)"))
    return figure


def _group(point: Point) -> str:
    if point.role == "front":
        return "on the front"
    full = point.role in ("dominated", "infeasible")
    return "fully trained" if full else "stopped or unfinished"
