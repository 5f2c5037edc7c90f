"""The gate: what a candidate costs, and whether it may be trained at all."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from nasx.axes import AXES
from nasx.errors import NoDevice
from nasx.operators import WITHOUT, no_simulation
from nasx.search.evaluate import one_line
from nasx.search.trained import wants_latency

if TYPE_CHECKING:
    from nasx.cost.card import CostCard
    from nasx.search.evaluate import Evaluator
    from nasx.space import Space
    from nasx.study import Study

SPACE = "space"  # what a refusal by the space itself is filed under, beside the constraints
LATENCY_SLACK = 1.15  # provisional latency on untrained weights may be this much over its limit
KNOWN = 1000  # prices kept, so that a candidate met again costs a look-up

Broken = tuple[str, float | None, float | None]  # constraint, its limit, the value; None: unknown


@dataclass(frozen=True)
class Priced:
    """A candidate's cost card and the axis values known before training.

    `fault` is why it cannot be trained (it cannot be built, counted or timed): the trial fails
    with that reason and the card that could be had. `refusal` is why the space itself passes it
    over. Scores before `first_rung` may not be compared.
    """

    card: CostCard | None
    values: dict[str, float] = field(default_factory=dict)
    fault: str | None = None
    refusal: str | None = None
    first_rung: int = 0


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
        self._known: dict[str, Priced] = {}

    def price(self, candidate: Space) -> Priced:
        """Return the cost card and every axis known before training; the second time a look-up.

        NoDevice where a latency is asked for and no network can be timed at all.
        """
        shape = self.evaluator.shape
        try:
            refusal = candidate.refusal(shape)  # of the fields, so no part of what a key stands for
        except Exception as error:
            return Priced(None, fault=one_line(error))
        if refusal is not None:
            return Priced(None, refusal=refusal)
        key = candidate.key(shape)
        if key not in self._known:
            if len(self._known) >= KNOWN:
                del self._known[next(iter(self._known))]
            self._known[key] = self._price(candidate)
        return self._known[key]

    def _price(self, candidate: Space) -> Priced:
        try:
            card = self.evaluator.price(candidate)
        except Exception as error:
            return Priced(None, fault=one_line(error))
        values = {}
        for name, axis in AXES.items():
            value = card.axis(name) if axis.kind == "static" else None
            if value is not None:
                values[name] = value
        if self._broken_static(card, values):
            return Priced(card, values)
        try:
            rung = self._first_rung(candidate)
        except Exception as error:
            return Priced(card, values, fault=f"recipe: {one_line(error)}")
        if wants_latency(self.study) and self.study.measure.runtime in WITHOUT and card.operators:
            fault = f"latency: {no_simulation('this network', card.operators)}"
            return Priced(card, values, fault=fault)
        if "latency_ms" in self.limits:
            try:
                values["latency_ms"] = self.evaluator.latency(candidate)
            except NoDevice:
                raise
            except Exception as error:
                return Priced(card, values, fault=f"latency: {one_line(error)}")
        return Priced(card, values, first_rung=rung)

    def _first_rung(self, candidate: Space) -> int:
        """Return the lowest rung at which the candidate's scores may be compared."""
        least = min(1.0, self.evaluator.comparable_from(candidate))
        budgets = self.study.fidelity.budgets()
        return next(i for i, budget in enumerate(budgets) if budget >= least * budgets[-1])

    def broken(self, priced: Priced) -> Broken | None:
        """Return (constraint, limit, value) of the first limit broken, or None.

        A cost that a limit or an objective asks for and nothing here can tell is broken as well.
        """
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

    def _broken_static(self, card: CostCard, values: dict[str, float]) -> Broken | None:
        if card.unpriced:
            return "unpriced", 0.0, float(len(card.unpriced))
        # A gated network is held to its cost with every branch open.
        most = {"macs": float(card.macs_max), "flops": 2.0 * card.macs_max}
        for axis, (operator, limit) in self.limits.items():
            if AXES[axis].kind != "static":
                continue
            value = most.get(axis, values.get(axis))
            if (
                value is None
                or (operator == "<=" and value > limit)
                or (operator == ">=" and value < limit)
            ):
                return axis, limit, value
        for axis in self.study.objectives:
            if AXES[axis].kind == "static" and axis not in values:
                return axis, None, None
        return None
