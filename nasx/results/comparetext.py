"""Comparisons and differences of runs as text for a terminal."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from nasx.axes import AXES
from nasx.printing import table
from nasx.quantity import amount, count, digits, duration, heading
from nasx.results.compare import Cheapest, Comparison, Row
from nasx.results.diff import Difference, Side


def cheapest_text(found: Comparison) -> str:
    """Return the cheapest candidates axis by axis, then what the primary cost says."""
    level, several = found.level, len({row.run for row in found.rows}) > 1
    rows = []
    for axis in found.axes:
        there = [row for row in found.rows if axis in row.cheapest]
        there.sort(key=lambda row: row.cheapest[axis].value)
        rows += [_cheapest_row(row, axis, level.score, several) for row in there]
    missing = [_missing(row, level.score, several) for row in found.rows if not row.cheapest]
    lines = [f"at {AXES[level.score].label} {amount(level.score, level.value)}: {level.why}"]
    if rows:
        lines += [table(rows), _told(found, several)]
    return "\n".join([*lines, *missing, *_noted(found.notes)])


def difference_text(found: Difference) -> str:
    """Return both fronts, their difference, the points gained and lost, and the verdict."""
    sides = table([_side_row(side) for side in (found.before, found.after)])
    corner = ", ".join(amount(name, value) for name, value in found.reference.items())
    share = found.difference / found.before.hypervolume if found.before.hypervolume else None
    relative = "" if share is None else f" ({share:+.1%})".replace("%", " %")
    change = f"hypervolume {_signed(found.difference)}{relative}"
    if found.interval:
        low, high = found.interval
        change += f", 95 % interval {_signed(low)} to {_signed(high)}"
    lines = [sides, f"{change}; to the reference point {corner}"]
    for name, points in (("gained", found.gained), ("lost", found.lost)):
        lines.append(f"{name}: {len(points) or 'no'} point{'' if len(points) == 1 else 's'}")
        if points:
            lines.append(table([_point_row(point) for point in points]))
    lines.append(f"on both fronts: {found.kept}")
    return "\n".join([*lines, *_noted(found.notes), f"verdict: {found.verdict}"])


def _cheapest_row(row: Row, axis: str, score: str, several: bool) -> dict[str, Any]:
    one = row.cheapest[axis]
    return {
        "cost": heading(axis),
        **({"run": row.run} if several else {}),
        "space": row.space,
        "cheapest": amount(axis, one.value),
        "95 % interval": _interval(axis, one),
        "trial": one.trial,
        score: _with_error(score, one),
    }


def _with_error(score: str, one: Cheapest) -> str:
    """Return a score with half of its 95 % interval: 84.2 ± 1.2 %."""
    number, space, unit = amount(score, one.score).partition(" ")
    known = "" if one.error is None else f" ± {digits(one.error, 2)}"
    return f"{number}{known}{space}{unit}"


def _interval(axis: str, one: Cheapest) -> str:
    if one.low is None:
        return "not known"
    if one.high is None:
        return f"{amount(axis, one.low)} or more"
    return f"{amount(axis, one.low)} to {amount(axis, one.high)}"


def _told(found: Comparison, several: bool) -> str:
    """Return what can be told apart from the cheapest on the primary cost."""
    there = [row for row in found.rows if found.primary in row.cheapest]
    if not there:
        return f"{heading(found.primary)}: not known of any candidate that reaches it"
    first, others = there[0], there[1:]
    unclear: list[str] = []
    dearer: list[str] = []
    for row in others:
        pair = {"axis": found.primary, "cheaper": _place(first), "dearer": _place(row)}
        apart = {**pair, "told_apart": True} in found.pairs
        (dearer if apart else unclear).append(_name(row, several))
    parts = [f"{heading(found.primary)}: {_name(first, several)} is the cheapest found"]
    if dearer:
        parts.append(f"{', '.join(dearer)} cost{'s' if len(dearer) == 1 else ''} more")
    if unclear:
        parts.append(f"{', '.join(unclear)} cannot be told apart from it")
    return "; ".join(parts)


def _missing(row: Row, score: str, several: bool) -> str:
    if row.best is None:
        return f"{_name(row, several)}: nothing completed at full fidelity within the constraints"
    best = f"its best is {amount(score, row.best)} ({row.best_trial})"
    return f"{_name(row, several)} does not reach it: {best}"


def _place(row: Row) -> dict[str, str]:
    return {"run": row.run, "space": row.space}


def _name(row: Row, several: bool) -> str:
    return f"{row.space} of {row.run}" if several else row.space


def _side_row(side: Side) -> dict[str, Any]:
    return {
        "run": side.run,
        "hypervolume": count(side.hypervolume),
        "front": side.front,
        "trials": side.trials,
        "samples": side.samples,
        "CPU time": duration(side.cpu_seconds),
    }


def _point_row(point: dict[str, Any]) -> dict[str, Any]:
    values = {name: amount(name, value) for name, value in point["objectives"].items()}
    chance = "not known" if point["chance"] is None else f"{100 * point['chance']:.0f} %"
    names = {"trial": point["trial"], "space": point["space"], "key": point["key"]}
    return {**names, **values, "chance": chance}


def _signed(value: float) -> str:
    return f"{'-' if value < 0 else '+'}{count(abs(value))}"


def _noted(notes: Sequence[str]) -> list[str]:
    return [f"note: {note}" for note in notes]
