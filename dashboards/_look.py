"""One look for every figure: colours, symbols, margins, and the sentence of an empty figure."""

from __future__ import annotations

import html
import math
from collections.abc import Sequence
from typing import Any

import plotly.graph_objects as go

from nasx.quantity import brief, heading

# Okabe and Ito, "Color universal design" (2008): told apart by all common kinds of vision.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
SYMBOLS = ("circle", "diamond", "square", "triangle-up", "star", "cross", "hexagon")
INK, MUTED, RULE, FAINT = "#1b2733", "#5f6c7a", "#e3e8ee", "#b4bfca"
ACCENT, WARN = "#0072B2", "#D55E00"
FONT = "system-ui, -apple-system, 'Segoe UI', Roboto, 'Helvetica Neue', Arial, sans-serif"


def text(value: object) -> str:
    """Return any value as text that Plotly cannot take for markup."""
    return html.escape(str(value), quote=False)


def faded(colour: str, share: float) -> str:
    """Return a #rrggbb colour laid on white, so that grid and line do not shine through it."""
    parts = (int(colour[i : i + 2], 16) for i in (1, 3, 5))
    return "#" + "".join(f"{round(255 - share * (255 - part)):02x}" for part in parts)


def space_style(spaces: Sequence[str]) -> dict[str, tuple[str, str]]:
    """Return (colour, symbol) by space, in the order of the study."""
    return {
        name: (COLOURS[i % len(COLOURS)], SYMBOLS[i % len(SYMBOLS)])
        for i, name in enumerate(spaces)
    }


def canvas(height: int = 340, *, legend: bool = True, on: go.Figure | None = None) -> go.Figure:
    """Return an empty figure in the house's look, or `on` (subplots) brought into it."""
    axis: dict[str, Any] = {
        "gridcolor": RULE,
        "zeroline": False,
        "showline": False,
        "ticks": "",
        "tickfont": {"color": MUTED, "size": 12},
        "title": {"font": {"color": MUTED, "size": 12.5}, "standoff": 10},
        "automargin": True,
        "ticklabelstandoff": 5,
    }
    layout: dict[str, Any] = {
        "template": "none",
        "height": height,
        "margin": {"l": 56, "r": 16, "t": 40 if legend else 12, "b": 48},
        "font": {"family": FONT, "size": 12.5, "color": INK},
        "paper_bgcolor": "rgba(0,0,0,0)",
        "plot_bgcolor": "rgba(0,0,0,0)",
        "hoverlabel": {
            "bgcolor": "#ffffff",
            "bordercolor": FAINT,
            "font": {"family": FONT, "size": 12.5, "color": INK},
            "align": "left",
        },
        "hovermode": "closest",
        "showlegend": legend,
        "legend": {
            "orientation": "h",
            "x": 0,
            "xanchor": "left",
            "y": 1.0,
            "yanchor": "bottom",
            "font": {"size": 12, "color": MUTED},
            "bgcolor": "rgba(0,0,0,0)",
        },
    }
    if on is None:
        # In one piece: Plotly checks a whole layout far faster than many small changes to it.
        return go.Figure(layout={**layout, "xaxis": axis, "yaxis": axis})
    on.update_layout(layout)
    on.update_xaxes(axis)
    on.update_yaxes(axis)
    return on


def empty(sentence: str) -> go.Figure:
    """Return a figure that only says why there is nothing to draw; `layout.meta` repeats it."""
    figure = canvas(160, legend=False)
    figure.update_xaxes(visible=False)
    figure.update_yaxes(visible=False)
    figure.add_annotation(
        text=text(sentence), x=0.5, y=0.5, xref="paper", yref="paper", showarrow=False,
        font={"color": MUTED, "size": 13},
    )  # fmt: skip
    figure.update_layout(meta={"empty": sentence})
    return figure


def note(figure: go.Figure, sentence: str) -> None:
    """Keep a sentence to print under the figure, or several, one a line."""
    figure.update_layout(meta={"note": sentence})


def title(axis: str, *, of: str = "") -> str:
    """Return an axis title from the table of quantities."""
    return text(heading(axis) + of)


def log_ticks(values: Sequence[float]) -> dict[str, Any]:
    """Return readable ticks (1, 2, 5 times powers of ten) for a logarithmic axis."""
    known = [v for v in values if v > 0]
    if not known:
        return {}
    low, high = math.log10(min(known)) - 0.05, math.log10(max(known)) + 0.05
    ticks = [
        m * 10.0**e
        for e in range(math.floor(low) - 1, math.ceil(high) + 1)
        for m in ((1, 2, 5) if high - low < 2.5 else (1,))
    ]
    shown = [t for t in ticks if low <= math.log10(t) <= high]
    if len(shown) < 2:
        return {"range": [low, high]}
    return {
        "range": [low, high],
        "tickvals": shown,
        "ticktext": [brief(t) for t in shown],
    }
