"""Two arms of a claim compared: a row for every condition, and one over all of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from nasx.claims.differences import differing
from nasx.claims.model import Claim
from nasx.claims.plan import Planned
from nasx.results.paired import Paired, paired, pooled
from nasx.results.verdict import (
    Side,
    Verdict,
    cost_gap,
    failed,
    too_few,
    unmatched,
    unmet,
    verdict,
)
from nasx.shape import TaskShape

POOLED = "all conditions"
Sides = Mapping[tuple[str, str], Side]  # by arm and condition


@dataclass(frozen=True)
class Row:
    """The comparison under one condition, or over all of them.

    `samples` is the training of both arms, None where conditions differ in it; `differ` names all
    that really differs between the two.
    """

    condition: str
    found: Paired
    reasons: tuple[str, ...]
    costs: Mapping[str, tuple[float | None, float | None]]  # by matched axis: first, second
    samples: int | None
    differ: tuple[str, ...]

    @property
    def verdict(self) -> Verdict:
        """Return the verdict on this comparison alone."""
        return verdict(self.found, self.reasons)

    def to_json(self) -> dict[str, Any]:
        """Return it as JSON values."""
        costs = {
            axis: {
                "first": a,
                "second": b,
                "apart": None if a is None or b is None else cost_gap(a, b),
            }
            for axis, (a, b) in self.costs.items()
        }
        return {
            "condition": self.condition, "n": self.found.n, **asdict(self.found), "costs": costs,
            "samples": self.samples, "verdict": self.verdict, "reasons": list(self.reasons),
            "differ": list(self.differ),
        }  # fmt: skip


@dataclass(frozen=True)
class Pair:
    """Two arms by name, and what came of comparing them."""

    first: str
    second: str
    rows: tuple[Row, ...]
    total: Row

    @property
    def shown(self) -> tuple[Row, ...]:
        """Return the rows of a table: all conditions together only where there are several."""
        return (*self.rows, self.total) if len(self.rows) > 1 else self.rows

    def to_json(self) -> dict[str, Any]:
        """Return it as JSON values."""
        rows = [row.to_json() for row in self.rows]
        return {
            "first": self.first,
            "second": self.second,
            "rows": rows,
            "total": self.total.to_json(),
        }


def compared(
    claim: Claim,
    names: Sequence[str],
    planned: Mapping[tuple[str, str], Planned],
    sides: Sides,
    shape: TaskShape,
) -> Pair:
    """Return the comparison of two arms: held to the whole claim if it is the claim's own.

    A further pair declares nothing and matches nothing, so what differs in it and what it costs
    forbid no verdict: they are told beside it.
    """
    first, second = names
    main = tuple(names) == claim.compare
    rows, scores = [], {}
    for condition in claim.conditions:
        a, b = planned[first, condition], planned[second, condition]
        one, two = sides[first, condition], sides[second, condition]
        scores[condition] = (one.scores, two.scores)
        reasons = undeclared(a, b, claim, shape) if main else identical(a, b)
        reasons += unmatched(one, two, claim.matched) if main else []
        found = paired(one.scores, two.scores)
        reasons += [*failed([one, two]), *too_few(found)]
        for side in (one, two):
            reasons += unmet([side], claim.limits(side.arm))
        costs = {axis: (one.values.get(axis), two.values.get(axis)) for axis in claim.matched}
        samples, differ = claim.samples(condition), tuple(differing(a, b, shape))
        rows.append(Row(condition, found, tuple(reasons), costs, samples, differ))
    return Pair(first, second, tuple(rows), _total(rows, pooled(scores)))


def _total(rows: Sequence[Row], whole: Paired) -> Row:
    """Return the row over all conditions: a reason against one of them stands against all."""
    if len(rows) == 1:
        only = rows[0]
        return Row(POOLED, whole, only.reasons, only.costs, only.samples, only.differ)
    reasons = [f"{row.condition}: {why}" for row in rows for why in row.reasons]
    if not any(too_few(row.found) for row in rows):
        reasons += too_few(whole)
    budgets = {row.samples for row in rows}
    samples = budgets.pop() if len(budgets) == 1 else None
    differ = dict.fromkeys(name for row in rows for name in row.differ)
    return Row(POOLED, whole, tuple(reasons), {}, samples, tuple(differ))


def identical(a: Planned, b: Planned) -> list[str]:
    """Say that two arms do not differ at all."""
    if a.key != b.key:
        return []
    return [f"{a.arm} and {b.arm} are the same network with the same recipe"]


def undeclared(a: Planned, b: Planned, claim: Claim, shape: TaskShape) -> list[str]:
    """Say in what more than declared two arms differ, or that they do not differ at all."""
    same = identical(a, b)
    if same:
        return same
    more = {n: v for n, v in differing(a, b, shape).items() if n not in claim.differ}
    if not more:
        return []
    listed = "; ".join(f"{n} ({x!r} against {y!r})" for n, (x, y) in more.items())
    return [f"{a.arm} and {b.arm} differ in more than declared: {listed}"]
