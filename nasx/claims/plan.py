"""The networks a claim means: one for every arm under every condition."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from nasx.claims.model import Arm, Claim, Condition
from nasx.errors import NasxError
from nasx.recipe import Recipe
from nasx.shape import TaskShape
from nasx.space import Space

Count = Callable[[Space], int]  # MACs of the deployed network


@dataclass(frozen=True)
class Planned:
    """One arm under one condition: its candidate, and what its recipe changes.

    `samples` is its training where that is not the claim's longest.
    """

    arm: str
    condition: str
    candidate: Space
    key: str
    changes: Mapping[str, Any]
    samples: int | None = None

    def to_json(self) -> dict[str, Any]:
        """Return it as JSON values."""
        return {
            "arm": self.arm,
            "condition": self.condition,
            "candidate": self.candidate.in_effect(),
            "recipe": dict(self.changes),
            "key": self.key,
            **({} if self.samples is None else {"samples": self.samples}),
        }


def plan(claim: Claim, shape: TaskShape, count: Count) -> list[Planned]:
    """Return the networks of a claim, condition by condition, in the order of the file.

    Raises NasxError, naming arm and condition, where a network cannot be what is asked.
    """
    from nasx.registry import space

    cls = space(claim.space)
    found = []
    for name, condition in claim.conditions.items():
        made: dict[str, Space] = {}
        for arm in sorted(claim.arms, key=lambda a: claim.arms[a].meet is not None):
            try:
                made[arm] = _candidate(cls, claim, arm, condition, name, made, shape, count)
                refusal = made[arm].refusal(shape)
            except NasxError as error:
                raise type(error)(f"{claim.name}: arm {arm} under {name}: {error}") from error
            if refusal is not None:
                raise NasxError(f"{claim.name}: arm {arm} under {name}: {refusal}")
        samples = None if claim.samples(name) == claim.full else claim.samples(name)
        for arm in claim.arms:
            changes = claim.arms[arm].recipe.changed()
            candidate = altered(made[arm], changes, samples)
            found.append(Planned(arm, name, candidate, candidate.key(shape), changes, samples))
    return found


def _candidate(
    cls: type[Space], claim: Claim, arm: str, condition: Condition, name: str,
    made: Mapping[str, Space], shape: TaskShape, count: Count,
) -> Space:  # fmt: skip
    asked: Arm = claim.arms[arm]
    values = {**condition.candidate, **asked.candidate, **asked.at.get(name, {})}
    if asked.rule == "fields":
        return cls.from_json(values)
    if asked.meet is not None:
        macs = count(made[asked.meet])
    else:
        macs = round((condition.share or 1.0) * count(cls()))
    if asked.rule == "customary":
        return cls.null_from_macs(macs, shape)
    return cls.from_axes(values, macs, shape)


def altered(candidate: Space, changes: Mapping[str, Any], samples: int | None = None) -> Space:
    """Return a candidate whose recipe is changed, under a key of its own.

    `samples` is a budget of its own: the same network trained for longer is another trial. A
    candidate that was changed before is changed anew from its space.
    """
    if not changes and samples is None:
        return candidate
    own: type[Space] = getattr(type(candidate), "unaltered", type(candidate))
    marks = [dict(changes)] if samples is None else [dict(changes), samples]

    def recipe(self: Space, shape: TaskShape) -> Recipe:
        return replace(own.recipe(self, shape), **changes)

    def key(self: Space, shape: TaskShape) -> str:
        text = json.dumps([own.key(self, shape), *marks], sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:12]

    def reduce(self: Space) -> Any:
        # Pickled by value, this class would take copies of dataclasses.MISSING into its fields.
        return altered, (own.from_json(self.values()), dict(changes), samples)

    body = {
        "recipe": recipe, "key": key, "unaltered": own, "__reduce__": reduce,
        "__doc__": own.__doc__, "__module__": own.__module__,
    }  # fmt: skip
    made: type[Space] = type(own.__name__, (own,), body)
    return made.from_json(candidate.values())
