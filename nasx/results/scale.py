"""The family of networks that a scaling rule names for MAC budgets."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from nasx.errors import NasxError, NothingFeasible
from nasx.results.null import demand_near, described, null_network
from nasx.results.rule import Rule
from nasx.space import Space

STEPS = (0.25, 0.5, 0.75, 1.0)  # shares of the interval's half tried beside the rule's own values


def scale(rule: Rule, macs: Sequence[int]) -> list[dict[str, Any]]:
    """Return for each budget the rule's candidate, its axes with intervals, and the null beside.

    MACs are counted on the built network and within 3 % of the budget. Channels and repeats come
    in whole steps, so where the rule's own values miss the budget, the nearest values inside
    their intervals that meet it are "taken". `null` is None, with `null_reason`, where the
    space's customary rule cannot meet the budget. Raises NothingFeasible where the rule does not
    know or the space has no such network.
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
    own = {axis: float(other.values()[axis]) for axis in axes}
    return {**row, "null": {**described(other, at, setting), "axes": own}}


def _meeting(
    rule: Rule, axes: Mapping[str, Mapping[str, float]], budget: int
) -> tuple[Space, int, dict[str, float]]:
    """Return the candidate nearest to the rule's values that meets the budget."""
    setting, first = rule.setting, None
    for values in _around(axes, rule.spans):
        try:
            candidate = setting.space.from_axes(values, budget, setting.shape)
            return candidate, demand_near(candidate, budget, setting), values
        except NasxError as error:
            first = first or error
    where = ", ".join(f"{axis} = {at['value']:.3g}" for axis, at in axes.items())
    raise NothingFeasible(
        f"{rule.name}: no network at {where}, nor inside their intervals, with {budget:,} MACs: "
        f"{first}"
    ) from first


def _around(
    axes: Mapping[str, Mapping[str, float]], spans: Mapping[str, tuple[float, float]]
) -> Iterator[dict[str, float]]:
    """Yield the rule's values, then steps into the intervals: one axis at a time, then all."""
    own = {axis: at["value"] for axis, at in axes.items()}
    yield own

    def moved(axis: str, share: float) -> float:
        at = axes[axis]
        end = at["high"] if share > 0 else at["low"]
        least, most = spans[axis]
        return min(max(own[axis] + abs(share) * (end - own[axis]), least), most)

    for step in STEPS:
        for share in (-step, step):
            for axis in axes:
                yield {**own, axis: moved(axis, share)}
            yield {axis: moved(axis, share) for axis in axes}
