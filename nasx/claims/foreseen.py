"""What will make a claim invalid, as far as it can be seen before the first trial."""

from __future__ import annotations

from collections.abc import Sequence

from nasx.claims.found import undeclared
from nasx.claims.model import Claim
from nasx.claims.plan import Planned
from nasx.results.paired import LEAST
from nasx.results.verdict import Side, unmatched
from nasx.search.evaluate import Evaluator


def foreseen(claim: Claim, planned: Sequence[Planned], evaluator: Evaluator) -> list[str]:
    """Return the reasons that no training can mend: seeds, undeclared differences, costs."""
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
    return found


def _costs(planned: Planned, claim: Claim, evaluator: Evaluator) -> Side:
    """Return the costs of the untrained network; training may still change what is deployed."""
    card = evaluator.price(planned.candidate)
    known = {axis: card.axis(axis) for axis in claim.matched}
    return Side(planned.arm, {}, {}, {axis: v for axis, v in known.items() if v is not None})
