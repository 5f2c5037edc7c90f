"""What is wrong with a claim: across its keys first, then against its space and its task."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nasx.axes import AXES
from nasx.claims.model import ONLY, Claim
from nasx.errors import NasxError
from nasx.nearest import hint
from nasx.study import NAME
from nasx.studyfaults import WANTED, Kind, SchemaFault, axis_faults, task_faults
from nasx.yamlmarks import Path as Keys

if TYPE_CHECKING:
    from nasx.space import Space

Said = tuple[Keys, str]
SCORES = [name for name, axis in AXES.items() if axis.kind == "score"]
COSTS = [name for name, axis in AXES.items() if axis.kind == "static"]
WORDS = {
    **WANTED,
    "space": "a name, or ./file.py:Class",
    "arms": "a mapping of names to arms",
    "compare": "a list of two arms, the one that the hypothesis prefers first",
    "also": "a list of pairs of arms, e.g. [[wide, slim]]",
    "tell": "a list of scores, costs and diagnosed values, e.g. [params]",
    "differ": "a list of what the arms may differ in, e.g. [width]",
    "seeds": "a list of whole numbers, e.g. [1, 2, 3, 4, 5]",
    "matched": "a mapping, e.g. {macs: 0.03}",
    "checks": 'a mapping, e.g. {top1: ">= 20"}',
}


def beyond(data: dict[str, Any]) -> Iterator[SchemaFault]:
    """Yield what the types alone cannot say of a claim's plain values."""
    yield from task_faults(data)
    arms, conditions = _mapping(data, "arms"), _mapping(data, "conditions")
    if "arms" in data and isinstance(data["arms"], dict) and len(arms) < 2:
        yield SchemaFault(("arms",), "arms: name at least two")
    if data.get("conditions") == {}:
        yield SchemaFault(("conditions",), "conditions: name at least one, or leave the key out")
    for section, members in (("arms", arms), ("conditions", conditions)):
        for name in members:
            if not NAME.match(str(name)):
                said = f"'{name}' is not a name: use a-z, 0-9, - and _, at most 64"
                yield SchemaFault((section, name), f"{section}: {said}", of_key=True)
    for name, arm in arms.items():
        if isinstance(arm, dict):
            yield from _arm(name, arm, arms, conditions or {ONLY: {}})
            yield from _own_checks(name, arm)
    yield from _compared(data.get("compare"), arms)
    yield from _further(data.get("also"), data.get("compare"), arms)
    yield from _seeds(data.get("seeds"))
    primary = data.get("primary")
    if isinstance(primary, str) and primary not in SCORES:
        yield SchemaFault(
            ("primary",), f"primary: '{primary}' is no score; {hint(primary, SCORES)}"
        )
    for axis in _mapping(data, "matched"):
        if axis not in COSTS:
            said = f"matched: '{axis}' is no counted cost; {hint(str(axis), COSTS)}"
            yield SchemaFault(("matched", axis), said, of_key=True)
    for axis, text in _mapping(data, "checks").items():
        yield from axis_faults("checks", axis, text)


def _arm(
    name: str, arm: dict[str, Any], arms: dict[str, Any], conditions: dict[str, Any]
) -> Iterator[SchemaFault]:
    for condition in _mapping(arm, "at"):
        if condition not in conditions:
            said = f"there is no condition '{condition}'; {hint(str(condition), conditions)}"
            yield SchemaFault(("arms", name, "at", condition), f"arms.{name}: {said}", of_key=True)
    met, rule = arm.get("meet"), arm.get("rule", "fields")
    if isinstance(met, str):
        others = [a for a in arms if a != name and not _mapping(arms, a).get("meet")]
        if met not in others:
            said = f"'{met}' is no arm with a budget of its own; {hint(met, others)}"
            yield SchemaFault(("arms", name, "meet"), f"arms.{name}.meet: {said}")
        elif rule == "fields":
            said = "an arm of plain fields meets no budget: give it a rule (axes, customary)"
            yield SchemaFault(("arms", name, "meet"), f"arms.{name}.meet: {said}")
    elif rule in ("axes", "customary"):
        bare = [c for c in conditions if _mapping(conditions, c).get("share") is None]
        if bare:
            said = f"rule {rule} needs a budget: give conditions.{bare[0]}.share, or meet an arm"
            yield SchemaFault(("arms", name, "rule"), f"arms.{name}: {said}")
    if rule == "customary" and (_mapping(arm, "candidate") or _mapping(arm, "at")):
        said = "rule customary takes its fields from the budget alone: remove candidate and at"
        yield SchemaFault(("arms", name, "rule"), f"arms.{name}: {said}")


def _own_checks(name: str, arm: dict[str, Any]) -> Iterator[SchemaFault]:
    """Yield what is wrong with an arm's own checks; only its space knows what it diagnoses."""
    for what, text in _mapping(arm, "checks").items():
        if what in AXES:
            for fault in axis_faults("checks", what, text):
                said = f"arms.{name}.{fault.message}"
                yield SchemaFault(("arms", name, *fault.keys), said, of_key=fault.of_key)
        elif isinstance(text, str) and text.count(".") > 1:
            said = f"arms.{name}.checks.{what}: the number of '{text}' cannot be read"
            yield SchemaFault(("arms", name, "checks", what), said)


def _compared(compare: Any, arms: dict[str, Any]) -> Iterator[SchemaFault]:
    if not isinstance(compare, list):
        return
    if len(compare) != 2:
        yield SchemaFault(("compare",), f"compare: must be {WORDS['compare']}")
        return
    yield from _pair(compare, arms, ("compare",), "compare")


def _further(also: Any, compare: Any, arms: dict[str, Any]) -> Iterator[SchemaFault]:
    """Yield what is wrong with the further pairs; each may be told once, in one direction."""
    told = [set(map(str, compare))] if isinstance(compare, list) else []
    for i, pair in enumerate(also if isinstance(also, list) else ()):
        if not isinstance(pair, list):
            continue
        keys: Keys = ("also", i)
        if len(pair) != 2:
            said = "must be two arms, the one expected to score higher first"
            yield SchemaFault(keys, f"also.{i}: {said}")
            continue
        yield from _pair(pair, arms, keys, f"also.{i}")
        if (named := set(map(str, pair))) in told and len(named) == 2:
            said = f"{pair[0]} and {pair[1]} are compared already"
            yield SchemaFault(keys, f"also.{i}: {said}")
        told.append(named)


def _pair(pair: list[Any], arms: dict[str, Any], keys: Keys, where: str) -> Iterator[SchemaFault]:
    for i, name in enumerate(pair):
        if arms and name not in arms:
            said = f"there is no arm '{name}'; {hint(str(name), arms)}"
            yield SchemaFault((*keys, i), f"{where}: {said}")
    if pair[0] == pair[1]:
        yield SchemaFault(keys, f"{where}: '{pair[0]}' cannot be compared with itself")


def _seeds(seeds: Any) -> Iterator[SchemaFault]:
    if not isinstance(seeds, list):
        return
    if not seeds:
        yield SchemaFault(("seeds",), "seeds: name at least one")
    for i, seed in enumerate(seeds):
        if seed in seeds[:i]:
            yield SchemaFault(("seeds", i), f"seeds: {seed} is named twice")
        if isinstance(seed, int) and seed < 0:
            yield SchemaFault(("seeds", i), f"seeds: must be at least 0, not '{seed}'")


def _mapping(data: dict[str, Any], name: str) -> dict[str, Any]:
    found = data.get(name)
    return found if isinstance(found, dict) else {}


def meaning_faults(claim: Claim, base: Path) -> tuple[Claim, list[Said], list[Said]]:
    """Return the claim with its relative paths settled, all faults, and what is missing here.

    See nasx.studychecks.meaning_faults.
    """
    from nasx import registry, studychecks

    study, faults, missing = studychecks.meaning_faults(claim.study(), base)
    claim = claim.model_copy(update={"space": study.space, "task": study.task})
    said = [(_home(keys), message) for keys, message in faults]
    if not any(keys == ("space",) for keys, _ in said):
        said += _fields(claim, registry.space(claim.space, base))
    return claim, said, missing


def _home(keys: Keys) -> Keys:
    """Return where in a claim the key of its study comes from."""
    return ("primary",) if keys[:1] == ("objectives",) else keys


def _fields(claim: Claim, cls: type[Space]) -> Iterator[Said]:
    from nasx import registry
    from nasx.space import unknown_field

    sections: list[tuple[Keys, dict[str, Any]]] = [
        (("conditions", n, "candidate"), c.candidate) for n, c in claim.conditions.items()
    ]
    for name, arm in claim.arms.items():
        sections.append((("arms", name, "candidate"), arm.candidate))
        sections += [(("arms", name, "at", c), fields) for c, fields in arm.at.items()]
        if arm.rule == "axes" and not cls.axes:
            said = f"space '{cls.name}' declares no axes: use rule fields"
            yield ("arms", name, "rule"), f"arms.{name}: {said}"
    for keys, fields in sections:
        where = ".".join(map(str, keys))
        for field, value in fields.items():
            if not registry.field_leaves(cls, field):
                yield (*keys, field), f"{where}: {unknown_field(cls, field)}"
                continue
            try:
                cls.from_json({field: value})
            except NasxError as error:
                yield (*keys, field), f"{where}: {error}"


CLAIM = Kind(
    Claim,
    "claim",
    "desc, hypothesis, space, task, arms, compare, differ, seeds, primary and hours",
    WORDS,
    beyond,
)
