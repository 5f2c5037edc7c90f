"""The scaling rule: each axis against the MAC budget, with interval, points and null."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

import plotly.graph_objects as go
from plotly.subplots import make_subplots

from dashboards import _look as look
from dashboards._files import rule
from nasx.quantity import count, digits
from nasx.study import Study
from nasx.trial import Snapshot

TITLE = "Scaling rule"
ORDER = 20
WHY = "How each multiplier goes with the MAC budget along the front, against the customary rule."
WIDE = True
MOST_OTHERS = 2
FORMS = {"crest": "best score", "gp": "Gaussian process", "power": "power law"}
HELD_OUT = ("smallest third", "largest third")


@dataclass(frozen=True)
class Curve:
    """One form over budgets c; `low` and `high` bound its 95 % interval, if it has one."""

    name: str
    c: list[float]
    mean: list[float]
    low: list[float] = field(default_factory=list)
    high: list[float] = field(default_factory=list)


@dataclass(frozen=True)
class Panel:
    """One axis: the points it was fitted on, and what was fitted (nothing on a refused rule)."""

    name: str
    c: list[float]
    values: list[float]
    trials: list[str]
    curves: list[Curve]
    says: str


@dataclass(frozen=True)
class Info:
    """The panels, the baseline's MACs, and why there is no rule, if there is none."""

    panels: list[Panel]
    base_macs: float
    refused: str | None


def figure(record: Snapshot, study: Study) -> go.Figure:
    """Return the rule kept in the run folder as a figure."""
    return draw(collect(record))


def collect(record: Snapshot) -> Info | None:
    """Return the panels of rule.json, or None where the run has no rule."""
    found = rule(record)
    if found is None or not found.get("points"):
        refused = found.get("refused") if found else None
        return Info([], 0.0, str(refused)) if refused else None
    points = sorted(found["points"], key=lambda p: p["c"])
    refused = found.get("refused")
    panels = [
        Panel(
            name=axis,
            c=[p["c"] for p in points],
            values=[p["axes"][axis] for p in points],
            trials=[str(p["trial"]) for p in points],
            curves=[] if refused else _curves(found, axis),
            says="" if refused else _errors(found, axis),
        )
        for axis in found.get("ranges", points[0]["axes"])
    ]
    panels += [
        Panel(
            name=name,
            c=[p["c"] for p in points],
            values=[p["others"][name] for p in points],
            trials=[str(p["trial"]) for p in points],
            curves=[],
            says="as found, not fitted",
        )
        for name in _others(points)
    ]
    return Info(panels, float(found["base_macs"]), str(refused) if refused else None)


def _curves(found: dict[str, Any], axis: str) -> list[Curve]:
    """Return the form taken with its interval, the curves through the points, and the null."""
    forms = found.get("axes", {}).get(axis, {})
    taken = found.get("form", "")
    curves = []
    for name in dict.fromkeys((taken, "gp", "power")):
        if name in forms:
            curve = forms[name]["curve"]
            band = (curve["low"], curve["high"]) if name == taken else ([], [])
            curves.append(Curve(FORMS.get(name, name), curve["c"], curve["mean"], *band))
    null = found.get("null") or {}
    if null.get("c") and axis in null.get("axes", {}):
        curves.append(Curve("customary rule", null["c"], null["axes"][axis]))
    return curves


def _errors(found: dict[str, Any], axis: str) -> str:
    forms = found.get("axes", {}).get(axis, {})
    taken = found.get("form", "")
    if taken not in forms:
        return ""
    words = f"error left out {digits(forms[taken]['left_out'], 2)}"
    null = (found.get("null") or {}).get("error", {}).get(axis)
    words += f", customary {digits(null, 2)}" if null is not None else ""
    held = forms[taken].get("held_out") or {}
    ends = [f"{end} {digits(held[end]['error'], 2)}" for end in HELD_OUT if end in held]
    return words + (f"<br>held out: {', '.join(ends)}" if ends else "")


def _others(points: list[dict[str, Any]]) -> list[str]:
    """Return further numbers that vary and do not just repeat the budget or an axis."""
    kept = []
    shown = [[p["c"] for p in points], *([p["axes"][a] for p in points] for a in points[0]["axes"])]
    for name in points[0].get("others", {}):
        if not all(name in p.get("others", {}) for p in points):
            continue
        values = [p["others"][name] for p in points]
        if len(set(values)) > 1 and not any(_same_order(values, known) for known in shown):
            kept.append(name)
            shown.append(values)
    return kept[:MOST_OTHERS]


def _same_order(a: list[float], b: list[float]) -> bool:
    """Say whether b never falls while a rises: then a tells nothing new."""
    pairs = sorted(zip(b, a, strict=True))
    ordered = [value for _, value in pairs]
    return ordered == sorted(ordered)


def draw(info: Info | None) -> go.Figure:
    """Draw one panel for each axis, side by side."""
    if info is None:
        return look.empty(
            "No scaling rule has been fitted: the space declares no axes, or the search has not "
            "reached its final pass."
        )
    if not info.panels:
        return look.empty(f"There is no rule: {info.refused}.")
    grid = make_subplots(rows=1, cols=len(info.panels), horizontal_spacing=0.26 / len(info.panels))
    figure = look.canvas(400, on=grid)
    figure.update_layout(margin_t=96, legend_y=1.19)
    seen: set[str] = set()
    for i, panel in enumerate(info.panels, 1):
        _panel(figure, panel, i, seen)
        figure.update_xaxes(
            title_text=f"MACs, as a multiple of {count(info.base_macs)}", type="log",
            col=i, row=1, **look.log_ticks(_reach(panel)),
        )  # fmt: skip
        figure.update_yaxes(range=_range(panel), col=i, row=1)
    if info.refused:
        look.note(figure, f"There is no rule: {info.refused}. The points are those it would use.")
    else:
        look.note(
            figure,
            "The solid line is where the score is best at each budget, its band the 95 % interval; "
            "points are the fully trained trials within one standard error of the front.",
        )
    return figure


def _panel(figure: go.Figure, panel: Panel, column: int, seen: set[str]) -> None:
    """Draw the band, the curves, then the points over them."""
    looks = {
        "Gaussian process": ("longdash", look.COLOURS[3]),
        "power law": ("dash", look.COLOURS[2]),
        "customary rule": ("dot", look.WARN),
    }
    for curve in panel.curves:
        dash, colour = looks.get(curve.name, ("solid", look.ACCENT))
        if curve.low:
            figure.add_scatter(
                x=[*curve.c, *reversed(curve.c)], y=[*curve.high, *reversed(curve.low)],
                fill="toself", fillcolor="rgba(0,114,178,0.12)", line={"width": 0}, mode="lines",
                hoverinfo="skip", showlegend=False, row=1, col=column,
            )  # fmt: skip
            dash = "solid"
        figure.add_scatter(
            x=curve.c, y=curve.mean, mode="lines", name=curve.name, legendgroup=curve.name,
            line={"color": look.ACCENT if curve.low else colour, "width": 2, "dash": dash},
            hovertemplate=f"{look.text(curve.name)}<br>{look.text(panel.name)} %{{y:.3g}} at "
            "%{x:.3g}<extra></extra>",
            showlegend=curve.name not in seen, row=1, col=column,
        )  # fmt: skip
        seen.add(curve.name)
    figure.add_scatter(
        x=panel.c, y=panel.values, mode="markers", name="trials", legendgroup="trials",
        marker={"size": 7, "color": look.INK, "opacity": 0.75},
        text=[look.text(t) for t in panel.trials],
        hovertemplate=f"<b>%{{text}}</b><br>{look.text(panel.name)} %{{y:.3g}}<extra></extra>",
        showlegend="trials" not in seen, row=1, col=column,
    )  # fmt: skip
    seen.add("trials")
    words = f"<b>{look.text(panel.name)}</b>"
    says = "<br>".join(look.text(line) for line in panel.says.split("<br>"))
    words += f"<br><span style='color:{look.MUTED}'>{says}</span>"
    figure.add_annotation(
        text=words, xref="x domain", yref="y domain", x=0, y=1, yshift=40, xanchor="left",
        showarrow=False, font={"size": 12}, align="left", row=1, col=column,
    )  # fmt: skip


def _reach(panel: Panel) -> list[float]:
    return [*panel.c, *(c for curve in panel.curves for c in curve.c)]


def _range(panel: Panel) -> list[float]:
    """Return an axis that shows all points and curves, wide ends of a band cut off."""
    shown = [*panel.values, *(v for curve in panel.curves for v in curve.mean)]
    low, high = min(shown), max(shown)
    bands = [v for curve in panel.curves for v in (*curve.low, *curve.high) if math.isfinite(v)]
    span = (high - low) or abs(high) or 1.0
    low = max(min([low, *bands]), low - 0.5 * span)
    high = min(max([high, *bands]), high + 0.5 * span)
    return [low - 0.06 * span, high + 0.06 * span]
