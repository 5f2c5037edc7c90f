"""Steps of latency: what widths around each part of the knee's network take."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import plotly.graph_objects as go
from plotly.subplots import make_subplots

from dashboards import _look as look
from nasx.quantity import amount, digits
from nasx.results.scanned import kept_steps, sentences
from nasx.study import Study
from nasx.trial import Snapshot

TITLE = "Where fewer channels take no less time"
ORDER = 42
WHY = (
    "Networks that differ from the knee in one part's channels alone, timed together. Where the "
    "line is broad, the MACs saved bought no time."
)
WIDE = True
ACROSS = 3  # panels in a row
MOST = 6  # panels; the sentences below name every part
ROW = 300  # height of a row of panels, in pixels


@dataclass(frozen=True)
class Panel:
    """One part: widths that were timed, and where MACs bought nothing, as (widths, ms)."""

    name: str
    width: int
    widths: list[int]
    ms: list[float]
    low: list[float]
    high: list[float]
    macs: list[float]
    promised: list[float]  # the time, if it followed the MACs from the own width on
    flats: list[tuple[list[int], list[float]]]


@dataclass(frozen=True)
class Info:
    """The panels and the sentences of one scan."""

    trial: str
    panels: list[Panel]
    says: list[str]
    disturbed: bool


def applies(record: Snapshot) -> bool:
    """Say whether a run has a scan: most spaces have no parts, and their reports no such card."""
    return kept_steps(record) is not None


def figure(record: Snapshot, study: Study) -> go.Figure:
    """Return the scan kept in the run folder as a figure."""
    return draw(collect(record))


def collect(record: Snapshot) -> Info | None:
    """Return the panels of steps.json, or None where a run has no scan."""
    found = kept_steps(record)
    if found is None:
        return None
    panels = [_panel(name, part) for name, part in found["parts"].items()]
    if len(panels) > MOST:  # those where MACs bought least
        panels = sorted(panels, key=lambda p: -sum(w[-1] - w[0] for w, _ in p.flats))[:MOST]
    return Info(str(found["trial"]), panels, sentences(found), bool(found["contended"]))


def _panel(name: str, part: dict[str, Any]) -> Panel:
    rungs = part["rungs"]
    own = next(r for r in rungs if r["width"] == part["width"])
    ratios = [r["ratio"] or [r["ms"] / own["ms"]] * 2 for r in rungs]
    flats = []
    for flat in part["flats"]:
        inside = [r for r in rungs if flat["narrow"] <= r["width"] <= flat["wide"]]
        flats.append(([r["width"] for r in inside], [r["ms"] for r in inside]))
    return Panel(
        name=name,
        width=part["width"],
        widths=[r["width"] for r in rungs],
        ms=[r["ms"] for r in rungs],
        low=[max(0.0, r["ms"] - own["ms"] * q[0]) for r, q in zip(rungs, ratios, strict=True)],
        high=[max(0.0, own["ms"] * q[1] - r["ms"]) for r, q in zip(rungs, ratios, strict=True)],
        macs=[r["macs"] for r in rungs],
        promised=[own["ms"] * r["macs"] / own["macs"] for r in rungs],
        flats=flats,
    )


def draw(info: Info | None) -> go.Figure:
    """Draw one panel for each part, milliseconds on one scale."""
    if info is None or not info.panels:
        return look.empty(
            "No widths were timed: the study asks for no latency, its space names no parts, or "
            "the search has not reached its final pass."
        )
    rows = -(-len(info.panels) // ACROSS)
    columns = min(ACROSS, len(info.panels))
    grid = make_subplots(
        rows=rows, cols=columns, shared_yaxes="all", horizontal_spacing=0.05,
        vertical_spacing=0.26 / rows,
    )  # fmt: skip
    figure = look.canvas(ROW * rows + 60, on=grid)
    figure.update_layout(margin_t=72, legend_y=1 + 40 / (ROW * rows))
    for i, panel in enumerate(info.panels):
        _draw(figure, panel, i // ACROSS + 1, i % ACROSS + 1, first=i == 0)
    low = min(ms - less for p in info.panels for ms, less in zip(p.ms, p.low, strict=True))
    high = max(ms + more for p in info.panels for ms, more in zip(p.ms, p.high, strict=True))
    room = 0.08 * ((high - low) or high)
    figure.update_yaxes(range=[max(0.0, low - room), high + room])
    for row in range(1, rows + 1):
        figure.update_yaxes(title_text="latency, ms", col=1, row=row)
    disturbed = ["Other work disturbed this measurement."] if info.disturbed else []
    look.note(figure, "\n".join([*info.says, *disturbed]))
    return figure


def _draw(figure: go.Figure, panel: Panel, row: int, column: int, *, first: bool) -> None:
    """Draw the bars, the time that MACs promise, then what was measured over them."""
    at = {"row": row, "col": column}
    for i, (widths, ms) in enumerate(panel.flats):
        figure.add_scatter(
            x=widths, y=ms, mode="lines", name="MACs buy no time", legendgroup="flat",
            line={"color": look.faded(look.COLOURS[4], 0.45), "width": 14}, hoverinfo="skip",
            showlegend=first and i == 0, **at,
        )  # fmt: skip
    figure.add_scatter(
        x=panel.widths, y=panel.promised, mode="lines", name="if time followed MACs",
        legendgroup="promised", line={"color": look.MUTED, "width": 1.5, "dash": "dot"},
        hoverinfo="skip", showlegend=first, **at,
    )  # fmt: skip
    own = panel.widths.index(panel.width)
    figure.add_scatter(
        x=panel.widths, y=panel.ms, mode="lines+markers", name="measured", legendgroup="measured",
        line={"color": look.ACCENT, "width": 2}, marker={"size": 7, "color": look.ACCENT},
        error_y={
            "type": "data", "array": panel.high, "arrayminus": panel.low, "thickness": 1,
            "width": 3, "color": look.ACCENT,
        },
        text=[amount("macs", macs) for macs in panel.macs],
        customdata=[digits(ms / panel.ms[own]) for ms in panel.ms],
        hovertemplate=f"{look.text(panel.name)}: %{{x}} channels<br>%{{y:.3f}} ms, "
        "%{customdata} of its own width's<br>network of %{text} MACs<extra></extra>",
        showlegend=first, **at,
    )  # fmt: skip
    figure.add_scatter(
        x=[panel.width], y=[panel.ms[own]], mode="markers", name="as it is", legendgroup="own",
        marker={"size": 13, "color": look.WARN, "line": {"color": "#ffffff", "width": 2}},
        hovertemplate=f"{look.text(panel.name)} as it is: %{{x}} channels<br>%{{y:.3f}} ms"
        "<extra></extra>",
        showlegend=first, **at,
    )  # fmt: skip
    figure.add_annotation(
        text=f"<b>{look.text(panel.name)}</b>", xref="x domain", yref="y domain", x=0, y=1,
        yshift=20, xanchor="left", showarrow=False, font={"size": 12}, **at,
    )  # fmt: skip
    figure.update_xaxes(title_text="channels", tickvals=_ticks(panel.widths), **at)


def _ticks(widths: list[int]) -> list[int]:
    """Return the widths to write below the axis: neighbours closer than a tenth are skipped."""
    least = (max(widths) - min(widths)) / 10
    kept = [w for w in widths if w % 8 == 0] or widths
    return [w for i, w in enumerate(kept) if i == 0 or w - kept[i - 1] >= least]
