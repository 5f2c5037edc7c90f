"""The verdict on a claim: what its evidence says, or all the reasons why it may say nothing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from nasx.quantity import digits
from nasx.results.paired import LEAST, Paired

Verdict = Literal["supported", "opposite", "no difference detected", "invalid"]


@dataclass(frozen=True)
class Side:
    """One arm under one condition: scores by seed, faults by seed, mean costs and other values."""

    arm: str
    scores: Mapping[int, float]
    faults: Mapping[int, str] = field(default_factory=dict)
    values: Mapping[str, float] = field(default_factory=dict)


def verdict(found: Paired, reasons: Sequence[str]) -> Verdict:
    """Return what the interval says of "first above second"; invalid for any reason."""
    if reasons or found.low is None or found.high is None:
        return "invalid"
    if found.low > 0:
        return "supported"
    return "opposite" if found.high < 0 else "no difference detected"


def too_few(found: Paired) -> list[str]:
    """Say that there are too few complete pairs."""
    if found.n >= LEAST:
        return []
    pairs = "1 complete pair" if found.n == 1 else f"{found.n} complete pairs"
    return [f"{pairs} of seeds: {LEAST} are the least for a verdict"]


def failed(sides: Sequence[Side]) -> list[str]:
    """Name every replicate without a score, with its reason."""
    return [
        f"{side.arm}, seed {seed}: {why}" for side in sides for seed, why in side.faults.items()
    ]


def unmatched(first: Side, second: Side, tolerances: Mapping[str, float]) -> list[str]:
    """Name the costs that lie further apart than the claim allows, with both numbers."""
    found = []
    for axis, tolerance in tolerances.items():
        a, b = first.values.get(axis), second.values.get(axis)
        if a is None or b is None:
            found.append(f"{axis} of {first.arm if a is None else second.arm} is not known")
            continue
        apart = cost_gap(a, b)
        if apart > tolerance:
            found.append(
                f"{axis} are {digits(100 * apart)} % apart ({first.arm} {a:,.0f}, "
                f"{second.arm} {b:,.0f}), more than {100 * tolerance:g} %"
            )
    return found


def cost_gap(a: float, b: float) -> float:
    """Return how far two costs lie apart, relative to the smaller one."""
    least = min(a, b)
    return 0.0 if a == b else (max(a, b) - least) / least if least > 0 else float("inf")


def unmet(sides: Sequence[Side], limits: Mapping[str, tuple[str, float]]) -> list[str]:
    """Name the arms whose means break a check."""
    found = []
    for side in sides:
        for axis, (operator, limit) in limits.items():
            value = side.values.get(axis)
            if value is None:
                found.append(f"check {axis} {operator} {limit:g}: {side.arm} has no {axis}")
            elif value < limit if operator == ">=" else value > limit:
                found.append(
                    f"check {axis} {operator} {limit:g}: {side.arm} has {digits(value, 4)}"
                )
    return found
