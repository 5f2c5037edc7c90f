"""What was trained again: the candidates close behind the front, and each member's control."""

from __future__ import annotations

from typing import Any

from dashboards._markup import bound, esc, head, section, table
from dashboards._points import Point, primary
from nasx.axes import AXES
from nasx.cost.matched import ELSEWHERE, MATCHED
from nasx.quantity import amount
from nasx.results.repeats import LEAST
from nasx.study import Study

WIDTH, HEIGHT = 220, 18  # of an interval's drawing, in pixels


def chance(probability: float | None) -> str:
    """Return a membership in words: never 0 % or 100 %, which draws cannot tell."""
    if probability is None:
        return "–"
    if probability > 0.995:
        return "> 99 %"
    return "< 1 %" if probability < 0.005 else f"{100 * probability:.0f} %"


def seeds_text(point: Point) -> str:
    """Return how many of a candidate's seeds are complete, where one failed."""
    if not point.lost:
        return ""
    return f"{point.seeds} of {point.seeds + len(point.lost)} seeds, {len(point.lost)} failed"


def contenders(found: list[Point], study: Study) -> str:
    """Return the candidates behind the front that may well stand on it; nothing without any."""
    likely = [p for p in found if p.role == "dominated" and (p.membership or 0.0) >= LEAST]
    if not likely:
        return ""
    likely.sort(key=lambda p: (-(p.membership or 0.0), p.number))
    axes = list(study.objectives)
    heads = [head("trial", ""), head("on the front", "probability", number=True)]
    heads += [head(AXES[a].label, "", number=True) for a in axes]
    heads.append(head("trained with", "", number=True))
    rows = ""
    for p in likely:
        cells = "".join(
            f'<td class="num">{amount(a, p.values.get(a))}{_spread(p, a)}</td>' for a in axes
        )
        seeds = seeds_text(p) or f"{p.seeds} seed{'s' if p.seeds > 1 else ''}"
        rows += (
            f'<tr data-trial="{p.number}" tabindex="0"><th scope=row>{esc(p.trial.name)}</th>'
            f'<td class="num">{chance(p.membership)}</td>{cells}<td class="num">{seeds}</td></tr>'
        )
    why = (
        "Their means are beaten, but by less than seeds differ: with other seeds these would stand "
        f"on the front at least once in {round(1 / LEAST)}."
    )
    return section("Close behind the front", table(heads, rows, "sortable"), why)


def _spread(point: Point, axis: str) -> str:
    if axis not in point.spread:
        return ""
    return f" <small>sd {point.spread[axis][0]:.1f}</small>"


def controls(found: list[Point], study: Study) -> str:
    """Return each member against its control; nothing where no control was asked for."""
    members = [p for p in found if p.control is not None]
    if not members:
        return ""
    axis = primary(study)
    members.sort(key=lambda p: -p.values.get(axis, 0.0))
    limits = _limits(members, axis)
    heads = [
        head("trial", ""),
        head("difference", "95 % interval", number=True),
        head("", "worse | better"),
        head(AXES[axis].label, "member", number=True),
        head(AXES[axis].label, "its control", number=True),
        head("MACs", "control to member", number=True),
        head("seeds", "paired", number=True),
    ]
    rows = "".join(_row(p, axis, limits) for p in members)
    moved = any(p.trial.card.get(kind) for p in members for kind in ELSEWHERE)
    elsewhere = " (of any MACs, where its own work is not in MACs)" if moved else ""
    why = (
        "The same network with the technique switched off, trained with the same seeds at MACs "
        f"within {MATCHED:.0%}{elsewhere}: what the technique itself adds. Seeds are paired; where "
        "the interval holds 0, the two cannot be told apart."
    )
    lost = [f"{p.trial.name}: {text}" for p in members for text in _lost(p)]
    below = f'<p class="note">{esc("; ".join(lost))}.</p>' if lost else ""
    return section("Against its control", table(heads, rows, "controls") + below, why)


def _row(point: Point, axis: str, limits: tuple[float, float]) -> str:
    control: dict[str, Any] = point.control or {}
    first = (
        f'<tr data-trial="{point.number}" tabindex="0"><th scope=row>{esc(point.trial.name)}</th>'
    )
    score = control["scores"].get(axis)
    if control["reason"] or score is None:
        why = esc(control["reason"] or "no score in common")
        return f'{first}<td colspan="6" class="none">{why}</td></tr>'
    mine, its = control["macs"]["member"], control["macs"]["control"]
    ratio = f"{its / mine:.3f}" if mine and its is not None else "–"
    only = "" if score["low"] is not None else " <small>one pair, no interval</small>"
    return (
        f'{first}<td class="num">{bound(difference(score, axis))}{only}</td>'
        f'<td class="drawn">{_drawn(score, axis, limits)}</td>'
        f'<td class="num">{amount(axis, score["member"])}</td>'
        f'<td class="num">{amount(axis, score["control"])}</td>'
        f'<td class="num">{ratio}</td><td class="num">{control["n"]}</td></tr>'
    )


def difference(score: dict[str, Any], axis: str) -> str:
    """Return 'member - control' with its interval, in the score's unit."""
    unit, digits = {"%": (" points", 1), "dB": (" dB", 2)}.get(AXES[axis].unit, ("", 3))
    text = f"{score['difference']:+.{digits}f}{unit}"
    if score["low"] is None:
        return text.replace("-", "−")
    return f"{text} ({score['low']:+.{digits}f} to {score['high']:+.{digits}f})".replace("-", "−")


def _lost(point: Point) -> list[str]:
    """Return the failed trainings of a control whose other seeds are compared."""
    control: dict[str, Any] = point.control or {}
    if control["reason"]:
        return []
    return [f"its control failed with seed {f['seed']} ({f['reason']})" for f in control["failed"]]


def _limits(members: list[Point], axis: str) -> tuple[float, float]:
    """Return the range that all intervals are drawn on, 0 in its middle."""
    ends = [0.0]
    for point in members:
        score = (point.control or {})["scores"].get(axis, {})
        ends += [score[k] for k in ("low", "high", "difference") if score.get(k) is not None]
    most = 1.06 * max(abs(end) for end in ends) or 1.0
    return -most, most


def _drawn(score: dict[str, Any], axis: str, limits: tuple[float, float]) -> str:
    """Return the difference as a point on its interval, with a line at 0; better is right."""
    sign = 1.0 if AXES[axis].direction == "maximize" else -1.0
    low, high = sorted(sign * v for v in limits)

    def x(value: float) -> str:
        return f"{WIDTH * (sign * value - low) / (high - low):.1f}"

    middle = HEIGHT / 2
    bar = ""
    if score["low"] is not None:
        bar = (
            f'<line x1="{x(score["low"])}" x2="{x(score["high"])}" y1="{middle}" y2="{middle}" '
            'class="bar"/>'
        )
    return (
        f'<svg class="interval" width="{WIDTH}" height="{HEIGHT}" role="img" '
        f'aria-label="{esc(difference(score, axis))}">'
        f'<line x1="{x(0)}" x2="{x(0)}" y1="0" y2="{HEIGHT}" class="zero"/>{bar}'
        f'<circle cx="{x(score["difference"])}" cy="{middle}" r="4"/></svg>'
    )
