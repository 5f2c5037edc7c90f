"""How the front grew: hypervolume over trials."""

from __future__ import annotations

from dataclasses import dataclass

import plotly.graph_objects as go

from dashboards import _look as look
from nasx.axes import AXES
from nasx.quantity import amount
from nasx.study import Study
from nasx.trial import Snapshot

TITLE = "Progress of the search"
ORDER = 30
WHY = "The volume the front covers after each trial; a flat end means little was left to find."


@dataclass(frozen=True)
class Info:
    """Hypervolume after each trial, as a share of the last one."""

    numbers: list[int]
    shares: list[float]
    reference: dict[str, float]
    restarts: list[int]


def figure(record: Snapshot, study: Study) -> go.Figure:
    """Return the hypervolume of `record` as a figure."""
    return draw(collect(record))


def collect(record: Snapshot) -> Info:
    """Return the growth by trial number; `provenance["restarts"]` may name trials after a stop."""
    from nasx.results.front import hypervolume_history, reference_point

    reference = reference_point(record)
    if not reference:
        return Info([], [], {}, [])
    grown = hypervolume_history(record)
    last = grown[-1][1] or 1.0
    restarts = record.provenance.get("restarts")
    return Info(
        numbers=[number for number, _ in grown],
        shares=[volume / last for _, volume in grown],
        reference=reference,
        restarts=[n for n in restarts if isinstance(n, int)] if isinstance(restarts, list) else [],
    )


def draw(info: Info) -> go.Figure:
    """Draw the growth as steps, restarts as thin lines."""
    if not info.numbers:
        return look.empty("No trial has finished at full training yet.")
    figure = look.canvas(legend=False)
    figure.add_scatter(
        x=info.numbers,
        y=info.shares,
        mode="lines" if len(info.numbers) > 1 else "markers",
        line={"shape": "hv", "color": look.ACCENT, "width": 2},
        fill="tozeroy",
        fillcolor="rgba(0,114,178,0.08)",
        hovertemplate="after t%{x:04d}: %{y:.1%}<extra></extra>",
    )
    for number in info.restarts:
        figure.add_vline(
            x=number - 0.5,
            line={"color": look.MUTED, "width": 1, "dash": "dot"},
            annotation={"text": "continued", "font": {"size": 11, "color": look.MUTED}},
        )
    figure.update_xaxes(title_text="trial", rangemode="tozero", tickformat="d")
    if len(info.numbers) < 10:
        figure.update_xaxes(dtick=1)
    figure.update_yaxes(title_text="share of the final value", tickformat=".0%", range=[0, 1.06])
    corner = ", ".join(
        f"{AXES[axis].label} {amount(axis, value)}" for axis, value in info.reference.items()
    )
    look.note(figure, f"Reference point: {corner}.")
    return figure
