"""The null of a scaling rule: the space's customary rule at the same counted MACs."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from nasx.errors import NasxError
from nasx.results.dominance import Floats
from nasx.results.setting import Setting
from nasx.space import Space

NEAR = 0.03  # of a MAC budget: how far a counted network may be from it
BUDGETS = 13  # at which the null's curve is taken; between them it is interpolated in log c


@dataclass(frozen=True)
class Null:
    """The null's curve over the fitted budgets: counted `macs` (n,) and each axis (n,).

    `reason` says why there is none.
    """

    macs: list[int] = field(default_factory=list)
    axes: dict[str, list[float]] = field(default_factory=dict)
    reason: str | None = None

    def at(self, axis: str, macs: Floats) -> Floats:
        """Return an axis of the null at some budgets, interpolated in log MACs."""
        found: Floats = np.interp(np.log(macs), np.log(self.macs), self.axes[axis])
        return found


def null_curve(setting: Setting, low: int, high: int) -> Null:
    """Return the null from `low` to `high` MACs; budgets it cannot meet within 3 % are left out."""
    macs: list[int] = []
    axes: dict[str, list[float]] = {axis: [] for axis in setting.space.axes}
    reason = "no budget was met within 3 %"
    for budget in np.geomspace(low, high, BUDGETS):
        try:
            candidate, counted = null_network(setting, round(budget))
        except NasxError as error:
            reason = str(error)
            continue
        if macs and counted <= macs[-1]:  # the same network, or rounding went the other way
            continue
        macs.append(counted)
        for axis, values in axes.items():
            values.append(float(candidate.flat()[axis]))  # type: ignore[arg-type]
    if len(macs) < 2:
        return Null(reason=reason)
    return Null(macs, axes)


def null_network(setting: Setting, macs: int) -> tuple[Space, int]:
    """Return the customary candidate for a budget and its counted MACs; NasxError if it misses."""
    candidate = setting.space.null_from_macs(macs, setting.shape)
    return candidate, demand_near(candidate, macs, setting)


def demand_near(candidate: Space, macs: int, setting: Setting) -> int:
    """Return the candidate's counted MACs; NasxError if they miss the budget by over 3 %."""
    counted = setting.count(candidate, setting.shape)
    if abs(counted - macs) > NEAR * macs:
        raise NasxError(
            f"the nearest network to {macs:,} MACs counts {counted:,}, over 3 % off; "
            "ask for another budget"
        )
    return counted


def described(candidate: Space, counted: int, setting: Setting) -> dict[str, Any]:
    """Return a candidate as JSON values: its fields in effect, key and counted MACs."""
    key = candidate.key(setting.shape)
    return {"candidate": candidate.in_effect(), "key": key, "macs": counted}
