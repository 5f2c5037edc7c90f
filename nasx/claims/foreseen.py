"""What will make a claim or a further pair invalid, as far as it shows before the first trial."""

from __future__ import annotations

from collections.abc import Sequence

from nasx.claims.model import Claim
from nasx.claims.pairs import identical, undeclared
from nasx.claims.plan import Planned
from nasx.results.paired import LEAST
from nasx.results.verdict import Side, unmatched
from nasx.search.evaluate import Evaluator


def foreseen(claim: Claim, planned: Sequence[Planned], evaluator: Evaluator) -> list[str]:
    """Return in sentences what no training can mend: seeds, undeclared differences, costs."""
    found = []
    if len(claim.seeds) < LEAST:
        n = len(claim.seeds)
        found.append(f"{n} seed{'s' if n > 1 else ''}: {LEAST} are the least for a verdict")
    by_place = {(p.arm, p.condition): p for p in planned}
    for condition in claim.conditions:
        a, b = (by_place[arm, condition] for arm in claim.compare)
        reasons = undeclared(a, b, claim, evaluator.shape)
        if claim.matched:
            sides = [_costs(p, claim, evaluator) for p in (a, b)]
            reasons += unmatched(sides[0], sides[1], claim.matched)
        found += [f"{condition}: {why}" for why in reasons]
    told = [f"this claim will be invalid: {why}" for why in found]
    for first, second in claim.also:
        for condition in claim.conditions:
            same = identical(by_place[first, condition], by_place[second, condition])
            told += [
                f"{first} less {second} will say nothing under {condition}: {why}" for why in same
            ]
    return told


def _costs(planned: Planned, claim: Claim, evaluator: Evaluator) -> Side:
    """Return the costs of the untrained network; training may still change what is deployed."""
    card = evaluator.price(planned.candidate)
    known = {axis: card.axis(axis) for axis in claim.matched}
    return Side(planned.arm, {}, {}, {axis: v for axis, v in known.items() if v is not None})
