"""From proposal to front: how many candidates were left after each step."""

from __future__ import annotations

from dataclasses import dataclass

import plotly.graph_objects as go

from dashboards import _look as look
from dashboards._points import points
from nasx.axes import AXES
from nasx.study import Study
from nasx.trial import Snapshot, State

TITLE = "From proposals to the front"
ORDER = 60
WHY = "What became of every candidate that was proposed; grey bars left the search at that step."


@dataclass(frozen=True)
class Step:
    """One bar: its words, its count, and whether these candidates left here."""

    label: str
    count: int
    left: bool


def figure(record: Snapshot, study: Study) -> go.Figure:
    """Return the funnel as a figure."""
    return draw(collect(record, study))


def collect(record: Snapshot, study: Study) -> list[Step]:
    """Return the steps in order; steps that nobody left at are dropped."""
    found = points(record, study)
    states = [p.trial.state for p in found]
    refused: dict[str, int] = {}
    for rejection in record.rejections:
        label = AXES[rejection.constraint].label if rejection.constraint in AXES else ""
        why = f"refused: {label or rejection.constraint}"
        refused[why] = refused.get(why, 0) + 1
    proposed = len(found) + len(record.rejections) + record.duplicates
    waiting = sum(s in (State.RUNNING, State.INTERRUPTED) for s in states)
    steps = [
        Step("proposed", proposed, False),
        Step("seen before", record.duplicates, True),
        *(Step(why, n, True) for why, n in sorted(refused.items(), key=lambda x: -x[1])),
        Step("trained", len(found), False),
        Step("failed", states.count(State.FAILED), True),
        Step("stopped at a rung", states.count(State.STOPPED), True),
        Step("not finished", waiting, True),
        Step("fully trained", states.count(State.COMPLETE), False),
        Step("over a limit", sum(p.role == "infeasible" for p in found), True),
        Step("on the front", sum(p.role == "front" for p in found), False),
    ]
    return [s for s in steps if s.count or not s.left] if proposed else []


def draw(steps: list[Step]) -> go.Figure:
    """Draw one horizontal bar for each step, the first at the top."""
    if not steps:
        return look.empty("Nothing has been proposed yet.")
    figure = look.canvas(max(240, 60 + 30 * len(steps)), legend=False)
    figure.add_bar(
        x=[s.count for s in steps],
        y=[look.text(s.label) for s in steps],
        orientation="h",
        marker={"color": ["#cfd7df" if s.left else look.ACCENT for s in steps]},
        text=[str(s.count) for s in steps],
        textposition="outside",
        textfont={"size": 12.5, "color": look.INK},
        cliponaxis=False,
        hovertemplate="%{y}: %{x}<extra></extra>",
    )
    figure.update_xaxes(visible=False)
    figure.update_yaxes(autorange="reversed", type="category")
    figure.update_yaxes(tickfont_color=look.INK, showgrid=False)
    figure.update_layout(bargap=0.3, margin={"l": 56, "r": 36, "t": 8, "b": 8})
    return figure
