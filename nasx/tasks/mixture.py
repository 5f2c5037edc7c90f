"""A data view that mixes degradations: one for each batch, drawn by weight.

    Phase("pretrain", 0.8, steps, view=mixture({"x2": 1.0, "denoise30": 2.0}))

The view is a string, because a recipe's outline and a checkpoint hold it as one.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping

from nasx.errors import NasxError

BEGIN, CROPS = "mixture: ", "; crops "
PART = re.compile(r"([a-z][a-z0-9_]*) ([0-9.e+-]+)")


def mixture(weights: Mapping[str, float], crops: int = 0) -> str:
    """Return the view of a phase whose batches are spoilt each in one way, drawn by weight.

    Names are those of heads of the task `photos`, its own or others. A weight of 0 leaves one out.
    With `crops` there are only so many crops, in the same places and spoilt alike for every seed,
    as where little data is to be had. Raises NasxError for a weight that is negative or not finite,
    where all are 0, and for crops below 0.
    """
    for name, weight in weights.items():
        if not PART.fullmatch(f"{name} 1"):
            raise NasxError(f"a mixture: {name!r} is no name of a degradation; take one like 'x2'")
        if not math.isfinite(weight) or weight < 0:
            raise NasxError(f"a mixture: the weight of '{name}' is {weight}; give 0 or more")
    kept = {name: float(weight) for name, weight in weights.items() if weight > 0}
    if not kept:
        raise NasxError("a mixture of nothing; give at least one degradation a weight above 0")
    if isinstance(crops, bool) or not isinstance(crops, int) or crops < 0:
        raise NasxError(f"a mixture: crops is {crops!r}; give a whole number, 0 for all")
    parts = ", ".join(f"{name} {weight!r}" for name, weight in kept.items())
    return BEGIN + parts + (f"{CROPS}{crops}" if crops else "")


def is_mixture(view: str) -> bool:
    """Return whether a view is written as `mixture` writes one."""
    return view.startswith(BEGIN)


def crops_of(view: str) -> int:
    """Return how many crops a mixture has, 0 where it may cut any."""
    _, _, crops = view.partition(CROPS)
    return int(crops) if is_mixture(view) and crops.isdecimal() else 0


def weights_of(view: str) -> dict[str, float]:
    """Return the weights of a mixture by name, all above 0; NasxError where it is not one."""
    found: dict[str, float] = {}
    parts = view.removeprefix(BEGIN)
    if crops_of(view):
        parts = parts.partition(CROPS)[0]
    for part in parts.split(", "):
        matched = PART.fullmatch(part)
        weight = _number(matched[2]) if matched else None
        if not is_mixture(view) or matched is None or weight is None or matched[1] in found:
            raise NasxError(
                f"the view '{view}' is no mixture of degradations; let nasx.tasks.mixture write it"
            )
        found[matched[1]] = weight
    return found


def _number(text: str) -> float | None:
    """Return a weight above 0, or None."""
    try:
        weight = float(text)
    except ValueError:
        return None
    return weight if math.isfinite(weight) and weight > 0 else None
