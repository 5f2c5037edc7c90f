"""The tables of a claim's result as rows of cells: the comparisons, and the arms."""

from __future__ import annotations

from typing import Any

from nasx.claims.found import Found
from nasx.claims.pairs import Pair, Row
from nasx.quantity import count, digits

MINUS = "\u2212"
ALWAYS = ("macs", "params")
WHERE_ANY = ("adds", "shifts", "bit_ops", "lookups")  # costs told where some arm has them


def compared_cells(found: Found) -> list[dict[str, str]]:
    """Return the claim's own comparison as the rows of a table."""
    pair = found.main
    return [_shown(row, found, pair.first, pair.second) for row in pair.shown]


def further_cells(found: Found) -> list[dict[str, str]]:
    """Return the further comparisons as the rows of one table."""
    return [
        {"comparison": _named(pair), **_shown(row, found, "first", "second")}
        for pair in found.also
        for row in pair.shown
    ]


def _named(pair: Pair) -> str:
    return f"{pair.first} less {pair.second}"


def said_beside(found: Found) -> list[str]:
    """Return what stands beside the further comparisons: differences, and reasons against them."""
    said = []
    for pair in found.also:
        said.append(f"{_named(pair)}: differ in {', '.join(pair.total.differ) or 'nothing'}")
        said += [f"{_named(pair)}: invalid: {why}" for why in pair.total.reasons]
    return said


def budgets_said(found: Found) -> str:
    """Say how many samples were trained, by condition where they differ."""
    claim = found.claim
    budgets = {name: claim.samples(name) for name in claim.conditions}
    if len(set(budgets.values())) == 1:
        return f"{claim.full:,} samples"
    return f"samples: {', '.join(f'{name} {n:,}' for name, n in budgets.items())}"


def _shown(row: Row, found: Found, first: str, second: str) -> dict[str, str]:
    """Return a comparison as the cells of a table, the means under these names."""
    f, claim = row.found, found.claim
    cells = {"condition": row.condition, "n": str(f.n)}
    if len({claim.samples(name) for name in claim.conditions}) > 1:
        cells["samples"] = "-" if row.samples is None else f"{row.samples:,}"
    for axis in found.claim.matched:
        a, b = row.costs.get(axis, (None, None))
        both = a is not None and b is not None
        cells[axis] = f"{count(a)} / {count(b)}" if both else "-"  # type: ignore[arg-type]
    interval = "-" if f.low is None else f"{_number(f.low, '+')} to {_number(f.high, '+')}"
    return {
        **cells,
        first: _number(f.first),
        second: _number(f.second),
        "difference": _number(f.mean, "+"),
        "95 % interval": interval,
        "signs": f"{f.more}+ {f.fewer}{MINUS} {f.ties}=",
        "verdict": row.verdict,
    }


def arm_cells(arm: dict[str, Any], found: Found) -> dict[str, Any]:
    """Return an arm under one condition as the cells of a table."""
    values = arm["values"]
    some = [axis for axis in WHERE_ANY if any(a["values"].get(axis) for a in found.arms)]
    costs = dict.fromkeys([*found.claim.matched, *ALWAYS, *some])
    candidate = {
        k: digits(v, 4) if isinstance(v, float) else v
        for k, v in {**arm["candidate"], **arm["recipe"]}.items()
    }
    failed = f" ({len(arm['failed'])} failed)" if arm["failed"] else ""
    return {
        "arm": arm["arm"],
        "condition": arm["condition"],
        "candidate": " ".join(f"{k}={v}" for k, v in candidate.items()),
        "n": f"{arm['n']}{failed}",
        **{axis: f"{values[axis]:,.0f}" if axis in values else "-" for axis in costs},
        f"mean {found.claim.primary}": _number(arm["mean"]),
        "sd": _number(arm["sd"]),
    }


def told_cells(found: Found) -> list[dict[str, str]]:
    """Return the further values that the claim tells, arm by arm, as the rows of a table."""
    several = len(found.claim.conditions) > 1
    rows = []
    for arm in found.arms:
        for name, value in arm.get("told", {}).items():
            if not value["n"]:  # a network without what is told of others
                continue
            span = f"{_number(value['least'])} to {_number(value['most'])}"
            where = {"condition": arm["condition"]} if several else {}
            mean = {"n": str(value["n"]), "mean": _number(value["mean"])}
            rows.append({"value": name, "arm": arm["arm"], **where, **mean, "over seeds": span})
    return sorted(rows, key=lambda row: found.claim.tell.index(row["value"]))


def _number(value: float | None, sign: str = "") -> str:
    return "-" if value is None else f"{value:{sign}.2f}".replace("-", MINUS)
