"""Where the cost sits: each front network's MACs by part."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Any

import plotly.graph_objects as go

from dashboards import _look as look
from dashboards._files import layers
from dashboards._points import points
from nasx.axes import AXES
from nasx.quantity import amount
from nasx.study import Study
from nasx.trial import Snapshot

TITLE = "Where the cost sits"
ORDER = 40
WHY = (
    "Each front network's operations by part of the network, smallest network first. Where the "
    "work depends on the input: the mean over the valid split."
)
WIDE = True
PARTS = 8  # more parts than this are joined as "other"
ROWS = 12
SHADES = ("#0b3c5d", "#1d6996", "#3f8fbf", "#7fb8d8", "#b9d8ea", "#f2c57c", "#e69f00", "#b3651d")


@dataclass(frozen=True)
class Info:
    """Operations by network (rows) and part, and the operation that was counted."""

    axis: str
    rows: list[str]
    parts: list[str]
    table: list[list[float]]  # by row, then part


def figure(record: Snapshot, study: Study) -> go.Figure:
    """Return the front's cost by part as a figure."""
    return draw(collect(record, study))


def collect(record: Snapshot, study: Study) -> Info:
    """Return the parts of every front member whose cost card is in the run folder."""
    members = [p for p in points(record, study) if p.role == "front"]
    members.sort(key=lambda p: p.values.get("macs", 0.0))
    cards = [(p, found) for p in members if (found := layers(record, p.trial))]
    if len(cards) > ROWS:  # the ends and an even choice between
        cards = [cards[round(i * (len(cards) - 1) / (ROWS - 1))] for i in range(ROWS)]
    axis = _operation([layer for _, found in cards for layer in found])
    sums = [by_part(found, axis, 1) for _, found in cards]
    if not all(_tells_apart(row) for row in sums):  # one depth for all, so that they compare
        sums = [by_part(found, axis, 2) for _, found in cards]
    total: Counter[str] = Counter()
    for row in sums:
        total.update(row)
    order = list(dict.fromkeys(part for row in sums for part in row))
    large = {part for part, _ in total.most_common(PARTS - (len(order) > PARTS))}
    parts = [part for part in order if part in large]
    table = [[float(row.get(part, 0)) for part in parts] for row in sums]
    if len(order) > len(parts):
        table = [
            [*cells, float(sum(row.values())) - sum(cells)]
            for cells, row in zip(table, sums, strict=True)
        ]
        parts.append("other")
    return Info(axis, [p.trial.name for p, _ in cards], parts, table)


def _operation(found: list[dict[str, Any]]) -> str:
    """Return the kind of operation there is most of."""
    kinds = ("macs", "adds", "shifts", "bit_ops", "lookups")
    return max(kinds, key=lambda k: sum(layer.get(k) or 0 for layer in found))


def by_part(found: list[dict[str, Any]], axis: str, depth: int) -> dict[str, float]:
    """Return the cost by part, the first `depth` elements of a layer's name."""
    sums: dict[str, float] = {}
    for layer in found:
        part = ".".join(str(layer.get("name", "")).split(".")[:depth]) or "network"
        sums[part] = sums.get(part, 0.0) + float(layer.get(axis) or 0)
    return {part: cost for part, cost in sums.items() if cost}


def _tells_apart(row: dict[str, float]) -> bool:
    """Return whether no part has most of a network's cost."""
    return bool(row) and max(row.values()) < 0.6 * sum(row.values())


def draw(info: Info) -> go.Figure:
    """Draw one stacked bar for each network."""
    if not info.rows:
        return look.empty("No front network has its cost by layer in the run folder yet.")
    figure = look.canvas(110 + 26 * len(info.rows))
    for i, part in enumerate(info.parts):
        figure.add_bar(
            y=info.rows,
            x=[row[i] for row in info.table],
            orientation="h",
            name=look.text(part),
            marker={"color": SHADES[i % len(SHADES)], "line": {"width": 1, "color": "#ffffff"}},
            text=[
                f"<b>{name}</b>, {look.text(part)}: {amount(info.axis, row[i])} "
                f"({row[i] / (sum(row) or 1):.0%})"
                for name, row in zip(info.rows, info.table, strict=True)
            ],
            textposition="none",
            hovertemplate="%{text}<extra></extra>",
        )
    figure.update_layout(barmode="stack", bargap=0.32, legend_traceorder="normal")
    figure.update_xaxes(title_text=look.text(AXES[info.axis].label), tickformat="~s")
    figure.update_yaxes(autorange="reversed", type="category", showgrid=False)
    return figure
