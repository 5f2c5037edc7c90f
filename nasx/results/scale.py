"""The family of networks that a scaling rule names for MAC budgets."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from nasx.errors import NasxError, NothingFeasible
from nasx.results.null import demand_near, described, null_network
from nasx.results.rule import Rule


def scale(rule: Rule, macs: Sequence[int]) -> list[dict[str, Any]]:
    """Return for each budget the rule's candidate, its axes with intervals, and the null beside.

    MACs are counted on the built network and within 3 % of the budget. `null` is None, with
    `null_reason`, where the space's customary rule cannot meet the budget. Raises
    NothingFeasible where the rule does not know or the space has no such network.
    """
    return [_row(rule, budget) for budget in macs]


def _row(rule: Rule, budget: int) -> dict[str, Any]:
    setting = rule.setting
    axes = rule.predict(budget)
    values = {axis: at["value"] for axis, at in axes.items()}
    try:
        candidate = setting.space.from_axes(values, budget, setting.shape)
        counted = demand_near(candidate, budget, setting)
    except NasxError as error:
        where = ", ".join(f"{axis} = {value:.3g}" for axis, value in values.items())
        raise NothingFeasible(
            f"{rule.name}: no network at {where} with {budget:,} MACs: {error}"
        ) from error
    row: dict[str, Any] = {
        "budget": budget,
        "c": counted / setting.base_macs,
        "space": setting.space.name,
        **described(candidate, counted, setting),
        "axes": axes,
        "form": rule.form,
        "null": None,
    }
    try:
        other, at = null_network(setting, budget)
    except NasxError as error:
        return {**row, "null_reason": str(error)}
    own = {axis: float(other.values()[axis]) for axis in axes}
    return {**row, "null": {**described(other, at, setting), "axes": own}}
