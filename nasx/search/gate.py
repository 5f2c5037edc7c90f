"""The gate: what a candidate costs, and whether it may be trained at all."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from nasx.axes import AXES

if TYPE_CHECKING:
    from nasx.cost.card import CostCard
    from nasx.search.evaluate import Evaluator
    from nasx.space import Space
    from nasx.study import Study

SPACE = "space"  # what a refusal by the space itself is filed under, beside the constraints
LATENCY_SLACK = 1.15  # provisional latency on untrained weights may be this much over its limit


@dataclass(frozen=True)
class Priced:
    """A candidate's cost card and the axis values known before training.

    `fault` is why it could not be built: the trial will fail with that reason. `refusal` is why
    the space itself passes it over.
    """

    card: CostCard | None
    values: dict[str, float] = field(default_factory=dict)
    fault: str | None = None
    refusal: str | None = None


class Gate:
    """Prices candidates and holds them against the study's limits."""

    def __init__(self, study: Study, evaluator: Evaluator) -> None:
        self.study, self.evaluator = study, evaluator
        self.limits = study.limits()
        self.upper_limits = {
            axis: limit
            for axis, (operator, limit) in self.limits.items()
            if operator == "<=" and AXES[axis].kind == "static"
        }

    def price(self, candidate: Space) -> Priced:
        """Return the cost card and every axis known before training."""
        try:
            refusal = candidate.refusal(self.evaluator.shape)
            if refusal is not None:
                return Priced(None, refusal=refusal)
            card = self.evaluator.price(candidate)
        except Exception as error:
            # The worker will meet the same fault and file it with the trial: one way to fail.
            return Priced(None, fault=f"{type(error).__name__}: {error}")
        values = {}
        for name, axis in AXES.items():
            if axis.kind == "static":
                value = card.axis(name)
                if value is not None:
                    values[name] = value
        if "latency_ms" in self.limits and not self._broken_static(card, values):
            values["latency_ms"] = self.evaluator.latency(candidate)
        return Priced(card, values)

    def first_rung(self, candidate: Space, priced: Priced) -> int:
        """Return the lowest rung at which the candidate's scores may be compared."""
        if priced.fault is not None:
            return 0  # it cannot be built; the worker says why
        least = min(1.0, self.evaluator.comparable_from(candidate))
        budgets = self.study.fidelity.budgets()
        return next(i for i, budget in enumerate(budgets) if budget >= least * budgets[-1])

    def broken(self, priced: Priced) -> tuple[str, float, float] | None:
        """Return (constraint, limit, value) of the first limit broken, or None."""
        if priced.refusal is not None:
            return SPACE, 0.0, 0.0
        if priced.card is None:
            return None
        static = self._broken_static(priced.card, priced.values)
        if static:
            return static
        if "latency_ms" in self.limits and "latency_ms" in priced.values:
            operator, limit = self.limits["latency_ms"]
            value = priced.values["latency_ms"]
            if operator == "<=" and value > limit * LATENCY_SLACK:
                return "latency_ms", limit, value
        return None

    def _broken_static(
        self, card: CostCard, values: dict[str, float]
    ) -> tuple[str, float, float] | None:
        if card.unpriced:
            return "unpriced", 0.0, float(len(card.unpriced))
        # A gated network is held to its cost with every branch open.
        most = {"macs": float(card.macs_max), "flops": 2.0 * card.macs_max}
        for axis, (operator, limit) in self.limits.items():
            if AXES[axis].kind != "static":
                continue
            value = most.get(axis, values.get(axis))
            if value is None:
                return axis, limit, float("inf")
            if (operator == "<=" and value > limit) or (operator == ">=" and value < limit):
                return axis, limit, value
        return None
