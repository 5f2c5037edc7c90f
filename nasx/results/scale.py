"""The family of networks that a scaling rule names for MAC budgets."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from nasx.domain import Integer, Real
from nasx.errors import NasxError, NothingFeasible
from nasx.results.null import demand_near, described, null_network
from nasx.results.rule import Rule
from nasx.space import Space

STEPS = (0.25, 0.5, 0.75, 1.0)  # shares of the way tried beside the rule's own values
REACH = 0.05  # of an axis' range: so far beside the best value a score hardly falls


def scale(rule: Rule, macs: Sequence[int]) -> list[dict[str, Any]]:
    """Return for each budget the rule's candidate, its axes with intervals, and the null beside.

    MACs are counted on the built network and within 3 % of the budget. Channels, repeats and whole
    axes come in steps, so "taken" are legal values: the rule's own, or where these miss the
    budget, the nearest inside their intervals or within a twentieth of the axis' range (of a whole
    axis the next on either side too).
    `null` is None, with `null_reason`, where the space's customary rule cannot meet the budget.
    Raises NothingFeasible where the rule does not know or the space has no such network.
    """
    return [_row(rule, budget) for budget in macs]


def _row(rule: Rule, budget: int) -> dict[str, Any]:
    setting = rule.setting
    axes = rule.predict(budget)
    candidate, counted, taken = _meeting(rule, axes, budget)
    row: dict[str, Any] = {
        "budget": budget,
        "c": counted / setting.base_macs,
        "space": setting.space.name,
        **described(candidate, counted, setting),
        "axes": {axis: {**at, "taken": taken[axis]} for axis, at in axes.items()},
        "form": rule.form,
        "null": None,
    }
    try:
        other, at = null_network(setting, budget)
    except NasxError as error:
        return {**row, "null_reason": str(error)}
    own = {axis: float(other.flat()[axis]) for axis in axes}  # type: ignore[arg-type]
    return {**row, "null": {**described(other, at, setting), "axes": own}}


def _meeting(
    rule: Rule, axes: Mapping[str, Mapping[str, float]], budget: int
) -> tuple[Space, int, dict[str, float]]:
    """Return the candidate nearest to the rule's values that meets the budget."""
    setting, first = rule.setting, None
    tried: list[dict[str, float]] = []
    for wanted in _around(axes, rule.domains):
        values = {axis: legal(rule.domains[axis], value) for axis, value in wanted.items()}
        if values in tried:
            continue
        tried.append(values)
        try:
            candidate = setting.space.from_axes(values, budget, setting.shape)
            return candidate, demand_near(candidate, budget, setting), values
        except NasxError as error:
            first = first or error
    where = ", ".join(f"{axis} = {at['value']:.3g}" for axis, at in axes.items())
    raise NothingFeasible(
        f"{rule.name}: no network at {where}, nor near these values, with {budget:,} MACs: {first}"
    ) from first


def legal(domain: Integer | Real, value: float) -> float:
    """Return the number of a domain nearest to a value, a whole one for a whole field."""
    if isinstance(domain, Real):
        return min(max(value, domain.lo), domain.hi)
    most = (domain.hi - domain.lo) // domain.step
    return domain.lo + domain.step * min(max(round((value - domain.lo) / domain.step), 0), most)


def _around(
    axes: Mapping[str, Mapping[str, float]], domains: Mapping[str, Integer | Real]
) -> Iterator[dict[str, float]]:
    """Yield the rule's values, then steps into the intervals: one axis at a time, then all."""
    own = {axis: at["value"] for axis, at in axes.items()}
    yield own
    for axis, domain in domains.items():
        if isinstance(domain, Integer):
            below = math.floor((own[axis] - domain.lo) / domain.step)
            for steps in (below, below + 1):
                yield {**own, axis: domain.lo + domain.step * steps}

    def moved(axis: str, share: float) -> float:
        at = axes[axis]
        way = at["high"] - own[axis] if share > 0 else own[axis] - at["low"]
        return own[axis] + share * max(way, REACH * (domains[axis].hi - domains[axis].lo))

    for step in STEPS:
        for share in (-step, step):
            for axis in axes:
                yield {**own, axis: moved(axis, share)}
            yield {axis: moved(axis, share) for axis in axes}
